//! What the public reads over HTTP, and what the participants of an exercise read on another address.
//!
//! Everything is read-only and made for caches: each body has an ETag that depends on its content alone, and a short
//! `Cache-Control`. The public router holds no path to a drill: it is built from the feed and the screens, which hold
//! live notices only.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use campanile_alert::ExerciseId;
use campanile_log::Hash;
use prometheus_client::registry::Registry;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::channels::exercise::Exercises;
use crate::channels::feed::Feed;
use crate::channels::screen::Screens;
use crate::incoming::Incoming;
use crate::member::Member;
use crate::metrics::Metrics;
use crate::texts::Language;

mod atom;
pub mod events;
pub mod json;
mod page;
mod screens;

#[cfg(test)]
mod tests;

/// How many event streams may be open at once.
const STREAMS_MAX: usize = 10_000;

/// What the public pages are made of.
#[derive(Clone)]
pub struct Public {
    /// The feeds.
    pub feed: Arc<Feed>,
    /// The screens.
    pub screens: Arc<Screens>,
    /// The place in the bus, for the bytes of records.
    pub member: Arc<dyn Member>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Everything that is scraped.
    pub registry: Arc<Registry>,
    /// The address that the public reaches us under.
    pub base: Arc<str>,
    /// The end of the process, which ends event streams.
    pub stop: CancellationToken,
    streams: Arc<Semaphore>,
}

impl std::fmt::Debug for Public {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Public").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Public {
    /// Puts the parts together.
    pub fn new(
        feed: Arc<Feed>,
        screens: Arc<Screens>,
        member: Arc<dyn Member>,
        metrics: Arc<Metrics>,
        base: &str,
        stop: CancellationToken,
    ) -> Self {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        Self {
            feed,
            screens,
            member,
            metrics,
            registry: Arc::new(registry),
            base: base.into(),
            stop,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    /// The routes.
    pub fn router(self) -> Router {
        let metrics = Arc::clone(&self.metrics);
        Router::new()
            .route("/", get(index))
            .route("/feed/{language}/atom.xml", get(atom_feed))
            .route("/cap/{file}", get(cap))
            .route("/alerts.json", get(alerts))
            .route("/alerts/{file}", get(alert))
            .route("/records/{record}", get(record))
            .route("/events", get(event_stream))
            .route("/screen/{estate}/{block}", get(screens::screen))
            .route("/screen/{estate}/{block}/state.json", get(screens::state))
            .route("/screen/{estate}/{block}/events", get(screens::events))
            .route("/healthz", get(health))
            .route("/metrics", get(scrape))
            .fallback(async || missing())
            .layer(middleware::from_fn(move |request: Request, next: Next| {
                metrics.requests.inc();
                async move { harden(next.run(request).await) }
            }))
            .with_state(self)
    }
}

/// Headers that every answer has: nothing is guessed, framed or told to others.
fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

async fn index(State(public): State<Public>, method: Method, headers: HeaderMap) -> Response {
    let html = page::index(&public.feed.snapshot(), public.screens.estates().blocks(), public.member.origin());
    let mut response = cached(&method, &headers, "text/html; charset=utf-8", 5, html.into_bytes());
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    response
}

async fn atom_feed(
    State(public): State<Public>,
    Path(language): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Some(language) = Language::from_tag(&language) else { return missing() };
    let xml = atom::feed(&public.feed.snapshot(), language, &public.base, public.member.origin());
    cached(&method, &headers, "application/atom+xml; charset=utf-8", 5, xml.into_bytes())
}

async fn cap(State(public): State<Public>, Path(file): Path<String>, method: Method, headers: HeaderMap) -> Response {
    let Some(incoming) = shown(&public, file.strip_suffix(".xml")) else { return missing() };
    let xml = match &incoming.original {
        // The bytes as they came, which the sender's own signature covers; a message taken out of a feed stands alone.
        Some((bytes, media_type)) if media_type.starts_with(campanile_alert::xml::MEDIA_TYPE) => bytes.to_vec(),
        _ => campanile_alert::xml::write(&incoming.alert).into_bytes(),
    };
    cached(&method, &headers, "application/cap+xml; charset=utf-8", 3_600, xml)
}

async fn alerts(State(public): State<Public>, method: Method, headers: HeaderMap) -> Response {
    json_of(&method, &headers, 5, &json::alerts(&public.feed.snapshot(), public.member.origin()))
}

async fn alert(State(public): State<Public>, Path(file): Path<String>, method: Method, headers: HeaderMap) -> Response {
    let Some(incoming) = shown(&public, file.strip_suffix(".json")) else { return missing() };
    let snapshot = public.feed.snapshot();
    json_of(&method, &headers, 5, &json::alert(&incoming, json::state_in(&snapshot, &incoming)))
}

/// The record as protobuf, so that a reader can check hash and signature for itself.
async fn record(
    State(public): State<Public>,
    Path(record): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Some(incoming) = shown(&public, Some(&record)) else { return missing() };
    match public.member.record(&incoming.record) {
        Ok(Some(bytes)) => cached(&method, &headers, "application/x-protobuf", 3_600, bytes.to_vec()),
        Ok(None) => missing(),
        Err(error) => {
            tracing::error!(error = %crate::delivery::chain(&error), "A record could not be read");
            plain(StatusCode::SERVICE_UNAVAILABLE, "the record could not be read; try again\n")
        }
    }
}

async fn event_stream(State(public): State<Public>, headers: HeaderMap) -> Response {
    let Some(permit) = public.stream_permit() else { return busy() };
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let feed = Arc::clone(&public.feed);
    let origin = public.member.origin().clone();
    let snapshot = move || serde_json::to_string(&json::alerts(&feed.snapshot(), &origin)).unwrap_or_default();
    events::stream(&public.feed, last_id, snapshot, public.stop.clone(), permit)
}

async fn health() -> Response {
    plain(StatusCode::OK, "ok\n")
}

async fn scrape(State(public): State<Public>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &public.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n"),
    }
}

impl Public {
    /// Leave to hold an event stream open; `None` when too many are open.
    fn stream_permit(&self) -> Option<events::Permit> {
        let permit = Arc::clone(&self.streams).try_acquire_owned().ok()?;
        Some(events::Permit::new(permit, self.metrics.streams.clone()))
    }
}

/// A record that was shown on the public feed; nothing else is served by its hash.
fn shown(public: &Public, record: Option<&str>) -> Option<Arc<Incoming>> {
    let record: Hash = record?.parse().ok()?;
    public.feed.document(&record)
}

/// The routes of the exercises' own address.
pub fn exercise_router(exercises: Arc<Exercises>, clock: Arc<dyn campanile_alert::Clock>) -> Router {
    let read = |State((exercises, clock)): State<(Arc<Exercises>, Arc<dyn campanile_alert::Clock>)>,
                Path(id): Path<String>,
                method: Method,
                headers: HeaderMap| async move {
        let notices = id.parse::<ExerciseId>().ok().and_then(|id| exercises.in_force(&id, clock.now()));
        match notices {
            Some(notices) => json_of(&method, &headers, 1, &json::drill(&notices)),
            None => missing(),
        }
    };
    Router::new()
        .route("/exercise/{id}/alerts.json", get(read))
        .fallback(async || missing())
        .layer(middleware::from_fn(|request: Request, next: Next| async move { harden(next.run(request).await) }))
        .with_state((exercises, clock))
}

fn json_of(method: &Method, headers: &HeaderMap, seconds: u32, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => cached(method, headers, "application/json", seconds, body),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n"),
    }
}

/// An answer with an ETag; 304 without a body when the reader has it already.
fn cached(method: &Method, headers: &HeaderMap, media_type: &'static str, seconds: u32, body: Vec<u8>) -> Response {
    let digest = hex::encode(Sha256::digest(&body));
    let etag = format!("\"{}\"", digest.get(..32).unwrap_or_default());
    let wanted = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let has_it = wanted
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag || tag == "*");
    let mut response = if has_it {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let length = body.len();
        let body = if method == Method::HEAD { Body::empty() } else { Body::from(body) };
        ([(header::CONTENT_TYPE, media_type.to_owned()), (header::CONTENT_LENGTH, length.to_string())], body)
            .into_response()
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    if let Ok(control) = HeaderValue::from_str(&format!("public, max-age={seconds}")) {
        headers.insert(header::CACHE_CONTROL, control);
    }
    response
}

fn missing() -> Response {
    plain(StatusCode::NOT_FOUND, "not found; see / for what there is\n")
}

fn busy() -> Response {
    plain(StatusCode::SERVICE_UNAVAILABLE, "too many event streams are open; poll /alerts.json instead\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text)
        .into_response()
}
