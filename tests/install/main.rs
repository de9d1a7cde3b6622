//! The operator as a platform team installs it: as a pod of the real node, from the image that is shipped, with the rights
//! that the chart gives and no others. One cluster, one test at a time: each installs for the whole cluster.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../cluster/harness.rs"]
mod harness;
#[allow(dead_code, reason = "these tests look at single Studies")]
#[path = "../cluster/observer.rs"]
mod observer;
#[allow(dead_code, reason = "these tests need the Studies of it, and no operator as a process")]
#[path = "../cluster/operator.rs"]
mod operator;

mod footprint;
mod lifecycle;
mod permissions;
mod policy;
mod rendering;
mod rights;
mod telemetry;
mod upgrade;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use harness::{Cluster, LIMIT, Namespace, Said, require_node, wait_for};
use operator::{SIDECAR_IMAGE, prepare_images};

/// Where the operator is installed.
pub const SYSTEM: &str = "sweep-operator-system";
/// The release, and with it everything that the chart makes.
pub const RELEASE: &str = "sweep-operator";

/// The cluster without an operator and CRDs, for one test at a time. None where there can be no node.
pub fn empty() -> Option<(&'static Cluster, MutexGuard<'static, ()>)> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::audited();
    if !require_node(cluster) {
        return None;
    }
    prepare_images(cluster);
    let ours = "app.kubernetes.io/name=sweep-operator";
    let kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
    cluster.kubectl_ok(["delete", kinds, "-l", ours, "--ignore-not-found"]);
    cluster.kubectl_ok(["delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=120s"]);
    let crds = ["studies", "trials"].map(|plural| format!("crd/{plural}.sweep-operator.dev"));
    cluster.kubectl_ok(["delete", &crds[0], &crds[1], "--ignore-not-found", "--timeout=120s"]);
    Some((cluster, turn))
}

/// The operator's namespace, where Pod Security `restricted` is enforced.
pub fn make_system_namespace(cluster: &Cluster) {
    cluster.kubectl_ok(["create", "namespace", SYSTEM]);
    cluster.enforce_restricted(SYSTEM);
}

/// A namespace of users, where Pod Security `restricted` is enforced.
pub fn team(cluster: &'static Cluster, prefix: &str) -> Namespace {
    let namespace = cluster.namespace(prefix);
    cluster.enforce_restricted(&namespace.name);
    namespace
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Helm of a major version.
#[derive(Clone, Copy)]
pub struct Helm {
    name: &'static str,
}

pub const HELM_3: Helm = Helm { name: "helm3" };
pub const HELM_4: Helm = Helm { name: "helm4" };

impl Helm {
    /// Runs it with the chart's image at hand: `action` is `install`, `upgrade` and so on.
    pub fn run(self, cluster: &Cluster, args: &[&str]) -> Said {
        let home = cluster.dir().join(self.name);
        let output = Command::new(tool(self.name))
            .args(args)
            .args(["--namespace", SYSTEM])
            .env("KUBECONFIG", &cluster.kubeconfig)
            .envs(["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, home.clone())))
            .current_dir(repository())
            .stdin(Stdio::null())
            .output();
        output.unwrap().into()
    }

    /// Runs it; panics with what it said.
    pub fn ok(self, cluster: &Cluster, args: &[&str]) -> String {
        let said = self.run(cluster, args);
        assert!(said.success, "{} {args:?}: {}{}", self.name, said.stdout, said.stderr);
        said.stdout
    }

    /// `install` or `upgrade`, waiting until the operator is ready; `values` are further `--set` values.
    pub fn apply(self, cluster: &Cluster, action: &str, values: &[&str]) -> String {
        let set = IMAGE_VALUES.iter().chain(values).flat_map(|value| ["--set", value]);
        let args: Vec<&str> =
            [action, RELEASE, "charts/sweep-operator", "--wait", "--timeout=120s"].into_iter().chain(set).collect();
        self.ok(cluster, &args)
    }
}

/// The image that `make image` has built, and the node has.
pub const IMAGE_VALUES: [&str; 4] =
    ["image.registry=localhost", "image.repository=sweep-operator", "image.tag=dev", "image.pullPolicy=Never"];

/// The path of a program that the tests need; built where this machine never did.
pub fn tool(name: &str) -> PathBuf {
    let script = repository().join("tests/tools.sh");
    let built = Command::new(&script).args(["build", name]).status().unwrap();
    assert!(built.success(), "tests/tools.sh build {name} failed");
    let said = Command::new(&script).args(["path", name]).output().unwrap();
    PathBuf::from(String::from_utf8(said.stdout).unwrap().trim())
}

/// The operator's pods.
pub fn pods(cluster: &Cluster) -> Vec<Value> {
    let list = cluster.get(SYSTEM, &["pods", "-l", "app.kubernetes.io/name=sweep-operator"]).unwrap();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Waits until so many pods of the operator are ready, and no other is left.
pub fn wait_for_pods(cluster: &Cluster, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} ready pods"), LIMIT, || {
        let pods = pods(cluster);
        let is_ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let ready = pods.len() == count && pods.iter().all(is_ready);
        if ready { Ok(pods) } else { Err(pods.iter().map(|pod| pod["status"].clone()).collect::<Vec<_>>()) }
    })
}

/// The pod that holds the Lease.
pub fn leader(cluster: &Cluster) -> String {
    wait_for("a leader", LIMIT, || {
        let lease = cluster.get(SYSTEM, &["lease", RELEASE]).unwrap_or_default();
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let pod = holder.split('_').next().unwrap_or_default().to_owned();
        // The Lease of a leader that was killed stays for a while.
        let lives = pods(cluster).iter().any(|other| other["metadata"]["name"] == pod);
        if lives { Ok(pod) } else { Err(holder.to_owned()) }
    })
}

/// A Service's address on this machine, passed on to a pod: there is no kube-proxy. Ended when dropped; the cluster takes the
/// address along.
pub struct Relay(std::process::Child);

impl Relay {
    /// For the operator's port for health and metrics.
    pub fn start(cluster: &Cluster) -> Relay {
        let service = cluster.get(SYSTEM, &["service", &format!("{RELEASE}-metrics")]).unwrap();
        let address = service["spec"]["clusterIP"].as_str().unwrap();
        let pod = pods(cluster)[0]["status"]["podIP"].as_str().unwrap().to_owned();
        let added =
            Command::new("ip").args(["address", "add", &format!("{address}/32"), "dev", "lo"]).status().unwrap();
        assert!(added.success());
        let listen = format!("TCP-LISTEN:8080,bind={address},reuseaddr,fork");
        Relay(Command::new("socat").args([listen, format!("TCP:{pod}:8080")]).spawn().unwrap())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the operator logged.
pub fn log(cluster: &Cluster) -> String {
    cluster.kubectl(["-n", SYSTEM, "logs", "-l", "app.kubernetes.io/name=sweep-operator", "--tail=200"]).stdout
}

/// An answer of the first pod's port for health and metrics.
pub fn scrape(pod: &Value, path: &str) -> String {
    let url = format!("http://{}:8080{path}", pod["status"]["podIP"].as_str().unwrap());
    let said: Said = Command::new(operator::SWEEP).args(["probe", &url]).output().unwrap().into();
    assert!(said.success, "{}", said.stderr);
    said.stdout
}

/// Adds what Pod Security `restricted` asks for to a Study of [`operator::shell_study`].
pub fn restricted(mut study: Value) -> Value {
    let pod = &mut study["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    pod["securityContext"] = serde_json::json!({
        "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    });
    pod["containers"][0]["securityContext"] = serde_json::json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
    });
    study
}

/// The example study, on GPUs that the node says it has.
pub fn digits(cluster: &Cluster, trials: u32) -> Value {
    cluster.set_capacity("nvidia.com/gpu", 3);
    let mut study = operator::example("study.yaml");
    study["spec"]["maxTrials"] = trials.into();
    study
}

/// The sidecar's image is the operator's.
#[test]
fn the_image_is_one_static_program_of_less_than_15_mib_that_no_root_runs() {
    if !require_node(Cluster::audited()) {
        return;
    }
    let archive = operator::image_archive();
    let size = std::fs::metadata(&archive).unwrap().len();
    assert!(size < 15 << 20, "{size} bytes");
    let dir = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(dir.path()).status().unwrap();
    assert!(unpacked.success());
    let read =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(dir.path().join(name)).unwrap()).unwrap() };
    let manifest = &read("manifest.json")[0];
    assert_eq!(manifest["RepoTags"][0], SIDECAR_IMAGE);
    let config = &read(manifest["Config"].as_str().unwrap())["config"];
    assert_eq!((&config["User"], &config["Entrypoint"][0]), (&"65532:65532".into(), &"/sweep".into()));
    let environment = config["Env"].as_array().unwrap();
    assert!(environment.contains(&"MALLOC_ARENA_MAX=1".into()), "{environment:?}");
    assert!(environment.contains(&"MALLOC_MMAP_THRESHOLD_=65536".into()), "{environment:?}");
    assert!(config["Labels"]["org.opencontainers.image.revision"].as_str().is_some_and(|commit| commit.len() >= 7));
    let layers = manifest["Layers"].as_array().unwrap();
    let files: Vec<String> = layers
        .iter()
        .flat_map(|layer| {
            let list = Command::new("tar").arg("-tf").arg(dir.path().join(layer.as_str().unwrap())).output().unwrap();
            String::from_utf8(list.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(files, ["sweep"]);
}
