//! What the chart renders, before the real API server.

use crate::harness::LIMIT;
use crate::*;

#[test]
fn the_api_server_takes_what_the_chart_renders_with_every_value_and_with_none() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    cluster.kubectl_ok(["create", "namespace", "team-a"]);
    cluster.kubectl_ok(["create", "namespace", "team-b"]);
    // The chart's ServiceMonitor and PrometheusRule are of these kinds.
    let kinds = ["servicemonitors", "prometheusrules"].map(|plural| format!("monitoring.coreos.com_{plural}.yaml"));
    let files = kinds.map(|file| tool("prometheus-operator-crds").join(file).to_str().unwrap().to_owned());
    cluster.kubectl_ok(["apply", "--server-side", "-f", &files[0], "-f", &files[1]]);
    for plural in ["servicemonitors", "prometheusrules"] {
        let crd = format!("crd/{plural}.monitoring.coreos.com");
        let limit = format!("--timeout={}s", LIMIT.as_secs());
        cluster.kubectl_ok(["wait", "--for=condition=Established", &crd, &limit]);
    }
    let chart = repository().join("charts/sweep-operator");
    let ci = |name: &str| chart.join("ci").join(name).to_str().unwrap().to_owned();
    let (all, namespaced) = (ci("all-values.yaml"), ci("namespaced-values.yaml"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rendered.yaml");
    for values in [vec![], vec!["--values", &all], vec!["--values", &namespaced]] {
        for helm in [HELM_3, HELM_4] {
            let render: Vec<&str> = ["template", RELEASE, chart.to_str().unwrap(), "--kube-version=1.33"]
                .into_iter()
                .chain(values.clone())
                .collect();
            let rendered = helm.ok(cluster, &render);
            assert_eq!(rendered, helm.ok(cluster, &render), "twice the same bytes");
            std::fs::write(&file, &rendered).unwrap();
            let call =
                ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", file.to_str().unwrap()];
            let said = cluster.kubectl(call);
            assert!(said.success && !said.stderr.contains("Warning"), "{values:?}: {}", said.stderr);
            assert_eq!(said.stdout.lines().count(), rendered.matches("\napiVersion: ").count(), "{}", said.stdout);
        }
    }
    cluster.kubectl_ok(["delete", "-f", &files[0], "-f", &files[1]]);
    cluster.kubectl_ok(["delete", "namespace", "team-a", "team-b", "--wait=false"]);
}
