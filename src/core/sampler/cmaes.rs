//! Covariance matrix adaptation (Hansen 2016, "The CMA Evolution Strategy: A Tutorial", arXiv 1604.00772), with negative
//! weights, a margin for whole numbers after Hamano 2022 (arXiv 2205.13482), and restarts of twice the population (Auger
//! and Hansen 2005, IPOP).
//!
//! A trial records the generation it was drawn for. A generation closes with the first trials of it that finish, as many
//! as the population; later ones do not count. Failed trials are the worst of their generation. Trials of no generation
//! that finished before the first of one (initial assignments, another sampler's) tell where to begin: a few by the best of
//! them, many as in Nomura 2021 (arXiv 2012.06932). Categories, and what exists only in a branch, are proposed by tpe.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Request, Suggestion};
use super::dataset::{Dataset, Finished, Outcome};
use super::point;
use super::tpe::Tpe;
use super::tried::SPACING;
use super::{sobol, tpe};
use crate::core::linalg::{add_scaled, dot, eigen, identity};
use crate::core::normal::quantile;
use crate::core::rng::{Stream, stream};
use crate::core::space::{Assignments, Domain, Space};
use crate::core::problem::Problem;

/// Covariance matrix adaptation: for many Trials of many numbers. Categories and branches are proposed as by `tpe`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The first step size, as a share of each parameter's range. Left out: 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 1.0))]
    pub sigma: Option<f64>,
    /// How many Trials a generation has. Left out: 4 + 3 ln d, for d parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1000))]
    pub population: Option<u32>,
    /// How often it may begin anew, with twice the population, once it has converged. Left out: 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub restarts: Option<u32>,
}

/// The sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cmaes {
    /// The first step size, as a share of each range.
    pub sigma: f64,
    /// How many trials a generation has; None for 4 + 3 ln d.
    pub population: Option<u32>,
    /// How often it may begin anew with twice the population once it has converged.
    pub restarts: u32,
}

impl Default for Cmaes {
    fn default() -> Cmaes {
        Cmaes { sigma: 0.2, population: None, restarts: 9 }
    }
}

impl Algorithm for Cmaes {
    type Settings = Settings;
    type Cache = Cache;
    const NAME: &'static str = "cmaes";
    const VERSION: u32 = 4;

    fn new(settings: &Settings) -> Cmaes {
        let usual = Cmaes::default();
        Cmaes {
            sigma: settings.sigma.unwrap_or(usual.sigma),
            population: settings.population,
            restarts: settings.restarts.unwrap_or(usual.restarts),
        }
    }

    fn propose(&self, request: &Request, cache: &mut Cache) -> Suggestion {
        let (assignments, generation) = propose(self, request, cache);
        Suggestion { generation: Some(generation), ..self.suggestion(assignments) }
    }
}

/// The state after so many trials, and what tpe keeps for the rest of the parameters.
#[derive(Default)]
pub struct Cache {
    epoch: u64,
    /// How many finished trials the following come from.
    seen: usize,
    /// Positions of trials of no generation that finished before the first of one.
    warm: Vec<usize>,
    /// Positions of trials of generations that have not closed.
    open: BTreeMap<u32, Vec<usize>>,
    /// None until a trial of a generation has finished.
    state: Option<State>,
    tpe: tpe::Cache,
}

/// So many draws, at most, are made to find a configuration that may succeed and was not tried.
const PATIENCE: usize = 20;
/// So many trials of no generation are a distribution, fewer are a point.
const WARM: usize = 20;

/// The next configuration, and the generation that it is of.
fn propose(settings: &Cmaes, request: &Request, cache: &mut Cache) -> (Assignments, u32) {
    let Request { problem, dataset, tried, index } = *request;
    let problem = &problem;
    let space = problem.space;
    let axes = axes(space);
    let others = match axes.len() == space.parameters().len() {
        true => None,
        false if dataset.finished.is_empty() => Some(sobol::propose(problem, index)),
        false => Some(tpe::propose(&Tpe::default(), request, &mut cache.tpe)),
    };
    if axes.is_empty() {
        return (others.unwrap_or_default(), 0);
    }
    let state = cache.state(settings, problem, &axes, dataset);
    let mut stream = stream(problem.seed, "cmaes", u64::from(index));
    let mut coordinates: Vec<f64> = match others.and_then(|others| point::of(space, &others)) {
        Some(point) => point.to_vec(),
        None => vec![f64::NAN; space.parameters().len()],
    };
    let may_succeed = dataset.feasibility(space, 1.0);
    // The best draw so far: what is merely not the same, once it has converged, or cut at a corner, is better than nothing.
    let mut least_bad = None;
    for _ in 0..PATIENCE {
        let drawn = state.draw(space, &axes, &mut stream);
        axes.iter().zip(drawn).for_each(|(&axis, x)| coordinates[axis] = x);
        let point = point::snapped(space, &coordinates);
        let rank = (!tried.has_near(&point), may_succeed(&point), !tried.has(&point));
        if rank == (true, true, true) {
            return (point::assignments(space, &coordinates), state.generation);
        }
        if least_bad.as_ref().is_none_or(|(best, _)| rank > *best) {
            least_bad = Some((rank, coordinates.clone()));
        }
    }
    let coordinates = least_bad.map_or(coordinates, |(_, coordinates)| coordinates);
    (point::assignments(space, &coordinates), state.generation)
}

/// The parameters that are numbers and always there.
fn axes(space: &Space) -> Vec<usize> {
    let parameters = space.parameters().iter().enumerate();
    parameters.filter(|(_, p)| p.when.is_empty() && !p.domain.is_categorical()).map(|(position, _)| position).collect()
}

impl Cache {
    /// The state after all generations that have closed, and those after it that have begun.
    fn state(&mut self, settings: &Cmaes, problem: &Problem, axes: &[usize], dataset: &Dataset) -> Cow<'_, State> {
        // Only what has finished since is new, if it is the same history.
        if self.epoch != dataset.revision || self.seen > dataset.finished.len() {
            *self = Cache { epoch: dataset.revision, tpe: std::mem::take(&mut self.tpe), ..Cache::default() };
        }
        let finished = &dataset.finished;
        for at in self.seen..finished.len() {
            match finished[at].generation {
                Some(generation) => {
                    let state = self.state.get_or_insert_with(|| State::new(settings, axes, finished, &self.warm));
                    // Late ones do not count.
                    if generation >= state.generation {
                        self.open.entry(generation).or_default().push(at);
                    }
                    while let Some(closed) =
                        self.open.first_entry().filter(|open| state.is_closed_by((open.key(), open.get())))
                    {
                        let members: Vec<&Finished> = closed.remove().iter().map(|&at| &finished[at]).collect();
                        state.update(settings, problem, axes, &members[..state.population]);
                    }
                }
                None if self.state.is_none() => self.warm.push(at),
                None => {}
            }
        }
        self.seen = finished.len();
        match &self.state {
            Some(state) => Cow::Borrowed(state),
            None => Cow::Owned(State::new(settings, axes, finished, &self.warm)),
        }
    }
}

#[derive(Clone)]
struct State {
    generation: u32,
    restarts: u32,
    population: usize,
    mean: Vec<f64>,
    sigma: f64,
    covariance: Vec<Vec<f64>>,
    /// Square roots of the covariance's eigenvalues, and its eigenvectors as columns.
    lengths: Vec<f64>,
    vectors: Vec<Vec<f64>>,
    path_sigma: Vec<f64>,
    path_covariance: Vec<f64>,
    /// Since the last restart.
    updates: u32,
    /// The best of each generation since the last restart.
    bests: Vec<f64>,
}

impl State {
    fn new(settings: &Cmaes, axes: &[usize], finished: &[Finished], warm: &[usize]) -> State {
        let n = axes.len();
        let usual = 4 + libm::floor(3.0 * libm::log(n as f64)) as usize;
        let population = settings.population.map_or(usual, |population| population as usize).max(2);
        let mut order: Vec<&Finished> =
            warm.iter().map(|&at| &finished[at]).filter(|trial| trial.outcome != Outcome::Failed).collect();
        order.sort_by(|a, b| a.outcome.loss().total_cmp(&b.outcome.loss()));
        let at = |trial: &Finished| -> Vec<f64> { axes.iter().map(|&axis| trial.point[axis]).collect() };
        let mut state = State::at(vec![0.5; n], settings.sigma, population);
        if order.len() >= WARM {
            state.warm(&order[..order.len().div_ceil(10)].iter().map(|trial| at(trial)).collect::<Vec<_>>());
        } else if let Some(best) = order.first() {
            state.mean = at(best);
        }
        state
    }

    /// Whether these are the generation that is open, and enough of it have finished.
    fn is_closed_by(&self, (generation, members): (&u32, &[usize])) -> bool {
        *generation == self.generation && members.len() >= self.population
    }

    fn at(mean: Vec<f64>, sigma: f64, population: usize) -> State {
        let n = mean.len();
        State {
            generation: 0,
            restarts: 0,
            population,
            mean,
            sigma,
            covariance: identity(n),
            lengths: vec![1.0; n],
            vectors: identity(n),
            path_sigma: vec![0.0; n],
            path_covariance: vec![0.0; n],
            updates: 0,
            bests: Vec::new(),
        }
    }

    /// Begins at a mixture of small Gaussians around good points: Nomura 2021, equations 8 and 9, with alpha 0.1.
    fn warm(&mut self, good: &[Vec<f64>]) {
        let (n, count) = (self.mean.len(), good.len() as f64);
        self.mean = (0..n).map(|i| good.iter().fold(0.0, |sum, x| sum + x[i]) / count).collect();
        for i in 0..n {
            for j in 0..n {
                let products = good.iter().map(|x| (x[i] - self.mean[i]) * (x[j] - self.mean[j]));
                self.covariance[i][j] = products.fold(0.0, |sum, p| sum + p) / count + if i == j { 0.01 } else { 0.0 };
            }
        }
        let (values, _) = eigen(&self.covariance);
        let log = values.iter().fold(0.0, |sum, value| sum + libm::log(value.max(1e-12))) / n as f64;
        self.sigma = libm::exp(0.5 * log);
        let scale = libm::exp(log);
        self.covariance.iter_mut().flatten().for_each(|c| *c /= scale);
        self.decompose();
    }

    fn decompose(&mut self) {
        let (values, vectors) = eigen(&self.covariance);
        self.lengths = values.into_iter().map(|value| libm::sqrt(value.max(1e-20))).collect();
        self.vectors = vectors;
    }

    /// A step of the distribution, from standard normal draws.
    fn step(&self, z: &[f64]) -> Vec<f64> {
        let scaled: Vec<f64> = z.iter().zip(&self.lengths).map(|(z, length)| z * length).collect();
        self.vectors.iter().map(|row| dot(row, &scaled)).collect()
    }

    fn draw(&self, space: &Space, axes: &[usize], stream: &mut Stream) -> Vec<f64> {
        let mut x = self.mean.clone();
        // Outside of the box it is drawn again, and cut in the end.
        for _ in 0..10 {
            let z: Vec<f64> = axes.iter().map(|_| quantile(stream.unit().clamp(1e-15, 1.0 - 1e-15))).collect();
            let step = self.step(&z);
            x = (0..x.len())
                .map(|i| {
                    let margin = self.margin(&space.parameters()[axes[i]].domain, i);
                    self.mean[i] + self.sigma * step[i] * margin
                })
                .collect();
            if x.iter().all(|x| (0.0..=1.0).contains(x)) {
                return x;
            }
        }
        x.into_iter().map(|x| x.clamp(0.0, 1.0)).collect()
    }

    /// What the deviation of a finite domain's axis is multiplied with, so that another value than the mean's stays
    /// possible: at least once in as many draws as a generation has coordinates.
    fn margin(&self, domain: &Domain, i: usize) -> f64 {
        if domain.is_continuous() {
            return 1.0;
        }
        let (low, high) = domain.bin(domain.at_unit(self.mean[i].clamp(0.0, 1.0 - f64::EPSILON)));
        // The nearer edge that has a value beyond it.
        let edges = [(low > 0.0).then_some(self.mean[i] - low), (high < 1.0).then_some(high - self.mean[i])];
        let Some(distance) = edges.into_iter().flatten().reduce(f64::min) else { return 1.0 };
        let chance = 1.0 / (self.mean.len() * self.population) as f64;
        let needed = distance.max(0.0) / -quantile(chance.min(0.4));
        let deviation = self.sigma * libm::sqrt(self.covariance[i][i].max(1e-300));
        (needed / deviation).max(1.0)
    }

    /// One generation further: Hansen 2016, equations 41 to 47, with the defaults of its table 1.
    fn update(&mut self, settings: &Cmaes, problem: &Problem, axes: &[usize], members: &[&Finished]) {
        let n = self.mean.len();
        let dimension = n as f64;
        let mut order: Vec<&&Finished> = members.iter().collect();
        order.sort_by(|a, b| a.outcome.by_merit(b.outcome));
        let population = members.len();
        let raw: Vec<f64> =
            (1..=population).map(|i| libm::log((population as f64 + 1.0) / 2.0) - libm::log(i as f64)).collect();
        let parents = population / 2;
        let sums = |part: &[f64]| part.iter().fold((0.0, 0.0), |(sum, squares), w| (sum + w.abs(), squares + w * w));
        let (positive, squares) = sums(&raw[..parents]);
        let effective = positive * positive / squares;
        let (negative, negative_squares) = sums(&raw[parents..]);
        let effective_negative = if negative_squares > 0.0 { negative * negative / negative_squares } else { 0.0 };
        let c1 = 2.0 / ((dimension + 1.3) * (dimension + 1.3) + effective);
        let cmu = (2.0 * (effective - 2.0 + 1.0 / effective) / ((dimension + 2.0) * (dimension + 2.0) + effective))
            .min(1.0 - c1)
            .max(0.0);
        let c_sigma = (effective + 2.0) / (dimension + effective + 5.0);
        let damping = 1.0 + 2.0 * (libm::sqrt((effective - 1.0) / (dimension + 1.0)) - 1.0).max(0.0) + c_sigma;
        let c_c = (4.0 + effective / dimension) / (dimension + 4.0 + 2.0 * effective / dimension);
        let chi = libm::sqrt(dimension) * (1.0 - 1.0 / (4.0 * dimension) + 1.0 / (21.0 * dimension * dimension));
        let least = if cmu > 0.0 {
            (1.0 + c1 / cmu)
                .min(1.0 + 2.0 * effective_negative / (effective + 2.0))
                .min((1.0 - c1 - cmu) / (dimension * cmu))
        } else {
            0.0
        };
        let weights: Vec<f64> =
            raw.iter().map(|w| if *w >= 0.0 { w / positive } else { w * least / negative.max(1e-300) }).collect();
        let steps: Vec<Vec<f64>> = order
            .iter()
            .map(|trial| {
                axes.iter().zip(&self.mean).map(|(&axis, mean)| (trial.point[axis] - mean) / self.sigma).collect()
            })
            .collect();
        let mut step = vec![0.0; n];
        for (weight, y) in weights[..parents].iter().zip(&steps) {
            add_scaled(&mut step, *weight, y);
        }
        add_scaled(&mut self.mean, self.sigma, &step);
        self.mean.iter_mut().for_each(|mean| *mean = mean.clamp(0.0, 1.0 - f64::EPSILON));
        let whitened = |y: &[f64]| -> Vec<f64> {
            let rotated: Vec<f64> =
                (0..n).map(|k| (0..n).fold(0.0, |sum, i| sum + self.vectors[i][k] * y[i]) / self.lengths[k]).collect();
            self.vectors.iter().map(|row| dot(row, &rotated)).collect()
        };
        let white = whitened(&step);
        let squared: Vec<f64> = steps.iter().map(|y| whitened(y)).map(|w| dot(&w, &w)).collect();
        let gain = libm::sqrt(c_sigma * (2.0 - c_sigma) * effective);
        self.path_sigma.iter_mut().zip(&white).for_each(|(p, w)| *p = (1.0 - c_sigma) * *p + gain * w);
        let norm = libm::sqrt(dot(&self.path_sigma, &self.path_sigma));
        self.updates += 1;
        let decay = 1.0 - libm::pow(1.0 - c_sigma, 2.0 * f64::from(self.updates));
        let holds = norm / libm::sqrt(decay) < (1.4 + 2.0 / (dimension + 1.0)) * chi;
        let gain = if holds { libm::sqrt(c_c * (2.0 - c_c) * effective) } else { 0.0 };
        self.path_covariance.iter_mut().zip(&step).for_each(|(p, y)| *p = (1.0 - c_c) * *p + gain * y);
        let lost = if holds { 0.0 } else { c1 * c_c * (2.0 - c_c) };
        let total: f64 = weights.iter().fold(0.0, |sum, w| sum + w);
        for i in 0..n {
            for j in 0..=i {
                let mut c = (1.0 + lost - c1 - cmu * total) * self.covariance[i][j];
                c += c1 * self.path_covariance[i] * self.path_covariance[j];
                for ((weight, y), squared) in weights.iter().zip(&steps).zip(&squared) {
                    let weight = if *weight >= 0.0 { *weight } else { weight * dimension / squared.max(1e-8) };
                    c += cmu * weight * y[i] * y[j];
                }
                self.covariance[i][j] = c;
                self.covariance[j][i] = c;
            }
        }
        self.sigma *= libm::exp(((c_sigma / damping) * (norm / chi - 1.0)).min(1.0));
        self.sigma = self.sigma.clamp(1e-12, 1.0);
        self.decompose();
        self.bests.push(order[0].outcome.loss());
        self.generation += 1;
        if self.has_converged(problem, axes, order[population - 1].outcome.loss()) && self.restarts < settings.restarts {
            self.restart(settings, problem);
        }
    }

    fn has_converged(&self, problem: &Problem, axes: &[usize], worst: f64) -> bool {
        let longest = self.lengths.iter().fold(0.0_f64, |most, length| most.max(*length));
        let shortest = self.lengths.iter().fold(f64::INFINITY, |least, length| least.min(*length));
        let n = self.mean.len() as f64;
        let is_small = |(i, axis): (usize, &usize)| {
            // Between the values of a finite domain there is nothing to find.
            let width = match problem.space.parameters()[*axis].domain.size() {
                Some(size) => 0.2 / size as f64,
                None => 0.1 * SPACING,
            };
            self.sigma * libm::sqrt(self.covariance[i][i].max(0.0)) < width
        };
        let recent = (10.0 + 30.0 * n / self.population as f64) as usize;
        let flat = self.bests.len() >= recent && {
            let last = &self.bests[self.bests.len() - recent..];
            let most = last.iter().fold(worst, |most, best| most.max(*best));
            let least = last.iter().fold(f64::INFINITY, |least, best| least.min(*best));
            most - least <= 1e-12 * most.abs().max(least.abs())
        };
        flat || axes.iter().enumerate().all(is_small) || longest > 1e7 * shortest
    }

    fn restart(&mut self, settings: &Cmaes, problem: &Problem) {
        let mut stream = stream(problem.seed, "cmaes restart", u64::from(self.restarts));
        let mean = self.mean.iter().map(|_| stream.unit()).collect();
        let fresh = State::at(mean, settings.sigma, self.population * 2);
        *self = State { generation: self.generation, restarts: self.restarts + 1, ..fresh };
    }
}
