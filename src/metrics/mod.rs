//! From the bytes that a trainer wrote to observations.
//!
//! What a trainer writes is hostile input: every length is bounded, reading takes linear time, and what is
//! dropped is counted. The steps are [`LineSplitter`] (bytes to lines), [`Parser`] (a line to [`Report`]s and what is
//! [`Noted`]), [`Readings`] (what came of them) and, for a file, [`FileFollower`].
//! [`SidecarLine`] and [`Summary`] are how a report travels on. Nothing here knows of Kubernetes, and only [`FileFollower`]
//! knows of files.

mod dropped;
mod follow;
mod found;
mod json;
mod lines;
mod missing;
mod noted;
mod number;
mod others;
mod parse;
mod pattern;
mod readings;
mod source;
mod text;
mod unread;
mod wire;

pub use dropped::Dropped;
pub use follow::{FileFollower, FollowedLine};
pub use found::MAX_STEP;
pub use json::quote_non_finite;
pub use lines::{Line, LineSplitter, MAX_LINE};
pub use missing::Missing;
pub use noted::{Noted, StepsCounted};
pub use others::{MAX_NAME, MAX_OTHERS, MAX_OTHERS_SIZE, MetricSummary, Others};
pub use parse::{Parser, Report};
pub use pattern::{Grammar, MAX_PATTERN, MAX_PATTERNS, Pattern};
pub use readings::{Readings, Times};
pub use source::{MetricsSpec, Source};
pub use unread::{names_of_numbers, unread};
pub use wire::{MAX_SUMMARY, Number, ObjectiveSummary, Observation, SidecarLine, Summary};
