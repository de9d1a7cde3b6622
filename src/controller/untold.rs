//! Starts of which nobody is told for a while. That a trainer runs costs a write and an open log; where many trials of a Study
//! start within seconds, most of that is spent on what ends at once, and it keeps others from starting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::memory::Memory;
use crate::api::{Phase, Trial, TrialStatus};

/// How long a start may stay untold.
const UNTOLD: Duration = Duration::from_secs(10);

/// After so long an entry is that of a Trial that is gone: whatever the API server refuses, it was tried again since.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The Trials whose start is seen and not told yet, by UID.
#[derive(Clone, Default)]
pub struct Untold(Arc<Mutex<HashMap<String, Start>>>);

struct Start {
    seen: Instant,
    /// What is recorded of the Trial.
    recorded: Option<TrialStatus>,
    /// The Trial with the status that is known of it.
    known: Option<Arc<Trial>>,
}

impl Untold {
    /// Puts off the telling of a Trial's start: for how long, or None where it is to be told now, or was. Of the starts of a Study
    /// `at_once` are told at once, and of those that follow one each second.
    pub fn put_off(&self, trial: &Trial, memory: &Memory, at_once: u32) -> Option<Duration> {
        let mut starts = self.starts();
        let uid = trial.uid().unwrap_or_default();
        if let Some(start) = starts.get(&uid) {
            return Some(UNTOLD.saturating_sub(start.seen.elapsed())).filter(|wait| !wait.is_zero());
        }
        if !is_news(trial) || memory.takes_start(at_once) {
            return None;
        }
        starts.retain(|_, start| start.seen.elapsed() < FORGOTTEN);
        starts.insert(uid, Start { seen: Instant::now(), recorded: trial.status.clone(), known: None });
        Some(UNTOLD)
    }

    /// Keeps what is known of a Trial and not written.
    pub fn keep(&self, trial: &Trial, status: TrialStatus) {
        if let Some(start) = self.starts().get_mut(&trial.uid().unwrap_or_default()) {
            start.recorded = trial.status.clone();
            let is_known = start.known.as_ref().is_some_and(|known| known.status.as_ref() == Some(&status));
            if !is_known {
                start.known = Some(Arc::new(Trial { status: Some(status), ..trial.clone() }));
            }
        }
    }

    /// Whether more is known of a Trial than is recorded.
    pub fn has(&self, trial: &Trial) -> bool {
        self.starts().contains_key(trial.metadata.uid.as_deref().unwrap_or_default())
    }

    /// The Trial with what is known of it.
    pub fn known(&self, trial: Arc<Trial>) -> Arc<Trial> {
        let is_candidate = trial.status.as_ref().is_some_and(|status| status.phase == Phase::Pending);
        if !is_candidate {
            return trial;
        }
        let mut starts = self.starts();
        let uid = trial.metadata.uid.as_deref().unwrap_or_default();
        let Some(start) = starts.get_mut(uid) else { return trial };
        match &start.known {
            Some(known) if known.metadata.resource_version == trial.metadata.resource_version => known.clone(),
            // Its spec has changed since.
            Some(known) if start.recorded == trial.status => {
                let known = Arc::new(Trial { status: known.status.clone(), ..Trial::clone(&trial) });
                start.known.insert(known).clone()
            }
            _ => trial,
        }
    }

    /// All of a Trial was told.
    pub fn told(&self, trial: &Trial) {
        self.starts().remove(trial.metadata.uid.as_deref().unwrap_or_default());
    }

    fn starts(&self) -> MutexGuard<'_, HashMap<String, Start>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nobody was told anything of the Trial yet but that its run is recorded: whoever was told that it waits is told that
/// it does not.
pub fn is_news(trial: &Trial) -> bool {
    let told = |status: &TrialStatus| (status.phase, status.disruptions, &status.message) != (Phase::Pending, 0, &None);
    !trial.status.as_ref().is_none_or(told)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn trial(index: u32, version: &str, state: &str, status: serde_json::Value) -> Arc<Trial> {
        let spec = json!({"study": "digits", "index": index, "assignments": {}, "desiredState": state,
                          "sampler": {"name": "random", "version": 1}});
        let mut trial = Trial::new(&format!("digits-{index:04}"), serde_json::from_value(spec).unwrap());
        trial.metadata.uid = Some(index.to_string());
        trial.metadata.resource_version = Some(version.to_owned());
        trial.status = Some(serde_json::from_value(status).unwrap());
        Arc::new(trial)
    }

    fn pending(index: u32) -> Arc<Trial> {
        trial(index, "1", "Running", json!({"phase": "Pending"}))
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_starts_the_first_are_told_at_once_then_one_each_second_and_none_later_than_after_ten() {
        let (memory, untold) = (Memory::default(), Untold::default());
        let waits = |index: u32| untold.put_off(&pending(index), &memory, 10);
        assert!((0..10).all(|index| waits(index).is_none()));
        assert_eq!(waits(10), Some(UNTOLD));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((waits(11), waits(12)), (None, Some(UNTOLD)));
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(waits(10), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(waits(10), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_is_told_at_once_where_something_was_told_before() {
        let (memory, untold) = (Memory::default(), Untold::default());
        assert!(untold.put_off(&pending(1), &memory, 0).is_some());
        let waited = json!({"phase": "Pending", "message": "Unschedulable: 0/4 nodes have a free nvidia.com/gpu"});
        for status in [json!({"phase": "Running"}), json!({"phase": "Pending", "disruptions": 1}), waited] {
            assert_eq!(untold.put_off(&trial(2, "1", "Running", status), &memory, 0), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_of_a_start_outlives_a_change_of_its_spec_and_yields_to_what_is_recorded() {
        let (memory, untold) = (Memory::default(), Untold::default());
        let recorded = pending(1);
        untold.put_off(&recorded, &memory, 0).unwrap();
        assert!(Arc::ptr_eq(&untold.known(recorded.clone()), &recorded), "nothing is known yet");
        let running: TrialStatus = serde_json::from_value(json!({"phase": "Running"})).unwrap();
        untold.keep(&recorded, running.clone());
        let known = untold.known(recorded.clone());
        assert_eq!(known.status, Some(running.clone()));
        assert!(
            Arc::ptr_eq(&untold.known(recorded.clone()), &known),
            "it is the same object as long as nothing changes"
        );
        let stopped = untold.known(trial(1, "2", "Stopped", json!({"phase": "Pending"})));
        assert_eq!((&stopped.status, stopped.metadata.resource_version.as_deref()), (&Some(running), Some("2")));
        let other = trial(1, "3", "Running", json!({"phase": "Pending", "message": "waits"}));
        assert!(Arc::ptr_eq(&untold.known(other.clone()), &other), "somebody else has written");
        untold.told(&recorded);
        assert!(Arc::ptr_eq(&untold.known(recorded.clone()), &recorded));
    }
}
