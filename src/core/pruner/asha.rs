//! ASHA (Li 2020, arXiv 1810.05934) in the stopping form, as in Ray Tune: each trial goes on from a rung while it is among
//! the best of those that have come there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use super::race::Race;
use super::rungs::Rungs;
use crate::core::problem::Problem;
use crate::core::series::{Arrival, Series};
use crate::core::trial::Trial;

/// Compares Trials at rungs, asynchronously (Li 2020): of those that have come to a rung the best 1/reductionFactor go on.
/// Frees more than `hyperband`, and loses more late bloomers.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{"message": "minSteps must be below maxSteps", "rule": "!has(self.minSteps) || self.minSteps < self.maxSteps"}]))]
pub struct Settings {
    /// The step of the first rung. Left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000000))]
    pub min_steps: Option<u64>,
    /// The steps of a whole Trial, in the trainer's own steps. Nothing is stopped beyond 0.9 of them.
    #[schemars(range(min = 2, max = 1000000000))]
    pub max_steps: u64,
    /// One of so many goes on from a rung to the next, which lies at so many times the steps. Left out: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    pub reduction_factor: Option<u32>,
}

/// ASHA.
#[derive(Clone, Debug, PartialEq)]
pub struct Asha(pub Rungs);

impl Algorithm for Asha {
    type Settings = Settings;
    const NAME: &'static str = "asha";
    const KEEPS_ARRIVALS: bool = true;

    fn problems(settings: &Settings) -> Vec<(&'static str, String)> {
        Rungs::problems(settings.min_steps, settings.max_steps)
    }

    fn new(settings: &Settings) -> Asha {
        Asha(Rungs::new(settings.min_steps, settings.max_steps, settings.reduction_factor))
    }

    fn max_steps(&self) -> Option<u64> {
        Some(self.0.max_steps)
    }

    fn rung(&self, series: &Series) -> Option<u64> {
        self.0.reached(series)
    }

    fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        self.0.obstacle(problem, history)
    }

    fn verdict(&self, race: &mut Race, trial: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
        self.0.verdict(race, trial, arrival)
    }
}
