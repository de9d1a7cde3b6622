//! The rungs of successive halving (Jamieson 2016, arXiv 1502.07943), judged asynchronously in the stopping form: trials
//! never wait for each other, and each is judged once, when it comes to a rung.

use super::algorithm::Evidence;
use super::race::Race;
use crate::core::number::number;
use crate::core::objective::beats;
use crate::core::problem::Problem;
use crate::core::series::{Arrival, MAX_POINTS, Series};
use crate::core::trial::{Phase, Trial};

/// Behind this share of a whole trial there is little left to save: nothing is judged there.
pub const LATEST: f64 = 0.9;

/// Rungs at min_steps · eta^k.
#[derive(Clone, Debug, PartialEq)]
pub struct Rungs {
    /// The step of the first rung.
    pub min_steps: u64,
    /// The steps of a whole trial.
    pub max_steps: u64,
    /// One of so many goes on from a rung; the next lies at so many times the steps.
    pub reduction_factor: u32,
}

/// The step of the first rung, where it is left out.
const FIRST_RUNG: u64 = 1;

impl Rungs {
    /// The rungs of these settings, with the defaults of those that are left out.
    pub fn new(min_steps: Option<u64>, max_steps: u64, reduction_factor: Option<u32>) -> Rungs {
        let min_steps = min_steps.unwrap_or(FIRST_RUNG).max(1);
        Rungs { min_steps, max_steps, reduction_factor: reduction_factor.unwrap_or(3).max(2) }
    }

    /// What is wrong with these steps, as (field, message).
    pub fn problems(min_steps: Option<u64>, max_steps: u64) -> Vec<(&'static str, String)> {
        let min_steps = min_steps.unwrap_or(FIRST_RUNG);
        match min_steps < max_steps {
            true => Vec::new(),
            false => vec![("minSteps", format!("minSteps {min_steps} must be below maxSteps {max_steps}"))],
        }
    }

    /// Whether a trial that has come to this step is judged, or has too little left.
    fn is_early(&self, step: u64) -> bool {
        step as f64 <= LATEST * self.max_steps as f64
    }

    /// The rungs' steps, ascending.
    pub fn steps(&self) -> Vec<u64> {
        let eta = u64::from(self.reduction_factor);
        std::iter::successors(Some(self.min_steps), |step| step.checked_mul(eta))
            .take_while(|step| self.is_early(*step))
            .collect()
    }

    /// The highest rung at or below the last step of `series`, where it is judged.
    pub fn reached(&self, series: &Series) -> Option<u64> {
        let last = series.last_step().filter(|last| self.is_early(*last))?;
        self.steps().into_iter().rfind(|rung| *rung <= last)
    }

    /// Whether a trial was not among the best ceil(1/eta) of those that had come to its rung by then. The first eta - 1 at
    /// a rung always go on.
    pub fn verdict(&self, race: &mut Race, trial: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
        let direction = race.problem.objective.direction;
        let eta = self.reduction_factor as usize;
        let there = race.at_rung(arrival.rung, arrival, trial.index);
        let reached = there.len();
        if reached < eta {
            return None;
        }
        let value = |arrival: &Arrival| arrival.value.unwrap_or(f64::NAN);
        let own = value(arrival);
        let mut values: Vec<(f64, u32)> = there.iter().map(|(other, trial)| (value(other), trial.index)).collect();
        let ahead = |(other, index): &&(f64, u32)| {
            beats(direction, *other, own) || (!beats(direction, own, *other) && *index < trial.index)
        };
        let rank = values.iter().filter(ahead).count() + 1;
        let places = reached.div_ceil(eta);
        if rank <= places {
            return None;
        }
        let by_merit = |a: &(f64, u32), b: &(f64, u32)| {
            beats(direction, b.0, a.0).cmp(&beats(direction, a.0, b.0)).then(a.1.cmp(&b.1))
        };
        let (_, cutoff, _) = values.select_nth_unstable_by(places - 1, by_merit);
        let cutoff = Some(cutoff.0).filter(|cutoff| cutoff.is_finite());
        let on = if places == 1 { "goes".to_owned() } else { format!("{places} go") };
        let message = format!(
            "{}, rank {rank} of the {reached} trials that had come to rung {}; the best {on} on",
            number(own),
            arrival.rung
        );
        let evidence = Evidence { peers: Some(reached as u32), cutoff, ..Evidence::default() };
        Some((evidence, message))
    }

    /// Why nothing can ever be stopped, as far as the trials have shown: no step that they report lies at a rung or behind
    /// it and before `max_steps`.
    pub fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        if problem.budget.max_trials < self.reduction_factor {
            let (eta, most) = (self.reduction_factor, problem.budget.max_trials);
            return Some(format!("reductionFactor is {eta}, and maxTrials only {most}"));
        }
        let (min, max) = (self.min_steps, self.max_steps);
        let mut shown = None;
        for trial in history {
            let (Some(first), Some(last)) = (trial.series.first_step(), trial.series.last_step()) else { continue };
            let points = trial.series.points();
            let between = |step: u64| step >= min && self.is_early(step);
            // What was thinned away may have been between them.
            if between(last) || points.iter().any(|point| between(point.0)) || points.len() == MAX_POINTS {
                return None;
            }
            let seen = match trial.phase {
                _ if first >= max => format!("steps begin at {first}, and maxSteps is {max}"),
                Phase::Succeeded if last < min => format!("trials end at step {last}, and minSteps is {min}"),
                Phase::Succeeded => format!("no step from minSteps {min} up to 0.9 of maxSteps {max} is reported"),
                _ => continue,
            };
            shown.get_or_insert(seen);
        }
        shown
    }
}
