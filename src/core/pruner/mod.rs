//! Pruners: what stops losing trials before their end. One file each, and one line each in the list below; all are pure
//! functions of the problem and its history, and say why.

mod algorithm;
mod race;
mod rungs;

pub use algorithm::{Algorithm, Evidence, Verdict};
pub use rungs::Rungs;

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::choice;
use super::objective::Objective;
use super::problem::Problem;
use super::series::{Arrival, MAX_ARRIVALS, Mark, Series};
use super::trial::{Phase, Trial};
use race::Race;

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

            /// Whether it may stand beside another pruner.
            fn stands_alone(&self) -> bool {
                match self {
                    $(Pruner::$Pruner(_) => $Pruner::STANDS_ALONE,)*
                }
            }

            fn name(&self) -> &'static str {
                match self {
                    $(Pruner::$Pruner(_) => $Pruner::NAME,)*
                }
            }

            fn is_end(&self) -> bool {
                match self {
                    $(Pruner::$Pruner(_) => $Pruner::IS_END,)*
                }
            }

            fn keeps_arrivals(&self) -> bool {
                match self {
                    $(Pruner::$Pruner(_) => $Pruner::KEEPS_ARRIVALS,)*
                }
            }

            fn max_steps(&self) -> Option<u64> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.max_steps(),)*
                }
            }

            fn fold_metric(&self) -> Option<&str> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.fold_metric(),)*
                }
            }

            fn rung(&self, series: &Series) -> Option<u64> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.rung(series),)*
                }
            }

            fn shows(&self, objective: &Objective, series: &Series, rung: u64) -> Option<f64> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.shows(objective, series, rung),)*
                }
            }

            fn bracket(&self, index: u32) -> Option<u32> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.bracket(index),)*
                }
            }

            fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.obstacle(problem, history),)*
                }
            }

            fn waits(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.waits(problem, history),)*
                }
            }

            fn remember(&self, objective: &Objective, mark: Option<Mark>, step: u64, value: f64) -> Option<Mark> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.remember(objective, mark, step, value),)*
                }
            }

            fn alone(&self, objective: &Objective, series: &Series) -> Option<(u64, Evidence, String)> {
                let mark = series.marked(self.name())?;
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.alone(objective, mark, series),)*
                }
            }

            fn verdict(&self, race: &mut Race, trial: &Trial, arrival: &Arrival) -> Option<(Evidence, String)> {
                match self {
                    $(Pruner::$Pruner(pruner) => pruner.verdict(race, trial, arrival),)*
                }
            }
        }

        /// The names of the pruners that may stand beside another one.
        const ALONE: &[(&str, bool)] = &[$(($Pruner::NAME, $Pruner::STANDS_ALONE)),*];

        /// What stops losing Trials before their end.
        #[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[schemars(transform = one_beside_those_alone)]
        #[allow(missing_docs, reason = "each is described in its file")]
        pub struct PrunerSpec {
            $(
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $name: Option<<$Pruner as Algorithm>::Settings>,
            )*
        }

        impl PrunerSpec {
            /// The pruners that are given.
            pub fn given(&self) -> Pruners {
                let all = [$(self.$name.as_ref().map(|settings| Pruner::$Pruner($Pruner::new(settings)))),*];
                Pruners(all.into_iter().flatten().collect())
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
    forecast: Forecast,
    median: Median,
    percentile: Percentile,
    hyperband: Hyperband,
    asha: Asha,
    wilcoxon: Wilcoxon,
    threshold: Threshold,
    patience: Patience,
}

/// The names of the pruners of which one may be given, and of those that may stand beside it.
fn names() -> (Vec<&'static str>, Vec<&'static str>) {
    let of = |alone: bool| ALONE.iter().filter(|(_, is_alone)| *is_alone == alone).map(|(name, _)| *name).collect();
    (of(false), of(true))
}

/// Which pruners may be given together, for a person.
pub fn rule() -> String {
    let (one, alone) = names();
    format!("at most one of {}; {} beside it or alone", choice::listed(&one), choice::listed(&alone))
}

/// The rule in the schema, in the API server's language for rules (CEL).
fn one_beside_those_alone(schema: &mut Schema) {
    let has = |names: &[&str]| names.iter().map(|name| format!("has(self.{name})")).collect::<Vec<_>>().join(", ");
    let (one, alone) = names();
    let rule = format!("[{0}].filter(x, x).size() <= 1 && [{0}, {1}].exists(x, x)", has(&one), has(&alone));
    let message = format!("a pruner is {}", self::rule());
    schema.insert("x-kubernetes-validations".to_owned(), json!([{"message": message, "rule": rule}]));
}

/// The pruners of a study: at most one that compares trials, and those that look at each alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pruners(pub Vec<Pruner>);

/// What became of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was older than the last, and dropped.
    Dropped,
    /// It was taken.
    Taken,
    /// It was taken, and may have the trial stopped, now or when others are compared with it.
    Compared,
}

impl Pruners {
    /// Whether they may be given together.
    pub fn is_valid(&self) -> bool {
        !self.0.is_empty() && self.0.iter().filter(|pruner| !pruner.stands_alone()).count() <= 1
    }

    fn comparing(&self) -> Option<&Pruner> {
        self.0.iter().find(|pruner| !pruner.stands_alone())
    }

    /// Their names in the API.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(Pruner::name).collect()
    }

    /// The bracket that the trial `index` shall belong to.
    pub fn bracket(&self, index: u32) -> Option<u32> {
        self.comparing()?.bracket(index)
    }

    /// Whether all arrivals at rungs are kept, since trials are compared by them.
    pub fn keeps_rungs(&self) -> bool {
        self.comparing().is_some_and(Pruner::keeps_arrivals)
    }

    /// The steps of a whole trial, where a pruner was told.
    pub fn max_steps(&self) -> Option<u64> {
        self.comparing()?.max_steps()
    }

    /// The metric of a fold, where trials are compared by their folds.
    pub fn fold_metric(&self) -> Option<&str> {
        self.comparing()?.fold_metric()
    }

    /// What is read of a trial: the metric of the objective, and that of a fold.
    pub fn metrics<'a>(&'a self, objective: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::once(objective).chain(self.fold_metric())
    }

    /// Takes the value of a fold that was reported at `at`. One whose number is not above the last is dropped, and so are those
    /// beyond [`MAX_ARRIVALS`].
    pub fn observe_fold(&self, series: &mut Series, (fold, value): (u64, f64), at: Timestamp) -> Heard {
        let arrivals = series.arrivals();
        if arrivals.len() >= MAX_ARRIVALS || arrivals.last().is_some_and(|last| fold <= last.rung) {
            return Heard::Dropped;
        }
        let value = Some(value).filter(|value| value.is_finite());
        let step = series.last_step().unwrap_or(0);
        series.arrive(Arrival { rung: fold, step, value, at: recorded(at) }, true);
        Heard::Compared
    }

    /// Whether the trial that has this place in `history` is to be stopped.
    pub fn verdict_on(&self, problem: &Problem, history: &[Trial], at: usize) -> Option<Verdict> {
        let mut race = Race::new(problem, history);
        let trial = history.get(at).filter(|trial| trial.can_be_stopped())?;
        self.0.iter().find_map(|pruner| verdict(pruner, &mut race, trial))
    }

    /// Takes an observation that was made at `at` into a trial's series, with the rung that it has come to.
    pub fn observe(
        &self,
        objective: &Objective,
        series: &mut Series,
        (step, value): (u64, f64),
        at: Timestamp,
    ) -> Heard {
        if !series.push(step, value, objective.value, objective.direction) {
            return Heard::Dropped;
        }
        for pruner in self.0.iter().filter(|pruner| pruner.stands_alone()) {
            if let Some(mark) = pruner.remember(objective, series.marked(pruner.name()), step, value) {
                series.mark(pruner.name(), mark);
            }
        }
        let is_over = self.0.iter().any(|pruner| pruner.alone(objective, series).is_some());
        let Some((pruner, rung)) = self.comparing().and_then(|pruner| Some((pruner, pruner.rung(series)?))) else {
            return if is_over { Heard::Compared } else { Heard::Taken };
        };
        if series.arrivals().last().is_none_or(|last| last.rung < rung) {
            let value = pruner.shows(objective, series, rung);
            series.arrive(Arrival { rung, step, value, at: recorded(at) }, pruner.keeps_arrivals());
            return Heard::Compared;
        }
        if is_over { Heard::Compared } else { Heard::Taken }
    }

    /// Why nothing can ever be pruned, as far as the trials have shown, for a person. None while that is not known.
    pub fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        let pruner = self.comparing()?;
        if history.iter().any(|trial| trial.phase == Phase::Pruned) {
            return None;
        }
        if let Some(steps) = pruner.obstacle(problem, history) {
            return Some(format!("{steps}: nothing can ever be pruned"));
        }
        let ended = history.iter().filter(|trial| trial.phase == Phase::Succeeded);
        let late = ended.take(SHOWING).filter(|trial| trial.reported_at_end).count();
        (late == SHOWING).then(|| {
            "nothing can be pruned: trials report everything in their last second (is the trainer's output buffered?)"
                .to_owned()
        })
    }

    /// What is waited for before anything is pruned, for a person.
    pub fn waits(&self, problem: &Problem, history: &[Trial]) -> Option<String> {
        Some(format!("pruner waits: {}", self.comparing()?.waits(problem, history)?))
    }

    /// Which running trials are to be stopped: each as it was when it came to its last rung. One whose value so far beats that
    /// of every trial that has succeeded is none of them, then or now.
    pub fn verdicts(&self, problem: &Problem, history: &[Trial]) -> Vec<Verdict> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut race = Race::new(problem, history);
        let running = history.iter().filter(|trial| trial.can_be_stopped());
        running.filter_map(|trial| self.0.iter().find_map(|pruner| verdict(pruner, &mut race, trial))).collect()
    }
}

/// A time as it is recorded: in whole microseconds.
fn recorded(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn verdict(pruner: &Pruner, race: &mut Race, trial: &Trial) -> Option<Verdict> {
    let Objective { value: which, direction, .. } = *race.problem.objective;
    let unit = if pruner.fold_metric().is_some() { "fold" } else { "step" };
    let of = |step: u64, evidence: Evidence, message: String, incumbent: Option<f64>| Verdict {
        index: trial.index,
        step,
        is_end: pruner.is_end(),
        message: format!("at {unit} {step}: {message}"),
        evidence: Evidence { pruner: pruner.name().to_owned(), incumbent, ..evidence },
    };
    let led = |race: &Race, at: Timestamp, step: u64| {
        let value = trial.series.value_at(step, which, direction);
        value.is_some_and(|(_, value)| race.beats_all(value, at))
    };
    if let Some((step, evidence, message)) = pruner.alone(race.problem.objective, &trial.series) {
        let stays = !pruner.is_end() && led(race, Timestamp::MAX, u64::MAX);
        return (!stays).then(|| of(step, evidence, message, race.incumbent(Timestamp::MAX)));
    }
    // In order: several may have come since the last look. Where it was found to go on it is not judged again.
    let open = trial.series.arrivals().iter().filter(|arrival| trial.passed.is_none_or(|passed| arrival.rung > passed));
    for arrival in open {
        let Some((evidence, message)) = pruner.verdict(race, trial, arrival) else { continue };
        // One that took the lead before anybody could stop it has passed this rung, whatever it shows later.
        let mut since = trial.series.points().iter().map(|(step, _)| *step).filter(|step| *step > arrival.step);
        let has_led = led(race, arrival.at, arrival.step) || since.any(|step| led(race, arrival.at, step));
        if has_led || led(race, Timestamp::MAX, u64::MAX) {
            continue;
        }
        // Of folds the mean is compared, and their number is told.
        let (step, value) = match pruner.fold_metric() {
            Some(_) => (arrival.rung, evidence.value),
            None => (arrival.step, arrival.value),
        };
        return Some(of(step, Evidence { value, ..evidence }, message, race.incumbent(arrival.at)));
    }
    None
}
