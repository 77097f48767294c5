//! `rules lint`: everything that can be found wrong with packs before they run, each with its place and a remedy.

use std::path::{Path, PathBuf};

use campanile_alert::Clock as _;
use campanile_discovery::SystemClock;
use campanile_rules::lint::{Around, Holders, around, between, sarif, strictly};
use campanile_rules::trial::{self, Coverage};
use campanile_rules::{Diagnostic, Files, Gravity, Pack, Refusal, check_federation};
use serde::Serialize;

use super::load::{self, Loaded};
use crate::failure::{Answer, Verdict};
use crate::files;
use crate::out::Out;

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Packs in YAML, or folders of *.rules.yaml
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Check the packs of all departments against each other: circles, chains, ids
    #[arg(long)]
    federation: bool,
    /// A signed roster, its root.json beside it: also find questions that too few persons may answer
    #[arg(long, value_name = "FILE")]
    roster: Option<PathBuf>,
    /// Print SARIF 2.1.0, for code review on a build server
    #[arg(long)]
    sarif: bool,
}

/// One finding as `--json` prints it: the file beside what was found in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found<'a> {
    pub(crate) file: &'a str,
    #[serde(flatten)]
    pub(crate) finding: &'a Diagnostic,
}

/// Lints packs; fails when there is an error among the findings.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    let loaded: Vec<Loaded> = load::files_of(&args.paths, ".rules.yaml")?
        .iter()
        .map(|path| load::pack(path))
        .collect::<anyhow::Result<_>>()?;
    let holders = args.roster.as_deref().map(holders).transpose()?;
    let mut found: Vec<(String, Diagnostic)> = Vec::new();
    for one in &loaded {
        let findings = match &one.pack {
            Ok((pack, warnings)) => {
                let mut findings = warnings.clone();
                findings.extend(beside(one, pack, holders.as_ref()));
                findings
            }
            Err(Refusal(findings)) => findings.clone(),
        };
        found.extend(strictly(findings).into_iter().map(|finding| (one.file.clone(), finding)));
    }
    found.extend(together(&loaded, args.federation));
    let errors = found.iter().filter(|(_, finding)| finding.gravity == Gravity::Error).count();
    if args.sarif {
        out.document(&sarif(&found))?;
    } else if out.is_json() {
        let list: Vec<Found<'_>> = found.iter().map(|(file, finding)| Found { file, finding }).collect();
        out.document(&list)?;
    } else {
        for (file, finding) in &found {
            let text = loaded.iter().find(|one| one.file == *file).map_or("", |one| one.text.as_str());
            out.line(finding.render(file, text))?;
        }
        let warnings = found.len() - errors;
        out.line(format!("{} packs, {errors} errors, {warnings} warnings", loaded.len()))?;
    }
    Ok(Verdict::of(errors == 0))
}

/// Who holds which role by a roster.
fn holders(path: &Path) -> anyhow::Result<Holders> {
    let mut holders = Holders::new();
    for person in &crate::roster::verified(path)?.persons {
        for role in &person.roles {
            holders.entry(role.clone()).or_default().insert(person.id.clone());
        }
    }
    Ok(holders)
}

/// What data, cited copies and tests beside a pack say about it.
fn beside(one: &Loaded, pack: &Pack, holders: Option<&Holders>) -> Vec<Diagnostic> {
    let folder = one.folder();
    let (data, faults) = load::data(pack, folder);
    let cited = pack.rules.iter().flat_map(|rule| &rule.sources).filter_map(|source| source.copy.as_ref());
    let copies: Files =
        cited.filter_map(|(file, _)| Some((file.clone(), files::read(&folder.join(file)).ok()?))).collect();
    let coverage = coverage(one, pack);
    let now = SystemClock.now();
    let mut found = around(pack, &one.text, &Around { data, copies, coverage: Some(&coverage), holders, now });
    found.extend(faults.into_iter().map(|message| Diagnostic {
        line: 0,
        column: 0,
        code: "E004",
        gravity: Gravity::Error,
        message,
        help: None,
    }));
    found
}

/// What the test files beside a pack reach of it together; without any, nothing.
fn coverage(one: &Loaded, pack: &Pack) -> Coverage {
    let ids = || pack.rules.iter().map(|rule| rule.id.clone());
    let mut open = Coverage {
        rules_without_positive: ids().chain(pack.suppressions.iter().map(|s| s.id.clone())).collect(),
        rules_without_negative: ids().collect(),
        ..Coverage::default()
    };
    let name = one.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut any = false;
    for path in load::files_of(&[one.folder_or_here()], ".tests.yaml").unwrap_or_default() {
        let Ok(bytes) = files::read(&path) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        if !text.contains(&name) {
            continue;
        }
        let Ok(report) = trial::run(&text, &|file: &str| read_beside(&path, file)) else { continue };
        let still =
            |open: &[String], missing: &[String]| open.iter().filter(|id| missing.contains(id)).cloned().collect();
        open.rules_without_positive = still(&open.rules_without_positive, &report.coverage.rules_without_positive);
        open.rules_without_negative = still(&open.rules_without_negative, &report.coverage.rules_without_negative);
        let own = |row: &&String| pack.rules.iter().any(|rule| row.starts_with(&format!("{} ", rule.id)));
        let rows: Vec<String> = report.coverage.rows_without_case.iter().filter(own).cloned().collect();
        open.rows_without_case = if any { still(&open.rows_without_case, &rows) } else { rows };
        any = true;
    }
    open
}

/// A file by its path from a test file.
pub(super) fn read_beside(tests: &Path, file: &str) -> Option<Vec<u8>> {
    files::read(&tests.parent().unwrap_or(Path::new("")).join(file)).ok()
}

impl Loaded {
    fn folder_or_here(&self) -> PathBuf {
        let folder = self.folder();
        if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.into() }
    }
}

/// Faults between packs: of one department always, of all when the federation is asked for.
fn together(loaded: &[Loaded], federation: bool) -> Vec<(String, Diagnostic)> {
    let sound: Vec<(&Loaded, &Pack)> =
        loaded.iter().filter_map(|one| Some((one, &one.pack.as_ref().ok()?.0))).collect();
    let mut groups: std::collections::BTreeMap<String, Vec<&(&Loaded, &Pack)>> = std::collections::BTreeMap::new();
    for pair in &sound {
        let group = if federation { String::new() } else { pair.1.owner.to_string() };
        groups.entry(group).or_default().push(pair);
    }
    let mut found = Vec::new();
    for group in groups.into_values() {
        let manifests: Vec<_> = group.iter().map(|(_, pack)| pack.manifest()).collect();
        for fault in check_federation(&manifests) {
            let told = group.iter().map(|(one, _)| (one, between(&fault, &one.text)));
            let (one, finding) = match told.clone().find(|(_, finding)| finding.line > 0) {
                Some(placed) => placed,
                None => match told.into_iter().next() {
                    Some(first) => first,
                    None => continue,
                },
            };
            found.push((one.file.clone(), finding));
        }
    }
    found
}
