//! `rules check`: packs and the data sets beside them, each alone and all against each other, without a node.

use std::path::{Path, PathBuf};

use campanile_rules::{DataSet, Diagnostic, Format, Gravity, Pack, Refusal, check_federation};
use serde::Serialize;

use crate::alert::shown;
use crate::failure::{Answer, Verdict, sentence};
use crate::files;
use crate::out::Out;

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Packs in YAML
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PackReport {
    file: String,
    /// The pack's name, when it was accepted.
    pack: Option<String>,
    digest: Option<String>,
    rules: Vec<String>,
    findings: Vec<Diagnostic>,
    /// What is wrong with its data sets.
    data: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckReport {
    packs: Vec<PackReport>,
    /// What is wrong between the packs: circles, chains that are too long, ids that stand twice.
    together: Vec<String>,
    passed: bool,
}

/// Checks the packs and says what was found.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    let (mut packs, mut manifests) = (Vec::new(), Vec::new());
    for path in &args.files {
        let bytes = files::read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut report = PackReport {
            file: shown(path),
            pack: None,
            digest: None,
            rules: Vec::new(),
            findings: Vec::new(),
            data: Vec::new(),
        };
        match Pack::parse(&text) {
            Ok((pack, warnings)) => {
                report.findings = warnings;
                report.data = data_faults(path, &pack);
                report.rules = pack.rules.iter().map(|rule| rule.id.clone()).collect();
                report.digest = Some(hex::encode(pack.digest));
                manifests.push(pack.manifest());
                report.pack = Some(pack.name);
            }
            Err(Refusal(found)) => report.findings = found,
        }
        if !out.is_json() {
            show(&report, &text, out)?;
        }
        packs.push(report);
    }
    let together: Vec<String> = check_federation(&manifests).iter().map(ToString::to_string).collect();
    let sound = |report: &PackReport| report.pack.is_some() && report.data.is_empty();
    let passed = packs.iter().all(sound) && together.is_empty();
    match out.is_json() {
        true => out.document(&CheckReport { packs, together, passed })?,
        false => together.iter().try_for_each(|fault| out.line(format!("error: {fault}")))?,
    }
    Ok(Verdict::of(passed))
}

/// Reads the data sets that a pack names, which lie beside it.
fn data_faults(pack_path: &Path, pack: &Pack) -> Vec<String> {
    let folder = pack_path.parent().unwrap_or(Path::new(""));
    let fault = |(name, reference): (&String, &campanile_rules::DataRef)| {
        let path = folder.join(&reference.file);
        let parse = || -> anyhow::Result<()> {
            let format = Format::of_file(&reference.file).ok_or_else(|| {
                anyhow::anyhow!("{} is of an unknown format; use .json, .csv or .geojson", path.display())
            })?;
            DataSet::parse(name, format, &files::read(&path)?, &reference.rows)?;
            Ok(())
        };
        let error = parse().err()?;
        Some(format!("data set {name} in {}: {}", path.display(), sentence(&error, "mend the file")))
    };
    pack.data.iter().filter_map(fault).collect()
}

fn show(report: &PackReport, text: &str, out: Out) -> anyhow::Result<()> {
    for found in &report.findings {
        out.line(found.render(&report.file, text))?;
    }
    report.data.iter().try_for_each(|fault| out.line(format!("error: {fault}\n")))?;
    let errors = report.findings.iter().filter(|found| found.gravity == Gravity::Error).count() + report.data.len();
    match &report.pack {
        Some(pack) if errors == 0 => {
            out.line(format!("{}: pack {pack} is sound, rules {}", report.file, report.rules.join(", ")))
        }
        _ => out.line(format!("{}: {errors} errors", report.file)),
    }
}
