//! What a pod tells of its Trial.
//!
//! Whose doing the end of a pod is, in the order in which it is asked. What is not the trainer's is followed by
//! another run, and costs the failure budget nothing.
//!
//! | the pod | whose doing |
//! |---|---|
//! | `Evicted`, having outgrown a limit of its own: its container's or pod's ephemeral storage, an `emptyDir`'s size | trainer |
//! | `DeadlineExceeded`: the template's `activeDeadlineSeconds` | trainer |
//! | a container was `OOMKilled` | trainer |
//! | its trainer had ended before the pod was disrupted or deleted: by exit code | trainer |
//! | `DisruptionTarget`: evicted (node pressure, API, taint), preempted, node shut down or gone, also where it exits with 0 | not the trainer |
//! | deleted while its trainer ran, also where it exits with 0 | not the trainer |
//! | `Evicted`, `Preempting`, `Terminated`, `Shutdown`, `NodeShutdown`, `NodeLost` without a `DisruptionTarget` | not the trainer |
//! | failed before its trainer started, by word of the node: `OutOfcpu`, `UnexpectedAdmissionError`, `NodeAffinity`, … | not the trainer |
//! | the node lost track of the trainer: `ContainerStatusUnknown` | not the trainer |
//! | anything else: by exit code | trainer |

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;

use crate::core::life::reason::{Reason, of_exit};
use crate::core::life::{Attempt, Cause, Fault, Wait};
use crate::job::SIDECAR_CONTAINER;
use crate::metrics::Summary;
use crate::shown::shown;

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq)]
pub enum PodState {
    /// The trainer does not run yet.
    Waiting {
        /// Why.
        why: Wait,
        /// For a person; it does not change without cause.
        message: String,
    },
    /// The trainer does not run, and will not before somebody acts.
    Trouble {
        /// One word.
        reason: &'static str,
        /// For a person; it does not change with each attempt.
        message: String,
    },
    /// The trainer runs since then.
    Running(Timestamp),
    /// The pod has ended.
    Ended,
}

/// Reasons of a waiting container that a person must see. The two words for an image that cannot be
/// pulled alternate, and are one here.
const TROUBLES: [(&str, &str); 14] = [
    ("ErrImagePull", "ImagePullBackOff"),
    ("ImagePullBackOff", "ImagePullBackOff"),
    ("InvalidImageName", "InvalidImageName"),
    ("ErrImageNeverPull", "ErrImageNeverPull"),
    ("CreateContainerConfigError", "CreateContainerConfigError"),
    ("CreateContainerError", "CreateContainerError"),
    ("RunContainerError", "RunContainerError"),
    ("CrashLoopBackOff", "CrashLoopBackOff"),
    ("RegistryUnavailable", "RegistryUnavailable"),
    ("ImageInspectError", "ImageInspectError"),
    ("SignatureValidationFailed", "SignatureValidationFailed"),
    ("PreCreateHookError", "PreCreateHookError"),
    ("PreStartHookError", "PreStartHookError"),
    ("PostStartHookError", "PostStartHookError"),
];

/// How the kubelet words the eviction of a pod that has outgrown a limit of its own.
const OUTGROWN: [(&str, &str); 3] = [
    ("Pod ephemeral local storage usage exceeds", "the total limit of containers"),
    ("Container ", "exceeded its local ephemeral storage limit"),
    ("Usage of EmptyDir volume ", "exceeds the limit"),
];

/// Reasons of a pod that its node, or the loss of its node, has ended. Most carry a `DisruptionTarget` as well.
const ENDED_BY_NODE: [&str; 6] = ["Evicted", "Preempting", "Terminated", "Shutdown", "NodeShutdown", "NodeLost"];

/// How far apart the clocks of a node and of the control plane may be.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Where the pod stands.
pub fn state(pod: &Pod, trainer: &str) -> PodState {
    let Some(status) = &pod.status else {
        return PodState::Waiting { why: Wait::Starting, message: "its pod is starting".to_owned() };
    };
    if has_ended(pod) {
        return PodState::Ended;
    }
    let unscheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = unscheduled {
        let message = normalised(condition.message.as_deref().unwrap_or("no node takes its pod"));
        return PodState::Waiting { why: Wait::Unschedulable, message };
    }
    // Before what others wait for: a sidecar that is started over and over does not stop the trainer.
    let running = containers(pod)
        .find(|container| container.name == trainer)
        .and_then(|container| container.state.as_ref()?.running.clone());
    if let Some(running) = running {
        return PodState::Running(running.started_at.map_or(Timestamp::UNIX_EPOCH, |time| time.0));
    }
    for container in containers(pod) {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
        if let Some((_, reason)) = TROUBLES.iter().find(|(seen, _)| *seen == reason) {
            return PodState::Trouble { reason, message: trouble(reason, container) };
        }
    }
    match containers(pod).any(|c| c.name == trainer && terminated(c).is_some()) {
        true => PodState::Ended,
        false => PodState::Waiting { why: Wait::Starting, message: "its pod is starting".to_owned() },
    }
}

/// Whether the pod has a node, and its trainer is about to start.
pub fn is_starting(pod: &Pod, trainer: &str) -> bool {
    matches!(state(pod, trainer), PodState::Waiting { why: Wait::Starting, .. })
}

/// Whether the pod's end is known, and with it how its containers ended.
pub fn has_ended(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
}

/// When the trainer that has ended had begun, by its node's clock, in whole seconds.
pub fn trainer_began(pod: &Pod, trainer: &str) -> Option<Timestamp> {
    let ended = containers(pod).find(|container| container.name == trainer).and_then(terminated)?;
    ended.started_at.as_ref().map(|time| time.0)
}

/// When the trainer ended, by its node's clock, in whole seconds.
pub fn trainer_end(pod: &Pod, trainer: &str) -> Option<Timestamp> {
    let ended = containers(pod).find(|container| container.name == trainer).and_then(terminated)?;
    ended.finished_at.as_ref().map(|time| time.0)
}

/// When the trainer ended with success.
pub fn success(pod: &Pod, trainer: &str) -> Option<Timestamp> {
    let ended = containers(pod).find(|container| container.name == trainer).and_then(terminated)?;
    (ended.exit_code == 0).then_some(ended.finished_at.as_ref()?.0)
}

/// How the trainer failed, for a person: exit code, signal, out of memory, a limit or deadline.
pub fn failure(pod: &Pod, trainer: &str) -> Option<Fault> {
    let status = pod.status.as_ref()?;
    let words = || shown(status.message.as_deref().unwrap_or_default().trim());
    if status.reason.as_deref() == Some("Evicted") {
        // Says what was outgrown; the exit code only says that it was killed.
        return Some(Fault::known(Reason::TrainerFailed, format!("pod Evicted: {}", words())));
    }
    if status.reason.as_deref() == Some("DeadlineExceeded") {
        return Some(Fault::known(Reason::DeadlineExceeded, format!("pod DeadlineExceeded: {}", words())));
    }
    let ended = containers(pod)
        .filter(|container| container.name != SIDECAR_CONTAINER)
        .filter_map(|c| Some((c, terminated(c)?)));
    let failed = ended.filter(|(_, end)| end.exit_code != 0).max_by_key(|(container, _)| container.name == trainer);
    let Some((container, end)) = failed else {
        let what = format!("pod {}: {}", status.reason.as_deref()?, words());
        return Some(Fault::known(Reason::TrainerFailed, what));
    };
    let (who, code) = (format!("container {}", container.name), end.exit_code);
    Some(match end.reason.as_deref() {
        Some("OOMKilled") => {
            let what = format!("{who} was killed for using more memory than its limit (OOMKilled, exit code {code})");
            Fault::known(Reason::OutOfMemory, what)
        }
        Some("StartError" | "ContainerCannotRun") => {
            let why: String = end.message.iter().flat_map(|why| why.trim().chars().take(300)).collect();
            let what = format!("{who} could not be started (exit code {code}): {}", without_ids(&shown(&why)));
            Fault::known(Reason::StartFailed, what)
        }
        _ => Fault::exit(&who, code),
    })
}

/// How another pod of an Indexed Job failed: its log is not the one that is read.
pub fn failure_of_fellow(pod: &Pod, trainer: &str) -> Option<Fault> {
    let fault = failure(pod, trainer)?;
    let cause = match fault.cause {
        Cause::Exit(code) => Cause::Known(of_exit(code, None)),
        known => known,
    };
    Some(Fault { cause, what: format!("pod {}: {}", index(pod)?, fault.what), ..fault })
}

/// The pod as an attempt of its run; `replaced` is the one that was it before.
pub fn attempt(pod: &Pod, replaced: Option<&Pod>) -> Option<Attempt> {
    Some(Attempt { id: pod.uid()?, follows_disruption: is_uncounted(replaced) })
}

/// Why a pod's end is not the trainer's doing, if it is not: the table of this module.
pub fn disruption(pod: &Pod, trainer: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.as_deref();
    let ended = containers(pod).find(|container| container.name == trainer).and_then(terminated);
    let theirs = containers(pod).filter(|container| container.name != SIDECAR_CONTAINER);
    let out_of_memory = theirs.filter_map(terminated).any(|end| end.reason.as_deref() == Some("OOMKilled"));
    if has_outgrown_a_limit(pod) || reason == Some("DeadlineExceeded") || out_of_memory {
        return None;
    }
    // What comes after the trainer's end has not made it. Where clocks may differ, it has.
    let finished = ended.and_then(|end| end.finished_at.as_ref());
    let is_after_the_end = |at: Timestamp| finished.is_some_and(|finished| at.duration_since(finished.0) > SKEW);
    if let Some(target) = disruption_target(pod)
        && !target.last_transition_time.as_ref().is_some_and(|at| is_after_the_end(at.0))
    {
        return Some(format!("its pod was disrupted ({})", target.reason.as_deref().unwrap_or("DisruptionTarget")));
    }
    if deletion(pod).is_some_and(|at| !is_after_the_end(at)) {
        return Some("its pod was deleted".to_owned());
    }
    if status.phase.as_deref() != Some("Failed") {
        return None;
    }
    if let Some(reason) = reason.filter(|reason| ENDED_BY_NODE.contains(reason)) {
        return Some(format!("the node ended its pod ({reason})"));
    }
    let started = has_log(pod, trainer);
    if let Some(reason) = reason.filter(|_| !started) {
        return Some(format!("the node rejected its pod before the trainer started ({reason})"));
    }
    let lost = ended.is_some_and(|end| end.reason.as_deref() == Some("ContainerStatusUnknown"));
    lost.then(|| "the node lost track of its pod (ContainerStatusUnknown)".to_owned())
}

/// Whether a pod that was replaced within its run is none that the Job counts as failed: it is gone, since somebody
/// deleted it, or our policy has the Job ignore it.
fn is_uncounted(replaced: Option<&Pod>) -> bool {
    replaced.is_none_or(|pod| disruption_target(pod).is_some() || pod.metadata.deletion_timestamp.is_some())
}

/// Says that a pod does not end, once it should have for a while: its node may be dead, and then nobody but a person
/// can know. The text changes seldom.
pub fn stuck(pod: &Pod, now: Timestamp) -> Option<String> {
    const STEPS: [(i64, &str); 5] =
        [(86_400, "a day"), (21_600, "6 hours"), (3_600, "an hour"), (1_800, "30 min"), (300, "5 min")];
    let at = pod.metadata.deletion_timestamp.as_ref()?;
    let late = now.duration_since(at.0).as_secs();
    let (_, long) = STEPS.iter().find(|(seconds, _)| late >= *seconds)?;
    let name = pod.name_any();
    Some(match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
        Some(node) => format!(
            "waiting: pod {name} has been terminating for more than {long} on node {node}, which may be dead: delete the pod with --force, or the node"
        ),
        None => format!(
            "waiting: pod {name} has been terminating for more than {long}: see its finalizers, or delete it with --force"
        ),
    })
}

fn has_outgrown_a_limit(pod: &Pod) -> bool {
    let Some(status) = pod.status.as_ref().filter(|status| status.reason.as_deref() == Some("Evicted")) else {
        return false;
    };
    let words = status.message.as_deref().unwrap_or_default();
    OUTGROWN.iter().any(|(start, rest)| words.starts_with(start) && words.contains(rest))
}

fn disruption_target(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == "DisruptionTarget" && c.status == "True")
}

/// When the pod was told to go.
fn deletion(pod: &Pod) -> Option<Timestamp> {
    // The deletion's timestamp is when the grace period ends.
    let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or(0));
    pod.metadata.deletion_timestamp.as_ref()?.0.checked_sub(grace).ok()
}

/// What the sidecar left in its termination message.
pub fn summary(pod: &Pod) -> Option<Summary> {
    let sidecar = containers(pod).find(|container| container.name == SIDECAR_CONTAINER)?;
    let states = [sidecar.state.as_ref(), sidecar.last_state.as_ref()].into_iter().flatten();
    states.filter_map(|state| state.terminated.as_ref()?.message.as_deref()).find_map(Summary::parse)
}

/// Whether the sidecar has ended well: its summary is of all that the trainer had reported.
pub fn has_final_summary(pod: &Pod) -> bool {
    let sidecar = containers(pod).find(|container| container.name == SIDECAR_CONTAINER);
    let ended = sidecar.and_then(terminated);
    ended.is_some_and(|end| end.exit_code == 0 && end.message.as_deref().and_then(Summary::parse).is_some())
}

/// The pod that counts among those of a Job: of an Indexed Job that of index 0, of several attempts the latest.
pub fn newest<P: std::ops::Deref<Target = Pod>>(pods: &[P]) -> Option<&Pod> {
    let reporting = |pod: &&Pod| index(pod).is_none_or(|index| index == "0");
    pods.iter().map(|pod| &**pod).filter(reporting).max_by_key(|pod| (pod.creation_timestamp(), pod.name_any()))
}

/// The pod's index in an Indexed Job.
pub fn index(pod: &Pod) -> Option<&str> {
    pod.labels().get("batch.kubernetes.io/job-completion-index").map(String::as_str)
}

/// The first pod of an Indexed Job, index 0 apart, that has failed by its own doing.
pub fn failed_fellow<'a, P: std::ops::Deref<Target = Pod>>(pods: &'a [P], trainer: &str) -> Option<&'a Pod> {
    let failed = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Failed") && index(pod).is_some_and(|index| index != "0") && disruption(pod, trainer).is_none()
    };
    pods.iter().map(|pod| &**pod).filter(failed).min_by_key(|pod| (trainer_end(pod, trainer), pod.name_any()))
}

/// Whether the pod was deleted while its trainer ran, and nobody says that it was disrupted: so a Job deletes its pods once
/// another has failed.
pub fn is_only_deleted(pod: &Pod, trainer: &str) -> bool {
    pod.metadata.deletion_timestamp.is_some() && disruption_target(pod).is_none() && disruption(pod, trainer).is_some()
}

/// Whether the container `name` has run, so that it has a log.
pub fn has_log(pod: &Pod, name: &str) -> bool {
    let started =
        |c: &ContainerStatus| terminated(c).is_some() || c.state.as_ref().is_some_and(|state| state.running.is_some());
    containers(pod).any(|container| container.name == name && started(container))
}

/// Whether the success is known of as many pods as their Job tells. A pod's success is final.
pub fn have_succeeded<P: std::ops::Deref<Target = Pod>>(pods: &[P], job: &Job) -> bool {
    let expected = job.status.as_ref().and_then(|status| status.succeeded).unwrap_or_default();
    let is_success = |pod: &&P| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Succeeded"));
    expected > 0 && pods.iter().filter(is_success).count() >= expected as usize
}

/// Whether a container of this name has ended, and was not started again.
pub fn has_terminated(pod: &Pod, name: &str) -> bool {
    containers(pod).any(|container| container.name == name && terminated(container).is_some())
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

fn trouble(reason: &str, container: &ContainerStatus) -> String {
    let detail = container
        .state
        .as_ref()
        .and_then(|state| state.waiting.as_ref())
        .and_then(|waiting| waiting.message.as_deref());
    match reason {
        "ImagePullBackOff" | "RegistryUnavailable" | "SignatureValidationFailed" => {
            format!("container {}: image {} cannot be pulled ({reason})", container.name, container.image)
        }
        "InvalidImageName" => {
            format!("container {}: {:?} is not the name of an image ({reason})", container.name, container.image)
        }
        _ => match detail {
            Some(detail) => format!("container {}: {reason}: {}", container.name, without_ids(&shown(detail))),
            None => format!("container {}: {reason}", container.name),
        },
    }
}

/// The scheduler's message without what changes from attempt to attempt, and in plain words where one
/// resource is all that is short: `0/4 nodes have a free nvidia.com/gpu`.
fn normalised(message: &str) -> String {
    let message = message.split(". ").next().unwrap_or(message).trim_end_matches('.');
    let short = message.split_once(" nodes are available: ").and_then(|(nodes, why)| {
        let (_, resource) = why.split_once("Insufficient ")?;
        (!resource.contains([' ', ','])).then(|| format!("{nodes} nodes have a free {resource}"))
    });
    short.unwrap_or_else(|| message.to_owned())
}

/// Why a Job has no pods, as its Event says, without the name that each attempt makes up anew.
pub fn refusal(message: &str) -> String {
    let message = message.strip_prefix("(combined from similar events): ").unwrap_or(message);
    let Some((before, (name, after))) =
        message.split_once("pods \"").and_then(|(before, rest)| Some((before, rest.split_once('"')?)))
    else {
        return message.to_owned();
    };
    let stem = name.rsplit_once('-').map_or(name, |(stem, _)| stem);
    format!("{before}pods \"{stem}-…\"{after}")
}

/// Without the container IDs that a runtime makes up anew at each attempt.
pub fn without_ids(message: &str) -> String {
    let is_id = |word: &str| word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = message.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words
        .map(|word| match word.strip_suffix(|c: char| !c.is_ascii_alphanumeric()) {
            Some(stem) if is_id(stem) => format!("…{}", &word[stem.len()..]),
            None if is_id(word) => "…".to_owned(),
            _ => word.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_s_message_is_in_plain_words_and_does_not_change_without_cause() {
        assert_eq!(
            normalised(
                "0/4 nodes are available: 4 Insufficient nvidia.com/gpu. preemption: 0/4 nodes are available: 4 No preemption victims found for incoming pod."
            ),
            "0/4 nodes have a free nvidia.com/gpu"
        );
        assert_eq!(
            normalised(
                "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}. preemption: none."
            ),
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}"
        );
    }

    #[test]
    fn the_refusal_of_a_pod_is_told_without_the_name_that_each_attempt_makes_up() {
        assert_eq!(
            refusal("Error creating: pods \"digits-0003-x7k2p\" is forbidden: exceeded quota: q, requested: cpu=1"),
            "Error creating: pods \"digits-0003-…\" is forbidden: exceeded quota: q, requested: cpu=1"
        );
        assert_eq!(
            refusal("(combined from similar events): Error creating: pods \"digits-0003-r2-abcde\" is forbidden"),
            "Error creating: pods \"digits-0003-r2-…\" is forbidden"
        );
        assert_eq!(refusal("admission webhook \"w\" denied the request"), "admission webhook \"w\" denied the request");
    }
}
