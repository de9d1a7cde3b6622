//! From a Study's spec to a study that is valid, or to the full list of problems with field paths: the
//! one place where `sweep check`, `sweep run` and the controller learn what is wrong, in the same words.

mod algorithms;
mod bounds;
mod conditions;
mod domains;
mod initial;
mod limits;
mod metrics;
mod objective;
mod outputs;
mod parameters;
mod problems;

use jiff::SignedDuration;

use crate::api::{self, StudySpec};
use crate::core::{self, Space};
use crate::job::Template;
pub(crate) use limits::parse_duration;
pub use problems::{Problem, Problems};

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

impl ValidStudy {
    /// Whether something is to be done about a running trial's reports.
    pub fn awaits_reports(&self) -> bool {
        self.report_timeout.is_some() || !self.core.pruners.0.is_empty()
    }
}

/// The fields of a Study in the order of their problems.
const ORDER: [&str; 16] = [
    "metadata",
    "spec.objectives",
    "spec.parameters",
    "spec.sampler",
    "spec.pruner",
    "spec.maxTrials",
    "spec.parallelism",
    "spec.maxFailedTrials",
    "spec.seed",
    "spec.maxDuration",
    "spec.reportTimeout",
    "spec.metrics",
    "spec.gpu",
    "spec.bestConfigMap",
    "spec.jobTemplate",
    "spec.initialAssignments",
];

/// Checks a Study.
///
/// # Errors
/// Every problem, in the order of the fields.
pub fn validate(name: &str, spec: &StudySpec) -> Result<ValidStudy, Vec<Problem>> {
    let mut problems = Problems::default();
    check_name(name, &mut problems);
    bounds::check(spec, "spec", &mut problems);
    let objective = objective::objective(spec, &mut problems);
    let parameters = parameters::parameters(spec, &mut problems);
    let sampler = algorithms::sampler(spec, &mut problems);
    let pruners = algorithms::pruners(spec, &mut problems);
    let limits = limits::limits(spec, &mut problems);
    let report_timeout = limits::duration(spec.report_timeout.as_deref(), "spec.reportTimeout", &mut problems);
    let grammar = metrics::grammar(spec, &mut problems);
    outputs::check_outputs(spec, &mut problems);
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
        initial::check_initial(spec, &space, &mut problems);
    }
    if let Some(template) = template
        && let Some(objective) = objective
        && problems.count() == 0
    {
        let core = core::Study {
            name: name.to_owned(),
            seed: spec.seed.unwrap_or_else(|| core::fnv1a(name.as_bytes()) & 0xffff_ffff),
            objective,
            space,
            initial: spec.initial_assignments.clone(),
            sampler,
            pruners,
            limits,
            parallelism: spec.parallelism,
            suspend: spec.suspend.unwrap_or(false),
            template: template.hash_bits(),
        };
        return Ok(ValidStudy { core, template, report_timeout, warnings: problems.take_warnings() });
    }
    let mut problems = problems.into_vec();
    problems.sort_by_key(|problem| ORDER.iter().position(|field| problem.is_of(field)).unwrap_or(ORDER.len()));
    Err(problems)
}

/// What still holds of a Study whose spec was edited into an invalid one: all that cannot be edited. That is
/// enough to see to what runs already; nothing new can be built of it. None where that is invalid as well.
pub fn validate_immutable(name: &str, spec: &StudySpec) -> Option<ValidStudy> {
    let mut edited = serde_json::Map::new();
    edited.insert("maxTrials".to_owned(), 1.into());
    edited.insert("parallelism".to_owned(), 0.into());
    edited.insert("jobTemplate".to_owned(), any_template());
    if let Some(valid) = spec.report_timeout.as_deref().filter(|text| parse_duration(text).is_some()) {
        edited.insert("reportTimeout".to_owned(), valid.into());
    }
    validate(name, &api::with_edited(spec, edited).ok()?).ok()
}

/// A job template that is valid and of no use: for a spec of which nothing is to be run.
pub fn any_template() -> serde_json::Value {
    let container = serde_json::json!({"name": "trainer", "image": "trainer"});
    serde_json::json!({"spec": {"template": {"spec": {"containers": [container]}}}})
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
