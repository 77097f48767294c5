//! A master scenario events list, as planners keep it in a spreadsheet, made into a scenario.
//!
//! ```text
//! XLSX ─┐                 headings in English or Chinese
//!       ├─► cells, bounded ─► columns ─► injects, players, objectives, expectations ─► a scenario that checks
//! CSV  ─┘
//! ```
//!
//! A row is an inject: a message to a player, or with an event code an alert of a department. Every message gives an
//! expectation that the player answers it, every expected action one for an observer. What a scenario has no field for is
//! kept as notes. Everything that is wrong is said at once, each with sheet, row and column; then nothing is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use campanile_alert::{DateTime, DepartmentId, ExerciseId, Status};
use campanile_rules::short::ShortAlert;

use self::columns::{Column, Table};
use crate::scenario::{
    AcksClaim, Act, Cast, ClockPlan, Deadline, Expect, Inject, Mode, Node, NodeKind, Objective, Observer, Occasion,
    Pace, Player, Reaction, Scale, Scenario, Score, TextOrWords, Via, Words, department_of,
};
use crate::time::{Length, Offset};

mod columns;
mod sheet;
mod when;

/// How long a player has for an answer, and how long a scripted one takes, in milliseconds.
const ANSWER_WITHIN_MS: i64 = 15 * 60_000;
const ANSWER_AFTER_MS: i64 = 2 * 60_000;
/// Who judges the expected actions until the planner names somebody else.
const OBSERVER: &str = "obs.lead";

/// What a list does not say itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The drill's name: lower-case letters, digits and hyphens.
    pub drill: String,
    /// The exercise.
    pub exercise: ExerciseId,
    /// The time of T+0.
    pub start: DateTime,
}

/// What came of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The scenario.
    pub scenario: Scenario,
    /// What it has no field for: `i4 Remarks: …`.
    pub notes: Vec<String>,
}

/// What is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The sheet; empty for a file that has none, or that is no list at all.
    pub sheet: String,
    /// The row as the spreadsheet counts it, from 1; absent for what concerns the whole sheet.
    pub row: Option<u32>,
    /// The heading of the column, or its letter.
    pub column: Option<String>,
    /// What is wrong and what to do, in one sentence.
    pub why: String,
}

/// Everything that is wrong with a list; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sheet = (!self.sheet.is_empty()).then(|| format!("sheet {:?}", self.sheet));
        let row = self.row.map(|row| format!("row {row}"));
        let column = self.column.as_ref().map(|column| format!("column {column:?}"));
        let place: Vec<String> = [sheet, row, column].into_iter().flatten().collect();
        match place.is_empty() {
            true => f.write_str(&self.why),
            false => write!(f, "{}: {}", place.join(", "), self.why),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Fault {
    fn whole(why: impl Into<String>) -> Faults {
        Faults(vec![Self { sheet: String::new(), row: None, column: None, why: why.into() }])
    }
}

impl Imported {
    /// The scenario as a file, with the notes as comments.
    ///
    /// # Errors
    /// As [`Scenario::to_yaml`].
    pub fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        let mut text = self.scenario.to_yaml()?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if !self.notes.is_empty() {
            text.push_str("# From the list, where a scenario has no field for it:\n");
        }
        for note in &self.notes {
            let line: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text.push_str(&format!("# {line}\n"));
        }
        Ok(text)
    }
}

/// Makes a scenario of a list in XLSX or CSV; which of them it is, its first bytes say.
///
/// # Errors
/// [`Faults`] with everything that is wrong.
pub fn import(bytes: &[u8], plan: &Plan) -> Result<Imported, Faults> {
    let table = Table::find(&sheet::read(bytes)?)?;
    let mut made = Made {
        table: &table,
        plan,
        faults: Vec::new(),
        ids: BTreeSet::new(),
        scenario: empty(plan),
        notes: Vec::new(),
    };
    for row in 0..table.rows.len() {
        made.take(row);
    }
    if table.rows.is_empty() {
        made.faults.push(table.fault(None, None, "there is no row under the headings; add the injects".into()));
    }
    made.finish()
}

fn empty(plan: &Plan) -> Scenario {
    let marker = Words { en: "EXERCISE EXERCISE EXERCISE".into(), zh_hant: "演習 演習 演習".into() };
    Scenario {
        drill: plan.drill.clone(),
        title: Words { en: plan.drill.clone(), zh_hant: plan.drill.clone() },
        objectives: BTreeMap::new(),
        mode: Mode { status: Status::Exercise, exercise_id: plan.exercise.clone(), marker },
        clock: ClockPlan { start: plan.start.clone(), run: Pace::Virtual, end: None, pause_on: Vec::new(), seed: 1 },
        cast: Cast::default(),
        guards: Vec::new(),
        injects: Vec::new(),
        faults: Vec::new(),
        expect: Vec::new(),
        score: Score::default(),
        variants: Vec::new(),
        after: None,
    }
}

/// A scenario in the making.
struct Made<'a> {
    table: &'a Table,
    plan: &'a Plan,
    faults: Vec<Fault>,
    ids: BTreeSet<String>,
    scenario: Scenario,
    notes: Vec<String>,
}

impl Made<'_> {
    fn wrong(&mut self, row: usize, column: Column, why: impl Into<String>) {
        self.faults.push(self.table.fault(Some(row), Some(column), why.into()));
    }

    /// Takes a row in. A row with a fault adds its fault and nothing else of importance.
    fn take(&mut self, row: usize) {
        let text = |column: Column| self.table.text(row, column);
        let (Some(id), Some(at)) = (self.id(row), self.at(row)) else { return };
        let (synopsis, say) = (text(Column::Synopsis), text(Column::Inject));
        let (event, expected) = (text(Column::Event), text(Column::Expected));
        let objective = self.objective(&text(Column::Objective));
        let mut inject = Inject {
            at: Some(at),
            id: id.clone(),
            via: Via::Person,
            title: (!synopsis.is_empty()).then(|| TextOrWords::Text(synopsis.clone())),
            expected: (!expected.is_empty()).then(|| expected.clone()),
            objective: Some(objective.clone()),
            ..Inject::default()
        };
        let done = match event.is_empty() {
            false => self.alert(row, &event, &mut inject),
            true => self.message(row, if say.is_empty() { synopsis } else { say }, &mut inject),
        };
        if done.is_none() {
            return;
        }
        let method = text(Column::Method);
        if !method.is_empty() {
            self.notes.push(format!("{id} {}: {method}", self.table.heading(Column::Method)));
        }
        let others = self.table.others(row);
        self.notes.extend(others.into_iter().map(|(heading, value)| format!("{id} {heading}: {value}")));
        self.expect(&inject, at, &objective, &expected);
        self.scenario.injects.push(inject);
    }

    fn id(&mut self, row: usize) -> Option<String> {
        let number = self.table.text(row, Column::Number);
        let plain = number.trim_end_matches('.').to_ascii_lowercase();
        let id = if plain.bytes().next().is_some_and(|b| b.is_ascii_digit()) { format!("i{plain}") } else { plain };
        let fits = !id.is_empty()
            && id.len() <= 64
            && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'));
        if !fits {
            let why = match number.is_empty() {
                true => "the inject has no number; give it one".to_owned(),
                false => format!("{number:?} is no number of an inject; write for example 12 or a-12"),
            };
            self.wrong(row, Column::Number, why);
            return None;
        }
        if !self.ids.insert(id.clone()) {
            self.wrong(row, Column::Number, format!("the number {number} is there twice; number each inject once"));
            return None;
        }
        Some(id)
    }

    fn at(&mut self, row: usize) -> Option<Offset> {
        match when::offset(self.table.cell(row, Column::Time), &self.plan.start) {
            Ok(at) => Some(at),
            Err(why) => {
                self.wrong(row, Column::Time, why);
                None
            }
        }
    }

    /// The id of an objective by its text; without a text that of all others.
    fn objective(&mut self, text: &str) -> String {
        let text = if text.is_empty() { "The players do what is expected of them" } else { text };
        let known = self.scenario.objectives.iter().find(|(_, objective)| objective.text.en() == text);
        if let Some((id, _)) = known {
            return id.clone();
        }
        let id = format!("O{}", self.scenario.objectives.len() + 1);
        let words = TextOrWords::Text(text.to_owned());
        self.scenario
            .objectives
            .insert(id.clone(), Objective { text: words, capability: None, weight: 1, must: false });
        id
    }

    fn alert(&mut self, row: usize, event: &str, inject: &mut Inject) -> Option<()> {
        let vocabulary = campanile_alert::vocabulary::v1();
        if vocabulary.event(event).is_none() {
            self.wrong(
                row,
                Column::Event,
                format!("the vocabulary has no event {event:?}; leave it empty for a message"),
            );
            return None;
        }
        let from = self.table.text(row, Column::From).to_ascii_lowercase();
        if DepartmentId::try_new(&from).is_err() {
            let why = format!("{from:?} is no department that could publish {event}; write for example fsd");
            self.wrong(row, Column::From, why);
            return None;
        }
        let level = self.table.text(row, Column::Level);
        let level = match level.is_empty() {
            true => None,
            false => match level.parse() {
                Ok(level) => Some(level),
                Err(_) => {
                    self.wrong(row, Column::Level, format!("{level:?} is no level; write a whole number"));
                    return None;
                }
            },
        };
        let signal = Some(self.table.text(row, Column::Signal)).filter(|signal| !signal.is_empty());
        self.scenario.cast.nodes.entry(from.clone()).or_insert(Node::Kind(NodeKind::Script));
        let headline = Some(self.table.text(row, Column::Inject)).filter(|text| !text.is_empty());
        inject.via = Via::Alert;
        inject.from = Some(from);
        inject.alert = Some(ShortAlert { event: Some(event.into()), level, signal, headline, ..ShortAlert::default() });
        Some(())
    }

    fn message(&mut self, row: usize, say: String, inject: &mut Inject) -> Option<()> {
        if say.is_empty() {
            self.wrong(row, Column::Inject, "the inject says nothing; write what the player is told");
            return None;
        }
        let to = self.table.text(row, Column::To);
        let Some(role) = self.table.role(&to) else {
            let why = match (to.is_empty(), self.table.roles.is_empty()) {
                (true, _) => "nobody is to get the message; write a role, for example edb.duty-officer".to_owned(),
                (_, true) => format!("{to:?} is no role; write for example edb.duty-officer, or add a sheet Players"),
                _ => format!("the player {to:?} is not in the sheet Players; add a row there or mend the name"),
            };
            self.wrong(row, Column::To, why);
            return None;
        };
        let department = department_of(&role).to_owned();
        self.scenario.cast.nodes.entry(department).or_insert(Node::Kind(NodeKind::Script));
        let answers = || Reaction {
            on: Occasion::Message,
            rule: None,
            effect: None,
            inject: None,
            after: Length::from_ms(ANSWER_AFTER_MS),
            jitter: None,
            act: Act::Acknowledge,
            play: None,
        };
        let player = || Player { script: vec![answers()], person: None };
        self.scenario.cast.players.entry(role.clone()).or_insert_with(player);
        (inject.to, inject.say) = (Some(role), Some(say));
        let controller = self.table.text(row, Column::From);
        // A list names controllers as it likes; a scenario names roles.
        match columns::is_role(&controller) {
            true => inject.controller = Some(controller),
            false if controller.is_empty() => {}
            false => self.notes.push(format!("{} {}: {controller}", inject.id, self.table.heading(Column::From))),
        }
        Some(())
    }

    fn expect(&mut self, inject: &Inject, at: Offset, objective: &str, expected: &str) {
        let by = Some(Deadline::At(at + Length::from_ms(ANSWER_WITHIN_MS)));
        let objective = Some(objective.to_owned());
        if let Some(to) = &inject.to {
            let acks = Some(AcksClaim { rule: None, inject: Some(inject.id.clone()), within: None });
            let (id, person) = (Some(format!("{}-answered", inject.id)), Some(to.clone()));
            self.scenario.expect.push(Expect {
                id,
                by,
                objective: objective.clone(),
                person,
                acks,
                ..Expect::default()
            });
        }
        // An alert is there when its department publishes it; what comes of it an observer sees, or the planner adds.
        if inject.to.is_none() && expected.is_empty() {
            let live = Some(crate::scenario::Match { inject: Some(inject.id.clone()), ..Default::default() });
            let id = Some(format!("{}-published", inject.id));
            self.scenario.expect.push(Expect { id, by, objective: objective.clone(), live, ..Expect::default() });
        }
        if !expected.is_empty() {
            self.scenario.expect.push(Expect {
                id: Some(format!("{}-action", inject.id)),
                by,
                objective,
                judged_by: Some(OBSERVER.into()),
                question: Some(expected.to_owned()),
                scale: Some(Scale { least: 0, most: 3 }),
                ..Expect::default()
            });
        }
    }

    fn finish(mut self) -> Result<Imported, Faults> {
        if !self.faults.is_empty() {
            return Err(Faults(self.faults));
        }
        if self.scenario.expect.iter().any(|expect| expect.judged_by.is_some()) {
            let watches = self.scenario.cast.nodes.keys().cloned().collect();
            self.scenario.cast.observers.insert(OBSERVER.into(), Observer { watches, rubric: None });
        }
        let controllers: BTreeSet<String> = self.scenario.injects.iter().filter_map(|i| i.controller.clone()).collect();
        self.scenario.cast.controllers = controllers.into_iter().collect();
        self.scenario.injects.sort_by_key(|inject| inject.at);
        Ok(Imported { scenario: self.scenario, notes: self.notes })
    }
}
