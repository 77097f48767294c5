//! A bundle: whole logs in one file that anyone can verify offline, and the same verification of a store.
//!
//! A bundle is JSON, one object a line (UTF-8, at most [`LINE_BYTES_MAX`] each), bytes in standard base64:
//! ```text
//! {"bundle":"campanile-log","format":1}
//! {"attachment":{"name":"roster-1.json","data":"…"}}           any number, as the caller gave them
//! {"entry":{"arrival":7,"log":{"origin":"edb/node-1","lane":"urgent"},"position":{"epoch":…,"seq":1,"hash":"…"},
//!   "previous":"…","link":null,"header":"…","body":"…","signatures":"…","standing":"counted"}}
//!                                                               by log, then epoch, then seq
//! {"end":{"entries":1}}                                         so that a cut-off file shows
//! ```
//! What is checked here: hashes, chain, links, contiguity, order and completeness. Signatures, and that a header says
//! the same place, previous hash and link as its line, are for the caller's `check`: headers are opaque here.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Read as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chain::{Held, Walk};
use crate::{Entry, Error, Hash, Link, LogId, Position, Standing, Store};

/// The longest line of a bundle, in bytes: room for a record of 1 MiB or an attachment of 24 MiB.
pub const LINE_BYTES_MAX: u64 = 32 << 20;
/// Faults told one by one; more are only counted.
pub const FAULTS_MAX: usize = 1_000;

const NAME: &str = "campanile-log";
const FORMAT: u32 = 1;
const PAGE_ENTRIES: usize = 256;
const PAGE_BYTES: usize = 8 << 20;

/// Something beside the records that a verifier needs, for example a roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name, unique in the bundle.
    pub name: String,
    /// Its bytes, at most 24 MiB.
    pub data: Bytes,
}

/// What the caller's check is shown: every attachment before the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// An attachment of a bundle.
    Attachment(&'a Attachment),
    /// A record.
    Entry(&'a Entry),
}

/// The caller's check of signatures; the error says what is wrong.
pub type Check<'a> = dyn FnMut(Item<'_>) -> Result<(), String> + 'a;

/// The outcome of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Each log seen, sorted.
    pub logs: Vec<LogReport>,
    /// Entries seen in all logs.
    pub entries: u64,
    /// What is wrong, in the order met; at most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// Faults beyond those.
    pub faults_more: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, place: String, reason: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { place, reason });
        } else {
            self.faults_more += 1;
        }
    }
}

/// One log of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// The log.
    pub log: LogId,
    /// Entries of it.
    pub entries: u64,
    /// The last one, in the highest epoch.
    pub tail: Position,
}

/// One fault of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Fault {
    /// Log and position, or the line of a bundle.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
}

/// Why a bundle could not be written or read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The store could not be read.
    #[error("failed to read the log to export")]
    Store(#[from] Error),
    /// The file could not be written or read.
    #[error("failed to write or read the bundle")]
    Io(#[from] std::io::Error),
    /// Something to write is longer than a line may be.
    #[error("{what} is too large for a bundle")]
    TooLarge {
        /// What it is.
        what: String,
    },
    /// The file is no bundle of a format known here.
    #[error("line 1 does not open a campanile-log bundle of format 1; was it made by `campanile log export`?")]
    NotABundle,
}

/// Writes `attachments` and the whole of `logs` to `out`; returns how many entries. Reads in pages.
///
/// # Errors
/// [`BundleError`], but never `NotABundle`.
pub fn export(
    store: &dyn Store,
    logs: &[LogId],
    attachments: &[Attachment],
    out: &mut dyn Write,
) -> Result<u64, BundleError> {
    line(out, &Line::Bundle(Opening { bundle: NAME.to_owned(), format: FORMAT }), "the first line")?;
    for Attachment { name, data } in attachments {
        let attachment = AttachmentLine { name: name.clone(), data: Base64(data.clone()) };
        line(out, &Line::Other(Content::Attachment(attachment)), name)?;
    }
    let (mut count, mut logs) = (0, logs.to_vec());
    logs.sort();
    logs.dedup();
    for log in logs {
        let mut after = None;
        loop {
            let page = store.read(&log, after, PAGE_ENTRIES, PAGE_BYTES)?;
            let Some(last) = page.last() else { break };
            after = Some(last.position.place());
            for entry in page {
                let place = format!("{log} {}", entry.position);
                line(out, &Line::Other(Content::Entry(Box::new(entry.into()))), &place)?;
                count += 1;
            }
        }
    }
    line(out, &Line::Other(Content::End(End { entries: count })), "the last line")?;
    out.flush()?;
    Ok(count)
}

fn line(out: &mut dyn Write, line: &Line, what: &str) -> Result<(), BundleError> {
    let mut text = serde_json::to_vec(line).map_err(std::io::Error::from)?;
    text.push(b'\n');
    if text.len() as u64 > LINE_BYTES_MAX {
        return Err(BundleError::TooLarge { what: what.to_owned() });
    }
    out.write_all(&text)?;
    Ok(())
}

/// Verifies a bundle, by itself and with `check`. Faults are in the report; lines that cannot be read are faults too.
///
/// # Errors
/// [`BundleError::NotABundle`] or [`BundleError::Io`].
pub fn verify(input: &mut dyn BufRead, check: &mut Check<'_>) -> Result<Report, BundleError> {
    let mut judge = Judge::new(check);
    match next_line(input)? {
        Next::Line(text) => match serde_json::from_slice(&text) {
            Ok(Line::Bundle(Opening { bundle, format: FORMAT })) if bundle == NAME => {}
            _ => return Err(BundleError::NotABundle),
        },
        _ => return Err(BundleError::NotABundle),
    }
    let mut ended = false;
    for number in 2_u64.. {
        let place = format!("line {number}");
        let text = match next_line(input)? {
            Next::Line(text) => text,
            Next::End => break,
            Next::TooLong => {
                judge.report.fault(place, format!("it is longer than {LINE_BYTES_MAX} bytes; the rest was not read"));
                break;
            }
        };
        if ended {
            judge.report.fault(place, "there is more after the end".to_owned());
            break;
        }
        match serde_json::from_slice(&text) {
            Ok(Line::Other(Content::Attachment(AttachmentLine { name, data: Base64(data) }))) => {
                judge.attachment(&Attachment { name, data });
            }
            Ok(Line::Other(Content::Entry(entry))) => judge.entry(&Entry::from(*entry)),
            Ok(Line::Other(Content::End(End { entries }))) => {
                ended = true;
                if entries != judge.report.entries {
                    let seen = judge.report.entries;
                    judge.report.fault(place, format!("it says {entries} entries, but {seen} came before it"));
                }
            }
            Ok(Line::Bundle(_)) => judge.report.fault(place, "it opens the bundle a second time".to_owned()),
            Err(error) => judge.report.fault(place, format!("it cannot be read ({error})")),
        }
    }
    if !ended {
        judge.report.fault("end of the file".to_owned(), "the bundle is cut off".to_owned());
    }
    Ok(judge.finish())
}

/// Verifies every log of `store`, by itself and with `check`. For a directory that a node may have open, give it
/// [`crate::SqliteStore::open_read_only`].
///
/// # Errors
/// A failure of the disk; corrupt records are faults of the report.
pub fn verify_store(store: &dyn Store, check: &mut Check<'_>) -> Result<Report, Error> {
    let mut judge = Judge::new(check);
    for (log, _) in store.logs() {
        let epochs = store.epochs(&log);
        let mut after: Option<(u64, u64)> = None;
        loop {
            match store.read(&log, after, PAGE_ENTRIES, PAGE_BYTES) {
                Ok(page) => {
                    let Some(last) = page.last() else { break };
                    after = Some(last.position.place());
                    page.iter().for_each(|entry| judge.entry(entry));
                }
                Err(Error::Corrupt { place, reason }) => {
                    judge.report.fault(place, reason);
                    let Some(next) = following(&epochs, after) else { break };
                    after = Some(next);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(judge.finish())
}

/// The place after `after`, by the tails of the epochs.
fn following(epochs: &[Position], after: Option<(u64, u64)>) -> Option<(u64, u64)> {
    let (epoch, seq) = after.unwrap_or((0, 0));
    if epochs.iter().any(|tail| tail.epoch == epoch && seq < tail.seq) {
        return Some((epoch, seq + 1));
    }
    epochs.iter().find(|tail| tail.epoch > epoch).map(|tail| (tail.epoch, 1))
}

/// Judges entry after entry.
struct Judge<'a, 'c> {
    walk: Walk,
    seen: Seen,
    logs: BTreeMap<LogId, LogReport>,
    report: Report,
    check: &'a mut Check<'c>,
}

impl<'a, 'c> Judge<'a, 'c> {
    fn new(check: &'a mut Check<'c>) -> Self {
        Self { walk: Walk::default(), seen: Seen::default(), logs: BTreeMap::new(), report: Report::default(), check }
    }

    fn attachment(&mut self, attachment: &Attachment) {
        if let Err(reason) = (self.check)(Item::Attachment(attachment)) {
            self.report.fault(format!("attachment {}", attachment.name), reason);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let place = || format!("{} {}", entry.log, entry.position);
        self.report.entries += 1;
        match self.logs.get_mut(&entry.log) {
            Some(log) => {
                if log.tail.place() >= entry.position.place() {
                    self.report.fault(place(), format!("it comes after {}, out of order", log.tail));
                }
                log.entries += 1;
                log.tail = log.tail.max(entry.position);
            }
            None => {
                let log = LogReport { log: entry.log.clone(), entries: 1, tail: entry.position };
                self.logs.insert(entry.log.clone(), log);
            }
        }
        match self.walk.step(entry, &mut self.seen) {
            Ok(None) => {}
            Ok(Some(reason)) => self.report.fault(place(), reason),
            Err(error) => self.report.fault(place(), error.to_string()),
        }
        self.seen.add(entry);
        if let Err(reason) = (self.check)(Item::Entry(entry)) {
            self.report.fault(place(), reason);
        }
    }

    fn finish(self) -> Report {
        Report { logs: self.logs.into_values().collect(), ..self.report }
    }
}

/// What came before in this bundle.
#[derive(Default)]
struct Seen {
    hashes: HashMap<LogId, HashMap<(u64, u64), Hash>>,
}

impl Seen {
    fn add(&mut self, entry: &Entry) {
        let position = entry.position;
        self.hashes.entry(entry.log.clone()).or_default().insert(position.place(), position.hash);
    }
}

impl Held for Seen {
    fn hash_at(&mut self, log: &LogId, epoch: u64, seq: u64) -> Result<Option<Hash>, Error> {
        Ok(self.hashes.get(log).and_then(|places| places.get(&(epoch, seq))).copied())
    }
}

enum Next {
    Line(Vec<u8>),
    TooLong,
    End,
}

fn next_line(input: &mut dyn BufRead) -> Result<Next, std::io::Error> {
    let mut text = Vec::new();
    input.take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text)?;
    Ok(match text.len() as u64 {
        0 => Next::End,
        length if length > LINE_BYTES_MAX => Next::TooLong,
        _ => Next::Line(text),
    })
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Bundle(Opening),
    Other(Content),
}

#[derive(Serialize, Deserialize)]
struct Opening {
    bundle: String,
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Attachment(AttachmentLine),
    Entry(Box<EntryLine>),
    End(End),
}

#[derive(Serialize, Deserialize)]
struct AttachmentLine {
    name: String,
    data: Base64,
}

#[derive(Serialize, Deserialize)]
struct End {
    entries: u64,
}

#[derive(Serialize, Deserialize)]
struct EntryLine {
    arrival: u64,
    log: LogId,
    position: Position,
    previous: Hash,
    link: Option<Link>,
    header: Base64,
    body: Option<Base64>,
    signatures: Base64,
    standing: Standing,
}

impl From<Entry> for EntryLine {
    fn from(entry: Entry) -> Self {
        Self {
            arrival: entry.arrival,
            log: entry.log,
            position: entry.position,
            previous: entry.previous,
            link: entry.link,
            header: Base64(entry.header),
            body: entry.body.map(Base64),
            signatures: Base64(entry.signatures),
            standing: entry.standing,
        }
    }
}

impl From<EntryLine> for Entry {
    fn from(line: EntryLine) -> Self {
        Self {
            arrival: line.arrival,
            log: line.log,
            position: line.position,
            previous: line.previous,
            link: line.link,
            header: line.header.0,
            body: line.body.map(|body| body.0),
            signatures: line.signatures.0,
            standing: line.standing,
        }
    }
}

struct Base64(Bytes);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::conformance::{accept, append, chain, draft, log, position};
    use crate::memory::{Disk, MemoryStore};
    use crate::{Lane, StoreExt as _};

    fn store() -> MemoryStore {
        let store = MemoryStore::open(&Disk::default()).unwrap();
        let (own, other) = (log("edb/node-1", Lane::Routine), log("fsd/node-1", Lane::Urgent));
        let first = chain(&other, 3, 4, None);
        let second = chain(&other, 7, 3, Some(position(&first[2])));
        first.iter().chain(&second).for_each(|next| drop(accept(&store, next)));
        store.begin_epoch(&own, 5).unwrap();
        append(&store, draft(&own, "mine"));
        store
    }

    fn bundle(store: &dyn Store) -> Vec<u8> {
        let logs: Vec<_> = store.logs().into_iter().map(|(log, _)| log).collect();
        let roster = Attachment { name: "roster-1.json".to_owned(), data: Bytes::from_static(b"\x00roster") };
        let mut out = Vec::new();
        assert_eq!(export(store, &logs, &[roster], &mut out).unwrap(), store.last_arrival());
        out
    }

    fn judged(bundle: &[u8]) -> Report {
        verify(&mut &*bundle, &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn bundle_verifies_offline_with_all_it_holds() {
        let store = store();
        let (mut attachments, mut entries) = (Vec::new(), Vec::new());
        let report = verify(&mut &*bundle(&store), &mut |item| {
            match item {
                Item::Attachment(attachment) => attachments.push(attachment.clone()),
                Item::Entry(entry) => entries.push(entry.clone()),
            }
            Ok(())
        })
        .unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.entries, 8);
        assert_eq!(report.logs.iter().map(|log| (log.log.clone(), log.tail)).collect::<Vec<_>>(), store.logs());
        assert_eq!(attachments[0].data.as_ref(), b"\x00roster");
        entries.sort_by_key(|entry| entry.arrival);
        assert_eq!(entries, store.arrivals(0, 100, usize::MAX).unwrap());
        assert_eq!(verify_store(&store, &mut |_| Ok(())).unwrap(), report);
    }

    #[test]
    fn every_lost_or_repeated_line_shows() {
        let whole = bundle(&store());
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        for at in 2..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(at);
            assert!(!judged(&fewer.concat()).is_sound(), "without line {}", at + 1);
            let mut twice = lines.clone();
            twice.insert(at, lines[at]);
            assert!(!judged(&twice.concat()).is_sound(), "line {} twice", at + 1);
        }
        let cut = judged(&whole[..whole.len() - 10]);
        assert!(cut.faults.iter().any(|fault| fault.reason.contains("cut off")), "{cut:?}");
    }

    #[test]
    fn changed_header_chain_or_signature_shows_with_its_place() {
        let store = store();
        let whole = String::from_utf8(bundle(&store)).unwrap();
        let third = store.get(&log("fsd/node-1", Lane::Urgent), 3, 3).unwrap().unwrap();
        let quoted = |name: &str, value: String| format!("\"{name}\":\"{value}\"");
        let changes = [
            ("header", STANDARD.encode(&third.header), STANDARD.encode(b"other")),
            ("previous", third.previous.to_string(), Hash::of(b"x").to_string()),
        ];
        for (name, from, to) in changes {
            let (from, to) = (quoted(name, from), quoted(name, to));
            assert!(whole.contains(&from));
            let report = judged(whole.replace(&from, &to).as_bytes());
            assert!(report.faults.iter().any(|fault| fault.place == "fsd/node-1:urgent 3/3"), "{report:?}");
        }
        let refuse = &mut |item: Item<'_>| match item {
            Item::Entry(entry) if entry.arrival == 8 => Err("bad signature".to_owned()),
            _ => Ok(()),
        };
        let report = verify(&mut whole.as_bytes(), refuse).unwrap();
        assert_eq!(report.faults, [Fault { place: "edb/node-1:routine 5/1".into(), reason: "bad signature".into() }]);
    }

    #[test]
    fn other_files_are_no_bundle() {
        for text in ["", "{}\n", "hello", "{\"bundle\":\"campanile-log\",\"format\":2}\n"] {
            assert!(matches!(verify(&mut text.as_bytes(), &mut |_| Ok(())), Err(BundleError::NotABundle)), "{text}");
        }
        let store = store();
        store.with_batch(|_| Ok(())).unwrap();
        assert_eq!(export(&store, &[], &[], &mut Vec::new()).unwrap(), 0);
    }
}
