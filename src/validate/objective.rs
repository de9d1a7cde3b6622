//! What is optimised.

use super::Problems;
use super::metrics::{self, is_metric_name};
use crate::api::StudySpec;
use crate::core::Objective;

pub fn objective(spec: &StudySpec, problems: &mut Problems) -> Option<Objective> {
    if spec.objectives.len() != 1 {
        problems.add(
            "spec.objectives",
            format!("has {} entries: exactly one objective is supported", spec.objectives.len()),
        );
    }
    let objective = spec.objectives.first()?;
    let path = "spec.objectives[0]";
    problems.check(is_metric_name(&objective.metric), format!("{path}.metric"), metrics::not_a_name(&objective.metric));
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
