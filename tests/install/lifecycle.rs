//! Install, upgrade, roll back, uninstall, install again: no Study notices.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{Cluster, LIMIT, Namespace, wait_for};
use crate::observer::Observer;
use crate::operator::{best_of, ready, shell_study, trials, wait_for_end};
use crate::*;

/// Reports for about six seconds; the result is `$x` itself.
const TRAINER: &str = "for step in 1 2 3 4 5 6; do
    echo \"{\\\"step\\\": $step, \\\"score\\\": $x}\" >> $SWEEP_METRICS; sleep 1; done";

fn study(name: &str, trials: u32) -> Value {
    let mut study = restricted(shell_study(name, TRAINER));
    study["spec"]["maxTrials"] = trials.into();
    study["spec"]["parallelism"] = json!(3);
    study
}

fn succeeded(namespace: &Namespace, study: &str) -> usize {
    trials(namespace, study).iter().filter(|trial| trial["status"]["phase"] == "Succeeded").count()
}

fn wait_for_succeeded(namespace: &Namespace, study: &str, count: usize) {
    wait_for(&format!("{count} trials of {study} that succeeded"), LIMIT, || {
        let n = succeeded(namespace, study);
        if n >= count { Ok(()) } else { Err((n, ready(namespace, study))) }
    });
}

/// The study is over, `observer` saw one Job for each of its Trials, and the best is the best.
fn expect_each_trial_once(namespace: &Namespace, observer: &Observer, study: &str, count: usize) {
    let study_object = wait_for_end(namespace, study);
    let trials = trials(namespace, study);
    assert_eq!(trials.len(), count);
    assert!(trials.iter().all(|trial| trial["status"]["phase"] == "Succeeded"), "{trials:#?}");
    assert!(trials.iter().all(|trial| trial["status"]["run"]["number"] == 1), "{trials:#?}");
    assert_eq!(study_object["status"]["best"]["objectives"][0]["value"].as_f64(), best_of(&trials));
    let prefix = format!("{study}-");
    let seen = observer.seen();
    assert_eq!(seen.jobs.values().filter(|(job, _)| job.starts_with(&prefix)).count(), count);
    assert_eq!((seen.broken.clone(), seen.strays), (Vec::new(), 0));
}

fn the_whole_life_of_an_installation(helm: Helm) {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let team = team(cluster, "life");
    let digits = digits(cluster, 12);
    let started = Instant::now();
    // The two commands of the README, to the first best value.
    let notes = helm.apply(cluster, "install", &["bestConfigMap.enabled=true"]);
    team.apply(&digits.to_string());
    assert!(notes.contains("kubectl get swp,swt"), "{notes}");
    wait_for("a best value", LIMIT, || {
        let study = team.get(&["study", "digits"]).unwrap();
        study["status"]["best"]["objectives"][0]["value"].as_f64().ok_or(study["status"].clone())
    });
    println!("figure: from helm install to the first best value: 2 commands, {:.1?}", started.elapsed());
    let digits = wait_for_end(&team, "digits");
    assert_eq!(digits["status"]["best"]["objectives"][0]["value"].as_f64(), best_of(&trials(&team, "digits")));
    let kept = team.get(&["configmap", "digits-best"]).unwrap();
    assert_eq!(kept["data"], digits["status"]["best"]["assignments"]);
    let relay = Relay::start(cluster);
    helm.ok(cluster, &["test", RELEASE, "--timeout=60s"]);
    drop(relay);

    // A study goes on while the operator is upgraded, and again while it is rolled back.
    let observer = Observer::start(cluster, &team);
    team.apply(&study("long", 16).to_string());
    wait_for_succeeded(&team, "long", 2);
    helm.apply(
        cluster,
        "upgrade",
        &["concurrency=4", "log.format=json", "replicaCount=2", "sidecar.resources.cpu=20m"],
    );
    let done = succeeded(&team, "long");
    assert!(done < 12, "the study was to run during the upgrade: {done}");
    wait_for_pods(cluster, 2);
    wait_for_succeeded(&team, "long", done + 2);
    let logged = log(cluster);
    let lines = logged.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let created: Vec<Value> = lines.filter(|line| line["message"] == "created").collect();
    let is_told = |line: &Value| line["study"] == "long" && line["trial"].is_string() && line["level"] == "INFO";
    assert!(!created.is_empty() && created.iter().all(is_told), "{logged}");
    helm.ok(cluster, &["rollback", RELEASE, "1", "--wait", "--timeout=120s"]);
    wait_for_pods(cluster, 1);
    expect_each_trial_once(&team, &observer, "long", 16);

    // Uninstalling leaves CRDs and Studies, and what runs; nothing else.
    team.apply(&study("left", 8).to_string());
    wait_for_succeeded(&team, "left", 1);
    helm.ok(cluster, &["uninstall", RELEASE, "--wait", "--timeout=120s"]);
    // The Lease stays: the leader's rights may go before it has given it up.
    let kinds = "deployments,services,serviceaccounts,roles,rolebindings,configmaps,poddisruptionbudgets";
    let left = cluster.kubectl_ok(["-n", SYSTEM, "get", kinds, "-o", "name"]);
    let of_namespace = |name: &&str| name.ends_with("/default") || name.ends_with("/kube-root-ca.crt");
    assert_eq!(left.lines().filter(|name| !of_namespace(name)).collect::<Vec<_>>(), [""; 0]);
    let left = cluster.kubectl_ok(["get", "clusterroles,clusterrolebindings", "-o", "name"]);
    assert!(!left.contains("sweep"), "{left}");
    let before = team.get(&["study", "long"]).unwrap();
    assert_eq!(
        trials(&team, "left").len() as u64,
        team.get(&["study", "left"]).unwrap()["status"]["lastIndex"].as_u64().unwrap() + 1
    );

    helm.apply(cluster, "install", &[]);
    expect_each_trial_once(&team, &observer, "left", 8);
    let after = team.get(&["study", "long"]).unwrap();
    assert_eq!((&after["status"], &after["metadata"]["uid"]), (&before["status"], &before["metadata"]["uid"]));
    drop(observer);
    helm.ok(cluster, &["uninstall", RELEASE, "--wait", "--timeout=120s"]);
}

#[test]
fn an_installation_lives_with_helm_4_from_install_to_install_again() {
    the_whole_life_of_an_installation(HELM_4);
}

#[test]
fn an_installation_lives_with_helm_3_from_install_to_install_again() {
    the_whole_life_of_an_installation(HELM_3);
}

/// Applies the manifests with our image in place of the released one.
fn apply_manifests(cluster: &Cluster, yaml: &str) {
    let documents: Vec<Value> = serde_yaml::Deserializer::from_str(yaml)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .filter(|object: &Value| !object.is_null())
        .map(|mut object| {
            if object["kind"] == "Deployment" {
                let container = &mut object["spec"]["template"]["spec"]["containers"][0];
                container["image"] = SIDECAR_IMAGE.into();
                container["imagePullPolicy"] = "Never".into();
                for argument in container["args"].as_array_mut().unwrap() {
                    if argument.as_str().is_some_and(|argument| argument.starts_with("--sidecar-image=")) {
                        *argument = format!("--sidecar-image={SIDECAR_IMAGE}").into();
                    }
                    if argument.as_str().is_some_and(|argument| argument.starts_with("--sidecar-pull-policy=")) {
                        *argument = "--sidecar-pull-policy=Never".into();
                    }
                }
            }
            object
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
    let said = cluster.kubectl_reading(["apply", "--server-side", "-f", "-"], &list.to_string());
    assert!(said.success, "{}", said.stderr);
    cluster.kubectl_ok(["-n", SYSTEM, "rollout", "status", "deployment", "--timeout=120s"]);
}

#[test]
fn plain_manifests_and_kustomize_install_the_same_operator() {
    let kustomized =
        |cluster: &Cluster| cluster.kubectl_ok(["kustomize", repository().join("charts").to_str().unwrap()]);
    let plain = |_: &Cluster| std::fs::read_to_string(repository().join("charts/install.yaml")).unwrap();
    for (name, manifests) in [("plain", &plain as &dyn Fn(&Cluster) -> String), ("kustomize", &kustomized)] {
        let Some((cluster, _turn)) = empty() else { return };
        let team = team(cluster, name);
        apply_manifests(cluster, &manifests(cluster));
        team.apply(&study(name, 3).to_string());
        wait_for_end(&team, name);
        assert_eq!(succeeded(&team, name), 3);
    }
}

#[test]
fn the_end_of_the_leader_s_pod_loses_nothing_and_the_standby_is_ready_before() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let team = team(cluster, "leader");
    HELM_4.apply(cluster, "install", &["replicaCount=2"]);
    let pods = wait_for_pods(cluster, 2);
    let leads = leader(cluster);
    let standby = pods.iter().find(|pod| pod["metadata"]["name"] != leads.as_str()).unwrap();
    assert!(scrape(standby, "/metrics").contains("sweep_leader 0\n"));
    let budget = cluster.get(SYSTEM, &["poddisruptionbudget", RELEASE]).unwrap();
    assert_eq!(budget["spec"]["maxUnavailable"], 1);

    let observer = Observer::start(cluster, &team);
    team.apply(&study("led", 12).to_string());
    wait_for_succeeded(&team, "led", 2);
    // As a node that dies: nothing is released, the Lease has to expire.
    cluster.kubectl_ok(["-n", SYSTEM, "delete", "pod", &leads, "--grace-period=0", "--force"]);
    let started = Instant::now();
    wait_for("another leader", LIMIT, || {
        let now = leader(cluster);
        if now == leads { Err(now) } else { Ok(now) }
    });
    println!("figure: the leader's pod was killed, another led after {:.1?}", started.elapsed());
    expect_each_trial_once(&team, &observer, "led", 12);
}

#[test]
fn a_namespace_that_is_not_watched_is_left_alone() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let (ours, other) = (team(cluster, "watched"), team(cluster, "other"));
    HELM_4.apply(cluster, "install", &[&format!("watchNamespaces={{{}}}", ours.name)]);
    let roles = cluster.kubectl_ok(["get", "clusterroles,clusterrolebindings", "-o", "name"]);
    assert!(!roles.contains("sweep"), "{roles}");
    other.apply(&study("ignored", 2).to_string());
    ours.apply(&study("served", 2).to_string());
    wait_for_end(&ours, "served");
    assert_eq!(other.get(&["study", "ignored"]).unwrap().get("status"), None);
}

#[test]
fn a_second_release_is_told_whose_the_crds_are() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    HELM_4.apply(cluster, "install", &[]);
    HELM_4.ok(cluster, &["uninstall", RELEASE, "--wait", "--timeout=120s"]);
    let set = IMAGE_VALUES.iter().flat_map(|value| ["--set", value]);
    let install: Vec<&str> =
        ["install", "another", "charts/sweep-operator", "--wait", "--timeout=120s"].into_iter().chain(set).collect();
    let said = HELM_4.run(cluster, &install);
    let troubleshooting = std::fs::read_to_string(repository().join("docs/troubleshooting.md")).unwrap();
    let message = "exists and cannot be imported into the current release: invalid ownership metadata";
    assert!(!said.success && said.stderr.contains(message), "{}", said.stderr);
    assert!(troubleshooting.contains(message) && troubleshooting.contains("--take-ownership"));
    let taking: Vec<&str> = install.iter().copied().chain(["--take-ownership"]).collect();
    HELM_4.ok(cluster, &taking);
}

#[test]
fn a_config_map_that_the_study_has_not_created_is_not_touched() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let team = team(cluster, "foreign");
    HELM_4.apply(cluster, "install", &["bestConfigMap.enabled=true"]);
    let mut study = study("kept", 3);
    study["spec"]["suspend"] = json!(true);
    study["spec"]["bestConfigMap"] = json!({"name": "settings"});
    team.apply(&study.to_string());
    let uid = team.get(&["study", "kept"]).unwrap()["metadata"]["uid"].clone();
    // Not even where somebody has made the Study its owner.
    team.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "mine"}, "metadata": {
        "name": "settings",
        "ownerReferences": [{"apiVersion": "sweep-operator.dev/v1alpha1", "kind": "Study", "name": "kept", "uid": uid}],
    }}).to_string());
    team.kubectl_ok(&["patch", "study", "kept", "--type=merge", "-p", "{\"spec\": {\"suspend\": false}}"]);
    wait_for_end(&team, "kept");
    wait_for("an Event that tells so", LIMIT, || {
        let events = team.kubectl_ok(&["get", "events", "-o", "custom-columns=R:.reason,M:.message"]);
        if events.contains("BestNotKept") && events.contains("is not touched") { Ok(()) } else { Err(events) }
    });
    assert_eq!(team.get(&["configmap", "settings"]).unwrap()["data"], json!({"x": "mine"}));
}

#[test]
fn a_study_that_wants_a_config_map_is_told_where_none_is_kept() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let team = team(cluster, "best");
    HELM_4.apply(cluster, "install", &[]);
    let mut study = study("kept", 2);
    study["spec"]["bestConfigMap"] = json!({"name": "kept-best"});
    team.apply(&study.to_string());
    let study = wait_for_end(&team, "kept");
    let warning =
        study["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "SpecWarning").unwrap();
    assert!(warning["message"].as_str().unwrap().contains("bestConfigMap.enabled"), "{warning}");
    assert_eq!(team.get(&["configmap", "kept-best"]), None);
}
