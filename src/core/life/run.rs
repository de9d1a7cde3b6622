//! A trial's run as a shell sees it, whatever it is: a Job with its pods, or a process.

use jiff::Timestamp;

use super::reason::{self, Reason, Wait};
use crate::core::series::Series;

/// The name of a trial's run: the trial's own for the first one, `-r<run>` added for a later one.
pub fn run_name(trial: &str, number: u32) -> String {
    if number <= 1 { trial.to_owned() } else { format!("{trial}-r{number}") }
}

/// The recorded run, as it is seen.
#[derive(Clone, Debug, PartialEq)]
pub enum RunSeen {
    /// It is not there: believed only from a live look.
    Absent,
    /// Something of its name is there, and belongs to this somebody else.
    Foreign(String),
    /// Something of its name is there, and is going: it was an earlier trial's.
    Leaving,
    /// It is there.
    There {
        /// What tells it from others of the same name.
        id: String,
        /// The attempt that counts, where one has begun.
        attempt: Option<Attempt>,
        /// How far it is.
        stage: Stage,
    },
}

/// An attempt of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// What tells it from others of the run.
    pub id: String,
    /// Whether the one before, should there be one, has ended without the trainer's fault.
    pub follows_disruption: bool,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// It is being ended.
    Stopping {
        /// Says that this takes too long.
        stuck: Option<String>,
    },
    /// Its trainer does not run yet.
    Waiting {
        /// Why.
        why: Wait,
        /// For a person; it does not change without cause.
        message: String,
        /// Whether it will not run before somebody acts.
        needs_person: bool,
        /// When the run was created.
        created: Timestamp,
    },
    /// Its trainer runs.
    Running {
        /// Since when.
        since: Timestamp,
        /// Whether the attempt was told to end.
        is_leaving: bool,
        /// Says that this takes too long.
        stuck: Option<String>,
    },
    /// Its trainer has ended; the end of the run follows.
    Ending {
        /// When, if it ended with success.
        succeeded: Option<Timestamp>,
    },
    /// It has ended.
    Ended(End),
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// When.
    pub at: Timestamp,
    /// Whether it failed, as who runs it says.
    pub failed: bool,
    /// Whose doing that is.
    pub how: How,
    /// Whether the end of its attempt is seen: that may be behind the end of the run.
    pub is_settled: bool,
    /// Whether what it reported is still of interest.
    pub awaits_reports: bool,
    /// When its trainer began, where that is known of this very run.
    pub trainer_began: Option<Timestamp>,
    /// When its trainer ended.
    pub trainer_ended: Option<Timestamp>,
    /// Whether it was noted on the run already that its result is recorded.
    pub is_noted: bool,
}

/// Whose doing the end of a run is.
#[derive(Clone, Debug, PartialEq)]
pub enum How {
    /// The trainer ended well.
    Succeeded,
    /// The trainer's doing, or its template's.
    Failed(Fault),
    /// Not the trainer's doing: what was.
    Disrupted(String),
    /// Its attempt is gone, and nobody knows how it ended.
    Vanished,
    /// Who runs it has taken it back: it is run again, and that costs nothing.
    Interrupted,
}

/// What has failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// By what the reason is told.
    pub cause: Cause,
    /// For a person.
    pub what: String,
    /// Whether the end of the trainer's log tells more.
    pub is_in_log: bool,
}

/// By what the reason of a failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An exit code, and the end of the log.
    Exit(i32),
    /// It is known.
    Known(Reason),
}

impl Fault {
    /// Who ended with `code`.
    pub fn exit(who: &str, code: i32) -> Fault {
        Fault { cause: Cause::Exit(code), what: format!("{who} {}", reason::exit_text(code)), is_in_log: true }
    }

    /// What is known to have failed for `reason`.
    pub fn known(reason: Reason, what: impl Into<String>) -> Fault {
        Fault { cause: Cause::Known(reason), what: what.into(), is_in_log: true }
    }

    /// The reason, where the log ends with `line`.
    pub fn reason(&self, line: Option<&str>) -> Reason {
        match self.cause {
            Cause::Exit(code) => reason::of_exit(code, line),
            Cause::Known(reason) => reason,
        }
    }
}

/// How much of a run's reports was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// All of them.
    Complete,
    /// More may come.
    Pending {
        /// Whether the last one is known all the same.
        tells_result: bool,
    },
    /// There may have been more, and nobody can read them any more.
    Lost,
}

/// What was read of a run.
#[derive(Clone)]
pub struct Reports<'a> {
    /// How much of it.
    pub standing: Standing,
    /// The objective's observations.
    pub series: &'a Series,
    /// Observations that were handed down beside them: the best and the last one.
    pub kept: Vec<(u64, f64)>,
    /// When the first report was read.
    pub first: Option<Timestamp>,
    /// When the last report was read.
    pub last: Option<Timestamp>,
    /// When reading began.
    pub begun: Option<Timestamp>,
    /// Whether reports were read as they came.
    pub is_live: bool,
    /// When it was last known that nothing is left to read. None where that is not known, or the trainer has ended.
    pub heard: Option<Timestamp>,
    /// Why they cannot be read.
    pub problem: Option<&'a str>,
    /// The end of the trainer's log, where it was looked at.
    pub log: Option<&'a str>,
    /// Whether what a running trial has reported is to be recorded.
    pub is_checkpoint: bool,
    /// What to say where the objective is missing.
    pub missing: &'a dyn Fn() -> String,
}
