//! One sidecar's work, from its start to its last line.

use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::message::TerminationMessage;
use super::{Args, Objective};
use crate::core::beats;
use crate::metrics::{
    FileFollower, FollowedLine, Grammar, Noted, ObjectiveSummary, Observation, Parser, Report, SidecarLine, Summary,
    unread,
};

/// How long a report may wait in the file.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long reading the rest of the file may take once the trainer has ended. However late it is, the kubelet grants
/// a container two seconds before it kills it (`minimumGracePeriodInSeconds`).
const DRAIN_LIMIT: Duration = Duration::from_millis(1500);

/// How many bytes of a file's beginning are looked at for why nothing was read.
const BEGINNING: usize = 16 * 1024;

pub(super) struct Session<Output> {
    output: Output,
    pod: String,
    objectives: Vec<Objective>,
    follower: FileFollower,
    parser: Parser,
    noted: Noted,
    grammar: Arc<Grammar>,
    /// What the file begins with, while nothing was read of it.
    beginning: String,
    /// Lines that were too long for the follower and are counted already.
    known_too_long: u64,
    message: TerminationMessage,
    heartbeat_interval: Duration,
    /// What was reported, of each objective.
    seen: Vec<Option<ObjectiveSummary>>,
    count: u64,
    file_problem: Option<String>,
    message_problem: Option<String>,
}

impl<Output: Write> Session<Output> {
    pub fn new(args: Args, output: Output) -> Session<Output> {
        let grammar = Arc::new(args.grammar);
        Session {
            output,
            pod: args.pod_uid,
            follower: FileFollower::new(args.file),
            parser: Parser::new(args.objectives.iter().map(|objective| objective.metric.as_str()), grammar.clone()),
            grammar,
            beginning: String::new(),
            noted: Noted::default(),
            known_too_long: 0,
            message: TerminationMessage::new(args.termination_message),
            heartbeat_interval: Duration::from_secs(args.heartbeat),
            seen: vec![None; args.objectives.len()],
            objectives: args.objectives,
            count: 0,
            file_problem: None,
            message_problem: None,
        }
    }

    /// Fails only where the output cannot be written to.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut next_heartbeat = Instant::now();
        loop {
            self.follow(FileFollower::poll)?;
            if Instant::now() >= next_heartbeat {
                next_heartbeat = Instant::now() + self.heartbeat_interval;
                let line = SidecarLine::Heartbeat {
                    pod: self.pod.clone(),
                    noted: self.noted.clone(),
                    problem: self.problem(),
                };
                self.print(&line)?;
            }
            if self.message.is_due() {
                self.write_message();
            }
            let pause = async {
                if self.follower.more_waiting() {
                    tokio::task::yield_now().await;
                } else {
                    sleep(POLL_INTERVAL).await;
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = pause => {}
            }
        }
        self.end()
    }

    /// Prints what the file still holds, and the last line.
    fn end(mut self) -> io::Result<()> {
        let started = Instant::now();
        let mut result = self.follow(FileFollower::finish);
        while result.is_ok() && self.follower.more_waiting() {
            if started.elapsed() > DRAIN_LIMIT {
                self.file_problem = Some(format!("metrics file not read to its end within {DRAIN_LIMIT:?}"));
                break;
            }
            result = self.follow(FileFollower::finish);
        }
        if self.count == 0 && self.file_problem.is_none() {
            let unread =
                self.objectives.first().and_then(|first| unread(&first.metric, &self.beginning, &self.grammar));
            self.file_problem = unread.map(|unread| format!("not read: {unread}"));
        }
        self.write_message();
        result?;
        let line = SidecarLine::End { pod: self.pod.clone(), noted: self.noted.clone(), problem: self.problem() };
        self.print(&line)
    }

    /// Reads a piece of the file and prints its reports.
    fn follow(&mut self, read: impl Fn(&mut FileFollower) -> io::Result<Vec<FollowedLine>>) -> io::Result<()> {
        let (lines, problem) = match read(&mut self.follower) {
            Ok(lines) => (lines, None),
            Err(error) => (Vec::new(), Some(file_problem(&error))),
        };
        self.file_problem = problem;
        let too_long = self.follower.too_long();
        self.noted.dropped.too_long += too_long - self.known_too_long;
        self.known_too_long = too_long;
        let mut reports = Vec::new();
        for line in lines {
            if self.count == 0 && self.beginning.len() < BEGINNING {
                let text = String::from_utf8_lossy(&line.bytes);
                self.beginning.extend(text.chars().take(BEGINNING - self.beginning.len()).chain(['\n']));
            }
            self.parser.line(&line.bytes, &mut self.noted, |report| reports.push(report));
            let last = reports.len().saturating_sub(1);
            for (index, report) in reports.drain(..).enumerate() {
                self.count += 1;
                self.remember(&report);
                self.print(&SidecarLine::Report {
                    pod: self.pod.clone(),
                    generation: line.generation,
                    // Each has an offset of its own, still inside of the line: an object is longer than a byte.
                    offset: line.offset.saturating_sub((last - index) as u64),
                    step: report.step,
                    metrics: report.values,
                })?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, report: &Report) {
        for (objective, seen) in self.objectives.iter().zip(&mut self.seen) {
            let Some(&value) = report.values.get(&objective.metric) else { continue };
            let point = Observation { step: report.step, value };
            match seen {
                Some(seen) if point.step < seen.last.step => {}
                Some(seen) => {
                    seen.last = point;
                    let first_number = !seen.best.value.is_finite();
                    if value.is_finite() && (first_number || beats(objective.direction, value, seen.best.value)) {
                        seen.best = point;
                    }
                }
                None => {
                    *seen = Some(ObjectiveSummary { metric: objective.metric.clone(), last: point, best: point });
                }
            }
        }
    }

    /// Writes one line in one piece, and at once: a reader is waiting for it.
    fn print(&mut self, line: &SidecarLine) -> io::Result<()> {
        let mut text = line.to_line();
        text.push('\n');
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    fn write_message(&mut self) {
        let summary = Summary {
            objectives: self.seen.iter().flatten().cloned().collect(),
            count: self.count,
            pod: self.pod.clone(),
            dropped: self.noted.dropped.clone(),
            problem: self.problem(),
        };
        let result = self.message.write(summary.to_message());
        self.message_problem = result.err().map(|error| format!("cannot write the termination message: {error}"));
    }

    fn problem(&self) -> Option<String> {
        self.file_problem.clone().or_else(|| self.message_problem.clone())
    }
}

fn file_problem(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "cannot read metrics file: permission denied; does the trainer run with umask 077?".to_owned()
        }
        io::ErrorKind::IsADirectory => "cannot read metrics file: it is a directory".to_owned(),
        _ => format!("cannot read metrics file: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_explained() {
        let cases = [
            (
                io::ErrorKind::PermissionDenied.into(),
                "cannot read metrics file: permission denied; does the trainer run with umask 077?",
            ),
            (io::ErrorKind::IsADirectory.into(), "cannot read metrics file: it is a directory"),
            (io::Error::other("not a regular file"), "cannot read metrics file: not a regular file"),
        ];
        for (error, problem) in cases {
            assert_eq!(file_problem(&error), problem);
        }
    }
}
