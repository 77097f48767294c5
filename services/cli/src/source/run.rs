//! The loop around a source: ask, write down, publish, write down.
//!
//! What is to be published is written to the state file *before* it is handed over, and struck out *after* the bus has
//! acknowledged it. A crash at any moment therefore publishes the very same bytes again, which the bus answers with its
//! first answer; nothing is lost and nothing is doubled.
//!
//! A publish that may be tried again is tried a few times and then waits, in order, for the next round. A publish that
//! the bus refuses for good is given back to the source, which makes it anew at the next poll, and the refusal is logged
//! as an error each time, because an alert is not going out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use campanile_alert::{AlertId, Clock};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::state::{Error as StateError, StateFile};
use super::{Health, Publication, Source};

/// The most messages that wait; while so many wait the source is not asked.
const OUTBOX_MAX: usize = 4_096;

/// What the bus acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The message.
    pub id: AlertId,
    /// Where it stands, in words for people; empty when the caller does not say.
    pub position: String,
    /// It had been published before; this is the first answer.
    pub duplicate: bool,
}

/// Why the bus did not take a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It may be tried again: the node is away, or its disk is full.
    #[error("the node did not take the message now: {0}")]
    Retryable(String),
    /// Trying the same again is of no use: no right, an event unknown, a message expired.
    #[error("the node refused the message: {0}")]
    Terminal(String),
}

/// The times of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From one poll to the next.
    pub interval: Duration,
    /// At most so much is added to the interval at random, so that many readers do not ask in step.
    pub jitter: Duration,
    /// How often a publish is tried in one round; at least once.
    pub attempts: u32,
    /// The wait after the first failed attempt; it doubles, up to `backoff_max`.
    pub backoff: Duration,
    /// The longest wait between attempts.
    pub backoff_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            jitter: Duration::from_secs(5),
            attempts: 5,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// What one round did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// Acknowledged by the bus.
    pub published: Vec<Published>,
    /// Refused for good, with the reason.
    pub refused: Vec<(AlertId, String)>,
    /// Still waiting, because the bus cannot be reached.
    pub waiting: usize,
    /// Whether the source answers.
    pub health: Health,
}

#[derive(Serialize)]
struct StateOut<'a, S> {
    source: &'a S,
    outbox: &'a VecDeque<Publication>,
}

#[derive(Deserialize)]
struct StateIn<S> {
    source: S,
    outbox: VecDeque<Publication>,
}

/// A source with its state file and its outbox.
#[derive(Debug)]
pub struct Runner<S> {
    source: S,
    file: StateFile,
    outbox: VecDeque<Publication>,
    timing: Timing,
}

impl<S: Source> Runner<S> {
    /// Takes up where the state file left off.
    ///
    /// # Errors
    /// [`StateError`] when the file cannot be read or holds something else.
    pub fn open(mut source: S, file: StateFile, timing: Timing) -> Result<Self, StateError> {
        let mut outbox = VecDeque::new();
        if let Some(state) = file.load::<StateIn<S::State>>()? {
            source.restore(state.source);
            outbox = state.outbox;
        }
        Ok(Self { source, file, outbox, timing })
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// One round: asks the source and publishes what waits, in order.
    ///
    /// # Errors
    /// [`StateError`] when the state file cannot be written; nothing is published that is not written down.
    pub async fn step<P, F>(&mut self, clock: &dyn Clock, publish: &mut P) -> Result<Step, StateError>
    where
        P: FnMut(Publication) -> F + Send,
        F: Future<Output = Result<Published, PublishError>> + Send,
    {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.extend(self.source.poll(clock.now()).await);
        }
        self.save()?;
        let mut step = Step { published: vec![], refused: vec![], waiting: 0, health: self.source.health().clone() };
        while let Some(next) = self.outbox.front() {
            match attempt(next, &self.timing, publish).await {
                Ok(published) => {
                    info!(source = self.source.name(), alert_id = %published.id, "Alert published from source");
                    step.published.push(published);
                }
                Err(PublishError::Terminal(reason)) => {
                    let id = next.id();
                    error!(source = self.source.name(), alert_id = %id, %reason, "Alert of source was refused");
                    self.source.refused(&id);
                    step.refused.push((id, reason));
                }
                Err(PublishError::Retryable(reason)) => {
                    step.waiting = self.outbox.len();
                    warn!(source = self.source.name(), waiting = step.waiting, %reason, "Node away; alerts wait");
                    break;
                }
            }
            self.outbox.pop_front();
            self.save()?;
        }
        Ok(step)
    }

    fn save(&mut self) -> Result<(), StateError> {
        self.file.save(&StateOut { source: self.source.state(), outbox: &self.outbox })
    }
}

async fn attempt<P, F>(publication: &Publication, timing: &Timing, publish: &mut P) -> Result<Published, PublishError>
where
    P: FnMut(Publication) -> F + Send,
    F: Future<Output = Result<Published, PublishError>> + Send,
{
    let mut wait = timing.backoff;
    let mut left = timing.attempts.max(1);
    loop {
        left -= 1;
        match publish(publication.clone()).await {
            Err(PublishError::Retryable(_)) if left > 0 => {
                tokio::time::sleep(jittered(wait, wait / 2)).await;
                wait = (wait * 2).min(timing.backoff_max);
            }
            answer => return answer,
        }
    }
}

fn jittered(base: Duration, jitter: Duration) -> Duration {
    base + jitter.mul_f64(rand::rng().random_range(0.0..1.0))
}

/// Runs a source until `stop` is cancelled; `each` hears of every round.
///
/// # Errors
/// [`StateError`] when the state file cannot be read or written. Faults of the source and of the bus end nothing.
pub async fn run<S, P, F>(
    mut runner: Runner<S>,
    clock: Arc<dyn Clock>,
    mut publish: P,
    mut each: impl FnMut(&Step) + Send,
    stop: CancellationToken,
) -> Result<(), StateError>
where
    S: Source,
    P: FnMut(Publication) -> F + Send,
    F: Future<Output = Result<Published, PublishError>> + Send,
{
    loop {
        tokio::select! {
            // A round cut off half way is as good as a crash: what was not acknowledged is published again.
            step = runner.step(&*clock, &mut publish) => each(&step?),
            () = stop.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(runner.timing.interval, runner.timing.jitter)) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}
