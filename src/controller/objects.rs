//! What both controllers ask and write of any object.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use super::error::{Error, call, found};
use super::index::Indexed;
use super::slim::Slim;

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

/// Writes what has changed of the status, at the resourceVersion it was computed from; whether anything has. A merge patch: an
/// apply of the whole status would cost the API server a quarter more.
///
/// # Errors
/// The API server's: a conflict where somebody else wrote first.
pub async fn write_status<K, S>(object: &K, old: Option<&S>, new: &S, context: &Context) -> Result<bool, Error>
where
    K: Indexed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug,
    S: PartialEq + Serialize,
{
    if old == Some(new) {
        return Ok(false);
    }
    let (old, new) = (serde_json::to_value(old)?, serde_json::to_value(new)?);
    let patch = json!({
        "metadata": {"uid": object.uid(), "resourceVersion": object.resource_version()},
        "status": changes(&old, &new),
    });
    let api = context.slim::<K>(&object.namespace().unwrap_or_default());
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let written = call(api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))).await;
    if written.as_ref().is_err_and(|error| error.code() == Some(404)) {
        // The watch may have missed its deletion.
        ask::<K>(&namespace, &name, context).await?;
    }
    let Slim(written) = written?;
    K::kept(&context.index).wrote(written);
    Ok(true)
}

/// The JSON merge patch (RFC 7396) that makes `new` of `old`.
fn changes(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), changes(old.get(key).unwrap_or(&Value::Null), value)));
    gone.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_tells_what_is_new_or_other_or_gone_and_nothing_else() {
        let old = json!({"phase": "Pending", "message": "waits", "run": {"number": 1, "attempts": 0}, "steps": [1, 2]});
        let new = json!({"phase": "Running", "run": {"number": 1, "attempts": 1, "podUid": "p"}, "steps": [1, 3]});
        let patch =
            json!({"phase": "Running", "message": null, "run": {"attempts": 1, "podUid": "p"}, "steps": [1, 3]});
        assert_eq!(changes(&old, &new), patch);
        let next_run = json!({"phase": "Pending", "run": {"number": 2, "attempts": 0}});
        let run = json!({"number": 2, "attempts": 0, "podUid": null});
        assert_eq!(changes(&new, &next_run), json!({"phase": "Pending", "run": run, "steps": null}));
        assert_eq!(changes(&Value::Null, &new), new);
        assert_eq!(changes(&new, &new), json!({}));
    }
}
