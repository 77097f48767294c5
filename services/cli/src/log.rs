//! `log verify` and `log export`: whole logs in one file that anyone can verify offline.
//!
//! What a verification says: every hash, chain and link fits; every header says the same place as its line; every
//! record is signed by a key that the newest roster naming it lists for its author there. A record that was already
//! marked "not counted" is told and does not fail the log: it never had an effect.

use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campanile_bus::record::{PAYLOAD_TYPE, open_header, open_signatures};
use campanile_bus::verify::key_lane;
use campanile_discovery::envelope::Envelope;
use campanile_discovery::roster::{KeyRefusal, ROSTER_BYTES_MAX, ROSTER_TYPE, RootKeys, Roster, SignedRoster};
use campanile_log::bundle::{self, Attachment, Item, Report};
use campanile_log::{Entry, Hash, LogId, SqliteStore, Standing, Store as _};
use serde::Serialize;

use crate::connect::read_root;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files::{self, Whole};
use crate::out::{Mark, Out, harmless};

/// The most rosters that a verification takes.
const ROSTERS_MAX: usize = 10_000;
/// Records marked "not counted" that are told one by one.
const UNCOUNTED_MAX: usize = 100;

/// The verbs about logs.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Verify a bundle, or the store in a node's data folder
    Verify(Verify),
    /// Write whole logs of a store into one file
    Export(Export),
}

/// What `log verify` takes.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// A bundle of `log export`, or a store's folder; a node may have it open
    place: PathBuf,
    /// Rosters to check signatures with, beside those in the bundle; may be repeated
    #[arg(long, value_name = "FILE")]
    roster: Vec<PathBuf>,
    /// The root keys that the first roster must be signed by; without them the first roster is taken at its word
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Check hashes and chains alone, no signatures
    #[arg(long, conflicts_with_all = ["roster", "root"])]
    chain_only: bool,
}

/// What `log export` takes.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The store's folder, or the data folder of a node that holds it; the node may run
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// The bundle to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Rosters to put in, beside those that are found in the data folder; may be repeated
    #[arg(long, value_name = "FILE")]
    roster: Vec<PathBuf>,
    /// Only the logs of this origin
    #[arg(long, value_name = "DEPARTMENT/NODE")]
    origin: Option<String>,
}

/// Does what the verb says.
///
/// # Errors
/// When the bundle or store cannot be read, or there is no roster to check with.
pub fn run(verb: Verb, out: Out) -> Answer {
    match verb {
        Verb::Verify(args) => verify(&args, out),
        Verb::Export(args) => export(&args, out),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    sound: bool,
    #[serde(flatten)]
    report: Report,
    /// Whether signatures were checked.
    signatures: bool,
    /// Numbers of the rosters that were used.
    rosters: Vec<u64>,
    /// Root keys from outside vouch for the rosters.
    vouched: bool,
    /// Records that were marked "not counted", with what is wrong with them.
    not_counted: Vec<String>,
    not_counted_more: u64,
}

fn verify(args: &Verify, out: Out) -> Answer {
    let mut judge = Judge::new(args)?;
    let report = if args.place.is_dir() {
        let (store, data) = open_store(&args.place)?;
        if !args.chain_only {
            for (name, bytes) in rosters_in(&data)? {
                judge.take(bytes).with_context(|| format!("the roster {name} cannot be read"))?;
            }
        }
        bundle::verify_store(&store, &mut |item| judge.item(item))?
    } else {
        let file = std::fs::File::open(&args.place)
            .with_context(|| format!("failed to read {}", args.place.display()))
            .next("give a bundle of `campanile log export`, or a store's folder")?;
        let mut input = BufReader::new(file);
        bundle::verify(&mut input, &mut |item| judge.item(item))
            .with_context(|| format!("failed to verify {}", args.place.display()))?
    };
    if judge.checks && !judge.offered && report.entries > 0 {
        let next = "give the federation's rosters with --roster, or check hashes and chains alone with --chain-only";
        return Err(failure("there is no roster to check signatures with", next));
    }
    let verified = Verified {
        sound: report.is_sound(),
        signatures: judge.checks,
        rosters: judge.rosters.iter().map(|roster| roster.number).collect(),
        vouched: judge.root.is_some(),
        not_counted: judge.not_counted,
        not_counted_more: judge.not_counted_more,
        report,
    };
    if out.is_json() {
        out.document(&verified)?;
    } else {
        show(&verified, out)?;
    }
    if verified.signatures && !verified.vouched && verified.report.entries > 0 {
        out.note(
            "the rosters themselves were taken at their word; give --root to have governance's keys vouch for them",
        );
    }
    Ok(Verdict::of(verified.sound))
}

fn show(verified: &Verified, out: Out) -> anyhow::Result<()> {
    for log in &verified.report.logs {
        out.line(format!("{}  {} records, tail {}", log.log, log.entries, log.tail))?;
    }
    for reason in &verified.not_counted {
        out.coloured(&format!("{}  {}", out.mark("not counted", Mark::Doubtful), harmless(reason)))?;
    }
    for fault in &verified.report.faults {
        out.coloured(&format!("{}  {}", out.mark("FAULT", Mark::Bad), harmless(&fault.to_string())))?;
    }
    if verified.report.faults_more > 0 {
        out.line(format!("and {} faults more", verified.report.faults_more))?;
    }
    let what = if verified.signatures { "hashes, chains and signatures" } else { "hashes and chains, no signatures" };
    let word = if verified.sound { out.mark("sound", Mark::Good) } else { out.mark("not sound", Mark::Bad) };
    out.coloured(&format!("{word}: {} records, {what} checked", verified.report.entries))
}

/// What signatures are checked with.
struct Judge {
    checks: bool,
    root: Option<RootKeys>,
    /// As they came; settled before the first entry.
    waiting: Vec<Vec<u8>>,
    /// By number, lowest first.
    rosters: Vec<SignedRoster>,
    settled: bool,
    /// There was a roster, good or not.
    offered: bool,
    not_counted: Vec<String>,
    not_counted_more: u64,
}

impl Judge {
    fn new(args: &Verify) -> anyhow::Result<Self> {
        let root = args.root.as_deref().map(read_root).transpose()?;
        let mut judge = Self {
            checks: !args.chain_only,
            root,
            waiting: Vec::new(),
            rosters: Vec::new(),
            settled: false,
            offered: false,
            not_counted: Vec::new(),
            not_counted_more: 0,
        };
        for path in &args.roster {
            judge.take(files::read(path)?).with_context(|| format!("the roster {} cannot be read", path.display()))?;
        }
        Ok(judge)
    }

    /// Takes a roster that is still to be judged.
    fn take(&mut self, bytes: Vec<u8>) -> anyhow::Result<()> {
        if self.waiting.len() == ROSTERS_MAX {
            return Err(failure("there are too many rosters", format!("give at most {ROSTERS_MAX}")));
        }
        peek(&bytes)?;
        self.offered = true;
        self.waiting.push(bytes);
        Ok(())
    }

    /// Judges the rosters, each by the one before.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.settled = true;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_cached_key(|bytes| peek(bytes).map_or(u64::MAX, |roster| roster.number));
        waiting.dedup();
        for bytes in waiting {
            let number = peek(&bytes)?.number;
            let root = match &self.root {
                Some(root) => root.clone(),
                None => RootKeys::from(&peek(&bytes)?.governance),
            };
            // A log is history: what a development federation did is verified like everything else.
            let roster = SignedRoster::verify(&bytes, &root, self.rosters.last(), true)
                .with_context(|| format!("roster {number} was refused"))?;
            if self.rosters.last().is_none_or(|last| last.number < roster.number) {
                self.rosters.push(roster);
            }
        }
        Ok(())
    }

    fn item(&mut self, item: Item<'_>) -> Result<(), String> {
        if !self.checks {
            return Ok(());
        }
        match item {
            Item::Attachment(attachment) if attachment.name.starts_with("roster") => {
                self.take(attachment.data.to_vec()).map_err(|error| format!("{error:#}"))
            }
            Item::Attachment(_) => Ok(()),
            Item::Entry(entry) => {
                let settled = if self.settled { Ok(()) } else { self.settle().map_err(|error| format!("{error:#}")) };
                settled.and_then(|()| self.entry(entry))
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), String> {
        let judged = signed(entry, &self.rosters);
        if let Standing::NotCounted { reason } = &entry.standing {
            let found = judged.err().map(|found| format!(" ({found})")).unwrap_or_default();
            if self.not_counted.len() < UNCOUNTED_MAX {
                self.not_counted.push(format!("{} {}: {reason}{found}", entry.log, entry.position));
            } else {
                self.not_counted_more += 1;
            }
            return Ok(());
        }
        judged
    }
}

/// The roster as it says itself; nothing about it is believed yet.
pub(crate) fn peek(bytes: &[u8]) -> anyhow::Result<Roster> {
    let envelope = Envelope::parse(bytes, ROSTER_TYPE, ROSTER_BYTES_MAX)?;
    serde_json::from_slice(envelope.payload()).context("the payload is no roster")
}

/// Checks that the header says what the line says, that the body is the signed one, and that a listed key signed.
fn signed(entry: &Entry, rosters: &[SignedRoster]) -> Result<(), String> {
    let header = open_header(&entry.header).map_err(|error| error.to_string())?;
    let place = (header.epoch, header.seq);
    if header.log != entry.log || place != entry.position.place() {
        return Err(format!("its header names {} {}/{}", header.log, place.0, place.1));
    }
    if header.previous != entry.previous || header.link != entry.link {
        return Err("its header names another record before it".into());
    }
    if entry.body.as_ref().is_some_and(|body| Hash::of(body) != header.body_hash) {
        return Err("the body is not the one that was signed".into());
    }
    let signatures = open_signatures(&entry.signatures).map_err(|error| error.to_string())?;
    let named = signatures.iter().find(|signature| signature.key_id.to_string() == header.key_id);
    let signature = named.ok_or("no signature is by the key that the header names")?;
    let lane = key_lane(header.log.lane);
    let mut refusal = None;
    // The newest roster that lists the key decides: it says where a stolen key ended.
    for roster in rosters.iter().rev() {
        if roster.federation != header.federation {
            return Err(format!("it belongs to the federation {:?}", header.federation));
        }
        match roster.key(&header.origin, signature.key_id, lane, header.epoch, header.seq) {
            Ok(key) => {
                return key.verify(PAYLOAD_TYPE, &entry.header, signature).map_err(|error| error.to_string());
            }
            Err(unknown @ (KeyRefusal::UnknownOrigin { .. } | KeyRefusal::UnknownKey { .. })) => {
                refusal.get_or_insert(unknown.to_string());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(refusal.unwrap_or_else(|| "there is no roster to check its signature with".into()))
}

fn export(args: &Export, out: Out) -> Answer {
    let (store, data) = open_store(&args.store)?;
    let logs: Vec<LogId> = store
        .logs()
        .into_iter()
        .map(|(log, _)| log)
        .filter(|log| args.origin.as_deref().is_none_or(|origin| &*log.origin == origin))
        .collect();
    if let Some(origin) = args.origin.as_deref().filter(|_| logs.is_empty()) {
        return Err(failure(format!("the store holds no log of {origin}"), "leave --origin out to export all logs"));
    }
    let mut rosters = rosters_in(&data)?;
    for path in &args.roster {
        let bytes = files::read(path)?;
        let number = peek(&bytes).with_context(|| format!("{} is no roster", path.display()))?.number;
        rosters.push((format!("roster-{number:020}.json"), bytes));
    }
    rosters.sort();
    rosters.dedup_by(|a, b| a.0 == b.0);
    let attachments: Vec<Attachment> =
        rosters.into_iter().map(|(name, bytes)| Attachment { name, data: bytes.into() }).collect();
    let whole = Whole::begin(&args.out, false)?;
    let written = bundle::export(&store, &logs, &attachments, &mut BufWriter::new(whole.file.as_file()))?;
    whole.finish()?;
    let report = Exported {
        file: args.out.display().to_string(),
        entries: written,
        logs: logs.iter().map(ToString::to_string).collect(),
        rosters: attachments.into_iter().map(|attachment| attachment.name).collect(),
    };
    out.show(&report, |report| {
        vec![format!("{}: {} records of {} logs", report.file, report.entries, report.logs.len())]
    })?;
    if report.rosters.is_empty() {
        out.note("no roster was found to put in; whoever verifies must have them (see --roster)");
    }
    Ok(Verdict::Passed)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    file: String,
    entries: u64,
    logs: Vec<String>,
    rosters: Vec<String>,
}

/// Opens the store in a folder, or in its `store` as a node lays it out; gives the data folder too.
pub(crate) fn open_store(folder: &Path) -> anyhow::Result<(SqliteStore, PathBuf)> {
    let inner = folder.join("store");
    let (store, data) = match inner.join("log.db").is_file() {
        true => (inner, folder.to_path_buf()),
        false => (folder.to_path_buf(), folder.parent().map(Path::to_path_buf).unwrap_or_default()),
    };
    let opened = SqliteStore::open_read_only(&store)
        .with_context(|| format!("there is no store to read in {}", folder.display()))
        .next("give the folder with log.db, or the node's data folder")?;
    Ok((opened, data))
}

/// The rosters that a node keeps in its data folder, by file name; none when there is no such folder.
pub(crate) fn rosters_in(data: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let folder = data.join("rosters");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let entries = std::fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries.take(ROSTERS_MAX) {
        let path = entry.with_context(|| format!("failed to read {}", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.starts_with("roster-") && name.ends_with(".json") {
            found.push((name, files::read(&path)?));
        }
    }
    found.sort();
    Ok(found)
}
