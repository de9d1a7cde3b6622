//! How a trial has ended: from its trainer's exit and what was observed, as pure functions.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::SignedDuration;

use crate::api::{PRUNED, StopRecord, report_timeout};
use crate::build::{Deadline, Source};
use crate::core::{Objective, Phase, Series, number, reason};
use crate::last_words;
use crate::metrics::{Dropped, Grammar, names_of_numbers, unread};

/// How a trial ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Succeeded, Pruned, Failed or Stopped.
    pub phase: Phase,
    /// The reason of the condition `Finished`.
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// How a trainer's process ended, as its supervisor saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An exit code; 128 + signal where it was killed.
    Code(i32),
    /// The supervisor itself was killed by this signal.
    SupervisorKilled(i32),
}

/// What was looked at for the objective's metric.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Where the metric was looked for.
    pub source: Source,
    /// The file that was read.
    pub path: &'a Path,
    /// What it holds, or its beginning; None where it does not exist.
    pub content: Option<&'a str>,
    /// What the trainer printed, or the end of it.
    pub log: &'a str,
    /// What a line with metrics looks like.
    pub grammar: &'a Grammar,
    /// What the parser dropped.
    pub dropped: &'a Dropped,
}

/// How many names a message lists.
const NAMES: usize = 8;

/// How a trial that was told to stop ends, whatever its trainer's exit was.
pub fn stopped(stop: Option<&StopRecord>) -> Outcome {
    let reason = stop.map_or(reason::STOPPED, |stop| stop.reason.as_str()).to_owned();
    let phase = if reason == PRUNED { Phase::Pruned } else { Phase::Stopped };
    Outcome { phase, reason, message: stop.map(|stop| stop.message.clone()).unwrap_or_default() }
}

/// How a trial ends that has reported nothing for longer than it may.
pub fn hung(limit: SignedDuration, series: &Series) -> Outcome {
    let message = report_timeout(limit, series.last_step());
    Outcome { phase: Phase::Failed, reason: reason::REPORT_TIMEOUT.to_owned(), message }
}

/// How a trial ends that has run for longer than its template allows: in the words of a Job.
pub fn overdue(deadline: Deadline, log: &str) -> Outcome {
    let (whose, path) = match deadline {
        Deadline::Job(_) => ("Job was active", "spec.jobTemplate.spec"),
        Deadline::Pod(_) => ("Pod was active on the node", "spec.jobTemplate.spec.template.spec"),
    };
    let message = format!(
        "DeadlineExceeded: {whose} longer than specified deadline ({} s, {path}.activeDeadlineSeconds)",
        deadline.seconds()
    );
    Outcome {
        phase: Phase::Failed,
        reason: reason::DEADLINE_EXCEEDED.to_owned(),
        message: last_words::with_line(message, last_words::failure(log).as_deref()),
    }
}

/// How a trial that ran to its end ended.
pub fn outcome(exit: Exit, objective: &Objective, series: &Series, evidence: &Evidence) -> Outcome {
    let failed = |reason: &str, message: String| Outcome { phase: Phase::Failed, reason: reason.to_owned(), message };
    let divergence = reason::divergence(&objective.metric, series);
    let with_divergence = |message: String| match &divergence {
        Some(divergence) => format!("{message}; {divergence}"),
        None => message,
    };
    match exit {
        Exit::Code(0) => match (series.value(objective.value, objective.direction), &divergence) {
            (Some((step, value)), _) => Outcome {
                phase: Phase::Succeeded,
                reason: reason::SUCCEEDED.to_owned(),
                message: with_divergence(format!("{} {} (step {step})", objective.metric, number(value))),
            },
            (None, Some(divergence)) => failed(reason::NOT_A_NUMBER, format!("{}: {divergence}", reason::NOT_A_NUMBER)),
            (None, None) => {
                failed(reason::METRICS_MISSING, format!("MetricsMissing: {}", missing(&objective.metric, evidence)))
            }
        },
        Exit::Code(code) => {
            let line = last_words::failure(evidence.log);
            let reason = reason::of_exit(code, line.as_deref());
            failed(reason, with_divergence(last_words::with_line(exit_text(code), line.as_deref())))
        }
        Exit::SupervisorKilled(signal) => {
            failed(reason::TRAINER_FAILED, format!("its supervisor was {}", killed_text(signal)))
        }
    }
}

fn exit_text(code: i32) -> String {
    match signal_name(code - 128) {
        Some(_) => killed_text(code - 128),
        None => format!("exit code {code}"),
    }
}

fn killed_text(signal: i32) -> String {
    let name = signal_name(signal).map(|name| format!(" ({name})")).unwrap_or_default();
    let hint = if signal == 9 { ", out of memory?" } else { "" };
    format!("killed by signal {signal}{name}{hint}")
}

/// The signals that end a trainer: their numbers are the same on every platform.
fn signal_name(signal: i32) -> Option<&'static str> {
    let names = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
    ];
    names.into_iter().find(|(number, _)| *number == signal).map(|(_, name)| name)
}

/// What was looked for, where, and what stood there instead.
fn missing(metric: &str, evidence: &Evidence) -> String {
    let printed = names_of_numbers(evidence.log);
    let (place, names) = match (evidence.source, evidence.content) {
        (Source::File, None) => (
            format!("the trainer did not write the file $SWEEP_METRICS ({})", evidence.path.display()),
            BTreeSet::new(),
        ),
        (Source::File, Some(content)) => (
            format!("nothing in $SWEEP_METRICS ({}) is a value of it", evidence.path.display()),
            names_of_numbers(content),
        ),
        (Source::Stdout, _) => {
            (format!("nothing in the trainer's output ({}) is a value of it", evidence.path.display()), printed.clone())
        }
    };
    let mut message = format!("the trainer ended well, but reported no {metric:?}: {place}");
    let looked_in = if evidence.source == Source::Stdout { Some(evidence.log) } else { evidence.content };
    if let Some(unread) = looked_in.and_then(|text| unread(metric, text, evidence.grammar)) {
        message += &format!("; not read: {unread}");
    }
    let others: Vec<&str> = names.iter().filter(|name| *name != metric).map(String::as_str).collect();
    if !others.is_empty() {
        let more = if others.len() > NAMES { ", …" } else { "" };
        message += &format!("; other numbers there: {}{more}", others[..others.len().min(NAMES)].join(", "));
    }
    if !evidence.dropped.is_zero() {
        message += &format!("; dropped: {}", evidence.dropped);
    }
    if evidence.source == Source::File && printed.contains(metric) {
        message += "; it stands in the trainer's output: did you mean `metrics: {stdout: {}}`?";
    }
    message
}

/// At most `length` characters.
pub fn clipped(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::core::{Direction, ValueOf};

    static NOTHING: LazyLock<Dropped> = LazyLock::new(Dropped::default);
    static GRAMMAR: LazyLock<Grammar> = LazyLock::new(Grammar::default);

    fn objective() -> Objective {
        Objective { metric: "accuracy".to_owned(), direction: Direction::Maximize, value: ValueOf::Last }
    }

    fn evidence<'a>(source: Source, content: Option<&'a str>, log: &'a str) -> Evidence<'a> {
        Evidence { source, path: Path::new("m.jsonl"), content, log, grammar: &GRAMMAR, dropped: &NOTHING }
    }

    #[test]
    fn a_trial_ends_by_its_exit_and_its_observations() {
        let none = Series::default();
        let mut some = Series::default();
        some.push(3, 0.5, ValueOf::Last, Direction::Maximize, &[]);
        let log = "epoch 3\nValueError: lr is negative\n\n";
        let cases = [
            (Exit::Code(0), &some, Phase::Succeeded, "accuracy 0.5 (step 3)"),
            (Exit::Code(1), &some, Phase::Failed, "exit code 1: ValueError: lr is negative"),
            (Exit::Code(127), &none, Phase::Failed, "exit code 127: ValueError: lr is negative"),
            (Exit::Code(139), &some, Phase::Failed, "killed by signal 11 (SIGSEGV): ValueError: lr is negative"),
            (
                Exit::Code(137),
                &none,
                Phase::Failed,
                "killed by signal 9 (SIGKILL), out of memory?: ValueError: lr is negative",
            ),
            (Exit::Code(255), &none, Phase::Failed, "exit code 255: ValueError: lr is negative"),
            (Exit::SupervisorKilled(6), &some, Phase::Failed, "its supervisor was killed by signal 6 (SIGABRT)"),
        ];
        for (exit, series, phase, message) in cases {
            let outcome = outcome(exit, &objective(), series, &evidence(Source::File, None, log));
            assert_eq!((outcome.phase, outcome.message.as_str()), (phase, message), "{exit:?}");
        }
    }

    #[test]
    fn a_missing_metric_is_told_with_where_it_was_looked_for_and_what_stood_there() {
        let dropped = Dropped { non_finite: 2, ..Dropped::default() };
        let file = |content, log| evidence(Source::File, content, log);
        let cases = [
            (file(None, ""), "reported no \"accuracy\": the trainer did not write the file $SWEEP_METRICS (m.jsonl)"),
            (
                file(Some("{\"step\": 1, \"loss\": 0.5, \"name\": \"x\"}\n{\"acc\": 1}"), ""),
                "nothing in $SWEEP_METRICS (m.jsonl) is a value of it; other numbers there: acc, loss",
            ),
            (
                file(Some(""), "epoch 3: accuracy=0.91"),
                "it stands in the trainer's output: did you mean `metrics: {stdout: {}}`?",
            ),
            (
                evidence(Source::Stdout, None, "epoch 3: acc=0.91 loss: 0.2, done: yes {'lr': 1e-3}"),
                "nothing in the trainer's output (m.jsonl) is a value of it; other numbers there: acc, loss, lr",
            ),
            (
                evidence(Source::Stdout, None, "val accuracy 0.91"),
                "is a value of it; not read: \"val accuracy 0.91\": neither = nor : stands between accuracy and the number",
            ),
            (
                file(Some("accuracy=np.float64(0.91)"), "accuracy 0.91"),
                "; not read: \"accuracy=np.float64(0.91)\": np.float64(0.91) is not a plain number",
            ),
            (Evidence { dropped: &dropped, ..file(Some(""), "") }, "; dropped: 2 non-finite values"),
        ];
        for (evidence, says) in cases {
            let outcome = outcome(Exit::Code(0), &objective(), &Series::default(), &evidence);
            assert_eq!((outcome.phase, outcome.reason.as_str()), (Phase::Failed, "MetricsMissing"));
            assert!(outcome.message.starts_with("MetricsMissing: the trainer ended well"), "{}", outcome.message);
            assert!(outcome.message.contains(says), "{}", outcome.message);
        }
    }

    #[test]
    fn a_trial_that_outlives_its_deadline_ends_in_the_words_of_a_job() {
        for (deadline, message) in [
            (
                Deadline::Job(2),
                "DeadlineExceeded: Job was active longer than specified deadline (2 s, spec.jobTemplate.spec.activeDeadlineSeconds): b",
            ),
            (
                Deadline::Pod(3),
                "DeadlineExceeded: Pod was active on the node longer than specified deadline (3 s, spec.jobTemplate.spec.template.spec.activeDeadlineSeconds): b",
            ),
        ] {
            let outcome = overdue(deadline, "a\n b\n\n");
            assert_eq!((outcome.phase, outcome.reason.as_str()), (Phase::Failed, "DeadlineExceeded"));
            assert_eq!(outcome.message, message);
        }
    }
}
