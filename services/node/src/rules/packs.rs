//! Packs as a node holds them: a version is the text, and the digests of the data sets that it reads.
//!
//! A pack in force has the version before it beside it, so that a rollback needs nobody else. What was agreed to is
//! named by an id over all digests: who agrees to the same bytes agrees to the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use campanile_alert::{DepartmentId, Timestamp};
use campanile_log::Hash;
use campanile_proto::rules::v1 as wire;
use campanile_rules::{DataSet, DataSets, Diagnostic, Engine, Format, Gravity, Options, Pack};
use serde::{Deserialize, Serialize};

use super::library::Library;
use crate::config::chain;

/// The longest text of a pack that is activated, in bytes: the record that carries it has at most 1 MiB.
pub const TEXT_BYTES_MAX: usize = 512 << 10;
/// How many packs a department may have in force.
pub const PACKS_MAX: usize = 64;
/// How many data sets a pack may read.
pub const DATA_SETS_MAX: usize = 64;

/// A pack and the files that it reads, by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The pack in YAML.
    pub text: String,
    /// Its data sets by the names in the pack, and its table files by their names there.
    pub data: BTreeMap<String, Hash>,
}

/// A version of a pack, and how it came into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// What it is.
    pub files: Files,
    /// [`Pack::digest`].
    pub digest: Hash,
    /// Since when it is in force.
    pub since: Timestamp,
    /// The persons who agreed, by the roster's ids; empty when the node's configuration put it in force.
    pub persons: Vec<String>,
}

/// A pack in force, and the one that a rollback would bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// In force.
    pub current: Version,
    /// Before it; absent when a rollback would leave none.
    pub before: Option<Version>,
}

/// A version read and checked: what an engine works with.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The pack.
    pub pack: Pack,
    /// The data sets that it names.
    pub data: DataSets,
}

/// A pack in force as the node works with it.
#[derive(Debug, Clone)]
pub struct InForce {
    /// What is stored of it.
    pub row: Row,
    /// It, read.
    pub ready: Arc<Ready>,
    /// The one before it, read.
    pub before: Option<Arc<Ready>>,
}

/// Why a version cannot be used; one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

impl Files {
    /// Reads them, with the data sets from the library. The findings are warnings.
    ///
    /// # Errors
    /// [`Unfit`] when the pack is refused, a data set is missing, or one is given that it does not name.
    pub fn read(&self, library: &Library) -> Result<(Ready, Vec<Diagnostic>), Unfit> {
        if self.text.len() > TEXT_BYTES_MAX {
            return Err(Unfit("the pack has more than 512 KiB; split it".into()));
        }
        if self.data.len() > DATA_SETS_MAX {
            return Err(Unfit(format!("the pack comes with more than {DATA_SETS_MAX} data sets")));
        }
        let mut tables = campanile_rules::Files::new();
        for name in Pack::files_of(&self.text) {
            let unfit = |reason: String| Unfit(format!("table file {name}: {reason}"));
            let digest = self.data.get(&name).ok_or_else(|| unfit("give its digest with the pack".into()))?;
            let bytes = library.get(digest).map_err(|error| unfit(format!("{error}; give it to the node first")))?;
            tables.insert(name, bytes.to_vec());
        }
        let (pack, warnings) =
            Pack::parse_with(&self.text, &tables).map_err(|refusal| Unfit(findings(&refusal.0, &self.text)))?;
        let known = |name: &&String| pack.data.contains_key(*name) || tables.contains_key(*name);
        if let Some(unknown) = self.data.keys().find(|name| !known(name)) {
            return Err(Unfit(format!("pack {} reads no file or data set {unknown:?}; leave it out", pack.name)));
        }
        let mut data = DataSets::new();
        for (name, reference) in &pack.data {
            let unfit = |reason: String| Unfit(format!("data set {name} of pack {}: {reason}", pack.name));
            let digest = self.data.get(name).ok_or_else(|| unfit("give its digest with the pack".into()))?;
            let format = Format::of_file(&reference.file)
                .ok_or_else(|| unfit("use a file that ends in .json, .csv or .geojson".into()))?;
            let bytes = library.get(digest).map_err(|error| unfit(format!("{error}; give it to the node first")))?;
            let set = DataSet::parse(name, format, &bytes, &reference.rows).map_err(|error| unfit(chain(&error)))?;
            data.insert(name.clone(), set);
        }
        Ok((Ready { pack, data }, warnings))
    }

    /// The data sets on the wire.
    pub fn data_to_wire(&self) -> Vec<wire::DataSetRef> {
        let set = |(name, digest): (&String, &Hash)| wire::DataSetRef { name: name.clone(), digest: digest.0.to_vec() };
        self.data.iter().map(set).collect()
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Unfit`] when a digest is none or a name stands twice.
    pub fn from_wire(text: &str, data: &[wire::DataSetRef]) -> Result<Self, Unfit> {
        let mut sets = BTreeMap::new();
        for set in data.iter().take(DATA_SETS_MAX + 1) {
            let digest = Hash::try_from(set.digest.as_slice())
                .map_err(|_| Unfit(format!("the digest of data set {:?} is no SHA-256: give 32 bytes", set.name)))?;
            if sets.insert(set.name.clone(), digest).is_some() {
                return Err(Unfit(format!("data set {:?} is given twice", set.name)));
            }
        }
        Ok(Self { text: text.into(), data: sets })
    }
}

/// Every error of the checker, each with its place, in one text.
fn findings(found: &[Diagnostic], text: &str) -> String {
    let errors = found.iter().filter(|finding| finding.gravity == Gravity::Error);
    errors.map(|finding| finding.render("the pack", text)).collect::<Vec<_>>().join("\n")
}

/// The id of what two officers agree to: all digests, and whether a way back is kept.
pub fn id_of(pack: &Pack, files: &Files, no_way_back: bool) -> Hash {
    let mut text = format!("campanile.activation.v1|{}|{}|{no_way_back}", pack.name, Hash(pack.digest));
    for (name, digest) in &files.data {
        text.push_str(&format!("|{name}={digest}"));
    }
    Hash::of(text.as_bytes())
}

/// Makes one engine of packs, without memory.
///
/// # Errors
/// [`Unfit`] when they cannot be active together: circles, chains that are too long, one rule in two packs, one name of
/// a data set for two contents.
pub fn engine<'r>(
    department: &DepartmentId,
    options: &Options,
    packs: impl Iterator<Item = &'r Arc<Ready>>,
) -> Result<Engine, Unfit> {
    let (mut together, mut data) = (Vec::new(), DataSets::new());
    for ready in packs {
        for (name, set) in &ready.data {
            let known = data.insert(name.clone(), set.clone());
            if known.is_some_and(|known| known.digest != set.digest) {
                let message = format!(
                    "two packs read data set {name} with different contents; give one of them another name, or \
                     activate both with the same"
                );
                return Err(Unfit(message));
            }
        }
        together.push(ready.pack.clone());
    }
    if together.len() > PACKS_MAX {
        return Err(Unfit(format!("a department has at most {PACKS_MAX} packs in force")));
    }
    Engine::new(department.clone(), together, data, options.clone()).map_err(|error| Unfit(chain(&error)))
}

/// The public summary of the packs in force and of those that a rollback would bring back.
pub fn manifest<'p>(
    department: &DepartmentId,
    packs: impl Iterator<Item = &'p InForce>,
    serial: u64,
) -> wire::Manifest {
    let mut summaries = Vec::new();
    for pack in packs {
        summaries.push(summary(&pack.ready.pack, false));
        if let Some(before) = pack.before.as_ref().filter(|before| before.pack.digest != pack.ready.pack.digest) {
            summaries.push(summary(&before.pack, true));
        }
    }
    wire::Manifest { department: department.to_string(), packs: summaries, serial }
}

fn summary(pack: &Pack, fallback: bool) -> wire::PackSummary {
    let manifest = pack.manifest();
    let rule = |rule: &campanile_rules::ManifestRule| wire::RuleSummary {
        id: rule.id.clone(),
        cause_events: rule.cause.events.clone(),
        cause_from: rule.cause.from.iter().map(ToString::to_string).collect(),
        effect_event: rule.effect.clone(),
        effect_depth_max: rule.depth_max,
        conflicts_asked: rule.conflicts_asked.clone(),
    };
    wire::PackSummary {
        pack: manifest.pack,
        digest: manifest.digest.to_vec(),
        rules: manifest.rules.iter().map(rule).collect(),
        fallback,
    }
}
