//! Kubernetes Events, on transitions only.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType};

use super::context::Context;
use super::error::call;
use crate::api::Trial;
use crate::shown::shown;

/// What an Event tells.
pub struct Note<'a> {
    /// Whether a person should look.
    pub warning: bool,
    /// A stable CamelCase word.
    pub reason: &'a str,
    /// What the controller did.
    pub action: &'a str,
    /// For a person.
    pub message: String,
    /// The Trial that it is about. Events of different Trials are not folded into one.
    pub trial: Option<String>,
}

/// Publishes an Event about `object`. One that fails is not worth failing a reconcile for.
pub async fn publish<K: Resource<DynamicType = ()>>(context: &Context, object: &K, note: Note<'_>) {
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason.to_owned(),
        // The API takes at most 1 kB.
        note: Some(shown(&note.message).chars().take(900).collect()),
        action: note.action.to_owned(),
        secondary: note.trial.map(|name| trial(name, object)),
    };
    if let Err(error) = call(context.recorder.publish(&event, &object.object_ref(&()))).await {
        tracing::debug!(%error, reason = note.reason, "an Event could not be published");
    }
}

fn trial<K: Resource<DynamicType = ()>>(name: String, beside: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(Trial::api_version(&()).into_owned()),
        kind: Some(Trial::kind(&()).into_owned()),
        name: Some(name),
        namespace: beside.meta().namespace.clone(),
        ..ObjectReference::default()
    }
}
