//! Health and metrics, on one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

use super::error::Error;
use super::telemetry::Telemetry;
use super::watch::Health;

/// Watches are renewed every 200 s, and each renewal brings an event: silence beyond this is a wedged watch.
const SILENCE: Duration = Duration::from_secs(600);

/// Serves `/healthz`, `/readyz` and `/metrics`.
///
/// Returns why it ended: the port is taken.
pub async fn serve(listen: SocketAddr, telemetry: Arc<Telemetry>, health: Arc<Health>) -> Error {
    let check = move || {
        let silent = health.silent(SILENCE);
        let answer = match silent.is_empty() {
            true => (StatusCode::OK, "ok\n".to_owned()),
            false => (StatusCode::SERVICE_UNAVAILABLE, format!("no news from the watch of {}\n", silent.join(", "))),
        };
        std::future::ready(answer)
    };
    let app = Router::new()
        .route("/healthz", get(check.clone()))
        .route("/readyz", get(check))
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
