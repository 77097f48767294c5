//! What the timeline shows, and how it is drawn.
//!
//! ```text
//! EXERCISE HV26  A fire near a school  running
//! T+30m of T+45m: 3 met, 0 failed, 9 open        ██████████████
//!       T+0s      T+11m15s  T+22m30s  T+33m45s
//! drill  »        ─────────      │
//! edb    ··  ?        ✓          │
//! fsd   ●     ●                  │
//! ● published  ○ cancelled  …
//! then what happened last, one line each
//! ```

use std::collections::{BTreeMap, VecDeque};

use campanile_drill::live::Line;
use campanile_drill::report::Narrator;
use campanile_drill::{Event, Offset, Scenario, What};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Gauge, Paragraph};

use crate::out::harmless;

/// Into how many parts the time of a drill is cut; no terminal has more columns.
const PARTS: usize = 1024;

/// How many of the last happenings are kept.
const LATEST_MAX: usize = 200;

/// The widest name of a row.
const NAME_MAX: u16 = 14;

/// The row of what concerns the whole drill.
const WHOLE: &str = "drill";

/// One sign at one place of the timeline: of several, the last of this list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    /// A fault of the scenario lasts.
    Fault,
    /// A record arrived from elsewhere.
    Came,
    /// A message was handed to a channel.
    Told,
    /// Something was published.
    Published,
    /// Something was cancelled.
    Cancelled,
    /// A person answered, or said that something was seen.
    Answered,
    /// Persons are asked.
    Asked,
    /// Something is wrong.
    Wrong,
}

impl Sign {
    /// All of them, with what they look like and mean.
    const ALL: [(Self, char, Color, &'static str); 8] = [
        (Self::Published, '●', Color::Green, "published"),
        (Self::Cancelled, '○', Color::Green, "cancelled"),
        (Self::Came, '·', Color::DarkGray, "arrived"),
        (Self::Told, '»', Color::Blue, "to a channel"),
        (Self::Asked, '?', Color::Yellow, "persons asked"),
        (Self::Answered, '✓', Color::Cyan, "answered"),
        (Self::Wrong, '!', Color::Red, "wrong"),
        (Self::Fault, '─', Color::Magenta, "fault"),
    ];

    fn colour(self) -> Color {
        Self::ALL.iter().find(|(sign, ..)| *sign == self).map_or(Color::Reset, |(_, _, colour, _)| *colour)
    }

    fn of(what: &What) -> Option<Self> {
        Some(match what {
            What::Seen { .. } | What::Heard { .. } | What::Up => Self::Came,
            What::Notice(_) | What::Told { .. } | What::Inject { .. } => Self::Told,
            What::Record(record) if record.msg_type == Some(campanile_alert::MessageType::Cancel) => Self::Cancelled,
            What::Record(_) => Self::Published,
            What::Answered { .. } | What::Acked { .. } | What::Reviewed { .. } | What::Judged { .. } => Self::Answered,
            What::Asked(_) | What::Review { .. } => Self::Asked,
            What::Skipped { .. }
            | What::Refused { .. }
            | What::Escalated { .. }
            | What::Stale { .. }
            | What::Down
            | What::Frozen { .. }
            | What::Aborted { .. }
            | What::Full => Self::Wrong,
            What::FaultBegan { .. } => Self::Fault,
            What::Closed { .. }
            | What::FaultEnded { .. }
            | What::Paused { .. }
            | What::Resumed { .. }
            | What::Digest { .. }
            | What::Ended => return None,
        })
    }

    fn look(self) -> Span<'static> {
        let sign = Self::ALL.iter().find(|(sign, ..)| *sign == self).map_or(' ', |(_, sign, ..)| *sign);
        Span::styled(sign.to_string(), self.colour())
    }
}

/// How the drill stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    Waiting,
    Running,
    Paused(String),
    Frozen(String),
    Aborted(String),
    Ended,
}

/// All of it.
pub(super) struct Board<'a> {
    scenario: &'a Scenario,
    narrator: Narrator<'a>,
    now: Offset,
    end: Offset,
    /// Expectations that are met, that failed and that are open.
    counts: (usize, usize, usize),
    stand: Stand,
    /// The rows: the whole drill first, then the departments of the cast.
    rows: BTreeMap<Option<String>, Vec<Option<Sign>>>,
    /// The faults that last, by number, with the part in which each began.
    faults: BTreeMap<u32, usize>,
    /// What happened last, newest last, with its colour.
    latest: VecDeque<(Color, String)>,
}

impl<'a> Board<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        let names = scenario.cast.nodes.keys().cloned().map(Some).chain([None]);
        Self {
            scenario,
            narrator: Narrator::new(scenario),
            now: Offset::default(),
            end: scenario.end(),
            counts: (0, 0, 0),
            stand: Stand::Waiting,
            rows: names.map(|name| (name, vec![None; PARTS])).collect(),
            faults: BTreeMap::new(),
            latest: VecDeque::new(),
        }
    }

    /// Takes what the console is told; answers whether it should be seen at once.
    pub(super) fn take(&mut self, line: &Line) -> bool {
        match line {
            Line::Said(text) => {
                self.keep(Color::Reset, text);
                true
            }
            Line::Progress { now, end, met, failed, open } => {
                (self.now, self.end, self.counts) = (*now, *end, (*met, *failed, *open));
                if self.stand == Stand::Waiting {
                    self.stand = Stand::Running;
                }
                true
            }
            Line::Frozen(text) => {
                self.stand = Stand::Frozen(text.clone());
                true
            }
            Line::Written(bytes) => {
                // The first of them is the header, which is no event.
                for event in bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()) {
                    self.event(&event);
                }
                false
            }
        }
    }

    fn event(&mut self, event: &Event) {
        self.now = self.now.max(event.at);
        let part = self.part(event.at);
        match &event.what {
            What::Paused { by } => self.stand = Stand::Paused(by.clone()),
            What::Resumed { .. } => self.stand = Stand::Running,
            What::Aborted { by } => self.stand = Stand::Aborted(by.clone()),
            What::Ended | What::Full => self.stand = Stand::Ended,
            What::FaultBegan { fault, .. } => _ = self.faults.insert(*fault, part),
            What::FaultEnded { fault } => {
                if let Some(began) = self.faults.remove(fault) {
                    (began..=part).for_each(|part| self.sign(&None, part, Sign::Fault));
                }
            }
            _ => {}
        }
        let sign = Sign::of(&event.what);
        if let Some(sign) = sign {
            self.sign(&event.node.as_ref().map(ToString::to_string), part, sign);
        }
        let quiet = matches!(event.what, What::Seen { .. } | What::Digest { .. } | What::Closed { .. });
        if !quiet {
            let told = self.narrator.row(event);
            let said = if told.said.is_empty() { String::new() } else { format!(": {}", told.said) };
            let text =
                format!("{} {} {} {}{said}", event.at, told.node.as_deref().unwrap_or(WHOLE), told.kind, told.what);
            self.keep(sign.map_or(Color::Reset, Sign::colour), &text);
        }
    }

    fn keep(&mut self, colour: Color, text: &str) {
        for line in text.lines() {
            self.latest.push_back((colour, harmless(line)));
        }
        while self.latest.len() > LATEST_MAX {
            self.latest.pop_front();
        }
    }

    /// The part of the drill's time in which a moment lies.
    fn part(&self, at: Offset) -> usize {
        let end = self.scenario.end().ms().max(1);
        usize::try_from(at.ms().clamp(0, end - 1) * PARTS as i64 / end).unwrap_or(0)
    }

    fn sign(&mut self, row: &Option<String>, part: usize, sign: Sign) {
        let place = self.rows.get_mut(row).and_then(|row| row.get_mut(part));
        if let Some(place) = place {
            *place = (*place).max(Some(sign));
        }
    }

    /// Draws it into the whole of a frame.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let banner = if matches!(self.stand, Stand::Frozen(_)) { 4 } else { 0 };
        let rows = u16::try_from(self.rows.len()).unwrap_or(u16::MAX).saturating_add(1);
        let [head, stop, gauge, lanes, key, latest] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(banner),
            Constraint::Length(1),
            Constraint::Length(rows),
            Constraint::Length(1),
            Constraint::Fill(1),
        ])
        .spacing(0)
        .areas(frame.area());
        self.draw_head(frame, head);
        if let Stand::Frozen(why) = &self.stand {
            let loud = Style::new().fg(Color::White).bg(Color::Red).add_modifier(Modifier::BOLD);
            let lines = vec![
                Text::raw(harmless(why)),
                Text::raw("THE EXERCISE HAS STOPPED. THIS IS NOT A DRILL."),
                Text::raw("演習已停止。這不是演習。"),
            ];
            frame.render_widget(Paragraph::new(lines).style(loud), stop);
        }
        self.draw_gauge(frame, gauge);
        self.draw_lanes(frame, lanes);
        let signs =
            Sign::ALL.iter().flat_map(|(sign, _, _, meaning)| [sign.look(), Span::raw(format!(" {meaning}  "))]);
        frame.render_widget(Text::from(signs.collect::<Vec<_>>()).style(Modifier::DIM), key);
        let fits = usize::from(latest.height);
        let last = self.latest.iter().skip(self.latest.len().saturating_sub(fits));
        let lines: Vec<Text<'_>> = last.map(|(colour, text)| Text::styled(text.as_str(), *colour)).collect();
        frame.render_widget(Paragraph::new(lines), latest);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect) {
        let (word, colour) = match &self.stand {
            Stand::Waiting => ("not begun".into(), Color::Yellow),
            Stand::Running => ("running".into(), Color::Green),
            Stand::Paused(by) => (format!("PAUSED by {by}"), Color::Yellow),
            Stand::Frozen(_) => ("STOPPED".into(), Color::Red),
            Stand::Aborted(by) => (format!("CALLED OFF by {by}"), Color::Red),
            Stand::Ended => ("over".into(), Color::Green),
        };
        let mode = &self.scenario.mode;
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let line = Text::from(vec![
            Span::styled(harmless(&format!("{} {}  ", mode.marker.en, mode.exercise_id)), bold.fg(Color::Yellow)),
            Span::raw(harmless(&format!("{}  ", self.scenario.title.en))),
            Span::styled(harmless(&word), bold.fg(colour)),
        ]);
        frame.render_widget(line, area);
    }

    fn draw_gauge(&self, frame: &mut Frame<'_>, area: Rect) {
        let (met, failed, open) = self.counts;
        let label = format!("{} of {}: {met} met, {failed} failed, {open} open", self.now, self.end);
        let [text, bar] = Layout::horizontal([Constraint::Max(56), Constraint::Fill(1)]).areas(area);
        let colour = if failed > 0 { Color::Red } else { Color::Green };
        frame.render_widget(Text::styled(label, colour), text);
        let (now, end) = (self.now.ms().clamp(0, i64::MAX), self.end.ms().max(1));
        let permille = u16::try_from((now.min(end)).saturating_mul(1000) / end).unwrap_or(1000);
        let gauge = Gauge::default().gauge_style(Color::Blue).label("").ratio(f64::from(permille) / 1000.0);
        frame.render_widget(gauge, bar);
    }

    fn draw_lanes(&self, frame: &mut Frame<'_>, area: Rect) {
        let name_of = |name: &Option<String>| name.as_deref().unwrap_or(WHOLE).to_owned();
        let widest = self.rows.keys().map(|name| name_of(name).chars().count()).max().unwrap_or(0);
        let names = u16::try_from(widest).unwrap_or(NAME_MAX).min(NAME_MAX) + 1;
        let columns = usize::from(area.width.saturating_sub(names));
        let now = self.part(self.now) * columns / PARTS;
        let mut lines = vec![self.axis(usize::from(names), columns)];
        for (name, signs) in &self.rows {
            let label: String = name_of(name).chars().take(usize::from(NAME_MAX)).collect();
            let mut spans = vec![Span::raw(format!("{label:<width$}", width = usize::from(names)))];
            spans.extend((0..columns).map(|column| {
                let (from, to) =
                    (column * PARTS / columns, ((column + 1) * PARTS / columns).max(column * PARTS / columns + 1));
                let lasting = name.is_none() && column <= now && self.faults.values().any(|began| *began < to);
                let sign = signs.get(from..to).and_then(|signs| signs.iter().flatten().max().copied());
                let sign = sign.or_else(|| lasting.then_some(Sign::Fault));
                let blank = if column == now { Span::styled("│", Modifier::DIM) } else { Span::raw(" ") };
                sign.map_or(blank, Sign::look)
            }));
            lines.push(Text::from(spans));
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// The line of times above the rows: at the quarters of the drill.
    fn axis(&self, names: usize, columns: usize) -> Text<'static> {
        let mut text = " ".repeat(names);
        for quarter in 0..4_usize {
            let at = Offset::from_ms(self.scenario.end().ms() / 4 * quarter as i64);
            let width = columns * (quarter + 1) / 4 - columns * quarter / 4;
            let label: String = format!("{at}").chars().take(width).collect();
            text.push_str(&format!("{label:<width$}"));
        }
        Text::styled(text, Modifier::DIM)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
