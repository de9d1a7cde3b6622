//! The native sidecar (KEP-753) that follows the trainer's metrics and prints them for the operator.

use serde_json::{Value, json};

use super::template::Template;
use crate::metrics::{Grammar, PrometheusSpec};

use super::{METRICS_DIR, METRICS_FILE, METRICS_VOLUME};

/// The name of the injected container.
pub const SIDECAR_CONTAINER: &str = "sweep-sidecar";

/// What the operator was told about its sidecar.
#[derive(Clone, Debug)]
pub struct SidecarSettings {
    /// The operator's own image.
    pub image: String,
    /// The image's pull policy; the cluster's default where None.
    pub pull_policy: Option<String>,
    /// CPU request and limit.
    pub cpu: String,
    /// Memory request and limit.
    pub memory: String,
    /// Secrets with which nodes pull the image, by name; each namespace of Studies has its own.
    pub pull_secrets: Vec<String>,
}

/// The sidecar's container. Restricted; no user is named, since OpenShift picks one, unless the pod runs as root.
pub fn container(template: &Template, settings: &SidecarSettings, pod_runs_as_root: bool) -> Value {
    let resources = json!({"cpu": settings.cpu, "memory": settings.memory});
    let ours = |is_read_only: bool| {
        let mut mount = json!({"name": METRICS_VOLUME, "mountPath": METRICS_DIR});
        if is_read_only {
            mount["readOnly"] = json!(true);
        }
        mount
    };
    let (place, mount) = match (&template.events, &template.prometheus) {
        (Some(folder), _) => (vec![format!("--tensor-board={}", escaped(&folder.path))], folder.mount.clone()),
        (None, Some(page)) => {
            let path = page.path.as_deref().unwrap_or(PrometheusSpec::PATH);
            let state = format!("--state={METRICS_DIR}/reached.json");
            (vec![format!("--prometheus={}{}", page.port, escaped(path)), state], ours(false))
        }
        (None, None) => (vec![format!("--file={METRICS_FILE}")], ours(true)),
    };
    let mut arguments = vec!["sidecar".to_owned()];
    arguments.extend(place);
    arguments.extend(template.metrics.iter().map(|metric| format!("--objective={metric}={:?}", template.direction)));
    if *template.grammar != Grammar::default() {
        arguments.push(format!("--grammar={}", escaped(&json!(*template.grammar).to_string())));
    }
    let mut container = json!({
        "name": SIDECAR_CONTAINER,
        "image": settings.image,
        "args": arguments,
        "restartPolicy": "Always",
        "env": [{"name": "SWEEP_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [mount],
    });
    if let Some(policy) = &settings.pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if pod_runs_as_root {
        container["securityContext"]["runAsUser"] = json!(65532);
    }
    container
}

/// A text of which Kubernetes expands nothing: it reads `$$` as one `$`.
fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}
