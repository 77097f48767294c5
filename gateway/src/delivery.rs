//! Delivery reports: how far an alert has come on a channel, told to the whole bus.
//!
//! One report covers one alert on one channel and counts endpoints; it is cumulative, so the newest one holds. The first
//! goes out with the next round, later ones at most every two seconds, and a round of at most five every quarter of a
//! second: a fan-out to ten thousand screens is a handful of records, and a round of them one commit. A report that is
//! due is a row in the ledger until it is published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use campanile_bus::Haste;
use campanile_log::Hash;
use campanile_proto::convert;
use campanile_proto::gateway::v1::{DeliveryReport, DeliveryStage, FailureCount, StageCount};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::incoming::Incoming;
use crate::ledger::{self, Attempts, Stage};
use crate::member::{Member, Row};
use crate::metrics::Metrics;

/// The least time between two reports of one alert on one channel.
const SPACING: Duration = Duration::from_secs(2);
/// The time between two rounds of reports.
const PACE: Duration = Duration::from_millis(250);
/// The most reports of one round.
const ROUND_MAX: usize = 5;
/// How long to wait after the bus refused a report.
const BACK_OFF: Duration = Duration::from_secs(5);
/// The most alerts × channels that are tracked at once; beyond it the oldest finished ones are forgotten first.
const TRACKED_MAX: usize = 20_000;

/// What one channel did with one alert, in endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// On the gateway's disk for the channel.
    pub accepted: u64,
    /// Taken by the provider, whether or not it was taken off again later.
    pub handed: u64,
    /// Failed for good, or failing at the moment, by number of `FailureReason`.
    pub failed: BTreeMap<i32, u64>,
}

impl Counts {
    /// Counts the attempts of one alert on one channel; `accepted` is the number of endpoints it concerns.
    pub(crate) fn of(accepted: usize, attempts: &Attempts) -> Self {
        let mut counts = Self { accepted: accepted as u64, ..Self::default() };
        for attempt in attempts.values() {
            match (attempt.stage, attempt.reason()) {
                (Stage::Handed | Stage::Cleared, _) => counts.handed += 1,
                (_, Some(reason)) => *counts.failed.entry(reason.into()).or_default() += 1,
                (_, None) => {}
            }
        }
        counts
    }
}

struct Tracked {
    incoming: Arc<Incoming>,
    counts: Counts,
    is_due: bool,
    last: Option<Instant>,
}

/// Collects counts and publishes them at a bounded rate.
pub struct Reporter {
    member: Arc<dyn Member>,
    metrics: Arc<Metrics>,
    tracked: Mutex<BTreeMap<(Hash, &'static str), Tracked>>,
    changed: Notify,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("tracked", &self.tracked.lock().len()).finish_non_exhaustive()
    }
}

impl Reporter {
    /// A reporter that speaks through `member`; [`Reporter::run`] does the work.
    pub fn new(member: Arc<dyn Member>, metrics: Arc<Metrics>) -> Self {
        Self { member, metrics, tracked: Mutex::default(), changed: Notify::new() }
    }

    /// Takes the newest counts of an alert on a channel. The caller has written the ledger's row for it.
    pub fn set(&self, incoming: &Arc<Incoming>, channel: &'static str, counts: Counts) {
        let mut tracked = self.tracked.lock();
        if tracked.len() >= TRACKED_MAX {
            tracked.retain(|_, one| one.is_due);
        }
        let fresh = || Tracked { incoming: Arc::clone(incoming), counts: Counts::default(), is_due: false, last: None };
        let one = tracked.entry((incoming.record, channel)).or_insert_with(fresh);
        one.is_due |= one.counts != counts;
        one.counts = counts;
        drop(tracked);
        self.changed.notify_one();
    }

    /// Publishes what is due until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let wait = match self.publish_round().await {
                Some(pause) => pause,
                None => Duration::from_secs(3_600),
            };
            let woken = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.changed.notified(), if wait > PACE => {}
                }
            };
            tokio::select! {
                () = woken => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Publishes the reports that are due, and says how long to wait; `None` when nothing is due at all.
    async fn publish_round(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut round = Vec::new();
        let mut wait = None;
        {
            let mut tracked = self.tracked.lock();
            let ready_at = |one: &Tracked| one.last.map_or(now, |last| last + SPACING);
            let mut due: Vec<_> = tracked.iter_mut().filter(|(_, one)| one.is_due).collect();
            due.sort_by_key(|(_, one)| ready_at(one));
            for (key, one) in due {
                let at = ready_at(one);
                if at > now || round.len() == ROUND_MAX {
                    wait = Some(at.saturating_duration_since(now));
                    break;
                }
                one.is_due = false;
                one.last = Some(now);
                round.push((*key, Arc::clone(&one.incoming), one.counts.clone()));
            }
        }
        if round.is_empty() {
            return wait;
        }
        let published = join_all(round.iter().map(|(key, incoming, counts)| self.publish(key, incoming, counts))).await;
        let all = published.iter().all(|published| *published);
        let done = round.iter().zip(published).filter(|(_, published)| *published).map(|((key, ..), _)| *key).collect();
        self.settle(done).await;
        Some(if all { PACE } else { BACK_OFF })
    }

    /// Publishes one report; false when the bus did not take it, and it stays due.
    async fn publish(&self, key: &(Hash, &'static str), incoming: &Incoming, counts: &Counts) -> bool {
        let report = report(incoming, key.1, counts, self.member.clock().now());
        match self.member.report(report, incoming.world.exercise().cloned()).await {
            Ok(()) => {
                self.metrics.reports.inc();
                true
            }
            Err(error) => {
                warn!(error = %chain(&error), alert_id = %incoming.id(), "A delivery report waits");
                if let Some(one) = self.tracked.lock().get_mut(key) {
                    one.is_due = true;
                }
                false
            }
        }
    }

    /// Removes the ledger's rows, except where new counts have come in the meantime.
    async fn settle(&self, done: Vec<(Hash, &'static str)>) {
        let rows: Vec<Row> = {
            let tracked = self.tracked.lock();
            let settled = |key: &&(Hash, &'static str)| !tracked.get(*key).is_some_and(|one| one.is_due);
            done.iter().filter(settled).map(|key| (ledger::report_key(&key.0, key.1), None)).collect()
        };
        if !rows.is_empty()
            && let Err(error) = self.member.put(rows, Haste::Soon).await
        {
            // The rows only make the same reports again after a start.
            warn!(error = %chain(&error), "Published delivery reports are still marked as due");
        }
    }
}

fn report(incoming: &Incoming, channel: &str, counts: &Counts, now: campanile_alert::Timestamp) -> DeliveryReport {
    let stage = |stage: DeliveryStage, count| StageCount { stage: stage.into(), count };
    let stages = [stage(DeliveryStage::Accepted, counts.accepted), stage(DeliveryStage::Handed, counts.handed)];
    let id = incoming.id();
    DeliveryReport {
        record_hash: incoming.record.as_bytes().to_vec(),
        sender: id.sender().to_string(),
        identifier: id.identifier().to_string(),
        sent: id.sent().to_string(),
        channel: channel.to_owned(),
        stages: stages.into_iter().filter(|stage| stage.count > 0).collect(),
        time: Some(convert::timestamp_to_wire(now)),
        failures: counts.failed.iter().map(|(reason, count)| FailureCount { reason: *reason, count: *count }).collect(),
    }
}

/// An error and everything behind it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
