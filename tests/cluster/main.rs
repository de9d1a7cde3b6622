//! Tests against a real Kubernetes cluster, which `cluster.sh` starts.

#![allow(clippy::unwrap_used, missing_docs)]

mod docs;
mod examples;
mod faults;
mod harness;
mod mistakes;
mod observer;
mod operator;
mod proxy;
mod sweeps;
#[path = "../data/wrong.rs"]
mod wrong;

use harness::{Cluster, LIMIT, require_node, wait_for};

#[test]
fn a_job_with_a_native_sidecar_runs_to_complete() {
    let cluster = Cluster::shared();
    if !require_node(cluster) {
        return;
    }
    cluster.load_image("sweep.test/shell:1", "65532:65532", &["/bin/dash:/bin/sh", "/bin/sleep"]);
    cluster.set_capacity("sweep.test/smoke-gpu", 1);
    let namespace = cluster.namespace("smoke");
    namespace.apply(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {name: smoke}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      securityContext: {runAsNonRoot: true}
      initContainers:
        - name: sidecar
          image: sweep.test/shell:1
          imagePullPolicy: Never
          restartPolicy: Always
          command: [sh, -c, "trap 'echo flushed > /dev/termination-log; exit 0' TERM; echo watching; while :; do sleep 0.1; done"]
      containers:
        - name: trainer
          image: sweep.test/shell:1
          imagePullPolicy: Never
          command: [sh, -c, "echo accuracy=0.9; sleep 1"]
          resources: {limits: {sweep.test/smoke-gpu: 1}}
"#,
    );
    wait_for("complete job", LIMIT, || {
        let job = namespace.get(&["job", "smoke"]).unwrap();
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        assert!(!conditions.iter().any(|c| c["type"] == "Failed"), "the job failed: {conditions:#?}");
        if conditions.iter().any(|c| c["type"] == "Complete" && c["status"] == "True") {
            return Ok(());
        }
        Err(job["status"].clone())
    });
    assert_eq!(namespace.kubectl_ok(&["logs", "job/smoke", "-c", "trainer"]), "accuracy=0.9\n");
    assert_eq!(namespace.kubectl_ok(&["logs", "job/smoke", "-c", "sidecar"]), "watching\n");
    let pods = namespace.get(&["pods", "-l", "job-name=smoke"]).unwrap();
    let ended = &pods["items"][0]["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["message"], "flushed\n", "the sidecar is stopped by TERM, and gets to write: {ended:#}");
}
