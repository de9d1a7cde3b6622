//! What models learn from: the configurations that were tried, and what came of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::point::{self, Point, key, same};
use super::tried::Tried;
use crate::core::objective::Direction;
use crate::core::problem::Problem;
use crate::core::space::{Assignments, Space};
use crate::core::trial::{Failure, Phase, Trial};

/// What came of a finished trial, to be minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It ran to its end.
    Value(f64),
    /// It was pruned: what it showed last.
    Pruned(f64),
    /// Worse than any value.
    Failed,
}

impl Outcome {
    /// Its value, if it has one.
    pub fn value(self) -> Option<f64> {
        match self {
            Outcome::Value(value) | Outcome::Pruned(value) => Some(value),
            Outcome::Failed => None,
        }
    }

    /// Its value; that of a failed trial is above all others.
    pub fn loss(self) -> f64 {
        self.value().unwrap_or(f64::INFINITY)
    }

    /// An order by merit, best first: pruned trials after completed ones of the same value, failed ones last.
    pub fn by_merit(self, other: Outcome) -> Ordering {
        let kind = |outcome| match outcome {
            Outcome::Value(_) => 0,
            Outcome::Pruned(_) => 1,
            Outcome::Failed => 2,
        };
        self.loss().total_cmp(&other.loss()).then(kind(self).cmp(&kind(other)))
    }
}

/// A finished trial.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its index.
    pub index: u32,
    /// Where it was.
    pub point: Point,
    /// What came of it.
    pub outcome: Outcome,
    /// The generation of CMA-ES that it belongs to.
    pub generation: Option<u32>,
    /// Its place in the order of completion.
    order: Order,
}

impl PartialEq for Finished {
    fn eq(&self, other: &Finished) -> bool {
        let all = |trial: &Finished| (trial.index, trial.outcome, trial.generation, trial.order);
        all(self) == all(other)
    }
}

/// The history as models see it.
#[derive(Default)]
pub struct Dataset {
    /// Finished trials in the order of their completion.
    pub finished: Vec<Finished>,
    /// Where trials are pending, by index.
    pub pending: Vec<Pending>,
    /// Raised whenever what had finished changes otherwise than by further trials at the end.
    pub revision: u64,
}

impl Dataset {
    /// Tells whether a trial at a point may succeed: the nearest failed trial must be `margin` times as far away as the
    /// nearest other one.
    pub fn feasibility(&self, space: &Space, margin: f64) -> impl Fn(&[f64]) -> bool {
        let has_failures = self.finished.iter().any(|trial| trial.outcome == Outcome::Failed);
        let is_categorical: Vec<bool> = space.parameters().iter().map(|p| p.domain.is_categorical()).collect();
        // A category that differs, or a parameter that only one of them has, is as far away as a range is wide.
        let part = |((a, b), is_categorical): ((&f64, &f64), &bool)| match a.is_nan() || b.is_nan() || *is_categorical {
            true => f64::from(a.to_bits() != b.to_bits()),
            false => (a - b) * (a - b),
        };
        move |point| {
            if !has_failures {
                return true;
            }
            let distance = |trial: &Finished| {
                trial.point.iter().zip(point).zip(&is_categorical).map(part).fold(0.0, |sum, part| sum + part)
            };
            let (mut failed, mut others) = (f64::INFINITY, f64::INFINITY);
            for trial in &self.finished {
                let nearest = if trial.outcome == Outcome::Failed { &mut failed } else { &mut others };
                *nearest = nearest.min(distance(trial));
            }
            failed >= margin * margin * others
        }
    }
}

/// Where others succeed, a configuration whose failures say nothing of it is tried again so many times, less one.
const MOST_AGAIN: u32 = 2;

/// A trial that has not finished.
pub struct Pending {
    /// Its index.
    pub index: u32,
    /// Where it is.
    pub point: Point,
}

/// A dataset that follows a history: an update costs what has changed since the last one. A trial's assignments never
/// change.
#[derive(Default)]
pub struct Cache {
    /// The points of trials by index; None of ones that do not lie in the space.
    points: HashMap<u32, Option<Point>>,
    /// What was seen of each trial, ascending by its index.
    seen: Vec<(u32, Seen)>,
    /// The place, in the order of completion, of the last that has finished.
    last: Option<Order>,
    proven: Proven,
    /// Trials whose failure says nothing of their configuration.
    uninformative: BTreeSet<u32>,
    dataset: Dataset,
    tried: Tried,
}

/// What may change of a trial. An update with 10,000 trials is a comparison of 10,000 of these.
#[derive(Clone, Copy, PartialEq)]
struct Seen {
    phase: Phase,
    completed: Option<Timestamp>,
    value: Option<f64>,
    failure: Option<Failure>,
    template: Option<u64>,
}

impl Seen {
    fn of(trial: &Trial) -> Seen {
        let Trial { phase, completed, value, failure, template, .. } = *trial;
        Seen { phase, completed, value, failure, template }
    }
}

/// Whether the trial has finished otherwise than by being stopped from outside.
fn has_outcome(trial: &Trial) -> bool {
    matches!(trial.phase, Phase::Succeeded | Phase::Pruned | Phase::Failed)
}

/// The surroundings that are known to work.
#[derive(Default)]
struct Proven {
    /// The study's present job template; None before the first update.
    template: Option<u64>,
    /// For each job template, when a trial first came to a result under it.
    first: BTreeMap<Option<u64>, Order>,
}

impl Proven {
    /// Nothing is known yet.
    fn new(template: u64) -> Proven {
        Proven { template: Some(template), first: BTreeMap::new() }
    }

    /// Takes in a trial that has finished; in the order of their completion.
    fn add(&mut self, trial: &Trial) {
        if matches!(trial.phase, Phase::Succeeded | Phase::Pruned) {
            self.first.entry(trial.template).or_insert_with(|| order(trial));
        }
    }

    /// Whether a trial had succeeded under the same job template, the study's present one, when this one ended.
    fn before(&self, trial: &Trial) -> bool {
        self.is_current(trial) && self.first.get(&trial.template).is_some_and(|first| *first < order(trial))
    }

    /// Whether models learn from what has come of a trial: from a failure only where it speaks of its configuration.
    fn is_usable(&self, trial: &Trial) -> bool {
        match (trial.phase, trial.failure) {
            (Phase::Succeeded | Phase::Pruned, _) => true,
            (Phase::Failed, Some(Failure::Diverged | Failure::OutOfMemory)) => self.is_current(trial),
            (Phase::Failed, Some(Failure::Error) | None) => self.before(trial),
            _ => false,
        }
    }

    /// Whether what failed may be tried again now: the job template was edited since, or is known to work.
    fn allows_retry(&self, trial: &Trial) -> bool {
        !self.is_current(trial) || self.first.contains_key(&trial.template)
    }

    fn is_current(&self, trial: &Trial) -> bool {
        trial.template.is_none_or(|template| Some(template) == self.template)
    }
}

/// How many of these trials models learn from; `template` is the study's present job template.
pub fn count_usable<'a>(template: u64, trials: impl Iterator<Item = &'a Trial>) -> usize {
    let mut ended: Vec<&Trial> = trials.filter(|trial| has_outcome(trial)).collect();
    if ended.iter().all(|trial| trial.phase != Phase::Failed) {
        return ended.len();
    }
    ended.sort_by_key(|trial| order(trial));
    let mut proven = Proven::new(template);
    let is_usable = |trial: &&&Trial| {
        proven.add(trial);
        proven.is_usable(trial)
    };
    ended.iter().filter(is_usable).count()
}

/// Trials by this have the order of their completion.
type Order = (bool, Option<Timestamp>, u32);

fn order(trial: &Trial) -> Order {
    (trial.completed.is_none(), trial.completed, trial.index)
}

impl Cache {
    /// The point of a trial, if it lies in the space.
    pub fn point(&mut self, space: &Space, trial: &Trial) -> Option<Point> {
        self.points.entry(trial.index).or_insert_with(|| point::of(space, &trial.assignments)).clone()
    }

    /// What models learn from these trials, in any order, and which configurations they are.
    pub fn update<'a, I: Iterator<Item = &'a Trial>>(
        &mut self,
        problem: &Problem,
        template: u64,
        trials: impl Fn() -> I,
    ) -> (&Dataset, &Tried) {
        let mut count = 0;
        let mut at = 0;
        let mut before = |trial: &Trial| {
            // Lists nearly always have the same order: a search is for the others.
            if self.seen.get(at).is_none_or(|(index, _)| *index != trial.index) {
                at = self.seen.partition_point(|(index, _)| *index < trial.index);
            }
            let seen = self.seen.get(at).filter(|(index, _)| *index == trial.index);
            at += 1;
            seen.map(|(_, seen)| *seen)
        };
        let changed: Vec<(&Trial, Option<Seen>)> = trials()
            .inspect(|_| count += 1)
            .map(|trial| (trial, before(trial)))
            .filter(|(trial, before)| *before != Some(Seen::of(trial)))
            .collect();
        let new = changed.iter().filter(|(_, before)| before.is_none()).count();
        let is_complete = count == self.seen.len() + new;
        if !is_complete || self.proven.template != Some(template) || !self.append(problem, &changed) {
            self.rebuild(problem, template, trials().collect());
        }
        (&self.dataset, &self.tried)
    }

    /// The configuration that is to be tried again first, as its trial has it: one of which nothing is known but failures
    /// that say nothing of it. Those of the `initial` assignments come first, then by index.
    pub fn next_retry<'a, I: Iterator<Item = &'a Trial>>(
        &mut self,
        problem: &Problem,
        template: u64,
        initial: &[Assignments],
        trials: impl Fn() -> I,
    ) -> Option<&'a Trial> {
        self.update(problem, template, &trials);
        if self.uninformative.is_empty() {
            return None;
        }
        let mut initial: Vec<Point> = initial.iter().filter_map(|initial| point::of(problem.space, initial)).collect();
        initial.reverse();
        let rank = |point: &Point| initial.iter().position(|other| same(other, point)).map_or(0, |at| at + 1);
        // What a place has seen beside such failures, and how many of these it had where others succeed.
        let mut places = HashMap::<Vec<u64>, (&Trial, usize, bool, u32)>::new();
        for trial in trials().filter(|trial| self.uninformative.contains(&trial.index)) {
            let Some(Some(point)) = self.points.get(&trial.index) else { continue };
            let fair = u32::from(self.proven.before(trial));
            let again = self.proven.allows_retry(trial);
            let place = places.entry(key(point)).or_insert((trial, rank(point), true, 0));
            (place.2, place.3) = (place.2 && again, place.3 + fair);
            if trial.index < place.0.index {
                place.0 = trial;
            }
        }
        for trial in trials().filter(|trial| !self.uninformative.contains(&trial.index)) {
            if let Some(Some(point)) = self.points.get(&trial.index) {
                places.remove(&key(point));
            }
        }
        let owed = places.into_values().filter(|(_, _, again, fair)| *again && *fair < MOST_AGAIN);
        owed.min_by_key(|(trial, rank, ..)| (std::cmp::Reverse(*rank), trial.index)).map(|(trial, ..)| trial)
    }

    /// Takes these changes in, if all that they do is to add trials and to end pending ones later than all before. If not,
    /// nothing is taken in, and the answer is false.
    fn append(&mut self, problem: &Problem, changed: &[(&Trial, Option<Seen>)]) -> bool {
        let mut ended: Vec<&Trial> =
            changed.iter().map(|(trial, _)| *trial).filter(|trial| has_outcome(trial)).collect();
        ended.sort_unstable_by_key(|trial| order(trial));
        let is_next = |trial: &&Trial| self.last.is_none_or(|last| last < order(trial));
        let was_pending = changed.iter().all(|(_, before)| before.is_none_or(|before| !before.phase.is_finished()));
        if !was_pending || !ended.first().is_none_or(is_next) {
            return false;
        }
        for (trial, before) in changed {
            self.record(problem, trial);
            self.dataset.pending.retain(|pending| before.is_none() || pending.index != trial.index);
            if !trial.phase.is_finished()
                && let Some(point) = self.point(problem.space, trial)
            {
                let at = self.dataset.pending.partition_point(|pending| pending.index < trial.index);
                self.dataset.pending.insert(at, Pending { index: trial.index, point });
            }
        }
        self.add_finished(problem, ended);
        true
    }

    /// Begins anew, from these trials alone.
    fn rebuild(&mut self, problem: &Problem, template: u64, mut trials: Vec<&Trial>) {
        let before = std::mem::take(&mut self.dataset);
        self.seen.clear();
        self.last = None;
        (self.proven, self.uninformative, self.tried) =
            (Proven::new(template), BTreeSet::new(), Tried::new(problem.space));
        let mut ended = Vec::new();
        trials.sort_unstable_by_key(|trial| trial.index);
        for trial in trials {
            self.record(problem, trial);
            if has_outcome(trial) {
                ended.push(trial);
            } else if !trial.phase.is_finished()
                && let Some(point) = self.point(problem.space, trial)
            {
                self.dataset.pending.push(Pending { index: trial.index, point });
            }
        }
        ended.sort_by_key(|trial| order(trial));
        self.add_finished(problem, ended);
        let is_longer = self.dataset.finished.starts_with(&before.finished);
        self.dataset.revision = before.revision + u64::from(!is_longer);
    }

    fn record(&mut self, problem: &Problem, trial: &Trial) {
        let at = self.seen.partition_point(|(index, _)| *index < trial.index);
        match self.seen.get_mut(at).filter(|(index, _)| *index == trial.index) {
            Some((_, seen)) => *seen = Seen::of(trial),
            None => self.seen.insert(at, (trial.index, Seen::of(trial))),
        }
        if let Some(point) = self.point(problem.space, trial) {
            self.tried.insert(point);
        }
    }

    /// These have finished, in this order.
    fn add_finished(&mut self, problem: &Problem, mut ended: Vec<&Trial>) {
        self.last = ended.last().map(|trial| order(trial)).or(self.last);
        ended.retain(|trial| {
            self.proven.add(trial);
            let is_usable = self.proven.is_usable(trial);
            if !is_usable {
                self.uninformative.insert(trial.index);
            }
            is_usable && self.point(problem.space, trial).is_some()
        });
        for trial in ended {
            // Of those that have none, nothing is left.
            let Some(point) = self.point(problem.space, trial) else { continue };
            let outcome = outcome(problem, trial);
            let (index, generation, order) = (trial.index, trial.generation, order(trial));
            self.dataset.finished.push(Finished { index, point, outcome, generation, order });
        }
    }
}

/// What came of a finished trial: nothing of it changes with others. A pruned one enters with what it showed last, which is no better
/// than an incumbent then, or it would run on, and mostly worse than what it would have come to: behind the others, and in order.
/// Comparing all at the highest step that enough of them have reached, as BOHB does (Falkner 2018), was measured to need more steps:
/// there a pruner's survivors are alike, and what leads at early steps misleads (docs/benchmarks.md).
fn outcome(problem: &Problem, trial: &Trial) -> Outcome {
    let sign = match problem.objective.direction {
        Direction::Minimize => 1.0,
        Direction::Maximize => -1.0,
    };
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite()).map(|value| sign * value);
    match trial.phase {
        Phase::Succeeded => finite(trial.value).map_or(Outcome::Failed, Outcome::Value),
        Phase::Pruned => {
            let last = trial.series.value_at(u64::MAX, problem.objective.value, problem.objective.direction);
            let shown = last.map(|(_, value)| value).or_else(|| mean_of_folds(trial));
            finite(shown).map_or(Outcome::Failed, Outcome::Pruned)
        }
        _ => Outcome::Failed,
    }
}

/// What a trial shows whose objective comes behind its folds. NaN where one of them is no number.
fn mean_of_folds(trial: &Trial) -> Option<f64> {
    let folds = trial.series.arrivals();
    let sum: f64 = folds.iter().map(|fold| fold.value.unwrap_or(f64::NAN)).sum();
    (!folds.is_empty()).then(|| sum / folds.len() as f64)
}
