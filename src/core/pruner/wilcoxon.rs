//! Folds as paired samples (Wilcoxon 1945, "Individual comparisons by ranking methods"; Optuna's `WilcoxonPruner`): a trial whose
//! folds are too much worse than the incumbent's on the same folds is stopped before it has run them all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Evidence};
use super::race::Race;
use super::rungs::LATEST;
use crate::core::number::number;
use crate::core::objective::{Direction, beats};
use crate::core::problem::Problem;
use crate::core::series::Arrival;
use crate::core::trial::{Phase, Trial};

/// Stops a Trial whose folds are worse than those of the best succeeded one, by the Wilcoxon signed-rank test.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The metric of a fold, reported once for each, with the fold's number as its step: 80 at most. The objective is another metric, the
    /// trainer's own mean over the folds.
    #[schemars(regex(pattern = "^[A-Za-z_][A-Za-z0-9_./@-]{0,62}$"))]
    pub metric: String,
    /// How unlikely folds so much worse must be, if both were equally good. Left out: 0.1, for which 4 folds suffice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1e-6, max = 1))]
    pub p_threshold: Option<f64>,
}

/// The Wilcoxon pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Wilcoxon {
    /// The metric of a fold.
    pub metric: String,
    /// How unlikely folds so much worse must be.
    pub p_threshold: f64,
}

/// A fold's value, to be minimised.
fn loss(direction: Direction, value: Option<f64>) -> f64 {
    match (direction, value) {
        (_, None) => f64::INFINITY,
        (Direction::Minimize, Some(value)) => value,
        (Direction::Maximize, Some(value)) => -value,
    }
}

/// What such a loss, or a mean of some, stands for.
fn value(direction: Direction, loss: f64) -> f64 {
    match direction {
        _ if !loss.is_finite() => f64::NAN,
        Direction::Minimize => loss,
        Direction::Maximize => -loss,
    }
}

/// How likely the sum of the ranks of positive differences would be so high or higher if each might as well have the other sign: exact,
/// with ranks shared by equal differences. Differences of zero have ranks too, and say nothing (Pratt 1959).
pub fn p_value(differences: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = differences.to_vec();
    sorted.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Twice the ranks, so that shared ones are whole.
    let (mut ranks, mut observed) = (Vec::new(), 0);
    for group in sorted.chunk_by(|a, b| a.abs() == b.abs()) {
        let before = sorted.partition_point(|other| other.abs() < group[0].abs());
        if group[0] == 0.0 {
            continue;
        }
        let rank = 2 * before + group.len() + 1;
        ranks.extend(group.iter().map(|_| rank));
        observed += rank * group.iter().filter(|difference| **difference > 0.0).count();
    }
    // By the sum so far: how likely it is.
    let mut likely = vec![0.0; ranks.iter().sum::<usize>() + 1];
    likely[0] = 1.0;
    let mut most = 0;
    for rank in ranks {
        for sum in (0..=most).rev() {
            likely[sum] *= 0.5;
            likely[sum + rank] += likely[sum];
        }
        most += rank;
    }
    likely[observed..].iter().sum()
}

impl Wilcoxon {
    /// Whether others can be compared with this trial: it has enough folds, and all are numbers.
    fn has_folds(&self, trial: &Trial) -> bool {
        let folds = trial.series.arrivals();
        LATEST * folds.len() as f64 >= self.least_folds() as f64 && folds.iter().all(|fold| fold.value.is_some())
    }

    /// How many folds it takes until a trial can be stopped that is worse in all of them.
    fn least_folds(&self) -> usize {
        (1..).find(|folds| libm::pow(0.5, f64::from(*folds)) < self.p_threshold).unwrap_or(u32::MAX) as usize
    }
}

impl Algorithm for Wilcoxon {
    type Settings = Settings;
    const NAME: &'static str = "wilcoxon";
    const KEEPS_ARRIVALS: bool = true;

    fn new(settings: &Settings) -> Wilcoxon {
        Wilcoxon { metric: settings.metric.clone(), p_threshold: settings.p_threshold.unwrap_or(0.1) }
    }

    fn fold_metric(&self) -> Option<&str> {
        Some(&self.metric)
    }

    /// Why nothing can ever be stopped, as far as the trials have shown: they have too few folds.
    fn obstacle(&self, _: &Problem, history: &[Trial]) -> Option<String> {
        let succeeded = history.iter().filter(|trial| trial.phase == Phase::Succeeded);
        if succeeded.clone().any(|trial| self.has_folds(trial)) {
            return None;
        }
        let folds = succeeded.map(|trial| trial.series.arrivals().len()).max()?;
        let least = self.least_folds();
        if folds == 0 {
            return Some(format!("trials report no {}", self.metric));
        }
        let (few, threshold) = (if folds == 1 { "fold" } else { "folds" }, number(self.p_threshold));
        Some(format!(
            "trials have {folds} {few}, of which 0.9 are compared, and pThreshold {threshold} takes {least} that are numbers"
        ))
    }

    fn waits(&self, _: &Problem, history: &[Trial]) -> Option<String> {
        let has_succeeded = history.iter().any(|trial| trial.phase == Phase::Succeeded);
        (!has_succeeded).then(|| "no trial has succeeded yet".to_owned())
    }

    fn verdict(&self, race: &mut Race, trial: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
        let direction = race.problem.objective.direction;
        let best = race.best_of(arrival.at, |trial| self.has_folds(trial))?.series.arrivals();
        let own = trial.series.arrivals().iter().filter(|fold| fold.rung <= arrival.rung);
        let pairs = own.filter_map(|own| Some((own, best.iter().find(|other| other.rung == own.rung)?)));
        let pairs: Vec<(f64, f64)> =
            pairs.map(|(own, best)| (loss(direction, own.value), loss(direction, best.value))).collect();
        if pairs.is_empty() || pairs.len() as f64 > LATEST * best.len() as f64 {
            return None;
        }
        // Two folds that are no numbers differ in nothing.
        let differences: Vec<f64> =
            pairs.iter().map(|(own, best)| if own == best { 0.0 } else { own - best }).collect();
        let count = pairs.len() as f64;
        let (own, best) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0 / count, sum.1 + pair.1 / count));
        let p = p_value(&differences);
        // Much worse in most folds may be better in the mean, by a few.
        if p >= self.p_threshold || !beats(Direction::Minimize, best, own) {
            return None;
        }
        let (own, best) = (value(direction, own), value(direction, best));
        let message = format!(
            "mean {} of {count} folds, worse than the incumbent's {} on the same ones (p {} below {})",
            number(own),
            number(best),
            number(p),
            number(self.p_threshold)
        );
        let finite = |value: f64| Some(value).filter(|value| value.is_finite());
        let (value, cutoff) = (finite(own), finite(best));
        Some((Evidence { value, peers: Some(1), cutoff, p_value: Some(p), ..Evidence::default() }, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As SciPy 1.17's `wilcoxon(differences, alternative="greater")` has it, which is exact without ties and zeros.
    #[test]
    fn the_p_value_is_the_exact_one() {
        let cases: [(&[f64], f64); 6] = [
            (&[1.0, 2.0, 3.0, 4.0], 0.0625),
            (&[0.5, 1.0, 1.5, 2.0, -0.25], 0.0625),
            (&[0.3, -0.1, 0.7, 0.9, 1.1, -0.2, 0.4], 0.0390625),
            (&[-1.0, -2.0, -3.0], 1.0),
            (&[0.0, 0.0], 1.0),
            (&[], 1.0),
        ];
        for (differences, expected) in cases {
            assert!((p_value(differences) - expected).abs() < 1e-12, "{differences:?}: {}", p_value(differences));
        }
        // By hand: of the four signs of 1, 1 and those of 2 (ranks 1.5, 1.5, 3) one of eight has all.
        assert_eq!(p_value(&[1.0, 1.0, 2.0]), 0.125);
        assert_eq!(p_value(&[1.0, -1.0, 2.0]), 0.375);
        // A zero takes the lowest rank.
        assert_eq!(p_value(&[0.0, 1.0, 2.0]), 0.25);
        assert_eq!(p_value(&[f64::INFINITY, 1.0, 2.0, 3.0]), 0.0625);
        let many: Vec<f64> = (1..=80).map(f64::from).collect();
        assert!(p_value(&many) > 0.0 && p_value(&many) < 1e-20);
    }
}
