//! One channel's worker: takes jobs, makes attempts, judges what came of them.
//!
//! Whether an alert may go out is asked when it goes, endpoint by endpoint. A round covers at most [`ROUND_MAX`]
//! endpoints at once; between rounds a more urgent job may come first. What failed and may be tried again is put off,
//! longer each time; what failed without a known outcome is tried once more and marked.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use campanile_bus::Haste;
use campanile_log::Hash;
use futures::future::join_all;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument as _, info, info_span, warn};

use super::breaker::Breaker;
use super::queue::{Job, JobKey, Kind, Next, Queue};
use super::{Shared, end_of, put_until_done};
use crate::board::{EndKind, Standing};
use crate::channels::{Channel, Endpoint, FailureReason, Health, Judgement, Outcome};
use crate::delivery::{Counts, chain};
use crate::incoming::Incoming;
use crate::ledger::{self, Attempt, Attempts, Stage};
use crate::member::{Error, Row};
use crate::metrics::{ChannelLabel, FailureLabel};
use crate::notice::{EndNotice, LiveNotice, Withheld};

/// How many rows of finished jobs may wait to be written.
const SETTLED_ROWS_MAX: usize = 256;
/// How many endpoints are tried at once.
const ROUND_MAX: usize = 64;
/// How often a job is put off before what still fails is given up. With the waits below: some four minutes of a
/// provider that answers badly; one that does not answer at all is the breaker's and costs no rounds.
const ROUNDS_PUT_OFF_MAX: u32 = 10;
/// The first wait before a retry; it doubles.
const RETRY: Duration = Duration::from_millis(500);
/// The longest wait before a retry.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How long a job waits whose log is forked, before it is asked again.
const HELD: Duration = Duration::from_secs(10);
/// How long a probe may take.
const PROBE_MAX: Duration = Duration::from_secs(3);

pub(crate) struct Worker {
    shared: Shared,
    channel: Arc<dyn Channel>,
    queue: Arc<Queue>,
    breaker: Breaker,
    settled: Settled,
}

/// Finished jobs whose rows are still to be written, so that a burst is a few commits.
///
/// Only a channel inside this process leaves rows here while the next job is done: after a crash the job is made again,
/// and shows what is shown already.
#[derive(Default)]
struct Settled {
    rows: Vec<Row>,
    records: HashSet<Hash>,
    reports: Vec<(Arc<Incoming>, Counts)>,
}

/// What became of a job.
enum Done {
    /// It is finished.
    Finished,
    /// It goes on at once, after what is more urgent.
    Yield,
    /// It goes on after a wait, which counts as a failed round or does not.
    Later { wait: Duration, counts: bool },
}

impl Worker {
    pub(crate) fn new(shared: Shared, channel: Arc<dyn Channel>, queue: Arc<Queue>) -> Self {
        Self { shared, channel, queue, breaker: Breaker::default(), settled: Settled::default() }
    }

    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.step() => {}
            }
        }
        self.settle().await;
    }

    async fn step(&mut self) {
        if let Some(at) = self.breaker.probe_at() {
            self.settle().await;
            sleep_until(at).await;
            self.probe().await;
            return;
        }
        let next = self.queue.next(Instant::now());
        self.metric(&self.shared.metrics.waiting, i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        let goes_on = matches!(&next, Next::Job(job) if !self.settled.records.contains(&job.incoming.record));
        if !goes_on || self.settled.rows.len() >= SETTLED_ROWS_MAX {
            self.settle().await;
        }
        match next {
            Next::Job(job) => self.work(*job).await,
            Next::Fetch => {
                if let Err(error) = self.fetch().await {
                    warn!(error = %chain(&error), channel = self.channel.name(), "Waiting jobs could not be read");
                    self.queue.mark_incomplete();
                    tokio::time::sleep(RETRY).await;
                }
            }
            Next::Wait(Some(at)) => {
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.queue.pushed() => {}
                }
            }
            Next::Wait(None) => self.queue.pushed().await,
        }
    }

    /// Fetches from the disk the jobs that are not in memory.
    async fn fetch(&self) -> Result<(), Error> {
        let rows = self.shared.member.rows(&format!("job/{}/", self.channel.name()))?;
        let mut stray = Vec::new();
        for key in rows.iter().filter_map(|(key, _)| JobKey::parse(key)) {
            if self.queue.holds(&key) {
                continue;
            }
            let stored = self.shared.member.stored(key.arrival.saturating_sub(1), 1).await?;
            match stored.into_iter().find(|one| one.arrival == key.arrival).and_then(|one| one.incoming) {
                Some(incoming) => self.queue.push(Job::new(key, incoming)),
                None => stray.push((key.row(self.channel.name()), None)),
            }
        }
        if stray.is_empty() { Ok(()) } else { self.shared.member.put(stray, Haste::Soon).await }
    }

    async fn work(&mut self, mut job: Job) {
        let span = info_span!("hand over", alert_id = %job.incoming.id(), channel = self.channel.name(),
            traceparent = %job.incoming.traceparent);
        let done = match job.key.kind {
            Kind::Hand => self.hand(&job).instrument(span).await,
            Kind::Clear => self.clear(&job).instrument(span).await,
        };
        job.is_new = false;
        match done {
            Ok(Done::Finished) => {}
            Ok(Done::Yield) => self.queue.push(job),
            Ok(Done::Later { wait, counts }) => {
                job.rounds += u32::from(counts);
                self.queue.push_later(job, Instant::now() + wait);
            }
            Err(error) => {
                warn!(error = %chain(&error), channel = self.channel.name(), "A job waits for the store");
                self.queue.push_later(job, Instant::now() + RETRY);
            }
        }
    }

    async fn hand(&mut self, job: &Job) -> Result<Done, Error> {
        let (incoming, record) = (&job.incoming, job.incoming.record);
        if self.is_forked(incoming)? {
            self.shared.metrics.held.inc();
            warn!("Held: two records stand at one position of its log");
            return Ok(Done::Later { wait: HELD, counts: false });
        }
        let endpoints = self.channel.endpoints(&incoming.alert);
        let mut attempts = match job.is_new {
            true => Attempts::new(),
            false => ledger::attempts(self.shared.member.as_ref(), &record, self.channel.name())?,
        };
        let is_last_round = job.rounds >= ROUNDS_PUT_OFF_MAX;
        let pending: Vec<Endpoint> = endpoints
            .iter()
            .filter(|endpoint| attempts.get(*endpoint).is_none_or(|before| Attempt::next(Some(before)).is_some()))
            .cloned()
            .collect();
        let mut rounds = pending.chunks(ROUND_MAX).peekable();
        let mut last = Vec::new();
        while let Some(round) = rounds.next() {
            if let Err(withheld) = self.judge(incoming) {
                return self.withhold(job, withheld, &endpoints, attempts).await;
            }
            let took_any = self.hand_round(incoming, round, &mut attempts, is_last_round).await?;
            let rows = self.outcomes(&record, round, &attempts);
            if !took_any {
                return self.put_off(job, &endpoints, &attempts, rows).await;
            }
            if rounds.peek().is_none() {
                last = rows;
                break;
            }
            self.shared.member.put(rows, Haste::Now).await?;
            if self.queue.has_before(&job.key) {
                return Ok(Done::Yield);
            }
        }
        let waits = endpoints.iter().any(|endpoint| {
            let attempt = attempts.get(endpoint);
            attempt
                .is_none_or(|a| matches!(a.stage, Stage::Waiting | Stage::Started) && Attempt::next(Some(a)).is_some())
        });
        if waits {
            return self.put_off(job, &endpoints, &attempts, last).await;
        }
        self.finish(job, &endpoints, &attempts, last).await;
        Ok(Done::Finished)
    }

    /// Tries some endpoints at once; false when the provider took nothing and none of it was refused for good. The caller
    /// writes the outcomes down.
    async fn hand_round(
        &mut self,
        incoming: &Arc<Incoming>,
        round: &[Endpoint],
        attempts: &mut Attempts,
        is_last_round: bool,
    ) -> Result<bool, Error> {
        let record = incoming.record;
        for endpoint in round {
            if let Some(next) = Attempt::next(attempts.get(endpoint)) {
                if next.possibly_repeated {
                    let label = ChannelLabel { channel: self.channel.name() };
                    self.shared.metrics.possibly_repeated.get_or_create(&label).inc();
                }
                attempts.insert(Arc::clone(endpoint), next);
            }
        }
        if !self.channel.is_in_process() {
            self.shared.member.put(self.outcomes(&record, round, attempts), Haste::Now).await?;
        }
        let outcomes = join_all(round.iter().map(|endpoint| self.attempt(incoming, endpoint))).await;
        let mut took_any = false;
        for (endpoint, outcome) in round.iter().zip(outcomes) {
            took_any |= matches!(outcome, Outcome::Handed | Outcome::Failed(Judgement::Terminal, _));
            self.count(incoming, outcome);
            if let Some(attempt) = attempts.get_mut(endpoint) {
                *attempt = attempt.with(outcome);
                if let (true, Outcome::Failed(_, reason)) = (is_last_round, outcome) {
                    *attempt = attempt.given_up(reason);
                }
            }
        }
        if took_any {
            self.breaker.succeeded();
        } else {
            self.breaker.failed(Instant::now());
            self.metric(&self.shared.metrics.breaker_open, i64::from(self.breaker.probe_at().is_some()));
        }
        Ok(took_any)
    }

    /// One attempt, in bounded time. The last look at expiry and Cancel is here, just before the hand-over.
    async fn attempt(&self, incoming: &Arc<Incoming>, endpoint: &Endpoint) -> Outcome {
        let notice = match self.judge(incoming) {
            Ok(notice) => notice,
            Err(withheld) => return Outcome::Failed(Judgement::Terminal, reason_of(withheld)),
        };
        let handing = self.channel.hand(&notice, endpoint);
        timeout(self.shared.timeout, handing)
            .await
            .unwrap_or(Outcome::Failed(Judgement::Unknown, FailureReason::Timeout))
    }

    async fn clear(&mut self, job: &Job) -> Result<Done, Error> {
        let incoming = &job.incoming;
        let end = end_of(&self.shared, incoming).and_then(|end| EndNotice::of(incoming, &end).ok());
        // No longer on the board, or never public: whatever a screen still shows has expired by now.
        let Some(end) = end else {
            self.finish(job, &[], &Attempts::new(), Vec::new()).await;
            return Ok(Done::Finished);
        };
        let mut attempts = ledger::attempts(self.shared.member.as_ref(), &incoming.record, self.channel.name())?;
        let there: Vec<Endpoint> =
            attempts.iter().filter(|(_, a)| a.may_be_there()).map(|(endpoint, _)| Arc::clone(endpoint)).collect();
        let over = match end.end().kind {
            EndKind::Expired => FailureReason::Expired,
            EndKind::Superseded | EndKind::Cancelled | EndKind::AllClear => FailureReason::Cancelled,
        };
        let mut rows = Vec::new();
        for round in there.chunks(ROUND_MAX) {
            let clearing =
                round.iter().map(|endpoint| timeout(self.shared.timeout, self.channel.clear(&end, endpoint)));
            let mut failed = false;
            for (endpoint, outcome) in round.iter().zip(join_all(clearing).await) {
                let is_clear = matches!(outcome, Ok(Outcome::Handed | Outcome::Failed(Judgement::Terminal, _)));
                failed |= !is_clear;
                if let Some(attempt) = attempts.get_mut(endpoint).filter(|_| is_clear) {
                    match attempt.stage {
                        Stage::Handed => attempt.stage = Stage::Cleared,
                        Stage::Started | Stage::Waiting => *attempt = attempt.given_up(over),
                        Stage::Failed | Stage::Cleared => {}
                    }
                }
            }
            rows.extend(self.outcomes(&incoming.record, round, &attempts));
            if failed {
                self.shared.member.put(rows, Haste::Now).await?;
                self.breaker.failed(Instant::now());
                return Ok(Done::Later { wait: backoff(job.rounds), counts: true });
            }
            self.breaker.succeeded();
        }
        let told = if there.is_empty() { Vec::new() } else { self.channel.endpoints(&incoming.alert) };
        self.finish(job, &told, &attempts, rows).await;
        Ok(Done::Finished)
    }

    /// The endpoints that have not had it never will: says so, once.
    async fn withhold(
        &mut self,
        job: &Job,
        withheld: Withheld,
        endpoints: &[Endpoint],
        mut attempts: Attempts,
    ) -> Result<Done, Error> {
        let reason = reason_of(withheld);
        for endpoint in endpoints {
            let attempt = attempts.entry(Arc::clone(endpoint)).or_insert_with(|| Attempt::never(reason));
            if matches!(attempt.stage, Stage::Waiting) {
                *attempt = attempt.given_up(reason);
            }
        }
        info!(reason = reason.as_str_name(), "Notice withheld");
        let rows = self.outcomes(&job.incoming.record, endpoints, &attempts);
        self.finish(job, endpoints, &attempts, rows).await;
        Ok(Done::Finished)
    }

    /// Writes down what came of the last round, and says when the job goes on.
    async fn put_off(
        &self,
        job: &Job,
        endpoints: &[Endpoint],
        attempts: &Attempts,
        mut rows: Vec<Row>,
    ) -> Result<Done, Error> {
        let name = self.channel.name();
        rows.push((ledger::report_key(&job.incoming.record, name), Some(Vec::new())));
        self.shared.member.put(rows, Haste::Now).await?;
        self.shared.reporter.set(&job.incoming, name, Counts::of(endpoints.len(), attempts));
        // While the breaker is open the provider is away: its absence uses up nobody's retries.
        Ok(Done::Later { wait: backoff(job.rounds), counts: self.breaker.probe_at().is_none() })
    }

    /// Ends a job: its last outcomes, the report that is due and its removal are one commit.
    async fn finish(&mut self, job: &Job, endpoints: &[Endpoint], attempts: &Attempts, rows: Vec<Row>) {
        let (incoming, name) = (&job.incoming, self.channel.name());
        self.settled.rows.extend(rows);
        self.settled.rows.push((job.key.row(name), None));
        self.settled.records.insert(incoming.record);
        if !endpoints.is_empty() {
            let counts = Counts::of(endpoints.len(), attempts);
            info!(handed = counts.handed, endpoints = endpoints.len(), "Job done");
            self.settled.rows.push((ledger::report_key(&incoming.record, name), Some(Vec::new())));
            self.settled.reports.push((Arc::clone(incoming), counts));
        }
        if !self.channel.is_in_process() {
            self.settle().await;
        }
    }

    /// Writes the rows of finished jobs, and has them reported.
    async fn settle(&mut self) {
        if self.settled.rows.is_empty() {
            return;
        }
        let Settled { rows, reports, .. } = std::mem::take(&mut self.settled);
        if put_until_done(&self.shared, rows, Haste::Soon).await {
            for (incoming, counts) in reports {
                self.shared.reporter.set(&incoming, self.channel.name(), counts);
            }
        }
    }

    fn outcomes(&self, record: &Hash, endpoints: &[Endpoint], attempts: &Attempts) -> Vec<Row> {
        endpoints
            .iter()
            .filter_map(|endpoint| Some((endpoint, attempts.get(endpoint)?)))
            .map(|(endpoint, attempt)| ledger::attempt_row(record, self.channel.name(), endpoint, attempt))
            .collect()
    }

    fn judge(&self, incoming: &Arc<Incoming>) -> Result<LiveNotice, Withheld> {
        if crate::mutant("expiry-at-queueing-only") {
            return LiveNotice::of(incoming, Standing::InForce, incoming.received);
        }
        self.shared.judge.judge(incoming)
    }

    fn is_forked(&self, incoming: &Incoming) -> Result<bool, Error> {
        let place = &incoming.place;
        let same_log = |fork: &crate::incoming::Place| fork.origin == place.origin && fork.lane == place.lane;
        let from = |fork: &crate::incoming::Place| (fork.epoch, fork.seq) <= (place.epoch, place.seq);
        Ok(self.shared.member.forks()?.iter().any(|fork| same_log(fork) && from(fork)))
    }

    async fn probe(&mut self) {
        let health = timeout(PROBE_MAX, self.channel.probe()).await.unwrap_or(Health::Down);
        match health {
            Health::Up => self.breaker.succeeded(),
            Health::Down => self.breaker.still_away(Instant::now()),
        }
        let is_open = self.breaker.probe_at().is_some();
        self.metric(&self.shared.metrics.breaker_open, i64::from(is_open));
        if !is_open {
            info!(channel = self.channel.name(), "The provider is back");
        }
    }

    fn count(&self, incoming: &Incoming, outcome: Outcome) {
        let channel = self.channel.name();
        match outcome {
            Outcome::Handed => {
                let label = ChannelLabel { channel };
                self.shared.metrics.handed.get_or_create(&label).inc();
                let took = self.shared.member.clock().now().duration_since(incoming.time).as_secs_f64();
                self.shared.metrics.handover.get_or_create(&label).observe(took.max(0.0));
            }
            Outcome::Failed(_, reason) => {
                let label = FailureLabel { channel, reason: reason.as_str_name() };
                self.shared.metrics.failed.get_or_create(&label).inc();
            }
        }
    }

    fn metric(
        &self,
        family: &prometheus_client::metrics::family::Family<ChannelLabel, prometheus_client::metrics::gauge::Gauge>,
        value: i64,
    ) {
        family.get_or_create(&ChannelLabel { channel: self.channel.name() }).set(value);
    }
}

fn reason_of(withheld: Withheld) -> FailureReason {
    match withheld {
        Withheld::Expired | Withheld::NoExpiry => FailureReason::Expired,
        Withheld::Ended => FailureReason::Cancelled,
        Withheld::World | Withheld::Scope | Withheld::Type => FailureReason::Refused,
    }
}

fn backoff(rounds: u32) -> Duration {
    RETRY.saturating_mul(1 << rounds.min(8)).min(RETRY_MAX)
}
