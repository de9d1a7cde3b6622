//! What a person sees of a sweep while it runs, and at its end.

use std::cmp::Reverse;
use std::time::Duration;

use super::screen::{self, Row, View};
use super::sweep::{Sweep, completion};
use super::trials::Tracked;
use crate::api::{self, Trial, TrialStatus};
use crate::core::{self, Decision, Objective, Phase};
use crate::shown::shown;

/// How many trials any terminal has room for.
const MOST_ROWS: usize = 200;

/// How many trials the table at the end shows.
const TOP: usize = 10;

impl Sweep {
    /// Says once why nothing can be pruned.
    pub(super) fn show_obstacle(&mut self, decision: &Decision) {
        if let Some(why) = decision.pruner_idle.as_ref().filter(|why| self.told_obstacle.as_ref() != Some(*why)) {
            self.screen.line(&format!("note: {why}"));
            self.told_obstacle = Some(why.clone());
        }
    }

    /// Says that there is a new best trial.
    pub(super) fn show_best(&mut self, decision: &Decision) {
        if decision.best == self.best {
            return;
        }
        self.best = decision.best;
        if let Some(best) = &self.best {
            let text = format!(
                "new best: {} {} of {}",
                self.valid.core.objective.metric,
                core::number(best.value),
                api::trial_name(&self.valid.core.name, best.index)
            );
            self.screen.event(&text);
        }
    }

    /// Draws the live table.
    pub(super) fn draw(&mut self) {
        self.refresh();
        let mut screen = std::mem::take(&mut self.screen);
        screen.draw(|| self.view());
        self.screen = screen;
    }

    fn view(&self) -> View {
        let counts = [Phase::Running, Phase::Pending, Phase::Succeeded, Phase::Pruned, Phase::Failed, Phase::Stopped]
            .map(|phase| (self.trials.count(phase), format!("{phase:?}").to_lowercase()));
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts = counts.map(|(count, phase)| format!("{count} {phase}")).collect::<Vec<_>>().join(", ");
        let core = &self.valid.core;
        let best = self.best.map(|best| {
            let trial = api::trial_name(&core.name, best.index);
            format!("best {} {} of {trial}", core.objective.metric, core::number(best.value))
        });
        let mut shown = self.trials.latest(MOST_ROWS);
        // Those that are being stopped have a process, too.
        shown.sort_by_key(|tracked| {
            let completed = completion(&tracked.trial);
            (tracked.process.is_none(), completed.is_some(), Reverse(completed), tracked.trial.spec.index)
        });
        shown.truncate(MOST_ROWS);
        View {
            study: core.name.clone(),
            metric: core.objective.metric.clone(),
            finished: self.trials.count_finished(),
            total: core.limits.max_trials,
            counts,
            best,
            left: None,
            running: self.trials.running().len(),
            rows: shown.into_iter().map(|tracked| self.row(tracked)).collect(),
        }
    }

    fn row(&self, tracked: &Tracked) -> Row {
        let objective = &self.valid.core.objective;
        let live =
            tracked.process.as_ref().map(|process| process.readings.series.value(objective.value, objective.direction));
        let recorded = || {
            let objectives = &tracked.trial.status.as_ref()?.objectives;
            objectives.first().map(|objective| (objective.step.unwrap_or_default(), objective.value))
        };
        let value = live.unwrap_or_else(recorded);
        Row {
            name: tracked.name().to_owned(),
            index: tracked.trial.spec.index,
            phase: tracked.phase(),
            stopping: tracked.process.is_some() && (tracked.is_stopped() || tracked.phase().is_finished()),
            value: value.map(|(_, value)| value),
            step: value.map(|(step, _)| step),
            time: match &tracked.process {
                Some(process) => Some(process.started.elapsed()),
                None => took(&tracked.trial),
            },
            assignments: screen::assignments(&self.valid.core.space, &tracked.trial.spec.assignments),
        }
    }

    /// The best trials, the best configuration, and where the files are.
    pub fn summary(&self, on_stderr: bool) -> String {
        let core = &self.valid.core;
        let (metric, direction) = (&core.objective.metric, core.objective.direction);
        let mut ranked: Vec<&Tracked> = self.trials.all().collect();
        let key = |tracked: &Tracked| tracked.trial.status.as_ref().and_then(|s| Some(s.objectives.first()?.value));
        ranked.sort_by(|a, b| {
            let succeeded = |tracked: &Tracked| tracked.phase() != Phase::Succeeded;
            let by_value = match (key(a), key(b)) {
                (Some(x), Some(y)) if core::beats(direction, x, y) => std::cmp::Ordering::Less,
                (Some(x), Some(y)) if core::beats(direction, y, x) => std::cmp::Ordering::Greater,
                (x, y) => x.is_none().cmp(&y.is_none()),
            };
            // Those that ran to their end compete; the others follow.
            succeeded(a).cmp(&succeeded(b)).then(by_value).then(a.trial.spec.index.cmp(&b.trial.spec.index))
        });
        let rows: Vec<Row> = ranked.iter().take(TOP).map(|tracked| self.row(tracked)).collect();
        let mut text = screen::trials_table(metric, &rows, on_stderr);
        if ranked.len() > TOP {
            text += &format!("\n… and {} more", ranked.len() - TOP);
        }
        text += "\n";
        if let Some(best) = self.study.status.as_ref().and_then(|status| status.best.as_ref()) {
            let value =
                best.objectives.first().map(|objective| format!(": {metric} {}", core::number(objective.value)));
            text += &format!("\nbest trial {}{}\n", best.trial, value.unwrap_or_default());
            // Exact, for who takes them over.
            for (name, value) in screen::in_order(&core.space, &best.assignments) {
                text += &format!("  {name}: {}\n", shown(value));
            }
        }
        text + &format!("\nstudy.yaml, trials, logs and metrics are in {}", self.folder.shown_root())
    }
}

/// How a trial ended, as a line.
pub(super) fn ending(trial: &Trial, objective: &Objective) -> String {
    let name = trial.metadata.name.as_deref().unwrap_or_default();
    let none = TrialStatus::default();
    let status = trial.status.as_ref().unwrap_or(&none);
    let message = status.message.as_deref().unwrap_or_default();
    match status.phase {
        Phase::Succeeded => {
            let value = status.objectives.first().map_or_else(String::new, |value| {
                let step = value.step.unwrap_or_default();
                format!("{} {} (step {step})", objective.metric, core::number(value.value))
            });
            let more = if message.is_empty() { String::new() } else { format!("; {message}") };
            let time = took(trial).map(|time| format!(" in {}", screen::duration(time))).unwrap_or_default();
            format!("trial {name} succeeded: {value}{more}{time}")
        }
        Phase::Pruned => match trial.spec.stop.as_ref().and_then(|stop| stop.step) {
            // The message says at which step, too.
            Some(step) => format!(
                "trial {name} pruned at step {step}: {}",
                message.strip_prefix(&format!("at step {step}: ")).unwrap_or(message)
            ),
            None => format!("trial {name} pruned: {message}"),
        },
        Phase::Stopped => format!("trial {name} stopped: {message}"),
        _ => format!("trial {name} failed: {message}"),
    }
}

/// How long a finished trial took.
fn took(trial: &Trial) -> Option<Duration> {
    let start = trial.status.as_ref()?.start_time.as_ref()?.0;
    completion(trial)?.duration_since(start).try_into().ok()
}
