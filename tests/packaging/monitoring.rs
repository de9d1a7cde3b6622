//! Alerts, dashboard and ServiceMonitor: every query is one that Prometheus takes, and finds something in the operator's
//! metrics. `metrics.txt` has the names and labels that the operator serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::helm::*;

const ON: [&str; 3] =
    ["prometheusRule.enabled=true", "grafanaDashboard.enabled=true", "metrics.serviceMonitor.enabled=true"];

fn promtool(what: &str, folder: &Path, file: &str) -> Result<String, String> {
    let words: Vec<&str> = what.split(' ').collect();
    said(&tool("promtool").args(words).arg(file).current_dir(folder).output().unwrap())
}

fn alerts() -> Vec<Value> {
    let objects = objects(&ON);
    only(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].as_array().unwrap().clone()
}

fn write_rules(folder: &Path, rules: &[Value]) {
    let groups = json!({"groups": [{"name": "sweep-operator", "rules": rules}]});
    fs::write(folder.join("rules.yaml"), serde_yaml::to_string(&groups).unwrap()).unwrap();
}

fn dashboard() -> Value {
    let objects = objects(&ON);
    let maps = of_kind(&objects, "ConfigMap");
    assert_eq!(maps.len(), 1);
    assert_eq!(maps[0]["metadata"]["labels"]["grafana_dashboard"], "1");
    serde_json::from_str(text(maps[0], "/data/sweep-operator.json")).unwrap()
}

/// The dashboard's queries, with something for each of Grafana's variables.
fn queries() -> Vec<String> {
    let mut found = Vec::new();
    for panel in dashboard()["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let filled = query.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$namespace", ".*");
            assert!(!filled.contains('$'), "{query}");
            found.push(filled);
        }
    }
    assert!(found.len() > 15, "{found:?}");
    found
}

/// The series of `metrics.txt`: name, labels, value.
fn series() -> Vec<(String, String, f64)> {
    let text = read("tests/packaging/metrics.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        (name.to_owned(), labels.trim_end_matches('}').to_owned(), value.parse().unwrap())
    });
    parts.collect()
}

/// The series as a test of promtool's has them: as the ServiceMonitor yields them, for an hour, counters growing.
fn input_series() -> Vec<Value> {
    let ours = format!(r#"job="sweep-operator-metrics",namespace="{NAMESPACE}",pod="a""#);
    let input = series().into_iter().map(|(name, labels, value)| {
        let ours = match labels.contains("namespace=") {
            true => ours.replace(&format!(r#",namespace="{NAMESPACE}""#), ""),
            false => ours.clone(),
        };
        let grows = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
        let comma = if labels.is_empty() { "" } else { "," };
        let step = if grows { value } else { 0.0 };
        json!({"series": format!("{name}{{{labels}{comma}{ours}}}"), "values": format!("{value}+{step}x60")})
    });
    input.collect()
}

#[test]
fn every_alert_is_one_that_prometheus_takes() {
    let folder = tempfile::tempdir().unwrap();
    let alerts = alerts();
    write_rules(folder.path(), &alerts);
    let checked = promtool("check rules --lint=all --lint-fatal", folder.path(), "rules.yaml").unwrap();
    assert!(checked.contains(&format!("{} rules found", alerts.len())), "{checked}");
    for alert in &alerts {
        assert!(["critical", "warning"].contains(&text(alert, "/labels/severity")), "{alert}");
        assert!(!text(alert, "/annotations/summary").is_empty(), "{alert}");
        assert!(text(alert, "/annotations/description").len() > 80, "{alert}");
    }
    write_rules(folder.path(), &[json!({"alert": "Wrong", "expr": "sum by (a) (b"})]);
    promtool("check rules", folder.path(), "rules.yaml").unwrap_err();
}

#[test]
fn every_alert_fires_where_it_is_due_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let alerts = alerts();
    let tests = read("tests/packaging/alerts.yaml");
    for alert in &alerts {
        assert!(tests.contains(&format!("\"{}\"", text(alert, "/alert"))), "{} is not tested", alert["alert"]);
    }
    fs::write(folder.path().join("alerts.yaml"), tests).unwrap();
    write_rules(folder.path(), &alerts);
    promtool("test rules", folder.path(), "alerts.yaml").unwrap();
    // Without any one of them the tests fail.
    for missing in 0..alerts.len() {
        let mut others = alerts.clone();
        others.remove(missing);
        write_rules(folder.path(), &others);
        promtool("test rules", folder.path(), "alerts.yaml").expect_err(text(&alerts[missing], "/alert"));
    }
}

#[test]
fn every_query_of_the_dashboard_finds_something_in_the_operators_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let queries = queries();
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(index, query)| json!({"record": format!("query:{index}"), "expr": query}))
        .collect();
    write_rules(folder.path(), &rules);
    promtool("check rules", folder.path(), "rules.yaml").unwrap();
    let found = |query: &str| {
        let labels = json!({"expr": format!("count({query}) > bool 0"), "eval_time": "30m",
                            "exp_samples": [{"labels": "{}", "value": 1}]});
        let test = json!({"interval": "1m", "input_series": input_series(), "promql_expr_test": [labels]});
        let file = json!({"evaluation_interval": "1m", "tests": [test]});
        fs::write(folder.path().join("query.yaml"), serde_yaml::to_string(&file).unwrap()).unwrap();
        promtool("test rules", folder.path(), "query.yaml")
    };
    for query in &queries {
        found(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    }
    found("sweep_of_another_name").unwrap_err();
}

#[test]
fn alerts_and_dashboard_ask_for_what_is_served_and_everything_that_is_served_is_shown() {
    let ends = ["_bucket", "_sum", "_count"];
    let base = |name: &str| ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned();
    let served: BTreeSet<String> = series().iter().map(|(name, ..)| base(name)).collect();
    let asked = |query: &str| -> BTreeSet<String> {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("sweep_")).map(base).collect()
    };
    let alerts: BTreeSet<String> = alerts().iter().flat_map(|alert| asked(text(alert, "/expr"))).collect();
    let shown: BTreeSet<String> = queries().iter().flat_map(|query| asked(query)).collect();
    assert!(alerts.is_subset(&served), "{alerts:?}");
    assert_eq!(shown, served);
}

#[test]
fn the_dashboard_is_laid_out_on_grafanas_grid() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(panel, "/title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{title}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert_eq!(cells.insert(cell, title), None, "{title} lies on another");
        }
        if panel["type"] != "row" {
            assert!(!text(panel, "/description").is_empty(), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let variables: Vec<&str> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| text(v, "/name")).collect();
    assert_eq!(variables, ["datasource", "job", "namespace"]);
}

#[test]
fn the_service_monitor_finds_the_service_and_keeps_the_namespaces_of_trials() {
    let objects = objects(&ON);
    let (monitor, service) = (only(&objects, "ServiceMonitor"), only(&objects, "Service"));
    let labels = service["metadata"]["labels"].as_object().unwrap();
    let wanted = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(!wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)));
    assert_eq!(monitor["spec"]["namespaceSelector"]["matchNames"], json!([service["metadata"]["namespace"]]));
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(endpoint["honorLabels"], true);
}
