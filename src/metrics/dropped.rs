//! Counters of what was dropped.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much of what a trainer wrote was dropped, and why.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dropped {
    /// Lines longer than 64 KiB.
    #[serde(skip_serializing_if = "is_zero")]
    pub too_long: u64,
    /// Lines that begin as a JSON object and are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub malformed: u64,
    /// Values of an objective that are something else than a number, in JSON lines.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_a_number: u64,
    /// Values of an objective that are NaN or infinite.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_finite: u64,
    /// Lines with a value of an objective whose step is negative, fractional or above 2^53.
    #[serde(skip_serializing_if = "is_zero")]
    pub bad_step: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Dropped {
    /// Whether nothing was dropped.
    pub fn is_zero(&self) -> bool {
        self.total() == 0
    }

    /// How much was dropped, whatever the reason.
    pub fn total(&self) -> u64 {
        self.reasons().iter().fold(0, |total, (count, ..)| total.saturating_add(*count))
    }

    /// Each count with its words for one and for many.
    fn reasons(&self) -> [(u64, &'static str, &'static str); 5] {
        let Dropped { too_long, malformed, not_a_number, non_finite, bad_step } = *self;
        [
            (too_long, "line over 64 KiB", "lines over 64 KiB"),
            (malformed, "malformed JSON line", "malformed JSON lines"),
            (not_a_number, "value that is no number", "values that are no numbers"),
            (non_finite, "non-finite value", "non-finite values"),
            (bad_step, "line with an impossible step", "lines with an impossible step"),
        ]
    }
}

/// Such as `2 lines over 64 KiB, 3 non-finite values`; `nothing` where nothing was dropped.
impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("nothing");
        }
        let counted = self.reasons().into_iter().filter(|(count, ..)| *count > 0);
        for (index, (count, one, many)) in counted.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {}", if count == 1 { one } else { many })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_only_the_reasons_that_occurred() {
        let dropped = Dropped { too_long: 2, non_finite: 3, ..Dropped::default() };
        assert_eq!(dropped.to_string(), "2 lines over 64 KiB, 3 non-finite values");
        assert_eq!(Dropped { bad_step: 1, ..Dropped::default() }.to_string(), "1 line with an impossible step");
        assert_eq!(Dropped::default().to_string(), "nothing");
        assert_eq!(dropped.total(), 5);
        assert!(!dropped.is_zero() && Dropped::default().is_zero());
    }

    #[test]
    fn counts_of_zero_are_not_written_and_read_as_zero() {
        let dropped = Dropped { non_finite: 3, ..Dropped::default() };
        let text = serde_json::to_string(&dropped).unwrap();
        assert_eq!(text, r#"{"nonFinite":3}"#);
        assert_eq!(serde_json::from_str::<Dropped>(&text).unwrap(), dropped);
    }
}
