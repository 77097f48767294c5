//! `trace`: from any alert up to what led to it, and from there down to everything that came of it.
//!
//! The tree is walked with `Get` at one node: what that node does not hold is shown as such, by its name. An alert with
//! several causes stands under each of them, but its own effects are shown once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use campanile_alert::{AlertId, Timestamp};
use campanile_client::{AlertDetail, Client, Code, Delivery, Position, WantedAlert, wanted};
use serde::Serialize;

use crate::alert::{Wanted, delivery_line, short, state, wanted_id};
use crate::connect::Connect;
use crate::failure::{Answer, Verdict};
use crate::out::Out;

/// The most alerts that are walked; a cascade is at most four rules deep, but may be broad.
const ALERTS_MAX: usize = 2_000;
/// The deepest level that is shown, beyond any cascade.
const DEPTH_MAX: usize = 16;

/// What `trace` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `sender,identifier,sent`, or the identifier alone
    #[arg(value_parser = wanted_id)]
    alert: Wanted,
    #[command(flatten)]
    connect: Connect,
}

/// An alert in the tree.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: AlertId,
    /// It is the one that was asked for.
    asked: bool,
    /// What the node holds of it; absent when it holds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    /// Its effects stand elsewhere in the tree.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    seen_above: bool,
    effects: Vec<Node>,
}

/// What the node holds of an alert.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    department: String,
    event: Option<String>,
    message_type: String,
    state: &'static str,
    headline: String,
    position: Position,
    /// When its author sealed it.
    time: Timestamp,
    /// When it came to the disk of the node that was asked.
    received: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_counted: Option<String>,
    traceparent: String,
    deliveries: Vec<Delivery>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    asked: AlertId,
    /// The alerts that everything began with.
    roots: Vec<Node>,
    /// There was more than is walked.
    cut: bool,
}

/// Prints the tree.
///
/// # Errors
/// When the node does not know the alert or cannot be asked.
pub async fn run(args: Args, out: Out) -> Answer {
    let client = args.connect.client().await?;
    let walk = Walk::over(&client, &args.alert.0).await?;
    let mut shown = BTreeSet::new();
    let roots = walk.roots().iter().map(|id| walk.node(id, &mut shown, 0)).collect();
    let report = Report { asked: walk.asked.clone(), roots, cut: walk.cut };
    out.show(&report, |report| {
        let begin = report.roots.iter().filter_map(|root| Some(root.held.as_ref()?.time)).min();
        let mut lines = Vec::new();
        report.roots.iter().for_each(|root| draw(root, "", "", begin, &mut lines));
        lines
    })?;
    if report.cut {
        out.note(format!("more than {ALERTS_MAX} alerts belong to it; trace one of its effects for the rest"));
    }
    Ok(Verdict::Passed)
}

/// Everything that hangs together with one alert.
struct Walk {
    asked: AlertId,
    known: BTreeMap<AlertId, Option<AlertDetail>>,
    cut: bool,
}

impl Walk {
    async fn over(client: &Client, asked: &WantedAlert) -> anyhow::Result<Self> {
        let first = client.get(asked).await?;
        let id = first.alert.alert.id();
        let mut walk = Self { asked: id.clone(), known: BTreeMap::new(), cut: false };
        let mut waiting: VecDeque<AlertId> = neighbours(&first).collect();
        walk.known.insert(id, Some(first));
        while let Some(next) = waiting.pop_front() {
            if walk.known.contains_key(&next) {
                continue;
            }
            if walk.known.len() == ALERTS_MAX {
                walk.cut = true;
                break;
            }
            let detail = match client.get(&wanted(&next)).await {
                Ok(detail) => Some(detail),
                // A cause may stand at another node only, or not be for these eyes.
                Err(error) if matches!(error.code, Code::NotFound | Code::PermissionDenied) => None,
                Err(error) => return Err(error.into()),
            };
            waiting.extend(detail.iter().flat_map(neighbours));
            walk.known.insert(next, detail);
        }
        Ok(walk)
    }

    fn roots(&self) -> Vec<AlertId> {
        let is_root = |detail: &Option<AlertDetail>| detail.as_ref().is_none_or(|d| d.alert.causes.is_empty());
        let mut roots: Vec<_> = self.known.iter().filter(|(_, detail)| is_root(detail)).collect();
        roots.sort_by_key(|(_, detail)| detail.as_ref().map(|d| d.alert.time));
        let roots: Vec<AlertId> = roots.into_iter().map(|(id, _)| id.clone()).collect();
        // Records that name each other as causes have no beginning; then it begins where it was asked.
        if roots.is_empty() { vec![self.asked.clone()] } else { roots }
    }

    fn node(&self, id: &AlertId, shown: &mut BTreeSet<AlertId>, depth: usize) -> Node {
        let detail = self.known.get(id).and_then(Option::as_ref);
        let seen_above = !shown.insert(id.clone());
        let mut effects: Vec<&AlertId> = Vec::new();
        if !seen_above && depth < DEPTH_MAX {
            let names = |d: &AlertDetail| d.alert.causes.iter().any(|cause| &cause.id == id);
            effects = self.known.iter().filter(|(_, d)| d.as_ref().is_some_and(names)).map(|(id, _)| id).collect();
            effects.sort_by_key(|id| self.known.get(id).and_then(Option::as_ref).map(|d| d.alert.time));
        }
        Node {
            id: id.clone(),
            asked: *id == self.asked,
            held: detail.map(Held::of),
            seen_above,
            effects: effects.into_iter().map(|id| self.node(id, shown, depth + 1)).collect(),
        }
    }
}

fn neighbours(detail: &AlertDetail) -> impl Iterator<Item = AlertId> + '_ {
    let causes = detail.alert.causes.iter().map(|cause| cause.id.clone());
    causes.chain(detail.effects.iter().map(|effect| effect.alert.id()))
}

impl Held {
    fn of(detail: &AlertDetail) -> Self {
        let record = &detail.alert;
        let info = record.alert.infos.first();
        let headline = info.map(|info| info.headline.clone().unwrap_or_else(|| info.event.clone()));
        Self {
            department: record.department.clone(),
            event: record.classification.event.clone(),
            message_type: record.alert.msg_type.to_string(),
            state: state(record),
            headline: headline.unwrap_or_default(),
            position: record.position.clone(),
            time: record.time,
            received: record.received,
            rule: record.rule.as_ref().map(|rule| format!("{} of {}", rule.id, rule.pack)),
            not_counted: record.not_counted.clone(),
            traceparent: record.traceparent.clone(),
            deliveries: detail.deliveries.clone(),
        }
    }
}

/// Draws a node and everything under it; `lead` stands before its first line, `rest` before the others.
fn draw(node: &Node, lead: &str, rest: &str, begin: Option<Timestamp>, lines: &mut Vec<String>) {
    let asked = if node.asked { "  <- asked for" } else { "" };
    let Some(held) = &node.held else {
        lines.push(format!("{lead}{}  not held at this node{asked}", node.id));
        node.effects.iter().for_each(|effect| draw(effect, &format!("{rest}└─ "), &format!("{rest}   "), begin, lines));
        return;
    };
    let event = held.event.as_deref().unwrap_or("unclassified");
    lines.push(format!(
        "{lead}{} {event} {} ({}) {}{asked}",
        held.department, held.message_type, held.state, held.headline
    ));
    let bar = if node.effects.is_empty() { "   " } else { "│  " };
    let mut say = |text: String| lines.push(format!("{rest}{bar}{text}"));
    say(node.id.to_string());
    let after =
        begin.map(|begin| format!(" (+{} ms)", held.time.duration_since(begin).as_millis())).unwrap_or_default();
    say(format!("sealed {}{after}, here {} at {}", short(held.time), short(held.received), held.position));
    held.rule.iter().for_each(|rule| say(format!("by rule {rule}")));
    held.not_counted.iter().for_each(|reason| say(format!("NOT COUNTED: {reason}")));
    held.deliveries.iter().for_each(|delivery| say(delivery_line(delivery)));
    if node.seen_above {
        say("its effects stand above".into());
    }
    for (at, effect) in node.effects.iter().enumerate() {
        let last = at + 1 == node.effects.len();
        let (corner, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        draw(effect, &format!("{rest}{corner}"), &format!("{rest}{below}"), begin, lines);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn id(name: &str) -> AlertId {
        AlertId::new("s", name, "2026-01-01T00:00:00+00:00")
    }

    #[test]
    fn what_is_not_held_is_named_and_what_follows_is_drawn() {
        let leaf = Node { id: id("effect"), asked: true, held: None, seen_above: false, effects: vec![] };
        let root = Node { id: id("cause"), asked: false, held: None, seen_above: false, effects: vec![leaf] };
        let mut lines = Vec::new();
        draw(&root, "", "", None, &mut lines);
        assert_eq!(lines[0], "s,cause,2026-01-01T00:00:00+00:00  not held at this node");
        assert_eq!(lines[1], "└─ s,effect,2026-01-01T00:00:00+00:00  not held at this node  <- asked for");
    }
}
