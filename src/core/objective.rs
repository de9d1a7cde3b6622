//! What is optimised, and which value is better.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is optimised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The metric's name.
    pub metric: String,
    /// Whether higher or lower is better.
    pub direction: Direction,
    /// Which observation is a trial's value.
    pub value: ValueOf,
}

/// Whether higher or lower is better.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Higher is better.
    Maximize,
    /// Lower is better.
    Minimize,
}

/// Which observation is a Trial's value.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueOf {
    /// The observation at the highest step.
    #[default]
    Last,
    /// The best observation over all steps.
    Best,
}

/// Whether value `a` is strictly better than `b`. NaN is worse than any number.
pub fn beats(direction: Direction, a: f64, b: f64) -> bool {
    let ahead = match direction {
        Direction::Maximize => a > b,
        Direction::Minimize => a < b,
    };
    ahead || (b.is_nan() && !a.is_nan())
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
