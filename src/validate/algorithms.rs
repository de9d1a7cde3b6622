//! The sampler and the pruner. What their settings may be stands beside their code.

use super::Problems;
use crate::api::StudySpec;
use crate::core::listed;
use crate::core::pruner::Pruner;
use crate::core::sampler::{Auto, Sampler};

pub fn sampler(spec: &StudySpec, problems: &mut Problems) -> Sampler {
    let Some(sampler) = &spec.sampler else {
        return Sampler::Auto(Auto);
    };
    match sampler.given().as_slice() {
        [sampler] => *sampler,
        _ => {
            problems.add("spec.sampler", format!("must have exactly one of {}", listed(Sampler::NAMES)));
            Sampler::Auto(Auto)
        }
    }
}

pub fn pruner(spec: &StudySpec, problems: &mut Problems) -> Option<Pruner> {
    let pruner = spec.pruner.as_ref()?;
    for (field, message) in pruner.problems() {
        problems.add(format!("spec.pruner.{field}"), message);
    }
    match pruner.given().as_slice() {
        [pruner] => Some(pruner.clone()),
        _ => {
            problems.add("spec.pruner", format!("must have exactly one of {}", listed(Pruner::NAMES)));
            None
        }
    }
}
