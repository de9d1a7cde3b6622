//! The functional core: what a sweep does next. No clock, no I/O, no Kubernetes, no global randomness.
//!
//! [`decide`] is the one entry, [`outlook`] the same before anything is proposed: a validated [`Study`], its history and the time go in, a [`Decision`]
//! comes out. It is total, deterministic and idempotent: once a decision is carried out, deciding again
//! asks for nothing more.

mod counting;
mod decide;
mod linalg;
mod minimise;
mod normal;
mod number;
pub mod pruner;
mod ranking;
pub mod reason;
mod rng;
pub mod sampler;
mod series;
mod space;
mod study;

pub use decide::{Decision, Proposal, Recorded, State, Stop, decide, outlook};
pub use number::number;
pub use ranking::{Best, beats, best};
pub use reason::PRUNED;
pub use rng::{Stream, fnv1a, stream};
pub use series::{Divergence, MAX_POINTS, Series};
pub use space::{Activation, Assignments, Domain, Parameter, Scale, Space, Value, Values};
pub use study::{
    Direction, EndReason, Failure, Limits, MAX_DISRUPTIONS, Objective, Phase, Study, Trial, ValueOf, trial_name,
};
