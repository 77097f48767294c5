//! Reads a scenario from disk with the packs and data sets that it names.

use std::path::{Path, PathBuf};

use campanile_drill::{Bench, Scenario};
use campanile_rules::{Diagnostic, Gravity, Refusal};

use crate::alert::shown;
use crate::files;

/// A scenario's file, read and checked with the packs beside it.
pub(super) struct Loaded {
    path: PathBuf,
    /// The path as it is shown.
    pub(super) file: String,
    /// The file as it stands.
    pub(super) text: String,
    /// What was found, in the order of the file.
    pub(super) found: Vec<Diagnostic>,
    /// The scenario and its packs; absent when there is an error among the findings.
    pub(super) sound: Option<(Scenario, Bench)>,
}

impl Loaded {
    /// The findings for people.
    pub(super) fn rendered(&self) -> Vec<String> {
        self.found.iter().map(|finding| finding.render(&self.file, &self.text)).collect()
    }

    pub(super) fn errors(&self) -> usize {
        self.found.iter().filter(|finding| finding.gravity == Gravity::Error).count()
    }

    /// The bytes of a file that the scenario names.
    pub(super) fn read(&self, file: &str) -> Option<Vec<u8>> {
        files::read(&self.path.parent().unwrap_or(Path::new("")).join(file)).ok()
    }
}

/// Reads a scenario and checks it, the packs that it names included.
///
/// # Errors
/// When the file itself cannot be read.
pub(super) fn scenario(path: &Path) -> anyhow::Result<Loaded> {
    let text = String::from_utf8_lossy(&files::read(path)?).into_owned();
    let mut loaded = Loaded { path: path.into(), file: shown(path), text, found: Vec::new(), sound: None };
    match Scenario::parse(&loaded.text) {
        Err(Refusal(found)) => loaded.found = found,
        Ok((scenario, found)) => {
            loaded.found = found;
            match Bench::load(&scenario.every_node(), &|file| loaded.read(file)) {
                Err(wrong) => loaded.found.extend(wrong.into_iter().map(unread)),
                Ok(all) => {
                    loaded.found.extend(scenario.against(&loaded.text, &all));
                    if loaded.errors() == 0 {
                        let base = Bench::load(&scenario.cast.nodes, &|file| loaded.read(file));
                        loaded.sound = base.ok().map(|bench| (scenario, bench));
                    }
                }
            }
        }
    }
    Ok(loaded)
}

fn unread(message: String) -> Diagnostic {
    let help = Some("mend the pack or the path under `cast: nodes`".into());
    Diagnostic { line: 0, column: 0, code: "D030", gravity: Gravity::Error, message, help }
}
