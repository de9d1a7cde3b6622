//! Health and metrics, on one port.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use super::error::Error;
use super::health::{Health, SILENCE};
use super::telemetry::Telemetry;

/// Serves `/healthz`, `/readyz` and `/metrics`.
///
/// Returns why it ended: the port is taken.
pub async fn serve(listen: SocketAddr, telemetry: Arc<Telemetry>, health: Arc<Health>) -> Error {
    let answer = |trouble: Option<String>| match trouble {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(trouble) => (StatusCode::SERVICE_UNAVAILABLE, trouble + "\n"),
    };
    let lives = health.clone();
    let lives = move || std::future::ready(answer(lives.wedged(SILENCE)));
    let is_ready = move || {
        let missing = health.missing();
        let trouble = (!missing.is_empty()).then(|| format!("not listed yet: {}", missing.join(", ")));
        std::future::ready(answer(trouble))
    };
    let app = Router::new()
        .route("/healthz", get(lives))
        .route("/readyz", get(is_ready))
        .route("/metrics", get(move || std::future::ready(telemetry.text())));
    let served = async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        tracing::info!(address = %listener.local_addr()?, "serving health and metrics");
        axum::serve(listener, app).await
    };
    match served.await {
        Ok(()) => Error::Ended("the health server"),
        Err(error) => Error::Listen(listen, error),
    }
}
