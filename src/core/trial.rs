//! A trial as samplers, pruners and `decide` see it, and which of them is best.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::objective::{Direction, beats};
use super::series::Series;
use super::space::Assignments;

/// A trial of the history.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Which proposal it is.
    pub index: u32,
    /// What was proposed.
    pub assignments: Assignments,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it shall run.
    pub desired: DesiredState,
    /// Whether a Job or process of it is not gone yet; it holds its place until then.
    pub occupied: bool,
    /// The bracket of a Hyperband run.
    pub bracket: Option<u32>,
    /// The generation of CMA-ES.
    pub generation: Option<u32>,
    /// The highest rung at which it was found to go on: it is not judged there again. None where nobody remembers; then it is
    /// judged by what had come when it came there.
    pub passed: Option<u64>,
    /// The objective's observations.
    pub series: Series,
    /// Whether its reports came too late for a pruner: see [`reports_at_end`](super::pruner::reports_at_end).
    pub reported_at_end: bool,
    /// Its final value, once it has finished with one.
    pub value: Option<f64>,
    /// When it finished.
    pub completed: Option<Timestamp>,
    /// What its failure speaks of, if it failed.
    pub failure: Option<Failure>,
    /// Hash of the job template that it was run with, once it was.
    pub template: Option<u64>,
    /// Why it waits, or how it failed.
    pub message: Option<String>,
    /// The lines of a failed trial's log up to what went wrong, three at most.
    pub last_words: Vec<String>,
}

impl Trial {
    /// A trial that was just proposed.
    pub fn proposed(index: u32, assignments: Assignments) -> Trial {
        Trial {
            index,
            assignments,
            phase: Phase::Pending,
            desired: DesiredState::Running,
            occupied: false,
            bracket: None,
            generation: None,
            passed: None,
            series: Series::default(),
            reported_at_end: false,
            value: None,
            completed: None,
            failure: None,
            template: None,
            message: None,
            last_words: Vec::new(),
        }
    }

    /// Whether it counts against `parallelism`.
    pub fn is_active(&self) -> bool {
        self.occupied || !self.phase.is_finished()
    }

    /// Whether anything of it runs, or may.
    pub fn is_at_work(&self) -> bool {
        self.occupied || self.phase == Phase::Running
    }

    /// Whether its failure counts against `maxFailedTrials`. A wide search space has trials that diverge: they are results.
    pub fn counts_as_failed(&self) -> bool {
        self.phase == Phase::Failed && self.failure != Some(Failure::Diverged)
    }

    /// Whether it has ended, and its objective was NaN or infinite by then.
    pub fn has_diverged(&self) -> bool {
        match self.phase {
            Phase::Failed => self.failure == Some(Failure::Diverged),
            Phase::Pruned => self.series.diverged().is_some(),
            _ => false,
        }
    }

    /// Whether a pruner may stop it: it is being run, and nobody has stopped it yet.
    pub fn can_be_stopped(&self) -> bool {
        self.desired == DesiredState::Running && !self.phase.is_finished()
    }
}

/// What a failure speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Of the configuration, for certain: the objective diverged. It does not count against `maxFailedTrials`.
    Diverged,
    /// Of the configuration, for certain: the trainer ran out of memory.
    OutOfMemory,
    /// Of the configuration where others succeed: the trainer ended with an error, or outgrew a limit.
    Error,
    /// Of nothing but what surrounds the trainer: it never started, its image or its metric is missing, its runs were lost.
    Surroundings,
}

/// Whether a Trial shall run.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DesiredState {
    /// It shall run to its end.
    #[default]
    Running,
    /// It shall end now.
    Stopped,
}

/// Where a Trial stands.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Its trainer does not run yet.
    #[default]
    Pending,
    /// Its trainer runs.
    Running,
    /// It ran to its end, and has a value.
    Succeeded,
    /// The pruner stopped it.
    Pruned,
    /// Its trainer failed, or its metric is missing.
    Failed,
    /// It was stopped because the Study ended, or by a user.
    Stopped,
}

impl Phase {
    /// Whether the Trial has ended.
    pub fn is_finished(self) -> bool {
        !matches!(self, Phase::Pending | Phase::Running)
    }
}

/// The best trial: its index and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// The trial's index.
    pub index: u32,
    /// Its value.
    pub value: f64,
}

/// The best of the succeeded trials; pruned ones do not compete, ties go to the lower index.
pub fn best(direction: Direction, history: &[Trial]) -> Option<Best> {
    history
        .iter()
        .filter(|trial| trial.phase == Phase::Succeeded)
        .filter_map(|trial| Some(Best { index: trial.index, value: trial.value? }))
        .reduce(|a, b| {
            let b_wins = beats(direction, b.value, a.value) || (a.value == b.value && b.index < a.index);
            if b_wins { b } else { a }
        })
}

/// How many runs of a trial may end without the trainer's fault; with one more it has failed.
pub const MAX_DISRUPTIONS: u32 = 10;

/// The name of a Trial: four digits at least, so that names sort.
pub fn trial_name(study: &str, index: u32) -> String {
    format!("{study}-{index:04}")
}
