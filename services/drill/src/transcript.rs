//! What was seen in a run: one line of JSON for each event, in order, the same from the virtual and the live world.
//!
//! The first line is the [`Header`]. A record is written whole where it is seen first (`record`), by name where it is
//! seen again (`seen`). Times are offsets of the drill's own clock; in a virtual run the same scenario, packs and seed
//! give the same bytes, and [`Transcript::digest`] proves it.

use std::collections::BTreeMap;

use campanile_alert::{DepartmentId, MessageType, Severity, Status, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::Offset;

/// The most events of one run; a run that has more is ended with [`What::Full`].
pub const EVENTS_MAX: usize = 1_000_000;

/// The first line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Header {
    /// The drill's name.
    pub drill: String,
    /// [`crate::Scenario::digest`] in hexadecimal.
    pub scenario: String,
    /// The digests of the packs that were evaluated, by name, in hexadecimal.
    pub packs: BTreeMap<String, String>,
    /// The seed of the run.
    pub seed: u64,
    /// How it was played.
    pub run: Run,
    /// The instant of T+0 on the drill's clock.
    pub start: Timestamp,
    /// The variant that was played; absent for the drill itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// How a drill was played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// In one process, in virtual time.
    Virtual,
    /// Against running nodes.
    Live,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// Its number, from 1, without gaps; evidence names it.
    pub seq: u64,
    /// Milliseconds since T+0 on the drill's clock; never less than the event before.
    #[serde(with = "ms")]
    pub at: Offset,
    /// The node where it was seen; absent for what concerns the whole drill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<DepartmentId>,
    /// What it is.
    #[serde(flatten)]
    pub what: What,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum What {
    /// An inject was done. An alert that it published comes as a record of its own.
    Inject {
        /// Its id.
        id: String,
    },
    /// An inject was left out.
    Skipped {
        /// Its id.
        id: String,
        /// Why, in one sentence.
        why: String,
    },
    /// A node refused to publish; what it would have published is not there.
    Refused {
        /// The inject, when it was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inject: Option<String>,
        /// Why, in one sentence.
        why: String,
    },
    /// A record was seen at the node for the first time anywhere.
    Record(Box<Record>),
    /// A record that was seen before reached another node.
    Seen {
        /// [`Record::id`].
        id: String,
    },
    /// Persons are asked.
    Asked(Box<Asked>),
    /// A person answered a question.
    Answered {
        /// [`Asked::pending`].
        pending: String,
        /// The role.
        person: String,
        /// What it was: approve or reject.
        answer: Answered,
    },
    /// Nobody answered in time: others are asked as well.
    Escalated {
        /// [`Asked::pending`].
        pending: String,
        /// The roles that may answer now.
        to: Vec<String>,
    },
    /// A question no longer waits: it was allowed, refused or taken back.
    Closed {
        /// [`Asked::pending`].
        pending: String,
    },
    /// An effect in force waits for a person to end or keep it.
    Review {
        /// The effect.
        effect: EffectName,
    },
    /// It no longer waits.
    Reviewed {
        /// The effect.
        effect: EffectName,
    },
    /// The node has not heard a department for too long, and tells these roles.
    Stale {
        /// The department.
        from: DepartmentId,
        /// Who is told.
        shown_to: Vec<String>,
    },
    /// It is heard again.
    Heard {
        /// The department.
        from: DepartmentId,
    },
    /// A person was told something.
    Told {
        /// The role.
        person: String,
        /// The inject.
        inject: String,
    },
    /// A person said that something was seen.
    Acked {
        /// The role.
        person: String,
        /// What it was about.
        about: Subject,
    },
    /// A gateway took a message over for a channel.
    Notice(Box<Notice>),
    /// A fault of the scenario began.
    FaultBegan {
        /// Its index in `faults`, from 1.
        fault: u32,
        /// What it is, in words.
        what: String,
    },
    /// It ended.
    FaultEnded {
        /// Its index in `faults`, from 1.
        fault: u32,
    },
    /// The node ended as a crash does.
    Down,
    /// The node is there again, with what its log held.
    Up,
    /// The drill's clock stands still.
    Paused {
        /// Who said so, or why.
        by: String,
    },
    /// It goes on.
    Resumed {
        /// Who said so.
        by: String,
    },
    /// Something real came: the drill has stopped itself.
    Frozen {
        /// The real message, [`Record::id`].
        record: String,
        /// What is said on every console.
        why: String,
    },
    /// The drill was called off; everything of the exercise is cancelled.
    Aborted {
        /// Who said so.
        by: String,
    },
    /// An observer has judged an expectation.
    Judged {
        /// The expectation's name.
        expectation: String,
        /// The observer.
        by: String,
        /// The mark, on the expectation's scale.
        mark: u32,
        /// What the observer wrote.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        remark: String,
    },
    /// What the node holds of the exercise, for comparison: SHA-256 over its records' logs, positions and hashes.
    Digest {
        /// How many records.
        records: u64,
        /// In hexadecimal.
        digest: String,
    },
    /// The run ended.
    Ended,
    /// There was more than a transcript holds; the run was ended here.
    Full,
}

/// A record of the bus, as far as a drill is judged by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The message: `sender,identifier,sent`.
    pub id: String,
    /// Where it stands: `edb/node-1:exercise:EPOCH:SEQ`.
    pub position: String,
    /// The department that published it.
    pub from: String,
    /// CAP `msgType`; absent for a record that is no alert.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub msg_type: Option<MessageType>,
    /// The status in its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The exercise in its header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exercise: Option<String>,
    /// The vocabulary's event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The inject that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<String>,
    /// The rule that issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The key of its target; empty for a rule without targets, absent for what no rule issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The kinds that it concerns, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Its signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Its level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
    /// The worst severity of its infos; absent when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Its headlines, in the order of its infos.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headlines: Vec<String>,
    /// When it ends by itself, milliseconds since T+0; absent: not before somebody ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// Whether it says that the danger is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_clear: bool,
    /// The messages that it refers to: what it updates or cancels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// The messages that are its causes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// How many rules lie behind it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub depth: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A question to persons.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asked {
    /// What names it: the engine's id of it.
    pub pending: String,
    /// The rule.
    pub rule: String,
    /// The event that would be issued.
    pub effect: String,
    /// The keys of its targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// The roles that may answer.
    pub to: Vec<String>,
    /// How many must agree.
    pub need: u32,
    /// When silence has its consequence, milliseconds since T+0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    /// The effect in force that stands against it, when that is why persons are asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// Why persons are asked, in English.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What a person answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answered {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

/// An effect: what, by which rule, for which target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EffectName {
    /// The rule.
    pub rule: String,
    /// The event.
    pub effect: String,
    /// The key of its target; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
}

/// What a person acknowledges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A message of the controllers.
    Inject(String),
    /// What a rule asked.
    Rule(String),
    /// That a department is not heard.
    Stale(DepartmentId),
}

/// One message at one channel of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// [`Record::id`].
    pub record: String,
    /// The channel's name.
    pub channel: String,
    /// Whether what it was handed to is a sink: nobody outside the drill sees it.
    pub sink: bool,
    /// The status in the record's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Whether every text of it carries the marks of the drill.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
    /// Its headlines, as they were handed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headlines: Vec<String>,
}

/// A run as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// What was played.
    pub header: Header,
    /// What was seen, in order.
    pub events: Vec<Event>,
}

/// Why a transcript could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line that is none of a transcript.
    #[error("line {line} is not a line of a transcript: {why}; give a file that `campanile drill run` wrote")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What the reader says.
        why: String,
    },
    /// Nothing at all.
    #[error("the transcript is empty; give a file that `campanile drill run` wrote")]
    Empty,
    /// More than [`EVENTS_MAX`] lines.
    #[error("the transcript has more than {EVENTS_MAX} events")]
    TooLong,
}

impl Transcript {
    /// An empty transcript.
    pub fn new(header: Header) -> Self {
        Self { header, events: Vec::new() }
    }

    /// Adds what was seen and returns it with its number. The time is never set back; beyond [`EVENTS_MAX`] events one
    /// [`What::Full`] is added and nothing after it, and the answer is `None`.
    pub fn add(&mut self, at: Offset, node: Option<DepartmentId>, what: What) -> Option<&Event> {
        let last = self.events.last().map_or(Offset::START, |event| event.at);
        let seq = self.events.len() as u64 + 1;
        let (node, what) = match self.events.len() {
            ..EVENTS_MAX => (node, what),
            EVENTS_MAX => (None, What::Full),
            _ => return None,
        };
        self.events.push(Event { seq, at: at.max(last), node, what });
        self.events.last()
    }

    /// JSON lines: the header, then the events.
    pub fn bytes(&self) -> Vec<u8> {
        // The types hold only text, numbers and lists of them, which JSON can always write.
        let mut bytes = serde_json::to_vec(&self.header).unwrap_or_default();
        bytes.push(b'\n');
        for event in &self.events {
            bytes.extend(event.line());
        }
        bytes
    }

    /// SHA-256 of [`Transcript::bytes`].
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.bytes()).into()
    }

    /// Reads what [`Transcript::bytes`] wrote.
    ///
    /// # Errors
    /// [`Error`] when it is empty, too long, or a line is not one of a transcript.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |line: usize, error: serde_json::Error| Error::Line { line, why: error.to_string() };
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, first) = lines.next().ok_or(Error::Empty)?;
        let header = serde_json::from_str(first).map_err(|error| wrong(1, error))?;
        let mut events = Vec::new();
        for (index, line) in lines {
            if events.len() > EVENTS_MAX {
                return Err(Error::TooLong);
            }
            events.push(serde_json::from_str(line).map_err(|error| wrong(index + 1, error))?);
        }
        Ok(Self { header, events })
    }
}

impl Event {
    /// The event as a line of JSON, its end included.
    pub fn line(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// Offsets as milliseconds.
mod ms {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Offset;

    pub(super) fn serialize<S: Serializer>(at: &Offset, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.ms())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Offset, D::Error> {
        Ok(Offset::from_ms(i64::deserialize(from)?))
    }
}
