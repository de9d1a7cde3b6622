//! A tree-structured Parzen estimator: draws from a density of the good trials, and takes the draw that stands out most
//! from that of the others (Bergstra 2011; multivariate kernels after Falkner 2018; the rules of Watanabe 2023, arXiv
//! 2304.11127, and of Optuna 5). One mixture over all trials: where a parameter is inactive in a trial, its kernel is the
//! prior.
//!
//! Beyond Optuna's rules: kernels of good trials may be three times as narrow, and weigh the more the better the trial is
//! (as the expected improvement does, Watanabe 2023, section 3.2); only configurations that were not tried are drawn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Request, Suggestion};
use super::dataset::{Dataset, Finished, Outcome};
use super::point::{self, Point};
use super::sobol;
use crate::core::normal::{LOG_SQRT_2PI, Truncated, between, log_pdf};
use crate::core::rng::{Stream, stream};
use crate::core::space::{Assignments, Domain, Space};

/// A tree-structured Parzen estimator: cheap, and at home in spaces with many branches.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How many Trials must have finished before the estimator is asked; until then a Sobol sequence proposes. Left out: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub startup_trials: Option<u32>,
    /// How many draws are compared for each proposal. Left out: 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: Option<u32>,
    /// The share of the finished Trials that count as good, of which there are 25 at most. Left out: 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 0.5))]
    pub gamma: Option<f64>,
}

/// The sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tpe {
    /// How many trials must have finished before the estimator is asked.
    pub startup_trials: u32,
    /// How many draws are compared.
    pub candidates: u32,
    /// The share of the finished trials that count as good.
    pub gamma: f64,
}

impl Default for Tpe {
    fn default() -> Tpe {
        Tpe { startup_trials: 10, candidates: 24, gamma: 0.1 }
    }
}

impl Algorithm for Tpe {
    type Settings = Settings;
    type Cache = Cache;
    const NAME: &'static str = "tpe";
    const VERSION: u32 = 4;

    fn new(settings: &Settings) -> Tpe {
        let usual = Tpe::default();
        Tpe {
            startup_trials: settings.startup_trials.unwrap_or(usual.startup_trials),
            candidates: settings.candidates.unwrap_or(usual.candidates),
            gamma: settings.gamma.unwrap_or(usual.gamma),
        }
    }

    fn propose(&self, request: &Request, cache: &mut Cache) -> Suggestion {
        self.suggestion(match request.dataset.finished.len() < self.startup_trials as usize {
            true => sobol::propose(&request.problem, request.index),
            false => propose(self, request, cache),
        })
    }
}

/// There are no more good trials than this.
const MOST_GOOD: usize = 25;
/// The newest trials have full weight.
const FULL_WEIGHT: usize = 25;
/// The least bandwidth of a good trial, as a share of that of the others; in a finite domain it is not below this share of
/// a bin, nor need it be above that of the others.
const NARROWEST: f64 = 0.3;
const NARROWEST_IN_BINS: f64 = 1.0;
/// How many times as far away from a failed trial as from another one candidates lie. With 1, a good trial at the edge of
/// what fails has half of its candidates beyond it.
const CAUTION: f64 = 2.0;
/// So many times as many draws as candidates, at most, are made to find new configurations that may succeed.
const PATIENCE: usize = 20;

/// What was computed for the last proposal.
#[derive(Default)]
pub struct Cache {
    others: Mixture,
}

/// The estimator's configuration. The dataset has finished trials; what was tried is avoided.
pub fn propose(settings: &Tpe, request: &Request, cache: &mut Cache) -> Assignments {
    let Request { problem, dataset, tried, index } = *request;
    let (good, others) = split(settings, dataset);
    let axes = axes(problem.space);
    let mut of_good = Mixture::default();
    of_good.update(&axes, good, |axis| Least {
        share: NARROWEST,
        bandwidth: match axis {
            Axis::Bins(_, size) => NARROWEST_IN_BINS / size,
            _ => 0.0,
        },
    });
    cache.others.update(&axes, others, |_| Least { share: 1.0, bandwidth: 0.0 });
    let mut stream = stream(problem.seed, "tpe", u64::from(index));
    let wanted = settings.candidates.max(1) as usize;
    let mut draw = || of_good.draw(problem.space, &axes, &mut stream);
    let draws = std::iter::repeat_with(&mut draw).take(PATIENCE * wanted);
    let may_succeed = dataset.feasibility(problem.space, CAUTION);
    let mut candidates: Vec<Vec<f64>> =
        draws.filter(|point| !tried.has_near(point) && may_succeed(point)).take(wanted).collect();
    if candidates.is_empty() {
        candidates.push(draw());
    }
    let good_densities = of_good.log_densities(&axes, &candidates);
    let other_densities = cache.others.log_densities(&axes, &candidates);
    let merit = good_densities.iter().zip(&other_densities).map(|(good, other)| good - other);
    let best = merit.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    point::assignments(problem.space, &candidates[best.map_or(0, |(at, _)| at)])
}

/// A trial's kernel.
struct Kernel {
    index: u32,
    point: Point,
    weight: f64,
}

/// The good trials with weights by merit, and all others with those that are pending, with weights by age; both by age.
fn split(settings: &Tpe, dataset: &Dataset) -> (Vec<Kernel>, Vec<Kernel>) {
    let finished = &dataset.finished;
    let count = libm::ceil(settings.gamma * finished.len() as f64) as usize;
    let count = count.clamp(1, MOST_GOOD).min(finished.len());
    let mut order: Vec<usize> = (0..finished.len()).collect();
    if count > 0 {
        order.select_nth_unstable_by(count - 1, |&a, &b| by_merit(finished, a, b));
    }
    order.truncate(count);
    order.retain(|&at| finished[at].outcome != Outcome::Failed);
    order.sort_unstable_by(|&a, &b| by_merit(finished, a, b));
    let mut weights = vec![0.0; finished.len()];
    // From the best down to the last by equal steps, 1 in the middle.
    let step = 2.0 / (order.len() + 1) as f64;
    for (rank, &at) in order.iter().rev().enumerate() {
        weights[at] = (rank + 1) as f64 * step;
    }
    let kernel = |index, point: &Point, weight| Kernel { index, point: point.clone(), weight };
    let (mut good, mut others) = (Vec::with_capacity(order.len()), Vec::with_capacity(finished.len()));
    for (trial, &weight) in finished.iter().zip(&weights) {
        let side = if weight > 0.0 { &mut good } else { &mut others };
        side.push(kernel(trial.index, &trial.point, weight));
    }
    others.extend(dataset.pending.iter().map(|trial| kernel(trial.index, &trial.point, 0.0)));
    let n = others.len();
    others.iter_mut().enumerate().for_each(|(i, kernel)| kernel.weight = weight(i, n));
    (good, others)
}

/// Better trials first, older ones among equals.
fn by_merit(finished: &[Finished], a: usize, b: usize) -> std::cmp::Ordering {
    finished[a].outcome.by_merit(finished[b].outcome).then(a.cmp(&b))
}

/// Weight of the `i`-th oldest of `n`.
fn weight(i: usize, n: usize) -> f64 {
    let old = n.saturating_sub(FULL_WEIGHT);
    if i >= old {
        return 1.0;
    }
    let first = 1.0 / n as f64;
    if old == 1 { first } else { first + (1.0 - first) * i as f64 / (old - 1) as f64 }
}

/// A dimension of the unit cube.
enum Axis {
    Continuous,
    /// Values of a finite domain, by their bins, and how many these are.
    Bins(Domain, f64),
    Categories(usize),
}

fn axes(space: &Space) -> Vec<Axis> {
    let axis = |domain: &Domain| match domain.size() {
        None => Axis::Continuous,
        Some(size) if domain.is_categorical() => Axis::Categories(size as usize),
        Some(size) => Axis::Bins(domain.clone(), size as f64),
    };
    space.parameters().iter().map(|parameter| axis(&parameter.domain)).collect()
}

/// How narrow a kernel may be: a share of the usual bound, but not below a bandwidth that is itself below the bound.
struct Least {
    share: f64,
    bandwidth: f64,
}

/// A kernel's part on one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    deviation: f64,
    /// The logarithm of what a standard normal density is divided by: the deviation, and the share inside of the range.
    log_norm: f64,
}

/// The prior: as wide as the range, around its middle.
fn prior_part() -> (f64, Part) {
    (0.5, Part { deviation: 1.0, log_norm: libm::log(between(-0.5, 0.5)) })
}

/// A density over the unit cube: a product kernel for each trial, and the prior.
#[derive(Default)]
struct Mixture {
    /// By age.
    kernels: Vec<Kernel>,
    /// Where the kernel of a trial stands, by its index.
    places: Vec<Option<u32>>,
    axes: Vec<Sorted>,
}

/// The kernels on one axis.
#[derive(Clone, Default)]
struct Sorted {
    /// Coordinates with the index of their trial, ascending; of trials that have the parameter.
    coordinates: Vec<(f64, u32)>,
    /// By the index of the trial.
    parts: Vec<Part>,
}

impl Mixture {
    /// Makes it the mixture of `kernels`: the same as a new one, but only what has changed is computed.
    fn update(&mut self, axes: &[Axis], kernels: Vec<Kernel>, least: impl Fn(&Axis) -> Least) {
        let most = kernels.iter().map(|kernel| kernel.index as usize + 1).max().unwrap_or(0);
        let mut places = vec![None; most];
        kernels.iter().zip(0..).for_each(|(kernel, place)| places[kernel.index as usize] = Some(place));
        let is_in = |places: &[Option<u32>], index: u32| places.get(index as usize).is_some_and(Option::is_some);
        let new: Vec<&Kernel> = kernels.iter().filter(|kernel| !is_in(&self.places, kernel.index)).collect();
        let has_left = self.kernels.iter().any(|kernel| !is_in(&places, kernel.index));
        self.axes.resize(axes.len(), Sorted::default());
        for (axis, (kind, sorted)) in axes.iter().zip(&mut self.axes).enumerate() {
            if matches!(kind, Axis::Categories(_)) {
                continue;
            }
            if has_left {
                sorted.coordinates.retain(|(_, index)| is_in(&places, *index));
            }
            sorted.coordinates.extend(new.iter().map(|k| (k.point[axis], k.index)).filter(|(x, _)| !x.is_nan()));
            // Almost sorted already, which this sort makes use of.
            sorted.coordinates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            sorted.parts.resize(most, Part { deviation: f64::NAN, log_norm: 0.0 });
            sorted.measure(least(kind));
        }
        self.places = places;
        self.kernels = kernels;
    }

    /// The sum of all weights; the prior's is 1.
    fn total(&self) -> f64 {
        self.kernels.iter().fold(1.0, |sum, kernel| sum + kernel.weight)
    }

    /// The share of the prior in a categorical kernel.
    fn even_share(&self) -> f64 {
        1.0 / (self.kernels.len() + 1) as f64
    }

    /// A draw: from a trial's kernel, or from the prior.
    fn draw(&self, space: &Space, axes: &[Axis], stream: &mut Stream) -> Vec<f64> {
        let mut left = stream.unit() * self.total();
        let kernel = self.kernels.iter().find(|kernel| {
            left -= kernel.weight;
            left < 0.0
        });
        let coordinate = |(axis, kind): (usize, &Axis)| {
            let u = stream.unit();
            let centre = kernel.map_or(f64::NAN, |kernel| kernel.point[axis]);
            match (kind, kernel) {
                (Axis::Categories(n), _) => {
                    let own = if centre.is_nan() { 0.0 } else { 1.0 / (1.0 + self.even_share()) };
                    if u < own { centre } else { (((u - own) / (1.0 - own) * *n as f64) as usize).min(n - 1) as f64 }
                }
                (_, Some(kernel)) if !centre.is_nan() => {
                    drawn(u, centre, self.axes[axis].parts[kernel.index as usize].deviation)
                }
                _ => drawn(u, prior_part().0, prior_part().1.deviation),
            }
        };
        let coordinates: Vec<f64> = axes.iter().enumerate().map(coordinate).collect();
        point::snapped(space, &coordinates)
    }

    /// The logarithm of the density at each of the points.
    fn log_densities(&self, axes: &[Axis], points: &[Vec<f64>]) -> Vec<f64> {
        let total = self.total();
        // Of each point: the logarithm of each kernel's share and density, the prior last.
        let mut shares: Vec<f64> = self.kernels.iter().map(|kernel| libm::log(kernel.weight / total)).collect();
        shares.push(-libm::log(total));
        let mut logs = vec![shares; points.len()];
        for (axis, kind) in axes.iter().enumerate() {
            let points = points.iter().map(|x| x[axis]).zip(&mut logs).filter(|(x, _)| !x.is_nan());
            match kind {
                Axis::Categories(n) => self.add_categories(axis, *n, points),
                Axis::Bins(domain, _) => self.add_bins(axis, domain, points),
                Axis::Continuous => self.add_smooth(axis, points),
            }
        }
        logs.iter().map(|logs| log_sum(logs)).collect()
    }

    /// Adds the logarithm of each kernel's density on a categorical axis: the prior's, where its trial has no value.
    fn add_categories<'a>(&self, axis: usize, n: usize, points: impl Iterator<Item = (f64, &'a mut Vec<f64>)>) {
        let even = self.even_share();
        let spread = even / n as f64;
        let prior = -libm::log(n as f64);
        let (same, other) = (libm::log((1.0 + spread) / (1.0 + even)), libm::log(spread / (1.0 + even)));
        for (x, logs) in points {
            for (log, kernel) in logs.iter_mut().zip(&self.kernels) {
                let centre = kernel.point[axis];
                *log += match centre == x {
                    true => same,
                    false if centre.is_nan() => prior,
                    false => other,
                };
            }
            logs[self.kernels.len()] += prior;
        }
    }

    /// The same on an axis of bins: of kernels that are equal, of which there are many, computed once.
    fn add_bins<'a>(&self, axis: usize, domain: &Domain, points: impl Iterator<Item = (f64, &'a mut Vec<f64>)>) {
        let sorted = &self.axes[axis];
        for (x, logs) in points {
            let bin = domain.bin(domain.at_unit(x));
            let (centre, part) = prior_part();
            let prior = log_part(x, bin, centre, part);
            for (log, kernel) in logs.iter_mut().zip(&self.kernels) {
                *log += if kernel.point[axis].is_nan() { prior } else { 0.0 };
            }
            logs[self.kernels.len()] += prior;
            let mut last = (f64::NAN, part, 0.0);
            for &(centre, index) in &sorted.coordinates {
                let part = sorted.parts[index as usize];
                if (centre, part) != (last.0, last.1) {
                    last = (centre, part, log_part(x, bin, centre, part));
                }
                // Every coordinate is a kernel's.
                if let Some(place) = self.places[index as usize] {
                    logs[place as usize] += last.2;
                }
            }
        }
    }

    /// The same on a continuous axis, in columns that a compiler may compute several at once of.
    fn add_smooth<'a>(&self, axis: usize, points: impl Iterator<Item = (f64, &'a mut Vec<f64>)>) {
        let parts = self.kernels.iter().map(|kernel| match kernel.point[axis] {
            centre if centre.is_nan() => prior_part(),
            centre => (centre, self.axes[axis].parts[kernel.index as usize]),
        });
        let columns: Vec<(f64, f64, f64)> = parts
            .chain([prior_part()])
            .map(|(centre, part)| (centre, 1.0 / part.deviation, LOG_SQRT_2PI + part.log_norm))
            .collect();
        for (x, logs) in points {
            for (log, (centre, inverse, norm)) in logs.iter_mut().zip(&columns) {
                let z = (x - centre) * inverse;
                *log -= 0.5 * z * z + norm;
            }
        }
    }
}

/// The logarithm of the sum of what these are the logarithms of.
fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().fold(f64::NEG_INFINITY, |most, log| most.max(*log));
    // What is e⁴⁰ times smaller than the largest does not change the sum.
    let near = logs.iter().filter(|log| **log > most - 40.0);
    most + libm::log(near.fold(0.0, |sum, log| sum + libm::exp(log - most)))
}

impl Sorted {
    /// The bandwidth of each kernel: the distance to its farther neighbour, within bounds.
    fn measure(&mut self, least: Least) {
        let at = &self.coordinates;
        let usual = 1.0 / (at.len() as f64 + 2.0).min(100.0);
        let least = (least.share * usual).max(least.bandwidth.min(usual));
        for (i, (x, index)) in at.iter().enumerate() {
            let below = if i > 0 { x - at[i - 1].0 } else { *x };
            let above = if i + 1 < at.len() { at[i + 1].0 - x } else { 1.0 - x };
            // At the ends, the neighbour alone, unless there is none.
            let gap = match (i == 0, i + 1 == at.len()) {
                (true, false) => above,
                (false, true) => below,
                _ => below.max(above),
            };
            let deviation = gap.clamp(least, 1.0);
            let part = &mut self.parts[*index as usize];
            if part.deviation != deviation {
                let mass = between(-x / deviation, (1.0 - x) / deviation);
                *part = Part { deviation, log_norm: libm::log(mass) + libm::log(deviation) };
            }
        }
    }
}

/// A draw from a normal cut to [0, 1].
fn drawn(u: f64, centre: f64, deviation: f64) -> f64 {
    Truncated::new(centre, deviation, 0.0, 1.0).quantile(u).clamp(0.0, 1.0)
}

/// The logarithm of the mean density that a truncated normal has in the bin of `x`.
fn log_part(x: f64, (low, high): (f64, f64), centre: f64, part: Part) -> f64 {
    // Far narrower than the kernel, a bin's mean density is that of its middle.
    if high - low < 0.05 * part.deviation {
        return log_pdf((x - centre) / part.deviation) - part.log_norm;
    }
    let mass = between((low - centre) / part.deviation, (high - centre) / part.deviation);
    libm::log(mass.max(f64::MIN_POSITIVE)) - libm::log((high - low) / part.deviation) - part.log_norm
}
