//! From what the core decided to what a Study's status says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::{BestTrial, Condition, Ended, ObjectiveValue, StudyStatus, TrialCounts, trial_name};
use crate::core::{self, Decision, Phase, State};
use crate::validate::Problem;

/// A spec that was refused.
pub struct InvalidSpec<'a>(pub &'a [Problem]);

impl InvalidSpec<'_> {
    /// The status that says so. What was recorded stays.
    pub fn status(&self, old: &StudyStatus, generation: Option<i64>, now: Timestamp) -> StudyStatus {
        let message = self.0.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
        not_ready(old, "InvalidSpec", &message, generation, now)
    }
}

/// A status that says that nothing can be done until somebody acts.
pub fn not_ready(
    old: &StudyStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> StudyStatus {
    let condition = |type_, status| Condition::next(&old.conditions, type_, status, reason, message, generation, now);
    let kept = old.conditions.iter().filter(|c| matches!(c.type_.as_str(), "Complete" | "Failed")).cloned();
    StudyStatus {
        observed_generation: generation,
        conditions: [condition("Ready", false), condition("Stalled", true)].into_iter().chain(kept).collect(),
        ..old.clone()
    }
}

/// Adds the condition `SpecWarning` where the spec was accepted with warnings. It changes with the spec only.
pub fn warn(
    status: &mut StudyStatus,
    warnings: &[Problem],
    old: &StudyStatus,
    generation: Option<i64>,
    now: Timestamp,
) {
    if !warnings.is_empty() {
        let message = warnings.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
        let old = &old.conditions;
        let condition = Condition::next(old, "SpecWarning", true, "AcceptedWithWarnings", &message, generation, now);
        status.conditions.push(condition);
    }
}

/// The status after `decision`.
///
/// `max_duration` is the spec's own text: the status repeats what the user wrote.
pub fn study_status(
    study: &core::Study,
    history: &[core::Trial],
    decision: &Decision,
    old: &StudyStatus,
    max_duration: Option<&str>,
    generation: Option<i64>,
    now: Timestamp,
) -> StudyStatus {
    let condition = |type_: &str, status: bool, reason: &str| {
        Condition::next(&old.conditions, type_, status, reason, &decision.message, generation, now)
    };
    let mut conditions = match decision.state {
        State::Running => vec![condition("Ready", true, "Running")],
        State::Suspended { quiet } => {
            let reason = if quiet { "Suspended" } else { "Suspending" };
            vec![condition("Ready", true, reason), condition("Suspended", quiet, reason)]
        }
        State::Ending(_) => vec![condition("Ready", true, "Ending")],
        State::Ended(reason) if reason.is_failure() => {
            let reason = reason.to_string();
            vec![
                condition("Ready", false, "Failed"),
                condition("Stalled", true, &reason),
                condition("Failed", true, &reason),
            ]
        }
        State::Ended(reason) => {
            vec![condition("Ready", true, "Complete"), condition("Complete", true, &reason.to_string())]
        }
    };
    if let Some(why) = &decision.pruner_idle {
        let idle = ("PrunerIdle", "NothingToCompare");
        conditions.push(Condition::next(&old.conditions, idle.0, true, idle.1, why, generation, now));
    }
    let has_ended = matches!(decision.state, State::Ended(_));
    let counts = counts(history);
    StudyStatus {
        observed_generation: generation,
        conditions,
        progress: Some(format!(
            "{}/{}",
            counts.succeeded + counts.pruned + counts.failed + counts.stopped,
            study.limits.max_trials
        )),
        trials: Some(counts),
        best: best(study, history, decision),
        start_time: decision.recorded.start.map(MicroTime),
        completion_time: has_ended.then(|| old.completion_time.clone().unwrap_or(MicroTime(now))),
        seed: Some(study.seed),
        sampler: Some(study.standing(decision.recorded.budget.unwrap_or(study.budget()), history)),
        last_index: decision.recorded.last_index,
        budget: decision.recorded.budget,
        ended: decision.recorded.ended.as_ref().map(|(reason, limits)| Ended {
            reason: *reason,
            max_trials: limits.max_trials,
            max_failed_trials: limits.max_failed_trials,
            max_duration: max_duration.map(str::to_owned),
            target: limits.target,
        }),
    }
}

fn counts(history: &[core::Trial]) -> TrialCounts {
    let mut counts = TrialCounts { total: history.len() as u32, ..TrialCounts::default() };
    for trial in history {
        counts.active += u32::from(trial.is_active());
        *match trial.phase {
            Phase::Pending => &mut counts.pending,
            Phase::Running => &mut counts.running,
            Phase::Succeeded => &mut counts.succeeded,
            Phase::Pruned => &mut counts.pruned,
            Phase::Failed => &mut counts.failed,
            Phase::Stopped => &mut counts.stopped,
        } += 1;
    }
    counts
}

fn best(study: &core::Study, history: &[core::Trial], decision: &Decision) -> Option<BestTrial> {
    let best = decision.best?;
    let trial = history.iter().find(|trial| trial.index == best.index)?;
    let step = trial.series.value(study.objective.value, study.objective.direction).map(|(step, _)| step);
    Some(BestTrial {
        trial: trial_name(&study.name, best.index),
        index: best.index,
        objectives: vec![ObjectiveValue { metric: study.objective.metric.clone(), value: best.value, step }],
        assignments: BTreeMap::clone(&trial.assignments),
    })
}
