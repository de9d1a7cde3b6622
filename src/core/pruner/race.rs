//! The trials of a study as a pruner compares them: who had come to a rung when, and who had succeeded by then.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::core::objective::beats;
use crate::core::problem::Problem;
use crate::core::series::Arrival;
use crate::core::trial::{Phase, Trial};

/// The trials of a study as a pruner compares them. What many trials are compared with is looked up once.
pub struct Race<'a> {
    /// What is optimised.
    pub problem: &'a Problem<'a>,
    /// All trials.
    pub history: &'a [Trial],
    /// Those that have succeeded, in the order of their completion.
    succeeded: Vec<Succeeded<'a>>,
    rungs: HashMap<u64, Vec<(&'a Arrival, &'a Trial)>>,
    steps: HashMap<u64, Vec<(f64, Timestamp)>>,
}

struct Succeeded<'a> {
    at: Timestamp,
    trial: &'a Trial,
    /// The best value of this one and those before.
    best: f64,
    /// The highest step that one of them has reported.
    last_step: Option<u64>,
}

impl<'a> Race<'a> {
    /// The race of `history`.
    pub fn new(problem: &'a Problem<'a>, history: &'a [Trial]) -> Race<'a> {
        let direction = problem.objective.direction;
        let succeeded = history.iter().filter(|trial| trial.phase == Phase::Succeeded);
        let mut succeeded: Vec<Succeeded> = succeeded
            .filter_map(|trial| {
                let at = trial.completed.unwrap_or(Timestamp::MIN);
                Some(Succeeded { at, trial, best: trial.value?, last_step: trial.series.last_step() })
            })
            .collect();
        succeeded.sort_unstable_by_key(|succeeded| (succeeded.at, succeeded.trial.index));
        for at in 1..succeeded.len() {
            let before = (succeeded[at - 1].best, succeeded[at - 1].last_step);
            let own = &mut succeeded[at];
            own.best = if beats(direction, own.best, before.0) { own.best } else { before.0 };
            own.last_step = own.last_step.max(before.1);
        }
        Race { problem, history, succeeded, rungs: HashMap::new(), steps: HashMap::new() }
    }

    fn last_before(&self, at: Timestamp) -> Option<&Succeeded<'a>> {
        self.succeeded[..self.count_before(at)].last()
    }

    /// How many trials had succeeded by then.
    pub fn count_before(&self, at: Timestamp) -> usize {
        self.succeeded.partition_point(|succeeded| succeeded.at <= at)
    }

    /// The best value of the trials that had succeeded by then: the incumbent.
    pub fn incumbent(&self, at: Timestamp) -> Option<f64> {
        self.last_before(at).map(|last| last.best)
    }

    /// The best of the trials that had succeeded by then and of which `is_fit` holds.
    pub fn best_of(&self, at: Timestamp, is_fit: impl Fn(&Trial) -> bool) -> Option<&'a Trial> {
        let direction = self.problem.objective.direction;
        let fit = self.succeeded[..self.count_before(at)].iter().map(|peer| peer.trial).filter(|trial| is_fit(trial));
        let better = |a: &'a Trial, b: &'a Trial| match (a.value, b.value) {
            (Some(first), Some(second)) if beats(direction, second, first) => b,
            _ => a,
        };
        fit.reduce(better)
    }

    /// The highest step that a trial has reported that had succeeded by then.
    pub fn last_step(&self, at: Timestamp) -> Option<u64> {
        self.last_before(at).and_then(|last| last.last_step)
    }

    /// Whether a value is better than that of every trial that had succeeded by then, of one at least.
    pub fn beats_all(&self, value: f64, at: Timestamp) -> bool {
        self.incumbent(at).is_some_and(|best| beats(self.problem.objective.direction, value, best))
    }

    /// Who had come to `rung` before `arrival`, or with it, in this order; itself included.
    pub fn at_rung(&mut self, rung: u64, arrival: &Arrival, index: u32) -> &[(&'a Arrival, &'a Trial)] {
        let history = self.history;
        let all = self.rungs.entry(rung).or_insert_with(|| {
            let arrival = |trial: &'a Trial| Some((trial.series.arrivals().iter().find(|at| at.rung == rung)?, trial));
            let mut arrivals: Vec<_> = history.iter().filter_map(arrival).collect();
            arrivals.sort_unstable_by_key(|(arrival, trial)| (arrival.at, trial.index));
            arrivals
        });
        let end = all.partition_point(|(other, trial)| (other.at, trial.index) <= (arrival.at, index));
        &all[..end]
    }

    /// The values at `step` of the trials that had succeeded by `at` and have reached it, the best first.
    pub fn succeeded_at(&mut self, step: u64, at: Timestamp) -> Vec<f64> {
        let Race { problem, succeeded, steps, .. } = self;
        let (which, direction) = (problem.objective.value, problem.objective.direction);
        let all = steps.entry(step).or_insert_with(|| {
            let reached = succeeded.iter().filter(|peer| peer.trial.series.last_step() >= Some(step));
            let mut values: Vec<_> = reached
                .filter_map(|peer| Some((peer.trial.series.value_at(step, which, direction)?.1, peer.at)))
                .collect();
            values.sort_by(|a, b| beats(direction, b.0, a.0).cmp(&beats(direction, a.0, b.0)));
            values
        });
        all.iter().filter(|(_, completed)| *completed <= at).map(|(value, _)| *value).collect()
    }
}

/// The value below which the share `quantile` of `sorted` lies, between two of them in proportion. At least one value.
pub fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let at = quantile * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    let share = at - at.floor();
    // Weighted first: the sum of two large values would overflow.
    if share == 0.0 { low } else { low * (1.0 - share) + high * share }
}
