//! What can go wrong with the API server, and how long to wait then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::core::Status;

/// Why a reconcile could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kubeconfig, or a broken one.
    #[error("no cluster: {0}")]
    NoCluster(#[source] kube::config::InferConfigError),
    /// The API server refused, or could not be reached.
    #[error("{}", describe(.0))]
    Api(#[from] kube::Error),
    /// The API server did not answer.
    #[error("the API server did not answer within {} s", CALL_LIMIT.as_secs())]
    Timeout,
    /// The port for health and metrics.
    #[error("cannot serve health and metrics on {0}: {1}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// A part that never ends has ended.
    #[error("{0} has ended")]
    Ended(&'static str),
    /// An object could not be written as JSON.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// How long one call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);

/// One call with its limit.
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Timeout),
    }
}

impl Error {
    /// The API server's refusal, if it is one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Api(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// Whether somebody else wrote first, or the object is gone: news that a watch will bring.
    pub fn is_expected(&self) -> bool {
        matches!(self.code(), Some(404 | 409))
    }
}

/// None where the object is not there.
pub fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.code() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

/// Failures of each object in a row: conflicts are tried again soon, others from 1 s to 5 min apart.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// How long to wait after one more failure.
    pub fn next(&self, uid: &str, error: &Error) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of deleted objects are never reset.
        if failures.len() > 4_000 {
            failures.clear();
        }
        let count = failures.entry(uid.to_owned()).or_default();
        *count += 1;
        if error.is_expected() && *count <= 5 {
            return Duration::from_millis(200);
        }
        Duration::from_secs(1 << (*count).min(9)).min(Duration::from_secs(300))
    }

    /// It worked.
    pub fn reset(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
