//! What a local run leaves out of a Study's template: one list, told once at the start.

use std::path::Path;

use serde_json::Value;

use crate::job::Template;

/// Fields of a Job, a pod and a container that a local run honours, that ask for nothing where there is no Job, or that
/// are told otherwise.
const HONOURED: [&str; 20] = [
    "activeDeadlineSeconds",
    "args",
    "automountServiceAccountToken",
    "command",
    "containers",
    "enableServiceLinks",
    "env",
    // Told one by one.
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "podReplacementPolicy",
    "ports",
    "restartPolicy",
    "template",
    "terminationGracePeriodSeconds",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "ttlSecondsAfterFinished",
    "workingDir",
];

/// What becomes of the others. One that is not listed is told all the same.
const INSTEAD: [(&str, &str); 31] = [
    ("affinity", NO_SCHEDULING),
    ("backoffLimit", "a trainer that fails is not started again"),
    ("backoffLimitPerIndex", "a trainer that fails is not started again"),
    ("completionMode", ONE_PROCESS),
    ("completions", ONE_PROCESS),
    ("dnsConfig", AS_HERE),
    ("dnsPolicy", AS_HERE),
    ("hostAliases", AS_HERE),
    ("hostIPC", AS_HERE),
    ("hostNetwork", AS_HERE),
    ("hostPID", AS_HERE),
    ("imagePullSecrets", "no image is pulled"),
    ("initContainers", "they are not run"),
    ("lifecycle", "its hooks are not run"),
    ("livenessProbe", NO_PROBES),
    ("nodeName", NO_SCHEDULING),
    ("nodeSelector", NO_SCHEDULING),
    ("parallelism", ONE_PROCESS),
    ("podFailurePolicy", "each exit code but 0 is a failure"),
    ("priorityClassName", NO_SCHEDULING),
    ("readinessProbe", NO_PROBES),
    ("resources", "nothing is limited"),
    ("runtimeClassName", AS_HERE),
    ("schedulerName", NO_SCHEDULING),
    ("securityContext", "trials run as you do"),
    ("serviceAccountName", "no token is there"),
    ("startupProbe", NO_PROBES),
    ("tolerations", NO_SCHEDULING),
    ("topologySpreadConstraints", NO_SCHEDULING),
    ("volumeMounts", "paths are those of this machine"),
    ("volumes", "nothing is mounted"),
];
const NO_SCHEDULING: &str = "all runs on this machine";
const ONE_PROCESS: &str = "a trial is one process";
const AS_HERE: &str = "it is as it is on this machine";
const NO_PROBES: &str = "nothing is probed";

/// A field that is not honoured.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// Its path in the Study.
    pub path: String,
    /// What happens instead; empty where nothing is known of it.
    pub instead: String,
}

/// What a run in the folder `here` leaves out of the template, in a Study's order. `unresolved` are variables; `alone` tells
/// that one trial runs at a time.
pub fn left_out(
    template: &Template,
    unresolved: &[LeftOut],
    hands_out_gpus: bool,
    alone: bool,
    here: &Path,
) -> Vec<LeftOut> {
    let mut found = Vec::new();
    if let Some(path) = template.tensor_board.as_ref().and_then(|events| events.path.as_ref()).filter(|_| !alone) {
        let instead = format!("trials that run at once would share {path}: each is to write to $SWEEP_METRICS");
        add(&mut found, "spec.metrics.tensorBoard.path", &instead);
    }
    if let Some(page) = template.prometheus.as_ref().filter(|_| !alone) {
        let port = page.port;
        let instead = format!("trials that run at once cannot share {port}: each is to listen on $SWEEP_METRICS_PORT");
        add(&mut found, "spec.metrics.prometheus.port", &instead);
    }
    if template.gpu.is_some() && !hands_out_gpus {
        add(&mut found, "spec.gpu", "every trial sees all GPUs: --gpus 0,1,… hands them out");
    }
    let (job, pod, trainer) = ("spec.jobTemplate.spec", "spec.jobTemplate.spec.template.spec", template.trainer_path());
    add_fields(&mut found, template.job(), job);
    add_fields(&mut found, template.pod(), pod);
    for (i, container) in template.other_containers() {
        let name = container["name"].as_str().unwrap_or_default();
        add(&mut found, &format!("{pod}.containers[{i}]"), &format!("{name} is not run"));
    }
    add_fields(&mut found, template.trainer(), &trainer);
    if let Some(folder) = template.trainer()["workingDir"].as_str().filter(|folder| Path::new(folder) != here) {
        add(&mut found, &format!("{trainer}.workingDir"), &format!("trials start here, not in {folder}"));
    }
    found.extend_from_slice(unresolved);
    found
}

/// All of it as one line for a person; None where nothing is left out.
pub fn note(left_out: &[LeftOut]) -> Option<String> {
    let one = |field: &LeftOut| match field.instead.as_str() {
        "" => field.path.clone(),
        instead => format!("{} ({instead})", field.path),
    };
    let all: Vec<String> = left_out.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("note: a local run leaves out of the Study: {}", all.join("; ")))
}

fn add(found: &mut Vec<LeftOut>, path: &str, instead: &str) {
    found.push(LeftOut { path: path.to_owned(), instead: instead.to_owned() });
}

/// Adds the fields of `object` that ask for something and are not honoured.
fn add_fields(found: &mut Vec<LeftOut>, object: &Value, path: &str) {
    for (field, value) in object.as_object().into_iter().flatten() {
        let asks = match value {
            Value::Null | Value::Bool(false) => false,
            Value::Bool(true) => true,
            Value::Number(number) => number.as_u64() != Some(usual(field)),
            Value::String(text) => !text.is_empty() && text != "NonIndexed",
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        };
        if asks && !HONOURED.contains(&field.as_str()) {
            let instead = INSTEAD.iter().find(|(name, _)| name == field).map_or("", |(_, instead)| instead);
            add(found, &format!("{path}.{field}"), instead);
        }
    }
}

/// The number that is what a local run does.
fn usual(field: &str) -> u64 {
    u64::from(matches!(field, "parallelism" | "completions"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::api::StudySpec;
    use crate::validate::validate;

    fn template(job: Value) -> Template {
        let spec: StudySpec = serde_json::from_value(json!({
            "objectives": [{"metric": "acc", "direction": "Maximize"}],
            "parameters": [{"name": "x", "double": {"min": 0, "max": 1}}],
            "maxTrials": 1,
            "jobTemplate": {"spec": job},
        }))
        .unwrap();
        validate("t", &spec).unwrap().template
    }

    #[test]
    fn a_template_of_which_all_is_honoured_or_asks_for_nothing_leaves_nothing_out() {
        let template = template(json!({
            "activeDeadlineSeconds": 9, "backoffLimit": 0, "parallelism": 1, "completions": 1,
            "completionMode": "NonIndexed", "ttlSecondsAfterFinished": null,
            "template": {"spec": {
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 3, "volumes": [], "hostNetwork": false,
                "nodeSelector": {}, "automountServiceAccountToken": false,
                "containers": [{"name": "t", "image": "i", "command": ["a"], "args": ["b"], "workingDir": "/here",
                    "env": [{"name": "A", "value": "b"}]}],
            }},
        }));
        assert_eq!(note(&left_out(&template, &[], false, true, Path::new("/here"))), None);
    }

    #[test]
    fn what_is_left_out_is_named_with_what_happens_instead_and_nothing_else_is() {
        let template = template(json!({
            "backoffLimit": 3, "parallelism": 2, "completions": 2, "completionMode": "Indexed",
            "template": {"metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "t"}}, "spec": {
                "initContainers": [{"name": "fetch"}], "volumes": [{"name": "v"}], "tolerations": [{"key": "k"}],
                "serviceAccountName": "s", "hostNetwork": true, "aFieldOfTomorrow": {"x": 1},
                "containers": [{"name": "helper"}, {"name": "t", "workingDir": "/app", "resources": {"limits": {"cpu": 1}},
                    "lifecycle": {"preStop": {}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "securityContext": {"runAsUser": 1}}],
            }},
        }));
        let found = left_out(&template, &[], false, true, Path::new("/here"));
        let said: Vec<String> = found.iter().map(|f| format!("{}: {}", f.path, f.instead)).collect();
        let said = said
            .join("\n")
            .replace("spec.jobTemplate.spec.template.spec", "POD")
            .replace("spec.jobTemplate.spec", "JOB");
        assert_eq!(
            said,
            "JOB.backoffLimit: a trainer that fails is not started again\n\
             JOB.completionMode: a trial is one process\n\
             JOB.completions: a trial is one process\n\
             JOB.parallelism: a trial is one process\n\
             POD.aFieldOfTomorrow: \n\
             POD.hostNetwork: it is as it is on this machine\n\
             POD.initContainers: they are not run\n\
             POD.serviceAccountName: no token is there\n\
             POD.tolerations: all runs on this machine\n\
             POD.volumes: nothing is mounted\n\
             POD.containers[0]: helper is not run\n\
             POD.containers[1].lifecycle: its hooks are not run\n\
             POD.containers[1].resources: nothing is limited\n\
             POD.containers[1].securityContext: trials run as you do\n\
             POD.containers[1].volumeMounts: paths are those of this machine\n\
             POD.containers[1].workingDir: trials start here, not in /app"
        );
        let line = note(&found).unwrap();
        assert!(
            line.starts_with(
                "note: a local run leaves out of the Study: spec.jobTemplate.spec.backoffLimit (a trainer"
            )
        );
        assert!(line.contains("; spec.jobTemplate.spec.template.spec.aFieldOfTomorrow; "), "{line}");
    }
}
