//! How a trial ends: the reasons of the condition `Finished`, each once, and what a failure speaks of.

use super::number::number;
use super::series::Series;
use super::study::Failure;

/// It ran to its end and has a value.
pub const SUCCEEDED: &str = "Succeeded";
/// The pruner stopped it.
pub const PRUNED: &str = "Pruned";
/// It was stopped by a user, or because the study ended.
pub const STOPPED: &str = "Stopped";
/// Failed: its last word of the objective is NaN or infinite, so that it has no value.
pub const NOT_A_NUMBER: &str = "NotANumber";
/// Failed: its trainer ran out of memory.
pub const OUT_OF_MEMORY: &str = "OutOfMemory";
/// Failed: its trainer ended with an error, was killed, or outgrew its storage.
pub const TRAINER_FAILED: &str = "TrainerFailed";
/// Failed: its trainer reported nothing for longer than it may.
pub const REPORT_TIMEOUT: &str = "ReportTimeout";
/// Failed: it ran for longer than the job template allows.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
/// Failed: its trainer could not be started.
pub const START_FAILED: &str = "StartFailed";
/// Failed: its trainer ended well without a report of the objective.
pub const METRICS_MISSING: &str = "MetricsMissing";
/// Failed: the result of too many runs was lost.
pub const RESULT_LOST: &str = "ResultLost";
/// Failed: too many runs were lost.
pub const LOST: &str = "Lost";
/// Failed: too many runs were ended by others.
pub const DISRUPTED: &str = "Disrupted";

/// What a failure speaks of, by its reason and whether the objective's last observation was NaN or infinite: a trainer
/// that gives up on NaN with an error says the same as one that does not notice.
pub fn failure(reason: &str, diverged: bool) -> Failure {
    match reason {
        OUT_OF_MEMORY => Failure::OutOfMemory,
        START_FAILED | METRICS_MISSING | RESULT_LOST | LOST | DISRUPTED => Failure::Surroundings,
        NOT_A_NUMBER => Failure::Diverged,
        _ if diverged => Failure::Diverged,
        _ => Failure::Error,
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
pub fn of_exit(code: i32, line: Option<&str>) -> &'static str {
    let line = line.map(str::to_ascii_lowercase).unwrap_or_default();
    match code {
        // What a shell answers where a command cannot be run, or is not there.
        126 | 127 => START_FAILED,
        _ if MEMORY_WORDS.iter().any(|words| line.contains(words)) => OUT_OF_MEMORY,
        _ => TRAINER_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Direction, ValueOf};

    #[test]
    fn a_failure_speaks_of_the_configuration_or_of_its_surroundings() {
        let cases = [
            (NOT_A_NUMBER, true, Failure::Diverged),
            (NOT_A_NUMBER, false, Failure::Diverged),
            (TRAINER_FAILED, true, Failure::Diverged),
            (TRAINER_FAILED, false, Failure::Error),
            (REPORT_TIMEOUT, true, Failure::Diverged),
            (REPORT_TIMEOUT, false, Failure::Error),
            (DEADLINE_EXCEEDED, false, Failure::Error),
            (OUT_OF_MEMORY, true, Failure::OutOfMemory),
            (OUT_OF_MEMORY, false, Failure::OutOfMemory),
            (START_FAILED, false, Failure::Surroundings),
            (METRICS_MISSING, false, Failure::Surroundings),
            (RESULT_LOST, true, Failure::Surroundings),
            (LOST, true, Failure::Surroundings),
            (DISRUPTED, true, Failure::Surroundings),
            ("of a later version", false, Failure::Error),
        ];
        for (reason, diverged, speaks_of) in cases {
            assert_eq!(failure(reason, diverged), speaks_of, "{reason}, diverged: {diverged}");
        }
    }

    #[test]
    fn a_divergence_is_told_with_the_last_number() {
        let series = |points: &[(u64, f64)]| {
            let mut series = Series::default();
            for (step, value) in points {
                series.push(*step, *value, ValueOf::Last, Direction::Minimize, &[]);
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
            assert_eq!(of_exit(1, Some(line)), OUT_OF_MEMORY, "{line}");
        }
        for line in ["ValueError: lr", "Killed", "the zoom is 2", "memory: 3 GiB"] {
            assert_eq!(of_exit(1, Some(line)), TRAINER_FAILED, "{line}");
        }
        assert_eq!(of_exit(137, None), TRAINER_FAILED);
        assert_eq!(of_exit(127, Some("sh: pyhton: not found")), START_FAILED);
        assert_eq!(of_exit(126, None), START_FAILED);
    }
}
