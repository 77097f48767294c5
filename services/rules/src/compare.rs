//! What a change of a pack means, in sentences: not which lines differ, but what now happens otherwise.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::{ColumnOf, Facts, Table, every_input};
use crate::{Pack, Rule};

/// The differences between two versions of a pack, one sentence each, in the order of the rules; empty when nothing
/// that people would notice differs.
pub fn compare(old: &Pack, new: &Pack) -> Vec<String> {
    let by_id = |pack: &Pack| -> BTreeMap<String, Rule> {
        pack.rules.iter().map(|rule| (rule.id.clone(), rule.clone())).collect()
    };
    let (before, after) = (by_id(old), by_id(new));
    let mut out = Vec::new();
    let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for id in ids {
        match (before.get(id), after.get(id)) {
            (None, Some(rule)) => out.push(format!("{id} is new: {}", rule.title.en)),
            (Some(rule), None) => out.push(format!("{id} is gone: {}", rule.title.en)),
            (Some(a), Some(b)) => rules(a, b, &mut out),
            (None, None) => {}
        }
    }
    for (name, session) in &new.schedule.sessions {
        match old.schedule.sessions.get(name) {
            None => out.push(format!("session {name} is new, {} to {}", session.starts, session.ends)),
            Some(before) if before != session => {
                let shown = |s: &crate::calendar::Session| {
                    let resume = s.resume_by.map_or(String::new(), |at| format!(", may resume until {at}"));
                    format!("{} / {} to {}{resume}", s.opens, s.starts, s.ends)
                };
                out.push(format!("session {name} was {}, is {}", shown(before), shown(session)));
            }
            Some(_) => {}
        }
    }
    let gone = old.schedule.sessions.keys().filter(|name| !new.schedule.sessions.contains_key(*name));
    out.extend(gone.map(|name| format!("session {name} is gone")));
    for (name, value) in &new.params {
        match old.params.get(name) {
            Some(before) if before != value => out.push(format!("parameter {name} was {before}, is {value}")),
            Some(_) => {}
            None => out.push(format!("parameter {name} is new: {value}")),
        }
    }
    let ways = |pack: &Pack| -> BTreeSet<String> {
        let way = |s: &crate::Suppression| format!("{} gives way to {} ({})", s.effect, s.during, s.id);
        pack.suppressions.iter().map(way).collect()
    };
    out.extend(ways(new).difference(&ways(old)).map(|way| format!("now {way}")));
    out.extend(ways(old).difference(&ways(new)).map(|way| format!("no longer {way}")));
    out
}

fn rules(a: &Rule, b: &Rule, out: &mut Vec<String>) {
    let id = &a.id;
    let mut changed = |what: &str, was: String, is: String| {
        if was != is {
            out.push(format!("{id}: {what} was {was}, is {is}"));
        }
    };
    let list = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(", ");
    let optional = |value: Option<String>| value.unwrap_or_else(|| "any".into());
    changed("what it waits for", a.cause.event.clone(), b.cause.event.clone());
    let from = |rule: &Rule| list(&mut rule.cause.from.iter().map(ToString::to_string));
    changed("whom it trusts", from(a), from(b));
    let level = |rule: &Rule| optional(rule.cause.level_min.map(|level| level.to_string()));
    changed("the least level", level(a), level(b));
    let signals = |rule: &Rule| optional(rule.cause.signals.as_ref().map(|s| list(&mut s.iter().cloned())));
    changed("the signals", signals(a), signals(b));
    let certainty =
        |rule: &Rule| optional(rule.cause.certainty.as_ref().map(|c| list(&mut c.iter().map(ToString::to_string))));
    changed("the certainty", certainty(a), certainty(b));
    changed("the time it must hold", format!("{} s", a.hold_s), format!("{} s", b.hold_s));
    let within = |rule: &Rule| optional(rule.pick.as_ref().and_then(|p| p.within_m).map(|m| format!("{m} m")));
    changed("the distance", within(a), within(b));
    let only_if = |rule: &Rule| optional(rule.only_if.as_ref().map(|c| c.source().to_string()));
    changed("only-if", only_if(a), only_if(b));
    changed("how many must agree", a.approve.need.to_string(), b.approve.need.to_string());
    let by = |rule: &Rule| list(&mut rule.approve.by.iter().cloned());
    changed("who is asked", by(a), by(b));
    let silence = |rule: &Rule| match &rule.approve.silence {
        None => "nothing".to_string(),
        Some(silence) => format!("{:?} after {} s", silence.then, silence.within_s),
    };
    changed("what silence leads to", silence(a), silence(b));
    changed("how long it lingers", format!("{} s", a.until.linger_s), format!("{} s", b.until.linger_s));
    changed("the longest it stays", format!("{} s", a.until.max_s), format!("{} s", b.until.max_s));
    changed("the severity", a.then.severity.to_string(), b.then.severity.to_string());
    match (&a.table, &b.table) {
        (Some(old), Some(new)) => tables(id, old, new, out),
        (None, None) if a.then.issue != b.then.issue => {
            out.push(format!("{id}: what it issues was {}, is {}", a.then.issue, b.then.issue));
        }
        (None, None) => {}
        _ => out.push(format!("{id}: it now decides {} a table", if b.table.is_some() { "by" } else { "without" })),
    }
    if a.then.texts != b.then.texts {
        out.push(format!("{id}: what people read changes"));
    }
    if a.sources != b.sources {
        out.push(format!("{id}: what it cites changes"));
    }
    if a.envelope != b.envelope {
        out.push(format!("{id}: its envelope changes, so persons sign it anew"));
    } else if a.envelope.is_some() && a.digest != b.digest {
        out.push(format!("{id}: its digest changes, so the envelope is signed anew"));
    }
}

/// What a table says of an input: what is issued, with its kinds.
type Says = BTreeMap<String, BTreeSet<String>>;

fn tables(id: &str, old: &Table, new: &Table, out: &mut Vec<String>) {
    // Both are asked about every input that either of them knows.
    let mut words: BTreeMap<ColumnOf, BTreeSet<String>> = BTreeMap::new();
    for column in old.columns.iter().chain(&new.columns) {
        words.entry(column.of).or_default().extend(column.words.iter().cloned());
    }
    let words: Vec<_> = words.into_iter().collect();
    let Some(inputs) = every_input(&words) else {
        return out.push(format!("{id}: the tables are too large to be compared input by input"));
    };
    // One sentence for all inputs that change alike.
    let mut alike: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for facts in inputs {
        let (was, is) = (says(old, &facts), says(new, &facts));
        if was != is {
            let input = facts.values().map(String::as_str).collect::<Vec<_>>().join(" ");
            alike.entry(change(&was, &is)).or_default().push(input);
        }
    }
    for (change, inputs) in alike {
        let more = if inputs.len() > 4 { format!(" and {} more", inputs.len() - 4) } else { String::new() };
        let shown: Vec<&str> = inputs.iter().take(4).map(String::as_str).collect();
        out.push(format!("{id}: {}{more} now {change}", shown.join(", ")));
    }
}

fn says(table: &Table, facts: &Facts) -> Says {
    let mut out = Says::new();
    for row in table.decide(facts).iter().filter_map(|row| table.rows.get(*row)) {
        if let Some(issue) = &row.issue {
            out.entry(issue.clone()).or_default().extend(row.kinds.iter().cloned());
        }
    }
    out
}

fn change(was: &Says, is: &Says) -> String {
    let shown = |kinds: &BTreeSet<String>| {
        if kinds.is_empty() {
            String::new()
        } else {
            format!(" ({})", kinds.iter().cloned().collect::<Vec<_>>().join(", "))
        }
    };
    let mut parts = Vec::new();
    for (issue, kinds) in is {
        match was.get(issue) {
            None => parts.push(format!("issues {issue}{}", shown(kinds))),
            Some(before) => {
                let (more, less): (BTreeSet<String>, BTreeSet<String>) =
                    (kinds.difference(before).cloned().collect(), before.difference(kinds).cloned().collect());
                if !more.is_empty() {
                    parts.push(format!("also issues {issue}{}", shown(&more)));
                }
                if !less.is_empty() {
                    parts.push(format!("no longer issues {issue}{}", shown(&less)));
                }
            }
        }
    }
    let gone = was.keys().filter(|issue| !is.contains_key(*issue));
    parts.extend(gone.map(|issue| format!("no longer issues {issue}")));
    parts.join(" and ")
}
