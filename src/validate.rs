//! From a Study's spec to a study that is valid, or to the full list of problems with field paths: the
//! one place where `sweep check`, `sweep run` and the controller learn what is wrong, in the same words.

use std::collections::BTreeSet;
use std::fmt;

use jiff::SignedDuration;

use crate::api::{self, ParameterSpec, StudySpec};
use crate::build::Template;
use crate::core::pruner::{Hyperband, Median, Pruner};
use crate::core::sampler::{Cmaes, Gp, Sampler, Tpe};
use crate::core::{self, Activation, Domain, Limits, Objective, Parameter, Scale, Space, Values};
use crate::metrics::{Grammar, MAX_NAME, MAX_OTHERS, MAX_PATTERNS, Pattern};

/// Something wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The field, such as `spec.parameters[2].int.min`.
    pub path: String,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A Study that was accepted.
#[derive(Clone, Debug)]
pub struct ValidStudy {
    /// What the core works on.
    pub core: core::Study,
    /// What a Trial's Job is built from.
    pub template: Template,
    /// How long a running trainer may report nothing.
    pub report_timeout: Option<SignedDuration>,
    /// What may not do what was meant, in the order of the spec.
    pub warnings: Vec<Problem>,
}

/// Numbers that JSON and the trainer's languages keep exactly.
const MAX_SAFE: i64 = (1 << 53) - 1;

/// Checks a Study.
///
/// # Errors
/// Every problem, in the order of the spec.
pub fn validate(name: &str, spec: &StudySpec) -> Result<ValidStudy, Vec<Problem>> {
    let mut problems = Problems::default();
    check_name(name, &mut problems);
    let objective = objective(spec, &mut problems);
    let parameters = parameters(spec, &mut problems);
    let sampler = sampler(spec, &mut problems);
    let pruner = pruner(spec, &mut problems);
    let limits = limits(spec, &mut problems);
    let report_timeout = duration(spec.report_timeout.as_deref(), "spec.reportTimeout", &mut problems);
    let grammar = grammar(spec, &mut problems);
    check_outputs(spec, &mut problems);
    let template = Template::new(spec, grammar, &mut problems);
    let complete = parameters.len() == spec.parameters.len();
    let space = Space::new(parameters);
    if complete && space.is_too_entangled() {
        problems.add(
            "spec.parameters",
            "cannot be counted: too many parameters depend on too many others at once by `when`; use fewer, or nest them",
        );
    } else if complete {
        if let Err(unable) = sampler.capabilities(&space) {
            for (position, message) in unable {
                problems.add(format!("spec.parameters[{position}]"), message);
            }
        }
        check_initial(spec, &space, &mut problems);
    }
    if let Some(template) = template
        && let Some(objective) = objective
        && problems.found.is_empty()
    {
        let core = core::Study {
            name: name.to_owned(),
            seed: spec.seed.unwrap_or_else(|| core::fnv1a(name.as_bytes()) & 0xffff_ffff),
            objective,
            space,
            initial: spec.initial_assignments.clone(),
            sampler,
            pruner,
            limits,
            parallelism: spec.parallelism,
            suspend: spec.suspend.unwrap_or(false),
            template: template.hash_bits(),
        };
        return Ok(ValidStudy { core, template, report_timeout, warnings: problems.warnings });
    }
    Err(problems.found)
}

/// What still holds of a Study whose spec was edited into an invalid one: all that cannot be edited. That is
/// enough to see to what runs already; nothing new can be built of it. None where that is invalid as well.
pub fn validate_immutable(name: &str, spec: &StudySpec) -> Option<ValidStudy> {
    let objectives = spec.objectives.iter().cloned();
    let edited = StudySpec {
        objectives: objectives.map(|objective| api::ObjectiveSpec { target: None, ..objective }).collect(),
        max_trials: 1,
        parallelism: 0,
        max_failed_trials: None,
        max_duration: None,
        report_timeout: spec.report_timeout.clone().filter(|text| parse_duration(text).is_some()),
        job_template: any_template(),
        ..spec.clone()
    };
    validate(name, &edited).ok()
}

/// A job template that is valid and of no use: for a spec of which nothing is to be run.
pub fn any_template() -> serde_json::Value {
    let container = serde_json::json!({"name": "trainer", "image": "trainer"});
    serde_json::json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    /// Adds one.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.found.push(Problem { path: path.into(), message: message.into() });
    }

    /// Adds a warning: the spec is accepted with it, and may not do what was meant.
    pub fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem { path: path.into(), message: message.into() });
    }

    fn check(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }

    fn range<T: PartialOrd + fmt::Display>(&mut self, value: T, min: T, max: T, path: impl Into<String>) {
        if value < min || value > max {
            self.add(path, format!("is {value}: must be from {min} to {max}"));
        }
    }

    /// The warnings so far.
    pub fn take_warnings(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.warnings)
    }

    /// The found ones.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

fn check_name(name: &str, problems: &mut Problems) {
    if name.is_empty() {
        return problems.add("metadata.name", "is missing: a study needs a name");
    }
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    problems.check(
        name.chars().all(label) && !name.starts_with('-') && !name.ends_with('-'),
        "metadata.name",
        format!(
            "{name:?} is not a DNS label: use lower-case letters, digits and '-', with a letter or digit at both ends"
        ),
    );
    problems.check(
        name.len() <= 40,
        "metadata.name",
        format!("has {} characters: at most 40, so that the names of Trials and Jobs fit", name.len()),
    );
}

fn objective(spec: &StudySpec, problems: &mut Problems) -> Option<Objective> {
    if spec.objectives.len() != 1 {
        problems.add(
            "spec.objectives",
            format!("has {} entries: exactly one objective is supported", spec.objectives.len()),
        );
    }
    let objective = spec.objectives.first()?;
    let path = "spec.objectives[0]";
    problems.check(
        is_metric_name(&objective.metric),
        format!("{path}.metric"),
        format!(
            "{:?} is not a metric's name: a letter or '_', then letters, digits and any of _ . / @ -, at most 63",
            objective.metric
        ),
    );
    problems.check(
        objective.metric != "step",
        format!("{path}.metric"),
        "`step` is the progress of a trial, and cannot be the objective",
    );
    problems.check(objective.target.is_none_or(f64::is_finite), format!("{path}.target"), "must be a finite number");
    Some(Objective {
        metric: objective.metric.clone(),
        direction: objective.direction,
        value: objective.value.unwrap_or_default(),
    })
}

/// Parameters whose names would break a container, or hide what we set ourselves.
fn is_reserved(name: &str) -> bool {
    const EXACT: [&str; 5] = ["PATH", "HOME", "HOSTNAME", "PWD", "SHELL"];
    const PREFIXES: [&str; 5] = ["LD_", "DYLD_", "KUBERNETES_", "SWEEP_", "GCONV_"];
    EXACT.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The parameters that are valid; fewer than the spec's where one is not.
fn parameters(spec: &StudySpec, problems: &mut Problems) -> Vec<Parameter> {
    if spec.parameters.is_empty() || spec.parameters.len() > 64 {
        problems.add("spec.parameters", format!("has {} entries: must have from 1 to 64", spec.parameters.len()));
    }
    let mut valid = Vec::new();
    let mut names = BTreeSet::new();
    for (i, parameter) in spec.parameters.iter().enumerate() {
        let path = format!("spec.parameters[{i}]");
        check_parameter_name(&parameter.name, &path, problems);
        problems.check(
            names.insert(&parameter.name),
            format!("{path}.name"),
            format!("{:?} is used twice", parameter.name),
        );
        if let Some(value) = &parameter.inactive_value {
            let path = format!("{path}.inactiveValue");
            problems.check(value.chars().count() <= 64, &path, "has more than 64 characters");
            problems.check(
                !value.contains('\0'),
                &path,
                "must not have a NUL character: no environment variable can hold it",
            );
            problems.check(!parameter.when.is_empty(), path, "is of use only together with `when`");
        }
        let domain = domain(parameter, &path, problems);
        let when = activations(parameter, i, spec, &path, problems);
        if let (Some(domain), Some(when)) = (domain, when) {
            valid.push(Parameter {
                name: parameter.name.clone(),
                domain,
                when,
                inactive_value: parameter.inactive_value.clone(),
            });
        }
    }
    valid
}

fn check_parameter_name(name: &str, path: &str, problems: &mut Problems) {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    problems.check(
        name.starts_with(start) && name.chars().all(rest) && name.len() <= 63,
        format!("{path}.name"),
        format!(
            "{name:?} is not a parameter's name: a letter or '_', then letters, digits and any of _ . -, at most 63"
        ),
    );
    problems.check(
        !is_reserved(name),
        format!("{path}.name"),
        format!(
            "{name} is reserved, since as an environment variable it would break the container: choose another name"
        ),
    );
}

fn domain(parameter: &ParameterSpec, path: &str, problems: &mut Problems) -> Option<Domain> {
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
    let before = problems.found.len();
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
    (problems.found.len() == before).then_some(domain)
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
    problems.range(min, -MAX_SAFE, MAX_SAFE, format!("{path}.min"));
    problems.range(max, -MAX_SAFE, MAX_SAFE, format!("{path}.max"));
    problems.check(min < max, format!("{path}.min"), format!("min {min} must be below max {max}"));
    problems.check(!log || min > 0, format!("{path}.min"), format!("a Log scale needs min above 0, not {min}"));
    if let Some(step) = spec.step {
        problems.check(step > 0, format!("{path}.step"), format!("must be above 0, not {step}"));
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

fn check_words(words: &[String], path: &str, problems: &mut Problems) {
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

fn activations(
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
                Ok(core::Value::Choice(choice)) => positions.push(choice),
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

fn sampler(spec: &StudySpec, problems: &mut Problems) -> Sampler {
    let Some(sampler) = &spec.sampler else {
        return Sampler::Auto;
    };
    let given = [
        sampler.auto.as_ref().map(|_| Sampler::Auto),
        sampler.random.as_ref().map(|_| Sampler::Random),
        sampler.grid.as_ref().map(|_| Sampler::Grid),
        sampler.sobol.as_ref().map(|_| Sampler::Sobol),
        sampler.tpe.as_ref().map(|tpe| self::tpe(tpe, problems)),
        sampler.gp.as_ref().map(|gp| self::gp(gp, spec, problems)),
        sampler.cmaes.as_ref().map(|cmaes| self::cmaes(cmaes, problems)),
    ];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(sampler), None) => sampler,
        _ => {
            problems.add("spec.sampler", "must have exactly one of auto, random, grid, sobol, tpe, gp and cmaes");
            Sampler::Auto
        }
    }
}

fn tpe(spec: &api::TpeSpec, problems: &mut Problems) -> Sampler {
    let path = "spec.sampler.tpe";
    let usual = Tpe::default();
    let startup_trials = spec.startup_trials.unwrap_or(usual.startup_trials);
    let (candidates, gamma) = (spec.candidates.unwrap_or(usual.candidates), spec.gamma.unwrap_or(usual.gamma));
    problems.range(startup_trials, 1, 10_000, format!("{path}.startupTrials"));
    problems.range(candidates, 1, 1000, format!("{path}.candidates"));
    problems.check(
        (0.01..=0.5).contains(&gamma),
        format!("{path}.gamma"),
        format!("is {gamma}: must be from 0.01 to 0.5"),
    );
    Sampler::Tpe(Tpe { startup_trials, candidates, gamma })
}

fn gp(gp: &api::GpSpec, spec: &StudySpec, problems: &mut Problems) -> Sampler {
    let startup_trials = gp.startup_trials.unwrap_or(Gp::usual_startup(spec.parallelism, spec.max_trials));
    problems.range(startup_trials, 1, 10_000, "spec.sampler.gp.startupTrials");
    Sampler::Gp(Gp { startup_trials })
}

fn cmaes(spec: &api::CmaesSpec, problems: &mut Problems) -> Sampler {
    let path = "spec.sampler.cmaes";
    let usual = Cmaes::default();
    let (sigma, restarts) = (spec.sigma.unwrap_or(usual.sigma), spec.restarts.unwrap_or(usual.restarts));
    problems.check(
        (0.001..=1.0).contains(&sigma),
        format!("{path}.sigma"),
        format!("is {sigma}: must be from 0.001 to 1"),
    );
    if let Some(population) = spec.population {
        problems.range(population, 2, 1000, format!("{path}.population"));
    }
    problems.range(restarts, 0, 20, format!("{path}.restarts"));
    Sampler::Cmaes(Cmaes { sigma, population: spec.population, restarts })
}

fn pruner(spec: &StudySpec, problems: &mut Problems) -> Option<Pruner> {
    let pruner = spec.pruner.as_ref()?;
    match (&pruner.median, &pruner.hyperband) {
        (Some(median), None) => {
            let path = "spec.pruner.median";
            let (startup_trials, interval) = (median.startup_trials.unwrap_or(5), median.interval.unwrap_or(1));
            problems.range(startup_trials, 1, 10_000, format!("{path}.startupTrials"));
            problems.range(interval, 1, MAX_SAFE as u64, format!("{path}.interval"));
            let warmup_steps = median.warmup_steps.unwrap_or(0);
            problems.range(warmup_steps, 0, MAX_SAFE as u64, format!("{path}.warmupSteps"));
            Some(Pruner::Median(Median { startup_trials, warmup_steps, interval: interval.max(1) }))
        }
        (None, Some(hyperband)) => {
            let path = "spec.pruner.hyperband";
            let (min_steps, max_steps) = (hyperband.min_steps, hyperband.max_steps);
            problems.range(min_steps, 1, 1_000_000_000, format!("{path}.minSteps"));
            problems.range(max_steps, 1, 1_000_000_000, format!("{path}.maxSteps"));
            problems.check(
                min_steps < max_steps,
                format!("{path}.minSteps"),
                format!("minSteps {min_steps} must be below maxSteps {max_steps}"),
            );
            let reduction_factor = hyperband.reduction_factor.unwrap_or(3);
            problems.range(reduction_factor, 2, 10, format!("{path}.reductionFactor"));
            Some(Pruner::Hyperband(Hyperband {
                min_steps: min_steps.max(1),
                max_steps,
                reduction_factor: reduction_factor.max(2),
            }))
        }
        _ => {
            problems.add("spec.pruner", "must have exactly one of median and hyperband");
            None
        }
    }
}

fn limits(spec: &StudySpec, problems: &mut Problems) -> Limits {
    problems.range(spec.max_trials, 1, 10_000, "spec.maxTrials");
    problems.range(spec.parallelism, 0, 1_000, "spec.parallelism");
    if let Some(max_failed) = spec.max_failed_trials {
        problems.range(max_failed, 0, 10_000, "spec.maxFailedTrials");
    }
    if let Some(seed) = spec.seed {
        problems.range(seed, 0, MAX_SAFE as u64, "spec.seed");
    }
    let max_duration = duration(spec.max_duration.as_deref(), "spec.maxDuration", problems);
    Limits {
        max_trials: spec.max_trials,
        max_failed_trials: spec.max_failed_trials.unwrap_or((spec.max_trials / 10).max(3)),
        max_duration,
        target: spec.objectives.first().and_then(|o| o.target),
    }
}

fn duration(text: Option<&str>, path: &str, problems: &mut Problems) -> Option<SignedDuration> {
    let duration = parse_duration(text?);
    problems.check(
        duration.is_some(),
        path,
        format!("{:?} is not a duration: write it like 90m, 1h30m or 2d (units d, h, m, s)", text.unwrap_or_default()),
    );
    duration
}

/// `1h30m`: whole numbers with a unit each; above zero, at most a thousand years.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let mut seconds: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (1..=31_536_000_000).contains(&seconds).then(|| SignedDuration::from_secs(seconds))
}

/// What the spec says of lines with metrics.
fn grammar(spec: &StudySpec, problems: &mut Problems) -> Grammar {
    let Some(metrics) = &spec.metrics else { return Grammar::default() };
    let one = metrics.file.is_some() != metrics.stdout.is_some();
    problems.check(one, "spec.metrics", "must have exactly one of file and stdout");
    let objective = spec.objectives.first().map_or("", |objective| objective.metric.as_str());
    let mut patterns = Vec::new();
    for (source, lines) in [("file", &metrics.file), ("stdout", &metrics.stdout)] {
        let texts = lines.as_ref().map(|lines| lines.patterns.as_slice()).unwrap_or_default();
        let path = format!("spec.metrics.{source}.patterns");
        problems.check(texts.len() <= MAX_PATTERNS, &path, format!("has more than {MAX_PATTERNS} patterns"));
        // Compiling costs time: no more of them than may be.
        for (i, text) in texts.iter().enumerate().take(MAX_PATTERNS) {
            match Pattern::try_from(text.clone()) {
                Ok(pattern) => patterns.push(pattern),
                Err(message) => problems.add(format!("{path}[{i}]"), message),
            }
        }
        let is_read = patterns.len() < texts.len() || texts.is_empty() || patterns.iter().any(|p| p.has(objective));
        let message = if is_group_name(objective) {
            format!("none has a group for the objective's metric: write (?P<{objective}>[0-9.]+)")
        } else {
            format!(
                "none can have a group of the name {objective:?}: call the objective's metric by a name of letters, digits, _ and dots alone, and the group as well"
            )
        };
        problems.check(is_read, path, message);
    }
    if let Some(step) = &metrics.step {
        problems.check(is_metric_name(step), "spec.metrics.step", format!("{step:?} is not a name"));
        problems.check(step != objective, "spec.metrics.step", "is the objective's metric: it cannot be both");
    }
    let path = "spec.metrics.additional";
    problems.check(metrics.additional.len() <= MAX_OTHERS, path, format!("has more than {MAX_OTHERS} names"));
    for (i, name) in metrics.additional.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let fits = (1..=MAX_NAME).contains(&name.chars().count());
        problems.check(fits, &path, format!("a name has 1 to {MAX_NAME} characters"));
        problems.check(name != objective, &path, "is the objective's metric, which is kept whole");
        problems.check(!metrics.additional[..i].contains(name), &path, format!("{name:?} stands there twice"));
    }
    Grammar { step: metrics.step.clone(), patterns, additional: metrics.additional.clone() }
}

fn is_metric_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "_./@-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(rest) && name.len() <= 63
}

/// Whether a group of a pattern can have this name.
fn is_group_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        && name != "step"
}

fn check_outputs(spec: &StudySpec, problems: &mut Problems) {
    if let Some(gpu) = &spec.gpu {
        problems.range(gpu.count, 1, 1_024, "spec.gpu.count");
        let resource = gpu.resource();
        let extended = resource
            .split_once('/')
            .is_some_and(|(domain, name)| !domain.is_empty() && !name.is_empty() && !name.contains('/'));
        problems.check(
            extended,
            "spec.gpu.resource",
            format!("{resource:?} is not an extended resource: write it like nvidia.com/gpu"),
        );
    }
    if let Some(map) = &spec.best_config_map {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let valid = map.name.len() <= 253
            && map.name.chars().all(allowed)
            && ends(map.name.chars().next())
            && ends(map.name.chars().last());
        problems.check(valid, "spec.bestConfigMap.name", format!("{:?} is not the name of a ConfigMap", map.name));
    }
}

fn check_initial(spec: &StudySpec, space: &Space, problems: &mut Problems) {
    problems.check(spec.initial_assignments.len() <= 64, "spec.initialAssignments", "has more than 64 entries");
    for (i, assignments) in spec.initial_assignments.iter().enumerate() {
        let path = format!("spec.initialAssignments[{i}]");
        if let Err(wrong) = space.parse(assignments) {
            for (name, message) in wrong {
                problems.add(format!("{path}.{name}"), message);
            }
            continue;
        }
        let canonical = space.canonical(assignments);
        let twin = spec.initial_assignments[..i].iter().position(|other| space.canonical(other) == canonical);
        if let Some(twin) = twin {
            problems.add(path, format!("is the same configuration as spec.initialAssignments[{twin}]"));
        }
    }
}
