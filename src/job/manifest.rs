//! The Job of a Trial's run.

use serde_json::{Map, Value, json};

use super::sidecar::{self, SidecarSettings};
use super::template::Template;
use super::{METRICS_DIR, METRICS_FILE, METRICS_VOLUME};
use crate::api::{FIELD_MANAGER, LABEL_MANAGED_BY, LABEL_STUDY, LABEL_TRIAL};

/// What a Job is called, and to whom it belongs.
#[derive(Clone, Debug)]
pub struct JobIdentity {
    /// The Job's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The Study's name.
    pub study: String,
    /// The Trial's name.
    pub trial: String,
    /// The Trial's UID.
    pub trial_uid: String,
}

/// The name of a Trial's Job.
pub use crate::core::life::run_name as job_name;

/// The Job as JSON. `environment` is what [`super::environment`] gave.
pub fn job(
    template: &Template,
    identity: &JobIdentity,
    environment: &[(String, String)],
    settings: &SidecarSettings,
) -> Value {
    let mut metadata = kept_metadata(&template.json["metadata"]);
    label(&mut metadata, identity);
    metadata.insert("name".to_owned(), json!(identity.name));
    metadata.insert("namespace".to_owned(), json!(identity.namespace));
    metadata.insert(
        "ownerReferences".to_owned(),
        json!([{
            "apiVersion": "sweep-operator.dev/v1alpha1",
            "kind": "Trial",
            "name": identity.trial,
            "uid": identity.trial_uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }]),
    );
    let mut spec = template.json["spec"].as_object().cloned().unwrap_or_default();
    // Set once the result is recorded: a Job that is gone before takes its log along.
    spec.remove("ttlSecondsAfterFinished");
    spec.entry("backoffLimit").or_insert(json!(0));
    spec.insert("podReplacementPolicy".to_owned(), json!("Failed"));
    let mut rules =
        vec![json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]})];
    rules.extend(template.json["spec"]["podFailurePolicy"]["rules"].as_array().into_iter().flatten().cloned());
    let mut policy = template.json["spec"]["podFailurePolicy"].as_object().cloned().unwrap_or_default();
    policy.insert("rules".to_owned(), json!(rules));
    spec.insert("podFailurePolicy".to_owned(), Value::Object(policy));
    let mut pod_metadata = kept_metadata(&template.json["spec"]["template"]["metadata"]);
    label(&mut pod_metadata, identity);
    spec.insert("template".to_owned(), json!({"metadata": pod_metadata, "spec": pod(template, environment, settings)}));
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}

/// The same Job for a dry run: the API server names it, nobody owns it.
pub fn dry_run_job(
    template: &Template,
    identity: &JobIdentity,
    environment: &[(String, String)],
    settings: &SidecarSettings,
) -> Value {
    let mut job = job(template, identity, environment, settings);
    if let Some(metadata) = job["metadata"].as_object_mut() {
        metadata.remove("name");
        metadata.remove("ownerReferences");
        metadata.insert("generateName".to_owned(), json!(format!("{}-", identity.study)));
    }
    job
}

fn pod(template: &Template, environment: &[(String, String)], settings: &SidecarSettings) -> Value {
    let mut pod = template.json["spec"]["template"]["spec"].clone();
    pod["restartPolicy"] = json!("Never");
    default(&mut pod, "automountServiceAccountToken", json!(false));
    default(&mut pod, "terminationGracePeriodSeconds", json!(template.grace_seconds()));
    for list in ["initContainers", "containers"] {
        for container in pod.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            prepend_environment(container, environment);
        }
    }
    let root = pod["securityContext"]["runAsUser"] == 0;
    let trainer = &mut pod["containers"][template.trainer];
    if let Some(gpu) = &template.gpu {
        for kind in ["limits", "requests"] {
            trainer["resources"][kind][gpu.resource()] = json!(gpu.count.to_string());
        }
    }
    if template.source.has_sidecar() {
        let shared = shared(template);
        if let Some((variable, value)) = template.source.variable().zip(shared.variable) {
            prepend_environment(trainer, &[(variable.to_owned(), value)]);
        }
        if let Some(at) = shared.trainers_mount {
            append(trainer, "volumeMounts", json!({"name": METRICS_VOLUME, "mountPath": at}));
        }
        if let Some(size) = shared.size {
            append(&mut pod, "volumes", json!({"name": METRICS_VOLUME, "emptyDir": {"sizeLimit": size}}));
        }
        append(&mut pod, "initContainers", sidecar::container(template, settings, root));
        for secret in settings.pull_secrets.iter().map(|name| json!({"name": name})) {
            if !pod["imagePullSecrets"].as_array().is_some_and(|theirs| theirs.contains(&secret)) {
                append(&mut pod, "imagePullSecrets", secret);
            }
        }
    }
    pod
}

/// What a trainer and its sidecar share.
struct Shared<'a> {
    /// What the variable of the source says.
    variable: Option<String>,
    /// Where our volume is in the trainer's container.
    trainers_mount: Option<&'a str>,
    /// How large our volume may become.
    size: Option<&'static str>,
}

fn shared(template: &Template) -> Shared<'_> {
    match (&template.events, &template.prometheus) {
        // Images, histograms and graphs are in event files, too.
        (Some(folder), _) => Shared {
            variable: Some(folder.path.clone()),
            trainers_mount: Some(folder.path.as_str()).filter(|_| folder.is_ours),
            size: Some("10Gi").filter(|_| folder.is_ours),
        },
        // The sidecar's own, for what it has read.
        (None, Some(page)) => Shared { variable: Some(page.port.to_string()), trainers_mount: None, size: Some("1Mi") },
        (None, None) => {
            Shared { variable: Some(METRICS_FILE.to_owned()), trainers_mount: Some(METRICS_DIR), size: Some("1Gi") }
        }
    }
}

/// Ours stand first, so that the user's may refer to them. Kubernetes expands `$(…)` in values, and
/// reads `$$` as one `$`.
fn prepend_environment(container: &mut Value, environment: &[(String, String)]) {
    let theirs = container["env"].as_array().cloned().unwrap_or_default();
    let is_theirs = |name: &String| theirs.iter().any(|variable| variable["name"] == *name);
    let ours = environment.iter().filter(|(name, _)| !is_theirs(name));
    let ours = ours.map(|(name, value)| json!({"name": name, "value": value.replace('$', "$$")}));
    container["env"] = ours.chain(theirs.iter().cloned()).collect();
}

fn append(object: &mut Value, list: &str, item: Value) {
    match object[list].as_array_mut() {
        Some(items) => items.push(item),
        None => object[list] = json!([item]),
    }
}

fn default(object: &mut Value, key: &str, value: Value) {
    if object.get(key).is_none_or(Value::is_null) {
        object[key] = value;
    }
}

fn kept_metadata(metadata: &Value) -> Map<String, Value> {
    let kept = ["labels", "annotations"].into_iter();
    kept.filter_map(|key| Some((key.to_owned(), metadata.get(key)?.clone()))).collect()
}

fn label(metadata: &mut Map<String, Value>, identity: &JobIdentity) {
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    labels[LABEL_STUDY] = json!(identity.study);
    labels[LABEL_TRIAL] = json!(identity.trial);
    labels[LABEL_MANAGED_BY] = json!(FIELD_MANAGER);
}
