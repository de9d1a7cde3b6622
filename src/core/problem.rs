//! All that a sampler or a pruner may know of a study.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::objective::Objective;
use super::space::Space;

/// What is searched, for what, and with how much.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// Where.
    pub space: &'a Space,
    /// What is optimised.
    pub objective: &'a Objective,
    /// Seed of every random choice.
    pub seed: u64,
    /// How much was to be tried when the study began. A sampler that changes over by it does so at one trial, whatever is
    /// edited meanwhile.
    pub budget: Budget,
}

/// How much is to be tried.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// How many trials in all.
    pub max_trials: u32,
    /// How many at the same time.
    pub parallelism: u32,
}
