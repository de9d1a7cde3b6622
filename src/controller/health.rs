//! Whether the operator is at work: when the API server last answered each watch, and how long each reconcile
//! has been under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    pub fn answered(&self, path: &str) {
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

    /// How long each kind's watches are silent, the longest of all namespaces.
    pub fn silences(&self) -> BTreeMap<&'static str, Duration> {
        let mut silences = BTreeMap::new();
        for ((_, kind), watch) in &self.parts().watches {
            let silence: &mut Duration = silences.entry(*kind).or_default();
            *silence = watch.answered.elapsed().max(*silence);
        }
        silences
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

#[cfg(test)]
mod tests {
    use super::*;

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
