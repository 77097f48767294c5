//! Eyes at the nodes: a task for each stream, all into one bounded queue.

use std::pin::pin;
use std::time::Duration;

use campanile_alert::{DepartmentId, ExerciseId, Status};
use campanile_client::admin::Rules;
use campanile_client::exercise::ExerciseRecord;
use campanile_client::{AlertRecord, Client, Event, Filter, Start};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Crew;

/// How often a node is asked what waits for persons.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How often a node is asked whom it does not hear.
const PEERS_EVERY: Duration = Duration::from_secs(2);
/// How many sights may wait.
const SIGHTS_MAX: usize = 4_096;

/// Something that was seen at a node.
#[derive(Debug)]
pub(super) enum Sight {
    /// The eye is open: what comes from now on is seen.
    Open(DepartmentId),
    /// A record of the exercise.
    Record(DepartmentId, Box<ExerciseRecord>),
    /// What waits for persons, and what is in force.
    Rules(DepartmentId, Box<Rules>),
    /// For how long departments were not heard, in milliseconds.
    Heard(DepartmentId, Vec<(DepartmentId, u64)>),
    /// Something real.
    Real(DepartmentId, Box<AlertRecord>),
    /// The node does not answer any more.
    Lost(DepartmentId, String),
}

/// Opens all eyes; they close with the set.
pub(super) fn open(crew: &Crew, exercise: &ExerciseId) -> (mpsc::Receiver<Sight>, JoinSet<()>) {
    let (sender, receiver) = mpsc::channel(SIGHTS_MAX);
    let mut tasks = JoinSet::new();
    for (id, client) in &crew.nodes {
        tasks.spawn(records(id.clone(), client.clone(), exercise.clone(), sender.clone()));
        tasks.spawn(rules(id.clone(), client.clone(), sender.clone()));
        tasks.spawn(heard(id.clone(), client.clone(), sender.clone()));
        tasks.spawn(real(id.clone(), client.clone(), sender.clone()));
    }
    (receiver, tasks)
}

async fn records(id: DepartmentId, client: Client, exercise: ExerciseId, to: mpsc::Sender<Sight>) {
    // From the beginning: what an earlier run of the exercise left behind is seen as well, before T+0.
    let mut stream = pin!(client.follow_exercise(&exercise, 0));
    while let Some(next) = stream.next().await {
        let sight = match next {
            Ok(record) => Sight::Record(id.clone(), Box::new(record)),
            Err(error) => Sight::Lost(id.clone(), error.to_string()),
        };
        if to.send(sight).await.is_err() {
            return;
        }
    }
}

async fn rules(id: DepartmentId, client: Client, to: mpsc::Sender<Sight>) {
    let mut ticks = tokio::time::interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A node that is away for a while is told of by the stream of its records.
        let Ok(rules) = client.rules().await else { continue };
        if to.send(Sight::Rules(id.clone(), Box::new(rules))).await.is_err() {
            return;
        }
    }
}

async fn heard(id: DepartmentId, client: Client, to: mpsc::Sender<Sight>) {
    let mut ticks = tokio::time::interval(PEERS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(peers) = client.peers().await else { continue };
        let ages = peers.into_iter().filter_map(|peer| {
            let department = DepartmentId::try_new(peer.origin.split('/').next()?).ok()?;
            Some((department, peer.logs.iter().filter_map(|log| log.heard_age_ms).min()?))
        });
        if to.send(Sight::Heard(id.clone(), ages.collect())).await.is_err() {
            return;
        }
    }
}

async fn real(id: DepartmentId, client: Client, to: mpsc::Sender<Sight>) {
    let filter = Filter { statuses: vec![Status::Actual], ..Filter::default() };
    let mut watch = client.watch(Start::Now, &filter);
    let mut open = false;
    while let Some(next) = watch.next().await {
        let sight = match next {
            Ok(Event::Alert(record)) => Sight::Real(id.clone(), record),
            Ok(Event::Heartbeat(_)) if !open => {
                open = true;
                Sight::Open(id.clone())
            }
            Ok(_) => continue,
            Err(error) => Sight::Lost(id.clone(), error.to_string()),
        };
        if to.send(sight).await.is_err() {
            return;
        }
    }
}
