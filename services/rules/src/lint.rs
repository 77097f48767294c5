//! What can be said about a pack only with what lies around it: its data, its tests, the day, the other packs; and the
//! findings in the forms that editors and build servers read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::trial::Coverage;
use crate::{DataSets, Diagnostic, Fault, Files, Gravity, Pack, Rule};
use campanile_alert::Timestamp;

/// A data set larger than this needs a bound on how many of its sites one cause may touch.
const SITES_UNBOUNDED_MAX: usize = 500;

/// Every code, and what it means.
pub const CODES: [(&str, &str); 30] = [
    ("E001", "a field or name that is not known here"),
    ("E002", "a word that the vocabulary does not have"),
    ("E003", "a value of the wrong kind"),
    ("E004", "something named that the pack does not have"),
    ("E005", "a field missing, twice, or YAML that does not parse"),
    ("E006", "a function that does not exist"),
    ("E010", "an effect that the owner has no authority for"),
    ("E011", "a trusted issuer that may not issue the cause"),
    ("E012", "an id that stands twice or does not belong to the owner"),
    ("E020", "rules of the federation that trigger each other in a circle"),
    ("E021", "a chain of rules beyond the limit"),
    ("E022", "a join or a table without a bound"),
    ("E030", "two rows that take one input and say different things"),
    ("E031", "two effects that contradict each other, and nothing says which holds"),
    ("W032", "an input that no row takes"),
    ("W033", "a row or condition that never or always decides"),
    ("E033", "an effect that gives way to itself"),
    ("E040", "a rule that could turn an exercise into something real"),
    ("E050", "a rule without a positive or a negative test"),
    ("W051", "a row that no test reaches"),
    ("E060", "a rule without a citation"),
    ("W061", "a rule whose effective date has lapsed"),
    ("W062", "a cited text that has changed"),
    ("E070", "an effect without an end"),
    ("E071", "silence that issues without a reason, or a question that too few persons may answer"),
    ("E072", "nobody is asked"),
    ("E080", "an expression that is too long, too deep or does not parse"),
    ("W090", "a hold longer than the cause lives"),
    ("E091", "a text that lacks what, where, what to do, or retraction in an official language"),
    ("W091", "a text that a channel would cut off"),
];

/// Takes every E code as an error, also what a node would read with a warning because its roster may say otherwise.
pub fn strictly(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let strict = |one: Diagnostic| {
        let gravity = if one.code.starts_with('E') { Gravity::Error } else { one.gravity };
        Diagnostic { gravity, ..one }
    };
    found.into_iter().map(strict).collect()
}

/// The ids of the persons behind each role.
pub type Holders = BTreeMap<String, BTreeSet<String>>;

/// What lies around a pack.
#[derive(Debug, Default)]
pub struct Around<'a> {
    /// Its data sets, as far as they could be read.
    pub data: DataSets,
    /// Copies of cited texts beside it, by name.
    pub copies: Files,
    /// What its tests reach; `None` when they could not be run.
    pub coverage: Option<&'a Coverage>,
    /// The persons who hold each role of the roster; `None` when none was given.
    pub holders: Option<&'a Holders>,
    /// The time now.
    pub now: Timestamp,
}

/// The findings about a sound pack that need more than its text. `text` is the pack, for the places.
pub fn around(pack: &Pack, text: &str, around: &Around<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut say = |id: &str, code: &'static str, message: String, help: Option<&str>| {
        found.push(at_rule(text, id, code, message, help));
    };
    for rule in &pack.rules {
        if let Some(sites) = unbounded(rule, &around.data) {
            let message = format!("{} may touch {sites} sites for one cause", rule.id);
            say(
                &rule.id,
                "E022",
                message,
                Some("add `at-most: 50` to `pick`, or `sites: {at-most: …}` to the envelope"),
            );
        }
        if rule.effective_to.is_some_and(|to| to <= around.now) {
            let message = format!("{} no longer counts; its effective date has lapsed", rule.id);
            say(&rule.id, "W061", message, Some("cite the text now in force, or remove the rule"));
        }
        for message in around.holders.into_iter().flat_map(|holders| unanswered(rule, holders)) {
            say(&rule.id, "E071", message, Some("give the role to more persons in the roster, or ask others"));
        }
        for (source, (file, digest)) in rule.sources.iter().filter_map(|s| Some((s, s.copy.as_ref()?))) {
            let is = around.copies.get(file).map(|bytes| hex::encode(Sha256::digest(bytes)));
            if is.as_ref() != Some(digest) {
                let what = if is.is_some() { "has changed" } else { "is not there" };
                let message = format!("the cited text “{}” ({file}) {what}", source.text);
                say(&rule.id, "W062", message, Some("read it again, mend the rule, and write its new SHA-256"));
            }
        }
    }
    if let Some(coverage) = around.coverage {
        for id in &coverage.rules_without_positive {
            say(id, "E050", format!("no test makes {id} issue"), Some("add a case that expects it to be live"));
        }
        for id in &coverage.rules_without_negative {
            say(
                id,
                "E050",
                format!("no test expects {id} to be silent"),
                Some("add a case with `none`, `never` or `why`"),
            );
        }
        for row in &coverage.rows_without_case {
            let id = row.split(' ').next().unwrap_or(row);
            say(id, "W051", format!("no test reaches {row}"), Some("add the row to a `table:` case"));
        }
    }
    found.sort();
    found
}

/// How many sites a rule may touch when nothing bounds it; `None` when something does.
fn unbounded(rule: &Rule, data: &DataSets) -> Option<usize> {
    let pick = rule.pick.as_ref()?;
    let bounded = pick.at_most.is_some()
        || pick.within_m.is_some_and(|metres| metres <= 5_000.0)
        || rule.envelope.as_ref().is_some_and(|envelope| envelope.sites_max.is_some())
        || pick.columns.values().any(|column| *column == crate::ColumnMatch::CauseSite);
    let sites = data.get(&pick.targets).map(|set| set.sites().count())?;
    (!bounded && sites > SITES_UNBOUNDED_MAX).then_some(sites)
}

/// The questions of a rule that too few persons may answer.
fn unanswered(rule: &Rule, holders: &Holders) -> Vec<String> {
    let approve = &rule.approve;
    let escalated = approve.escalation.as_ref().map(|next| (approve.need, &approve.by | &next.notify));
    let asked = [
        ("asks for", Some((approve.need, approve.by.clone()))),
        ("asks, once it is escalated, for", escalated),
        ("has an envelope that wants", rule.envelope.as_ref().map(|envelope| (envelope.need, envelope.by.clone()))),
        ("asks in a conflict for", rule.conflict.as_ref().map(|conflict| (1, [conflict.ask.clone()].into()))),
    ];
    let short = |(what, (need, roles)): (&str, (usize, BTreeSet<String>))| {
        let persons: BTreeSet<&String> = roles.iter().filter_map(|role| holders.get(role)).flatten().collect();
        let (has, roles) = (persons.len(), roles.into_iter().collect::<Vec<_>>().join(" or "));
        (has < need).then(|| format!("{} {what} {need} persons who are {roles}; the roster has {has}", rule.id))
    };
    asked.into_iter().filter_map(|(what, whom)| short((what, whom?))).collect()
}

/// A fault between packs as a finding of the pack in whose text one of its rules stands.
pub fn between(fault: &Fault, text: &str) -> Diagnostic {
    let (code, rules) = match fault {
        Fault::Cycle(rules) => ("E020", rules.clone()),
        Fault::TooDeep(rules) => ("E021", rules.clone()),
        Fault::Contradiction { first, second, .. } => ("E031", vec![first.clone(), second.clone()]),
        Fault::Duplicate(rule) => ("E012", vec![rule.clone()]),
    };
    let told = fault.to_string();
    let (message, help) = told.split_once("; ").unwrap_or((told.as_str(), ""));
    let own = rules.iter().find(|rule| line_of(text, rule) > 0).or(rules.first());
    at_rule(text, own.map_or("", String::as_str), code, message.to_string(), Some(help))
}

fn at_rule(text: &str, id: &str, code: &'static str, message: String, help: Option<&str>) -> Diagnostic {
    let line = line_of(text, id);
    let gravity = if code.starts_with('W') { Gravity::Warning } else { Gravity::Error };
    let column = if line > 0 { 1 } else { 0 };
    Diagnostic { line, column, code, gravity, message, help: help.map(String::from) }
}

/// The line on which a rule begins; 0 when it is not there.
fn line_of(text: &str, id: &str) -> u64 {
    let begins = |line: &str| {
        let rest = line.trim_start().trim_start_matches("- ").strip_prefix("rule:");
        rest.is_some_and(|rest| rest.trim() == id)
    };
    text.lines().position(begins).map_or(0, |index| index as u64 + 1)
}

/// The findings of several files as SARIF 2.1.0, for code review on a build server.
///
/// Source: OASIS SARIF 2.1.0.
pub fn sarif(found: &[(String, Diagnostic)]) -> Value {
    let rules: Vec<Value> =
        CODES.iter().map(|(code, means)| json!({"id": code, "shortDescription": {"text": means}})).collect();
    let result = |(file, found): &(String, Diagnostic)| {
        let help = found.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
        json!({
            "ruleId": found.code,
            "level": if found.gravity == Gravity::Error { "error" } else { "warning" },
            "message": {"text": format!("{}{help}", found.message)},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": file},
                "region": {"startLine": found.line.max(1), "startColumn": found.column.max(1)},
            }}],
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "campanile", "rules": rules}},
            "results": found.iter().map(result).collect::<Vec<Value>>(),
        }],
    })
}
