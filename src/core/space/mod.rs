//! The search space: parameters, the values they may have, and which of them exist in a branch.

mod counting;
mod domain;

use std::collections::BTreeMap;

use counting::Counter;
pub use domain::{Activation, Domain, Parameter, Scale, Value, Values};

/// A value for every active parameter, the exact string that the trainer sees.
pub type Assignments = BTreeMap<String, String>;

/// A search space: parameters in order, parents before children.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    parameters: Vec<Parameter>,
}

impl Space {
    /// A space of `parameters`, parents before children: validation has seen to it.
    pub fn new(parameters: Vec<Parameter>) -> Space {
        Space { parameters }
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Assignments from one value a parameter, inactive ones left out.
    pub fn assemble(&self, value: impl FnMut(usize, &Domain) -> Value) -> Assignments {
        self.texts(&self.activate(value))
    }

    /// One value a parameter, None where inactive.
    pub fn activate(&self, mut value: impl FnMut(usize, &Domain) -> Value) -> Vec<Option<Value>> {
        let mut values: Vec<Option<Value>> = Vec::with_capacity(self.parameters.len());
        for (position, parameter) in self.parameters.iter().enumerate() {
            // Drawn also where inactive, so that one branch does not shift the draws of another.
            let drawn = value(position, &parameter.domain);
            values.push(parameter.is_active(&values).then_some(drawn));
        }
        values
    }

    /// How many configurations there are; None for a continuum, saturating at the largest number.
    pub fn size(&self) -> Option<u128> {
        self.is_finite().then(|| Counter::new(&self.parameters).size())
    }

    /// Whether so many parameters depend on so many others by `when` that configurations cannot be counted.
    pub fn is_too_entangled(&self) -> bool {
        let mut counter = Counter::new(&self.parameters);
        self.is_finite() && (counter.size(), counter.is_exhausted()).1
    }

    /// Whether it has finitely many configurations.
    pub fn is_finite(&self) -> bool {
        self.parameters.iter().all(|p| p.domain.size().is_some())
    }

    /// The configuration at `rank`, below [`Space::size`]: each once, in mixed radix over the active parameters.
    pub fn nth(&self, rank: u128) -> Assignments {
        let ranks = Counter::new(&self.parameters).ranks(rank);
        let values: Vec<Option<Value>> =
            self.parameters.iter().zip(ranks).map(|(p, rank)| Some(p.domain.nth(rank?))).collect();
        self.texts(&values)
    }

    /// The values of `assignments`, in the order of the parameters; None where inactive.
    ///
    /// # Errors
    /// Every problem, as (parameter's name, message).
    pub fn parse(&self, assignments: &Assignments) -> Result<Vec<Option<Value>>, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut values: Vec<Option<Value>> = Vec::new();
        let mut unclear: Vec<bool> = Vec::new();
        for parameter in &self.parameters {
            let before = problems.len();
            // Where a parent's value is wrong, whether its children exist is anybody's guess.
            let guess = parameter.when.iter().any(|a| unclear.get(a.parent).copied().unwrap_or(false));
            let active = parameter.is_active(&values);
            let value = match (active, assignments.get(&parameter.name)) {
                _ if guess => None,
                (true, Some(text)) => match parameter.domain.parse(text) {
                    Ok(value) => Some(value),
                    Err(message) => {
                        problems.push((parameter.name.clone(), message));
                        None
                    }
                },
                (true, None) => {
                    problems
                        .push((parameter.name.clone(), "is missing: every active parameter needs a value".to_owned()));
                    None
                }
                (false, Some(_)) => {
                    problems.push((
                        parameter.name.clone(),
                        "is inactive here (its `when` does not hold): leave it out".to_owned(),
                    ));
                    None
                }
                (false, None) => None,
            };
            unclear.push(guess || problems.len() > before);
            values.push(value);
        }
        for name in assignments.keys() {
            if !self.parameters.iter().any(|p| p.name == *name) {
                problems.push((name.clone(), "is not a parameter of this study".to_owned()));
            }
        }
        if problems.is_empty() { Ok(values) } else { Err(problems) }
    }

    /// The same texts for the same configuration, however it was written: `0.10` and `0.1` are one.
    pub fn canonical(&self, assignments: &Assignments) -> Assignments {
        match self.parse(assignments) {
            Ok(values) => self.texts(&values),
            Err(_) => assignments.clone(),
        }
    }

    /// The active assignments as JSON: numbers, and strings for categories.
    pub fn json(&self, assignments: &Assignments) -> serde_json::Map<String, serde_json::Value> {
        let values = self.parse(assignments).unwrap_or_default();
        let known = self.parameters.iter().zip(values);
        known.filter_map(|(p, value)| Some((p.name.clone(), p.domain.json(value?)))).collect()
    }

    fn texts(&self, values: &[Option<Value>]) -> Assignments {
        let known = self.parameters.iter().zip(values);
        known.filter_map(|(p, value)| Some((p.name.clone(), p.domain.text((*value)?)))).collect()
    }
}
