//! Where things stand in the two drawings of the HTML report: the run at a glance, and the cascade. Whole numbers only,
//! so that every machine draws the same.

use serde::Serialize;

use super::write::at as told;
use super::{Cascade, Report, RequestKind};
use crate::verdict::Outcome;

/// The width of the drawing of the run, the place of its labels, and the height of a lane.
const WIDTH: i64 = 1000;
const LABELS: i64 = 200;
const LANE: i64 = 22;
/// The most lanes of questions, and of faults.
const LANES_MAX: usize = 12;
/// The most ticks of the axis.
const TICKS_MAX: i64 = 10;
/// Steps between ticks, in seconds.
const STEPS: [i64; 18] =
    [1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 259_200, 604_800];

/// The run at a glance: time from left to right, a lane for each thing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Chart {
    width: i64,
    height: i64,
    left: i64,
    lanes: Vec<Lane>,
    ticks: Vec<Tick>,
    /// Over the whole height: when a fault lasted.
    bands: Vec<Bar>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Lane {
    label: String,
    kind: &'static str,
    y: i64,
    bars: Vec<Bar>,
    dots: Vec<Dot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Bar {
    x: i64,
    width: i64,
    kind: &'static str,
    title: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Dot {
    x: i64,
    kind: &'static str,
    title: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Tick {
    x: i64,
    label: String,
}

impl Chart {
    pub(super) fn of(report: &Report) -> Self {
        let end = report.end_ms.max(1);
        let x = |at: i64| LABELS + (WIDTH - LABELS - 10) * at.clamp(0, end) / end;
        let bar = |from: i64, to: Option<i64>, kind: &'static str, title: String| {
            let width = (x(to.unwrap_or(end)) - x(from)).max(2);
            Bar { x: x(from), width, kind, title }
        };
        let mut chart = Self { width: WIDTH, left: LABELS, ..Self::default() };
        chart.lane("outcomes", "expected 預期".into(), Vec::new(), outcomes(report, x));
        for node in nodes(report) {
            let own = report.disturbances.iter().filter(|one| one.node.as_ref() == Some(&node) && one.kind != "fault");
            let bars = own.map(|one| bar(one.from_ms, one.to_ms, one.kind, format!("{} {}", one.kind, one.what)));
            let sent = report.timeline.rows.iter().filter(|row| {
                row.node.as_ref() == Some(&node) && matches!(row.kind, "alert" | "update" | "cancel" | "refused")
            });
            let dots = sent.map(|row| Dot {
                x: x(row.at_ms),
                kind: row.kind,
                title: format!("{} {} {}", told(row.at_ms), row.kind, row.what),
            });
            let (bars, dots) = (bars.collect(), dots.collect());
            chart.lane("node", node, bars, dots);
        }
        let asked =
            report.requests.iter().filter(|one| matches!(one.kind, RequestKind::Approval | RequestKind::Review));
        for one in asked.take(LANES_MAX) {
            let replies = one.replies.iter().map(|reply| Dot {
                x: x(reply.at_ms),
                kind: reply.answer,
                title: format!("{} {} {}", told(reply.at_ms), reply.person, reply.answer),
            });
            let bars = vec![bar(one.at_ms, one.closed_ms, "asked", one.about.clone())];
            let label = one.about.split_once("→ ").map_or(one.about.as_str(), |(_, effect)| effect);
            chart.lane("asked", label.to_owned(), bars, replies.collect());
        }
        let faults = || report.disturbances.iter().filter(|one| one.kind == "fault");
        for one in faults().take(LANES_MAX) {
            let bars = vec![bar(one.from_ms, one.to_ms, "fault", one.what.clone())];
            chart.lane("fault", one.what.clone(), bars, Vec::new());
        }
        chart.bands = faults().map(|one| bar(one.from_ms, one.to_ms, "fault", one.what.clone())).collect();
        let step = STEPS.into_iter().find(|step| end / (step * 1000) <= TICKS_MAX).unwrap_or(604_800) * 1000;
        let marks = (0..=end / step).map(|index| index * step);
        chart.ticks = marks.map(|at| Tick { x: x(at), label: told(at) }).collect();
        chart
    }

    fn lane(&mut self, kind: &'static str, label: String, bars: Vec<Bar>, mut dots: Vec<Dot>) {
        // Many messages at one place are one dot for the eye.
        dots.sort();
        dots.dedup_by_key(|dot| (dot.x, dot.kind));
        let y = LANE + self.lanes.len() as i64 * LANE;
        self.height = y + LANE;
        self.lanes.push(Lane { label: shortened(&label, 31), kind, y, bars, dots });
    }
}

/// Each expectation where it was met or due.
fn outcomes(report: &Report, x: impl Fn(i64) -> i64) -> Vec<Dot> {
    let dots = report.expectations.iter().filter_map(|row| {
        let kind = match row.item.outcome {
            Outcome::Met | Outcome::Judged => "met",
            Outcome::Late => "late",
            Outcome::Missed | Outcome::Forbidden => "missed",
            Outcome::ToBeJudged | Outcome::Open => return None,
        };
        let at = if kind == "missed" { row.item.due.or(row.item.at) } else { row.item.at.or(row.item.due) }?;
        Some(Dot { x: x(at), kind, title: format!("{} {}: {}", told(at), row.item.id, row.text.en) })
    });
    dots.collect()
}

/// Everybody who has a row of their own, sorted.
fn nodes(report: &Report) -> Vec<String> {
    let mut nodes: Vec<String> = report.timeline.rows.iter().filter_map(|row| row.node.clone()).collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

/// The cascade as boxes and lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Drawing {
    width: i64,
    height: i64,
    boxes: Vec<Shape>,
    lines: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Shape {
    x: i64,
    y: i64,
    seq: u64,
    title: String,
    by: String,
    when: String,
    kind: &'static str,
}

const BOX: (i64, i64) = (226, 58);
const GAP: (i64, i64) = (54, 14);

impl Drawing {
    pub(super) fn of(cascade: &Cascade) -> Self {
        let at = |group: &super::Group| {
            let place = |index: usize, size: i64, gap: i64| 2 + i64::try_from(index).unwrap_or(0) * (size + gap);
            (place(group.column, BOX.0, GAP.0), place(group.row, BOX.1, GAP.1))
        };
        let boxes = cascade.groups.iter().map(|group| {
            let (x, y) = at(group);
            let many = if group.alerts > 1 { format!(" ×{}", group.alerts) } else { String::new() };
            let when = match group.to_ms == group.from_ms {
                true => told(group.from_ms),
                false => format!("{} – {}", told(group.from_ms), told(group.to_ms)),
            };
            let changes = [("update", group.updates), ("cancel", group.cancels)].into_iter().filter(|(_, n)| *n > 0);
            let changes: String = changes.map(|(word, n)| format!(" · {n} {word}")).collect();
            let by = group.rule.clone().unwrap_or_else(|| group.injects.join(", "));
            Shape {
                x,
                y,
                seq: group.seq,
                title: shortened(&format!("{}{many}", group.what), 32),
                by: shortened(&format!("{} · {by}", group.from), 38),
                when: format!("{when}{changes}"),
                kind: if group.rule.is_some() { "effect" } else { "cause" },
            }
        });
        let boxes: Vec<Shape> = boxes.collect();
        let joined = cascade.groups.iter().flat_map(|to| to.causes.iter().map(move |from| (*from, to)));
        let lines = joined.filter_map(|(from, to)| {
            let (from, to) = (at(cascade.groups.get(from)?), at(to));
            let (x1, y1, x2, y2) = (from.0 + BOX.0, from.1 + BOX.1 / 2, to.0, to.1 + BOX.1 / 2);
            let bend = (x2 - x1).abs() / 2;
            Some(format!("M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}", x1 + bend, x2 - bend))
        });
        let lines = lines.collect();
        let most = |of: fn(&Shape) -> i64| boxes.iter().map(of).max().unwrap_or(0);
        Self { width: most(|one| one.x) + BOX.0 + 2, height: most(|one| one.y) + BOX.1 + 2, boxes, lines }
    }
}

/// The text in at most so many columns; a Chinese character takes two.
fn shortened(text: &str, columns: usize) -> String {
    let wide = |c: char| if c > '\u{2e7f}' { 2 } else { 1 };
    if text.chars().map(wide).sum::<usize>() <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let kept: String = text
        .chars()
        .take_while(|c| {
            used += wide(*c);
            used <= columns
        })
        .collect();
    format!("{kept}…")
}
