//! Independent draws, each from its own stream.

use super::Assignments;
use super::learned::point;
use super::tried::Tried;
use crate::core::rng::{Stream, stream};
use crate::core::study::Study;

/// So many draws are made, at most, to find a configuration that was not tried.
const PATIENCE: usize = 200;

/// The draw of trial `index`.
pub fn propose(study: &Study, index: u32) -> Assignments {
    draw(study, &mut stream(study.seed, "random", u64::from(index)))
}

/// A draw for trial `index` that differs from all that was tried by as much as a trainer may notice; where none is found, the
/// first that differs at all.
pub fn untried(study: &Study, tried: &Tried, index: u32) -> Option<Assignments> {
    let mut stream = stream(study.seed, "random again", u64::from(index));
    let mut close = None;
    for _ in 0..PATIENCE {
        let drawn = draw(study, &mut stream);
        let Some(point) = point(&study.space, &drawn) else { continue };
        if !tried.has_near(&point) {
            return Some(drawn);
        }
        if close.is_none() && !tried.has(&point) {
            close = Some(drawn);
        }
    }
    close
}

fn draw(study: &Study, stream: &mut Stream) -> Assignments {
    study.space.assemble(|_, domain| domain.at_unit(stream.unit()))
}
