//! Finished Jobs are kept up to a limit, as a CronJob keeps them; the TTL is the other one.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::PropagationPolicy;

use super::super::context::Context;
use super::super::error::Error;
use super::super::trial::delete;
use super::super::workload::job::ended_at;
use crate::api::{LABEL_RECORDED, LABEL_TRIAL, Study, StudyStatus};

/// How many are kept where `finishedJobsHistoryLimit` is left out.
const DEFAULT_LIMIT: u32 = 100;

/// So many are removed at once.
const AT_ONCE: usize = 8;

/// Removes the oldest finished Jobs beyond `finishedJobsHistoryLimit`: as many failed ones are kept as others. Only those go
/// whose result is recorded, and the best Trial's stays while its Study runs. `busy` says that Trials are to be started:
/// then so many as run at once are left for a quieter pass, or for a later one. Returns how long they may stay, where any were left.
///
/// # Errors
/// The API server's.
pub async fn remove_old(
    study: &Study,
    status: &StudyStatus,
    busy: bool,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    let namespace = study.namespace().unwrap_or_default();
    let jobs = context.index.jobs.labelled(&namespace, &study.name_any());
    let kept = status.best.as_ref().filter(|_| status.ended.is_none()).map(|best| best.trial.as_str());
    let limit = study.spec.finished_jobs_history_limit.unwrap_or(DEFAULT_LIMIT);
    let memory = context.memory(study);
    let is_recorded = |job: &Job| {
        let unmarked = |uid: &String| memory.is_unmarked(uid);
        job.labels().contains_key(LABEL_RECORDED) || job.metadata.uid.as_ref().is_some_and(unmarked)
    };
    let Finished { excess, are_all_there } = finished(&jobs, limit as usize, kept, is_recorded);
    memory.has_all_jobs(are_all_there);
    let may_be_left = busy && !excess.is_empty() && excess.len() <= study.spec.parallelism as usize;
    if let Some(wait) = memory.leave_old_jobs(may_be_left) {
        return Ok(Some(wait));
    }
    let mut removals = Vec::new();
    for job in excess {
        let (namespace, name, uid) = (&namespace, job.name_any(), job.uid().unwrap_or_default());
        removals.push(async move {
            // As a CronJob's: its pods have ended and hold no place, and the garbage collector has less to do than where they
            // go first.
            delete(namespace, &name, &uid, PropagationPolicy::Background, context).await?;
            context.index.jobs.gone(namespace, &name, &uid);
            Ok(())
        });
    }
    // Each is carried out, whatever became of the others.
    let removed: Vec<Result<(), Error>> = stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
    removed.into_iter().collect::<Result<(), Error>>()?;
    Ok(None)
}

/// Has the Trial that was the best of a running Study until now reconciled: its Job gets its TTL.
pub fn release_best(study: &Study, old: &StudyStatus, new: &StudyStatus, context: &Context) {
    let kept =
        |status: &StudyStatus| status.best.as_ref().filter(|_| status.ended.is_none()).map(|best| best.trial.clone());
    if let Some(trial) = kept(old).filter(|trial| Some(trial) != kept(new).as_ref()) {
        context.queues.trial(&trial, &study.namespace().unwrap_or_default());
    }
}

/// The finished Jobs whose result is recorded.
struct Finished<'a> {
    /// Those that are too many, of the failed ones and of the others.
    excess: Vec<&'a Job>,
    /// Whether the next one that ends makes another too many, unless it fails.
    are_all_there: bool,
}

/// `kept` is the Trial whose Job stays.
fn finished<'a>(
    jobs: &'a [Arc<Job>],
    limit: usize,
    kept: Option<&str>,
    is_recorded: impl Fn(&Job) -> bool,
) -> Finished<'a> {
    let may_go = |job: &Job| {
        job.metadata.deletion_timestamp.is_none()
            && job.labels().get(LABEL_TRIAL).map(String::as_str) != kept
            && is_recorded(job)
    };
    let ended = jobs.iter().filter_map(|job| Some((ended_at(job)?, &**job))).filter(|(_, job)| may_go(job));
    let mut ended: Vec<_> = ended.collect();
    ended.sort_by(|(end, job), (other_end, other)| (end, &job.metadata.name).cmp(&(other_end, &other.metadata.name)));
    let (failed, succeeded): (Vec<_>, Vec<_>) = ended.into_iter().partition(|((has_failed, _), _)| *has_failed);
    let are_all_there = succeeded.len() >= limit;
    let excess = [succeeded, failed].into_iter().flat_map(|ended| {
        let too_many = ended.len().saturating_sub(limit);
        ended.into_iter().take(too_many).map(|(_, job)| job)
    });
    Finished { excess: excess.collect(), are_all_there }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Job that ended at this second of a minute.
    fn job(trial: &str, end: &str, second: u32, recorded: bool) -> Arc<Job> {
        let mut labels = json!({LABEL_TRIAL: trial});
        if recorded {
            labels[LABEL_RECORDED] = json!("true");
        }
        let at = format!("2026-03-01T12:00:{second:02}Z");
        let status = json!({"conditions": [{"type": end, "status": "True", "lastTransitionTime": at}]});
        let metadata = json!({"name": trial, "uid": trial, "labels": labels});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap())
    }

    fn names(jobs: &[Arc<Job>], limit: usize, kept: Option<&str>) -> Vec<String> {
        let is_recorded = |job: &Job| job.labels().contains_key(LABEL_RECORDED);
        finished(jobs, limit, kept, is_recorded).excess.iter().map(|job| job.name_any()).collect()
    }

    #[test]
    fn the_oldest_go_and_as_many_failed_ones_are_kept_as_others() {
        let jobs = [
            job("c", "Complete", 3, true),
            job("a", "Complete", 1, true),
            job("b", "Complete", 2, true),
            job("f", "Failed", 1, true),
            job("g", "Failed", 4, true),
        ];
        assert_eq!(names(&jobs, 2, None), ["a"]);
        assert_eq!(names(&jobs, 1, None), ["a", "b", "f"]);
        assert_eq!(names(&jobs, 0, None).len(), 5);
        assert_eq!(names(&jobs, 0, Some("b")), ["a", "c", "f", "g"], "the best one's stays");
    }

    #[test]
    fn a_job_whose_result_is_not_recorded_or_that_runs_or_goes_is_left() {
        let mut runs = Job::clone(&job("runs", "Complete", 1, true));
        runs.status = None;
        let mut goes = Job::clone(&job("goes", "Complete", 1, true));
        goes.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        let jobs = [job("unrecorded", "Complete", 1, false), Arc::new(runs), Arc::new(goes)];
        assert!(names(&jobs, 0, None).is_empty());
    }
}
