//! Independent draws, each from its own stream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Request, Suggestion};
use super::point;
use super::tried::Tried;
use crate::core::rng::{Stream, stream};
use crate::core::problem::Problem;
use crate::core::space::Assignments;

/// Independent draws.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {}

/// Independent draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Random;

impl Algorithm for Random {
    type Settings = Settings;
    type Cache = ();
    const NAME: &'static str = "random";
    const VERSION: u32 = 2;

    fn new(_: &Settings) -> Random {
        Random
    }

    fn propose(&self, request: &Request, _: &mut ()) -> Suggestion {
        let mut stream = stream(request.problem.seed, "random", u64::from(request.index));
        self.suggestion(draw(&request.problem, &mut stream))
    }
}

/// So many draws are made, at most, to find a configuration that was not tried.
const PATIENCE: usize = 200;

/// A draw for trial `index` that differs from all that was tried by as much as a trainer may notice; where none is found, the
/// first that differs at all.
pub fn untried(problem: &Problem, tried: &Tried, index: u32) -> Option<Assignments> {
    let mut stream = stream(problem.seed, "random again", u64::from(index));
    let mut close = None;
    for _ in 0..PATIENCE {
        let drawn = draw(problem, &mut stream);
        let Some(point) = point::of(problem.space, &drawn) else { continue };
        if !tried.has_near(&point) {
            return Some(drawn);
        }
        if close.is_none() && !tried.has(&point) {
            close = Some(drawn);
        }
    }
    close
}

fn draw(problem: &Problem, stream: &mut Stream) -> Assignments {
    problem.space.assemble(|_, domain| domain.at_unit(stream.unit()))
}
