//! Checks and resolves what a table, its sessions, its kinds and its areas say.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::Polygon;
use serde_saphyr::{Location, Spanned};

use super::{Check, Scope};
use crate::calendar::{Schedule, Session, weekday};
use crate::document::{AreaDoc, Cell, PackDoc, RuleDoc, SessionDoc, TableDoc, Word};
use crate::table::{Column, ColumnOf, Flaw, Hit, ROWS_MAX, Row, Table, words_of};
use crate::{CauseMatch, NamedArea, Sentence};

/// The headings that a CSV file may use without saying what they mean.
const HEADINGS: [(&str, &str); 7] = [
    ("signal", "cause.signal"),
    ("level", "cause.level"),
    ("urgency", "cause.urgency"),
    ("certainty", "cause.certainty"),
    ("severity", "cause.severity"),
    ("phase", "session.phase"),
    ("session", "session.name"),
];

/// A row as it was written: its place and its cells.
type Written = (Location, Option<u64>, Vec<Cell>);

impl Check {
    pub(super) fn schedule(&mut self, document: &PackDoc) -> Schedule {
        if let Some(word) = &document.calendar {
            let sets: Vec<&str> = document.data.keys().map(String::as_str).collect();
            if !sets.contains(&word.value.as_str()) {
                let help = "list its days in `data:`, keyed by date".to_string();
                self.word(word, "E004", format!("there is no calendar `{}`", word.value), Some(help));
            }
        }
        let sessions = document.sessions.iter();
        let sessions = sessions.filter_map(|(name, doc)| Some((name.clone(), self.session(name, doc)?))).collect();
        Schedule { calendar: document.calendar.as_ref().map(|word| word.value.clone()), sessions }
    }

    fn session(&mut self, name: &str, doc: &Spanned<SessionDoc>) -> Option<Session> {
        let SessionDoc { name: called, opens, starts, ends, resume_by, days } = &doc.value;
        let mut time = |word: &Word| {
            let time = word.value.parse::<jiff::civil::Time>().ok();
            if time.is_none() {
                let help = Some("write for example \"05:30\"".to_string());
                self.word(word, "E003", format!("`{}` is not a time of day", word.value), help);
            }
            time
        };
        let (opens_at, starts_at, ends_at) = (time(opens), time(starts), time(ends));
        let resume = resume_by.as_ref().map(time);
        let mut weekdays: BTreeSet<i8> = BTreeSet::new();
        for word in days {
            match weekday(&word.value) {
                Some(day) => _ = weekdays.insert(day),
                None => {
                    let help = Some("write mon, tue, wed, thu, fri, sat, sun".to_string());
                    self.word(word, "E002", format!("there is no day `{}`", word.value), help);
                }
            }
        }
        if weekdays.is_empty() {
            weekdays.extend(1..=5);
        }
        let (opens_at, starts_at, ends_at) = (opens_at?, starts_at?, ends_at?);
        if !(opens_at <= starts_at && starts_at < ends_at) {
            let help = Some("opens, starts and ends follow each other".to_string());
            self.word(opens, "E003", format!("session {name} does not run forward in time"), help);
        }
        let resume_by = match resume {
            None => None,
            Some(at) => Some(at?),
        };
        if resume_by.is_some_and(|at| at < opens_at || at > ends_at) {
            let at = doc.value.resume_by.as_ref().map_or(doc.referenced, |word| word.referenced);
            self.report(at, "E003", "`resume-by` is outside the session's day", None);
        }
        let called = called.as_ref().map_or_else(
            || Sentence::new(name, name),
            |title| Sentence::new(title.en.as_str(), title.zh_hant.as_str()),
        );
        Some(Session { name: called, opens: opens_at, starts: starts_at, ends: ends_at, resume_by, days: weekdays })
    }

    pub(super) fn area(&mut self, doc: &AreaDoc) -> Option<NamedArea> {
        let name = Sentence::new(doc.name.en.as_str(), doc.name.zh_hant.as_str());
        match Polygon::parse(&doc.polygon.value) {
            Ok(polygon) => Some(NamedArea { name, polygon }),
            Err(error) => {
                let help = "write \"lat,lon lat,lon …\" and end with the first point".to_string();
                self.word(&doc.polygon, "E003", format!("the polygon cannot be read: {error}"), Some(help));
                None
            }
        }
    }

    /// The table of a rule, proved to be whole.
    pub(super) fn table(
        &mut self,
        doc: &TableDoc,
        rule: &RuleDoc,
        cause: &CauseMatch,
        scope: &Scope<'_>,
    ) -> Option<Table> {
        let at = rule.rule.referenced;
        let (headings, written) = self.written(doc, at, scope)?;
        if written.len() > ROWS_MAX {
            self.report(at, "E003", format!("a table has at most {ROWS_MAX} rows"), None);
            return None;
        }
        let hit = match doc.hit.as_ref() {
            None => Hit::Unique,
            Some(word) => {
                self.fixed(word, "hit", &["unique", "first", "collect"]);
                match word.value.as_str() {
                    "first" => Hit::First,
                    "collect" => Hit::Collect,
                    _ => Hit::Unique,
                }
            }
        };
        let mut columns = self.columns(doc, &headings, at, scope)?;
        let rows: Vec<Row> = written.iter().filter_map(|written| self.row(written, &columns, scope)).collect();
        self.close(&mut columns, &rows, cause);
        let named = doc.per.as_ref().is_some_and(|word| self.fixed(word, "per", &["session"]));
        let table = Table { hit, per_session: named || columns.iter().any(|c| c.of.of_session()), columns, rows };
        if table.per_session && scope.document.sessions.is_empty() {
            self.report(at, "E004", "the table decides per session, and the pack has no `sessions`", None);
        }
        if written.len() == table.rows.len() {
            self.flaws(&table, doc, &written);
        }
        Some(table)
    }

    /// The rows as the pack or its CSV file has them, and the headings when a file gave them.
    fn written(&mut self, doc: &TableDoc, at: Location, scope: &Scope<'_>) -> Option<(Vec<String>, Vec<Written>)> {
        let Some(file) = &doc.file else {
            let rows = doc.rows.iter().map(|row| {
                let place = row.first().map_or(at, |cell| cell.referenced);
                (place, None, row.iter().map(|cell| cell.value.clone()).collect())
            });
            return Some((Vec::new(), rows.collect()));
        };
        if !doc.rows.is_empty() {
            self.report(at, "E005", "a table has rows or a file, not both", None);
        }
        let Some(bytes) = scope.files.get(file) else {
            let help = "lay it beside the pack".to_string();
            self.report(at, "E004", format!("the table's file {file} is not there"), Some(help));
            return None;
        };
        let text = String::from_utf8_lossy(bytes);
        match crate::data::table(&text) {
            Ok(mut records) if !records.is_empty() => {
                let (_, headings) = records.remove(0);
                let cells = |cells: Vec<String>| {
                    cells.iter().map(|cell| Cell(cell.split_whitespace().map(String::from).collect())).collect()
                };
                let rows = records.into_iter().map(|(line, words)| (at, Some(line as u64), cells(words)));
                Some((headings, rows.collect()))
            }
            Ok(_) => {
                self.report(at, "E004", format!("{file} has no rows"), None);
                None
            }
            Err(error) => {
                self.report(at, "E005", format!("{file}: {error}"), Some("save it as CSV again".into()));
                None
            }
        }
    }

    fn columns(&mut self, doc: &TableDoc, headings: &[String], at: Location, scope: &Scope<'_>) -> Option<Vec<Column>> {
        let mut named: Vec<(String, Location, String)> = Vec::new();
        match (&doc.columns, headings) {
            (Some(pairs), _) => {
                named.extend(pairs.0.iter().map(|(name, of)| (name.value.clone(), of.referenced, of.value.clone())));
            }
            (None, []) => {
                let help = "add `columns: {signal: cause.signal, phase: session.phase}`".to_string();
                self.report(at, "E005", "the table does not say what its columns are", Some(help));
                return None;
            }
            (None, headings) => {
                let known = headings.iter().filter(|heading| !["issue", "kinds"].contains(&heading.as_str()));
                for heading in known {
                    let of = HEADINGS.iter().find(|(name, _)| name == heading).map_or(heading.as_str(), |(_, of)| *of);
                    named.push((heading.clone(), at, of.to_string()));
                }
            }
        }
        let mut columns = Vec::new();
        for (name, place, of) in named {
            let all: Vec<&str> = ColumnOf::ALL.iter().map(|(word, _)| *word).collect();
            let Some((_, of)) = ColumnOf::ALL.iter().find(|(word, _)| *word == of) else {
                let help = crate::diagnostic::nearest(&of, all.iter().copied())
                    .map_or_else(|| format!("known are {}", all.join(", ")), |near| format!("did you mean `{near}`?"));
                self.report(place, "E001", format!("a table cannot look at `{of}`"), Some(help));
                continue;
            };
            let mut words = words_of(*of, self.vocabulary);
            if *of == ColumnOf::Session {
                words.extend(scope.document.sessions.keys().cloned());
            }
            columns.push(Column { name, of: *of, words });
        }
        Some(columns)
    }

    fn row(&mut self, (at, line, cells): &Written, columns: &[Column], scope: &Scope<'_>) -> Option<Row> {
        let place = |check: &mut Self, code: &'static str, message: String, help: Option<String>| match line {
            Some(line) => check.report(*at, code, format!("{message} (line {line} of the file)"), help),
            None => check.report(*at, code, message, help),
        };
        if cells.len() != columns.len() + 2 {
            let message = format!("the row has {} cells, the table needs {}", cells.len(), columns.len() + 2);
            let help = "write one cell for each column, then what is issued, then the kinds".to_string();
            place(self, "E005", message, Some(help));
            return None;
        }
        let mut taken = Vec::new();
        for (column, Cell(words)) in columns.iter().zip(cells) {
            if words.iter().any(|word| word == "any") || words.is_empty() {
                taken.push(None);
                continue;
            }
            let mut set = BTreeSet::new();
            for word in words {
                let expanded: Vec<String> = match column.of {
                    ColumnOf::Signal => self.vocabulary.expand(word).into_iter().map(String::from).collect(),
                    ColumnOf::Level => word.parse::<u32>().map(|level| vec![level.to_string()]).unwrap_or_default(),
                    _ if column.words.contains(word) => vec![word.clone()],
                    _ => Vec::new(),
                };
                if expanded.is_empty() {
                    let groups = self.vocabulary.groups().map(|group| group.code.as_str());
                    let known = column.words.iter().map(String::as_str).chain(groups);
                    let help = crate::diagnostic::nearest(word, known).map(|near| format!("did you mean `{near}`?"));
                    place(self, "E002", format!("column {} has no word `{word}`", column.name), help);
                }
                set.extend(expanded);
            }
            taken.push(Some(set));
        }
        let words = |index: usize| cells.get(index).map_or(&[][..], |cell| cell.0.as_slice());
        let issue = match words(columns.len()) {
            [word] if word == "none" => None,
            [word] => Some(word.clone()),
            _ => {
                place(self, "E005", "a row issues one thing, or none".into(), None);
                return None;
            }
        };
        if let Some(issue) = &issue {
            self.issued(issue, *at, scope);
        }
        let kinds: BTreeSet<String> = words(columns.len() + 1).iter().cloned().collect();
        for kind in kinds.iter().filter(|kind| !scope.document.kinds.contains_key(*kind)) {
            let known: Vec<&str> = scope.document.kinds.keys().map(String::as_str).collect();
            let help = format!("the pack's `kinds` are {}", known.join(", "));
            place(self, "E004", format!("there is no kind `{kind}`"), Some(help));
        }
        if issue.is_some() && kinds.is_empty() && !scope.document.kinds.is_empty() {
            place(self, "E005", "the row issues something and names no kind".into(), None);
        }
        let line = line.unwrap_or_else(|| at.line());
        Some(Row { line, cells: taken, issue, kinds })
    }

    /// What the rows are measured against: the words that the rule can meet, not all there are.
    fn close(&self, columns: &mut [Column], rows: &[Row], cause: &CauseMatch) {
        for (index, column) in columns.iter_mut().enumerate() {
            let named: BTreeSet<String> =
                rows.iter().filter_map(|row| row.cells.get(index)?.as_ref()).flatten().cloned().collect();
            column.words = match (column.of, &cause.signals, &cause.urgency) {
                (ColumnOf::Signal, Some(signals), _) => signals.clone(),
                (ColumnOf::Signal, None, _) => {
                    let statements: BTreeSet<&str> = named
                        .iter()
                        .filter_map(|code| self.vocabulary.signal(code))
                        .map(|signal| signal.statement.as_str())
                        .collect();
                    let same = self.vocabulary.signals().filter(|s| statements.contains(s.statement.as_str()));
                    same.map(|signal| signal.code.clone()).collect()
                }
                (ColumnOf::Urgency, _, Some(urgencies)) => {
                    urgencies.iter().map(|urgency| urgency.as_cap().to_string()).collect()
                }
                (ColumnOf::Level, _, _) => {
                    let scale = self.vocabulary.event(&cause.event).and_then(|event| event.scale.as_deref());
                    let levels = scale.and_then(|scale| self.vocabulary.scale(scale)).map(|scale| &scale.levels);
                    let values = levels.into_iter().flatten().map(|level| level.value);
                    let least = cause.level_min.unwrap_or(0);
                    values.filter(|value| *value >= least).map(|value| value.to_string()).collect()
                }
                _ => column.words.clone(),
            };
        }
    }

    fn flaws(&mut self, table: &Table, doc: &TableDoc, written: &[Written]) {
        let place = |index: usize| written.get(index).map_or(Location::UNKNOWN, |(at, _, _)| *at);
        let number = |index: usize| table.rows.get(index).map_or(0, |row| row.line);
        for flaw in table.flaws() {
            match flaw {
                Flaw::Overlap { first, second, input } => {
                    let message = format!(
                        "rows on lines {} and {} both take {input}, and say different things",
                        number(first),
                        number(second)
                    );
                    let help = "narrow one of them, or write `hit: first`".to_string();
                    self.report(place(second), "E030", message, Some(help));
                }
                Flaw::Shadowed { row } => {
                    let message =
                        format!("the row on line {} never decides: rows before it take all of it", number(row));
                    self.report(place(row), "W033", message, Some("remove it, or move it up".into()));
                }
                Flaw::Gap { inputs, count } => {
                    let at = doc.hit.as_ref().map_or(place(0), |word| word.referenced);
                    let more =
                        if count > inputs.len() { format!(" and {} more", count - inputs.len()) } else { "".into() };
                    let message = format!("no row takes {}{more}", inputs.join("; "));
                    self.report(at, "W032", message, Some("add a row, with `none` if nothing is issued".into()));
                }
                Flaw::TooMany { count } => {
                    let message = format!("the table has {count} inputs, too many to be proved whole");
                    self.report(place(0), "E022", message, Some("split it into two rules".into()));
                }
            }
        }
    }
}

/// The names of kinds in both languages.
pub(super) fn kinds(document: &PackDoc) -> BTreeMap<String, Sentence> {
    let name = |title: &crate::document::TitleDoc| Sentence::new(title.en.as_str(), title.zh_hant.as_str());
    document.kinds.iter().map(|(kind, title)| (kind.clone(), name(title))).collect()
}
