//! What a sampler is.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use super::dataset::Dataset;
use super::tried::Tried;
use crate::core::problem::Problem;
use crate::core::space::{Assignments, Space};

/// A sampler: a file of this folder, and its line in the list of `mod.rs`.
pub trait Algorithm: Sized {
    /// Its settings as a user writes them: what is left out is None, bounds stand in the schema, and the comment on the type is
    /// what the CRD says of the sampler.
    type Settings: JsonSchema + Serialize + DeserializeOwned;
    /// What it computed for earlier proposals. It makes the next ones faster, and never different.
    type Cache: Default;
    /// Its name in the API.
    const NAME: &'static str;
    /// The version of its algorithm: to be raised whenever its proposals change.
    const VERSION: u32;

    /// The sampler with these settings, which are within their bounds.
    fn new(settings: &Self::Settings) -> Self;

    /// What it cannot do with a space, if anything.
    ///
    /// # Errors
    /// Each problem as (position of the parameter, message).
    fn capabilities(&self, _: &Space) -> Result<(), Vec<(usize, String)>> {
        Ok(())
    }

    /// A configuration to try. The space is not exhausted.
    fn propose(&self, request: &Request, cache: &mut Self::Cache) -> Suggestion;

    /// Whether a proposal of its own differs enough from all that was tried. If not, another is drawn for it.
    fn is_new(&self, suggestion: &Suggestion, point: &[f64], tried: &Tried) -> bool {
        // CMA-ES comes ever nearer to where it converges.
        if suggestion.generation.is_some() { !tried.has(point) } else { !tried.has_near(point) }
    }

    /// Which sampler is at work, and why; `finished` counts the trials that models learn from.
    fn standing(&self, _: &Problem, _finished: &dyn Fn() -> usize) -> String {
        Self::NAME.to_owned()
    }

    /// Its proposal of these assignments.
    fn suggestion(&self, assignments: Assignments) -> Suggestion {
        Suggestion { assignments, sampler: Self::NAME, version: Self::VERSION, generation: None }
    }
}

/// What is known when a trial is to be proposed.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is searched.
    pub problem: Problem<'a>,
    /// What models learn from.
    pub dataset: &'a Dataset,
    /// What was tried.
    pub tried: &'a Tried,
    /// The index of the trial to propose.
    pub index: u32,
}

/// A configuration to try, and what is to be recorded of how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// The configuration.
    pub assignments: Assignments,
    /// The sampler's name: `auto` gives that of the one it stands at.
    pub sampler: &'static str,
    /// The version of that sampler's algorithm.
    pub version: u32,
    /// The generation of CMA-ES.
    pub generation: Option<u32>,
}
