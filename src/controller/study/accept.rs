//! Whether a Study's spec can be acted on: our own rules, and the API server's on the Job.

use std::sync::Arc;

use kube::ResourceExt;

use super::super::context::Context;
use super::super::error::Error;
use super::super::events::{Note, publish};
use super::super::memory::Verdict;
use super::super::trial::post_job;
use crate::api::{Study, trial_name};
use crate::core::Domain;
use crate::job::{self, JobIdentity};
use crate::validate::{Problem, ValidStudy, validate};

/// What became of a spec.
pub enum Accepted {
    Valid(Arc<ValidStudy>),
    Invalid(Arc<Vec<Problem>>),
}

/// Checks a generation of the spec once.
///
/// # Errors
/// The API server's, but for refusals of the Job.
pub async fn accept(study: &Study, context: &Context) -> Result<Accepted, Error> {
    if let Some(verdict) = context.memory(study).verdict(study) {
        return Ok(accepted(verdict));
    }
    let verdict = match validate(&study.name_any(), &study.spec) {
        Err(problems) => Err(Arc::new(problems)),
        Ok(valid) if was_accepted(study) => Ok(Arc::new(valid)),
        Ok(valid) => match dry_run(study, &valid, context).await {
            Ok(()) => Ok(Arc::new(valid)),
            // What runs goes on: it is asked again in the next pass.
            Err(error) if !matches!(error.code(), Some(400 | 403 | 422)) && has_begun(study) => {
                tracing::debug!(study = study.name_any(), %error, "the Job could not be tried");
                return Ok(Accepted::Valid(Arc::new(valid)));
            }
            Err(error) => match error.code() {
                // Invalid, or unknown fields: only an edit helps.
                Some(422 | 400) => Err(Arc::new(refusal(&error))),
                // A quota or a policy may let it pass later: the Trial that waits for its Job tells.
                Some(403) => Ok(Arc::new(valid)),
                _ => return Err(error),
            },
        },
    };
    context.memory(study).keep_verdict(study, &verdict);
    for warning in verdict.iter().flat_map(|valid| &valid.warnings) {
        tracing::warn!(namespace = study.namespace(), study = study.name_any(), reason = "SpecWarning", "{warning}");
    }
    if let Err(problems) = &verdict {
        let message = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
        publish(
            context,
            study,
            Note { warning: true, reason: "InvalidSpec", action: "Validate", message, trial: None },
        )
        .await;
    }
    Ok(accepted(verdict))
}

/// Whether an earlier process has accepted this generation: what has changed in the cluster since does not
/// make the spec of a running, or finished, Study invalid.
fn was_accepted(study: &Study) -> bool {
    let conditions = study.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.any(|ready| ready.observed_generation == study.metadata.generation && ready.reason != "InvalidSpec")
}

/// Whether Trials of it were created: it was valid once.
fn has_begun(study: &Study) -> bool {
    study.status.as_ref().is_some_and(|status| status.last_index.is_some())
}

fn accepted(verdict: Verdict) -> Accepted {
    match verdict {
        Ok(valid) => Accepted::Valid(valid),
        Err(problems) => Accepted::Invalid(problems),
    }
}

/// Asks the API server about the Job of some configuration; nothing is created. It has answered an equal question already
/// where an edit changes nothing of the Job, such as one of `parallelism`.
async fn dry_run(study: &Study, valid: &ValidStudy, context: &Context) -> Result<(), Error> {
    let namespace = study.namespace().unwrap_or_default();
    let name = study.name_any();
    let assignments = valid.core.space.assemble(|_, domain: &Domain| domain.at_unit(0.5));
    let trial = trial_name(&name, 0);
    let environment = job::environment(&valid.core.space, &name, &trial, 0, &assignments);
    let identity =
        JobIdentity { name: String::new(), namespace: namespace.clone(), study: name, trial, trial_uid: String::new() };
    let job = job::dry_run_job(&valid.template, &identity, &environment, &context.settings.sidecar);
    let memory = context.memory(study);
    if !memory.has_tried(&job) {
        post_job(&namespace, &job, true, context).await?;
        memory.tried(&job);
    }
    Ok(())
}

/// The API server's words, with the fields as the user knows them.
fn refusal(error: &Error) -> Vec<Problem> {
    let status = error.status();
    let causes =
        status.and_then(|status| status.details.as_ref()).map(|details| details.causes.as_slice()).unwrap_or_default();
    if causes.is_empty() {
        let message = status.map(|status| status.message.clone()).unwrap_or_default();
        return vec![Problem { path: "spec.jobTemplate".to_owned(), message }];
    }
    let problem =
        |field: &str, message: &str| Problem { path: format!("spec.jobTemplate.{field}"), message: message.to_owned() };
    causes.iter().map(|cause| problem(&cause.field, &cause.message)).collect()
}
