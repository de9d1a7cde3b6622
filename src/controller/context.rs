//! What the controllers share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client, Resource};

use super::Settings;
use super::error::Failures;
use super::follow::Followers;
use super::health::Health;
use super::index::Index;
use super::memory::{Memories, Memory};
use super::telemetry::Telemetry;
use super::watch::Queues;
use crate::api::{FIELD_MANAGER, Study};

/// What the controllers share. Nothing in it is needed for a right answer after a restart.
pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub index: Index,
    pub memories: Arc<Memories>,
    pub queues: Queues,
    pub followers: Followers,
    pub telemetry: Arc<Telemetry>,
    pub health: Arc<Health>,
    pub recorder: Recorder,
    pub failures: Failures,
}

impl Context {
    pub fn new(
        client: Client,
        settings: Settings,
        (index, memories, queues): (Index, Arc<Memories>, Queues),
        telemetry: Arc<Telemetry>,
        health: Arc<Health>,
    ) -> Context {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            followers: Followers::new(client.clone(), queues.clone(), telemetry.clone(), index.pods.clone(), &settings),
            client,
            settings,
            index,
            memories,
            queues,
            telemetry,
            health,
            failures: Failures::default(),
        }
    }

    /// The API of a kind in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// What is remembered of a Study.
    pub fn memory(&self, study: &Study) -> Arc<Memory> {
        self.memories.of(study)
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
