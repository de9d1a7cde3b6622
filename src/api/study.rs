//! Study: what a user asks for, and how far it has come.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::Condition;
pub use crate::core::pruner::PrunerSpec;
pub use crate::core::sampler::SamplerSpec;
use crate::core::{Budget, Direction, EndReason, ValueOf};
pub use crate::metrics::MetricsSpec;

/// A hyperparameter sweep: a search space, an objective, and the Job that evaluates one configuration.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "sweep-operator.dev",
    version = "v1alpha1",
    kind = "Study",
    plural = "studies",
    namespaced,
    doc = "A Study is a hyperparameter sweep: it proposes configurations, runs each as a Job (a Trial), stops the losing ones, and keeps the best.",
    status = "StudyStatus",
    derive = "PartialEq",
    shortname = "swp",
    category = "sweeps",
    scale(
        spec_replicas_path = ".spec.parallelism",
        status_replicas_path = ".status.trials.active"
    ),
    printcolumn(name = "State", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress", description = "Finished trials of maxTrials"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.trials.running", description = "Trials whose trainer runs"),
    printcolumn(name = "Best", type_ = "number", json_path = ".status.best.objectives[0].value", description = "Best value of the first objective"),
    printcolumn(name = "Trial", type_ = "string", json_path = ".status.best.trial", priority = 1, description = "The best Trial"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name must have at most 40 characters, so that the names of Trials and Jobs fit"),
    validation = Rule::new("!self.metadata.name.contains('.')").message("metadata.name must be a DNS label: lower-case letters, digits and '-', no dots")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.parameters.all(i, p, !has(p.when) || p.when.all(w, self.parameters.exists(j, q, j < i && q.name == w.parameter)))").message("spec.parameters[].when[].parameter must name an earlier parameter"))]
#[x_kube(validation = Rule::new("!has(self.pruner) || !has(self.pruner.wilcoxon) || self.objectives.all(o, o.metric != self.pruner.wilcoxon.metric)").message("spec.pruner.wilcoxon.metric must not be the objective, which is the mean over the folds"))]
#[x_kube(validation = Rule::new("!has(self.pruner) || !has(self.pruner.wilcoxon) || !has(self.metrics) || !(has(self.metrics.tensorBoard) || has(self.metrics.prometheus))").message("spec.pruner.wilcoxon.metric: folds are read from lines: use metrics.file or metrics.stdout"))]
pub struct StudySpec {
    /// What is optimised. One objective for now.
    #[schemars(length(min = 1, max = 1))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["metric".into()]))]
    pub objectives: Vec<ObjectiveSpec>,

    /// The search space. Each parameter reaches every container of the template as an environment
    /// variable of its own name; `$(name)` in `command` and `args` is expanded by Kubernetes.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parameters: Vec<ParameterSpec>,

    /// Configurations that are tried first, such as the one in use today: a value for every active
    /// parameter, written as the trainer shall see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), schema_with = "initial_assignments_schema")]
    pub initial_assignments: Vec<BTreeMap<String, String>>,

    /// What proposes configurations: exactly one. Left out: `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<SamplerSpec>,

    /// What stops losing Trials before their end: one, and `threshold` and `patience` beside it. Left out: every Trial runs to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruner: Option<PrunerSpec>,

    /// How many configurations are tried. A search space that is exhausted earlier completes the Study.
    #[schemars(range(min = 1, max = 10000))]
    pub max_trials: u32,

    /// How many Trials may be unfinished at the same time. 0 starts nothing new.
    #[serde(default = "one", deserialize_with = "null_is_one")]
    #[schemars(range(min = 0, max = 1000))]
    pub parallelism: u32,

    /// When more than this many Trials have failed, the Study has failed. Left out: a tenth of maxTrials, at least 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_failed_trials: Option<u32>,

    /// How many finished Jobs are kept, the newest, and as many failed ones beside them; the best Trial's Job stays while the
    /// Study runs. Results stand in the Trials. The Job template's ttlSecondsAfterFinished may remove them earlier. Left
    /// out: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub finished_jobs_history_limit: Option<u32>,

    /// How long the Study may take from its start, such as `90m` or `1h30m` (units d, h, m, s). Then what runs is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(d|h|m|s))+$"))]
    pub max_duration: Option<String>,

    /// How long a running trainer may report nothing, such as `20m`, before its Trial is stopped as hung and has
    /// failed. Counts from its start, then from its last report; anew where the operator was restarted. Longer than
    /// what comes before its first report, and than its longest step. Left out: it may be silent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(d|h|m|s))+$"))]
    pub report_timeout: Option<String>,

    /// No new Trial starts while true; what runs ends. `Suspended` is True once nothing runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// Seed of every random choice. Left out: derived from the Study's name, and shown in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991_u64))]
    pub seed: Option<u64>,

    /// Where the trainer's metrics are found. Left out: `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsSpec>,

    /// GPUs of each Trial, for the trainer's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuSpec>,

    /// A ConfigMap that is kept at the best assignment, for a Deployment's `envFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_config_map: Option<BestConfigMapSpec>,

    /// The Job of a Trial, a batch/v1 JobTemplateSpec as in a CronJob. The trainer is its first
    /// container, or the one that the annotation `kubectl.kubernetes.io/default-container` names.
    /// An edited template is used for later Trials. Where the template leaves
    /// `terminationGracePeriodSeconds` out it is 5, so that a stopped Trial frees its GPUs within seconds.
    #[schemars(schema_with = "job_template_schema")]
    pub job_template: serde_json::Value,
}

/// A metric that is optimised.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveSpec {
    /// The metric's name, as the trainer writes it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_./@-]*$"))]
    pub metric: String,
    /// Whether higher or lower is better.
    pub direction: Direction,
    /// The Study is complete once a finished Trial is at least this good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
    /// Which of a Trial's observations is its value: the `Last` (where left out) or the `Best` over its steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ValueOf")]
    pub value: Option<ValueOf>,
}

/// One dimension of the search space: a name, and exactly one of `double`, `int`, `discrete` and `categorical`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.double), has(self.int), has(self.discrete), has(self.categorical)].filter(x, x).size() == 1").message("a parameter has exactly one of double, int, discrete and categorical"))]
pub struct ParameterSpec {
    /// The parameter's name: also its environment variable, and `$(name)` in `command` and `args`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$"))]
    pub name: String,
    /// A real number from a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub double: Option<DoubleSpec>,
    /// A whole number from a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int: Option<IntSpec>,
    /// One of some numbers, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discrete: Option<DiscreteSpec>,
    /// One of some words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categorical: Option<CategoricalSpec>,
    /// The parameter exists only where all of these hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub when: Vec<WhenSpec>,
    /// What the environment variable holds where the parameter is inactive. Needed where the template refers to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub inactive_value: Option<String>,
}

/// A real number from a range, both ends included.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min < self.max").message("min must be below max"))]
#[x_kube(validation = Rule::new("!has(self.scale) || self.scale != 'Log' || self.min > 0.0").message("a Log scale needs min above 0"))]
#[x_kube(validation = Rule::new("!has(self.step) || !has(self.scale) || self.scale != 'Log'").message("step and a Log scale exclude each other: use discrete values"))]
#[x_kube(validation = Rule::new("!has(self.step) || self.step > 0.0").message("step must be above 0"))]
#[x_kube(validation = Rule::new("!has(self.prior) || !has(self.scale)").message("prior and scale exclude each other: use logNormal for a logarithmic scale"))]
#[x_kube(validation = Rule::new("!has(self.prior) || !has(self.prior.logNormal) || (self.min > 0.0 && !has(self.step))").message("a logNormal prior needs min above 0 and no step"))]
pub struct DoubleSpec {
    /// The lowest value.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// `Linear` (where left out), or `Log` where factors matter rather than differences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Scale")]
    pub scale: Option<Scale>,
    /// Only min, min + step, min + 2 step, … are proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// Where good values are expected. Left out: everywhere alike, on the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<PriorSpec>,
}

/// Where good values of a range are expected: exactly one of `normal` and `logNormal`. Whatever it says, all values lie
/// inside min and max.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.normal) != has(self.logNormal)").message("a prior is exactly one of normal and logNormal"))]
pub struct PriorSpec {
    /// Around a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normal: Option<NormalSpec>,
    /// Around a value, with factors rather than differences: mean and standardDeviation are of the natural logarithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_normal: Option<NormalSpec>,
}

/// A normal distribution, cut to the range.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.standardDeviation) || self.standardDeviation > 0.0").message("standardDeviation must be above 0"))]
pub struct NormalSpec {
    /// Its mean, inside the range. Left out: the middle of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Its standard deviation. Left out: a sixth of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_deviation: Option<f64>,
}

/// A whole number from a range, both ends included.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min < self.max").message("min must be below max"))]
#[x_kube(validation = Rule::new("!has(self.scale) || self.scale != 'Log' || self.min > 0").message("a Log scale needs min above 0"))]
#[x_kube(validation = Rule::new("!has(self.step) || !has(self.scale) || self.scale != 'Log'").message("step and a Log scale exclude each other: use discrete values"))]
#[x_kube(validation = Rule::new("!has(self.prior) || !has(self.scale)").message("prior and scale exclude each other: use logNormal for a logarithmic scale"))]
#[x_kube(validation = Rule::new("!has(self.prior) || !has(self.prior.logNormal) || (self.min > 0 && !has(self.step))").message("a logNormal prior needs min above 0 and no step"))]
pub struct IntSpec {
    /// The lowest value.
    #[schemars(range(min = -9007199254740991_i64, max = 9007199254740991_i64))]
    pub min: i64,
    /// The highest value.
    #[schemars(range(min = -9007199254740991_i64, max = 9007199254740991_i64))]
    pub max: i64,
    /// `Linear` (where left out), or `Log` where factors matter rather than differences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Scale")]
    pub scale: Option<Scale>,
    /// Only min, min + step, min + 2 step, … are proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9007199254740991_i64))]
    pub step: Option<i64>,
    /// Where good values are expected. Left out: everywhere alike, on the scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<PriorSpec>,
}

/// One of some numbers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.values.all(v, self.values.exists_one(w, w == v))").message("values must be distinct"))]
pub struct DiscreteSpec {
    /// The numbers.
    #[schemars(length(min = 1, max = 64))]
    pub values: Vec<f64>,
}

/// One of some words.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.values.all(v, self.values.exists_one(w, w == v))").message("values must be distinct"))]
pub struct CategoricalSpec {
    /// The words.
    #[schemars(length(min = 1, max = 64), schema_with = "words_schema")]
    pub values: Vec<String>,
    /// Whether the words stand in an order, such as `small, medium, large`: then neighbours are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
}

/// How a range is covered.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scale {
    /// Evenly in the value.
    #[default]
    Linear,
    /// Evenly in the value's logarithm.
    Log,
}

/// A condition on another parameter: `in` for a discrete or categorical one, `min` and `max` for a range.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.__in__) != (has(self.min) || has(self.max))").message("a condition has either in, or min and max or one of them"))]
pub struct WhenSpec {
    /// The name of an earlier parameter.
    #[schemars(length(min = 1, max = 63))]
    pub parameter: String,
    /// It holds where that parameter, discrete or categorical, has one of these values.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "words_schema")]
    pub any_of: Option<Vec<String>>,
    /// It holds where that parameter, a double or int, is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// It holds where that parameter, a double or int, is at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// GPUs of a Trial.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GpuSpec {
    /// How many GPUs a Trial has.
    #[schemars(range(min = 1, max = 1024))]
    pub count: u32,
    /// The extended resource. Left out: nvidia.com/gpu.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 316),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")
    )]
    pub resource: Option<String>,
}

impl GpuSpec {
    /// The extended resource's name.
    pub fn resource(&self) -> &str {
        self.resource.as_deref().unwrap_or("nvidia.com/gpu")
    }
}

/// The ConfigMap that holds the best assignment.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestConfigMapSpec {
    /// Its name; it is owned by the Study, and one that belongs to somebody else is never touched.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
}

/// How far a Study has come.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StudyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Stalled, Suspended, Complete, Failed; SpecWarning names what was accepted and may not do
    /// what was meant; PrunerIdle tells that nothing can be pruned, and why, once trials have shown it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Finished trials of maxTrials, such as `12/64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// How many Trials there are, by phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trials: Option<TrialCounts>,
    /// The best finished Trial that ran to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestTrial>,
    /// When the Study was accepted; maxDuration counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,
    /// When the Study was complete or had failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<MicroTime>,
    /// The seed in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The sampler in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// The highest trial index ever given out; no index is used twice, also after its Trial was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_index: Option<u32>,
    /// maxTrials and parallelism when the first Trial was proposed: how many Trials come before a sampler's model follows from
    /// them, and does not change with an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Why the Study ended, and the limits it ended with: only an edit of one of them reopens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How many Trials there are, by phase.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialCounts {
    /// All Trials.
    pub total: u32,
    /// Unfinished ones, and those whose Job is not gone yet: at most `parallelism`.
    pub active: u32,
    /// Waiting for their trainer to start.
    pub pending: u32,
    /// Their trainer runs.
    pub running: u32,
    /// Ran to their end.
    pub succeeded: u32,
    /// Stopped by the pruner.
    pub pruned: u32,
    /// Their trainer failed, or its metric is missing.
    pub failed: u32,
    /// Stopped because the Study ended, or by a user.
    pub stopped: u32,
}

/// The best Trial.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BestTrial {
    /// Its name.
    pub trial: String,
    /// Its index.
    pub index: u32,
    /// Its value of each objective.
    #[schemars(length(max = 8))]
    pub objectives: Vec<ObjectiveValue>,
    /// Its assignments: what to put in production.
    pub assignments: BTreeMap<String, String>,
}

/// The value of an objective.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveValue {
    /// The metric's name.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// The step at which it was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
}

/// How a Study ended.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// maxTrials at that time.
    pub max_trials: u32,
    /// maxFailedTrials at that time.
    pub max_failed_trials: u32,
    /// maxDuration at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<String>,
    /// The target at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<f64>,
}

fn one() -> u32 {
    1
}

/// `kubectl scale` and GitOps tools may leave an explicit null where the schema has a default.
fn null_is_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Ok(Option::<u32>::deserialize(deserializer)?.unwrap_or(1))
}

fn initial_assignments_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "items": {
            "type": "object",
            "maxProperties": 64,
            "additionalProperties": {"type": "string", "maxLength": 64},
        },
    })
}

fn words_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 64,
        "items": {"type": "string", "maxLength": 64},
    })
}

/// The pod template's schema is not embedded: its size and its CEL cost would be those of a pod, and
/// fields newer than ours would be lost. The operator asks the API server by a dry run instead.
fn job_template_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
