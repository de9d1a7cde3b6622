//! Early stopping (Prechelt 1998, "Early stopping - but when?"; Keras' `EarlyStopping`): a trial that no longer improves has
//! done its work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use crate::core::number::number;
use crate::core::objective::{Direction, Objective, beats};
use crate::core::series::{Mark, Series};

/// Ends a Trial that has not improved for so many steps: it has Succeeded with its value. May stand beside another pruner.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How many steps a Trial may go without an improvement, in the trainer's own steps.
    #[schemars(range(min = 1, max = 9007199254740991_i64))]
    pub steps: u64,
    /// What counts as an improvement: better than the best so far by more than this. Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1e300))]
    pub min_delta: Option<f64>,
    /// Steps before this one are not looked at. Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991_i64))]
    pub warmup_steps: Option<u64>,
}

/// The patience pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Patience {
    /// How many steps a trial may go without an improvement.
    pub steps: u64,
    /// By how much the best so far must be beaten.
    pub min_delta: f64,
    /// Steps before this one are not looked at.
    pub warmup_steps: u64,
}

impl Patience {
    /// What would be an improvement on `best`.
    fn bar(&self, direction: Direction, best: f64) -> f64 {
        match direction {
            Direction::Maximize => best + self.min_delta,
            Direction::Minimize => best - self.min_delta,
        }
    }
}

impl Algorithm for Patience {
    type Settings = Settings;
    const NAME: &'static str = "patience";
    const STANDS_ALONE: bool = true;
    const IS_END: bool = true;

    fn new(settings: &Settings) -> Patience {
        Patience {
            steps: settings.steps.max(1),
            min_delta: settings.min_delta.unwrap_or(0.0).max(0.0),
            warmup_steps: settings.warmup_steps.unwrap_or(0),
        }
    }

    /// The last observation that was an improvement.
    fn remember(&self, objective: &Objective, mark: Option<Mark>, step: u64, value: f64) -> Option<Mark> {
        if step < self.warmup_steps || !value.is_finite() {
            return mark;
        }
        let direction = objective.direction;
        let stands = |mark: &Mark| mark.value.is_some_and(|best| !beats(direction, value, self.bar(direction, best)));
        mark.filter(stands).or(Some(Mark { step, value: Some(value) }))
    }

    fn alone(&self, objective: &Objective, mark: Mark, series: &Series) -> Option<(u64, Evidence, String)> {
        let (best, (step, value)) = (mark.value?, *series.points().last()?);
        let without = step.checked_sub(mark.step).filter(|without| *without >= self.steps)?;
        let least = if self.min_delta > 0.0 { format!(" by {}", number(self.min_delta)) } else { String::new() };
        let (last, since) = (number(value), mark.step);
        let message = format!("{last}, no improvement{least} on {} of step {since} in {without} steps", number(best));
        let cutoff = Some(self.bar(objective.direction, best));
        Some((step, Evidence { value: Some(value), cutoff, ..Evidence::default() }, message))
    }
}
