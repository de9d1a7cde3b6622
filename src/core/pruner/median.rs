//! The median rule (Golovin 2017, "Google Vizier", §3.2.2, on values rather than running averages): a trial that is worse
//! than the median of those that succeeded, at the same step, is stopped. All that came so far would be survivors in part, and
//! raise the bar.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use super::race::{Race, quantile};
use crate::core::number::number;
use crate::core::objective::beats;
use crate::core::problem::Problem;
use crate::core::series::{Arrival, Series};
use crate::core::trial::{Phase, Trial};

/// Stops a Trial that is worse than the median of the succeeded ones at the same step.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
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

/// The median pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Median {
    /// How many trials must have succeeded before anything is stopped.
    pub startup_trials: u32,
    /// Nothing is stopped before this step.
    pub warmup_steps: u64,
    /// Trials are compared at every so many steps, counted from `warmup_steps`.
    pub interval: u64,
}

impl Median {
    /// Whether a trial had, when it came to its rung, less than the best share `best` of the trials that had succeeded by
    /// then have at that step; `what` is the name of that bound.
    pub fn compare(
        &self,
        race: &mut Race,
        arrival: &Arrival,
        best: f64,
        what: &str,
    ) -> Option<(Evidence, String)> {
        if race.count_before(arrival.at) < self.startup_trials.max(1) as usize {
            return None;
        }
        let peers = race.succeeded_at(arrival.step, arrival.at);
        if peers.is_empty() {
            return None;
        }
        let cutoff = quantile(&peers, best);
        let value = arrival.value.unwrap_or(f64::NAN);
        beats(race.problem.objective.direction, cutoff, value).then(|| {
            let trials = if peers.len() == 1 { "trial that has" } else { "trials that have" };
            let message =
                format!("{}, worse than the {what} {} of {} {trials} succeeded", number(value), number(cutoff), peers.len());
            let cutoff = Some(cutoff).filter(|cutoff| cutoff.is_finite());
            (Evidence { peers: Some(peers.len() as u32), cutoff, ..Evidence::default() }, message)
        })
    }
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

    fn rung(&self, series: &Series) -> Option<u64> {
        let behind = series.last_step()?.checked_sub(self.warmup_steps)?;
        Some(self.warmup_steps + behind / self.interval * self.interval)
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

    fn waits(&self, _: &Problem, history: &[Trial]) -> Option<String> {
        let succeeded = history.iter().filter(|trial| trial.phase == Phase::Succeeded).count();
        let startup = self.startup_trials.max(1) as usize;
        (succeeded < startup).then(|| format!("{succeeded} of {startup} trials have succeeded"))
    }

    fn verdict(&self, race: &mut Race, _: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
        self.compare(race, arrival, 0.5, "median")
    }
}
