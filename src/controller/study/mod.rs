//! The Study controller: creates Trials, tells them to stop, and writes the Study's status.
//!
//! observe -> accept -> decide -> stops -> (live) observe -> decide -> status -> create -> best.

mod accept;
mod best;
mod observe;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::context::{Context, STALE, TELL_AGAIN};
use super::error::{Error, call, found};
use super::events::{Note, publish};
use super::objects::{self, is_owned_by};
use crate::api::{
    DesiredState, InvalidSpec, PRUNED, StopRecord, Study, StudyStatus, Trial, is_true, new_trial, not_ready, recorded,
    study_status, trial_name, warn,
};
use crate::core::{Decision, Stop, decide, number, outlook};
use crate::validate::ValidStudy;
use accept::Accepted;
use observe::View;

/// Time alone may bring something to an active Study: a watch may have gone silent.
const LOOK_LATER: Duration = Duration::from_secs(60);

/// One pass over a Study.
pub async fn reconcile(study: Arc<Study>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    if study.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    if context.is_stale(&*study) {
        return Ok(Some(STALE));
    }
    let now = (context.settings.clock)();
    let old = study.status.clone().unwrap_or_default();
    let valid = match accept::accept(&study, &context).await? {
        Accepted::Valid(valid) => valid,
        Accepted::Invalid(problems) => {
            let status = InvalidSpec(&problems).status(&old, study.metadata.generation, now);
            write_status(&study, &status, &context).await?;
            return Ok(None);
        }
    };
    let mut view = observe::cached(&study, &valid, &context);
    let mut decision = outlook(&valid.core, &view.history, view.orphans, &recorded(study.status.as_ref()), now);
    stop(&decision.stops, &view, now, &context).await?;
    let mut status = next_status(&study, &valid, &view, &decision, &old, now);
    let mut obstacle = None;
    // A cache may be behind what was written: proposals, and a status that takes something back, need a live look.
    if decision.wants_trials || takes_back(&old, &status) {
        (view, decision) = propose(&study, &valid, &context, now).await?;
        obstacle = leave_out_taken_names(&study, &mut decision, &context);
        status = next_status(&study, &valid, &view, &decision, &old, now);
    }
    if let Some(message) = job_conflict(&view) {
        status = not_ready(&status, "NameConflict", message, study.metadata.generation, now);
    }
    if let Some(Obstacle::Stranger(message)) = &obstacle {
        let status = not_ready(&status, "NameConflict", message, study.metadata.generation, now);
        write_status(&study, &status, &context).await?;
        return Ok(Some(Duration::from_secs(30)));
    }
    if decision.proposals.is_empty() && !is_decision(&old, &status) && context.told_recently(&study) {
        wake_waiting(&view, &context);
        return Ok(Some(TELL_AGAIN));
    }
    write_status(&study, &status, &context).await?;
    if let Some(last) = decision.proposals.last() {
        context.gave_out(&study, last.index);
    }
    announce(&study, &old, &status, &context).await;
    let conflict = create(&study, &valid, &decision, &context).await?;
    if let Some(message) = conflict {
        let study = call(context.api::<Study>(&study.namespace().unwrap_or_default()).get(&study.name_any())).await?;
        let status = not_ready(&status, "NameConflict", &message, study.metadata.generation, now);
        write_status(&study, &status, &context).await?;
        return Ok(Some(Duration::from_secs(30)));
    }
    best::keep(&study, &status, &context).await?;
    wake_waiting(&view, &context);
    Ok(Some(if obstacle.is_some() { Duration::from_secs(1) } else { look_again(&decision, now) }))
}

/// Trials whose Jobs are still to be created: there may be a place for them now.
fn wake_waiting(view: &View, context: &Context) {
    let waits = |trial: &&Arc<Trial>| {
        let status = trial.status.as_ref();
        status.is_some_and(|status| {
            !status.phase.is_finished() && status.run.as_ref().is_some_and(|run| run.job_uid.is_none())
        })
    };
    for trial in view.trials.iter().filter(waits) {
        context.queues.trial(&trial.name_any(), &trial.namespace().unwrap_or_default());
    }
}

/// What a Trial says whose Job's name is taken.
fn job_conflict(view: &View) -> Option<&str> {
    let conditions = view.trials.iter().filter_map(|trial| trial.status.as_ref()).flat_map(|status| &status.conditions);
    let conflict = conditions.into_iter().find(|condition| condition.reason == "NameConflict")?;
    Some(&conflict.message)
}

/// What has the name of the next Trial.
enum Obstacle {
    /// A Trial that goes with an earlier Study of this name.
    Leaving,
    /// A Trial that belongs to somebody else.
    Stranger(String),
}

/// Proposals whose names are taken are for a later pass: an index that is given out is not proposed again.
fn leave_out_taken_names(study: &Study, decision: &mut Decision, context: &Context) -> Option<Obstacle> {
    let namespace = study.namespace().unwrap_or_default();
    let taken = decision.proposals.iter().enumerate().find_map(|(at, proposal)| {
        let name = trial_name(&study.name_any(), proposal.index);
        let trial = context.stores.trials.get(&ObjectRef::new(&name).within(&namespace))?;
        Some((at, obstacle(study, &trial)?))
    });
    let (at, obstacle) = taken?;
    decision.recorded.last_index = decision.proposals[at].index.checked_sub(1);
    decision.proposals.truncate(at);
    // What comes before is created in this pass, and brings the next one.
    (at == 0).then_some(obstacle)
}

/// Why the name of `trial` cannot be had, if the Trial is not this Study's.
fn obstacle(study: &Study, trial: &Trial) -> Option<Obstacle> {
    if is_owned_by(trial, study) {
        return None;
    }
    let owners = trial.owner_references();
    // There is one Study of this name: another UID is that of an earlier one, whose Trials go with it.
    let of_predecessor = owners.iter().any(|owner| owner.kind == Study::kind(&()) && owner.name == study.name_any());
    if of_predecessor || trial.metadata.deletion_timestamp.is_some() {
        return Some(Obstacle::Leaving);
    }
    let name = trial.name_any();
    Some(Obstacle::Stranger(format!(
        "the Trial {name} exists and belongs to somebody else: delete it, or rename the Study"
    )))
}

/// Whether a status tells more than how far things are.
fn is_decision(old: &StudyStatus, new: &StudyStatus) -> bool {
    let without_progress = |status: &StudyStatus| {
        let mut status = StudyStatus { progress: None, trials: None, ..status.clone() };
        status.conditions.iter_mut().for_each(|condition| condition.message.clear());
        status
    };
    without_progress(old) != without_progress(new)
}

/// Whether fewer Trials have finished than was written before, or another one is the best.
fn takes_back(old: &StudyStatus, new: &StudyStatus) -> bool {
    let finished =
        |status: &StudyStatus| status.trials.as_ref().map_or(0, |n| n.succeeded + n.pruned + n.failed + n.stopped);
    let best = |status: &StudyStatus| status.best.as_ref().map(|best| best.trial.clone());
    finished(new) < finished(old) || (old.best.is_some() && best(new) != best(old))
}

/// Runs what may take long. A runtime of one thread has no other to keep free, and stays deterministic.
async fn off_the_async_threads<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ended("a sampler")),
    }
}

/// Decides on what the API server holds now. Off the async threads: a sampler may take its time.
async fn propose(
    study: &Study,
    valid: &Arc<ValidStudy>,
    context: &Context,
    now: Timestamp,
) -> Result<(View, Decision), Error> {
    let view = observe::live(study, valid, context).await?;
    let started = Instant::now();
    let (history, orphans) = (view.history.clone(), view.orphans);
    let (recorded, core, cache) = (recorded(study.status.as_ref()), valid.clone(), context.sampler_cache(study));
    let work = move || {
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        decide(&core.core, &history, orphans, &recorded, now, &mut cache)
    };
    let mut decision = off_the_async_threads(work).await?;
    context.telemetry.suggested(valid.core.sampler.name(), started.elapsed());
    // Stops are for the next pass: they were decided on the freshest reports before this one.
    decision.stops.clear();
    // Another leader may have written the last index, and still be creating its Trials: they are no deleted ones.
    let last = study.status.as_ref().and_then(|status| status.last_index);
    let is_missing = |last: u32| view.trials.iter().all(|trial| trial.spec.index < last);
    if let Some(last) = last.filter(|last| is_missing(*last) && context.is_being_created(study, *last)) {
        decision.proposals.clear();
        decision.recorded.last_index = Some(last);
        decision.look_again = now.checked_add(SignedDuration::from_secs(1)).ok();
    }
    Ok((view, decision))
}

fn next_status(
    study: &Study,
    valid: &ValidStudy,
    view: &View,
    decision: &Decision,
    old: &StudyStatus,
    now: Timestamp,
) -> StudyStatus {
    let max_duration = study.spec.max_duration.as_deref();
    let generation = study.metadata.generation;
    let mut status = study_status(&valid.core, &view.history, decision, old, max_duration, generation, now);
    warn(&mut status, &valid.warnings, old, generation, now);
    status
}

fn look_again(decision: &Decision, now: Timestamp) -> Duration {
    let at = decision.look_again.map(|at| at.duration_since(now).max(SignedDuration::ZERO));
    let until = at.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or(LOOK_LATER);
    // Timers fire a little early or late; just before the deadline would be one pass for nothing.
    (until + Duration::from_millis(10)).min(LOOK_LATER)
}

/// Writes the decision and its evidence into the Trials, each at the version that was seen.
async fn stop(stops: &[Stop], view: &View, now: Timestamp, context: &Context) -> Result<(), Error> {
    for stop in stops {
        let Some(trial) = view.trials.iter().find(|trial| trial.spec.index == stop.index) else {
            continue;
        };
        let record = StopRecord {
            reason: stop.reason.clone(),
            message: stop.message.clone(),
            step: stop.step,
            at: MicroTime(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH)),
        };
        let patch = json!({
            "metadata": {"uid": trial.uid(), "resourceVersion": trial.resource_version()},
            "spec": {"desiredState": DesiredState::Stopped, "stop": record},
        });
        let api = context.api::<Trial>(&trial.namespace().unwrap_or_default());
        found(call(api.patch(&trial.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await)?;
        if stop.reason == PRUNED {
            context.telemetry.trials_pruned.inc();
            tracing::info!(trial = trial.name_any(), message = stop.message, "pruned");
        }
    }
    Ok(())
}

/// Creates the proposed Trials in index order. The first conflict ends the pass; one with a stranger is answered.
async fn create(
    study: &Study,
    valid: &ValidStudy,
    decision: &Decision,
    context: &Context,
) -> Result<Option<String>, Error> {
    let api = context.api::<Trial>(&study.namespace().unwrap_or_default());
    for proposal in &decision.proposals {
        let mut trial = new_trial(&valid.core, proposal);
        trial.metadata.owner_references = Some(vec![owner(study)]);
        let name = trial.name_any();
        match call(api.create(&PostParams::default(), &trial)).await {
            Ok(_) => {
                context.telemetry.trials_created.inc();
                tracing::info!(trial = name, sampler = proposal.sampler, "created");
            }
            Err(error) if error.code() == Some(409) => {
                let existing = found(call(api.get(&name)).await)?;
                return Ok(match existing.and_then(|trial| obstacle(study, &trial)) {
                    Some(Obstacle::Stranger(message)) => Some(message),
                    Some(Obstacle::Leaving) | None => None,
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Owned by the Study, so that deleting it leaves nothing behind.
fn owner(study: &Study) -> OwnerReference {
    OwnerReference {
        api_version: Study::api_version(&()).into_owned(),
        kind: Study::kind(&()).into_owned(),
        name: study.name_any(),
        uid: study.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Writes the status if it has changed: of two leaders only one gets to create the next Trial.
async fn write_status(study: &Study, status: &StudyStatus, context: &Context) -> Result<(), Error> {
    if objects::write_status(study, study.status.as_ref(), status, context).await?.is_some() {
        context.told(study);
    }
    Ok(())
}

/// Events on transitions.
async fn announce(study: &Study, old: &StudyStatus, new: &StudyStatus, context: &Context) {
    let message = || new.conditions.first().map(|condition| condition.message.clone()).unwrap_or_default();
    for (type_, warning, reason) in [("Complete", false, "StudyCompleted"), ("Failed", true, "StudyFailed")] {
        if is_true(&new.conditions, type_) && !is_true(&old.conditions, type_) {
            publish(context, study, Note { warning, reason, action: "Finish", message: message(), trial: None }).await;
        }
    }
    if let Some(best) = &new.best
        && old.best.as_ref().is_none_or(|old| old.trial != best.trial)
    {
        let value = best
            .objectives
            .first()
            .map(|objective| format!("{} {}", objective.metric, number(objective.value)))
            .unwrap_or_default();
        publish(
            context,
            study,
            Note {
                warning: false,
                reason: "NewBest",
                action: "Rank",
                message: format!("{}: {value}", best.trial),
                trial: Some(best.trial.clone()),
            },
        )
        .await;
    }
}
