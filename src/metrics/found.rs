//! What a line says, and what the words in it mean.

use std::collections::BTreeMap;

use super::others::MAX_NAME;

/// The highest step that is taken: up to it, every whole number is a JSON number in every language.
pub const MAX_STEP: u64 = 1 << 53;

/// What a line, or an object of it, says.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub step: Step,
    /// The word that named the step.
    pub step_word: String,
    /// The objectives, finite or not.
    pub values: BTreeMap<String, f64>,
    /// Other metrics, finite.
    pub others: Vec<(String, f64)>,
    /// How many values of metrics that were asked for are no numbers.
    pub not_a_number: u64,
}

/// What a line says about its step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Step {
    #[default]
    Missing,
    Given(u64),
    /// Between two whole numbers.
    Fractional,
    /// Negative, too high or no number.
    Impossible,
}

impl Step {
    /// The step that `number` is, as far as it is a number.
    pub fn from_text(number: &str) -> Option<Step> {
        match number.parse::<u64>() {
            Ok(step) => Some(if step <= MAX_STEP { Step::Given(step) } else { Step::Impossible }),
            Err(_) => number.parse().ok().map(Step::from_float),
        }
    }

    /// The step that a number is.
    pub fn from_float(number: f64) -> Step {
        if !(0.0..=MAX_STEP as f64).contains(&number) {
            Step::Impossible
        } else if number.fract() == 0.0 {
            Step::Given(number as u64)
        } else {
            Step::Fractional
        }
    }
}

/// The words for a step. Where a JSON object has several of them, the first of this list counts.
pub(super) const STEP_WORDS: [&str; 5] = ["step", "epoch", "iteration", "global_step", "iter"];

/// Whether `word` is one of the built-in words for a step.
pub(super) fn is_step_word(word: &str) -> bool {
    STEP_WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Which names mean what.
pub(super) struct Vocabulary<'a> {
    /// The objectives, with the last step of each.
    pub objectives: &'a BTreeMap<String, Option<u64>>,
    /// The word for the step that the study gives.
    pub step: Option<&'a str>,
    /// Further metrics that the study asks for.
    pub additional: &'a [String],
}

impl Vocabulary<'_> {
    /// The place of a word for a step among all of them, the one that counts first.
    pub fn step_rank(&self, word: &str) -> Option<usize> {
        match self.step {
            Some(own) => own.eq_ignore_ascii_case(word).then_some(0),
            None => STEP_WORDS.iter().position(|known| known.eq_ignore_ascii_case(word)),
        }
    }

    /// Whether the study says which word is the step.
    pub fn has_own_step_word(&self) -> bool {
        self.step.is_some()
    }

    pub fn is_objective(&self, name: &str) -> bool {
        self.objectives.contains_key(name)
    }

    pub fn has_additional(&self) -> bool {
        !self.additional.is_empty()
    }

    pub fn is_additional(&self, name: &str) -> bool {
        self.additional.iter().any(|additional| additional == name)
    }

    /// Whether it can be a metric beside the objective.
    pub fn is_other(&self, name: &str) -> bool {
        !self.is_objective(name) && self.step_rank(name).is_none() && name.chars().count() <= MAX_NAME
    }
}
