//! An expectation in words, for reports.

use crate::scenario::{Claim, Expect, Match};

/// What is expected, in one English sentence without a full stop: the planner's own text, or one made from the claim.
pub fn sentence(expect: &Expect) -> String {
    if let Some(text) = &expect.text {
        return text.en().to_owned();
    }
    let claim = expect.claims().first().map_or_else(String::new, |claim| of_claim(*claim, expect));
    let when = match (expect.by, expect.at, expect.always) {
        (Some(by), ..) => format!(" by {by}"),
        (_, Some(at), _) => format!(" at {at}"),
        (.., true) => " at any time".into(),
        _ => String::new(),
    };
    let node = expect.node.as_ref().map(|node| format!(" at {node}")).unwrap_or_default();
    format!("{claim}{node}{when}")
}

fn of_claim(claim: Claim<'_>, expect: &Expect) -> String {
    let on = |target: &Option<String>| target.as_ref().map(|target| format!(" for {target}")).unwrap_or_default();
    let of = |rule: &Option<String>| rule.as_ref().map(|rule| format!(" of {rule}")).unwrap_or_default();
    match claim {
        Claim::Live(meant) => format!("{} is in force", matched(meant)),
        Claim::None(meant) if meant.at.is_some() => format!("no notice of {}", matched(meant)),
        Claim::None(meant) => format!("{} is not in force", matched(meant)),
        Claim::Never(meant) => format!("{} is never seen", matched(meant)),
        Claim::Conflict(meant) => {
            let [a, b] = &meant.between;
            let to = meant.shown_to.as_ref().map(|to| format!(", and {to} is asked")).unwrap_or_default();
            format!("{a} and {b} meet{}{to}", on(&meant.target))
        }
        Claim::Stale(meant) => {
            let to = meant.shown_to.as_deref().unwrap_or("somebody");
            format!("{to} is told that {} is not heard", meant.from)
        }
        Claim::Pending(meant) => {
            let times = meant.count.map(|count| format!(" ({count} in all)")).unwrap_or_default();
            match &meant.review {
                Some(effect) => format!("{effect}{} waits for a review{times}", on(&meant.target)),
                None => format!("a question{}{} waits{times}", of(&meant.rule), on(&meant.target)),
            }
        }
        Claim::Escalated(meant) => format!("{} is asked after silence{}", meant.to, of(&meant.rule)),
        Claim::Acks(meant) => {
            let who = expect.person.as_deref().unwrap_or("somebody");
            let what = meant.rule.as_ref().or(meant.inject.as_ref());
            let what = what.map(|what| format!(" {what}")).unwrap_or_default();
            let within = meant.within.map(|within| format!(" within {within}")).unwrap_or_default();
            format!("{who} answers{what}{within}")
        }
        Claim::Count(meant) => {
            let number = [("", meant.is), ("at most ", meant.at_most), ("at least ", meant.at_least)];
            let number: Vec<String> = number.iter().filter_map(|(word, n)| n.map(|n| format!("{word}{n}"))).collect();
            let what = meant.effect.as_ref().or(meant.inject.as_ref()).map_or("alert", String::as_str);
            let kind = if meant.at.is_some() { "notices of " } else { "" };
            format!("{} {kind}{what}{}", number.join(" and "), on(&meant.target))
        }
        Claim::Sent(meant) => {
            let types: Vec<&str> = meant.is.iter().map(|sent| sent.as_cap()).collect();
            format!("{}{} is sent as {}", meant.effect, on(&meant.target), types.join(", "))
        }
        Claim::Notice(meant) => format!("a notice of {} reaches a sink", matched(meant)),
        Claim::Same(_) => "all nodes hold the same records".into(),
        Claim::Frozen => "the drill stops itself because something real came".into(),
        Claim::Judged => {
            let who = expect.judged_by.as_deref().unwrap_or("an observer");
            format!("{who} judges: {}", expect.question.as_deref().unwrap_or(""))
        }
    }
}

fn matched(meant: &Match) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.push(meant.effect.clone().or(meant.signal.clone()).or(meant.inject.clone()).unwrap_or("a message".into()));
    let mut add = |word: &str, value: Option<String>| parts.extend(value.map(|value| format!("{word} {value}")));
    add("for", meant.target.clone());
    add("from", meant.from.clone());
    add("concerning", meant.kinds.as_ref().map(|kinds| kinds.join(", ")));
    add("level", meant.level.map(|level| level.to_string()));
    add("of severity", meant.severity.map(|severity| severity.to_string()));
    add("with status", meant.status.map(|status| status.to_string()));
    add("as", meant.msg_type.map(|sent| sent.to_string()));
    add("saying", meant.headline.as_ref().map(|part| format!("“{part}”")));
    add("because of", meant.chain.as_ref().map(|chain| chain.join(", ")));
    add("outside a", meant.outside.map(|_| "sink".into()));
    add("without", meant.unmarked.then(|| "the marks of the drill".into()));
    parts.join(" ")
}
