//! The promises of the operator as invariants, looked at with every change of the store.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cluster::{Outcome, Script, condition};
use crate::store::{Actor, Change, Deletion, Key, is_owned_by};

/// What is promised, by its number.
pub const PROMISES: [&str; 10] = [
    "no index is proposed twice; a run is recorded before its Job is created",
    "never more than `parallelism` unfinished Jobs",
    "a reported result is recorded, and stays",
    "`best` is the best of the finished Trials",
    "a Job is deleted by its UID, in the foreground, after the decision is recorded",
    "a disruption is not the trainer's failure",
    "when the faults stop, the study converges, and then nothing is written",
    "suspend stops creation; an end stops what still runs",
    "deleting a Study leaves nothing, a deleted Trial does not come back",
    "all of it with the operator killed, behind, or twice there",
];

/// How long a decision may be under way: an answer that takes its 30 s, there and back.
const UNDER_WAY: f64 = 65.0;

/// What somebody else did, after which a promise says less.
#[derive(Clone, Copy, Debug, Default)]
pub struct Excuses {
    /// Two operators were live: one stray Job for each Trial is forgiven, until the next reconcile.
    pub two_leaders: bool,
    /// A status was wiped: what stood in it is not known any more.
    pub wiped: bool,
    /// Labels by which things are found were taken away.
    pub unlabelled: bool,
}

struct Pod {
    trial: String,
    script: Script,
    code: Option<i32>,
    done: bool,
}

/// The invariants, and what they have seen.
#[derive(Default)]
pub struct Promises {
    pub violations: Vec<String>,
    /// How often each promise was put to the test.
    pub checks: [u64; 10],
    pub excuses: Excuses,
    /// Writes of the operator, by kind.
    pub writes: BTreeMap<&'static str, u64>,
    /// By the Study's UID and the index.
    trials: BTreeMap<(String, i64), String>,
    runs: BTreeSet<(String, String)>,
    /// Trial UID -> how it finished.
    results: BTreeMap<String, Value>,
    pods: BTreeMap<String, Pod>,
    /// Since when which parallelism holds; 0 while suspended or going.
    limits: Vec<(f64, usize)>,
    best: Option<(String, f64)>,
    last_index: Option<i64>,
    deleted_trials: BTreeSet<String>,
}

impl Promises {
    fn hold(&mut self, promise: usize, holds: bool, what: impl FnOnce() -> String) {
        self.checks[promise - 1] += 1;
        if !holds {
            self.violations.push(format!("promise {promise}: {}", what()));
        }
    }

    /// A pod's trainer starts.
    pub fn started(&mut self, pod: &str, trial: &str, script: &Script) {
        let seen = Pod { trial: trial.to_owned(), script: script.clone(), code: None, done: false };
        self.pods.insert(pod.to_owned(), seen);
    }

    /// A pod's trainer has ended; whether it had done all its steps.
    pub fn ended(&mut self, pod: &str, done: bool, code: Option<i32>) {
        if let Some(pod) = self.pods.get_mut(pod) {
            (pod.done, pod.code) = (done, code);
        }
    }

    /// Somebody is about to delete `object`.
    pub fn deleting(&mut self, actor: Actor, object: &Value, deletion: &Deletion, objects: &BTreeMap<Key, Value>) {
        if actor != Actor::Operator || object["kind"] != "Job" {
            return;
        }
        let name = text(&object["metadata"]["name"]);
        self.hold(5, deletion.uid.is_some(), || format!("Job {name} is deleted without its UID"));
        let owner = &object["metadata"]["ownerReferences"][0]["uid"];
        let Some(trial) = objects.values().find(|trial| trial["metadata"]["uid"] == *owner) else {
            return;
        };
        // Where it has ended, none of its pods holds a place.
        let is_old = is_finished(trial) && (condition(object, "Complete") || condition(object, "Failed"));
        self.hold(5, deletion.foreground || is_old, || format!("Job {name} is not deleted in the foreground"));
        let run = &trial["status"]["run"];
        let is_stray = run["job"] != object["metadata"]["name"]
            || (!run["jobUid"].is_null() && run["jobUid"] != object["metadata"]["uid"]);
        let decided = trial["spec"]["desiredState"] == "Stopped" || is_finished(trial);
        self.hold(5, is_stray || decided, || format!("Job {name} is deleted, and no decision is recorded"));
    }

    /// Something changed.
    pub fn committed(
        &mut self,
        actor: Actor,
        verb: &str,
        change: &Change,
        objects: &BTreeMap<Key, Value>,
        seconds: f64,
    ) {
        let Change { key, deleted, object, .. } = change;
        let deleted = *deleted;
        if actor == Actor::Operator {
            *self.writes.entry(key.kind).or_default() += 1;
        }
        match key.kind {
            "studies" if verb == "create" => {
                // A new one of an old name knows nothing of the earlier.
                (self.last_index, self.best) = (None, None);
                self.deleted_trials.clear();
                self.study(actor, deleted, object, objects, seconds);
            }
            "studies" => self.study(actor, deleted, object, objects, seconds),
            "trials" => self.trial(actor, verb, deleted, object, objects, seconds),
            "jobs" if verb == "create" => self.job(object, objects, seconds),
            _ => {}
        }
    }

    fn study(&mut self, actor: Actor, deleted: bool, study: &Value, objects: &BTreeMap<Key, Value>, seconds: f64) {
        let stands = !deleted && study["metadata"]["deletionTimestamp"].is_null();
        let limit = match stands && study["spec"]["suspend"] != true {
            true => study["spec"]["parallelism"].as_u64().unwrap_or(1) as usize,
            false => 0,
        };
        if self.limits.last().is_none_or(|(_, last)| *last != limit) {
            self.limits.push((seconds, limit));
        }
        if actor != Actor::Operator {
            return;
        }
        let last_index = study["status"]["lastIndex"].as_i64();
        let (forgiven, before) = (self.excuses.wiped, self.last_index);
        self.hold(1, forgiven || last_index >= before, || {
            format!("lastIndex goes back from {before:?} to {last_index:?}")
        });
        self.last_index = last_index;
        let best = &study["status"]["best"];
        let now = best["objectives"][0]["value"].as_f64().map(|value| (text(&best["trial"]), value));
        let before = self.best.take();
        if let Some((trial, value)) = &before {
            let gone = !objects.contains_key(&Key::new("trials", trial)) || self.deleted_trials.contains(trial);
            let kept = now.as_ref().is_some_and(|(_, now)| now >= value);
            self.hold(4, gone || forgiven || kept, || format!("best goes back from {before:?} to {now:?}"));
        }
        self.best = now;
    }

    fn trial(
        &mut self,
        actor: Actor,
        verb: &str,
        deleted: bool,
        trial: &Value,
        objects: &BTreeMap<Key, Value>,
        seconds: f64,
    ) {
        let name = text(&trial["metadata"]["name"]);
        let uid = text(&trial["metadata"]["uid"]);
        if deleted || trial["metadata"]["deletionTimestamp"].is_string() {
            self.deleted_trials.insert(name);
            return;
        }
        if actor != Actor::Operator {
            return;
        }
        if verb == "create" {
            let index = trial["spec"]["index"].as_i64().unwrap_or(-1);
            let study = text(&trial["metadata"]["ownerReferences"][0]["uid"]);
            let earlier = self.trials.insert((study, index), uid.clone());
            let promise = if earlier.as_ref().is_some_and(|uid| !is_there(uid, objects)) { 9 } else { 1 };
            self.hold(promise, earlier.is_none() || self.excuses.wiped, || format!("index {index} is proposed again"));
            let limit = self.limit(seconds);
            self.hold(8, limit > 0, || format!("{name} is created while the study is suspended or going"));
        }
        if let Some(job) = trial["status"]["run"]["job"].as_str() {
            self.runs.insert((uid.clone(), job.to_owned()));
        }
        let finished = is_finished(trial);
        if let Some(before) = self.results.get(&uid).cloned() {
            let same = finished
                && before["phase"] == trial["status"]["phase"]
                && before["objectives"] == trial["status"]["objectives"];
            self.hold(3, same || self.excuses.wiped, || format!("the result of {name} changes"));
            return;
        }
        if !finished {
            return;
        }
        let status = &trial["status"];
        self.results.insert(uid.clone(), status.clone());
        let pods: Vec<&Pod> = self.pods.values().filter(|pod| pod.trial == name).collect();
        let reason = text(&status["conditions"][0]["reason"]);
        match text(&status["phase"]).as_str() {
            "Succeeded" => {
                let truth = pods
                    .iter()
                    .find(|pod| pod.done && pod.code == Some(0))
                    .map(|pod| pod.script.value(pod.script.steps));
                let value = status["objectives"][0]["value"].as_f64();
                self.hold(3, truth.is_some() && value == truth, || {
                    format!("{name} has succeeded with {value:?}, the trainer says {truth:?}")
                });
                // However late its start was told.
                self.hold(3, status["startTime"].is_string(), || format!("{name} has succeeded, and has no startTime"));
            }
            "Failed" if reason == "TrainerFailed" => {
                let failed = pods.iter().any(|pod| {
                    pod.done && matches!(pod.script.outcome, Outcome::Fails(code) if pod.code == Some(code))
                });
                self.hold(6, failed, || {
                    format!("{name} is told to have failed, and its trainer did not: {}", text(&status["message"]))
                });
            }
            _ => {}
        }
        let completed = |trial: &Value| text(&trial["status"]["completionTime"]);
        let twice = objects.values().any(|other| {
            other["kind"] == "Trial" && other["metadata"]["uid"] != *uid && completed(other) == completed(trial)
        });
        // Two leaders at the same instant do not know of each other's: then the index decides which came first.
        self.hold(3, !twice || self.excuses.two_leaders, || format!("{name} has the completionTime of another Trial"));
    }

    fn job(&mut self, job: &Value, objects: &BTreeMap<Key, Value>, seconds: f64) {
        let name = text(&job["metadata"]["name"]);
        let owner = text(&job["metadata"]["ownerReferences"][0]["uid"]);
        // A call that was under way when its Trial went acts when it likes: the garbage collector takes the Job away again.
        if !objects.values().any(|object| object["metadata"]["uid"] == *owner) {
            return;
        }
        let recorded = self.runs.contains(&(owner.clone(), name.clone()));
        self.hold(1, recorded, || format!("Job {name} is created before its run is recorded"));
        let unfinished: Vec<&Value> = objects.values().filter(|job| is_unfinished(job, objects)).collect();
        let of_trial = unfinished.iter().filter(|job| job["metadata"]["ownerReferences"][0]["uid"] == owner).count();
        let (jobs, limit) = (unfinished.len(), self.limit(seconds));
        let Excuses { two_leaders, unlabelled, wiped } = self.excuses;
        self.hold(1, of_trial <= 1 || wiped || (two_leaders && of_trial <= 2), || {
            format!("{of_trial} unfinished Jobs of the Trial of {name}")
        });
        self.hold(8, limit > 0, || format!("Job {name} is created while the study is suspended or going"));
        let limit = if two_leaders { 2 * limit } else { limit };
        self.hold(2, jobs <= limit || unlabelled, || {
            let names: Vec<String> = unfinished.iter().map(|job| text(&job["metadata"]["name"])).collect();
            format!("{jobs} unfinished Jobs, at most {limit} may be: {}", names.join(", "))
        });
    }

    /// The largest limit that a decision under way can have seen.
    fn limit(&self, seconds: f64) -> usize {
        let ended = |at: usize| self.limits.get(at + 1).map_or(f64::INFINITY, |(since, _)| *since);
        let seen = self.limits.iter().enumerate().filter(|(at, _)| ended(*at) > seconds - UNDER_WAY);
        seen.map(|(_, (_, limit))| *limit).max().unwrap_or(0)
    }

    /// The faults have stopped, and the study has had its time.
    pub fn settled(&mut self, objects: &BTreeMap<Key, Value>) {
        self.checks[9] += 1;
        let Some(study) = objects.values().find(|object| object["kind"] == "Study") else {
            let left: Vec<String> = objects
                .keys()
                .filter(|key| !matches!(key.kind, "events" | "leases"))
                .map(|key| key.name.clone())
                .collect();
            self.hold(9, left.is_empty(), || format!("the Study is gone, and left {}", left.join(", ")));
            return;
        };
        let done = condition(study, "Complete") || condition(study, "Failed");
        let message = study["status"]["conditions"].to_string();
        self.hold(7, done, || format!("the study does not end: {message}"));
        let trials: Vec<&Value> = objects.values().filter(|object| object["kind"] == "Trial").collect();
        let open: Vec<String> =
            trials.iter().filter(|trial| !is_finished(trial)).map(|trial| text(&trial["metadata"]["name"])).collect();
        self.hold(8, open.is_empty(), || format!("the study has ended, and {} have not", open.join(", ")));
        let jobs: Vec<String> = objects
            .values()
            .filter(|job| is_unfinished(job, objects))
            .map(|job| text(&job["metadata"]["name"]))
            .collect();
        self.hold(8, jobs.is_empty(), || format!("the study has ended, and Jobs {} go on", jobs.join(", ")));
        let succeeded = trials.iter().filter(|trial| trial["status"]["phase"] == "Succeeded");
        let value = |trial: &Value| trial["status"]["objectives"][0]["value"].as_f64().unwrap_or(f64::NAN);
        let best = succeeded
            .min_by(|a, b| {
                value(b).total_cmp(&value(a)).then(a["spec"]["index"].as_u64().cmp(&b["spec"]["index"].as_u64()))
            })
            .map(|trial| (text(&trial["metadata"]["name"]), value(trial)));
        let told = &study["status"]["best"];
        let told = told["objectives"][0]["value"].as_f64().map(|value| (text(&told["trial"]), value));
        self.hold(4, best == told, || format!("best is {told:?}, and should be {best:?}"));
        let deleted = self.deleted_trials.len();
        let max = study["spec"]["maxTrials"].as_u64().unwrap_or(0) as usize;
        let reason = text(&study["status"]["ended"]["reason"]);
        self.hold(7, reason != "MaxTrialsReached" || trials.len() + deleted >= max, || {
            format!("{} of {max} Trials", trials.len())
        });
    }
}

/// A Job counts until it has ended and its pods have.
fn is_unfinished(job: &Value, objects: &BTreeMap<Key, Value>) -> bool {
    if job["kind"] != "Job" {
        return false;
    }
    let has_pods = || {
        objects.values().any(|pod| {
            pod["kind"] == "Pod"
                && is_owned_by(pod, &job["metadata"]["uid"])
                && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        })
    };
    let ended = condition(job, "Complete") || condition(job, "Failed");
    let leaving = job["metadata"]["deletionTimestamp"].is_string();
    has_pods() || (!ended && !leaving)
}

fn is_there(uid: &str, objects: &BTreeMap<Key, Value>) -> bool {
    objects.values().any(|object| object["metadata"]["uid"] == uid)
}

fn is_finished(trial: &Value) -> bool {
    matches!(trial["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pruned" | "Stopped"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
