//! When a parameter exists.

use super::Problems;
use super::domains::check_words;
use crate::api::{ParameterSpec, StudySpec};
use crate::core::{Activation, Domain, Value, Values};

pub fn activations(
    parameter: &ParameterSpec,
    position: usize,
    spec: &StudySpec,
    path: &str,
    problems: &mut Problems,
) -> Option<Vec<Activation>> {
    problems.check(parameter.when.len() <= 4, format!("{path}.when"), "has more than 4 entries");
    let mut activations = Vec::new();
    for (k, when) in parameter.when.iter().enumerate() {
        let path = format!("{path}.when[{k}]");
        let Some(parent) = spec.parameters.iter().position(|p| p.name == when.parameter) else {
            problems.add(format!("{path}.parameter"), format!("there is no parameter {:?}", when.parameter));
            continue;
        };
        if parent >= position {
            problems.add(
                format!("{path}.parameter"),
                format!("{:?} must stand before {:?} in the list", when.parameter, parameter.name),
            );
            continue;
        }
        if parameter.when[..k].iter().any(|other| other.parameter == when.parameter) {
            problems.add(
                format!("{path}.parameter"),
                format!(
                    "{:?} is named twice: all of `when` must hold, so give its values in one entry",
                    when.parameter
                ),
            );
        }
        let at = Parent { name: &when.parameter, spec: &spec.parameters[parent] };
        let values = match (&when.any_of, when.min.is_some() || when.max.is_some()) {
            (Some(words), false) => at.choices(words, &path, problems),
            (None, true) => at.range(when.min, when.max, &path, problems),
            _ => {
                problems.add(&path, "must have either `in`, or `min` and `max` or one of them");
                None
            }
        };
        activations.extend(values.map(|values| Activation { parent, values }));
    }
    (activations.len() == parameter.when.len()).then_some(activations)
}

/// The parameter that another depends on.
struct Parent<'a> {
    name: &'a str,
    spec: &'a ParameterSpec,
}

impl Parent<'_> {
    fn choices(&self, words: &[String], path: &str, problems: &mut Problems) -> Option<Values> {
        let choices = match self.spec {
            ParameterSpec { categorical: Some(c), .. } => Domain::Categorical(c.values.clone()),
            ParameterSpec { discrete: Some(d), .. } => {
                let mut values = d.values.clone();
                values.sort_unstable_by(f64::total_cmp);
                Domain::Discrete(values)
            }
            _ => {
                problems.add(
                    format!("{path}.parameter"),
                    format!(
                        "{:?} is a range: `in` needs a discrete or categorical parameter, use min and max",
                        self.name
                    ),
                );
                return None;
            }
        };
        check_words(words, &format!("{path}.in"), problems);
        let mut positions = Vec::new();
        for (j, text) in words.iter().enumerate() {
            match choices.parse(text) {
                Ok(Value::Choice(choice)) => positions.push(choice),
                Ok(_) => {}
                Err(message) => problems
                    .add(format!("{path}.in[{j}]"), format!("{:?} can never have this value: {message}", self.name)),
            }
        }
        Some(Values::In(positions))
    }

    fn range(&self, min: Option<f64>, max: Option<f64>, path: &str, problems: &mut Problems) -> Option<Values> {
        let (low, high) = match self.spec {
            ParameterSpec { double: Some(double), .. } => (double.min, double.max),
            ParameterSpec { int: Some(int), .. } => (int.min as f64, int.max as f64),
            _ => {
                problems.add(
                    format!("{path}.parameter"),
                    format!("{:?} is no range: `min` and `max` need a double or int, use `in`", self.name),
                );
                return None;
            }
        };
        let (min, max) = (min.unwrap_or(low), max.unwrap_or(high));
        problems.check(
            min <= max && min <= high && max >= low,
            path,
            format!("never holds: {:?} is from {low} to {high}, and the condition from {min} to {max}", self.name),
        );
        Some(Values::Between(min, max))
    }
}
