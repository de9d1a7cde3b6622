//! Hyperband (Li 2018, JMLR 18-185) in the asynchronous stopping form: trials never wait for each other.
//! A bracket only sets a trial's first rung; all trials that reached a rung are compared there, whatever
//! their bracket (as in Syne Tune, Salinas 2022).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Peers, Verdict};
use crate::core::number::number;
use crate::core::series::MAX_POINTS;
use crate::core::problem::Problem;
use crate::core::trial::{Phase, Trial};

/// Compares Trials at rungs (Li 2018), asynchronously: at each rung the best 1/reductionFactor go on.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{"message": "minSteps must be below maxSteps", "rule": "self.minSteps < self.maxSteps"}]))]
pub struct Settings {
    /// The step of the first rung.
    #[schemars(range(min = 1, max = 1000000000))]
    pub min_steps: u64,
    /// The steps of a whole Trial.
    #[schemars(range(min = 1, max = 1000000000))]
    pub max_steps: u64,
    /// One of so many goes on from a rung to the next, which lies at so many times the steps. Left out: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    pub reduction_factor: Option<u32>,
}

/// Hyperband: min_steps < max_steps, reduction_factor at least 2.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperband {
    /// The step of the first rung.
    pub min_steps: u64,
    /// The steps of a whole trial.
    pub max_steps: u64,
    /// One of so many goes on from a rung; the next lies at so many times the steps.
    pub reduction_factor: u32,
}

impl Algorithm for Hyperband {
    type Settings = Settings;
    const NAME: &'static str = "hyperband";

    fn problems(settings: &Settings) -> Vec<(&'static str, String)> {
        let Settings { min_steps, max_steps, .. } = settings;
        match min_steps < max_steps {
            true => Vec::new(),
            false => vec![("minSteps", format!("minSteps {min_steps} must be below maxSteps {max_steps}"))],
        }
    }

    fn new(settings: &Settings) -> Hyperband {
        Hyperband {
            min_steps: settings.min_steps.max(1),
            max_steps: settings.max_steps,
            reduction_factor: settings.reduction_factor.unwrap_or(3).max(2),
        }
    }

    /// The rungs' steps: min_steps · eta^k below max_steps. At max_steps nothing is left to stop.
    fn rungs(&self) -> Vec<u64> {
        let eta = u64::from(self.reduction_factor);
        std::iter::successors(Some(self.min_steps), |step| step.checked_mul(eta))
            .take_while(|step| *step < self.max_steps)
            .collect()
    }

    fn compares(&self, bracket: Option<u32>, before: Option<u64>, after: u64) -> bool {
        let mut own = self.rungs().into_iter().skip(bracket.unwrap_or(0) as usize);
        own.any(|rung| before < Some(rung) && rung <= after)
    }

    /// The bracket of trial `index`: 0 stops at every rung, each further one skips another rung, the last
    /// never stops. Brackets are dealt by smooth weighted round-robin with Hyperband's sizes
    /// ceil((smax + 1) eta^s / (s + 1)), s being the number of rungs that stop.
    fn bracket(&self, index: u32) -> Option<u32> {
        let rungs = self.rungs().len() as u32;
        let weights: Vec<u128> = (0..=rungs)
            .map(|bracket| {
                let s = rungs - bracket;
                (u128::from(rungs + 1) * u128::from(self.reduction_factor).pow(s)).div_ceil(u128::from(s + 1))
            })
            .collect();
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

    /// Why nothing can ever be stopped, as far as the trials have shown: no step that they report lies at a rung or behind
    /// it and before `max_steps`.
    fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        if problem.budget.max_trials < self.reduction_factor {
            let (eta, most) = (self.reduction_factor, problem.budget.max_trials);
            return Some(format!("reductionFactor is {eta}, and maxTrials only {most}"));
        }
        let (min, max) = (self.min_steps, self.max_steps);
        let mut shown = None;
        for trial in history {
            let (Some(first), Some(last)) = (trial.series.first_step(), trial.series.last_step()) else { continue };
            let points = trial.series.points();
            let between = |step: u64| (min..max).contains(&step);
            // What was thinned away may have been between them.
            if between(last) || points.iter().any(|point| between(point.0)) || points.len() == MAX_POINTS {
                return None;
            }
            let seen = match trial.phase {
                _ if first >= max => format!("steps begin at {first}, and maxSteps is {max}"),
                Phase::Succeeded if last < min => format!("trials end at step {last}, and minSteps is {min}"),
                Phase::Succeeded => format!("no step from minSteps {min} up to maxSteps {max} is reported"),
                _ => continue,
            };
            shown.get_or_insert(seen);
        }
        shown
    }

    /// Whether `trial` is not among the best 1/eta of the trials that reached its last rung. The first
    /// eta - 1 at a rung always go on.
    fn verdict(&self, problem: &Problem, peers: &mut Peers, trial: &Trial) -> Option<Verdict> {
        let (which, direction) = (problem.objective.value, problem.objective.direction);
        let last = trial.series.last_step()?;
        if last >= self.max_steps {
            return None;
        }
        let first = trial.bracket.unwrap_or(0) as usize;
        let rung = self.rungs().into_iter().skip(first).take_while(|rung| *rung <= last).last()?;
        let (_, value) = trial.series.value_at(rung, which, direction)?;
        let reached = peers.at(rung).len();
        let eta = self.reduction_factor as usize;
        if reached < eta {
            return None;
        }
        let places = reached / eta;
        let rank = peers.ahead(rung, trial.index, value) + 1;
        (rank > places).then(|| Verdict {
            index: trial.index,
            step: rung,
            message: format!(
                "at step {rung}: {}, rank {rank} of the {reached} trials that reached this rung; the best {} on",
                number(value),
                if places == 1 { "goes".to_owned() } else { format!("{places} go") }
            ),
        })
    }
}
