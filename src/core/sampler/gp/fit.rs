//! The hyperparameters of the surrogate: those of the highest posterior density.

use super::super::point::Point;
use super::kernel::{Hyperparameters, Structure};
use crate::core::linalg::{Factor, dot};
use crate::core::minimise::minimise;

/// The lowest variance of the noise, of outputs of variance 1: low enough to follow a smooth objective to its bottom.
const LEAST_NOISE: f64 = 1e-8;

/// Hyperparameters for these points with their extra noise, and outputs, from fixed starts.
pub fn fit(structure: &Structure, points: &[(Point, f64)], outputs: &[f64]) -> Hyperparameters {
    let (d, branches) = (structure.parameters(), structure.branches());
    let mut bounds = vec![(libm::log(0.01), libm::log(100.0)); d];
    bounds.extend(std::iter::repeat_n((-3.0, 5.0), branches));
    bounds.push((libm::log(0.02), libm::log(50.0)));
    bounds.push((libm::log(LEAST_NOISE), 0.0));
    let posterior =
        |theta: &[f64], gradient: &mut [f64]| negative_log_posterior(structure, points, outputs, theta, gradient);
    let start = |length: f64, noise: f64| {
        let mut theta = vec![libm::log(length); d];
        theta.extend(std::iter::repeat_n(1.0, branches));
        theta.extend([0.0, libm::log(noise)]);
        theta
    };
    let dimensions = libm::sqrt(d as f64);
    let starts = [start(0.25 * dimensions, 1e-3), start(0.8 * dimensions, 3e-2)];
    let fits = starts.map(|start| minimise(posterior, &start, &bounds, 40));
    let [first, second] = fits;
    // Not a number, where nothing could be computed, never wins.
    let theta = if second.1 < first.1 { second.0 } else { first.0 };
    hyperparameters(structure, &theta)
}

fn hyperparameters(structure: &Structure, theta: &[f64]) -> Hyperparameters {
    let (d, branches) = (structure.parameters(), structure.branches());
    Hyperparameters {
        weights: theta[..d].iter().map(|log| libm::exp(-2.0 * log)).collect(),
        correlations: theta[d..d + branches].iter().map(|logit| 1.0 / (1.0 + libm::exp(-logit))).collect(),
        scale: libm::exp(theta[d + branches]),
        noise: libm::exp(theta[d + branches + 1]),
    }
}

/// By the logarithms of the lengthscales, the logits of the branches' correlations, and the logarithms of scale and noise.
/// Rasmussen and Williams 2006, equations 5.8 and 5.9, and the priors.
fn negative_log_posterior(
    structure: &Structure,
    points: &[(Point, f64)],
    outputs: &[f64],
    theta: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let (d, branches, n) = (structure.parameters(), structure.branches(), points.len());
    let h = hyperparameters(structure, theta);
    let terms = d + branches;
    let mut slopes = vec![0.0; n * n.saturating_sub(1) / 2 * terms];
    let mut correlations = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    let mut factor = Factor::default();
    let mut row = Vec::with_capacity(n);
    for i in 0..n {
        row.clear();
        for j in 0..i {
            let at = correlations.len() * terms;
            let correlation = structure.correlation_slopes(&h, &points[i].0, &points[j].0, &mut slopes[at..at + terms]);
            correlations.push(correlation);
            row.push(h.scale * correlation);
        }
        row.push(h.scale + h.noise + points[i].1);
        if factor.append(&row).is_err() {
            return f64::INFINITY;
        }
    }
    let mut alpha = outputs.to_vec();
    factor.solve_lower(&mut alpha);
    let fit = dot(&alpha, &alpha);
    factor.solve_upper(&mut alpha);
    let inverse = factor.inverse();
    gradient.fill(0.0);
    let mut by_scale = 0.0;
    let mut by_noise = 0.0;
    let mut pair = 0;
    for i in 0..n {
        for j in 0..i {
            let weight = inverse[i][j] - alpha[i] * alpha[j];
            let at = pair * terms;
            let scaled = weight * h.scale;
            for (gradient, slope) in gradient[..terms].iter_mut().zip(&slopes[at..at + terms]) {
                *gradient += scaled * slope;
            }
            by_scale += scaled * correlations[pair];
            pair += 1;
        }
        let weight = inverse[i][i] - alpha[i] * alpha[i];
        by_scale += 0.5 * weight * h.scale;
        by_noise += 0.5 * weight * h.noise;
    }
    for (gradient, rho) in gradient[d..terms].iter_mut().zip(&h.correlations) {
        *gradient *= rho * (1.0 - rho);
    }
    gradient[terms] = by_scale;
    gradient[terms + 1] = by_noise;
    let mut value = 0.5 * fit + 0.5 * factor.log_determinant();
    // Lengthscales: log-normal, growing with the dimension (Hvarfner 2024, "Vanilla Bayesian Optimization Performs Great
    // in High Dimensions"). Shorter and narrower than there, where location is sqrt(2) higher and the variance 3: outputs
    // are warped, and with few trials a wide prior lets single lengthscales run away.
    let location = 0.5 * libm::log(d as f64);
    for (log, gradient) in theta[..d].iter().zip(gradient.iter_mut()) {
        value += log + 0.5 * (log - location) * (log - location);
        *gradient += 1.0 + (log - location);
    }
    // Correlations of branches: Beta(2, 2).
    for (rho, gradient) in h.correlations.iter().zip(gradient[d..terms].iter_mut()) {
        value -= libm::log(rho * (1.0 - rho));
        *gradient -= 1.0 - 2.0 * rho;
    }
    // Scale: log-normal around the outputs' variance. Noise: Gamma(1.1, 30), as Optuna's.
    value += 0.5 * theta[terms] * theta[terms];
    gradient[terms] += theta[terms];
    value += 30.0 * h.noise - 0.1 * theta[terms + 1];
    gradient[terms + 1] += 30.0 * h.noise - 0.1;
    value
}
