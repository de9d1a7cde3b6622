//! The bounded series of a trial's observations.

use super::ranking::beats;
use super::study::{Direction, ValueOf};

/// How many points a series holds. With 256 points of one objective a Trial stays well under 16 KiB.
pub const MAX_POINTS: usize = 256;

/// Observations of one metric of one attempt, steps increasing.
///
/// A series that would outgrow [`MAX_POINTS`] loses the point that is missed least: what a comparison at
/// a rung, the last and the best value need is kept, of the rest the gaps stay in proportion to the step,
/// so that a trial of 100 steps finds its like in one of 100,000.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    points: Vec<(u64, f64)>,
    count: u64,
}

impl Series {
    /// A series as it was recorded: `count` observations before thinning.
    ///
    /// Points that are not finite or whose steps do not increase are left out.
    pub fn from_recorded(steps: &[u64], values: &[f64], count: u64) -> Series {
        let mut series = Series::default();
        for (&step, &value) in steps.iter().zip(values) {
            if value.is_finite() && series.last_step().is_none_or(|last| step > last) {
                series.points.push((step, value));
            }
        }
        series.count = count.max(series.points.len() as u64);
        series
    }

    /// Adds an observation. One of the last step replaces it; one of an earlier step, or that is not
    /// finite, is ignored. Returns whether it was taken.
    pub fn push(&mut self, step: u64, value: f64, direction: Direction, rungs: &[u64]) -> bool {
        if !value.is_finite() || self.last_step().is_some_and(|last| step < last) {
            return false;
        }
        self.count += 1;
        match self.points.last_mut() {
            Some(last) if last.0 == step => last.1 = value,
            _ => self.points.push((step, value)),
        }
        if self.points.len() > MAX_POINTS {
            self.thin(direction, rungs);
        }
        true
    }

    /// The points: (step, value), steps increasing.
    pub fn points(&self) -> &[(u64, f64)] {
        &self.points
    }

    /// How many observations were taken, before thinning.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The highest step.
    pub fn last_step(&self) -> Option<u64> {
        self.points.last().map(|point| point.0)
    }

    /// The value at `step`: the last, or the best, observation at or before it, with its step.
    pub fn value_at(&self, step: u64, which: ValueOf, direction: Direction) -> Option<(u64, f64)> {
        let seen = self.points.iter().take_while(|point| point.0 <= step).copied();
        match which {
            ValueOf::Last => seen.last(),
            ValueOf::Best => seen.reduce(|a, b| if beats(direction, b.1, a.1) { b } else { a }),
        }
    }

    /// The value over all steps, with its step.
    pub fn value(&self, which: ValueOf, direction: Direction) -> Option<(u64, f64)> {
        self.value_at(u64::MAX, which, direction)
    }

    /// Drops one point: not an end, none that a rung's last or best value needs, not the best, and of the
    /// others the one that leaves the smallest gap, measured by the step it ends at.
    fn thin(&mut self, direction: Direction, rungs: &[u64]) {
        let last = self.points.len() - 1;
        let mut keep = vec![false; self.points.len()];
        for end in rungs.iter().map(|rung| self.points.partition_point(|point| point.0 <= *rung)).chain([last + 1]) {
            let before = 0..end;
            let best = before.reduce(|a, b| if beats(direction, self.points[b].1, self.points[a].1) { b } else { a });
            for index in best.into_iter().chain(end.checked_sub(1)) {
                keep[index] = true;
            }
        }
        let gap = |index: usize| {
            let (from, to) = (self.points[index - 1].0, self.points[index + 1].0);
            (to - from) as f64 / to as f64
        };
        // More rungs than points: the oldest goes.
        let dropped = (1..last).filter(|index| !keep[*index]).min_by(|a, b| gap(*a).total_cmp(&gap(*b))).unwrap_or(1);
        self.points.remove(dropped);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use Direction::{Maximize, Minimize};

    fn series(points: &[(u64, f64)]) -> Series {
        let mut series = Series::default();
        for (step, value) in points {
            series.push(*step, *value, Maximize, &[]);
        }
        series
    }

    #[test]
    fn a_later_report_of_the_same_step_replaces_it_and_an_earlier_step_is_ignored() {
        let s = series(&[(1, 0.1), (2, 0.2), (2, 0.3), (1, 0.9)]);
        assert_eq!(s.points(), [(1, 0.1), (2, 0.3)]);
        assert_eq!(s.count(), 3);
    }

    #[test]
    fn a_value_that_is_not_finite_is_never_taken() {
        let mut s = Series::default();
        assert!(!s.push(1, f64::NAN, Maximize, &[]));
        assert!(!s.push(1, f64::INFINITY, Maximize, &[]));
        assert_eq!(s.value(ValueOf::Last, Maximize), None);
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
    fn a_long_series_stays_bounded_and_still_answers_at_its_rungs() {
        let rungs = [1, 10, 1_000, 50_000];
        let mut s = Series::default();
        for step in 1..=100_000 {
            let value = if step == 777 { 10.0 } else { 1.0 / step as f64 };
            s.push(step, value, Maximize, &rungs);
            assert!(s.points().len() <= MAX_POINTS);
        }
        for rung in rungs {
            assert_eq!(s.value_at(rung, ValueOf::Last, Maximize), Some((rung, 1.0 / rung as f64)));
        }
        assert_eq!(s.value(ValueOf::Best, Maximize), Some((777, 10.0)));
        assert_eq!(s.last_step(), Some(100_000));
        assert_eq!(s.count(), 100_000);
    }

    #[test]
    fn the_best_value_up_to_a_rung_survives_thinning() {
        let rungs = [100];
        let mut s = Series::default();
        for step in 1..=5_000 {
            let value = if step == 37 { 5.0 } else { step as f64 / 1_000.0 };
            s.push(step, value, Maximize, &rungs);
        }
        assert_eq!(s.value_at(100, ValueOf::Best, Maximize), Some((37, 5.0)));
        assert_eq!(s.value_at(100, ValueOf::Last, Maximize), Some((100, 0.1)));
    }

    #[test]
    fn a_thinned_series_still_answers_close_to_any_step() {
        let mut s = Series::default();
        for step in 1..=20_000 {
            s.push(step, step as f64, Maximize, &[]);
        }
        for step in 1..=20_000 {
            let (seen, _) = s.value_at(step, ValueOf::Last, Maximize).unwrap();
            assert!((step - seen) as f64 <= 0.1 * step as f64, "step {step} is answered by step {seen}");
        }
    }
}
