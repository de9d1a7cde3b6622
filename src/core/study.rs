//! A validated study, and a trial as samplers, pruners and `decide` see it.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pruner::Pruner;
use super::sampler::Sampler;
use super::series::Series;
use super::space::{Assignments, Space};

/// A study whose spec was accepted: nothing in it can be invalid later.
#[derive(Clone, Debug)]
pub struct Study {
    /// The study's name.
    pub name: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// What is optimised.
    pub objective: Objective,
    /// Where.
    pub space: Space,
    /// Configurations that are tried first.
    pub initial: Vec<Assignments>,
    /// What proposes.
    pub sampler: Sampler,
    /// What stops losing trials.
    pub pruner: Option<Pruner>,
    /// When it ends, and how much runs at once.
    pub limits: Limits,
    /// How many trials may be unfinished at the same time.
    pub parallelism: u32,
    /// Whether new trials are held back.
    pub suspend: bool,
    /// Hash of the job template: trials that were run with another one had other surroundings.
    pub template: u64,
}

/// What is optimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The metric's name.
    pub metric: String,
    /// Whether higher or lower is better.
    pub direction: Direction,
    /// Which observation is a trial's value.
    pub value: ValueOf,
}

/// What ends a study. An edit of one of these reopens it, nothing else does.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// How many configurations are tried.
    pub max_trials: u32,
    /// With more failed trials than this, those that diverged not counted, the study has failed.
    pub max_failed_trials: u32,
    /// How long it may take from its start.
    pub max_duration: Option<SignedDuration>,
    /// A value that is good enough.
    pub target: Option<f64>,
}

/// A trial of the history.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Which proposal it is.
    pub index: u32,
    /// What was proposed.
    pub assignments: Assignments,
    /// Where it stands.
    pub phase: Phase,
    /// Whether it was told to stop.
    pub stopped: bool,
    /// Whether a Job or process of it is not gone yet; it holds its place until then.
    pub occupied: bool,
    /// The bracket of a Hyperband run.
    pub bracket: Option<u32>,
    /// The generation of CMA-ES.
    pub generation: Option<u32>,
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
            stopped: false,
            occupied: false,
            bracket: None,
            generation: None,
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
        !self.stopped && !self.phase.is_finished()
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

/// Whether higher or lower is better.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Higher is better.
    Maximize,
    /// Lower is better.
    Minimize,
}

/// Which observation is a Trial's value.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueOf {
    /// The observation at the highest step.
    #[default]
    Last,
    /// The best observation over all steps.
    Best,
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

/// Why a Study ended.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// As many Trials as asked for have finished.
    MaxTrialsReached,
    /// Every configuration of the search space was tried.
    SearchSpaceExhausted,
    /// A Trial is at least as good as the target.
    TargetReached,
    /// The time is over.
    MaxDurationReached,
    /// Failed: more Trials than allowed have failed.
    TooManyFailedTrials,
    /// Failed: the end came without a single result.
    NoSuccessfulTrial,
    /// Failed: the objective of all of the first trials was NaN or infinite in the end.
    TrialsDiverged,
}

impl EndReason {
    /// Whether the Study did not do what was asked.
    pub fn is_failure(self) -> bool {
        matches!(self, EndReason::TooManyFailedTrials | EndReason::NoSuccessfulTrial | EndReason::TrialsDiverged)
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// How many runs of a trial may end without the trainer's fault; with one more it has failed.
pub const MAX_DISRUPTIONS: u32 = 10;

/// The name of a Trial: four digits at least, so that names sort.
pub fn trial_name(study: &str, index: u32) -> String {
    format!("{study}-{index:04}")
}
