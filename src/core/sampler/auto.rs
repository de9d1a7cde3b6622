//! The choice for those who have none: switches by the space and by counts, never by time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Request, Suggestion};
use super::cmaes::Cmaes;
use super::gp::{Gp, MOST_TRIALS};
use super::sobol::Sobol;
use super::tpe::Tpe;
use super::{cmaes, gp, tpe};
use crate::core::problem::Problem;

/// Chooses by the search space and by how many Trials have finished: `sobol` at first, then `gp` for up to 40
/// parameters; for more `cmaes` where all are numbers, else `tpe`. The status says which is at work, and why.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {}

/// Chooses among the others by the space and by how many trials have finished.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auto;

/// More parameters than this are too many for a Gaussian process.
const MOST_PARAMETERS: usize = 40;

/// Of those it may stand at.
#[derive(Default)]
pub struct Cache {
    gp: gp::Cache,
    tpe: tpe::Cache,
    cmaes: cmaes::Cache,
}

/// The sampler at work.
enum Stage {
    Sobol,
    Gp(Gp),
    Tpe(Tpe),
    Cmaes(Cmaes),
}

impl Algorithm for Auto {
    type Settings = Settings;
    type Cache = Cache;
    const NAME: &'static str = "auto";
    const VERSION: u32 = 3;

    fn new(_: &Settings) -> Auto {
        Auto
    }

    fn propose(&self, request: &Request, cache: &mut Cache) -> Suggestion {
        match stage(&request.problem, request.dataset.finished.len()).0 {
            Stage::Sobol => Sobol.propose(request, &mut ()),
            Stage::Gp(gp) => gp.propose(request, &mut cache.gp),
            Stage::Tpe(tpe) => tpe.propose(request, &mut cache.tpe),
            Stage::Cmaes(cmaes) => cmaes.propose(request, &mut cache.cmaes),
        }
    }

    fn standing(&self, problem: &Problem, finished: &dyn Fn() -> usize) -> String {
        let (stage, why) = stage(problem, finished());
        let name = match stage {
            Stage::Sobol => Sobol::NAME,
            Stage::Gp(_) => Gp::NAME,
            Stage::Tpe(_) => Tpe::NAME,
            Stage::Cmaes(_) => Cmaes::NAME,
        };
        format!("auto: {name}, {why}")
    }
}

/// The sampler after so many finished trials that models learn from, and why.
fn stage(problem: &Problem, finished: usize) -> (Stage, String) {
    let startup = Gp::usual_startup(problem.budget);
    let parameters = problem.space.parameters();
    if finished < startup as usize {
        return (Stage::Sobol, format!("until {startup} trials have finished"));
    }
    if parameters.len() <= MOST_PARAMETERS {
        let why = match finished > MOST_TRIALS {
            true => format!("on {MOST_TRIALS} of the finished trials"),
            false => format!("after {startup} trials of sobol"),
        };
        return (Stage::Gp(Gp { startup_trials: Some(startup) }), why);
    }
    let is_numeric = parameters.iter().all(|p| !p.domain.is_categorical() && p.when.is_empty());
    let stage = match is_numeric {
        true => Stage::Cmaes(Cmaes::default()),
        false => Stage::Tpe(Tpe { startup_trials: startup, ..Tpe::default() }),
    };
    (stage, format!("for {} parameters: gp takes up to {MOST_PARAMETERS}", parameters.len()))
}
