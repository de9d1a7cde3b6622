//! What runs for a Trial, seen as a run: a Job with its pods, and nothing else yet.

pub mod job;
pub mod pods;

#[cfg(test)]
mod tests;
