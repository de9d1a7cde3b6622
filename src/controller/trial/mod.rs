//! The Trial controller: keeps a Trial's Job, and writes the Trial's status.
//!
//! observe -> [`decide`] -> strays -> (a start that nobody is told yet) | status -> apply.

mod apply;
pub mod decide;
mod observe;
pub mod places;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use super::context::Context;
use super::error::Error;
use super::look::is_finished;
use super::objects::{is_owned_by, write_status};
use super::untold::is_news;
use crate::api::{DesiredState, Study, Trial};
use crate::validate::{ValidStudy, validate, validate_immutable};
use apply::{announce, apply, delete_strays, is_current};
pub use apply::{delete, post_job};
use decide::{Action, Decision};
use observe::observe;

/// One pass over a Trial, unless it was told to stop: those have a queue of their own.
pub async fn reconcile_unless_stopped(trial: Arc<Trial>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    if trial.spec.desired_state == DesiredState::Stopped && !is_finished(&trial) {
        context.queues.stop(&trial.name_any(), &trial.namespace().unwrap_or_default());
        return Ok(None);
    }
    reconcile(trial, context).await
}

/// One pass over a Trial, while nobody else acts on it.
pub async fn reconcile(trial: Arc<Trial>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let Some((_turn, trial)) = context.turn(&trial).await else { return Ok(None) };
    pass(&trial, false, &context).await
}

/// One pass over a Trial; with `asking`, its Job is asked for even where nobody has seen one.
async fn pass(trial: &Arc<Trial>, asking: bool, context: &Context) -> Result<Option<Duration>, Error> {
    if trial.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let Some(Parent { study, valid, is_accepted }) = parent(trial, context) else {
        // Its Study is unknown, or going: whatever changes that brings the Trial back here.
        return Ok(Some(Duration::from_secs(60)));
    };
    let known = context.untold.known(trial.clone());
    let mut scene = observe(&known, &study, &valid, asking, context).await?;
    let mut decision = decide::decide(&scene.seen(&known, &valid));
    if decision.status.phase.is_finished() && scene.is_open(&known) {
        // It ends before its Job: the evidence goes with the Job.
        scene.close(&study, &valid, context).await;
        decision = decide::decide(&scene.seen(&known, &valid));
    }
    if decision.action == Action::Create && !is_accepted {
        // Nothing starts before somebody has mended the spec, which brings the Trial back here.
        return Ok(Some(Duration::from_secs(60)));
    }
    delete_strays(trial, &decision.status, &scene, context).await?;
    if let Some(wait) = scene.put_off.filter(|_| is_news(trial) && is_start(&decision)) {
        context.untold.keep(trial, decision.status);
        return Ok(Some(decision.look_again.map_or(wait, |look_again| look_again.min(wait))));
    }
    let written = write_status(&**trial, trial.status.as_ref(), &decision.status, context).await?;
    context.untold.told(trial);
    announce(trial, &study, &decision, context).await;
    // Without a write nobody has said yet that what was seen of the Trial still holds.
    if !written && matches!(decision.action, Action::Delete { .. }) && !is_current(trial, context).await? {
        return Ok(Some(STALE));
    }
    let put_off = match &decision.action {
        Action::Expire { uid, .. } => context.memory(&study).put_off_mark(uid),
        _ => None,
    };
    if put_off.is_none() {
        apply(trial, &decision, asking, context).await?;
    }
    if decision.status.phase.is_finished() {
        context.followers.forget(scene.pods.iter().filter_map(|pod| pod.uid()));
    }
    Ok(put_off.or(decision.look_again))
}

/// Whether all that a decision tells is that the Trial's first run has started.
fn is_start(decision: &Decision) -> bool {
    let status = &decision.status;
    !status.phase.is_finished() && (status.disruptions, &status.message, &decision.action) == (0, &None, &Action::None)
}

/// How long to wait for the watch to bring what somebody else has written; it asks for the next pass itself.
const STALE: Duration = Duration::from_secs(5);

/// The Trial's Study, and what its spec means.
struct Parent {
    study: Arc<Study>,
    valid: Arc<ValidStudy>,
    /// Otherwise what runs is seen to its end, or stopped, and nothing starts.
    is_accepted: bool,
}

/// The Trial's Study. None while it cannot be acted on.
fn parent(trial: &Trial, context: &Context) -> Option<Parent> {
    let namespace = trial.namespace()?;
    let study = context.index.studies.get(&namespace, &trial.spec.study)?;
    if !is_owned_by(trial, &*study) || study.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let valid = match context.memory(&study).verdict(&study) {
        Some(verdict) => verdict.ok(),
        // The Study controller asks the API server as well; what runs already needs only this.
        None => validate(&study.name_any(), &study.spec).ok().map(Arc::new),
    };
    let is_accepted = valid.is_some();
    let valid = valid.or_else(|| validate_immutable(&study.name_any(), &study.spec).map(Arc::new))?;
    Some(Parent { study, valid, is_accepted })
}
