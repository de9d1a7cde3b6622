//! What a pass over a Trial sees: its Job, the pods of that, and what they have reported.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::ListParams;
use kube::{Resource, ResourceExt};

use super::super::context::Context;
use super::super::error::{Error, call};
use super::super::follow::{self, Followed, Reports};
use super::super::look::is_finished;
use super::super::objects::{ask, is_owned_by};
use super::super::workload::pods;
use super::decide::{JobSeen, Seen, Trouble, job_end};
use crate::api::{DesiredState, ObjectiveValue, Phase, Run, Study, Trial};
use crate::core::beats;
use crate::job;
use crate::validate::ValidStudy;

/// What was found in the cluster.
pub struct Scene {
    job: JobSeen,
    /// All Jobs that the Trial owns, as last seen.
    pub jobs: Vec<Arc<Job>>,
    /// The pods of the recorded run's Job.
    pub pods: Vec<Arc<Pod>>,
    reports: Reports,
    log_tail: Option<String>,
    trouble: Option<Trouble>,
    checkpoint: bool,
    is_best: bool,
    /// How long nobody need be told that the trainer runs.
    pub put_off: Option<Duration>,
    completion: Timestamp,
    now: Timestamp,
}

impl Scene {
    pub fn seen<'a>(&'a self, trial: &'a Trial, study: &'a ValidStudy) -> Seen<'a> {
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
    pub fn is_open(&self, trial: &Trial) -> bool {
        let finished = trial.status.as_ref().is_some_and(|status| status.phase.is_finished());
        !finished && matches!(&self.job, JobSeen::Ours(job) if job_end(job).is_none())
    }

    /// Adds what is looked at only where a Trial ends.
    pub async fn close(&mut self, study: &Study, valid: &ValidStudy, context: &Context) {
        self.completion = completion_time(study, self.now, context);
        let trainer = trainer(&self.job, valid);
        if let Some(pod) = pods::newest(&self.pods) {
            self.log_tail = log_tail(pod, trainer, context).await;
        }
    }
}

/// Looks at all that a decision on the Trial rests on.
///
/// # Errors
/// The API server's.
pub async fn observe(
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
        put_off: None,
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
        if !ended && !stopping && pods::has_log(pod, trainer) {
            scene.put_off = context.untold.put_off(trial, &context.memory(study), context.settings.starts_told);
        }
        let reading = if ended { Reading::Rest } else { reading_of(trial, pod, &scene, study, valid, context) };
        (scene.reports, scene.log_tail) = read_pod(pod, valid, trainer, reading, ended || stopping, context).await;
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
            return Ok(JobSeen::Ours(job.clone()));
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
        Some(job) if is_owned_by(&job, trial) => JobSeen::Ours(Arc::new(job)),
        Some(job) if job.metadata.deletion_timestamp.is_some() => JobSeen::Leaving,
        Some(job) if job.owner_references().iter().any(is_predecessor) => JobSeen::Leaving,
        Some(job) => {
            let owner = job.owner_references().first().map(|owner| format!("{} {}", owner.kind, owner.name));
            JobSeen::Foreign(owner.unwrap_or_else(|| "nobody".to_owned()))
        }
    }
}

/// How a pod's metrics are read.
enum Reading {
    None,
    Follow,
    /// What is left, once.
    Rest,
}

/// How the metrics of a pod are read that has not ended. The log of a start that nobody is told of yet is opened when it is told,
/// but for the first of them where reports are waited for.
fn reading_of(
    trial: &Trial,
    pod: &Pod,
    scene: &Scene,
    study: &Study,
    valid: &ValidStudy,
    context: &Context,
) -> Reading {
    let is_followed = context.followers.follows(pod.metadata.uid.as_deref().unwrap_or_default());
    if is_followed || !context.untold.has(trial) {
        Reading::Follow
    } else if trial.spec.desired_state == DesiredState::Stopped {
        Reading::Rest
    } else if scene.put_off.is_none()
        || (valid.awaits_reports() && context.memory(study).takes_log(context.settings.starts_told))
    {
        Reading::Follow
    } else {
        Reading::None
    }
}

/// Follows the pod's metrics, or reads what is left of them; and the last lines of the trainer's log.
async fn read_pod(
    pod: &Pod,
    valid: &ValidStudy,
    trainer: &str,
    reading: Reading,
    with_tail: bool,
    context: &Context,
) -> (Reports, Option<String>) {
    let uid = pod.uid().unwrap_or_default();
    let followed = Followed::new(valid, pod, trainer);
    let (reports, tail) = match reading {
        _ if !pods::has_log(pod, followed.container()) => (Reports::default(), None),
        Reading::None => (Reports::default(), None),
        Reading::Rest => context.followers.finish(&uid, &followed).await,
        Reading::Follow => {
            context.followers.follow(&uid, &followed);
            (context.followers.reports(&uid).unwrap_or_default(), None)
        }
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
