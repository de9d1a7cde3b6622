//! Absolute bounds (Optuna's `ThresholdPruner`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use crate::core::number::number;
use crate::core::objective::Objective;
use crate::core::series::{Mark, Series};

/// Stops a Trial whose value is NaN, infinite or beyond a bound, at once. May stand beside another pruner.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{"message": "lower must be below upper", "rule": "!has(self.lower) || !has(self.upper) || self.lower < self.upper"}]))]
pub struct Settings {
    /// A value below this one stops the Trial. Left out: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// A value above this one stops the Trial. Left out: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
    /// Nothing is stopped before this step. Left out: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991_i64))]
    pub warmup_steps: Option<u64>,
}

/// The threshold pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// The least value that may be.
    pub lower: f64,
    /// The greatest value that may be.
    pub upper: f64,
    /// Nothing is stopped before this step.
    pub warmup_steps: u64,
}

impl Algorithm for Threshold {
    type Settings = Settings;
    const NAME: &'static str = "threshold";
    const STANDS_ALONE: bool = true;

    fn problems(settings: &Settings) -> Vec<(&'static str, String)> {
        match (settings.lower, settings.upper) {
            (Some(lower), Some(upper)) if lower >= upper => {
                vec![("lower", format!("lower {} must be below upper {}", number(lower), number(upper)))]
            }
            _ => Vec::new(),
        }
    }

    fn new(settings: &Settings) -> Threshold {
        Threshold {
            lower: settings.lower.unwrap_or(f64::NEG_INFINITY),
            upper: settings.upper.unwrap_or(f64::INFINITY),
            warmup_steps: settings.warmup_steps.unwrap_or(0),
        }
    }

    /// The first observation that is beyond a bound.
    fn remember(&self, _: &Objective, mark: Option<Mark>, step: u64, value: f64) -> Option<Mark> {
        let is_beyond = !value.is_finite() || !(self.lower..=self.upper).contains(&value);
        let value = Some(value).filter(|value| value.is_finite());
        mark.or_else(|| (is_beyond && step >= self.warmup_steps).then_some(Mark { step, value }))
    }

    fn alone(&self, _: &Objective, mark: Mark, _: &Series) -> Option<(u64, Evidence, String)> {
        let (message, cutoff) = match mark.value {
            None => ("not a number".to_owned(), None),
            Some(value) if value < self.lower => {
                (format!("{}, below the lower bound {}", number(value), number(self.lower)), Some(self.lower))
            }
            Some(value) => (format!("{}, above the upper bound {}", number(value), number(self.upper)), Some(self.upper)),
        };
        Some((mark.step, Evidence { value: mark.value, cutoff, ..Evidence::default() }, message))
    }
}
