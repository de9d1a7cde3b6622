//! What runs beside the trainer: follows its metrics file and prints every report, for the operator to read.
//!
//! Standard output carries [`SidecarLine`]s and nothing else. The termination message carries a
//! [`Summary`](crate::metrics::Summary), for when that output is lost.

mod message;
mod session;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::signal::unix::{SignalKind, signal};

use crate::api::Direction;
use crate::metrics::Grammar;
use session::Session;

/// Follows a trainer's metrics file and prints its reports as JSON lines.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The metrics file; it may appear late
    #[arg(long, env = "SWEEP_METRICS", value_name = "PATH")]
    pub file: PathBuf,
    /// A metric to report, the study's objective first; may be given several times
    #[arg(long = "objective", value_name = "METRIC=Maximize|Minimize", required = true)]
    pub objectives: Vec<Objective>,
    /// What the study says of the trainer's lines, as JSON
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = grammar)]
    pub grammar: Grammar,
    /// UID of the pod, printed with everything
    #[arg(long, env = "SWEEP_POD_UID", value_name = "UID")]
    pub pod_uid: String,
    /// The container's termination message; left alone where it does not exist
    #[arg(long, value_name = "PATH", default_value = "/dev/termination-log")]
    pub termination_message: PathBuf,
    /// Seconds between two heartbeats
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub heartbeat: u64,
}

/// A metric that is reported, written `accuracy=Maximize`.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The metric's name, as the trainer writes it.
    pub metric: String,
    /// Whether higher or lower is better.
    pub direction: Direction,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Objective, String> {
        let direction = |word| match word {
            "Maximize" => Some(Direction::Maximize),
            "Minimize" => Some(Direction::Minimize),
            _ => None,
        };
        text.rsplit_once('=')
            .filter(|(metric, _)| !metric.is_empty())
            .and_then(|(metric, word)| Some(Objective { metric: metric.to_owned(), direction: direction(word)? }))
            .ok_or_else(|| "expected METRIC=Maximize or METRIC=Minimize".to_owned())
    }
}

fn grammar(text: &str) -> Result<Grammar, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Why the sidecar cannot do its work. What is wrong with the metrics file is none of these: it is reported, and tried
/// again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process cannot wait for time or signals.
    #[error("cannot start: {0}")]
    Start(#[source] io::Error),
    /// Standard output cannot be written to.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT: then prints what the file still holds, and returns within two seconds or little more.
/// Returns early, without an error, when nobody reads standard output any more.
///
/// # Errors
/// See [`Error`].
pub fn run(args: Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Start)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Start)?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        run_until(args, io::stdout(), shutdown).await
    })
}

/// [`run`] with another output, until `shutdown` is ready.
///
/// # Errors
/// [`Error::Output`].
pub async fn run_until(args: Args, output: impl io::Write, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    match Session::new(args, output).run(shutdown).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Output),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
