//! Between Trials as objects and trials as the core sees them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;

use super::{
    DesiredState, FIELD_MANAGER, FINISHED, LABEL_MANAGED_BY, LABEL_STUDY, ObjectiveValue, ObservationSeries,
    RungArrival, SamplerRecord, StudyStatus, Trial, TrialSpec, TrialStatus,
};
use crate::core::life::{Reason, reason};
use crate::core::{self, Arrival, Limits, Phase, Proposal, Recorded, Series, Study, trial_name};
use crate::last_words::up_to_failure;
use crate::metrics::Noted;
use crate::shown::shown;
use crate::validate::parse_duration;

/// The Trial object of a proposal.
pub fn new_trial(study: &Study, proposal: &Proposal) -> Trial {
    let mut trial = Trial::new(
        &trial_name(&study.name, proposal.index),
        TrialSpec {
            study: study.name.clone(),
            index: proposal.index,
            assignments: proposal.assignments.clone(),
            sampler: SamplerRecord { name: proposal.sampler.to_owned(), version: proposal.version },
            bracket: proposal.bracket,
            generation: proposal.generation,
            proposed_after: proposal.proposed_after.map(MicroTime),
            desired_state: DesiredState::Running,
            stop: None,
        },
    );
    let labels = [(LABEL_STUDY, study.name.as_str()), (LABEL_MANAGED_BY, FIELD_MANAGER)];
    trial.metadata.labels = Some(labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into());
    trial
}

/// A Trial as the core sees it. `live` are observations fresher than the status, `occupied` tells
/// whether a Job or process of it is not gone yet.
pub fn core_trial(study: &Study, trial: &Trial, live: Option<Series>, occupied: bool) -> core::Trial {
    let pending = TrialStatus::default();
    let status = trial.status.as_ref().unwrap_or(&pending);
    let metric = &study.objective.metric;
    let (finished, failed) = (status.phase.is_finished(), status.phase == Phase::Failed);
    let series = live.filter(|_| !finished).unwrap_or_else(|| observations(study, status));
    let value = status.objectives.iter().find(|objective| objective.metric == *metric).map(|objective| objective.value);
    core::Trial {
        index: trial.spec.index,
        assignments: trial.spec.assignments.clone(),
        phase: status.phase,
        desired: trial.spec.desired_state,
        occupied,
        bracket: trial.spec.bracket,
        generation: trial.spec.generation,
        passed: None,
        value: value.filter(|_| status.phase == Phase::Succeeded),
        completed: status.completion_time.as_ref().map(|time| time.0),
        failure: failed.then(|| reason::failure(finished_reason(status), series.diverged().is_some())),
        series,
        reported_at_end: status.reported_at_end,
        template: status.run.as_ref().and_then(|run| u64::from_str_radix(run.template_hash.as_deref()?, 16).ok()),
        message: status.message.as_deref().map(|message| shown(message).into_owned()),
        last_words: status.log_tail.as_deref().filter(|_| failed).map(|log| up_to_failure(log, 3)).unwrap_or_default(),
    }
}

/// The reason of the condition `Finished`.
fn finished_reason(status: &TrialStatus) -> Option<Reason> {
    let finished = status.conditions.iter().find(|condition| condition.type_ == FINISHED);
    Reason::of(&finished?.reason)
}

/// What a Study has recorded about itself.
pub fn recorded(status: Option<&StudyStatus>) -> Recorded {
    let Some(status) = status else {
        return Recorded::default();
    };
    Recorded {
        start: status.start_time.as_ref().map(|time| time.0),
        last_index: status.last_index,
        budget: status.budget,
        ended: status.ended.as_ref().map(|ended| {
            let limits = Limits {
                max_trials: ended.max_trials,
                max_failed_trials: ended.max_failed_trials,
                max_duration: ended.max_duration.as_deref().and_then(parse_duration),
                target: ended.target,
            };
            (ended.reason, limits)
        }),
    }
}

/// Whether a Trial belongs to the Study `name`.
pub fn belongs_to(trial: &Trial, name: &str) -> bool {
    trial.spec.study == name && trial.labels().get(LABEL_STUDY).is_some_and(|label| label == name)
}

/// Puts what was read of a run into its status.
pub fn note(status: &mut TrialStatus, study: &Study, series: &Series, noted: &Noted) {
    (status.objectives, status.observations) = observed(study, series);
    status.metrics = noted.others.summaries();
    status.dropped = Some(noted.dropped.clone()).filter(|dropped| !dropped.is_zero());
    status.steps_counted.clone_from(&noted.steps_counted);
}

/// What a status tells a person of what was read: a condition each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Some of it was dropped.
    MetricsDropped,
    /// Steps are counted by reports.
    StepsCounted,
}

impl Note {
    /// The condition's type.
    pub fn type_(self) -> &'static str {
        match self {
            Note::MetricsDropped => "MetricsDropped",
            Note::StepsCounted => "StepsCounted",
        }
    }

    /// The condition's reason.
    pub fn reason(self) -> &'static str {
        match self {
            Note::MetricsDropped => "LinesDropped",
            Note::StepsCounted => "FractionalStep",
        }
    }
}

/// What a status tells a person of what was read, with the message of each.
pub fn notes(status: &TrialStatus) -> Vec<(Note, String)> {
    let dropped = status.dropped.iter().map(|dropped| (Note::MetricsDropped, dropped.to_string()));
    let counted = status.steps_counted.iter().map(|counted| (Note::StepsCounted, counted.to_string()));
    dropped.chain(counted).collect()
}

/// What a status says of a series: the objective's value so far, if it has one, and the observations.
fn observed(study: &Study, series: &Series) -> (Vec<ObjectiveValue>, Vec<ObservationSeries>) {
    if series.extent() == (0, 0) {
        return (Vec::new(), Vec::new());
    }
    let objective = &study.objective;
    let metric = || objective.metric.clone();
    let value = series.value(objective.value, objective.direction);
    let value = value.map(|(step, value)| ObjectiveValue { metric: metric(), value, step: Some(step) });
    let (steps, values) = series.points().iter().copied().unzip();
    let diverged = series.divergence();
    let rungs = series.arrivals().iter();
    let rungs = rungs.map(|&Arrival { rung, step, value, at }| RungArrival { rung, step, value, at: MicroTime(at) });
    let rungs = rungs.collect();
    let observations = ObservationSeries { metric: metric(), count: series.count(), steps, values, diverged, rungs };
    (value.into_iter().collect(), vec![observations])
}

/// The objective's observations that stand in a status.
pub fn observations(study: &Study, status: &TrialStatus) -> Series {
    let recorded = status.observations.iter().find(|series| series.metric == study.objective.metric);
    let arrival = |rung: &RungArrival| Arrival { rung: rung.rung, step: rung.step, value: rung.value, at: rung.at.0 };
    let series = |s: &ObservationSeries| {
        Series::from_recorded(&s.steps, &s.values, s.count, s.diverged)
            .with_arrivals(s.rungs.iter().map(arrival).collect())
    };
    recorded.map(series).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::core::{Direction, Divergence, ValueOf};
    use crate::metrics::{MAX_OTHERS, MAX_OTHERS_SIZE, Parser};

    fn study() -> Study {
        let text = "
objectives: [{metric: accuracy, direction: Maximize}]
parameters: [{name: x, double: {min: 0, max: 1}}]
maxTrials: 1
jobTemplate: {spec: {template: {spec: {containers: [{name: t, image: x}]}}}}";
        crate::validate::validate("s", &serde_yaml::from_str(text).unwrap()).unwrap().core
    }

    /// All that a run has told, with every bound met: points of 17 digits and 80 folds, 32 metrics, an example.
    #[test]
    fn what_is_noted_of_a_run_leaves_4_of_16_kib_for_the_rest_of_a_trial() {
        let study = study();
        let mut parser = Parser::new(["accuracy"], Default::default());
        let (mut noted, mut series) = (Noted::default(), Series::default());
        for step in 1..=100_000_u64 {
            let value = 1.0 / (step as f64 + 0.1);
            series.push(step, value, ValueOf::Last, Direction::Maximize);
            if step % 50 == 0 {
                let others: Vec<String> = (0..2 * MAX_OTHERS).map(|n| format!("\"m{n:0>60}\":{value}")).collect();
                let line = format!("{{\"step\":{step},\"accuracy\":\"1,5\",{}}}", others.join(","));
                parser.line(line.as_bytes(), &mut noted, |report| panic!("{report:?}"));
            }
        }
        for fold in 1..=80 {
            let at = jiff::Timestamp::from_microsecond(1_796_000_000_123_457).unwrap();
            let value = 1.0 / (fold as f64 + 0.1);
            series.arrive(Arrival { rung: fold, step: 100_000 + fold, value: Some(value), at }, true);
            series.push(100_000 + fold, value, ValueOf::Last, Direction::Maximize);
        }
        let mut status = TrialStatus::default();
        note(&mut status, &study, &series, &noted);
        let metrics = serde_json::to_string(&status.metrics).unwrap().len();
        assert!(metrics <= MAX_OTHERS_SIZE && !status.metrics.is_empty(), "{metrics}");
        let size = serde_json::to_string(&status).unwrap().len();
        assert!(size < 12 * 1024, "{size}");
        note(&mut status, &study, &Series::default(), &Noted::default());
        assert_eq!(status, TrialStatus::default());
    }

    #[test]
    fn a_run_that_never_had_a_number_is_recorded_with_its_divergence() {
        let study = study();
        let mut series = Series::default();
        series.push(3, f64::NAN, ValueOf::Last, Direction::Maximize);
        let mut status = TrialStatus::default();
        note(&mut status, &study, &series, &Noted::default());
        assert_eq!(status.objectives, []);
        assert_eq!(status.observations[0].diverged, Some(Divergence { first_step: 3, last_step: 3 }));
        assert_eq!(observations(&study, &status), series);
    }
}
