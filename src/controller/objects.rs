//! What both controllers ask and write of any object.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::context::Context;
use super::error::{Error, call};
use crate::api::FIELD_MANAGER;

/// Whether `owner` is among the owners of `object`, by UID.
pub fn is_owned_by(object: &impl ResourceExt, owner: &impl ResourceExt) -> bool {
    let uid = owner.meta().uid.as_ref();
    object.owner_references().iter().any(|reference| Some(&reference.uid) == uid)
}

/// Writes the whole status if it has changed, at the resourceVersion it was computed from; the object as written.
///
/// # Errors
/// The API server's: a conflict where somebody else wrote first.
pub async fn write_status<K, S>(object: &K, old: Option<&S>, new: &S, context: &Context) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
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
    let api = context.api::<K>(&object.namespace().unwrap_or_default());
    let written = call(api.patch_status(&object.name_any(), &params, &Patch::Apply(patch))).await?;
    context.wrote(&written);
    Ok(Some(written))
}
