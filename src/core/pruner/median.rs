//! The median rule (Golovin 2017, "Google Vizier", §3.2.2, on values rather than running averages): a
//! trial that is worse than the median of the others at the same step is stopped.

use super::Verdict;
use crate::core::number::number;
use crate::core::ranking::beats;
use crate::core::study::{Phase, Study, Trial};

/// Settings of the median pruner.
#[derive(Clone, Debug, PartialEq)]
pub struct Median {
    /// How many other trials must have reached a step before anything is stopped at it.
    pub startup_trials: u32,
    /// Nothing is stopped before this step.
    pub warmup_steps: u64,
    /// Trials are compared at every so many steps, counted from `warmup_steps`.
    pub interval: u64,
}

impl Median {
    /// Why nothing can ever be stopped, as far as the trials have shown: they end before the warmup is over.
    pub fn obstacle(&self, study: &Study, history: &[Trial]) -> Option<String> {
        let (startup, most) = (self.startup_trials.max(1), study.limits.max_trials);
        if startup >= most {
            return Some(format!("startupTrials is {startup}, and maxTrials only {most}"));
        }
        let mut ended = None;
        for trial in history {
            let Some(last) = trial.series.last_step() else { continue };
            if last >= self.warmup_steps {
                return None;
            }
            ended = ended.max(Some(last).filter(|_| trial.phase == Phase::Succeeded));
        }
        ended.map(|last| format!("trials end at step {last}, and warmupSteps is {}", self.warmup_steps))
    }

    /// Whether `trial` is worse than the median of the trials that reached its last comparison step.
    pub fn verdict(&self, study: &Study, history: &[Trial], trial: &Trial) -> Option<Verdict> {
        let (which, direction) = (study.objective.value, study.objective.direction);
        let behind = trial.series.last_step()?.checked_sub(self.warmup_steps)?;
        let step = self.warmup_steps + behind / self.interval * self.interval;
        let (_, value) = trial.series.value_at(step, which, direction)?;
        let mut peers: Vec<f64> = history
            .iter()
            .filter(|peer| peer.index != trial.index && peer.series.last_step() >= Some(step))
            .filter_map(|peer| Some(peer.series.value_at(step, which, direction)?.1))
            .collect();
        if peers.len() < self.startup_trials.max(1) as usize {
            return None;
        }
        // The best first: then NaN is last, whichever way is up.
        peers.sort_unstable_by(|a, b| beats(direction, *b, *a).cmp(&beats(direction, *a, *b)));
        let middle = peers.len() / 2;
        let median = if peers.len() % 2 == 1 {
            peers[middle]
        } else {
            // Halved first: the sum of two large values would overflow.
            peers[middle - 1] / 2.0 + peers[middle] / 2.0
        };
        beats(direction, median, value).then(|| Verdict {
            index: trial.index,
            step,
            message: format!(
                "at step {step}: {}, worse than the median {} of {} {}",
                number(value),
                number(median),
                peers.len(),
                if peers.len() == 1 { "trial" } else { "trials" }
            ),
        })
    }
}
