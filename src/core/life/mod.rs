//! A trial's life: from what is recorded of it, its run as it is seen, what it has reported and the time to what is
//! recorded next and what is done then. Pure, and the same for a Job and for a process.

pub mod reason;
mod run;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use reason::{Reason, Wait};
pub use run::{Attempt, Cause, End, Fault, How, Reports, RunSeen, Stage, Standing, run_name};

use super::number::number;
use super::objective::Objective;
use super::pruner::reports_at_end;
use super::series::Series;
use super::trial::{MAX_DISRUPTIONS, Phase};
use crate::last_words;
use crate::shown::shown;

/// How long a trial may be in a trouble that only a person can end before it has failed.
pub const START_DEADLINE: SignedDuration = SignedDuration::from_mins(30);

/// How long a run may take to start its trainer before its trial tells what it waits for.
const START_IN_SILENCE: SignedDuration = SignedDuration::from_secs(10);

/// How long after its trainer's start reading must have begun for the times of its reports to be known.
const READ_FROM_START: SignedDuration = SignedDuration::from_secs(2);

/// How long after a run's end its last reports are waited for.
const REPORTS_LIMIT: SignedDuration = SignedDuration::from_secs(20);

const LOOK_SOON: Duration = Duration::from_secs(1);
const LOOK_LATER: Duration = Duration::from_secs(60);

/// What is recorded of a trial's life.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// What is going on, or how it ended, for a person.
    pub message: Option<String>,
    /// Where it stands, and why.
    pub condition: Option<Condition>,
    /// Since when it cannot start before somebody acts.
    pub blocked: Option<Blocked>,
    /// The run that counts.
    pub run: Option<Run>,
    /// How many runs and attempts ended without the trainer's fault.
    pub disruptions: u32,
    /// When its trainer first ran.
    pub started: Option<Timestamp>,
    /// The objective's observations.
    pub series: Series,
    /// Whether its reports came too late for a pruner.
    pub reported_at_end: bool,
    /// The last lines of its log.
    pub log_tail: Option<String>,
}

/// Where a trial stands, and why.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// It does not run yet.
    Waits(Wait, String),
    /// Its trainer runs.
    Runs,
    /// It has ended.
    Finished(Reason, String),
}

/// What only a person can end.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocked {
    /// Since when, whatever it was that kept it from starting.
    pub since: Timestamp,
    /// What it is now.
    pub why: Wait,
    /// For a person.
    pub message: String,
}

/// A run, recorded before it is started.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// From 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What tells it from others of the same name, once it was seen.
    pub id: Option<String>,
    /// The template's hash.
    pub template: Option<String>,
    /// How many attempts it had.
    pub attempts: u32,
    /// The attempt whose observations are recorded.
    pub attempt: Option<String>,
}

/// What a trial's life depends on beside its run.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The trial's name.
    pub trial: &'a str,
    /// What is optimised.
    pub objective: &'a Objective,
    /// How long a running trainer may report nothing.
    pub report_timeout: Option<SignedDuration>,
    /// The hash of the template that a run is started from now.
    pub template: &'a str,
    /// What is wished for it.
    pub desired: Desired<'a>,
    /// What is said of a run that is not there any more.
    pub lost: &'a str,
}

/// What is wished for a trial.
#[derive(Clone, Copy, Debug)]
pub enum Desired<'a> {
    /// It shall run to its end.
    Running,
    /// It shall end now. A user may not say why.
    Stopped(Option<Stop<'a>>),
}

/// Why a trial was told to stop.
#[derive(Clone, Copy, Debug)]
pub struct Stop<'a> {
    /// One word.
    pub reason: &'a str,
    /// The step that was judged.
    pub step: Option<u64>,
    /// The evidence.
    pub message: &'a str,
}

impl Stop<'_> {
    fn is_by_pruner(&self) -> bool {
        Reason::of(self.reason) == Some(Reason::Pruned)
    }

    /// Whether what it has reported is its result.
    fn is_end(&self) -> bool {
        self.reason == reason::PATIENCE
    }
}

/// What to do once the state is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Start the recorded run.
    Start,
    /// End the run that is seen.
    Stop,
    /// Have the run that is seen removed after a while: its result is recorded.
    Expire,
}

/// What is recorded of what was read beside the objective's observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notes {
    /// As it was.
    Kept,
    /// Nothing.
    Cleared,
    /// What was read.
    Read,
}

/// What to record, then to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The next state.
    pub state: State,
    /// What is recorded with it.
    pub notes: Notes,
    /// What to do then.
    pub action: Action,
    /// When to look again, should nothing happen.
    pub look_again: Option<Duration>,
}

/// The next step of a trial's life. A second one, at once, records nothing more.
pub fn step(terms: &Terms, state: &State, run: &RunSeen, reports: &Reports, now: Timestamp) -> Step {
    let life = Life { terms, old: state, reports, now, state: state.clone(), notes: Notes::Kept };
    if state.phase.is_finished() {
        return life.after_the_end(run);
    }
    let is_stopped = matches!(terms.desired, Desired::Stopped(_));
    let Some(recorded) = &state.run else {
        return if is_stopped { life.stopped() } else { life.start(1) };
    };
    match run {
        // Nothing of this trial runs, whoever has the name.
        RunSeen::Absent | RunSeen::Foreign(_) | RunSeen::Leaving if is_stopped => life.stopped(),
        RunSeen::Foreign(owner) => {
            let message =
                format!("NameConflict: the Job {} belongs to {owner}: delete it, or rename the Study", recorded.name);
            life.wait(Wait::NameConflict, &message, LOOK_SOON * 30)
        }
        RunSeen::Leaving => {
            let message = format!("waiting: the Job {} of an earlier Trial is going", recorded.name);
            life.wait(Wait::NameInUse, &message, LOOK_SOON * 5)
        }
        // Recorded, and never started, or not known to have been: starting it is safe.
        RunSeen::Absent if recorded.id.is_none() => match life.start_failure() {
            Some(message) => life.finish(Reason::StartFailed, &message),
            None => life.start_recorded(),
        },
        RunSeen::Absent => life.next_run(Reason::Lost, terms.lost),
        RunSeen::There { id, stage, .. } if recorded.id.as_ref().is_some_and(|recorded| recorded != id) => {
            let action = if matches!(stage, Stage::Stopping { .. }) { Action::Nothing } else { Action::Stop };
            life.then(action, LOOK_SOON)
        }
        RunSeen::There { id, attempt, stage } => life.with_run(id, attempt.as_ref(), stage, is_stopped),
    }
}

/// The state of a trial whose recorded run cannot be started yet.
pub fn held_back(state: &State, why: Wait, message: &str) -> State {
    let message = shown(message).into_owned();
    State {
        message: Some(message.clone()),
        condition: Some(Condition::Waits(why, message)),
        blocked: None,
        ..state.clone()
    }
}

/// The state of a trial whose recorded run is refused, until a person has done something about it.
pub fn refused(state: &State, why: Wait, message: &str, now: Timestamp) -> State {
    let since = state.blocked.as_ref().map_or(now, |blocked| blocked.since);
    let blocked = Blocked { since, why: why.clone(), message: shown(message).into_owned() };
    State { blocked: Some(blocked), ..held_back(state, why, message) }
}

/// The text of a trial that has reported nothing for longer than it may.
fn report_timeout(limit: SignedDuration, last_step: Option<u64>) -> String {
    let since = match last_step {
        Some(step) => format!("after step {step}"),
        None => "since its trainer started".to_owned(),
    };
    format!("ReportTimeout: stopped as hung: nothing was reported for {limit:#} (spec.reportTimeout) {since}")
}

#[derive(Clone)]
struct Life<'a> {
    terms: &'a Terms<'a>,
    old: &'a State,
    reports: &'a Reports<'a>,
    now: Timestamp,
    state: State,
    notes: Notes,
}

impl Life<'_> {
    fn then(self, action: Action, look_again: Duration) -> Step {
        Step { state: self.state, notes: self.notes, action, look_again: Some(look_again) }
    }

    fn with_run(mut self, id: &str, attempt: Option<&Attempt>, stage: &Stage, is_stopped: bool) -> Step {
        if let Some(run) = &mut self.state.run {
            run.id = Some(id.to_owned());
        }
        if let Stage::Stopping { stuck } = stage {
            let message = stuck.as_deref().unwrap_or("stopping: its pods are being terminated");
            self.state.message = Some(message.to_owned());
            return self.then(Action::Nothing, LOOK_LATER);
        }
        if let Some(attempt) = attempt {
            self.note_attempt(attempt);
        }
        let began = match stage {
            Stage::Running { since, .. } => Some(*since),
            Stage::Ended(end) => end.trainer_began,
            _ => None,
        };
        self.state.started = self.state.started.or(began);
        if is_stopped {
            // A trainer that has ended by itself was not stopped, whatever was wished: its success is a result.
            match stage {
                // Its run may go on for another reason, such as a second container: not for long.
                Stage::Ending { succeeded: Some(at) } if self.now.duration_since(*at) < REPORTS_LIMIT => {
                    return self.then(Action::Nothing, LOOK_SOON);
                }
                Stage::Ended(end) if !end.failed => {
                    if let Some(step) = self.result_in_spite_of_the_stop(end) {
                        return step;
                    }
                }
                _ => {}
            }
            // The evidence is recorded before its run goes, and takes its log along.
            self.note_reports();
            self.note_log();
            return self.then(Action::Stop, LOOK_LATER);
        }
        match stage {
            Stage::Ended(end) => self.conclude(end),
            _ if self.state.disruptions > MAX_DISRUPTIONS => {
                self.too_many_disruptions(Reason::Disrupted, "its pod was replaced once more")
            }
            _ => self.unfinished(attempt.is_some(), stage),
        }
    }

    /// The result of a trial that had one before its stop was carried out. None where there is none, or nobody knows it.
    fn result_in_spite_of_the_stop(&self, end: &End) -> Option<Step> {
        let step = self.clone().conclude(end);
        let is_awaited = !step.state.phase.is_finished() && step.action == Action::Nothing;
        (is_awaited || step.state.phase == Phase::Succeeded).then_some(step)
    }

    /// The run has not ended.
    fn unfinished(mut self, has_attempt: bool, stage: &Stage) -> Step {
        if self.reports.is_checkpoint {
            self.note_reports();
        }
        match stage {
            // All is going its way: that is not worth a write.
            Stage::Waiting { why: Wait::NoPod | Wait::Starting, needs_person: false, created, .. }
                if self.is_silent_since(*created) =>
            {
                let state = self.old.clone();
                Life { state, notes: Notes::Kept, ..self }.then(Action::Nothing, LOOK_SOON * 5)
            }
            Stage::Waiting { why, message, needs_person, .. } => {
                let look_again = if has_attempt || *why == Wait::Queued { LOOK_LATER } else { LOOK_SOON * 5 };
                match needs_person {
                    true => self.block(why.clone(), message, look_again),
                    false => self.wait(why.clone(), message, look_again),
                }
            }
            Stage::Running { since, is_leaving, stuck } => {
                self.state.phase = Phase::Running;
                if let Some(message) = self.hung(*since).filter(|_| !is_leaving) {
                    self.note_reports();
                    self.note_log();
                    return self.finish(Reason::ReportTimeout, &message);
                }
                let problem = self.reports.problem.map(|problem| shown(problem).into_owned());
                self.state.message = stuck.clone().or(problem);
                (self.state.condition, self.state.blocked) = (Some(Condition::Runs), None);
                // A write that is due anyway takes along what was reported so far.
                if self.state != *self.old || self.notes != Notes::Kept {
                    self.note_reports();
                }
                let look_again = self.next_look(*since);
                self.then(Action::Nothing, look_again)
            }
            // The run's own end follows; the others are no matter of an unfinished run.
            Stage::Ending { .. } | Stage::Stopping { .. } | Stage::Ended(_) => self.then(Action::Nothing, LOOK_LATER),
        }
    }

    /// Says that the trainer, which runs since `since`, has reported nothing for longer than it may. That is judged
    /// as of the last time that it was heard of: what cannot be read tells nothing of the trainer.
    fn hung(&self, since: Timestamp) -> Option<String> {
        let limit = self.terms.report_timeout?;
        let silent = self.reports.heard?.duration_since(self.last_sign(since));
        (silent >= limit).then(|| report_timeout(limit, self.reports.series.last_report()))
    }

    /// When the last report was taken; where there is none, when the trainer started, or reading began after it.
    fn last_sign(&self, since: Timestamp) -> Timestamp {
        self.reports.last.or(self.reports.begun).map_or(since, |last| last.max(since))
    }

    fn next_look(&self, since: Timestamp) -> Duration {
        let left = self.terms.report_timeout.map(|limit| limit - self.now.duration_since(self.last_sign(since)));
        let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or(LOOK_LATER);
        left.clamp(LOOK_SOON * 5, LOOK_LATER)
    }

    /// Whether the run was created a moment ago, and nothing else was said of it since.
    fn is_silent_since(&self, created: Timestamp) -> bool {
        let is_new = matches!(self.old.condition, None | Some(Condition::Waits(Wait::Starting, _)));
        is_new && self.now.duration_since(created) < START_IN_SILENCE
    }

    /// The run has ended: what is it worth?
    fn conclude(mut self, end: &End) -> Step {
        // What is seen of the attempt may be behind the run, and the reports behind both.
        let is_pending = end.awaits_reports && matches!(self.reports.standing, Standing::Pending { .. });
        let is_known = end.is_settled && !is_pending;
        if !is_known && self.now.duration_since(end.at) < REPORTS_LIMIT {
            return self.then(Action::Nothing, Duration::from_millis(500));
        }
        self.state.series = self.final_series();
        self.notes = Notes::Read;
        self.note_log();
        let divergence = reason::divergence(&self.terms.objective.metric, &self.state.series);
        self.state.reported_at_end = self.has_reported_at_end(end);
        match &end.how {
            How::Disrupted(why) => self.next_run(Reason::Disrupted, why),
            How::Vanished => self.next_run(Reason::ResultLost, "its pod had vanished before it was known how it ended"),
            How::Interrupted => {
                let number = self.next_number();
                let mut step = self.start(number);
                step.state.message = Some(format!("run {number} follows: it was interrupted"));
                step
            }
            How::Failed(fault) => {
                let log = self.reports.log.or(self.state.log_tail.as_deref());
                let line = log.and_then(last_words::failure).filter(|_| fault.is_in_log);
                let reason = fault.reason(line.as_deref());
                let mut message = last_words::with_line(format!("{reason}: {}", fault.what), line.as_deref());
                if let Some(divergence) = divergence {
                    message += &format!("; {divergence}");
                }
                self.finish(reason, &message)
            }
            How::Succeeded if !self.is_result_known() => {
                self.next_run(Reason::ResultLost, "its pod or log had vanished before the result was read")
            }
            How::Succeeded => {
                let Objective { value, direction, .. } = *self.terms.objective;
                match (self.state.series.value(value, direction), divergence) {
                    (Some(_), divergence) => self.finish(Reason::Succeeded, &divergence.unwrap_or_default()),
                    (None, Some(divergence)) => {
                        let message = format!("{}: {divergence}", Reason::NotANumber);
                        self.finish(Reason::NotANumber, &message)
                    }
                    (None, None) => {
                        let message = format!("{}: {}", Reason::MetricsMissing, (self.reports.missing)());
                        self.finish(Reason::MetricsMissing, &message)
                    }
                }
            }
        }
    }

    /// Whether all reports came in the trainer's last second. That is not known where reading began later
    /// than the trainer, as after a restart, or not as they came.
    fn has_reported_at_end(&self, end: &End) -> bool {
        let (Some(begun), true) = (self.reports.begun, self.reports.is_live) else { return false };
        let start = end.trainer_began.or(self.state.started);
        let (Some(start), Some(first), Some(end)) = (start, self.reports.first, end.trainer_ended) else {
            return false;
        };
        begun.duration_since(start) <= READ_FROM_START && reports_at_end(start, first, end)
    }

    /// Whether the last report is known, or that there was none.
    fn is_result_known(&self) -> bool {
        matches!(self.reports.standing, Standing::Complete | Standing::Pending { tells_result: true })
    }

    /// The series read; where that is less, what is recorded, and what was handed down beside it.
    fn final_series(&self) -> Series {
        let mut series = if self.is_behind() { self.state.series.clone() } else { self.reports.series.clone() };
        // Those that were read already are older than the last step, or are the last one.
        let read = (series.last_step(), series.points().last().copied());
        let is_news = |(step, value): &&(u64, f64)| read.0 <= Some(*step) && read.1 != Some((*step, *value));
        let mut kept = self.reports.kept.clone();
        kept.sort_by_key(|(step, _)| *step);
        for (step, value) in kept.iter().filter(is_news) {
            series.push(*step, *value, self.terms.objective.value, self.terms.objective.direction);
        }
        series
    }

    fn note_attempt(&mut self, attempt: &Attempt) {
        // A queue that takes its run back ends the attempt, too: that is waiting.
        let was_queued = matches!(self.state.condition, Some(Condition::Waits(Wait::Queued, _)));
        let Some(run) = &mut self.state.run else { return };
        if run.attempt.as_ref() == Some(&attempt.id) {
            return;
        }
        run.attempts += 1;
        // Observations belong to an attempt: the next one starts without them.
        if run.attempt.replace(attempt.id.clone()).is_some() {
            self.state.disruptions += u32::from(!was_queued && attempt.follows_disruption);
            self.state.series = Series::default();
            self.notes = Notes::Cleared;
        }
    }

    /// The last lines of the log, where it was looked at.
    fn note_log(&mut self) {
        if let Some(tail) = self.reports.log.and_then(last_words::tail) {
            self.state.log_tail = Some(tail);
        }
    }

    fn note_reports(&mut self) {
        if self.reports.series.extent() > (0, 0) && !self.is_behind() {
            self.state.series = self.reports.series.clone();
            self.notes = Notes::Read;
        }
    }

    /// Whether more is recorded: after a restart all is read again from its start.
    fn is_behind(&self) -> bool {
        self.reports.series.extent() < self.state.series.extent()
    }

    /// Records a run, which is started then.
    fn start(mut self, number: u32) -> Step {
        let run = Run {
            number,
            name: run_name(self.terms.trial, number),
            id: None,
            template: Some(self.terms.template.to_owned()),
            attempts: 0,
            attempt: None,
        };
        // Observations belong to a run: the next one starts without them.
        self.state = State {
            run: Some(run),
            condition: Some(Condition::Waits(Wait::Starting, "its Job is being created".to_owned())),
            disruptions: self.state.disruptions,
            started: self.state.started,
            ..State::default()
        };
        self.notes = Notes::Cleared;
        self.then(Action::Start, LOOK_LATER)
    }

    /// Starts the recorded run, from the template as it is by now.
    fn start_recorded(mut self) -> Step {
        if let Some(run) = &mut self.state.run {
            run.template = Some(self.terms.template.to_owned());
        }
        self.then(Action::Start, LOOK_LATER)
    }

    fn next_number(&self) -> u32 {
        self.state.run.as_ref().map_or(0, |run| run.number).saturating_add(1)
    }

    /// A run ended without the trainer's fault.
    fn next_run(mut self, reason: Reason, why: &str) -> Step {
        let number = self.next_number();
        self.state.disruptions += 1;
        if self.state.disruptions > MAX_DISRUPTIONS {
            return self.too_many_disruptions(reason, why);
        }
        let mut step = self.start(number);
        step.state.message = Some(format!("run {number} follows: {why}"));
        step
    }

    fn too_many_disruptions(mut self, reason: Reason, why: &str) -> Step {
        let message = format!(
            "{reason}: {why}; {MAX_DISRUPTIONS} earlier runs or pods had ended without the trainer's fault as well"
        );
        self.note_log();
        self.finish(reason, &message)
    }

    /// It was told to stop, and nothing of it runs.
    fn stopped(self) -> Step {
        let Desired::Stopped(Some(stop)) = self.terms.desired else {
            return self.finish(Reason::Stopped, "stopped by a user");
        };
        let Objective { value, direction, .. } = *self.terms.objective;
        if stop.is_end() && self.state.series.value(value, direction).is_some() {
            return self.finish(Reason::Succeeded, &format!("ended early: {}", stop.message));
        }
        match (stop.is_by_pruner(), stop.message.is_empty()) {
            // The phase says it already.
            (true, false) => {
                let message = format!("{}{}", stop.message, self.later_value(stop.step));
                self.finish(Reason::Pruned, &message)
            }
            (true, true) => self.finish(Reason::Pruned, stop.reason),
            (false, true) => self.finish(Reason::Stopped, stop.reason),
            (false, false) => self.finish(Reason::Stopped, &format!("{}: {}", stop.reason, stop.message)),
        }
    }

    /// What it has shown since the step that was judged: otherwise its last value reads as if that had been.
    fn later_value(&self, judged: Option<u64>) -> String {
        let Objective { value, direction, .. } = *self.terms.objective;
        let last = self.state.series.value(value, direction);
        let last = last.filter(|(step, _)| judged.is_some_and(|judged| *step > judged));
        last.map(|(step, value)| format!("; it had {} at step {step} when it was stopped", number(value)))
            .unwrap_or_default()
    }

    fn finish(mut self, reason: Reason, message: &str) -> Step {
        // It may quote the trainer, or what a runtime said of it.
        let message = shown(message).into_owned();
        self.state.phase = reason.phase();
        self.state.message = (!message.is_empty()).then(|| message.clone());
        (self.state.condition, self.state.blocked) = (Some(Condition::Finished(reason, message)), None);
        self.then(Action::Nothing, LOOK_SOON)
    }

    fn wait(mut self, why: Wait, message: &str, look_again: Duration) -> Step {
        let message = shown(message).into_owned();
        self.state.phase = Phase::Pending;
        self.state.message = Some(message.clone());
        (self.state.condition, self.state.blocked) = (Some(Condition::Waits(why, message)), None);
        self.then(Action::Nothing, look_again)
    }

    /// Nothing starts before somebody acts: waited for, but not for ever.
    fn block(mut self, why: Wait, message: &str, look_again: Duration) -> Step {
        let since = self.state.blocked.as_ref().map_or(self.now, |blocked| blocked.since);
        let blocked = Blocked { since, why: why.clone(), message: shown(message).into_owned() };
        self.state.blocked = Some(blocked.clone());
        if let Some(message) = self.start_failure() {
            return self.finish(Reason::StartFailed, &message);
        }
        let mut step = self.wait(why, message, look_again);
        step.state.blocked = Some(blocked);
        step
    }

    /// Says that nothing has started for too long.
    fn start_failure(&self) -> Option<String> {
        let blocked = self.state.blocked.as_ref()?;
        (self.now.duration_since(blocked.since) >= START_DEADLINE)
            .then(|| format!("StartFailed: could not start for {START_DEADLINE:#}: {}", blocked.message))
    }

    /// A finished trial: its run may go after a while.
    fn after_the_end(self, run: &RunSeen) -> Step {
        let action = match run {
            RunSeen::There { stage: Stage::Stopping { .. }, .. } => Action::Nothing,
            RunSeen::There { stage: Stage::Ended(end), .. } if end.is_noted => Action::Nothing,
            RunSeen::There { stage: Stage::Ended(_), .. } => Action::Expire,
            RunSeen::There { .. } => Action::Stop,
            _ => Action::Nothing,
        };
        Step { state: self.state, notes: Notes::Kept, action, look_again: None }
    }
}
