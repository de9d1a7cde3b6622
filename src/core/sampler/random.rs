//! Independent draws, each from its own stream.

use super::Assignments;
use crate::core::rng::stream;
use crate::core::study::Study;

/// The draw of trial `index`.
pub fn propose(study: &Study, index: u32) -> Assignments {
    let mut stream = stream(study.seed, "random", u64::from(index));
    study.space.assemble(|_, domain| domain.at_unit(stream.unit()))
}
