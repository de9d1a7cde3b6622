//! What a Trial's Job shall be, and its status: what is seen of the cluster as [`life`] knows it, and its step as objects.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;

use super::super::follow::Reports;
use super::super::workload::job::{self, Pods};
pub use super::super::workload::job::{JobSeen, Trouble, is_unfinished, job_end};
use super::super::workload::pods;
use crate::api::{self, Trial, TrialStatus};
use crate::core::life::{Notes, Standing, Terms, Wait};
use crate::core::{self, life};
use crate::job::{SIDECAR_CONTAINER, Source};
use crate::metrics::{Missing, Noted};
use crate::validate::ValidStudy;

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
    /// Of an Indexed Job another pod that has failed by its own doing.
    pub fellow: Option<&'a Pod>,
    pub reports: Reports,
    /// The end of the trainer's log as it stands, where it was asked for.
    pub log_tail: Option<String>,
    /// Why the Job has no pods, or its pod does not start, as the last Event says.
    pub trouble: Option<Trouble>,
    /// Whether observations of a running Trial are to be put into its status.
    pub checkpoint: bool,
    /// Whether it is the best of a Study that has not ended: its Job stays.
    pub is_best: bool,
    /// A completion time, should the Trial finish now.
    pub completion: Timestamp,
    pub now: Timestamp,
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
    /// Mark the Job as recorded, and have it removed after so many seconds, where any are given.
    Expire { name: String, uid: String, seconds: Option<i64> },
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
    let Seen { trial, study, trainer, now, .. } = *seen;
    let none = TrialStatus::default();
    let old = trial.status.as_ref().unwrap_or(&none);
    let (name, template) = (trial.name_any(), format!("{:016x}", study.core.template));
    let terms = Terms {
        trial: &name,
        objective: &study.core.objective,
        report_timeout: study.report_timeout,
        template: &template,
        desired: api::life::desired(&trial.spec),
        lost: "its Job was deleted",
    };
    let state = api::life::state(&study.core, old);
    let pods = Pods { pod: seen.pod, replaced: seen.replaced, fellow: seen.fellow, trainer };
    let run = job::run_seen(&seen.job, &pods, seen.trouble.as_ref(), seen.is_best, now);
    let missing = || seen.missing();
    let reports = life::Reports {
        standing: seen.standing(),
        series: &seen.reports.readings.series,
        kept: seen.kept(),
        first: seen.reports.readings.first,
        last: seen.reports.readings.last,
        begun: seen.reports.begun,
        is_live: !seen.reports.polled,
        heard: seen.reports.heard.filter(|_| !seen.reports.ended),
        problem: seen.reports.problem.as_deref(),
        log: seen.log_tail.as_deref(),
        is_checkpoint: seen.checkpoint,
        missing: &missing,
    };
    let step = life::step(&terms, &state, &run, &reports, now);
    let mut status = old.clone();
    if step.state != state || step.notes != Notes::Kept {
        let noted = &seen.reports.readings.noted;
        let next = (&step.state, step.notes);
        status = api::life::status(&study.core, old, next, noted, trial.metadata.generation, now);
    }
    if status.phase.is_finished() && !old.phase.is_finished() {
        status.completion_time = Some(MicroTime(seen.completion));
    }
    let action = match (step.action, &seen.job) {
        (life::Action::Start, _) => Action::Create,
        (life::Action::Stop, JobSeen::Ours(job)) => {
            Action::Delete { name: job.name_any(), uid: job.uid().unwrap_or_default() }
        }
        (life::Action::Expire, JobSeen::Ours(job)) => {
            let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
            let seconds = (!job::has_ttl(job) && !seen.is_best).then(|| study.template.ttl_seconds());
            Action::Expire { name, uid, seconds }
        }
        _ => Action::None,
    };
    Decision { status, action, look_again: step.look_again }
}

impl Seen<'_> {
    /// How much of the reports was read. What a sidecar printed that was killed, or what was read of a log that was lost
    /// half-way, is not the result.
    fn standing(&self) -> Standing {
        let Reports { readings, ended, lost, unread, .. } = &self.reports;
        let all_of_summary =
            || self.pod.and_then(pods::summary).is_some_and(|summary| summary.count <= readings.reports);
        let has_log = self.pod.is_none_or(|pod| pods::has_log(pod, SIDECAR_CONTAINER));
        let (is_all_read, tells_result) = match self.study.template.source {
            Source::Stdout => (!unread, self.pod.is_some() && !lost && !unread),
            // The sidecar has said that this was all, in its log or by ending well.
            Source::File | Source::TensorBoard | Source::Prometheus => {
                let is_all_read = *ended || *lost || all_of_summary() || !has_log;
                (is_all_read, *ended || self.pod.is_some_and(pods::has_final_summary))
            }
        };
        match (is_all_read, tells_result) {
            (false, tells_result) => Standing::Pending { tells_result },
            (true, true) => Standing::Complete,
            (true, false) => Standing::Lost,
        }
    }

    /// What the sidecar's termination message kept of the objective.
    fn kept(&self) -> Vec<(u64, f64)> {
        let summary = self.pod.and_then(pods::summary);
        let metric = &self.study.core.objective.metric;
        let kept = summary.iter().flat_map(|summary| &summary.objectives).find(|kept| kept.metric == *metric);
        kept.map(|kept| [kept.best, kept.last].map(|point| (point.step, point.value)).to_vec()).unwrap_or_default()
    }

    /// What to say where the objective is missing.
    fn missing(&self) -> String {
        let printed = Some(self.log_tail.as_deref().unwrap_or_default());
        let template = &self.study.template;
        let place = template.place(self.trainer);
        // What stands in the place itself, the sidecar says.
        let (content, printed) = if template.source.has_sidecar() { (None, printed) } else { (printed, None) };
        let missing = Missing {
            metric: &self.study.core.objective.metric,
            source: template.source,
            place: &place,
            content,
            printed,
            problem: self.reports.problem.as_deref(),
            grammar: &template.grammar,
            dropped: &self.reports.readings.noted.dropped,
        };
        missing.message()
    }
}

/// What is written where the API server refuses the Job of the recorded run; it is tried again.
pub fn refused(
    study: &core::Study,
    status: &TrialStatus,
    why: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> TrialStatus {
    let state = life::refused(&api::life::state(study, status), Wait::JobRefused, &format!("JobRefused: {why}"), now);
    api::life::status(study, status, (&state, Notes::Kept), &Noted::default(), generation, now)
}

/// What is written where the Job of the recorded run cannot be created yet.
pub fn held_back(
    study: &core::Study,
    status: &TrialStatus,
    why: Wait,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> TrialStatus {
    let state = life::held_back(&api::life::state(study, status), why, message);
    api::life::status(study, status, (&state, Notes::Kept), &Noted::default(), generation, now)
}
