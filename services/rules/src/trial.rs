//! Tests that policy staff write beside a pack (`NAME.tests.yaml`) and run in milliseconds on a virtual clock.
//!
//! A case is a story: what comes at which time, what must be in force then, what must never be sent, which messages go
//! out, and which sentence explains a rule. The engines of all departments whose packs are used play together, so a
//! second hop is tested as well. A case that is taken from a dated announcement names it, and says why when the pack
//! does otherwise. Pure: the caller reads the files.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{DepartmentId, Timestamp};
use serde::Serialize;

use self::document::{ActDoc, CaseDoc, SuiteDoc};
pub(crate) use self::stage::{PlayedAlert, Stage};
use crate::table::{ColumnOf, Facts, Table, every_input};
use crate::{Answer, DataSet, DataSets, Engine, Files, Format, Options, Pack, Rule};

mod document;
mod judge;
mod stage;

/// The most cases of one file.
const CASES_MAX: usize = 5_000;

/// Why a test file cannot be run at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// What one case came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The line it begins on.
    pub line: u64,
    /// What was not as expected; empty when it passed.
    pub failures: Vec<String>,
    /// The announcement that it is taken from.
    pub source: Option<String>,
    /// Why the pack does otherwise than was announced, when the case says so.
    pub differs: Option<String>,
}

/// What the tests reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    /// Rules in the packs.
    pub rules: usize,
    /// Rows in their tables.
    pub rows: usize,
    /// Rules that no case makes issue something.
    pub rules_without_positive: Vec<String>,
    /// Rules that no case expects to be silent.
    pub rules_without_negative: Vec<String>,
    /// Rows that decide in no case, `rule line N`.
    pub rows_without_case: Vec<String>,
}

/// What a test file came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The cases, in order; a truth table is one.
    pub cases: Vec<CaseReport>,
    /// What they reach.
    pub coverage: Coverage,
    /// What is missing from the coverage that the file asks for, or that it has no case at all.
    pub shortfalls: Vec<String>,
}

impl Report {
    /// Whether every case passed and the coverage is what the file asks for.
    pub fn passed(&self) -> bool {
        self.shortfalls.is_empty() && self.cases.iter().all(|case| case.failures.is_empty())
    }

    /// The report as JUnit XML, for a build server; `name` is the file.
    pub fn junit(&self, name: &str) -> String {
        let failed = self.cases.iter().filter(|case| !case.failures.is_empty()).count();
        let failed = failed + usize::from(!self.shortfalls.is_empty());
        let tests = self.cases.len() + 1;
        let mut xml = format!("<testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failed}\">\n", escape(name));
        let case = |title: &str, failures: &[String]| match failures {
            [] => format!("  <testcase name=\"{}\"/>\n", escape(title)),
            failures => format!(
                "  <testcase name=\"{}\"><failure>{}</failure></testcase>\n",
                escape(title),
                escape(&failures.join("; "))
            ),
        };
        self.cases.iter().for_each(|one| xml += &case(&one.name, &one.failures));
        xml += &case("coverage", &self.shortfalls);
        xml + "</testsuite>\n"
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Packs with the data that they read.
struct Bench {
    packs: BTreeMap<DepartmentId, Vec<Pack>>,
    data: BTreeMap<DepartmentId, DataSets>,
}

/// Runs a test file. `read` gives the bytes of a file by its path from the test file; `None` when it is not there.
///
/// # Errors
/// [`Unreadable`] when the file, a pack or a data set cannot be read; the cases' own failures are in the report.
pub fn run(text: &str, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Report, Unreadable> {
    let suite: SuiteDoc = serde_saphyr::from_str(text).map_err(|error| {
        let plain = error.without_snippet();
        let line = plain.location().map_or(0, |at| at.line());
        Unreadable(format!("line {line}: {}", plain.to_string().lines().next().unwrap_or("the YAML does not parse")))
    })?;
    if suite.cases.len() > CASES_MAX {
        return Err(Unreadable(format!("a file has at most {CASES_MAX} cases")));
    }
    let bench = bench(&suite, read)?;
    let mut reach = Reach::default();
    let cases = suite.cases.iter().map(|case| {
        let line = case.referenced.line();
        let name = case.value.name.clone().or_else(|| case.value.table.as_ref().map(|t| format!("table {t}")));
        let failures = match &case.value.table {
            Some(rule) => truth_table(rule, &case.value, &bench, &mut reach),
            None => play(&case.value, &suite, &bench, &mut reach),
        };
        CaseReport {
            name: name.unwrap_or_else(|| format!("line {line}")),
            line,
            failures,
            source: case.value.source.clone(),
            differs: case.value.differs.clone(),
        }
    });
    let cases: Vec<CaseReport> = cases.collect();
    let coverage = reach.coverage(&bench);
    let shortfalls = shortfalls(&suite, &cases, &coverage);
    Ok(Report { cases, coverage, shortfalls })
}

fn bench(suite: &SuiteDoc, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Bench, Unreadable> {
    let (mut packs, mut data) = (BTreeMap::<_, Vec<Pack>>::new(), BTreeMap::<_, DataSets>::new());
    for name in &suite.uses {
        let (pack, own) = load(name, &suite.data, read)?;
        data.entry(pack.owner.clone()).or_default().extend(own);
        packs.entry(pack.owner.clone()).or_default().push(pack);
    }
    Ok(Bench { packs, data })
}

/// Reads a pack with the tables and data sets that it names. `other` names other files for its data sets; `read` gives the
/// bytes of a file by its path.
///
/// # Errors
/// [`Unreadable`] when the pack or a data set is not there, or is refused.
pub fn load(
    name: &str,
    other: &BTreeMap<String, String>,
    read: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<(Pack, DataSets), Unreadable> {
    let wrong = |text: String| Unreadable(text);
    let bytes = read(name).ok_or_else(|| wrong(format!("there is no pack {name}; check the path")))?;
    let text = String::from_utf8_lossy(&bytes);
    let folder = name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let files: Files =
        Pack::files_of(&text).into_iter().filter_map(|f| read(&format!("{folder}{f}")).map(|b| (f, b))).collect();
    let (pack, _) = Pack::parse_with(&text, &files)
        .map_err(|refusal| wrong(format!("{name}: {refusal}; see `campanile rules lint`")))?;
    let mut sets = DataSets::new();
    for (set, reference) in &pack.data {
        let own = format!("{folder}{}", reference.file);
        let file = other.get(set).unwrap_or(&own);
        let bytes = read(file).ok_or_else(|| wrong(format!("data set {set}: there is no file {file}")))?;
        let format = Format::of_file(file).ok_or_else(|| wrong(format!("{file} is of an unknown format")))?;
        let parsed = DataSet::parse(set, format, &bytes, &reference.rows);
        sets.insert(set.clone(), parsed.map_err(|error| wrong(format!("{file}: {error}")))?);
    }
    Ok((pack, sets))
}

impl Bench {
    fn engines(&self) -> Result<BTreeMap<DepartmentId, Engine>, String> {
        let engine = |(own, packs): (&DepartmentId, &Vec<Pack>)| {
            let options = Options { sender: format!("{own}@campanile.test") };
            let data = self.data.get(own).cloned().unwrap_or_default();
            let engine = Engine::new(own.clone(), packs.clone(), data, options);
            engine.map(|engine| (own.clone(), engine)).map_err(|error| error.to_string())
        };
        self.packs.iter().map(engine).collect()
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.packs.values().flatten().flat_map(|pack| &pack.rules)
    }
}

/// An instant of a case, from its start.
fn offset(text: &str) -> Result<jiff::SignedDuration, String> {
    text.parse().map_err(|_| format!("{text} is not a time of the case; write for example 0s, 5m, 3h31m"))
}

fn play(case: &CaseDoc, suite: &SuiteDoc, bench: &Bench, reach: &mut Reach) -> Vec<String> {
    match story(case, suite, bench) {
        Ok((stage, mut failures)) => {
            failures.extend(stage.judge_never(&case.never));
            failures.extend(case.sent.iter().filter_map(|(name, want)| stage.judge_sent(name, want)));
            failures.extend(case.why.0.iter().filter_map(|why| stage.judge_why(why)));
            reach.add(case, &stage);
            failures
        }
        Err(error) => vec![error],
    }
}

fn story(case: &CaseDoc, suite: &SuiteDoc, bench: &Bench) -> Result<(Stage, Vec<String>), String> {
    let start = case.clock.as_ref().or(suite.clock.as_ref()).map_or("2026-09-14T06:00+08:00", |c| c.start.as_str());
    let start: Timestamp = start.parse().map_err(|_| format!("clock: {start} is not a time with its offset"))?;
    let mut stage = Stage::new(bench.engines()?, start);
    let envelopes: BTreeMap<&String, &String> = suite.envelopes.iter().chain(&case.envelopes).collect();
    for (rule, how) in envelopes {
        stage.sign(rule, how)?;
    }
    // What happens at an instant happens before what is expected of it.
    let mut steps = Vec::new();
    for (text, acts) in &case.at {
        steps.push((offset(text)?, 0, Some(acts), None, text));
    }
    for (text, expect) in &case.expect {
        steps.push((offset(text)?, 1, None, Some(expect), text));
    }
    steps.sort_by_key(|(at, order, ..)| (*at, *order));
    let mut failures = Vec::new();
    for (at, _, acts, expect, text) in steps {
        stage.pass_to(start + at).map_err(|error| format!("before {text}: {error}"))?;
        for act in acts.iter().flat_map(|acts| &acts.0) {
            act_out(&mut stage, act).map_err(|error| format!("at {text}: {error}"))?;
        }
        if let Some(expect) = expect {
            failures.extend(stage.judge(expect).into_iter().map(|wrong| format!("at {text}: {wrong}")));
        }
    }
    Ok((stage, failures))
}

fn act_out(stage: &mut Stage, act: &ActDoc) -> Result<(), String> {
    let ActDoc { alert, update, cancel, approve, reject, pause, resume, notice, heard, officer_cancels } = act;
    if let Some(alert) = alert {
        stage.alert(alert)?;
    }
    if let Some(update) = update {
        stage.update(update)?;
    }
    if let Some(name) = cancel {
        stage.cancel(name)?;
    }
    if let Some(answer) = approve {
        stage.answer(answer, Answer::Approve)?;
    }
    if let Some(answer) = reject {
        stage.answer(answer, Answer::Reject)?;
    }
    if let Some(rule) = pause {
        stage.pause(rule, true)?;
    }
    if let Some(rule) = resume {
        stage.pause(rule, false)?;
    }
    if let Some(notice) = notice {
        stage.notice(notice)?;
    }
    if let Some(department) = heard {
        stage.heard(department)?;
    }
    match officer_cancels {
        Some(which) => stage.officer_cancels(which),
        None => Ok(()),
    }
}

/// Holds a truth table against the table itself, row by row.
fn truth_table(id: &str, case: &CaseDoc, bench: &Bench, reach: &mut Reach) -> Vec<String> {
    let Some((rule, table)) = bench.rules().find_map(|rule| (rule.id == id).then_some((rule, rule.table.as_ref()?)))
    else {
        return vec![format!("rule {id} is not in the packs that are used, or has no table")];
    };
    let mut columns: Vec<ColumnOf> = Vec::new();
    for name in &case.given {
        match table.columns.iter().find(|column| column.name == *name) {
            Some(column) if columns.contains(&column.of) => return vec![format!("the column {name} is given twice")],
            Some(column) => columns.push(column.of),
            None => return vec![format!("the table has no column {name}")],
        }
    }
    let mut failures = Vec::new();
    for written in &case.rows {
        let line = written.referenced.line();
        let cells: Vec<&[String]> = written.value.iter().map(|cell| cell.0.as_slice()).collect();
        if cells.len() != columns.len() + 2 {
            failures.push(format!("line {line}: write {} cells, then what is issued, then the kinds", columns.len()));
            continue;
        }
        let (given, says) = cells.split_at(columns.len());
        let Some(inputs) = inputs(&columns, given, table) else {
            failures.push(format!("line {line}: it stands for too many inputs to try; name fewer words or columns"));
            continue;
        };
        for facts in inputs {
            let rows = table.decide(&facts);
            reach.rows.extend(rows.iter().map(|row| (rule.id.clone(), *row)));
            let rows: Vec<_> = rows.iter().filter_map(|row| table.rows.get(*row)).collect();
            let issued: BTreeSet<&str> = rows.iter().filter_map(|row| row.issue.as_deref()).collect();
            let kinds: BTreeSet<&String> = rows.iter().flat_map(|row| &row.kinds).collect();
            let words = |at: usize| says.get(at).copied().unwrap_or_default();
            let want: BTreeSet<&str> = words(0).iter().map(String::as_str).filter(|word| *word != "none").collect();
            let want_kinds: BTreeSet<&String> = words(1).iter().collect();
            if issued != want || kinds != want_kinds {
                let input: Vec<&str> = facts.values().map(String::as_str).collect();
                let is: Vec<&str> = issued.into_iter().chain(kinds.into_iter().map(String::as_str)).collect();
                let is = if is.is_empty() { "nothing".to_string() } else { is.join(", ") };
                failures.push(format!("line {line}: for {} the table says {is}", input.join(", ")));
            }
        }
    }
    failures
}

/// Every input that a row of a truth table stands for: each member of a group, each of several words. Nothing when they
/// are more than can be tried.
fn inputs(columns: &[ColumnOf], given: &[&[String]], table: &Table) -> Option<Vec<Facts>> {
    let vocabulary = campanile_alert::vocabulary::v1();
    let words = columns.iter().zip(given).map(|(of, words)| {
        let own = || table.columns.iter().find(|column| column.of == *of).map(|column| column.words.clone());
        let words: BTreeSet<String> = match words {
            [] => own().unwrap_or_default(),
            [any] if any == "any" => own().unwrap_or_default(),
            words if *of == ColumnOf::Signal => {
                words.iter().flat_map(|word| vocabulary.expand(word)).map(String::from).collect()
            }
            words => words.iter().cloned().collect(),
        };
        (*of, words)
    });
    every_input(&words.collect::<Vec<_>>())
}

/// What the cases have reached so far.
#[derive(Default)]
struct Reach {
    issued: BTreeSet<String>,
    silent: BTreeSet<String>,
    used: BTreeSet<String>,
    rows: BTreeSet<(String, usize)>,
}

impl Reach {
    fn add(&mut self, case: &CaseDoc, stage: &Stage) {
        let issued: BTreeSet<String> = stage.sent.iter().map(|effect| effect.key.rule.clone()).collect();
        // A rule is tested to be silent when it was looked at, issued nothing, and the case expects that.
        let expects = !case.never.is_empty()
            || !case.why.0.is_empty()
            || case.expect.values().any(|expect| !expect.none.0.is_empty());
        let looked_at: BTreeSet<String> = stage.notes.iter().map(|note| note.rule.clone()).collect();
        let asked: BTreeSet<String> = case.why.0.iter().map(|why| why.rule.clone()).collect();
        if expects {
            self.silent.extend(looked_at.difference(&issued).cloned());
            self.silent.extend(asked.difference(&issued).cloned());
        }
        self.issued.extend(issued);
        for (rule, row) in &stage.used {
            match row {
                Some(row) => _ = self.rows.insert((rule.clone(), *row)),
                None => _ = self.used.insert(rule.clone()),
            }
        }
    }

    fn coverage(&self, bench: &Bench) -> Coverage {
        let mut coverage = Coverage::default();
        for rule in bench.rules() {
            coverage.rules += 1;
            if !self.issued.contains(&rule.id) {
                coverage.rules_without_positive.push(rule.id.clone());
            }
            if !self.silent.contains(&rule.id) {
                coverage.rules_without_negative.push(rule.id.clone());
            }
            for (index, row) in rule.table.iter().flat_map(|table| table.rows.iter().enumerate()) {
                coverage.rows += 1;
                if !self.rows.contains(&(rule.id.clone(), index)) {
                    coverage.rows_without_case.push(format!("{} line {}", rule.id, row.line));
                }
            }
        }
        for gives_way in bench.packs.values().flatten().flat_map(|pack| &pack.suppressions) {
            coverage.rules += 1;
            if !self.used.contains(&gives_way.id) {
                coverage.rules_without_positive.push(gives_way.id.clone());
            }
        }
        coverage
    }
}

fn shortfalls(suite: &SuiteDoc, cases: &[CaseReport], coverage: &Coverage) -> Vec<String> {
    let mut missing = Vec::new();
    if cases.is_empty() {
        missing.push("the file has no cases; a pack without tests is not tested".to_string());
    }
    let share = |text: &Option<String>| {
        text.as_ref().and_then(|text| text.trim().trim_end_matches('%').parse::<usize>().ok()).unwrap_or(0)
    };
    let below = |want: usize, all: usize, open: usize| all > 0 && (all - open) * 100 < want * all;
    let (rules, rows) = (share(&suite.coverage.rules), share(&suite.coverage.rows));
    if below(rules, coverage.rules, coverage.rules_without_positive.len()) {
        missing.push(format!("no case makes these rules issue: {}", coverage.rules_without_positive.join(", ")));
    }
    if below(rows, coverage.rows, coverage.rows_without_case.len()) {
        missing.push(format!("these rows decide in no case: {}", coverage.rows_without_case.join(", ")));
    }
    if suite.coverage.must_have_negative_test && !coverage.rules_without_negative.is_empty() {
        missing.push(format!("no case expects silence of: {}", coverage.rules_without_negative.join(", ")));
    }
    missing
}
