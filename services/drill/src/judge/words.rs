//! An expectation in words, for reports: in English, and in Traditional Chinese.

use crate::han::spaced;
use crate::scenario::{Claim, Deadline, Expect, Match};

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

/// The same in Traditional Chinese; a text that the planner gave in one language stays as it is.
pub fn sentence_zh(expect: &Expect) -> String {
    if let Some(text) = &expect.text {
        return text.zh_hant().to_owned();
    }
    let claim = expect.claims().first().map_or_else(String::new, |claim| of_claim_zh(*claim, expect));
    let when = match (expect.by, expect.at, expect.always) {
        (Some(by), ..) => Some(format!("{}或之前", moment_zh(by))),
        (_, Some(at), _) => Some(format!("{}時", moment_zh(at))),
        (.., true) => Some("任何時候".into()),
        _ => None,
    };
    let node = expect.node.as_ref().map(|node| format!("在{node}"));
    let place: Vec<String> = [when, node].into_iter().flatten().collect();
    spaced(&if place.is_empty() { claim } else { format!("{}：{claim}", place.join("，")) })
}

fn moment_zh(moment: Deadline) -> String {
    if moment == Deadline::End { "結束".into() } else { moment.to_string() }
}

fn of_claim_zh(claim: Claim<'_>, expect: &Expect) -> String {
    let on = |target: &Option<String>| target.as_ref().map(|target| format!("（目標{target}）")).unwrap_or_default();
    let times = |count: Option<u32>| count.map(|count| format!("（共{count}項）")).unwrap_or_default();
    match claim {
        Claim::Live(meant) => format!("{}生效", matched_zh(meant)),
        Claim::None(meant) if meant.at.is_some() => format!("沒有{}的通知", matched_zh(meant)),
        Claim::None(meant) => format!("{}並未生效", matched_zh(meant)),
        Claim::Never(meant) => format!("從未出現{}", matched_zh(meant)),
        Claim::Conflict(meant) => {
            let [a, b] = &meant.between;
            let to = meant.shown_to.as_ref().map(|to| format!("，並請示{to}")).unwrap_or_default();
            format!("{a}與{b}相遇{}{to}", on(&meant.target))
        }
        Claim::Stale(meant) => {
            format!("{}獲告知{}失聯", meant.shown_to.as_deref().unwrap_or("有人"), meant.from)
        }
        Claim::Pending(meant) => match &meant.review {
            Some(effect) => format!("{effect}{}待覆核{}", on(&meant.target), times(meant.count)),
            None => {
                let of = meant.rule.as_ref().map(|rule| format!("{rule}的")).unwrap_or_default();
                format!("{of}請示{}待答{}", on(&meant.target), times(meant.count))
            }
        },
        Claim::Escalated(meant) => {
            let of = meant.rule.as_ref().map(|rule| format!("（{rule}）")).unwrap_or_default();
            format!("無人答覆後請示{}{of}", meant.to)
        }
        Claim::Acks(meant) => {
            let what = meant.rule.as_ref().or(meant.inject.as_ref()).map(|what| format!(" {what}")).unwrap_or_default();
            let within = meant.within.map(|within| format!("（{within}內）")).unwrap_or_default();
            format!("{}答覆{what}{within}", expect.person.as_deref().unwrap_or("有人"))
        }
        Claim::Count(meant) => {
            let number = [("", meant.is), ("至多 ", meant.at_most), ("至少 ", meant.at_least)];
            let number: Vec<String> = number.iter().filter_map(|(word, n)| n.map(|n| format!("{word}{n}"))).collect();
            let what = meant.effect.as_ref().or(meant.inject.as_ref()).map_or("警報", String::as_str);
            let kind = if meant.at.is_some() { "的通知" } else { "" };
            format!("{what}{}{kind}共{}項", on(&meant.target), number.join("，"))
        }
        Claim::Sent(meant) => {
            let types: Vec<&str> = meant.is.iter().map(|sent| sent.as_cap()).collect();
            format!("{}{}依次以{}發出", meant.effect, on(&meant.target), types.join("、"))
        }
        Claim::Notice(meant) => format!("{}的通知送達接收端", matched_zh(meant)),
        Claim::Same(_) => "所有節點持有相同的記錄".into(),
        Claim::Frozen => "演習因真實警報而自動凍結".into(),
        Claim::Judged => {
            let who = expect.judged_by.as_deref().unwrap_or("觀察員");
            format!("{who}評核：{}", expect.question.as_deref().unwrap_or(""))
        }
    }
}

fn matched_zh(meant: &Match) -> String {
    let name = meant.effect.clone().or(meant.signal.clone()).or(meant.inject.clone()).unwrap_or("訊息".into());
    let mut parts: Vec<String> = Vec::new();
    let mut add = |word: &str, value: Option<String>| parts.extend(value.map(|value| format!("{word}{value}")));
    add("目標 ", meant.target.clone());
    add("發自 ", meant.from.clone());
    add("關於 ", meant.kinds.as_ref().map(|kinds| kinds.join("、")));
    add("級別 ", meant.level.map(|level| level.to_string()));
    add("嚴重程度 ", meant.severity.map(|severity| severity.to_string()));
    add("狀態 ", meant.status.map(|status| status.to_string()));
    add("類型 ", meant.msg_type.map(|sent| sent.to_string()));
    add("內容含", meant.headline.as_ref().map(|part| format!("「{part}」")));
    add("起因 ", meant.chain.as_ref().map(|chain| chain.join("、")));
    add("", meant.outside.map(|_| "接收端以外".into()));
    add("", meant.unmarked.then(|| "沒有演習標記".into()));
    if parts.is_empty() { name } else { format!("{name}（{}）", parts.join("，")) }
}
