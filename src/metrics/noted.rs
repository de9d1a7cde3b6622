//! What is noted of a run beside its reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dropped::{Dropped, example};
use super::others::{MAX_NAME, Others};

/// What a parser notes of a run beside its reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Noted {
    /// What was dropped.
    #[serde(default, skip_serializing_if = "Dropped::is_zero")]
    pub dropped: Dropped,
    /// Why steps are counted, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_counted: Option<StepsCounted>,
    /// The metrics beside the objective.
    #[serde(default, rename = "metrics", skip_serializing_if = "Others::is_empty")]
    pub others: Others,
}

/// The trainer named a step that is no whole number: from then on, each report of a metric is one step after its last.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepsCounted {
    /// The word that named the step, such as `epoch`.
    #[schemars(length(max = 64))]
    pub word: String,
    /// The first line with such a step.
    #[schemars(length(max = 200))]
    pub example: String,
}

impl StepsCounted {
    pub(super) fn new(word: &str, line: &str) -> StepsCounted {
        StepsCounted { word: word.chars().take(MAX_NAME).collect(), example: example(line) }
    }
}

/// For a person.
impl std::fmt::Display for StepsCounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let StepsCounted { word, example } = self;
        write!(f, "steps are counted by reports, since {word} is no whole number in \"{example}\"")
    }
}
