//! What runs beside the trainer: follows its metrics, in a file, in event files or on a page, and prints every report, for
//! the operator to read.
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
use crate::intake::{Intake, Place};
use crate::metrics::{Grammar, PrometheusSpec};
use session::Session;

/// Follows a trainer's metrics and prints its reports as JSON lines.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where the metrics are.
    #[command(flatten)]
    pub place: PlaceArgs,
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
    /// A file of its own, for going on where it was ended; a page of metrics does not say what it said before
    #[arg(long, value_name = "PATH")]
    pub state: Option<PathBuf>,
    /// Seconds between two heartbeats
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub heartbeat: u64,
}

/// Where the metrics are: exactly one of them.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(required = true, multiple = false)]
pub struct PlaceArgs {
    /// The metrics file; it may appear late
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// The folder of TensorBoard event files; it may appear late
    #[arg(long, value_name = "PATH")]
    pub tensor_board: Option<PathBuf>,
    /// The port and the path of a page of Prometheus metrics on the loopback interface, such as 8000/metrics
    #[arg(long, value_name = "PORT/PATH")]
    pub prometheus: Option<Page>,
}

/// Where a page of metrics is, written `8000/metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The port on the loopback interface.
    pub port: u16,
    /// The path.
    pub path: String,
}

impl FromStr for Page {
    type Err = String;

    fn from_str(text: &str) -> Result<Page, String> {
        let (port, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let port = port.parse().ok().filter(|port| *port > 0).ok_or("expected a port, such as 8000/metrics")?;
        let path = if path.is_empty() { PrometheusSpec::PATH } else { path };
        Ok(Page { port, path: path.to_owned() })
    }
}

impl Args {
    fn place(&self) -> Place {
        match &self.place {
            PlaceArgs { file: Some(file), .. } => Place::File(file.clone()),
            PlaceArgs { prometheus: Some(Page { port, path }), .. } => {
                Place::Page { port: *port, path: path.clone(), state: self.state.clone() }
            }
            PlaceArgs { tensor_board, .. } => {
                Place::Events { folder: tensor_board.clone().unwrap_or_default(), fixed: None }
            }
        }
    }
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
    /// What stands in a file already cannot be read.
    #[error("cannot begin to read metrics: {0}")]
    Read(#[source] io::Error),
    /// Standard output cannot be written to.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT: then prints what is left to be read, and returns within two seconds or little more.
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
/// [`Error::Output`] and [`Error::Read`].
pub async fn run_until(args: Args, output: impl io::Write, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let metrics: Vec<&str> = args.objectives.iter().map(|objective| objective.metric.as_str()).collect();
    let intake =
        Intake::new(args.place(), &metrics, &std::sync::Arc::new(args.grammar.clone())).map_err(Error::Read)?;
    match Session::new(args, intake, output).run(shutdown).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Output),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
