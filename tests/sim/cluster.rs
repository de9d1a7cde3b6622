//! What else works in a cluster: garbage collection, the Job controller, and a kubelet whose trainers
//! follow a script over virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sweep_operator::metrics::{ObjectiveSummary, Observation, SidecarLine, Summary};
use tokio::time::Instant;

use crate::store::{Actor, Deletion, Key, Shared, Store, finalizers, is_owned_by, seconds};

/// How a pod's trainer ends, if nobody disturbs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Succeeds,
    /// With this exit code.
    Fails(i32),
    /// The node refuses the pod.
    Rejected,
    /// The node is short of memory at this step.
    Evicted(u64),
    /// `kubectl drain` at this step.
    Drained(u64),
    /// The node goes away at this step.
    NodeLost(u64),
}

/// What a trainer does.
#[derive(Clone, Debug)]
pub struct Script {
    pub outcome: Outcome,
    pub steps: u64,
    pub step_time: Duration,
    /// Exits 0 on SIGTERM.
    pub graceful: bool,
    /// The trial's quality: the value at step `s` is `quality + s`.
    pub quality: f64,
}

impl Script {
    pub fn value(&self, step: u64) -> f64 {
        self.quality + step as f64 / 100.0
    }
}

/// Whether disruptions happen, in percent of the pods.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub disrupted: u32,
    pub lost: u32,
    pub failing: u32,
    pub steps: u64,
}

/// The script of a pod: the trial's own doing, and what happens to this attempt.
fn script(seed: u64, trial: &str, attempt: u64, weather: Weather) -> Script {
    let mut own = ChaCha8Rng::seed_from_u64(seed ^ hash(trial));
    let quality = f64::from(own.next_u32() % 1000) / 1000.0;
    let fails = own.next_u32() % 100 < weather.failing;
    let step_time = Duration::from_millis(u64::from(500 + own.next_u32() % 8000));
    let graceful = own.next_u32() % 2 == 0;
    let mut luck = ChaCha8Rng::seed_from_u64(seed ^ hash(trial) ^ (attempt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let step = u64::from(luck.next_u32()) % weather.steps;
    let outcome = match luck.next_u32() % 100 {
        n if n < weather.disrupted => match luck.next_u32() % 3 {
            0 => Outcome::Rejected,
            1 => Outcome::Evicted(step),
            _ => Outcome::Drained(step),
        },
        n if n < weather.disrupted + weather.lost => Outcome::NodeLost(step),
        _ if fails => Outcome::Fails([1, 137, 2][(own.next_u32() % 3) as usize]),
        _ => Outcome::Succeeds,
    };
    Script { outcome, steps: weather.steps, step_time, graceful, quality }
}

pub fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A pod's container log, and whether more can come.
#[derive(Default)]
pub struct PodLog {
    pub bytes: Vec<u8>,
    pub closed: bool,
}

struct Run {
    key: Key,
    script: Script,
    step: u64,
    next: Instant,
    heartbeat: Instant,
    /// When its trainer began, as its node writes it.
    began: Option<String>,
    state: RunState,
}

impl Run {
    fn report(&self, uid: &str, step: u64) -> SidecarLine {
        SidecarLine::Report {
            pod: uid.to_owned(),
            generation: 1,
            offset: 30 * step,
            step,
            metrics: ["score", "fold"].map(|metric| (metric.to_owned(), self.script.value(step))).into(),
        }
    }
}

#[derive(PartialEq)]
enum RunState {
    Waiting,
    Running,
    Terminating,
    /// Its node is gone; whether it is given up already.
    Lost {
        given_up: bool,
    },
    Ended,
}

/// Controllers and kubelet.
pub struct Cluster {
    pub logs: BTreeMap<String, PodLog>,
    pub logged: tokio::sync::watch::Sender<u64>,
    pub weather: Weather,
    /// Pods whose sidecar was killed: after how many reports, and when it is started again.
    pub muted: BTreeMap<String, (u64, Option<Instant>)>,
    /// Trial -> pods started.
    attempts: BTreeMap<String, u64>,
    counted: BTreeMap<String, BTreeSet<String>>,
    runs: BTreeMap<String, Run>,
    rng: ChaCha8Rng,
    seed: u64,
}

impl Cluster {
    pub fn new(seed: u64, weather: Weather) -> Cluster {
        Cluster {
            logs: BTreeMap::new(),
            logged: tokio::sync::watch::Sender::new(0),
            weather,
            muted: BTreeMap::new(),
            attempts: BTreeMap::new(),
            counted: BTreeMap::new(),
            runs: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(seed ^ 0xC1),
            seed,
        }
    }

    fn soon(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.rng.next_u64() % (to - from))
    }

    /// One look at everything; when to look again, if nothing changes.
    pub fn tick(&mut self, store: &mut Store) -> Option<Instant> {
        self.collect_garbage(store);
        self.sync_jobs(store);
        self.untrack_orphans(store);
        self.sync_pods(store)
    }

    fn collect_garbage(&mut self, store: &mut Store) {
        let uids: BTreeSet<String> =
            store.objects.values().filter_map(|o| o["metadata"]["uid"].as_str()).map(str::to_owned).collect();
        let keys: Vec<Key> = store.objects.keys().cloned().collect();
        for key in keys {
            let Ok(object) = store.get(&key) else { continue };
            let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            let is_owned = |owner: &Value| owner["uid"].as_str().is_some_and(|uid| uids.contains(uid));
            let is_leaving = !object["metadata"]["deletionTimestamp"].is_null();
            if !owners.is_empty() && !owners.iter().any(is_owned) && !is_leaving {
                let _ = store.delete(Actor::Cluster, &key, &Deletion::default());
                continue;
            }
            if finalizers(&object).contains(&"foregroundDeletion") {
                let uid = object["metadata"]["uid"].clone();
                let dependents: Vec<Key> =
                    store.objects.iter().filter(|(_, o)| is_owned_by(o, &uid)).map(|(key, _)| key.clone()).collect();
                if dependents.is_empty() {
                    let _ = store.update(Actor::Cluster, "finalize", &key, |object| {
                        drop_finalizer(object, "foregroundDeletion")
                    });
                }
                for dependent in dependents {
                    if store.objects[&dependent]["metadata"]["deletionTimestamp"].is_null() {
                        let foreground = dependent.kind != "pods";
                        let _ =
                            store.delete(Actor::Cluster, &dependent, &Deletion { foreground, ..Deletion::default() });
                    }
                }
            }
        }
    }

    /// <https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/job/job_controller.go>, for one completion.
    fn sync_jobs(&mut self, store: &mut Store) {
        let keys: Vec<Key> = store.objects.keys().filter(|key| key.kind == "jobs").cloned().collect();
        for key in keys {
            let Ok(job) = store.get(&key) else { continue };
            let uid = job["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let pods: Vec<Value> =
                store.of_kind("pods").filter(|pod| is_owned_by(pod, &job["metadata"]["uid"])).cloned().collect();
            let leaving = job["metadata"]["deletionTimestamp"].is_string();
            let finished = condition(&job, "Complete") || condition(&job, "Failed");
            let terminal = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
            let (mut succeeded, mut active, mut terminating) = (job["status"]["succeeded"].as_i64().unwrap_or(0), 0, 0);
            for pod in &pods {
                let pod_uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                if !terminal(pod) {
                    match pod["metadata"]["deletionTimestamp"].is_string() {
                        true => terminating += 1,
                        false => active += 1,
                    }
                    continue;
                }
                if !leaving && !finished {
                    let disrupted = condition(pod, "DisruptionTarget");
                    match pod["status"]["phase"].as_str() {
                        Some("Succeeded") => succeeded = 1,
                        _ if disrupted => {}
                        _ => {
                            self.counted.entry(uid.clone()).or_default().insert(pod_uid);
                        }
                    }
                }
                if finalizers(pod).contains(&"batch.kubernetes.io/job-tracking") {
                    let pod_key = Key::new("pods", pod["metadata"]["name"].as_str().unwrap_or_default());
                    let _ = store.update(Actor::Cluster, "untrack", &pod_key, |pod| {
                        drop_finalizer(pod, "batch.kubernetes.io/job-tracking")
                    });
                }
            }
            if leaving {
                continue;
            }
            let failed = self.counted.get(&uid).map_or(0, BTreeSet::len) as i64;
            let over = failed > job["spec"]["backoffLimit"].as_i64().unwrap_or(6);
            let suspended = job["spec"]["suspend"] == true;
            let now = seconds(store.now());
            if !finished && succeeded == 0 && !over && !suspended && active == 0 && terminating == 0 {
                self.create_pod(store, &job);
                active += 1;
            }
            if finished || succeeded > 0 || over {
                // The last pods are gone before the end is told (podReplacementPolicy Failed).
                for pod in pods.iter().filter(|pod| !terminal(pod) && pod["metadata"]["deletionTimestamp"].is_null()) {
                    let pod_key = Key::new("pods", pod["metadata"]["name"].as_str().unwrap_or_default());
                    let _ = store.delete(Actor::Cluster, &pod_key, &Deletion::default());
                }
            }
            let ends = !finished && (succeeded > 0 || over) && active + terminating == 0;
            let _ = store.update(Actor::Cluster, "sync", &key, |job| {
                let status = &mut job["status"];
                merge_counts(status, active, succeeded, failed, terminating);
                if !finished && (succeeded > 0 || over) {
                    let interim = if over { "FailureTarget" } else { "SuccessCriteriaMet" };
                    let end = if over { "Failed" } else { "Complete" };
                    let reason = if over { "BackoffLimitExceeded" } else { "CompletionsReached" };
                    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
                    for (type_, due) in [(interim, true), (end, ends)] {
                        if due && !conditions.iter().any(|c| c["type"] == type_) {
                            conditions.push(json!({"type": type_, "status": "True", "reason": reason, "message": reason, "lastTransitionTime": now}));
                        }
                    }
                    status["conditions"] = json!(conditions);
                }
            });
            // The TTL controller.
            if let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_i64()
                && let Some(end) = end_of(&job)
                && store.now().duration_since(end).as_secs() >= ttl
            {
                let _ = store.delete(Actor::Cluster, &key, &Deletion { foreground: true, ..Deletion::default() });
            }
        }
    }

    /// The Job controller lets go of pods whose Job is gone.
    fn untrack_orphans(&mut self, store: &mut Store) {
        let jobs: BTreeSet<String> =
            store.of_kind("jobs").filter_map(|job| job["metadata"]["uid"].as_str()).map(str::to_owned).collect();
        let tracked = |pod: &&Value| finalizers(pod).contains(&"batch.kubernetes.io/job-tracking");
        let is_orphan =
            |pod: &&Value| !pod["metadata"]["ownerReferences"][0]["uid"].as_str().is_some_and(|uid| jobs.contains(uid));
        let names =
            store.of_kind("pods").filter(tracked).filter(is_orphan).filter_map(|pod| pod["metadata"]["name"].as_str());
        let keys: Vec<Key> = names.map(|name| Key::new("pods", name)).collect();
        for key in keys {
            let _ = store
                .update(Actor::Cluster, "untrack", &key, |pod| drop_finalizer(pod, "batch.kubernetes.io/job-tracking"));
        }
    }

    fn create_pod(&mut self, store: &mut Store, job: &Value) {
        let name = job["metadata"]["name"].as_str().unwrap_or_default();
        let mut pod = json!({
            "metadata": job["spec"]["template"]["metadata"],
            "spec": job["spec"]["template"]["spec"],
        });
        let uid = job["metadata"]["uid"].clone();
        pod["metadata"]["generateName"] = json!(format!("{name}-"));
        pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] = uid.clone();
        pod["metadata"]["finalizers"] = json!(["batch.kubernetes.io/job-tracking"]);
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true}]);
        pod["status"] = json!({"phase": "Pending"});
        let _ = store.create(Actor::Cluster, "pods", pod, false);
    }

    fn sync_pods(&mut self, store: &mut Store) -> Option<Instant> {
        let now = Instant::now();
        let pods: Vec<(Key, Value)> = store
            .objects
            .iter()
            .filter(|(key, _)| key.kind == "pods")
            .map(|(key, pod)| (key.clone(), pod.clone()))
            .collect();
        let mut next: Option<Instant> = None;
        for (key, pod) in &pods {
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            if !self.runs.contains_key(&uid) {
                let trial =
                    pod["metadata"]["labels"]["sweep-operator.dev/trial"].as_str().unwrap_or_default().to_owned();
                let attempt = self.attempts.entry(trial.clone()).or_default();
                let script = script(self.seed, &trial, *attempt, self.weather);
                *attempt += 1;
                store.promises.started(&uid, &trial, &script);
                let start = now + self.soon(300, 5_000);
                let run = Run {
                    key: key.clone(),
                    script,
                    step: 0,
                    next: start,
                    heartbeat: start,
                    began: None,
                    state: RunState::Waiting,
                };
                self.runs.insert(uid.clone(), run);
            }
            let Some(mut run) = self.runs.remove(&uid) else { continue };
            self.advance(store, &uid, pod, &mut run, now);
            if run.state != RunState::Ended {
                let due = match run.state {
                    RunState::Running => run.next.min(run.heartbeat),
                    _ => run.next,
                };
                next = Some(next.map_or(due, |next| next.min(due)));
            }
            self.runs.insert(uid, run);
        }
        let present: BTreeSet<&str> = pods.iter().filter_map(|(_, pod)| pod["metadata"]["uid"].as_str()).collect();
        // A log goes with its pod.
        let gone: Vec<String> = self.runs.keys().filter(|uid| !present.contains(uid.as_str())).cloned().collect();
        for uid in gone {
            self.runs.remove(&uid);
            self.logs.remove(&uid);
            self.logged.send_modify(|n| *n += 1);
        }
        next
    }

    fn advance(&mut self, store: &mut Store, uid: &str, pod: &Value, run: &mut Run, now: Instant) {
        let leaving = pod["metadata"]["deletionTimestamp"].is_string();
        match run.state {
            RunState::Waiting if leaving => {
                run.state = RunState::Ended;
                self.end(store, uid, run, "Failed", None, None);
            }
            RunState::Waiting if now >= run.next => match run.script.outcome {
                Outcome::Rejected => {
                    run.state = RunState::Ended;
                    let _ = store.update(Actor::Cluster, "reject", &run.key, |pod| {
                        pod["status"] = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed"});
                    });
                }
                _ => {
                    run.state = RunState::Running;
                    run.next = now + run.script.step_time;
                    run.heartbeat = now;
                    let at = seconds(store.now());
                    run.began = Some(at.clone());
                    self.logs.entry(uid.to_owned()).or_default();
                    let _ = store.update(Actor::Cluster, "run", &run.key, |pod| {
                        let running = |name: &str| json!([{"name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {"startedAt": at}}}]);
                        pod["status"] = json!({
                            "phase": "Running",
                            "initContainerStatuses": running("sweep-sidecar"),
                            "containerStatuses": running("trainer"),
                        });
                    });
                }
            },
            RunState::Running if leaving => {
                // SIGTERM: the trainer takes its time.
                run.state = RunState::Terminating;
                run.next = now + self.soon(100, 4_000);
            }
            RunState::Running => {
                if self.muted.get(uid).is_some_and(|(_, again)| again.is_some_and(|again| now >= again)) {
                    self.muted.remove(uid);
                    // It reads the file from its start.
                    for step in 1..=run.step {
                        let again = run.report(uid, step);
                        self.print(uid, &again);
                    }
                }
                if now >= run.heartbeat {
                    run.heartbeat = now + Duration::from_secs(20);
                    self.print(
                        uid,
                        &SidecarLine::Heartbeat { pod: uid.to_owned(), noted: Default::default(), problem: None },
                    );
                }
                if now >= run.next {
                    run.next = now + run.script.step_time;
                    self.step(store, uid, run);
                }
            }
            RunState::Terminating if now >= run.next => {
                run.state = RunState::Ended;
                let code = if run.script.graceful { 0 } else { 143 };
                let phase = if code == 0 { "Succeeded" } else { "Failed" };
                self.end(store, uid, run, phase, Some(code), None);
            }
            RunState::Lost { given_up: false } if leaving || now >= run.next => {
                run.state = RunState::Lost { given_up: true };
                run.next = now + self.soon(60_000, 400_000);
                if !leaving {
                    self.disrupt(store, run, "DeletionByTaintManager");
                    let _ = store.delete(Actor::Cluster, &run.key, &Deletion::default());
                }
            }
            RunState::Lost { given_up: true } if now >= run.next => {
                run.state = RunState::Ended;
                self.disrupt(store, run, "DeletionByPodGC");
                self.end(store, uid, run, "Failed", None, None);
            }
            RunState::Ended if leaving && finalizers(pod).is_empty() => {
                let _ = store.remove(Actor::Cluster, &run.key);
            }
            _ => {}
        }
    }

    fn disrupt(&self, store: &mut Store, run: &Run, reason: &str) {
        let at = seconds(store.now());
        let _ = store.update(Actor::Cluster, "disrupt", &run.key, |pod| {
            pod["status"]["conditions"] =
                json!([{"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": at}]);
        });
    }

    fn step(&mut self, store: &mut Store, uid: &str, run: &mut Run) {
        match run.script.outcome {
            Outcome::Evicted(step) if run.step == step => {
                run.state = RunState::Ended;
                self.end(store, uid, run, "Failed", Some(137), Some(("TerminationByKubelet", "Evicted")));
                return;
            }
            Outcome::NodeLost(step) if run.step == step => {
                store.note(format!("the node of {} is lost", run.key.name));
                run.state = RunState::Lost { given_up: false };
                run.next = Instant::now() + Duration::from_secs(300);
                return;
            }
            Outcome::Drained(step) if run.step == step => {
                run.script.outcome = Outcome::Succeeds;
                self.disrupt(store, run, "EvictionByEvictionAPI");
                let _ = store.delete(Actor::Cluster, &run.key, &Deletion::default());
                return;
            }
            _ => {}
        }
        run.step += 1;
        let report = run.report(uid, run.step);
        self.print(uid, &report);
        if run.step >= run.script.steps {
            run.state = RunState::Ended;
            match run.script.outcome {
                Outcome::Fails(code) => self.end(store, uid, run, "Failed", Some(code), None),
                _ => self.end(store, uid, run, "Succeeded", Some(0), None),
            }
        }
    }

    fn end(
        &mut self,
        store: &mut Store,
        uid: &str,
        run: &Run,
        phase: &str,
        code: Option<i32>,
        disruption: Option<(&str, &str)>,
    ) {
        let now = seconds(store.now());
        store.promises.ended(uid, run.step >= run.script.steps, code);
        if code.is_some() {
            self.print(uid, &SidecarLine::End { pod: uid.to_owned(), noted: Default::default(), problem: None });
        }
        if let Some(log) = self.logs.get_mut(uid) {
            log.closed = true;
            self.logged.send_modify(|n| *n += 1);
        }
        let killed_at = self.muted.get(uid).map(|(step, _)| *step);
        let began = run.began.clone();
        let reported = killed_at.unwrap_or(run.step);
        let points = (1..=reported).map(|step| Observation { step, value: run.script.value(step) });
        let summary = Summary {
            objectives: points
                .clone()
                .next_back()
                .map(|last| ObjectiveSummary { metric: "score".to_owned(), last, best: last })
                .into_iter()
                .collect(),
            count: reported,
            pod: uid.to_owned(),
            ..Summary::default()
        };
        let message = summary.to_message();
        let _ = store.update(Actor::Cluster, "end", &run.key, |pod| {
            pod["status"]["phase"] = json!(phase);
            if let Some(code) = code {
                let reason = if code == 0 { "Completed" } else { "Error" };
                let ended = |name: &str, code: i32, message: &str| json!([{"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now, "message": message}}}]);
                pod["status"]["initContainerStatuses"] = ended("sweep-sidecar", if killed_at.is_some() { 137 } else { 0 }, &message);
                pod["status"]["containerStatuses"] = ended("trainer", code, "");
            }
            if let Some((reason, pod_reason)) = disruption {
                pod["status"]["reason"] = json!(pod_reason);
                pod["status"]["message"] = json!("The node was low on resource: memory.");
                pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": now}]);
            }
        });
    }

    /// The sidecar of a pod is killed, and comes back, or not.
    pub fn kill_sidecar(&mut self, uid: &str, again: Option<Instant>) {
        if let Some(run) = self.runs.get(uid) {
            self.muted.entry(uid.to_owned()).or_insert((run.step, again));
        }
    }

    fn print(&mut self, uid: &str, line: &SidecarLine) {
        if self.muted.contains_key(uid) {
            return;
        }
        let log = self.logs.entry(uid.to_owned()).or_default();
        log.bytes.extend_from_slice(line.to_line().as_bytes());
        log.bytes.push(b'\n');
        self.logged.send_modify(|n| *n += 1);
    }
}

/// Controllers and kubelet react to every change, a little later.
pub async fn work(store: Shared, cluster: std::sync::Arc<std::sync::Mutex<Cluster>>) {
    let mut changes = store.lock().unwrap().changes();
    loop {
        let (due, pause) = {
            let mut cluster = cluster.lock().unwrap();
            let due = cluster.tick(&mut store.lock().unwrap());
            (due, cluster.soon(5, 400))
        };
        // Nobody reacts at once.
        tokio::time::sleep(pause).await;
        let ttl = Instant::now() + Duration::from_secs(1800);
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(due.unwrap_or(ttl).min(ttl)) => {}
        }
    }
}

fn merge_counts(status: &mut Value, active: i64, succeeded: i64, failed: i64, terminating: i64) {
    for (name, count) in
        [("active", active), ("succeeded", succeeded), ("failed", failed), ("terminating", terminating)]
    {
        status[name] = json!(count);
    }
}

fn drop_finalizer(object: &mut Value, name: &str) {
    if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
        list.retain(|finalizer| finalizer != name);
    }
}

pub fn condition(object: &Value, type_: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

fn end_of(job: &Value) -> Option<Timestamp> {
    let conditions = job["status"]["conditions"].as_array()?;
    let end = conditions.iter().find(|c| c["type"] == "Complete" || c["type"] == "Failed")?;
    end["lastTransitionTime"].as_str()?.parse().ok()
}
