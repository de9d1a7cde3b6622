//! A Sobol sequence with Owen scrambling (Burley 2020, "Practical Hash-based Owen Scrambling"): the
//! point is the trial's index, the dimension the parameter's position, also where it is inactive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Request, Suggestion};
use crate::core::rng::stream;
use crate::core::space::Assignments;
use crate::core::problem::Problem;

/// A scrambled Sobol sequence: covers the space more evenly than independent draws.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {}

/// A scrambled Sobol sequence. It has 256 dimensions and 2^16 points; a study has at most 64 parameters and 10,000 trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sobol;

impl Algorithm for Sobol {
    type Settings = Settings;
    type Cache = ();
    const NAME: &'static str = "sobol";
    const VERSION: u32 = 2;

    fn new(_: &Settings) -> Sobol {
        Sobol
    }

    fn propose(&self, request: &Request, _: &mut ()) -> Suggestion {
        self.suggestion(propose(&request.problem, request.index))
    }
}

/// The point of trial `index`.
pub fn propose(problem: &Problem, index: u32) -> Assignments {
    let scramble = stream(problem.seed, "sobol", 0).bits() as u32;
    // sobol_burley has 2^16 points; an index beyond them (10,000 trials and as many deleted) starts over.
    let point = index % (1 << 16);
    problem
        .space
        .assemble(|position, domain| domain.at_unit(f64::from(sobol_burley::sample(point, position as u32, scramble))))
}
