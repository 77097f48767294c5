//! What packs would have done: past alerts played through them, and two versions held against each other.
//!
//! The history is JSON lines in the shape of the Observatory's warning summary, one change of a warning a line:
//!
//! ```text
//! {"statement":"WRAIN","code":"WRAINR","actionCode":"ISSUE","issueTime":"2025-08-14T06:35:00+08:00"}
//! {"statement":"WRAIN","code":"WRAINB","actionCode":"UPDATE","issueTime":"2025-08-14T07:50:00+08:00"}
//! {"statement":"WRAIN","actionCode":"CANCEL","issueTime":"2025-08-14T11:15:00+08:00"}
//! ```
//! Other departments' alerts give `from`, `event`, `level` and `point` instead of a code. Everybody who is asked is taken
//! to agree at once, since what persons would have said is not known; it is the rules that are compared.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{DepartmentId, MessageType, Timestamp};
use serde::{Deserialize, Serialize};

use crate::trial::{PlayedAlert, Stage};
use crate::{DataSets, Engine, Options, Pack};

/// The most changes of one history.
pub const CHANGES_MAX: usize = 1_000_000;

/// One change of a warning.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// What is changed: only one warning of a statement is up at once.
    pub statement: String,
    /// The signal; absent for a cancellation and for other events.
    #[serde(default)]
    pub code: Option<String>,
    /// ISSUE, REISSUE, UPDATE, EXTEND or CANCEL.
    pub action_code: String,
    /// When.
    pub issue_time: Timestamp,
    /// The issuer; the Observatory when absent.
    #[serde(default)]
    pub from: Option<String>,
    /// The event; a weather signal when absent.
    #[serde(default)]
    pub event: Option<String>,
    /// The level on the event's scale.
    #[serde(default)]
    pub level: Option<u32>,
    /// Latitude and longitude in degrees; all of Hong Kong when absent.
    #[serde(default)]
    pub point: Option<[f64; 2]>,
}

/// A message that the packs would have sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// When.
    pub at: Timestamp,
    /// The rule.
    pub rule: String,
    /// What it issued.
    pub effect: String,
    /// For which target.
    pub target: String,
    /// Alert, Update or Cancel.
    pub message: String,
    /// The kinds that it concerned.
    pub kinds: Vec<String>,
}

/// What a backtest came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backtest {
    /// How many changes were played.
    pub changes: usize,
    /// The messages, in order.
    pub sent: Vec<Sent>,
}

/// What differs between two backtests of one history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Messages that only the second sends.
    pub added: Vec<Sent>,
    /// Messages that only the first sends.
    pub removed: Vec<Sent>,
}

/// Reads a history in JSON lines.
///
/// # Errors
/// A sentence with the line when one cannot be read, when the times run backward, or when there are too many.
pub fn parse(text: &str) -> Result<Vec<Change>, String> {
    let mut changes: Vec<Change> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    {
        let change: Change = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1))?;
        if changes.last().is_some_and(|last| last.issue_time > change.issue_time) {
            return Err(format!("line {}: it is earlier than the line before it", index + 1));
        }
        if changes.len() >= CHANGES_MAX {
            return Err(format!("a history has at most {CHANGES_MAX} changes"));
        }
        changes.push(change);
    }
    Ok(changes)
}

/// Plays a history through packs of any departments, from its first change to three days after its last.
///
/// # Errors
/// A sentence when the packs cannot be active together, or a change names what the vocabulary does not have.
pub fn backtest(
    packs: &[Pack],
    data: &BTreeMap<DepartmentId, DataSets>,
    changes: &[Change],
) -> Result<Backtest, String> {
    let mut owners: BTreeMap<DepartmentId, Vec<Pack>> = BTreeMap::new();
    for pack in packs {
        owners.entry(pack.owner.clone()).or_default().push(pack.clone());
    }
    let mut engines = BTreeMap::new();
    for (own, packs) in owners {
        let options = Options { sender: format!("{own}@campanile.test") };
        let sets = data.get(&own).cloned().unwrap_or_default();
        let engine = Engine::new(own.clone(), packs, sets, options).map_err(|error| error.to_string())?;
        engines.insert(own, engine);
    }
    let Some(first) = changes.first() else { return Ok(Backtest { changes: 0, sent: Vec::new() }) };
    let mut stage = Stage::new(engines, first.issue_time);
    stage.everybody_agrees();
    let mut up: BTreeSet<&str> = BTreeSet::new();
    for (index, change) in changes.iter().enumerate() {
        let told = |error: String| format!("change {} ({}): {error}", index + 1, change.issue_time);
        stage.pass_to(change.issue_time).map_err(told)?;
        let standing = up.contains(change.statement.as_str());
        match change.action_code.as_str() {
            "CANCEL" if standing => {
                up.remove(change.statement.as_str());
                stage.forget(&change.statement).map_err(told)?;
            }
            // A cancellation of what is not up, as at the beginning of a history.
            "CANCEL" => {}
            "ISSUE" | "REISSUE" | "UPDATE" | "EXTEND" => {
                up.insert(&change.statement);
                let alert = PlayedAlert {
                    name: &change.statement,
                    from: change.from.as_deref().unwrap_or("hko"),
                    event: change.event.as_deref().unwrap_or("weather-signal"),
                    signal: change.code.as_deref().filter(|_| change.event.is_none()),
                    level: change.level,
                    point: change.point,
                };
                stage.say(&alert, standing).map_err(told)?;
            }
            other => return Err(told(format!("{other} is no action; write ISSUE, UPDATE or CANCEL"))),
        }
    }
    let end = changes.last().map_or(first.issue_time, |last| last.issue_time);
    stage.pass_to(end + jiff::SignedDuration::from_hours(72))?;
    let sent = stage.sent.iter().map(|effect| Sent {
        at: effect.alert.sent.instant(),
        rule: effect.key.rule.clone(),
        effect: effect.key.effect.clone(),
        target: effect.key.target.clone(),
        message: effect.alert.msg_type.as_cap().to_string(),
        kinds: effect.kinds.iter().cloned().collect(),
    });
    Ok(Backtest { changes: changes.len(), sent: sent.collect() })
}

/// What the second sends that the first does not, and the other way round.
pub fn difference(first: &Backtest, second: &Backtest) -> Difference {
    let (a, b): (BTreeSet<&Sent>, BTreeSet<&Sent>) = (first.sent.iter().collect(), second.sent.iter().collect());
    Difference {
        added: b.difference(&a).map(|sent| (*sent).clone()).collect(),
        removed: a.difference(&b).map(|sent| (*sent).clone()).collect(),
    }
}

impl Sent {
    /// The line for people.
    pub fn line(&self) -> String {
        let at = crate::calendar::wall(self.at).strftime("%Y-%m-%d %H:%M");
        let kinds = if self.kinds.is_empty() { String::new() } else { format!(" [{}]", self.kinds.join(", ")) };
        let place = if self.target.is_empty() { String::new() } else { format!(" {}", self.target) };
        format!("{at}  {:<6}  {}{place}{kinds}  ({})", self.message, self.effect, self.rule)
    }

    /// Whether it begins an effect.
    pub fn begins(&self) -> bool {
        self.message == MessageType::Alert.as_cap()
    }
}
