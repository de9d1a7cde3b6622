//! The Study controller: creates Trials, tells them to stop, and writes the Study's status.
//!
//! accept -> observe -> outlook -> stops -> (look -> decide) -> status -> create -> best -> starts -> old Jobs.

mod accept;
mod best;
pub mod history;
mod jobs;
pub mod observe;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::context::Context;
use super::error::{Error, call, found};
use super::events::{Note, publish};
use super::memory::{Memory, TELL_AGAIN};
use super::objects::{self, is_owned_by};
use super::slim::Slim;
use super::trial::places;
use crate::api::{
    BestTrial, DesiredState, InvalidSpec, PRUNED, Phase, StopRecord, Study, StudyStatus, Trial, TrialStatus, is_true,
    new_trial, not_ready, recorded, study_status, trial_name, warn,
};
use crate::core::{self, Decision, Stop, decide, number, outlook};
use crate::validate::ValidStudy;
use accept::Accepted;
use history::History;
use observe::Observed;

/// Time alone may bring something to an active Study: a watch may have gone silent.
const LOOK_LATER: Duration = Duration::from_secs(60);

/// One pass over a Study.
pub async fn reconcile(study: Arc<Study>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let memory = context.memory(&study);
    if let Some(rest) = memory.rest() {
        tokio::time::sleep(rest).await;
    }
    let now = context.index.studies.now(&*study);
    let Some(study) = now.filter(|study| study.metadata.deletion_timestamp.is_none()) else { return Ok(None) };
    let now = (context.settings.clock)();
    let old = study.status.clone().unwrap_or_default();
    let valid = match accept::accept(&study, &context).await? {
        Accepted::Valid(valid) => valid,
        Accepted::Invalid(problems) => {
            let status = InvalidSpec(&problems).status(&old, study.metadata.generation, now);
            write_status(&study, &status, &memory, &context).await?;
            return Ok(None);
        }
    };
    let mut history = memory.history.lock().await;
    let mut view = observe::cached(&study, &valid, &mut history, &context);
    observe::note_completions(&view, &memory);
    let mut decision = outlook(&valid.core, &view.history, view.orphans, &recorded(study.status.as_ref()), now);
    let catches_up = catches_up(&history, now, &context);
    if catches_up {
        decision.stops.retain(|stop| stop.evidence.is_none());
    } else {
        history.judged(&decision.stops);
    }
    memory.looked_at(view.history.len());
    let gpus = valid.template.gpu.as_ref().map_or(0.0, |gpu| f64::from(gpu.count));
    stop(&decision.stops, &history, gpus, now, &context).await?;
    let mut status = next_status(&study, &valid, &view, &decision, &old, &context, now);
    let mut obstacle = None;
    let mut look_again = if catches_up { Duration::from_secs(1) } else { LOOK_LATER };
    // A cache may be behind what was written: proposals, and a status that takes something back, need a live look.
    if decision.wants_trials || takes_back(&old, &status, &view) {
        let mut looks = memory.looks.lock().await;
        if let Some(wait) = looks.wait() {
            if !decision.wants_trials || takes_back(&old, &status, &view) {
                return Ok(Some(wait));
            }
            look_again = wait;
        } else {
            let holders = looks.look(&study, &context).await?.holders();
            drop(looks);
            // While a view is held, mending the history would copy it.
            drop(view);
            view = observe::at_look(&study, &valid, holders.clone(), &mut history, &context);
            if let Some(best) = old.best.as_ref().filter(|best| !is_still_best(best, &view)) {
                observe::ask_for_best(&study, best, &context).await?;
                drop(view);
                view = observe::at_look(&study, &valid, holders, &mut history, &context);
            }
            decision = propose(&study, &valid, &view, &memory, &context, now).await?;
            obstacle = leave_out_taken_names(&study, &mut decision, &context);
            status = next_status(&study, &valid, &view, &decision, &old, &context, now);
        }
    }
    if let Some(message) = told(&study, "NameConflict", &context) {
        status = not_ready(&status, "NameConflict", &message, study.metadata.generation, now);
    }
    if let Some(Obstacle::Foreign(message)) = &obstacle {
        let status = not_ready(&status, "NameConflict", message, study.metadata.generation, now);
        write_status(&study, &status, &memory, &context).await?;
        return Ok(Some(Duration::from_secs(30)));
    }
    if decision.proposals.is_empty() && !is_decision(&old, &status) && memory.was_written_recently() {
        places::wake(&study, &context);
        return Ok(Some(TELL_AGAIN.min(look_again)));
    }
    write_status(&study, &status, &memory, &context).await?;
    if let Some(last) = decision.proposals.last() {
        memory.proposed(last.index);
    }
    announce(&study, &old, &status, &context).await;
    let conflict = create(&study, &valid, &decision, &context).await?;
    if let Some(message) = conflict {
        let study = call(context.api::<Study>(&study.namespace().unwrap_or_default()).get(&study.name_any())).await?;
        let status = not_ready(&status, "NameConflict", &message, study.metadata.generation, now);
        write_status(&study, &status, &memory, &context).await?;
        return Ok(Some(Duration::from_secs(30)));
    }
    best::keep(&study, &status, &memory, &context).await?;
    jobs::release_best(&study, &old, &status, &context);
    let starts = places::wake(&study, &context) || !decision.proposals.is_empty();
    // A quota may have no room for another Job before an old one goes.
    let busy = starts && told(&study, "JobRefused", &context).is_none();
    if let Some(wait) = jobs::remove_old(&study, &status, busy, &context).await? {
        look_again = look_again.min(wait);
    }
    if obstacle.is_some() {
        look_again = look_again.min(Duration::from_secs(1));
    }
    Ok(Some(look_again.min(until_next_look(&decision, now))))
}

/// How long a log is read after the operator has taken over before what was in it is taken to be known.
const CATCHING_UP: SignedDuration = SignedDuration::from_secs(5);

/// How long the operator is a new one.
const NEW: SignedDuration = SignedDuration::from_secs(60);

/// Whether the logs of Trials that ran before this operator took over are still being read: to judge by a part of what they hold would
/// stop the wrong ones.
fn catches_up(history: &History, now: Timestamp, context: &Context) -> bool {
    if now.duration_since(context.since) > NEW {
        return false;
    }
    let is_unread = |status: &TrialStatus| {
        let ran_before = status.start_time.as_ref().is_some_and(|start| start.0 < context.since);
        let pod = status.run.as_ref().and_then(|run| run.pod_uid.as_deref()).filter(|_| ran_before);
        pod.is_some_and(|pod| context.followers.begun(pod).is_none_or(|begun| now.duration_since(begun) < CATCHING_UP))
    };
    let statuses = history.objects().filter_map(|trial| trial.status.as_ref());
    statuses.filter(|status| status.phase == Phase::Running).any(is_unread)
}

/// What an unfinished Trial says that waits for this reason.
fn told(study: &Study, reason: &str, context: &Context) -> Option<String> {
    let unfinished = context.index.trials.unfinished_of(study);
    let mut conditions =
        unfinished.iter().filter_map(|trial| trial.status.as_ref()).flat_map(|status| &status.conditions);
    Some(conditions.find(|condition| condition.reason == reason)?.message.clone())
}

/// What has the name of the next Trial.
enum Obstacle {
    /// A Trial that goes with an earlier Study of this name.
    Leaving,
    /// A Trial that belongs to somebody else.
    Foreign(String),
}

/// Proposals whose names are taken are for a later pass: an index that is given out is not proposed again.
fn leave_out_taken_names(study: &Study, decision: &mut Decision, context: &Context) -> Option<Obstacle> {
    let namespace = study.namespace().unwrap_or_default();
    let taken = decision.proposals.iter().enumerate().find_map(|(at, proposal)| {
        let name = trial_name(&study.name_any(), proposal.index);
        let trial = context.index.trials.get(&namespace, &name)?;
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
    Some(Obstacle::Foreign(format!(
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

/// Whether fewer Trials have finished than was written before, or the best is none any more.
fn takes_back(old: &StudyStatus, new: &StudyStatus, view: &Observed) -> bool {
    let finished =
        |status: &StudyStatus| status.trials.as_ref().map_or(0, |n| n.succeeded + n.pruned + n.failed + n.stopped);
    finished(new) < finished(old) || old.best.as_ref().is_some_and(|best| !is_still_best(best, view))
}

/// Whether the Trial that was the best is there, and has succeeded: then only a better one can take its place.
fn is_still_best(best: &BestTrial, view: &Observed) -> bool {
    let is_it = |trial: &core::Trial| trial.index == best.index && trial.phase == Phase::Succeeded;
    view.history.binary_search_by_key(&best.index, |trial| trial.index).is_ok_and(|at| is_it(&view.history[at]))
}

/// Runs what may take long. A runtime of one thread has no other to keep free, and stays deterministic.
async fn off_the_async_threads<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await.map_err(|_| Error::Ended("a sampler")),
    }
}

/// Decides on what was seen live. Off the async threads: a sampler may take its time.
async fn propose(
    study: &Study,
    valid: &Arc<ValidStudy>,
    view: &Observed,
    memory: &Memory,
    context: &Context,
    now: Timestamp,
) -> Result<Decision, Error> {
    let started = Instant::now();
    let (history, orphans) = (view.history.clone(), view.orphans);
    let (recorded, core, cache) = (recorded(study.status.as_ref()), valid.clone(), memory.sampler.clone());
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
    let is_missing = |last: u32| {
        let of_last_pass = last.saturating_sub(CREATED_AT_ONCE as u32 - 1)..=last;
        of_last_pass.into_iter().any(|index| view.history.binary_search_by_key(&index, |trial| trial.index).is_err())
    };
    if let Some(last) = last.filter(|last| is_missing(*last) && memory.is_being_created(*last)) {
        decision.proposals.clear();
        decision.recorded.last_index = Some(last);
        decision.look_again = now.checked_add(SignedDuration::from_secs(1)).ok();
    }
    Ok(decision)
}

fn next_status(
    study: &Study,
    valid: &ValidStudy,
    view: &Observed,
    decision: &Decision,
    old: &StudyStatus,
    context: &Context,
    now: Timestamp,
) -> StudyStatus {
    let max_duration = study.spec.max_duration.as_deref();
    let generation = study.metadata.generation;
    let mut status = study_status(&valid.core, &view.history, decision, old, max_duration, generation, now);
    let mut warnings = valid.warnings.clone();
    warnings.extend(best::warning(study, context));
    warn(&mut status, &warnings, old, generation, now);
    status
}

fn until_next_look(decision: &Decision, now: Timestamp) -> Duration {
    let at = decision.look_again.map(|at| at.duration_since(now).max(SignedDuration::ZERO));
    let until = at.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or(LOOK_LATER);
    // Timers fire a little early or late; just before the deadline would be one pass for nothing.
    (until + Duration::from_millis(10)).min(LOOK_LATER)
}

/// Writes the decision and its evidence into the Trials, each at the version that was seen.
async fn stop(stops: &[Stop], history: &History, gpus: f64, now: Timestamp, context: &Context) -> Result<(), Error> {
    for stop in stops {
        let Some(trial) = history.object(stop.index) else { continue };
        let record = StopRecord {
            reason: stop.reason.clone(),
            message: stop.message.clone(),
            step: stop.step,
            evidence: stop.evidence.clone(),
            at: MicroTime(Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(Timestamp::UNIX_EPOCH)),
        };
        let patch = json!({
            "metadata": {"uid": trial.uid(), "resourceVersion": trial.resource_version()},
            "spec": {"desiredState": DesiredState::Stopped, "stop": record},
        });
        let api = context.slim::<Trial>(&trial.namespace().unwrap_or_default());
        let patched = call(api.patch(&trial.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await;
        let (name, namespace) = (trial.name_any(), trial.namespace().unwrap_or_default());
        match found(patched)? {
            Some(Slim(stopped)) => {
                context.index.trials.wrote(stopped);
                context.queues.stop(&name, &namespace);
            }
            // The watch may have missed its deletion.
            None => drop(objects::ask::<Trial>(&namespace, &name, context).await?),
        }
        if stop.reason == PRUNED {
            context.telemetry.trials_pruned.inc();
            context.telemetry.pruned_gpu_seconds_saved.inc_by(seconds_saved(trial, history, now) * gpus);
            let (namespace, study, trial) = (trial.namespace(), &trial.spec.study, trial.name_any());
            tracing::info!(namespace, study, trial, reason = stop.reason, evidence = stop.message, "pruned");
        }
    }
    Ok(())
}

/// How much longer a Trial would have run, by the mean time of the last that succeeded; 0 before the first has.
fn seconds_saved(trial: &Trial, history: &History, now: Timestamp) -> f64 {
    let took = |status: &TrialStatus, end: Timestamp| {
        status.start_time.as_ref().map(|start| end.duration_since(start.0).as_secs_f64())
    };
    let succeeded = history.objects().rev().filter_map(|trial| trial.status.as_ref());
    let succeeded = succeeded.filter(|status| status.phase == Phase::Succeeded);
    let times = succeeded.filter_map(|status| took(status, status.completion_time.as_ref()?.0)).take(32);
    let (count, sum) = times.fold((0.0, 0.0), |(count, sum), time| (count + 1.0, sum + time));
    let own = trial.status.as_ref().and_then(|status| took(status, now)).unwrap_or(0.0);
    if count > 0.0 { f64::max(sum / count - own, 0.0) } else { 0.0 }
}

/// So many Trials are created at once: one after the other, a Study would start no more of them than the API server takes to
/// answer.
const CREATED_AT_ONCE: usize = 8;

/// Creates the proposed Trials, begun in index order. After the first failure none is begun any more; a conflict ends the
/// pass, and one with a foreign Trial is answered.
async fn create(
    study: &Study,
    valid: &ValidStudy,
    decision: &Decision,
    context: &Context,
) -> Result<Option<String>, Error> {
    let api = &context.slim::<Trial>(&study.namespace().unwrap_or_default());
    let mut proposals = decision.proposals.iter();
    let mut under_way = FuturesUnordered::new();
    let mut first_failure = None;
    loop {
        while first_failure.is_none()
            && under_way.len() < CREATED_AT_ONCE
            && let Some(proposal) = proposals.next()
        {
            let mut trial = new_trial(&valid.core, proposal);
            trial.metadata.owner_references = Some(vec![owner(study)]);
            under_way.push(async move { (proposal, call(api.create(&PostParams::default(), &Slim(trial))).await) });
        }
        match under_way.next().await {
            Some((proposal, Ok(Slim(created)))) => {
                let (namespace, study, trial) = (study.namespace(), study.name_any(), created.name_any());
                tracing::info!(namespace, study, trial, sampler = proposal.sampler, "created");
                context.index.trials.wrote(created);
                context.telemetry.trials_created.inc();
            }
            Some((proposal, Err(error))) => drop(first_failure.get_or_insert((proposal, error))),
            None => break,
        }
    }
    let Some((proposal, error)) = first_failure else { return Ok(None) };
    if error.code() != Some(409) {
        return Err(error);
    }
    let existing = found(call(api.get(&trial_name(&study.name_any(), proposal.index))).await)?;
    Ok(match existing.and_then(|Slim(trial)| obstacle(study, &trial)) {
        Some(Obstacle::Foreign(message)) => Some(message),
        Some(Obstacle::Leaving) | None => None,
    })
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
async fn write_status(study: &Study, status: &StudyStatus, memory: &Memory, context: &Context) -> Result<(), Error> {
    if objects::write_status(study, study.status.as_ref(), status, context).await? {
        memory.status_written();
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
