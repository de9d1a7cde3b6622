//! The functional core: what a sweep does next. No clock, no I/O, no Kubernetes, no global randomness.
//!
//! [`decide`] is the one entry, [`outlook`] the same before anything is proposed: a validated [`Study`], its history and the time go in, a [`Decision`]
//! comes out. It is total, deterministic and idempotent: once a decision is carried out, deciding again
//! asks for nothing more.

mod choice;
mod decide;
pub mod life;
mod linalg;
mod minimise;
mod normal;
mod number;
mod objective;
pub mod plan;
mod problem;
pub mod pruner;
mod rng;
pub mod sampler;
mod series;
mod space;
mod study;
mod trial;

pub use choice::{exactly_one, listed};
pub use decide::{Decision, Proposal, Recorded, State, Stop, decide, outlook};
pub use life::reason::{PATIENCE, PRUNED};
pub use number::number;
pub use objective::{Direction, Objective, ValueOf, beats};
pub use problem::{Budget, Problem};
pub use rng::{Stream, fnv1a, stream};
pub use series::{Arrival, Divergence, MAX_ARRIVALS, MAX_POINTS, Mark, Series};
pub use space::{Activation, Assignments, Domain, Parameter, Scale, Space, Value, Values};
pub use study::{EndReason, Limits, Study};
pub use trial::{Best, DesiredState, Failure, MAX_DISRUPTIONS, Phase, Trial, best, trial_name};
