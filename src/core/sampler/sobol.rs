//! A Sobol sequence with Owen scrambling (Burley 2020, "Practical Hash-based Owen Scrambling"): the
//! point is the trial's index, the dimension the parameter's position, also where it is inactive.

use super::Assignments;
use crate::core::rng::stream;
use crate::core::study::Study;

/// The point of trial `index`.
pub fn propose(study: &Study, index: u32) -> Assignments {
    let scramble = stream(study.seed, "sobol", 0).bits() as u32;
    // sobol_burley has 2^16 points; an index beyond them (10,000 trials and as many deleted) starts over.
    let point = index % (1 << 16);
    study
        .space
        .assemble(|position, domain| domain.at_unit(f64::from(sobol_burley::sample(point, position as u32, scramble))))
}
