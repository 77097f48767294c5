//! A record of the virtual bus as bytes: header and body in JSON, chained by the hash of the header as on the real one.
//!
//! Signatures are left out: nobody in one process forges. What rests on them (rights, forks) is shown elsewhere, by the
//! tests of the bus.

use bytes::Bytes;
use campanile_alert::{
    Alert, AlertId, Area, Classification, DepartmentId, ExerciseId, OriginId, Status, Timestamp, World,
};
use campanile_log::{Entry, Hash, LogId, Sealed, Slot};
use campanile_rules::{Answer, Approval, EffectKey, Envelope, Input, InputKind};
use serde::{Deserialize, Serialize};

/// What stands in the header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) log: LogId,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) previous: Hash,
    pub(super) time: Timestamp,
    pub(super) status: Status,
    pub(super) exercise: Option<ExerciseId>,
    pub(super) body: Hash,
}

/// What stands in the body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Body {
    pub(super) depth: u32,
    pub(super) rules: Vec<String>,
    pub(super) effect: Option<EffectKey>,
    pub(super) kinds: Vec<String>,
    pub(super) causes: Vec<AlertId>,
    pub(super) inject: Option<String>,
    pub(super) author: Option<String>,
    pub(super) content: Content,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Content {
    /// An alert, with what it is about.
    Alert(Box<Alert>, Classification),
    /// A moment that the rules wait for, with who was heard just before.
    Tick { at: Timestamp, heard: Vec<DepartmentId> },
    /// A person's answer.
    Approval { pending: String, shown: Hash, person: String, role: String, approve: bool },
    /// A rule's envelope, signed.
    Envelope(Envelope),
    /// A gateway has told the public of these areas.
    Notice(Vec<Area>),
}

/// A record to be written.
#[derive(Debug, Clone)]
pub(super) struct Unsealed {
    pub(super) world: World,
    pub(super) body: Body,
}

/// A record, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rec {
    pub(super) header: Header,
    pub(super) hash: Hash,
    pub(super) body: Body,
}

impl Body {
    /// What a node or person says by itself, with no rule behind it.
    pub(super) fn plain(content: Content) -> Self {
        Self {
            depth: 0,
            rules: Vec::new(),
            effect: None,
            kinds: Vec::new(),
            causes: Vec::new(),
            inject: None,
            author: None,
            content,
        }
    }
}

impl Unsealed {
    /// The world's own, but a draft stays one.
    fn status(&self) -> Status {
        match &self.body.content {
            Content::Alert(alert, _) if alert.status == Status::Draft => Status::Draft,
            _ => self.world.status(),
        }
    }

    /// The header of the record at its place, and its bytes.
    pub(super) fn seal(&self, log: &LogId, slot: &Slot, time: Timestamp) -> (Header, Sealed) {
        // The types hold only text, numbers and lists of them, which JSON can always write.
        let body = Bytes::from(serde_json::to_vec(&self.body).unwrap_or_default());
        let header = Header {
            log: log.clone(),
            epoch: slot.epoch,
            seq: slot.seq,
            previous: slot.previous,
            time,
            status: self.status(),
            exercise: self.world.exercise().cloned(),
            body: Hash::of(&body),
        };
        let bytes = Bytes::from(serde_json::to_vec(&header).unwrap_or_default());
        (header, Sealed { header: bytes, body, signatures: Bytes::new() })
    }
}

impl Rec {
    /// Reads a stored record; `None` when the bytes are none, or the body is not the one that the header names.
    pub(super) fn read(entry: &Entry) -> Option<Self> {
        let header: Header = serde_json::from_slice(&entry.header).ok()?;
        let bytes = entry.body.as_ref()?;
        let body = serde_json::from_slice(bytes).ok()?;
        (Hash::of(bytes) == header.body).then_some(Self { header, hash: entry.position.hash, body })
    }

    /// The department that published it.
    pub(super) fn department(&self) -> Option<DepartmentId> {
        self.origin().map(|origin| origin.department().clone())
    }

    pub(super) fn origin(&self) -> Option<OriginId> {
        self.header.log.origin.parse().ok()
    }

    pub(super) fn world(&self) -> Option<World> {
        World::of(self.header.status, self.header.exercise.as_ref()).ok()
    }

    pub(super) fn alert(&self) -> Option<&Alert> {
        match &self.body.content {
            Content::Alert(alert, _) => Some(alert),
            _ => None,
        }
    }

    /// What the engine is given of it: for a tick, who was heard comes just before it.
    pub(super) fn inputs(&self, received: Timestamp, previous: Option<Timestamp>) -> Vec<Input<'_>> {
        let (Some(origin), Some(world)) = (self.origin(), self.world()) else { return Vec::new() };
        let kind = match &self.body.content {
            Content::Alert(alert, classification) => InputKind::Alert { alert, classification },
            Content::Tick { at, .. } => InputKind::Tick { at: *at },
            Content::Approval { pending, shown, person, role, approve } => InputKind::Approval(Approval {
                pending: pending.clone(),
                shown: shown.0,
                person: person.clone(),
                roles: vec![role.clone()],
                answer: if *approve { Answer::Approve } else { Answer::Reject },
            }),
            Content::Envelope(envelope) => InputKind::Envelope(envelope.clone()),
            Content::Notice(areas) => InputKind::Notice { areas: areas.clone() },
        };
        let input = Input {
            hash: self.hash.0,
            department: origin.department().clone(),
            origin,
            world,
            status: self.header.status,
            time: self.header.time,
            received,
            previous_time: previous,
            depth: self.body.depth,
            rules: self.body.rules.clone(),
            author: self.body.author.clone(),
            kind,
        };
        let mut inputs = Vec::new();
        if let Content::Tick { at, heard } = &self.body.content {
            let before = at.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap_or(*at);
            inputs.extend(heard.iter().map(|department| Input {
                department: department.clone(),
                time: before,
                received: before,
                kind: InputKind::Heard,
                ..input.clone()
            }));
        }
        inputs.push(input);
        inputs
    }
}
