//! Counters of what was dropped.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// The longest line that is quoted, in characters.
const LONGEST_EXAMPLE: usize = 200;

/// How much of what a trainer wrote was dropped, and why.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dropped {
    /// Lines longer than 64 KiB, and lines of text longer than 4 KiB where patterns read them.
    #[serde(skip_serializing_if = "is_zero")]
    pub too_long: u64,
    /// Lines that begin as a JSON object, or as an array of them, and are none.
    #[serde(skip_serializing_if = "is_zero")]
    pub malformed: u64,
    /// Values of a metric that was asked for that are no numbers, or begin like one and are none, such as `1,234.5`.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_a_number: u64,
    /// Values of an objective that are NaN or infinite.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_finite: u64,
    /// Lines with a value of an objective whose step is negative, no number or above 2^53.
    #[serde(skip_serializing_if = "is_zero")]
    pub bad_step: u64,
    /// Values of an objective at a lower step than one before.
    #[serde(skip_serializing_if = "is_zero")]
    pub lower_step: u64,
    /// Values of a fold that had another one before, or behind the 80th.
    #[serde(skip_serializing_if = "is_zero")]
    pub fold: u64,
    /// Records of event files that are damaged; behind one whose length is, nothing more is read of its file.
    #[serde(skip_serializing_if = "is_zero")]
    pub damaged: u64,
    /// Values of a metric that was asked for in event files of another folder than the first ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub other_folder: u64,
    /// The first line of which something was dropped, as far as it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 200))]
    pub example: Option<String>,
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

    /// Counts `more` of a reason, for which `line` is an example.
    pub(super) fn count(&mut self, reason: impl FnOnce(&mut Dropped) -> &mut u64, more: u64, line: &str) {
        if more > 0 {
            *reason(self) += more;
            self.example.get_or_insert_with(|| example(line));
        }
    }

    /// Each count with its words for one and for many.
    fn reasons(&self) -> [(u64, &'static str, &'static str); 9] {
        let Dropped {
            too_long,
            malformed,
            not_a_number,
            non_finite,
            bad_step,
            lower_step,
            fold,
            damaged,
            other_folder,
            ..
        } = *self;
        [
            (too_long, "line that is too long", "lines that are too long"),
            (malformed, "malformed JSON line", "malformed JSON lines"),
            (not_a_number, "value that is no number", "values that are no numbers"),
            (non_finite, "non-finite value", "non-finite values"),
            (bad_step, "line with an impossible step", "lines with an impossible step"),
            (lower_step, "value at a lower step than the one before", "values at a lower step than the one before"),
            (fold, "second value of a fold, or one behind the 80th", "second values of a fold, or behind the 80th"),
            (damaged, "damaged record of an event file", "damaged records of event files"),
            (other_folder, "value in event files of another folder", "values in event files of other folders"),
        ]
    }
}

/// Such as `2 lines that are too long, 3 non-finite values, such as "loss=nan"`; `nothing` where nothing was dropped.
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
        self.example.as_ref().map_or(Ok(()), |example| write!(f, ", such as \"{example}\""))
    }
}

/// A line as it is quoted.
pub(super) fn example(line: &str) -> String {
    let line = shown(line);
    let line = line.trim();
    if line.chars().count() <= LONGEST_EXAMPLE {
        return line.to_owned();
    }
    line.chars().take(LONGEST_EXAMPLE - 1).chain(['…']).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_quoted_as_a_person_may_see_it_and_bounded() {
        assert_eq!(example(" [1]\trmse: 1,5\x1b[31m\u{202e} "), "[1] rmse: 1,5");
        assert_eq!(example(&"ü".repeat(1000)).chars().count(), LONGEST_EXAMPLE);
    }

    #[test]
    fn a_person_reads_only_the_reasons_that_occurred() {
        let dropped = Dropped { too_long: 2, non_finite: 3, ..Dropped::default() };
        assert_eq!(dropped.to_string(), "2 lines that are too long, 3 non-finite values");
        let mut dropped = dropped;
        dropped.count(|dropped| &mut dropped.non_finite, 0, "nothing");
        dropped.count(|dropped| &mut dropped.non_finite, 1, "loss=nan");
        dropped.count(|dropped| &mut dropped.lower_step, 1, "epoch 1 loss=3");
        let text = "2 lines that are too long, 4 non-finite values, 1 value at a lower step than the one before, such as \"loss=nan\"";
        assert_eq!(dropped.to_string(), text);
        assert_eq!(Dropped { bad_step: 1, ..Dropped::default() }.to_string(), "1 line with an impossible step");
        assert_eq!(Dropped::default().to_string(), "nothing");
        assert_eq!(dropped.total(), 7);
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
