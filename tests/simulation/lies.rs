//! What a node says that is not so: a relay that spoils the records of others, a sender that repeats, leaves out and
//! changes the order, and an origin that signs two contents for one place.
//!
//! A lie is told on the wire: the node behind it is honest, its disk holds the truth, and what it serves is changed on
//! the way out. So whoever stores a lie is seen by the ledger. Only the branch of a two-faced origin may be stored,
//! because nobody can tell which of two records with a good signature came first; it is known here, byte by byte.
//!
//! ```text
//! disk of the liar      1 ── 2 ── 3 ── 4 ── 5          what most are served
//!                            └─── 3'── 4'── 5'         what its victims are served, signed with the same key
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use campanile_bus::record;
use campanile_discovery::keys::SigningKey;
use campanile_log::{Hash, LogId};
use campanile_proto::bus::v1 as wire;
use parking_lot::Mutex;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// A place in a log: epoch and number.
type Place = (u64, u64);

/// What a relay does to a record.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Spoil {
    Body,
    Header,
    Signature,
    Encoding,
    Withhold,
    LeaveOut,
    Repeat,
    Turn,
}

/// Everything that may be done to the record of another.
const OF_OTHERS: [Spoil; 8] = [
    Spoil::Body,
    Spoil::Header,
    Spoil::Signature,
    Spoil::Encoding,
    Spoil::Withhold,
    Spoil::LeaveOut,
    Spoil::Repeat,
    Spoil::Turn,
];
/// What a sender may do to its own records without making others of them.
const OF_OWN: [Spoil; 3] = [Spoil::LeaveOut, Spoil::Repeat, Spoil::Turn];

/// The lies of a run.
pub(crate) struct Lies {
    tellers: Mutex<BTreeSet<String>>,
    branch: Mutex<Option<Branch>>,
    chance: Mutex<StdRng>,
}

/// The other log of an origin that has two.
struct Branch {
    department: String,
    log: LogId,
    key: SigningKey,
    /// The first place that differs.
    from: Place,
    victims: BTreeSet<String>,
    /// What the victims are served, by place, and the hash of it.
    records: BTreeMap<Place, wire::Record>,
    /// The true hashes that have another in the branch.
    hashes: BTreeMap<Vec<u8>, Hash>,
}

impl Lies {
    pub(crate) fn new(seed: u64) -> Self {
        let chance = Mutex::new(StdRng::seed_from_u64(seed ^ 0x11e5));
        Self { tellers: Mutex::default(), branch: Mutex::default(), chance }
    }

    /// A node begins to spoil what it relays, or becomes honest.
    pub(crate) fn set_teller(&self, department: &str, lies: bool) {
        let mut tellers = self.tellers.lock();
        if lies {
            tellers.insert(department.into())
        } else {
            tellers.remove(department)
        };
    }

    /// An origin has two logs from a place on, for good. The first to do so is the only one.
    pub(crate) fn fork(&self, department: &str, log: LogId, from: Place, key: SigningKey, victims: BTreeSet<String>) {
        let (records, hashes) = (BTreeMap::new(), BTreeMap::new());
        let department = department.to_owned();
        self.branch.lock().get_or_insert(Branch { department, log, key, from, victims, records, hashes });
    }

    /// The log that has two branches.
    pub(crate) fn forked(&self) -> Option<LogId> {
        self.branch.lock().as_ref().map(|branch| branch.log.clone())
    }

    /// Whether a header stands in the branch at that place.
    pub(crate) fn is_branch(&self, log: &LogId, place: Place, header: &Bytes) -> bool {
        let branch = self.branch.lock();
        let of_log = branch.as_ref().filter(|branch| branch.log == *log);
        of_log.and_then(|branch| branch.records.get(&place)).is_some_and(|record| record.header == *header)
    }

    /// How many records of the branch have been served.
    pub(crate) fn served(&self) -> usize {
        self.branch.lock().as_ref().map_or(0, |branch| branch.records.len())
    }
}

/// What one call is answered by a node that may lie.
pub(crate) struct Tongue<'l> {
    lies: &'l Lies,
    speaker: String,
    listener: String,
    /// A record that comes after the next one.
    kept_back: Option<wire::PullResponse>,
}

impl<'l> Tongue<'l> {
    pub(crate) fn new(lies: &'l Lies, speaker: &str, listener: &str) -> Self {
        Self { lies, speaker: speaker.into(), listener: listener.into(), kept_back: None }
    }

    /// Gives the messages of a pull stream as the listener is to have them.
    ///
    /// `data` is whole messages of gRPC, each a mark, a length and its bytes; what is not, passes as it is.
    pub(crate) fn say(&mut self, data: Bytes) -> Bytes {
        let is_liar = self.lies.tellers.lock().contains(&self.speaker);
        let is_two_faced = self.lies.branch.lock().as_ref().is_some_and(|branch| branch.department == self.speaker);
        if !is_liar && !is_two_faced && self.kept_back.is_none() {
            return data;
        }
        let Some(messages) = messages_of(&data) else { return data };
        let mut said = Vec::new();
        for message in messages {
            for message in self.twist(message, is_liar) {
                let bytes = message.encode_to_vec();
                said.push(0);
                said.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
                said.extend_from_slice(&bytes);
            }
        }
        said.into()
    }

    fn twist(&mut self, message: wire::PullResponse, is_liar: bool) -> Vec<wire::PullResponse> {
        let Some(wire::pull_response::Kind::Record(record)) = message.kind else {
            // A record that was kept back comes at the latest before the next word about the tail.
            return self.kept_back.take().into_iter().chain([message]).collect();
        };
        let Ok(header) = record::open_header(&record.header) else { return vec![said(record)] };
        let record = self.other_face(&header, record);
        if !is_liar {
            return self.kept_back.take().into_iter().chain([said(record)]).collect();
        }
        let own = header.origin.department().as_str() == self.speaker;
        let mut chance = self.lies.chance.lock();
        if !chance.random_ratio(1, 2) {
            return [said(record)].into_iter().chain(self.kept_back.take()).collect();
        }
        let kinds: &[Spoil] = if own { &OF_OWN } else { &OF_OTHERS };
        let spoil = kinds[chance.random_range(0..kinds.len())];
        drop(chance);
        match spoil {
            Spoil::LeaveOut => Vec::new(),
            Spoil::Repeat => vec![said(record.clone()), said(record)],
            Spoil::Turn => self.kept_back.replace(said(record)).into_iter().collect(),
            Spoil::Withhold => vec![said(wire::Record { body: None, ..record })],
            Spoil::Body => vec![said(wire::Record { body: record.body.as_ref().map(flipped), ..record })],
            Spoil::Header => vec![said(wire::Record { header: flipped(&record.header), ..record })],
            Spoil::Encoding => vec![said(wire::Record { header: encoded_again(&record.header), ..record })],
            Spoil::Signature => {
                let mut signatures = record.signatures;
                signatures.iter_mut().for_each(|signature| signature.value = flipped(&signature.value));
                vec![said(wire::Record { signatures, ..record })]
            }
        }
    }

    /// The record as a victim of a two-faced origin is served it.
    fn other_face(&self, header: &record::Header, record: wire::Record) -> wire::Record {
        let mut branch = self.lies.branch.lock();
        let Some(branch) = branch.as_mut() else { return record };
        let is_told = branch.department == self.speaker && branch.victims.contains(&self.listener);
        let place = (header.epoch, header.seq);
        if !is_told || header.log != branch.log || place < branch.from {
            return record;
        }
        if let Some(other) = branch.records.get(&place) {
            // Whether it comes with its body depends on who asks.
            return wire::Record { body: record.body.and(other.body.clone()), ..other.clone() };
        }
        let Ok(mut decoded) = wire::RecordHeader::decode(record.header.clone()) else { return record };
        let in_branch = |hash: &Bytes| {
            branch.hashes.get(hash.as_ref()).map_or_else(|| hash.clone(), |hash| Bytes::copy_from_slice(&hash.0))
        };
        decoded.previous_hash = in_branch(&decoded.previous_hash);
        if let Some(link) = &mut decoded.link {
            link.hash = in_branch(&link.hash);
        }
        // Another time is another content.
        if let Some(time) = &mut decoded.time {
            time.nanos = (time.nanos + 1_000_000) % 1_000_000_000;
        }
        let header: Bytes = decoded.encode_to_vec().into();
        let signatures = record::signatures_to_wire(&[branch.key.sign(record::PAYLOAD_TYPE, &header)]);
        branch.hashes.insert(Hash::of(&record.header).0.to_vec(), Hash::of(&header));
        let other = wire::Record { header, signatures, ..record };
        branch.records.insert(place, other.clone());
        other
    }
}

fn said(record: wire::Record) -> wire::PullResponse {
    wire::PullResponse { kind: Some(wire::pull_response::Kind::Record(record)) }
}

/// The bytes with one bit of their middle turned.
fn flipped(bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

/// The same header as somebody writes it whose schema knows a field more: field 1000, a varint of 1.
fn encoded_again(header: &Bytes) -> Bytes {
    [header.as_ref(), &[0xc0, 0x3e, 0x01]].concat().into()
}

fn messages_of(data: &Bytes) -> Option<Vec<wire::PullResponse>> {
    let mut messages = Vec::new();
    let mut rest = data.clone();
    while !rest.is_empty() {
        let head: [u8; 5] = rest.get(..5)?.try_into().ok()?;
        let [0, length @ ..] = head else { return None };
        let end = 5 + usize::try_from(u32::from_be_bytes(length)).ok()?;
        if rest.len() < end {
            return None;
        }
        let message = rest.split_to(end).slice(5..);
        messages.push(wire::PullResponse::decode(message).ok()?);
    }
    Some(messages)
}
