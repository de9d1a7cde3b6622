//! Who may create a Study makes Jobs through the operator: what the optional admission policy asks for, and the roles of
//! the chart.

use serde_json::{Value, json};

use crate::harness::{Cluster, LIMIT, Namespace, wait_for};
use crate::operator::{shell_study, trials};
use crate::*;

const USER: &str = "--as=somebody";

/// What kubectl says where `USER` applies a Study.
fn apply_as_user(cluster: &Cluster, namespace: &Namespace, study: &Value) -> Said {
    cluster.kubectl_reading(["-n", &namespace.name, USER, "apply", "-f", "-"], &study.to_string())
}

fn patch_as_user(cluster: &Cluster, namespace: &Namespace, what: &[&str], patch: &Value) -> Said {
    let patch = patch.to_string();
    let n = ["-n", &namespace.name, USER, "patch", "--type=merge", "-p", &patch];
    cluster.kubectl(n.iter().chain(what))
}

fn grant(cluster: &Cluster, namespace: &Namespace, name: &str, rules: &[&str]) {
    let n = ["-n", &namespace.name, "create", "role", name];
    cluster.kubectl_ok(n.iter().chain(rules));
    let role = format!("--role={name}");
    cluster.kubectl_ok(["-n", &namespace.name, "create", "rolebinding", name, &role, "--user=somebody"]);
}

/// The user gets the `edit` role of the chart only: the cluster's own would bring Jobs along.
fn installed(cluster: &'static Cluster, prefix: &str, values: &[&str]) -> Namespace {
    make_system_namespace(cluster);
    let team = team(cluster, prefix);
    HELM_4.apply(cluster, "install", values);
    let role = format!("--clusterrole={RELEASE}-edit");
    cluster.kubectl_ok(["-n", &team.name, "create", "rolebinding", "editor", &role, "--user=somebody"]);
    team
}

/// A policy is enforced a moment after it was created.
fn wait_until_enforced(cluster: &Cluster, namespace: &Namespace) {
    let probe = restricted(shell_study("probe", "true"));
    wait_for("an enforced policy", LIMIT, || {
        let said = apply_as_user(cluster, namespace, &probe);
        cluster.kubectl_ok(["-n", &namespace.name, "delete", "study", "probe", "--ignore-not-found"]);
        if said.success { Err("accepted") } else { Ok(()) }
    });
}

#[test]
fn the_edit_role_gives_studies_and_the_stop_of_trials_and_no_status() {
    let Some((cluster, _turn)) = empty() else { return };
    let team = installed(cluster, "edit", &[]);
    let mut study = restricted(shell_study("mine", "sleep 600"));
    study["spec"]["parallelism"] = json!(1);
    let said = apply_as_user(cluster, &team, &study);
    assert!(said.success, "{}", said.stderr);
    let trial = wait_for("a trial", LIMIT, || trials(&team, "mine").first().cloned().ok_or("none"));
    let name = trial["metadata"]["name"].as_str().unwrap();
    let what = ["trial.sweep-operator.dev", name];
    let said = patch_as_user(cluster, &team, &what, &json!({"spec": {"assignments": {"x": "0.5"}}}));
    assert!(!said.success && said.stderr.contains("what was proposed is immutable"), "{}", said.stderr);
    for what in [["study", "mine"], what] {
        let said =
            patch_as_user(cluster, &team, &[what[0], what[1], "--subresource=status"], &json!({"status": {"seed": 3}}));
        assert!(!said.success && said.stderr.contains("forbidden"), "{}", said.stderr);
    }
    let said = patch_as_user(cluster, &team, &what, &json!({"spec": {"desiredState": "Stopped"}}));
    assert!(said.success, "{}", said.stderr);
    wait_for("a stopped trial", LIMIT, || {
        let trial = &trials(&team, "mine")[0];
        if trial["status"]["phase"] == "Stopped" { Ok(()) } else { Err(trial["status"].clone()) }
    });
    for verb in ["get", "list", "watch"] {
        let said = cluster.kubectl(["auth", "can-i", verb, "secrets", "-n", &team.name, USER]);
        assert_eq!(said.stdout.trim(), "no");
    }
}

#[test]
fn the_roles_are_aggregated_to_the_cluster_s_own() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    HELM_4.apply(cluster, "install", &[]);
    let verbs = |role: &str| -> Vec<String> {
        let role = cluster.get("", &["clusterrole", role]).unwrap();
        let rules =
            role["rules"].as_array().unwrap().iter().filter(|rule| rule["apiGroups"] == json!(["sweep-operator.dev"]));
        rules
            .flat_map(|rule| rule["verbs"].as_array().unwrap().clone())
            .map(|verb| verb.as_str().unwrap().to_owned())
            .collect()
    };
    wait_for("aggregated roles", LIMIT, || {
        let (view, edit) = (verbs("view"), verbs("edit"));
        let done = view.contains(&"list".to_owned()) && edit.contains(&"create".to_owned());
        if done { Ok(()) } else { Err((view, edit)) }
    });
    assert!(!verbs("view").contains(&"create".to_owned()));
}

#[test]
fn who_may_not_create_jobs_makes_none_through_a_study() {
    let Some((cluster, _turn)) = empty() else { return };
    let team = installed(cluster, "deputy", &["admissionPolicy.enabled=true"]);
    wait_until_enforced(cluster, &team);
    let study = restricted(shell_study("mine", "true"));
    let said = apply_as_user(cluster, &team, &study);
    assert!(said.stderr.contains("somebody") && said.stderr.contains("jobs"), "{}", said.stderr);
    // Somebody else's Study: its limits may be edited, what its Jobs are may not.
    team.apply(&study.to_string());
    let said = patch_as_user(cluster, &team, &["study", "mine"], &json!({"spec": {"parallelism": 1}}));
    assert!(said.success, "{}", said.stderr);
    let mut other = study.clone();
    other["spec"]["jobTemplate"]["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    let said = patch_as_user(
        cluster,
        &team,
        &["study", "mine"],
        &json!({"spec": {"jobTemplate": other["spec"]["jobTemplate"]}}),
    );
    assert!(!said.success && said.stderr.contains("jobs"), "{}", said.stderr);
    grant(cluster, &team, "jobs", &["--verb=create", "--resource=jobs.batch"]);
    let said = patch_as_user(
        cluster,
        &team,
        &["study", "mine"],
        &json!({"spec": {"jobTemplate": other["spec"]["jobTemplate"]}}),
    );
    assert!(said.success, "{}", said.stderr);
    let said = apply_as_user(cluster, &team, &restricted(shell_study("second", "true")));
    assert!(said.success, "{}", said.stderr);
}

#[test]
fn a_service_account_is_used_by_who_may_use_it() {
    let Some((cluster, _turn)) = empty() else { return };
    let values = ["admissionPolicy.enabled=true", "admissionPolicy.requireServiceAccountUse=true"];
    let team = installed(cluster, "accounts", &values);
    wait_until_enforced(cluster, &team);
    grant(cluster, &team, "jobs", &["--verb=create", "--resource=jobs.batch"]);
    for account in ["privileged", "plain"] {
        cluster.kubectl_ok(["-n", &team.name, "create", "serviceaccount", account]);
    }
    let with = |name: &str, fields: Value| {
        let mut study = restricted(shell_study(name, "true"));
        let pod = study["spec"]["jobTemplate"]["spec"]["template"]["spec"].as_object_mut().unwrap();
        pod.extend(fields.as_object().unwrap().clone());
        study
    };
    let said = apply_as_user(cluster, &team, &with("none", json!({})));
    assert!(said.success, "{}", said.stderr);
    let fields = [
        json!({"serviceAccountName": "privileged"}),
        json!({"serviceAccount": "privileged"}),
        json!({"serviceAccountName": "plain", "serviceAccount": "privileged"}),
    ];
    // kubectl create role knows no such verb.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "plain"},
        "rules": [{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["plain"], "verbs": ["use"]}]});
    team.apply(&role.to_string());
    team.kubectl_ok(&["create", "rolebinding", "plain", "--role=plain", "--user=somebody"]);
    for fields in fields {
        let said = apply_as_user(cluster, &team, &with("refused", fields.clone()));
        assert!(!said.success && said.stderr.contains("privileged"), "{fields}: {}{}", said.stdout, said.stderr);
        // Nor by an edit of a Study that was accepted.
        let template = &with("none", fields.clone())["spec"]["jobTemplate"];
        let said = patch_as_user(cluster, &team, &["study", "none"], &json!({"spec": {"jobTemplate": template}}));
        assert!(!said.success && said.stderr.contains("privileged"), "{fields}: {}{}", said.stdout, said.stderr);
    }
    let said = apply_as_user(cluster, &team, &with("plain", json!({"serviceAccountName": "plain"})));
    assert!(said.success, "{}", said.stderr);
}
