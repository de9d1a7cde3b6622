//! Why a trial has ended or waits: every reason once, with its word, and what a failure speaks of.

use std::fmt;

use crate::core::number::number;
use crate::core::series::Series;
use crate::core::trial::{Failure, Phase};

/// How a trial has ended: the reason of the condition `Finished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It ran to its end and has a value.
    Succeeded,
    /// The pruner stopped it.
    Pruned,
    /// It was stopped by a user, or because the study ended.
    Stopped,
    /// Failed: its last word of the objective is NaN or infinite, so that it has no value.
    NotANumber,
    /// Failed: its trainer ran out of memory.
    OutOfMemory,
    /// Failed: its trainer ended with an error, was killed, or outgrew its storage.
    TrainerFailed,
    /// Failed: its trainer reported nothing for longer than it may.
    ReportTimeout,
    /// Failed: it ran for longer than the job template allows.
    DeadlineExceeded,
    /// Failed: its trainer could not be started.
    StartFailed,
    /// Failed: its trainer ended well without a report of the objective.
    MetricsMissing,
    /// Failed: the result of too many runs was lost.
    ResultLost,
    /// Failed: too many runs were lost.
    Lost,
    /// Failed: too many runs were ended by others.
    Disrupted,
}

/// The reason of a trial that the pruner stopped, as it is written.
pub const PRUNED: &str = Reason::Pruned.word();

/// Why a trial was stopped that a pruner found to have done its work: it has succeeded with what it has.
pub const PATIENCE: &str = "Patience";

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 13] = [
        Reason::Succeeded,
        Reason::Pruned,
        Reason::Stopped,
        Reason::NotANumber,
        Reason::OutOfMemory,
        Reason::TrainerFailed,
        Reason::ReportTimeout,
        Reason::DeadlineExceeded,
        Reason::StartFailed,
        Reason::MetricsMissing,
        Reason::ResultLost,
        Reason::Lost,
        Reason::Disrupted,
    ];

    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Succeeded => "Succeeded",
            Reason::Pruned => "Pruned",
            Reason::Stopped => "Stopped",
            Reason::NotANumber => "NotANumber",
            Reason::OutOfMemory => "OutOfMemory",
            Reason::TrainerFailed => "TrainerFailed",
            Reason::ReportTimeout => "ReportTimeout",
            Reason::DeadlineExceeded => "DeadlineExceeded",
            Reason::StartFailed => "StartFailed",
            Reason::MetricsMissing => "MetricsMissing",
            Reason::ResultLost => "ResultLost",
            Reason::Lost => "Lost",
            Reason::Disrupted => "Disrupted",
        }
    }

    /// The reason that is written so. None of a later version's.
    pub fn of(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// The phase of a trial that has ended so.
    pub fn phase(self) -> Phase {
        match self {
            Reason::Succeeded => Phase::Succeeded,
            Reason::Pruned => Phase::Pruned,
            Reason::Stopped => Phase::Stopped,
            _ => Phase::Failed,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a trial does not run yet: the reason of the condition `Running` where that is False.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its run was recorded, and its trainer is about to start.
    Starting,
    /// Its Job has no pod yet.
    NoPod,
    /// There is no room for it.
    Unschedulable,
    /// A queue holds it back.
    Queued,
    /// What it would be called belongs to somebody else.
    NameConflict,
    /// What it would be called belonged to an earlier trial, and is not gone yet.
    NameInUse,
    /// An earlier run of it is not gone yet.
    EarlierRun,
    /// As many run as may.
    ParallelismReached,
    /// Its study is suspended.
    Suspended,
    /// Its study is being deleted.
    StudyDeleted,
    /// The API server does not take its Job.
    JobRefused,
    /// In the cluster's own word, such as `ImagePullBackOff`.
    Other(String),
}

impl Wait {
    const OWN: [Wait; 11] = [
        Wait::Starting,
        Wait::NoPod,
        Wait::Unschedulable,
        Wait::Queued,
        Wait::NameConflict,
        Wait::NameInUse,
        Wait::EarlierRun,
        Wait::ParallelismReached,
        Wait::Suspended,
        Wait::StudyDeleted,
        Wait::JobRefused,
    ];

    /// As it is written.
    pub fn word(&self) -> &str {
        match self {
            Wait::Starting => "Starting",
            Wait::NoPod => "NoPod",
            Wait::Unschedulable => "Unschedulable",
            Wait::Queued => "Queued",
            Wait::NameConflict => "NameConflict",
            Wait::NameInUse => "NameInUse",
            Wait::EarlierRun => "EarlierRun",
            Wait::ParallelismReached => "ParallelismReached",
            Wait::Suspended => "Suspended",
            Wait::StudyDeleted => "StudyDeleted",
            Wait::JobRefused => "JobRefused",
            Wait::Other(word) => word,
        }
    }

    /// The reason that is written so.
    pub fn of(word: &str) -> Wait {
        Wait::OWN.into_iter().find(|wait| wait.word() == word).unwrap_or_else(|| Wait::Other(word.to_owned()))
    }
}

/// What a failure speaks of, by its reason and whether the objective's last observation was NaN or infinite: a trainer
/// that gives up on NaN with an error says the same as one that does not notice. A later version's reason is None.
pub fn failure(reason: Option<Reason>, diverged: bool) -> Failure {
    match reason {
        Some(Reason::OutOfMemory) => Failure::OutOfMemory,
        Some(Reason::StartFailed | Reason::MetricsMissing | Reason::ResultLost | Reason::Lost | Reason::Disrupted) => {
            Failure::Surroundings
        }
        Some(Reason::NotANumber) => Failure::Diverged,
        _ if diverged => Failure::Diverged,
        _ => Failure::Error,
    }
}

/// What an exit code says, for a person: more than 128 is a signal.
pub fn exit_text(code: i32) -> String {
    match code {
        129.. => format!("was killed by signal {} (exit code {code})", code - 128),
        _ => format!("exit code {code}"),
    }
}

/// Says since when a run has diverged: `loss was NaN or infinite from step 3 on (last number: 0.1 at step 2)`. None where its
/// last observation is a number.
pub fn divergence(metric: &str, series: &Series) -> Option<String> {
    let since = series.diverged()?;
    let last = match series.points().last() {
        Some((step, value)) => format!("last number: {} at step {step}", number(*value)),
        None => "it never was a number".to_owned(),
    };
    Some(format!("{metric} was NaN or infinite from step {since} on ({last})"))
}

/// Words of a trainer's last line that only lack of memory brings, in lower case: Python, NumPy, PyTorch and CUDA, JAX and
/// TensorFlow, C++, the JVM, malloc.
const MEMORY_WORDS: [&str; 8] = [
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "memoryerror",
    "unable to allocate",
    "cannot allocate memory",
    "bad_alloc",
    "oom when allocating",
];

/// The reason of a trial whose trainer ended with `code`, neither 0 nor by a signal that is known to be lack of memory, and
/// whose log ends with `line`. That it was killed (137) may have other reasons than memory, and says nothing.
pub fn of_exit(code: i32, line: Option<&str>) -> Reason {
    let line = line.map(str::to_ascii_lowercase).unwrap_or_default();
    match code {
        // What a shell answers where a command cannot be run, or is not there.
        126 | 127 => Reason::StartFailed,
        _ if MEMORY_WORDS.iter().any(|words| line.contains(words)) => Reason::OutOfMemory,
        _ => Reason::TrainerFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Direction, ValueOf};

    #[test]
    fn a_failure_speaks_of_the_configuration_or_of_its_surroundings() {
        let cases = [
            (Some(Reason::NotANumber), true, Failure::Diverged),
            (Some(Reason::NotANumber), false, Failure::Diverged),
            (Some(Reason::TrainerFailed), true, Failure::Diverged),
            (Some(Reason::TrainerFailed), false, Failure::Error),
            (Some(Reason::ReportTimeout), true, Failure::Diverged),
            (Some(Reason::ReportTimeout), false, Failure::Error),
            (Some(Reason::DeadlineExceeded), false, Failure::Error),
            (Some(Reason::OutOfMemory), true, Failure::OutOfMemory),
            (Some(Reason::OutOfMemory), false, Failure::OutOfMemory),
            (Some(Reason::StartFailed), false, Failure::Surroundings),
            (Some(Reason::MetricsMissing), false, Failure::Surroundings),
            (Some(Reason::ResultLost), true, Failure::Surroundings),
            (Some(Reason::Lost), true, Failure::Surroundings),
            (Some(Reason::Disrupted), true, Failure::Surroundings),
            (None, false, Failure::Error),
        ];
        for (reason, diverged, speaks_of) in cases {
            assert_eq!(failure(reason, diverged), speaks_of, "{reason:?}, diverged: {diverged}");
        }
    }

    #[test]
    fn a_divergence_is_told_with_the_last_number() {
        let series = |points: &[(u64, f64)]| {
            let mut series = Series::default();
            for (step, value) in points {
                series.push(*step, *value, ValueOf::Last, Direction::Minimize);
            }
            series
        };
        let nan = f64::NAN;
        assert_eq!(divergence("loss", &series(&[(1, 0.5)])), None);
        assert_eq!(
            divergence("loss", &series(&[(1, 0.5), (2, 0.1), (3, nan), (4, f64::INFINITY)])).as_deref(),
            Some("loss was NaN or infinite from step 3 on (last number: 0.1 at step 2)")
        );
        assert_eq!(
            divergence("loss", &series(&[(1, nan)])).as_deref(),
            Some("loss was NaN or infinite from step 1 on (it never was a number)")
        );
    }

    #[test]
    fn an_exit_is_of_memory_only_where_the_last_line_says_so_and_a_missing_command_is_no_start() {
        let memory = [
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
            "MemoryError",
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array",
            "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
            "ResourceExhaustedError: OOM when allocating tensor with shape[1024]",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "OSError: [Errno 12] Cannot allocate memory",
            "RuntimeError: CUDA error: CUDA_ERROR_OUT_OF_MEMORY",
        ];
        for line in memory {
            assert_eq!(of_exit(1, Some(line)), Reason::OutOfMemory, "{line}");
        }
        for line in ["ValueError: lr", "Killed", "the zoom is 2", "memory: 3 GiB"] {
            assert_eq!(of_exit(1, Some(line)), Reason::TrainerFailed, "{line}");
        }
        assert_eq!(of_exit(137, None), Reason::TrainerFailed);
        assert_eq!(of_exit(127, Some("sh: pyhton: not found")), Reason::StartFailed);
        assert_eq!(of_exit(126, None), Reason::StartFailed);
    }

    #[test]
    fn a_reason_is_read_as_it_was_written() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of(reason.word()), Some(reason));
        }
        for word in ["Starting", "NoPod", "Unschedulable", "Queued", "NameConflict", "NameInUse", "FailedMount"] {
            assert_eq!(Wait::of(word).word(), word);
        }
        assert_eq!(Reason::of("of a later version"), None);
    }
}
