//! What the controllers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::OwnedMutexGuard;

use super::Settings;
use super::error::Failures;
use super::follow::Followers;
use super::health::Health;
use super::index::Index;
use super::memory::{Memories, Memory};
use super::slim::Slim;
use super::telemetry::Telemetry;
use super::untold::Untold;
use super::watch::Queues;
use crate::api::{FIELD_MANAGER, Study, Trial};

/// What the controllers share. Nothing in it is needed for a right answer after a restart.
pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub index: Index,
    pub memories: Arc<Memories>,
    pub queues: Queues,
    pub followers: Followers,
    pub untold: Untold,
    pub telemetry: Arc<Telemetry>,
    pub health: Arc<Health>,
    pub recorder: Recorder,
    pub failures: Failures,
    /// When this operator took over.
    pub since: Timestamp,
    turns: Turns,
}

impl Context {
    pub fn new(
        client: Client,
        settings: Settings,
        (index, memories, queues, untold): (Index, Arc<Memories>, Queues, Untold),
        telemetry: Arc<Telemetry>,
        health: Arc<Health>,
    ) -> Context {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            followers: Followers::new(client.clone(), queues.clone(), telemetry.clone(), index.pods.clone(), &settings),
            untold,
            client,
            since: (settings.clock)(),
            settings,
            index,
            memories,
            queues,
            telemetry,
            health,
            failures: Failures::default(),
            turns: Turns::default(),
        }
    }

    /// The API of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The API of a kind in a namespace, whose answers are read as the index keeps them.
    pub fn slim<K>(&self, namespace: &str) -> Api<Slim<K>>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Waits until nobody else acts on this Trial, and returns it as it is then; None where it is gone. Three queues bring
    /// Trials: without turns one could create the Job of a run that another has just found lost.
    pub async fn turn(&self, trial: &Trial) -> Option<(OwnedMutexGuard<()>, Arc<Trial>)> {
        let turn = self.turns.lock_of(trial).lock_owned().await;
        Some((turn, self.index.trials.now(trial)?))
    }

    /// What is remembered of a Study.
    pub fn memory(&self, study: &Study) -> Arc<Memory> {
        self.memories.of(study)
    }
}

/// A lock for each Trial that somebody acts on, by UID.
#[derive(Default)]
struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn lock_of(&self, trial: &Trial) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Far more than reconciles at the same time: what is dropped here was left long ago.
        if turns.len() > 1_000 {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = turns.entry(trial.uid().unwrap_or_default()).or_default();
        turn.upgrade().unwrap_or_else(|| {
            let new = Arc::new(tokio::sync::Mutex::new(()));
            *turn = Arc::downgrade(&new);
            new
        })
    }
}

/// Where something more is to be remembered. What is remembered of deleted objects is dropped, with all else, once
/// there is much of it: nothing in here is needed for a right answer.
pub fn to_remember<V>(remembered: &Mutex<HashMap<String, V>>) -> MutexGuard<'_, HashMap<String, V>> {
    let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered.len() > 4_000 {
        remembered.clear();
    }
    remembered
}
