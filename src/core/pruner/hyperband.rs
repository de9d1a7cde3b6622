//! Hyperband (Li 2018, JMLR 18-185) in the asynchronous stopping form. A bracket only sets a trial's first rung; all trials
//! that come to a rung are compared there, whatever their bracket (as in Syne Tune, Salinas 2022).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use super::race::Race;
use super::rungs::Rungs;
use crate::core::problem::Problem;
use crate::core::series::{Arrival, Series};
use crate::core::trial::Trial;

/// Compares Trials at rungs, asynchronously (Li 2018): of those that have come to a rung the best 1/reductionFactor go on.
/// Trials are dealt to brackets; those of a later one skip the first rungs, those of the last are never stopped.
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

/// Hyperband.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperband(pub Rungs);

impl Hyperband {
    /// How many trials of a round each bracket gets: ceil((smax + 1) eta^s / (s + 1)), s being the number of rungs at which
    /// it stops. Bracket 0 stops at every rung, each further one skips another rung, the last never stops.
    pub fn weights(&self) -> Vec<u128> {
        let rungs = self.0.steps().len() as u32;
        let weight = |bracket: u32| {
            let s = rungs - bracket;
            (u128::from(rungs + 1) * u128::from(self.0.reduction_factor).pow(s)).div_ceil(u128::from(s + 1))
        };
        (0..=rungs).map(weight).collect()
    }
}

impl Algorithm for Hyperband {
    type Settings = Settings;
    const NAME: &'static str = "hyperband";
    const KEEPS_ARRIVALS: bool = true;

    fn problems(settings: &Settings) -> Vec<(&'static str, String)> {
        Rungs::problems(settings.min_steps, settings.max_steps)
    }

    fn new(settings: &Settings) -> Hyperband {
        Hyperband(Rungs::new(settings.min_steps, settings.max_steps, settings.reduction_factor))
    }

    fn max_steps(&self) -> Option<u64> {
        Some(self.0.max_steps)
    }

    fn rung(&self, series: &Series) -> Option<u64> {
        self.0.reached(series)
    }

    /// Brackets are dealt by smooth weighted round-robin.
    fn bracket(&self, index: u32) -> Option<u32> {
        let weights = self.weights();
        let total: u128 = weights.iter().sum();
        let mut credit = vec![0_i128; weights.len()];
        let mut chosen = 0;
        for _ in 0..=(u128::from(index) % total) {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += *weight as i128;
            }
            chosen = (0..credit.len()).reduce(|a, b| if credit[b] > credit[a] { b } else { a }).unwrap_or(0);
            credit[chosen] -= total as i128;
        }
        Some(chosen as u32)
    }

    fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        self.0.obstacle(problem, history)
    }

    /// A trial is judged at the rungs of its bracket; at the others it only counts for those that are.
    fn verdict(&self, race: &mut Race, trial: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
        let first = self.0.steps().get(trial.bracket.unwrap_or(0) as usize).copied()?;
        if arrival.rung < first { None } else { self.0.verdict(race, trial, arrival) }
    }
}
