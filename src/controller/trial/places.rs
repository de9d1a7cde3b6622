//! Gives the places of a Study to those of its Trials that wait for their Job, by index: two leaders choose the same ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::super::context::Context;
use super::super::error::Error;
use super::super::look::{Look, is_finished};
use super::super::objects::write_status;
use super::super::study::observe::{holders, pods_without_job};
use super::decide;
use super::{Parent, parent, post_job};
use crate::api::{DesiredState, Study, Trial};
use crate::core::life::Wait;
use crate::job::{self, JobIdentity};
use crate::validate::ValidStudy;

/// A Trial without a place asks again after this; a pass over its Study wakes it once there is one.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Creates the Job of a Trial's recorded run, once there is a place for it.
pub async fn reconcile(trial: Arc<Trial>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    if !waits(&trial, &context) {
        return Ok(None);
    }
    let Some(Parent { study, valid, is_accepted: true }) = parent(&trial, &context) else {
        // Whatever changes that brings the Trial back here.
        return Ok(None);
    };
    let place = place(&trial, &study, &context).await?;
    // It may have another run by now.
    let Some((_turn, trial)) = context.turn(&trial).await.filter(|(_, live)| waits(live, &context)) else {
        return Ok(None);
    };
    match place {
        Place::Given => create(&trial, &valid, &context).await,
        Place::Later(wait) => Ok(Some(wait)),
        Place::Taken(why, message) => {
            let Some(status) = &trial.status else { return Ok(None) };
            let now = (context.settings.clock)();
            let held = decide::held_back(&valid.core, status, why, &message, trial.metadata.generation, now);
            write_status(&*trial, trial.status.as_ref(), &held, &context).await?;
            Ok(Some(ASK_AGAIN))
        }
    }
}

/// Has those Trials of a Study ask for a place that may get one, as far as the watches have seen. Returns whether any does.
pub fn wake(study: &Study, context: &Context) -> bool {
    let namespace = study.namespace().unwrap_or_default();
    let unfinished = context.index.trials.unfinished_of(study);
    if !unfinished.iter().any(|trial| waits(trial, context)) {
        return false;
    }
    let holders = Holders { look: None, others: holders(study, context) };
    let (mut earlier, mut any) = (0, false);
    for trial in &unfinished {
        if is_place_free(trial, study, &holders, earlier) && waits(trial, context) {
            context.queues.start(&trial.name_any(), &namespace);
            any = true;
        }
        earlier += usize::from(is_to_start(trial, &holders));
    }
    any
}

/// Whether a run of the Trial is recorded whose Job is not known to be there.
fn waits(trial: &Arc<Trial>, context: &Context) -> bool {
    let run_without_job = |trial: &Trial| {
        trial.status.as_ref()?.run.as_ref().filter(|run| run.job_uid.is_none()).map(|run| run.job.clone())
    };
    if run_without_job(trial).is_none() {
        return false;
    }
    let trial = &context.untold.known(trial.clone());
    let has_job = |name: &str| {
        let job: Option<Arc<Job>> = context.index.jobs.get(&trial.namespace().unwrap_or_default(), name);
        job.is_some()
    };
    trial.metadata.deletion_timestamp.is_none()
        && !is_finished(trial)
        && trial.spec.desired_state == DesiredState::Running
        && run_without_job(trial).is_some_and(|job| !has_job(&job))
}

/// What became of the wish for a place.
enum Place {
    Given,
    /// Nobody knows before the next look.
    Later(Duration),
    /// There is none: why, and a message.
    Taken(Wait, String),
}

/// Asks for a place. One look serves all that ask within its time; only a new look finds a place that has become free.
async fn place(trial: &Trial, study: &Study, context: &Context) -> Result<Place, Error> {
    let memory = context.memory(study);
    let mut looks = memory.looks.lock().await;
    if let Some(look) = looks.valid()
        && taken(trial, study, look, context).is_none()
    {
        look.give(&trial.name_any());
        return Ok(Place::Given);
    }
    if let Some(wait) = looks.wait() {
        return Ok(Place::Later(wait));
    }
    let look = looks.look(study, context).await?;
    Ok(match taken(trial, study, look, context) {
        None => {
            look.give(&trial.name_any());
            Place::Given
        }
        Some((why, message)) => Place::Taken(why, message),
    })
}

/// As [`no_place`], with the Study and the Trials as they are now: the look may be seconds old.
fn taken(trial: &Trial, study: &Study, look: &Look, context: &Context) -> Option<(Wait, String)> {
    let now = context.index.studies.now(study);
    let study = now.as_deref().unwrap_or(study);
    let pods = pods_without_job(study, |trial| look.holds(trial), context);
    no_place(trial, study, look, pods, &context.index.trials.unfinished_of(study))
}

/// Why there is no place for `trial`, if there is none: the reason and a message. A place is held by every other Trial with an
/// unfinished Job, by those of `pods` that have outlived theirs, none of which is in the look, and by every unfinished Trial of a
/// lower index that is still to get one.
fn no_place(
    trial: &Trial,
    study: &Study,
    look: &Look,
    pods: Vec<String>,
    unfinished: &[Arc<Trial>],
) -> Option<(Wait, String)> {
    if study.metadata.deletion_timestamp.is_some() {
        return Some((Wait::StudyDeleted, "its Study is being deleted".to_owned()));
    }
    if study.spec.suspend == Some(true) {
        return Some((Wait::Suspended, "its Study is suspended".to_owned()));
    }
    let name = trial.name_any();
    let recorded = trial.status.as_ref().and_then(|status| status.run.as_ref()).map(|run| run.job.as_str());
    if let Some(earlier) = look.jobs_of(&name).find(|job| Some(*job) != recorded) {
        return Some((Wait::EarlierRun, format!("its Job {earlier} is not gone yet")));
    }
    let holders = Holders { look: Some(look), others: pods.into_iter().collect() };
    let limit = study.spec.parallelism;
    let earlier = unfinished.iter().filter(|other| other.spec.index < trial.spec.index);
    let earlier = earlier.filter(|other| is_to_start(other, &holders)).count();
    (!is_place_free(trial, study, &holders, earlier))
        .then(|| (Wait::ParallelismReached, format!("as many Trials run as parallelism {limit} allows")))
}

/// The Trials that hold a place: those of a look, and others.
struct Holders<'a> {
    look: Option<&'a Look>,
    others: BTreeSet<String>,
}

impl Holders<'_> {
    fn len(&self) -> usize {
        self.look.map_or(0, Look::len) + self.others.len()
    }

    fn has(&self, trial: &Trial) -> bool {
        let name = trial.metadata.name.as_deref().unwrap_or_default();
        self.look.is_some_and(|look| look.holds(name)) || self.others.contains(name)
    }
}

/// Whether fewer than `parallelism` others come before `trial`: the `holders` of Jobs, and those of a lower index that are still
/// to start.
fn is_place_free(trial: &Trial, study: &Study, holders: &Holders, earlier: usize) -> bool {
    holders.len() - usize::from(holders.has(trial)) + earlier < study.spec.parallelism as usize
}

/// Whether a Trial that has not ended holds no place yet, and is not told to stop.
fn is_to_start(trial: &Trial, holders: &Holders) -> bool {
    trial.spec.desired_state == DesiredState::Running && !holders.has(trial)
}

/// Creates the Job of the recorded run.
async fn create(trial: &Arc<Trial>, valid: &ValidStudy, context: &Context) -> Result<Option<Duration>, Error> {
    let Some((status, run)) = trial.status.as_ref().and_then(|status| Some((status, status.run.as_ref()?))) else {
        return Ok(None);
    };
    let namespace = trial.namespace().unwrap_or_default();
    let identity = JobIdentity {
        name: run.job.clone(),
        namespace: namespace.clone(),
        study: trial.spec.study.clone(),
        trial: trial.name_any(),
        trial_uid: trial.uid().unwrap_or_default(),
    };
    let environment = job::environment(
        &valid.core.space,
        &trial.spec.study,
        &trial.name_any(),
        trial.spec.index,
        &trial.spec.assignments,
    );
    let job = job::job(&valid.template, &identity, &environment, &context.settings.sidecar);
    match post_job(&namespace, &job, false, context).await {
        Ok(job) => {
            context.index.jobs.composed(job);
            context.queues.trial(&trial.name_any(), &namespace);
            Ok(None)
        }
        // That it is there already is as good, if it is this Trial's.
        Err(error) if error.code() == Some(409) => super::pass(trial, true, context).await,
        Err(error) if matches!(error.code(), Some(400 | 403 | 422)) => {
            // A quota or an admission policy: a person must see it.
            let now = (context.settings.clock)();
            let status = decide::refused(&valid.core, status, &error.to_string(), trial.metadata.generation, now);
            write_status(&**trial, trial.status.as_ref(), &status, context).await?;
            Err(match error {
                Error::Api(error) => Error::JobRefused(error),
                error => error,
            })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn study(parallelism: u32) -> Study {
        let spec = json!({
            "objectives": [{"metric": "score", "direction": "Maximize"}],
            "parameters": [{"name": "x", "double": {"min": 0, "max": 1}}],
            "maxTrials": 10, "parallelism": parallelism,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "trainer", "image": "x"}]}}}},
        });
        Study::new("digits", serde_json::from_value(spec).unwrap())
    }

    fn name(index: u32) -> String {
        format!("digits-{index:04}")
    }

    fn trial(index: u32, state: &str) -> Arc<Trial> {
        let spec = json!({"study": "digits", "index": index, "assignments": {}, "desiredState": state,
                          "sampler": {"name": "random", "version": 1}});
        let mut trial = Trial::new(&name(index), serde_json::from_value(spec).unwrap());
        let run = json!({"phase": "Pending", "run": {"number": 1, "job": name(index), "attempts": 0}});
        trial.status = Some(serde_json::from_value(run).unwrap());
        Arc::new(trial)
    }

    /// Whether there is a place for Trial 3, beside unfinished Trials of these indices and the Jobs of these.
    fn reason(study: &Study, unfinished: &[u32], jobs: &[u32]) -> Option<Wait> {
        let names: Vec<String> = jobs.iter().map(|index| name(*index)).collect();
        let jobs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        let unfinished: Vec<_> = unfinished.iter().map(|index| trial(*index, "Running")).collect();
        no_place(&trial(3, "Running"), study, &Look::of(&jobs), Vec::new(), &unfinished).map(|(why, _)| why)
    }

    #[test]
    fn a_trial_starts_while_fewer_than_parallelism_others_hold_a_place() {
        assert_eq!(reason(&study(2), &[3], &[]), None);
        assert_eq!(reason(&study(2), &[1, 3], &[1]), None);
        assert_eq!(reason(&study(2), &[3], &[1, 2]), Some(Wait::ParallelismReached), "their Trials may have finished");
        assert_eq!(reason(&study(2), &[3], &[1, 4]), Some(Wait::ParallelismReached));
        assert_eq!(reason(&study(0), &[3], &[]), Some(Wait::ParallelismReached));
    }

    #[test]
    fn one_of_a_lower_index_that_is_still_to_start_goes_first_and_one_of_a_higher_waits_itself() {
        assert_eq!(reason(&study(2), &[1, 2, 3], &[]), Some(Wait::ParallelismReached));
        assert_eq!(reason(&study(2), &[2, 3, 4], &[]), None);
        let (study, stopped) = (study(1), [trial(1, "Stopped")]);
        assert_eq!(no_place(&trial(3, "Running"), &study, &Look::of(&[]), Vec::new(), &stopped), None);
    }

    #[test]
    fn what_was_given_is_taken_until_the_next_look_and_pods_that_outlive_their_job_count() {
        let study = study(1);
        let mut look = Look::of(&[]);
        look.give(&name(5));
        let of = |look: &Look, pods: &[u32]| {
            let pods = pods.iter().map(|index| name(*index)).collect();
            no_place(&trial(3, "Running"), &study, look, pods, &[]).map(|(why, _)| why)
        };
        assert_eq!(of(&look, &[]), Some(Wait::ParallelismReached));
        assert_eq!(of(&Look::of(&[]), &[9]), Some(Wait::ParallelismReached));
        assert_eq!(of(&Look::of(&[]), &[]), None);
    }

    #[test]
    fn nothing_starts_in_a_study_that_is_suspended_or_going_or_beside_an_earlier_run() {
        let mut suspended = study(2);
        suspended.spec.suspend = Some(true);
        assert_eq!(reason(&suspended, &[], &[]), Some(Wait::Suspended));
        let mut going = study(2);
        going.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(reason(&going, &[], &[]), Some(Wait::StudyDeleted));
        let earlier = Look::of(&[(&name(3), "digits-0003-r1")]);
        let (reason, message) = no_place(&trial(3, "Running"), &study(2), &earlier, Vec::new(), &[]).unwrap();
        assert_eq!((reason, message.as_str()), (Wait::EarlierRun, "its Job digits-0003-r1 is not gone yet"));
    }
}
