//! The Trial controller: keeps a Trial's Job, and writes the Trial's status.
//!
//! observe -> [`decide`] -> strays -> status -> apply.

pub mod decide;
pub mod places;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Resource, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::context::Context;
use super::error::{Error, call, found};
use super::events::{Note, publish};
use super::follow::{self, Followed, Reports};
use super::look::is_finished;
use super::objects::{ask, is_owned_by, write_status};
use super::slim::{Slim, Written, answered_by_metadata};
use super::workload::pods;
use crate::api::{DesiredState, FIELD_MANAGER, LABEL_RECORDED, ObjectiveValue, Phase, Run, Study, Trial, TrialStatus};
use crate::core::beats;
use crate::job;
use crate::validate::{ValidStudy, validate, validate_immutable};
use decide::{Action, Decision, JobSeen, Seen, Trouble, job_end};

/// One pass over a Trial, unless it was told to stop: those have a queue of their own.
pub async fn reconcile_unless_stopped(trial: Arc<Trial>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    if trial.spec.desired_state == DesiredState::Stopped && !is_finished(&trial) {
        context.queues.stop(&trial.name_any(), &trial.namespace().unwrap_or_default());
        return Ok(None);
    }
    reconcile(trial, context).await
}

/// One pass over a Trial, while nobody else acts on it.
pub async fn reconcile(trial: Arc<Trial>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let Some((_turn, trial)) = context.turn(&trial).await else { return Ok(None) };
    pass(&trial, false, &context).await
}

/// One pass over a Trial; with `asking`, its Job is asked for even where nobody has seen one.
async fn pass(trial: &Trial, asking: bool, context: &Context) -> Result<Option<Duration>, Error> {
    if trial.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let Some(Parent { study, valid, is_accepted }) = parent(trial, context) else {
        // Its Study is unknown, or going: whatever changes that brings the Trial back here.
        return Ok(Some(Duration::from_secs(60)));
    };
    let mut scene = observe(trial, &study, &valid, asking, context).await?;
    let mut decision = decide::decide(&scene.seen(trial, &valid));
    if decision.status.phase.is_finished() && scene.is_open(trial) {
        // It ends before its Job: the evidence goes with the Job.
        scene.close(&study, &valid, context).await;
        decision = decide::decide(&scene.seen(trial, &valid));
    }
    if decision.action == Action::Create && !is_accepted {
        // Nothing starts before somebody has mended the spec, which brings the Trial back here.
        return Ok(Some(Duration::from_secs(60)));
    }
    delete_strays(trial, &decision.status, &scene, context).await?;
    let written = write_status(trial, trial.status.as_ref(), &decision.status, context).await?;
    announce(trial, &study, &decision, context).await;
    // Without a write nobody has said yet that what was seen of the Trial still holds.
    if written.is_none() && matches!(decision.action, Action::Delete { .. }) && !is_current(trial, context).await? {
        return Ok(Some(STALE));
    }
    apply(trial, &decision, asking, context).await?;
    if decision.status.phase.is_finished() {
        context.followers.forget(scene.pods.iter().filter_map(|pod| pod.uid()));
    }
    Ok(decision.look_again)
}

/// How long to wait for the watch to bring what somebody else has written; it asks for the next pass itself.
const STALE: Duration = Duration::from_secs(5);

/// The Trial's Study, and what its spec means.
struct Parent {
    study: Arc<Study>,
    valid: Arc<ValidStudy>,
    /// Otherwise what runs is seen to its end, or stopped, and nothing starts.
    is_accepted: bool,
}

/// The Trial's Study. None while it cannot be acted on.
fn parent(trial: &Trial, context: &Context) -> Option<Parent> {
    let namespace = trial.namespace()?;
    let study = context.index.studies.get(&namespace, &trial.spec.study)?;
    if !is_owned_by(trial, &*study) || study.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let valid = match context.memory(&study).verdict(&study) {
        Some(verdict) => verdict.ok(),
        // The Study controller asks the API server as well; what runs already needs only this.
        None => validate(&study.name_any(), &study.spec).ok().map(Arc::new),
    };
    let is_accepted = valid.is_some();
    let valid = valid.or_else(|| validate_immutable(&study.name_any(), &study.spec).map(Arc::new))?;
    Some(Parent { study, valid, is_accepted })
}

/// What was found in the cluster.
struct Scene {
    job: JobSeen,
    /// All Jobs that the Trial owns, as last seen.
    jobs: Vec<Arc<Job>>,
    /// The pods of the recorded run's Job.
    pods: Vec<Arc<Pod>>,
    reports: Reports,
    log_tail: Option<String>,
    trouble: Option<Trouble>,
    checkpoint: bool,
    is_best: bool,
    completion: Timestamp,
    now: Timestamp,
}

impl Scene {
    fn seen<'a>(&'a self, trial: &'a Trial, study: &'a ValidStudy) -> Seen<'a> {
        let pod = pods::newest(&self.pods);
        let trainer = trainer(&self.job, study);
        let recorded = trial.status.as_ref().and_then(|status| status.run.as_ref()?.pod_uid.as_ref());
        let replaced = self.pods.iter().map(|pod| &**pod).find(|pod| pod.uid().as_ref() == recorded);
        Seen {
            trial,
            study,
            trainer,
            job: self.job.clone(),
            pod,
            replaced,
            fellow: pods::failed_fellow(&self.pods, trainer),
            reports: self.reports.clone(),
            log_tail: self.log_tail.clone(),
            trouble: self.trouble.clone(),
            checkpoint: self.checkpoint,
            is_best: self.is_best,
            completion: self.completion,
            now: self.now,
        }
    }

    /// Whether the Trial has not finished, and its Job neither.
    fn is_open(&self, trial: &Trial) -> bool {
        let finished = trial.status.as_ref().is_some_and(|status| status.phase.is_finished());
        !finished && matches!(&self.job, JobSeen::Ours(job) if job_end(job).is_none())
    }

    /// Adds what is looked at only where a Trial ends.
    async fn close(&mut self, study: &Study, valid: &ValidStudy, context: &Context) {
        self.completion = completion_time(study, self.now, context);
        let trainer = trainer(&self.job, valid);
        if let Some(pod) = pods::newest(&self.pods) {
            self.log_tail = log_tail(pod, trainer, context).await;
        }
    }
}

async fn observe(
    trial: &Trial,
    study: &Study,
    valid: &ValidStudy,
    asking: bool,
    context: &Context,
) -> Result<Scene, Error> {
    let now = (context.settings.clock)();
    let namespace = trial.namespace().unwrap_or_default();
    let status = trial.status.clone().unwrap_or_default();
    let jobs = context.index.jobs.owned_by(trial);
    let job = match &status.run {
        None => JobSeen::Absent,
        Some(run) => run_job(run, &jobs, trial, asking, now, context).await?,
    };
    let mut scene = Scene {
        job,
        jobs,
        pods: Vec::new(),
        reports: Reports::default(),
        log_tail: None,
        trouble: None,
        checkpoint: false,
        is_best: is_best(trial, study),
        completion: now,
        now,
    };
    let JobSeen::Ours(job) = &scene.job else {
        // A Trial that has finished needs none, and its passes go on after its Job is gone.
        if !status.phase.is_finished() {
            scene.completion = completion_time(study, now, context);
        }
        return Ok(scene);
    };
    let job_uid = job.uid().unwrap_or_default();
    scene.pods = context.index.pods.owned_by(&**job);
    if status.phase.is_finished() || job.metadata.deletion_timestamp.is_some() {
        return Ok(scene);
    }
    let end = job_end(job);
    let ended = end.is_some();
    if end.is_some_and(|end| end.failed || !pods::have_succeeded(&scene.pods, job)) {
        // The watch of pods may be behind that of Jobs: how the pod failed, and that it is gone, is believed
        // only from a live look.
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={job_uid}"));
        let pods = call(context.api::<Pod>(&namespace).list(&of_job)).await?;
        scene.pods = pods.items.into_iter().map(Arc::new).collect();
    }
    let stopping = trial.spec.desired_state == DesiredState::Stopped;
    if let Some(pod) = pods::newest(&scene.pods) {
        let trainer = trainer(&scene.job, valid);
        (scene.reports, scene.log_tail) = read_pod(pod, valid, trainer, ended, ended || stopping, context).await;
        if !ended && pods::is_starting(pod, trainer) && is_older(&pod.metadata, 60, now) {
            scene.trouble = trouble(pod, Some(now), context).await;
        }
    } else if !ended && is_older(&job.metadata, 3, now) {
        scene.trouble = trouble(&**job, None, context).await;
    }
    if ended {
        scene.completion = completion_time(study, now, context);
    }
    let pod_uid = pods::newest(&scene.pods).and_then(|pod| pod.uid());
    scene.checkpoint = pod_uid.is_some_and(|uid| context.followers.is_checkpoint_due(&uid));
    Ok(scene)
}

/// The Job of the recorded run.
async fn run_job(
    run: &Run,
    jobs: &[Arc<Job>],
    trial: &Trial,
    asking: bool,
    now: Timestamp,
    context: &Context,
) -> Result<JobSeen, Error> {
    let namespace = trial.namespace().unwrap_or_default();
    let is_finished = is_finished(trial);
    match jobs.iter().find(|job| job.name_any() == run.job) {
        // A cached Job that is not the recorded one may be an old one of the same name.
        // One that has shown nothing for long may be gone, and its deletion have been missed.
        Some(job)
            if (run.job_uid.is_none() || run.job_uid == job.uid())
                && (is_finished || !is_older(&job.metadata, SILENT, now) || has_pods(job, context)) =>
        {
            return Ok(JobSeen::Ours(Box::new(Job::clone(job))));
        }
        Some(_) => {}
        None if is_finished => return Ok(JobSeen::Absent),
        // Whether the Job of a run that was just recorded is there already is answered by its creation.
        None if !asking
            && run.job_uid.is_none()
            && trial.spec.desired_state == DesiredState::Running
            && context.index.jobs.get(&namespace, &run.job).is_none() =>
        {
            return Ok(JobSeen::Absent);
        }
        None => {}
    }
    // Absence is believed only from a live GET.
    let live = ask(&namespace, &run.job, context).await?;
    Ok(job_seen(live, trial))
}

/// Whether the Trial is the best of a Study that has not ended, or better than what its Study knows of.
fn is_best(trial: &Trial, study: &Study) -> bool {
    let (Some(status), Some(of_study)) = (&trial.status, &study.status) else { return false };
    if of_study.ended.is_some() || status.phase != Phase::Succeeded {
        return false;
    }
    let Some(best) = &of_study.best else { return true };
    let is_better = |direction| {
        let value = |objectives: &[ObjectiveValue]| objectives.first().map(|objective| objective.value);
        let (own, best) = (value(&status.objectives), value(&best.objectives));
        own.zip(best).is_some_and(|(own, best)| beats(direction, own, best))
    };
    best.trial == trial.name_any()
        || study.spec.objectives.first().is_some_and(|objective| is_better(objective.direction))
}

/// How many seconds a Job may have no pod before it is asked whether it is there.
const SILENT: i64 = 65;

fn has_pods(job: &Job, context: &Context) -> bool {
    !context.index.pods.owned_by(job).is_empty()
}

/// Whether an object was created at least so many seconds ago.
fn is_older(object: &ObjectMeta, seconds: i64, now: Timestamp) -> bool {
    object.creation_timestamp.as_ref().is_some_and(|at| now.duration_since(at.0).as_secs() >= seconds)
}

/// A completion time for a Trial of `study` that ends now: after all that were seen.
fn completion_time(study: &Study, now: Timestamp, context: &Context) -> Timestamp {
    let memory = context.memory(study);
    if !memory.knows_completions() {
        let trials = context.index.trials.owned_by(study);
        let recorded = trials.iter().filter_map(|trial| trial.status.as_ref()?.completion_time.as_ref().map(|at| at.0));
        memory.completed(recorded.max());
    }
    memory.completion_time(now)
}

/// The trainer's container.
fn trainer<'a>(job: &'a JobSeen, valid: &'a ValidStudy) -> &'a str {
    let as_run = match job {
        JobSeen::Ours(job) => job::trainer_of(job),
        _ => None,
    };
    as_run.unwrap_or_else(|| valid.template.trainer_name())
}

fn job_seen(job: Option<Job>, trial: &Trial) -> JobSeen {
    // There is one Trial of this name: another UID is that of an earlier one, whose Job goes with it.
    let is_predecessor = |owner: &OwnerReference| owner.kind == Trial::kind(&()) && owner.name == trial.name_any();
    match job {
        None => JobSeen::Absent,
        Some(job) if is_owned_by(&job, trial) => JobSeen::Ours(Box::new(job)),
        Some(job) if job.metadata.deletion_timestamp.is_some() => JobSeen::Leaving,
        Some(job) if job.owner_references().iter().any(is_predecessor) => JobSeen::Leaving,
        Some(job) => {
            let owner = job.owner_references().first().map(|owner| format!("{} {}", owner.kind, owner.name));
            JobSeen::Foreign(owner.unwrap_or_else(|| "nobody".to_owned()))
        }
    }
}

/// Follows the pod's metrics, or reads them to their end; and the last lines of the trainer's log.
async fn read_pod(
    pod: &Pod,
    valid: &ValidStudy,
    trainer: &str,
    ended: bool,
    with_tail: bool,
    context: &Context,
) -> (Reports, Option<String>) {
    let uid = pod.uid().unwrap_or_default();
    let followed = Followed::new(valid, pod, trainer);
    let (reports, tail) = if !pods::has_log(pod, followed.container()) {
        (Reports::default(), None)
    } else if ended {
        context.followers.finish(&uid, &followed).await
    } else {
        context.followers.follow(&uid, &followed);
        (context.followers.reports(&uid).unwrap_or_default(), None)
    };
    let tail = match tail {
        None if with_tail => log_tail(pod, trainer, context).await,
        tail => tail,
    };
    (reports, tail)
}

async fn log_tail(pod: &Pod, container: &str, context: &Context) -> Option<String> {
    let api = context.api::<Pod>(&pod.namespace()?);
    follow::log_tail(&api, pod, container).await
}

/// What the last warning about an object says: why a Job has no pods, such as a quota, or why a pod's containers
/// are not created, such as a volume, is told by Events only. `recent` asks for one of the last minutes.
async fn trouble<K: ResourceExt>(object: &K, recent: Option<Timestamp>, context: &Context) -> Option<Trouble> {
    let api = context.api::<Event>(&object.namespace()?);
    let params = ListParams::default().fields(&format!("involvedObject.uid={},type=Warning", object.uid()?));
    let events = call(api.list(&params)).await.ok()?.items.into_iter();
    let at = |event: &Event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
        let times = [event.last_timestamp.as_ref().map(|time| time.0), event.event_time.as_ref().map(|time| time.0)];
        series.max(times[0]).max(times[1]).max(event.creation_timestamp().map(|time| time.0))
    };
    let is_recent = |event: &Event| {
        recent.is_none_or(|now| at(event).is_some_and(|at| now.duration_since(at) < SignedDuration::from_mins(5)))
    };
    let last = events.filter(is_recent).max_by_key(at)?;
    let (reason, message) = (last.reason.unwrap_or_default(), last.message.unwrap_or_default());
    let message = format!("{reason}: {}", pods::without_ids(&pods::refusal(&message)));
    let message = message.chars().take(1000).collect();
    let is_word = reason.starts_with(|c: char| c.is_ascii_alphabetic()) && reason.len() <= 64;
    Some(Trouble { reason: if is_word { reason } else { "Warning".to_owned() }, message })
}

/// A Job of the Trial that is not the recorded run is deleted on sight.
async fn delete_strays(trial: &Trial, next: &TrialStatus, scene: &Scene, context: &Context) -> Result<(), Error> {
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
async fn is_current(trial: &Trial, context: &Context) -> Result<bool, Error> {
    let api = context.api::<Trial>(&trial.namespace().unwrap_or_default());
    let live = found(call(api.get(&trial.name_any())).await)?;
    Ok(live.is_some_and(|live| live.resource_version() == trial.resource_version()))
}

async fn announce(trial: &Trial, study: &Study, decision: &Decision, context: &Context) {
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

async fn apply(trial: &Trial, decision: &Decision, asking: bool, context: &Context) -> Result<(), Error> {
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
            match found(call(context.client.request::<Written>(request)).await)? {
                Some(Written(metadata)) => {
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
    let params = PostParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let request = kube::core::Request::new(Job::url_path(&(), Some(namespace)));
    let mut request = request.create(&params, serde_json::to_vec(job)?).map_err(kube::Error::BuildRequest)?;
    let uri = format!("{}&fieldValidation=Strict", request.uri());
    if let Ok(uri) = uri.parse() {
        *request.uri_mut() = uri;
    }
    let Written(metadata) = call(context.client.request(answered_by_metadata(request))).await?;
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
