//! Absolute bounds (Optuna's `ThresholdPruner`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use crate::core::number::number;
use crate::core::objective::Objective;
use crate::core::series::Series;

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

    fn alone(&self, _: &Objective, series: &Series) -> Option<(u64, Evidence, String)> {
        let diverged = series.diverged().map(|step| (step, f64::NAN));
        let after_warmup = |(step, _): &(u64, f64)| *step >= self.warmup_steps;
        let beyond = |(_, value): &(u64, f64)| !(self.lower..=self.upper).contains(value);
        let points = series.points().iter().copied().chain(diverged);
        let (step, value) = points.filter(after_warmup).find(beyond)?;
        let what = if value < self.lower {
            format!("below the lower bound {}", number(self.lower))
        } else if value > self.upper {
            format!("above the upper bound {}", number(self.upper))
        } else {
            "not a number".to_owned()
        };
        let cutoff = if value < self.lower { Some(self.lower) } else { Some(self.upper).filter(|_| !value.is_nan()) };
        let value = Some(value).filter(|value| value.is_finite());
        let message = value.map_or_else(|| what.clone(), |value| format!("{}, {what}", number(value)));
        Some((step, Evidence { value, cutoff, ..Evidence::default() }, message))
    }
}
