//! What an API server keeps: objects with resourceVersions, preconditions, finalizers and a log of changes.
//! Every change is shown to the [`Promises`] before anybody else sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::promises::Promises;

/// The simulated API server's state, shared by everything in one runtime.
pub type Shared = Arc<Mutex<Store>>;

/// Who changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    Operator,
    /// Controllers and kubelets.
    Cluster,
    User,
}

/// Where an object is found. The kind is its plural.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: &'static str,
    pub name: String,
}

impl Key {
    pub fn new(kind: &'static str, name: &str) -> Key {
        Key { kind, name: name.to_owned() }
    }
}

/// The kinds that there are: plural, apiVersion, kind, and whether the status is a subresource.
pub const KINDS: [(&str, &str, &str); 7] = [
    ("studies", "sweep-operator.dev/v1alpha1", "Study"),
    ("trials", "sweep-operator.dev/v1alpha1", "Trial"),
    ("jobs", "batch/v1", "Job"),
    ("pods", "v1", "Pod"),
    ("configmaps", "v1", "ConfigMap"),
    ("events", "events.k8s.io/v1", "Event"),
    ("leases", "coordination.k8s.io/v1", "Lease"),
];

/// A refusal as the API server words it.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

pub fn refusal(code: u16, reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { code, reason, message: message.into() }
}

pub type Answer = Result<Value, Refusal>;

/// What happened to an object.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub at: Instant,
    pub key: Key,
    pub deleted: bool,
    pub object: Value,
}

/// How an object is deleted.
#[derive(Default)]
pub struct Deletion {
    pub uid: Option<String>,
    pub revision: Option<String>,
    pub foreground: bool,
}

pub struct Store {
    pub objects: BTreeMap<Key, Value>,
    pub log: Vec<Change>,
    /// Watches from before this revision get 410.
    pub compacted: u64,
    pub promises: Promises,
    pub trace: Vec<String>,
    /// The namespace takes no new objects.
    pub terminating: bool,
    /// Studies and Trials are no resources.
    pub no_crds: bool,
    uids: u64,
    revision: watch::Sender<u64>,
    start: Instant,
}

const EPOCH: i64 = 1_767_225_600;

/// The time of a store that started at `start`.
pub fn time_at(start: Instant) -> Timestamp {
    let passed = SignedDuration::try_from(Instant::now() - start).unwrap();
    Timestamp::from_second(EPOCH).unwrap() + passed
}

impl Store {
    pub fn new(start: Instant, promises: Promises) -> Store {
        Store {
            objects: BTreeMap::new(),
            log: Vec::new(),
            compacted: 0,
            promises,
            trace: Vec::new(),
            terminating: false,
            no_crds: false,
            uids: 0,
            revision: watch::Sender::new(1),
            start,
        }
    }

    pub fn now(&self) -> Timestamp {
        time_at(self.start)
    }

    pub fn seconds(&self) -> f64 {
        (Instant::now() - self.start).as_secs_f64()
    }

    pub fn note(&mut self, line: impl std::fmt::Display) {
        let line = format!("{:>9.3} {line}", self.seconds());
        self.trace.push(line);
    }

    /// How often the operator has written, apart from its Lease.
    pub fn writes(&self) -> u64 {
        self.promises.writes.iter().filter(|(kind, _)| **kind != "leases").map(|(_, n)| n).sum()
    }

    /// The objects of a kind as they were at `at`.
    pub fn of_kind_at(&self, kind: &'static str, at: Instant) -> Vec<Value> {
        let mut then = BTreeMap::new();
        for change in self.log.iter().filter(|change| change.key.kind == kind && change.at <= at) {
            match change.deleted {
                true => then.remove(&change.key.name),
                false => then.insert(change.key.name.clone(), change.object.clone()),
            };
        }
        then.into_values().collect()
    }

    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |(key, _)| key.kind == kind).map(|(_, object)| object)
    }

    pub fn get(&self, key: &Key) -> Answer {
        self.objects.get(key).cloned().ok_or_else(|| not_found(key))
    }

    pub fn create(&mut self, actor: Actor, kind: &'static str, mut object: Value, dry_run: bool) -> Answer {
        self.uids += 1;
        let name = match object["metadata"]["name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("{}{:05}", object["metadata"]["generateName"].as_str().unwrap_or_default(), self.uids),
        };
        let key = Key::new(kind, &name);
        if self.objects.contains_key(&key) {
            return Err(refusal(409, "AlreadyExists", format!("{kind} {name:?} already exists")));
        }
        if self.terminating {
            return Err(refusal(
                403,
                "Forbidden",
                "unable to create new content in a namespace that is being terminated",
            ));
        }
        object["metadata"]["name"] = json!(name);
        object["metadata"]["namespace"] = json!("default");
        object["metadata"]["uid"] = json!(format!("{kind}-{}", self.uids));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!(seconds(self.now()));
        if matches!(kind, "studies" | "trials")
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
        if dry_run {
            return Ok(object);
        }
        self.commit(actor, "create", key, Some(object))
    }

    /// Puts in the object that `edit` makes of the present one; a change of nothing is none.
    pub fn update(&mut self, actor: Actor, verb: &str, key: &Key, edit: impl FnOnce(&mut Value)) -> Answer {
        let old = self.get(key)?;
        let mut new = old.clone();
        edit(&mut new);
        if new == old {
            return Ok(old);
        }
        if new["spec"] != old["spec"] {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(1) + 1);
        }
        let is_leaving = new["metadata"]["deletionTimestamp"].is_string() && finalizers(&new).is_empty();
        if is_leaving && key.kind != "pods" {
            return self.commit(actor, verb, key.clone(), None);
        }
        self.commit(actor, verb, key.clone(), Some(new))
    }

    /// A merge patch, of the status or of all else.
    pub fn patch(&mut self, actor: Actor, key: &Key, patch: &Value, status: bool) -> Answer {
        let old = self.get(key)?;
        let differs =
            |part: &str| !patch["metadata"][part].is_null() && patch["metadata"][part] != old["metadata"][part];
        if differs("resourceVersion") {
            return Err(conflict(key, "resourceVersion"));
        }
        // A status takes the metadata of the object that is there, all but the version.
        if !status && differs("uid") {
            return Err(refusal(422, "Invalid", "metadata.uid: field is immutable"));
        }
        let verb = if status { "patch status" } else { "patch" };
        let patch = patch.clone();
        let has_status = matches!(key.kind, "studies" | "trials" | "jobs" | "pods");
        if key.kind == "trials"
            && old["spec"]["desiredState"] == "Stopped"
            && patch["spec"]["desiredState"] == "Running"
        {
            return Err(refusal(422, "Invalid", "spec.desiredState: Stopped is final"));
        }
        self.update(actor, verb, key, |object| {
            if status {
                merge(&mut object["status"], &patch["status"]);
            } else {
                let (metadata, status) = (object["metadata"].clone(), object["status"].clone());
                merge(object, &patch);
                for fixed in ["uid", "resourceVersion", "creationTimestamp", "generation", "name", "namespace"] {
                    object["metadata"][fixed] = metadata[fixed].clone();
                }
                if has_status && let Some(object) = object.as_object_mut() {
                    object.remove("status");
                    if !status.is_null() {
                        object.insert("status".to_owned(), status);
                    }
                }
            }
        })
    }

    pub fn delete(&mut self, actor: Actor, key: &Key, deletion: &Deletion) -> Answer {
        let old = self.get(key)?;
        if deletion.uid.as_ref().is_some_and(|uid| old["metadata"]["uid"] != **uid) {
            return Err(conflict(key, "uid"));
        }
        if deletion.revision.as_ref().is_some_and(|revision| old["metadata"]["resourceVersion"] != **revision) {
            return Err(conflict(key, "resourceVersion"));
        }
        self.promises.deleting(actor, &old, deletion, &self.objects);
        let now = self.now();
        if key.kind == "pods" {
            if old["metadata"]["deletionTimestamp"].is_string() {
                return Ok(old);
            }
            let grace = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
            return self.update(actor, "delete", key, |pod| {
                let at = now + SignedDuration::from_secs(grace);
                pod["metadata"]["deletionTimestamp"] = json!(seconds(at));
                pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            });
        }
        if !deletion.foreground && finalizers(&old).is_empty() {
            return self.commit(actor, "delete", key.clone(), None);
        }
        self.update(actor, "delete", key, |object| {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = json!(seconds(now));
            }
            if deletion.foreground && !finalizers(object).contains(&"foregroundDeletion") {
                match object["metadata"]["finalizers"].as_array_mut() {
                    Some(list) => list.push(json!("foregroundDeletion")),
                    None => object["metadata"]["finalizers"] = json!(["foregroundDeletion"]),
                }
            }
        })
    }

    /// Takes an object away, whatever its finalizers.
    pub fn remove(&mut self, actor: Actor, key: &Key) -> Answer {
        self.get(key)?;
        self.commit(actor, "remove", key.clone(), None)
    }

    fn commit(&mut self, actor: Actor, verb: &str, key: Key, object: Option<Value>) -> Answer {
        let revision = self.revision() + 1;
        let deleted = object.is_none();
        let mut object = object.or_else(|| self.objects.get(&key).cloned()).unwrap_or_default();
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        let (_, api_version, kind) = KINDS.iter().find(|(plural, ..)| *plural == key.kind).unwrap();
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        match deleted {
            true => self.objects.remove(&key),
            false => self.objects.insert(key.clone(), object.clone()),
        };
        if !matches!(key.kind, "events" | "leases") {
            self.note(format!("r{revision} {actor:?} {verb} {} {}{}", key.kind, key.name, summary(&object)));
        }
        let seconds = self.seconds();
        let change = Change { revision, at: Instant::now(), key, deleted, object: object.clone() };
        self.promises.committed(actor, verb, &change, &self.objects, seconds);
        // Nobody watches Leases, and there are many.
        let is_watched = change.key.kind != "leases";
        if is_watched {
            self.log.push(change);
        }
        self.revision.send_if_modified(|last| {
            *last = revision;
            is_watched
        });
        Ok(object)
    }
}

fn summary(object: &Value) -> String {
    let status = &object["status"];
    match object["kind"].as_str() {
        Some("Trial") => format!(
            " {} {} run={} {}",
            object["spec"]["desiredState"].as_str().unwrap_or_default(),
            status["phase"].as_str().unwrap_or("-"),
            status["run"]["job"].as_str().unwrap_or("-"),
            status["message"].as_str().unwrap_or_default()
        ),
        Some("Study") => format!(
            " spec={} last={} {}",
            object["spec"]["parallelism"], status["lastIndex"], status["conditions"][0]["message"]
        ),
        Some("Pod") => format!(" {} {}", status["phase"], object["metadata"]["deletionTimestamp"]),
        Some("Job") => format!(" {} {}", status["conditions"], object["metadata"]["deletionTimestamp"]),
        _ => String::new(),
    }
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether one of the owners has this UID.
pub fn is_owned_by(object: &Value, uid: &Value) -> bool {
    object["metadata"]["ownerReferences"]
        .as_array()
        .is_some_and(|owners| owners.iter().any(|owner| owner["uid"] == *uid))
}

pub fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

fn not_found(key: &Key) -> Refusal {
    refusal(404, "NotFound", format!("{} {:?} not found", key.kind, key.name))
}

fn conflict(key: &Key, what: &str) -> Refusal {
    refusal(409, "Conflict", format!("{} {:?}: {what} is another", key.kind, key.name))
}

/// RFC 7386.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.as_object_mut().map(|object| object.remove(key));
            }
            value => merge(&mut target[key], value),
        }
    }
}
