//! Configurations as points of the unit cube, which is what models work on.

use std::sync::Arc;

use crate::core::space::{Assignments, Domain, Parameter, Space, Value};

/// A configuration: for each parameter, in order, its place in [0, 1] (the middle of its bin, in a finite domain), the
/// position of a category, or NaN where it is inactive.
pub type Point = Arc<[f64]>;

/// The point of `assignments`; of ones that do not lie in the space, None.
pub fn of(space: &Space, assignments: &Assignments) -> Option<Point> {
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
        Some(_) if parameter.domain.is_continuous() => *x + 0.0,
        Some(value) => coordinate(&parameter.domain, value),
    };
    parameters.map(snap).collect()
}

fn coordinate(domain: &Domain, value: Value) -> f64 {
    match value {
        Value::Choice(position) if domain.is_categorical() => position as f64,
        // Adding 0.0 makes a negative zero positive: points are compared by their bits.
        value => domain.unit(value) + 0.0,
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

/// A point as something that can be compared: in a finite space the same configuration has the same bits.
pub fn key(point: &[f64]) -> Vec<u64> {
    point.iter().map(|x| x.to_bits()).collect()
}
