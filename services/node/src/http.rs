//! Metrics and liveness for machines, over plain HTTP on an address of their own.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves `/metrics` and `/healthz` until `stop`.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, stop: CancellationToken) {
    let app = Router::new()
        .route("/metrics", get(move || metrics(Arc::clone(&registry))))
        .route("/healthz", get(async || "ok\n"));
    let serving = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        tracing::error!(%error, "The metrics server ended");
    }
}

async fn metrics(registry: Arc<Registry>) -> impl IntoResponse {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _written = prometheus_client::encoding::text::encode(&mut text, &registry);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
