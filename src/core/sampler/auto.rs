//! The choice for those who have none: switches by the space and by counts, never by time.

use std::fmt;

use super::gp::MOST_TRIALS;
use super::{Cmaes, Gp, Sampler, Tpe};
use crate::core::study::Study;

/// More parameters than this are too many for a Gaussian process.
const MOST_PARAMETERS: usize = 40;

/// The sampler at work, and why.
pub struct Standing {
    /// The sampler.
    pub sampler: Sampler,
    why: String,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "auto: {}, {}", self.sampler.name(), self.why)
    }
}

/// The sampler for a study with so many finished trials that models learn from.
pub fn standing(study: &Study, finished: usize) -> Standing {
    let startup = Gp::usual_startup(study.parallelism, study.limits.max_trials);
    let parameters = study.space.parameters();
    if finished < startup as usize {
        return Standing { sampler: Sampler::Sobol, why: format!("until {startup} trials have finished") };
    }
    if parameters.len() <= MOST_PARAMETERS {
        let why = match finished > MOST_TRIALS {
            true => format!("on {MOST_TRIALS} of the finished trials"),
            false => format!("after {startup} trials of sobol"),
        };
        return Standing { sampler: Sampler::Gp(Gp { startup_trials: startup }), why };
    }
    let is_numeric = parameters.iter().all(|p| !p.domain.is_categorical() && p.when.is_empty());
    let sampler = match is_numeric {
        true => Sampler::Cmaes(Cmaes::default()),
        false => Sampler::Tpe(Tpe { startup_trials: startup, ..Tpe::default() }),
    };
    Standing { sampler, why: format!("for {} parameters: gp takes up to {MOST_PARAMETERS}", parameters.len()) }
}
