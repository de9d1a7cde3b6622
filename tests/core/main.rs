//! Tests of the pure parts: validation, the search space, `decide`, and the built Job.

#![allow(clippy::unwrap_used, missing_docs)]

mod build;
mod decide;
mod files;
mod metrics;
mod pruners;
mod samplers;
mod space;
mod support;
mod validation;
mod waste;
