//! Samplers: what proposes assignments. One file each; all are pure functions of the study, its history
//! and the index of the trial to propose.

mod grid;
mod random;
mod sobol;

use std::collections::BTreeSet;

use super::space::{Assignments, Space};
use super::study::{Study, Trial};

/// The samplers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// Independent draws.
    Random,
    /// Every configuration of a finite space once.
    Grid,
    /// A scrambled Sobol sequence.
    Sobol,
}

/// What a sampler answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Try this.
    Propose(Assignments),
    /// Every configuration of the space has been tried.
    Exhausted,
}

impl SamplerKind {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            SamplerKind::Random => "random",
            SamplerKind::Grid => "grid",
            SamplerKind::Sobol => "sobol",
        }
    }

    /// The version of its algorithm: to be raised whenever its proposals change.
    pub fn version(self) -> u32 {
        1
    }

    /// What it cannot do with a space, if anything.
    ///
    /// # Errors
    /// Each problem as (position of the parameter, message).
    pub fn capabilities(self, space: &Space) -> Result<(), Vec<(usize, String)>> {
        let parameters = space.parameters().iter().enumerate();
        match self {
            SamplerKind::Grid => {
                let continuous = parameters.filter(|(_, p)| p.domain.size().is_none());
                let problems: Vec<_> = continuous
                    .map(|(i, _)| {
                        (i, "the grid sampler needs a step for a double: add step, or use another sampler".to_owned())
                    })
                    .collect();
                if problems.is_empty() { Ok(()) } else { Err(problems) }
            }
            // Sobol: sobol_burley has 256 dimensions and 2^16 points, the API at most 64 and 10,000.
            SamplerKind::Random | SamplerKind::Sobol => Ok(()),
        }
    }

    /// The proposal for trial `index`. In a finite space no configuration is repeated while untried ones remain.
    pub fn next(self, study: &Study, history: &[Trial], index: u32) -> Next {
        let drawn = match self {
            SamplerKind::Random => Some(random::propose(study, index)),
            SamplerKind::Sobol => Some(sobol::propose(study, index)),
            SamplerKind::Grid => None,
        };
        let Some(size) = study.space.size() else {
            // A continuum does not repeat, and the grid's capabilities rule it out.
            return Next::Propose(drawn.unwrap_or_else(|| study.space.nth(0)));
        };
        let tried = Tried::new(&study.space, history);
        if tried.0.len() as u128 >= size {
            return Next::Exhausted;
        }
        let untried = drawn.filter(|drawn| !tried.contains(drawn));
        Next::Propose(untried.unwrap_or_else(|| grid::first_untried(study, size, &tried)))
    }
}

/// The distinct configurations of a history.
struct Tried(BTreeSet<Assignments>);

impl Tried {
    fn new(space: &Space, history: &[Trial]) -> Tried {
        Tried(history.iter().map(|trial| space.canonical(&trial.assignments)).collect())
    }

    fn contains(&self, proposal: &Assignments) -> bool {
        self.0.contains(proposal)
    }
}
