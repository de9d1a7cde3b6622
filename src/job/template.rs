//! The user's job template, carried as JSON so that fields newer than ours are kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Map, Value};

use super::events::{self, EventsFolder};
use super::references::Scope;
use super::sidecar::SIDECAR_CONTAINER;
use super::{METRICS_DIR, METRICS_VOLUME};
use crate::api::{Direction, GpuSpec, MetricsSpec, StudySpec};
use crate::core::fnv1a;
use crate::core::pruner::PrunerSpec;
use crate::metrics::{Grammar, PrometheusSpec, Source, TensorBoardSpec};
use crate::validate::{Problem, Problems};

/// A job template that was accepted, with what else of the spec shapes the Job.
#[derive(Clone, Debug)]
pub struct Template {
    /// The batch/v1 JobTemplateSpec.
    pub(super) json: Value,
    /// Which container is the trainer.
    pub(super) trainer: usize,
    /// Where metrics come from.
    pub source: Source,
    /// What lines with metrics look like.
    pub grammar: Arc<Grammar>,
    /// Where the trainer writes event files, where it does.
    pub tensor_board: Option<TensorBoardSpec>,
    /// Where they are in its container.
    pub(super) events: Option<EventsFolder>,
    /// Where the trainer serves a page of metrics, where it does.
    pub prometheus: Option<PrometheusSpec>,
    /// GPUs of the trainer.
    pub gpu: Option<GpuSpec>,
    /// The metrics that are read: the objective's, and that of a fold.
    pub metrics: Vec<String>,
    /// The objective's direction.
    pub direction: Direction,
}

/// An `activeDeadlineSeconds` of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The Job's.
    Job(u64),
    /// The pod's.
    Pod(u64),
}

impl Deadline {
    /// Its seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Deadline::Job(seconds) | Deadline::Pod(seconds) => seconds,
        }
    }
}

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
const POD: &str = "spec.jobTemplate.spec.template.spec";

impl Template {
    /// Checks the template of `spec`; what is wrong is added to `problems`, and then the answer may be None.
    pub fn new(spec: &StudySpec, grammar: Grammar, problems: &mut Problems) -> Option<Template> {
        let json = &spec.job_template;
        if !check_shape(json, problems) {
            return None;
        }
        check_metadata(&json["metadata"], "spec.jobTemplate.metadata", problems);
        check_job(json, problems);
        check_metadata(&json["spec"]["template"]["metadata"], "spec.jobTemplate.spec.template.metadata", problems);
        let pod = &json["spec"]["template"]["spec"];
        let Some(containers) = pod["containers"].as_array().filter(|list| !list.is_empty()) else {
            problems.add(format!("{POD}.containers"), "must have at least one container: the trainer");
            return None;
        };
        let trainer = trainer(json, containers, problems);
        check_pod(pod, problems);
        let source = spec.metrics.as_ref().map_or(Source::File, MetricsSpec::source);
        for (list, i, container) in all_containers(pod) {
            let path = format!("{POD}.{list}[{i}]");
            check_container(spec, container, &path, problems);
            let is_trainer = list == "containers" && i == trainer;
            scope(spec, container, source.variable().filter(|_| is_trainer)).check(&path, problems);
        }
        let metrics = spec.metrics.clone().unwrap_or_default();
        let events = match (&metrics.tensor_board, containers.get(trainer)) {
            (Some(given), Some(container)) => match events::folder(given, pod, container) {
                Ok(folder) => Some(folder),
                Err((at, message)) => {
                    let at = at.map(|at| format!("{POD}.containers[{trainer}].{at}"));
                    problems.add(at.unwrap_or_else(|| "spec.metrics.tensorBoard.path".to_owned()), message);
                    None
                }
            },
            _ => None,
        };
        if metrics.prometheus.is_some() && pod["hostNetwork"] == true {
            problems.add(
                format!("{POD}.hostNetwork"),
                "two Trials on a node would share the port of spec.metrics.prometheus: leave it out",
            );
        }
        if let (Some(gpu), Some(trainer)) = (&spec.gpu, containers.get(trainer)) {
            for kind in ["limits", "requests"] {
                if trainer["resources"][kind].get(gpu.resource()).is_some() {
                    problems.add(
                        "spec.gpu",
                        format!("the template asks for {} as well, in {POD}.containers[…].resources.{kind}: keep one of the two", gpu.resource()),
                    );
                }
            }
        }
        let objective = spec.objectives.first()?;
        let pruners = spec.pruner.as_ref().map(PrunerSpec::given).unwrap_or_default();
        let read = pruners.metrics(&objective.metric).map(str::to_owned).collect();
        Some(Template {
            json: json.clone(),
            trainer,
            grammar: Arc::new(grammar),
            source,
            tensor_board: metrics.tensor_board,
            events,
            prometheus: metrics.prometheus,
            gpu: spec.gpu.clone(),
            metrics: read,
            direction: objective.direction,
        })
    }

    /// A stable hash of the template as the user wrote it.
    pub fn hash(&self) -> String {
        format!("{:016x}", self.hash_bits())
    }

    /// The same as a number.
    pub fn hash_bits(&self) -> u64 {
        // serde_json keeps object keys sorted, so that equal templates are equal texts.
        fnv1a(self.json.to_string().as_bytes())
    }

    /// The trainer's container.
    pub fn trainer(&self) -> &Value {
        &self.pod()["containers"][self.trainer]
    }

    /// The path of the trainer's container in the Study.
    pub fn trainer_path(&self) -> String {
        format!("{POD}.containers[{}]", self.trainer)
    }

    /// The containers beside the trainer, with their positions.
    pub fn other_containers(&self) -> impl Iterator<Item = (usize, &Value)> {
        let containers = self.pod()["containers"].as_array().into_iter().flatten();
        containers.enumerate().filter(|(i, _)| *i != self.trainer)
    }

    /// The Job's spec.
    pub fn job(&self) -> &Value {
        &self.json["spec"]
    }

    /// The pod's spec.
    pub fn pod(&self) -> &Value {
        &self.json["spec"]["template"]["spec"]
    }

    /// Where metrics are looked for in the trainer's pod, for a person.
    pub fn place(&self, trainer: &str) -> String {
        match self.source {
            Source::File => "in the file $SWEEP_METRICS".to_owned(),
            Source::Stdout => format!("in the output of container {trainer}"),
            Source::TensorBoard => {
                let path = self.events.as_ref().map_or(METRICS_DIR, |folder| folder.path.as_str());
                format!("in event files in the folder $SWEEP_METRICS ({path})")
            }
            Source::Prometheus => {
                let url = self.prometheus.as_ref().map(|page| page.url(page.port));
                format!("at {}", url.unwrap_or_default())
            }
        }
    }

    /// The name of the trainer's container.
    pub fn trainer_name(&self) -> &str {
        self.trainer()["name"].as_str().unwrap_or_default()
    }

    /// Checks the references of a command line that is run instead of the trainer's own.
    pub fn check_command(&self, spec: &StudySpec, words: &[String], problems: &mut Problems) {
        let words = words.iter().enumerate().map(|(i, word)| (format!("COMMAND[{i}]"), word.as_str()));
        let words: Vec<(String, &str)> = words.collect();
        scope(spec, self.trainer(), self.source.variable()).check_words(&words, problems);
    }

    /// Containers without an image: what the API server refuses, and a local run does not need.
    pub fn missing_images(&self) -> Vec<Problem> {
        let pod = &self.json["spec"]["template"]["spec"];
        let missing =
            all_containers(pod).filter(|(_, _, container)| container["image"].as_str().is_none_or(str::is_empty));
        let problem = |(list, i, _): (&str, usize, _)| Problem {
            path: format!("{POD}.{list}[{i}].image"),
            message: "is missing: a local run needs none, but a cluster refuses the Job".to_owned(),
        };
        missing.map(problem).collect()
    }

    /// How long a trainer may take to end once it was told to. 5 s where the template says nothing: one that
    /// is PID 1 and handles no SIGTERM would hold its GPUs for Kubernetes' 30 s.
    pub fn grace_seconds(&self) -> u64 {
        self.pod()["terminationGracePeriodSeconds"].as_u64().unwrap_or(5)
    }

    /// How long a run may take, in seconds: the smaller of what the Job and its pod may.
    pub fn deadline(&self) -> Option<Deadline> {
        let seconds = |spec: &Value| spec["activeDeadlineSeconds"].as_u64();
        let job = seconds(self.job()).map(Deadline::Job);
        let pod = seconds(self.pod()).map(Deadline::Pod);
        job.into_iter().chain(pod).min_by_key(|deadline| deadline.seconds())
    }

    /// How long a Job is kept once its result is recorded, in seconds. One day where the template says nothing.
    pub fn ttl_seconds(&self) -> i64 {
        self.json["spec"]["ttlSecondsAfterFinished"].as_i64().unwrap_or(86_400)
    }
}

/// The trainer's container of a Job that runs: the template it was built from may have been edited since.
pub fn trainer_of(job: &Job) -> Option<&str> {
    let template = &job.spec.as_ref()?.template;
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let named = annotations.and_then(|annotations| annotations.get(DEFAULT_CONTAINER));
    let first = || Some(&template.spec.as_ref()?.containers.first()?.name);
    named.or_else(first).map(String::as_str)
}

/// Every container of a pod, with the name of its list and its position there.
pub(super) fn all_containers(pod: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    ["initContainers", "containers"].into_iter().flat_map(move |list| {
        let containers = pod[list].as_array().into_iter().flatten();
        containers.enumerate().map(move |(i, container)| (list, i, container))
    })
}

/// Whether what we read or change has the type that Kubernetes gives it; all else is the API server's to judge.
fn check_shape(json: &Value, problems: &mut Problems) -> bool {
    const OBJECTS: [&str; 13] = [
        "",
        "/metadata",
        "/metadata/labels",
        "/metadata/annotations",
        "/spec",
        "/spec/podFailurePolicy",
        "/spec/template",
        "/spec/template/metadata",
        "/spec/template/metadata/labels",
        "/spec/template/metadata/annotations",
        "/spec/template/spec",
        "/spec/template/spec/securityContext",
        "/spec/template/spec/nodeSelector",
    ];
    const LISTS: [&str; 4] = [
        "/spec/podFailurePolicy/rules",
        "/spec/template/spec/containers",
        "/spec/template/spec/initContainers",
        "/spec/template/spec/volumes",
    ];
    let mut shape = Shape { problems, holds: true };
    OBJECTS.iter().for_each(|at| shape.check(json, at, "spec.jobTemplate", "an object", Value::is_object));
    LISTS.iter().for_each(|at| shape.check(json, at, "spec.jobTemplate", "a list", Value::is_array));
    for at in ["/metadata", "/spec/template/metadata"] {
        for kind in ["labels", "annotations"] {
            let values = json.pointer(&format!("{at}/{kind}")).and_then(Value::as_object);
            for (key, value) in values.into_iter().flatten() {
                let path = format!("spec.jobTemplate{}.{kind}.{key}", at.replace('/', "."));
                shape.check(value, "", &path, "a string: put it in quotes", Value::is_string);
            }
        }
    }
    let numbers = ["parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished", "activeDeadlineSeconds"];
    for field in numbers {
        shape.check(json, &format!("/spec/{field}"), "spec.jobTemplate", "a whole number of 0 or more", |value| {
            value.as_i64().is_some_and(|n| n >= 0)
        });
    }
    let most = i64::from(i32::MAX);
    for (field, least) in [("activeDeadlineSeconds", 1), ("terminationGracePeriodSeconds", 0)] {
        let wanted = format!("a whole number from {least} to {most}");
        shape.check(json, &format!("/spec/template/spec/{field}"), "spec.jobTemplate", &wanted, |value| {
            value.as_i64().is_some_and(|n| (least..=most).contains(&n))
        });
    }
    for (list, i, container) in all_containers(&json["spec"]["template"]["spec"]) {
        let path = format!("{POD}.{list}[{i}]");
        if !container.is_object() {
            shape.check(container, "", &path, "an object", |_| false);
            continue;
        }
        for at in ["/resources", "/resources/limits", "/resources/requests", "/securityContext"] {
            shape.check(container, at, &path, "an object", Value::is_object);
        }
        for at in ["/env", "/volumeMounts", "/command", "/args"] {
            shape.check(container, at, &path, "a list", Value::is_array);
        }
    }
    shape.holds
}

struct Shape<'a> {
    problems: &'a mut Problems,
    holds: bool,
}

impl Shape<'_> {
    /// What stands at the pointer `at` may be missing or null, or must be `what`.
    fn check(&mut self, json: &Value, at: &str, path: &str, what: &str, is: impl Fn(&Value) -> bool) {
        let optional = !at.is_empty();
        if json.pointer(at).is_some_and(|value| !(is(value) || optional && value.is_null())) {
            self.problems.add(format!("{path}{}", at.replace('/', ".")), format!("must be {what}"));
            self.holds = false;
        }
    }
}

fn check_metadata(metadata: &Value, path: &str, problems: &mut Problems) {
    for key in metadata.as_object().into_iter().flat_map(Map::keys) {
        if !matches!(key.as_str(), "labels" | "annotations" | "creationTimestamp") {
            problems.add(format!("{path}.{key}"), "is set by the operator: only labels and annotations may be given");
        }
    }
    for kind in ["labels", "annotations"] {
        for key in metadata[kind].as_object().into_iter().flat_map(Map::keys) {
            if key.starts_with("sweep-operator.dev/") {
                problems.add(format!("{path}.{kind}.{key}"), "the prefix sweep-operator.dev/ is reserved");
            }
        }
    }
}

fn check_job(json: &Value, problems: &mut Problems) {
    for key in json.as_object().into_iter().flat_map(Map::keys) {
        if key != "metadata" && key != "spec" {
            problems
                .add(format!("spec.jobTemplate.{key}"), "is not a field of a job template: it has metadata and spec");
        }
    }
    let spec = &json["spec"];
    for key in ["selector", "manualSelector", "managedBy", "suspend"] {
        if spec.get(key).is_some_and(|value| !value.is_null()) {
            problems.add(format!("spec.jobTemplate.spec.{key}"), "belongs to the operator: leave it out");
        }
    }
    for key in ["parallelism", "completions"] {
        if spec[key].as_i64().is_some_and(|n| n > 1) && spec["completionMode"] != "Indexed" {
            problems.add(
                format!("spec.jobTemplate.spec.{key}"),
                "above 1 needs completionMode Indexed: then pod 0 reports for the Trial",
            );
        }
    }
    if spec.get("podReplacementPolicy").is_some_and(|policy| policy != "Failed") {
        problems.add(
            "spec.jobTemplate.spec.podReplacementPolicy",
            "must be Failed, or two pods of a Trial could hold GPUs at once: leave it out",
        );
    }
    if spec["podFailurePolicy"]["rules"].as_array().is_some_and(|rules| rules.len() > 19) {
        problems.add(
            "spec.jobTemplate.spec.podFailurePolicy.rules",
            "has more than 19 rules: the operator adds one, and 20 is the limit",
        );
    }
}

fn check_pod(pod: &Value, problems: &mut Problems) {
    if let Some(policy) = pod.get("restartPolicy").filter(|policy| *policy != "Never") {
        problems.add(
            format!("{POD}.restartPolicy"),
            format!("must be Never, not {policy}: the operator tells a failed Trial from a disrupted one"),
        );
    }
    for (i, volume) in pod["volumes"].as_array().into_iter().flatten().enumerate() {
        if volume["name"] == METRICS_VOLUME {
            problems.add(
                format!("{POD}.volumes[{i}].name"),
                format!("{METRICS_VOLUME} is reserved for the operator's own volume"),
            );
        }
    }
    let mut names = BTreeSet::new();
    for (list, i, container) in all_containers(pod) {
        let path = format!("{POD}.{list}[{i}].name");
        match container["name"].as_str() {
            None | Some("") => problems.add(path, "a container needs a name"),
            Some(SIDECAR_CONTAINER) => {
                problems.add(path, format!("{SIDECAR_CONTAINER} is reserved for the operator's own sidecar"))
            }
            Some(name) if !names.insert(name) => problems.add(path, format!("{name:?} is used twice")),
            Some(_) => {}
        }
    }
}

fn trainer(json: &Value, containers: &[Value], problems: &mut Problems) -> usize {
    let Some(wanted) = json["spec"]["template"]["metadata"]["annotations"][DEFAULT_CONTAINER].as_str() else {
        return 0;
    };
    containers.iter().position(|container| container["name"] == wanted).unwrap_or_else(|| {
        problems.add(
            format!("spec.jobTemplate.spec.template.metadata.annotations.{DEFAULT_CONTAINER}"),
            format!("names the trainer {wanted:?}, but no container has this name"),
        );
        0
    })
}

fn scope<'a>(spec: &'a StudySpec, container: &'a Value, metrics: Option<&'static str>) -> Scope<'a> {
    let is_indexed = spec.job_template["spec"]["completionMode"] == "Indexed";
    Scope { parameters: &spec.parameters, container, metrics, is_indexed }
}

fn check_container(spec: &StudySpec, container: &Value, path: &str, problems: &mut Problems) {
    for (i, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        if mount["name"] == METRICS_VOLUME {
            problems.add(
                format!("{path}.volumeMounts[{i}].name"),
                format!("{METRICS_VOLUME} is reserved for the operator's own volume"),
            );
        }
        if mount["mountPath"].as_str().is_some_and(|at| std::path::Path::new(at).starts_with(METRICS_DIR)) {
            problems.add(
                format!("{path}.volumeMounts[{i}].mountPath"),
                format!("{METRICS_DIR} is reserved for the metrics file"),
            );
        }
    }
    for (i, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        let name = variable["name"].as_str().unwrap_or_default();
        let path = format!("{path}.env[{i}]");
        if spec.parameters.iter().any(|parameter| parameter.name == name) {
            problems.add(
                format!("{path}.name"),
                format!("{name} is a parameter, and would be hidden: rename one of the two"),
            );
        }
        if name.starts_with("SWEEP_") {
            problems.add(format!("{path}.name"), format!("{name}: the prefix SWEEP_ is reserved"));
        }
    }
}
