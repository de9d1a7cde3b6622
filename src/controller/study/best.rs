//! The ConfigMap that holds the best assignment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use super::super::context::Context;
use super::super::error::{Error, call, found};
use super::super::events::{Note, publish};
use super::super::objects::is_owned_by;
use super::owner;
use crate::api::{FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_STUDY, Study, StudyStatus};

/// Keeps `bestConfigMap` at the best assignment. One that belongs to somebody else is never touched.
///
/// # Errors
/// The API server's.
pub async fn keep(study: &Study, status: &StudyStatus, context: &Context) -> Result<(), Error> {
    let (Some(spec), Some(best)) = (&study.spec.best_config_map, &status.best) else {
        return Ok(());
    };
    // Written when the best has changed, or when this process has not looked yet.
    if context.best_is_kept(study, &best.trial) {
        return Ok(());
    }
    let api = context.api::<ConfigMap>(&study.namespace().unwrap_or_default());
    let data: BTreeMap<String, String> = best.assignments.clone();
    match found(call(api.get(&spec.name)).await)? {
        None => {
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(spec.name.clone()),
                    labels: Some(BTreeMap::from([
                        (LABEL_STUDY.to_owned(), study.name_any()),
                        (LABEL_MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned()),
                    ])),
                    owner_references: Some(vec![owner(study)]),
                    ..ObjectMeta::default()
                },
                data: Some(data),
                ..ConfigMap::default()
            };
            call(api.create(&PostParams::default(), &map)).await?;
        }
        Some(map) if is_owned_by(&map, study) => {
            if map.data.as_ref() != Some(&data) {
                // Keys of an earlier best that had other active parameters go.
                let gone = map
                    .data
                    .iter()
                    .flatten()
                    .filter(|(key, _)| !data.contains_key(*key))
                    .map(|(key, _)| (key.clone(), json!(null)));
                let kept = data.iter().map(|(key, value)| (key.clone(), json!(value)));
                let patch = json!({
                    "metadata": {"uid": map.uid(), "resourceVersion": map.resource_version()},
                    "data": gone.chain(kept).collect::<serde_json::Map<_, _>>(),
                });
                call(api.patch(&spec.name, &PatchParams::default(), &Patch::Merge(patch))).await?;
            }
        }
        Some(_) => {
            let message = format!(
                "the ConfigMap {} belongs to somebody else and is not touched: choose another bestConfigMap.name",
                spec.name
            );
            publish(
                context,
                study,
                Note { warning: true, reason: "NameConflict", action: "KeepBest", message, trial: None },
            )
            .await;
        }
    }
    context.keep_best(study, &best.trial);
    Ok(())
}
