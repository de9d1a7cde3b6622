//! The metrics beside the objective.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// How many metrics beside the objective are kept of a Trial.
pub const MAX_OTHERS: usize = 32;

/// The longest name of such a metric, in characters.
pub const MAX_NAME: usize = 64;

/// How much they may be in all, in bytes of JSON.
pub const MAX_OTHERS_SIZE: usize = 4 * 1024;

/// How many points of one are kept at first.
const POINTS: usize = 32;

/// A metric beside the objective, bounded: what became of it, and a few points on the way.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricSummary {
    /// The metric's name.
    #[schemars(length(max = 64))]
    pub name: String,
    /// How many finite values there were.
    pub count: u64,
    /// The first of them.
    pub first: f64,
    /// The last of them.
    pub last: f64,
    /// The least of them.
    pub min: f64,
    /// The greatest of them.
    pub max: f64,
    /// Steps of some of them, increasing; fewer the more metrics there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 33))]
    pub steps: Vec<u64>,
    /// The values at those steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 33))]
    pub values: Vec<f64>,
}

/// The metrics beside the objective, those first that were asked for, then in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<MetricSummary>", into = "Vec<MetricSummary>")]
pub struct Others(Vec<Other>);

#[derive(Clone, Debug, PartialEq)]
struct Other {
    summary: MetricSummary,
    /// Whether it was asked for by name.
    is_asked: bool,
    last_step: u64,
    /// Every so many values one is kept as a point.
    stride: u64,
}

impl Others {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The step after the last one of a metric; 1 for one that is not known.
    pub fn next_step(&self, name: &str) -> u64 {
        let name = shown(name);
        self.0.iter().find(|other| other.summary.name == *name).map_or(1, |other| other.last_step.saturating_add(1))
    }

    /// Takes a finite value. One of a new metric is not taken once there are as many as may be; `reserved` of the places
    /// are kept for metrics that were asked for. A name is cleaned: in JSON it may hold any character.
    pub fn push(&mut self, name: &str, step: u64, value: f64, is_asked: bool, reserved: usize) {
        let name = &*shown(name);
        let known = self.0.iter_mut().find(|other| other.summary.name == name);
        let Some(other) = known else {
            let free = self.0.iter().filter(|other| !other.is_asked).count() < MAX_OTHERS.saturating_sub(reserved);
            if self.0.len() < MAX_OTHERS && (is_asked || free) && name.chars().count() <= MAX_NAME {
                let at = if is_asked { self.0.iter().filter(|other| other.is_asked).count() } else { self.0.len() };
                self.0.insert(at, Other::new(name, step, value, is_asked));
            }
            return;
        };
        other.push(step, value);
    }

    /// What is known of them, in at most [`MAX_OTHERS_SIZE`] bytes: points are left out first, then metrics from the last
    /// one on.
    pub fn summaries(&self) -> Vec<MetricSummary> {
        let mut summaries: Vec<MetricSummary> = self.0.iter().map(|other| other.summary.clone()).collect();
        while size(&summaries) > MAX_OTHERS_SIZE {
            let longest = summaries.iter().map(|summary| summary.steps.len()).max().unwrap_or(0);
            if longest == 0 {
                summaries.pop();
            }
            for summary in summaries.iter_mut().filter(|summary| summary.steps.len() == longest) {
                halve(&mut summary.steps);
                halve(&mut summary.values);
            }
        }
        summaries
    }
}

impl From<Vec<MetricSummary>> for Others {
    fn from(summaries: Vec<MetricSummary>) -> Others {
        let other = |summary: MetricSummary| {
            let last_step = summary.steps.last().copied().unwrap_or(0);
            Other { summary, is_asked: false, last_step, stride: 1 }
        };
        Others(summaries.into_iter().take(MAX_OTHERS).map(other).collect())
    }
}

impl From<Others> for Vec<MetricSummary> {
    fn from(others: Others) -> Vec<MetricSummary> {
        others.summaries()
    }
}

impl Other {
    fn new(name: &str, step: u64, value: f64, is_asked: bool) -> Other {
        let (count, first, last, min, max) = (1, value, value, value, value);
        let (steps, values) = (vec![step], vec![value]);
        let summary = MetricSummary { name: name.to_owned(), count, first, last, min, max, steps, values };
        Other { summary, is_asked, last_step: step, stride: 1 }
    }

    fn push(&mut self, step: u64, value: f64) {
        let summary = &mut self.summary;
        summary.count += 1;
        summary.last = value;
        summary.min = summary.min.min(value);
        summary.max = summary.max.max(value);
        self.last_step = step;
        // Points have increasing steps.
        if (summary.count - 1).is_multiple_of(self.stride) && summary.steps.last().is_none_or(|last| *last < step) {
            summary.steps.push(step);
            summary.values.push(value);
            if summary.steps.len() > POINTS {
                halve(&mut summary.steps);
                halve(&mut summary.values);
                self.stride *= 2;
            }
        }
    }
}

/// Leaves out every second one; of a single one nothing is left.
fn halve<T>(list: &mut Vec<T>) {
    if list.len() == 1 {
        list.clear();
    }
    let mut index = 0;
    list.retain(|_| {
        index += 1;
        index % 2 == 1
    });
}

fn size(summaries: &[MetricSummary]) -> usize {
    // A list of numbers and words can always be written.
    serde_json::to_string(summaries).map_or(0, |text| text.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn of_each_metric_the_first_last_least_and_greatest_value_and_a_thinned_series_are_kept() {
        let mut others = Others::default();
        for step in 1..=10_000 {
            others.push("loss", step, if step == 77 { 99.0 } else { 1.0 / step as f64 }, false, 0);
        }
        let [loss] = &others.summaries()[..] else { panic!("one metric") };
        assert_eq!((loss.count, loss.first, loss.last, loss.min, loss.max), (10_000, 1.0, 1e-4, 1e-4, 99.0));
        assert!((16..=POINTS).contains(&loss.steps.len()), "{:?}", loss.steps);
        assert!(loss.steps.is_sorted_by(|a, b| a < b) && loss.steps[0] == 1 && *loss.steps.last().unwrap() > 9_000);
        assert_eq!(loss.steps.len(), loss.values.len());
    }

    #[test]
    fn as_many_metrics_as_may_be_are_kept_and_those_that_were_asked_for_have_a_place() {
        let mut others = Others::default();
        for index in 0..100 {
            others.push(&format!("m{index}"), 1, 0.5, false, 2);
        }
        others.push(&"x".repeat(MAX_NAME + 1), 1, 0.5, true, 2);
        others.push("late", 1, 0.5, true, 2);
        others.push("later", 1, 0.5, true, 2);
        let names: Vec<String> = others.summaries().into_iter().map(|summary| summary.name).collect();
        assert_eq!(names.len(), MAX_OTHERS);
        assert_eq!(names[..3], ["late", "later", "m0"]);
    }

    #[test]
    fn a_name_controls_no_terminal() {
        let mut others = Others::default();
        for value in [0.5, 0.6] {
            let step = others.next_step("\x1b[31mlo\u{202e}ss");
            others.push("\x1b[31mlo\u{202e}ss", step, value, false, 0);
        }
        let [loss] = &others.summaries()[..] else { panic!("{others:?}") };
        assert_eq!((loss.name.as_str(), others.next_step("loss")), ("loss", 3));
    }

    #[test]
    fn however_much_there_is_it_fits() {
        let mut others = Others::default();
        for metric in 0..MAX_OTHERS {
            for step in 0..1_000 {
                let value = -1.234_567_890_123_456_7e-300 * (step + 1) as f64;
                others.push(&format!("{metric:ü>64}"), (1 << 53) - 1_000 + step, value, false, 0);
            }
        }
        let summaries = others.summaries();
        assert!(size(&summaries) <= MAX_OTHERS_SIZE && summaries.len() > 12, "{}", summaries.len());
        let mut few = Others::default();
        few.push("loss", 1, 0.5, false, 0);
        assert_eq!(few.summaries()[0].values, [0.5]);
    }

    #[test]
    fn a_step_that_goes_back_counts_and_is_no_point() {
        let mut others = Others::default();
        for (step, value) in [(1, 0.5), (3, 0.6), (2, 0.1)] {
            others.push("loss", step, value, false, 0);
        }
        let loss = &others.summaries()[0];
        assert_eq!((loss.count, loss.last, loss.min), (3, 0.1, 0.1));
        assert_eq!(loss.steps, [1, 3]);
        assert_eq!((others.next_step("loss"), others.next_step("new")), (3, 1));
    }
}
