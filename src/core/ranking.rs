//! Which trial is best.

use super::study::{Direction, Phase, Trial};

/// Whether value `a` is strictly better than `b`.
pub fn beats(direction: Direction, a: f64, b: f64) -> bool {
    match direction {
        Direction::Maximize => a > b,
        Direction::Minimize => a < b,
    }
}

/// The best trial: its index and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// The trial's index.
    pub index: u32,
    /// Its value.
    pub value: f64,
}

/// The best of the succeeded trials; pruned ones do not compete, ties go to the lower index.
pub fn best(direction: Direction, history: &[Trial]) -> Option<Best> {
    history
        .iter()
        .filter(|trial| trial.phase == Phase::Succeeded)
        .filter_map(|trial| Some(Best { index: trial.index, value: trial.value? }))
        .reduce(|a, b| {
            let b_wins = beats(direction, b.value, a.value) || (a.value == b.value && b.index < a.index);
            if b_wins { b } else { a }
        })
}
