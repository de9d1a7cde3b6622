//! One sidecar's work, from its start to its last line.

use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::message::TerminationMessage;
use super::{Args, Objective};
use crate::core::beats;
use crate::intake::{Intake, Position};
use crate::metrics::{Noted, ObjectiveSummary, Observation, Report, SidecarLine, Summary};

/// How long a report may wait to be read.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long reading the rest may take once the trainer has ended. However late it is, the kubelet grants
/// a container two seconds before it kills it (`minimumGracePeriodInSeconds`).
const DRAIN_LIMIT: Duration = Duration::from_millis(1500);

pub(super) struct Session<Output> {
    output: Output,
    pod: String,
    objectives: Vec<Objective>,
    intake: Intake,
    noted: Noted,
    message: TerminationMessage,
    heartbeat_interval: Duration,
    /// What was reported, of each objective.
    seen: Vec<Option<ObjectiveSummary>>,
    count: u64,
    /// What keeps metrics from being read.
    read_problem: Option<String>,
    message_problem: Option<String>,
}

impl<Output: Write> Session<Output> {
    pub fn new(args: Args, intake: Intake, output: Output) -> Session<Output> {
        Session {
            output,
            pod: args.pod_uid,
            intake,
            noted: Noted::default(),
            message: TerminationMessage::new(args.termination_message),
            heartbeat_interval: Duration::from_secs(args.heartbeat),
            seen: vec![None; args.objectives.len()],
            objectives: args.objectives,
            count: 0,
            read_problem: None,
            message_problem: None,
        }
    }

    /// Fails only where the output cannot be written to.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut next_heartbeat = Instant::now();
        loop {
            self.follow(false)?;
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
                if self.intake.more_waiting() {
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

    /// Prints what is left, and the last line.
    fn end(mut self) -> io::Result<()> {
        let started = Instant::now();
        let mut result = self.follow(true);
        while result.is_ok() && self.intake.more_waiting() {
            if started.elapsed() > DRAIN_LIMIT {
                self.read_problem = Some(format!("metrics not read to their end within {DRAIN_LIMIT:?}"));
                break;
            }
            result = self.follow(true);
        }
        // The objective is the first.
        if self.seen.first().is_none_or(Option::is_none) && self.read_problem.is_none() {
            self.read_problem = self.intake.why_nothing();
        }
        self.write_message();
        result?;
        let line = SidecarLine::End { pod: self.pod.clone(), noted: self.noted.clone(), problem: self.problem() };
        self.print(&line)
    }

    /// Reads a piece of what there is and prints its reports.
    fn follow(&mut self, is_last: bool) -> io::Result<()> {
        let mut reports = Vec::new();
        let read = self.intake.read(is_last, &mut self.noted, |position, report| reports.push((position, report)));
        self.read_problem = read.err();
        for (Position { generation, offset }, report) in reports {
            self.count += 1;
            self.remember(&report);
            let (pod, step, metrics) = (self.pod.clone(), report.step, report.values);
            self.print(&SidecarLine::Report { pod, generation, offset, step, metrics })?;
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
        self.read_problem.clone().or_else(|| self.message_problem.clone())
    }
}
