//! What Prometheus may ask. No label names a Trial.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::health::Health;
use super::index::Index;
use super::untold::Untold;
use crate::api::is_true;

/// The operator's metrics.
pub struct Telemetry {
    registry: Registry,
    pub trials_created: Counter<u64, AtomicU64>,
    pub trials_pruned: Counter<u64, AtomicU64>,
    pub pruned_gpu_seconds_saved: Counter<f64, AtomicU64>,
    reports: Family<ReportLabels, Counter>,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Family<ControllerLabels, Histogram, fn() -> Histogram>,
    suggestion_duration: Family<SamplerLabels, Histogram, fn() -> Histogram>,
    leader: Gauge,
    trials: Family<TrialLabels, Gauge>,
    studies: Family<StateLabels, Gauge>,
    write_errors: Family<WriteLabels, Counter>,
    watch_silence: Family<WatchLabels, Gauge<f64, AtomicU64>>,
    health: Arc<Health>,
    leading: watch::Receiver<bool>,
    /// What is counted when somebody asks.
    counted: Mutex<Vec<(Index, Untold)>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TrialLabels {
    namespace: String,
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReportLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SamplerLabels {
    sampler: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WriteLabels {
    resource: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatchLabels {
    resource: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

impl Telemetry {
    /// All metrics at zero; `leading` tells whether this operator leads, `health` how long its watches are silent.
    pub fn new(leading: watch::Receiver<bool>, health: Arc<Health>) -> Telemetry {
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION"), commit: env!("SWEEP_COMMIT") }).set(1);
        let mut telemetry = Telemetry {
            registry: Registry::with_prefix("sweep"),
            trials_created: Counter::default(),
            trials_pruned: Counter::default(),
            pruned_gpu_seconds_saved: Counter::default(),
            reports: Family::default(),
            reconciles: Family::default(),
            reconcile_duration: Family::new_with_constructor(seconds),
            suggestion_duration: Family::new_with_constructor(seconds),
            leader: Gauge::default(),
            trials: Family::default(),
            studies: Family::default(),
            write_errors: Family::default(),
            watch_silence: Family::default(),
            health,
            leading,
            counted: Mutex::default(),
        };
        let registry = &mut telemetry.registry;
        registry.register("trials_created", "Trials created", telemetry.trials_created.clone());
        registry.register("trials_pruned", "Trials that the pruner stopped", telemetry.trials_pruned.clone());
        registry.register(
            "pruned_gpu_seconds_saved",
            "GPU-seconds that pruned Trials would have taken on, estimated by the mean time of succeeded ones",
            telemetry.pruned_gpu_seconds_saved.clone(),
        );
        registry.register("metric_reports", "Lines of metrics read", telemetry.reports.clone());
        registry.register("reconcile", "Reconciles", telemetry.reconciles.clone());
        registry.register("reconcile_duration_seconds", "Time of a reconcile", telemetry.reconcile_duration.clone());
        registry.register(
            "suggestion_duration_seconds",
            "Time of a decision with proposals",
            telemetry.suggestion_duration.clone(),
        );
        registry.register("leader", "Whether this operator leads", telemetry.leader.clone());
        registry.register("trials", "Trials there are, by namespace and phase", telemetry.trials.clone());
        registry.register("studies", "Studies there are, by state", telemetry.studies.clone());
        registry.register(
            "write_errors",
            "Writes that the API server refused or did not answer, conflicts excepted",
            telemetry.write_errors.clone(),
        );
        registry.register(
            "watch_silence_seconds",
            "Time since the API server last answered a watch; each is renewed every 200 s",
            telemetry.watch_silence.clone(),
        );
        registry.register("build_info", "Version and commit of the operator", build);
        telemetry
    }

    /// A reconcile has ended; `result` is ok, conflict, refused or error.
    pub fn reconciled(&self, controller: &'static str, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { controller, result }).inc();
        self.reconcile_duration.get_or_create(&ControllerLabels { controller }).observe(took.as_secs_f64());
    }

    /// A line of metrics was read; whether its values were taken.
    pub fn reported(&self, taken: bool) {
        self.reports.get_or_create(&ReportLabels { result: if taken { "taken" } else { "ignored" } }).inc();
    }

    /// A write has failed; `code` is its HTTP status, `none` where there was no answer.
    pub fn write_failed(&self, resource: String, code: String) {
        self.write_errors.get_or_create(&WriteLabels { resource, code }).inc();
    }

    /// A decision with proposals was made.
    pub fn suggested(&self, sampler: &'static str, took: Duration) {
        self.suggestion_duration.get_or_create(&SamplerLabels { sampler }).observe(took.as_secs_f64());
    }

    /// Counts what these hold, whenever somebody asks.
    pub fn counts(&self, index: Index, untold: Untold) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).push((index, untold));
    }

    fn count(&self, counted: &[(Index, Untold)]) {
        let leads = *self.leading.borrow();
        self.leader.set(leads.into());
        self.trials.clear();
        self.studies.clear();
        for (resource, silence) in self.health.silences() {
            self.watch_silence.get_or_create(&WatchLabels { resource }).set(silence.as_secs_f64());
        }
        // Those who stand by would be added to the leader's.
        for (index, untold) in counted.iter().filter(|_| leads) {
            for trial in index.trials.all().into_iter().map(|trial| untold.known(trial)) {
                let namespace = trial.metadata.namespace.clone().unwrap_or_default();
                let state = format!("{:?}", trial.status.as_ref().map(|status| status.phase).unwrap_or_default());
                self.trials.get_or_create(&TrialLabels { namespace, state }).inc();
            }
            for study in index.studies.all() {
                let conditions = study.status.as_ref().map_or(&[][..], |status| &status.conditions);
                let state = ["Complete", "Failed", "Suspended", "Stalled", "Ready"];
                let state = state.into_iter().find(|type_| is_true(conditions, type_)).unwrap_or("New");
                self.studies.get_or_create(&StateLabels { state }).inc();
            }
        }
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        // Held to the end: two who ask at once must not count into each other's answer.
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        self.count(&counted);
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# cannot be encoded: {error}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::api::Trial;

    #[test]
    fn the_tests_of_alerts_and_dashboard_know_every_metric() {
        let (_leads, leading) = watch::channel(true);
        let telemetry = Telemetry::new(leading, Arc::default());
        telemetry.reported(true);
        telemetry.reconciled("study", "ok", Duration::ZERO);
        telemetry.write_failed("jobs".to_owned(), "403".to_owned());
        telemetry.suggested("gp", Duration::ZERO);
        let known = include_str!("../../tests/packaging/metrics.txt");
        let text = telemetry.text();
        let types = text.lines().filter(|line| line.starts_with("# TYPE"));
        let unknown: Vec<&str> = types.filter(|line| !known.lines().any(|known| known == *line)).collect();
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn those_who_ask_at_once_all_get_the_right_count() {
        let index = Index::default();
        for n in 0..300 {
            let spec = serde_json::json!({"study": "s", "index": n, "assignments": {}, "desiredState": "Running",
                                          "sampler": {"name": "random", "version": 1}});
            let spec = serde_json::from_value(spec).expect("a valid spec");
            let mut trial = Trial::new(&format!("s-{n}"), spec);
            trial.metadata.namespace = Some("default".to_owned());
            index.trials.apply(Event::Apply(Arc::new(trial)));
        }
        let (_leads, leading) = watch::channel(true);
        let telemetry = Telemetry::new(leading, Arc::default());
        telemetry.counts(index, Untold::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let text = telemetry.text();
                        assert!(text.contains("sweep_trials{namespace=\"default\",state=\"Pending\"} 300\n"), "{text}");
                    }
                });
            }
        });
    }
}
