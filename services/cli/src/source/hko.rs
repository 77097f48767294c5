//! The Hong Kong Observatory's warnings as alerts: the state machine.
//!
//! [`Hko::poll`] is pure: it takes a [`Snapshot`] of the open data and the time, and gives the messages to publish.
//!
//! ```text
//!            new                    CANCEL
//!   (none) ───────► standing ─────────────────────► cancelled ──► forgotten when it has left the source
//!            Alert   │  ▲ Update on every change,     │  Cancel
//!                    │  │ and each half-life          │ issued again: Alert
//!    leaves the list │  │ comes back                  ▼
//!                    ▼  │                           standing
//!                  missing ──► its last message expires unrenewed, then it is forgotten
//! ```
//!
//! - **Silence is not an all-clear.** A warning that leaves the list without CANCEL is *missing*: it is not cancelled and
//!   no longer renewed. A source that does not answer, answers nonsense, or answers with an old snapshot is *stale*:
//!   nothing is published and nothing ended.
//! - **Half-life.** A warning without an end of its own lives for a window (3 hours) from `sent`, and while it stands it
//!   is renewed with an Update when half of that has passed, so one lost renewal changes nothing. A warning that the
//!   source gives an `expireTime` needs no renewal before it and gets none after it: EXTEND is the source's to say.
//! - **Time goes one way.** Servers of the source answer with older copies now and then. An entry older than what is
//!   known is left alone.
//! - **The same facts give the same message.** `sent` is the source's own time, or a whole number of half-lives after
//!   it; the identifier is a digest. Publishing again is idempotent.
//! - **Text is copied.** No forecast is read from it, and a language without text does not cost the warning.

mod compose;
mod fetch;
mod read;
mod signals;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use campanile_alert::vocabulary::{self, Vocabulary};
use campanile_alert::{Alert, AlertId, ExerciseId, MessageType, Severity, Status, Timestamp};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

pub use compose::{EVENT, HKO_CODE, HKO_RENEWAL, HKO_STATEMENT};
pub use fetch::{Fetch, FetchError, HkoSource};
pub use read::{Detail, Error as ReadError, Language, Reading, Snapshot, SummaryEntry, WARNINGS_MAX};

use super::Health;
use compose::Message;

/// The most earlier messages that one message refers to, and so the most that are remembered of one warning. A window
/// of 3 hours with a change a minute stays below it; beyond it the oldest, long superseded, are left out.
const CHAIN_MAX: usize = 256;
/// How long a missing warning is remembered after its last message expired, and a cancelled one after it left the list.
const REMEMBER: SignedDuration = SignedDuration::from_hours(48);

/// How the Observatory's warnings become alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// CAP `sender` of the alerts.
    pub sender: String,
    /// CAP `status`; Actual unless a drill plays the source.
    pub status: Status,
    /// The exercise, when the status is Exercise; it stands in `note`.
    pub exercise: Option<ExerciseId>,
    /// How long a warning without an end of its own lives from `sent`; it is renewed at half of it. From 2 minutes up
    /// to the ceiling of the event, 48 hours; a value outside is brought inside.
    pub window: SignedDuration,
    /// How old a snapshot may be before the source counts as stale.
    pub stale_after: SignedDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sender: "hko@campanile.example".into(),
            status: Status::Actual,
            exercise: None,
            window: SignedDuration::from_hours(3),
            stale_after: SignedDuration::from_mins(10),
        }
    }
}

/// What the source says of one warning in one language.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Text {
    /// Name and kind as the source writes them; may be empty.
    title: String,
    /// The paragraphs; may be empty.
    lines: Vec<String>,
    /// When the paragraphs were written, as far as known.
    updated: Option<Timestamp>,
}

/// Where a warning stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The source lists it.
    Standing,
    /// It left the list without CANCEL at that time.
    Missing(Timestamp),
    /// The source cancelled it; the time is when it was last listed as cancelled.
    Cancelled(Timestamp),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sent {
    id: AlertId,
    at: Timestamp,
    /// Absent for a Cancel.
    expires: Option<Timestamp>,
}

/// What is known of one warning. The source keeps one for each statement code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warning {
    code: String,
    action: String,
    issued: Timestamp,
    updated: Timestamp,
    expires: Option<Timestamp>,
    texts: BTreeMap<Language, Text>,
    standing: Standing,
    renewal: u32,
    /// The messages published, oldest first: those that have not expired, and always the last.
    chain: Vec<Sent>,
    /// Whether the facts changed since the last message.
    changed: bool,
}

/// What an entry says, over all languages.
struct Entry {
    code: String,
    action: String,
    issued: Option<Timestamp>,
    updated: Option<Timestamp>,
    expires: Option<Timestamp>,
    texts: BTreeMap<Language, Text>,
}

impl Entry {
    fn is_cancel(&self) -> bool {
        // Either field says it, and servers have been seen to use either.
        self.action == "CANCEL" || self.code == "CANCEL"
    }
}

/// One warning, for a status page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WarningStatus {
    /// The statement code, for example `WTCSGNL`.
    pub statement: String,
    /// The code, for example `TC8NE`.
    pub code: String,
    /// Where it stands.
    pub standing: Standing,
    /// When its last message expires; absent after a Cancel or before the first message.
    pub expires: Option<Timestamp>,
}

/// The state machine. It serialises whole, so a restart neither repeats nor loses anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hko {
    warnings: BTreeMap<String, Warning>,
    #[serde(default)]
    health: Health,
}

impl Hko {
    /// Takes a snapshot and gives the messages to publish, the gravest first.
    ///
    /// A snapshot without a readable list of warnings in any language, older than `stale_after`, or taken in the future
    /// by as much, makes the source stale and gives nothing.
    pub fn poll(&mut self, config: &Config, snapshot: &Snapshot, now: Timestamp) -> Vec<Alert> {
        for fault in &snapshot.faults {
            warn!(source = "hko", %fault, "Part of the source could not be read");
        }
        if let Some(reason) = stale_reason(config, snapshot, now) {
            self.failed(&reason, now);
            return Vec::new();
        }
        self.health.fresh("hko", snapshot.taken);
        let entries = entries(snapshot);
        for (statement, entry) in &entries {
            self.observe(statement, entry, now);
        }
        self.mark_missing(&entries, snapshot, now);
        let vocabulary = vocabulary::v1();
        let mut alerts: Vec<Alert> = self
            .warnings
            .iter_mut()
            // Nothing is said of a warning that this snapshot does not list: that would be renewing on silence.
            .filter(|(statement, _)| entries.contains_key(*statement))
            .filter_map(|(statement, warning)| warning.next_message(statement, config, vocabulary, now))
            .collect();
        alerts.sort_by_key(|alert| alert.severity().unwrap_or(Severity::Unknown));
        self.warnings.retain(|_, warning| !warning.forgotten(now));
        alerts
    }

    /// Notes that the source could not be read. Nothing ends by it: alerts live until they expire.
    pub fn failed(&mut self, reason: &str, now: Timestamp) {
        self.health.stale("hko", reason, now);
    }

    /// Takes back a message that the bus refused for good, so that the next poll makes it anew.
    pub fn refused(&mut self, id: &AlertId) {
        for warning in self.warnings.values_mut() {
            if let Some(at) = warning.chain.iter().position(|sent| sent.id == *id) {
                warning.chain.remove(at);
                warning.changed = true;
            }
        }
    }

    /// Whether the source answers.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The warnings known, by statement code.
    pub fn warnings(&self) -> Vec<WarningStatus> {
        let status = |(statement, warning): (&String, &Warning)| WarningStatus {
            statement: statement.clone(),
            code: warning.code.clone(),
            standing: warning.standing,
            expires: warning.chain.last().and_then(|sent| sent.expires),
        };
        self.warnings.iter().map(status).collect()
    }

    fn observe(&mut self, statement: &str, entry: &Entry, now: Timestamp) {
        match self.warnings.get_mut(statement) {
            Some(warning) => warning.observe(statement, entry, now),
            // Cancelled before we ever saw it: there is nothing of ours to cancel.
            None if entry.is_cancel() => {}
            None => {
                self.warnings.insert(statement.into(), Warning::new(entry, now));
            }
        }
    }

    fn mark_missing(&mut self, entries: &BTreeMap<String, Entry>, snapshot: &Snapshot, now: Timestamp) {
        for (statement, warning) in &mut self.warnings {
            // Some warnings stand only among the texts, so without texts it cannot be said that one has gone.
            if warning.standing != Standing::Standing || entries.contains_key(statement) || !snapshot.has_details() {
                continue;
            }
            warning.standing = Standing::Missing(now);
            let expires = warning.chain.last().and_then(|sent| sent.expires).map(|at| at.to_string());
            warn!(
                source = "hko",
                %statement,
                code = %warning.code,
                expires,
                "Warning left the source without CANCEL; it is kept until it expires, and not renewed"
            );
        }
    }
}

fn stale_reason(config: &Config, snapshot: &Snapshot, now: Timestamp) -> Option<String> {
    let age = now.duration_since(snapshot.taken);
    if !snapshot.has_summary() {
        let why = snapshot.faults.first().map_or("no file or answer came", String::as_str);
        Some(format!("no list of warnings could be read: {why}"))
    } else if age > config.stale_after {
        Some(format!("the newest snapshot is {} minutes old; check what writes it", age.as_secs() / 60))
    } else if -age > config.stale_after {
        Some("the snapshot is from the future; check the clocks".into())
    } else {
        None
    }
}

/// Joins what the languages say. Facts come from the entry with the latest time; a language that is behind and shows
/// another code gives no text.
fn entries(snapshot: &Snapshot) -> BTreeMap<String, Entry> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let summaries = || {
        snapshot.languages.iter().flat_map(|(language, reading)| {
            reading.summary.iter().flatten().map(move |(statement, entry)| (*language, statement, entry))
        })
    };
    let details = || {
        snapshot
            .languages
            .iter()
            .flat_map(|(language, reading)| reading.details.iter().flatten().map(move |detail| (*language, detail)))
    };
    let listed: std::collections::BTreeSet<&String> = summaries().map(|(_, statement, _)| statement).collect();
    let mut take = |statement: &String, entry: Entry| match entries.get(statement) {
        Some(known) if known.updated >= entry.updated => {}
        _ => {
            entries.insert(statement.clone(), entry);
        }
    };
    for (_, statement, entry) in summaries() {
        let SummaryEntry { code, action, issued, updated, expires, .. } = entry.clone();
        take(statement, Entry { code, action, issued, updated: updated.or(issued), expires, texts: BTreeMap::new() });
    }
    // WTCPRE8 never stands in the summary; whatever else stands only among the texts is taken as seriously.
    for (_, detail) in details().filter(|(_, detail)| !listed.contains(&detail.statement)) {
        let code = if detail.subtype.is_empty() { detail.statement.clone() } else { detail.subtype.clone() };
        let updated = detail.updated;
        let entry = Entry { code, action: String::new(), issued: None, updated, expires: None, texts: BTreeMap::new() };
        take(&detail.statement, entry);
    }
    for (language, statement, entry) in summaries() {
        if let Some(joined) = entries.get_mut(statement).filter(|joined| joined.code == entry.code) {
            let parts = [&entry.name, &entry.kind].map(String::as_str);
            let title = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
            joined.texts.entry(language).or_default().title = title;
        }
    }
    for (language, detail) in details() {
        let fits = |joined: &&mut Entry| detail.subtype.is_empty() || joined.code == detail.subtype;
        if let Some(joined) = entries.get_mut(&detail.statement).filter(fits) {
            let text = joined.texts.entry(language).or_default();
            text.lines.extend(detail.lines.iter().cloned());
            text.updated = text.updated.max(detail.updated);
        }
    }
    entries
}

impl Warning {
    fn new(entry: &Entry, now: Timestamp) -> Self {
        let updated = entry.updated.unwrap_or(now);
        Self {
            code: entry.code.clone(),
            action: entry.action.clone(),
            issued: entry.issued.unwrap_or(updated),
            updated,
            expires: entry.expires,
            texts: entry.texts.clone(),
            standing: Standing::Standing,
            renewal: 0,
            chain: Vec::new(),
            changed: true,
        }
    }

    fn observe(&mut self, statement: &str, entry: &Entry, now: Timestamp) {
        let updated = entry.updated.unwrap_or(self.updated);
        if updated < self.updated {
            return;
        }
        if let Standing::Cancelled(_) = self.standing {
            // The same cancel, or what was listed before it: only something later raises the warning again.
            if entry.is_cancel() {
                self.standing = Standing::Cancelled(now);
            } else if updated > self.updated {
                *self = Self::new(entry, now);
            }
            return;
        }
        if entry.is_cancel() {
            self.cancel(entry, updated, now);
            return;
        }
        if let Standing::Missing(_) = self.standing {
            info!(source = "hko", %statement, "Warning is listed again");
            self.standing = Standing::Standing;
        }
        if entry.code != self.code {
            // The text of No. 1 must not stand under No. 3.
            self.texts.clear();
        }
        if entry.code != self.code || updated > self.updated || entry.expires != self.expires {
            self.code.clone_from(&entry.code);
            self.action.clone_from(&entry.action);
            self.issued = entry.issued.unwrap_or(self.issued);
            self.expires = entry.expires;
            self.updated = updated;
            self.changed = true;
        }
        self.take_texts(entry);
    }

    fn cancel(&mut self, entry: &Entry, updated: Timestamp, now: Timestamp) {
        self.action = "CANCEL".into();
        self.updated = updated;
        self.standing = Standing::Cancelled(now);
        self.changed = true;
        // What stands in the texts is what was true before; only words written with the cancel go with it.
        for (language, text) in &mut self.texts {
            let spoken = entry.texts.get(language).filter(|text| text.updated.is_some_and(|at| at >= updated));
            text.lines = spoken.map(|text| text.lines.clone()).unwrap_or_default();
        }
    }

    /// Takes a text that is newer than the known one, or the first in its language. Another text under the same time is
    /// not taken: two servers of the source that differ would otherwise make an Update at every poll.
    fn take_texts(&mut self, entry: &Entry) {
        for (language, text) in &entry.texts {
            let known = self.texts.entry(*language).or_default();
            if known.title.is_empty() && !text.title.is_empty() {
                known.title.clone_from(&text.title);
            }
            let newer = text.updated > known.updated || known.lines.is_empty();
            if !text.lines.is_empty() && newer && text.lines != known.lines {
                known.lines.clone_from(&text.lines);
                known.updated = text.updated;
                self.changed = true;
            }
        }
    }

    fn forgotten(&self, now: Timestamp) -> bool {
        match self.standing {
            Standing::Standing => false,
            Standing::Cancelled(listed) => now.duration_since(listed) > REMEMBER,
            Standing::Missing(since) => {
                let end = self.chain.last().and_then(|sent| sent.expires).map_or(since, |at| at.max(since));
                now.duration_since(end) > REMEMBER
            }
        }
    }

    fn next_message(
        &mut self,
        statement: &str,
        config: &Config,
        vocabulary: &Vocabulary,
        now: Timestamp,
    ) -> Option<Alert> {
        match self.standing {
            Standing::Missing(_) => None,
            Standing::Cancelled(_) => self.cancel_message(statement, config, vocabulary, now),
            Standing::Standing => self.standing_message(statement, config, vocabulary, now),
        }
    }

    fn cancel_message(
        &mut self,
        statement: &str,
        config: &Config,
        words: &Vocabulary,
        now: Timestamp,
    ) -> Option<Alert> {
        if !std::mem::take(&mut self.changed) || self.chain.is_empty() {
            return None;
        }
        let sent = self.sent_for_news(now);
        self.issue(statement, config, words, (MessageType::Cancel, sent, None, 0), now)
    }

    fn standing_message(
        &mut self,
        statement: &str,
        config: &Config,
        words: &Vocabulary,
        now: Timestamp,
    ) -> Option<Alert> {
        let event = words.signal(&self.code).map(|_| EVENT);
        let ceiling = words.expires_max(event);
        let window = config.window.clamp(SignedDuration::from_mins(2), ceiling);
        // An end of the source's own beyond the ceiling is approached by renewals as long as the ceiling.
        let life = if self.expires.is_some() { ceiling } else { window };
        let half = SignedDuration::from_secs(life.as_secs() / 2);
        // `None`: the end comes from the life and moves with each renewal.
        let own_end = |sent: Timestamp| self.expires.filter(|end| end.duration_since(sent) <= ceiling);
        let end = |sent: Timestamp| own_end(sent).unwrap_or_else(|| after(sent, life));
        let last = self.chain.last().map(|sent| sent.at);
        let (sent, renewal) = match last {
            Some(last) if !self.changed => {
                if own_end(last).is_some() || now.duration_since(last) < half {
                    return None;
                }
                (slot(last, half, now), self.renewal.saturating_add(1))
            }
            _ => {
                let sent = self.sent_for_news(now);
                // First seen long after it was issued: half-lives are counted from the source's time all the same.
                let old = own_end(sent).is_none() && now.duration_since(sent) >= half;
                (if old { slot(sent, half, now) } else { sent }, 0)
            }
        };
        self.changed = false;
        let expires = end(sent);
        if expires <= now {
            // The source's own end has passed and it has not said EXTEND.
            warn!(source = "hko", %statement, code = %self.code, "Warning is listed beyond its own expireTime");
            return None;
        }
        let kind = if last.is_some() { MessageType::Update } else { MessageType::Alert };
        self.renewal = renewal;
        self.issue(statement, config, words, (kind, sent, Some(expires), renewal), now)
    }

    /// The source's own time, when it is later than the last message and not in the future; otherwise now.
    fn sent_for_news(&self, now: Timestamp) -> Timestamp {
        let texts = self.texts.values().filter_map(|text| text.updated).max();
        let time = texts.map_or(self.updated, |at| at.max(self.updated));
        let follows = self.chain.last().is_none_or(|last| time > last.at);
        if follows && time <= now { whole_seconds(time) } else { whole_seconds(now) }
    }

    fn issue(
        &mut self,
        statement: &str,
        config: &Config,
        vocabulary: &Vocabulary,
        (kind, sent, expires, renewal): (MessageType, Timestamp, Option<Timestamp>, u32),
        now: Timestamp,
    ) -> Option<Alert> {
        let last = self.chain.len().saturating_sub(1);
        let mut at = 0;
        // All that have not expired are referred to, and the last in any case, so that the chain never tears.
        self.chain.retain(|sent| {
            at += 1;
            at - 1 == last || sent.expires.is_some_and(|end| end > now)
        });
        let over = self.chain.len().saturating_sub(CHAIN_MAX);
        self.chain.drain(..over);
        let references = self.chain.iter().map(|sent| sent.id.clone()).collect();
        let alert =
            Message { statement, warning: self, kind, sent, expires, references, renewal }.alert(config, vocabulary);
        self.chain.push(Sent { id: alert.id(), at: sent, expires });
        info!(source = "hko", alert_id = %alert.id(), code = %self.code, kind = %kind, renewal, "Warning became an alert");
        Some(alert)
    }
}

fn after(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The last whole number of half-lives after `from` that is not after `now`.
fn slot(from: Timestamp, half: SignedDuration, now: Timestamp) -> Timestamp {
    let seconds = half.as_secs().max(1);
    let count = now.duration_since(from).as_secs() / seconds;
    whole_seconds(after(from, SignedDuration::from_secs(count.saturating_mul(seconds))))
}
