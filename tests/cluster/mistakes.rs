//! What goes wrong, and what the Study and the Trial say of it.

use serde_json::{Value, json};

use crate::harness::{Cluster, LIMIT, Namespace, require_node, wait_for};
use crate::operator::*;
use crate::wrong::{with, wrong};

/// The message of the Trial once it has the phase.
fn trial_message(namespace: &Namespace, trial: &str, phase: &str, phrase: &str) -> String {
    wait_for(&format!("{phase} of {trial} with {phrase:?}"), LIMIT, || {
        let object = namespace.get(&["trial.sweep-operator.dev", trial]).unwrap_or_default();
        let message = object["status"]["message"].as_str().unwrap_or_default().to_owned();
        let is_it = object["status"]["phase"] == phase && message.contains(phrase);
        if is_it { Ok(message) } else { Err(object["status"].clone()) }
    })
}

#[test]
fn the_api_server_refuses_wrong_studies_and_names_the_field() {
    let cluster = prepared();
    let namespace = cluster.namespace("refused");
    for (pointer, new, phrase) in wrong() {
        let said = cluster.try_apply(&namespace.name, &with(pointer, &new).to_string());
        assert!(!said.success && said.stderr.contains(phrase), "{pointer} = {new}: {}", said.stderr);
    }
    let mut study = shell_study("wrong", "true");
    study["spec"]["maxTrails"] = json!(3);
    let said = cluster.try_apply(&namespace.name, &study.to_string());
    assert!(!said.success && said.stderr.contains("maxTrails"), "{}", said.stderr);
}

#[test]
fn what_was_proposed_from_is_immutable_and_limits_are_not() {
    let cluster = prepared();
    let namespace = cluster.namespace("immutable");
    namespace.apply(&shell_study("fixed", "true").to_string());
    let patch = |spec: Value| {
        cluster.kubectl([
            "-n",
            &namespace.name,
            "patch",
            "study",
            "fixed",
            "--type=merge",
            "-p",
            &json!({"spec": spec}).to_string(),
        ])
    };
    for (spec, phrase) in [
        (json!({"seed": 3}), "spec.seed is immutable"),
        (json!({"sampler": {"random": null, "grid": {}}}), "spec.sampler is immutable"),
        (json!({"sampler": null}), "spec.sampler is immutable"),
        (json!({"parameters": [{"name": "x", "double": {"min": 0, "max": 2}}]}), "spec.parameters is immutable"),
        (json!({"objectives": [{"metric": "score", "direction": "Minimize"}]}), "spec.objectives is immutable"),
        (json!({"gpu": {"count": 1}}), "spec.gpu is immutable"),
        (json!({"pruner": {"median": {}}}), "spec.pruner is immutable"),
    ] {
        let said = patch(spec.clone());
        assert!(!said.success && said.stderr.contains(phrase), "{spec}: {}{}", said.stdout, said.stderr);
    }
    for spec in [
        json!({"maxTrials": 9, "parallelism": 0, "maxFailedTrials": 1, "maxDuration": "1h30m", "reportTimeout": "10m", "suspend": true}),
        json!({"objectives": [{"metric": "score", "direction": "Maximize", "target": 0.5}]}),
    ] {
        let said = patch(spec.clone());
        assert!(said.success, "{spec}: {}", said.stderr);
    }
    namespace.kubectl_ok(&["scale", "study/fixed", "--replicas=3"]);
    assert_eq!(namespace.get(&["study", "fixed"]).unwrap()["spec"]["parallelism"], 3);
}

#[test]
fn what_the_schema_cannot_see_becomes_a_condition_with_every_problem() {
    let cluster = prepared();
    let namespace = cluster.namespace("invalid");
    let _operator = Operator::start(cluster, &namespace);

    let mut study = shell_study("ours", "true");
    let pod = &mut study["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    pod["restartPolicy"] = json!("OnFailure");
    pod["containers"][0]["env"] = json!([{"name": "x", "value": "1"}]);
    namespace.apply(&study.to_string());
    let message = wait_for_message(&namespace, "ours", "InvalidSpec");
    for phrase in [
        "spec.jobTemplate.spec.template.spec.restartPolicy: must be Never",
        "spec.jobTemplate.spec.template.spec.containers[0].env[0].name: x is a parameter",
    ] {
        assert!(message.contains(phrase), "{message}");
    }

    // Only the API server knows this: it is asked by a dry run.
    let mut study = shell_study("theirs", "true");
    study["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Sometimes");
    study["spec"]["jobTemplate"]["spec"]["backOffLimit"] = json!(1);
    namespace.apply(&study.to_string());
    let message = wait_for_message(&namespace, "theirs", "InvalidSpec");
    assert!(message.contains("backOffLimit") || message.contains("imagePullPolicy"), "{message}");

    // Mended, it goes on.
    let template = json!({"spec": {"jobTemplate": {"spec": {"backOffLimit": null, "template": {"spec": {"containers": [{"name": "trainer", "image": "none.invalid/none:1"}]}}}}}});
    namespace.kubectl_ok(&["patch", "study", "theirs", "--type=merge", "-p", &template.to_string()]);
    wait_for_message(&namespace, "theirs", "Running");
}

#[test]
fn a_trainer_that_fails_is_described_in_its_trial_and_study() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("failing");
    let _operator = Operator::start(cluster, &namespace);
    let with = |name: &str, script: &str| {
        let mut study = shell_study(name, script);
        study["spec"]["maxTrials"] = json!(1);
        study["spec"]["maxFailedTrials"] = json!(0);
        study
    };
    namespace.apply(&with("silent", "echo nothing to see").to_string());
    namespace.apply(&with("broken", "echo 'no such file: data.csv' >&2; exit 3").to_string());
    let mut stdout = with("mute", "echo loss=0.1");
    stdout["spec"]["metrics"] = json!({"stdout": {}});
    namespace.apply(&stdout.to_string());
    let mut image = with("typo", "true");
    image["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!("localhost/no-such-image:dev");
    namespace.apply(&image.to_string());
    let mut greedy = with("greedy", "true");
    greedy["spec"]["gpu"] = json!({"count": 1, "resource": "sweep.test/nobody-has-it"});
    namespace.apply(&greedy.to_string());

    let message = trial_message(&namespace, "silent-0000", "Failed", "MetricsMissing");
    assert!(message.contains("without reporting score") && message.contains("$SWEEP_METRICS"), "{message}");
    let message = trial_message(&namespace, "broken-0000", "Failed", "exit code 3");
    assert!(message.contains("no such file: data.csv"), "{message}");
    let message = trial_message(&namespace, "mute-0000", "Failed", "MetricsMissing");
    assert!(message.contains("in the output of container trainer"), "{message}");
    let message = trial_message(&namespace, "typo-0000", "Pending", "no-such-image");
    assert!(message.contains("localhost/no-such-image:dev"), "{message}");
    trial_message(&namespace, "greedy-0000", "Pending", "0/1 nodes have a free sweep.test/nobody-has-it");

    let message = wait_for_message(&namespace, "broken", "Failed:");
    assert!(
        message.contains("1 trial failed, more than maxFailedTrials 0") && message.contains("no such file: data.csv"),
        "{message}"
    );
    namespace.kubectl_ok(&["wait", "--for=condition=Failed", "study/silent", "--timeout=60s"]);
    wait_for_message(&namespace, "typo", "no-such-image");
    wait_for_message(&namespace, "greedy", "1 of 1 trials waits: 0/1 nodes have a free sweep.test/nobody-has-it");
}

#[test]
fn a_job_of_somebody_else_is_never_touched() {
    let cluster = prepared();
    let namespace = cluster.namespace("foreign");
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "taken-0000"},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "other", "image": "none.invalid/none:1"}]}}},
    });
    namespace.apply(&job.to_string());
    let uid = namespace.get(&["job", "taken-0000"]).unwrap()["metadata"]["uid"].clone();
    let _operator = Operator::start(cluster, &namespace);
    namespace.apply(&shell_study("taken", "true").to_string());
    trial_message(&namespace, "taken-0000", "Pending", "NameConflict");
    wait_for_message(&namespace, "taken", "NameConflict: NameConflict: the Job taken-0000 belongs to nobody");
    assert_eq!(namespace.get(&["job", "taken-0000"]).unwrap()["metadata"]["uid"], uid);
}

#[test]
fn suspending_starts_nothing_new_and_resuming_goes_on() {
    let cluster: &'static Cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("suspend");
    let _operator = Operator::start(cluster, &namespace);
    let mut study = shell_study("paused", "sleep 1; echo \"{\\\"score\\\": $x}\" >> $SWEEP_METRICS");
    study["spec"]["maxTrials"] = json!(6);
    study["spec"]["suspend"] = json!(true);
    namespace.apply(&study.to_string());
    namespace.kubectl_ok(&["wait", "--for=condition=Suspended", "study/paused", "--timeout=60s"]);
    assert!(trials(&namespace, "paused").is_empty());
    namespace.kubectl_ok(&["patch", "study", "paused", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    wait_for("a running trial", LIMIT, || {
        let trials = trials(&namespace, "paused");
        if trials.iter().any(|trial| trial["status"]["phase"] == "Running") { Ok(()) } else { Err(trials) }
    });
    namespace.kubectl_ok(&["patch", "study", "paused", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    namespace.kubectl_ok(&["wait", "--for=condition=Suspended", "study/paused", "--timeout=120s"]);
    let before = trials(&namespace, "paused").len();
    assert!(before < 6, "{before}");
    namespace.kubectl_ok(&["patch", "study", "paused", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#]);
    let study = wait_for_end(&namespace, "paused");
    assert_eq!(study["status"]["trials"]["succeeded"], 6, "{study:#}");
}

#[test]
fn a_quota_is_waited_for_without_a_write_and_a_deleted_pod_costs_no_failure() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("quota");
    let _operator = Operator::start(cluster, &namespace);
    namespace.kubectl_ok(&["create", "quota", "none", "--hard=count/jobs.batch=0"]);
    let mut study = shell_study("held", "sleep 2; echo \"{\\\"score\\\": $x}\" >> $SWEEP_METRICS; sleep 2");
    study["spec"]["maxTrials"] = json!(1);
    study["spec"]["maxFailedTrials"] = json!(0);
    namespace.apply(&study.to_string());
    let message = wait_for_message(&namespace, "held", "exceeded quota");
    assert!(message.starts_with("Running: "), "{message}");
    // Settled: what is tried again does not write again.
    let version = || namespace.get(&["study", "held"]).unwrap()["metadata"]["resourceVersion"].clone();
    let settled = wait_for("a quiet Study", LIMIT, || {
        let before = version();
        std::thread::sleep(std::time::Duration::from_secs(5));
        let after = version();
        if before == after { Ok(before) } else { Err((before, after)) }
    });
    assert_eq!(settled, version());
    namespace.kubectl_ok(&["delete", "quota", "none"]);
    wait_for("a running trial", LIMIT, || {
        let trials = trials(&namespace, "held");
        if trials.iter().any(|trial| trial["status"]["phase"] == "Running") { Ok(()) } else { Err(trials) }
    });
    namespace.kubectl_ok(&["delete", "pod", "-l", "sweep-operator.dev/study=held", "--wait=false"]);
    let study = wait_for_end(&namespace, "held");
    assert_eq!(study["status"]["trials"]["succeeded"], 1, "{study:#}");
    let trial = trials(&namespace, "held").remove(0);
    assert_eq!(trial["status"]["run"]["number"], 2, "{trial:#}");
    assert_eq!(trial["status"]["disruptions"], 1);
}

#[test]
fn a_study_that_is_applied_again_right_after_its_deletion_starts_from_its_first_trial() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("again");
    let _operator = Operator::start(cluster, &namespace);
    let slow = shell_study("again", "sleep 60");
    namespace.apply(&slow.to_string());
    wait_for("a running trial", LIMIT, || {
        let trials = trials(&namespace, "again");
        if trials.iter().any(|trial| trial["status"]["phase"] == "Running") { Ok(()) } else { Err(trials) }
    });
    namespace.kubectl_ok(&["delete", "study", "again"]);
    let mut quick = shell_study("again", "echo \"{\\\"score\\\": $x}\" >> $SWEEP_METRICS");
    quick["spec"]["maxTrials"] = json!(3);
    namespace.apply(&quick.to_string());
    let study = wait_for_end(&namespace, "again");
    assert_eq!(study["status"]["trials"]["succeeded"], 3, "{study:#}");
    let indices: Vec<_> = trials(&namespace, "again").iter().map(|trial| trial["spec"]["index"].clone()).collect();
    assert_eq!(indices, [0, 1, 2]);
}
