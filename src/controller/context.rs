//! What both controllers share.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::time::Instant;

use super::Settings;
use super::error::Failures;
use super::follow::Followers;
use super::health::Health;
use super::objects::is_owned_by;
use super::telemetry::Telemetry;
use super::watch::{Queues, Stores};
use crate::api::{FIELD_MANAGER, Study, Trial};
use crate::core::sampler::Cache;
use crate::validate::{Problem, ValidStudy};

/// How long to wait for the watch to bring our own last write; it asks for the next pass itself.
pub const STALE: std::time::Duration = std::time::Duration::from_secs(5);

/// How often a Study's status tells how far things are: however fast its Trials end, and whoever disagrees.
pub const TELL_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How long Trials that another leader has announced may take to be there. Short: after a crash they never come.
const BEING_CREATED: std::time::Duration = std::time::Duration::from_secs(1);

/// Each may hold megabytes, of a Study of thousands of Trials.
const MOST_SAMPLER_CACHES: usize = 200;

/// What both controllers share. Nothing in it is needed for a right answer after a restart.
pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub stores: Stores,
    pub queues: Queues,
    pub followers: Followers,
    pub telemetry: Arc<Telemetry>,
    pub health: Arc<Health>,
    pub recorder: Recorder,
    pub failures: Failures,
    /// The verdict on each Study's spec, by UID and generation: a dry run is asked once.
    verdicts: Mutex<HashMap<String, (i64, Verdict)>>,
    /// What samplers have computed for each Study, by UID.
    sampler_caches: Mutex<HashMap<String, Arc<Mutex<Cache>>>>,
    /// The last completion of each Study, by UID.
    completions: Mutex<HashMap<String, Timestamp>>,
    /// The Trial whose assignment each Study's ConfigMap holds, by the Study's UID.
    kept_best: Mutex<HashMap<String, String>>,
    /// The version of our last write to each object, by UID.
    written: Mutex<HashMap<String, u64>>,
    /// When we last wrote each Study's status, by UID.
    told: Mutex<HashMap<String, Instant>>,
    /// The last index of each Study, by UID, and since when it is known; None where we gave it out.
    last_index: Mutex<HashMap<String, (u32, Option<Instant>)>>,
    /// Who is about to create a Job; Studies share one by chance.
    turns: [tokio::sync::Mutex<()>; 64],
}

/// A spec, accepted or refused.
pub type Verdict = Result<Arc<ValidStudy>, Arc<Vec<Problem>>>;

impl Context {
    pub fn new(
        client: Client,
        settings: Settings,
        stores: Stores,
        queues: Queues,
        telemetry: Arc<Telemetry>,
        health: Arc<Health>,
    ) -> Context {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            followers: Followers::new(
                client.clone(),
                queues.clone(),
                telemetry.clone(),
                stores.pods.clone(),
                &settings,
            ),
            client,
            settings,
            stores,
            queues,
            telemetry,
            health,
            failures: Failures::default(),
            verdicts: Mutex::default(),
            sampler_caches: Mutex::default(),
            completions: Mutex::default(),
            kept_best: Mutex::default(),
            written: Mutex::default(),
            told: Mutex::default(),
            last_index: Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }
    }

    /// The API of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The verdict on this generation of the spec, if there is one.
    pub fn verdict(&self, study: &Study) -> Option<Verdict> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let (generation, verdict) = verdicts.get(study.metadata.uid.as_deref()?)?;
        (study.metadata.generation == Some(*generation)).then(|| verdict.clone())
    }

    /// Keeps the verdict on this generation of the spec.
    pub fn keep_verdict(&self, study: &Study, verdict: &Verdict) {
        let key = (study.uid().unwrap_or_default(), study.metadata.generation.unwrap_or_default());
        let mut verdicts = to_remember(&self.verdicts);
        verdicts.insert(key.0, (key.1, verdict.clone()));
    }

    /// What samplers have computed for this Study.
    pub fn sampler_cache(&self, study: &Study) -> Arc<Mutex<Cache>> {
        let mut caches = to_remember_at_most(MOST_SAMPLER_CACHES, &self.sampler_caches);
        caches.entry(study.uid().unwrap_or_default()).or_default().clone()
    }

    /// A completion time for a Trial of `study`: now, or just after the last one.
    pub fn completion_time(&self, study: &Study, now: Timestamp) -> Timestamp {
        let recorded =
            self.trials_of(study).iter().filter_map(|t| t.status.as_ref()?.completion_time.as_ref().map(|t| t.0)).max();
        let mut completions = to_remember(&self.completions);
        let last = completions.entry(study.uid().unwrap_or_default()).or_insert(Timestamp::MIN);
        let floor = recorded.max(Some(*last)).and_then(|t| t.checked_add(SignedDuration::from_micros(1)).ok());
        // The API keeps microseconds.
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        *last = floor.map_or(now, |floor| floor.max(now));
        *last
    }

    /// Notes our own write to an object.
    pub fn wrote(&self, object: &impl ResourceExt) {
        let version = object.resource_version().and_then(|version| version.parse().ok());
        if let (Some(uid), Some(version)) = (object.uid(), version) {
            let mut written = to_remember(&self.written);
            written.insert(uid, version);
        }
    }

    /// Whether the watch has not brought our own last write yet: a pass would only end in a conflict.
    /// Versions of one kind can be compared (KEP-5504); where they cannot, nothing is held back.
    pub fn is_stale(&self, object: &impl ResourceExt) -> bool {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = object.uid().unwrap_or_default();
        let version: Option<u64> = object.resource_version().and_then(|version| version.parse().ok());
        let stale = matches!((written.get(&uid), version), (Some(ours), Some(seen)) if seen < *ours);
        if !stale {
            written.remove(&uid);
        }
        stale
    }

    /// Whether the Study's ConfigMap was seen to hold this Trial's assignment.
    pub fn best_is_kept(&self, study: &Study, trial: &str) -> bool {
        let kept = self.kept_best.lock().unwrap_or_else(PoisonError::into_inner);
        study.metadata.uid.as_ref().and_then(|uid| kept.get(uid)).is_some_and(|kept| kept == trial)
    }

    /// The Study's ConfigMap holds this Trial's assignment.
    pub fn keep_best(&self, study: &Study, trial: &str) {
        let mut kept = to_remember(&self.kept_best);
        kept.insert(study.uid().unwrap_or_default(), trial.to_owned());
    }

    /// We wrote the Study's status.
    pub fn told(&self, study: &Study) {
        let mut told = to_remember(&self.told);
        told.insert(study.uid().unwrap_or_default(), Instant::now());
    }

    /// Whether we wrote the Study's status a moment ago.
    pub fn told_recently(&self, study: &Study) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        study.metadata.uid.as_ref().and_then(|uid| told.get(uid)).is_some_and(|at| at.elapsed() < TELL_AGAIN)
    }

    /// We gave out the indices up to `last`.
    pub fn gave_out(&self, study: &Study, last: u32) {
        let mut known = to_remember(&self.last_index);
        known.insert(study.uid().unwrap_or_default(), (last, None));
    }

    /// Whether somebody else gave out `last` a moment ago, and may still be creating those Trials.
    pub fn is_being_created(&self, study: &Study, last: u32) -> bool {
        let mut known = to_remember(&self.last_index);
        let entry = known.entry(study.uid().unwrap_or_default()).or_insert((last, Some(Instant::now())));
        if entry.0 != last {
            *entry = (last, Some(Instant::now()));
        }
        entry.1.is_some_and(|since| since.elapsed() < BEING_CREATED)
    }

    /// Waits until nobody else is about to create a Job of this Study.
    pub async fn turn(&self, study: &Study) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = std::hash::DefaultHasher::new();
        study.metadata.uid.hash(&mut hasher);
        self.turns[hasher.finish() as usize % self.turns.len()].lock().await
    }

    /// The Trials of a Study, as last seen.
    pub fn trials_of(&self, study: &Study) -> Vec<Arc<Trial>> {
        let (namespace, name) = (study.namespace(), study.name_any());
        self.stores.trials.state_filter(|trial| {
            trial.namespace() == namespace && trial.spec.study == name && is_owned_by(trial, study)
        })
    }
}

/// Where something more is to be remembered. What is remembered of deleted objects is dropped, with all else, once
/// there is much of it: nothing in here is needed for a right answer.
pub fn to_remember<V>(remembered: &Mutex<HashMap<String, V>>) -> MutexGuard<'_, HashMap<String, V>> {
    to_remember_at_most(4_000, remembered)
}

fn to_remember_at_most<V>(most: usize, remembered: &Mutex<HashMap<String, V>>) -> MutexGuard<'_, HashMap<String, V>> {
    let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered.len() > most {
        remembered.clear();
    }
    remembered
}
