//! What was read of a run so far, the same for a run in a cluster and for a local one.

use jiff::Timestamp;

use super::noted::Noted;
use super::parse::{Parser, Report};
use crate::core::pruner::{Heard, Pruners};
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
    /// How many of them may have the trial stopped, or change what others are compared with.
    pub comparisons: u64,
    /// When the first of them was read.
    pub first: Option<Timestamp>,
    /// When the last of them was read.
    pub last: Option<Timestamp>,
}

/// When a line was read, and when it was written, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it was read.
    pub read: Timestamp,
    /// When it was written: the same, however often it is read.
    pub written: Timestamp,
}

impl Readings {
    /// Takes a line that the trainer wrote. Returns whether there is a new observation.
    pub fn line(
        &mut self,
        line: &[u8],
        parser: &mut Parser,
        objective: &Objective,
        pruners: &Pruners,
        times: Times,
    ) -> bool {
        let mut reports = Vec::new();
        parser.line(line, &mut self.noted, |report| reports.push(report));
        let before = self.series.extent();
        for report in &reports {
            self.report(report, objective, pruners, times);
        }
        self.series.extent() > before
    }

    /// Takes a report. Returns whether there is a new observation.
    pub fn report(&mut self, report: &Report, objective: &Objective, pruners: &Pruners, times: Times) -> bool {
        self.reports += 1;
        self.first = self.first.or(Some(times.read));
        self.last = Some(times.read);
        let mut take = |heard: Heard| {
            self.comparisons += u64::from(heard == Heard::Compared);
            heard != Heard::Dropped
        };
        let own = report.values.get(&objective.metric);
        let own = own.is_some_and(|value| {
            take(pruners.observe(objective, &mut self.series, (report.step, *value), times.written))
        });
        let fold = pruners.fold_metric().and_then(|metric| report.values.get(metric));
        let fold = fold
            .is_some_and(|value| take(pruners.observe_fold(&mut self.series, (report.step, *value), times.written)));
        own || fold
    }
}
