//! Where metrics are found, and what lines with them look like.

use http::uri::PathAndQuery;

use super::Problems;
use crate::api::{PrunerSpec, StudySpec};
use crate::core::listed;
use crate::metrics::{Grammar, MAX_NAME, MAX_OTHERS, MAX_PATTERNS, Pattern, PrometheusSpec, Source};

/// Where the metric of a fold stands.
pub const FOLDS: &str = "spec.pruner.wilcoxon.metric";

/// What the spec says of lines with metrics.
pub fn grammar(spec: &StudySpec, problems: &mut Problems) -> Grammar {
    let Some(metrics) = &spec.metrics else { return Grammar::default() };
    let given = metrics.given();
    problems.check(given.len() == 1, "spec.metrics", format!("must have exactly one of {}", listed(Source::NAMES)));
    let objective = spec.objectives.first().map_or("", |objective| objective.metric.as_str());
    let pruners = spec.pruner.as_ref().map(PrunerSpec::given).unwrap_or_default();
    // Those that are read, where each stands, and what it is.
    let read = std::iter::once(("spec.objectives[0].metric", objective, "the objective's metric"))
        .chain(pruners.fold_metric().map(|metric| (FOLDS, metric, "the metric of a fold")));
    let mut patterns = Vec::new();
    for (source, texts) in given {
        let path = format!("spec.metrics.{}.patterns", source.name());
        problems.check(texts.len() <= MAX_PATTERNS, &path, format!("has more than {MAX_PATTERNS} patterns"));
        // Compiling costs time: no more of them than may be.
        for (i, text) in texts.iter().enumerate().take(MAX_PATTERNS) {
            match Pattern::try_from(text.clone()) {
                Ok(pattern) => patterns.push(pattern),
                Err(message) => problems.add(format!("{path}[{i}]"), message),
            }
        }
        for (_, metric, what) in read.clone() {
            let is_read = patterns.len() < texts.len() || texts.is_empty() || patterns.iter().any(|p| p.has(metric));
            let message = if is_group_name(metric) {
                format!("none has a group for {what}: write (?P<{metric}>[0-9.]+)")
            } else {
                format!(
                    "none can have a group of the name {metric:?}: call {what} by a name of letters, digits, _ and dots alone, and the group as well"
                )
            };
            problems.check(is_read, path.as_str(), message);
        }
    }
    if let Some(page) = &metrics.prometheus {
        check_page(page, objective, problems);
    }
    if metrics.tensor_board.is_some() {
        problems.check(
            metrics.step.is_none(),
            "spec.metrics.step",
            "has no use with tensorBoard: events have steps of their own",
        );
    }
    if let Some(step) = &metrics.step {
        problems.check(is_metric_name(step), "spec.metrics.step", format!("{step:?} is not a name"));
        for (_, metric, what) in read.clone() {
            problems.check(step != metric, "spec.metrics.step", format!("is {what}: it cannot be both"));
        }
    }
    let path = "spec.metrics.additional";
    problems.check(metrics.additional.len() <= MAX_OTHERS, path, format!("has more than {MAX_OTHERS} names"));
    for (i, name) in metrics.additional.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let fits = (1..=MAX_NAME).contains(&name.chars().count());
        problems.check(fits, &path, format!("a name has 1 to {MAX_NAME} characters"));
        for (_, metric, what) in read.clone() {
            problems.check(name != metric, &path, format!("is {what}, which is kept whole"));
        }
        problems.check(!metrics.additional[..i].contains(name), &path, format!("{name:?} stands there twice"));
    }
    Grammar { step: metrics.step.clone(), patterns, additional: metrics.additional.clone() }
}

/// Where a page of metrics is, and whether the objective can be on one.
fn check_page(page: &PrometheusSpec, objective: &str, problems: &mut Problems) {
    problems.check(page.port > 0, "spec.metrics.prometheus.port", "must be between 1 and 65535");
    let path = page.path.as_deref().unwrap_or(PrometheusSpec::PATH);
    // What cannot be asked for would fail at every look. A part behind # is cut off there, and ^ is no letter of an address.
    let can_be_asked_for =
        PathAndQuery::try_from(path).is_ok_and(|asked| asked.as_str() == path) && !path.contains('^');
    let is_path = path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic()) && can_be_asked_for;
    problems.check(is_path, "spec.metrics.prometheus.path", format!("must be a path such as /metrics, not {path:?}"));
    let can_be_there = objective.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    problems.check(
        can_be_there,
        "spec.objectives[0].metric",
        format!("{objective:?} cannot be the name of a Prometheus metric: it has letters, digits and _ alone"),
    );
}

/// What is wrong with a metric that has no name of one.
pub fn not_a_name(metric: &str) -> String {
    format!("{metric:?} is not a metric's name: a letter or '_', then letters, digits and any of _ . / @ -, at most 63")
}

pub fn is_metric_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "_./@-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(rest) && name.len() <= 63
}

/// Whether a group of a pattern can have this name.
fn is_group_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        && name != "step"
}
