//! Proves that every cascade ends: no cycle among the rules of the whole federation, and no chain beyond the limit; and
//! that no two packs say opposite things without a person being asked.
//!
//! An edge runs from rule r to rule s when an effect of r can be a cause of s: s waits for r's event and trusts r's
//! department. What the graph cannot see (levels, areas, approvals) is taken as possible, so it errs on the safe side:
//! a tired officer is no proof that a cascade ends. Source: Aiken, Widom, Hellerstein, SIGMOD 1992.

use std::collections::{BTreeMap, BTreeSet};

use campanile_alert::{DepartmentId, vocabulary};
use serde::{Deserialize, Serialize};

use crate::DEPTH_MAX;

/// The public summary of a pack: a record of the log, so that anyone can build the whole graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The owner.
    pub department: DepartmentId,
    /// The pack's name.
    pub pack: String,
    /// [`crate::Pack::digest`].
    #[serde(with = "crate::hexed")]
    pub digest: [u8; 32],
    /// Its rules.
    pub rules: Vec<ManifestRule>,
}

/// One rule of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRule {
    /// Its id.
    pub id: String,
    /// What it waits for.
    pub cause: ManifestCause,
    /// The event that it issues.
    pub effect: String,
    /// The greatest depth of its effects, 1 to 4.
    pub depth_max: u32,
    /// The antonyms of its effect that it puts to a person when they are in force.
    #[serde(default)]
    pub conflicts_asked: Vec<String>,
}

/// The causes of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestCause {
    /// The events, any of which is enough.
    pub events: Vec<String>,
    /// The trusted issuers.
    pub from: Vec<DepartmentId>,
}

/// Why a set of packs may not be active together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// Rules that can trigger each other in a circle (E020).
    #[error("rules trigger each other in a circle: {}; let one of them wait for another event or issuer", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// A chain of rules longer than the limit (E021).
    #[error("a chain of {} rules is longer than {DEPTH_MAX}: {}; cut it short", .0.len(), .0.join(" -> "))]
    TooDeep(Vec<String>),
    /// Two rules of different packs whose effects contradict each other, and neither asks a person (E031).
    #[error(
        "{first} issues {first_effect} and {second} issues {second_effect}, which contradict each other, and neither asks \
         a person; declare `conflict` in one of them"
    )]
    Contradiction {
        /// The one rule.
        first: String,
        /// What it issues.
        first_effect: String,
        /// The other.
        second: String,
        /// What that issues.
        second_effect: String,
    },
    /// Two rules with one id.
    #[error("rule {0} stands in two packs; give each rule an id of its own")]
    Duplicate(String),
}

/// Checks all active packs of a federation against each other.
///
/// Gives every rule that stands twice, then one cycle for each knot of rules, and, when there is no cycle, the longest
/// chain if it is longer than [`DEPTH_MAX`]; last the contradictions between packs. Empty means that every cascade ends.
/// The order of `manifests` does not matter. Two versions of a pack (one name, two digests) do not contradict each other.
pub fn check_federation(manifests: &[Manifest]) -> Vec<Fault> {
    // A table stands once for each thing it issues, so an id alone is no duplicate.
    let mut nodes: BTreeMap<(&str, &str), (&DepartmentId, &ManifestRule)> = BTreeMap::new();
    let mut packs: BTreeMap<&str, (&DepartmentId, &str)> = BTreeMap::new();
    let mut faults = Vec::new();
    for (manifest, rule) in manifests.iter().flat_map(|m| m.rules.iter().map(move |rule| (m, rule))) {
        let pack = (&manifest.department, manifest.pack.as_str());
        let elsewhere = packs.insert(&rule.id, pack).is_some_and(|other| other != pack);
        if nodes.insert((&rule.id, &rule.effect), (&manifest.department, rule)).is_some() || elsewhere {
            faults.push(Fault::Duplicate(rule.id.clone()));
        }
    }
    let mut waiting: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let rules: Vec<(&DepartmentId, &ManifestRule)> = nodes.into_values().collect();
    for (index, (_, rule)) in rules.iter().enumerate() {
        for event in &rule.cause.events {
            waiting.entry(event).or_default().push(index);
        }
    }
    let edges: Vec<Vec<usize>> = rules
        .iter()
        .map(|(department, rule)| {
            let listeners = waiting.get(rule.effect.as_str()).map_or(&[][..], Vec::as_slice);
            let trusts = |&index: &usize| rules.get(index).is_some_and(|(_, r)| r.cause.from.contains(department));
            listeners.iter().copied().filter(trusts).collect()
        })
        .collect();
    let name = |path: &[usize]| path.iter().filter_map(|&i| rules.get(i)).map(|(_, rule)| rule.id.clone()).collect();
    let walk = Walk::over(&edges);
    if walk.cycles.is_empty() {
        let longest = walk.longest_path();
        if longest.len() > DEPTH_MAX as usize {
            faults.push(Fault::TooDeep(name(&longest)));
        }
    }
    faults.extend(walk.cycles.iter().map(|cycle| Fault::Cycle(name(cycle))));
    faults.extend(contradictions(manifests));
    faults
}

/// Each pair of rules of different packs whose effects are antonyms, unless one of the two asks a person about it. Within
/// one pack the pack's own check sees levels and sessions, and judges more finely.
fn contradictions(manifests: &[Manifest]) -> BTreeSet<Fault> {
    let vocabulary = vocabulary::v1();
    let mut issuing: BTreeMap<&str, Vec<(&Manifest, &ManifestRule)>> = BTreeMap::new();
    for (manifest, rule) in manifests.iter().flat_map(|m| m.rules.iter().map(move |rule| (m, rule))) {
        issuing.entry(&rule.effect).or_default().push((manifest, rule));
    }
    let mut faults = BTreeSet::new();
    for (effect, rules) in &issuing {
        let antonyms = vocabulary.event(effect).into_iter().flat_map(|event| &event.antonyms);
        for antonym in antonyms.filter(|antonym| antonym.as_str() > *effect) {
            let others = issuing.get(antonym.as_str()).map(Vec::as_slice).unwrap_or_default();
            for (manifest, first) in rules {
                let elsewhere =
                    |other: &&&Manifest| (&other.department, &other.pack) != (&manifest.department, &manifest.pack);
                for (_, second) in others.iter().filter(|(other, _)| elsewhere(&other)) {
                    if !first.conflicts_asked.contains(antonym) && !second.conflicts_asked.contains(&first.effect) {
                        faults.insert(Fault::Contradiction {
                            first: first.id.clone(),
                            first_effect: first.effect.clone(),
                            second: second.id.clone(),
                            second_effect: second.effect.clone(),
                        });
                    }
                }
            }
        }
    }
    faults
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Unseen,
    OnPath,
    Done,
}

/// A depth-first walk with its own stack: a long chain must not overflow the thread's.
struct Walk {
    cycles: Vec<Vec<usize>>,
    /// For each rule the length of the longest chain that begins with it, and the next rule on it.
    chains: Vec<(usize, Option<usize>)>,
}

impl Walk {
    fn over(edges: &[Vec<usize>]) -> Self {
        let mut walk = Self { cycles: Vec::new(), chains: vec![(1, None); edges.len()] };
        let mut marks = vec![Mark::Unseen; edges.len()];
        for start in 0..edges.len() {
            walk.visit(start, edges, &mut marks);
        }
        walk
    }

    fn visit(&mut self, start: usize, edges: &[Vec<usize>], marks: &mut [Mark]) {
        if marks.get(start) != Some(&Mark::Unseen) {
            return;
        }
        // (rule, how many of its edges have been walked)
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        set(marks, start, Mark::OnPath);
        while let Some((rule, walked)) = path.last_mut() {
            let (rule, next) = (*rule, edges.get(*rule).and_then(|out| out.get(*walked)).copied());
            *walked += 1;
            match next {
                Some(next) => match marks.get(next) {
                    Some(Mark::Unseen) => {
                        set(marks, next, Mark::OnPath);
                        path.push((next, 0));
                    }
                    Some(Mark::OnPath) => {
                        let from = path.iter().position(|(rule, _)| *rule == next).unwrap_or(0);
                        let mut cycle: Vec<usize> = path.iter().skip(from).map(|(rule, _)| *rule).collect();
                        cycle.push(next);
                        self.cycles.push(cycle);
                    }
                    _ => {}
                },
                None => {
                    let best = edges.get(rule).into_iter().flatten();
                    let best = best.filter_map(|&n| self.chains.get(n).map(|(length, _)| (length + 1, Some(n))));
                    let best = best.max_by_key(|(length, n)| (*length, std::cmp::Reverse(*n))).unwrap_or((1, None));
                    if let Some(chain) = self.chains.get_mut(rule) {
                        *chain = best;
                    }
                    set(marks, rule, Mark::Done);
                    path.pop();
                }
            }
        }
    }

    fn longest_path(&self) -> Vec<usize> {
        let longest = self.chains.iter().enumerate().max_by_key(|(i, (length, _))| (*length, std::cmp::Reverse(*i)));
        let mut at = longest.map(|(index, _)| index);
        let mut path = Vec::new();
        while let Some(index) = at {
            path.push(index);
            at = self.chains.get(index).and_then(|(_, next)| *next);
        }
        path
    }
}

fn set(marks: &mut [Mark], index: usize, mark: Mark) {
    if let Some(slot) = marks.get_mut(index) {
        *slot = mark;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn manifest(department: &str, rules: &[(&str, &str, &str, &str)]) -> Manifest {
        let id = |text: &str| DepartmentId::try_new(text).expect("a department");
        let rules = rules.iter().map(|(rule, event, from, effect)| ManifestRule {
            id: (*rule).into(),
            cause: ManifestCause { events: vec![(*event).into()], from: vec![id(from)] },
            effect: (*effect).into(),
            depth_max: 4,
            conflicts_asked: Vec::new(),
        });
        Manifest { department: id(department), pack: department.into(), digest: [0; 32], rules: rules.collect() }
    }

    #[test]
    fn a_federation_without_a_circle_is_accepted() {
        let had = manifest("had", &[("had.open", "weather-signal", "hko", "shelter-open")]);
        let lcsd = manifest("lcsd", &[("lcsd.close", "shelter-open", "had", "venue-closed")]);
        assert_eq!(check_federation(&[had, lcsd]), []);
    }

    #[test]
    fn a_circle_over_two_departments_is_found_and_named() {
        let a = manifest("a", &[("a.r", "y", "b", "x")]);
        let b = manifest("b", &[("b.r", "x", "a", "y")]);
        let faults = check_federation(&[a.clone(), b.clone()]);
        assert_eq!(faults, [Fault::Cycle(vec!["a.r".into(), "b.r".into(), "a.r".into()])]);
        assert_eq!(check_federation(&[b, a]), faults, "the order of the manifests does not matter");
    }

    #[test]
    fn a_rule_that_triggers_itself_is_a_circle() {
        let a = manifest("a", &[("a.r", "x", "a", "x")]);
        assert_eq!(check_federation(&[a]), [Fault::Cycle(vec!["a.r".into(), "a.r".into()])]);
    }

    #[test]
    fn an_untrusted_issuer_makes_no_edge() {
        let a = manifest("a", &[("a.r", "x", "b", "x")]);
        assert_eq!(check_federation(&[a]), []);
    }

    #[test]
    fn a_chain_of_five_is_too_deep_and_of_four_is_not() {
        let chain: Vec<(String, String, String)> =
            (0..5).map(|i| (format!("a.r{i}"), format!("e{i}"), format!("e{}", i + 1))).collect();
        let rules: Vec<(&str, &str, &str, &str)> =
            chain.iter().map(|(id, event, effect)| (&**id, &**event, "a", &**effect)).collect();
        assert_eq!(check_federation(&[manifest("a", &rules[..4])]), []);
        let faults = check_federation(&[manifest("a", &rules)]);
        assert!(matches!(&faults[..], [Fault::TooDeep(path)] if path.len() == 5), "{faults:?}");
    }

    #[test]
    fn two_packs_that_contradict_each_other_are_refused_unless_one_of_them_asks_a_person() {
        let mut fire = manifest("edb", &[("edb.fire", "fire", "fsd", "class-suspension")]);
        let mut rain = manifest("edb", &[("edb.rain", "weather-signal", "hko", "stay-in-school")]);
        assert_eq!(check_federation(&[fire.clone(), rain.clone()]), [], "one pack is for its own check");
        rain.pack = "edb-weather".into();
        let faults = check_federation(&[fire.clone(), rain.clone()]);
        assert!(matches!(&faults[..], [Fault::Contradiction { first, .. }] if first == "edb.fire"), "{faults:?}");
        assert_eq!(
            check_federation(&[rain.clone(), fire.clone()]),
            faults,
            "the order of the manifests does not matter"
        );
        fire.rules[0].conflicts_asked = vec!["stay-in-school".into()];
        assert_eq!(check_federation(&[fire, rain]), []);
    }

    #[test]
    fn one_id_in_two_packs_is_refused() {
        let a = manifest("a", &[("a.r", "x", "b", "y")]);
        assert_eq!(check_federation(&[a.clone(), a]), [Fault::Duplicate("a.r".into())]);
    }
}
