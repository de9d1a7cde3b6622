//! What the chart renders, with Helm 3 and Helm 4.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::helm::*;

/// The files of values that everything is tried with, and none.
fn value_files() -> Vec<Vec<String>> {
    let file = |name| vec!["--values".to_owned(), ci(name)];
    vec![vec![], file("all-values.yaml"), file("namespaced-values.yaml")]
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn deployment(values: &[&str]) -> Value {
    only(&objects(values), "Deployment").clone()
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn args(deployment: &Value) -> Vec<String> {
    serde_json::from_value(container(deployment)["args"].clone()).unwrap()
}

/// All rules of the roles of that kind and name.
fn rules(objects: &[Value], kind: &str, name: &str) -> Vec<Value> {
    let roles = of_kind(objects, kind);
    let role = roles.iter().find(|role| text(role, "/metadata/name") == name);
    role.unwrap_or_else(|| panic!("no {kind} {name}"))["rules"].as_array().unwrap().clone()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

// --- rendering -------------------------------------------------------------------------------------------------------

#[test]
fn rendering_twice_gives_the_same_bytes_and_both_helms_give_the_same_objects() {
    for file in value_files() {
        let render = |helm| render_chart(helm, &chart(), "sweep-operator", &words(&file)).unwrap();
        let sorted = |text: &str| -> BTreeSet<String> { documents(text).iter().map(Value::to_string).collect() };
        let [three, four] = HELMS.map(|helm| {
            let once = render(helm);
            assert!(once == render(helm), "{helm} {file:?}");
            sorted(&once)
        });
        assert!(!three.is_empty());
        assert_eq!(three, four, "{file:?}");
    }
}

#[test]
fn helm_lint_finds_nothing() {
    for helm in HELMS {
        for file in value_files() {
            let mut lint = tool(helm);
            lint.args(["lint", "--strict", "--kube-version", "1.33"]).arg(chart()).args(&file);
            said(&lint.output().unwrap()).unwrap_or_else(|text| panic!("{helm} {file:?}: {text}"));
        }
    }
}

#[test]
fn objects_have_names_that_kubernetes_takes_whatever_the_release_is_called() {
    let long = "a-release-whose-name-is-as-long-as-helm-lets-it-be-53";
    assert_eq!(long.len(), 53);
    for release in ["sweep-operator", long, "2024"] {
        let file = ["--set", "replicaCount=2,prometheusRule.enabled=true,networkPolicy.enabled=true"];
        let more = ["--set", "metrics.serviceMonitor.enabled=true,grafanaDashboard.enabled=true"];
        let objects = documents(&render_chart("helm4", &chart(), release, &[file, more].concat()).unwrap());
        let mut seen = BTreeSet::new();
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("{object}"));
            assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
            assert!(seen.insert((object["kind"].to_string(), name)), "twice: {name}");
            let pod = object.pointer("/spec/template/metadata/labels").and_then(Value::as_object);
            for (key, label) in object["metadata"]["labels"].as_object().into_iter().chain(pod).flatten() {
                assert!(label.as_str().is_some_and(|label| label.len() <= 63), "{name}: {key}: {label}");
            }
        }
    }
}

#[test]
fn what_a_deployment_selects_never_changes() {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-R").arg(chart()).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    let newer = folder.path().join("sweep-operator");
    let card = fs::read_to_string(newer.join("Chart.yaml")).unwrap();
    let newest = card.replace(&format!("ersion: {}\n", env!("CARGO_PKG_VERSION")), "ersion: 99.0.0\n");
    assert_ne!(card, newest);
    fs::write(newer.join("Chart.yaml"), newest).unwrap();

    let newer = documents(&render_chart("helm4", &newer, "sweep-operator", &[]).unwrap());
    let newer = only(&newer, "Deployment");
    assert!(text(newer, "/spec/template/spec/containers/0/image").ends_with(":99.0.0"));
    let older = deployment(&[]);
    let labelled = deployment(&["commonLabels.team=a", "podLabels.tier=b", "image.tag=v2", "replicaCount=3"]);
    for other in [newer, &labelled] {
        assert_eq!(older["spec"]["selector"], other["spec"]["selector"]);
    }
    let labels = &labelled["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["tier"]), (&json!("a"), &json!("b")));
    // A new chart with the same image starts no pod anew.
    let pod = |deployment: &Value| deployment["spec"]["template"]["metadata"].clone();
    assert_eq!(pod(&older), pod(newer));
}

#[test]
fn chart_and_program_have_one_version() {
    let card = &documents(&read("charts/sweep-operator/Chart.yaml"))[0];
    assert_eq!(
        (text(card, "/version"), text(card, "/appVersion")),
        (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_VERSION"))
    );
    let image = format!("ghcr.io/sweep-operator/sweep-operator:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container(&deployment(&[]))["image"], json!(image));
}

// --- values ----------------------------------------------------------------------------------------------------------

/// The paths of the values and what they are; a map that users fill is one value.
fn leaves(values: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match values.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        _ => found.push((path.to_owned(), values.clone())),
    }
}

fn values() -> (Value, Vec<(String, Value)>) {
    let values = documents(&read("charts/sweep-operator/values.yaml")).remove(0);
    let mut found = Vec::new();
    leaves(&values, "", &mut found);
    assert!(found.len() > 80, "{}", found.len());
    (values, found)
}

/// Another value than this one, which the schema takes.
fn another(path: &str, value: &Value) -> Value {
    let name = path.rsplit('.').next().unwrap();
    match (name, value) {
        (_, Value::Bool(value)) => json!(!value),
        ("watchSilenceSeconds", _) => json!(1234),
        (_, Value::Number(number)) if number.is_f64() => json!(0.75),
        (_, Value::Number(number)) => json!(number.as_i64().unwrap() + 1),
        ("pullPolicy", _) => json!("Never"),
        ("failurePolicy", _) => json!("Ignore"),
        ("format", _) => json!("json"),
        ("digest", _) => json!(format!("sha256:{}", "ab".repeat(32))),
        (_, Value::String(value)) if value.ends_with('s') && value.len() <= 3 => json!("17s"),
        ("cpu", _) => json!("17m"),
        ("memory", _) => json!("1717Mi"),
        ("type", _) => json!("Unconfined"),
        (_, Value::String(_)) => json!("another"),
        (_, Value::Object(_)) => json!({"another": "thing"}),
        ("drop", _) => json!(["NET_RAW"]),
        ("watchNamespaces" | "extraArgs", _) => json!(["another"]),
        ("apiServerCIDRs", _) => json!(["192.0.2.7/32"]),
        ("apiServerPorts", _) => json!([7443]),
        ("imagePullSecrets", _) if path.starts_with("sidecar") => json!(["another"]),
        ("extraObjects", _) => json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "another"}}]),
        ("extraVolumeMounts", _) => json!([{"name": "another", "mountPath": "/another"}]),
        (_, Value::Array(_)) => json!([{"name": "another"}]),
        (_, Value::Null) => panic!("{path} has no default"),
    }
}

#[test]
fn every_value_has_an_effect() {
    // By itself, beside everything that can be switched on, or beside other values for everything.
    let on = "replicaCount=2,networkPolicy.enabled=true,networkPolicy.apiServerCIDRs={10.0.0.1/32},\
              admissionPolicy.enabled=true,metrics.serviceMonitor.enabled=true,prometheusRule.enabled=true,\
              grafanaDashboard.enabled=true";
    let bases = [vec![], vec!["--set".to_owned(), on.to_owned()], vec!["--values".to_owned(), ci("all-values.yaml")]];
    let render = |more: &[String]| render_chart("helm4", &chart(), "sweep-operator", &words(more));
    let rendered: Vec<String> = bases.iter().map(|base| render(base).unwrap()).collect();
    let (_, leaves) = values();
    let idle: Vec<String> = std::thread::scope(|scope| {
        let chunks: Vec<_> = leaves.chunks(leaves.len().div_ceil(4)).collect();
        let check = |leaf: &(String, Value)| {
            let set = format!("{}={}", leaf.0, another(&leaf.0, &leaf.1));
            let changed = bases.iter().zip(&rendered).any(|(base, before)| {
                let now = render(&[base.clone(), vec!["--set-json".to_owned(), set.clone()]].concat());
                // Refused by us for what it means together with others: it is looked at elsewhere.
                now.is_ok_and(|now| now != *before)
            });
            (!changed).then_some(set)
        };
        let threads =
            chunks.into_iter().map(|chunk| scope.spawn(move || chunk.iter().filter_map(check).collect::<Vec<_>>()));
        threads.collect::<Vec<_>>().into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(idle.is_empty(), "no effect: {idle:#?}");
}

#[test]
fn every_value_is_set_by_the_values_for_everything() {
    let all = documents(&fs::read_to_string(ci("all-values.yaml")).unwrap()).remove(0);
    for (path, value) in values().1 {
        let pointer = format!("/{}", path.replace('.', "/"));
        // Maps of ours have all their keys there; of a context that users own one is enough.
        let owned = path.contains("ecurityContext") || path.ends_with("grafana_dashboard");
        let set = all.pointer(&pointer);
        let namespaced = path == "watchNamespaces";
        let switch = matches!(set, Some(Value::Bool(_)));
        assert!(owned || namespaced || switch || set.is_some_and(|set| *set != value), "{path}: {set:?}");
    }
}

#[test]
fn an_unknown_value_is_refused_wherever_it_stands() {
    let (values, _) = values();
    let theirs = ["podSecurityContext", "securityContext", "grafanaDashboard.labels", "requests", "limits"];
    let mut sections = vec![String::new()];
    let mut next = 0;
    while next < sections.len() {
        let at = sections[next].clone();
        let here = if at.is_empty() { &values } else { values.pointer(&format!("/{}", at.replace('.', "/"))).unwrap() };
        for (key, value) in here.as_object().unwrap() {
            let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            let ours =
                value.as_object().is_some_and(|map| !map.is_empty()) && !theirs.iter().any(|own| path.ends_with(own));
            sections.extend(ours.then_some(path));
        }
        next += 1;
    }
    assert!(sections.len() > 20, "{sections:?}");
    for (index, section) in sections.iter().enumerate() {
        let value = format!("{section}{}unheardOf=1", if section.is_empty() { "" } else { "." });
        let refused = try_render(HELMS[index % 2], &[&value]).expect_err(&value);
        assert!(refused.contains("additional properties 'unheardOf' not allowed"), "{value}: {refused}");
    }
}

#[test]
fn a_value_out_of_bounds_is_refused() {
    for (value, why) in [
        ("replicaCount=-1", "minimum"),
        ("replicaCount=two", "want integer"),
        ("concurrency=0", "minimum"),
        ("concurrency=257", "maximum"),
        ("maxLogStreams=65536", "maximum"),
        ("image.pullPolicy=Sometimes", "one of"),
        ("image.digest=sha256:1", "pattern"),
        ("log.format=xml", "one of"),
        ("leaderElection.leaseDuration=1.5s", "pattern"),
        ("admissionPolicy.failurePolicy=Maybe", "one of"),
        ("watchNamespaces={a,a}", "equal"),
        ("watchNamespaces={Team_A}", "pattern"),
        ("networkPolicy.apiServerCIDRs={10.0.0.1}", "pattern"),
        ("sidecar.resources.memory=lots", "pattern"),
        ("sidecar.imagePullSecrets[0].name=x", "want string"),
        (r"commonLabels.app\.kubernetes\.io/instance=mine", "propertyName"),
        ("metrics=null", "missing property"),
        ("replicaCount=2,leaderElection.enabled=false", "needs leaderElection.enabled"),
        ("metrics.service.enabled=false,metrics.serviceMonitor.enabled=true", "needs metrics.service.enabled"),
        ("watchNamespaces={a},admissionPolicy.enabled=true", "set one of them only"),
    ] {
        for helm in HELMS {
            let refused = try_render(helm, &[value]).expect_err(value);
            assert!(refused.contains(why), "{helm} {value}: {refused}");
        }
    }
}

#[test]
fn a_chart_that_has_this_one_as_a_dependency_may_hand_it_a_condition_and_globals() {
    assert_eq!(objects(&[]), objects(&["enabled=true", "global.imageRegistry=registry.example"]));
}

#[test]
fn every_value_is_documented() {
    let readme = read("charts/sweep-operator/README.md");
    let rows: BTreeMap<&str, &str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| (row.split(" | ").next().unwrap(), row.rsplit(" | ").next().unwrap()))
        .collect();
    for (path, _) in values().1 {
        let mut upwards = std::iter::successors(Some(path.as_str()), |path| Some(path.rsplit_once('.')?.0));
        let text = upwards.find_map(|path| rows.get(path)).unwrap_or_else(|| panic!("{path}"));
        assert!(text.ends_with('.'), "{path}: {text:?}");
    }
}

#[test]
fn the_image_is_what_the_values_say() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let own = "ghcr.io/sweep-operator/sweep-operator";
    let at = env!("CARGO_PKG_VERSION");
    let pinned = format!("image.digest={digest}");
    for (values, operator, sidecar) in [
        (vec![], format!("{own}:{at}"), format!("{own}:{at}")),
        (vec!["image.tag=v2"], format!("{own}:v2"), format!("{own}:v2")),
        (vec![pinned.as_str()], format!("{own}@{digest}"), format!("{own}@{digest}")),
        (vec!["image.tag=v2", &pinned], format!("{own}:v2@{digest}"), format!("{own}:v2@{digest}")),
        (vec!["image.registry=", "image.repository=sweep"], format!("sweep:{at}"), format!("sweep:{at}")),
        (
            vec!["sidecar.image.registry=near:5000"],
            format!("{own}:{at}"),
            format!("near:5000/sweep-operator/sweep-operator:{at}"),
        ),
        (vec![&pinned, "sidecar.image.tag=v3"], format!("{own}@{digest}"), format!("{own}:v3")),
        (vec!["image.tag=v2", "sidecar.image.repository=s"], format!("{own}:v2"), "ghcr.io/s:v2".to_owned()),
    ] {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let deployment = deployment(&words(&values));
        assert_eq!(container(&deployment)["image"], json!(operator), "{values:?}");
        assert!(
            args(&deployment).contains(&format!("--sidecar-image={sidecar}")),
            "{values:?}: {:?}",
            args(&deployment)
        );
    }
}

// --- what the pods may do --------------------------------------------------------------------------------------------

/// What Pod Security `restricted` has against a pod, of what a chart can get wrong.
fn against_restricted(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let context = &pod["securityContext"];
    let mut must = |holds: bool, what: &str| found.extend((!holds).then(|| what.to_owned()));
    must(context["runAsNonRoot"] == true, "runAsNonRoot");
    must(context["runAsUser"] != 0, "runAsUser");
    must(context["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        must(pod[key].is_null(), key);
    }
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        must(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        must(context["capabilities"] == json!({"drop": ["ALL"]}), "capabilities");
        must(context["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        must(context["privileged"].is_null() || context["privileged"] == false, "privileged");
        for port in container["ports"].as_array().into_iter().flatten() {
            must(port["hostPort"].is_null(), "hostPort");
        }
    }
    found
}

#[test]
fn every_pod_passes_restricted() {
    for file in value_files() {
        let objects = documents(&render_chart("helm4", &chart(), "sweep-operator", &words(&file)).unwrap());
        let pods = [&only(&objects, "Deployment")["spec"]["template"]["spec"], &only(&objects, "Pod")["spec"]];
        for pod in pods {
            assert_eq!(against_restricted(pod), Vec::<String>::new(), "{pod}");
        }
        let [operator, test] = pods.map(|pod| pod["automountServiceAccountToken"].clone());
        assert_eq!((operator, test), (json!(true), json!(false)));
    }
    let loose = deployment(&["podSecurityContext.runAsNonRoot=false", "securityContext.capabilities.drop={}"]);
    assert_eq!(against_restricted(&loose["spec"]["template"]["spec"]), ["runAsNonRoot", "capabilities"]);
}

#[test]
fn openshift_picks_the_user() {
    for helm in HELMS {
        let values = ["podSecurityContext.runAsUser=null", "podSecurityContext.runAsGroup=null"];
        let objects = documents(&try_render(helm, &values).unwrap());
        let context = &only(&objects, "Deployment")["spec"]["template"]["spec"]["securityContext"];
        assert_eq!(*context, json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}), "{helm}");
    }
}

/// The table of docs/permissions.md: what may be done with what.
fn documented() -> BTreeSet<(String, String, String)> {
    let page = read("docs/permissions.md");
    let mut found = BTreeSet::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| ")).skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let group = if cells[0] == "(core)" { "" } else { cells[0] };
        for resource in cells[1].split(", ") {
            found.extend(cells[2].split(", ").map(|verb| (group.to_owned(), resource.to_owned(), verb.to_owned())));
        }
    }
    found
}

fn granted(rules: &[Value]) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for rule in rules {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                let verbs = strings(&rule["verbs"]);
                found.extend(verbs.into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    found
}

#[test]
fn the_operator_may_do_what_the_permissions_page_says_and_nothing_else() {
    let all = objects(&["bestConfigMap.enabled=true"]);
    let lease = rules(&all, "Role", "sweep-operator-leader-election");
    let mut may = rules(&all, "ClusterRole", "sweep-operator");
    // The Lease is the only thing that is restricted to the operator's own namespace, and to its name but for `create`.
    assert!(granted(&lease).iter().all(|(group, resource, _)| group == "coordination.k8s.io" && resource == "leases"));
    for rule in &lease {
        let unnamed = strings(&rule["verbs"]) == ["create"];
        assert_eq!(rule["resourceNames"], if unnamed { Value::Null } else { json!(["sweep-operator"]) });
    }
    may.extend(lease);
    assert_eq!(granted(&may), documented());
    assert!(!granted(&may).iter().any(|(group, resource, verb)| {
        [group, resource, verb].into_iter().any(|word| word == "*")
            || ["secrets", "pods/exec", "nodes", "serviceaccounts"].contains(&resource.as_str())
            || group == "rbac.authorization.k8s.io"
    }));
}

#[test]
fn config_maps_only_where_they_are_wanted() {
    for (values, may) in [(vec![], false), (vec!["bestConfigMap.enabled=true"], true)] {
        let without = objects(&values);
        let rules = granted(&rules(&without, "ClusterRole", "sweep-operator"));
        assert_eq!(rules.iter().any(|(_, resource, _)| resource == "configmaps"), may);
        assert!(args(only(&without, "Deployment")).contains(&format!("--best-config-map={may}")));
    }
}

#[test]
fn users_get_studies_and_the_end_of_trials_and_no_status() {
    let objects = objects(&[]);
    let aggregates = |name: &str| {
        let roles = of_kind(&objects, "ClusterRole");
        let role = roles.iter().find(|role| text(role, "/metadata/name") == name).unwrap();
        let labels = role["metadata"]["labels"].as_object().unwrap();
        let to = labels.keys().filter_map(|key| key.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"));
        to.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(aggregates("sweep-operator-view"), ["admin", "edit", "view"].map(str::to_owned).into());
    assert_eq!(aggregates("sweep-operator-edit"), ["admin", "edit"].map(str::to_owned).into());
    let view = granted(&rules(&objects, "ClusterRole", "sweep-operator-view"));
    assert!(
        view.iter()
            .all(|(group, _, verb)| group == "sweep-operator.dev" && ["get", "list", "watch"].contains(&&**verb))
    );
    let edit = granted(&rules(&objects, "ClusterRole", "sweep-operator-edit"));
    let verbs = |resource: &str| -> Vec<&str> {
        edit.iter().filter(|(_, of, _)| of == resource).map(|(_, _, verb)| verb.as_str()).collect()
    };
    // It reads, too: it may be bound alone.
    assert_eq!(verbs("studies"), ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    assert_eq!(verbs("studies/scale"), ["get", "patch", "update"]);
    assert_eq!(verbs("trials"), ["delete", "deletecollection", "get", "list", "patch", "watch"]);
    assert_eq!(edit.len(), 17, "{edit:?}");
}

#[test]
fn in_namespaced_mode_nothing_holds_for_the_cluster_but_the_crds() {
    let watched = ["watchNamespaces={team-a,team-b}", "bestConfigMap.enabled=true", "replicaCount=2"];
    let more = ["networkPolicy.enabled=true", "grafanaDashboard.enabled=true", "rbac.aggregateClusterRoles=true"];
    let objects = objects(&[watched, more].concat());
    let (mut places, mut crds) = (BTreeMap::<&str, Vec<&str>>::new(), 0);
    for object in &objects {
        match text(object, "/kind") {
            "CustomResourceDefinition" => crds += 1,
            kind => places.entry(text(object, "/metadata/namespace")).or_default().push(kind),
        }
    }
    assert_eq!(crds, 2);
    assert_eq!(places.keys().copied().collect::<Vec<_>>(), [NAMESPACE, "team-a", "team-b"]);
    for namespace in ["team-a", "team-b"] {
        assert_eq!(places[namespace], ["Role", "RoleBinding"]);
        assert!(args(only(&objects, "Deployment")).contains(&format!("--namespace={namespace}")));
    }
    let cluster = rules(&self::objects(&["bestConfigMap.enabled=true"]), "ClusterRole", "sweep-operator");
    assert_eq!(rules(&objects, "Role", "sweep-operator"), cluster);
    for binding in of_kind(&objects, "RoleBinding") {
        assert_eq!(binding["roleRef"]["kind"], "Role");
        assert_eq!(binding["subjects"][0]["namespace"], NAMESPACE);
    }
}

#[test]
fn whoever_brings_roles_and_account_gets_none() {
    let objects = objects(&["rbac.create=false", "serviceAccount.create=false", "serviceAccount.name=mine"]);
    for kind in ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    assert_eq!(only(&objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"], "mine");
}

#[test]
fn the_policy_asks_for_jobs_and_where_wanted_for_service_accounts() {
    assert!(of_kind(&objects(&[]), "ValidatingAdmissionPolicy").is_empty());
    for (values, count) in [("admissionPolicy.enabled=true", 1), ("admissionPolicy.requireServiceAccountUse=true", 2)] {
        let objects = objects(&["admissionPolicy.enabled=true", values]);
        let policy = only(&objects, "ValidatingAdmissionPolicy");
        assert_eq!(policy["spec"]["validations"].as_array().unwrap().len(), count);
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
        let binding = only(&objects, "ValidatingAdmissionPolicyBinding");
        assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
        assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
    }
}

// --- how it runs -----------------------------------------------------------------------------------------------------

#[test]
fn a_disruption_budget_only_above_one_replica() {
    for (replicas, there) in [(0, false), (1, false), (2, true), (3, true)] {
        let objects = objects(&[&format!("replicaCount={replicas}")]);
        let budgets = of_kind(&objects, "PodDisruptionBudget");
        assert_eq!(!budgets.is_empty(), there, "{replicas}");
        for budget in budgets {
            assert_eq!(budget["spec"]["maxUnavailable"], 1);
            assert_eq!(budget["spec"]["selector"], only(&objects, "Deployment")["spec"]["selector"]);
        }
    }
    assert!(
        of_kind(&objects(&["replicaCount=2", "podDisruptionBudget.enabled=false"]), "PodDisruptionBudget").is_empty()
    );
}

#[test]
fn without_a_lease_no_two_operators_are_at_work() {
    let with = deployment(&[]);
    assert_eq!(with["spec"]["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    let without = objects(&["leaderElection.enabled=false"]);
    assert_eq!(only(&without, "Deployment")["spec"]["strategy"], json!({"type": "Recreate"}));
    assert!(of_kind(&without, "Role").is_empty() && of_kind(&without, "RoleBinding").is_empty());
    let args = args(only(&without, "Deployment"));
    assert!(args.contains(&"--leader-elect=false".to_owned()));
    assert!(!args.iter().any(|arg| arg.starts_with("--lease")), "{args:?}");
}

#[test]
fn the_network_policy_lets_in_one_port_and_out_to_the_api_server() {
    let open = objects(&["networkPolicy.enabled=true"]);
    let spec = &only(&open, "NetworkPolicy")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress"]));
    assert_eq!(spec["ingress"], json!([{"ports": [{"port": 8080, "protocol": "TCP"}]}]));
    assert_eq!(spec["podSelector"], only(&open, "Deployment")["spec"]["selector"]);
    let closed = objects(&["networkPolicy.enabled=true", "networkPolicy.apiServerCIDRs={10.0.0.1/32}"]);
    let spec = &only(&closed, "NetworkPolicy")["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec["egress"][0]["to"], json!([{"ipBlock": {"cidr": "10.0.0.1/32"}}]));
    assert_eq!(spec["egress"].as_array().unwrap().len(), 1);
}

#[test]
fn helm_test_asks_the_operator_through_its_service() {
    let objects = objects(&["metrics.service.port=9090"]);
    let (service, pod) = (only(&objects, "Service"), only(&objects, "Pod"));
    assert_eq!(service["spec"]["ports"][0]["port"], 9090);
    // The test's pod must not be one of the Service's.
    let selector = service["spec"]["selector"].as_object().unwrap();
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    assert!(selector.iter().any(|(key, value)| labels.get(key) != Some(value)));
    let pods = only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    assert!(selector.iter().all(|(key, value)| pods.get(key) == Some(value)));
    let env = text(service, "/metadata/name").to_uppercase().replace('-', "_");
    let url = format!("http://$({env}_SERVICE_HOST):$({env}_SERVICE_PORT)/readyz");
    assert_eq!(pod["spec"]["containers"][0]["args"], json!(["probe", url]));
    assert!(of_kind(&self::objects(&["metrics.service.enabled=false"]), "Pod").is_empty());
}

#[test]
fn the_operator_knows_every_flag_that_the_chart_gives_it() {
    let help = Command::new(env!("CARGO_BIN_EXE_sweep")).args(["operator", "--help"]).output().unwrap();
    let help = said(&help).unwrap();
    for file in value_files() {
        let objects = documents(&render_chart("helm4", &chart(), "sweep-operator", &words(&file)).unwrap());
        let args = args(only(&objects, "Deployment"));
        assert_eq!(args[0], "operator");
        for arg in &args[1..] {
            let flag = arg.split('=').next().unwrap();
            let known = help.split_whitespace().any(|word| word.split(['=', '[']).next() == Some(flag));
            assert!(known, "{flag} is not in: {help}");
        }
        let test = text(only(&objects, "Pod"), "/spec/containers/0/args/0");
        said(&Command::new(env!("CARGO_BIN_EXE_sweep")).args([test, "--help"]).output().unwrap()).unwrap();
    }
}

// --- CRDs and what is generated --------------------------------------------------------------------------------------

/// Numbers as numbers: `1` and `1.0` are the same bound.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_chart_installs_the_crds_whole_and_keeps_them() {
    let committed: BTreeMap<String, Value> = ["studies", "trials"]
        .map(|name| (format!("{name}.sweep-operator.dev"), documents(&read(format!("crds/{name}.yaml"))).remove(0)))
        .into();
    for (keep, annotations) in [(true, json!({"helm.sh/resource-policy": "keep"})), (false, Value::Null)] {
        let objects = objects(&[&format!("crds.keep={keep}")]);
        let crds = of_kind(&objects, "CustomResourceDefinition");
        assert_eq!(crds.len(), committed.len());
        for crd in crds {
            let committed = &committed[text(crd, "/metadata/name")];
            assert_eq!(plain(&crd["spec"]), plain(&committed["spec"]));
            assert_eq!(crd["apiVersion"], committed["apiVersion"]);
            assert_eq!(crd["metadata"]["annotations"], annotations);
        }
    }
    assert!(of_kind(&objects(&["crds.enabled=false"]), "CustomResourceDefinition").is_empty());
}

fn files(folder: &Path, under: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, under, found),
            false => {
                found.insert(path.strip_prefix(under).unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
}

/// `SWEEP_UPDATE_CHARTS=1 cargo test --test packaging generated`, or `make charts`, writes it.
#[test]
fn what_is_generated_is_what_is_committed() {
    let script = root().join("charts/render.sh");
    tool("helm4");
    if std::env::var_os("SWEEP_UPDATE_CHARTS").is_some() {
        said(&Command::new(&script).output().unwrap()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    said(&Command::new(&script).arg(folder.path()).output().unwrap()).unwrap();
    let (mut made, mut committed) = (BTreeMap::new(), BTreeMap::new());
    files(folder.path(), folder.path(), &mut made);
    files(&root().join("charts"), &root().join("charts"), &mut committed);
    assert!(made.contains_key("install.yaml") && made.contains_key("sweep-operator/README.md"));
    for (name, text) in &made {
        assert!(committed.get(name) == Some(text), "charts/{name} is out of date: run make charts");
    }
    for name in ["studies.yaml", "trials.yaml"] {
        assert_eq!(read(format!("crds/{name}")), read(format!("charts/sweep-operator/files/crds/{name}")));
    }
}

#[test]
fn install_yaml_is_the_release_in_a_restricted_namespace_without_helm() {
    let text = read("charts/install.yaml");
    assert!(!text.to_lowercase().contains("helm"));
    let installed = documents(&text);
    let namespace = only(&installed, "Namespace");
    assert_eq!(installed[0], *namespace);
    assert_eq!(namespace["metadata"]["name"], NAMESPACE);
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    assert!(of_kind(&installed, "Pod").is_empty());
    let specs = |objects: &[Value]| -> BTreeSet<String> {
        let specs = objects.iter().filter(|object| !["Namespace", "Pod"].contains(&self::text(object, "/kind")));
        specs
            .map(|object| {
                format!("{} {} {} {}", object["kind"], object["metadata"]["name"], object["spec"], object["rules"])
            })
            .collect()
    };
    assert_eq!(specs(&installed), specs(&objects(&[])));
}

fn kustomize(folder: &Path) -> Vec<Value> {
    let kubectl = Command::new(root().join("tests/cluster/cluster.sh")).arg("which-kubectl").output().unwrap();
    let build = Command::new(said(&kubectl).unwrap().trim()).arg("kustomize").arg(folder).output().unwrap();
    documents(&said(&build).unwrap())
}

#[test]
fn the_kustomize_base_builds_and_the_overlay_in_its_comment_works() {
    let charts = root().join("charts");
    let mut base = kustomize(&charts);
    let mut installed = documents(&read("charts/install.yaml"));
    let name = |object: &Value| {
        format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"])
    };
    base.sort_by_key(name);
    installed.sort_by_key(name);
    assert_eq!(base.iter().map(plain).collect::<Vec<_>>(), installed.iter().map(plain).collect::<Vec<_>>());

    let comment = read("charts/kustomization.yaml");
    let overlay: String =
        comment.lines().filter_map(|line| Some(format!("{}\n", line.strip_prefix("#   ")?))).collect();
    let remote = overlay.lines().find(|line| line.contains("https://")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Kustomize takes no absolute path.
    let depth = folder.path().canonicalize().unwrap().components().count() - 1;
    let near =
        format!("  - {}{}", "../".repeat(depth), charts.canonicalize().unwrap().strip_prefix("/").unwrap().display());
    fs::write(folder.path().join("kustomization.yaml"), overlay.replace(remote, &near)).unwrap();
    let deployed = kustomize(folder.path());
    let deployment = only(&deployed, "Deployment");
    let image = "registry.example/sweep-operator:0.1.0";
    assert_eq!(container(deployment)["image"], image);
    assert!(args(deployment).contains(&format!("--sidecar-image={image}")), "{:?}", args(deployment));
}

// --- notes -----------------------------------------------------------------------------------------------------------

/// What `helm install` says in the end.
fn notes(values: &[&str]) -> String {
    let mut install = tool("helm4");
    install.args(["install", "sweep-operator"]).arg(chart()).args(["--namespace", NAMESPACE, "--dry-run=client"]);
    let said = said(&install.args(values.iter().flat_map(|value| ["--set", value])).output().unwrap()).unwrap();
    said.split_once("\nNOTES:\n").unwrap().1.to_owned()
}

#[test]
fn the_notes_say_what_to_do_next() {
    let plain = notes(&[]);
    for phrase in [
        "rollout status deployment/sweep-operator",
        "helm test -n sweep-operator-system sweep-operator",
        "--clusterrole=edit",
        "admissionPolicy.enabled=true",
        "leaves the CRDs",
    ] {
        assert!(plain.contains(phrase), "{phrase}: {plain}");
    }
    let private = notes(&["watchNamespaces={team-a}", "sidecar.imagePullSecrets={mirror}", "crds.enabled=false"]);
    for phrase in [
        "kubectl apply -n team-a",
        "docker-registry mirror -n team-a",
        "create role studies -n team-a",
        "crds.enabled=false",
    ] {
        assert!(private.contains(phrase), "{phrase}: {private}");
    }
    assert!(!private.contains("--clusterrole=edit") && !private.contains("leaves the CRDs"));
    assert!(notes(&["crds.keep=false"]).contains("ALL Studies"));
}

#[test]
fn the_first_study_of_the_notes_is_a_valid_one() {
    let notes = notes(&[]);
    let study = notes.split_once("<<'STUDY'\n").unwrap().1.split_once("  STUDY\n").unwrap().0;
    let mut check = Command::new(env!("CARGO_BIN_EXE_sweep"));
    let mut check =
        check.args(["check", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(study.as_bytes()).unwrap();
    let answer = said(&check.wait_with_output().unwrap()).unwrap();
    assert_eq!(answer.trim_end(), "-: study first is valid");
}
