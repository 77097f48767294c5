//! The judgement of a record that a peer sends: may it be appended, and does it count.
//!
//! *Append* needs a readable header in the right log, and a signature. Records whose signature is good under a key that
//! the roster gives to the origin are appended whoever serves them. A record that its origin itself serves, over its
//! own authenticated connection, is appended even when its signature is bad or its key unknown, and does not count: a
//! department can spoil its own records, not stop its own log (R4). From a relay such a record is refused, because the
//! relay may have made it up, and a made-up record would keep the true one out (L3).
//!
//! *Count* then asks for the key's range, the right to originate and the schema; see [`crate::count`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use campanile_alert::{DepartmentId, Vocabulary};
use campanile_discovery::keys::Signature;
use campanile_discovery::roster::{Lane as KeyLane, Roster, RosterHandle};
use campanile_log::{Evidence, Hash, Lane, LogId, Replica, Standing};
use campanile_proto::bus::v1 as wire;

use crate::count;
use crate::pipeline::{Checked, alert_key, content_hash};
use crate::record::{self, Content, Header, PAYLOAD_TYPE};

/// Who gives a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its origin, over its own authenticated connection.
    Origin,
    /// Another holder.
    Relay,
    /// A peer that gives us back a record of our own.
    Returned,
}

/// What to do with a record.
#[derive(Debug)]
pub enum Verdict {
    /// Append it; whether it counts stands in it.
    Append(Box<Checked>),
    /// Fetch this roster first, then judge again.
    NeedsRoster(u64),
    /// Do not append it, and do not trust this holder for the log for a while.
    Refuse(String),
}

/// What the judgement rests on.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The federation's name; a record of another one is refused.
    pub federation: String,
    /// Our own department: whose records' bodies we may read.
    pub reader: DepartmentId,
    /// The rosters accepted here.
    pub roster: RosterHandle,
    /// The vocabulary.
    pub vocabulary: &'static Vocabulary,
}

impl Verifier {
    /// Judges a record of `log` by the roster that it names, which must be had first.
    pub fn judge(&self, log: &LogId, record: &wire::Record, source: Source) -> Verdict {
        self.judged(log, record, source, true)
    }

    /// Judges a record that names a roster which is not to be had. Above the newest held here it chains and does not
    /// count, for nobody knows what is in it. An earlier one is lost, to this node at least: the newest takes its place,
    /// so that what a department said is not void because a disk was lost.
    pub fn judge_without_roster(&self, log: &LogId, record: &wire::Record, source: Source) -> Verdict {
        self.judged(log, record, source, false)
    }

    fn judged(&self, log: &LogId, record: &wire::Record, source: Source, needs_roster: bool) -> Verdict {
        let header = match record::open_header(&record.header) {
            Ok(header) => header,
            Err(error) => return Verdict::Refuse(error.to_string()),
        };
        if header.log != *log {
            return Verdict::Refuse(format!("the record belongs to {}", header.log));
        }
        let current = self.roster.current();
        let unknown = header.roster > current.number;
        if unknown && needs_roster {
            return Verdict::NeedsRoster(header.roster);
        }
        let by_origin = source == Source::Origin;
        let signed = match self.signed(&current, &header, record) {
            Ok(Signed::Good) if unknown => {
                Signed::Uncounted(format!("it names roster {}, which who served it does not have", header.roster))
            }
            Ok(Signed::Good) if header.federation != self.federation => {
                Signed::Uncounted(format!("the record is of federation {}", header.federation))
            }
            Ok(signed) => signed,
            Err(reason) if by_origin => Signed::Uncounted(reason),
            Err(reason) => return Verdict::Refuse(reason),
        };
        let named = if unknown { None } else { self.roster.at(header.roster) };
        // Nobody is asked for what nothing shows that the origin signed.
        if named.is_none() && needs_roster && matches!(signed, Signed::Good) {
            return Verdict::NeedsRoster(header.roster);
        }
        // What was for ourselves alone comes back as a header: nobody else ever had the body, and without the header no
        // later record would follow what peers hold.
        let bare = source == Source::Returned && record.body.is_none();
        if !by_origin
            && !bare
            && let Some(reason) = self.wanting(&current, &header, record)
        {
            return Verdict::Refuse(reason.into());
        }
        Verdict::Append(Box::new(self.checked(named.as_ref().unwrap_or(&current), header, record, signed)))
    }

    /// What a relay left out or spoiled. Taken from it, the record would never count here, though its origin or another
    /// holder has it whole; so that holder is asked.
    fn wanting(&self, roster: &Roster, header: &Header, record: &wire::Record) -> Option<&'static str> {
        let author = header.origin.department();
        let readable =
            header.audience.admits(self.reader.as_str(), author.as_str()) || roster.may_read(&self.reader, author);
        match &record.body {
            None if readable && header.fault.is_none() => Some("the holder lacks a body that we may read"),
            Some(body) if Hash::of(body) != header.body_hash => Some("the holder has another body than was signed"),
            _ => None,
        }
    }

    /// Opens a record that its origin has signed with a key that is good at its position: proof that it made it.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn proves(&self, log: &LogId, record: &wire::Record) -> Result<Header, String> {
        let header = record::open_header(&record.header).map_err(|error| error.to_string())?;
        if header.log != *log || header.federation != self.federation {
            return Err(format!("the record belongs to {} of {}", header.log, header.federation));
        }
        match self.signed(&self.roster.current(), &header, record)? {
            Signed::Good => Ok(header),
            Signed::Uncounted(reason) => Err(reason),
        }
    }

    /// Checks the signature with the keys of the origin; an error means that nothing shows the origin made it.
    fn signed(&self, roster: &Roster, header: &Header, record: &wire::Record) -> Result<Signed, String> {
        let signatures = record::signatures_from_wire(&record.signatures).map_err(|error| error.to_string())?;
        let by_key = |s: &&Signature| s.key_id.to_string() == header.key_id;
        let signature = signatures.iter().find(by_key).ok_or("no signature is by the key that the header names")?;
        let key = roster
            .origin(&header.origin)
            .and_then(|origin| origin.keys.iter().find(|key| key.id == signature.key_id))
            .ok_or_else(|| format!("the roster lists no key {} for {}", header.key_id, header.origin))?;
        key.public
            .verify(PAYLOAD_TYPE, &record.header, signature)
            .map_err(|_| format!("the signature by key {} does not verify", header.key_id))?;
        let lane = key_lane(header.log.lane);
        Ok(match roster.key(&header.origin, signature.key_id, lane, header.epoch, header.seq) {
            Ok(_) => Signed::Good,
            Err(refusal) => Signed::Uncounted(refusal.to_string()),
        })
    }

    fn checked(&self, roster: &Roster, header: Header, record: &wire::Record, signed: Signed) -> Checked {
        let size = record.header.len() + record.body.as_ref().map_or(0, Bytes::len);
        let (body, unreadable) = match &record.body {
            None if header.fault.is_none() => (None, None),
            None => (None, header.fault.map(record::Error::Field)),
            Some(_) if size > record::RECORD_BYTES_MAX => (None, Some(record::Error::TooLarge(size))),
            Some(bytes) => match record::open_body(&header, bytes) {
                Ok(body) => (Some(body), None),
                Err(error) => (None, Some(error)),
            },
        };
        // Bytes that are not the signed ones are no body at all; another holder may have the true ones. Too many bytes
        // are not kept either: the header alone holds the place in the chain.
        let bytes = match &unreadable {
            Some(record::Error::BodyHash | record::Error::TooLarge(_)) => None,
            _ => record.body.clone(),
        };
        let standing = match (signed, &body, &unreadable) {
            (Signed::Uncounted(reason), _, _) => Standing::NotCounted { reason },
            (Signed::Good, _, Some(error)) => Standing::NotCounted { reason: error.to_string() },
            (Signed::Good, None, None) => Standing::NoBody,
            (Signed::Good, Some(body), None) => match count::record(roster, &header, body, self.vocabulary) {
                Ok(()) => Standing::Counted,
                Err(reason) => Standing::NotCounted { reason: reason.to_string() },
            },
        };
        let idempotency = match body.as_ref().map(|body| &body.content) {
            Some(Content::Alert { alert, original, .. }) if standing == Standing::Counted => {
                let exercise = header.world.exercise();
                let content = content_hash(alert, original.as_deref(), exercise);
                Some((alert_key(header.origin.department(), &alert.id()), content))
            }
            _ => None,
        };
        Checked {
            replica: Replica {
                log: header.log.clone(),
                epoch: header.epoch,
                seq: header.seq,
                previous: header.previous,
                link: header.link,
                header: record.header.clone(),
                body: bytes,
                signatures: record::signatures_as_stored(&record.signatures),
                standing,
                idempotency,
            },
            header: Arc::new(header),
            body: body.map(Arc::new),
        }
    }
}

enum Signed {
    Good,
    Uncounted(String),
}

/// The first place of each log from which on it has forked, as far as that is not settled.
///
/// A fork is settled when the roster has ended the key that signed both records: what the key signed after its end does
/// not count, and what another key signs is not in doubt.
pub fn open_forks(evidence: &[Evidence], roster: &Roster) -> BTreeMap<LogId, (u64, u64)> {
    let mut forks = BTreeMap::new();
    for other in evidence {
        let settled = record::open_header(&other.header).ok().and_then(|header| {
            let keys = &roster.origin(&header.origin)?.keys;
            keys.iter().find(|key| key.id.to_string() == header.key_id).map(|key| !key.until.is_empty())
        });
        if settled != Some(true) {
            let place = other.position.place();
            let first = forks.entry(other.log.clone()).or_insert(place);
            *first = (*first).min(place);
        }
    }
    forks
}

/// A lane, in the words of the roster's keys.
pub fn key_lane(lane: Lane) -> KeyLane {
    match lane {
        Lane::Urgent => KeyLane::Urgent,
        Lane::Routine => KeyLane::Routine,
        Lane::Exercise => KeyLane::Exercise,
    }
}
