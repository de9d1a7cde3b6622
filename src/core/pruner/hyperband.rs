//! Hyperband (Li 2018, JMLR 18-185) in the asynchronous stopping form: trials never wait for each other.
//! A bracket only sets a trial's first rung; all trials that reached a rung are compared there, whatever
//! their bracket (as in Syne Tune, Salinas 2022).

use super::Verdict;
use crate::core::number::number;
use crate::core::ranking::beats;
use crate::core::series::MAX_POINTS;
use crate::core::study::{Phase, Study, Trial};

/// Settings of Hyperband: min_steps < max_steps, reduction_factor at least 2.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperband {
    /// The step of the first rung.
    pub min_steps: u64,
    /// The steps of a whole trial.
    pub max_steps: u64,
    /// One of so many goes on from a rung; the next lies at so many times the steps.
    pub reduction_factor: u32,
}

impl Hyperband {
    /// The rungs' steps: min_steps · eta^k below max_steps. At max_steps nothing is left to stop.
    pub fn rungs(&self) -> Vec<u64> {
        let eta = u64::from(self.reduction_factor);
        std::iter::successors(Some(self.min_steps), |step| step.checked_mul(eta))
            .take_while(|step| *step < self.max_steps)
            .collect()
    }

    /// The bracket of trial `index`: 0 stops at every rung, each further one skips another rung, the last
    /// never stops. Brackets are dealt by smooth weighted round-robin with Hyperband's sizes
    /// ceil((smax + 1) eta^s / (s + 1)), s being the number of rungs that stop.
    pub fn bracket(&self, index: u32) -> u32 {
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
        chosen as u32
    }

    /// Why nothing can ever be stopped, as far as the trials have shown: no step that they report lies at a rung or behind
    /// it and before `max_steps`.
    pub fn obstacle(&self, study: &Study, history: &[Trial]) -> Option<String> {
        if study.limits.max_trials < self.reduction_factor {
            let (eta, most) = (self.reduction_factor, study.limits.max_trials);
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
    pub fn verdict(&self, study: &Study, history: &[Trial], trial: &Trial) -> Option<Verdict> {
        let (which, direction) = (study.objective.value, study.objective.direction);
        let reached = trial.series.last_step()?;
        if reached >= self.max_steps {
            return None;
        }
        let first = trial.bracket.unwrap_or(0) as usize;
        let rung = self.rungs().into_iter().skip(first).take_while(|rung| *rung <= reached).last()?;
        let (_, value) = trial.series.value_at(rung, which, direction)?;
        let at_rung: Vec<(u32, f64)> = history
            .iter()
            .filter(|peer| peer.series.last_step() >= Some(rung))
            .filter_map(|peer| Some((peer.index, peer.series.value_at(rung, which, direction)?.1)))
            .collect();
        let eta = self.reduction_factor as usize;
        if at_rung.len() < eta {
            return None;
        }
        let places = at_rung.len() / eta;
        // Ties go to the lower index, as for the best trial.
        let ahead = at_rung
            .iter()
            .filter(|(index, v)| beats(direction, *v, value) || (!beats(direction, value, *v) && *index < trial.index));
        let rank = ahead.count() + 1;
        (rank > places).then(|| Verdict {
            index: trial.index,
            step: rung,
            message: format!(
                "at step {rung}: {}, rank {rank} of the {} trials that reached this rung; the best {} on",
                number(value),
                at_rung.len(),
                if places == 1 { "goes".to_owned() } else { format!("{places} go") }
            ),
        })
    }
}
