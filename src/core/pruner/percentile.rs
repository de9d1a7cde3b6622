//! The percentile rule: as the median rule, with another share that goes on (Optuna's `PercentilePruner`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use super::median::Median;
use super::race::Race;
use crate::core::number::number;
use crate::core::problem::Problem;
use crate::core::series::{Arrival, Series};
use crate::core::trial::Trial;

/// Stops a Trial that is not within the best `percentile` percent of the succeeded ones at the same step.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How many percent are good enough: 50 is the median, 25 stops more.
    #[schemars(range(min = 0, max = 100))]
    pub percentile: f64,
    /// How many Trials must have succeeded before anything is stopped. Left out: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub startup_trials: Option<u32>,
    /// Nothing is stopped before this step. Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991_i64))]
    pub warmup_steps: Option<u64>,
    /// Trials are compared at every so many steps, counted from warmupSteps. Left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9007199254740991_i64))]
    pub interval: Option<u64>,
}

/// The percentile pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentile {
    /// How many percent are good enough.
    pub percentile: f64,
    /// When trials are compared, and with what.
    pub at: Median,
}

impl Algorithm for Percentile {
    type Settings = Settings;
    const NAME: &'static str = "percentile";

    fn new(settings: &Settings) -> Percentile {
        let &Settings { percentile, startup_trials, warmup_steps, interval } = settings;
        let at = super::median::Settings { startup_trials, warmup_steps, interval };
        Percentile { percentile: percentile.clamp(0.0, 100.0), at: Median::new(&at) }
    }

    fn rung(&self, series: &Series) -> Option<u64> {
        self.at.rung(series)
    }

    fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        self.at.obstacle(problem, history)
    }

    fn waits(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        self.at.waits(problem, history)
    }

    fn verdict(&self, race: &mut Race, _: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
        let what = format!("percentile {}", number(self.percentile));
        self.at.compare(race, arrival, self.percentile / 100.0, &what)
    }
}
