//! Whether the operator is at work: when the API server last answered each watch, and how long each reconcile
//! has been under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use tokio::time::Instant;

/// Watches are renewed every 200 s, a call takes 30 s at most: silence beyond this is no slowness.
pub const SILENCE: Duration = Duration::from_secs(600);

/// What was seen of the operator's parts.
#[derive(Default)]
pub struct Health(Mutex<Parts>);

#[derive(Default)]
struct Parts {
    /// By namespace, empty for all, and kind.
    watches: BTreeMap<(String, &'static str), Watch>,
    /// Reconciles under way, by a number.
    reconciles: BTreeMap<u64, (String, Instant)>,
    reconciled: u64,
}

struct Watch {
    answered: Instant,
    listed: bool,
}

impl Health {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is such a watch.
    pub fn expect(&self, scope: &str, kind: &'static str) {
        let watch = Watch { answered: Instant::now(), listed: false };
        self.parts().watches.insert((scope.to_owned(), kind), watch);
    }

    /// It has listed what there is.
    pub fn listed(&self, scope: &str, kind: &'static str) {
        if let Some(watch) = self.parts().watches.get_mut(&(scope.to_owned(), kind)) {
            watch.listed = true;
        }
    }

    /// The watch was answered, if only with an error: it is at work.
    pub fn heard(&self, scope: &str, kind: &str) {
        for ((of, plural), watch) in &mut self.parts().watches {
            if of == scope && *plural == kind {
                watch.answered = Instant::now();
            }
        }
    }

    /// A call of a watch has come back.
    fn answered(&self, path: &str) {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let Some(plural) = parts.last() else { return };
        let scope = parts.iter().position(|part| *part == "namespaces").and_then(|at| parts.get(at + 1));
        self.heard(scope.copied().unwrap_or_default(), plural);
    }

    /// A reconcile begins; it is under way until what this returns is dropped.
    pub fn begin(self: &Arc<Self>, what: String) -> Reconcile {
        let mut parts = self.parts();
        parts.reconciled += 1;
        let number = parts.reconciled;
        parts.reconciles.insert(number, (what, Instant::now()));
        Reconcile { health: self.clone(), number }
    }

    /// The watches that have not listed yet.
    pub fn missing(&self) -> Vec<&'static str> {
        let parts = self.parts();
        parts.watches.iter().filter(|(_, watch)| !watch.listed).map(|((_, kind), _)| *kind).collect()
    }

    /// What has stood still for `limit`.
    pub fn wedged(&self, limit: Duration) -> Option<String> {
        let parts = self.parts();
        let watches = parts.watches.iter().filter(|(_, watch)| watch.answered.elapsed() > limit);
        let mut watches = watches.map(|((scope, kind), _)| match scope.as_str() {
            "" => format!("no answer to the watch of {kind}"),
            scope => format!("no answer to the watch of {kind} in {scope}"),
        });
        let reconciles = parts.reconciles.values().filter(|(_, since)| since.elapsed() > limit);
        let mut reconciles = reconciles.map(|(what, _)| format!("the reconcile of {what} does not end"));
        let what = watches.next().or_else(|| reconciles.next())?;
        Some(format!("{what}, for {} s", limit.as_secs()))
    }
}

/// A reconcile under way.
pub struct Reconcile {
    health: Arc<Health>,
    number: u64,
}

impl Drop for Reconcile {
    fn drop(&mut self) {
        self.health.parts().reconciles.remove(&self.number);
    }
}

/// A client whose watches tell `health` that they were answered: bookmarks and renewals of a quiet watch do not reach
/// those who watch. Lists do not count: reconciles list as well.
pub fn noting(client: Client, health: Arc<Health>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, health) = (client.clone(), health.clone());
        async move {
            let path = is_watch(&request).then(|| request.uri().path().to_owned());
            let response = client.send(request).await;
            if let Some(path) = path {
                health.answered(&path);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lists_do_not_keep_a_watch_alive_and_watches_do() {
        let health = Arc::new(Health::default());
        health.expect("team-a", "trials");
        let service = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
        });
        let client = noting(Client::new(service, "team-a"), health.clone());
        let path = "/apis/sweep-operator.dev/v1alpha1/namespaces/team-a/trials";
        let get = |query: &str| Request::get(format!("{path}?{query}")).body(Body::empty()).unwrap();
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

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_answered_is_at_work_and_one_that_is_not_is_wedged() {
        let health = Health::default();
        health.expect("", "jobs");
        health.expect("team-a", "jobs");
        after(400).await;
        health.answered("/apis/batch/v1/jobs");
        health.answered("/apis/batch/v1/namespaces/team-a/jobs");
        assert_eq!(health.wedged(SILENCE), None);
        after(400).await;
        health.answered("/apis/batch/v1/jobs");
        after(300).await;
        assert_eq!(health.wedged(SILENCE).as_deref(), Some("no answer to the watch of jobs in team-a, for 600 s"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconcile_that_does_not_end_is_wedged() {
        let health = Arc::new(Health::default());
        drop(health.begin("study a".to_owned()));
        let stuck = health.begin("trial b".to_owned());
        after(601).await;
        assert_eq!(health.wedged(SILENCE).as_deref(), Some("the reconcile of trial b does not end, for 600 s"));
        drop(stuck);
        assert_eq!(health.wedged(SILENCE), None);
    }
}
