//! Outputs as the surrogate sees them, after Vizier's default (Song 2024, "The Vizier Gaussian Process Bandit
//! Algorithm", arXiv 2408.11527, section 3.2): the worse half by rank, all on a logarithmic scale, failed trials
//! worse than the worst. Then of mean 0 and variance 1.

use super::super::dataset::Outcome;
use crate::core::normal::quantile;

/// One number a trial, to be minimised. Depends on the order of the values, so that extremes do no harm.
pub fn warp(outcomes: &[Outcome]) -> Vec<f64> {
    let mut sorted: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.value()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (Some(best), Some(worst)) = (sorted.first(), sorted.last()) else {
        return vec![0.0; outcomes.len()];
    };
    // Differences of the largest doubles overflow: all is done at a scale where they cannot.
    let unit = best.abs().max(worst.abs()).max(f64::MIN_POSITIVE);
    for value in &mut sorted {
        *value /= unit;
    }
    let median = sorted[(sorted.len() - 1) / 2];
    let good = sorted.iter().filter(|value| **value <= median);
    let (count, squares) = good.fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + (v - median) * (v - median)));
    // With as many ties for the best as half of the trials, there is no good half to measure by.
    let deviation = match libm::sqrt(squares / count) {
        0.0 => 1.0,
        deviation => deviation,
    };
    let halved = |value: f64| {
        if value <= median {
            return value;
        }
        // Ties have the rank in their middle.
        let (below, upto) = (sorted.partition_point(|v| *v < value), sorted.partition_point(|v| *v <= value));
        let rank = 0.5 * (below + upto) as f64 / sorted.len() as f64;
        median + deviation * quantile(rank.max(0.5))
    };
    let (low, high) = (sorted[0], halved(sorted[sorted.len() - 1]));
    let range = if high > low { high - low } else { 1.0 };
    let log = |value: f64| libm::log1p(0.5 * (halved(value / unit) - low) / range) / libm::log(1.5);
    let warped: Vec<Option<f64>> = outcomes.iter().map(|outcome| outcome.value().map(log)).collect();
    let most = warped.iter().flatten().fold(0.0_f64, |most, value| most.max(*value));
    let failed = most + 0.5 * most + 0.25;
    standardised(warped.into_iter().map(|value| value.unwrap_or(failed)).collect())
}

fn standardised(mut values: Vec<f64>) -> Vec<f64> {
    let n = values.len() as f64;
    let mean = values.iter().fold(0.0, |sum, value| sum + value) / n;
    let variance = values.iter().fold(0.0, |sum, value| sum + (value - mean) * (value - mean)) / n;
    let deviation = if variance > 0.0 { libm::sqrt(variance) } else { 1.0 };
    for value in &mut values {
        *value = (*value - mean) / deviation;
    }
    values
}
