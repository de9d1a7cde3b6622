//! What a pruner is.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::core::objective::beats;
use crate::core::problem::Problem;
use crate::core::trial::Trial;

/// A pruner: a file of this folder, and its line in the list of `mod.rs`.
pub trait Algorithm: Sized {
    /// Its settings as a user writes them: what is left out is None, bounds stand in the schema, and the comment on the type is
    /// what the CRD says of the pruner.
    type Settings: JsonSchema + Serialize + DeserializeOwned;
    /// Its name in the API.
    const NAME: &'static str;

    /// What is wrong with settings that are within their bounds, as (field, message).
    fn problems(_: &Self::Settings) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The pruner with these settings; where they are wrong, any.
    fn new(settings: &Self::Settings) -> Self;

    /// The steps whose comparisons need an exact value: a series keeps them when it is thinned.
    fn rungs(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Whether a trial of `bracket` is compared at a step behind `before`, which it had reached, up to `after`.
    fn compares(&self, bracket: Option<u32>, before: Option<u64>, after: u64) -> bool;

    /// The bracket that the trial `index` shall belong to.
    fn bracket(&self, _index: u32) -> Option<u32> {
        None
    }

    /// Why nothing can ever be stopped, as far as the trials have shown, for a person.
    fn obstacle(&self, problem: &Problem, history: &[Trial]) -> Option<String>;

    /// Whether a running trial is losing, and the evidence.
    fn verdict(&self, problem: &Problem, peers: &mut Peers, trial: &Trial) -> Option<Verdict>;
}

/// The trials that can be compared at a step, sorted once for each step, however many are judged at it.
pub struct Peers<'a> {
    problem: &'a Problem<'a>,
    history: &'a [Trial],
    at: HashMap<u64, Vec<(f64, u32)>>,
}

impl<'a> Peers<'a> {
    /// The peers among `history`.
    pub fn new(problem: &'a Problem<'a>, history: &'a [Trial]) -> Peers<'a> {
        Peers { problem, history, at: HashMap::new() }
    }

    /// Value and index of all trials that have reached `step` and have a value there, the best first; ties by index. NaN is
    /// last, whichever way is up.
    pub fn at(&mut self, step: u64) -> &[(f64, u32)] {
        let Peers { problem, history, at } = self;
        at.entry(step).or_insert_with(|| {
            let (which, direction) = (problem.objective.value, problem.objective.direction);
            let reached = history.iter().filter(|peer| peer.series.last_step() >= Some(step));
            let mut peers: Vec<(f64, u32)> = reached
                .filter_map(|peer| Some((peer.series.value_at(step, which, direction)?.1, peer.index)))
                .collect();
            peers.sort_unstable_by(|a, b| {
                beats(direction, b.0, a.0).cmp(&beats(direction, a.0, b.0)).then(a.1.cmp(&b.1))
            });
            peers
        })
    }

    /// How many of those at `step` are better than trial `index`, which has `value` there.
    pub fn ahead(&mut self, step: u64, index: u32, value: f64) -> usize {
        let direction = self.problem.objective.direction;
        self.at(step).partition_point(|(peer, of)| {
            beats(direction, *peer, value) || (!beats(direction, value, *peer) && *of < index)
        })
    }
}

/// A trial that shall be stopped, and the evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The trial.
    pub index: u32,
    /// The step at which it was compared.
    pub step: u64,
    /// Why, for a person: `at step 9: 0.71, worse than the median 0.78 of 12 trials`.
    pub message: String,
}
