//! Samplers: what proposes assignments. One file each; all are pure functions of the study, its history
//! and the index of the trial to propose.

mod auto;
mod cmaes;
mod gp;
mod grid;
mod learned;
mod random;
mod sobol;
mod tpe;
mod tried;

pub use cmaes::Cmaes;
pub use gp::Gp;
pub use tpe::Tpe;

use super::space::{Assignments, Space};
use super::study::{Study, Trial};
use learned::{point, same};

/// The samplers, with their settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// Chooses among the others by the space and by how many trials have finished.
    Auto,
    /// Independent draws.
    Random,
    /// Every configuration of a finite space once.
    Grid,
    /// A scrambled Sobol sequence.
    Sobol,
    /// A tree-structured Parzen estimator.
    Tpe(Tpe),
    /// Bayesian optimisation with a Gaussian process.
    Gp(Gp),
    /// An evolution strategy that adapts its covariance matrix.
    Cmaes(Cmaes),
}

/// What a sampler answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Try this.
    Propose(Suggestion),
    /// Every configuration of the space has been tried.
    Exhausted,
}

/// A configuration to try, and what is to be recorded of how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// The configuration.
    pub assignments: Assignments,
    /// The sampler's name: `auto` gives that of the one it stands at.
    pub sampler: &'static str,
    /// The version of that sampler's algorithm.
    pub version: u32,
    /// The generation of CMA-ES.
    pub generation: Option<u32>,
}

/// What was computed for earlier proposals of one study. It makes the next ones faster, and never different.
#[derive(Default)]
pub struct Cache {
    learned: learned::Cache,
    gp: gp::Cache,
    tpe: tpe::Cache,
    cmaes: cmaes::Cache,
}

/// The proposal for trial `index` of a study, after `history` and what was `proposed` since: the initial assignments that
/// no trial has, in their order, then configurations of which only failures are known that teach nothing, then what the
/// sampler says.
pub fn next(study: &Study, history: &[Trial], proposed: &[Trial], index: u32, cache: &mut Cache) -> Next {
    for initial in &study.initial {
        let is_it = |a: Option<&[f64]>, b: Option<&[f64]>| match (a, b) {
            (Some(a), Some(b)) => same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let at = point(&study.space, initial);
        let mut trials = history.iter().chain(proposed);
        if !trials.any(|trial| is_it(cache.learned.point(&study.space, trial).as_deref(), at.as_deref())) {
            let (assignments, sampler) = (initial.clone(), "initial");
            return Next::Propose(Suggestion { assignments, sampler, version: 1, generation: None });
        }
    }
    if let Some(trial) = cache.learned.owed(study, || history.iter().chain(proposed)) {
        let (assignments, sampler) = (trial.assignments.clone(), "retry");
        return Next::Propose(Suggestion { assignments, sampler, version: 1, generation: None });
    }
    study.sampler.next(study, history, proposed, index, cache)
}

impl Sampler {
    /// Its name in the API.
    pub fn name(&self) -> &'static str {
        match self {
            Sampler::Auto => "auto",
            Sampler::Random => "random",
            Sampler::Grid => "grid",
            Sampler::Sobol => "sobol",
            Sampler::Tpe(_) => "tpe",
            Sampler::Gp(_) => "gp",
            Sampler::Cmaes(_) => "cmaes",
        }
    }

    /// The version of its algorithm: to be raised whenever its proposals change.
    pub fn version(&self) -> u32 {
        match self {
            Sampler::Tpe(_) | Sampler::Gp(_) | Sampler::Cmaes(_) => 3,
            _ => 2,
        }
    }

    /// What it cannot do with a space, if anything.
    ///
    /// # Errors
    /// Each problem as (position of the parameter, message).
    pub fn capabilities(&self, space: &Space) -> Result<(), Vec<(usize, String)>> {
        let parameters = space.parameters().iter().enumerate();
        match self {
            Sampler::Grid => {
                let continuous = parameters.filter(|(_, p)| p.domain.is_continuous());
                let problems: Vec<_> = continuous
                    .map(|(i, _)| {
                        (i, "the grid sampler needs a step for a double: add step, or use another sampler".to_owned())
                    })
                    .collect();
                if problems.is_empty() { Ok(()) } else { Err(problems) }
            }
            // Sobol: sobol_burley has 256 dimensions and 2^16 points, the API at most 64 and 10,000.
            _ => Ok(()),
        }
    }

    /// The proposal for trial `index`, after `history` and what was `proposed` since. No configuration is repeated while
    /// untried ones remain, nor one proposed that no trainer could tell from one that was tried, but by cmaes once it has
    /// converged to such a point.
    fn next(&self, study: &Study, history: &[Trial], proposed: &[Trial], index: u32, cache: &mut Cache) -> Next {
        let trials = || history.iter().chain(proposed);
        let size = study.space.size();
        if let Some(size) = size
            && cache.learned.look(study, trials).1.len() as u128 >= size
        {
            return Next::Exhausted;
        }
        let suggested = self.suggest(study, trials, index, cache);
        let (_, tried) = cache.learned.look(study, trials);
        let Some(point) = learned::point(&study.space, &suggested.assignments) else {
            return Next::Propose(suggested);
        };
        let is_spent = if suggested.generation.is_some() { tried.has(&point) } else { tried.has_near(&point) };
        if !is_spent && *self != Sampler::Grid {
            return Next::Propose(suggested);
        }
        let draws = *self != Sampler::Grid && tried.is_dense();
        let drawn = if draws { random::untried(study, tried, index) } else { None };
        let assignments = match (drawn, size) {
            (Some(drawn), _) => drawn,
            (None, Some(size)) => grid::first_untried(study, size, tried),
            // Nothing new was found in a continuum: it is as good as exhausted.
            (None, None) => suggested.assignments,
        };
        Next::Propose(Suggestion { assignments, ..suggested })
    }

    fn suggest<'a, I: Iterator<Item = &'a Trial>>(
        &self,
        study: &Study,
        trials: impl Fn() -> I,
        index: u32,
        cache: &mut Cache,
    ) -> Suggestion {
        let plain = |assignments| self.suggestion(assignments);
        match self {
            Sampler::Random => plain(random::propose(study, index)),
            Sampler::Sobol => plain(sobol::propose(study, index)),
            // What was tried is not looked at here.
            Sampler::Grid => plain(study.space.nth(0)),
            Sampler::Auto => {
                let (learned, _) = cache.learned.look(study, &trials);
                auto::standing(study, learned.finished.len()).sampler.suggest(study, trials, index, cache)
            }
            Sampler::Tpe(tpe) => {
                let (learned, tried) = cache.learned.look(study, trials);
                match learned.finished.len() < tpe.startup_trials as usize {
                    true => plain(sobol::propose(study, index)),
                    false => plain(tpe::propose(tpe, study, learned, index, tried, &mut cache.tpe)),
                }
            }
            Sampler::Gp(gp) => {
                let (learned, tried) = cache.learned.look(study, trials);
                match learned.finished.len() < gp.startup_trials.max(1) as usize {
                    true => plain(sobol::propose(study, index)),
                    false => plain(gp::propose(study, learned, index, tried, &mut cache.gp)),
                }
            }
            Sampler::Cmaes(cmaes) => {
                let (learned, tried) = cache.learned.look(study, trials);
                let (assignments, generation) = cmaes::propose(cmaes, study, learned, index, tried, &mut cache.cmaes);
                Suggestion { generation: Some(generation), ..plain(assignments) }
            }
        }
    }

    fn suggestion(&self, assignments: Assignments) -> Suggestion {
        Suggestion { assignments, sampler: self.name(), version: self.version(), generation: None }
    }

    /// Which sampler is at work after this history, and why: of interest where it chooses itself.
    pub fn standing(&self, study: &Study, history: &[Trial]) -> String {
        match self {
            Sampler::Auto => auto::standing(study, learned::count_of_teaching(study, history.iter())).to_string(),
            other => other.name().to_owned(),
        }
    }
}
