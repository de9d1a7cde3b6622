//! The operator as a process beside the cluster, and Studies to give it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::harness::{Cluster, LIMIT, Namespace, wait_for};

pub const SWEEP: &str = env!("CARGO_BIN_EXE_sweep");
/// The operator's image, which is also the sidecar's.
pub const SIDECAR_IMAGE: &str = "localhost/sweep-operator:dev";

/// The cluster with our CRDs, and with the images of the operator, of the digits trainer, and of a shell.
pub fn prepared() -> &'static Cluster {
    static READY: OnceLock<()> = OnceLock::new();
    let cluster = Cluster::shared();
    READY.get_or_init(|| prepare(cluster));
    cluster
}

/// Gives a cluster our CRDs and the images.
pub fn prepare(cluster: &Cluster) {
    cluster.install_crds();
    prepare_images(cluster);
}

/// Gives a cluster's node the images.
pub fn prepare_images(cluster: &Cluster) {
    if cluster.node().is_ok() {
        let digits = digits();
        cluster.load_archive(&image_archive());
        cluster.load_image("localhost/sweep-digits:dev", "65532", &[&format!("{}:/usr/bin/digits", digits.display())]);
        let shell = ["/bin/dash:/bin/sh", "/bin/sleep", "/bin/date", "/usr/bin/perl"];
        cluster.load_image("localhost/shell:dev", "65532", &shell);
    }
}

/// The image that is shipped, as `make image` has built it.
pub fn image_archive() -> PathBuf {
    let target = Path::new(SWEEP).ancestors().nth(2).unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let path = target.join(format!("image/sweep-operator-{architecture}.tar"));
    assert!(path.exists(), "{} is missing: run `make image` first", path.display());
    path
}

/// The example trainer, which `cargo test` has built.
pub fn digits() -> PathBuf {
    let path = Path::new(SWEEP).with_file_name("examples").join("digits");
    assert!(path.exists(), "{} is missing: run `cargo build --examples` first", path.display());
    path
}

/// An operator that serves one namespace. Ended when dropped.
pub struct Operator {
    process: Child,
    log: PathBuf,
    /// With what it was started.
    kubeconfig: PathBuf,
    args: Vec<String>,
}

impl Operator {
    /// The only one in its namespace.
    pub fn start(cluster: &Cluster, namespace: &Namespace) -> Operator {
        Operator::start_with(&cluster.kubeconfig, namespace, &["--leader-elect=false"])
    }

    /// One with further arguments.
    pub fn start_with(kubeconfig: &Path, namespace: &Namespace, more: &[&str]) -> Operator {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("{}-operator-{number}.log", namespace.name));
        let args = ["operator", "--namespace", &namespace.name, "--sidecar-image", SIDECAR_IMAGE];
        let args = args.iter().chain(&["--sidecar-pull-policy", "Never", "--listen", "127.0.0.1:0"]);
        let args =
            args.chain(&["--log", "sweep_operator=debug,warn"]).chain(more).map(|arg| (*arg).to_owned()).collect();
        let kubeconfig = kubeconfig.to_owned();
        let process = spawn(&kubeconfig, &args, &log);
        Operator { process, log, kubeconfig, args }
    }

    /// `kill -9`, and started again.
    pub fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(&self.kubeconfig, &self.args, &self.log);
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("end of the operator", LIMIT, || self.process.try_wait().unwrap().ok_or("it goes on"))
    }
}

fn spawn(kubeconfig: &Path, args: &Vec<String>, log: &Path) -> Child {
    let stderr = File::options().create(true).append(true).open(log).unwrap();
    let mut command = Command::new(SWEEP);
    command.args(args).env("KUBECONFIG", kubeconfig);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let from = log.char_indices().rev().nth(20_000).map_or(0, |(at, _)| at);
            eprintln!("--- the operator's log:\n{}", &log[from..]);
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// The Study of an example file, to be changed by a test.
pub fn example(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits").join(file);
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A Study whose trainer is a shell script: `$x` is its only parameter, from 0 to 1.
pub fn shell_study(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "sweep-operator.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": name},
        "spec": {
            "objectives": [{"metric": "score", "direction": "Maximize"}],
            "parameters": [{"name": "x", "double": {"min": 0, "max": 1}}],
            "sampler": {"random": {}},
            "maxTrials": 4,
            "parallelism": 2,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{
                "name": "trainer",
                "image": "localhost/shell:dev",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", script],
            }]}}}},
        },
    })
}

/// The Study's Ready condition as `reason: message`.
pub fn ready(namespace: &Namespace, study: &str) -> String {
    let study = namespace.get(&["study", study]).unwrap();
    let conditions = study["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ready.map(|c| format!("{}: {}", c["reason"].as_str().unwrap(), c["message"].as_str().unwrap())).unwrap_or_default()
}

/// Waits until the Study says something that contains `phrase`.
pub fn wait_for_message(namespace: &Namespace, study: &str, phrase: &str) -> String {
    wait_for(&format!("{phrase:?} of study {study}"), LIMIT, || {
        let said = ready(namespace, study);
        if said.contains(phrase) { Ok(said) } else { Err(said) }
    })
}

/// Waits until the Study has ended, in either way.
pub fn wait_for_end(namespace: &Namespace, study: &str) -> Value {
    wait_for(&format!("end of study {study}"), LIMIT * 2, || {
        let study = namespace.get(&["study", study]).unwrap();
        match study["status"]["completionTime"].is_string() {
            true => Ok(study),
            false => Err(study["status"].clone()),
        }
    })
}

/// The Trials of a Study, by index.
pub fn trials(namespace: &Namespace, study: &str) -> Vec<Value> {
    let list =
        namespace.get(&["trials.sweep-operator.dev", "-l", &format!("sweep-operator.dev/study={study}")]).unwrap();
    let mut trials = list["items"].as_array().unwrap().clone();
    trials.sort_by_key(|trial| trial["spec"]["index"].as_u64());
    trials
}

/// The best value among the succeeded Trials, recomputed from outside.
pub fn best_of(trials: &[Value]) -> Option<f64> {
    let succeeded = trials.iter().filter(|trial| trial["status"]["phase"] == "Succeeded");
    succeeded.filter_map(|trial| trial["status"]["objectives"][0]["value"].as_f64()).max_by(f64::total_cmp)
}
