//! Between a Trial's status and the life that it records.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::condition::whole_seconds;
use super::{
    Condition, ConditionStatus, DesiredState, FINISHED, Run, TrialSpec, TrialStatus, note, notes, observations,
};
use crate::core::Study;
use crate::core::life::{self, Blocked, Desired, Notes, Reason, State, Stop, Wait};
use crate::metrics::Noted;

/// The condition that tells whether a Trial's trainer runs, and why not.
const RUNNING: &str = "Running";

/// The condition that tells since when a Trial cannot start before somebody acts.
const STALLED: &str = "Stalled";

/// What is wished for a Trial.
pub fn desired(spec: &TrialSpec) -> Desired<'_> {
    match spec.desired_state {
        DesiredState::Running => Desired::Running,
        DesiredState::Stopped => Desired::Stopped(spec.stop.as_ref().map(|stop| Stop {
            reason: &stop.reason,
            step: stop.step,
            message: &stop.message,
        })),
    }
}

/// The life that a status records.
pub fn state(study: &Study, status: &TrialStatus) -> State {
    let holds = |condition: &&Condition, type_| condition.type_ == type_ && condition.status == ConditionStatus::True;
    let blocked = status.conditions.iter().find(|condition| holds(condition, STALLED));
    let run = status.run.as_ref();
    State {
        phase: status.phase,
        message: status.message.clone(),
        condition: status.conditions.first().and_then(condition),
        blocked: blocked.map(|condition| Blocked {
            since: condition.last_transition_time.0,
            why: Wait::of(&condition.reason),
            message: condition.message.clone(),
        }),
        run: run.map(|run| life::Run {
            number: run.number,
            name: run.job.clone(),
            id: run.job_uid.clone(),
            template: run.template_hash.clone(),
            attempts: run.attempts,
            attempt: run.pod_uid.clone(),
        }),
        disruptions: status.disruptions,
        started: status.start_time.as_ref().map(|time| time.0),
        series: observations(study, status),
        reported_at_end: status.reported_at_end,
        log_tail: status.log_tail.clone(),
    }
}

fn condition(condition: &Condition) -> Option<life::Condition> {
    let message = condition.message.clone();
    match (condition.type_.as_str(), condition.status) {
        (RUNNING, ConditionStatus::True) => Some(life::Condition::Runs),
        (RUNNING, _) => Some(life::Condition::Waits(Wait::of(&condition.reason), message)),
        (FINISHED, ConditionStatus::True) => Some(life::Condition::Finished(Reason::of(&condition.reason)?, message)),
        _ => None,
    }
}

/// The status that records `state`, which follows on `old`, and as `notes` says what was read.
pub fn status(
    study: &Study,
    old: &TrialStatus,
    (state, notes_of): (&State, Notes),
    noted: &Noted,
    generation: Option<i64>,
    now: Timestamp,
) -> TrialStatus {
    let mut status = TrialStatus {
        phase: state.phase,
        message: state.message.clone(),
        conditions: Vec::new(),
        run: state.run.as_ref().map(|run| Run {
            number: run.number,
            job: run.name.clone(),
            job_uid: run.id.clone(),
            template_hash: run.template.clone(),
            attempts: run.attempts,
            pod_uid: run.attempt.clone(),
        }),
        disruptions: state.disruptions,
        start_time: state.started.map(MicroTime),
        reported_at_end: state.reported_at_end,
        log_tail: state.log_tail.clone(),
        ..old.clone()
    };
    match notes_of {
        Notes::Kept => {}
        Notes::Cleared => note(&mut status, study, &state.series, &Noted::default()),
        Notes::Read => note(&mut status, study, &state.series, noted),
    }
    // What stands already stands as it was written.
    let next = |type_: &str, holds, reason: &str, message: &str| {
        let next = Condition::next(&old.conditions, type_, holds, reason, message, generation, now);
        let is_same = |was: &&Condition| {
            was.type_ == next.type_
                && was.status == next.status
                && was.reason == next.reason
                && was.message == next.message
        };
        old.conditions.iter().find(is_same).cloned().unwrap_or(next)
    };
    status.conditions.extend(state.condition.as_ref().map(|condition| match condition {
        life::Condition::Waits(why, message) => next(RUNNING, false, why.word(), message),
        life::Condition::Runs => next(RUNNING, true, "TrainerRuns", ""),
        life::Condition::Finished(reason, message) => next(FINISHED, true, reason.word(), message),
    }));
    let notes = notes(&status);
    status.conditions.extend(notes.iter().map(|(note, message)| next(note.type_(), true, note.reason(), message)));
    status.conditions.extend(state.blocked.as_ref().map(|blocked| Condition {
        last_transition_time: Time(whole_seconds(blocked.since)),
        ..next(STALLED, true, blocked.why.word(), &blocked.message)
    }));
    status
}
