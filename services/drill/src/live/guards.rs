//! What must hold before the first inject of a live drill. One failure is enough to refuse; all are told at once.
//!
//! They are checked whether or not the scenario lists them: a drill is safe because of what nodes and gateways say of
//! themselves, not because its author thought of it. And they are not what safety rests on: a gateway hands nothing of
//! an exercise to a public provider whoever asks.

use std::collections::BTreeMap;

use campanile_alert::{DepartmentId, Status, Timestamp};
use campanile_client::admin::{NodeStatus, Peer};
use campanile_client::{Filter, Query};

use super::{Crew, Options, SPEED_MAX};
use crate::scenario::{Guard, NodeKind, Scenario, Via};

/// Why a live drill does not begin: one sentence for each thing, with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the drill does not begin: {}", .0.join("; "))]
pub struct Refused(pub Vec<String>);

/// Whether a live run can play the scenario at all: everything that needs no node to answer.
///
/// # Errors
/// [`Refused`] with a sentence for each thing that it cannot do.
pub fn supports(scenario: &Scenario, options: &Options) -> Result<(), Refused> {
    let mut found = Vec::new();
    if !(1..=SPEED_MAX).contains(&options.speed) {
        found.push(format!("a speed of {} is out of range; give 1 to {SPEED_MAX}", options.speed));
    }
    if scenario.mode.status != Status::Exercise {
        found.push("its status is not Exercise; nothing else is played".into());
    }
    for inject in &scenario.injects {
        let status = inject.alert.as_ref().and_then(|alert| alert.status.as_deref());
        if status.is_some_and(|status| status != Status::Exercise.as_cap()) {
            let (id, status) = (&inject.id, status.unwrap_or_default());
            found.push(format!(
                "inject {id} has status {status}, which only a virtual run can play; leave it out of a live drill"
            ));
        }
        if inject.via == Via::Approval && !options.scripted {
            let role = inject.to.as_deref().unwrap_or("its role");
            found.push(format!("inject {} answers for {role}; run it with --players virtual", inject.id));
        }
    }
    for (index, fault) in scenario.faults.iter().enumerate() {
        if fault.duplicate.is_none() && !options.faults_by_hand {
            let n = index + 1;
            found.push(format!(
                "fault {n} ({}) is not in the driver's hands; run it virtually, or with --faults by-hand and bring it \
                 about when you are told",
                fault.in_words()
            ));
        }
    }
    abort(scenario, &mut found);
    answer(found)
}

/// How the drill can be called off.
fn abort(scenario: &Scenario, found: &mut Vec<String>) {
    let controllers = &scenario.cast.controllers;
    if controllers.is_empty() {
        found.push("nobody could call it off; name a controller in cast: controllers".into());
    }
    for abort in scenario.guards.iter().filter_map(|guard| guard.abort.as_ref()) {
        if abort.word.trim().is_empty() {
            found.push("the word that calls it off is empty; settle one in guards: abort: word".into());
        }
        if abort.by.is_empty() {
            found.push("nobody may call it off; name a controller in guards: abort: by".into());
        }
        for by in abort.by.iter().filter(|by| !controllers.contains(by)) {
            found.push(format!("{by} may call it off and is no controller; add it to cast: controllers"));
        }
        if abort.within.ms() < 5_000 {
            found.push(format!("calling it off takes up to 5s and guards: abort: within says {}", abort.within));
        }
    }
}

/// Asks everybody who takes part, and compares.
///
/// # Errors
/// [`Refused`] with a sentence for each guard that does not hold, or node that does not answer.
pub async fn guard(scenario: &Scenario, crew: &Crew, options: &Options) -> Result<(), Refused> {
    let mut found = Vec::new();
    for (name, node) in &scenario.cast.nodes {
        let here = crew.nodes.keys().any(|id| id.as_str() == name);
        if node.kind() != NodeKind::Gateway && !here {
            found.push(format!("there is no way to {name}'s node; name a profile for it in the cast file"));
        }
    }
    if options.scripted {
        let scripted = scenario.cast.players.iter().filter(|(_, player)| !player.script.is_empty());
        for (role, _) in scripted.filter(|(role, _)| !crew.players.contains_key(*role)) {
            found.push(format!("{role} has no certificate to act with; name a profile for it in the cast file"));
        }
    }
    let exercise = scenario.mode.exercise_id.as_str();
    let length = options.clock.now().as_millisecond() + scenario.end().ms() / i64::from(options.speed.max(1));
    let mut gateways: BTreeMap<String, Vec<Peer>> = BTreeMap::new();
    for (id, client) in &crew.nodes {
        match client.status().await {
            Ok(status) => {
                keys(id, &status, &mut found);
                announced(id, &status, exercise, length, &mut found);
            }
            Err(error) => found.push(format!("{id}'s node does not say how it is: {error}")),
        }
        match client.peers().await {
            Ok(peers) => {
                for peer in peers.into_iter().filter(|peer| peer.gateway) {
                    gateways.entry(peer.origin.clone()).or_default().push(peer);
                }
            }
            Err(error) => found.push(format!("{id}'s node does not say which gateways there are: {error}")),
        }
        let filter = Filter {
            departments: vec![id.clone()],
            statuses: vec![Status::Exercise],
            exercise: Some(scenario.mode.exercise_id.clone()),
            ..Filter::default()
        };
        match client.list(&Query { filter, page_size: 1, ..Query::default() }).await {
            Ok(page) if page.alerts.is_empty() => {}
            Ok(_) => found.push(format!(
                "{id} still has something of {exercise} in force, left over from an earlier run; clear it with \
                 `campanile drill abort {exercise}`"
            )),
            Err(error) => found.push(format!("{id}'s node does not say what is in force: {error}")),
        }
    }
    for (origin, seen) in gateways {
        bound(&origin, &seen, exercise, &mut found);
    }
    names(scenario, &mut found);
    answer(found)
}

/// What the scenario's own guards name must be this exercise.
fn names(scenario: &Scenario, found: &mut Vec<String>) {
    let exercise = scenario.mode.exercise_id.as_str();
    for Guard { gateways, trust, directory, .. } in &scenario.guards {
        if let Some(gateways) = gateways.as_ref().filter(|gateways| gateways.bound_to != "sink") {
            found.push(format!("guards: gateways: bound-to is {}, and only sink is safe", gateways.bound_to));
        }
        if let Some(trust) = trust.as_ref().filter(|trust| trust.exercise_key != exercise) {
            found
                .push(format!("guards: trust: exercise-key is {}, and the exercise is {exercise}", trust.exercise_key));
        }
        let named = directory.as_ref().map(|text| text.strip_prefix("exercise ").unwrap_or(text));
        if let Some(named) = named.filter(|named| *named != exercise) {
            found.push(format!("guards: directory is {named}, and the exercise is {exercise}"));
        }
    }
}

/// The node signs exercises with a key of their own.
fn keys(id: &DepartmentId, status: &NodeStatus, found: &mut Vec<String>) {
    if status.exercise_key_id.is_empty() {
        found.push(format!("{id}'s node names no key for exercises; update it, and give it one that the roster lists"));
    } else if status.exercise_key_id == status.key_id {
        found.push(format!("{id}'s node signs exercises with its live key; give it a key of their own"));
    }
}

/// The node finds the exercise in its directory, for the whole length of the drill.
fn announced(id: &DepartmentId, status: &NodeStatus, exercise: &str, until_ms: i64, found: &mut Vec<String>) {
    let ends = |until: Timestamp| until.as_millisecond() < until_ms;
    match status.exercises.iter().find(|announced| announced.exercise.as_str() == exercise) {
        None => found.push(format!(
            "{id}'s node does not find exercise {exercise} in its directory; announce it with \
             `campanile drill announce {exercise}`, or see why its directory is another"
        )),
        Some(announced) if ends(announced.until) => found.push(format!(
            "{id}'s node finds exercise {exercise} announced until {}, before the drill ends; announce it for longer",
            announced.until
        )),
        Some(_) => {}
    }
}

/// The gateway says, signed and by a registration that stands, that it has sinks for the exercise.
fn bound(origin: &str, seen: &[Peer], exercise: &str, found: &mut Vec<String>) {
    let bound = |peer: &Peer| {
        let sinks = peer.sinks.as_ref().is_some_and(|sinks| sinks.iter().any(|id| id == exercise));
        peer.registered && sinks
    };
    if seen.iter().all(bound) {
        return;
    }
    let says = seen.iter().find(|peer| peer.registered).and_then(|peer| peer.sinks.as_ref());
    found.push(match says {
        Some(sinks) if sinks.is_empty() => {
            format!("gateway {origin} has no sinks for exercises; name {exercise} in its configuration: exercises: ids")
        }
        Some(sinks) if !sinks.iter().any(|id| id == exercise) => format!(
            "gateway {origin} has sinks for {} only; name {exercise} in its configuration: exercises: ids",
            sinks.join(", ")
        ),
        Some(_) => format!("gateway {origin} is not registered where every node sees it; wait or see its directory"),
        None => format!(
            "gateway {origin} does not say what it does with exercises; it must run, be registered, and name \
             {exercise} in its configuration: exercises: ids"
        ),
    });
}

fn answer(found: Vec<String>) -> Result<(), Refused> {
    if found.is_empty() { Ok(()) } else { Err(Refused(found)) }
}
