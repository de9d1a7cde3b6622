//! The surrogate: a Gaussian process over what was dataset.

use super::super::point::Point;
use super::kernel::{Hyperparameters, Structure};
use crate::core::linalg::{Factor, add_scaled, dot};

/// What is added to the diagonal, relative to the scale, until the covariance can be factored.
const JITTER: [f64; 6] = [0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2];

/// Two points are alike whose values differ, by the variance that the model expects, by less than this share of the noise.
const ALIKE: f64 = 0.1;

/// The factored covariance of some points: rows can be added, and earlier ones stay as they are.
pub struct Covariance {
    /// The hyperparameters in use.
    pub hyperparameters: Hyperparameters,
    /// The points, one a row.
    points: Vec<Point>,
    /// The variance of each point's noise beyond that of all.
    extra: Vec<f64>,
    factor: Factor,
    jitter: usize,
}

impl Covariance {
    /// Of no points.
    pub fn new(hyperparameters: Hyperparameters) -> Covariance {
        Covariance { hyperparameters, points: Vec::new(), extra: Vec::new(), factor: Factor::default(), jitter: 0 }
    }

    /// How many points it has.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Adds points, with noise beyond that of all. The same bits as if all had been added at once.
    pub fn append(&mut self, structure: &Structure, points: impl IntoIterator<Item = (Point, f64)>) {
        for (point, extra) in points {
            self.points.push(point);
            self.extra.push(extra);
        }
        while self.factor.len() < self.points.len() {
            let row = self.row(structure, self.factor.len());
            // The last step of the ladder is more than any rounding.
            if self.factor.append(&row).is_err() && self.jitter + 1 < JITTER.len() {
                // From the first row on again, so that all have the same jitter.
                self.jitter += 1;
                self.factor.truncate(0);
            }
        }
    }

    /// Takes the last points away, down to `n`.
    pub fn truncate(&mut self, n: usize) {
        if n < self.points.len() && self.jitter > 0 {
            // Those that go may be the ones that made it necessary.
            self.jitter = 0;
            self.factor.truncate(0);
        }
        self.points.truncate(n);
        self.extra.truncate(n);
        self.factor.truncate(n);
    }

    fn row(&self, structure: &Structure, i: usize) -> Vec<f64> {
        let h = &self.hyperparameters;
        let mut row: Vec<f64> = self.points[..i].iter().map(|b| structure.covariance(h, &self.points[i], b)).collect();
        row.push(h.scale * (1.0 + JITTER[self.jitter]) + h.noise + self.extra[i]);
        row
    }
}

/// The posterior, given outputs.
pub struct Posterior<'a> {
    structure: &'a Structure,
    covariance: &'a Covariance,
    /// The inverse of the covariance times the outputs.
    alpha: Vec<f64>,
}

impl<'a> Posterior<'a> {
    /// Given an output for each point of `covariance`.
    pub fn new(structure: &'a Structure, covariance: &'a Covariance, outputs: &[f64]) -> Posterior<'a> {
        let mut alpha = outputs.to_vec();
        covariance.factor.solve_lower(&mut alpha);
        covariance.factor.solve_upper(&mut alpha);
        Posterior { structure, covariance, alpha }
    }

    /// The mean at `x`.
    pub fn mean(&self, x: &[f64]) -> f64 {
        let h = &self.covariance.hyperparameters;
        let points = self.covariance.points.iter().zip(&self.alpha);
        points.fold(0.0, |sum, (b, alpha)| sum + alpha * self.structure.covariance(h, x, b))
    }

    /// The standard deviation of the noise of an observation.
    pub fn noise(&self) -> f64 {
        libm::sqrt(self.covariance.hyperparameters.noise)
    }

    /// Whether `x` is to the model what one of those points is that are `beside` it: the two are expected to differ by less than
    /// a part of the noise.
    pub fn knows(&self, x: &[f64], beside: impl Fn(&[f64]) -> bool) -> bool {
        let h = &self.covariance.hyperparameters;
        let differs = |b: &Point| 2.0 * (h.scale - self.structure.covariance(h, x, b));
        self.covariance.points.iter().any(|b| beside(b) && differs(b) < ALIKE * h.noise)
    }

    /// Mean and standard deviation at `x`, without noise.
    pub fn at(&self, x: &[f64]) -> (f64, f64) {
        let h = &self.covariance.hyperparameters;
        let mut k: Vec<f64> = self.covariance.points.iter().map(|b| self.structure.covariance(h, x, b)).collect();
        let mean = dot(&k, &self.alpha);
        self.covariance.factor.solve_lower(&mut k);
        (mean, self.deviation(dot(&k, &k)))
    }

    /// As [`Posterior::at`], with the gradients of both by the ordered parameters.
    pub fn slopes_at(&self, x: &[f64]) -> (f64, f64, Vec<f64>, Vec<f64>) {
        let h = &self.covariance.hyperparameters;
        let d = x.len();
        let n = self.covariance.points.len();
        let mut slopes = vec![0.0; n * d];
        let mut k = Vec::with_capacity(n);
        for (b, slope) in self.covariance.points.iter().zip(slopes.chunks_exact_mut(d)) {
            k.push(self.structure.covariance_slope(h, x, b, slope));
        }
        let mean = dot(&k, &self.alpha);
        self.covariance.factor.solve_lower(&mut k);
        let deviation = self.deviation(dot(&k, &k));
        self.covariance.factor.solve_upper(&mut k);
        let (mut of_mean, mut of_variance) = (vec![0.0; d], vec![0.0; d]);
        for (i, slope) in slopes.chunks_exact(d).enumerate() {
            add_scaled(&mut of_mean, self.alpha[i], slope);
            add_scaled(&mut of_variance, -2.0 * k[i], slope);
        }
        let of_deviation = of_variance.into_iter().map(|slope| slope / (2.0 * deviation)).collect();
        (mean, deviation, of_mean, of_deviation)
    }

    fn deviation(&self, explained: f64) -> f64 {
        let scale = self.covariance.hyperparameters.scale;
        libm::sqrt((scale - explained).max(scale * 1e-12))
    }
}
