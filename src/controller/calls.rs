//! The client whose calls are noted: the answers to watches for the operator's health, failed writes for its metrics.

use std::sync::Arc;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;

use super::health::Health;
use super::telemetry::Telemetry;

/// A client whose watches tell `health` that they were answered (bookmarks and renewals of a quiet watch do not reach
/// those who watch; lists do not count, since reconciles list as well), and whose failed writes `telemetry` counts.
pub fn noted(client: Client, health: Arc<Health>, telemetry: Arc<Telemetry>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, health, telemetry) = (client.clone(), health.clone(), telemetry.clone());
        async move {
            let watched = is_watch(&request).then(|| request.uri().path().to_owned());
            let write = (request.method() != Method::GET).then(|| Write::new(request.uri().path(), telemetry));
            let response = client.send(request).await;
            if let Some(path) = watched {
                health.answered(&path);
            }
            if let Some(write) = write {
                write.answered(response.as_ref().ok().map(|response| response.status().as_u16()));
            }
            response
        }
    });
    Client::new(service, namespace)
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == Method::GET && query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

/// A write under way. Dropped without an answer, as at the end of its time, it has failed.
struct Write {
    resource: String,
    telemetry: Arc<Telemetry>,
    is_answered: bool,
}

impl Write {
    fn new(path: &str, telemetry: Arc<Telemetry>) -> Write {
        Write { resource: resource(path).to_owned(), telemetry, is_answered: false }
    }

    fn answered(mut self, code: Option<u16>) {
        self.is_answered = match code {
            // That somebody was first, or that the object has gone, is news and no failure.
            Some(404 | 409) => true,
            Some(code) if code >= 400 => {
                self.telemetry.write_failed(self.resource.clone(), code.to_string());
                true
            }
            Some(_) => true,
            None => false,
        };
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.is_answered {
            self.telemetry.write_failed(self.resource.clone(), "none".to_owned());
        }
    }
}

/// The resource, in the plural, of a namespaced path.
fn resource(path: &str) -> &str {
    let mut parts = path.trim_matches('/').split('/').skip_while(|part| *part != "namespaces");
    parts.nth(2).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use http::{Response, StatusCode};
    use tokio::sync::watch;

    use super::super::health::SILENCE;
    use super::*;

    /// A client whose every call is answered with `code`; never where None.
    fn client(code: Option<u16>) -> (Client, Arc<Health>, Arc<Telemetry>) {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            match code {
                Some(code) => {
                    let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
                    Ok::<_, std::convert::Infallible>(response.body(Body::empty()).unwrap())
                }
                None => std::future::pending().await,
            }
        });
        let health = Arc::new(Health::default());
        let telemetry = Arc::new(Telemetry::new(watch::channel(true).1, health.clone()));
        (noted(Client::new(service, "team-a"), health.clone(), telemetry.clone()), health, telemetry)
    }

    const TRIALS: &str = "/apis/sweep-operator.dev/v1alpha1/namespaces/team-a/trials";

    #[tokio::test(start_paused = true)]
    async fn lists_do_not_keep_a_watch_alive_and_watches_do() {
        let (client, health, _) = client(Some(200));
        health.expect("team-a", "trials");
        let get = |query: &str| Request::get(format!("{TRIALS}?{query}")).body(Body::empty()).unwrap();
        after(400).await;
        client.send(get("&labelSelector=a%3Db")).await.unwrap();
        after(300).await;
        assert!(health.wedged(SILENCE).is_some());
        client.send(get("&watch=true&resourceVersion=7")).await.unwrap();
        assert_eq!(health.wedged(SILENCE), None);
        after(700).await;
        health.heard("team-a", "trials");
        assert_eq!(health.wedged(SILENCE), None);
    }

    #[tokio::test]
    async fn writes_that_fail_are_counted_and_conflicts_and_reads_are_not() {
        let patch = || Request::patch(format!("{TRIALS}/a-0001/status")).body(Body::empty()).unwrap();
        for (code, counted) in [(403, 1), (500, 1), (200, 0), (404, 0), (409, 0)] {
            let (client, _, telemetry) = client(Some(code));
            client.send(patch()).await.unwrap();
            client.send(Request::get(TRIALS).body(Body::empty()).unwrap()).await.unwrap();
            let line = format!("sweep_write_errors_total{{resource=\"trials\",code=\"{code}\"}} 1\n");
            assert_eq!(telemetry.text().matches(&line).count(), counted, "{}", telemetry.text());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_an_answer_has_failed() {
        let (client, _, telemetry) = client(None);
        let post = Request::post("/apis/batch/v1/namespaces/team-a/jobs").body(Body::empty()).unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(30), client.send(post)).await.is_err());
        let line = "sweep_write_errors_total{resource=\"jobs\",code=\"none\"} 1\n";
        assert!(telemetry.text().contains(line), "{}", telemetry.text());
    }

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }
}
