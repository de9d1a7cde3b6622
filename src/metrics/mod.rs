//! From the bytes that a trainer wrote to observations.
//!
//! What a trainer writes is hostile input: every length is bounded, reading takes linear time, and what is
//! dropped is counted. The steps are [`LineSplitter`] (bytes to lines) and [`Parser`] (a line to a [`Report`]).

mod dropped;
mod json;
mod lines;
mod parse;
mod text;

pub use dropped::Dropped;
pub use lines::{LineSplitter, MAX_LINE};
pub use parse::{MAX_STEP, Parser, Report};
