//! Bayesian optimisation with a Gaussian process.

mod acquisition;
mod fit;
mod kernel;
mod model;
mod warp;

use super::learned::{self, Finished, Learned, Outcome, Point, same};
use super::tried::Tried;
use crate::core::space::Assignments;
use crate::core::study::Study;
use acquisition::Search;
use kernel::Structure;
use model::{Covariance, Posterior};

/// Settings of the sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gp {
    /// How many trials must have finished before the model is asked.
    pub startup_trials: u32,
}

impl Gp {
    /// How many trials usually come first: enough to fill the places there are, and a quarter of all at most.
    pub fn usual_startup(parallelism: u32, max_trials: u32) -> u32 {
        parallelism.max(8).min((max_trials / 4).max(1))
    }
}

/// More trials than this are not modelled: a part of them is.
pub const MOST_TRIALS: usize = 500;

/// The variance, of outputs of variance 1, of what a pruned trial would have come to.
const NOISE_OF_PRUNED: f64 = 0.1;

/// The hyperparameters are fitted to so many trials at most.
const MOST_FITTED: usize = 160;

/// The last fit, and what it was of.
#[derive(Default)]
pub struct Cache(Option<Fitted>);

struct Fitted {
    /// The epoch of what was learned, and how many finished trials of it the fit saw.
    of: (u64, usize),
    structure: Structure,
    /// Which of them are modelled.
    chosen: Vec<usize>,
    covariance: Covariance,
}

/// The next configuration. `learned` has finished trials.
pub fn propose(study: &Study, learned: &Learned, index: u32, tried: &Tried, cache: &mut Cache) -> Assignments {
    let finished = &learned.finished;
    let mut fitted = fitted(study, learned, cache.0.take());
    let (_, seen) = fitted.of;
    let modelled: Vec<usize> = fitted.chosen.iter().copied().chain(seen..finished.len()).collect();
    let known = fitted.covariance.len();
    fitted.covariance.append(&fitted.structure, modelled[known..].iter().map(|&i| observed(&finished[i])));
    let outcomes: Vec<Outcome> = modelled.iter().map(|&i| finished[i].outcome).collect();
    let mut outputs = warp::warp(&outcomes);
    let posterior = Posterior::new(&fitted.structure, &fitted.covariance, &outputs);
    // With noise the lowest output is luck: what the surrogate makes of it counts.
    let means: Vec<f64> = modelled.iter().map(|&i| posterior.mean(&finished[i].point)).collect();
    let mut order: Vec<usize> = (0..modelled.len()).collect();
    order.sort_by(|&a, &b| means[a].total_cmp(&means[b]));
    let incumbent = means[order[0]];
    let mut best: Vec<Point> = Vec::new();
    for &i in &order {
        let point = &finished[modelled[i]].point;
        if best.iter().all(|known| !same(known, point)) {
            best.push(point.clone());
        }
        if best.len() == 5 {
            break;
        }
    }
    // Pending trials are believed to come out at the mean (Ginsbourger 2010, "kriging believer"): they teach only that
    // their surroundings are being looked at.
    for pending in &learned.pending {
        let mean = Posterior::new(&fitted.structure, &fitted.covariance, &outputs).mean(&pending.point);
        fitted.covariance.append(&fitted.structure, [(pending.point.clone(), 0.0)]);
        outputs.push(mean);
    }
    let posterior = Posterior::new(&fitted.structure, &fitted.covariance, &outputs);
    let may_succeed = learned.feasibility(&study.space, 1.0);
    let search = Search { study, posterior: &posterior, incumbent, best: &best, tried, may_succeed: &may_succeed };
    let point = search.run(index);
    fitted.covariance.truncate(modelled.len());
    cache.0 = Some(fitted);
    learned::assignments(&study.space, &point)
}

/// Where a trial was, and the variance of its noise beyond that of all.
fn observed(trial: &Finished) -> (Point, f64) {
    let extra = if matches!(trial.outcome, Outcome::Pruned(_)) { NOISE_OF_PRUNED } else { 0.0 };
    (trial.point.clone(), extra)
}

/// The fit for so many finished trials: at counts that grow by a tenth, so that what came in between does not matter.
fn fitted(study: &Study, learned: &Learned, last: Option<Fitted>) -> Fitted {
    let finished = &learned.finished;
    let count = fit_at(finished.len());
    let of = (learned.epoch, count);
    if let Some(last) = last.filter(|last| last.of == of) {
        return last;
    }
    let structure = Structure::new(&study.space);
    let outcomes: Vec<Outcome> = finished[..count].iter().map(|trial| trial.outcome).collect();
    let few = chosen(&outcomes, MOST_FITTED);
    let outputs = warp::warp(&outcomes);
    let (points, outputs): (Vec<(Point, f64)>, Vec<f64>) =
        few.iter().map(|&i| (observed(&finished[i]), outputs[i])).unzip();
    let hyperparameters = fit::fit(&structure, &points, &outputs);
    let chosen = chosen(&outcomes, MOST_TRIALS - MOST_TRIALS / 10);
    Fitted { of, structure, chosen, covariance: Covariance::new(hyperparameters) }
}

/// The last count, up to `n`, at which hyperparameters are fitted.
fn fit_at(n: usize) -> usize {
    let mut count = 1;
    loop {
        let next = count + (count / 10).clamp(1, MOST_TRIALS / 10);
        if next > n {
            return count;
        }
        count = next;
    }
}

/// Up to `most` of the trials, in their order: half of them the best, the others spread evenly over the rest.
fn chosen(outcomes: &[Outcome], most: usize) -> Vec<usize> {
    let n = outcomes.len();
    if n <= most {
        return (0..n).collect();
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| outcomes[a].by_merit(outcomes[b]));
    let rest = order.split_off(most / 2);
    let others = most - order.len();
    order.extend((0..others).map(|i| rest[i * rest.len() / others]));
    order.sort_unstable();
    order
}
