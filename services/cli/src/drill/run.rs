//! `drill run`: a scenario and its variants in virtual time. It ends with 0 only when the drill passes and every variant
//! fails exactly as written.

use std::path::{Path, PathBuf};

use campanile_drill::verdict::{Ended, Item, Outcome, Verdict as Judged};
use campanile_drill::{Played, play_all};

use super::load;
use crate::failure::{Answer, Next as _, Verdict};
use crate::files;
use crate::out::{Mark, Out, harmless};

/// What the verb takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A scenario in YAML
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Decides everything that is left to chance; the scenario's own when it is not given
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Write transcript.jsonl, verdict.json and scenario.yaml into this folder, for `drill report`
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    live: super::live::LiveArgs,
}

/// Plays and judges.
pub(super) async fn run(args: &Args, out: Out) -> Answer {
    let loaded = load::scenario(&args.file)?;
    let Some((scenario, bench)) = &loaded.sound else {
        loaded.rendered().iter().for_each(|finding| out.note(finding));
        out.note(format!("{}: {} errors; nothing was started", loaded.file, loaded.errors()));
        return Ok(Verdict::Failed);
    };
    if args.live.live {
        let played = super::live::run(scenario, &loaded.text, &args.live, out).await?;
        return judged(&played.verdict, out);
    }
    let seed = args.seed.unwrap_or(scenario.clock.seed);
    let played = play_all(scenario, bench, &|file| loaded.read(file), seed)?;
    if let Some(folder) = &args.keep {
        keep(folder, &loaded.text, &played)?;
    }
    judged(&played.verdict, out)
}

/// Shows a verdict, and ends as it says.
fn judged(verdict: &Judged, out: Out) -> Answer {
    if out.is_json() {
        out.document(verdict)?;
    } else {
        lines(verdict, out).iter().try_for_each(|line| out.coloured(line))?;
    }
    Ok(Verdict::of(verdict.holds()))
}

fn keep(folder: &Path, scenario: &str, played: &Played) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).next("give another folder with --keep")?;
    files::write(&folder.join("scenario.yaml"), scenario.as_bytes(), true)?;
    files::write(&folder.join("transcript.jsonl"), &played.transcript.bytes(), true)?;
    files::write(&folder.join("verdict.json"), &played.verdict.bytes(), true)
}

/// The verdict for people.
fn lines(verdict: &Judged, out: Out) -> Vec<String> {
    let mut lines = vec![harmless(&format!("{} (seed {})", verdict.drill, verdict.seed))];
    lines.extend(verdict.items.iter().map(|item| line_of(item, out)));
    for (id, objective) in &verdict.objectives {
        let word = if objective.failed { out.mark("failed", Mark::Bad) } else { out.mark("reached", Mark::Good) };
        let score = objective.score.map_or("not judged".into(), percent);
        let must = if objective.must { ", must" } else { "" };
        lines.push(format!("objective {}: {word}, {score} (weight {}{must})", harmless(id), objective.weight));
    }
    for variant in &verdict.variants {
        let word =
            if variant.as_written { out.mark("as written", Mark::Good) } else { out.mark("NOT as written", Mark::Bad) };
        let failed = if variant.failed.is_empty() { "nothing".into() } else { variant.failed.join(", ") };
        let why = if variant.why.is_empty() { String::new() } else { format!(": {}", variant.why) };
        lines.push(format!(
            "variant {}: {word}, fails {}{}",
            harmless(&variant.name),
            harmless(&failed),
            harmless(&why)
        ));
    }
    let word = if verdict.passed { out.mark("passed", Mark::Good) } else { out.mark("FAILED", Mark::Bad) };
    let ended = match verdict.ended {
        Ended::Complete => "",
        Ended::Frozen => ", stopped because something real came",
        Ended::Aborted => ", called off",
        Ended::Full => ", cut short",
    };
    lines.push(format!(
        "{word}: {} of the score, {} is enough{ended}",
        percent(verdict.score),
        percent(verdict.enough)
    ));
    lines.push(format!("transcript {}", verdict.transcript));
    lines
}

fn line_of(item: &Item, out: Out) -> String {
    let (word, mark) = match item.outcome {
        Outcome::Met => ("met", Mark::Good),
        Outcome::Late => ("late", Mark::Doubtful),
        Outcome::Missed => ("MISSED", Mark::Bad),
        Outcome::Forbidden => ("SEEN", Mark::Bad),
        Outcome::ToBeJudged => ("to judge", Mark::Doubtful),
        Outcome::Judged => ("judged", Mark::Good),
        Outcome::Open => ("open", Mark::Bad),
    };
    let at = item.at().map(|at| format!(" ({at})")).unwrap_or_default();
    let why = if item.why.is_empty() { String::new() } else { format!(": {}", item.why) };
    let rest = format!("{} {} {}{at}{why}", item.id, item.objective, item.expected);
    format!("{} {}", out.mark(&format!("{word:<8}"), mark), harmless(&rest))
}

fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{} %", permille / 10),
        rest => format!("{}.{rest} %", permille / 10),
    }
}
