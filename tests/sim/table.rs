//! What a run of interleavings says about promises and fault classes, for `docs/reliability.md`.

use std::time::Duration;

use crate::faults::CLASSES;
use crate::promises::PROMISES;
use crate::run::{Report, Scenario};

/// A table: for each class of faults and each promise, in how many interleavings with such faults the promise was put
/// to the test.
pub fn markdown(reports: &[(Scenario, Report)]) -> String {
    let hours = reports.iter().map(|(_, report)| report.virtual_time).sum::<Duration>().as_secs() / 3600;
    let calls: u64 = reports.iter().map(|(_, report)| report.calls).sum();
    let broken = reports.iter().filter(|(_, report)| !report.violations.is_empty()).count();
    let (first, last) = (reports.first().map_or(0, |(s, _)| s.seed), reports.last().map_or(0, |(s, _)| s.seed));
    let mut text = format!(
        "{} interleavings (seeds {first} to {last}), {hours} hours of virtual time, {calls} API calls of operators: {broken} broke a promise.\n\n",
        reports.len()
    );
    text += &format!(
        "| faults | interleavings |{}\n",
        (1..=PROMISES.len()).map(|n| format!(" P{n} |")).collect::<String>()
    );
    text += &format!("|---|---:|{}\n", "---:|".repeat(PROMISES.len()));
    for class in CLASSES {
        let with: Vec<&Report> = reports
            .iter()
            .filter(|(scenario, _)| scenario.classes.contains(&class))
            .map(|(_, report)| report)
            .collect();
        let tested = |promise: usize| with.iter().filter(|report| report.checks[promise] > 0).count();
        let counts: String = (0..PROMISES.len()).map(|promise| format!(" {} |", tested(promise))).collect();
        text += &format!("| {class:?} | {} |{counts}\n", with.len());
    }
    text += "\n";
    for (at, promise) in PROMISES.iter().enumerate() {
        text += &format!("- P{}: {promise}\n", at + 1);
    }
    text
}
