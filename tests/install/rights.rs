//! What the operator may do is what it does, and nothing beside.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{Cluster, LIMIT, Said, wait_for};
use crate::operator::{shell_study, trials, wait_for_end, wait_for_message};
use crate::permissions::{Right, documented};
use crate::*;

fn right(verb: &str, group: &str, resource: &str) -> Right {
    (verb.to_owned(), group.to_owned(), resource.to_owned())
}

/// What the rules of all Roles and ClusterRoles bound to the operator allow.
fn granted(cluster: &Cluster) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    let mut rules = Vec::new();
    for (bindings, roles) in [("clusterrolebindings", "clusterrole"), ("rolebindings", "role")] {
        let list = cluster.get(SYSTEM, &[bindings]).unwrap();
        for binding in list["items"].as_array().unwrap() {
            let is_ours = |subject: &Value| subject["kind"] == "ServiceAccount" && subject["namespace"] == SYSTEM;
            if binding["subjects"].as_array().is_some_and(|subjects| subjects.iter().any(is_ours)) {
                let role = cluster.get(SYSTEM, &[roles, binding["roleRef"]["name"].as_str().unwrap()]).unwrap();
                rules.extend(role["rules"].as_array().unwrap().clone());
            }
        }
    }
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        rule[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    for rule in &rules {
        for verb in texts(rule, "verbs") {
            for group in texts(rule, "apiGroups") {
                for resource in texts(rule, "resources") {
                    granted.insert(right(&verb, &group, &resource));
                }
            }
        }
    }
    granted
}

/// What the API server saw the operator ask for, and how often it was allowed and forbidden.
fn asked(cluster: &Cluster) -> BTreeMap<Right, (u32, u32)> {
    let log = std::fs::read_to_string(cluster.dir().join("audit.log")).unwrap();
    let user = format!("system:serviceaccount:{SYSTEM}:");
    let mut asked: BTreeMap<Right, (u32, u32)> = BTreeMap::new();
    for entry in log.lines().filter(|line| line.contains(&user)) {
        let Ok(entry) = serde_json::from_str::<Value>(entry) else { continue };
        // What anybody may ask, such as the version; and the requests of these tests in the operator's name.
        let (Some(reference), None) = (entry.get("objectRef"), entry.get("impersonatedUser")) else { continue };
        if !entry["user"]["username"].as_str().is_some_and(|name| name.starts_with(&user))
            || entry["userAgent"].as_str().is_some_and(|agent| agent.starts_with("kubectl"))
        {
            continue;
        }
        let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
        let resource = match reference["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text("resource")),
            None => text("resource"),
        };
        let (allowed, forbidden) =
            asked.entry((entry["verb"].as_str().unwrap().to_owned(), text("apiGroup"), resource)).or_default();
        match entry["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            true => *forbidden += 1,
            false => *allowed += 1,
        }
    }
    asked
}

#[test]
fn the_operator_asks_for_all_that_the_chart_grants_and_for_nothing_else() {
    let Some((cluster, _turn)) = empty() else { return };
    std::fs::write(cluster.dir().join("audit.log"), "").unwrap();
    make_system_namespace(cluster);
    let team = team(cluster, "asked");
    HELM_4.apply(cluster, "install", &["bestConfigMap.enabled=true"]);
    // A trial is pruned, the best changes, a trainer fails, a Job cannot get its pod.
    let mut digits = digits(cluster, 10);
    digits["spec"]["pruner"] = json!({"median": {"startupTrials": 1, "warmupSteps": 1}});
    team.apply(&digits.to_string());
    wait_for_end(&team, "digits");
    assert!(trials(&team, "digits").iter().any(|trial| trial["status"]["phase"] == "Pruned"));
    // The second trial is better than the first, once the ConfigMap holds that one.
    let mut better = restricted(shell_study("better", "echo \"{\\\"score\\\": $x}\" >> $SWEEP_METRICS"));
    better["spec"]["bestConfigMap"] = json!({"name": "better"});
    better["spec"]["initialAssignments"] = json!([{"x": "0.1"}, {"x": "0.9"}]);
    for (trials, best) in [(1, "0.1"), (2, "0.9")] {
        better["spec"]["maxTrials"] = trials.into();
        team.apply(&better.to_string());
        wait_for(&format!("the best {best} in the ConfigMap"), LIMIT, || {
            let map = team.get(&["configmap", "better"]);
            if map.as_ref().is_some_and(|map| map["data"]["x"] == best) { Ok(()) } else { Err(format!("{map:?}")) }
        });
    }
    // The best Trial is gone: asked for, before the status takes it back.
    team.kubectl_ok(&["delete", "trial", "better-0001"]);
    better["spec"]["maxTrials"] = 3.into();
    team.apply(&better.to_string());
    wait_for("another best", LIMIT, || {
        let study = team.get(&["study", "better"]).unwrap();
        if study["status"]["best"]["trial"] != "better-0001" { Ok(()) } else { Err(study) }
    });
    team.apply(&restricted(shell_study("fails", "exit 3")).to_string());
    wait_for_end(&team, "fails");
    let mut quota = restricted(shell_study("quota", "true"));
    quota["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"] = json!("nobody");
    team.apply(&quota.to_string());
    wait_for_message(&team, "quota", "serviceaccount \"nobody\" not found");
    // The same Event again is a patch of the first.
    for image in ["a b", "a b c"] {
        let mut invalid = restricted(shell_study("invalid", "true"));
        invalid["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        invalid["spec"]["jobTemplate"]["spec"]["suspend"] = json!(true);
        team.apply(&invalid.to_string());
        wait_for("an invalid generation", LIMIT, || {
            let study = team.get(&["study", "invalid"]).unwrap();
            let seen = study["status"]["conditions"][0]["observedGeneration"] == study["metadata"]["generation"];
            if seen { Ok(()) } else { Err(study) }
        });
    }
    // Asked to end, the leader gives the Lease up.
    cluster.kubectl_ok(["-n", SYSTEM, "rollout", "restart", "deployment"]);
    cluster.kubectl_ok(["-n", SYSTEM, "rollout", "status", "deployment", "--timeout=120s"]);

    let granted = granted(cluster);
    assert_eq!(granted, documented(), "the chart grants what docs/permissions.md says");
    let is_finalizers = |right: &Right| right.2.ends_with("/finalizers");
    wait_for("as many calls as rules", LIMIT, || {
        let asked = asked(cluster);
        let forbidden: Vec<_> = asked.iter().filter(|(_, (_, forbidden))| *forbidden > 0).collect();
        assert!(forbidden.is_empty(), "calls without a rule: {forbidden:#?}");
        let unused: Vec<&Right> =
            granted.iter().filter(|right| !is_finalizers(right) && !asked.contains_key(*right)).collect();
        if unused.is_empty() { Ok(()) } else { Err(format!("rules without a call: {unused:#?}")) }
    });
    let asked = asked(cluster);
    let without: Vec<&Right> = asked.keys().filter(|right| !granted.contains(*right)).collect();
    assert!(without.is_empty(), "calls without a rule: {without:#?}");
}

#[test]
fn without_update_on_finalizers_no_child_can_be_created_where_owners_are_checked() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let team = team(cluster, "finalizers");
    HELM_4.apply(cluster, "install", &[]);
    let role = cluster.get("", &["clusterrole", RELEASE]).unwrap();
    let mut rules = role["rules"].as_array().unwrap().clone();
    let count = rules.len();
    rules.retain(|rule| !rule["resources"].to_string().contains("/finalizers"));
    assert!(rules.len() < count);
    let patch = json!({"rules": rules}).to_string();
    cluster.kubectl_ok(["patch", "clusterrole", RELEASE, "--type=merge", "-p", &patch]);
    team.apply(&restricted(shell_study("owned", "true")).to_string());
    wait_for("a refusal in the log", LIMIT, || {
        let log = log(cluster);
        if log.contains("cannot set blockOwnerDeletion") { Ok(()) } else { Err(log) }
    });
    assert_eq!(trials(&team, "owned").len(), 0);
}

/// A call with a token of the operator's own service account.
fn as_operator(cluster: &Cluster, args: &[&str]) -> Said {
    let token = cluster.kubectl_ok(["-n", SYSTEM, "create", "token", RELEASE]);
    cluster.kubectl(["--token", token.trim()].iter().chain(args))
}

fn expect_forbidden(cluster: &Cluster, can_i: &[&str], call: &[&str]) {
    let question: Vec<&str> = ["auth", "can-i"].into_iter().chain(can_i.iter().copied()).collect();
    let said = as_operator(cluster, &question);
    assert!(!said.success && said.stdout.trim() == "no", "{can_i:?}: {}{}", said.stdout, said.stderr);
    let said = as_operator(cluster, call);
    assert!(!said.success && said.stderr.contains("forbidden"), "{call:?}: {}{}", said.stdout, said.stderr);
}

#[test]
fn what_a_reviewer_would_object_to_is_forbidden_to_the_operator_s_own_token() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let (ours, other) = (team(cluster, "ours"), team(cluster, "others"));
    for values in [vec![], vec![format!("watchNamespaces={{{}}}", ours.name)]] {
        let action = if values.is_empty() { "install" } else { "upgrade" };
        HELM_4.apply(cluster, action, &values.iter().map(String::as_str).collect::<Vec<_>>());
        let n = format!("--namespace={}", ours.name);
        let pod = pods(cluster)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let role = ["create", "role", "more", "--verb=get", "--resource=pods", &n];
        let binding = ["create", "clusterrolebinding", "more", "--clusterrole=cluster-admin", "--user=x"];
        let own = format!("--namespace={SYSTEM}");
        for (can_i, call) in [
            (vec!["get", "secrets", &n], vec!["get", "secrets", &n]),
            (vec!["create", "pods/exec", &own], vec!["exec", &pod, &own, "--", "/sweep"]),
            (vec!["create", "pods", &n], vec!["run", "pod", "--image=x", &n]),
            (vec!["create", "roles", &n], role.to_vec()),
            (vec!["create", "clusterrolebindings"], binding.to_vec()),
            (vec!["impersonate", "users"], vec!["get", "pods", &n, "--as=admin"]),
            (vec!["get", "nodes"], vec!["get", "nodes"]),
            (vec!["get", "namespaces"], vec!["get", "namespaces"]),
            (vec!["list", "configmaps", &n], vec!["get", "configmaps", &n]),
            (vec!["create", "configmaps", &n], vec!["create", "configmap", "more", &n]),
            (vec!["delete", "studies", &n], vec!["delete", "study", "some", &n]),
            (vec!["delete", "pods", &n], vec!["delete", "pod", "some", &n]),
            (vec!["create", "serviceaccounts/token", &n], vec!["create", "token", "default", &n]),
        ] {
            expect_forbidden(cluster, &can_i, &call);
        }
        if !values.is_empty() {
            let n = format!("--namespace={}", other.name);
            expect_forbidden(cluster, &["list", "jobs", &n], &["get", "jobs", &n]);
            expect_forbidden(cluster, &["list", "studies", &n], &["get", "studies", &n]);
            expect_forbidden(cluster, &["list", "jobs", "-A"], &["get", "jobs", "-A"]);
        }
    }
}
