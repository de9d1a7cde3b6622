//! The sampler and the pruner. What their settings may be stands beside their code.

use super::Problems;
use super::metrics::{self, is_metric_name};
use crate::api::{MetricsSpec, StudySpec};
use crate::core::listed;
use crate::core::pruner::{self, Pruners};
use crate::core::sampler::{Auto, Sampler};

pub fn sampler(spec: &StudySpec, problems: &mut Problems) -> Sampler {
    let Some(sampler) = &spec.sampler else {
        return Sampler::Auto(Auto);
    };
    match sampler.given().as_slice() {
        [sampler] => *sampler,
        _ => {
            problems.add("spec.sampler", format!("must have exactly one of {}", listed(Sampler::NAMES)));
            Sampler::Auto(Auto)
        }
    }
}

pub fn pruners(spec: &StudySpec, problems: &mut Problems) -> Pruners {
    let Some(pruner) = &spec.pruner else { return Pruners::default() };
    for (field, message) in pruner.problems() {
        problems.add(format!("spec.pruner.{field}"), message);
    }
    let pruners = pruner.given();
    problems.check(pruners.is_valid(), "spec.pruner", format!("must be {}", pruner::rule()));
    if let Some((path, metric)) = pruners.fold_metric().map(|metric| (metrics::FOLDS, metric)) {
        problems.check(is_metric_name(metric), path, metrics::not_a_name(metric));
        problems.check(metric != "step", path, "`step` is the progress of a trial, and cannot be a metric");
        let has_no_lines = |metrics: &MetricsSpec| metrics.tensor_board.is_some() || metrics.prometheus.is_some();
        let message = "folds are read from lines: use metrics.file or metrics.stdout";
        problems.check(!spec.metrics.as_ref().is_some_and(has_no_lines), path, message);
        let is_objective = spec.objectives.iter().any(|objective| objective.metric == metric);
        problems.check(
            !is_objective,
            path,
            "is the objective, which is the mean over the folds: name the metric of a fold",
        );
    }
    pruners
}
