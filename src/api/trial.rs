//! Trial: one configuration that is tried.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Condition, ObjectiveValue};
use crate::core::pruner::Evidence;
use crate::core::{DesiredState, Divergence, MAX_ARRIVALS, Phase};
use crate::metrics::{Dropped, MetricSummary, StepsCounted};

// The lint takes columns of the same type for repetitions.
#[allow(clippy::duplicated_attributes)]
/// What a Trial shall be: written by the Study controller, all but `desiredState` and `stop` once.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sweep-operator.dev",
    version = "v1alpha1",
    kind = "Trial",
    plural = "trials",
    namespaced,
    doc = "A Trial is one configuration of a Study that is tried. The operator creates it, and runs it as a Job.",
    status = "TrialStatus",
    derive = "PartialEq",
    shortname = "swt",
    category = "sweeps",
    selectable = ".spec.study",
    selectable = ".status.phase",
    printcolumn(name = "Study", type_ = "string", json_path = ".spec.study"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Value",
        type_ = "number",
        json_path = ".status.objectives[0].value",
        description = "Value of the first objective"
    ),
    printcolumn(
        name = "Step",
        type_ = "integer",
        json_path = ".status.objectives[0].step",
        description = "The step at which it was observed"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Run", type_ = "integer", json_path = ".status.run.number", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.study == oldSelf.study && self.index == oldSelf.index && self.assignments == oldSelf.assignments && self.sampler == oldSelf.sampler").message("what was proposed is immutable"))]
#[x_kube(validation = Rule::new("has(self.bracket) == has(oldSelf.bracket) && (!has(self.bracket) || self.bracket == oldSelf.bracket)").message("what was proposed is immutable"))]
#[x_kube(validation = Rule::new("has(self.generation) == has(oldSelf.generation) && (!has(self.generation) || self.generation == oldSelf.generation)").message("what was proposed is immutable"))]
#[x_kube(validation = Rule::new("has(self.proposedAfter) == has(oldSelf.proposedAfter) && (!has(self.proposedAfter) || self.proposedAfter == oldSelf.proposedAfter)").message("what was proposed is immutable"))]
#[x_kube(validation = Rule::new("oldSelf.desiredState != 'Stopped' || self.desiredState == 'Stopped'").message("Stopped is final"))]
// One field to the API server's field management, as is the status: by its parts it would be as large as what it manages.
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct TrialSpec {
    /// The name of the Study.
    #[schemars(length(min = 1, max = 63))]
    pub study: String,
    /// Which proposal of the Study this is, from 0.
    pub index: u32,
    /// A value for every active parameter, the exact string that the trainer sees.
    #[schemars(schema_with = "assignments_schema")]
    pub assignments: BTreeMap<String, String>,
    /// What proposed it.
    pub sampler: SamplerRecord,
    /// The bracket of a Hyperband run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bracket: Option<u32>,
    /// The generation of CMA-ES.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The last completion that the sampler had seen, so that a sweep can be replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed_after: Option<MicroTime>,
    /// Whether the Trial shall run. Stopped is final, and is honoured when a user sets it.
    pub desired_state: DesiredState,
    /// Why the Trial was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopRecord>,
}

/// What proposed an assignment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplerRecord {
    /// The sampler's name; `initial` for one of `initialAssignments`, `retry` for a configuration that had failed in a way
    /// that says nothing of it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The version of its algorithm: it changes whenever its proposals would.
    pub version: u32,
}

/// Why a Trial was stopped.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopRecord {
    /// `Pruned`, `Patience`, or why the Study ended.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// The evidence, for a person.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The step at which the Trial was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// What a pruner's verdict rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// When it was decided.
    pub at: MicroTime,
}

/// The condition of a Trial that has ended; its reason tells how.
pub const FINISHED: &str = "Finished";

/// How far a Trial has come: written by the Trial controller.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct TrialStatus {
    /// Pending, Running, or how it ended: Succeeded, Pruned, Failed, Stopped.
    #[serde(default)]
    pub phase: Phase,
    /// What is going on, or how it ended, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Running` (why not, where False), `Stalled` (since when it cannot start before somebody acts), `Finished`
    /// (how it ended: Succeeded, Pruned, Stopped, NotANumber, OutOfMemory, TrainerFailed, ReportTimeout, DeadlineExceeded,
    /// StartFailed, MetricsMissing, ResultLost, Lost, Disrupted), `MetricsDropped`, `StepsCounted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The run that counts, recorded before its Job is created. A Job that is not this run is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// How many runs, and pods that their Job replaced, ended without the trainer's fault, such as by an eviction.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disruptions: u32,
    /// The objectives' values: of the last step while it runs, the final ones once it has finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub objectives: Vec<ObjectiveValue>,
    /// What was observed, thinned to at most 256 points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub observations: Vec<ObservationSeries>,
    /// The metrics beside the objectives: the values of 32 at most, thinned until they fit into 4 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub metrics: Vec<MetricSummary>,
    /// Metric lines that were dropped, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    /// Why steps are counted by reports, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_counted: Option<StepsCounted>,
    /// Whether it ran for three seconds or longer, and reported everything within its last second: no pruner can act on that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported_at_end: bool,
    /// The last lines of the trainer's log: a deleted Job takes its log along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub log_tail: Option<String>,
    /// When its trainer first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When it finished; strictly increasing within a Study.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<MicroTime>,
}

/// One Job of a Trial.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// From 1; a run that ended without the trainer's fault is followed by another.
    pub number: u32,
    /// The Job's name.
    pub job: String,
    /// The Job's UID, once it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_uid: Option<String>,
    /// Hash of the template that the Job was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// How many pods of the run had started, the last one's UID being `podUid`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// The pod whose observations stand in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// A bounded series of observations.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObservationSeries {
    /// The metric's name.
    pub metric: String,
    /// How many observations there were before thinning.
    pub count: u64,
    /// The steps, increasing.
    #[schemars(length(max = 256))]
    pub steps: Vec<u64>,
    /// The values at those steps.
    #[schemars(length(max = 256))]
    pub values: Vec<f64>,
    /// The observations after the last of those that are NaN or infinite: the trainer has diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<Divergence>,
    /// The first report at each rung of the pruner, or behind it: by these Trials are compared, once each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ARRIVALS))]
    pub rungs: Vec<RungArrival>,
}

/// The first report of a Trial at a rung, or behind it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RungArrival {
    /// The rung: a step, with `forecast` a number of reports, with `wilcoxon` a fold.
    pub rung: u64,
    /// The step that was reported.
    pub step: u64,
    /// What is compared there; left out where that was NaN or infinite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// When it was reported.
    pub at: MicroTime,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn assignments_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 64},
    })
}
