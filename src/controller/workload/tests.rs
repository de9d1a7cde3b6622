//! Each test is a statement about one view of a Trial. [`Scene::decide`] decides twice: whatever is seen, a
//! second look at it writes nothing more.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::super::follow::Reports;
use super::super::trial::decide::{Action, Decision, Seen, decide, refused};
use super::job::{JobSeen, Trouble};
use super::pods;
use crate::api::{self, Condition, DesiredState, Phase, StudySpec, Trial, TrialStatus, observations};
use crate::core::life::Notes;
use crate::core::{Direction, Divergence, Failure, ValueOf};
use crate::job::Source;
use crate::metrics::Dropped;
use crate::validate::ValidStudy;
use crate::validate::validate;

const NOW: &str = "2026-03-01T12:00:30Z";
/// The Job's end: its reports are waited for until 12:00:40.
const ENDED: &str = "2026-03-01T12:00:20Z";
const LATER: &str = "2026-03-01T12:01:00Z";
const SPEC: &str = r#"
objectives: [{metric: accuracy, direction: Maximize}]
maxTrials: 9
parameters: [{name: lr, double: {min: 0, max: 1}}]
jobTemplate:
  spec:
    ttlSecondsAfterFinished: 600
    template:
      spec:
        containers: [{name: trainer, image: "trainer:1"}]
"#;

/// What is seen of the Trial `digits-0003`.
#[derive(Clone)]
struct Scene {
    study: ValidStudy,
    trial: Trial,
    job: JobSeen,
    pod: Option<Pod>,
    replaced: Option<Pod>,
    fellow: Option<Pod>,
    reports: Reports,
    log_tail: Option<String>,
    trouble: Option<Trouble>,
    checkpoint: bool,
    is_best: bool,
    now: Timestamp,
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A Trial that was just proposed.
fn proposed() -> Scene {
    let spec: StudySpec = serde_yaml::from_str(SPEC).unwrap();
    let trial = read(json!({
        "apiVersion": "sweep-operator.dev/v1alpha1",
        "kind": "Trial",
        "metadata": {"name": "digits-0003", "namespace": "default", "uid": "trial-3", "generation": 1},
        "spec": {
            "study": "digits", "index": 3, "assignments": {"lr": "0.5"},
            "sampler": {"name": "random", "version": 1}, "desiredState": "Running",
        },
    }));
    Scene {
        study: validate("digits", &spec).unwrap(),
        trial,
        job: JobSeen::Absent,
        pod: None,
        replaced: None,
        fellow: None,
        reports: Reports::default(),
        log_tail: None,
        trouble: None,
        checkpoint: false,
        is_best: false,
        now: time(NOW),
    }
}

/// Its run is recorded, the Job's UID not yet.
fn recorded() -> Scene {
    let scene = proposed();
    let status = scene.look().status;
    scene.with_status(status)
}

/// Its Job `job-1` was seen.
fn with_job() -> Scene {
    let scene = recorded().job(json!({}));
    let status = scene.look().status;
    scene.with_status(status)
}

/// Its trainer runs in the pod `pod-1`.
fn running() -> Scene {
    let scene = with_job().pod(pod("pod-1", "Running", running_state()));
    let status = scene.look().status;
    scene.with_status(status)
}

/// Its Job is Complete, and its trainer ended with 0.
fn complete() -> Scene {
    running().job(ended("Complete")).pod(pod("pod-1", "Succeeded", exit(0)))
}

/// Its Job is Failed, and its trainer ended like this.
fn failed(trainer: Value) -> Scene {
    running().job(ended("Failed")).pod(pod("pod-1", "Failed", trainer)).all_read()
}

fn ended(how: &str) -> Value {
    json!({"conditions": [
        {"type": "FailureTarget", "status": "True", "lastTransitionTime": ENDED},
        {"type": how, "status": "True", "reason": "BackoffLimitExceeded", "message": "the Job's own words", "lastTransitionTime": ENDED},
    ]})
}

fn pod(uid: &str, phase: &str, trainer: Value) -> Value {
    json!({
        "metadata": {"name": uid, "uid": uid, "creationTimestamp": "2026-03-01T12:00:00Z"},
        "status": {
            "phase": phase,
            "initContainerStatuses": [container("sweep-sidecar", running_state())],
            "containerStatuses": [container("trainer", trainer)],
        },
    })
}

fn container(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "trainer:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn trouble(reason: &str, message: &str) -> Trouble {
    Trouble { reason: reason.to_owned(), message: format!("{reason}: {message}") }
}

fn running_state() -> Value {
    json!({"running": {"startedAt": "2026-03-01T12:00:05Z"}})
}

fn exit(code: i32) -> Value {
    json!({"terminated": {"exitCode": code}})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

/// A pod whose trainer waits, so that nothing of it has run.
fn starting(trainer: Value) -> Value {
    let mut pod = pod("pod-1", "Pending", trainer);
    pod["status"]["initContainerStatuses"] = json!([]);
    pod
}

/// The pod with the sidecar's termination message.
fn with_summary(mut pod: Value, summary: Value) -> Value {
    let state = json!({"terminated": {"exitCode": 0, "message": summary.to_string()}});
    pod["status"]["initContainerStatuses"] = json!([container("sweep-sidecar", state)]);
    pod
}

fn with_condition(mut pod: Value, type_: &str, reason: &str) -> Value {
    pod["status"]["conditions"] = json!([{"type": type_, "status": "True", "reason": reason}]);
    pod
}

impl Scene {
    fn with_status(mut self, status: TrialStatus) -> Scene {
        self.trial.status = Some(status);
        self
    }

    fn job(mut self, status: Value) -> Scene {
        let name = self.trial.status.as_ref().and_then(|status| Some(status.run.as_ref()?.job.clone())).unwrap();
        let since = "2026-03-01T12:00:00Z";
        let job = json!({"metadata": {"name": name, "uid": "job-1", "creationTimestamp": since}, "spec": {"template": {}}, "status": status});
        self.job = JobSeen::Ours(Arc::new(read(job)));
        self
    }

    fn edit_job(mut self, edit: impl FnOnce(&mut Job)) -> Scene {
        let JobSeen::Ours(job) = &mut self.job else { panic!("there is no Job") };
        edit(Arc::make_mut(job));
        self
    }

    fn pod(mut self, pod: Value) -> Scene {
        self.pod = Some(read(pod));
        self
    }

    fn no_pod(mut self) -> Scene {
        self.pod = None;
        self
    }

    fn absent(mut self) -> Scene {
        (self.job, self.pod, self.reports) = (JobSeen::Absent, None, Reports::default());
        self
    }

    fn reported(mut self, points: &[(u64, f64)]) -> Scene {
        for (step, value) in points {
            self.reports.readings.reports += 1;
            self.reports.readings.series.push(*step, *value, ValueOf::Last, Direction::Maximize);
        }
        self
    }

    /// The sidecar has said that this was all.
    fn all_read(mut self) -> Scene {
        self.reports.ended = true;
        self
    }

    fn log_is_lost(mut self) -> Scene {
        self.reports.lost = true;
        self
    }

    fn log(mut self, tail: &str) -> Scene {
        self.log_tail = Some(tail.to_owned());
        self
    }

    fn at(mut self, now: &str) -> Scene {
        self.now = time(now);
        self
    }

    fn stdout(mut self) -> Scene {
        self.study.template.source = Source::Stdout;
        self
    }

    fn stopped(mut self, stop: Value) -> Scene {
        self.trial.spec.desired_state = DesiredState::Stopped;
        self.trial.spec.stop = read(stop);
        self
    }

    fn pruned(self) -> Scene {
        self.stopped(json!({"reason": "Pruned", "message": "0.1 at step 3 is too low", "step": 3, "at": NOW}))
    }

    fn look(&self) -> Decision {
        decide(&Seen {
            trial: &self.trial,
            study: &self.study,
            trainer: "trainer",
            job: self.job.clone(),
            pod: self.pod.as_ref(),
            reports: self.reports.clone(),
            log_tail: self.log_tail.clone(),
            replaced: self.replaced.as_ref(),
            fellow: self.fellow.as_ref(),
            trouble: self.trouble.clone(),
            checkpoint: self.checkpoint,
            is_best: self.is_best,
            completion: self.now,
            now: self.now,
        })
    }

    /// The life that a status records loses nothing of it.
    fn assert_kept(&self, status: &TrialStatus) {
        let study = &self.study.core;
        let state = api::life::state(study, status);
        let bare = TrialStatus { completion_time: status.completion_time.clone(), ..TrialStatus::default() };
        let noted = self.reports.readings.noted.clone();
        let again = |old: &TrialStatus, notes| {
            api::life::status(study, old, (&state, notes), &noted, Some(1), self.now + SignedDuration::from_hours(1))
        };
        assert_eq!(again(status, Notes::Kept), *status);
        // All but the times of conditions stands in the life itself.
        let mut anew = again(&bare, if status.observations.is_empty() { Notes::Kept } else { Notes::Read });
        (anew.dropped, anew.metrics) = (status.dropped.clone(), status.metrics.clone());
        anew.conditions.clone_from(&status.conditions);
        assert_eq!(anew, *status);
    }

    /// The decision; a second look a little later, with the status written, must ask for no other one.
    fn decide(&self) -> Decision {
        let decision = self.look();
        let mut next = self.clone().with_status(decision.status.clone());
        let job = |status: &TrialStatus| status.run.as_ref().map(|run| run.job.clone());
        if self.trial.status.as_ref().and_then(job) != job(&decision.status) {
            // The Job that was seen is not that of the run which is recorded now.
            next = next.absent();
        }
        next.now = self.now + SignedDuration::from_secs(1);
        let again = next.look();
        assert_eq!(again.status, decision.status, "a second look writes something else");
        self.assert_kept(&decision.status);
        if decision.action != Action::None {
            assert_eq!(again.action, decision.action, "what may have failed is not tried again");
        }
        decision
    }
}

fn message(decision: &Decision) -> &str {
    decision.status.message.as_deref().unwrap_or_default()
}

fn job_uid(decision: &Decision) -> Option<&str> {
    decision.status.run.as_ref()?.job_uid.as_deref()
}

fn run(decision: &Decision) -> (u32, &str) {
    let run = decision.status.run.as_ref().unwrap();
    (run.number, &run.job)
}

fn delete_of(uid: &str) -> Action {
    Action::Delete { name: "digits-0003".to_owned(), uid: uid.to_owned() }
}

/// (type, status, reason) of each condition.
fn conditions(decision: &Decision) -> Vec<(&str, bool, &str)> {
    let holds = |c: &Condition| c.status == crate::api::ConditionStatus::True;
    decision.status.conditions.iter().map(|c| (c.type_.as_str(), holds(c), c.reason.as_str())).collect()
}

#[track_caller]
fn assert_finished(decision: &Decision, phase: Phase, reason: &str) {
    assert_eq!(decision.status.phase, phase, "{decision:?}");
    assert_eq!(conditions(decision)[0], ("Finished", true, reason));
    assert!(decision.status.completion_time.is_some());
    assert_eq!(decision.action, Action::None);
}

#[track_caller]
fn assert_run_2_follows(decision: &Decision, why: &str) {
    assert_eq!(run(decision), (2, "digits-0003-r2"), "{decision:?}");
    assert_eq!(job_uid(decision), None);
    assert_eq!((decision.status.phase, decision.status.disruptions), (Phase::Pending, 1));
    assert_eq!(message(decision), format!("run 2 follows: {why}"));
    assert_eq!(decision.action, Action::Create);
    assert!(decision.status.observations.is_empty());
}

mod the_run_and_its_job {
    use super::*;

    #[test]
    fn a_run_is_recorded_before_its_job_is_created() {
        // The action is carried out once the status is written.
        let decision = proposed().decide();
        assert_eq!(run(&decision), (1, "digits-0003"));
        assert_eq!(job_uid(&decision), None);
        assert_eq!(decision.action, Action::Create);
        assert_eq!(conditions(&decision), [("Running", false, "Starting")]);
    }

    #[test]
    fn a_recorded_run_without_a_job_is_created_again_only_while_its_uid_is_unknown() {
        assert_eq!(recorded().decide().action, Action::Create);
        assert_run_2_follows(&with_job().absent().decide(), "its Job was deleted");
    }

    #[test]
    fn the_uid_of_the_job_is_recorded_once_it_is_seen() {
        assert_eq!(job_uid(&recorded().job(json!({})).decide()), Some("job-1"));
    }

    #[test]
    fn a_lost_job_is_followed_by_the_next_run_which_starts_without_observations() {
        let mut scene = running().reported(&[(1, 0.5)]);
        scene.checkpoint = true;
        let status = scene.decide().status;
        assert!(!status.observations.is_empty());
        assert_run_2_follows(&scene.with_status(status).absent().decide(), "its Job was deleted");
    }

    #[test]
    fn a_job_of_the_same_name_with_another_uid_is_deleted_by_its_uid_once() {
        let other = with_job().edit_job(|job| job.metadata.uid = Some("other".to_owned()));
        let decision = other.decide();
        assert_eq!(decision.action, delete_of("other"));
        assert_eq!(job_uid(&decision), Some("job-1"));
        let going = other.edit_job(|job| job.metadata.deletion_timestamp = Some(read(json!(NOW))));
        assert_eq!(going.decide().action, Action::None);
    }

    #[test]
    fn a_job_of_somebody_else_is_a_name_conflict() {
        let mut scene = recorded();
        scene.job = JobSeen::Foreign("Deployment web".to_owned());
        let decision = scene.decide();
        assert_eq!(decision.action, Action::None);
        assert_eq!(
            message(&decision),
            "NameConflict: the Job digits-0003 belongs to Deployment web: delete it, or rename the Study"
        );
        assert_eq!(conditions(&decision), [("Running", false, "NameConflict")]);
        // Nothing of the Trial runs: it can be stopped.
        assert_finished(&scene.stopped(Value::Null).decide(), Phase::Stopped, "Stopped");
    }

    #[test]
    fn a_job_that_goes_with_an_earlier_trial_is_waited_for() {
        let mut scene = recorded();
        scene.job = JobSeen::Leaving;
        let decision = scene.decide();
        assert_eq!(decision.action, Action::None);
        assert_eq!(message(&decision), "waiting: the Job digits-0003 of an earlier Trial is going");
    }

    #[test]
    fn a_deleted_job_is_waited_for() {
        let going = |scene: Scene| scene.edit_job(|job| job.metadata.deletion_timestamp = Some(read(json!(NOW))));
        for scene in [going(running()), going(running().pruned()), going(complete())] {
            let decision = scene.decide();
            assert_eq!(decision.action, Action::None);
            assert_eq!(decision.status.phase, Phase::Running);
            assert_eq!(message(&decision), "stopping: its pods are being terminated");
        }
    }

    #[test]
    fn a_refused_job_is_told_and_tried_again() {
        let scene = recorded();
        let old = scene.trial.status.clone().unwrap();
        let refused = refused(&scene.study.core, &old, "exceeded quota (403)", Some(1), scene.now);
        let decision = scene.with_status(refused.clone()).decide();
        assert_eq!(decision.status, refused);
        assert_eq!(message(&decision), "JobRefused: exceeded quota (403)");
        assert_eq!(decision.action, Action::Create);
    }

    #[test]
    fn more_than_ten_disruptions_fail() {
        let mut scene = with_job();
        for n in 2..=11 {
            let decision = scene.absent().decide();
            assert_eq!(run(&decision), (n, format!("digits-0003-r{n}").as_str()));
            scene = proposed().with_status(decision.status).job(json!({}));
            let status = scene.decide().status;
            scene = scene.with_status(status);
        }
        let decision = scene.absent().decide();
        assert_finished(&decision, Phase::Failed, "Lost");
        assert_eq!(
            message(&decision),
            "Lost: its Job was deleted; 10 earlier runs or pods had ended without the trainer's fault as well"
        );
        assert_eq!(decision.status.disruptions, 11);
    }
}

mod stopping {
    use super::*;

    #[test]
    fn a_stopped_trial_keeps_its_evidence_and_log_before_its_job_goes() {
        let decision = running().reported(&[(1, 0.2), (3, 0.1)]).log("epoch 3\n").pruned().decide();
        assert_eq!(decision.action, delete_of("job-1"));
        assert_eq!(decision.status.phase, Phase::Running);
        assert_eq!(decision.status.observations[0].steps, [1, 3]);
        assert_eq!(decision.status.log_tail.as_deref(), Some("epoch 3"));
    }

    #[test]
    fn evidence_that_is_being_read_again_after_a_restart_is_not_shortened() {
        let scene = running().reported(&[(1, 0.2), (2, 0.3), (3, 0.1)]).pruned();
        let status = scene.decide().status;
        let mut restarted = scene.with_status(status);
        restarted.reports = Reports::default();
        assert_eq!(restarted.reported(&[(1, 0.2)]).decide().status.observations[0].steps, [1, 2, 3]);
    }

    #[test]
    fn a_trial_is_pruned_by_the_pruner_and_stopped_by_the_study_or_a_user() {
        let pruned = running().pruned().absent().decide();
        assert_finished(&pruned, Phase::Pruned, "Pruned");
        assert_eq!(message(&pruned), "0.1 at step 3 is too low");
        let stop = json!({"reason": "TargetReached", "message": "the study has ended", "at": NOW});
        let stopped = running().stopped(stop).absent().decide();
        assert_finished(&stopped, Phase::Stopped, "Stopped");
        assert_eq!(message(&stopped), "TargetReached: the study has ended");
        let by_a_user = running().stopped(Value::Null).absent().decide();
        assert_finished(&by_a_user, Phase::Stopped, "Stopped");
        assert_eq!(message(&by_a_user), "stopped by a user");
    }

    #[test]
    fn a_trial_that_is_stopped_before_it_started_has_no_run() {
        for scene in [proposed(), recorded()] {
            assert_finished(&scene.stopped(Value::Null).decide(), Phase::Stopped, "Stopped");
        }
        assert_eq!(proposed().stopped(Value::Null).decide().status.run, None);
    }
}

mod a_trainer_that_ends_by_itself_once_it_is_to_be_stopped {
    use super::*;

    fn stopped_at(scene: Scene, at: &str) -> Scene {
        scene.stopped(json!({"reason": "Pruned", "message": "too low", "step": 1, "at": at}))
    }

    const AFTER_ITS_END: &str = "2026-03-01T12:00:25Z";
    const BEFORE_ITS_END: &str = "2026-03-01T12:00:15Z";

    #[test]
    fn has_succeeded_where_its_result_is_known_whenever_the_stop_was_decided() {
        let scene = complete().reported(&[(1, 0.5)]).all_read();
        for at in [AFTER_ITS_END, BEFORE_ITS_END] {
            assert_finished(&stopped_at(scene.clone(), at).decide(), Phase::Succeeded, "Succeeded");
        }
        // A user's stop does not say when, and was not carried out, or the Job would be going.
        assert_finished(&scene.stopped(Value::Null).decide(), Phase::Succeeded, "Succeeded");
    }

    #[test]
    fn is_waited_for_while_it_is_being_read() {
        let decision = stopped_at(complete(), AFTER_ITS_END).decide();
        assert_eq!((decision.status.phase, decision.action), (Phase::Running, Action::None));
    }

    #[test]
    fn does_not_count_where_nobody_knows_it_or_it_is_none() {
        let unknown = complete().reported(&[(1, 0.5)]).log_is_lost();
        let missing = complete().all_read();
        let evicted = with_condition(pod("pod-1", "Succeeded", exit(0)), "DisruptionTarget", "EvictionByEvictionAPI");
        let truncated = complete().pod(evicted).reported(&[(1, 0.5)]).all_read();
        let error = failed(exit(1)).reported(&[(1, 0.5)]);
        for scene in [unknown, missing, truncated, error] {
            assert_eq!(stopped_at(scene, AFTER_ITS_END).decide().action, delete_of("job-1"));
        }
    }

    #[test]
    fn is_not_deleted_before_its_job_has_told_how_it_ended() {
        let end = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-03-01T12:00:20Z"}});
        let ended = running().pod(pod("pod-1", "Succeeded", end)).reported(&[(1, 0.5)]);
        assert_eq!(stopped_at(ended.clone(), BEFORE_ITS_END).decide().action, Action::None);
        // But not for ever: another container may run on.
        assert_eq!(stopped_at(ended, BEFORE_ITS_END).at("2026-03-01T12:05:00Z").decide().action, delete_of("job-1"));
        let failed = running().pod(pod("pod-1", "Failed", exit(1)));
        assert_eq!(stopped_at(failed, BEFORE_ITS_END).decide().action, delete_of("job-1"));
    }

    #[test]
    fn is_pruned_once_its_job_is_gone_and_is_deleted_while_it_runs() {
        let scene = stopped_at(running().reported(&[(1, 0.5), (3, 0.7)]), BEFORE_ITS_END);
        let decision = scene.decide();
        assert_eq!(decision.action, delete_of("job-1"));
        let gone = scene.with_status(decision.status).absent().decide();
        assert_finished(&gone, Phase::Pruned, "Pruned");
        // The verdict was on step 1.
        assert_eq!(message(&gone), "too low; it had 0.7 at step 3 when it was stopped");
    }

    #[test]
    fn that_no_longer_improved_has_succeeded_with_what_it_had() {
        let patience = json!({"reason": "Patience", "message": "at step 3: 0.7", "step": 3, "at": BEFORE_ITS_END});
        let scene = running().reported(&[(1, 0.5), (3, 0.7)]).stopped(patience);
        let decision = scene.decide();
        assert_eq!(decision.action, delete_of("job-1"));
        let gone = scene.with_status(decision.status).absent().decide();
        assert_finished(&gone, Phase::Succeeded, "Succeeded");
        assert_eq!(gone.status.objectives[0].value, 0.7);
        assert_eq!(message(&gone), "ended early: at step 3: 0.7");
    }
}

mod the_report_timeout {
    use super::*;

    /// The trainer runs since 12:00:05, and may be silent for ten minutes.
    fn limited() -> Scene {
        let mut scene = running();
        scene.study.report_timeout = Some(SignedDuration::from_mins(10));
        scene.heard("2026-03-01T12:00:30Z")
    }

    impl Scene {
        fn heard(mut self, at: &str) -> Scene {
            self.reports.heard = Some(time(at));
            self.at(at)
        }

        fn last_report(mut self, at: &str) -> Scene {
            self.reports.readings.last = Some(time(at));
            self
        }
    }

    #[track_caller]
    fn assert_hung(scene: &Scene, after: &str) {
        let decision = scene.decide();
        assert_finished(&decision, Phase::Failed, "ReportTimeout");
        assert_eq!(
            message(&decision),
            format!("ReportTimeout: stopped as hung: nothing was reported for 10m (spec.reportTimeout) {after}")
        );
    }

    #[track_caller]
    fn assert_runs(scene: &Scene) {
        assert_eq!(scene.decide().status.phase, Phase::Running);
    }

    #[test]
    fn counts_from_the_trainer_s_start_then_from_its_last_report() {
        assert_runs(&limited().heard("2026-03-01T12:10:04Z"));
        assert_hung(&limited().heard("2026-03-01T12:10:05Z"), "since its trainer started");
        let reporting = limited().reported(&[(1, 0.5), (7, 0.6)]).last_report("2026-03-01T12:04:00Z");
        assert_runs(&reporting.clone().heard("2026-03-01T12:13:59Z"));
        assert_hung(&reporting.heard("2026-03-01T12:14:00Z"), "after step 7");
    }

    #[test]
    fn is_not_judged_while_the_log_is_not_heard_of() {
        // The node, or the connection, may be gone: that tells nothing of the trainer.
        assert_runs(&limited().at("2026-03-01T15:00:00Z"));
        let mut unheard = limited().at("2026-03-01T15:00:00Z");
        unheard.reports.heard = None;
        assert_runs(&unheard);
    }

    #[test]
    fn is_none_where_the_study_has_none_or_the_trainer_has_ended_or_its_pod_goes() {
        let late = limited().heard("2026-03-01T13:00:00Z");
        let mut unlimited = late.clone();
        unlimited.study.report_timeout = None;
        assert_runs(&unlimited);
        assert_runs(&late.clone().all_read());
        let mut going = pod("pod-1", "Running", running_state());
        going["metadata"]["deletionTimestamp"] = json!("2026-03-01T13:00:00Z");
        assert_runs(&late.pod(going));
    }

    #[test]
    fn of_a_queued_job_is_none() {
        let late = limited().heard("2026-03-01T13:00:00Z");
        let queued = late.edit_job(|job| job.spec.as_mut().unwrap().suspend = Some(true));
        assert_eq!(queued.decide().status.phase, Phase::Pending);
    }

    #[test]
    fn records_the_evidence_and_then_deletes_the_job() {
        let scene = limited().reported(&[(7, 0.6)]).log("epoch 7\n").heard("2026-03-01T13:00:00Z");
        let decision = scene.decide();
        assert_eq!(decision.action, Action::None);
        assert_eq!(decision.status.observations[0].steps, [7]);
        assert_eq!(decision.status.log_tail.as_deref(), Some("epoch 7"));
        let recorded = scene.with_status(decision.status);
        assert_eq!(recorded.decide().action, delete_of("job-1"));
    }

    #[test]
    fn is_looked_for_in_time() {
        let look = |at: &str| limited().at(at).decide().look_again.unwrap();
        assert_eq!(look("2026-03-01T12:00:30Z"), Duration::from_secs(60));
        assert_eq!(look("2026-03-01T12:09:45Z"), Duration::from_secs(20));
    }
}

mod what_cannot_start {
    use super::*;

    const LATE: &str = "2026-03-01T12:30:30Z";

    /// It has been seen in trouble since 12:00:30.
    fn stalled(scene: Scene) -> Scene {
        let status = scene.decide().status;
        assert!(status.conditions.iter().any(|condition| condition.type_ == "Stalled"), "{status:?}");
        scene.with_status(status)
    }

    fn without_image() -> Scene {
        stalled(with_job().pod(starting(waiting("ErrImagePull", "x"))))
    }

    fn without_pod() -> Scene {
        let mut scene = with_job();
        scene.trouble = Some(trouble("FailedCreate", "exceeded quota: q"));
        stalled(scene)
    }

    fn without_job() -> Scene {
        let scene = recorded();
        let status = refused(
            &scene.study.core,
            &scene.trial.status.clone().unwrap(),
            "exceeded quota (403)",
            Some(1),
            scene.now,
        );
        stalled(scene.with_status(status))
    }

    fn without_volume() -> Scene {
        let mut scene = with_job().pod(starting(waiting("ContainerCreating", "")));
        scene.trouble = Some(trouble("FailedMount", "secret \"s\" not found"));
        stalled(scene)
    }

    #[test]
    fn has_failed_after_half_an_hour_with_the_last_word_on_it() {
        let table = [
            (without_image(), "container trainer: image trainer:1 cannot be pulled (ImagePullBackOff)"),
            (without_pod(), "FailedCreate: exceeded quota: q"),
            (without_job(), "JobRefused: exceeded quota (403)"),
            (without_volume(), "FailedMount: secret \"s\" not found"),
        ];
        for (scene, words) in table {
            assert_eq!(scene.clone().at("2026-03-01T12:30:28Z").decide().status.phase, Phase::Pending);
            let decision = scene.clone().at(LATE).decide();
            assert_finished(&decision, Phase::Failed, "StartFailed");
            assert_eq!(message(&decision), format!("StartFailed: could not start for 30m: {words}"));
            assert_eq!(decision.status.disruptions, 0);
        }
    }

    #[test]
    fn has_its_job_deleted_once_that_is_recorded() {
        let scene = without_image().at(LATE);
        let status = scene.decide().status;
        assert_eq!(scene.with_status(status).decide().action, delete_of("job-1"));
    }

    #[test]
    fn has_its_time_again_once_something_has_started_or_is_waited_for() {
        let mut scheduling = starting(json!({}));
        scheduling["status"] = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"},
        ]});
        for pod in [pod("pod-1", "Running", running_state()), scheduling] {
            let status = without_image().pod(pod).at("2026-03-01T12:20:00Z").decide().status;
            let again = without_image().with_status(status).at("2026-03-01T12:40:00Z").decide();
            assert_eq!(again.status.phase, Phase::Pending);
        }
    }

    #[test]
    fn is_not_what_waits_for_gpus_or_in_a_queue() {
        let mut pod = starting(json!({}));
        pod["status"] = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"},
        ]});
        let queued = with_job().edit_job(|job| job.spec.as_mut().unwrap().suspend = Some(true));
        for scene in [with_job().pod(pod), queued] {
            let status = scene.decide().status;
            let decision = scene.with_status(status).at("2026-03-08T12:00:00Z").decide();
            assert_eq!((decision.status.phase, decision.action), (Phase::Pending, Action::None));
        }
    }

    #[test]
    fn keeps_its_time_when_the_words_change() {
        let other = without_image().pod(starting(waiting("CreateContainerConfigError", "secret \"s\" not found")));
        let status = other.at("2026-03-01T12:20:00Z").decide().status;
        let decision = without_image().with_status(status).at(LATE).decide();
        assert_finished(&decision, Phase::Failed, "StartFailed");
    }

    #[test]
    fn is_stopped_all_the_same() {
        assert_eq!(without_image().stopped(Value::Null).decide().action, delete_of("job-1"));
        assert_finished(&without_job().at(LATE).stopped(Value::Null).decide(), Phase::Stopped, "Stopped");
    }
}

mod pods_that_are_replaced {
    use super::*;

    fn replaced_by(scene: Scene, earlier: Option<Value>, uid: &str) -> Scene {
        let mut scene = scene.pod(pod(uid, "Running", running_state()));
        scene.replaced = earlier.map(read);
        scene.reports = Reports::default();
        scene
    }

    #[test]
    fn count_as_disruptions_unless_the_job_counts_them_as_failures() {
        let evicted = with_condition(pod("pod-1", "Failed", exit(143)), "DisruptionTarget", "EvictionByEvictionAPI");
        let crashed = pod("pod-1", "Failed", exit(1));
        for (earlier, disruptions) in [(None, 1), (Some(evicted), 1), (Some(crashed), 0)] {
            let decision = replaced_by(running(), earlier, "pod-2").decide();
            assert_eq!((decision.status.disruptions, decision.status.phase), (disruptions, Phase::Running));
            assert_eq!(run(&decision), (1, "digits-0003"));
        }
    }

    #[test]
    fn do_not_count_where_a_queue_took_its_job_back() {
        let queued = running().no_pod().edit_job(|job| job.spec.as_mut().unwrap().suspend = Some(true));
        let status = queued.decide().status;
        let resumed = replaced_by(running().with_status(status), None, "pod-2");
        assert_eq!(resumed.decide().status.disruptions, 0);
    }

    #[test]
    fn too_often_make_the_trial_fail_together_with_earlier_runs() {
        let mut scene = running();
        scene.trial.status.as_mut().unwrap().disruptions = 8;
        for (uid, disruptions) in [("pod-2", 9), ("pod-3", 10)] {
            let decision = replaced_by(scene.clone(), None, uid).decide();
            assert_eq!((decision.status.phase, decision.status.disruptions), (Phase::Running, disruptions));
            scene = scene.with_status(decision.status);
        }
        let decision = replaced_by(scene.clone(), None, "pod-4").decide();
        assert_finished(&decision, Phase::Failed, "Disrupted");
        assert_eq!(
            message(&decision),
            "Disrupted: its pod was replaced once more; 10 earlier runs or pods had ended without the trainer's fault as well"
        );
        assert_eq!(scene.with_status(decision.status).decide().action, delete_of("job-1"));
    }
}

mod a_pod_that_does_not_go {
    use super::*;

    fn going() -> Value {
        let mut pod = pod("pod-1", "Running", running_state());
        pod["metadata"]["deletionTimestamp"] = json!(NOW);
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(5);
        pod["spec"] = json!({"nodeName": "node-7", "containers": []});
        pod
    }

    #[test]
    fn is_told_with_its_node_and_what_to_do_in_words_that_change_seldom() {
        let deleted = |scene: Scene| scene.edit_job(|job| job.metadata.deletion_timestamp = Some(read(json!(NOW))));
        let stuck = |long: &str| {
            format!(
                "waiting: pod pod-1 has been terminating for more than {long} on node node-7, which may be dead: delete the pod with --force, or the node"
            )
        };
        for (at, long) in
            [("12:05:30", "5 min"), ("12:29:00", "5 min"), ("12:31:00", "30 min"), ("13:31:00", "an hour")]
        {
            let scene = running().pod(going()).at(&format!("2026-03-01T{at}Z"));
            assert_eq!(message(&scene.decide()), stuck(long));
            let decision = deleted(scene.pruned()).decide();
            assert_eq!((message(&decision), decision.status.phase), (stuck(long).as_str(), Phase::Running));
        }
        let decision = deleted(running().pod(going())).at("2026-03-01T12:05:20Z").decide();
        assert_eq!(message(&decision), "stopping: its pods are being terminated");
    }
}

mod the_result {
    use super::*;

    #[test]
    fn a_complete_job_with_an_objective_succeeds() {
        let decision = complete().reported(&[(1, 0.5), (2, 0.9)]).all_read().log("done").decide();
        assert_finished(&decision, Phase::Succeeded, "Succeeded");
        assert_eq!(decision.status.objectives[0].value, 0.9);
        assert_eq!(decision.status.objectives[0].step, Some(2));
        assert_eq!(decision.status.log_tail.as_deref(), Some("done"));
        assert_eq!(decision.status.message, None);
    }

    #[test]
    fn a_complete_job_without_metrics_has_failed_and_says_where_was_looked() {
        let file = complete().all_read().decide();
        assert_finished(&file, Phase::Failed, "MetricsMissing");
        assert_eq!(
            message(&file),
            r#"MetricsMissing: the trainer ended without reporting accuracy; looked for lines such as {"step": 1, "accuracy": 0.5} in the file $SWEEP_METRICS"#
        );
        let stdout = complete().stdout().decide();
        assert!(message(&stdout).ends_with("in the output of container trainer"), "{stdout:?}");
    }

    #[test]
    fn a_trial_whose_last_word_is_no_number_has_no_value_and_has_failed() {
        let scene = || complete().reported(&[(1, 0.5), (2, 0.9), (3, f64::NAN), (4, f64::INFINITY)]).all_read();
        let decision = scene().decide();
        assert_finished(&decision, Phase::Failed, "NotANumber");
        let why = "accuracy was NaN or infinite from step 3 on (last number: 0.9 at step 2)";
        assert_eq!(message(&decision), format!("NotANumber: {why}"));
        assert_eq!((decision.status.objectives.len(), decision.status.observations[0].steps.len()), (0, 2));
        let mut best = scene();
        best.study.core.objective.value = ValueOf::Best;
        let decision = best.decide();
        assert_finished(&decision, Phase::Succeeded, "Succeeded");
        assert_eq!((decision.status.objectives[0].value, message(&decision)), (0.9, why));
    }

    #[test]
    fn a_trainer_that_gives_up_on_nan_with_an_error_has_diverged_all_the_same() {
        let log = "AssertionError: accuracy is NaN";
        let scene = failed(exit(1)).reported(&[(1, 0.5), (2, f64::NAN)]).log(log);
        let decision = scene.decide();
        assert_finished(&decision, Phase::Failed, "TrainerFailed");
        assert_eq!(
            message(&decision),
            "TrainerFailed: container trainer exit code 1: AssertionError: accuracy is NaN; accuracy was NaN or infinite from step 2 on (last number: 0.5 at step 1)"
        );
        let trial = scene.with_status(decision.status);
        let seen = crate::api::core_trial(&trial.study.core, &trial.trial, None, false);
        assert_eq!((seen.failure, seen.value, seen.has_diverged()), (Some(Failure::Diverged), None, true));
        let plain = failed(exit(1)).reported(&[(1, 0.5)]);
        let status = plain.decide().status;
        let plain = plain.with_status(status);
        let seen = crate::api::core_trial(&plain.study.core, &plain.trial, None, false);
        assert_eq!((seen.failure, seen.has_diverged()), (Some(Failure::Error), false));
    }

    #[test]
    fn a_metric_that_was_not_read_is_quoted_from_the_trainer_s_output() {
        let decision = complete().stdout().log("epoch 1\nval accuracy 0.9\n").decide();
        let why = r#""val accuracy 0.9": neither = nor : stands between accuracy and the number"#;
        assert!(message(&decision).ends_with(&format!("; not read: {why}")), "{decision:?}");
        let decision = complete().all_read().log("epoch 1 accuracy=0.9\n").decide();
        let why = "it stands in the trainer's output: did you mean `metrics: {stdout: {}}`?";
        assert!(message(&decision).ends_with(why), "{decision:?}");
    }

    #[test]
    fn a_trial_that_reported_everything_in_its_last_second_is_marked_where_that_is_known() {
        let end = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-03-01T12:00:20Z"}});
        let scene = |begun: &str, first: &str| {
            let pod = pod("pod-1", "Succeeded", end.clone());
            let mut scene = complete().pod(pod).reported(&[(1, 0.5)]).all_read();
            (scene.reports.begun, scene.reports.readings.first) = (Some(time(begun)), Some(time(first)));
            scene
        };
        let cases = [
            ("2026-03-01T12:00:06Z", "2026-03-01T12:00:19.5Z", true),
            ("2026-03-01T12:00:06Z", "2026-03-01T12:00:12Z", false),
            // Read from its beginning by an operator that was started again.
            ("2026-03-01T12:00:18Z", "2026-03-01T12:00:19.5Z", false),
        ];
        for (begun, first, expected) in cases {
            assert_eq!(scene(begun, first).decide().status.reported_at_end, expected, "{begun} {first}");
        }
        let mut polled = scene(cases[0].0, cases[0].1);
        polled.reports.polled = true;
        assert!(!polled.decide().status.reported_at_end);
    }

    #[test]
    fn missing_metrics_are_told_with_what_was_dropped_and_what_is_wrong_with_the_file() {
        let mut scene = complete().all_read();
        scene.reports.readings.noted.dropped = Dropped { non_finite: 2, ..Dropped::default() };
        scene.reports.problem = Some("the file is a directory".to_owned());
        let decision = scene.decide();
        assert!(
            message(&decision).ends_with("; the file is a directory; dropped: 2 non-finite values"),
            "{decision:?}"
        );
        assert_eq!(conditions(&decision)[1], ("MetricsDropped", true, "LinesDropped"));
    }

    fn summary() -> Value {
        json!({
            "objectives": [{"metric": "accuracy", "last": {"step": 9, "value": 0.7}, "best": {"step": 6, "value": 0.8}}],
            "count": 9,
        })
    }

    #[test]
    fn where_the_log_is_lost_the_termination_message_has_the_last_and_the_best_value() {
        let pod = with_summary(pod("pod-1", "Succeeded", exit(0)), summary());
        let decision = complete().pod(pod).log_is_lost().reported(&[(1, 0.1), (2, 0.2)]).decide();
        assert_finished(&decision, Phase::Succeeded, "Succeeded");
        assert_eq!(decision.status.observations[0].steps, [1, 2, 6, 9]);
        assert_eq!(decision.status.observations[0].values, [0.1, 0.2, 0.8, 0.7]);
        assert_eq!(decision.status.objectives[0].value, 0.7);
    }

    #[test]
    fn a_divergence_that_only_the_termination_message_kept_is_recorded_and_the_last_number_is_no_value() {
        let summary = json!({
            "objectives": [{"metric": "accuracy", "last": {"step": 9, "value": "NaN"}, "best": {"step": 6, "value": 0.8}}],
            "count": 9,
        });
        let pod = with_summary(pod("pod-1", "Succeeded", exit(0)), summary);
        let scene = complete().pod(pod).log_is_lost().reported(&[(1, 0.1), (2, 0.2)]);
        let status = scene.decide().status;
        assert_eq!(status.objectives, []);
        assert_eq!(status.observations[0].steps, [1, 2, 6]);
        assert_eq!(observations(&scene.study.core, &status).diverged(), Some(9));
        assert_eq!(status.observations[0].diverged, Some(Divergence { first_step: 9, last_step: 9 }));
    }

    #[test]
    fn a_summary_without_the_objective_tells_that_it_was_never_reported() {
        let pod = with_summary(pod("pod-1", "Succeeded", exit(0)), json!({"count": 0}));
        assert_finished(&complete().pod(pod).log_is_lost().decide(), Phase::Failed, "MetricsMissing");
    }

    #[test]
    fn a_result_that_nobody_can_read_any_more_is_run_again() {
        let why = "its pod or log had vanished before the result was read";
        assert_run_2_follows(&complete().no_pod().at(LATER).decide(), why);
        assert_run_2_follows(&complete().log_is_lost().decide(), why);
        assert_run_2_follows(&complete().stdout().log_is_lost().decide(), why);
    }

    #[test]
    fn what_was_read_of_a_log_before_it_was_lost_is_no_result() {
        assert_run_2_follows(
            &complete().reported(&[(1, 0.1)]).log_is_lost().decide(),
            "its pod or log had vanished before the result was read",
        );
    }

    #[test]
    fn a_log_that_cannot_be_read_for_now_is_tried_again_and_then_lost() {
        for scene in [complete(), complete().stdout()] {
            let mut scene = scene.reported(&[(1, 0.1)]);
            scene.reports.unread = true;
            assert_eq!(scene.decide().status.phase, Phase::Running);
            assert_run_2_follows(&scene.at(LATER).decide(), "its pod or log had vanished before the result was read");
        }
    }

    #[test]
    fn late_reports_are_waited_for_up_to_a_limit_and_no_longer() {
        let scene = complete().reported(&[(1, 0.1)]);
        let decision = scene.decide();
        assert_eq!((decision.status.phase, decision.action), (Phase::Running, Action::None));
        assert!(decision.look_again.unwrap() < Duration::from_secs(1));
        assert_run_2_follows(
            &scene.at("2026-03-01T12:00:40Z").decide(),
            "its pod or log had vanished before the result was read",
        );
    }

    #[test]
    fn nothing_is_waited_for_once_all_that_the_summary_counts_was_read() {
        let summary = json!({"objectives": [], "count": 2});
        let pod = with_summary(pod("pod-1", "Succeeded", exit(0)), summary);
        let decision = complete().pod(pod).reported(&[(1, 0.1), (2, 0.2)]).decide();
        assert_finished(&decision, Phase::Succeeded, "Succeeded");
    }

    #[test]
    fn a_pod_that_is_not_seen_to_have_ended_is_waited_for() {
        for scene in [complete().no_pod(), complete().pod(pod("pod-1", "Running", running_state()))] {
            assert_eq!(scene.all_read().reported(&[(1, 0.1)]).decide().status.phase, Phase::Running);
        }
    }

    #[test]
    fn a_job_is_not_over_while_its_pods_terminate() {
        let target =
            json!({"conditions": [{"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": ENDED}]});
        let decision = complete().job(target).reported(&[(1, 0.1)]).all_read().decide();
        assert_eq!((decision.status.phase, decision.action), (Phase::Running, Action::None));
    }
}

mod failures {
    use super::*;

    #[track_caller]
    fn assert_fails(scene: Scene, words: &str) {
        assert_fails_as("TrainerFailed", scene, words);
    }

    #[track_caller]
    fn assert_fails_as(reason: &str, scene: Scene, words: &str) {
        let decision = scene.decide();
        assert_finished(&decision, Phase::Failed, reason);
        assert_eq!(message(&decision), format!("{reason}: {words}"));
        assert_eq!(decision.status.disruptions, 0);
    }

    #[test]
    fn a_failure_is_told_by_exit_code_signal_or_memory_and_the_last_line_of_the_log() {
        assert_fails(failed(exit(3)), "container trainer exit code 3");
        assert_fails(failed(exit(139)), "container trainer was killed by signal 11 (exit code 139)");
        let oom = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        assert_fails_as(
            "OutOfMemory",
            failed(oom),
            "container trainer was killed for using more memory than its limit (OOMKilled, exit code 137)",
        );
        let log = "epoch 1\nKeyError: 'lr'\n\n";
        assert_fails(failed(exit(1)).log(log), "container trainer exit code 1: KeyError: 'lr'");
        let log = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.\n";
        let words = "container trainer exit code 1: torch.OutOfMemoryError: CUDA out of memory.";
        assert_fails_as("OutOfMemory", failed(exit(1)).log(log), words);
    }

    #[test]
    fn a_failed_trainer_s_observations_are_kept() {
        let decision = failed(exit(1)).reported(&[(1, 0.4)]).decide();
        assert_eq!(decision.status.observations[0].values, [0.4]);
    }

    #[test]
    fn a_failed_job_whose_pod_is_gone_runs_again_since_nobody_knows_how_it_ended() {
        let decision = failed(exit(1)).no_pod().at(LATER).decide();
        assert_run_2_follows(&decision, "its pod had vanished before it was known how it ended");
    }

    #[test]
    fn a_job_beyond_its_deadline_is_told_in_the_job_s_words() {
        let mut late = ended("Failed");
        late["conditions"][1]["reason"] = json!("DeadlineExceeded");
        assert_fails_as("DeadlineExceeded", running().job(late).no_pod().at(LATER), "the Job's own words");
    }

    #[test]
    fn a_pod_that_was_deleted_while_its_trainer_ran_is_not_the_trainer_s_failure() {
        let mut end = exit(137);
        end["terminated"]["finishedAt"] = json!("2026-03-01T12:00:30Z");
        let mut deleted = pod("pod-1", "Failed", end);
        deleted["metadata"]["deletionGracePeriodSeconds"] = json!(5);
        deleted["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:30Z");
        assert_run_2_follows(&failed(exit(137)).pod(deleted.clone()).decide(), "its pod was deleted");
        // Asked to go only after it had ended: its end is its own.
        deleted["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:01:00Z");
        assert_fails(failed(exit(137)).pod(deleted), "container trainer was killed by signal 9 (exit code 137)");
    }

    #[test]
    fn a_pod_that_outgrew_its_storage_has_failed_and_says_so() {
        let mut evicted = pod("pod-1", "Failed", exit(137));
        evicted["status"]["reason"] = json!("Evicted");
        evicted["status"]["message"] =
            json!("Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ");
        assert_fails(
            failed(exit(137)).pod(evicted),
            "pod Evicted: Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
        );
    }

    #[test]
    fn a_deadline_of_the_pod_is_the_template_s_and_fails() {
        let mut late = starting(waiting("ContainerCreating", ""));
        late["status"]["phase"] = json!("Failed");
        late["status"]["reason"] = json!("DeadlineExceeded");
        late["status"]["message"] = json!("Pod was active too long");
        assert_fails_as("DeadlineExceeded", failed(exit(1)).pod(late), "pod DeadlineExceeded: Pod was active too long");
    }

    #[test]
    fn an_evicted_or_preempted_pod_is_not_the_trainer_s_failure() {
        for reason in ["EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet"] {
            let pod = with_condition(pod("pod-1", "Failed", exit(143)), "DisruptionTarget", reason);
            let decision = failed(exit(143)).pod(pod).reported(&[(1, 0.4)]).decide();
            assert_run_2_follows(&decision, &format!("its pod was disrupted ({reason})"));
        }
    }

    #[test]
    fn a_pod_that_the_node_rejected_before_the_trainer_started_is_not_the_trainer_s_failure() {
        let mut rejected = starting(json!({}));
        rejected["status"] = json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no cpu"});
        // No log can come of it, and none is waited for.
        let scene = running().job(ended("Failed")).pod(rejected);
        assert_run_2_follows(&scene.decide(), "the node rejected its pod before the trainer started (OutOfcpu)");
    }

    /// A pod as its status and metadata say.
    fn ended_pod(reason: Option<&str>, words: &str, trainer: Value, target: Option<&str>) -> Value {
        let mut pod = pod("pod-1", "Failed", trainer);
        pod["status"]["message"] = json!(words);
        if let Some(reason) = reason {
            pod["status"]["reason"] = json!(reason);
        }
        match target {
            Some(target) => with_condition(pod, "DisruptionTarget", target),
            None => pod,
        }
    }

    #[test]
    fn the_trainer_s_failures_are_told_from_those_of_others() {
        let (killed, lost) =
            (exit(137), || json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}));
        let oom = || json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let never = || json!({});
        let (kubelet, low) = (Some("TerminationByKubelet"), "The node was low on resource: memory. ");
        // reason, message and trainer of the pod, its DisruptionTarget; who made it end.
        let table = [
            (None, "", exit(1), None, "TrainerFailed"),
            (None, "", exit(137), None, "TrainerFailed"),
            (None, "", exit(127), None, "StartFailed"),
            (None, "", json!({"terminated": {"exitCode": 128, "reason": "StartError"}}), None, "StartFailed"),
            (None, "", oom(), None, "OutOfMemory"),
            (None, "", oom(), Some("EvictionByEvictionAPI"), "OutOfMemory"),
            (Some("DeadlineExceeded"), "Pod was active too long", killed.clone(), None, "DeadlineExceeded"),
            (Some("DeadlineExceeded"), "Pod was active too long", never(), None, "DeadlineExceeded"),
            (
                Some("Evicted"),
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
                lost(),
                None,
                "TrainerFailed",
            ),
            (
                Some("Evicted"),
                "Container trainer exceeded its local ephemeral storage limit \"1Gi\". ",
                lost(),
                kubelet,
                "TrainerFailed",
            ),
            (
                Some("Evicted"),
                "Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Gi\". ",
                killed,
                kubelet,
                "TrainerFailed",
            ),
            (Some("Evicted"), low, lost(), kubelet, "its pod was disrupted (TerminationByKubelet)"),
            (Some("Evicted"), low, exit(1), None, "the node ended its pod (Evicted)"),
            (None, "", exit(1), Some("EvictionByEvictionAPI"), "its pod was disrupted (EvictionByEvictionAPI)"),
            (None, "", exit(0), Some("EvictionByEvictionAPI"), "its pod was disrupted (EvictionByEvictionAPI)"),
            (None, "", exit(143), Some("PreemptionByScheduler"), "its pod was disrupted (PreemptionByScheduler)"),
            (None, "", exit(143), Some("DeletionByTaintManager"), "its pod was disrupted (DeletionByTaintManager)"),
            (None, "", running_state(), Some("DeletionByPodGC"), "its pod was disrupted (DeletionByPodGC)"),
            (
                Some("Preempting"),
                "Preempted in order to admit critical pod",
                exit(143),
                kubelet,
                "its pod was disrupted (TerminationByKubelet)",
            ),
            (
                Some("Terminated"),
                "Pod was terminated in response to imminent node shutdown.",
                exit(143),
                None,
                "the node ended its pod (Terminated)",
            ),
            (Some("Shutdown"), "Node is shutting down", exit(143), None, "the node ended its pod (Shutdown)"),
            (Some("NodeLost"), "Node is gone", running_state(), None, "the node ended its pod (NodeLost)"),
            (
                Some("NodeShutdown"),
                "Pod was rejected as the node is shutting down.",
                never(),
                None,
                "the node ended its pod (NodeShutdown)",
            ),
            (
                Some("OutOfcpu"),
                "no cpu",
                never(),
                None,
                "the node rejected its pod before the trainer started (OutOfcpu)",
            ),
            (
                Some("UnexpectedAdmissionError"),
                "no GPU",
                never(),
                None,
                "the node rejected its pod before the trainer started (UnexpectedAdmissionError)",
            ),
            (
                Some("NodeAffinity"),
                "labels",
                never(),
                None,
                "the node rejected its pod before the trainer started (NodeAffinity)",
            ),
            (None, "", lost(), None, "the node lost track of its pod (ContainerStatusUnknown)"),
        ];
        for (reason, words, trainer, target, whose) in table {
            let decision = failed(exit(1)).pod(ended_pod(reason, words, trainer, target)).decide();
            match whose {
                reason if !reason.contains(' ') => assert_finished(&decision, Phase::Failed, reason),
                why => assert_run_2_follows(&decision, why),
            }
        }
    }

    #[test]
    fn a_disruption_after_the_trainer_s_end_has_not_made_it() {
        // Clocks may be five seconds apart: within them the disruption is taken to come first.
        for (at, counts) in
            [("2026-03-01T12:00:20Z", false), ("2026-03-01T12:00:24Z", false), ("2026-03-01T12:00:30Z", true)]
        {
            let trainer = json!({"terminated": {"exitCode": 0, "finishedAt": "2026-03-01T12:00:19Z"}});
            let mut pod =
                with_condition(pod("pod-1", "Succeeded", trainer), "DisruptionTarget", "DeletionByTaintManager");
            pod["status"]["conditions"][0]["lastTransitionTime"] = json!(at);
            let decision = complete().pod(pod).reported(&[(1, 0.4)]).all_read().decide();
            match counts {
                true => assert_finished(&decision, Phase::Succeeded, "Succeeded"),
                false => assert_run_2_follows(&decision, "its pod was disrupted (DeletionByTaintManager)"),
            }
        }
    }

    #[test]
    fn a_trainer_that_cannot_be_started_says_why() {
        let end =
            json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \"trian\": not found\n"}});
        assert_fails_as(
            "StartFailed",
            failed(end),
            "container trainer could not be started (exit code 128): exec: \"trian\": not found",
        );
    }

    #[test]
    fn a_success_while_being_disrupted_does_not_count() {
        let pod = with_condition(pod("pod-1", "Succeeded", exit(0)), "DisruptionTarget", "EvictionByEvictionAPI");
        let decision = complete().pod(pod).reported(&[(1, 0.4)]).all_read().decide();
        assert_run_2_follows(&decision, "its pod was disrupted (EvictionByEvictionAPI)");
    }
}

mod an_indexed_job {
    use super::*;

    fn of_index(mut pod: Value, index: &str) -> Value {
        pod["metadata"]["labels"] = json!({"batch.kubernetes.io/job-completion-index": index});
        pod
    }

    /// Its Job is Failed since pod 1 ended like this; then the Job has deleted pod 0.
    fn fellow_failed(trainer: Value) -> Scene {
        let mut scene = running().reported(&[(1, 0.5)]).log("epoch 1").job(ended("Failed")).no_pod();
        let pods = [std::sync::Arc::new(read::<Pod>(of_index(pod("pod-b", "Failed", trainer), "1")))];
        scene.fellow = pods::failed_fellow(&pods, "trainer").cloned();
        scene
    }

    fn deleted_pod_0(phase: &str, trainer: Value) -> Value {
        let mut pod = of_index(pod("pod-1", phase, trainer), "0");
        pod["metadata"]["deletionTimestamp"] = json!(ENDED);
        pod
    }

    #[test]
    fn has_failed_with_any_of_its_pods_whether_pod_0_is_gone_or_going() {
        let gone = fellow_failed(exit(3));
        let going = gone.clone().pod(deleted_pod_0("Failed", exit(143))).all_read();
        for scene in [gone, going] {
            let decision = scene.decide();
            assert_eq!(decision.status.phase, Phase::Failed);
            assert_eq!(message(&decision), "TrainerFailed: pod 1: container trainer exit code 3");
            assert_eq!((run(&decision).0, decision.status.disruptions), (1, 0));
        }
    }

    #[test]
    fn is_run_again_where_pod_0_was_disrupted_and_its_fellow_failed_with_it() {
        let pod_0 = with_condition(deleted_pod_0("Failed", exit(143)), "DisruptionTarget", "EvictionByEvictionAPI");
        let decision = fellow_failed(exit(3)).pod(pod_0).all_read().decide();
        assert_eq!((run(&decision).0, decision.status.disruptions), (2, 1));
    }

    #[test]
    fn has_failed_for_pod_0_s_own_reason_where_that_failed_by_itself() {
        let decision = fellow_failed(exit(3)).pod(of_index(pod("pod-1", "Failed", exit(7)), "0")).all_read().decide();
        assert_eq!(message(&decision), "TrainerFailed: container trainer exit code 7: epoch 1");
        let decision =
            fellow_failed(exit(3)).pod(of_index(pod("pod-1", "Succeeded", exit(0)), "0")).all_read().decide();
        assert!(message(&decision).starts_with("TrainerFailed: pod 1: container trainer exit code 3"));
    }

    #[test]
    fn a_fellow_that_was_disrupted_or_runs_has_not_failed() {
        let disrupted = with_condition(pod("pod-b", "Failed", exit(143)), "DisruptionTarget", "EvictionByEvictionAPI");
        for fellow in [of_index(disrupted, "1"), of_index(pod("pod-b", "Running", running_state()), "1")] {
            let pods = [std::sync::Arc::new(read::<Pod>(fellow))];
            assert_eq!(pods::failed_fellow(&pods, "trainer"), None);
        }
        let pods = [std::sync::Arc::new(read::<Pod>(of_index(pod("pod-1", "Failed", exit(3)), "0")))];
        assert_eq!(pods::failed_fellow(&pods, "trainer"), None, "pod 0 is none");
    }
}

mod waiting_and_running {
    use super::*;

    #[track_caller]
    fn assert_waits(scene: Scene, reason: &str, words: &str) {
        let decision = scene.decide();
        assert_eq!((decision.status.phase, &decision.action), (Phase::Pending, &Action::None));
        assert_eq!(message(&decision), words);
        assert_eq!(conditions(&decision), [("Running", false, reason)]);
    }

    #[track_caller]
    fn assert_stalls(scene: Scene, reason: &str, words: &str) {
        let decision = scene.decide();
        assert_eq!((decision.status.phase, &decision.action), (Phase::Pending, &Action::None));
        assert_eq!(message(&decision), words);
        assert_eq!(conditions(&decision), [("Running", false, reason), ("Stalled", true, reason)]);
    }

    #[test]
    fn the_trouble_of_a_pod_is_told() {
        let scene = |trainer| with_job().pod(starting(trainer));
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            assert_stalls(
                scene(waiting(reason, "rpc error: attempt 7")),
                "ImagePullBackOff",
                "container trainer: image trainer:1 cannot be pulled (ImagePullBackOff)",
            );
        }
        assert_stalls(
            scene(waiting("CreateContainerConfigError", "secret \"s\" not found")),
            "CreateContainerConfigError",
            "container trainer: CreateContainerConfigError: secret \"s\" not found",
        );
        assert_stalls(
            scene(waiting("InvalidImageName", "x")),
            "InvalidImageName",
            "container trainer: \"trainer:1\" is not the name of an image (InvalidImageName)",
        );
        assert_waits(scene(waiting("ContainerCreating", "")), "Starting", "its pod is starting");
    }

    #[test]
    fn a_message_does_not_change_with_the_container_id_of_each_attempt() {
        let attempt = |id: &str| {
            let message = format!("failed to generate container \"{id}\" spec: no command specified");
            with_job().pod(starting(waiting("CreateContainerError", &message)))
        };
        for id in ["0123456789abcdef", "fedcba9876543210"] {
            assert_stalls(
                attempt(&id.repeat(4)),
                "CreateContainerError",
                "container trainer: CreateContainerError: failed to generate container \"…\" spec: no command specified",
            );
        }
    }

    #[test]
    fn a_pod_that_no_node_takes_is_told_in_plain_words() {
        let mut pod = starting(json!({}));
        pod["status"] = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: none.",
        }]});
        assert_waits(with_job().pod(pod), "Unschedulable", "0/4 nodes have a free nvidia.com/gpu");
    }

    #[test]
    fn a_job_that_was_created_a_moment_ago_costs_no_write() {
        let fresh = |job: &mut Job| job.metadata.creation_timestamp = Some(read(json!("2026-03-01T12:00:25Z")));
        let scenes = [recorded().job(json!({})), recorded().job(json!({})).pod(starting(json!({})))];
        for scene in scenes {
            let decision = scene.clone().edit_job(fresh).look();
            assert_eq!(Some(&decision.status), scene.trial.status.as_ref());
            assert!(decision.look_again.unwrap() < Duration::from_secs(10));
        }
    }

    #[test]
    fn why_a_job_has_no_pod_is_told() {
        let mut scene = with_job();
        assert_waits(scene.clone(), "NoPod", "its Job has no pod yet");
        scene.trouble = Some(trouble("FailedCreate", "exceeded quota"));
        assert_stalls(scene, "FailedCreate", "FailedCreate: exceeded quota");
    }

    #[test]
    fn a_suspended_job_is_queued_and_has_not_failed() {
        let scene = running().no_pod().edit_job(|job| job.spec.as_mut().unwrap().suspend = Some(true));
        assert_waits(scene, "Queued", "queued: its Job is suspended");
    }

    #[test]
    fn a_running_trainer_makes_a_running_trial() {
        let decision = running().decide();
        assert_eq!(decision.status.phase, Phase::Running);
        assert_eq!(decision.status.start_time, Some(MicroTime(time("2026-03-01T12:00:05Z"))));
        assert_eq!(conditions(&decision), [("Running", true, "TrainerRuns")]);
        assert_eq!(decision.status.run.unwrap().attempts, 1);
    }

    #[test]
    fn a_sidecar_that_crashes_over_and_over_does_not_make_the_trial_flap() {
        let mut crashing = pod("pod-1", "Running", running_state());
        crashing["status"]["initContainerStatuses"] =
            json!([container("sweep-sidecar", waiting("CrashLoopBackOff", "back-off 10s"))]);
        assert_eq!(running().pod(crashing).decide().status, running().decide().status);
    }

    #[test]
    fn a_report_costs_no_write_but_at_a_checkpoint() {
        let mut scene = running().reported(&[(1, 0.5)]);
        assert_eq!(Some(scene.decide().status), scene.trial.status);
        scene.checkpoint = true;
        assert_eq!(scene.decide().status.observations[0].values, [0.5]);
    }

    #[test]
    fn a_write_that_is_due_anyway_takes_along_what_was_reported() {
        let mut scene = running().reported(&[(1, 0.5), (2, 0.6)]);
        // The first pass that sees the trainer run.
        scene.trial.status.as_mut().unwrap().phase = Phase::Pending;
        let status = scene.decide().status;
        assert_eq!(
            (status.phase, status.objectives[0].value, status.objectives[0].step),
            (Phase::Running, 0.6, Some(2))
        );
        assert_eq!(scene.with_status(status.clone()).reported(&[(1, 0.5), (2, 0.6), (3, 0.7)]).decide().status, status);
    }

    #[test]
    fn another_pod_is_another_attempt_and_starts_without_observations() {
        let mut scene = running().reported(&[(1, 0.5), (2, 0.6)]);
        scene.checkpoint = true;
        let status = scene.decide().status;
        let mut replaced = scene.with_status(status).pod(pod("pod-2", "Running", running_state()));
        replaced.reports = Reports::default();
        let decision = replaced.decide();
        let run = decision.status.run.clone().unwrap();
        assert_eq!((run.number, run.attempts, run.pod_uid.as_deref()), (1, 2, Some("pod-2")));
        assert!(decision.status.observations.is_empty() && decision.status.objectives.is_empty());
        // Steps that start again at 1 stand in for the older ones.
        let again = replaced.with_status(decision.status).reported(&[(1, 0.1)]).decide();
        assert_eq!(again.status.observations[0].values, [0.1]);
    }

    #[test]
    fn of_an_indexed_job_pod_0_counts_and_of_several_attempts_the_newest() {
        let pod = |uid: &str, index: Option<&str>, created: &str| {
            let mut pod = pod(uid, "Running", running_state());
            pod["metadata"]["creationTimestamp"] = json!(created);
            if let Some(index) = index {
                pod["metadata"]["labels"] = json!({"batch.kubernetes.io/job-completion-index": index});
            }
            std::sync::Arc::new(read::<Pod>(pod))
        };
        let newest = |pods: &[std::sync::Arc<Pod>]| pods::newest(pods).and_then(ResourceExt::uid);
        let (early, late) = ("2026-03-01T12:00:00Z", "2026-03-01T12:00:09Z");
        assert_eq!(newest(&[pod("a", Some("1"), late), pod("b", Some("0"), early)]).as_deref(), Some("b"));
        assert_eq!(newest(&[pod("a", None, early), pod("b", None, late)]).as_deref(), Some("b"));
        assert_eq!(newest(&[pod("a", Some("1"), late)]), None);
    }
}

mod after_the_end {
    use super::*;

    fn finished(scene: Scene) -> Scene {
        let status = scene.decide().status;
        assert!(status.phase.is_finished());
        scene.with_status(status)
    }

    #[test]
    fn a_finished_trial_s_job_is_marked_and_gets_its_ttl_once_and_the_status_is_never_written_again() {
        let scene = finished(complete().reported(&[(1, 0.5)]).all_read());
        assert_eq!(scene.decide().action, expire(Some(600)));
        // One that has a TTL of its own, such as of a template, is marked all the same.
        let scene = scene.edit_job(|job| job.spec.as_mut().unwrap().ttl_seconds_after_finished = Some(600));
        assert_eq!(scene.decide().action, expire(None));
        let scene = scene.edit_job(marked);
        assert_eq!((scene.decide().action, scene.decide().look_again), (Action::None, None));
        assert_eq!(scene.absent().at(LATER).decide().action, Action::None);
    }

    #[test]
    fn the_best_trial_s_job_gets_its_ttl_once_it_is_the_best_no_more() {
        let scene = Scene { is_best: true, ..finished(complete().reported(&[(1, 0.5)]).all_read()) };
        assert_eq!(scene.decide().action, expire(None));
        let scene = scene.edit_job(marked);
        assert_eq!(scene.decide().action, Action::None);
        assert_eq!(Scene { is_best: false, ..scene }.decide().action, expire(Some(600)));
    }

    fn expire(seconds: Option<i64>) -> Action {
        Action::Expire { name: "digits-0003".to_owned(), uid: "job-1".to_owned(), seconds }
    }

    fn marked(job: &mut Job) {
        job.metadata.labels.get_or_insert_default().insert(crate::api::LABEL_RECORDED.to_owned(), "true".to_owned());
    }

    #[test]
    fn a_finished_trial_is_not_stopped_any_more() {
        let scene = finished(complete().reported(&[(1, 0.5)]).all_read());
        assert_eq!(scene.stopped(Value::Null).decide().status.phase, Phase::Succeeded);
    }

    #[test]
    fn a_job_that_still_runs_for_a_finished_trial_is_deleted() {
        let scene = finished(recorded().stopped(Value::Null)).job(json!({}));
        assert_eq!(scene.decide().action, delete_of("job-1"));
    }
}

#[test]
fn whatever_is_seen_a_second_look_writes_nothing_more() {
    let bases = [recorded(), with_job(), running(), running().pruned(), recorded().stopped(Value::Null)];
    let jobs = [json!({}), ended("Complete"), ended("Failed")];
    let evicted = |phase| with_condition(pod("pod-1", phase, exit(143)), "DisruptionTarget", "EvictionByEvictionAPI");
    let pods = [
        starting(waiting("ErrImagePull", "x")),
        pod("pod-1", "Running", running_state()),
        pod("pod-2", "Running", running_state()),
        pod("pod-1", "Succeeded", exit(0)),
        pod("pod-2", "Failed", exit(1)),
        with_summary(pod("pod-1", "Succeeded", exit(0)), json!({"count": 3})),
        evicted("Failed"),
        evicted("Running"),
        json!({"metadata": {"name": "pod-3", "uid": "pod-3"}}),
    ];
    let finishes =
        |scene: Scene| [scene.clone(), scene.clone().all_read(), scene.clone().log_is_lost(), scene.at(LATER)];
    for base in bases {
        base.clone().absent().decide();
        for job in &jobs {
            let with_job = base.clone().job(job.clone());
            for scene in finishes(with_job.clone().no_pod()) {
                scene.decide();
            }
            for pod in &pods {
                for scene in finishes(with_job.clone().pod(pod.clone()).reported(&[(1, 0.3), (2, 0.2)]).log("line")) {
                    scene.decide();
                    Scene { checkpoint: true, ..scene }.decide();
                }
            }
        }
    }
}

/// A Trial ends the same as a Job and as a process: each ending is seen by the observers of both shells, and lived
/// through by the one life.
mod both_shells {
    use super::*;
    use crate::core::life::RunSeen;
    use crate::job::Deadline;
    use crate::local::process::{Exit, Metrics, Progress, run_seen};
    use crate::local::records::{Read, steps};

    const STARTED: &str = "2026-03-01T12:00:05Z";

    /// Lives on until the Trial has ended; what was deleted is not there any more.
    fn in_a_cluster(mut scene: Scene) -> TrialStatus {
        for _ in 0..3 {
            let decision = scene.look();
            scene = scene.with_status(decision.status);
            if matches!(decision.action, Action::Delete { .. }) {
                scene = scene.absent();
            }
        }
        scene.trial.status.unwrap()
    }

    /// The same Trial as a process, whose trainer ends as `progress` says.
    fn as_a_process(scene: &Scene, progress: Progress) -> TrialStatus {
        let (study, readings) = (&scene.study, scene.reports.readings.clone());
        let source = study.template.source;
        let log = scene.log_tail.clone().unwrap_or_default();
        let (content, printed, metrics) = match source {
            Source::Stdout => (Some(log.clone()), None, Metrics::Output("m.jsonl".into())),
            _ => (Some(String::new()), Some(log.clone()), Metrics::File("m.jsonl".into())),
        };
        let read = Read {
            began: Some(time(STARTED)),
            reported: readings.last,
            readings,
            place: metrics.place(),
            content,
            printed,
            log: Some(log),
            problem: None,
        };
        let seen = |progress| run_seen("digits-0003", time(STARTED), progress, scene.now);
        let mut trial = proposed().trial;
        let start = [RunSeen::Absent, seen(Progress::Runs)];
        trial.status = Some(steps(study, &trial, &start, &Read::default(), time(STARTED)).0);
        assert_eq!(trial.status.as_ref().unwrap().phase, Phase::Running);
        trial.spec = scene.trial.spec.clone();
        trial.status = Some(steps(study, &trial, &[seen(progress), RunSeen::Absent], &read, scene.now).0);
        trial.status.unwrap()
    }

    /// Phase, reason and message, and what was observed; the message without the noun.
    fn ending(status: &TrialStatus) -> (Phase, String, String, Vec<crate::api::ObservationSeries>) {
        let message = status.message.clone().unwrap_or_default();
        let message = message.replace("container trainer", "trainer").replace("the trainer (m.jsonl)", "trainer");
        let message = message.replace(" (m.jsonl)", "").replace("its process was lost", "its Job was deleted");
        (status.phase, status.conditions[0].reason.clone(), message, status.observations.clone())
    }

    fn code(code: i32) -> Progress {
        Progress::Ended(Exit::Code(code), time(ENDED))
    }

    fn stopped(reason: &str, at: &str) -> Value {
        json!({"reason": reason, "message": "as it was decided", "step": 3, "at": at})
    }

    fn hung(scene: Scene) -> Scene {
        let mut scene = scene.at("2026-03-01T13:00:00Z");
        scene.study.report_timeout = Some(SignedDuration::from_mins(10));
        scene.reports.heard = Some(scene.now);
        scene
    }

    fn late_job() -> Scene {
        let mut late = ended("Failed");
        late["conditions"][1]["reason"] = json!("DeadlineExceeded");
        late["conditions"][1]["message"] = json!("Job was active longer than specified deadline");
        running().job(late).no_pod().at(LATER)
    }

    fn late_pod() -> Scene {
        let mut late = pod("pod-1", "Failed", exit(137));
        late["status"]["reason"] = json!("DeadlineExceeded");
        late["status"]["message"] = json!("Pod was active on the node longer than the specified deadline");
        failed(exit(137)).pod(late)
    }

    /// What ends the Trial in a cluster and as a process, and its reason.
    fn endings() -> Vec<(&'static str, Scene, Progress)> {
        let (nan, some) = (f64::NAN, [(1, 0.5), (2, 0.9)]);
        let complete = || complete().all_read().log("epoch 2");
        let best = |mut scene: Scene| {
            scene.study.core.objective.value = ValueOf::Best;
            scene
        };
        let dropped = |mut scene: Scene| {
            scene.reports.readings.noted.dropped = Dropped { non_finite: 2, ..Dropped::default() };
            scene
        };
        let memory = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.\n";
        let none = || complete().log("");
        vec![
            ("Succeeded", complete().reported(&some), code(0)),
            ("Succeeded", best(complete().reported(&[(1, 0.5), (2, nan)])), code(0)),
            (
                "Succeeded",
                complete().reported(&some).stopped(stopped("TargetReached", "2026-03-01T12:00:25Z")),
                code(0),
            ),
            ("NotANumber", complete().reported(&[(1, 0.5), (2, nan)]), code(0)),
            ("NotANumber", complete().reported(&[(1, nan)]), code(0)),
            ("MetricsMissing", complete(), code(0)),
            ("MetricsMissing", complete().log("epoch 1 accuracy=0.9"), code(0)),
            ("MetricsMissing", complete().stdout(), code(0)),
            ("MetricsMissing", complete().stdout().log("epoch 1\nval accuracy 0.9 loss=0.1"), code(0)),
            ("MetricsMissing", dropped(none()), code(0)),
            ("TrainerFailed", failed(exit(1)), code(1)),
            ("TrainerFailed", failed(exit(3)).reported(&some).log("epoch 1\nKeyError: 'lr'\n"), code(3)),
            ("TrainerFailed", failed(exit(1)).reported(&[(1, 0.5), (2, nan)]).log("AssertionError: NaN"), code(1)),
            ("TrainerFailed", failed(exit(139)), code(139)),
            ("TrainerFailed", failed(exit(137)), code(137)),
            ("OutOfMemory", failed(exit(1)).log(memory), code(1)),
            ("StartFailed", failed(exit(127)).log("sh: 1: pyhton: not found"), code(127)),
            ("StartFailed", failed(exit(126)).log("sh: 1: train.py: Permission denied"), code(126)),
            ("Pruned", running().reported(&some).stopped(stopped("Pruned", NOW)), code(143)),
            ("Succeeded", complete().reported(&some).stopped(stopped("Pruned", "2026-03-01T12:00:15Z")), code(0)),
            ("Stopped", running().reported(&some).stopped(stopped("MaxDurationReached", NOW)), code(143)),
            ("Stopped", running().stopped(Value::Null), code(143)),
            ("ReportTimeout", hung(running()), Progress::Runs),
            ("ReportTimeout", hung(running().reported(&some).log("epoch 2")), Progress::Runs),
            ("DeadlineExceeded", late_job().log("epoch 2"), Progress::Overdue(Deadline::Job(2))),
            ("DeadlineExceeded", late_pod().log("epoch 2"), Progress::Overdue(Deadline::Pod(2))),
        ]
    }

    #[test]
    fn say_the_same_of_how_a_trial_ended() {
        let endings = endings();
        assert!(endings.len() >= 20);
        for (reason, scene, progress) in endings {
            let (cluster, process) = (in_a_cluster(scene.clone()), as_a_process(&scene, progress));
            assert_eq!(ending(&cluster), ending(&process), "{progress:?}");
            assert_eq!(cluster.conditions[0].reason, reason, "{progress:?}");
        }
    }

    #[test]
    fn say_the_same_of_a_command_that_cannot_be_started() {
        let end =
            json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \"trian\": not found"}});
        let cluster = in_a_cluster(failed(end));
        let process = as_a_process(&failed(exit(1)).log("sweep: cannot start trian: not found"), code(127));
        let of = |status: &TrialStatus| (status.phase, status.conditions[0].reason.clone());
        assert_eq!(of(&cluster), of(&process));
        assert_eq!(of(&cluster).1, "StartFailed");
    }

    #[test]
    fn run_a_trial_again_whose_run_was_lost_and_give_up_after_ten() {
        let (mut scene, mut trial) = (with_job(), proposed().trial);
        for n in 1..=11 {
            let seen = run_seen("", time(STARTED), Progress::Runs, time(NOW));
            let named = |trial: &Trial| match trial.status.as_ref().and_then(|status| status.run.clone()) {
                Some(run) => run.job,
                None => "digits-0003".to_owned(),
            };
            let RunSeen::There { stage, attempt, .. } = seen else { panic!("it runs") };
            let begins = [RunSeen::Absent, RunSeen::There { id: named(&trial), attempt, stage }];
            let study = &scene.study;
            trial.status = Some(steps(study, &trial, &begins, &Read::default(), time(NOW)).0);
            trial.status = Some(steps(study, &trial, &[RunSeen::Absent], &Read::default(), time(NOW)).0);
            let process = trial.status.clone().unwrap();
            let cluster = scene.absent().look().status;
            assert_eq!(ending(&cluster), ending(&process), "{n}");
            assert_eq!((cluster.disruptions, process.disruptions), (n, n));
            scene = proposed().with_status(cluster).job(json!({}));
            let status = scene.look().status;
            scene = scene.with_status(status);
        }
        assert_eq!(trial.status.unwrap().conditions[0].reason, "Lost");
    }
}
