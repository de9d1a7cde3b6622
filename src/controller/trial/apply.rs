//! What a pass over a Trial does in the cluster, once its status is written.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::error::{Error, call, found};
use super::super::events::{Note, publish};
use super::super::objects::ask;
use super::super::slim::{MetadataOnly, Slim, answered_by_metadata};
use super::decide::{Action, Decision};
use super::observe::Scene;
use crate::api::{LABEL_RECORDED, Phase, Study, Trial, TrialStatus};

/// A Job of the Trial that is not the recorded run is deleted on sight.
pub async fn delete_strays(trial: &Trial, next: &TrialStatus, scene: &Scene, context: &Context) -> Result<(), Error> {
    // Before a run was recorded none of its Jobs can be known to be a stray by name alone.
    let recorded = trial.status.as_ref().and_then(|status| status.run.as_ref()).or(next.run.as_ref());
    let is_stray = |job: &&Arc<Job>| {
        recorded.is_none_or(|run| job.name_any() != run.job) && job.metadata.deletion_timestamp.is_none()
    };
    let strays: Vec<_> = scene.jobs.iter().filter(is_stray).collect();
    if strays.is_empty() {
        return Ok(());
    }
    // The run that another leader has just recorded is no stray: a cached Trial may not know of it yet.
    let namespace = trial.namespace().unwrap_or_default();
    if !is_current(trial, context).await? {
        return Ok(());
    }
    for job in strays {
        let (study, trial) = (&trial.spec.study, trial.name_any());
        tracing::info!(namespace, study, trial, job = job.name_any(), "deleting a Job that is not the recorded run");
        let uid = job.uid().unwrap_or_default();
        delete(&namespace, &job.name_any(), &uid, PropagationPolicy::Foreground, context).await?;
    }
    Ok(())
}

/// Whether the Trial is as it was seen.
pub async fn is_current(trial: &Trial, context: &Context) -> Result<bool, Error> {
    let api = context.api::<Trial>(&trial.namespace().unwrap_or_default());
    let live = found(call(api.get(&trial.name_any())).await)?;
    Ok(live.is_some_and(|live| live.resource_version() == trial.resource_version()))
}

pub async fn announce(trial: &Trial, study: &Study, decision: &Decision, context: &Context) {
    let before = trial.status.as_ref().map(|status| status.phase).unwrap_or_default();
    if before.is_finished() || !decision.status.phase.is_finished() {
        return;
    }
    context.queues.study(&study.name_any(), &study.namespace().unwrap_or_default());
    let message = format!("{}: {}", trial.name_any(), decision.status.message.as_deref().unwrap_or_default());
    let about = Some(trial.name_any());
    let note = match decision.status.phase {
        Phase::Failed => Note { warning: true, reason: "TrialFailed", action: "RecordResult", message, trial: about },
        Phase::Pruned => Note { warning: false, reason: "TrialPruned", action: "StopTrial", message, trial: about },
        _ => return,
    };
    publish(context, study, note).await;
}

pub async fn apply(trial: &Trial, decision: &Decision, asking: bool, context: &Context) -> Result<(), Error> {
    let namespace = trial.namespace().unwrap_or_default();
    match &decision.action {
        Action::None => Ok(()),
        // Its creation was just tried.
        Action::Create if asking => Ok(()),
        Action::Create => {
            context.queues.start(&trial.name_any(), &namespace);
            Ok(())
        }
        Action::Delete { name, uid } => delete(&namespace, name, uid, PropagationPolicy::Foreground, context).await,
        Action::Expire { name, uid, seconds } => {
            let mut patch = json!({"metadata": {"uid": uid, "labels": {LABEL_RECORDED: "true"}}});
            if let Some(seconds) = seconds {
                patch["spec"] = json!({"ttlSecondsAfterFinished": seconds});
            }
            let request = kube::core::Request::new(Job::url_path(&(), Some(&namespace)));
            let request = request.patch(name, &PatchParams::default(), &Patch::Merge(patch));
            let request = answered_by_metadata(request.map_err(kube::Error::BuildRequest)?);
            match found(call(context.client.request::<MetadataOnly>(request)).await)? {
                Some(MetadataOnly(metadata)) => {
                    let known = context.index.jobs.get(&namespace, name);
                    if let Some(known) = known.filter(|known| known.metadata.uid == metadata.uid) {
                        let mut job = Job::clone(&known);
                        job.metadata = metadata;
                        if let (Some(spec), Some(seconds)) = (&mut job.spec, seconds) {
                            spec.ttl_seconds_after_finished = i32::try_from(*seconds).ok();
                        }
                        context.index.jobs.composed(job);
                    }
                }
                None => drop(ask::<Job>(&namespace, name, context).await?),
            }
            Ok(())
        }
    }
}

/// POSTs a Job as JSON, so that no field of the template is lost on the way.
///
/// # Errors
/// The API server's refusal; unknown fields are one.
pub async fn post_job(namespace: &str, job: &Value, dry_run: bool, context: &Context) -> Result<Job, Error> {
    let params = PostParams { dry_run, ..PostParams::default() };
    let request = kube::core::Request::new(Job::url_path(&(), Some(namespace)));
    let mut request = request.create(&params, serde_json::to_vec(job)?).map_err(kube::Error::BuildRequest)?;
    let uri = format!("{}&fieldValidation=Strict", request.uri());
    if let Ok(uri) = uri.parse() {
        *request.uri_mut() = uri;
    }
    let MetadataOnly(metadata) = call(context.client.request(answered_by_metadata(request))).await?;
    let Slim(created) = Slim::<Job>::deserialize(job)?;
    Ok(Job { metadata, ..created })
}

/// Deletes a Job if it still is the one with this UID: in the foreground, its pods first, so that it is seen for as long as it
/// holds a place.
pub async fn delete(
    namespace: &str,
    name: &str,
    uid: &str,
    propagation: PropagationPolicy,
    context: &Context,
) -> Result<(), Error> {
    let params = DeleteParams {
        propagation_policy: Some(propagation),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    if found(call(context.api::<Job>(namespace).delete(name, &params)).await)?.is_none() {
        // The watch may have missed its deletion.
        ask::<Job>(namespace, name, context).await?;
    }
    Ok(())
}
