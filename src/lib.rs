//! sweep-operator: hyperparameter sweeps, as Jobs of a Kubernetes cluster or as local processes.
//!
//! The map of the crate, from the inside out:
//!
//! - [`core`]: what a sweep does next, and each trial's [`life`](core::life), as pure functions; knows neither Kubernetes nor files.
//! - [`metrics`]: bytes that a trainer wrote into observations.
//! - [`shown`]: a line that a trainer wrote, as a person may see it; [`last_words`]: what its log says of its failure.
//! - [`api`]: the wire types Study and Trial, and their CRDs.
//! - [`validate`]: from a spec to a valid study, or to every problem with its field path.
//! - [`job`]: from a Trial to its Job, as pure functions.
//! - `intake`: the metrics of a run, wherever they are; `scrape`: pages of metrics from a trainer on this machine.
//! - [`sidecar`]: what runs beside a trainer in a cluster.
//! - [`controller`]: the Kubernetes shell; [`local`]: the process shell.
//! - [`ask_tell`]: sampler and pruner for other programs, as JSON lines.
//! - [`input`] and [`cli`]: files and commands of a person; `plan`: what a Study would cost; `probe`: what `helm test` runs.

pub mod api;
pub mod ask_tell;
pub mod cli;
pub mod controller;
pub mod core;
pub mod input;
mod intake;
pub mod job;
pub mod last_words;
pub mod local;
pub mod metrics;
mod plan;
mod probe;
mod scrape;
pub mod shown;
pub mod sidecar;
pub mod validate;
