//! What people get: the chart and what is made from it, alerts and dashboard, health checks for GitOps, the way to a release.

#![allow(clippy::unwrap_used, missing_docs)]

mod chart;
mod gitops;
mod helm;
mod lua;
mod monitoring;
mod supply;
