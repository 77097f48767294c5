//! What the engine is given: counted records, ticks and the acts of persons, one after another in stored arrival order.
//!
//! An [`Input`] carries everything a decision may rest on, time included, so that the same list of inputs always gives
//! the same bytes. Whoever makes one (the node) has already verified the record and judged the rights of its author;
//! a record that is not counted is never given to the engine.

use campanile_alert::{Alert, Area, DepartmentId, OriginId, Status, Timestamp, World};

use crate::Classification;

/// One step of the engine: a record as it was stored, or a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Input<'a> {
    /// The record's hash: SHA-256 of its header bytes.
    pub hash: [u8; 32],
    /// The author of the log that it stands in.
    pub origin: OriginId,
    /// The department whose right was judged: the publisher of the alert.
    pub department: DepartmentId,
    /// The world of the record.
    pub world: World,
    /// The status in the record's header. Draft, System and Test support nothing.
    pub status: Status,
    /// The time in the record's header.
    pub time: Timestamp,
    /// When it was stored here; kept beside the record, so a replay reads the same value.
    pub received: Timestamp,
    /// The header time of the record before it in the same log; `None` for the first of a log.
    pub previous_time: Option<Timestamp>,
    /// How many rules lie behind it: 0 for what a person or system published.
    pub depth: u32,
    /// The ids of the rules behind it, the first first; empty when `depth` is 0.
    pub rules: Vec<String>,
    /// The person who published it, by roster id; `None` when a system did or it is not known. Needed for
    /// `apart-from: [author]`.
    pub author: Option<String>,
    /// What happened.
    pub kind: InputKind<'a>,
}

/// What an input is about.
#[derive(Debug, Clone, PartialEq)]
pub enum InputKind<'a> {
    /// An alert of any department, our own effects included.
    Alert {
        /// The message.
        alert: &'a Alert,
        /// What the record says it is about.
        classification: &'a Classification,
    },
    /// A timer that was due, written down. [`crate::Engine::due`] says when one is wanted.
    Tick {
        /// The instant that has come.
        at: Timestamp,
    },
    /// A person's answer to a [`crate::Pending`].
    Approval(Approval),
    /// From now on the rule takes up nothing new; what it has in force stays. In the real world it pauses the rule in
    /// exercises as well.
    Pause {
        /// The rule's id.
        rule: String,
        /// Why, in the officer's words; shown, never interpreted.
        reason: String,
        /// When it ends by itself; `None` means until it is resumed.
        until: Option<Timestamp>,
        /// The person, by roster id.
        by: String,
    },
    /// The rule is evaluated again, beginning with the causes that are in force now.
    Resume {
        /// The rule's id.
        rule: String,
        /// The person, by roster id.
        by: String,
    },
    /// The department of the input has told the public: a channel took its message over. Rules that wait for its
    /// silence look at it.
    Notice {
        /// Where the public was told.
        areas: Vec<Area>,
    },
    /// The department of the input is heard: its log has been followed up to the input's time.
    Heard,
    /// A signed envelope: persons allow a rule, by its digest, to issue at once within its own limits.
    Envelope(Envelope),
}

/// What a person answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Issue what was shown.
    Approve,
    /// Do not; one is enough.
    Reject,
}

/// A person's answer, with the hash of what the person saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// [`crate::Pending::id`].
    pub pending: String,
    /// [`crate::Pending::shown`] as the person's screen had it; another one does not count.
    pub shown: [u8; 32],
    /// The person, by roster id.
    pub person: String,
    /// The roles that the roster gives this person, for example `edb.duty-officer`.
    pub roles: Vec<String>,
    /// What the person decided.
    pub answer: Answer,
}

/// Someone who signed an envelope.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Signer {
    /// The person, by roster id; the same one twice counts once.
    pub person: String,
    /// The roles that the roster gives this person.
    pub roles: Vec<String>,
}

/// The record that opens a rule's envelope. A later one for the same rule takes its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Envelope {
    /// The rule's id.
    pub rule: String,
    /// [`crate::Rule::digest`] as it was signed; any change of the rule, its texts or parameters closes the envelope.
    #[serde(with = "crate::hexed")]
    pub digest: [u8; 32],
    /// Who signed.
    pub signers: Vec<Signer>,
    /// The first instant at which it holds.
    pub from: Timestamp,
    /// The first instant at which it no longer holds.
    pub to: Timestamp,
}
