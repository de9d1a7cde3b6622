//! The promises of DESIGN §6 on the real control plane, while it and the operator fail.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sweep_operator::api::{Study, Trial};

use crate::harness::{Cluster, LIMIT, Namespace, require_node, wait_for};
use crate::observer::{Observer, Seen};
use crate::operator::*;
use crate::proxy::Proxy;

/// Three reports and a result that is `$x` itself: what a Trial should say is in its assignments.
const TRAINER: &str = "for step in 1 2 3; do
    echo \"{\\\"step\\\": $step, \\\"score\\\": $x}\" >> $SWEEP_METRICS; sleep 0.2; done";

fn study(name: &str, trials: u64, parallelism: u64) -> Value {
    let mut study = shell_study(name, TRAINER);
    study["spec"]["maxTrials"] = json!(trials);
    study["spec"]["parallelism"] = json!(parallelism);
    study
}

fn typed_trials(namespace: &Namespace, study: &str) -> Vec<Trial> {
    trials(namespace, study).into_iter().map(|trial| serde_json::from_value(trial).unwrap()).collect()
}

fn read_study(namespace: &Namespace, study: &str) -> Study {
    serde_json::from_value(namespace.get(&["study", study]).unwrap()).unwrap()
}

/// What every study ends with: right results, the right best, one recorded run each, and nothing left at work.
fn expect_promises_kept(namespace: &Namespace, name: &str, seen: &Seen) {
    let trials = typed_trials(namespace, name);
    assert_eq!(seen.at_the_end(&trials), Vec::<String>::new());
    let mut best = f64::NEG_INFINITY;
    for trial in &trials {
        let status = trial.status.as_ref().unwrap();
        if format!("{:?}", status.phase) == "Succeeded" {
            let x: f64 = trial.spec.assignments["x"].parse().unwrap();
            assert_eq!(status.objectives[0].value, x, "the trainer of {:?} said {x}", trial.metadata.name);
            best = best.max(x);
        }
    }
    let study = read_study(namespace, name);
    let told = study.status.unwrap().best.map(|best| best.objectives[0].value);
    assert_eq!(told, Some(best).filter(|best| best.is_finite()));
}

/// The signal reaches the process with this id, and no other.
fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

fn wait_until_complete(namespace: &Namespace, study: &str, mut meanwhile: impl FnMut()) {
    wait_for(&format!("end of study {study}"), LIMIT * 8, || {
        let status = namespace.get(&["study", study]).unwrap()["status"].clone();
        if status["completionTime"].is_string() {
            return Ok(());
        }
        meanwhile();
        Err(status)
    });
}

/// Waits until the observer has seen the end of all that the study made, and nothing that must not be.
fn wait_for_settled<'a>(observer: &'a Observer, namespace: &Namespace, study: &str) -> MutexGuard<'a, Seen> {
    wait_for("an end of all Jobs", LIMIT, || {
        let broken = observer.seen().at_the_end(&typed_trials(namespace, study));
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    });
    observer.seen()
}

#[test]
fn a_study_keeps_its_promises_under_a_faulty_connection_and_with_the_operator_killed_every_few_seconds() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let number = |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (count, seed) = (number("SWEEP_FAULT_TRIALS", 60), number("SWEEP_FAULT_SEED", 1));
    let parallelism = 6;
    let namespace = cluster.namespace("faults");
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(cluster, dir.path(), seed);
    let observer = Observer::start(cluster, &namespace);
    let mut operator = Operator::start_with(&proxy.kubeconfig, &namespace, &["--leader-elect=false"]);
    namespace.apply(&study("faulty", count, parallelism).to_string());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut kills = 0;
    wait_until_complete(&namespace, "faulty", || {
        std::thread::sleep(Duration::from_millis(2_000 + rng.next_u64() % 4_000));
        operator.kill_and_restart();
        kills += 1;
    });
    proxy.stop_faults();
    let seen = wait_for_settled(&observer, &namespace, "faulty");
    println!(
        "figure: a faulty connection, operator killed every 2 to 6 s, seed {seed}: {count} Trials, {kills} kills, {} faults, {} Jobs, at most {} unfinished, {} strays",
        proxy.faults(),
        seen.jobs.len(),
        seen.most["faulty"],
        seen.strays
    );
    expect_promises_kept(&namespace, "faulty", &seen);
    assert_eq!(typed_trials(&namespace, "faulty").len() as u64, count);
    assert!(seen.most["faulty"] as u64 <= parallelism, "{}", seen.most["faulty"]);
    assert_eq!(seen.strays, 0);
    drop(seen);
    // Once all is told, nothing is written.
    let mut last = (proxy.writes(), Instant::now());
    wait_for("ten seconds without a write", LIMIT, || {
        if proxy.writes() != last.0 {
            last = (proxy.writes(), Instant::now());
        }
        if last.1.elapsed() >= Duration::from_secs(10) { Ok(()) } else { Err(last.0) }
    });
}

#[test]
fn two_operators_at_once_make_at_most_one_stray_for_each_trial() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("two");
    let observer = Observer::start(cluster, &namespace);
    let _operators = [(); 2].map(|()| Operator::start_with(&cluster.kubeconfig, &namespace, &["--leader-elect=false"]));
    namespace.apply(&study("two", 16, 4).to_string());
    wait_until_complete(&namespace, "two", || {});
    let seen = wait_for_settled(&observer, &namespace, "two");
    let trials = typed_trials(&namespace, "two").len();
    println!(
        "figure: two operators at once: {trials} Trials of 16, at most {} unfinished Jobs of 4, {} strays",
        seen.most["two"], seen.strays
    );
    expect_promises_kept(&namespace, "two", &seen);
    assert!((16..=20).contains(&trials), "{trials}");
    assert!(seen.most["two"] <= 8, "{}", seen.most["two"]);
}

#[test]
fn a_standby_takes_over_and_a_clean_end_leaves_no_lease() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("lease");
    let observer = Observer::start(cluster, &namespace);
    let lease = ["--lease-namespace", &namespace.name, "--lease-duration", "4s"];
    let short = [&lease[..], &["--lease-renew-deadline", "3s", "--lease-retry-period", "1s"]].concat();
    let holder = || {
        let lease = namespace.get(&["lease", "sweep-operator"])?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    };
    let mut first = Operator::start_with(&cluster.kubeconfig, &namespace, &short);
    let held = wait_for("a holder", LIMIT, || holder().ok_or("none"));
    let mut second = Operator::start_with(&cluster.kubeconfig, &namespace, &short);
    namespace.apply(&study("lease", 12, 3).to_string());
    wait_for("a few results", LIMIT, || {
        let finished =
            read_study(&namespace, "lease").status.and_then(|status| status.trials).map_or(0, |t| t.succeeded);
        if finished >= 3 { Ok(()) } else { Err(finished) }
    });
    // It stands still for longer than its lease lasts: the other takes over, and it ends when it wakes.
    signal(first.id(), Signal::STOP);
    let next = wait_for("another holder", LIMIT, || holder().filter(|now| *now != held).ok_or("none"));
    signal(first.id(), Signal::CONT);
    assert_eq!(first.wait().code(), Some(1), "an operator that has lost its lease ends");
    wait_until_complete(&namespace, "lease", || {});
    assert_eq!(holder().as_ref(), Some(&next));
    signal(second.id(), Signal::TERM);
    assert_eq!(second.wait().code(), Some(0));
    assert_eq!(namespace.get(&["lease", "sweep-operator"]), None);
    let seen = observer.seen();
    expect_promises_kept(&namespace, "lease", &seen);
    assert!(seen.most["lease"] <= 3, "{}", seen.most["lease"]);
    println!(
        "figure: the leader stood still, the standby took over, and left no Lease: 12 Trials, at most {} unfinished Jobs of 3",
        seen.most["lease"]
    );
}

#[test]
fn every_edit_of_a_study_under_way_is_followed() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("edits");
    let observer = Observer::start(cluster, &namespace);
    let _operator = Operator::start(cluster, &namespace);
    let patch = |study: &str, spec: Value| {
        namespace.kubectl_ok(&["patch", "study", study, "--type=merge", "-p", &json!({"spec": spec}).to_string()]);
    };
    let counts =
        |study: &str| read_study(&namespace, study).status.and_then(|status| status.trials).unwrap_or_default();
    let names = ["suspended", "wider", "narrower", "more", "fewer", "target", "deleted"];
    for name in names {
        namespace.apply(&study(name, 8, 2).to_string());
    }
    for name in names {
        wait_for("a first result", LIMIT, || if counts(name).succeeded > 0 { Ok(()) } else { Err(counts(name)) });
    }
    let under_way = ["fewer", "target"].map(|name| typed_trials(&namespace, name).len());
    patch("suspended", json!({"suspend": true}));
    patch("wider", json!({"parallelism": 4}));
    patch("narrower", json!({"parallelism": 1}));
    patch("more", json!({"maxTrials": 11}));
    patch("fewer", json!({"maxTrials": 2}));
    patch("target", json!({"objectives": [{"metric": "score", "direction": "Maximize", "target": 0.0}]}));
    namespace.kubectl_ok(&["delete", "study", "deleted", "--wait=false"]);

    namespace.kubectl_ok(&["wait", "--for=condition=Suspended", "study/suspended", "--timeout=120s"]);
    let so_far = typed_trials(&namespace, "suspended").len();
    for name in ["wider", "narrower", "more", "fewer", "target"] {
        let study = wait_for_end(&namespace, name);
        let reason = study["status"]["ended"]["reason"].as_str().unwrap().to_owned();
        assert_eq!(reason, if name == "target" { "TargetReached" } else { "MaxTrialsReached" });
    }
    wait_for("an end of everything of the deleted study", LIMIT, || {
        let of_study =
            ["get", "trials.sweep-operator.dev,jobs,pods", "-o", "name", "-l", "sweep-operator.dev/study=deleted"];
        let left = namespace.kubectl_ok(&of_study);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(typed_trials(&namespace, "suspended").len(), so_far, "nothing new starts while suspended");
    patch("suspended", json!({"suspend": false}));
    wait_for_end(&namespace, "suspended");

    let seen = observer.seen();
    assert_eq!(typed_trials(&namespace, "suspended").len(), 8);
    assert_eq!(typed_trials(&namespace, "more").len(), 11);
    for (name, before) in ["fewer", "target"].into_iter().zip(under_way) {
        let after = typed_trials(&namespace, name).len();
        assert!(after <= before + 4, "{name}: hardly more than were under way: {after}, {before} before");
    }
    for name in ["suspended", "narrower", "more", "fewer", "target", "deleted"] {
        assert!(seen.most[name] <= 2, "{name}: {}", seen.most[name]);
    }
    assert!(seen.most["wider"] <= 4, "{}", seen.most["wider"]);
    println!(
        "figure: edits of 7 studies under way: {} Jobs, the most unfinished ones {:?}",
        seen.jobs.len(),
        seen.most
    );
    for name in ["suspended", "wider", "narrower", "more", "fewer", "target"] {
        expect_promises_kept(&namespace, name, &seen);
    }
}

#[test]
fn a_study_goes_on_after_each_component_has_stood_still_or_was_killed() {
    let cluster = Cluster::private();
    if !require_node(cluster) {
        return;
    }
    prepare(cluster);
    let namespace = cluster.namespace("components");
    let observer = Observer::start(cluster, &namespace);
    let operator = Operator::start(cluster, &namespace);
    namespace.apply(&study("components", 24, 3).to_string());
    let still = Duration::from_secs(8);
    let finished = || read_study(&namespace, "components").status.and_then(|s| s.trials).map_or(0, |t| t.succeeded);
    let progress = |what: &str| {
        let before = finished();
        wait_for(&format!("progress after {what}"), LIMIT, || match finished() {
            now if now > before || now == 24 => Ok(()),
            now => Err(now),
        });
    };
    progress("the start");
    for component in ["kube-apiserver", "kube-controller-manager"] {
        let pid = cluster.pid(component);
        signal(pid, Signal::STOP);
        std::thread::sleep(still);
        signal(pid, Signal::CONT);
        progress(&format!("a standstill of {component}"));
        signal(pid, Signal::KILL);
        wait_for(&format!("a new {component}"), LIMIT, || match cluster.pid(component) {
            now if now != pid => Ok(()),
            now => Err(now),
        });
        wait_for("the API server", LIMIT, || {
            let said = cluster.kubectl(["get", "--raw", "/readyz"]);
            if said.success { Ok(()) } else { Err(said.stderr) }
        });
        progress(&format!("the death of {component}"));
    }
    signal(operator.id(), Signal::STOP);
    std::thread::sleep(still);
    signal(operator.id(), Signal::CONT);
    wait_until_complete(&namespace, "components", || {});
    let seen = wait_for_settled(&observer, &namespace, "components");
    expect_promises_kept(&namespace, "components", &seen);
    assert_eq!(typed_trials(&namespace, "components").len(), 24);
    assert!(seen.most["components"] <= 3, "{}", seen.most["components"]);
    println!(
        "figure: API server, controller manager and operator stood still or were killed: 24 Trials, {} Jobs, at most {} unfinished of 3",
        seen.jobs.len(),
        seen.most["components"]
    );
}
