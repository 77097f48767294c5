//! Writes a report in its four forms. The templates lie beside this file; whatever stands in a value is escaped.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{DateTime, Timestamp};
use jiff::SignedDuration;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::chart::{Chart, Drawing};
use super::{Error, Report, Row};
use crate::scenario::ReportForm;
use crate::time::{Length, Offset};
use crate::verdict::Outcome;

/// The form of a report.
pub type Form = ReportForm;

/// What a template works with.
#[derive(Serialize)]
struct Page<'a> {
    r: &'a Report,
    chart: Option<Chart>,
    drawing: Option<Drawing>,
    nodes: Vec<String>,
    minutes: Vec<Minute<'a>>,
    met: usize,
    short: [Outcome; 4],
}

/// The rows of one minute.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Minute<'a> {
    at_ms: i64,
    classes: String,
    rows: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    classes: String,
    row: &'a Row,
}

impl ReportForm {
    /// The name of its file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Html => "report.html",
            Self::Md => "report.md",
            Self::Junit => "junit.xml",
            Self::Json => "report.json",
        }
    }
}

impl Report {
    /// The report in a form. The same report gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Template`] when a template of this program does not fit the report, which no test has seen.
    pub fn write(&self, form: Form) -> Result<String, Error> {
        let fault = |error: minijinja::Error| Error::Template(format!("{error:#}"));
        let template = match form {
            Form::Json => {
                let text = serde_json::to_string_pretty(self).map_err(|error| Error::Template(error.to_string()))?;
                return Ok(text + "\n");
            }
            Form::Html => include_str!("report.html"),
            Form::Md => include_str!("report.md"),
            Form::Junit => include_str!("junit.xml"),
        };
        let mut environment = self.environment(form);
        environment.add_template(form.file(), template).map_err(fault)?;
        let drawn = (form == Form::Html).then(|| (Chart::of(self), Drawing::of(&self.cascade)));
        let (chart, drawing) = drawn.unzip();
        let (nodes, minutes) = self.minutes();
        let met = self.expectations.iter().filter(|row| row.item.outcome == Outcome::Met).count();
        // What counts as a failure in every form.
        let short = [Outcome::Late, Outcome::Missed, Outcome::Forbidden, Outcome::Open];
        environment.add_global("style", Value::from_safe_string(include_str!("report.css").to_owned()));
        let page = environment.get_template(form.file()).map_err(fault)?;
        page.render(Serde(Page { r: self, chart, drawing, nodes, minutes, met, short })).map_err(fault)
    }

    /// The departments that the timeline concerns, and its rows by minute, each with the classes that show it: `all`, or
    /// `c1`, `c2`… by department.
    fn minutes(&self) -> (Vec<String>, Vec<Minute<'_>>) {
        let concerned: BTreeSet<&String> = self.timeline.rows.iter().flat_map(|row| &row.concerns).collect();
        let number: BTreeMap<&String, usize> = concerned.iter().enumerate().map(|(at, node)| (*node, at + 1)).collect();
        let mut minutes: Vec<Minute<'_>> = Vec::new();
        let mut shown: BTreeSet<String> = BTreeSet::new();
        for row in &self.timeline.rows {
            let at_ms = row.at_ms - row.at_ms.rem_euclid(60_000);
            if minutes.last().is_none_or(|minute| minute.at_ms != at_ms) {
                minutes.push(Minute { at_ms, classes: String::new(), rows: Vec::new() });
                shown.clear();
            }
            let own = row.concerns.iter().filter_map(|node| number.get(node)).map(|at| format!("c{at}"));
            let mut own: Vec<String> = own.collect();
            if own.is_empty() {
                own.push("all".into());
            }
            if let Some(minute) = minutes.last_mut() {
                minute.rows.push(Line { classes: own.join(" "), row });
                shown.extend(own);
                minute.classes = shown.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            }
        }
        (concerned.into_iter().cloned().collect(), minutes)
    }

    fn environment(&self, form: Form) -> Environment<'static> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            environment.set_syntax(syntax);
        }
        environment.set_auto_escape_callback(move |_| match form {
            Form::Html | Form::Junit => AutoEscape::Html,
            Form::Md | Form::Json => AutoEscape::None,
        });
        let start = DateTime::parse(&self.start).ok();
        let (instant, offset) =
            start.map_or((Timestamp::UNIX_EPOCH, 0), |start| (start.instant(), start.offset_minutes()));
        let clock = move |ms: i64| {
            let at = instant.checked_add(SignedDuration::from_millis(ms)).unwrap_or(instant);
            DateTime::from_instant(at, offset).text().to_owned()
        };
        environment.add_filter("at", at);
        environment.add_filter("long", |ms: i64| Length::from_ms(legible(ms)).to_string());
        environment.add_filter("clock", move |ms: i64| {
            let text = clock(ms);
            let time = text.get(11..19).unwrap_or_default();
            time.strip_suffix(":00").unwrap_or(time).to_owned()
        });
        environment.add_filter("share", share);
        environment.add_filter("brief", |text: &str| text.chars().take(12).collect::<String>());
        environment.add_filter("seconds", |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000));
        environment.add_filter("cell", cell);
        environment.add_filter("xml", |text: &str| {
            text.chars().map(|c| if is_xml(c) { c } else { '\u{fffd}' }).collect::<String>()
        });
        environment.add_function("outcome_zh", |outcome: &str| outcome_zh(outcome));
        environment.add_function("kind_zh", |kind: &str| kind_zh(kind));
        environment
    }
}

/// An instant of the drill as people read it: `T+9m30s`.
pub(super) fn at(ms: i64) -> String {
    Offset::from_ms(legible(ms)).to_string()
}

/// A time as people read it: milliseconds count only below a minute.
fn legible(ms: i64) -> i64 {
    if ms.abs() < 60_000 { ms } else { ms - ms.rem_euclid(1000) }
}

/// Permille as people write it: `81.2%`.
fn share(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{}%", permille / 10),
        tenth => format!("{}.{tenth}%", permille / 10),
    }
}

/// A text for a cell of a Markdown table: one line, and nothing of it is markup.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '*' | '`' | '[' | ']' | '\\' | '#' => out.extend(['\\', c]),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Whether XML 1.0 can hold the character at all.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn outcome_zh(outcome: &str) -> &'static str {
    match outcome {
        "met" => "達成",
        "late" => "逾時",
        "missed" => "未達成",
        "forbidden" => "違反",
        "to-be-judged" => "待評核",
        "judged" => "已評核",
        _ => "未到期",
    }
}

fn kind_zh(kind: &str) -> &'static str {
    match kind {
        "inject" => "注入",
        "skipped" => "略過",
        "refused" => "拒收",
        "alert" => "發出",
        "update" => "更新",
        "cancel" => "取消",
        "record" => "記錄",
        "asked" | "approval" => "請示",
        "answered" => "答覆",
        "escalated" => "上報",
        "closed" => "了結",
        "review" => "待覆核",
        "reviewed" => "已覆核",
        "stale" => "失聯",
        "heard" => "恢復聯繫",
        "told" | "message" => "告知",
        "acked" => "確認",
        "notice" => "通知",
        "fault" => "故障",
        "mended" => "故障解除",
        "down" => "停機",
        "up" => "重啟",
        "paused" => "暫停",
        "resumed" => "繼續",
        "frozen" => "凍結",
        "aborted" => "中止",
        "judged" => "評核",
        "digest" => "摘要",
        "ended" => "完結",
        "full" => "記錄已滿",
        "approve" => "批准",
        "reject" => "否決",
        "acknowledge" => "確認",
        "complete" => "完整進行",
        "engine" => "引擎",
        _ => "",
    }
}
