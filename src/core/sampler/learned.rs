//! What models learn from: configurations as points of the unit cube, and what came of them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::core::space::{Assignments, Domain, Parameter, Space, Value};
use crate::core::study::{Direction, Phase, Study, Trial};

/// A configuration: for each parameter, in order, its place in [0, 1] (the middle of its bin, in a finite domain), the
/// position of a category, or NaN where it is inactive.
pub type Point = Arc<[f64]>;

/// The point of `assignments`; of ones that do not lie in the space, None.
pub fn point(space: &Space, assignments: &Assignments) -> Option<Point> {
    let values = space.parse(assignments).ok()?;
    let coordinate = |(parameter, value): (&Parameter, Option<Value>)| match value {
        None => f64::NAN,
        Some(value) => coordinate(&parameter.domain, value),
    };
    Some(space.parameters().iter().zip(values).map(coordinate).collect())
}

/// The assignments at `point`; coordinates of inactive parameters do not matter.
pub fn assignments(space: &Space, point: &[f64]) -> Assignments {
    space.assemble(|position, domain| value(domain, point[position]))
}

/// The point that the trainer would see at `coordinates`, all of which are given: values of finite domains in the middle of
/// their bins, inactive ones NaN.
pub fn snapped(space: &Space, coordinates: &[f64]) -> Vec<f64> {
    let values = space.activate(|position, domain| value(domain, coordinates[position]));
    let parameters = space.parameters().iter().zip(values).zip(coordinates);
    let snap = |((parameter, value), x): ((&Parameter, Option<Value>), &f64)| match value {
        None => f64::NAN,
        // As it is: there and back again it would not be the same bits.
        Some(_) if parameter.domain.is_continuous() => *x,
        Some(value) => coordinate(&parameter.domain, value),
    };
    parameters.map(snap).collect()
}

fn coordinate(domain: &Domain, value: Value) -> f64 {
    match value {
        Value::Choice(position) if domain.is_categorical() => position as f64,
        value => domain.unit(value),
    }
}

/// The value at a coordinate; at that of an inactive parameter, the first.
fn value(domain: &Domain, x: f64) -> Value {
    let x = if x >= 0.0 { x } else { 0.0 };
    if domain.is_categorical() { Value::Choice(x as usize) } else { domain.at_unit(x) }
}

/// Whether two points are one, bit for bit, inactive coordinates too.
pub fn same(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// What came of a finished trial, to be minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It ran to its end.
    Value(f64),
    /// It was pruned: what it would compare with at the model's step, as others of its standing had it there.
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
}

/// The history as models see it.
pub struct Learned {
    /// Finished trials in the order of their completion.
    pub finished: Vec<Finished>,
    /// Where trials are pending, by index.
    pub pending: Vec<Pending>,
}

/// A trial that has not finished.
pub struct Pending {
    /// Its index.
    pub index: u32,
    /// Where it is.
    pub point: Point,
}

/// Points by trial index: a trial's assignments never change.
#[derive(Default)]
pub struct Points(HashMap<u32, Option<Point>>);

impl Points {
    /// The point of a trial.
    pub fn of(&mut self, space: &Space, trial: &Trial) -> Option<Point> {
        self.0.entry(trial.index).or_insert_with(|| point(space, &trial.assignments)).clone()
    }
}

/// Whether models learn from the trial: it has finished, and was not stopped from outside.
pub fn teaches(trial: &Trial) -> bool {
    matches!(trial.phase, Phase::Succeeded | Phase::Pruned | Phase::Failed)
}

impl Learned {
    /// Of these trials.
    pub fn new<'a>(study: &Study, trials: impl Iterator<Item = &'a Trial>, points: &mut Points) -> Learned {
        let (mut ended, mut pending) = (Vec::new(), Vec::new());
        for trial in trials {
            let Some(point) = points.of(&study.space, trial) else { continue };
            if teaches(trial) {
                ended.push((trial, point));
            } else if !trial.phase.is_finished() {
                pending.push(Pending { index: trial.index, point });
            }
        }
        pending.sort_by_key(|trial| trial.index);
        ended.sort_by_key(|(trial, _)| (trial.completed.is_none(), trial.completed, trial.index));
        let outcomes = outcomes(study, &ended.iter().map(|(trial, _)| *trial).collect::<Vec<_>>());
        let finished = ended.into_iter().zip(outcomes).map(|((trial, point), outcome)| Finished {
            index: trial.index,
            point,
            outcome,
            generation: trial.generation,
        });
        Learned { finished: finished.collect(), pending }
    }
}

/// What came of each of these finished trials. With pruned ones among them all are compared at one step, as BOHB does
/// (Falkner 2018): the highest that a few more trials have reached than there are parameters.
fn outcomes(study: &Study, ended: &[&Trial]) -> Vec<Outcome> {
    let sign = match study.objective.direction {
        Direction::Minimize => 1.0,
        Direction::Maximize => -1.0,
    };
    if ended.iter().all(|trial| trial.phase != Phase::Pruned) {
        let outcome = |trial: &&Trial| trial.value.map_or(Outcome::Failed, |value| Outcome::Value(sign * value));
        return ended.iter().map(outcome).collect();
    }
    let at = |trial: &Trial, step| {
        trial.series.value_at(step, study.objective.value, study.objective.direction).map(|(_, value)| sign * value)
    };
    let mut last: Vec<u64> = ended.iter().filter_map(|trial| trial.series.last_step()).collect();
    last.sort_unstable_by(|a, b| b.cmp(a));
    let enough = study.space.parameters().len() + 2;
    let step = last.get(enough - 1).or(last.last()).copied().unwrap_or(0);
    let peers: Vec<&Trial> =
        ended.iter().copied().filter(|trial| trial.series.last_step().is_some_and(|last| last >= step)).collect();
    let mut values: Vec<f64> = peers.iter().filter_map(|peer| at(peer, step)).collect();
    values.sort_unstable_by(f64::total_cmp);
    // Trials stop at few different steps: the peers' values at each are looked up once.
    let mut then = BTreeMap::<u64, Vec<f64>>::new();
    let outcome = |trial: &&Trial| match trial.phase {
        Phase::Failed => Outcome::Failed,
        Phase::Succeeded if trial.series.last_step().is_none_or(|last| last <= step) => {
            trial.value.map_or(Outcome::Failed, |value| Outcome::Value(sign * value))
        }
        _ => match trial.series.last_step() {
            None => Outcome::Failed,
            Some(last) if last >= step => at(trial, step).map_or(Outcome::Failed, Outcome::Value),
            Some(last) => {
                let Some(own) = at(trial, last) else { return Outcome::Failed };
                let then = then.entry(last).or_insert_with(|| {
                    let mut then: Vec<f64> = peers.iter().filter_map(|peer| at(peer, last)).collect();
                    then.sort_unstable_by(f64::total_cmp);
                    then
                });
                let standing = then.partition_point(|value| *value < own).min(values.len().saturating_sub(1));
                values.get(standing).map_or(Outcome::Pruned(own), |value| Outcome::Pruned(*value))
            }
        },
    };
    ended.iter().map(outcome).collect()
}
