//! What a pruner is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::race::Race;
use crate::core::objective::Objective;
use crate::core::problem::Problem;
use crate::core::series::{Arrival, Mark, Series};
use crate::core::trial::Trial;

/// A pruner: a file of this folder, and its line in the list of `mod.rs`.
pub trait Algorithm: Sized {
    /// Its settings as a user writes them: what is left out is None, bounds stand in the schema, and the comment on the type is
    /// what the CRD says of the pruner.
    type Settings: JsonSchema + Serialize + DeserializeOwned;
    /// Its name in the API.
    const NAME: &'static str;
    /// Whether it may stand beside another pruner, because it compares a trial with no other.
    const STANDS_ALONE: bool = false;
    /// Whether trials are compared by what they had when they came to a rung: then all of that is kept, not the last alone.
    const KEEPS_ARRIVALS: bool = false;
    /// Whether what it stops has succeeded with what it has.
    const IS_END: bool = false;

    /// What is wrong with settings that are within their bounds, as (field, message).
    fn problems(_: &Self::Settings) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The pruner with these settings; where they are wrong, any.
    fn new(settings: &Self::Settings) -> Self;

    /// The steps of a whole trial, where it was told.
    fn max_steps(&self) -> Option<u64> {
        None
    }

    /// The highest rung that the last observation of `series` is at or behind, where a trial is compared there.
    fn rung(&self, _series: &Series) -> Option<u64> {
        None
    }

    /// The metric whose values are compared, one a fold, where that is not the objective: each fold is a rung.
    fn fold_metric(&self) -> Option<&str> {
        None
    }

    /// What a trial that has just come to `rung` is compared by: its value so far. None where that is no number.
    fn shows(&self, objective: &Objective, series: &Series, _rung: u64) -> Option<f64> {
        let (_, value) = series.value_at(series.last_step()?, objective.value, objective.direction)?;
        value.is_finite().then_some(value)
    }

    /// The bracket that the trial `index` shall belong to.
    fn bracket(&self, _index: u32) -> Option<u32> {
        None
    }

    /// Why nothing can ever be stopped, as far as the trials have shown, for a person.
    fn obstacle(&self, _problem: &Problem, _history: &[Trial]) -> Option<String> {
        None
    }

    /// What it waits for before it stops anything, for a person.
    fn waits(&self, _problem: &Problem, _history: &[Trial]) -> Option<String> {
        None
    }

    /// What is remembered of a trial's curve, after `mark`, once this observation has come: what [`alone`](Self::alone) is told.
    fn remember(&self, _objective: &Objective, _mark: Option<Mark>, _step: u64, _value: f64) -> Option<Mark> {
        None
    }

    /// Whether a trial of whose curve this is remembered shall be stopped, whatever the others do: the step that says so, and the
    /// evidence.
    fn alone(&self, _objective: &Objective, _mark: Mark, _series: &Series) -> Option<(u64, Evidence, String)> {
        None
    }

    /// Whether a running trial lost when it came to its last rung, and the evidence. What came later changes nothing: it is a
    /// function of what had come by then.
    fn verdict(&self, _race: &mut Race, _trial: &Trial, _arrival: &Arrival) -> Option<(Evidence, String)> {
        None
    }
}

/// What a verdict rests on.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The pruner.
    pub pruner: String,
    /// What the Trial showed there, with `wilcoxon` the mean of its folds; left out where that was NaN or infinite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// With how many Trials it was compared, itself included where they are ranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<u32>,
    /// What it would have had to reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cutoff: Option<f64>,
    /// The best final value of the Trials that had succeeded by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incumbent: Option<f64>,
    /// What it could be expected to reach, seen favourably.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<f64>,
    /// How likely its folds would be so much worse if it was as good as the other Trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_value: Option<f64>,
}

/// A trial that shall be stopped, and the evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The trial.
    pub index: u32,
    /// The step of the report that was judged, or the number of the fold.
    pub step: u64,
    /// Whether it has succeeded with what it has.
    pub is_end: bool,
    /// What it rests on.
    pub evidence: Evidence,
    /// Why, for a person: `at step 9: 0.71, worse than the median 0.78 of 12 trials`.
    pub message: String,
}
