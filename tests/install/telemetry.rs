//! Alerts and dashboard ask for what the operator really tells: every query is evaluated on two of its answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{LIMIT, wait_for};
use crate::operator::{shell_study, wait_for_end};
use crate::*;

/// What a scrape gave: values by series, with the labels that Prometheus adds.
fn series(text: &str) -> BTreeMap<String, f64> {
    let job = format!("job=\"{RELEASE}-metrics\",pod=\"operator\"");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = name.trim_end_matches('}').split_once('{').unwrap_or((name, ""));
            let namespace =
                if labels.contains("namespace=") { String::new() } else { format!(",namespace=\"{SYSTEM}\"") };
            let labels = if labels.is_empty() { String::new() } else { format!(",{labels}") };
            (format!("{name}{{{job}{namespace}{labels}}}"), value.parse().unwrap())
        })
        .collect()
}

/// The selectors of an expression, such as `sweep_trials{state="Running"}`.
fn selectors(expression: &str) -> BTreeSet<String> {
    let pattern = regex::Regex::new(r"sweep_[a-z_]+(\{[^}]*\})?").unwrap();
    pattern.find_iter(expression).map(|found| found.as_str().to_owned()).collect()
}

/// Names of series, each with the names of its labels.
fn shapes(text: &str) -> BTreeSet<(String, BTreeSet<String>)> {
    let label = regex::Regex::new(r#"([a-z_]+)=""#).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, _) = line.split_once(['{', ' ']).unwrap();
            (name.to_owned(), label.captures_iter(line).map(|found| found[1].to_owned()).collect())
        })
        .collect()
}

#[test]
fn every_query_of_alerts_and_dashboard_finds_what_the_operator_tells() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let (team, full) = (team(cluster, "told"), team(cluster, "full"));
    HELM_4.apply(cluster, "install", &[]);
    let pod = wait_for_pods(cluster, 1).remove(0);
    leader(cluster);
    // Reconciles that fail: for a while a right is missing.
    let rules = cluster.get("", &["clusterrole", RELEASE]).unwrap()["rules"].take();
    let without = rules.as_array().unwrap().iter().filter(|rule| !rule["resources"].to_string().contains("finalizers"));
    let set_rules = |rules: Value| {
        let patch = json!({"rules": rules}).to_string();
        cluster.kubectl_ok(["patch", "clusterrole", RELEASE, "--type=merge", "-p", &patch]);
    };
    set_rules(without.cloned().collect());
    team.apply(&restricted(shell_study("early", "true")).to_string());
    wait_for("a failed reconcile", LIMIT, || {
        let text = scrape(&pod, "/metrics");
        if text.contains("controller=\"study\",result=\"error\"") { Ok(()) } else { Err(text) }
    });
    set_rules(rules);
    // A write that fails, a Study that waits for a person, trials of all kinds.
    full.apply(
        &json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
                       "spec": {"hard": {"count/jobs.batch": "0"}}})
        .to_string(),
    );
    full.apply(&restricted(shell_study("refused", "true")).to_string());
    let mut invalid = restricted(shell_study("invalid", "true"));
    invalid["spec"]["jobTemplate"]["spec"]["suspend"] = json!(true);
    team.apply(&invalid.to_string());
    team.apply(&restricted(shell_study("running", "sleep 600")).to_string());
    wait_for("failed writes", LIMIT, || {
        let text = scrape(&pod, "/metrics");
        let told = text.contains("sweep_write_errors_total{resource=\"jobs\",code=\"403\"}")
            && text.contains("state=\"Stalled\"} 1")
            && text.contains("state=\"Running\"} 2");
        if told { Ok(()) } else { Err(text) }
    });
    let first = series(&scrape(&pod, "/metrics"));
    let mut digits = digits(cluster, 10);
    digits["spec"]["pruner"] = json!({"median": {"startupTrials": 1, "warmupSteps": 1}});
    team.apply(&digits.to_string());
    wait_for_end(&team, "digits");
    let text = scrape(&pod, "/metrics");
    let second = series(&text);
    assert_eq!(
        shapes(&text),
        shapes(include_str!("../packaging/metrics.txt")),
        "what the tests of the alerts begin with"
    );

    let chart = repository().join("charts/sweep-operator");
    let on = ["prometheusRule.enabled=true", "grafanaDashboard.enabled=true"];
    let set = on.iter().flat_map(|value| ["--set", value]);
    let render: Vec<&str> = ["template", RELEASE, chart.to_str().unwrap()].into_iter().chain(set).collect();
    let rendered = HELM_4.ok(cluster, &render);
    let objects: Vec<Value> = serde_yaml::Deserializer::from_str(&rendered)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    let mut queries = BTreeSet::new();
    for rule in objects.iter().filter(|object| object["kind"] == "PrometheusRule").flat_map(|object| {
        object["spec"]["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    }) {
        // Most alerts find nothing where all is well: what they look at must be there.
        queries.extend(selectors(rule["expr"].as_str().unwrap()));
    }
    let alerts = queries.len();
    let dashboards = objects.iter().filter(|object| object["kind"] == "ConfigMap");
    for dashboard in dashboards.flat_map(|map| map["data"].as_object().unwrap().values()) {
        let dashboard: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
        for target in
            dashboard["panels"].as_array().unwrap().iter().flat_map(|p| p["targets"].as_array().into_iter().flatten())
        {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$namespace", ".*");
            assert!(!query.contains('$'), "{query}");
            queries.insert(query);
        }
    }
    assert!(alerts > 5 && queries.len() > alerts + 10, "{queries:#?}");

    let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let input: Vec<Value> = names
        .iter()
        .map(|name| {
            let at = |scrape: &BTreeMap<String, f64>| scrape.get(*name).map_or("_".to_owned(), f64::to_string);
            let (first, second) = (at(&first), at(&second));
            json!({"series": name, "values": format!("{first} {first} {first} {second} {second} {second}")})
        })
        .collect();
    let tests: Vec<Value> = queries
        .iter()
        .map(|query| {
            let found = json!([{"labels": "{}", "value": 1}]);
            json!({"expr": format!("count({query}) > bool 0"), "eval_time": "5m", "exp_samples": found})
        })
        .collect();
    let file = json!({"rule_files": [], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": input, "promql_expr_test": tests}]});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queries.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let said: Said = Command::new(tool("promtool")).args(["test", "rules"]).arg(&path).output().unwrap().into();
    assert!(said.success, "{}{}\n{second:#?}", said.stdout, said.stderr);
}
