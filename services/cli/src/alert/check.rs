//! `alert check`: judges files, message by message. A file that is an index only has nothing to judge and passes.

use std::path::PathBuf;

use campanile_alert::classify::{MappingTable, classify};
use campanile_alert::xml::{self, Limits};
use campanile_alert::{Alert, Clock as _, Fault, Timestamp, judge, vocabulary};
use campanile_discovery::SystemClock;
use serde::Serialize;

use super::{instant, shown};
use crate::failure::{Answer, Next as _, Verdict};
use crate::files;
use crate::out::{Mark, Out, harmless};

/// What `alert check` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CAP messages, or Atom, RSS and EDXL-DE feeds of them; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Say also whether the bus would take each message now
    #[arg(long)]
    bus: bool,
    /// With --bus: judge by this time instead of now
    #[arg(long, value_name = "TIME", requires = "bus")]
    now: Option<String>,
    /// With --bus: the mapping table of a foreign source
    #[arg(long, value_name = "FILE", requires = "bus")]
    mapping: Option<PathBuf>,
}

/// What was found in one file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileReport {
    file: String,
    /// What the file is; absent when it was refused whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<String>,
    /// Why the file was refused whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    messages: Vec<MessageReport>,
    passed: bool,
}

/// What was found in one message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageReport {
    /// Its place in the file, from 1.
    index: usize,
    /// Its identity, when it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    valid: bool,
    /// Whether the bus takes it; absent when that was not asked, or it is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    admissible: Option<bool>,
    faults: Vec<Fault>,
}

/// By what the bus would judge.
struct Bus {
    now: Timestamp,
    table: Option<MappingTable>,
}

/// Judges every file, and tells all faults of all of them.
///
/// # Errors
/// When a file cannot be read at all.
pub(super) fn run(args: &Args, out: Out) -> Answer {
    let bus = args.bus.then(|| bus(args)).transpose()?;
    let mut reports = Vec::new();
    for path in &args.files {
        let report = file(shown(path), &files::read(path)?, bus.as_ref());
        if !out.is_json() {
            show(&report, out)?;
        }
        reports.push(report);
    }
    let passed = reports.iter().all(|report| report.passed);
    if out.is_json() {
        out.document(&reports)?;
    } else {
        let (all, bad) = reports
            .iter()
            .flat_map(|r| &r.messages)
            .fold((0_usize, 0_usize), |(all, bad), message| (all + 1, bad + usize::from(!message.faults.is_empty())));
        let refused = reports.iter().filter(|report| report.refused.is_some()).count();
        out.note(format!("{} files, {all} messages: {bad} messages and {refused} whole files fail", reports.len()));
    }
    Ok(Verdict::of(passed))
}

fn bus(args: &Args) -> anyhow::Result<Bus> {
    let now = args.now.as_deref().map_or_else(|| Ok(SystemClock.now()), instant)?;
    let read = |path: &PathBuf| {
        MappingTable::parse(&files::read_text(path)?).next("mend the mapping table; deploy/sources has an example")
    };
    Ok(Bus { now, table: args.mapping.as_ref().map(read).transpose()? })
}

fn file(file: String, bytes: &[u8], bus: Option<&Bus>) -> FileReport {
    match xml::read(bytes, &Limits::default()) {
        Ok(document) => {
            let judged = document.messages.iter().enumerate();
            let messages: Vec<_> = judged.map(|(at, message)| judge_message(at + 1, &message.result, bus)).collect();
            let passed = messages.iter().all(|message| message.faults.is_empty());
            FileReport { file, statement: Some(document.statement()), refused: None, messages, passed }
        }
        Err(error) => {
            FileReport { file, statement: None, refused: Some(error.to_string()), messages: Vec::new(), passed: false }
        }
    }
}

fn judge_message(index: usize, message: &Result<Alert, Vec<Fault>>, bus: Option<&Bus>) -> MessageReport {
    let alert = match message {
        Ok(alert) => alert,
        Err(faults) => {
            return MessageReport { index, id: None, valid: false, admissible: None, faults: faults.clone() };
        }
    };
    let id = Some(alert.id().to_string());
    let faults = judge::cap_valid(alert);
    let Some(bus) = bus.filter(|_| faults.is_empty()) else {
        return MessageReport { index, id, valid: faults.is_empty(), admissible: None, faults };
    };
    let vocabulary = vocabulary::v1();
    let words = bus.table.as_ref().map_or_else(|| classify(alert, vocabulary), |table| table.classify(alert));
    let faults = judge::bus_admissible(alert, &words, vocabulary, bus.now);
    MessageReport { index, id, valid: true, admissible: Some(faults.is_empty()), faults }
}

fn show(report: &FileReport, out: Out) -> anyhow::Result<()> {
    if let Some(reason) = &report.refused {
        return out.coloured(&format!(
            "{}: {} {}",
            harmless(&report.file),
            out.mark("refused", Mark::Bad),
            harmless(reason)
        ));
    }
    out.line(format!("{}: {}", report.file, report.statement.as_deref().unwrap_or_default()))?;
    for message in &report.messages {
        let word = match (message.valid, message.admissible) {
            (false, _) => out.mark("invalid", Mark::Bad),
            (true, Some(false)) => out.mark("valid, but not for the bus", Mark::Doubtful),
            (true, _) => out.mark("ok", Mark::Good),
        };
        let id = harmless(message.id.as_deref().unwrap_or("(no identity)"));
        out.coloured(&format!("  {:>3}  {word}  {id}", message.index))?;
        for fault in &message.faults {
            out.line(format!("       {}  {}  {}", fault.path, fault.code, fault.reason))?;
        }
    }
    Ok(())
}
