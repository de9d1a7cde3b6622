//! Bayesian optimisation with a Gaussian process.

mod acquisition;
mod fit;
mod kernel;
mod model;
mod warp;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Request, Suggestion};
use super::dataset::{Dataset, Finished, Outcome};
use super::point::{self, Point, same};
use super::sobol;
use crate::core::space::Assignments;
use crate::core::problem::{Budget, Problem};
use acquisition::Search;
use kernel::Structure;
use model::{Covariance, Posterior};

/// Bayesian optimisation with a Gaussian process: needs the fewest Trials.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How many Trials must have finished before the surrogate is asked; until then a Sobol sequence proposes. Left out:
    /// 8, or as many as run at once, but at most a quarter of maxTrials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub startup_trials: Option<u32>,
}

/// The sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gp {
    /// How many trials must have finished before the model is asked; None: [`Gp::usual_startup`].
    pub startup_trials: Option<u32>,
}

impl Gp {
    /// How many trials usually come first: enough to fill the places there are, and a quarter of all at most.
    pub fn usual_startup(budget: Budget) -> u32 {
        budget.parallelism.max(8).min((budget.max_trials / 4).max(1))
    }
}

impl Algorithm for Gp {
    type Settings = Settings;
    type Cache = Cache;
    const NAME: &'static str = "gp";
    const VERSION: u32 = 4;

    fn new(settings: &Settings) -> Gp {
        Gp { startup_trials: settings.startup_trials }
    }

    fn propose(&self, request: &Request, cache: &mut Cache) -> Suggestion {
        let startup = self.startup_trials.unwrap_or(Gp::usual_startup(request.problem.budget)).max(1) as usize;
        self.suggestion(match request.dataset.finished.len() < startup {
            true => sobol::propose(&request.problem, request.index),
            false => propose(request, cache),
        })
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
    /// The revision of the dataset, and how many finished trials of it the fit saw.
    of: (u64, usize),
    structure: Structure,
    /// Which of them are modelled.
    chosen: Vec<usize>,
    covariance: Covariance,
}

/// The next configuration. The dataset has finished trials.
fn propose(request: &Request, cache: &mut Cache) -> Assignments {
    let Request { problem, dataset, tried, index } = *request;
    let problem = &problem;
    let finished = &dataset.finished;
    let mut fitted = fitted(problem, dataset, cache.0.take());
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
    // Pending trials are believed to come out at the mean (Ginsbourger 2010, "kriging believer"): they say only that
    // their surroundings are being explored.
    for pending in &dataset.pending {
        let mean = Posterior::new(&fitted.structure, &fitted.covariance, &outputs).mean(&pending.point);
        fitted.covariance.append(&fitted.structure, [(pending.point.clone(), 0.0)]);
        outputs.push(mean);
    }
    let posterior = Posterior::new(&fitted.structure, &fitted.covariance, &outputs);
    let may_succeed = dataset.feasibility(problem.space, 1.0);
    let search = Search { problem: *problem, posterior: &posterior, incumbent, best: &best, tried, may_succeed: &may_succeed };
    let point = search.run(index);
    fitted.covariance.truncate(modelled.len());
    cache.0 = Some(fitted);
    point::assignments(problem.space, &point)
}

/// Where a trial was, and the variance of its noise beyond that of all.
fn observed(trial: &Finished) -> (Point, f64) {
    let extra = if matches!(trial.outcome, Outcome::Pruned(_)) { NOISE_OF_PRUNED } else { 0.0 };
    (trial.point.clone(), extra)
}

/// The fit for so many finished trials: at counts that grow by a tenth, so that what came in between does not matter.
fn fitted(problem: &Problem, dataset: &Dataset, last: Option<Fitted>) -> Fitted {
    let finished = &dataset.finished;
    let count = fit_at(finished.len());
    let of = (dataset.revision, count);
    if let Some(last) = last.filter(|last| last.of == of) {
        return last;
    }
    let structure = Structure::new(problem.space);
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
