//! `rules test`: runs the tests beside packs, once or at every change.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use campanile_rules::trial::{self, Report};
use serde::Serialize;

use super::lint::read_beside;
use super::load;
use crate::alert::shown;
use crate::failure::{Answer, Verdict, failure};
use crate::files;
use crate::out::{Mark, Out};

/// How often the files are looked at under `--watch`.
const LOOK: Duration = Duration::from_millis(500);

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Test files, or folders of *.tests.yaml
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Run them again at every change, until interrupted
    #[arg(long)]
    watch: bool,
    /// Say which rules and rows no case reaches
    #[arg(long)]
    cover: bool,
    /// Write JUnit XML there, for a build server
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tested {
    file: String,
    passed: bool,
    #[serde(flatten)]
    report: Report,
}

/// Runs tests; fails when a case fails, coverage is short of what a file asks for, or a file has no case.
///
/// # Errors
/// When a test file, a pack or a data set cannot be read.
pub(super) async fn run(args: &Args, out: Out) -> Answer {
    if !args.watch {
        return once(args, out);
    }
    let mut seen = None;
    loop {
        let now = stamp(&args.paths);
        if seen != Some(now) {
            seen = Some(now);
            if let Err(error) = once(args, out) {
                out.note(crate::failure::sentence(&error, "mend the file; it is run again at the next change"));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Verdict::Passed),
        }
    }
}

/// The latest change of a file in the folders concerned, and how many files there are.
fn stamp(paths: &[PathBuf]) -> (Option<SystemTime>, usize) {
    let folder = |path: &PathBuf| {
        if path.is_dir() { path.clone() } else { path.parent().unwrap_or(Path::new(".")).to_path_buf() }
    };
    let entries = paths.iter().map(folder).filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let times: Vec<SystemTime> = entries.filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok()).collect();
    (times.iter().max().copied(), times.len())
}

fn once(args: &Args, out: Out) -> Answer {
    let mut tested = Vec::new();
    for path in load::files_of(&args.paths, ".tests.yaml")? {
        let text = String::from_utf8_lossy(&files::read(&path)?).into_owned();
        let report = trial::run(&text, &|file: &str| read_beside(&path, file))
            .map_err(|error| failure(format!("{}: {error}", shown(&path)), "mend what is named"))?;
        tested.push(Tested { file: shown(&path), passed: report.passed(), report });
    }
    if let Some(path) = &args.junit {
        let suites: String = tested.iter().map(|one| one.report.junit(&one.file)).collect();
        let xml = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n{suites}</testsuites>\n");
        std::fs::write(path, xml).map_err(|error| failure(format!("{}: {error}", path.display()), "check the path"))?;
    }
    let passed = tested.iter().all(|one| one.passed);
    match out.is_json() {
        true => out.document(&tested)?,
        false => tested.iter().try_for_each(|one| show(one, args.cover, out))?,
    }
    Ok(Verdict::of(passed))
}

fn show(one: &Tested, cover: bool, out: Out) -> anyhow::Result<()> {
    for case in one.report.cases.iter().filter(|case| !case.failures.is_empty()) {
        out.line(format!("{} {}:{}: {}", out.mark("FAILED", Mark::Bad), one.file, case.line, case.name))?;
        case.failures.iter().try_for_each(|failure| out.line(format!("    {failure}")))?;
    }
    one.report.shortfalls.iter().try_for_each(|short| out.line(format!("{}: {short}", one.file)))?;
    let coverage = &one.report.coverage;
    if cover {
        let differs = one.report.cases.iter().filter_map(|case| Some((case, case.differs.as_ref()?)));
        for (case, why) in differs {
            out.line(format!("{}:{}: {}: differs, because {why}", one.file, case.line, case.name))?;
        }
        let lists = [
            ("rules that no case makes issue", &coverage.rules_without_positive),
            ("rules that no case expects to be silent", &coverage.rules_without_negative),
            ("rows that no case reaches", &coverage.rows_without_case),
        ];
        for (what, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            out.line(format!("{}: {what}: {}", one.file, list.join(", ")))?;
        }
    }
    let failed = one.report.cases.iter().filter(|case| !case.failures.is_empty()).count();
    let (rules, rows) = (coverage.rules, coverage.rows);
    let (missed, unreached) = (coverage.rules_without_positive.len(), coverage.rows_without_case.len());
    let word = if one.passed { out.mark("passed", Mark::Good) } else { out.mark("failed", Mark::Bad) };
    out.line(format!(
        "{}: {word}, {} cases, {failed} failed; {} of {rules} rules and {} of {rows} rows covered",
        one.file,
        one.report.cases.len(),
        rules.saturating_sub(missed),
        rows.saturating_sub(unreached),
    ))
}
