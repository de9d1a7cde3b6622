//! What is recorded of a trial: the steps of its life, put into its status.

use jiff::Timestamp;

use crate::api::{self, Trial, TrialStatus};
use crate::core::Phase;
use crate::core::life::{self, Action, RunSeen, Standing, State, Terms, Wait};
use crate::metrics::{Missing, Noted, Readings};
use crate::validate::ValidStudy;

/// What was read of a process.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// What it reported.
    pub readings: Readings,
    /// When it was started, and reading began.
    pub began: Option<Timestamp>,
    /// When its last report was read.
    pub reported: Option<Timestamp>,
    /// Where its metrics were looked for.
    pub place: String,
    /// What stands there, or its beginning.
    pub content: Option<String>,
    /// What it printed, or the end of it, where metrics were looked for elsewhere.
    pub printed: Option<String>,
    /// The end of its log, where it was looked at.
    pub log: Option<String>,
    /// Why its metrics could not be read.
    pub problem: Option<String>,
}

/// The status after the steps that `runs` make, each once what the one before asks for is done; and what to do then.
pub fn steps(
    valid: &ValidStudy,
    trial: &Trial,
    runs: &[RunSeen],
    read: &Read,
    now: Timestamp,
) -> (TrialStatus, Action) {
    let mut status = trial.status.clone().unwrap_or_default();
    let mut action = Action::Nothing;
    for run in runs {
        (status, action) = step(valid, trial, &status, run, read, now);
        if !matches!(action, Action::Start | Action::Stop) {
            break;
        }
    }
    (status, action)
}

fn step(
    valid: &ValidStudy,
    trial: &Trial,
    old: &TrialStatus,
    run: &RunSeen,
    read: &Read,
    now: Timestamp,
) -> (TrialStatus, Action) {
    let template = format!("{:016x}", valid.core.template);
    let terms = Terms {
        trial: trial.metadata.name.as_deref().unwrap_or_default(),
        objective: &valid.core.objective,
        report_timeout: valid.report_timeout,
        template: &template,
        desired: api::life::desired(&trial.spec),
        lost: "its process was lost",
    };
    let missing = || missing(valid, read);
    let reports = life::Reports {
        standing: Standing::Complete,
        series: &read.readings.series,
        kept: Vec::new(),
        first: read.readings.first,
        last: read.reported,
        begun: read.began,
        is_live: true,
        heard: Some(now),
        problem: read.problem.as_deref(),
        log: read.log.as_deref(),
        is_checkpoint: false,
        missing: &missing,
    };
    let step = life::step(&terms, &state(valid, old), run, &reports, now);
    let noted = &read.readings.noted;
    (written(valid, old, (step.state, step.notes), noted, now), step.action)
}

/// What is written where a trial cannot be started yet.
pub fn held_back(valid: &ValidStudy, old: &TrialStatus, why: Wait, message: &str, now: Timestamp) -> TrialStatus {
    let held = life::held_back(&state(valid, old), why, message);
    written(valid, old, (held, life::Notes::Kept), &Noted::default(), now)
}

/// The life that a status records. A run is recorded as Running before its process is started: the phase tells that there
/// was one.
fn state(valid: &ValidStudy, status: &TrialStatus) -> State {
    let mut state = api::life::state(&valid.core, status);
    if let Some(run) = state.run.as_mut().filter(|_| state.phase == Phase::Running) {
        run.id = Some(run.name.clone());
    }
    state
}

fn written(
    valid: &ValidStudy,
    old: &TrialStatus,
    (mut state, notes): (State, life::Notes),
    noted: &Noted,
    now: Timestamp,
) -> TrialStatus {
    if let Some(run) = &mut state.run {
        run.id = None;
    }
    api::life::status(&valid.core, old, (&state, notes), noted, None, now)
}

fn missing(valid: &ValidStudy, read: &Read) -> String {
    let missing = Missing {
        metric: &valid.core.objective.metric,
        source: valid.template.source,
        place: &read.place,
        content: read.content.as_deref(),
        printed: read.printed.as_deref(),
        problem: read.problem.as_deref(),
        grammar: &valid.template.grammar,
        dropped: &read.readings.noted.dropped,
    };
    missing.message()
}

/// At most `length` characters.
pub fn clipped(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length.saturating_sub(1)).chain(['…']).collect()
}
