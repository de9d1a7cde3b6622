//! What a Job and its pods are as a run.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::pods::{self, PodState};
use crate::api::LABEL_RECORDED;
use crate::core::life::{End, Fault, How, Reason, RunSeen, Stage, Wait};

/// The Job of the recorded run.
#[derive(Clone, Debug)]
pub enum JobSeen {
    /// A live GET says that it is not there.
    Absent,
    /// It is there, and the Trial owns it.
    Ours(Arc<Job>),
    /// Something of its name is there, and belongs to somebody else.
    Foreign(String),
    /// Something of its name is there, and is going: it belonged to an earlier Trial of this name.
    Leaving,
}

/// What an Event warns of.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// One word, such as `FailedCreate`.
    pub reason: String,
    /// For a person; it does not change with each attempt.
    pub message: String,
}

/// The pods of a Job that tell of its run.
#[derive(Clone, Copy)]
pub struct Pods<'a> {
    /// The pod that counts: of an Indexed Job that of index 0, of several attempts the latest.
    pub pod: Option<&'a Pod>,
    /// The pod of the attempt before, where that is another and still there.
    pub replaced: Option<&'a Pod>,
    /// Of an Indexed Job another pod that has failed by its own doing.
    pub fellow: Option<&'a Pod>,
    /// The trainer's container.
    pub trainer: &'a str,
}

/// Whether the Job is removed some time after its end.
pub fn has_ttl(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished).is_some()
}

/// The Job and its pods as a run. `trouble` is what Events warn of; a Job that `is_kept` needs no TTL once it has ended.
pub fn run_seen(job: &JobSeen, pods: &Pods, trouble: Option<&Trouble>, is_kept: bool, now: Timestamp) -> RunSeen {
    match job {
        JobSeen::Absent => RunSeen::Absent,
        JobSeen::Foreign(owner) => RunSeen::Foreign(owner.clone()),
        JobSeen::Leaving => RunSeen::Leaving,
        JobSeen::Ours(job) => RunSeen::There {
            id: job.uid().unwrap_or_default(),
            attempt: pods.pod.and_then(|pod| pods::attempt(pod, pods.replaced)),
            stage: stage(job, pods, trouble, is_kept, now),
        },
    }
}

fn stage(job: &Job, pods: &Pods, trouble: Option<&Trouble>, is_kept: bool, now: Timestamp) -> Stage {
    let stuck = || pods.pod.and_then(|pod| pods::stuck(pod, now));
    if is_deleted(job) {
        return Stage::Stopping { stuck: stuck() };
    }
    if let Some(end) = job_end(job) {
        return Stage::Ended(ended(job, &end, pods, is_kept));
    }
    let created = job.creation_timestamp().map_or(now, |at| at.0);
    let waiting = |why, message, needs_person| Stage::Waiting { why, message, needs_person, created };
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return waiting(Wait::Queued, "queued: its Job is suspended".to_owned(), false);
    }
    let state = match pods.pod {
        Some(pod) => pods::state(pod, pods.trainer),
        None => PodState::Waiting { why: Wait::NoPod, message: "its Job has no pod yet".to_owned() },
    };
    match state {
        PodState::Trouble { reason, message } => waiting(Wait::Other(reason.to_owned()), message, true),
        // Why nothing starts is told by Events only.
        PodState::Waiting { why: why @ (Wait::NoPod | Wait::Starting), message } => match trouble {
            Some(trouble) => waiting(Wait::Other(trouble.reason.clone()), trouble.message.clone(), true),
            None => waiting(why, message, false),
        },
        PodState::Waiting { why, message } => waiting(why, message, false),
        PodState::Running(since) => {
            let is_leaving = pods.pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
            Stage::Running { since, is_leaving, stuck: stuck() }
        }
        PodState::Ended => Stage::Ending { succeeded: pods.pod.and_then(|pod| pods::success(pod, pods.trainer)) },
    }
}

/// What a Job's end is worth.
fn ended(job: &Job, end: &JobEnd, pods: &Pods, is_kept: bool) -> End {
    let Pods { pod, trainer, .. } = *pods;
    // Of a Job that has ended for another reason, such as its deadline, the pods are deleted by the Job itself.
    let by_its_pod = !end.failed || end.reason == "BackoffLimitExceeded";
    // Of an Indexed Job another pod may have failed; then the Job itself deletes the one that reports.
    let fellow = pods.fellow.filter(|_| end.failed && by_its_pod);
    let fellow_first = fellow.is_some() && pod.is_none_or(|pod| pods::is_only_deleted(pod, trainer));
    let disruption = || pod.and_then(|pod| pods::disruption(pod, trainer)).filter(|_| by_its_pod && !fellow_first);
    let fault = || {
        let own = || pod.and_then(|pod| pods::failure(pod, trainer));
        let of_fellow = || fellow.and_then(|pod| pods::failure_of_fellow(pod, trainer));
        let fault = if fellow_first { of_fellow() } else { own().or_else(of_fellow) }.filter(|_| by_its_pod);
        let fault = fault.unwrap_or_else(|| Fault::known(end.reason(), end.message.as_str()));
        Fault { is_in_log: !fellow_first, ..fault }
    };
    let how = match disruption() {
        Some(why) => How::Disrupted(why),
        None if !end.failed => How::Succeeded,
        None if by_its_pod && pod.is_none() && !fellow_first => How::Vanished,
        None => How::Failed(fault()),
    };
    let is_told_by_fellow = fellow_first && pod.is_none();
    End {
        at: end.at,
        failed: end.failed,
        how,
        is_settled: pod.is_some_and(pods::has_ended) || is_told_by_fellow,
        awaits_reports: !is_told_by_fellow,
        trainer_began: pod.and_then(|pod| pods::trainer_began(pod, trainer)),
        trainer_ended: pod.and_then(|pod| pods::trainer_end(pod, trainer)),
        is_noted: job.labels().contains_key(LABEL_RECORDED) && (is_kept || has_ttl(job)),
    }
}

/// Whether a Job holds a place: until it has ended, and its pods have.
pub fn is_unfinished(job: &Job) -> bool {
    let terminating = job.status.as_ref().and_then(|status| status.terminating).unwrap_or(0) > 0;
    end_condition(job).is_none() || terminating || is_deleted(job)
}

fn is_deleted(job: &Job) -> bool {
    job.metadata.deletion_timestamp.is_some()
}

/// How a Job ended.
#[derive(Clone)]
pub struct JobEnd {
    pub failed: bool,
    reason: String,
    message: String,
    pub at: Timestamp,
}

impl JobEnd {
    /// The reason of a Trial whose Job itself has ended it.
    fn reason(&self) -> Reason {
        match self.reason.as_str() {
            "DeadlineExceeded" => Reason::DeadlineExceeded,
            _ => Reason::TrainerFailed,
        }
    }
}

/// What says that a Job has ended, if it has. `FailureTarget` and `SuccessCriteriaMet` are no end yet: pods still terminate.
fn end_condition(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))
}

/// Whether a Job has failed, and when it ended; None before its end.
pub fn ended_at(job: &Job) -> Option<(bool, Timestamp)> {
    let end = end_condition(job)?;
    let at = end.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some((end.type_ == "Failed", at))
}

/// How a Job ended, if it has.
pub fn job_end(job: &Job) -> Option<JobEnd> {
    let end = end_condition(job)?;
    let (failed, at) = ended_at(job)?;
    let reason = end.reason.clone().unwrap_or_default();
    Some(JobEnd { failed, message: end.message.clone().unwrap_or_else(|| reason.clone()), reason, at })
}
