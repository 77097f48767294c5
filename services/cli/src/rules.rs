//! The verbs of policy staff: packs checked offline; rules listed, paused and pre-authorised at a node.

use std::path::{Path, PathBuf};

use campanile_client::Position;
use campanile_client::admin::{Envelope, Pause, Rules};
use campanile_rules::{
    DataSet, Diagnostic, Format, Gravity, Manifest, ManifestCause, ManifestRule, Pack, Refusal, check_federation,
};
use serde::Serialize;

use crate::alert::{instant, shown};
use crate::connect::Connect;
use crate::failure::{Answer, Verdict, sentence};
use crate::files;
use crate::out::Out;

/// The verbs about rules.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Check packs with the data sets beside them, each alone and all against each other
    Check(Check),
    /// List the active rules of a node, what waits for persons, and what lives
    List(List),
    /// Stop a rule before its next evaluation
    Pause(PauseArgs),
    /// Let a paused rule run again
    Resume(Resume),
    /// Sign a rule's pre-authorisation as the caller
    Envelope(EnvelopeArgs),
}

/// What `rules check` takes.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Packs in YAML
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What `rules list` takes.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    connect: Connect,
}

/// What `rules pause` takes.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    /// The rule's id
    rule: String,
    /// Why
    #[arg(long)]
    reason: String,
    /// Until when; absent means until `rules resume`
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// What `rules resume` takes.
#[derive(Debug, clap::Args)]
pub struct Resume {
    /// The rule's id
    rule: String,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

/// What `rules envelope` takes.
#[derive(Debug, clap::Args)]
pub struct EnvelopeArgs {
    /// The rule's id
    rule: String,
    /// Until when it holds
    #[arg(long, value_name = "TIME")]
    until: String,
    /// From when it holds; absent means from now
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Does what the verb says.
///
/// # Errors
/// When it cannot be done, or the node refuses.
pub async fn run(verb: Verb, out: Out) -> Answer {
    match verb {
        Verb::Check(args) => return check(&args.files, out),
        Verb::List(args) => {
            let rules = args.connect.client().await?.rules().await?;
            out.show(&rules, lines)?;
        }
        Verb::Pause(args) => {
            let until = args.until.as_deref().map(instant).transpose()?;
            let pause = Pause { rule: args.rule, paused: true, reason: args.reason, until };
            let position = args.connect.client().await?.pause(&pause).await?;
            done(&position, "paused", &pause.rule, out)?;
        }
        Verb::Resume(args) => {
            let pause = Pause { rule: args.rule, paused: false, reason: args.reason, until: None };
            let position = args.connect.client().await?.pause(&pause).await?;
            done(&position, "resumed", &pause.rule, out)?;
        }
        Verb::Envelope(args) => {
            let valid_from = args.from.as_deref().map(instant).transpose()?;
            let envelope = Envelope { rule: args.rule, valid_from, valid_to: instant(&args.until)? };
            let position = args.connect.client().await?.sign_envelope(&envelope).await?;
            done(&position, "pre-authorised", &envelope.rule, out)?;
        }
    }
    Ok(Verdict::Passed)
}

fn done(position: &Position, word: &str, rule: &str, out: Out) -> anyhow::Result<()> {
    out.show(position, |position| vec![format!("{word} {rule} at {position}")])
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

fn check(paths: &[PathBuf], out: Out) -> Answer {
    let (mut packs, mut manifests) = (Vec::new(), Vec::new());
    for path in paths {
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
                manifests.push(manifest(&pack));
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

/// What stands in the log of a pack, as far as the packs are checked against each other.
fn manifest(pack: &Pack) -> Manifest {
    let rule = |rule: &campanile_rules::Rule| ManifestRule {
        id: rule.id.clone(),
        cause: ManifestCause { event: rule.cause.event.clone(), from: rule.cause.from.iter().cloned().collect() },
        effect: rule.then.issue.clone(),
        depth_max: rule.cause.depth_max,
    };
    Manifest {
        department: pack.owner.clone(),
        pack: pack.name.clone(),
        digest: pack.digest,
        rules: pack.rules.iter().map(rule).collect(),
    }
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

fn lines(rules: &Rules) -> Vec<String> {
    let mut lines = Vec::new();
    for state in &rules.rules {
        let (id, pack) = state.rule.as_ref().map_or(("?", "?"), |rule| (rule.id.as_str(), rule.pack.as_str()));
        let paused = if state.paused { format!("PAUSED: {}", state.pause_reason) } else { "runs".into() };
        lines.push(format!("{id}  {} (pack {pack})  {paused}", state.title_en));
        if !state.last_decision_en.is_empty() {
            lines.push(format!("  last: {}", state.last_decision_en));
        }
    }
    for pending in &rules.pending {
        lines.push(format!(
            "pending  {}  {} proposes {} for {}",
            pending.id,
            pending.rule,
            pending.effect,
            pending.target_names.join(", ")
        ));
    }
    for effect in &rules.effects {
        let review = if effect.in_review { ", in review" } else { "" };
        lines.push(format!(
            "lives    {} {} for {} in {}{review}",
            effect.identifier, effect.effect, effect.target, effect.world
        ));
    }
    lines
}
