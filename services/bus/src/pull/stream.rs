//! One open stream: records are judged as they come, go to the disk side by side, and give credit back when they are
//! durable.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use campanile_alert::OriginId;
use campanile_log::{Evidence, Lane, Position, Refusal};
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::peer_service_client::PeerServiceClient;
use futures::stream::FuturesOrdered;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::rosters::NoRoster;
use super::{CREDIT_REST, CREDIT_STEP, End, IN_FLIGHT_MAX, RELAY_TURN, SILENCE_MAX, Task};
use crate::checkpoint;
use crate::metrics::OriginLabel;
use crate::pipeline::Stored;
use crate::record;
use crate::surroundings::Link;
use crate::verify::{Source, Verdict};

pub(super) struct InFlight {
    bytes: u32,
    stored: Stored,
    record: wire::Record,
}

/// A record on its way to the disk.
pub(super) struct Waiting {
    answer: oneshot::Receiver<Stored>,
    done: Option<(u32, wire::Record)>,
}

impl Future for Waiting {
    type Output = InFlight;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<InFlight> {
        let stored = ready!(self.answer.poll_unpin(cx)).unwrap_or(Stored::Failed);
        let (bytes, record) = self.done.take().unwrap_or_default();
        Poll::Ready(InFlight { bytes, stored, record })
    }
}

/// A holder's word that it has sent all.
pub(super) struct Told {
    /// How many of the records that came before it are still on their way to the disk. What comes after it was not meant.
    before: usize,
    /// Where the log ends with the holder.
    tail: Option<Position>,
}

/// One open stream.
pub(super) struct Stream<'t> {
    pub(super) task: &'t Task,
    pub(super) holder: &'t OriginId,
    pub(super) by_origin: bool,
    pub(super) client: PeerServiceClient<Link>,
    pub(super) requests: mpsc::Sender<wire::PullRequest>,
    pub(super) in_flight: FuturesOrdered<Waiting>,
    /// Credit that is durable and not yet given back.
    pub(super) returned: u32,
    /// When it is given back, however little it is.
    pub(super) return_at: Option<Instant>,
    /// The holder has told that this is all, and not all of it is durable yet.
    pub(super) told: Option<Told>,
    /// Earlier rosters that the holder was asked for and lacks.
    pub(super) lacking: BTreeSet<u64>,
    /// The newest roster that was handed on to the holder.
    pub(super) handed_on: u64,
    /// Rosters on their way to the holder, one handing at a time; it gives the newest that came.
    pub(super) handing: JoinSet<Option<u64>>,
}

impl Stream<'_> {
    pub(super) async fn run(mut self, mut messages: tonic::Streaming<wire::PullResponse>) -> End {
        let turn = tokio::time::sleep(RELAY_TURN);
        let wake = self.task.wake.notified();
        tokio::pin!(turn, wake);
        let own = self.task.origin == self.task.parts.origin;
        loop {
            if let Some(told) = self.told.take_if(|told| told.before == 0) {
                if self.is_short(&told) {
                    // Nothing else would bring it: the holder believes, or pretends, that we have it.
                    return End::Distrusted("the holder has left records out that it says it has sent".into());
                }
                self.task.pullers.answered(&self.task.log, self.holder, true);
                if own {
                    return End::Recovered;
                }
            }
            let room = self.in_flight.len() < IN_FLIGHT_MAX;
            let rest = self.return_at;
            let rested = async move {
                match rest {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    if let Some(end) = self.settle(done).await {
                        return end;
                    }
                }
                message = tokio::time::timeout(SILENCE_MAX, messages.message()), if room => {
                    let message = match message {
                        Err(_) => return End::Failed("nothing was heard for 16 s".into()),
                        Ok(Err(status)) => return End::Failed(reason_of(&status)),
                        Ok(Ok(None)) => return End::Failed("the holder closed the stream".into()),
                        Ok(Ok(Some(message))) => message,
                    };
                    if let Some(end) = self.take(message).await {
                        return end;
                    }
                }
                () = &mut turn, if !self.by_origin && !own => return End::InOrder,
                () = rested => {
                    if let Some(end) = self.give_back().await {
                        return end;
                    }
                }
                // The origin is back, or has moved.
                () = &mut wake, if !self.by_origin && !own => return End::InOrder,
            }
        }
    }

    /// What the holder told of its end has not come, though nothing of it is under way.
    fn is_short(&self, told: &Told) -> bool {
        told.tail.is_some_and(|tail| self.task.tail().is_none_or(|held| held.place() < tail.place()))
    }

    async fn take(&mut self, message: wire::PullResponse) -> Option<End> {
        let parts = &self.task.parts;
        if self.by_origin {
            let now = parts.clock.now();
            self.task.pullers.view(&self.task.log, |view| view.heard = Some(now));
        }
        match message.kind {
            Some(wire::pull_response::Kind::Record(record)) => self.record(record).await,
            Some(wire::pull_response::Kind::Bookmark(bookmark)) => self.bookmark(bookmark).await,
            Some(wire::pull_response::Kind::Diverged(diverged)) => {
                let record = diverged.record.unwrap_or_default();
                self.fork(&record, "the holder has another record at our tail").await
            }
            Some(wire::pull_response::Kind::Pruned(_)) => Some(End::Failed("the holder has pruned this log".into())),
            // A newer peer may say what this version does not know.
            None => None,
        }
    }

    async fn record(&mut self, record: wire::Record) -> Option<End> {
        let record = apart(record);
        let parts = &self.task.parts;
        let verdict = match parts.verifier.judge(&self.task.log, &record, self.source()) {
            Verdict::NeedsRoster(number) => match self.fetch_rosters(number).await {
                // One that is still wanting now is an earlier one, and nobody has it.
                Ok(()) => parts.verifier.judge_without_roster(&self.task.log, &record, self.source()),
                // Only the origin may say that its roster is not to be had; a relay may just not have it yet.
                Err(NoRoster::Unknown) if self.by_origin => {
                    parts.verifier.judge_without_roster(&self.task.log, &record, self.source())
                }
                Err(NoRoster::Unknown) => {
                    return Some(End::Distrusted("the holder lacks a roster it serves by".into()));
                }
                Err(NoRoster::Failed(reason)) => return Some(End::Failed(reason)),
            },
            verdict => verdict,
        };
        match verdict {
            Verdict::Append(checked) => {
                let weight = record.header.len() + record.body.as_ref().map_or(0, Bytes::len);
                let bytes = u32::try_from(weight).unwrap_or(u32::MAX);
                let answer = parts.pipeline.store(*checked).await;
                self.in_flight.push_back(Waiting { answer, done: Some((bytes, record)) });
                None
            }
            Verdict::NeedsRoster(number) => Some(End::Failed(format!("roster {number} could not be had"))),
            Verdict::Refuse(reason) => Some(End::Distrusted(reason)),
        }
    }

    fn source(&self) -> Source {
        match () {
            () if self.task.origin == self.task.parts.origin => Source::Returned,
            () if self.by_origin => Source::Origin,
            () => Source::Relay,
        }
    }

    /// Goes on after the disk has answered for one record.
    async fn settle(&mut self, done: InFlight) -> Option<End> {
        if let Some(told) = &mut self.told {
            told.before = told.before.saturating_sub(1);
        }
        match done.stored {
            Stored::Durable => {
                self.returned = self.returned.saturating_add(done.bytes);
                if self.returned >= CREDIT_STEP {
                    return self.give_back().await;
                }
                self.return_at.get_or_insert_with(|| Instant::now() + CREDIT_REST);
                None
            }
            Stored::Refused(Refusal::Fork { .. }) => {
                self.fork(&done.record, "the holder has another record at a position held here").await
            }
            Stored::Refused(refusal @ (Refusal::Gap { .. } | Refusal::BadPrevious { .. })) => {
                // Opened again from our tail, the holder shows whether it holds another record there.
                Some(End::Failed(refusal.to_string()))
            }
            Stored::Refused(refusal) => Some(End::Distrusted(refusal.to_string())),
            Stored::Failed => Some(End::Failed("the record could not be stored here".into())),
        }
    }

    /// Lets the holder send as much more as is durable here.
    async fn give_back(&mut self) -> Option<End> {
        self.return_at = None;
        let credit = wire::PullCredit {
            credit_bytes: std::mem::take(&mut self.returned),
            durable: self.task.tail().map(|tail| record::position_to_wire(&self.task.log, &tail)),
        };
        let message = wire::PullRequest { kind: Some(wire::pull_request::Kind::Credit(credit)) };
        let sent = self.requests.send(message).await;
        sent.is_err().then(|| End::Failed("the holder closed the stream".into()))
    }

    /// Two records stand at one position: the other one is kept, if its origin made it.
    async fn fork(&mut self, record: &wire::Record, reason: &str) -> Option<End> {
        let parts = &self.task.parts;
        // Only what the origin's own good key has signed proves anything: a relay must not be able to accuse it.
        if let Ok(header) = parts.verifier.proves(&self.task.log, record) {
            warn!(log = %self.task.log, epoch = header.epoch, seq = header.seq, "A log has forked; evidence is kept");
            parts.metrics.forks.inc();
            self.keep_evidence(record, &header).await;
        }
        Some(End::Distrusted(reason.into()))
    }

    async fn keep_evidence(&self, record: &wire::Record, header: &record::Header) {
        let hash = campanile_log::Hash::of(&record.header);
        let evidence = Evidence {
            log: self.task.log.clone(),
            position: Position { epoch: header.epoch, seq: header.seq, hash },
            header: record.header.clone(),
            body: record.body.clone(),
            signatures: record::signatures_as_stored(&record.signatures),
        };
        self.task.parts.pipeline.evidence(evidence).await;
    }

    async fn bookmark(&mut self, bookmark: wire::Bookmark) -> Option<End> {
        let parts = &self.task.parts;
        let log = &self.task.log;
        let seen = match bookmark.tail.as_ref().map(record::position_from_wire) {
            None => None,
            Some(Ok((named, tail))) if named == *log => Some(tail),
            Some(_) => return Some(End::Distrusted("a bookmark names a position of another log".into())),
        };
        // Another holder may be behind the origin: it adds to what the origin has told of its end, and takes nothing away.
        self.task.pullers.view(log, |view| {
            let more = seen.map(|seen| seen.place()) > view.seen.map(|known| known.place());
            if self.by_origin || more {
                view.seen = seen;
            }
        });
        if bookmark.complete || seen.is_none() {
            self.told = Some(Told { before: self.in_flight.len(), tail: seen });
        }
        let behind = seen.is_some_and(|seen| self.task.tail().is_none_or(|held| held.place() < seen.place()));
        let label = OriginLabel { origin: log.origin.to_string(), lane: log.lane.as_str().into() };
        let lag = if behind { self.lag(&bookmark) } else { 0.0 };
        parts.metrics.lag_seconds.get_or_create(&label).set(lag);
        if bookmark.roster > parts.roster.current().number
            && let Err(reason) = self.fetch_rosters(bookmark.roster).await
        {
            debug!(?reason, "A newer roster could not be fetched");
        }
        // A holder that cannot find us, since our key or its trust changed with that roster, would never ask us for it.
        if self.by_origin && log.lane == Lane::Urgent {
            self.hand_on_rosters(bookmark.roster);
        }
        if let Some(checkpoint) = &bookmark.checkpoint {
            return self.checkpoint(checkpoint);
        }
        None
    }

    /// How old our tail is: at least this much of the log is missing here.
    fn lag(&self, bookmark: &wire::Bookmark) -> f64 {
        let theirs = campanile_proto::convert::timestamp_from_wire(bookmark.time.as_ref(), "time").ok();
        let held = self.task.tail().and_then(|tail| {
            let entry = self.task.parts.store.get(&self.task.log, tail.epoch, tail.seq).ok()??;
            record::open_header(&entry.header).ok().map(|header| header.time)
        });
        match (theirs, held) {
            (Some(theirs), Some(held)) => theirs.duration_since(held).as_secs_f64().max(0.0),
            _ => 0.0,
        }
    }

    /// Compares the author's word about its tail with what is held here. Whoever passes it on, it is the author that
    /// speaks: it is heard by it, and its log goes as far as it says.
    fn checkpoint(&mut self, checkpoint: &wire::Checkpoint) -> Option<End> {
        let parts = &self.task.parts;
        let log = &self.task.log;
        let roster = parts.roster.current();
        let word = checkpoint::open(&roster, &parts.federation, log, checkpoint)?;
        let held = word.tail.and_then(|tail| Some((tail, parts.store.get(log, tail.epoch, tail.seq).ok()??)));
        if let Some((tail, held)) = &held
            && held.position.hash != tail.hash
        {
            warn!(%log, epoch = tail.epoch, seq = tail.seq, "The author's checkpoint names another record than is held");
            parts.metrics.forks.inc();
            return Some(End::Distrusted("the author's checkpoint contradicts what is held here".into()));
        }
        let bytes: Bytes = checkpoint.encode_to_vec().into();
        let heard = parts.checkpoints.take(log, word, bytes.clone())?;
        self.task.pullers.view(log, |view| {
            view.heard = view.heard.max(Some(heard));
            if word.tail.map(|tail| tail.place()) > view.seen.map(|seen| seen.place()) {
                view.seen = word.tail;
            }
        });
        let is_kept = || parts.store.checkpoint(log).ok().flatten().is_some_and(|kept| checkpoint::ends(&kept, &word));
        if held.is_some() && !is_kept() {
            parts.pipeline.checkpoint(log.clone(), bytes);
        }
        None
    }
}

/// The record in memory of its own. As it comes it is a part of the buffer that it was received in, and would hold all of
/// that for as long as anybody keeps a part of it.
fn apart(record: wire::Record) -> wire::Record {
    let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    wire::Record { header: own(&record.header), body: record.body.as_ref().map(own), ..record }
}

/// A status as one line: what went wrong, with what lies under it.
pub(super) fn reason_of(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        source = error.source();
    }
    text
}
