//! A tree-structured Parzen estimator: draws from a density of the good trials, and takes the draw that stands out most
//! from that of the others (Bergstra 2011; multivariate kernels after Falkner 2018; the rules of Watanabe 2023, arXiv
//! 2304.11127, and of Optuna 5). One mixture over all trials: where a parameter is inactive in a trial, its kernel is the
//! prior.

use super::learned::{self, Learned, Outcome, Point};
use crate::core::normal::{Truncated, between, log_pdf};
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
    of_good.update(&axes, good);
    cache.others.update(&axes, others);
    let mut stream = stream(study.seed, "tpe", u64::from(index));
    let candidates: Vec<Vec<f64>> =
        (0..settings.candidates.max(1)).map(|_| of_good.draw(&study.space, &axes, &mut stream)).collect();
    let good_densities = of_good.log_densities(&axes, &candidates);
    let other_densities = cache.others.log_densities(&axes, &candidates);
    let merit = good_densities.iter().zip(&other_densities).map(|(good, other)| good - other);
    let best = merit.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    learned::assignments(&study.space, &candidates[best.map_or(0, |(at, _)| at)])
}

/// A trial's kernel.
struct Kernel {
    index: u32,
    point: Point,
    weight: f64,
}

/// The good trials, and all others with those that are pending; both by age, with their weights.
fn split(settings: &Tpe, learned: &Learned) -> (Vec<Kernel>, Vec<Kernel>) {
    let finished = &learned.finished;
    let count = libm::ceil(settings.gamma * finished.len() as f64) as usize;
    let count = count.clamp(1, MOST_GOOD).min(finished.len());
    let mut order: Vec<usize> = (0..finished.len()).collect();
    order.sort_by(|&a, &b| finished[a].outcome.by_merit(finished[b].outcome));
    let mut is_good = vec![false; finished.len()];
    for &at in order[..count].iter().filter(|at| finished[**at].outcome != Outcome::Failed) {
        is_good[at] = true;
    }
    let finished = || finished.iter().zip(&is_good).map(|(trial, good)| (trial.index, &trial.point, *good));
    let pending = learned.pending.iter().map(|trial| (trial.index, &trial.point, false));
    let good = finished().filter(|(.., good)| *good);
    let others = finished().filter(|(.., good)| !good).chain(pending);
    (kernels(good), kernels(others))
}

/// The kernels of trials, by age.
fn kernels<'a>(trials: impl Iterator<Item = (u32, &'a Point, bool)>) -> Vec<Kernel> {
    let kernel = |(index, point, _): (u32, &Point, bool)| Kernel { index, point: point.clone(), weight: 1.0 };
    let mut kernels: Vec<Kernel> = trials.map(kernel).collect();
    let n = kernels.len();
    kernels.iter_mut().enumerate().for_each(|(i, kernel)| kernel.weight = weight(i, n));
    kernels
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
    /// Whether there is a kernel of a trial, by its index.
    present: Vec<bool>,
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
    fn update(&mut self, axes: &[Axis], kernels: Vec<Kernel>) {
        let most = kernels.iter().map(|kernel| kernel.index as usize + 1).max().unwrap_or(0);
        let mut present = vec![false; most];
        kernels.iter().for_each(|kernel| present[kernel.index as usize] = true);
        let was_present = |index: u32| self.present.get(index as usize).copied().unwrap_or(false);
        let new: Vec<&Kernel> = kernels.iter().filter(|kernel| !was_present(kernel.index)).collect();
        self.axes.resize(axes.len(), Sorted::default());
        for (axis, (kind, sorted)) in axes.iter().zip(&mut self.axes).enumerate() {
            if matches!(kind, Axis::Categories(_)) {
                continue;
            }
            sorted.coordinates.retain(|(_, index)| present.get(*index as usize).copied().unwrap_or(false));
            sorted.coordinates.extend(new.iter().map(|k| (k.point[axis], k.index)).filter(|(x, _)| !x.is_nan()));
            // Almost sorted already, which this sort makes use of.
            sorted.coordinates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            sorted.parts.resize(most, Part { deviation: f64::NAN, log_norm: 0.0 });
            sorted.measure();
        }
        self.present = present;
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
        learned::snapped(space, &coordinates)
    }

    /// The logarithm of the density at each of the points.
    fn log_densities(&self, axes: &[Axis], points: &[Vec<f64>]) -> Vec<f64> {
        let total = self.total();
        let weights: Vec<f64> = self.kernels.iter().map(|kernel| libm::log(kernel.weight / total)).collect();
        let even = self.even_share();
        let mut logs = Vec::with_capacity(self.kernels.len() + 1);
        let density = |x: &Vec<f64>| {
            logs.clear();
            logs.extend_from_slice(&weights);
            logs.push(-libm::log(total));
            for (axis, kind) in axes.iter().enumerate().filter(|(axis, _)| !x[*axis].is_nan()) {
                let x = x[axis];
                // Of a category: the prior, and a kernel where it is its own and where it is another.
                let (prior, same, other) = match kind {
                    Axis::Categories(n) => {
                        let spread = even / *n as f64;
                        let own = libm::log((1.0 + spread) / (1.0 + even));
                        (-libm::log(*n as f64), own, libm::log(spread / (1.0 + even)))
                    }
                    _ => {
                        let (centre, part) = prior_part();
                        (log_part(kind, x, centre, part), 0.0, 0.0)
                    }
                };
                for (log, kernel) in logs.iter_mut().zip(&self.kernels) {
                    let centre = kernel.point[axis];
                    *log += match kind {
                        _ if centre.is_nan() => prior,
                        Axis::Categories(_) if centre == x => same,
                        Axis::Categories(_) => other,
                        _ => log_part(kind, x, centre, self.axes[axis].parts[kernel.index as usize]),
                    };
                }
                if let Some(log) = logs.last_mut() {
                    *log += prior;
                }
            }
            let most = logs.iter().fold(f64::NEG_INFINITY, |most, log| most.max(*log));
            // What is e⁴⁰ times smaller than the largest does not change the sum.
            let near = logs.iter().filter(|log| **log > most - 40.0);
            most + libm::log(near.fold(0.0, |sum, log| sum + libm::exp(log - most)))
        };
        points.iter().map(density).collect()
    }
}

impl Sorted {
    /// The bandwidth of each kernel: the distance to its farther neighbour, within bounds.
    fn measure(&mut self) {
        let at = &self.coordinates;
        let least = 1.0 / (at.len() as f64 + 2.0).min(100.0);
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

/// The logarithm of a truncated normal's density at `x`; of a finite domain, of its bin's mean density.
fn log_part(axis: &Axis, x: f64, centre: f64, part: Part) -> f64 {
    let smooth = || log_pdf((x - centre) / part.deviation) - part.log_norm;
    let Axis::Bins(domain) = axis else {
        return smooth();
    };
    let (low, high) = domain.bin(domain.at_unit(x));
    // Far narrower than the kernel, a bin's mean density is that of its middle.
    if high - low < 0.05 * part.deviation {
        return smooth();
    }
    let mass = between((low - centre) / part.deviation, (high - centre) / part.deviation);
    libm::log(mass.max(f64::MIN_POSITIVE)) - libm::log((high - low) / part.deviation) - part.log_norm
}
