//! The native sidecar (KEP-753) that follows the metrics file and prints it for the operator.

use serde_json::{Value, json};

use super::template::Template;
use crate::metrics::Grammar;

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
    let mut arguments = vec![
        "sidecar".to_owned(),
        format!("--file={METRICS_FILE}"),
        format!("--objective={}={:?}", template.metric, template.direction),
    ];
    if *template.grammar != Grammar::default() {
        // Kubernetes expands `$(…)`, and reads `$$` as one `$`.
        arguments.push(format!("--grammar={}", json!(*template.grammar)).replace('$', "$$"));
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
        "volumeMounts": [{"name": METRICS_VOLUME, "mountPath": METRICS_DIR, "readOnly": true}],
    });
    if let Some(policy) = &settings.pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if pod_runs_as_root {
        container["securityContext"]["runAsUser"] = json!(65532);
    }
    container
}
