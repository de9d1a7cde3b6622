//! Tests of the pure parts: validation, the search space, `decide`, and the built Job.

#![allow(clippy::unwrap_used, missing_docs)]

mod decide;
mod files;
mod house;
mod job;
mod metrics;
mod plan;
mod pruners;
mod reference;
mod samplers;
mod space;
mod support;
mod validation;
mod waste;
#[path = "../data/wrong.rs"]
mod wrong;
