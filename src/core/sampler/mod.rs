//! Samplers: what proposes assignments. One file each, and one line each in the list below; all are pure functions of the
//! problem, of what has come of earlier trials, and of the index of the trial to propose.

mod algorithm;
mod dataset;
mod point;
mod tried;

pub use algorithm::{Algorithm, Suggestion};

use algorithm::Request;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::choice;
use super::problem::Problem;
use super::space::{Assignments, Space};
use super::trial::Trial;
use tried::Tried;

/// From `file: Type` for each sampler to all that lists them.
macro_rules! samplers {
    ($($name:ident: $Sampler:ident,)*) => {
        $(mod $name;)*
        $(pub use $name::$Sampler;)*

        /// A sampler with its settings.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each is described in its file")]
        pub enum Sampler {
            $($Sampler($Sampler),)*
        }

        impl Sampler {
            /// The names of all samplers in the API.
            pub const NAMES: &[&str] = &[$($Sampler::NAME),*];

            /// Its name in the API.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Sampler::$Sampler(_) => $Sampler::NAME,)*
                }
            }

            /// What it cannot do with a space, if anything.
            ///
            /// # Errors
            /// Each problem as (position of the parameter, message).
            pub fn capabilities(&self, space: &Space) -> Result<(), Vec<(usize, String)>> {
                match self {
                    $(Sampler::$Sampler(sampler) => sampler.capabilities(space),)*
                }
            }

            fn propose(&self, request: &Request, caches: &mut Caches) -> Suggestion {
                match self {
                    $(Sampler::$Sampler(sampler) => sampler.propose(request, &mut caches.$name),)*
                }
            }

            fn is_new(&self, suggestion: &Suggestion, point: &[f64], tried: &Tried) -> bool {
                match self {
                    $(Sampler::$Sampler(sampler) => sampler.is_new(suggestion, point, tried),)*
                }
            }

            fn standing_after(&self, problem: &Problem, finished: &dyn Fn() -> usize) -> String {
                match self {
                    $(Sampler::$Sampler(sampler) => sampler.standing(problem, finished),)*
                }
            }
        }

        /// What proposes configurations.
        #[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[schemars(transform = exactly_one)]
        #[allow(missing_docs, reason = "each is described in its file")]
        pub struct SamplerSpec {
            $(
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $name: Option<<$Sampler as Algorithm>::Settings>,
            )*
        }

        impl SamplerSpec {
            /// The samplers that are given: one, where the spec is valid.
            pub fn given(&self) -> Vec<Sampler> {
                let all = [$(self.$name.as_ref().map(|settings| Sampler::$Sampler($Sampler::new(settings)))),*];
                all.into_iter().flatten().collect()
            }
        }

        #[derive(Default)]
        struct Caches {
            $($name: <$Sampler as Algorithm>::Cache,)*
        }
    };
}

samplers! {
    auto: Auto,
    random: Random,
    grid: Grid,
    sobol: Sobol,
    tpe: Tpe,
    gp: Gp,
    cmaes: Cmaes,
}

fn exactly_one(schema: &mut Schema) {
    choice::exactly_one(schema, "a sampler", Sampler::NAMES);
}

/// What a sampler answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Try this.
    Propose(Suggestion),
    /// Every configuration of the space has been tried.
    Exhausted,
}

/// What was computed for earlier proposals of one study. It makes the next ones faster, and never different.
#[derive(Default)]
pub struct Cache {
    dataset: dataset::Cache,
    caches: Caches,
}

/// A study's past, as far as proposals follow from it.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// All trials that are recorded, in any order.
    pub history: &'a [Trial],
    /// What was proposed since.
    pub proposed: &'a [Trial],
    /// Configurations that are tried first.
    pub initial: &'a [Assignments],
    /// Hash of the study's present job template: with another one, trials had other surroundings.
    pub template: u64,
}

impl<'a> Past<'a> {
    fn trials(self) -> impl Iterator<Item = &'a Trial> {
        self.history.iter().chain(self.proposed)
    }
}

impl Sampler {
    /// The proposal for trial `index`: the initial assignments that no trial has, in their order, then configurations of
    /// which only failures are known that say nothing of them, then what the sampler says.
    pub fn next(&self, problem: Problem, past: Past, index: u32, cache: &mut Cache) -> Next {
        let recorded = |assignments: &Assignments, sampler| {
            Next::Propose(Suggestion { assignments: assignments.clone(), sampler, version: 1, generation: None })
        };
        for initial in past.initial {
            let is_it = |a: Option<&[f64]>, b: Option<&[f64]>| match (a, b) {
                (Some(a), Some(b)) => point::same(a, b),
                (a, b) => a.is_none() && b.is_none(),
            };
            let at = point::of(problem.space, initial);
            let mut points = past.trials().map(|trial| cache.dataset.point(problem.space, trial));
            if !points.any(|point| is_it(point.as_deref(), at.as_deref())) {
                return recorded(initial, "initial");
            }
        }
        let trials = || past.trials();
        if let Some(trial) = cache.dataset.next_retry(&problem, past.template, past.initial, trials) {
            return recorded(&trial.assignments, "retry");
        }
        self.next_new(problem, past, index, cache)
    }

    /// The sampler's own proposal. No configuration is repeated while untried ones remain, nor one proposed that no trainer
    /// could tell from one that was tried, but by cmaes once it has converged to such a point.
    fn next_new(&self, problem: Problem, past: Past, index: u32, cache: &mut Cache) -> Next {
        let (dataset, tried) = cache.dataset.update(&problem, past.template, || past.trials());
        let size = problem.space.size();
        if size.is_some_and(|size| tried.len() as u128 >= size) {
            return Next::Exhausted;
        }
        let request = Request { problem, dataset, tried, index };
        let suggestion = self.propose(&request, &mut cache.caches);
        let Some(point) = point::of(problem.space, &suggestion.assignments) else {
            return Next::Propose(suggestion);
        };
        if self.is_new(&suggestion, &point, tried) {
            return Next::Propose(suggestion);
        }
        let drawn = if tried.is_dense() { random::untried(&problem, tried, index) } else { None };
        let assignments = match (drawn, size) {
            (Some(drawn), _) => drawn,
            (None, Some(size)) => grid::first_untried(&problem, size, tried),
            // Nothing new was found in a continuum: it is as good as exhausted.
            (None, None) => suggestion.assignments,
        };
        Next::Propose(Suggestion { assignments, ..suggestion })
    }

    /// Which sampler is at work after this history, and why: of interest where it chooses itself. `template` is the hash of
    /// the study's present job template.
    pub fn standing(&self, problem: Problem, history: &[Trial], template: u64) -> String {
        self.standing_after(&problem, &|| dataset::count_usable(template, history.iter()))
    }
}
