//! The median rule (Golovin 2017, "Google Vizier", §3.2.2, on values rather than running averages): a
//! trial that is worse than the median of the others at the same step is stopped.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Peers, Verdict};
use crate::core::number::number;
use crate::core::objective::beats;
use crate::core::problem::Problem;
use crate::core::trial::{Phase, Trial};

/// Stops a Trial that is worse than the median of the others at the same step.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How many other Trials must have reached a step before anything is stopped at it. Left out: 5.
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

/// The median pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Median {
    /// How many other trials must have reached a step before anything is stopped at it.
    pub startup_trials: u32,
    /// Nothing is stopped before this step.
    pub warmup_steps: u64,
    /// Trials are compared at every so many steps, counted from `warmup_steps`.
    pub interval: u64,
}

impl Algorithm for Median {
    type Settings = Settings;
    const NAME: &'static str = "median";

    fn new(settings: &Settings) -> Median {
        Median {
            startup_trials: settings.startup_trials.unwrap_or(5),
            warmup_steps: settings.warmup_steps.unwrap_or(0),
            interval: settings.interval.unwrap_or(1).max(1),
        }
    }

    fn compares(&self, _: Option<u32>, before: Option<u64>, after: u64) -> bool {
        let passed = |step: u64| step.checked_sub(self.warmup_steps).map(|behind| behind / self.interval);
        passed(after) != before.and_then(passed)
    }

    /// Why nothing can ever be stopped, as far as the trials have shown: they end before the warmup is over.
    fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        let (startup, most) = (self.startup_trials.max(1), problem.budget.max_trials);
        if startup >= most {
            return Some(format!("startupTrials is {startup}, and maxTrials only {most}"));
        }
        let mut ended = None;
        for trial in history {
            let Some(last) = trial.series.last_step() else { continue };
            if last >= self.warmup_steps {
                return None;
            }
            ended = ended.max(Some(last).filter(|_| trial.phase == Phase::Succeeded));
        }
        ended.map(|last| format!("trials end at step {last}, and warmupSteps is {}", self.warmup_steps))
    }

    /// Whether `trial` is worse than the median of the trials that reached its last comparison step.
    fn verdict(&self, problem: &Problem, peers: &mut Peers, trial: &Trial) -> Option<Verdict> {
        let (which, direction) = (problem.objective.value, problem.objective.direction);
        let behind = trial.series.last_step()?.checked_sub(self.warmup_steps)?;
        let step = self.warmup_steps + behind / self.interval * self.interval;
        let (_, value) = trial.series.value_at(step, which, direction)?;
        // Its own place among them, which does not count.
        let own = peers.ahead(step, trial.index, value);
        let all = peers.at(step);
        let others = all.len().saturating_sub(1);
        if others < self.startup_trials.max(1) as usize {
            return None;
        }
        let other = |at: usize| all[at + usize::from(at >= own)].0;
        let middle = others / 2;
        // Halved first: the sum of two large values would overflow.
        let median = if others % 2 == 1 { other(middle) } else { other(middle - 1) / 2.0 + other(middle) / 2.0 };
        beats(direction, median, value).then(|| Verdict {
            index: trial.index,
            step,
            message: format!(
                "at step {step}: {}, worse than the median {} of {} {}",
                number(value),
                number(median),
                others,
                if others == 1 { "trial" } else { "trials" }
            ),
        })
    }
}
