//! What both controllers ask and write of any object.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::context::Context;
use super::error::{Error, call, found};
use super::index::Indexed;
use super::slim::Slim;
use crate::api::FIELD_MANAGER;

/// Whether `owner` is among the owners of `object`, by UID.
pub fn is_owned_by(object: &impl ResourceExt, owner: &impl ResourceExt) -> bool {
    let uid = owner.meta().uid.as_ref();
    object.owner_references().iter().any(|reference| Some(&reference.uid) == uid)
}

/// The object of this name as the API server has it now, and the index too.
///
/// # Errors
/// The API server's, but for NotFound.
pub async fn ask<K>(namespace: &str, name: &str, context: &Context) -> Result<Option<K>, Error>
where
    K: Indexed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug,
{
    let live = found(call(context.slim::<K>(namespace).get(name)).await)?.map(|Slim(live)| live);
    let kept = K::kept(&context.index);
    match (&live, kept.get(namespace, name)) {
        (Some(live), _) => kept.put(live.clone()),
        (None, Some(known)) => kept.gone(namespace, name, known.uid().as_deref().unwrap_or_default()),
        (None, None) => {}
    }
    Ok(live)
}

/// Writes the whole status if it has changed, at the resourceVersion it was computed from; the object as written.
///
/// # Errors
/// The API server's: a conflict where somebody else wrote first.
pub async fn write_status<K, S>(object: &K, old: Option<&S>, new: &S, context: &Context) -> Result<Option<K>, Error>
where
    K: Indexed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug,
    S: PartialEq + Serialize,
{
    if old == Some(new) {
        return Ok(None);
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"uid": object.uid(), "resourceVersion": object.resource_version()},
        "status": new,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let api = context.slim::<K>(&object.namespace().unwrap_or_default());
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let written = call(api.patch_status(&name, &params, &Patch::Apply(patch))).await;
    if written.as_ref().is_err_and(|error| error.code() == Some(404)) {
        // The watch may have missed its deletion.
        ask::<K>(&namespace, &name, context).await?;
    }
    let Slim(written) = written?;
    K::kept(&context.index).wrote(written.clone());
    Ok(Some(written))
}
