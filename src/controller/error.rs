//! What can go wrong with the API server, and how long to wait then.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::core::Status;

use super::context::to_remember;

/// Why a reconcile could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kubeconfig, or a broken one.
    #[error("no cluster: {0}")]
    NoCluster(#[source] kube::config::InferConfigError),
    /// The API server refused, or could not be reached.
    #[error("{}", describe(.0))]
    Api(#[from] kube::Error),
    /// The API server does not take a Job: a quota, a policy, or what only it can check. Its Study says so.
    #[error("{}", describe(.0))]
    JobRefused(#[source] kube::Error),
    /// The API server did not answer.
    #[error("the API server did not answer within {} s", CALL_LIMIT.as_secs())]
    Timeout,
    /// The port for health and metrics.
    #[error("cannot serve health and metrics on {0}: {1}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// Another operator may lead now.
    #[error("the lease is lost: {0}")]
    LeaseLost(String),
    /// A part that should be at work is not.
    #[error("wedged: {0}; the process ends so that a new one starts")]
    Wedged(String),
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
            Error::Api(kube::Error::Api(status)) | Error::JobRefused(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        self.status().map(|status| status.code)
    }

    /// How a reconcile that ended so is counted: what is no trouble of the operator's is told apart.
    pub fn outcome(&self) -> &'static str {
        match self {
            Error::JobRefused(_) => "refused",
            error if error.is_expected() => "conflict",
            _ => "error",
        }
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

/// Failures of each object in a row: conflicts are tried again soon, others from 5 s to 5 min apart.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<String, Row>>);

#[derive(Default)]
struct Row {
    conflicts: u32,
    failures: u32,
}

/// So many conflicts in a row are news on its way; more of them are a failure.
const EXPECTED_CONFLICTS: u32 = 5;

impl Failures {
    /// How long to wait after one more failure: at least as long as the API server asks for.
    pub fn next(&self, uid: &str, error: &Error) -> Duration {
        // Those of deleted objects are never reset.
        let mut rows = to_remember(&self.0);
        let row = rows.entry(uid.to_owned()).or_default();
        if error.is_expected() && row.conflicts < EXPECTED_CONFLICTS {
            row.conflicts += 1;
            return Duration::from_millis(200);
        }
        row.failures += 1;
        let asked =
            error.status().and_then(|status| status.details.as_ref()).map_or(0, |details| details.retry_after_seconds);
        backoff(uid, row.failures, Duration::from_secs(5), Duration::from_secs(300))
            .max(Duration::from_secs(asked.into()))
    }

    /// It worked.
    pub fn reset(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// The wait after the `count`-th failure in a row of `what`: doubled each time, within `least` and `most`, and a
/// fifth longer or shorter, so that not all come back at once. The same question has the same answer.
pub fn backoff(what: &str, count: u32, least: Duration, most: Duration) -> Duration {
    let mut hasher = std::hash::DefaultHasher::new();
    (what, count).hash(&mut hasher);
    let jitter = 0.8 + 0.4 * (hasher.finish() % 1000) as f64 / 1000.0;
    let doubled = least.saturating_mul(1 << count.saturating_sub(1).min(16)).min(most);
    doubled.mul_f64(jitter)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_tried_again_after_five_seconds_to_five_minutes() {
        let failures = Failures::default();
        let waits: Vec<u64> = (0..9).map(|_| failures.next("a", &Error::Timeout).as_secs()).collect();
        assert!((4..=6).contains(&waits[0]), "{waits:?}");
        assert!(waits[..6].windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
        assert!((240..=360).contains(&waits[8]), "{waits:?}");
        failures.reset("a");
        assert!(failures.next("a", &Error::Timeout).as_secs() <= 6);
    }

    #[test]
    fn conflicts_do_not_lengthen_the_wait_after_a_failure() {
        let conflict = r#"{"status": "Failure", "message": "", "reason": "Conflict", "code": 409}"#;
        let conflict = Error::Api(kube::Error::Api(Box::new(serde_json::from_str(conflict).unwrap())));
        let failures = Failures::default();
        for _ in 0..EXPECTED_CONFLICTS {
            assert_eq!(failures.next("a", &conflict), Duration::from_millis(200));
        }
        assert!((4..=6).contains(&failures.next("a", &Error::Timeout).as_secs()));
        assert!(failures.next("a", &conflict).as_secs() >= 8, "a row without an end is a failure");
    }

    #[test]
    fn what_is_no_trouble_of_the_operator_s_is_counted_apart() {
        let refusal = |code: u16| {
            let status = serde_json::json!({"status": "Failure", "message": "", "reason": "", "code": code});
            kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
        };
        assert_eq!(Error::JobRefused(refusal(403)).outcome(), "refused");
        assert_eq!(Error::JobRefused(refusal(403)).code(), Some(403));
        assert_eq!(Error::Api(refusal(409)).outcome(), "conflict");
        assert_eq!([Error::Api(refusal(403)).outcome(), Error::Timeout.outcome()], ["error"; 2]);
    }

    #[test]
    fn the_api_server_s_own_wish_is_heard() {
        let status = r#"{"status": "Failure", "message": "", "reason": "TooManyRequests", "code": 429,
                         "details": {"retryAfterSeconds": 77}}"#;
        let status: Status = serde_json::from_str(status).unwrap();
        let error = Error::Api(kube::Error::Api(Box::new(status)));
        assert_eq!(Failures::default().next("a", &error), Duration::from_secs(77));
    }
}
