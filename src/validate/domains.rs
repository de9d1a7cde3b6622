//! The values that a parameter may have.

use std::collections::BTreeSet;

use super::Problems;
use crate::api::{self, ParameterSpec};
use crate::core::{Domain, Scale};

pub fn domain(parameter: &ParameterSpec, path: &str, problems: &mut Problems) -> Option<Domain> {
    let given = [
        parameter.double.is_some(),
        parameter.int.is_some(),
        parameter.discrete.is_some(),
        parameter.categorical.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        problems.add(path, "must have exactly one of double, int, discrete and categorical");
        return None;
    }
    let before = problems.count();
    let domain = if let Some(double) = &parameter.double {
        double_domain(double, &format!("{path}.double"), problems)
    } else if let Some(int) = &parameter.int {
        int_domain(int, &format!("{path}.int"), problems)
    } else if let Some(discrete) = &parameter.discrete {
        discrete_domain(discrete, &format!("{path}.discrete.values"), problems)
    } else {
        let categorical = parameter.categorical.clone().unwrap_or_default();
        check_words(&categorical.values, &format!("{path}.categorical.values"), problems);
        match categorical.ordered {
            Some(true) => Domain::Ordinal(categorical.values),
            _ => Domain::Categorical(categorical.values),
        }
    };
    (problems.count() == before).then_some(domain)
}

fn double_domain(spec: &api::DoubleSpec, path: &str, problems: &mut Problems) -> Domain {
    let (min, max, log) = (spec.min, spec.max, spec.scale == Some(api::Scale::Log));
    for (field, value) in [("min", Some(min)), ("max", Some(max)), ("step", spec.step)] {
        problems.check(value.is_none_or(f64::is_finite), format!("{path}.{field}"), "must be a finite number");
    }
    problems.check(min < max, format!("{path}.min"), format!("min {min} must be below max {max}"));
    problems.check(!log || min > 0.0, format!("{path}.min"), format!("a Log scale needs min above 0, not {min}"));
    if let Some(step) = spec.step {
        problems.check(step > 0.0, format!("{path}.step"), format!("must be above 0, not {step}"));
        problems.check(!log, format!("{path}.step"), "step and a Log scale exclude each other: use discrete values");
        problems.check(
            step <= max - min || step.is_nan(),
            format!("{path}.step"),
            format!("{step} is more than max - min: only min would be proposed"),
        );
        problems.check(
            !(min.is_finite() && max.is_finite()) || (max - min).is_finite(),
            format!("{path}.max"),
            "max - min is beyond the largest double: with a step the range must be smaller",
        );
        let largest = min.abs().max(max.abs());
        problems.check(
            !(step > 0.0 && step < largest * 1e-12),
            format!("{path}.step"),
            format!("{step} is too small for numbers as large as {largest}: a double has about 16 digits"),
        );
    }
    let prior = Prior { spec: spec.prior.as_ref(), scale: spec.scale, min, max, has_step: spec.step.is_some() };
    Domain::Double { min, max, scale: prior.scale(path, problems), step: spec.step }
}

fn int_domain(spec: &api::IntSpec, path: &str, problems: &mut Problems) -> Domain {
    let (min, max, log) = (spec.min, spec.max, spec.scale == Some(api::Scale::Log));
    problems.check(min < max, format!("{path}.min"), format!("min {min} must be below max {max}"));
    problems.check(!log || min > 0, format!("{path}.min"), format!("a Log scale needs min above 0, not {min}"));
    if let Some(step) = spec.step {
        problems.check(!log, format!("{path}.step"), "step and a Log scale exclude each other: use discrete values");
        let range = i128::from(max) - i128::from(min);
        problems.check(
            i128::from(step) <= range,
            format!("{path}.step"),
            format!("{step} is more than max - min: only min would be proposed"),
        );
    }
    let (low, high) = (min as f64, max as f64);
    let prior =
        Prior { spec: spec.prior.as_ref(), scale: spec.scale, min: low, max: high, has_step: spec.step.is_some() };
    Domain::Int { min, max, scale: prior.scale(path, problems), step: spec.step.unwrap_or(1).max(1) }
}

/// What is said of where a range's good values are expected.
struct Prior<'a> {
    spec: Option<&'a api::PriorSpec>,
    scale: Option<api::Scale>,
    min: f64,
    max: f64,
    has_step: bool,
}

impl Prior<'_> {
    fn scale(&self, path: &str, problems: &mut Problems) -> Scale {
        let Some(prior) = self.spec else {
            return if self.scale == Some(api::Scale::Log) { Scale::Log } else { Scale::Linear };
        };
        let path = format!("{path}.prior");
        problems.check(
            self.scale.is_none(),
            &path,
            "prior and scale exclude each other: use logNormal for a logarithmic scale",
        );
        match (&prior.normal, &prior.log_normal) {
            (Some(normal), None) => {
                let (mean, deviation) = moments(normal, self.min, self.max, &format!("{path}.normal"), problems);
                Scale::Normal { mean, deviation }
            }
            (None, Some(normal)) => {
                let path = format!("{path}.logNormal");
                problems.check(self.min > 0.0, &path, format!("needs min above 0, not {}", self.min));
                problems.check(!self.has_step, &path, "and step exclude each other: use discrete values");
                if self.min <= 0.0 {
                    return Scale::Log;
                }
                let (low, high) = (libm::log(self.min), libm::log(self.max));
                let (mean, deviation) = moments(normal, low, high, &path, problems);
                Scale::LogNormal { mean, deviation }
            }
            _ => {
                problems.add(path, "must have exactly one of normal and logNormal");
                Scale::Linear
            }
        }
    }
}

/// Mean and standard deviation, as given or from the range.
fn moments(spec: &api::NormalSpec, low: f64, high: f64, path: &str, problems: &mut Problems) -> (f64, f64) {
    let mean = spec.mean.unwrap_or(0.5 * low + 0.5 * high);
    let deviation = spec.standard_deviation.unwrap_or(high / 6.0 - low / 6.0);
    problems.check(
        (low..=high).contains(&mean),
        format!("{path}.mean"),
        format!("{mean} is outside {low} to {high}, the range of what it is the mean of"),
    );
    problems.check(
        deviation > 0.0 && deviation.is_finite() && deviation >= (high - low) * 1e-9,
        format!("{path}.standardDeviation"),
        format!("{deviation} must be above 0, and not below a billionth of the range"),
    );
    (mean, deviation)
}

fn discrete_domain(spec: &api::DiscreteSpec, path: &str, problems: &mut Problems) -> Domain {
    let mut values = spec.values.clone();
    problems.check(
        (1..=64).contains(&values.len()),
        path,
        format!("has {} entries: must have from 1 to 64", values.len()),
    );
    problems.check(values.iter().all(|v| v.is_finite()), path, "must be finite numbers");
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    problems.check(values.len() == spec.values.len(), path, "must be distinct");
    Domain::Discrete(values)
}

pub fn check_words(words: &[String], path: &str, problems: &mut Problems) {
    problems.check(
        (1..=64).contains(&words.len()),
        path,
        format!("has {} entries: must have from 1 to 64", words.len()),
    );
    let mut seen = BTreeSet::new();
    for (i, word) in words.iter().enumerate() {
        problems.check(seen.insert(word), format!("{path}[{i}]"), format!("{word:?} stands there twice"));
        problems.check(word.chars().count() <= 64, format!("{path}[{i}]"), "has more than 64 characters");
        problems.check(
            !word.contains('\0'),
            format!("{path}[{i}]"),
            "must not have a NUL character: no environment variable can hold it",
        );
    }
}
