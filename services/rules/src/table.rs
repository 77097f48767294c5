//! Decision tables: rows of closed words, so that overlaps, gaps and rows that never match are found by trying every
//! input there is.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{Certainty, Severity, Urgency, Vocabulary};

/// The most rows of a table.
pub(crate) const ROWS_MAX: usize = 500;

/// The most inputs that are tried one by one; a table with more is refused.
pub(crate) const INPUTS_MAX: usize = 100_000;

/// What happens when several rows match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// They never do; the checker proves it.
    Unique,
    /// The first decides.
    First,
    /// All of them do.
    Collect,
}

/// What a column compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnOf {
    /// `cause.signal`.
    Signal,
    /// `cause.level`.
    Level,
    /// `cause.urgency`.
    Urgency,
    /// `cause.certainty`.
    Certainty,
    /// `cause.severity`.
    Severity,
    /// `session.phase`.
    Phase,
    /// `session.name`.
    Session,
}

impl ColumnOf {
    /// All of them, as a table writes them.
    pub const ALL: [(&'static str, Self); 7] = [
        ("cause.signal", Self::Signal),
        ("cause.level", Self::Level),
        ("cause.urgency", Self::Urgency),
        ("cause.certainty", Self::Certainty),
        ("cause.severity", Self::Severity),
        ("session.phase", Self::Phase),
        ("session.name", Self::Session),
    ];

    /// Whether it is about a session.
    pub fn of_session(self) -> bool {
        matches!(self, Self::Phase | Self::Session)
    }
}

/// A column: its heading and what it compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// What is compared.
    pub of: ColumnOf,
    /// Every word that it can have.
    pub words: BTreeSet<String>,
}

/// A row: what it takes, and what it issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line of the file it stands on.
    pub line: u64,
    /// The words that each column takes; `None` takes any, also none.
    pub cells: Vec<Option<BTreeSet<String>>>,
    /// The event that is issued; `None` decides that nothing is.
    pub issue: Option<String>,
    /// The kinds that it concerns.
    pub kinds: BTreeSet<String>,
}

/// A decision table, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What happens when several rows match.
    pub hit: Hit,
    /// Whether it decides for each session of a school day by itself.
    pub per_session: bool,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Its rows, in order.
    pub rows: Vec<Row>,
}

/// The words of an input by what is compared; what the input does not say is absent.
pub type Facts = BTreeMap<ColumnOf, String>;

/// Every combination of one word a column; none at all when they would be more than can be tried.
pub(crate) fn every_input(columns: &[(ColumnOf, BTreeSet<String>)]) -> Option<Vec<Facts>> {
    let count = columns.iter().fold(1_usize, |count, (_, words)| count.saturating_mul(words.len()));
    if count > INPUTS_MAX {
        return None;
    }
    let mut all = vec![Facts::new()];
    for (of, words) in columns {
        let with = |facts: &Facts| words.iter().map(|word| (facts.clone(), word.clone())).collect::<Vec<_>>();
        let pairs = all.iter().flat_map(with);
        all = pairs
            .map(|(mut facts, word)| {
                facts.insert(*of, word);
                facts
            })
            .collect();
    }
    Some(all)
}

/// What is wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Two rows take one input and say different things.
    Overlap {
        /// The first row's index.
        first: usize,
        /// The other's.
        second: usize,
        /// Such an input.
        input: String,
    },
    /// Inputs that no row takes.
    Gap {
        /// The first few.
        inputs: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// A row that never decides, since rows before it take all of its inputs.
    Shadowed {
        /// Its index.
        row: usize,
    },
    /// More inputs than can be tried.
    TooMany {
        /// How many there are.
        count: usize,
    },
}

impl Table {
    /// The indexes of the rows that decide, in order: at most one unless all matching rows do.
    pub fn decide(&self, facts: &Facts) -> Vec<usize> {
        let takes = |row: &Row| {
            self.columns.iter().zip(&row.cells).all(|(column, cell)| {
                cell.as_ref().is_none_or(|words| facts.get(&column.of).is_some_and(|word| words.contains(word)))
            })
        };
        let rows = self.rows.iter().enumerate().filter(|(_, row)| takes(row)).map(|(index, _)| index);
        match self.hit {
            Hit::Collect => rows.collect(),
            Hit::Unique | Hit::First => rows.take(1).collect(),
        }
    }

    /// What its rows may issue.
    pub fn issues(&self) -> BTreeSet<&str> {
        self.rows.iter().filter_map(|row| row.issue.as_deref()).collect()
    }

    /// Everything that is wrong with it, found by trying every input.
    pub fn flaws(&self) -> Vec<Flaw> {
        let count = self.columns.iter().fold(1_usize, |count, column| count.saturating_mul(column.words.len().max(1)));
        if count > INPUTS_MAX {
            return vec![Flaw::TooMany { count }];
        }
        let (mut overlaps, mut gaps, mut decided) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let all = Self { hit: Hit::Collect, ..self.clone() };
        let mut gap_count = 0;
        for number in 0..count {
            let facts = self.input(number);
            let rows = all.decide(&facts);
            match (rows.first(), self.hit) {
                (None, _) => {
                    gap_count += 1;
                    if gaps.len() < 3 {
                        gaps.push(shown(&self.columns, &facts));
                    }
                }
                (Some(first), Hit::First) => {
                    decided.insert(*first);
                }
                (Some(first), Hit::Unique) => {
                    decided.insert(*first);
                    for second in rows.iter().skip(1) {
                        let same = self.says(*first) == self.says(*second);
                        if !same {
                            let input = || shown(&self.columns, &facts);
                            overlaps.entry((*first, *second)).or_insert_with(input);
                        }
                    }
                }
                (Some(_), Hit::Collect) => decided.extend(rows),
            }
        }
        let mut flaws: Vec<Flaw> =
            overlaps.into_iter().map(|((first, second), input)| Flaw::Overlap { first, second, input }).collect();
        let clashing: BTreeSet<usize> = flaws
            .iter()
            .filter_map(|f| if let Flaw::Overlap { second, .. } = f { Some(*second) } else { None })
            .collect();
        let silent = (0..self.rows.len()).filter(|row| !decided.contains(row) && !clashing.contains(row));
        flaws.extend(silent.map(|row| Flaw::Shadowed { row }));
        if gap_count > 0 {
            flaws.push(Flaw::Gap { inputs: gaps, count: gap_count });
        }
        flaws
    }

    fn says(&self, row: usize) -> Option<(&Option<String>, &BTreeSet<String>)> {
        self.rows.get(row).map(|row| (&row.issue, &row.kinds))
    }

    /// The input of that number: its digits, in the mixed base of the columns, choose a word each.
    fn input(&self, mut number: usize) -> Facts {
        let mut facts = Facts::new();
        for column in &self.columns {
            let base = column.words.len().max(1);
            if let Some(word) = column.words.iter().nth(number % base) {
                facts.insert(column.of, word.clone());
            }
            number /= base;
        }
        facts
    }
}

fn shown(columns: &[Column], facts: &Facts) -> String {
    let words = columns.iter().filter_map(|column| Some(format!("{} {}", column.name, facts.get(&column.of)?)));
    words.collect::<Vec<_>>().join(", ")
}

/// Every word that a column can have, as far as the vocabulary closes it; levels and sessions are the rule's own.
pub(crate) fn words_of(of: ColumnOf, vocabulary: &Vocabulary) -> BTreeSet<String> {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_string()).collect();
    match of {
        ColumnOf::Signal => vocabulary.signals().map(|signal| signal.code.clone()).collect(),
        ColumnOf::Urgency => Urgency::ALL.iter().map(|value| value.as_cap().to_string()).collect(),
        ColumnOf::Certainty => Certainty::ALL.iter().map(|value| value.as_cap().to_string()).collect(),
        ColumnOf::Severity => Severity::ALL.iter().map(|value| value.as_cap().to_string()).collect(),
        ColumnOf::Phase => texts(&crate::calendar::Phase::ALL.map(crate::calendar::Phase::as_str)),
        ColumnOf::Level | ColumnOf::Session => BTreeSet::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_string()).collect()
    }

    fn table(hit: Hit, rows: &[(&[&str], &[&str], Option<&str>)]) -> Table {
        let cell = |words: &[&str]| (!words.is_empty()).then(|| set(words));
        Table {
            hit,
            per_session: true,
            columns: vec![
                Column { name: "signal".into(), of: ColumnOf::Signal, words: set(&["A", "B"]) },
                Column { name: "phase".into(), of: ColumnOf::Phase, words: set(&["before", "in"]) },
            ],
            rows: rows
                .iter()
                .map(|(signal, phase, issue)| Row {
                    line: 1,
                    cells: vec![cell(signal), cell(phase)],
                    issue: issue.map(String::from),
                    kinds: BTreeSet::new(),
                })
                .collect(),
        }
    }

    #[test]
    fn every_flaw_is_found_and_a_whole_table_has_none() {
        let whole: &[(&[&str], &[&str], Option<&str>)] =
            &[(&["A"], &[], Some("x")), (&["B"], &["before"], Some("y")), (&["B"], &["in"], None)];
        assert_eq!(table(Hit::Unique, whole).flaws(), []);
        let gap = table(Hit::Unique, &whole[..2]).flaws();
        assert_eq!(gap, [Flaw::Gap { inputs: vec!["signal B, phase in".into()], count: 1 }]);
        let overlap = table(Hit::Unique, &[whole[0], whole[1], whole[2], (&["A"], &["in"], Some("y"))]).flaws();
        assert_eq!(overlap, [Flaw::Overlap { first: 0, second: 3, input: "signal A, phase in".into() }]);
        let first = table(Hit::First, &[whole[0], (&[], &[], None), whole[1]]).flaws();
        assert_eq!(first, [Flaw::Shadowed { row: 2 }]);
    }

    #[test]
    fn a_cell_that_takes_any_also_takes_what_the_input_does_not_say() {
        let table = table(Hit::First, &[(&["A"], &[], Some("x")), (&[], &[], None)]);
        assert_eq!(table.decide(&Facts::new()), [1]);
        assert_eq!(table.decide(&[(ColumnOf::Signal, "A".to_string())].into()), [0]);
    }
}
