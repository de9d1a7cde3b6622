//! The trials of a local run, and what is known of all of them without a look at each: so one trial more costs the same
//! whether it is the tenth or the ten-thousandth.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::process::Running;
use super::state::run_name;
use crate::api::{self, DesiredState, Trial, TrialStatus};
use crate::core::{self, Phase};

/// A Trial, with its process while it has one.
pub struct Tracked {
    /// As it is written.
    pub trial: Trial,
    /// Its process.
    pub process: Option<Running>,
}

impl Tracked {
    /// The Trial's name.
    pub fn name(&self) -> &str {
        self.trial.metadata.name.as_deref().unwrap_or_default()
    }

    /// The name of its recorded run, or of its first one.
    pub fn run(&self) -> String {
        let run = self.trial.status.as_ref().and_then(|status| status.run.as_ref());
        run.map_or_else(|| run_name(self.name(), 1), |run| run.job.clone())
    }

    /// Where the Trial stands.
    pub fn phase(&self) -> Phase {
        self.trial.status.as_ref().map(|status| status.phase).unwrap_or_default()
    }

    /// Whether it was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.trial.spec.desired_state == DesiredState::Stopped
    }

    /// The Trial's status, to be changed.
    pub fn status(&mut self) -> &mut TrialStatus {
        self.trial.status.get_or_insert_default()
    }
}

/// The trials. Those that are handed out to be changed are looked at again by [`Trials::refresh`], the others are not.
#[derive(Default)]
pub struct Trials {
    all: BTreeMap<u32, Tracked>,
    /// Handed out since the last refresh.
    changed: BTreeSet<u32>,
    /// What follows is as of the last refresh. As the core sees them, by index.
    history: Vec<core::Trial>,
    running: BTreeSet<u32>,
    unfinished: BTreeSet<u32>,
    finished: BTreeSet<(Option<Timestamp>, u32)>,
    phases: BTreeMap<Phase, u32>,
}

impl Trials {
    /// Adds one.
    pub fn insert(&mut self, trial: Trial) {
        let index = trial.spec.index;
        self.all.insert(index, Tracked { trial, process: None });
        self.changed.insert(index);
    }

    /// One of them.
    pub fn get(&self, index: u32) -> Option<&Tracked> {
        self.all.get(&index)
    }

    /// One of them, to be changed.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Tracked> {
        let tracked = self.all.get_mut(&index)?;
        self.changed.insert(index);
        Some(tracked)
    }

    /// All of them, by index.
    pub fn all(&self) -> impl Iterator<Item = &Tracked> {
        self.all.values()
    }

    /// Looks at those that have changed.
    pub fn refresh(&mut self, study: &core::Study) {
        while let Some(index) = self.changed.pop_first() {
            let Some(tracked) = self.all.get(&index) else { continue };
            let live = tracked.process.as_ref().map(|process| process.readings.series.clone());
            let now = api::core_trial(study, &tracked.trial, live, tracked.process.is_some());
            set(&mut self.running, index, now.occupied);
            set(&mut self.unfinished, index, !now.phase.is_finished());
            *self.phases.entry(now.phase).or_default() += 1;
            if now.phase.is_finished() {
                self.finished.insert((now.completed, index));
            }
            match self.history.binary_search_by_key(&index, |trial| trial.index) {
                Err(at) => self.history.insert(at, now),
                Ok(at) => {
                    let before = std::mem::replace(&mut self.history[at], now);
                    *self.phases.entry(before.phase).or_default() -= 1;
                    let is_again =
                        self.history[at].phase.is_finished() && self.history[at].completed == before.completed;
                    if !is_again {
                        self.finished.remove(&(before.completed, index));
                    }
                }
            }
        }
    }

    /// As the core sees them, by index.
    pub fn history(&self) -> &[core::Trial] {
        &self.history
    }

    /// The indices of those that have a process.
    pub fn running(&self) -> &BTreeSet<u32> {
        &self.running
    }

    /// The indices of those that have not finished.
    pub fn unfinished(&self) -> &BTreeSet<u32> {
        &self.unfinished
    }

    /// How many are in a phase.
    pub fn count(&self, phase: Phase) -> u32 {
        self.phases.get(&phase).copied().unwrap_or(0)
    }

    /// How many have finished.
    pub fn count_finished(&self) -> u32 {
        self.finished.len() as u32
    }

    /// The process of each that runs, with its trial.
    pub fn processes(&self) -> impl Iterator<Item = (&Tracked, &Running)> {
        let tracked = self.running.iter().filter_map(|index| self.all.get(index));
        tracked.filter_map(|tracked| Some((tracked, tracked.process.as_ref()?)))
    }

    /// Calls `observe` with the process of each that runs. It tells whether anything was observed; the answer, whether
    /// of any.
    pub fn observe(&mut self, mut observe: impl FnMut(&mut Running) -> bool) -> bool {
        let before = self.changed.len();
        for index in &self.running {
            let process = self.all.get_mut(index).and_then(|tracked| tracked.process.as_mut());
            if process.is_some_and(&mut observe) {
                self.changed.insert(*index);
            }
        }
        self.changed.len() > before
    }

    /// Those that have a process or have not finished, and of the others the `most` that finished last.
    pub fn latest(&self, most: usize) -> Vec<&Tracked> {
        let last: BTreeSet<u32> = self.finished.iter().rev().take(most).map(|(_, index)| *index).collect();
        let shown = &(&self.running | &self.unfinished) | &last;
        shown.iter().filter_map(|index| self.all.get(index)).collect()
    }
}

fn set(indices: &mut BTreeSet<u32>, index: u32, holds: bool) {
    if holds {
        indices.insert(index)
    } else {
        indices.remove(&index)
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;
    use crate::api::StudySpec;
    use crate::core::Proposal;
    use crate::validate::{any_template, validate};

    fn study() -> core::Study {
        let spec: StudySpec = serde_json::from_value(serde_json::json!({
            "objectives": [{"metric": "acc", "direction": "Maximize"}],
            "parameters": [{"name": "x", "double": {"min": 0, "max": 1}}],
            "maxTrials": 9,
            "jobTemplate": any_template(),
        }))
        .unwrap();
        validate("t", &spec).unwrap().core
    }

    fn trial(study: &core::Study, index: u32) -> Trial {
        let (assignments, proposed_after) = (Default::default(), None);
        let proposal = Proposal {
            index,
            assignments,
            sampler: "random",
            version: 1,
            bracket: None,
            generation: None,
            proposed_after,
        };
        api::new_trial(study, &proposal)
    }

    fn turn(trials: &mut Trials, index: u32, phase: Phase, completed: Option<i64>) {
        let status = trials.get_mut(index).unwrap().status();
        status.phase = phase;
        status.completion_time = completed.map(|second| MicroTime(Timestamp::from_second(second).unwrap()));
    }

    #[test]
    fn what_is_kept_is_what_a_look_at_each_trial_would_tell() {
        let (study, mut trials) = (study(), Trials::default());
        for index in [4, 0, 2, 1] {
            trials.insert(trial(&study, index));
        }
        let changes = [
            (2, Phase::Running, None),
            (0, Phase::Succeeded, Some(5)),
            (2, Phase::Failed, Some(9)),
            (4, Phase::Running, None),
            (4, Phase::Pending, None),
            (2, Phase::Failed, Some(9)),
            (0, Phase::Succeeded, Some(10)),
        ];
        for (index, phase, completed) in changes {
            turn(&mut trials, index, phase, completed);
            trials.refresh(&study);
            let seen: Vec<_> =
                trials.history().iter().map(|trial| (trial.index, trial.phase, trial.completed)).collect();
            let all: Vec<_> = trials.all().map(|t| api::core_trial(&study, &t.trial, None, false)).collect();
            assert_eq!(seen, all.iter().map(|trial| (trial.index, trial.phase, trial.completed)).collect::<Vec<_>>());
            for phase in [Phase::Pending, Phase::Running, Phase::Succeeded, Phase::Failed, Phase::Pruned] {
                assert_eq!(trials.count(phase) as usize, all.iter().filter(|trial| trial.phase == phase).count());
            }
            let unfinished = all.iter().filter(|trial| !trial.phase.is_finished()).map(|trial| trial.index);
            assert_eq!(*trials.unfinished(), unfinished.collect());
            assert_eq!(trials.count_finished() as usize + trials.unfinished().len(), 4);
        }
        let latest: Vec<u32> = trials.latest(1).iter().map(|tracked| tracked.trial.spec.index).collect();
        assert_eq!(latest, [0, 1, 4], "trial 2 finished before trial 0");
    }
}
