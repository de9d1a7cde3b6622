//! One interleaving: a study, an operator or two, and what goes wrong, all drawn from a seed. Hours of virtual time.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sweep_operator::controller::{LeaseSettings, Settings, operate};
use sweep_operator::job::SidecarSettings;
use tokio::time::{Instant, sleep, sleep_until};

use crate::api::{Api, Removed, Turns};
use crate::cluster::{Cluster, Weather, condition, work};
use crate::faults::{Class, Faults};
use crate::promises::{Excuses, Promises};
use crate::store::{Actor, Deletion, Key, Shared, Store, time_at};

pub const STUDY: &str = "digits";

/// What a user does to the Study.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    Suspend,
    Resume,
    Parallelism(u64),
    MaxTrials(u64),
    /// A target that the first result reaches.
    EasyTarget,
    Delete,
}

/// Hyperband as the simulator uses it.
pub const HYPERBAND: &str = r#"{"hyperband": {"maxSteps": 9}}"#;

/// Every pruner that stops trials of these curves, which rise evenly.
const PRUNERS: [&str; 7] = [
    HYPERBAND,
    r#"{"asha": {"maxSteps": 9, "reductionFactor": 2}}"#,
    r#"{"forecast": {"maxSteps": 9}}"#,
    r#"{"forecast": {}, "threshold": {"lower": 0.1}}"#,
    r#"{"median": {"startupTrials": 1}}"#,
    r#"{"wilcoxon": {"metric": "fold", "pThreshold": 0.6}}"#,
    r#"{"percentile": {"percentile": 25, "startupTrials": 2}, "patience": {"steps": 5}}"#,
];

/// All that an interleaving is.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub classes: Vec<Class>,
    pub trials: u64,
    pub parallelism: u64,
    /// The pruner, as JSON.
    pub pruner: Option<&'static str>,
    pub weather: Weather,
    /// How long things go wrong.
    pub window: Duration,
    pub edits: Vec<(Duration, Edit)>,
    /// The operator is killed after every so many calls, beside what the classes say.
    pub kill_after: Option<u64>,
    /// How many starts are told at once.
    pub starts_told: u32,
    /// How many finished Jobs are kept.
    pub history: Option<u64>,
    /// A protection that is taken out.
    pub removed: Option<Removed>,
}

impl Scenario {
    /// Nothing goes wrong.
    pub fn calm(seed: u64) -> Scenario {
        Scenario {
            seed,
            classes: Vec::new(),
            trials: 6,
            parallelism: 2,
            pruner: None,
            weather: Weather { steps: 6, ..Weather::default() },
            window: Duration::from_secs(300),
            edits: Vec::new(),
            kill_after: None,
            // Others than those that the seed decides on.
            starts_told: [0, 10, 1][(seed / 4 % 3) as usize],
            history: [None, Some(1)][(seed / 12 % 2) as usize],
            removed: None,
        }
    }

    /// A few classes of faults, and a study for them.
    pub fn drawn(seed: u64) -> Scenario {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5CE);
        let mut below = |n: u64| rng.next_u64() % n;
        let classes = Faults::drawn(seed).classes;
        let has = |class| classes.contains(&class);
        let window = Duration::from_secs(120 + below(420));
        let mut edits = Vec::new();
        if has(Class::Edits) {
            for _ in 0..1 + below(4) {
                let at = Duration::from_millis(below(window.as_millis() as u64));
                let edit = match below(12) {
                    0..4 => Edit::Suspend,
                    4..7 => Edit::Parallelism(below(6)),
                    7..10 => Edit::MaxTrials(1 + below(12)),
                    10 => Edit::EasyTarget,
                    _ => Edit::Delete,
                };
                edits.push((at, edit));
                if edit == Edit::Suspend {
                    edits.push((at + Duration::from_millis(below(90_000)), Edit::Resume));
                }
            }
            edits.sort_by_key(|(at, _)| *at);
        }
        let weather = Weather {
            disrupted: if has(Class::Disruption) { 30 } else { 0 },
            lost: if has(Class::NodeLost) { 20 } else { 0 },
            failing: if has(Class::TrainerFails) { 25 } else { 0 },
            steps: 3 + below(10),
        };
        Scenario {
            seed,
            trials: 3 + below(8),
            parallelism: 1 + below(4),
            pruner: PRUNERS.get(below(2 * PRUNERS.len() as u64) as usize).copied(),
            weather,
            window,
            edits,
            kill_after: None,
            starts_told: [0, 10, 1][below(3) as usize],
            history: [None, Some(0), Some(1), Some(2)][below(4) as usize],
            removed: None,
            classes,
        }
    }

    fn study(&self) -> Value {
        let mut study = json!({
            "metadata": {"name": STUDY},
            "spec": {
                "objectives": [{"metric": "score", "direction": "Maximize"}],
                "parameters": [
                    {"name": "lr", "double": {"min": 1e-5, "max": 0.1, "scale": "Log"}},
                    {"name": "layers", "int": {"min": 1, "max": 8}},
                ],
                "sampler": {"random": {}},
                "maxTrials": self.trials,
                "parallelism": self.parallelism,
                "maxFailedTrials": 3,
                "seed": self.seed % 1000,
                "jobTemplate": {"spec": {"template": {"spec": {"containers": [
                    {"name": "trainer", "image": "trainer:1", "command": ["train"], "args": ["--lr=$(lr)"]},
                ]}}}},
            },
        });
        if let Some(pruner) = self.pruner {
            study["spec"]["pruner"] = serde_json::from_str(pruner).unwrap();
        }
        if let Some(limit) = self.history {
            study["spec"]["finishedJobsHistoryLimit"] = json!(limit);
        }
        study
    }
}

/// What came of it.
pub struct Report {
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub checks: [u64; 10],
    /// Calls of the operators.
    pub calls: u64,
    /// What they asked for: verbs, groups and resources as RBAC names them.
    pub asked: BTreeSet<(String, String, String)>,
    /// Their writes, by kind.
    pub writes: BTreeMap<&'static str, u64>,
    pub virtual_time: Duration,
}

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
    static SKEW: Cell<i64> = const { Cell::new(0) };
}

fn clock() -> Timestamp {
    time_at(START.get().expect("set before the operator starts"))
}

fn skewed_clock() -> Timestamp {
    clock() + SignedDuration::from_secs(SKEW.get())
}

/// Runs an interleaving to its end.
pub fn run(scenario: &Scenario) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // Inside, so that its time is the paused clock's.
    runtime.block_on(async { World::new(scenario).run().await })
}

struct World {
    scenario: Scenario,
    store: Shared,
    cluster: Arc<Mutex<Cluster>>,
    faults: Arc<Mutex<Faults>>,
    calls: Arc<Mutex<u64>>,
    asked: Arc<Mutex<BTreeSet<(String, String, String)>>>,
    turns: Turns,
    rng: ChaCha8Rng,
    start: Instant,
}

impl World {
    fn new(scenario: &Scenario) -> World {
        let start = Instant::now();
        START.set(Some(start));
        let has = |class| scenario.classes.contains(&class);
        let mut promises = Promises::default();
        promises.excuses =
            Excuses { two_leaders: has(Class::TwoLeaders) || has(Class::LeaseLost), ..Excuses::default() };
        World {
            store: Arc::new(Mutex::new(Store::new(start, promises))),
            cluster: Arc::new(Mutex::new(Cluster::new(scenario.seed, scenario.weather))),
            faults: Arc::new(Mutex::new(Faults::new(scenario.seed, scenario.classes.clone()))),
            calls: Arc::default(),
            asked: Arc::default(),
            turns: Turns::default(),
            rng: ChaCha8Rng::seed_from_u64(scenario.seed ^ 0x3A),
            start,
            scenario: scenario.clone(),
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    async fn run(mut self) -> Report {
        SKEW.set(if self.has(Class::ClockSkew) { self.below(7200) as i64 - 3600 } else { 0 });
        self.note(format!("{:?}", self.scenario));
        let created = self.store.lock().unwrap().create(Actor::User, "studies", self.scenario.study(), false);
        created.expect("nothing is in the way");
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(work(self.store.clone(), self.cluster.clone()));
        tasks.spawn(self.operator("a"));
        if self.has(Class::TwoLeaders) || self.has(Class::LeaseLost) {
            tasks.spawn(self.operator("b"));
        }
        self.mischief().await;
        self.calm_down();
        let settled = self.settle().await;
        let writes = self.store.lock().unwrap().writes();
        if settled {
            sleep(Duration::from_secs(3600)).await;
        }
        tasks.abort_all();
        let mut store = self.store.lock().unwrap();
        let more = store.writes() - writes;
        if more > 0 {
            store.promises.violations.push(format!("promise 7: {more} writes in an hour in which nothing happened"));
        }
        let objects = std::mem::take(&mut store.objects);
        store.promises.settled(&objects);
        Report {
            violations: std::mem::take(&mut store.promises.violations),
            trace: std::mem::take(&mut store.trace),
            checks: store.promises.checks,
            calls: *self.calls.lock().unwrap(),
            asked: self.asked.lock().unwrap().clone(),
            writes: std::mem::take(&mut store.promises.writes),
            virtual_time: self.start.elapsed(),
        }
    }

    fn has(&self, class: Class) -> bool {
        self.scenario.classes.contains(&class)
    }

    fn note(&self, line: impl std::fmt::Display) {
        self.store.lock().unwrap().note(line);
    }

    /// An operator that is started again whenever it has ended.
    fn operator(&self, name: &'static str) -> impl Future<Output = ()> + Send + use<> {
        let api = Api {
            calls: self.calls.clone(),
            asked: self.asked.clone(),
            removed: self.scenario.removed,
            turns: self.turns.clone(),
            ..Api::new(self.store.clone(), self.cluster.clone(), self.faults.clone(), name)
        };
        let clock = if name == "b" { skewed_clock } else { clock };
        let settings = Settings {
            namespaces: vec!["default".to_owned()],
            sidecar: SidecarSettings {
                image: "sweep:1".to_owned(),
                pull_policy: None,
                cpu: "10m".to_owned(),
                memory: "32Mi".to_owned(),
                pull_secrets: Vec::new(),
            },
            keeps_best: true,
            listen: None,
            concurrency: 16,
            // Some have to poll.
            max_log_streams: if self.scenario.seed.is_multiple_of(4) { 1 } else { 512 },
            starts_told: self.scenario.starts_told,
            lease: self.has(Class::LeaseLost).then(|| LeaseSettings {
                name: "sweep-operator".to_owned(),
                namespace: None,
                identity: name.to_owned(),
                duration: Duration::from_secs(15),
                renew_deadline: Duration::from_secs(10),
                retry_period: Duration::from_secs(2),
            }),
            clock,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(self.scenario.seed ^ u64::from(name.as_bytes()[0]));
        let (killed, paused) = (self.has(Class::Killed), self.has(Class::Paused) || self.has(Class::LeaseLost));
        let kill_after = self.scenario.kill_after;
        async move {
            loop {
                let on = api.faults.lock().unwrap().active;
                let left = match kill_after {
                    _ if !on => None,
                    Some(n) => Some(n),
                    None => killed.then(|| 5 + rng.next_u64() % 60),
                };
                *api.calls_left.lock().unwrap() = left;
                let standstill = api.clone();
                let (wait, still) =
                    (Duration::from_millis(rng.next_u64() % 90_000), Duration::from_millis(rng.next_u64() % 60_000));
                let pauses = async move {
                    while paused && standstill.faults.lock().unwrap().active {
                        sleep(wait).await;
                        standstill.store.lock().unwrap().note(format!("{name}: stands still for {still:?}"));
                        *standstill.paused.lock().unwrap() = Some(Instant::now() + still);
                        sleep(still).await;
                    }
                    std::future::pending::<()>().await;
                };
                let calm = async {
                    // An operator that was to be killed lives on once the faults have stopped.
                    while api.faults.lock().unwrap().active {
                        sleep(Duration::from_secs(1)).await;
                    }
                    *api.calls_left.lock().unwrap() = None;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    biased;
                    () = api.spent.notified() => {}
                    error = operate(api.client(), settings.clone()) => {
                        api.store.lock().unwrap().note(format!("{name}: has ended: {error}"));
                    }
                    () = pauses => {}
                    () = calm => {}
                }
                sleep(Duration::from_millis(500 + rng.next_u64() % 5_000)).await;
            }
        }
    }

    /// What users and the machines under the cluster do, until the faults stop.
    async fn mischief(&mut self) {
        let end = self.start + self.scenario.window;
        let mut edits = self.scenario.edits.clone().into_iter().peekable();
        let mut vandal = self.next(Class::Vandal, 60_000, end);
        let mut mute = self.next(Class::SidecarKilled, 60_000, end);
        let mut restart = self.next(Class::Restart, 120_000, end);
        let mut robbed = self.next(Class::LeaseLost, 120_000, end);
        let mut deleted = self.next(Class::NamespaceDeleted, 120_000, end);
        let mut removed = self.next(Class::CrdRemoved, 120_000, end);
        let mut back = end;
        loop {
            let edit = edits.peek().map_or(end, |(at, _)| self.start + *at);
            let next = edit.min(vandal).min(mute).min(restart).min(robbed).min(deleted).min(removed).min(back).min(end);
            sleep_until(next).await;
            let now = Instant::now();
            if now >= end {
                return;
            }
            if now >= edit
                && let Some((_, edit)) = edits.next()
            {
                self.edit(edit);
            }
            if now >= vandal {
                self.vandalise();
                vandal = self.next(Class::Vandal, 60_000, end);
            }
            if now >= mute {
                self.kill_sidecar();
                mute = self.next(Class::SidecarKilled, 60_000, end);
            }
            if now >= deleted {
                deleted = end;
                self.delete_namespace();
            }
            if now >= removed {
                let is_gone = self.store.lock().unwrap().no_crds;
                removed = if is_gone { end } else { now + Duration::from_millis(self.below(60_000)) };
                if is_gone { self.apply_again() } else { self.remove_crds() }
            }
            if now >= robbed {
                robbed = self.next(Class::LeaseLost, 120_000, end);
                self.rob();
            }
            if now >= back {
                self.faults.lock().unwrap().away = false;
                let mut store = self.store.lock().unwrap();
                store.compacted = store.revision();
                store.note("the API server is back");
                back = end;
            } else if now >= restart {
                self.faults.lock().unwrap().away = true;
                self.note("the API server is away");
                back = now + Duration::from_millis(self.below(60_000));
                restart = self.next(Class::Restart, 300_000, end).max(back + Duration::from_secs(1));
            }
        }
    }

    fn next(&mut self, class: Class, within: u64, never: Instant) -> Instant {
        match self.has(class) {
            true => Instant::now() + Duration::from_millis(1 + self.below(within)),
            false => never,
        }
    }

    pub fn edit(&mut self, edit: Edit) {
        self.note(format!("user: {edit:?}"));
        let key = Key::new("studies", STUDY);
        let mut store = self.store.lock().unwrap();
        let patch = match edit {
            Edit::Suspend => json!({"spec": {"suspend": true}}),
            Edit::Resume => json!({"spec": {"suspend": false}}),
            Edit::Parallelism(n) => json!({"spec": {"parallelism": n}}),
            Edit::MaxTrials(n) => json!({"spec": {"maxTrials": n}}),
            Edit::EasyTarget => {
                json!({"spec": {"objectives": [{"metric": "score", "direction": "Maximize", "target": 0.0}]}})
            }
            Edit::Delete => {
                let _ = store.delete(Actor::User, &key, &Deletion::default());
                return;
            }
        };
        let _ = store.patch(Actor::User, &key, &patch, false);
    }

    fn vandalise(&mut self) {
        let what = self.below(10);
        let mut store = self.store.lock().unwrap();
        let kind = match what {
            0 | 6 | 7 | 9 => "trials",
            4 | 5 => "pods",
            _ => "jobs",
        };
        let names: Vec<Key> = store.objects.keys().filter(|key| key.kind == kind).cloned().collect();
        if names.is_empty() {
            return;
        }
        let key = names[self.rng.next_u64() as usize % names.len()].clone();
        store.note(format!("user: mischief {what} on {} {}", key.kind, key.name));
        let user = Actor::User;
        match what {
            // Deleting, as kubectl does it, in the foreground, leaving the pods; at once.
            0 | 1 | 4 => drop(store.delete(user, &key, &Deletion::default())),
            2 => drop(store.delete(user, &key, &Deletion { foreground: true, ..Deletion::default() })),
            3 => {
                let _ = store.update(user, "orphan", &key, |job| job["metadata"]["finalizers"] = json!([]));
                drop(store.remove(user, &key));
            }
            5 => drop(store.remove(user, &key)),
            6 => drop(store.patch(user, &key, &json!({"spec": {"desiredState": "Stopped"}}), false)),
            7 => {
                store.promises.excuses.wiped = true;
                drop(store.update(user, "wipe status", &key, |trial| {
                    trial["status"].take();
                }));
            }
            _ => {
                store.promises.excuses.unlabelled = true;
                drop(store.update(user, "unlabel", &key, |object| object["metadata"]["labels"] = json!({})));
            }
        }
    }

    fn delete_namespace(&mut self) {
        self.note("user: deletes the namespace");
        let mut store = self.store.lock().unwrap();
        store.terminating = true;
        let keys: Vec<Key> = store.objects.keys().filter(|key| key.kind != "leases").cloned().collect();
        for key in keys {
            let _ = store.delete(Actor::Cluster, &key, &Deletion::default());
        }
    }

    fn remove_crds(&mut self) {
        self.note("user: removes the CRDs");
        let mut store = self.store.lock().unwrap();
        store.no_crds = true;
        let ours = |key: &&Key| matches!(key.kind, "studies" | "trials");
        let keys: Vec<Key> = store.objects.keys().filter(ours).cloned().collect();
        for key in keys {
            let _ = store.remove(Actor::Cluster, &key);
        }
    }

    fn apply_again(&mut self) {
        self.note("user: applies the CRDs and the Study again");
        let mut store = self.store.lock().unwrap();
        store.no_crds = false;
        let _ = store.create(Actor::User, "studies", self.scenario.study(), false);
    }

    /// Somebody deletes the Lease, or writes another holder into it.
    fn rob(&mut self) {
        let deletes = self.below(2) == 0;
        let key = Key::new("leases", "sweep-operator");
        self.note(format!("user: takes the lease away{}", if deletes { ", by deleting it" } else { "" }));
        let mut store = self.store.lock().unwrap();
        let _ = match deletes {
            true => store.delete(Actor::User, &key, &Deletion::default()),
            false => store.patch(Actor::User, &key, &json!({"spec": {"holderIdentity": "nobody"}}), false),
        };
    }

    fn kill_sidecar(&mut self) {
        let store = self.store.lock().unwrap();
        let pods: Vec<String> =
            store.of_kind("pods").filter_map(|pod| pod["metadata"]["uid"].as_str()).map(str::to_owned).collect();
        drop(store);
        if !pods.is_empty() {
            let at = self.below(pods.len() as u64) as usize;
            self.note(format!("the sidecar of {} is killed", pods[at]));
            let again = (self.below(2) == 0).then(|| Instant::now() + Duration::from_millis(self.below(60_000)));
            self.cluster.lock().unwrap().kill_sidecar(&pods[at], again);
        }
    }

    /// The faults stop, and the user lets the study go on.
    fn calm_down(&mut self) {
        self.note("the faults stop");
        let mut faults = self.faults.lock().unwrap();
        (faults.active, faults.away) = (false, false);
        drop(faults);
        let mut cluster = self.cluster.lock().unwrap();
        (cluster.weather.disrupted, cluster.weather.lost) = (0, 0);
        drop(cluster);
        if self.store.lock().unwrap().no_crds {
            self.apply_again();
        }
        let mut store = self.store.lock().unwrap();
        let study = Key::new("studies", STUDY);
        if let Ok(object) = store.get(&study) {
            let idle = object["spec"]["parallelism"].as_u64() == Some(0);
            let parallelism = if idle { json!(1) } else { object["spec"]["parallelism"].clone() };
            let patch = json!({"spec": {"suspend": false, "parallelism": parallelism}});
            let _ = store.patch(Actor::User, &study, &patch, false);
        }
    }

    /// Waits until the study has ended and nothing was written for ten minutes, for two hours at most.
    async fn settle(&mut self) -> bool {
        let limit = Instant::now() + Duration::from_secs(7200);
        let mut last = (self.store.lock().unwrap().writes(), Instant::now());
        while Instant::now() < limit {
            sleep(Duration::from_secs(10)).await;
            let store = self.store.lock().unwrap();
            if store.writes() != last.0 {
                last = (store.writes(), Instant::now());
            }
            let ended = match store.get(&Key::new("studies", STUDY)) {
                Ok(study) => condition(&study, "Complete") || condition(&study, "Failed"),
                Err(_) => true,
            };
            if ended && last.1.elapsed() > Duration::from_secs(600) {
                return true;
            }
        }
        self.note("the study has not settled within two hours");
        false
    }
}
