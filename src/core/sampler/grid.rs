//! Every configuration of a finite space once, in a seeded order that is never laid out in memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::algorithm::{Algorithm, Request, Suggestion};
use super::tried::Tried;
use crate::core::rng::{fnv1a, stream};
use crate::core::space::{Assignments, Space};
use crate::core::problem::Problem;

/// Every configuration of a finite search space once, in a seeded random order. Doubles need a `step`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {}

/// Every configuration of a finite space once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid;

impl Algorithm for Grid {
    type Settings = Settings;
    type Cache = ();
    const NAME: &'static str = "grid";
    const VERSION: u32 = 2;

    fn new(_: &Settings) -> Grid {
        Grid
    }

    fn capabilities(&self, space: &Space) -> Result<(), Vec<(usize, String)>> {
        let continuous = space.parameters().iter().enumerate().filter(|(_, p)| p.domain.is_continuous());
        let message = "the grid sampler needs a step for a double: add step, or use another sampler";
        let problems: Vec<_> = continuous.map(|(position, _)| (position, message.to_owned())).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn propose(&self, request: &Request, _: &mut ()) -> Suggestion {
        let problem = &request.problem;
        self.suggestion(match problem.space.size() {
            Some(size) => first_untried(problem, size, request.tried),
            None => problem.space.nth(0),
        })
    }

    /// All of them are wanted, however near they lie.
    fn is_new(&self, _: &Suggestion, _: &[f64], _: &Tried) -> bool {
        true
    }
}

/// The first configuration, in the seeded order, that was not tried. The space has `size` of them, and is not exhausted.
pub fn first_untried(problem: &Problem, size: u128, tried: &Tried) -> Assignments {
    if size > MOST_PERMUTED {
        return first_drawn(problem, tried);
    }
    let order = Permutation::new(problem.seed, size);
    let mut position = 0;
    loop {
        let configuration = problem.space.nth(order.at(position));
        // Among size + 1 positions one is untried, or the space were exhausted; the end is for safety.
        if !tried.contains(problem.space, &configuration) || position + 1 >= order.size {
            return configuration;
        }
        position += 1;
    }
}

/// A larger space is drawn from: nobody gets so far that draws would meet.
const MOST_PERMUTED: u128 = 1 << 126;

/// The first of a sequence of independent draws that was not tried.
fn first_drawn(problem: &Problem, tried: &Tried) -> Assignments {
    let mut position = tried.len() as u64;
    loop {
        let mut stream = stream(problem.seed, "grid", position);
        let configuration = problem.space.assemble(|_, domain| {
            let size = domain.size().unwrap_or(1);
            domain.nth(((stream.unit() * size as f64) as u128).min(size - 1))
        });
        if !tried.contains(problem.space, &configuration) {
            return configuration;
        }
        position += 1;
    }
}

/// A permutation of 0..size: a Feistel network on the next even power of two, walked until it falls
/// inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
struct Permutation {
    seed: u64,
    size: u128,
    half_bits: u32,
}

impl Permutation {
    fn new(seed: u64, size: u128) -> Permutation {
        let bits = 128 - size.saturating_sub(1).leading_zeros();
        Permutation { seed, size, half_bits: bits.div_ceil(2).clamp(1, 63) }
    }

    fn at(&self, position: u128) -> u128 {
        let mut x = position;
        loop {
            x = self.round_trip(x);
            if x < self.size {
                return x;
            }
        }
    }

    fn round_trip(&self, x: u128) -> u128 {
        let mask = (1_u128 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..4_u8 {
            let mut input = [0; 25];
            input[..8].copy_from_slice(&self.seed.to_le_bytes());
            input[8..24].copy_from_slice(&right.to_le_bytes());
            input[24] = round;
            let hash = fnv1a(&input);
            // FNV's low bits are its weakest: fold the high half in.
            let mixed = u128::from(hash ^ (hash >> 32));
            (left, right) = (right, left ^ (mixed & mask));
        }
        (left << self.half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_holds_every_rank_once() {
        for size in [1_u128, 2, 3, 7, 64, 100, 1_000] {
            let order = Permutation::new(42, size);
            let mut seen: Vec<u128> = (0..size).map(|i| order.at(i)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..size).collect::<Vec<_>>(), "size {size}");
        }
    }

    #[test]
    fn another_seed_gives_another_order() {
        let order = |seed| -> Vec<u128> { (0..50).map(|i| Permutation::new(seed, 50).at(i)).collect() };
        assert_ne!(order(1), order(2));
    }
}
