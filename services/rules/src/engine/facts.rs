//! What a condition (`only-if`) is shown of a cause, a target, a session and the clock.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::Stopped;
use super::state::{Known, Lineage};
use super::{Active, Engine, Step};
use crate::calendar::{Phase, Sitting, local, wall};
use crate::condition::{Answer, Condition, Datum, Facts};
use crate::{Sentence, Site, Verdict};

impl Engine {
    /// The targets for which the condition holds, or why it holds for none.
    pub(super) fn keep_if(
        &self,
        condition: &Condition,
        active: &Active,
        lineage: &Lineage,
        known: &Known,
        picked: BTreeSet<String>,
        step: &Step,
    ) -> Result<BTreeSet<String>, Stopped> {
        let set = active.rule.pick.as_ref().and_then(|pick| self.data.get(&pick.targets));
        let mut facts = self.condition_facts(active, lineage, known, None, None, step);
        let (mut kept, mut first) = (BTreeSet::new(), None);
        // A condition that looks at no target has one answer for all of them.
        let each = condition.looks_at("target");
        let mut once = None;
        for target in picked {
            let site = set.and_then(|set| set.site(&target));
            if each {
                facts.insert("target", target_facts(condition, active, site, &target, step));
            }
            let answer = match &once {
                Some(answer) if !each => Clone::clone(answer),
                _ => condition.decide(&facts),
            };
            once.get_or_insert_with(|| answer.clone());
            match answer {
                Ok(Answer::Holds) => _ = kept.insert(target),
                Ok(Answer::Stops(part)) => {
                    let name = |tag: &str| site.map_or(target.as_str(), |site| site.name(tag)).to_string();
                    first.get_or_insert_with(|| match each {
                        true => Sentence::new(
                            format!("it is not so that {part} for {}", name("en")),
                            format!("{} 不符合條件 {part}", name("zh-Hant")),
                        ),
                        false => Sentence::new(format!("it is not so that {part}"), format!("不符合條件 {part}")),
                    });
                }
                // What cannot be decided is never taken as a yes, and is never silent.
                Err(error) => {
                    let why =
                        Sentence::new(format!("only-if has no answer: {error}"), format!("only-if 未能判斷：{error}"));
                    return Err((Verdict::Refused, why));
                }
            }
        }
        match (kept.is_empty(), first) {
            (true, Some(why)) => Err((Verdict::NotMatched, why)),
            _ => Ok(kept),
        }
    }

    pub(super) fn condition_facts(
        &self,
        active: &Active,
        lineage: &Lineage,
        known: &Known,
        target: Option<Datum>,
        session: Option<(&Sitting, Phase)>,
        step: &Step,
    ) -> Facts {
        let first = |words: Vec<String>| Datum::Text(words.into_iter().next().unwrap_or_default());
        let at = wall(step.time);
        let empty = Datum::text("");
        let mut facts = Facts::new();
        facts.insert(
            "cause",
            group([
                ("event", Datum::text(known.event.as_str())),
                ("issuer", Datum::text(lineage.department.as_str())),
                ("signal", known.signal.as_ref().map_or(empty.clone(), Datum::text)),
                ("level", Datum::Int(known.level.map_or(0, i64::from))),
                ("depth", Datum::Int(i64::from(known.depth))),
                ("severity", first(known.severities.iter().map(ToString::to_string).collect())),
                ("urgency", first(known.urgencies.iter().map(ToString::to_string).collect())),
                ("certainty", first(known.certainties.iter().map(ToString::to_string).collect())),
                ("sites", Datum::texts(known.sites.iter().map(String::as_str))),
                ("places", Datum::texts(known.areas.iter().map(|area| area.description.as_str()))),
            ]),
        );
        facts.insert("target", target.unwrap_or_else(|| target_group("", "", 0, BTreeMap::new())));
        let (name, phase) = session.map_or(("", ""), |(sitting, phase)| (sitting.session.as_str(), phase.as_str()));
        facts.insert("session", group([("name", Datum::text(name)), ("phase", Datum::text(phase))]));
        facts.insert(
            "clock",
            group([
                ("hour", Datum::Int(i64::from(at.hour()))),
                ("minute", Datum::Int(i64::from(at.minute()))),
                ("weekday", Datum::Int(i64::from(at.weekday().to_monday_one_offset()))),
                ("date", Datum::Text(at.date().to_string())),
                ("free_day", Datum::Bool(active.frame.free.contains(&at.date()))),
            ]),
        );
        let params = active.frame.params.iter();
        let params = params.map(|(name, value)| (name.clone(), Datum::Int(i64::from(*value)))).collect();
        facts.insert("params", Datum::Map(params));
        facts
    }
}

fn target_facts(condition: &Condition, active: &Active, site: Option<&Site>, target: &str, step: &Step) -> Datum {
    let own = |column: &String| site.and_then(|site| site.columns.get(column));
    let columns = condition.columns().iter();
    let columns = columns
        .map(|column| (column.clone(), Datum::texts(own(column).into_iter().flatten().map(String::as_str))))
        .collect();
    let name = site.map_or(target, |site| site.name("en"));
    target_group(target, name, sessions_today(active, site, step), columns)
}

fn target_group(key: &str, name: &str, sessions_today: i64, columns: BTreeMap<String, Datum>) -> Datum {
    group([
        ("key", Datum::text(key)),
        ("name", Datum::text(name)),
        ("sessions_today", Datum::Int(sessions_today)),
        ("columns", Datum::Map(columns)),
    ])
}

/// How many of the pack's sessions a site holds on the day: those that its column `session` names ("WHOLE DAY" is the
/// session whole-day), or all of them when it has no such column.
fn sessions_today(active: &Active, site: Option<&Site>, step: &Step) -> i64 {
    let frame = &active.frame;
    let day = local(step.time);
    let named: Option<BTreeSet<String>> = site
        .and_then(|site| site.columns.get("session"))
        .map(|words| words.iter().map(|word| word.to_lowercase().replace(' ', "-")).collect());
    let held = frame.schedule.sessions.iter().filter(|(name, session)| {
        let on = session.days.contains(&day.weekday().to_monday_one_offset()) && !frame.free.contains(&day);
        on && named.as_ref().is_none_or(|named| named.contains(*name))
    });
    i64::try_from(held.count()).unwrap_or(i64::MAX)
}

fn group<const N: usize>(fields: [(&str, Datum); N]) -> Datum {
    Datum::Map(fields.into_iter().map(|(name, datum)| (name.to_string(), datum)).collect())
}
