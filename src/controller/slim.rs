//! Objects as they are read from the API server's JSON: of each only what a pass asks for. The rest, such as managed fields
//! and pod templates, is most of what the watches bring; it is skipped before it costs memory.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::Request;
use http::header::{ACCEPT, HeaderValue};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::api::{Study, StudySpec, StudyStatus, Trial, TrialSpec, TrialStatus};

/// A kind of which less than all is read.
pub trait Read: Resource<DynamicType = ()> + Sized {
    /// Reads an object, and of it only what a pass asks for.
    ///
    /// # Errors
    /// The deserializer's.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// An object of which only what a pass asks for was read.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Slim<K>(pub K);

impl<'de, K: Read> Deserialize<'de> for Slim<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        K::read(from).map(Slim)
    }
}

/// An object of a watch, or why it cannot be read: one such object must not end the watch. Like kube's `DeserializeGuard`,
/// but for a copy of the object's text instead of a tree of its values.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unreadable {
    why: String,
    metadata: ObjectMeta,
}

impl<'de, K: Read> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(from)?;
        Ok(Guarded(match serde_json::from_str::<Slim<K>>(text.get()) {
            Ok(Slim(object)) => Ok(object),
            Err(error) => {
                let Nameable { metadata } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                Err(Unreadable { why: error.to_string(), metadata: metadata.into() })
            }
        }))
    }
}

/// A wrapper is of the same resource as what it holds.
macro_rules! resource_of {
    ($wrapper:ident, |$object:ident| $meta:expr, $meta_mut:expr) => {
        impl<K: Resource> Resource for $wrapper<K> {
            type DynamicType = K::DynamicType;
            type Scope = K::Scope;

            fn kind(of: &K::DynamicType) -> Cow<'_, str> {
                K::kind(of)
            }

            fn group(of: &K::DynamicType) -> Cow<'_, str> {
                K::group(of)
            }

            fn version(of: &K::DynamicType) -> Cow<'_, str> {
                K::version(of)
            }

            fn plural(of: &K::DynamicType) -> Cow<'_, str> {
                K::plural(of)
            }

            fn meta(&self) -> &ObjectMeta {
                let $object = self;
                $meta
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                let $object = self;
                $meta_mut
            }
        }
    };
}

resource_of!(Slim, |object| object.0.meta(), object.0.meta_mut());
resource_of!(
    Guarded,
    |object| object.0.as_ref().map_or_else(|error| &error.metadata, K::meta),
    object.0.as_mut().map_or_else(|error| &mut error.metadata, K::meta_mut)
);

/// What is read of an object's metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> ObjectMeta {
        ObjectMeta {
            name: read.name,
            namespace: read.namespace,
            uid: read.uid,
            resource_version: read.resource_version,
            generation: read.generation,
            creation_timestamp: read.creation_timestamp,
            deletion_timestamp: read.deletion_timestamp,
            deletion_grace_period_seconds: read.deletion_grace_period_seconds,
            labels: read.labels,
            owner_references: read.owner_references,
            ..ObjectMeta::default()
        }
    }
}

/// What is read of any object.
#[derive(Deserialize)]
struct Nameable {
    metadata: Metadata,
}

/// Of an object the metadata alone: all else is known, or not asked for.
#[derive(Deserialize)]
#[serde(from = "Nameable")]
pub struct MetadataOnly(pub ObjectMeta);

impl From<Nameable> for MetadataOnly {
    fn from(read: Nameable) -> MetadataOnly {
        MetadataOnly(read.metadata.into())
    }
}

/// A list of such; one of none has null for its items.
#[derive(Deserialize)]
pub struct MetadataList {
    pub items: Option<Vec<MetadataOnly>>,
}

/// Asks for no more than [`MetadataOnly`] as the answer: the API server has a fifth less to do for a Job.
pub fn answered_by_metadata(mut request: Request<Vec<u8>>) -> Request<Vec<u8>> {
    let metadata = HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    request.headers_mut().insert(ACCEPT, metadata);
    request
}

/// An object of this spec and status.
#[derive(Deserialize)]
struct Object<P, S> {
    metadata: Metadata,
    spec: P,
    status: Option<S>,
}

impl Read for Study {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Study, D::Error> {
        let Object { metadata, spec, status } = Object::<StudySpec, StudyStatus>::deserialize(from)?;
        Ok(Study { metadata: metadata.into(), spec, status })
    }
}

impl Read for Trial {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Trial, D::Error> {
        let Object { mut metadata, spec, mut status } = Object::<TrialSpec, TrialStatus>::deserialize(from)?;
        // There are thousands, and they stay: none has labels that are asked for, or room for what does not come.
        metadata.labels = None;
        metadata.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
        if let Some(status) = &mut status {
            status.conditions.shrink_to_fit();
            status.objectives.shrink_to_fit();
            status.observations.shrink_to_fit();
            status.metrics.shrink_to_fit();
            for series in &mut status.observations {
                series.steps.shrink_to_fit();
                series.values.shrink_to_fit();
                series.rungs.shrink_to_fit();
            }
            for metric in &mut status.metrics {
                metric.steps.shrink_to_fit();
                metric.values.shrink_to_fit();
            }
        }
        Ok(Trial { metadata: metadata.into(), spec, status })
    }
}

/// What is read of a Job's spec.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimJobSpec {
    suspend: Option<bool>,
    ttl_seconds_after_finished: Option<i32>,
    template: SlimPodTemplate,
}

/// Of a pod template what tells which container is the trainer.
#[derive(Deserialize)]
struct SlimPodTemplate {
    metadata: Option<SlimTemplateMetadata>,
    spec: Option<SlimPodSpec>,
}

#[derive(Deserialize)]
struct SlimTemplateMetadata {
    annotations: Option<BTreeMap<String, String>>,
}

/// What is read of a pod's spec.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimPodSpec {
    #[serde(default)]
    containers: Vec<SlimContainer>,
    node_name: Option<String>,
}

#[derive(Deserialize)]
struct SlimContainer {
    name: String,
}

impl From<SlimPodSpec> for PodSpec {
    fn from(read: SlimPodSpec) -> PodSpec {
        let containers =
            read.containers.into_iter().map(|SlimContainer { name }| Container { name, ..Container::default() });
        PodSpec { containers: containers.collect(), node_name: read.node_name, ..PodSpec::default() }
    }
}

impl From<SlimJobSpec> for JobSpec {
    fn from(read: SlimJobSpec) -> JobSpec {
        let of_template =
            |read: SlimTemplateMetadata| ObjectMeta { annotations: read.annotations, ..ObjectMeta::default() };
        let template = PodTemplateSpec {
            metadata: read.template.metadata.map(of_template),
            spec: read.template.spec.map(PodSpec::from),
        };
        JobSpec {
            suspend: read.suspend,
            ttl_seconds_after_finished: read.ttl_seconds_after_finished,
            template,
            ..JobSpec::default()
        }
    }
}

impl Read for Job {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Job, D::Error> {
        let Object { metadata, spec, status } = Object::<Option<SlimJobSpec>, JobStatus>::deserialize(from)?;
        Ok(Job { metadata: metadata.into(), spec: spec.map(JobSpec::from), status })
    }
}

impl Read for Pod {
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Pod, D::Error> {
        let Object { metadata, spec, status } = Object::<Option<SlimPodSpec>, PodStatus>::deserialize(from)?;
        Ok(Pod { metadata: metadata.into(), spec: spec.map(PodSpec::from), status })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_job_what_tells_its_trainer_and_how_it_stands_is_read_and_the_rest_is_skipped() {
        let json = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {
                "name": "digits-0003", "uid": "u", "labels": {"a": "b"}, "annotations": {"long": "text"},
                "managedFields": [{"manager": "x", "operation": "Update", "fieldsV1": {"f:metadata": {}}}],
            },
            "spec": {
                "suspend": false, "ttlSecondsAfterFinished": 60, "backoffLimit": 0,
                "template": {
                    "metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "train"}, "labels": {"c": "d"}},
                    "spec": {"containers": [{"name": "train", "image": "x", "env": [{"name": "lr", "value": "1"}]}], "volumes": []},
                },
            },
            "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]},
        });
        let Slim(job) = serde_json::from_value::<Slim<Job>>(json).unwrap();
        assert_eq!(crate::job::trainer_of(&job), Some("train"));
        assert_eq!(job.labels()["a"], "b");
        assert_eq!((job.metadata.managed_fields.is_none(), job.metadata.annotations.is_none()), (true, true));
        let spec = job.spec.unwrap();
        assert_eq!((spec.suspend, spec.ttl_seconds_after_finished), (Some(false), Some(60)));
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.containers, [Container { name: "train".to_owned(), ..Container::default() }]);
        assert_eq!(job.status.unwrap().succeeded, Some(1));
    }

    #[test]
    fn a_trial_is_kept_without_labels_and_without_room_to_spare() {
        let json = json!({
            "metadata": {"name": "s-0000", "labels": {"a": "b"}, "ownerReferences": [{"apiVersion": "v1", "kind": "Study", "name": "s", "uid": "u"}]},
            "spec": {"study": "s", "index": 0, "assignments": {}, "desiredState": "Running", "sampler": {"name": "random", "version": 1}},
            "status": {"phase": "Succeeded", "objectives": [{"metric": "score", "value": 1.0}],
                       "observations": [{"metric": "score", "count": 3, "steps": [1, 2, 3], "values": [0.1, 0.2, 0.3]}]},
        });
        let Slim(trial) = serde_json::from_str::<Slim<Trial>>(&json.to_string()).unwrap();
        assert!(trial.metadata.labels.is_none());
        let owners = trial.metadata.owner_references.unwrap();
        let status = trial.status.unwrap();
        let series = &status.observations[0];
        assert_eq!([owners.capacity(), status.objectives.capacity(), status.observations.capacity()], [1, 1, 1]);
        assert_eq!([series.steps.capacity(), series.values.capacity()], [3, 3]);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_named_and_does_not_end_what_it_stands_in() {
        let trial = |name: &str, index: serde_json::Value| {
            json!({"metadata": {"name": name, "namespace": "team-a"}, "spec": {
                "study": "s", "index": index, "assignments": {}, "desiredState": "Running",
                "sampler": {"name": "random", "version": 1},
            }})
        };
        let list =
            json!([trial("s-0000", json!(0)), trial("s-0001", json!("one")), trial("s-0002", json!(2))]).to_string();
        let read: Vec<Guarded<Trial>> = serde_json::from_str(&list).unwrap();
        let names: Vec<String> = read.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["s-0000", "s-0001", "s-0002"]);
        assert_eq!(read.iter().map(|trial| trial.0.is_ok()).collect::<Vec<_>>(), [true, false, true]);
        let why = read[1].0.as_ref().unwrap_err().to_string();
        assert!(why.contains("invalid type: string \"one\""), "{why}");
    }
}
