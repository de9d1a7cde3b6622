//! The Study's history: from the caches, or live.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::ListParams;

use super::super::context::Context;
use super::super::error::{Error, call, found};
use super::super::objects::is_owned_by;
use super::super::trial::decide::is_unfinished;
use crate::api::{LABEL_STUDY, LABEL_TRIAL, Study, Trial, core_trial};
use crate::core;
use crate::validate::ValidStudy;

/// What was seen.
pub struct View {
    pub trials: Vec<Arc<Trial>>,
    pub history: Vec<core::Trial>,
    /// How many Jobs are not gone yet though their Trials are.
    pub orphans: u32,
}

/// As last seen by the watches.
pub fn cached(study: &Study, valid: &ValidStudy, context: &Context) -> View {
    let (namespace, name) = (study.namespace(), study.name_any());
    let jobs = context
        .stores
        .jobs
        .state_filter(|job| job.namespace() == namespace && job.labels().get(LABEL_STUDY) == Some(&name));
    let occupied = occupied(jobs.iter().map(|job| &**job));
    view(context.trials_of(study), &occupied, valid, context)
}

/// As the API server holds it now.
///
/// # Errors
/// The API server's.
pub async fn live(study: &Study, valid: &ValidStudy, context: &Context) -> Result<View, Error> {
    let namespace = study.namespace().unwrap_or_default();
    let of_study = ListParams::default().labels(&format!("{LABEL_STUDY}={}", study.name_any()));
    let (trials, jobs) = (context.api::<Trial>(&namespace), context.api::<Job>(&namespace));
    let (trials, jobs) = tokio::try_join!(call(trials.list(&of_study)), call(jobs.list(&of_study)))?;
    let mut trials: Vec<_> = trials.items.into_iter().filter(|trial| is_owned_by(trial, study)).map(Arc::new).collect();
    // One that the watch knows and the list does not has lost its label, or was deleted a moment ago.
    let listed: BTreeSet<_> = trials.iter().map(|trial| trial.uid()).collect();
    for known in context.trials_of(study).into_iter().filter(|trial| !listed.contains(&trial.uid())) {
        let there = found(call(context.api::<Trial>(&namespace).get(&known.name_any())).await)?;
        trials.extend(there.filter(|trial| trial.uid() == known.uid()).map(Arc::new));
    }
    Ok(view(trials, &occupied(jobs.items.iter()), valid, context))
}

/// The names of Trials whose Job has not ended, or whose pods are not gone yet.
fn occupied<'a>(jobs: impl Iterator<Item = &'a Job>) -> BTreeSet<String> {
    jobs.filter(|job| is_unfinished(job)).filter_map(|job| job.labels().get(LABEL_TRIAL).cloned()).collect()
}

fn view(trials: Vec<Arc<Trial>>, occupied: &BTreeSet<String>, valid: &ValidStudy, context: &Context) -> View {
    let history = trials
        .iter()
        .map(|trial| {
            let pod = trial.status.as_ref().and_then(|status| status.run.as_ref()?.pod_uid.clone());
            let live = pod.and_then(|uid| context.followers.series(&uid));
            // After a restart the log is read again from its start: until then the status knows more.
            let recorded =
                trial.status.as_ref().and_then(|status| status.observations.first()).map_or(0, |series| series.count);
            let live = live.filter(|series| series.count() >= recorded);
            core_trial(&valid.core, trial, live, occupied.contains(&trial.name_any()))
        })
        .collect();
    let is_known = |name: &String| trials.iter().any(|trial| trial.name_any() == *name);
    let orphans = occupied.iter().filter(|name| !is_known(name)).count() as u32;
    View { trials, history, orphans }
}
