//! The bounded series of a trial's observations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::objective::{Direction, ValueOf, beats};

/// How many points a series holds. With 256 points of one objective a Trial stays well under 16 KiB.
pub const MAX_POINTS: usize = 256;

/// Observations of one metric of one attempt, steps increasing.
///
/// A series that would outgrow [`MAX_POINTS`], of which arrivals take a part, loses the point that is missed least: the first, the last and the best are
/// kept, of the rest the gaps stay in proportion to the step, so that a trial of 100 steps finds its like in one of 100,000.
/// What was compared at a rung is kept beside them.
///
/// An observation that is NaN or infinite is no point: it says that the run has diverged, until a finite one follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    points: Vec<(u64, f64)>,
    count: u64,
    divergence: Option<Divergence>,
    arrivals: Vec<Arrival>,
    marks: BTreeMap<&'static str, Mark>,
}

/// An observation that a pruner remembers of a trial: what is thinned away, or followed by others, is not forgotten so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// Its step.
    pub step: u64,
    /// Its value; None where that is NaN or infinite.
    pub value: Option<f64>,
}

/// How many arrivals a series holds: more rungs than any schedule of the API has below its last step, and so many folds.
pub const MAX_ARRIVALS: usize = 80;

/// The first report of a trial at a rung or behind it. Of several rungs that one report passes it is of the highest: a trial
/// is compared once at each, whenever that is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// The rung, in the pruner's own count.
    pub rung: u64,
    /// The step that was reported.
    pub step: u64,
    /// What is compared there; None where that is NaN or infinite.
    pub value: Option<f64>,
    /// When it was reported, in whole microseconds.
    pub at: Timestamp,
}

/// The observations at the end of a series that are NaN or infinite.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Divergence {
    /// The step of the first of them.
    pub first_step: u64,
    /// The step of the last of them.
    pub last_step: u64,
}

impl Series {
    /// A series as it was recorded: `count` observations before thinning, and how it diverged, if it did.
    ///
    /// Points that are not finite or whose steps do not increase are left out.
    pub fn from_recorded(steps: &[u64], values: &[f64], count: u64, divergence: Option<Divergence>) -> Series {
        let mut series = Series::default();
        for (&step, &value) in steps.iter().zip(values) {
            if value.is_finite() && series.last_step().is_none_or(|last| step > last) {
                series.points.push((step, value));
            }
        }
        series.count = count.max(series.points.len() as u64);
        series.divergence = divergence.filter(|divergence| series.last_step() <= Some(divergence.first_step));
        series
    }

    /// The same series, with these arrivals.
    pub fn with_arrivals(mut self, mut arrivals: Vec<Arrival>) -> Series {
        arrivals.truncate(MAX_ARRIVALS);
        self.arrivals = arrivals;
        self
    }

    /// Adds an observation; of several at one step the later one stands for `Last`, and the best one for `Best`.
    /// Returns whether it was taken: one of a lower step than the last is not.
    pub fn push(&mut self, step: u64, value: f64, which: ValueOf, direction: Direction) -> bool {
        if self.last_step().is_some_and(|last| step < last) {
            return false;
        }
        self.count += 1;
        if !value.is_finite() {
            let first_step = self.diverged().unwrap_or(step);
            self.divergence = Some(Divergence { first_step, last_step: step });
            return true;
        }
        self.divergence = None;
        match self.points.last_mut() {
            Some(last) if last.0 == step => {
                if which == ValueOf::Last || beats(direction, value, last.1) {
                    last.1 = value;
                }
            }
            _ => self.points.push((step, value)),
        }
        // An arrival takes as much room as three points.
        while self.points.len() > MAX_POINTS - 3 * self.arrivals.len() {
            self.thin(direction);
        }
        true
    }

    /// Notes that the trial has come to a rung; with `keep` beside the earlier ones, otherwise in their place.
    pub fn arrive(&mut self, arrival: Arrival, keep: bool) {
        if !keep {
            self.arrivals.clear();
        }
        if self.arrivals.len() < MAX_ARRIVALS {
            self.arrivals.push(arrival);
        }
    }

    /// Remembers an observation for the pruner `name`.
    pub fn mark(&mut self, name: &'static str, mark: Mark) {
        self.marks.insert(name, mark);
    }

    /// What the pruner `name` remembers.
    pub fn marked(&self, name: &str) -> Option<Mark> {
        self.marks.get(name).copied()
    }

    /// When it came to which rungs, as far as that is kept, rungs increasing.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// How much has come: it grows with every observation, and with every fold.
    pub fn extent(&self) -> (u64, usize) {
        (self.count, self.arrivals.len())
    }

    /// The points: (step, value), steps increasing, values finite.
    pub fn points(&self) -> &[(u64, f64)] {
        &self.points
    }

    /// How many observations were taken, before thinning, those that are not finite included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lowest step.
    pub fn first_step(&self) -> Option<u64> {
        self.points.first().map(|point| point.0).or(self.diverged())
    }

    /// The highest step.
    pub fn last_step(&self) -> Option<u64> {
        self.divergence.map(|divergence| divergence.last_step).or_else(|| Some(self.points.last()?.0))
    }

    /// The highest step, or the last fold where the objective was not reported yet.
    pub fn last_report(&self) -> Option<u64> {
        self.last_step().or_else(|| Some(self.arrivals.last()?.rung))
    }

    /// The step from which on all observations are NaN or infinite, where the last one is.
    pub fn diverged(&self) -> Option<u64> {
        self.divergence.map(|divergence| divergence.first_step)
    }

    /// The observations at its end that are NaN or infinite.
    pub fn divergence(&self) -> Option<Divergence> {
        self.divergence
    }

    /// What counts at `step` when trials are compared, with its step: the last, or the best, observation at or before
    /// it. NaN, which is worse than any number, where that is no number, whether NaN or infinite.
    pub fn value_at(&self, step: u64, which: ValueOf, direction: Direction) -> Option<(u64, f64)> {
        let seen = &self.points[..self.points.partition_point(|point| point.0 <= step)];
        let diverged = self.diverged().filter(|first| *first <= step).map(|first| (first, f64::NAN));
        match which {
            ValueOf::Last => diverged.or_else(|| seen.last().copied()),
            ValueOf::Best => {
                let better = |a: (u64, f64), b: (u64, f64)| if beats(direction, b.1, a.1) { b } else { a };
                seen.iter().copied().reduce(better).or(diverged)
            }
        }
    }

    /// The value over all steps, with its step; always finite. None where there is none: with `Last` also while the
    /// run has diverged.
    pub fn value(&self, which: ValueOf, direction: Direction) -> Option<(u64, f64)> {
        self.value_at(u64::MAX, which, direction).filter(|(_, value)| value.is_finite())
    }

    /// Drops one point: not an end, not the best, and of the others the one that leaves the smallest gap, measured by the
    /// step it ends at.
    fn thin(&mut self, direction: Direction) {
        let last = self.points.len() - 1;
        let better = |a: usize, b: usize| if beats(direction, self.points[b].1, self.points[a].1) { b } else { a };
        let best = (0..=last).reduce(better);
        let gap = |index: usize| {
            let (from, to) = (self.points[index - 1].0, self.points[index + 1].0);
            (to - from) as f64 / to as f64
        };
        let inner = (1..last).filter(|index| Some(*index) != best);
        let dropped = inner.min_by(|a, b| gap(*a).total_cmp(&gap(*b))).unwrap_or(1);
        self.points.remove(dropped);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use Direction::{Maximize, Minimize};

    fn series_of(which: ValueOf, points: &[(u64, f64)]) -> Series {
        let mut series = Series::default();
        for (step, value) in points {
            series.push(*step, *value, which, Maximize);
        }
        series
    }

    fn series(points: &[(u64, f64)]) -> Series {
        series_of(ValueOf::Last, points)
    }

    #[test]
    fn of_several_reports_at_a_step_the_later_one_stands_or_the_best_and_a_lower_step_is_not_taken() {
        let points = [(1, 0.7), (1, 0.9), (1, 0.2), (2, 0.3)];
        assert_eq!(series_of(ValueOf::Last, &points).points(), [(1, 0.2), (2, 0.3)]);
        let best = series_of(ValueOf::Best, &points);
        assert_eq!(best.points(), [(1, 0.9), (2, 0.3)]);
        assert_eq!(best.value(ValueOf::Best, Maximize), Some((1, 0.9)));
        let mut s = series(&points);
        assert!(!s.push(1, 0.99, ValueOf::Last, Maximize));
        assert_eq!((s.points().len(), s.count()), (2, 4));
    }

    #[test]
    fn a_run_whose_last_word_is_no_number_has_diverged_and_has_no_last_value() {
        let nan = f64::NAN;
        for word in [nan, f64::INFINITY, f64::NEG_INFINITY] {
            let s = series(&[(1, 0.5), (2, 0.9), (3, word), (5, nan)]);
            assert_eq!((s.diverged(), s.last_step(), s.count()), (Some(3), Some(5), 4));
            assert_eq!(s.value(ValueOf::Last, Maximize), None);
            assert_eq!(s.value(ValueOf::Best, Maximize), Some((2, 0.9)));
            assert_eq!(s.value_at(2, ValueOf::Last, Maximize), Some((2, 0.9)));
            assert!(s.value_at(3, ValueOf::Last, Maximize).unwrap().1.is_nan());
            assert_eq!(s.value_at(9, ValueOf::Best, Maximize), Some((2, 0.9)));
        }
        let never = series(&[(1, nan), (2, nan)]);
        assert_eq!((never.diverged(), never.value(ValueOf::Best, Maximize)), (Some(1), None));
        assert!(never.value_at(2, ValueOf::Best, Maximize).unwrap().1.is_nan());
        // At the step of the last number, too.
        assert_eq!(series(&[(1, 0.5), (1, nan)]).value(ValueOf::Last, Maximize), None);
    }

    #[test]
    fn a_number_after_it_says_that_the_run_has_recovered() {
        let s = series(&[(1, 0.5), (2, f64::NAN), (3, 0.6)]);
        assert_eq!((s.diverged(), s.value(ValueOf::Last, Maximize)), (None, Some((3, 0.6))));
        let mut s = series(&[(1, 0.5), (4, f64::NAN)]);
        assert!(!s.push(3, 0.6, ValueOf::Last, Maximize), "an older number says nothing of it");
        assert_eq!(s.diverged(), Some(4));
    }

    #[test]
    fn what_was_recorded_is_the_same_series() {
        for s in [series(&[(1, 0.5), (2, f64::NAN), (4, f64::NAN)]), series(&[(7, f64::NAN)]), series(&[(1, 0.5)])] {
            let (steps, values): (Vec<_>, Vec<_>) = s.points().iter().copied().unzip();
            assert_eq!(Series::from_recorded(&steps, &values, s.count(), s.divergence()), s);
        }
        let before = Divergence { first_step: 1, last_step: 1 };
        assert_eq!(Series::from_recorded(&[3], &[0.5], 1, Some(before)).diverged(), None);
    }

    #[test]
    fn the_value_at_a_step_is_the_last_or_the_best_observation_up_to_it() {
        let s = series(&[(2, 0.5), (5, 0.9), (8, 0.7)]);
        assert_eq!(s.value_at(1, ValueOf::Last, Maximize), None);
        assert_eq!(s.value_at(7, ValueOf::Last, Maximize), Some((5, 0.9)));
        assert_eq!(s.value_at(9, ValueOf::Last, Maximize), Some((8, 0.7)));
        assert_eq!(s.value_at(9, ValueOf::Best, Maximize), Some((5, 0.9)));
        assert_eq!(s.value_at(9, ValueOf::Best, Minimize), Some((2, 0.5)));
    }

    #[test]
    fn a_long_series_stays_bounded_and_keeps_its_ends_and_its_best() {
        let mut s = Series::default();
        for step in 1..=100_000 {
            let value = if step == 777 { 10.0 } else { 1.0 / step as f64 };
            s.push(step, value, ValueOf::Last, Maximize);
            assert!(s.points().len() <= MAX_POINTS);
        }
        assert_eq!(s.value(ValueOf::Best, Maximize), Some((777, 10.0)));
        assert_eq!((s.first_step(), s.last_step(), s.count()), (Some(1), Some(100_000), 100_000));
    }

    #[test]
    fn a_thinned_series_still_answers_close_to_any_step() {
        let mut s = Series::default();
        for step in 1..=20_000 {
            s.push(step, step as f64, ValueOf::Last, Maximize);
        }
        for step in 1..=20_000 {
            let (seen, _) = s.value_at(step, ValueOf::Last, Maximize).unwrap();
            assert!((step - seen) as f64 <= 0.1 * step as f64, "step {step} is answered by step {seen}");
        }
    }
}
