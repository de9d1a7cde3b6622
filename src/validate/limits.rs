//! What ends a study, and durations.

use jiff::SignedDuration;

use super::Problems;
use crate::api::StudySpec;
use crate::core::Limits;

pub fn limits(spec: &StudySpec, problems: &mut Problems) -> Limits {
    let max_duration = duration(spec.max_duration.as_deref(), "spec.maxDuration", problems);
    Limits {
        max_trials: spec.max_trials,
        max_failed_trials: spec.max_failed_trials.unwrap_or((spec.max_trials / 10).max(3)),
        max_duration,
        target: spec.objectives.first().and_then(|o| o.target),
    }
}

pub fn duration(text: Option<&str>, path: &str, problems: &mut Problems) -> Option<SignedDuration> {
    let duration = parse_duration(text?);
    problems.check(
        duration.is_some(),
        path,
        format!("{:?} is not a duration: write it like 90m, 1h30m or 2d (units d, h, m, s)", text.unwrap_or_default()),
    );
    duration
}

/// `1h30m`: whole numbers with a unit each; above zero, at most a thousand years.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let mut seconds: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (1..=31_536_000_000).contains(&seconds).then(|| SignedDuration::from_secs(seconds))
}
