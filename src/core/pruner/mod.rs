//! Pruners: what stops losing trials before their end. One file each, and one line each in the list below; all are pure
//! functions of the problem and its history, and say why.

mod algorithm;

pub use algorithm::{Algorithm, Peers, Verdict};

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::choice;
use super::objective::beats;
use super::problem::Problem;
use super::trial::{Phase, Trial, best};

/// So many trials, the first that succeed, show when trials report.
const SHOWING: usize = 3;

/// Whether a run that began at `start` and ended at `end` reported everything in its last second, though it was clearly
/// longer: a pruner hears of it when all is over. Times of one clock, or of clocks that agree to a fraction of a second.
pub fn reports_at_end(start: Timestamp, first_report: Timestamp, end: Timestamp) -> bool {
    let second = SignedDuration::from_secs(1);
    end.duration_since(first_report) <= second && end.duration_since(start) >= second * 3
}

/// From `file: Type` for each pruner to all that lists them.
macro_rules! pruners {
    ($($name:ident: $Pruner:ident,)*) => {
        $(mod $name;)*
        $(pub use $name::$Pruner;)*

        /// A pruner with its settings.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each is described in its file")]
        pub enum Pruner {
            $($Pruner($Pruner),)*
        }

        impl Pruner {
            /// The names of all pruners in the API.
            pub const NAMES: &[&str] = &[$($Pruner::NAME),*];

            /// The steps whose comparisons need an exact value: a series keeps them when it is thinned.
            pub fn rungs(&self) -> Vec<u64> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.rungs(),)*
                }
            }

            /// Whether a trial of `bracket` is compared at a step behind `before`, which it had reached, up to `after`. A
            /// report that brings it to none changes no verdict.
            pub fn compares(&self, bracket: Option<u32>, before: Option<u64>, after: u64) -> bool {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.compares(bracket, before, after),)*
                }
            }

            /// The bracket that the trial `index` shall belong to.
            pub fn bracket(&self, index: u32) -> Option<u32> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.bracket(index),)*
                }
            }

            fn own_obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.obstacle(problem, history),)*
                }
            }

            fn verdict(&self, problem: &Problem, peers: &mut Peers, trial: &Trial) -> Option<Verdict> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.verdict(problem, peers, trial),)*
                }
            }
        }

        /// What stops losing Trials before their end.
        #[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[schemars(transform = exactly_one)]
        #[allow(missing_docs, reason = "each is described in its file")]
        pub struct PrunerSpec {
            $(
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $name: Option<<$Pruner as Algorithm>::Settings>,
            )*
        }

        impl PrunerSpec {
            /// The pruners that are given: one, where the spec is valid.
            pub fn given(&self) -> Vec<Pruner> {
                let all = [$(self.$name.as_ref().map(|settings| Pruner::$Pruner($Pruner::new(settings)))),*];
                all.into_iter().flatten().collect()
            }

            /// What is wrong with settings that are within their bounds, as (field, message).
            pub fn problems(&self) -> Vec<(String, String)> {
                let mut problems = Vec::new();
                $(
                    let found = self.$name.as_ref().map($Pruner::problems).unwrap_or_default();
                    problems.extend(found.into_iter().map(|(field, why)| (format!("{}.{field}", $Pruner::NAME), why)));
                )*
                problems
            }
        }
    };
}

pruners! {
    median: Median,
    hyperband: Hyperband,
}

fn exactly_one(schema: &mut Schema) {
    choice::exactly_one(schema, "a pruner", Pruner::NAMES);
}

impl Pruner {
    /// Why nothing can ever be pruned, as far as the trials have shown, for a person. None while that is not known.
    pub fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        if history.iter().any(|trial| trial.phase == Phase::Pruned) {
            return None;
        }
        if let Some(steps) = self.own_obstacle(problem, history) {
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
    pub fn verdicts(&self, problem: &Problem, history: &[Trial]) -> Vec<Verdict> {
        let incumbent = Incumbent::of(problem, history);
        let mut peers = Peers::new(problem, history);
        history
            .iter()
            .filter(|trial| trial.can_be_stopped() && !incumbent.is(problem, trial))
            .filter_map(|trial| self.verdict(problem, &mut peers, trial))
            .collect()
    }
}

enum Incumbent {
    Finished(f64),
    Running(Option<u32>),
}

impl Incumbent {
    fn of(problem: &Problem, history: &[Trial]) -> Incumbent {
        let direction = problem.objective.direction;
        if let Some(best) = best(direction, history) {
            return Incumbent::Finished(best.value);
        }
        let running = history.iter().filter(|trial| trial.can_be_stopped());
        let latest = running.filter_map(|t| Some((t.index, t.series.value(problem.objective.value, direction)?.1)));
        let leader = latest.reduce(|a, b| if beats(direction, b.1, a.1) { b } else { a });
        Incumbent::Running(leader.map(|(index, _)| index))
    }

    fn is(&self, problem: &Problem, trial: &Trial) -> bool {
        let (which, direction) = (problem.objective.value, problem.objective.direction);
        match self {
            Incumbent::Running(leader) => *leader == Some(trial.index),
            Incumbent::Finished(value) => {
                trial.series.value(which, direction).is_some_and(|(_, latest)| beats(direction, latest, *value))
            }
        }
    }
}
