//! A pack: the rules of one department, parsed, checked and resolved.
//!
//! [`Pack::parse`] is the only door. It reads YAML strictly (see `document`), checks it against the vocabulary (see
//! `check`) and gives either a pack whose every name is known and every parameter is filled in, or the complete list
//! of [`crate::Diagnostic`]s. The engine therefore never meets an unknown word.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Certainty, DepartmentId, MessageType, Polygon, ResponseType, Severity, Timestamp, Urgency};

use crate::calendar::Schedule;
use crate::condition::Condition;
use crate::table::Table;
use crate::{Manifest, ManifestCause, ManifestRule, RowSpec, Sentence};

/// The most rules in one pack.
pub(crate) const RULES_MAX: usize = 1_000;

/// The rules of one department that are activated together.
#[derive(Debug, Clone, PartialEq)]
pub struct Pack {
    /// The pack's name, for example `edb-fire`.
    pub name: String,
    /// The department that owns it and issues its effects.
    pub owner: DepartmentId,
    /// SHA-256 of the canonical JSON of the document: keys sorted, no white space, comments and layout left out.
    pub digest: [u8; 32],
    /// The data sets it reads, by name.
    pub data: BTreeMap<String, DataRef>,
    /// The offset from UTC, in minutes, in which `sent` and the dates of the pack are written; 480 when not given.
    pub utc_offset_minutes: i32,
    /// Its sessions and where its free days stand.
    pub schedule: Schedule,
    /// What a table's kinds are called, by kind.
    pub kinds: BTreeMap<String, Sentence>,
    /// The areas that effects without sites are issued for, by name.
    pub areas: BTreeMap<String, NamedArea>,
    /// Its parameters.
    pub params: BTreeMap<String, u32>,
    /// Its rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// Which of its effects give way to which.
    pub suppressions: Vec<Suppression>,
}

/// An area that a pack names.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedArea {
    /// What people call it.
    pub name: Sentence,
    /// Its edge.
    pub polygon: Polygon,
}

/// A weaker effect that gives way while a stronger one of the department is in force for the same target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// The id, as of a rule.
    pub id: String,
    /// What it is called.
    pub title: Sentence,
    /// The texts it rests on.
    pub sources: Vec<Source>,
    /// The event that gives way.
    pub effect: String,
    /// The event it gives way to.
    pub during: String,
    /// The kinds that the stronger one must concern; empty means any.
    pub kinds: BTreeSet<String>,
    /// Whether the stronger one is sent as an Update of the weaker one; otherwise the weaker one ends with a Cancel.
    pub supersede: bool,
}

/// A data set as the pack names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataRef {
    /// The file, relative to the pack; the caller loads it.
    pub file: String,
    /// How a row is read.
    pub rows: RowSpec,
}

/// One trigger, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its id, for example `edb.school-closure.fire`; it begins with the owner and a full stop.
    pub id: String,
    /// What it is called.
    pub title: Sentence,
    /// The texts it rests on; at least one.
    pub sources: Vec<Source>,
    /// The first instant at which it counts; `None` means always.
    pub effective_from: Option<Timestamp>,
    /// The first instant at which it no longer counts.
    pub effective_to: Option<Timestamp>,
    /// What it waits for.
    pub cause: CauseMatch,
    /// How long the conditions must hold, in seconds.
    pub hold_s: i64,
    /// Whose silence it is about; `None` for the most.
    pub absent: Option<Absent>,
    /// The rows that decide what is issued, to whom; `None` for a rule that issues one thing.
    pub table: Option<Table>,
    /// Which targets it concerns; `None` means the area of the cause itself.
    pub pick: Option<Pick>,
    /// What must be so besides, for each target.
    pub only_if: Option<Condition>,
    /// What it issues.
    pub then: Then,
    /// The limits within which it issues at once.
    pub envelope: Option<EnvelopeRule>,
    /// Whom it asks otherwise.
    pub approve: Approve,
    /// Who is asked about an antonym in force where nobody would be asked otherwise.
    pub conflict: Option<Conflict>,
    /// How its effects end.
    pub until: Until,
    /// How often it may issue.
    pub limit: Option<Limit>,
    /// SHA-256 of the canonical JSON of the rule, its texts, the pack's parameters, name and owner: what an envelope
    /// is signed over. Data sets are not in it, so a school that opens closes no envelope.
    pub digest: [u8; 32],
}

/// A published text that a rule rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What it says or is called.
    pub text: String,
    /// Where it is.
    pub url: Option<String>,
    /// The file of a copy beside the pack, and its SHA-256 in hex when the rule was written.
    pub copy: Option<(String, String)>,
}

/// The conditions on a cause; all must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct CauseMatch {
    /// The vocabulary's event, exactly.
    pub event: String,
    /// The trusted issuers.
    pub from: BTreeSet<DepartmentId>,
    /// The certainties that count; `None` means any. `Very Likely` is read as `Likely`.
    pub certainty: Option<BTreeSet<Certainty>>,
    /// The least level on the event's scale; `None` means any.
    pub level_min: Option<u32>,
    /// The urgencies that count; `None` means any.
    pub urgency: Option<BTreeSet<Urgency>>,
    /// The signals that count, groups expanded; `None` means any.
    pub signals: Option<BTreeSet<String>>,
    /// The message types that count: Alert, Update or both.
    pub messages: BTreeSet<MessageType>,
    /// The deepest cause that counts, 0 to 3.
    pub depth_max: u32,
}

/// Which targets a rule concerns.
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// The data set's name.
    pub targets: String,
    /// The greatest distance from the edge of the cause's area, in metres; inside is zero. `None` means anywhere.
    pub within_m: Option<f64>,
    /// Columns that must be equal to something, by column.
    pub columns: BTreeMap<String, ColumnMatch>,
    /// The most targets of one cause; more are put to persons.
    pub at_most: Option<usize>,
}

/// What a column must be equal to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnMatch {
    /// This text.
    Text(String),
    /// One of the sites that the cause names (`cause.site`).
    CauseSite,
}

/// A department whose public notice is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Who should have spoken.
    pub from: BTreeSet<DepartmentId>,
    /// How long they have, from the cause's own time, in seconds.
    pub within_s: i64,
}

/// What a rule issues.
#[derive(Debug, Clone, PartialEq)]
pub struct Then {
    /// The vocabulary's event; empty for a table, whose rows say it.
    pub issue: String,
    /// Whether it is put to officers and is not for the public.
    pub draft: bool,
    /// The roles that a draft is put to, and who is told next after how many seconds.
    pub to: BTreeSet<String>,
    /// Who is told of a draft next, after how many seconds.
    pub next: Option<(i64, BTreeSet<String>)>,
    /// CAP severity.
    pub severity: Severity,
    /// CAP urgency.
    pub urgency: Urgency,
    /// CAP certainty.
    pub certainty: Certainty,
    /// CAP response types.
    pub responses: Vec<ResponseType>,
    /// The pack's area that it is issued for; `None` means the site, or the area of the cause.
    pub area: Option<NamedArea>,
    /// The texts by the event issued, then by language tag in the order in which the infos are written.
    pub texts: BTreeMap<String, Vec<(String, Text)>>,
    /// How long parts of it may be sent and how often.
    pub validity: Validity,
}

/// When a channel may send the message: it looks at the time of sending, not of queueing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validity {
    /// The wall-clock time of day after which it is not sent any more.
    pub not_after: Option<jiff::civil::Time>,
    /// Whether it is sent only while its cause is in force.
    pub while_cause: bool,
    /// How often it is repeated, in seconds.
    pub repeat_s: Option<i64>,
}

/// What people read, in one language. `{target.name}` and the like are filled in when it is issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// CAP headline.
    pub headline: String,
    /// CAP instruction.
    pub instruction: String,
    /// CAP description.
    pub description: Option<String>,
    /// The headline of the Cancel.
    pub retract: String,
    /// What is spoken, by language tag.
    pub speech: BTreeMap<String, String>,
}

/// The limits within which a rule issues at once, if persons have signed for it.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvelopeRule {
    /// The certainties inside; `None` means any.
    pub certainty: Option<BTreeSet<Certainty>>,
    /// The least level inside.
    pub level_min: Option<u32>,
    /// The most targets inside.
    pub sites_max: Option<usize>,
    /// Whether an antonym in force on a target is outside.
    pub conflict_none: bool,
    /// The first instant at which it may be used.
    pub from: Timestamp,
    /// The first instant at which it may no longer be used.
    pub to: Timestamp,
    /// How many different persons must have signed.
    pub need: usize,
    /// The roles that may sign.
    pub by: BTreeSet<String>,
}

/// Whom a rule asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approve {
    /// How many different persons must agree; 0 issues at once.
    pub need: usize,
    /// The roles that may answer.
    pub by: BTreeSet<String>,
    /// Whether those who published the cause may not answer.
    pub apart_from_author: bool,
    /// What silence leads to, and after how long; `None` when nothing does.
    pub silence: Option<Silence>,
    /// Who may answer as well once it has been escalated, and what silence leads to then.
    pub escalation: Option<Escalation>,
}

/// After how long silence has a consequence, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Seconds.
    pub within_s: i64,
    /// The consequence.
    pub then: IfSilent,
}

/// The consequence of silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfSilent {
    /// It goes on waiting, and is marked as unanswered.
    Hold,
    /// The roles of the escalation are asked as well.
    Escalate,
    /// It is issued.
    Issue {
        /// Why that is right.
        because: String,
    },
}

/// Who is asked next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// The roles that may answer from now on, beside those asked before.
    pub notify: BTreeSet<String>,
    /// What silence leads to then; never Escalate.
    pub silence: Option<Silence>,
}

/// Who is asked about an antonym in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The antonym.
    pub with: String,
    /// The role that is asked.
    pub ask: String,
}

/// How effects end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Until {
    /// Seconds that an effect stays after its last cause has ended.
    pub linger_s: i64,
    /// What happens then.
    pub then: AfterLinger,
    /// Whether what was issued for a session stays to its end, once it can no longer be held after all.
    pub latch: bool,
    /// Seconds after which it ends in any case.
    pub max_s: i64,
}

/// What happens when an effect has lingered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterLinger {
    /// The rule issues a Cancel.
    Cancel,
    /// A person decides; until then it stays.
    Review,
}

/// How often a rule may issue; over it, persons are asked. Nothing is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The length of the window, in seconds.
    pub per_s: i64,
    /// The batches (one cause, all its targets) in one window.
    pub batches_max: usize,
}

impl Rule {
    /// The events that it may issue, in order.
    pub fn issues(&self) -> BTreeSet<&str> {
        self.table.as_ref().map_or_else(|| [self.then.issue.as_str()].into(), Table::issues)
    }
}

impl Pack {
    /// The public summary: which causes lead to which effects. It holds no texts and no conditions beyond that.
    pub fn manifest(&self) -> Manifest {
        // A table that issues several things stands once for each of them.
        let rule = |rule: &Rule| -> Vec<ManifestRule> {
            let cause = ManifestCause {
                events: vec![rule.cause.event.clone()],
                from: rule.cause.from.iter().cloned().collect(),
            };
            let one = |effect: &str| ManifestRule {
                id: rule.id.clone(),
                cause: cause.clone(),
                effect: effect.into(),
                depth_max: rule.cause.depth_max + 1,
                conflicts_asked: rule.conflict.iter().map(|conflict| conflict.with.clone()).collect(),
            };
            rule.issues().into_iter().map(one).collect()
        };
        Manifest {
            department: self.owner.clone(),
            pack: self.name.clone(),
            digest: self.digest,
            rules: self.rules.iter().flat_map(rule).collect(),
        }
    }
}
