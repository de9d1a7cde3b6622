//! The ConfigMap that holds the best assignment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use super::super::context::Context;
use super::super::error::{Error, call, found};
use super::super::events::{Note, publish};
use super::super::memory::Memory;
use super::super::objects::is_owned_by;
use super::owner;
use crate::api::{BestConfigMapSpec, BestTrial, FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_STUDY, Study, StudyStatus};
use crate::validate::Problem;

/// What a Study is told that wants a ConfigMap of an operator that keeps none.
pub fn warning(study: &Study, context: &Context) -> Option<Problem> {
    let wants_one = study.spec.best_config_map.is_some() && !context.settings.keeps_best;
    wants_one.then(|| Problem {
        path: "spec.bestConfigMap".to_owned(),
        message: "not kept: this operator has no rights on ConfigMaps (bestConfigMap.enabled in its chart); \
                  status.best has the same"
            .to_owned(),
    })
}

/// Keeps `bestConfigMap` at the best assignment. One that belongs to somebody else is never touched.
///
/// # Errors
/// The API server's, but for a refusal: that holds nothing up.
pub async fn keep(study: &Study, status: &StudyStatus, memory: &Memory, context: &Context) -> Result<(), Error> {
    let (Some(spec), Some(best), true) = (&study.spec.best_config_map, &status.best, context.settings.keeps_best)
    else {
        return Ok(());
    };
    // Written when the best has changed, or when this process has not looked yet.
    if memory.best_is_kept(&best.trial) {
        return Ok(());
    }
    let message = match write(study, spec, best, context).await {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "the ConfigMap {} belongs to somebody else and is not touched: choose another bestConfigMap.name",
            spec.name
        )),
        Err(error) if error.code() == Some(403) => Some(format!("the ConfigMap {} is not kept: {error}", spec.name)),
        Err(error) => return Err(error),
    };
    if let Some(message) = message {
        let note = Note { warning: true, reason: "BestNotKept", action: "KeepBest", message, trial: None };
        publish(context, study, note).await;
    }
    memory.keep_best(&best.trial);
    Ok(())
}

/// Whether the ConfigMap is the Study's own, and now holds the best assignment.
async fn write(study: &Study, spec: &BestConfigMapSpec, best: &BestTrial, context: &Context) -> Result<bool, Error> {
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
        // One that somebody else has given this owner was not created here.
        Some(map)
            if is_owned_by(&map, study) && map.labels().get(LABEL_MANAGED_BY).is_some_and(|by| by == FIELD_MANAGER) =>
        {
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
        Some(_) => return Ok(false),
    }
    Ok(true)
}
