//! Which trial is best.

use super::study::{Direction, Phase, Trial};

/// Whether value `a` is strictly better than `b`. NaN is worse than any number.
pub fn beats(direction: Direction, a: f64, b: f64) -> bool {
    let ahead = match direction {
        Direction::Maximize => a > b,
        Direction::Minimize => a < b,
    };
    ahead || (b.is_nan() && !a.is_nan())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_is_worse_than_any_number_and_not_better_than_itself() {
        for direction in [Direction::Maximize, Direction::Minimize] {
            for number in [0.0, -1e300, 1e300, f64::INFINITY, f64::NEG_INFINITY] {
                assert!(beats(direction, number, f64::NAN) && !beats(direction, f64::NAN, number));
            }
            assert!(!beats(direction, f64::NAN, f64::NAN) && !beats(direction, 1.0, 1.0));
        }
        assert!(beats(Direction::Maximize, 2.0, 1.0) && beats(Direction::Minimize, 1.0, 2.0));
    }
}
