//! Starts the real test cluster of `cluster.sh` once per test process, and gives the tests what they need of it.
//!
//! The cluster ends with the test process, however that ends: its supervisor reads from a pipe that this process holds.

use std::fmt::Debug;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

/// For things that take seconds: generous, since CI machines are slow and a test that passes does not wait.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What a finished command said.
#[derive(Debug)]
pub struct Said {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Said {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The cluster that all tests of this process share.
pub struct Cluster {
    /// Admin rights (`system:masters`).
    pub kubeconfig: PathBuf,
    dir: PathBuf,
    kubectl: PathBuf,
    node: Result<(), String>,
    // Never read: its end is what stops the cluster.
    _alive: ChildStdin,
    _supervisor: Child,
    // Capacities are added to one list, so they go one after the other.
    capacity: Mutex<()>,
}

impl Cluster {
    /// Starts the cluster at the first call (and builds it, if this machine never did); panics when it does not start.
    pub fn shared() -> &'static Cluster {
        // The panic of the first caller must be seen by all others, not repeated by each after its own wait.
        static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
        match CLUSTER.get_or_init(|| Cluster::start(&["--node"])) {
            Ok(cluster) => cluster,
            Err(problem) => panic!("no test cluster: {problem}"),
        }
    }

    /// As [`Cluster::shared`], for a test program that reads the audit log.
    #[allow(dead_code, reason = "not every test program has a use for it")]
    pub fn audited() -> &'static Cluster {
        static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();
        match CLUSTER.get_or_init(|| Cluster::start_with(script().env("SWEEP_CLUSTER_AUDIT", "1"), &["--node"])) {
            Ok(cluster) => cluster,
            Err(problem) => panic!("no test cluster: {problem}"),
        }
    }

    /// One for a single test, whose API server and controller manager are started again when they are killed.
    pub fn private() -> &'static Cluster {
        match Cluster::start(&["--node", "--restart"]) {
            Ok(cluster) => Box::leak(Box::new(cluster)),
            Err(problem) => panic!("no test cluster: {problem}"),
        }
    }

    /// A control plane and no more.
    #[allow(dead_code, reason = "not every test program has a use for it")]
    pub fn without_node() -> Cluster {
        Cluster::start(&[]).unwrap_or_else(|problem| panic!("no test cluster: {problem}"))
    }

    /// The process of a component, such as `kube-apiserver`.
    pub fn pid(&self, component: &str) -> u32 {
        let pid = fs::read_to_string(self.dir.join("pids").join(component)).expect("cluster.sh writes it");
        pid.trim().parse().unwrap_or(0)
    }

    fn start(options: &[&str]) -> Result<Cluster, String> {
        Cluster::start_with(&mut script(), options)
    }

    fn start_with(supervisor: &mut Command, options: &[&str]) -> Result<Cluster, String> {
        let mut supervisor = supervisor
            .arg("run")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in the terminal is for the tests; the cluster then ends in its own time, by the pipe.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cluster.sh: {error}"))?;
        let (Some(alive), Some(stdout)) = (supervisor.stdin.take(), supervisor.stdout.take()) else {
            return Err("cluster.sh has no pipes".to_owned());
        };
        let ready = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("ready "))
            .ok_or("cluster.sh ended without being ready; what it said is above")?;
        let kubeconfig = ready
            .split_once("kubeconfig=")
            .and_then(|(_, rest)| rest.split_once(" node="))
            .map(|(path, _)| PathBuf::from(path))
            .ok_or_else(|| format!("not understood: {ready}"))?;
        let node = match ready.split_once("node-skipped=") {
            Some((_, reason)) => Err(reason.to_owned()),
            None if ready.contains(" node=yes") => Ok(()),
            None => Err("no node, for no reason given".to_owned()),
        };
        let said = Said::from(
            script()
                .arg("which-kubectl")
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("cluster.sh: {error}"))?,
        );
        Ok(Cluster {
            dir: kubeconfig.parent().map(Path::to_owned).unwrap_or_default(),
            kubectl: PathBuf::from(said.stdout.trim()),
            kubeconfig,
            node,
            _alive: alive,
            _supervisor: supervisor,
            capacity: Mutex::new(()),
        })
    }

    /// Whether there is a real node, or why not. Tests that need one start with [`require_node`].
    pub fn node(&self) -> Result<(), String> {
        self.node.clone()
    }

    /// A kubectl for this cluster, to be given arguments and spawned: for `logs -f`, `--watch` and `--as`.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        command
    }

    /// A client with all rights.
    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).expect("cluster.sh writes it");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.expect("it names one cluster and one user");
        config.read_timeout = None;
        Client::try_from(config).expect("its certificates can be read")
    }

    /// Installs our CRDs.
    pub fn install_crds(&self) {
        let crds = output_of(Command::new(env!("CARGO_BIN_EXE_sweep")).arg("crd"));
        self.apply("default", &crds.stdout);
        self.kubectl_ok([
            "wait",
            "--for=condition=Established",
            "crd/studies.sweep-operator.dev",
            "crd/trials.sweep-operator.dev",
        ]);
    }

    /// Runs kubectl to its end.
    pub fn kubectl<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        output_of(self.kubectl_command().args(args))
    }

    /// Runs kubectl and gives its stdout; panics with its stderr.
    pub fn kubectl_ok<S: AsRef<std::ffi::OsStr> + Debug>(&self, args: impl IntoIterator<Item = S>) -> String {
        let args: Vec<S> = args.into_iter().collect();
        let said = self.kubectl(&args);
        assert!(said.success, "kubectl {args:?} failed: {}", said.stderr);
        said.stdout
    }

    /// An object (or a list) as JSON; `None` when it is not there.
    pub fn get(&self, namespace: &str, what: &[&str]) -> Option<Value> {
        let said = self.kubectl(["-n", namespace, "get", "-o", "json"].iter().chain(what));
        if !said.success {
            assert!(said.stderr.contains("NotFound"), "kubectl get {what:?} failed: {}", said.stderr);
            return None;
        }
        Some(serde_json::from_str(&said.stdout).expect("kubectl prints JSON"))
    }

    /// Applies YAML or JSON; panics with what the API server said against it.
    pub fn apply(&self, namespace: &str, yaml: &str) {
        let said = self.try_apply(namespace, yaml);
        assert!(said.success, "kubectl apply failed: {}\n{yaml}", said.stderr);
    }

    /// Applies YAML or JSON that may be refused.
    pub fn try_apply(&self, namespace: &str, yaml: &str) -> Said {
        self.kubectl_reading(["-n", namespace, "apply", "-f", "-"], yaml)
    }

    /// Runs kubectl to its end, with `input` for it to read.
    pub fn kubectl_reading<'a>(&self, args: impl IntoIterator<Item = &'a str>, input: &str) -> Said {
        let mut command = self.kubectl_command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        // Kubectl may have ended already; then its stderr says why. Taking stdin also closes it.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        child.wait_with_output().expect("kubectl ends").into()
    }

    /// Enforces Pod Security `restricted` in a namespace, with warnings for what makes pods.
    #[allow(dead_code, reason = "not every test program has a use for it")]
    pub fn enforce_restricted(&self, namespace: &str) {
        let labels = ["enforce", "warn"].map(|mode| format!("pod-security.kubernetes.io/{mode}=restricted"));
        self.kubectl_ok(["label", "namespace", namespace, &labels[0], &labels[1]]);
    }

    /// A new namespace, ready for pods; deleted when the guard is dropped.
    pub fn namespace(&'static self, prefix: &str) -> Namespace {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{prefix}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        self.kubectl_ok(["create", "namespace", &name]);
        // Pods are refused until the controller manager has made it.
        wait_for("the namespace's default service account", LIMIT, || {
            self.get(&name, &["serviceaccount", "default"]).ok_or("not there")
        });
        Namespace { cluster: self, name }
    }

    /// Builds an image of programs (`FILE` or `FILE:DEST`, the first is the entry point) with the libraries that they
    /// need, and loads it into the node. `user` as in a Dockerfile, `""` for root. Use it with `imagePullPolicy: Never`.
    pub fn load_image(&self, name: &str, user: &str, files: &[&str]) {
        let archive = self.dir.join(format!("image-{}.tar", name.replace(['/', ':'], "-")));
        let mut build = script();
        build.args(["image-build", "--user", user, name]).arg(&archive).args(files);
        let said = output_of(build.stdin(Stdio::null()));
        assert!(said.success, "{build:?} failed: {}", said.stderr);
        self.load_archive(&archive);
        let _ = fs::remove_file(archive);
    }

    /// Loads a docker or OCI archive into the node.
    pub fn load_archive(&self, archive: &Path) {
        let mut import = script();
        import.arg("image").arg(&self.dir).arg(archive);
        let said = output_of(import.stdin(Stdio::null()));
        assert!(said.success, "{import:?} failed: {}", said.stderr);
    }

    /// Where it keeps its files: what lies there goes with it.
    #[allow(dead_code, reason = "not every test program has a use for it")]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives the node `count` of an extended resource, such as `nvidia.com/gpu`: the real scheduler then places by it.
    /// The node is shared by all tests, so a test that counts on an exact number uses a resource name of its own.
    pub fn set_capacity(&self, resource: &str, count: u32) {
        let _one_at_a_time = self.capacity.lock();
        let key = resource.replace('~', "~0").replace('/', "~1");
        let count = count.to_string();
        // Allocatable too, though the kubelet would copy it with its next status.
        let patch: Vec<Value> = ["capacity", "allocatable"]
            .iter()
            .map(|part| json!({"op": "add", "path": format!("/status/{part}/{key}"), "value": count}))
            .collect();
        let patch = Value::from(patch).to_string();
        self.kubectl_ok(["patch", "node", "localhost", "--subresource=status", "--type=json", "-p", &patch]);
        // The kubelet writes its whole status each second: a write under way when we patched could hide ours.
        wait_for("the node's capacity", LIMIT, || {
            let node = self.get("", &["node", "localhost"]).ok_or("no node".to_owned())?;
            match node["status"]["allocatable"][resource].as_str() {
                Some(seen) if seen == count => Ok(()),
                seen => Err(format!("{resource}: {seen:?}")),
            }
        });
    }
}

/// A namespace of one test. Dropping it deletes it, without waiting: the cluster ends soon anyway.
pub struct Namespace {
    cluster: &'static Cluster,
    pub name: String,
}

impl Namespace {
    /// kubectl in this namespace; panics with its stderr.
    pub fn kubectl_ok(&self, args: &[&str]) -> String {
        self.cluster.kubectl_ok(["-n", &self.name].iter().chain(args))
    }

    /// An object of this namespace as JSON; `None` when it is not there.
    pub fn get(&self, what: &[&str]) -> Option<Value> {
        self.cluster.get(&self.name, what)
    }

    /// Applies YAML or JSON in this namespace.
    pub fn apply(&self, yaml: &str) {
        self.cluster.apply(&self.name, yaml);
    }

    /// What a person would look at: printed when a test fails, since the cluster is gone afterwards.
    fn print_state(&self) {
        for what in [["get", "jobs,pods", "-o", "wide"], ["get", "events", "--sort-by", ".lastTimestamp"]] {
            eprint!("{}", self.cluster.kubectl(["-n", &self.name].iter().chain(&what)).stdout);
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- namespace {} as the test failed:", self.name);
            self.print_state();
        }
        self.cluster.kubectl(["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"]);
    }
}

/// Whether the test can go on: `if !require_node(cluster) { return; }`. Without a node it prints that the test is
/// skipped, and why; in CI (`CI=true`) it fails, since there nobody reads what was skipped.
pub fn require_node(cluster: &Cluster) -> bool {
    match cluster.node() {
        Ok(()) => true,
        Err(reason) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no node: {reason}");
            // Written to the process's stderr itself: the test runner hides what a passing test prints.
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "SKIPPED {name}: no node: {reason}");
            false
        }
    }
}

/// Asks until the answer is `Ok`; panics with what was waited for and the last answer when the limit is over.
pub fn wait_for<T, E: Debug>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(seen) => assert!(Instant::now() < end, "no {what} after {limit:?}; last seen: {seen:#?}"),
        }
        sleep(Duration::from_millis(100));
    }
}

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster/cluster.sh"))
}

fn output_of(command: &mut Command) -> Said {
    match command.output() {
        Ok(output) => output.into(),
        Err(error) => panic!("{command:?}: {error}"),
    }
}
