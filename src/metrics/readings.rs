//! What was read of a run so far, the same for a run in a cluster and for a local one.

use jiff::Timestamp;

use super::noted::Noted;
use super::parse::{Parser, Report};
use crate::core::{Objective, Series};

/// What was read of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The objective's observations.
    pub series: Series,
    /// What was dropped, and what else there was.
    pub noted: Noted,
    /// How many reports there were.
    pub reports: u64,
    /// When the first of them was read.
    pub first: Option<Timestamp>,
    /// When the last of them was read.
    pub last: Option<Timestamp>,
}

impl Readings {
    /// Takes a line that the trainer wrote. Returns whether there is a new observation.
    pub fn line(
        &mut self,
        line: &[u8],
        parser: &mut Parser,
        objective: &Objective,
        rungs: &[u64],
        now: Timestamp,
    ) -> bool {
        let mut reports = Vec::new();
        parser.line(line, &mut self.noted, |report| reports.push(report));
        let before = self.series.count();
        for report in &reports {
            self.report(report, objective, rungs, now);
        }
        self.series.count() > before
    }

    /// Takes a report. Returns whether there is a new observation.
    pub fn report(&mut self, report: &Report, objective: &Objective, rungs: &[u64], now: Timestamp) -> bool {
        self.reports += 1;
        self.first = self.first.or(Some(now));
        self.last = Some(now);
        let value = report.values.get(&objective.metric);
        value.is_some_and(|value| self.series.push(report.step, *value, objective.value, objective.direction, rungs))
    }
}
