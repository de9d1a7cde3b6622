//! From the version before there was a chart, and back to it: Studies in every state are taken over.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Cluster, LIMIT, wait_for};
use crate::observer::Observer;
use crate::operator::{best_of, ready, shell_study, trials, wait_for_end, wait_for_message};
use crate::*;

const EARLIER_IMAGE: &str = "localhost/sweep-earlier:dev";

/// Reports for about eight seconds; the result is `$x` itself.
const TRAINER: &str = "for step in 1 2 3 4 5 6 7 8; do
    echo \"{\\\"step\\\": $step, \\\"score\\\": $x}\" >> $SWEEP_METRICS; sleep 1; done";

/// The program of the last commit without a chart; None, with a word, where this checkout does not have that commit.
fn earlier() -> Option<PathBuf> {
    let built = Command::new(repository().join("tests/install/earlier.sh")).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    let path = String::from_utf8(built.stdout).unwrap().trim().to_owned();
    if path.is_empty() {
        eprintln!("SKIPPED: {said}");
        return None;
    }
    Some(PathBuf::from(path))
}

/// The earlier operator, as a process with all rights. Ended when dropped, without a word to its Lease.
struct Earlier(Child);

impl Earlier {
    fn start(cluster: &Cluster, program: &Path) -> Earlier {
        let log = File::create(cluster.dir().join("logs/earlier-operator.log")).unwrap();
        let mut command = Command::new(program);
        command.args(["operator", "--sidecar-image", EARLIER_IMAGE, "--sidecar-pull-policy", "Never"]);
        command.args(["--listen", "127.0.0.1:0", "--leader-elect=false"]).env("KUBECONFIG", &cluster.kubeconfig);
        Earlier(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Earlier {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn study(name: &str, script: &str, trials: u32) -> Value {
    let mut study = restricted(shell_study(name, script));
    study["spec"]["maxTrials"] = trials.into();
    study
}

/// One Study in every state: running, suspended with a trial behind it, complete, failed, invalid.
fn in_every_state(team: &Namespace, suffix: &str) {
    let name = |state: &str| format!("{state}{suffix}");
    team.apply(&study(&name("complete"), "echo '{\"score\": 1}' >> $SWEEP_METRICS", 2).to_string());
    team.apply(&study(&name("failed"), "exit 3", 8).to_string());
    let mut invalid = study(&name("invalid"), TRAINER, 2);
    invalid["spec"]["jobTemplate"]["spec"]["suspend"] = json!(true);
    team.apply(&invalid.to_string());
    let mut suspended = study(&name("suspended"), "echo '{\"score\": 1}' >> $SWEEP_METRICS", 4);
    suspended["spec"]["parallelism"] = json!(1);
    team.apply(&suspended.to_string());
    wait_for("a finished trial", LIMIT, || {
        let trials = trials(team, &name("suspended"));
        if trials.iter().any(|trial| trial["status"]["phase"] == "Succeeded") { Ok(()) } else { Err(trials) }
    });
    suspend(team, &name("suspended"), true);
    wait_for_end(team, &name("complete"));
    wait_for_end(team, &name("failed"));
    wait_for_message(team, &name("invalid"), "InvalidSpec");
    wait_for_message(team, &name("suspended"), "uspended");
    team.apply(&study(&name("running"), TRAINER, 6).to_string());
    wait_for("a trial that has begun", LIMIT, || {
        let trials = trials(team, &name("running"));
        if trials.iter().any(|trial| trial["status"]["phase"] == "Running") { Ok(()) } else { Err(trials) }
    });
}

fn suspend(team: &Namespace, study: &str, suspend: bool) {
    let patch = json!({"spec": {"suspend": suspend}}).to_string();
    team.kubectl_ok(&["patch", "study", study, "--type=merge", "-p", &patch]);
}

/// What is over stays as it is, what runs is seen to its end, the others go on when they are told to.
fn expect_all_taken_over(team: &Namespace, observer: &Observer, suffix: &str, over: &[Value; 2]) {
    let name = |state: &str| format!("{state}{suffix}");
    let end = wait_for_end(team, &name("running"));
    let of_running = trials(team, &name("running"));
    assert_eq!(of_running.len(), 6);
    assert!(of_running.iter().all(|trial| trial["status"]["run"]["number"] == 1), "{of_running:#?}");
    assert!(of_running.iter().all(|trial| trial["status"]["objectives"][0]["step"] == 8), "{of_running:#?}");
    assert_eq!(end["status"]["best"]["objectives"][0]["value"].as_f64(), best_of(&of_running));
    assert!(ready(team, &name("invalid")).starts_with("InvalidSpec"));
    let patch = json!({"spec": {"jobTemplate": {"spec": {"suspend": null}}}}).to_string();
    team.kubectl_ok(&["patch", "study", &name("invalid"), "--type=merge", "-p", &patch]);
    assert_eq!(wait_for_end(team, &name("invalid"))["status"]["progress"], "2/2");
    suspend(team, &name("suspended"), false);
    assert_eq!(wait_for_end(team, &name("suspended"))["status"]["progress"], "4/4");
    assert_eq!(&ended(team, suffix), over);
    let seen = observer.seen();
    assert_eq!((seen.broken.clone(), seen.strays), (Vec::new(), 0));
}

/// The statuses of the Studies that are over.
fn ended(team: &Namespace, suffix: &str) -> [Value; 2] {
    ["complete", "failed"].map(|state| team.get(&["study", &format!("{state}{suffix}")]).unwrap()["status"].clone())
}

#[test]
fn studies_in_every_state_survive_the_upgrade_from_the_version_without_a_chart_and_the_way_back() {
    let Some(program) = earlier() else { return };
    let Some((cluster, _turn)) = empty() else { return };
    cluster.load_image(EARLIER_IMAGE, "65532", &[&format!("{}:/sweep", program.display())]);
    let crds = Command::new(&program).arg("crd").output().unwrap();
    cluster.apply("default", &String::from_utf8(crds.stdout).unwrap());
    make_system_namespace(cluster);
    let team = team(cluster, "upgrade");
    let observer = Observer::start(cluster, &team);

    let operator = Earlier::start(cluster, &program);
    in_every_state(&team, "");
    let over = ended(&team, "");
    drop(operator);
    // The CRDs were applied by hand, and have changed since: Helm is told that they are its own now.
    let set = IMAGE_VALUES.iter().flat_map(|value| ["--set", value]);
    let install = ["install", RELEASE, "charts/sweep-operator", "--wait", "--timeout=120s"];
    let taking = ["--take-ownership", "--force-conflicts"];
    HELM_4.ok(cluster, &install.into_iter().chain(taking).chain(set).collect::<Vec<_>>());
    expect_all_taken_over(&team, &observer, "", &over);

    in_every_state(&team, "-2");
    let over = ended(&team, "-2");
    HELM_4.ok(cluster, &["uninstall", RELEASE, "--wait", "--timeout=120s"]);
    let _operator = Earlier::start(cluster, &program);
    expect_all_taken_over(&team, &observer, "-2", &over);
}
