//! What a pass over a Study sees: its history, and what holds a place beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::super::context::Context;
use super::super::error::Error;
use super::super::memory::Memory;
use super::super::objects::ask;
use super::super::trial::decide::is_unfinished;
use super::history::History;
use crate::api::{BestTrial, LABEL_TRIAL, Study, Trial};
use crate::core;
use crate::validate::ValidStudy;

/// What was seen.
pub struct Observed {
    pub history: Arc<Vec<core::Trial>>,
    /// How many Jobs are not gone yet though their Trials are.
    pub orphans: u32,
}

/// As last seen by the watches.
pub fn cached(study: &Study, valid: &ValidStudy, history: &mut History, context: &Context) -> Observed {
    at_look(study, valid, holders(study, context), history, context)
}

/// The Trials whose Job has not ended, or whose pods have not, as last seen by the watches.
pub fn holders(study: &Study, context: &Context) -> BTreeSet<String> {
    let namespace = study.namespace().unwrap_or_default();
    let holder = |job: &Job| is_unfinished(job).then(|| job.labels().get(LABEL_TRIAL).cloned()).flatten();
    context.index.jobs.labelled_by(&namespace, &study.name_any(), holder).into_iter().collect()
}

/// As it was at a look, which has seen the Trials in `occupied` hold a place.
pub fn at_look(
    study: &Study,
    valid: &ValidStudy,
    mut occupied: BTreeSet<String>,
    history: &mut History,
    context: &Context,
) -> Observed {
    let by_pods = pods_without_job(study, |trial| occupied.contains(trial), context);
    occupied.extend(by_pods);
    let trials = context.index.trials.owned_by(study).into_iter();
    let trials = trials.map(|trial| context.untold.known(trial)).collect();
    history.mend(&valid.core, trials, &occupied, &context.followers);
    let orphans = occupied.iter().filter(|name| !history.has(name)).count() as u32;
    Observed { history: history.trials(), orphans }
}

/// The Trials that hold a place only by pods that have not ended though their Job is gone, which the garbage collector removes
/// before them. `holds` says which are known to hold one.
pub fn pods_without_job(study: &Study, holds: impl Fn(&str) -> bool, context: &Context) -> Vec<String> {
    let namespace = study.namespace().unwrap_or_default();
    let has_job = |pod: &Pod| {
        pod.metadata.owner_references.iter().flatten().any(|owner| {
            let job = context.index.jobs.get(&namespace, &owner.name);
            job.is_some_and(|job| job.metadata.uid.as_ref() == Some(&owner.uid))
        })
    };
    let has_ended = |pod: &Pod| {
        matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
    };
    context.index.pods.labelled_by(&namespace, &study.name_any(), |pod: &Pod| {
        let trial = pod.metadata.labels.as_ref()?.get(LABEL_TRIAL)?;
        (!has_ended(pod) && !holds(trial) && !has_job(pod)).then(|| trial.clone())
    })
}

/// Asks for the Trial that was told to be the best, and that the history does not have as one that has succeeded: what the
/// status says is taken back only where the API server says so.
///
/// # Errors
/// The API server's.
pub async fn ask_for_best(study: &Study, best: &BestTrial, context: &Context) -> Result<(), Error> {
    ask::<Trial>(&study.namespace().unwrap_or_default(), &best.trial, context).await?;
    Ok(())
}

/// The last completion that was seen: the next comes after it.
pub fn note_completions(view: &Observed, memory: &Memory) {
    memory.completed(view.history.iter().filter_map(|trial| trial.completed).max());
}
