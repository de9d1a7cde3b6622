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
/// # Errors
/// The port is taken.
pub async fn serve(listen: SocketAddr, telemetry: Arc<Telemetry>, health: Arc<Health>) -> Result<(), Error> {
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
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| Error::Listen(listen, error))?;
    tracing::info!(address = %listener.local_addr().map_err(|error| Error::Listen(listen, error))?, "serving health and metrics");
    axum::serve(listener, app).await.map_err(|error| Error::Listen(listen, error))
}
