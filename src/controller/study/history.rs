//! The history of a Study: kept from pass to pass, and mended by what has changed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use kube::ResourceExt;

use super::super::follow::Followers;
use crate::api::{Trial, core_trial, trial_name};
use crate::core::{self, Stop};

/// All Trials of a Study, by index.
#[derive(Default)]
pub struct History {
    trials: Arc<Vec<core::Trial>>,
    /// What each was made of.
    sources: Vec<Source>,
}

struct Source {
    trial: Arc<Trial>,
    /// Its index, and whether it has ended: what has, and is as it was, is passed over.
    index: u32,
    has_ended: bool,
    occupied: bool,
    /// How much it has reported.
    extent: (u64, usize),
    /// The attempt, and the highest rung at which it was found to go on.
    pod: Option<String>,
    passed: Option<u64>,
}

impl History {
    /// The trials as the core sees them.
    pub fn trials(&self) -> Arc<Vec<core::Trial>> {
        self.trials.clone()
    }

    /// The objects that they were made of.
    pub fn objects(&self) -> impl DoubleEndedIterator<Item = &Arc<Trial>> {
        self.sources.iter().map(|source| &source.trial)
    }

    /// Brings it up to `trials`, of which `occupied` have a Job or pods that are not gone yet.
    pub fn mend(
        &mut self,
        study: &core::Study,
        mut trials: Vec<Arc<Trial>>,
        occupied: &BTreeSet<String>,
        followers: &Followers,
    ) {
        trials.sort_by_key(|trial| trial.spec.index);
        let indices: HashSet<u32> = occupied.iter().filter_map(|name| index_of(&study.name, name)).collect();
        let is_same = |(source, trial): &(&Source, &Arc<Trial>)| {
            Arc::ptr_eq(&source.trial, trial) || source.trial.metadata.uid == trial.metadata.uid
        };
        let same = self.sources.iter().zip(&trials).take_while(is_same).count();
        let known = Arc::make_mut(&mut self.trials);
        // Behind a deleted Trial all is made anew.
        known.truncate(same);
        self.sources.truncate(same);
        for (at, trial) in trials.into_iter().enumerate() {
            let is_as_it_ended = |source: &Source| {
                source.has_ended
                    && Arc::ptr_eq(&source.trial, &trial)
                    && source.occupied == indices.contains(&source.index)
            };
            if self.sources.get(at).is_some_and(is_as_it_ended) {
                continue;
            }
            let index = trial.spec.index;
            let is_occupied = indices.contains(&index);
            let followed = trial.status.as_ref().filter(|status| !status.phase.is_finished());
            let pod = followed.and_then(|status| status.run.as_ref()?.pod_uid.as_deref());
            let has_no_news = |source: &Source| {
                Arc::ptr_eq(&source.trial, &trial)
                    && source.occupied == is_occupied
                    && pod.and_then(|pod| followers.extent(pod)).is_none_or(|extent| extent == source.extent)
            };
            let passed =
                self.sources.get(at).filter(|source| source.pod.as_deref() == pod).and_then(|source| source.passed);
            if self.sources.get(at).is_some_and(has_no_news) {
                known[at].passed = passed;
                continue;
            }
            let pod_uid = pod.map(str::to_owned);
            let live = pod.and_then(|pod| followers.series(pod));
            let extent = live.as_ref().map(core::Series::extent).unwrap_or_default();
            // After a restart the log is read again from its start: until then the status knows more.
            let recorded = trial.status.as_ref().and_then(|status| status.observations.first());
            let recorded = recorded.map_or((0, 0), |series| (series.count, series.rungs.len()));
            let live = live.filter(|series| series.extent() >= recorded);
            let made = core::Trial { passed, ..core_trial(study, &trial, live, is_occupied) };
            let has_ended = made.phase.is_finished();
            let source = Source { trial, index, has_ended, occupied: is_occupied, extent, pod: pod_uid, passed };
            if at < self.sources.len() {
                (known[at], self.sources[at]) = (made, source);
            } else {
                known.push(made);
                self.sources.push(source);
            }
        }
    }

    /// All that run were judged at the rungs to which they have come, and go on but for these: they are not judged there again, even if
    /// it turns out later who else had come there.
    pub fn judged(&mut self, stopped: &[Stop]) {
        for (source, trial) in self.sources.iter_mut().zip(self.trials.iter()) {
            let goes_on = trial.can_be_stopped() && stopped.iter().all(|stop| stop.index != trial.index);
            if let Some(last) = trial.series.arrivals().last().filter(|_| goes_on) {
                source.passed = Some(last.rung);
            }
        }
    }

    /// The object of this index.
    pub fn object(&self, index: u32) -> Option<&Arc<Trial>> {
        let at = self.sources.binary_search_by_key(&index, |source| source.index).ok()?;
        Some(&self.sources[at].trial)
    }

    /// Whether it has a Trial of this name.
    pub fn has(&self, name: &str) -> bool {
        let index = name.rsplit_once('-').and_then(|(_, index)| index.parse().ok());
        index.and_then(|index| self.object(index)).is_some_and(|trial| trial.name_any() == name)
    }
}

/// The index of the Trial of `study` that is called so.
fn index_of(study: &str, name: &str) -> Option<u32> {
    let index = name.rsplit_once('-')?.1.parse().ok()?;
    (trial_name(study, index) == name).then_some(index)
}
