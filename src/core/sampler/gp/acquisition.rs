//! Where the next trial promises most: the maximum of the logarithm of the expected improvement (Ament 2023), by ascent
//! from many candidates along the gradient, in turn with moves of what has no gradient.
//!
//! No trial is wasted: what a trainer could not tell from a configuration that was tried is left out, and so is what the
//! surrogate, by its lengthscales and its noise, takes for the same; where no improvement worth the name is expected, the
//! trial goes where the surrogate knows least.

use std::collections::BTreeSet;

use super::super::point::{self, Point, key};
use super::super::tried::Tried;
use super::model::Posterior;
use crate::core::minimise::minimise;
use crate::core::normal::{log_improvement, quantile};
use crate::core::rng::{Stream, stream};
use crate::core::space::{Domain, Parameter};
use crate::core::problem::Problem;

/// How many points of a Sobol sequence are evaluated.
const CANDIDATES: u32 = 512;
/// How many of all candidates are improved.
const ASCENTS: usize = 6;
/// Domains of more values than this are climbed along the gradient, and rounded.
const MANY_VALUES: u128 = 24;

/// An expected improvement below this share of the noise's deviation is none worth the name: it would take a million
/// observations to tell it from none.
const WORTH: f64 = 0.001;

/// A configuration being improved. Coordinates of inactive parameters are kept, for when they become active.
#[derive(Clone)]
struct Candidate {
    coordinates: Vec<f64>,
    /// The logarithm of the expected improvement.
    merit: f64,
    /// What the surrogate does not know.
    deviation: f64,
}

/// What the search needs to know.
pub struct Search<'a> {
    /// What is searched.
    pub problem: Problem<'a>,
    /// The surrogate.
    pub posterior: &'a Posterior<'a>,
    /// The lowest output so far.
    pub incumbent: f64,
    /// The best points so far, best first.
    pub best: &'a [Point],
    /// What has been tried.
    pub tried: &'a Tried,
    /// Tells whether a trial at a point may succeed.
    pub may_succeed: &'a dyn Fn(&[f64]) -> bool,
}

impl Search<'_> {
    /// The most promising configuration for the trial `index`, one that was not tried if it finds any.
    pub fn run(&self, index: u32) -> Vec<f64> {
        let mut stream = stream(self.problem.seed, "gp", u64::from(index));
        let mut spread = self.spread(&mut stream);
        let mut close = self.near_the_best(&mut stream);
        let by_merit = |candidates: &mut Vec<Candidate>| candidates.sort_by(|a, b| b.merit.total_cmp(&a.merit));
        by_merit(&mut spread);
        by_merit(&mut close);
        let starts = spread.iter().take(ASCENTS - 2).chain(close.iter().take(2));
        let mut found: Vec<Candidate> = starts.map(|candidate| self.improve(candidate.clone())).collect();
        by_merit(&mut found);
        let top = found[0].clone();
        found.extend(close);
        found.extend_from_slice(&spread);
        by_merit(&mut found);
        // Another category or another step is never the same: that is for ranges alone.
        let ranges: Vec<bool> = self.problem.space.parameters().iter().map(|p| p.domain.is_continuous()).collect();
        let is_beside = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).zip(&ranges).all(|((a, b), is_range)| *is_range || a.to_bits() == b.to_bits())
        };
        let is_news = |candidate: &&Candidate| {
            let point = self.snapped(&candidate.coordinates);
            self.is_new(&point) && !self.posterior.knows(&point, |b| is_beside(&point, b))
        };
        let chosen = found.into_iter().find(|candidate| is_news(&candidate)).or_else(|| self.around(&top, &mut stream));
        let is_worth = |candidate: &Candidate| candidate.merit >= libm::log(WORTH * self.posterior.noise());
        let chosen = match chosen {
            Some(chosen) if is_worth(&chosen) => chosen,
            other => self.least_known(spread).or(other).unwrap_or(top),
        };
        self.snapped(&chosen.coordinates)
    }

    fn is_new(&self, point: &[f64]) -> bool {
        !self.tried.has_near(point)
    }

    /// Where the surrogate knows least, of points spread over the space: another basin, or another branch.
    fn least_known(&self, spread: Vec<Candidate>) -> Option<Candidate> {
        let is_open = |candidate: &Candidate| {
            let point = self.snapped(&candidate.coordinates);
            self.is_new(&point) && (self.may_succeed)(&point)
        };
        spread.into_iter().filter(is_open).reduce(|a, b| if b.deviation > a.deviation { b } else { a })
    }

    /// Everything found was tried: the best untried neighbour, if there is one close by.
    fn around(&self, from: &Candidate, stream: &mut Stream) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        let mut seen = BTreeSet::new();
        for _ in 0..256 {
            let moved = self.perturbed(&from.coordinates, stream);
            let point = self.snapped(&moved);
            if self.is_new(&point) && seen.insert(key(&point)) {
                let candidate = self.candidate(moved);
                if best.as_ref().is_none_or(|best| candidate.merit > best.merit) {
                    best = Some(candidate);
                }
            }
        }
        best
    }

    fn candidate(&self, coordinates: Vec<f64>) -> Candidate {
        let (mean, deviation) = self.posterior.at(&self.snapped(&coordinates));
        let (log, _) = log_improvement((self.incumbent - mean) / deviation);
        Candidate { coordinates, merit: libm::log(deviation) + log, deviation }
    }

    fn spread(&self, stream: &mut Stream) -> Vec<Candidate> {
        let scramble = stream.bits() as u32;
        let parameters = self.problem.space.parameters();
        let at = |point: u32| {
            let coordinate = |(position, parameter): (usize, &Parameter)| {
                let u = f64::from(sobol_burley::sample(point, position as u32, scramble));
                whole(&parameter.domain, u)
            };
            self.candidate(parameters.iter().enumerate().map(coordinate).collect())
        };
        (0..CANDIDATES).map(at).collect()
    }

    fn near_the_best(&self, stream: &mut Stream) -> Vec<Candidate> {
        let mut close = Vec::new();
        for (rank, best) in self.best.iter().enumerate() {
            let filled: Vec<f64> = best
                .iter()
                .zip(self.problem.space.parameters())
                .map(|(x, parameter)| if x.is_nan() { whole(&parameter.domain, stream.unit()) } else { *x })
                .collect();
            for _ in 0..(if rank == 0 { 48 } else { 12 }) {
                close.push(self.candidate(self.perturbed(&filled, stream)));
            }
        }
        close
    }

    /// Some coordinates moved, at least one: by a little, or to another category.
    fn perturbed(&self, from: &[f64], stream: &mut Stream) -> Vec<f64> {
        let parameters = self.problem.space.parameters();
        let share = (2.0 / parameters.len() as f64).max(0.2);
        let certain = (stream.unit() * parameters.len() as f64) as usize;
        // From a hundredth to a fifth of the range.
        let width = libm::exp(libm::log(0.01) + stream.unit() * libm::log(20.0));
        let mut to = from.to_vec();
        for (position, parameter) in parameters.iter().enumerate() {
            let (moves, u) = (stream.unit() < share, stream.unit());
            if !(moves || position == certain) {
                continue;
            }
            to[position] = match parameter.domain.size() {
                _ if parameter.domain.is_categorical() => whole(&parameter.domain, u),
                size => {
                    // In a finite domain, at least to the next value.
                    let width = size.map_or(width, |size| width.max(1.0 / size as f64));
                    let z = quantile(u.clamp(1e-6, 1.0 - 1e-6));
                    reflected(to[position] + width * z)
                }
            };
        }
        to
    }

    fn improve(&self, mut candidate: Candidate) -> Candidate {
        for _ in 0..3 {
            let before = candidate.merit;
            candidate = self.climb(candidate);
            candidate = self.moves(candidate);
            if candidate.merit - before < 1e-4 {
                break;
            }
        }
        candidate
    }

    /// Along the gradient, by the active parameters that have one.
    fn climb(&self, from: Candidate) -> Candidate {
        let parameters = self.problem.space.parameters();
        let start = self.snapped(&from.coordinates);
        let smooth = |domain: &Domain| !domain.is_categorical() && domain.size().is_none_or(|size| size > MANY_VALUES);
        let free: Vec<usize> =
            (0..start.len()).filter(|&i| !start[i].is_nan() && smooth(&parameters[i].domain)).collect();
        if free.is_empty() {
            return from;
        }
        let at: Vec<f64> = free.iter().map(|&i| from.coordinates[i]).collect();
        let mut x = start.clone();
        let negative = |free_x: &[f64], gradient: &mut [f64]| {
            free.iter().zip(free_x).for_each(|(&i, value)| x[i] = *value);
            let (mean, deviation, of_mean, of_deviation) = self.posterior.slopes_at(&x);
            let z = (self.incumbent - mean) / deviation;
            let (log, by_z) = log_improvement(z);
            for (gradient, &i) in gradient.iter_mut().zip(&free) {
                let relative = of_deviation[i] / deviation;
                *gradient = -(relative + by_z * (-of_mean[i] / deviation - z * relative));
            }
            -(libm::log(deviation) + log)
        };
        let bounds = vec![(0.0, 1.0); free.len()];
        let (top, _) = minimise(negative, &at, &bounds, 25);
        let mut coordinates = from.coordinates.clone();
        free.iter().zip(top).for_each(|(&i, value)| coordinates[i] = value);
        let climbed = self.candidate(coordinates);
        if climbed.merit > from.merit { climbed } else { from }
    }

    /// One parameter after the other to the best of its other values.
    fn moves(&self, mut best: Candidate) -> Candidate {
        for (position, parameter) in self.problem.space.parameters().iter().enumerate() {
            let Some(size) = parameter.domain.size() else { continue };
            if self.snapped(&best.coordinates)[position].is_nan() {
                continue;
            }
            for value in others(&parameter.domain, size, best.coordinates[position]) {
                let mut coordinates = best.coordinates.clone();
                coordinates[position] = value;
                let candidate = self.candidate(coordinates);
                if candidate.merit > best.merit {
                    best = candidate;
                }
            }
        }
        best
    }

    /// The point that the trainer would see.
    fn snapped(&self, coordinates: &[f64]) -> Vec<f64> {
        point::snapped(self.problem.space, coordinates)
    }
}

/// A coordinate at `u` from [0, 1).
fn whole(domain: &Domain, u: f64) -> f64 {
    match domain.size() {
        Some(size) if domain.is_categorical() => ((u * size as f64) as usize).min(size as usize - 1) as f64,
        _ => u,
    }
}

fn reflected(u: f64) -> f64 {
    let u = u.abs();
    (if u > 1.0 { 2.0 - u } else { u }).clamp(0.0, 1.0)
}

/// The other values of a small domain; of a large one those close by, and some further away.
fn others(domain: &Domain, size: u128, from: f64) -> Vec<f64> {
    if domain.is_categorical() {
        return (0..size).map(|choice| choice as f64).filter(|choice| *choice != from).collect();
    }
    let rank = domain.rank(domain.at_unit(from.min(1.0 - f64::EPSILON)));
    let steps: Vec<u128> = if size <= MANY_VALUES { (1..size).collect() } else { vec![1, 2, 4, size / 16, size / 4] };
    let around =
        steps.into_iter().filter(|step| *step > 0).flat_map(|step| [rank.checked_sub(step), rank.checked_add(step)]);
    around.flatten().filter(|rank| *rank < size).map(|rank| domain.unit(domain.nth(rank))).collect()
}
