//! Dispatch: from arrivals on the bus to jobs for channels.
//!
//! One task takes alerts in, in stored arrival order, from a durable cursor; moves the boards; and writes the jobs that
//! follow in the same commit as the cursor. Each channel has a worker of its own behind it ([`worker`]): its queue, its
//! time-outs, its retries and its breaker, so a dead provider delays no other. The intake never waits for a worker: a
//! queue that is full drops the job from memory, not from the disk, and the worker fetches it from there later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{Timestamp, World};
use campanile_bus::Haste;
use parking_lot::RwLock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::board::{Boards, Change, End, Swept};
use crate::channels::exercise::Exercises;
use crate::channels::{Channel, Channels};
use crate::delivery::{Counts, Reporter, chain};
use crate::incoming::Incoming;
use crate::ledger;
use crate::member::{Error, Member, Row, Stored};
use crate::metrics::{ChannelLabel, Metrics, WorldLabel};
use crate::notice::{DrillNotice, EndNotice, Judge, LiveNotice};

pub mod breaker;
mod queue;
mod worker;

#[cfg(test)]
mod tests;

use queue::{Job, JobKey, Kind, Queue};

/// How many arrivals are read at once.
const READ_MAX: usize = 256;
/// How many arrivals are read at once when the boards are taken up again.
const RESTORE_PAGE: usize = 32;
/// How often the boards are swept for what has expired.
const SWEEP: Duration = Duration::from_millis(500);
/// How long to wait after the store did not answer.
const STORE_BACK_OFF: Duration = Duration::from_millis(500);
/// After how many arrivals without an alert the cursor is written all the same.
const CURSOR_EVERY: u64 = 4_096;

/// What the intake and the workers share.
#[derive(Clone)]
pub struct Shared {
    /// The place in the bus.
    pub member: Arc<dyn Member>,
    /// What is in force.
    pub boards: Arc<RwLock<Boards>>,
    /// What may go out now.
    pub judge: Judge,
    /// Where counts go.
    pub reporter: Arc<Reporter>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The end of the process.
    pub stop: CancellationToken,
    /// How long one hand-over may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The running dispatcher.
#[derive(Debug)]
pub struct Dispatcher {
    tasks: Vec<JoinHandle<()>>,
}

impl Dispatcher {
    /// Takes up what was left, then starts the intake, the workers and the reporter.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(shared: Shared, channels: &Channels, exercises: Arc<Exercises>) -> Result<Self, Error> {
        let lines: Vec<Line> = channels
            .all
            .iter()
            .map(|channel| Line { channel: Arc::clone(channel), queue: Arc::new(Queue::default()) })
            .collect();
        let mut intake = Intake { shared: shared.clone(), lines, exercises, cursor: 0, cursor_written: 0 };
        intake.restore().await?;
        let mut tasks = Vec::new();
        for line in &intake.lines {
            let worker = worker::Worker::new(shared.clone(), Arc::clone(&line.channel), Arc::clone(&line.queue));
            tasks.push(tokio::spawn(worker.run()));
        }
        let (reporter, stop) = (Arc::clone(&shared.reporter), shared.stop.clone());
        tasks.push(tokio::spawn(async move { reporter.run(stop).await }));
        tasks.push(tokio::spawn(intake.run()));
        Ok(Self { tasks })
    }

    /// Waits until everything has stopped, which `stop` asks for.
    pub async fn join(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                error!(%error, "A task of the dispatcher ended out of order");
            }
        }
    }
}

struct Line {
    channel: Arc<dyn Channel>,
    queue: Arc<Queue>,
}

struct Intake {
    shared: Shared,
    lines: Vec<Line>,
    exercises: Arc<Exercises>,
    cursor: u64,
    cursor_written: u64,
}

/// What has to be written and done for some arrivals.
#[derive(Default)]
struct Plan {
    rows: Vec<Row>,
    jobs: Vec<(usize, Job)>,
    drills: Vec<Arc<Incoming>>,
    /// There may be further arrivals already.
    more: bool,
}

impl Intake {
    /// Rebuilds boards, channels and queues from the store.
    async fn restore(&mut self) -> Result<(), Error> {
        let shared = self.shared.clone();
        self.cursor = ledger::cursor(shared.member.as_ref())?;
        self.cursor_written = self.cursor;
        // Alerts in force often lie close together, so they are read some at a time.
        let mut page = Vec::new();
        for arrival in ledger::board_arrivals(shared.member.as_ref())? {
            if page.last().is_none_or(|last: &Stored| last.arrival < arrival) {
                page = shared.member.stored(arrival.saturating_sub(1), RESTORE_PAGE).await?;
            }
            let found = page.iter().find(|one| one.arrival == arrival).and_then(|one| one.incoming.clone());
            let Some(incoming) = found else {
                warn!(arrival, "An alert of the board is no longer readable; it is left out");
                continue;
            };
            let mut boards = shared.boards.write();
            if let Some(board) = boards.of_mut(&incoming) {
                let change = board.take(&incoming);
                drop(boards);
                if change.entered && incoming.world != World::Actual {
                    self.hand_drill(&incoming);
                }
            }
        }
        for line in &self.lines {
            restore_channel(&shared, line)?;
        }
        let in_force = shared.boards.read().live().in_force();
        info!(cursor = self.cursor, in_force, "The gateway took up where it left");
        Ok(())
    }

    async fn run(mut self) {
        let mut changed = self.shared.member.changed();
        let stop = self.shared.stop.clone();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            match self.take_in().await {
                Ok(true) => {}
                Ok(false) => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = sweep.tick() => self.sweep().await,
                        alive = changed.changed() => if alive.is_err() { return },
                    }
                }
                Err(error) => {
                    error!(error = %chain(&error), "The gateway could not read the bus; alerts wait");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(STORE_BACK_OFF) => {}
                    }
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    }

    /// Takes in the next arrivals; false when there are none.
    async fn take_in(&mut self) -> Result<bool, Error> {
        let stored = self.shared.member.stored(self.cursor, READ_MAX).await?;
        self.shared.metrics.last_intake.set(seconds(self.shared.member.clock().now()));
        let Some(last) = stored.last().map(|one| one.arrival) else { return Ok(false) };
        let mut plan = Plan { more: stored.len() == READ_MAX, ..Plan::default() };
        for incoming in stored.into_iter().filter_map(|one| one.incoming) {
            self.take(&incoming, &mut plan);
        }
        self.cursor = last;
        if !plan.rows.is_empty() || last - self.cursor_written >= CURSOR_EVERY {
            plan.rows.push(ledger::cursor_row(last));
            self.cursor_written = last;
        }
        self.carry_out(plan).await;
        Ok(true)
    }

    fn take(&self, incoming: &Arc<Incoming>, plan: &mut Plan) {
        let mut boards = self.shared.boards.write();
        let Some(board) = boards.of_mut(incoming) else {
            self.shared.metrics.alerts.get_or_create(&WorldLabel { board: "none" }).inc();
            return;
        };
        let Change { entered, ended, keep } = board.take(incoming);
        let is_live = incoming.world == World::Actual;
        drop(boards);
        let label = WorldLabel { board: if is_live { "actual" } else { "exercise" } };
        self.shared.metrics.alerts.get_or_create(&label).inc();
        info!(alert_id = %incoming.id(), entered, ended = ended.len(), "Alert taken in");
        if keep {
            plan.rows.push((ledger::board_key(incoming.arrival), Some(Vec::new())));
        }
        if !is_live {
            if entered {
                plan.drills.push(Arc::clone(incoming));
            }
            return;
        }
        if entered {
            self.plan(incoming, incoming, Kind::Hand, plan);
        }
        for (old, _) in &ended {
            self.plan(old, incoming, Kind::Clear, plan);
        }
    }

    /// Adds a job for each channel that has an endpoint for the alert.
    fn plan(&self, incoming: &Arc<Incoming>, trigger: &Incoming, kind: Kind, plan: &mut Plan) {
        for (i, line) in self.lines.iter().enumerate() {
            if line.channel.endpoints(&incoming.alert).is_empty() {
                continue;
            }
            let is_new = kind == Kind::Hand;
            let job = Job { is_new, ..Job::new(JobKey::new(incoming, trigger, kind), Arc::clone(incoming)) };
            plan.rows.push((job.key.row(line.channel.name()), Some(Vec::new())));
            plan.jobs.push((i, job));
        }
    }

    /// Makes a plan durable, however long the store takes, and hands it to the workers.
    ///
    /// What goes outside this process is durable first. What goes to channels inside it ends with the process, and after
    /// a crash the arrival is taken in again: so it is handed at once, and its rows go with the next commit.
    async fn carry_out(&self, plan: Plan) {
        let Plan { rows, jobs, drills, more } = plan;
        let is_in_process = |i: usize| self.lines.get(i).is_some_and(|line| line.channel.is_in_process());
        let stays_here = jobs.iter().all(|(i, _)| is_in_process(*i));
        if rows.is_empty() {
            self.hand_out(jobs, &drills);
        } else if stays_here {
            let haste = if more { Haste::Now } else { Haste::Soon };
            let hand_out = async { self.hand_out(jobs, &drills) };
            // The rows enter the queue first, before those of the jobs' outcomes.
            let (_done, ()) = tokio::join!(biased; put_until_done(&self.shared, rows, haste), hand_out);
        } else if put_until_done(&self.shared, rows, Haste::Now).await {
            self.hand_out(jobs, &drills);
        }
    }

    fn hand_out(&self, jobs: Vec<(usize, Job)>, drills: &[Arc<Incoming>]) {
        for (i, job) in jobs {
            if let Some(line) = self.lines.get(i) {
                line.queue.push(job);
                self.note_waiting(line);
            }
        }
        for incoming in drills {
            self.hand_drill(incoming);
        }
        let in_force = self.shared.boards.read().live().in_force();
        self.shared.metrics.in_force.set(i64::try_from(in_force).unwrap_or(i64::MAX));
    }

    /// Drills go to the sinks of their exercise, which are in this process; no worker ever sees one.
    fn hand_drill(&self, incoming: &Arc<Incoming>) {
        let now = self.shared.member.clock().now();
        let Some(standing) = self.shared.boards.read().of(incoming).map(|b| b.standing(&incoming.record, now)) else {
            return;
        };
        if let Ok(notice) = DrillNotice::of(incoming, standing, now)
            && self.exercises.hand(notice)
        {
            let counts = Counts { accepted: 1, handed: 1, ..Counts::default() };
            self.shared.reporter.set(incoming, self.exercises.name(), counts);
        }
    }

    async fn sweep(&self) {
        let now = self.shared.member.clock().now();
        let Swept { expired, dropped } = self.shared.boards.write().sweep(now);
        if expired.is_empty() && dropped.is_empty() {
            return;
        }
        let mut plan = Plan::default();
        for (incoming, _) in expired.iter().filter(|(incoming, _)| incoming.world == World::Actual) {
            info!(alert_id = %incoming.id(), "Alert expired");
            self.plan(incoming, incoming, Kind::Clear, &mut plan);
        }
        for (arrival, record) in dropped {
            match ledger::forget(self.shared.member.as_ref(), arrival, &record) {
                Ok(rows) => plan.rows.extend(rows),
                Err(error) => warn!(error = %chain(&error), "Rows of an ended alert were not removed"),
            }
        }
        self.carry_out(plan).await;
    }

    fn note_waiting(&self, line: &Line) {
        let label = ChannelLabel { channel: line.channel.name() };
        let waiting = i64::try_from(line.queue.len()).unwrap_or(i64::MAX);
        self.shared.metrics.waiting.get_or_create(&label).set(waiting);
    }
}

/// Gives a channel back what it had handed, and its queue what it had not done.
fn restore_channel(shared: &Shared, line: &Line) -> Result<(), Error> {
    let (now, name) = (shared.member.clock().now(), line.channel.name());
    let entries: Vec<_> = shared.boards.read().live().entries().cloned().collect();
    for entry in &entries {
        let attempts = ledger::attempts(shared.member.as_ref(), &entry.incoming.record, name)?;
        let endpoints: Vec<_> = attempts
            .iter()
            .filter(|(_, attempt)| attempt.may_be_there())
            .map(|(endpoint, _)| Arc::clone(endpoint))
            .collect();
        let standing = shared.boards.read().live().standing(&entry.incoming.record, now);
        match (LiveNotice::of(&entry.incoming, standing, now), &entry.end) {
            (Ok(notice), _) if !endpoints.is_empty() => line.channel.restore(&notice, &endpoints),
            (Err(_), Some(end)) if !attempts.is_empty() => {
                if let Ok(end) = EndNotice::of(&entry.incoming, end) {
                    line.channel.restore_end(&end);
                }
            }
            _ => {}
        }
    }
    let by_record: HashMap<_, _> = entries.iter().map(|entry| (entry.incoming.record, entry)).collect();
    for (record, channel) in ledger::reports(shared.member.as_ref())? {
        if channel == name
            && let Some(entry) = by_record.get(&record)
        {
            let attempts = ledger::attempts(shared.member.as_ref(), &record, name)?;
            let accepted = line.channel.endpoints(&entry.incoming.alert).len();
            shared.reporter.set(&entry.incoming, name, Counts::of(accepted, &attempts));
        }
    }
    line.queue.mark_incomplete();
    Ok(())
}

/// Writes rows, and tries again until they are written; false when the process ends first.
pub(crate) async fn put_until_done(shared: &Shared, rows: Vec<Row>, haste: Haste) -> bool {
    loop {
        match shared.member.put(rows.clone(), haste).await {
            Ok(()) => return true,
            Err(error) => error!(error = %chain(&error), "The gateway could not write its state; alerts wait"),
        }
        tokio::select! {
            () = shared.stop.cancelled() => return false,
            () = tokio::time::sleep(STORE_BACK_OFF) => {}
        }
    }
}

/// The end of an alert on the live board, if it has one.
pub(crate) fn end_of(shared: &Shared, incoming: &Incoming) -> Option<End> {
    shared.boards.read().live().by_record(&incoming.record).and_then(|entry| entry.end.clone())
}

#[allow(clippy::cast_precision_loss, reason = "a metric in seconds needs no more than a double holds")]
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1_000.0
}
