//! Pruners: what stops losing trials before their end. One file each; all are pure functions of the
//! study and its history, and say why.

mod hyperband;
mod median;

use jiff::{SignedDuration, Timestamp};

pub use hyperband::Hyperband;
pub use median::Median;

use super::ranking::{beats, best};
use super::study::{Phase, Study, Trial};

/// So many trials, the first that succeed, show when trials report.
const SHOWING: usize = 3;

/// Whether a run that began at `start` and ended at `end` reported everything in its last second, though it was clearly
/// longer: a pruner hears of it when all is over. Times of one clock, or of clocks that agree to a fraction of a second.
pub fn reports_at_end(start: Timestamp, first_report: Timestamp, end: Timestamp) -> bool {
    let second = SignedDuration::from_secs(1);
    end.duration_since(first_report) <= second && end.duration_since(start) >= second * 3
}

/// The pruners.
#[derive(Clone, Debug, PartialEq)]
pub enum Pruner {
    /// Worse than the median at the same step.
    Median(Median),
    /// Not among the best at a rung.
    Hyperband(Hyperband),
}

/// A trial that shall be stopped, and the evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The trial.
    pub index: u32,
    /// The step at which it was compared.
    pub step: u64,
    /// Why, for a person: `at step 9: 0.71, worse than the median 0.78 of 12 trials`.
    pub message: String,
}

impl Pruner {
    /// The steps whose comparisons need an exact value: a series keeps them when it is thinned.
    pub fn rungs(&self) -> Vec<u64> {
        match self {
            Pruner::Median(_) => Vec::new(),
            Pruner::Hyperband(hyperband) => hyperband.rungs(),
        }
    }

    /// The bracket that the trial `index` shall belong to.
    pub fn bracket(&self, index: u32) -> Option<u32> {
        match self {
            Pruner::Median(_) => None,
            Pruner::Hyperband(hyperband) => Some(hyperband.bracket(index)),
        }
    }

    /// Why nothing can ever be pruned, as far as the trials have shown, for a person. None while that is not known.
    pub fn obstacle(&self, study: &Study, history: &[Trial]) -> Option<String> {
        if history.iter().any(|trial| trial.phase == Phase::Pruned) {
            return None;
        }
        let steps = match self {
            Pruner::Median(median) => median.obstacle(study, history),
            Pruner::Hyperband(hyperband) => hyperband.obstacle(study, history),
        };
        if let Some(steps) = steps {
            return Some(format!("{steps}: nothing can ever be pruned"));
        }
        let ended = history.iter().filter(|trial| trial.phase == Phase::Succeeded);
        let late = ended.take(SHOWING).filter(|trial| trial.reported_at_end).count();
        (late == SHOWING).then(|| {
            "nothing can be pruned: trials report everything in their last second (is the trainer's output buffered?)"
                .to_owned()
        })
    }

    /// Which running trials are losing. The incumbent is never among them: a trial that beats the best
    /// finished value, or, before any has finished, the one with the best latest value.
    pub fn verdicts(&self, study: &Study, history: &[Trial]) -> Vec<Verdict> {
        let incumbent = Incumbent::of(study, history);
        history
            .iter()
            .filter(|trial| trial.can_be_stopped() && !incumbent.is(study, trial))
            .filter_map(|trial| match self {
                Pruner::Median(median) => median.verdict(study, history, trial),
                Pruner::Hyperband(hyperband) => hyperband.verdict(study, history, trial),
            })
            .collect()
    }
}

enum Incumbent {
    Finished(f64),
    Running(Option<u32>),
}

impl Incumbent {
    fn of(study: &Study, history: &[Trial]) -> Incumbent {
        let direction = study.objective.direction;
        if let Some(best) = best(direction, history) {
            return Incumbent::Finished(best.value);
        }
        let running = history.iter().filter(|trial| trial.can_be_stopped());
        let latest = running.filter_map(|t| Some((t.index, t.series.value(study.objective.value, direction)?.1)));
        let leader = latest.reduce(|a, b| if beats(direction, b.1, a.1) { b } else { a });
        Incumbent::Running(leader.map(|(index, _)| index))
    }

    fn is(&self, study: &Study, trial: &Trial) -> bool {
        let (which, direction) = (study.objective.value, study.objective.direction);
        match self {
            Incumbent::Running(leader) => *leader == Some(trial.index),
            Incumbent::Finished(value) => {
                trial.series.value(which, direction).is_some_and(|(_, latest)| beats(direction, latest, *value))
            }
        }
    }
}
