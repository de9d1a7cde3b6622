//! A validated study, and how it can end.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::objective::Objective;
use super::problem::{Budget, Problem};
use super::pruner::Pruners;
use super::sampler::{Cache, Next, Past, Sampler};
use super::space::{Assignments, Space};
use super::trial::Trial;

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
    pub pruners: Pruners,
    /// When it ends, and how much runs at once.
    pub limits: Limits,
    /// How many trials may be unfinished at the same time.
    pub parallelism: u32,
    /// Whether new trials are held back.
    pub suspend: bool,
    /// Hash of the job template: trials that were run with another one had other surroundings.
    pub template: u64,
}

impl Study {
    /// How much may be tried, as its spec says now.
    pub fn budget(&self) -> Budget {
        Budget { max_trials: self.limits.max_trials, parallelism: self.parallelism }
    }

    /// What samplers and pruners may know of it, where it began with this budget.
    pub fn problem(&self, budget: Budget) -> Problem<'_> {
        Problem { space: &self.space, objective: &self.objective, seed: self.seed, budget }
    }

    /// The proposal for trial `index`, after `history` and what was `proposed` since.
    pub fn propose(
        &self,
        budget: Budget,
        history: &[Trial],
        proposed: &[Trial],
        index: u32,
        cache: &mut Cache,
    ) -> Next {
        let past = Past { history, proposed, initial: &self.initial, template: self.template };
        self.sampler.next(self.problem(budget), past, index, cache)
    }

    /// Which sampler is at work after this history, and why.
    pub fn standing(&self, budget: Budget, history: &[Trial]) -> String {
        self.sampler.standing(self.problem(budget), history, self.template)
    }
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
