//! Server-sent events: changes of the feed as they happen.
//!
//! Ids only grow, over restarts too. A reader that comes back with `Last-Event-ID` gets what it missed, as far as the
//! last [`RING_MAX`] events reach; otherwise, and on its first visit, it gets a `snapshot` of everything in force. A
//! `heartbeat` every ten seconds tells silence from a dead line. A reader that is too slow is sent away and comes back
//! by its last id.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse as _, Response};
use campanile_alert::Timestamp;
use futures::stream::{self, Stream, StreamExt as _};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio_stream::wrappers::{BroadcastStream, IntervalStream};
use tokio_util::sync::CancellationToken;

use crate::channels::feed::Feed;

/// How many events are kept for readers that come back.
const RING_MAX: usize = 1_024;
/// How many events a reader may lag behind.
const LAG_MAX: usize = 256;
/// How often a heartbeat goes out.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(10);

/// One change.
#[derive(Debug, Clone)]
struct Event {
    id: u64,
    name: &'static str,
    data: Arc<str>,
}

/// The changes of the feed.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
    sender: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Ring {
    last: u64,
    /// The id before the oldest event kept.
    before: u64,
    events: VecDeque<Event>,
}

impl Events {
    /// No events yet. Ids start at the microseconds of `now`, so they are above those of an earlier life.
    pub fn new(now: Timestamp) -> Self {
        let start = u64::try_from(now.as_microsecond()).unwrap_or(0);
        let ring = Ring { last: start, before: start, events: VecDeque::new() };
        Self { ring: Mutex::new(ring), sender: broadcast::channel(LAG_MAX).0 }
    }

    /// Tells readers of a change.
    pub fn send(&self, name: &'static str, data: &impl Serialize) {
        // What is sent are texts and numbers: they always have a JSON form.
        let data: Arc<str> = serde_json::to_string(data).unwrap_or_default().into();
        let mut ring = self.ring.lock();
        ring.last += 1;
        let event = Event { id: ring.last, name, data };
        if ring.events.len() >= RING_MAX
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.before = oldest.id;
        }
        ring.events.push_back(event.clone());
        // Sent under the lock, so that a reader who subscribes under it misses nothing and sees nothing twice.
        let _readers = self.sender.send(event);
    }

    /// What a reader with that last id has missed, absent when that is not known; the id it is at then; and what comes.
    fn resume(&self, last_id: Option<u64>) -> (Option<Vec<Event>>, u64, broadcast::Receiver<Event>) {
        let ring = self.ring.lock();
        let missed = last_id
            .filter(|id| (ring.before..=ring.last).contains(id))
            .map(|id| ring.events.iter().filter(|event| event.id > id).cloned().collect::<Vec<_>>());
        (missed, ring.last, self.sender.subscribe())
    }
}

/// Leave to hold a stream open, given back when it closes.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Permit {
    /// Counts an open stream.
    pub fn new(permit: OwnedSemaphorePermit, open: Gauge) -> Self {
        open.inc();
        Self { _permit: permit, open }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The stream of the feed's changes. `snapshot` writes what is in force, for a reader who cannot be brought up to date
/// by events.
pub(crate) fn stream(
    feed: &Feed,
    last_id: Option<u64>,
    snapshot: impl FnOnce() -> String,
    stop: CancellationToken,
    permit: Permit,
) -> Response {
    let (missed, at, receiver) = feed.events().resume(last_id);
    let first: Vec<SseEvent> = match missed {
        Some(events) => events.iter().map(sse).collect(),
        None => vec![SseEvent::default().event("snapshot").id(at.to_string()).data(snapshot())],
    };
    let live = BroadcastStream::new(receiver)
        .take_while(|event| std::future::ready(event.is_ok()))
        .filter_map(|event| std::future::ready(event.ok()))
        .map(|event| sse(&event));
    respond(first, live, stop, permit)
}

/// Answers with events, heartbeats between them, until the process ends or `live` does.
pub(crate) fn respond(
    first: Vec<SseEvent>,
    live: impl Stream<Item = SseEvent> + Send + 'static,
    stop: CancellationToken,
    permit: Permit,
) -> Response {
    let start = tokio::time::Instant::now() + HEARTBEAT;
    let beats = IntervalStream::new(tokio::time::interval_at(start, HEARTBEAT))
        .map(|_| SseEvent::default().event("heartbeat").data("{}"));
    let ended = CancellationToken::new();
    let end = ended.clone();
    let live = live.chain(stream::once(async move { end.cancel() }).filter_map(|()| std::future::ready(None)));
    let body = stream::iter(first)
        .chain(stream::select(live, beats).take_until(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = stop.cancelled() => {}
            }
        }))
        .map(move |event| {
            let _held_open = &permit;
            Ok::<_, Infallible>(event)
        });
    let mut response = Sse::new(body).into_response();
    let headers = response.headers_mut();
    // A proxy that gathers bytes before it passes them on would delay alerts.
    headers.insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    headers.insert(axum::http::header::CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    response
}

fn sse(event: &Event) -> SseEvent {
    SseEvent::default().event(event.name).id(event.id.to_string()).data(&*event.data)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn a_reader_resumes_after_its_last_id_as_far_as_the_ring_reaches() {
        let events = Events::new(at("2026-11-22T08:00:00+08:00"));
        let start = events.resume(None).1;
        for n in 0..10 {
            events.send("alert", &n);
        }
        let missed = events.resume(Some(start + 7)).0.expect("within the ring");
        assert_eq!(missed.iter().map(|event| &*event.data).collect::<Vec<_>>(), ["7", "8", "9"]);
        assert!(events.resume(Some(start + 10)).0.expect("up to date").is_empty());
        assert!(events.resume(Some(start + 11)).0.is_none(), "an id from the future");
        for n in 0..RING_MAX {
            events.send("alert", &n);
        }
        assert!(events.resume(Some(start + 7)).0.is_none(), "an id that has fallen off");
        assert!(events.resume(Some(start + 10)).0.is_some(), "the id just before the oldest");
    }
}
