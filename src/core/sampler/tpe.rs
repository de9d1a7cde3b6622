//! A tree-structured Parzen estimator: draws from a density of the good trials, and takes the draw that stands out most
//! from that of the others (Bergstra 2011; multivariate kernels after Falkner 2018; the rules of Watanabe 2023, arXiv
//! 2304.11127, and of Optuna 5). One mixture over all trials: where a parameter is inactive in a trial, its kernel is the
//! prior.

use std::collections::HashMap;

use super::learned::{self, Learned, Outcome, Point};
use crate::core::normal::{between, cdf, quantile};
use crate::core::rng::{Stream, stream};
use crate::core::space::{Assignments, Domain, Space};
use crate::core::study::Study;

/// Settings of the sampler.
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

/// There are no more good trials than this.
const MOST_GOOD: usize = 25;
/// The newest trials have full weight.
const FULL_WEIGHT: usize = 25;

/// What was computed for the last proposal.
#[derive(Default)]
pub struct Cache {
    others: Mixture,
}

/// The next configuration. `learned` has finished trials.
pub fn propose(settings: &Tpe, study: &Study, learned: &Learned, index: u32, cache: &mut Cache) -> Assignments {
    let (good, others) = split(settings, learned);
    let axes = axes(&study.space);
    let mut of_good = Mixture::default();
    of_good.update(&axes, &good);
    cache.others.update(&axes, &others);
    let mut stream = stream(study.seed, "tpe", u64::from(index));
    let candidates: Vec<Vec<f64>> =
        (0..settings.candidates.max(1)).map(|_| of_good.draw(&study.space, &axes, &mut stream)).collect();
    let good_densities = of_good.log_densities(&axes, &candidates);
    let other_densities = cache.others.log_densities(&axes, &candidates);
    let merit = good_densities.iter().zip(&other_densities).map(|(good, other)| good - other);
    let best = merit.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    learned::assignments(&study.space, &candidates[best.map_or(0, |(at, _)| at)])
}

/// The good trials, and all others with those that are pending; both by age, with their weights.
fn split(settings: &Tpe, learned: &Learned) -> (Vec<(u32, Point)>, Vec<(u32, Point)>) {
    let finished = &learned.finished;
    let count = libm::ceil(settings.gamma * finished.len() as f64) as usize;
    let count = count.clamp(1, MOST_GOOD).min(finished.len());
    let mut order: Vec<usize> = (0..finished.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (finished[a].outcome.merit(), finished[b].outcome.merit());
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
    });
    let mut is_good = vec![false; finished.len()];
    for &at in order[..count].iter().filter(|at| finished[**at].outcome != Outcome::Failed) {
        is_good[at] = true;
    }
    let of = |wanted: bool| {
        let chosen = finished.iter().zip(&is_good).filter(move |(_, good)| **good == wanted);
        chosen.map(|(trial, _)| (trial.index, trial.point.clone()))
    };
    let pending = learned.pending.iter().map(|trial| (trial.index, trial.point.clone()));
    (of(true).collect(), of(false).chain(pending).collect())
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
    /// Values of a finite domain, by their bins.
    Bins(Domain),
    Categories(usize),
}

fn axes(space: &Space) -> Vec<Axis> {
    let axis = |domain: &Domain| match domain.size() {
        None => Axis::Continuous,
        Some(size) if domain.is_categorical() => Axis::Categories(size as usize),
        Some(_) => Axis::Bins(domain.clone()),
    };
    space.parameters().iter().map(|parameter| axis(&parameter.domain)).collect()
}

/// A kernel's part on one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    deviation: f64,
    /// The logarithm of what the normal density is divided by.
    log_norm: f64,
}

/// A density over the unit cube: a product kernel for each trial, and the prior.
#[derive(Default)]
struct Mixture {
    /// By age.
    trials: Vec<(u32, Point)>,
    /// For each axis, coordinates with the place of their trial, ascending; trials that have the parameter only.
    sorted: Vec<Vec<(f64, u32)>>,
    /// For each trial, by index, a part for each axis; of no use where it is inactive.
    parts: HashMap<u32, Vec<Part>>,
}

impl Mixture {
    /// Makes it the mixture of `trials`: the same as a new one, but only what has changed is computed.
    fn update(&mut self, axes: &[Axis], trials: &[(u32, Point)]) {
        self.trials = trials.to_vec();
        self.sorted = (0..axes.len())
            .map(|axis| {
                let mut sorted: Vec<(f64, u32)> =
                    trials.iter().map(|(index, point)| (point[axis], *index)).filter(|(x, _)| !x.is_nan()).collect();
                sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                sorted
            })
            .collect();
        self.parts = trials
            .iter()
            .map(|(index, _)| (*index, vec![Part { deviation: 1.0, log_norm: 0.0 }; axes.len()]))
            .collect();
        for (axis, kind) in axes.iter().enumerate() {
            if matches!(kind, Axis::Categories(_)) {
                continue;
            }
            let sorted = &self.sorted[axis];
            let least = 1.0 / (sorted.len() as f64 + 2.0).min(100.0);
            for (at, (x, index)) in sorted.iter().enumerate() {
                let below = if at > 0 { x - sorted[at - 1].0 } else { *x };
                let above = if at + 1 < sorted.len() { sorted[at + 1].0 - x } else { 1.0 - x };
                // At the ends, the neighbour alone, unless there is none.
                let gap = match (at, at + 1 == sorted.len()) {
                    (0, false) => above,
                    (0, true) => below.max(above),
                    (_, true) => below,
                    _ => below.max(above),
                };
                let deviation = gap.clamp(least, 1.0);
                let mass = between(-x / deviation, (1.0 - x) / deviation);
                let part = Part { deviation, log_norm: libm::log(mass) };
                if let Some(parts) = self.parts.get_mut(index) {
                    parts[axis] = part;
                }
            }
        }
    }

    /// A draw: from a trial's kernel, or from the prior. All coordinates; some are of inactive parameters.
    fn draw(&self, space: &Space, axes: &[Axis], stream: &mut Stream) -> Vec<f64> {
        let n = self.trials.len();
        let total: f64 = (0..n).fold(1.0, |sum, i| sum + weight(i, n));
        let mut left = stream.unit() * total;
        let mut kernel = None;
        for (i, trial) in self.trials.iter().enumerate() {
            left -= weight(i, n);
            if left < 0.0 {
                kernel = Some(trial);
                break;
            }
        }
        let coordinates: Vec<f64> = axes
            .iter()
            .enumerate()
            .map(|(axis, kind)| {
                let u = stream.unit();
                let centre = kernel.map_or(f64::NAN, |(_, point)| point[axis]);
                match kind {
                    Axis::Categories(n) => {
                        let even = 1.0 / (self.trials.len() + 1) as f64;
                        let own = 1.0 / (1.0 + even);
                        match u < own && !centre.is_nan() {
                            true => centre,
                            false => {
                                let u = if centre.is_nan() { u } else { (u - own) / (1.0 - own) };
                                ((u * *n as f64) as usize).min(n - 1) as f64
                            }
                        }
                    }
                    Axis::Continuous | Axis::Bins(_) => {
                        let (centre, deviation) = match kernel {
                            Some((index, _)) if !centre.is_nan() => (centre, self.parts[index][axis].deviation),
                            // The prior kernel: as wide as the range, around its middle.
                            _ => (0.5, 1.0),
                        };
                        let low = cdf(-centre / deviation);
                        let mass = between(-centre / deviation, (1.0 - centre) / deviation);
                        (centre + deviation * quantile((low + u * mass).clamp(1e-300, 1.0 - 1e-16))).clamp(0.0, 1.0)
                    }
                }
            })
            .collect();
        super::gp::snapped(space, &coordinates)
    }

    /// The logarithm of the density at each of the points.
    fn log_densities(&self, axes: &[Axis], points: &[Vec<f64>]) -> Vec<f64> {
        let n = self.trials.len();
        let total: f64 = (0..n).fold(1.0, |sum, i| sum + weight(i, n));
        let categories = |n: &usize, same: bool| {
            let even = 1.0 / (self.trials.len() + 1) as f64;
            ((if same { 1.0 } else { 0.0 }) + even / *n as f64) / (1.0 + even)
        };
        points
            .iter()
            .map(|x| {
                let log_kernel = |kernel: Option<&(u32, Point)>| {
                    axes.iter().enumerate().fold(0.0, |sum, (axis, kind)| {
                        let x = x[axis];
                        if x.is_nan() {
                            return sum;
                        }
                        let centre = kernel.map_or(f64::NAN, |(_, point)| point[axis]);
                        sum + match kind {
                            Axis::Categories(n) if centre.is_nan() => -libm::log(*n as f64),
                            Axis::Categories(n) => libm::log(categories(n, centre == x)),
                            Axis::Continuous | Axis::Bins(_) => {
                                let (centre, part) = match kernel {
                                    Some((index, _)) if !centre.is_nan() => (centre, self.parts[index][axis]),
                                    _ => (0.5, Part { deviation: 1.0, log_norm: libm::log(between(-0.5, 0.5)) }),
                                };
                                log_part(kind, x, centre, part)
                            }
                        }
                    })
                };
                let mut logs: Vec<f64> = Vec::with_capacity(n + 1);
                for (i, trial) in self.trials.iter().enumerate() {
                    logs.push(libm::log(weight(i, n) / total) + log_kernel(Some(trial)));
                }
                logs.push(-libm::log(total) + log_kernel(None));
                let most = logs.iter().fold(f64::NEG_INFINITY, |most, log| most.max(*log));
                most + libm::log(logs.iter().fold(0.0, |sum, log| sum + libm::exp(log - most)))
            })
            .collect()
    }
}

/// The logarithm of a truncated normal's density at `x`; of a finite domain, of its bin's mean density.
fn log_part(axis: &Axis, x: f64, centre: f64, part: Part) -> f64 {
    const LOG_SQRT_2PI: f64 = 0.918_938_533_204_672_7;
    let bin = match axis {
        Axis::Bins(domain) => domain.bin(domain.at_unit(x)),
        _ => (x, x),
    };
    let width = bin.1 - bin.0;
    // Far narrower than the kernel a bin's mean density is that of its middle.
    if width < 0.05 * part.deviation {
        let z = (x - centre) / part.deviation;
        return -0.5 * z * z - LOG_SQRT_2PI - libm::log(part.deviation) - part.log_norm;
    }
    let mass = between((bin.0 - centre) / part.deviation, (bin.1 - centre) / part.deviation);
    libm::log(mass.max(f64::MIN_POSITIVE)) - libm::log(width) - part.log_norm
}
