//! The pages of the lift screens: a page, its state as JSON for polling, and its changes as events.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use tokio_stream::wrappers::BroadcastStream;

use super::{Public, busy, cached, events, missing};
use crate::texts::escape;

/// The page runs its own script and talks to this server alone.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      base-uri 'none'";

pub(crate) async fn screen(
    State(public): State<Public>,
    Path((estate, block)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Some(block) = public.screens.block(&format!("{estate}/{block}")) else { return missing() };
    let address = block.address();
    let names = format!("{} {}", block.estate_names.zh_hant, block.names.zh_hant);
    let html = include_str!("../pages/screen.html")
        .replace("{{address}}", &escape(&address))
        .replace("{{name_zh}}", &escape(&names))
        .replace("{{name_en}}", &escape(&format!("{}, {}", block.names.en, block.estate_names.en)))
        .replace("{{state}}", &inline_json(&public, &address));
    let mut response = cached(&method, &headers, "text/html; charset=utf-8", 0, html.into_bytes());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

pub(crate) async fn state(State(public): State<Public>, Path((estate, block)): Path<(String, String)>) -> Response {
    let Some(block) = public.screens.block(&format!("{estate}/{block}")) else { return missing() };
    let state = json(&public, &block.address());
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], state).into_response()
}

pub(crate) async fn events(State(public): State<Public>, Path((estate, block)): Path<(String, String)>) -> Response {
    let Some(block) = public.screens.block(&format!("{estate}/{block}")) else { return missing() };
    let Some(permit) = public.stream_permit() else { return busy() };
    let address = block.address();
    // Subscribed before the first state is read, so no change falls between.
    let changes = BroadcastStream::new(public.screens.changes());
    let state = |public: &Public, address: &str| Event::default().event("state").data(json(public, address));
    let first = vec![state(&public, &address)];
    let (stop, reader) = (public.stop.clone(), public.clone());
    let live = changes.filter_map(move |change| {
        // A page that lags behind the changes of other blocks just gets its state again.
        let concerns = change.as_ref().map_or(true, |endpoint: &Arc<str>| **endpoint == *address);
        std::future::ready(concerns.then(|| state(&reader, &address)))
    });
    events::respond(first, live, stop, permit)
}

fn json(public: &Public, address: &str) -> String {
    // A state is made of texts, numbers and times: it always has a JSON form.
    serde_json::to_string(&public.screens.state(address)).unwrap_or_default()
}

/// JSON that may stand inside a script element: no `<` in it can end the element.
fn inline_json(public: &Public, address: &str) -> String {
    json(public, address).replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}
