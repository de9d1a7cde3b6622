//! From the bytes that a trainer wrote to observations.
//!
//! What a trainer writes is hostile input: every length is bounded, reading takes linear time, and what is
//! dropped is counted. The steps are [`LineSplitter`] (bytes to lines), [`Parser`] (a line to [`Report`]s and what is
//! [`Noted`]), [`Readings`] (what came of them) and, for a file, [`FileFollower`]. What is no line comes to the same
//! reports by [`Events`] (TensorBoard's event files) and [`Pages`] (Prometheus metrics).
//! [`SidecarLine`] and [`Summary`] are how a report travels on. Nothing here knows of Kubernetes, and only [`FileFollower`]
//! and [`Events`] know of files.

mod dropped;
mod event;
mod events;
mod exposition;
mod follow;
mod found;
mod json;
mod lines;
mod missing;
mod noted;
mod number;
mod others;
mod pages;
mod parse;
mod pattern;
mod readings;
mod record;
mod source;
mod tag;
mod text;
mod unread;
mod wire;

pub use dropped::Dropped;
pub use events::Events;
pub use follow::{FileFollower, FollowedLine};
pub use found::MAX_STEP;
pub use json::quote_non_finite;
pub use lines::{Line, LineSplitter, MAX_LINE};
pub use missing::Missing;
pub use noted::{Noted, StepsCounted};
pub use others::{MAX_NAME, MAX_OTHERS, MAX_OTHERS_SIZE, MetricSummary, Others};
pub use pages::{Pages, Reached};
pub use parse::{Parser, Report};
pub use pattern::{Grammar, MAX_PATTERN, MAX_PATTERNS, Pattern};
pub use readings::{Readings, Times};
pub use source::{MetricsSpec, PrometheusSpec, Source, TensorBoardSpec};
pub use unread::{names_of_numbers, unread};
pub use wire::{MAX_SUMMARY, Number, ObjectiveSummary, Observation, SidecarLine, Summary};
