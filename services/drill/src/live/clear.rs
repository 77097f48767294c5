//! Takes everything of an exercise back: each node cancels what it has in force, until nothing is.
//!
//! It needs no drill that runs, so it also clears up after one that was killed.

use std::collections::BTreeSet;
use std::time::Duration;

use campanile_alert::{AlertId, DepartmentId, ExerciseId, Status};
use campanile_client::{Client, Filter, Query, wanted};
use serde::Serialize;

use super::Crew;

/// How long it may take.
const WITHIN: Duration = Duration::from_millis(4_500);
/// How often it is looked again whether rules have issued more meanwhile.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How many looks in a row must find nothing.
const QUIET: u32 = 3;
/// How many alerts a page holds.
const PAGE: u32 = 1_000;

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleared {
    /// How many messages were cancelled.
    pub cancelled: u64,
    /// What could not be taken back, one sentence each; empty when nothing of the exercise is in force any more.
    pub left: Vec<String>,
}

/// Cancels everything of an exercise that is in force at the nodes of the crew, within 5 s.
pub async fn clear(crew: &Crew, exercise: &ExerciseId, reason: &str) -> Cleared {
    let mut cleared = Cleared::default();
    let mut gone = BTreeSet::new();
    let mut quiet = 0;
    let end = tokio::time::Instant::now() + WITHIN;
    while quiet < QUIET {
        let rounds = crew.nodes.iter().map(|(id, client)| round(id, client, exercise, reason, &gone));
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let Ok(rounds) = tokio::time::timeout(left, futures::future::join_all(rounds)).await else {
            cleared.left.push("the time was up before every node had answered; abort again".into());
            return cleared;
        };
        cleared.left.clear();
        let mut done = 0;
        for (cancelled, failed) in rounds {
            done += cancelled.len() as u64;
            gone.extend(cancelled);
            cleared.left.extend(failed);
        }
        cleared.cancelled += done;
        quiet = if done == 0 && cleared.left.is_empty() { quiet + 1 } else { 0 };
        if tokio::time::Instant::now() >= end {
            break;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    cleared
}

/// One look at a node: what it cancelled, and what it could not.
async fn round(
    id: &DepartmentId,
    client: &Client,
    exercise: &ExerciseId,
    reason: &str,
    gone: &BTreeSet<AlertId>,
) -> (Vec<AlertId>, Vec<String>) {
    let filter = Filter {
        departments: vec![id.clone()],
        statuses: vec![Status::Exercise],
        exercise: Some(exercise.clone()),
        ..Filter::default()
    };
    let query = Query { filter, page_size: PAGE, ..Query::default() };
    let page = match client.list(&query).await {
        Ok(page) => page,
        Err(error) => return (Vec::new(), vec![format!("{id} does not say what it has in force: {error}")]),
    };
    let (mut cancelled, mut failed) = (Vec::new(), Vec::new());
    for record in page.alerts {
        let alert = record.alert.id();
        // Asked once already, and its Cancel is on its way to the list.
        if gone.contains(&alert) {
            continue;
        }
        match client.cancel(&wanted(&alert), reason).await {
            Ok(_) => cancelled.push(alert),
            Err(error) => failed.push(format!("{id} did not cancel {}: {error}", alert.identifier())),
        }
    }
    (cancelled, failed)
}
