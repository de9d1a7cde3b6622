//! Which configurations were tried: what is the same, or so near that no trainer could tell the two apart, is not
//! proposed again.

use std::collections::{BTreeMap, HashSet};

use super::point::{self, Point, key};
use crate::core::space::{Assignments, Space};

/// Two values of a range that lie no further apart than this share of it, on its scale, are one to a trainer. The issue is
/// waste, not precision: an optimum is met within a ten-thousandth of each range.
pub const SPACING: f64 = 1e-4;

/// The distinct configurations of a history.
#[derive(Default)]
pub struct Tried {
    exact: HashSet<Vec<u64>>,
    /// By parameter: whether neighbouring values may lie closer than [`SPACING`].
    dense: Vec<bool>,
    /// The first parameter that is always there and dense; points are kept in the order of it. None where there is none.
    pivot: Option<usize>,
    /// By the bits of the pivot's coordinate, which have the order of the coordinates themselves.
    near: BTreeMap<u64, Vec<Point>>,
}

impl Tried {
    /// None yet, of a space.
    pub fn new(space: &Space) -> Tried {
        let is_dense = |size: Option<u128>| size.is_none_or(|size| size as f64 * SPACING > 1.0);
        let dense: Vec<bool> = space.parameters().iter().map(|p| is_dense(p.domain.size())).collect();
        let pivot = space.parameters().iter().zip(&dense).position(|(p, dense)| *dense && p.when.is_empty());
        Tried { exact: HashSet::new(), dense, pivot, near: BTreeMap::new() }
    }

    /// Adds the configuration at `point`.
    pub fn insert(&mut self, point: Point) {
        if self.exact.insert(key(&point)) && self.is_dense() {
            self.near.entry(self.pivot_of(&point)).or_default().push(point);
        }
    }

    /// Whether there are configurations that differ, and are one to a trainer.
    pub fn is_dense(&self) -> bool {
        self.dense.contains(&true)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.exact.len()
    }

    /// Whether the very configuration at `point` is among them.
    pub fn has(&self, point: &[f64]) -> bool {
        self.exact.contains(&key(point))
    }

    /// Whether the very configuration of these assignments is.
    pub fn contains(&self, space: &Space, assignments: &Assignments) -> bool {
        point::of(space, assignments).is_some_and(|point| self.has(&point))
    }

    /// Whether one of them is the configuration at `point`, or cannot be told from it: the same categories and branches, and
    /// each other value within [`SPACING`].
    pub fn has_near(&self, point: &[f64]) -> bool {
        if self.near.is_empty() {
            return self.has(point);
        }
        let (low, high) = match self.pivot {
            Some(axis) => ((point[axis] - WITHIN).max(0.0).to_bits(), (point[axis] + WITHIN).to_bits()),
            None => (0, u64::MAX),
        };
        self.near.range(low..=high).any(|(_, others)| others.iter().any(|other| self.are_one(point, other)))
    }

    fn are_one(&self, a: &[f64], b: &[f64]) -> bool {
        // NaN, of an inactive parameter, is nothing but itself.
        let is_one = |((a, b), dense): ((&f64, &f64), &bool)| match *dense {
            true => (a - b).abs() <= WITHIN || a.to_bits() == b.to_bits(),
            false => a.to_bits() == b.to_bits(),
        };
        a.iter().zip(b).zip(&self.dense).all(is_one)
    }

    fn pivot_of(&self, point: &[f64]) -> u64 {
        self.pivot.map_or(0, |axis| point[axis].to_bits())
    }
}

/// A little more than [`SPACING`]: coordinates lose some bits on the way to the text that a trainer sees, and back.
const WITHIN: f64 = SPACING * (1.0 + 1e-6);
