//! What a Trial's Job shall be: a pure function of the Trial, the Job and pods seen, the reports read,
//! and the time.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;

use super::super::follow::Reports;
use super::super::objects::is_owned_by;
use super::pods::{self, PodState};
use crate::api::{
    Condition, DesiredState, FINISHED, LABEL_TRIAL, PRUNED, Phase, Run, Study, Trial, TrialStatus, note, notes,
    observations, report_timeout,
};
use crate::build::{SIDECAR_CONTAINER, Source, job_name};
use crate::core::pruner::reports_at_end;
use crate::core::{MAX_DISRUPTIONS, Series, reason};
use crate::last_words;
use crate::metrics::{Noted, Point, Summary, names_of_numbers, unread};
use crate::shown::shown;
use crate::validate::ValidStudy;

/// How long a Trial may be in a trouble that only a person can end before it has failed.
pub const START_DEADLINE: SignedDuration = SignedDuration::from_mins(30);

/// The condition that tells since when a Trial has been in such a trouble.
const STALLED: &str = "Stalled";

/// How long a Job may take to start its trainer before its Trial tells what it waits for.
const START_IN_SILENCE: SignedDuration = SignedDuration::from_secs(10);

/// How long after its trainer's start a log must have been followed for the times of its reports to be known.
const FOLLOWED_FROM_START: SignedDuration = SignedDuration::from_secs(2);

/// How long after a Job's end its last reports are waited for.
const REPORTS_LIMIT: SignedDuration = SignedDuration::from_secs(20);

/// The Job of the recorded run.
#[derive(Clone, Debug)]
pub enum JobSeen {
    /// A live GET says that it is not there.
    Absent,
    /// It is there, and the Trial owns it.
    Ours(Box<Job>),
    /// Something of its name is there, and belongs to somebody else.
    Foreign(String),
    /// Something of its name is there, and is going: it belonged to an earlier Trial of this name.
    Leaving,
}

/// All that a decision rests on.
pub struct Seen<'a> {
    pub trial: &'a Trial,
    pub study: &'a ValidStudy,
    /// The trainer's container: the Job's own, since the template may have been edited since.
    pub trainer: &'a str,
    pub job: JobSeen,
    /// The pod that counts: of an Indexed Job that of index 0, of several attempts the latest.
    pub pod: Option<&'a Pod>,
    /// The pod of the attempt before, where that is another and still there.
    pub replaced: Option<&'a Pod>,
    pub reports: Reports,
    /// The end of the trainer's log as it stands, where it was asked for.
    pub log_tail: Option<String>,
    /// Why the Job has no pods, or its pod does not start, as the last Event says.
    pub trouble: Option<Trouble>,
    /// Whether observations of a running Trial are to be put into its status.
    pub checkpoint: bool,
    /// A completion time, should the Trial finish now.
    pub completion: Timestamp,
    pub now: Timestamp,
}

/// What an Event warns of.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// One word, such as `FailedCreate`.
    pub reason: String,
    /// For a person; it does not change with each attempt.
    pub message: String,
}

/// What to do once the status is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// Create the Job of the recorded run.
    Create,
    /// Delete the Job that has this UID.
    Delete { name: String, uid: String },
    /// Have the Job removed after so many seconds: its result is recorded.
    Expire { name: String, uid: String, seconds: i64 },
}

/// What to write, then to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub status: TrialStatus,
    pub action: Action,
    /// When to look again, should nothing happen.
    pub look_again: Option<Duration>,
}

/// What the Trial's Job shall be.
pub fn decide(seen: &Seen) -> Decision {
    let old = seen.trial.status.clone().unwrap_or_default();
    if old.phase.is_finished() {
        return after_the_end(seen, old);
    }
    let stopped = seen.trial.spec.desired_state == DesiredState::Stopped;
    let Some(run) = old.run.clone() else {
        return if stopped { seen.stop(old) } else { seen.start(old, 1) };
    };
    match &seen.job {
        // Nothing of this Trial runs, whoever has the name.
        JobSeen::Absent | JobSeen::Foreign(_) | JobSeen::Leaving if stopped => seen.stop(old),
        JobSeen::Foreign(owner) => {
            let message =
                format!("NameConflict: the Job {} belongs to {owner}: delete it, or rename the Study", run.job);
            seen.wait(old, "NameConflict", message, Duration::from_secs(30))
        }
        JobSeen::Leaving => {
            let message = format!("waiting: the Job {} of an earlier Trial is going", run.job);
            seen.wait(old, "NameInUse", message, Duration::from_secs(5))
        }
        // Recorded, and never created, or not known to have been: creating it is safe.
        JobSeen::Absent if run.job_uid.is_none() => match seen.start_failure(&old.conditions) {
            Some(message) => seen.finish(old, Phase::Failed, reason::START_FAILED, message),
            None => Decision { status: old, action: Action::Create, look_again: Some(LOOK_SOON) },
        },
        JobSeen::Absent => seen.next_run(old, reason::LOST, "its Job was deleted"),
        JobSeen::Ours(job) => match (&run.job_uid, job.uid()) {
            (Some(recorded), Some(uid)) if *recorded != uid => {
                Decision { status: old, action: delete(job), look_again: Some(LOOK_SOON) }
            }
            (_, uid) => seen.with_job(job, TrialStatus { run: Some(Run { job_uid: uid, ..run }), ..old }, stopped),
        },
    }
}

const LOOK_SOON: Duration = Duration::from_secs(1);
const LOOK_LATER: Duration = Duration::from_secs(60);

impl Seen<'_> {
    fn with_job(&self, job: &Job, mut status: TrialStatus, stopped: bool) -> Decision {
        if is_deleted(job) {
            let stuck = self.pod.and_then(|pod| pods::stuck(pod, self.now));
            status.message = Some(stuck.unwrap_or_else(|| "stopping: its pods are being terminated".to_owned()));
            return Decision { status, action: Action::None, look_again: Some(LOOK_LATER) };
        }
        self.note_pod(&mut status);
        let end = job_end(job);
        if stopped {
            // What was done before it was told to stop counts.
            if let Some(end) = end.as_ref().filter(|end| self.is_before_the_stop(end))
                && let Some(decision) = self.result_before_the_stop(&status, end)
            {
                return decision;
            }
            // The evidence stands in the Trial before its Job goes, and takes its log along.
            self.note_reports(&mut status);
            self.note_log(&mut status);
            return Decision { status, action: delete(job), look_again: Some(LOOK_LATER) };
        }
        match end {
            Some(end) => self.conclude(status, end),
            None if status.disruptions > MAX_DISRUPTIONS => {
                self.too_many_disruptions(status, reason::DISRUPTED, "its pod was replaced once more")
            }
            None => self.unfinished(job, status),
        }
    }

    /// Whether the Job had done its work when the Trial was told to stop. A stop that does not say when it was
    /// decided has not been carried out either, or the Job would be deleted.
    fn is_before_the_stop(&self, end: &JobEnd) -> bool {
        let stop = self.trial.spec.stop.as_ref();
        !end.failed && stop.is_none_or(|stop| end.at < stop.at.0)
    }

    /// The result of a Trial that had one before it was told to stop. None where there is none, or nobody knows it.
    fn result_before_the_stop(&self, status: &TrialStatus, end: &JobEnd) -> Option<Decision> {
        let decision = self.conclude(status.clone(), end.clone());
        let is_awaited = !decision.status.phase.is_finished() && decision.action == Action::None;
        (is_awaited || decision.status.phase == Phase::Succeeded).then_some(decision)
    }

    /// The Job has not ended.
    fn unfinished(&self, job: &Job, mut status: TrialStatus) -> Decision {
        if self.checkpoint {
            self.note_reports(&mut status);
        }
        let state = match self.pod {
            Some(pod) => pods::state(pod, self.trainer),
            None => PodState::Waiting { reason: "NoPod", message: "its Job has no pod yet".to_owned() },
        };
        let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
        match state {
            _ if suspended => self.wait(status, "Queued", "queued: its Job is suspended".to_owned(), LOOK_LATER),
            PodState::Trouble { reason, message } => self.stall(status, reason, message, LOOK_LATER),
            // All is going its way: that is not worth a write.
            PodState::Waiting { reason: "NoPod" | "Starting", .. } if self.trouble.is_none() && self.is_fresh(job) => {
                let status = self.trial.status.clone().unwrap_or_default();
                Decision { status, action: Action::None, look_again: Some(LOOK_SOON * 5) }
            }
            // Why nothing starts is told by Events only, and nobody watches those.
            PodState::Waiting { reason: reason @ ("NoPod" | "Starting"), message } => {
                let look_again = if reason == "NoPod" { LOOK_SOON * 5 } else { LOOK_LATER };
                match &self.trouble {
                    Some(trouble) => self.stall(status, &trouble.reason, trouble.message.clone(), look_again),
                    None => self.wait(status, reason, message, look_again),
                }
            }
            PodState::Waiting { reason, message } => self.wait(status, reason, message, LOOK_LATER),
            PodState::Running(since) => {
                status.phase = Phase::Running;
                status.start_time = status.start_time.or(Some(MicroTime(since)));
                if let Some(message) = self.hung(since) {
                    self.note_reports(&mut status);
                    self.note_log(&mut status);
                    return self.finish(status, Phase::Failed, reason::REPORT_TIMEOUT, message);
                }
                let stuck = self.pod.and_then(|pod| pods::stuck(pod, self.now));
                status.message = stuck.or_else(|| Some(shown(self.reports.problem.as_deref()?).into_owned()));
                status.conditions = self.conditions(&status, ("Running", true, "TrainerRuns", ""));
                Decision { status, action: Action::None, look_again: Some(self.next_look(since)) }
            }
            // The Job's own end follows.
            PodState::Ended => Decision { status, action: Action::None, look_again: Some(LOOK_LATER) },
        }
    }

    /// Says that the trainer, which runs since `since`, has reported nothing for longer than it may. That is judged
    /// as of the last time that its log was heard of: a log that cannot be read tells nothing of the trainer.
    fn hung(&self, since: Timestamp) -> Option<String> {
        let limit = self.study.report_timeout?;
        let is_leaving = self.pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        let silent = self.reports.heard?.duration_since(self.last_sign(since));
        if is_leaving || self.reports.ended || silent < limit {
            return None;
        }
        Some(report_timeout(limit, self.reports.readings.series.last_step()))
    }

    /// When the last report was taken; where there is none, when the trainer started, or the operator after it.
    fn last_sign(&self, since: Timestamp) -> Timestamp {
        self.reports.readings.last.or(self.reports.begun).map_or(since, |last| last.max(since))
    }

    fn next_look(&self, since: Timestamp) -> Duration {
        let left = self.study.report_timeout.map(|limit| limit - self.now.duration_since(self.last_sign(since)));
        let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or(LOOK_LATER);
        left.clamp(LOOK_SOON * 5, LOOK_LATER)
    }

    /// Whether the Job was created a moment ago, and nothing else was said of it since.
    fn is_fresh(&self, job: &Job) -> bool {
        let said = self.trial.status.as_ref().and_then(|status| status.conditions.first());
        let age = job.creation_timestamp().map_or(SignedDuration::ZERO, |at| self.now.duration_since(at.0));
        age < START_IN_SILENCE && said.is_none_or(|condition| condition.reason == "Starting")
    }

    /// The Job has ended: what is it worth?
    fn conclude(&self, mut status: TrialStatus, end: JobEnd) -> Decision {
        // The watch of pods may be behind that of Jobs, and the log behind both.
        let is_known = self.pod.is_some_and(pods::has_ended) && self.is_all_read();
        if !is_known && self.now.duration_since(end.at) < REPORTS_LIMIT {
            return Decision { status, action: Action::None, look_again: Some(Duration::from_millis(500)) };
        }
        let series = self.final_series(&status);
        self.note_series(&mut status, &series);
        self.note_log(&mut status);
        let divergence = reason::divergence(&self.study.core.objective.metric, &series);
        status.reported_at_end = self.reported_at_end(&status);
        // Of a Job that has ended for another reason, such as its deadline, the pods are deleted by the Job itself.
        let by_its_pod = !end.failed || end.reason == "BackoffLimitExceeded";
        let disruption = self.pod.and_then(|pod| pods::disruption(pod, self.trainer)).filter(|_| by_its_pod);
        if let Some(why) = disruption {
            return self.next_run(status, reason::DISRUPTED, &why);
        }
        if end.failed && by_its_pod && self.pod.is_none() {
            return self.next_run(status, reason::RESULT_LOST, "its pod had vanished before it was known how it ended");
        }
        if end.failed {
            let log = self.log_tail.as_ref().or(status.log_tail.as_ref());
            let line = log.and_then(|log| last_words::failure(log));
            let why = self.pod.and_then(|pod| pods::failure(pod, self.trainer, line.as_deref())).filter(|_| by_its_pod);
            let (reason, why) = why.unwrap_or_else(|| (end.failure(), end.message.clone()));
            let mut message = last_words::with_line(format!("{reason}: {why}"), line.as_deref());
            if let Some(divergence) = divergence {
                message += &format!("; {divergence}");
            }
            return self.finish(status, Phase::Failed, reason, message);
        }
        if !self.is_result_known() {
            return self.next_run(
                status,
                reason::RESULT_LOST,
                "its pod or log had vanished before the result was read",
            );
        }
        if !status.objectives.is_empty() {
            return self.finish(status, Phase::Succeeded, reason::SUCCEEDED, divergence.unwrap_or_default());
        }
        if let Some(divergence) = divergence {
            let message = format!("{}: {divergence}", reason::NOT_A_NUMBER);
            return self.finish(status, Phase::Failed, reason::NOT_A_NUMBER, message);
        }
        let message = self.metrics_missing();
        self.finish(status, Phase::Failed, reason::METRICS_MISSING, message)
    }

    /// Whether all reports came in the trainer's last second. That is not known of a log that was begun to be followed later
    /// than the trainer started, as after a restart, or that was not streamed.
    fn reported_at_end(&self, status: &TrialStatus) -> bool {
        let Reports { begun: Some(begun), polled: false, readings, .. } = &self.reports else { return false };
        let (Some(start), Some(first)) = (&status.start_time, readings.first) else { return false };
        let Some(end) = self.pod.and_then(|pod| pods::trainer_end(pod, self.trainer)) else { return false };
        let is_whole = begun.duration_since(start.0) <= FOLLOWED_FROM_START;
        is_whole && reports_at_end(start.0, first, end)
    }

    fn metrics_missing(&self) -> String {
        let metric = &self.study.core.objective.metric;
        let place = match self.study.template.source {
            Source::File => "in the file $SWEEP_METRICS".to_owned(),
            Source::Stdout => format!("in the output of container {}", self.trainer),
        };
        let mut message = format!(
            "MetricsMissing: the trainer ended without reporting {metric}; looked for lines such as {{\"step\": 1, \"{metric}\": 0.5}} {place}"
        );
        if let Some(problem) = &self.reports.problem {
            message += &format!("; {problem}");
        }
        // Of the metrics file, the sidecar says so.
        let printed = self.log_tail.as_deref().unwrap_or_default();
        match self.study.template.source {
            Source::Stdout => {
                if let Some(unread) = unread(metric, printed, &self.study.template.grammar) {
                    message += &format!("; not read: {unread}");
                }
            }
            Source::File if names_of_numbers(printed).contains(metric) => {
                message += "; it stands in the trainer's output: did you mean `metrics: {stdout: {}}`?";
            }
            Source::File => {}
        }
        let dropped = &self.reports.readings.noted.dropped;
        if !dropped.is_zero() {
            message += &format!("; dropped: {dropped}");
        }
        message
    }

    /// Whether nothing more of the reports can come.
    fn is_all_read(&self) -> bool {
        let summary = self.pod.and_then(pods::summary);
        let all_of_summary = || summary.is_some_and(|summary| summary.count <= self.reports.readings.reports);
        let has_log = self.pod.is_none_or(|pod| pods::has_log(pod, SIDECAR_CONTAINER));
        match self.study.template.source {
            Source::Stdout => !self.reports.unread,
            Source::File => self.reports.ended || self.reports.lost || all_of_summary() || !has_log,
        }
    }

    /// Whether the last report is known, or that there was none: the sidecar has said so, in its log or by
    /// ending well. What a sidecar printed that was killed, or what was read of a log that was lost half-way,
    /// is not the result.
    fn is_result_known(&self) -> bool {
        match self.study.template.source {
            Source::Stdout => self.pod.is_some() && !self.reports.lost && !self.reports.unread,
            Source::File => self.reports.ended || self.pod.is_some_and(pods::has_final_summary),
        }
    }

    /// The series read; where the log was lost, what the status and the termination message kept of it.
    fn final_series(&self, status: &TrialStatus) -> Series {
        let mut series = match self.is_behind(status) {
            true => self.recorded_series(status),
            false => self.reports.readings.series.clone(),
        };
        let objective = &self.study.core.objective;
        let summary: Option<Summary> = self.pod.and_then(pods::summary);
        let kept =
            summary.as_ref().and_then(|summary| summary.objectives.iter().find(|kept| kept.metric == objective.metric));
        if let Some(kept) = kept {
            // Those that were read already are older than the last step, or are the last one.
            let read = (series.last_step(), series.points().last().copied());
            let is_news = |point: &&Point| read.0 <= Some(point.step) && read.1 != Some((point.step, point.value));
            let mut points = [kept.best, kept.last];
            points.sort_by_key(|point| point.step);
            for point in points.iter().filter(is_news) {
                series.push(point.step, point.value, objective.value, objective.direction, &[]);
            }
        }
        series
    }

    fn note_pod(&self, status: &mut TrialStatus) {
        if let (Some(run), Some(uid)) = (&mut status.run, self.pod.and_then(ResourceExt::uid))
            && run.pod_uid.as_ref() != Some(&uid)
        {
            run.attempts += 1;
            // A queue that takes its Job back deletes the pod, too: that is waiting.
            let was_queued = status.conditions.iter().any(|condition| condition.reason == "Queued");
            if run.pod_uid.is_some() && !was_queued && pods::is_uncounted(self.replaced) {
                status.disruptions += 1;
            }
            // Observations belong to an attempt: the next one starts without them.
            if run.pod_uid.replace(uid).is_some() {
                note(status, &self.study.core, &Series::default(), &Noted::default());
            }
        }
    }

    /// The last lines of the log, where it was read.
    fn note_log(&self, status: &mut TrialStatus) {
        if let Some(tail) = self.log_tail.as_deref().and_then(last_words::tail) {
            status.log_tail = Some(tail);
        }
    }

    fn note_reports(&self, status: &mut TrialStatus) {
        if self.reports.readings.series.last_step().is_some() && !self.is_behind(status) {
            self.note_series(status, &self.reports.readings.series);
        }
    }

    /// Whether the status knows more: after a restart the log is read again from its start.
    fn is_behind(&self, status: &TrialStatus) -> bool {
        self.reports.readings.series.count() < self.recorded_series(status).count()
    }

    fn recorded_series(&self, status: &TrialStatus) -> Series {
        observations(&self.study.core, status)
    }

    fn note_series(&self, status: &mut TrialStatus, series: &Series) {
        note(status, &self.study.core, series, &self.reports.readings.noted);
    }

    /// Records a run; its Job is created once that is written.
    fn start(&self, old: TrialStatus, number: u32) -> Decision {
        let run = Run {
            number,
            job: job_name(&self.trial.name_any(), number),
            job_uid: None,
            template_hash: Some(self.study.template.hash()),
            attempts: 0,
            pod_uid: None,
        };
        // Observations belong to a run: the next one starts without them.
        let mut status = TrialStatus {
            phase: Phase::Pending,
            run: Some(run),
            message: None,
            disruptions: old.disruptions,
            start_time: old.start_time,
            conditions: old.conditions,
            ..TrialStatus::default()
        };
        status.conditions = self.conditions(&status, ("Running", false, "Starting", "its Job is being created"));
        Decision { status, action: Action::Create, look_again: Some(LOOK_SOON) }
    }

    /// A run ended without the trainer's fault.
    fn next_run(&self, old: TrialStatus, reason: &str, why: &str) -> Decision {
        let number = old.run.as_ref().map_or(0, |run| run.number) + 1;
        let disruptions = old.disruptions + 1;
        if disruptions > MAX_DISRUPTIONS {
            return self.too_many_disruptions(TrialStatus { disruptions, ..old }, reason, why);
        }
        let mut decision = self.start(TrialStatus { disruptions, ..old }, number);
        decision.status.message = Some(format!("run {number} follows: {why}"));
        decision
    }

    fn too_many_disruptions(&self, mut status: TrialStatus, reason: &str, why: &str) -> Decision {
        let message = format!(
            "{reason}: {why}; {MAX_DISRUPTIONS} earlier runs or pods had ended without the trainer's fault as well"
        );
        self.note_log(&mut status);
        self.finish(status, Phase::Failed, reason, message)
    }

    /// It was told to stop, and nothing of it runs.
    fn stop(&self, old: TrialStatus) -> Decision {
        let stop = self.trial.spec.stop.as_ref();
        let message = match stop {
            Some(stop) if stop.message.is_empty() => stop.reason.clone(),
            Some(stop) => format!("{}: {}", stop.reason, stop.message),
            None => "stopped by a user".to_owned(),
        };
        let pruned = stop.is_some_and(|stop| stop.reason == PRUNED);
        let (phase, reason) = if pruned { (Phase::Pruned, PRUNED) } else { (Phase::Stopped, reason::STOPPED) };
        self.finish(old, phase, reason, message)
    }

    fn finish(&self, mut status: TrialStatus, phase: Phase, reason: &str, message: String) -> Decision {
        status.phase = phase;
        // It may quote the trainer, or what a runtime said of it.
        let message = shown(&message);
        status.message = (!message.is_empty()).then(|| message.clone().into_owned());
        status.completion_time = Some(MicroTime(self.completion));
        status.conditions = self.conditions(&status, (FINISHED, true, reason, &message));
        Decision { status, action: Action::None, look_again: Some(LOOK_SOON) }
    }

    fn wait(&self, mut status: TrialStatus, reason: &str, message: String, look_again: Duration) -> Decision {
        status.phase = Phase::Pending;
        let message = shown(&message);
        status.conditions = self.conditions(&status, ("Running", false, reason, &message));
        status.message = Some(message.into_owned());
        Decision { status, action: Action::None, look_again: Some(look_again) }
    }

    /// Nothing starts before somebody acts: waited for, but not for ever.
    fn stall(&self, status: TrialStatus, reason: &str, message: String, look_again: Duration) -> Decision {
        let generation = self.trial.metadata.generation;
        let stalled = Condition::next(&status.conditions, STALLED, true, reason, &message, generation, self.now);
        if let Some(message) = self.start_failure(std::slice::from_ref(&stalled)) {
            return self.finish(status, Phase::Failed, reason::START_FAILED, message);
        }
        let mut decision = self.wait(status, reason, message, look_again);
        decision.status.conditions.push(stalled);
        decision
    }

    /// Says that nothing has started for too long.
    fn start_failure(&self, conditions: &[Condition]) -> Option<String> {
        let stalled = conditions.iter().find(|condition| condition.type_ == STALLED)?;
        let since = stalled.last_transition_time.0;
        (self.now.duration_since(since) >= START_DEADLINE)
            .then(|| format!("StartFailed: could not start for {START_DEADLINE:#}: {}", stalled.message))
    }

    fn conditions(
        &self,
        status: &TrialStatus,
        (type_, holds, reason, message): (&str, bool, &str, &str),
    ) -> Vec<Condition> {
        let old = &status.conditions;
        let generation = self.trial.metadata.generation;
        let next = |type_, holds, reason, message: &str| {
            Condition::next(old, type_, holds, reason, message, generation, self.now)
        };
        let mut conditions = vec![next(type_, holds, reason, message)];
        conditions.extend(notes(status).iter().map(|(type_, reason, message)| next(type_, true, reason, message)));
        conditions
    }
}

/// A finished Trial: its Job may go after a while.
fn after_the_end(seen: &Seen, status: TrialStatus) -> Decision {
    let mut action = Action::None;
    if let JobSeen::Ours(job) = &seen.job
        && !is_deleted(job)
        && status.run.as_ref().is_some_and(|run| run.job == job.name_any())
    {
        let has_ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished).is_some();
        if job_end(job).is_none() {
            action = delete(job);
        } else if !has_ttl {
            let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
            action = Action::Expire { name, uid, seconds: seen.study.template.ttl_seconds() };
        }
    }
    Decision { status, action, look_again: None }
}

/// What is written where the API server refuses the Job of the recorded run; it is tried again.
pub fn refused(status: &TrialStatus, why: &str, generation: Option<i64>, now: Timestamp) -> TrialStatus {
    let message = format!("JobRefused: {why}");
    let stalled = Condition::next(&status.conditions, STALLED, true, "JobRefused", &message, generation, now);
    let mut status = held_back(status, "JobRefused", &message, generation, now);
    status.conditions.push(stalled);
    status
}

/// What is written where the Job of the recorded run cannot be created yet.
pub fn held_back(
    status: &TrialStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> TrialStatus {
    let condition = Condition::next(&status.conditions, "Running", false, reason, message, generation, now);
    TrialStatus { message: Some(shown(message).into_owned()), conditions: vec![condition], ..status.clone() }
}

/// Why the Job of `trial` cannot be created yet, if it cannot: its reason and a message. All is as the API
/// server holds it now: a place is held by every other Trial with an unfinished Job, and by every unfinished
/// Trial of a lower index that is still to get one.
pub fn no_place(trial: &Trial, study: &Study, trials: &[Trial], jobs: &[Job]) -> Option<(&'static str, String)> {
    if study.metadata.deletion_timestamp.is_some() {
        return Some(("StudyDeleted", "its Study is being deleted".to_owned()));
    }
    if study.spec.suspend == Some(true) {
        return Some(("Suspended", "its Study is suspended".to_owned()));
    }
    let (mut mine, mut others) = (BTreeSet::new(), BTreeSet::new());
    for job in jobs.iter().filter(|job| is_unfinished(job)) {
        match is_owned_by(job, trial) {
            true => mine.insert(job.name_any()),
            false => others.insert(job.labels().get(LABEL_TRIAL).cloned().unwrap_or_else(|| job.name_any())),
        };
    }
    if let Some(job) = mine.first() {
        return Some(("EarlierRun", format!("its Job {job} is not gone yet")));
    }
    let earlier = trials.iter().filter(|other| {
        let finished = other.status.as_ref().is_some_and(|status| status.phase.is_finished());
        other.spec.index < trial.spec.index && !finished && other.spec.desired_state == DesiredState::Running
    });
    others.extend(earlier.map(ResourceExt::name_any));
    let limit = study.spec.parallelism;
    (others.len() as u64 >= u64::from(limit))
        .then(|| ("ParallelismReached", format!("as many Trials run as parallelism {limit} allows")))
}

/// Whether a Job holds a place: until it has ended, and its pods have.
pub fn is_unfinished(job: &Job) -> bool {
    let terminating = job.status.as_ref().and_then(|status| status.terminating).unwrap_or(0) > 0;
    job_end(job).is_none() || terminating || is_deleted(job)
}

fn is_deleted(job: &Job) -> bool {
    job.metadata.deletion_timestamp.is_some()
}

/// Deletes a Job, unless that is under way.
fn delete(job: &Job) -> Action {
    if is_deleted(job) {
        return Action::None;
    }
    Action::Delete { name: job.name_any(), uid: job.uid().unwrap_or_default() }
}

/// How a Job ended.
#[derive(Clone)]
pub struct JobEnd {
    failed: bool,
    reason: String,
    message: String,
    at: Timestamp,
}

impl JobEnd {
    /// The reason of a Trial whose Job itself has ended it.
    fn failure(&self) -> &'static str {
        match self.reason.as_str() {
            reason::DEADLINE_EXCEEDED => reason::DEADLINE_EXCEEDED,
            _ => reason::TRAINER_FAILED,
        }
    }
}

/// How a Job ended, if it has. `FailureTarget` and `SuccessCriteriaMet` are no end yet: pods still terminate.
pub fn job_end(job: &Job) -> Option<JobEnd> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions.iter().find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    let reason = end.reason.clone().unwrap_or_default();
    Some(JobEnd {
        failed: end.type_ == "Failed",
        message: end.message.clone().unwrap_or_else(|| reason.clone()),
        reason,
        at: end.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    })
}

#[cfg(test)]
mod tests;
