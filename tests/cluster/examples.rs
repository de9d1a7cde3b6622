//! Everything under `examples/` before the real API server; and that GitOps tools see no difference in a Study.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use sweep_operator::api::Study;
use sweep_operator::job::{JobIdentity, SidecarSettings, dry_run_job, environment};
use sweep_operator::validate::validate;

use crate::harness::{Cluster, LIMIT, Namespace, Said, require_node, wait_for};
use crate::operator::*;

#[path = "../packaging/lua.rs"]
mod lua;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// Kinds of other projects: this API server does not know them.
const NOT_HERE: [(&str, &str); 6] = [
    ("argoproj.io", "Argo CD"),
    ("helm.toolkit.fluxcd.io", "Flux"),
    ("kustomize.toolkit.fluxcd.io", "Flux"),
    ("source.toolkit.fluxcd.io", "Flux"),
    ("kueue.x-k8s.io", "Kueue"),
    ("monitoring.coreos.com", "Prometheus Operator"),
];

struct Example {
    file: PathBuf,
    object: Value,
}

impl Example {
    fn is_study(&self) -> bool {
        self.object["kind"] == "Study"
    }

    /// What Argo CD's checks are tested with.
    fn is_test_data(&self) -> bool {
        self.file.components().any(|part| part.as_os_str() == "testdata")
    }
}

/// Every object of every YAML file.
fn examples() -> Vec<Example> {
    let (mut folders, mut found) = (vec![PathBuf::from(EXAMPLES)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            if file.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&file).unwrap();
                for document in serde_yaml::Deserializer::from_str(&text) {
                    let object = Value::deserialize(document).unwrap();
                    // The lists of tests, as Argo CD reads them, are no objects.
                    if object["kind"].is_string()
                        || !file.ends_with("health_test.yaml") && !file.ends_with("action_test.yaml")
                    {
                        found.push(Example { file: file.clone(), object });
                    }
                }
            }
        }
    }
    found.sort_by(|one, other| one.file.cmp(&other.file));
    found
}

/// kubectl with something to read.
fn kubectl(cluster: &Cluster, namespace: &Namespace, args: &[&str], input: &Value) -> Said {
    let args = ["-n", &namespace.name].into_iter().chain(args.iter().copied()).chain(["-f", "-"]);
    cluster.kubectl_reading(args, &input.to_string())
}

/// A namespace in which no pod may start that is not restricted.
fn restricted(cluster: &'static Cluster, prefix: &str) -> Namespace {
    let namespace = cluster.namespace(prefix);
    cluster.enforce_restricted(&namespace.name);
    namespace
}

#[test]
fn every_example_is_accepted_by_the_api_server() {
    let cluster = prepared();
    let namespace = restricted(cluster, "examples");
    let (mut accepted, mut kinds) = (0, BTreeSet::new());
    for Example { file, mut object } in examples() {
        let version = object["apiVersion"].as_str().unwrap_or_else(|| panic!("{}: no apiVersion", file.display()));
        let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
        if object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = json!(namespace.name);
        }
        let said = kubectl(cluster, &namespace, &["apply", "--server-side", "--dry-run=server"], &object);
        if NOT_HERE.iter().any(|(elsewhere, _)| *elsewhere == group) {
            assert!(said.stderr.contains("no matches for kind"), "{}: {}", file.display(), said.stderr);
            continue;
        }
        assert!(said.success && said.stderr.is_empty(), "{}: {}", file.display(), said.stderr);
        accepted += 1;
        kinds.insert(object["kind"].as_str().unwrap().to_owned());
    }
    for kind in ["Study", "Trial", "ConfigMap", "Service", "ResourceClaimTemplate", "RoleBinding"] {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }
    assert!(accepted >= 30, "{accepted}");
}

/// The pod of some Trial, as the operator would have it created.
fn pod(study: &Study) -> Value {
    let name = study.metadata.name.clone().unwrap();
    let valid = validate(&name, &study.spec).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
    let assignments = valid.core.space.assemble(|_, domain| domain.at_unit(0.5));
    let environment = environment(&valid.core.space, &name, "trial", 0, &assignments);
    let identity = JobIdentity {
        name: String::new(),
        namespace: String::new(),
        study: name,
        trial: "trial".to_owned(),
        trial_uid: String::new(),
    };
    let settings = SidecarSettings {
        image: SIDECAR_IMAGE.to_owned(),
        pull_policy: None,
        cpu: "50m".to_owned(),
        memory: "32Mi".to_owned(),
        pull_secrets: Vec::new(),
    };
    let mut pod = dry_run_job(&valid.template, &identity, &environment, &settings)["spec"]["template"].take();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["generateName"] = json!("trial-");
    pod
}

/// The API server is asked twice: for the pod, by Pod Security `restricted`, and for the Job, by the operator's dry run.
#[test]
fn every_study_of_the_examples_gets_jobs_whose_pods_are_restricted() {
    let cluster = prepared();
    let namespace = restricted(cluster, "example-jobs");
    let _operator = Operator::start(cluster, &namespace);
    let health = health_of_a_study();
    let studies: Vec<Example> =
        examples().into_iter().filter(|example| example.is_study() && !example.is_test_data()).collect();
    assert!(studies.len() >= 7);
    for Example { file, object } in &studies {
        let study: Study = serde_json::from_value(object.clone()).unwrap();
        let said = kubectl(cluster, &namespace, &["create", "--dry-run=server"], &pod(&study));
        assert!(said.success && said.stderr.is_empty(), "{}: {}", file.display(), said.stderr);

        let mut object = object.clone();
        object["spec"]["suspend"] = json!(true);
        namespace.apply(&object.to_string());
        let name = study.metadata.name.as_deref().unwrap();
        let said = wait_for_message(&namespace, name, ": ");
        assert!(said.starts_with("Suspended: "), "{}: {said}", file.display());
        let seen = namespace.get(&["study", name]).unwrap();
        let conditions = seen["status"]["conditions"].as_array().unwrap();
        assert!(!conditions.iter().any(|condition| condition["type"] == "SpecWarning"), "{conditions:#?}");
        assert_eq!(lua::run(&health, &seen)["status"], "Suspended");
        namespace.kubectl_ok(&["delete", "study", name]);
    }

    // Both questions can be answered with no.
    let mut object = studies[0].object.clone();
    object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["securityContext"] = json!(null);
    object["spec"]["jobTemplate"]["spec"]["template"]["spec"]["preemptionPolicy"] = json!("Sometimes");
    let mut lax = pod(&serde_json::from_value(object.clone()).unwrap());
    lax["spec"]["preemptionPolicy"] = json!(null);
    let said = kubectl(cluster, &namespace, &["create", "--dry-run=server"], &lax);
    assert!(!said.success && said.stderr.contains("violates PodSecurity"), "{}", said.stderr);
    namespace.apply(&object.to_string());
    wait_for_message(&namespace, object["metadata"]["name"].as_str().unwrap(), "InvalidSpec");
}

fn health_of_a_study() -> String {
    let folder = "gitops/argocd/resource_customizations/sweep-operator.dev/Study/health.lua";
    std::fs::read_to_string(Path::new(EXAMPLES).join(folder)).unwrap()
}

#[test]
fn of_an_indexed_job_pod_0_reports_for_its_trial() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = restricted(cluster, "indexed");
    let _operator = Operator::start(cluster, &namespace);
    let example = |name: &str| {
        let mut found = examples().into_iter().filter(|example| example.file.ends_with(name));
        found.next().unwrap().object
    };
    let mut study = example("cluster/indexed.yaml");
    study["spec"]["maxTrials"] = json!(2);
    namespace.apply(&example("cluster/indexed-service.yaml").to_string());
    namespace.apply(&study.to_string());
    let study = wait_for_end(&namespace, "digits-indexed");
    assert_eq!(study["status"]["trials"]["succeeded"], 2, "{study:#}");

    let mut differ = 0;
    for trial in trials(&namespace, "digits-indexed") {
        let job = trial["status"]["run"]["job"].as_str().unwrap();
        let pods = namespace.get(&["pods", "-l", &format!("job-name={job}")]).unwrap();
        let pods = pods["items"].as_array().unwrap();
        assert_eq!(pods.len(), 2, "{pods:#?}");
        let reached = |index: &str| {
            let of_index =
                |pod: &&Value| pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == index;
            let pod = pods.iter().find(of_index).unwrap();
            // What the other pods find pod 0 by.
            assert_eq!(pod["spec"]["hostname"], format!("{job}-{index}"));
            assert_eq!(pod["spec"]["subdomain"], "digits-workers");
            let log = namespace.kubectl_ok(&["logs", pod["metadata"]["name"].as_str().unwrap(), "-c", "trainer"]);
            let (_, rest) = log.rsplit_once("done: accuracy ").unwrap();
            rest.split(' ').next().unwrap().parse::<f64>().unwrap()
        };
        let value = trial["status"]["objectives"][0]["value"].as_f64().unwrap();
        assert_eq!(value, reached("0"), "{trial:#}");
        differ += u32::from(reached("1") != value);
    }
    assert!(differ > 0, "the two pods of a trial reach different values, or this shows nothing");
}

/// How Argo CD and Flux apply, and how kubectl does.
const SERVER_SIDE: [&str; 3] = ["--server-side", "--field-manager=argocd-controller", "--force-conflicts"];
const CLIENT_SIDE: [&str; 0] = [];

/// Applies it again, which must change nothing, and lets kubectl look for differences.
fn assert_in_sync(cluster: &Cluster, namespace: &Namespace, options: &[&str], study: &Value) {
    let name = study["metadata"]["name"].as_str().unwrap();
    let version = || namespace.get(&["study", name]).unwrap()["metadata"]["resourceVersion"].clone();
    let before = version();
    let said = kubectl(cluster, namespace, &[&["diff"], options].concat(), study);
    assert!(said.success && said.stdout.is_empty(), "{name} differs: {}{}", said.stdout, said.stderr);
    let said = kubectl(cluster, namespace, &[&["apply"], options].concat(), study);
    assert!(said.success, "{}", said.stderr);
    assert_eq!(version(), before, "applying {name} again is no write");
}

#[test]
fn nothing_that_the_operator_does_is_a_difference_to_git() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("gitops");
    let tracking = json!({
        "labels": {"app.kubernetes.io/instance": "sweeps", "kustomize.toolkit.fluxcd.io/name": "sweeps", "team": "a"},
        "annotations": {"argocd.argoproj.io/tracking-id": "sweeps:sweep-operator.dev/Study:ns/name", "note": "ours"},
    });
    let ways: [(&str, &[&str]); 2] = [("server-side", &SERVER_SIDE), ("client-side", &CLIENT_SIDE)];
    let studies = ways.map(|(name, options)| {
        let mut study = shell_study(name, "echo \"score=$x\"; echo \"{\\\"score\\\": $x}\" >> $SWEEP_METRICS");
        study["metadata"]["labels"] = tracking["labels"].clone();
        study["metadata"]["annotations"] = tracking["annotations"].clone();
        study["spec"]["bestConfigMap"] = json!({"name": format!("{name}-best")});
        let said = kubectl(cluster, &namespace, &[&["apply"], options].concat(), &study);
        assert!(said.success, "{}", said.stderr);
        (name, options, study)
    });
    let written = |name: &str| {
        let study = namespace.get(&["study", "--show-managed-fields", name]).unwrap();
        let metadata = &study["metadata"];
        let kept = ["labels", "annotations", "finalizers", "ownerReferences", "generation"];
        let kept = kept.map(|key| metadata[key].to_string());
        (study["spec"].to_string(), kept, study)
    };
    let before = ways.map(|(name, _)| written(name));
    let _operator = Operator::start(cluster, &namespace);
    for ((name, options, study), (spec, metadata, _)) in studies.iter().zip(&before) {
        wait_for_end(&namespace, name);
        wait_for("the best configuration", LIMIT, || {
            namespace.get(&["configmap", &format!("{name}-best")]).ok_or("not there")
        });
        let (spec_now, metadata_now, now) = written(name);
        assert_eq!(&spec_now, spec);
        assert_eq!(&metadata_now, metadata);
        assert_eq!(lua::run(&health_of_a_study(), &now)["status"], "Healthy");
        // Who owns what: the operator nothing but the status.
        let managers = now["metadata"]["managedFields"].as_array().unwrap();
        let ours: Vec<&Value> = managers.iter().filter(|entry| entry["fieldsV1"].get("f:status").is_some()).collect();
        assert_eq!(ours.len(), 1, "{managers:#?}");
        assert_eq!((&ours[0]["manager"], &ours[0]["subresource"]), (&json!("sweep-operator"), &json!("status")));
        let fields: Vec<&String> = ours[0]["fieldsV1"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["f:status"]);
        assert_eq!(managers.len(), 2, "who applied it, and the operator: {managers:#?}");
        assert_in_sync(cluster, &namespace, options, study);
    }
    // Tools find their objects by these marks: on Trials and Jobs, which are not in Git, they would be pruned.
    for kind in ["trials.sweep-operator.dev", "jobs", "pods", "configmaps"] {
        let list = namespace.get(&[kind, "-l", "app.kubernetes.io/managed-by=sweep-operator"]).unwrap();
        let items = list["items"].as_array().unwrap();
        assert!(kind == "configmaps" || items.len() >= 8, "{kind}: {}", items.len());
    }
    for kind in ["trials.sweep-operator.dev", "jobs", "pods", "configmaps"] {
        for object in namespace.get(&[kind]).unwrap()["items"].as_array().unwrap() {
            for (marks, part) in [("labels", &tracking["labels"]), ("annotations", &tracking["annotations"])] {
                for key in part.as_object().unwrap().keys() {
                    assert_eq!(object["metadata"][marks].get(key), None, "{key} of {kind}");
                }
            }
        }
    }
}

#[test]
fn what_an_action_has_suspended_stays_so_when_git_is_applied_again() {
    let cluster = prepared();
    let namespace = cluster.namespace("suspended");
    let ways: [(&str, &[&str]); 2] = [("server-side", &SERVER_SIDE), ("client-side", &CLIENT_SIDE)];
    for (name, options) in ways {
        let study = shell_study(name, "true");
        let said = kubectl(cluster, &namespace, &[&["apply"], options].concat(), &study);
        assert!(said.success, "{}", said.stderr);
        let patch = json!({"spec": {"suspend": true}}).to_string();
        let as_argo_cd = ["patch", "study", name, "--type=merge", "--field-manager=argocd-server", "-p", &patch];
        namespace.kubectl_ok(&as_argo_cd);
        assert_in_sync(cluster, &namespace, options, &study);
        assert_eq!(namespace.get(&["study", name]).unwrap()["spec"]["suspend"], true);

        // In Git it is Git's.
        let mut study = study;
        study["spec"]["suspend"] = json!(false);
        let said = kubectl(cluster, &namespace, &[&["diff"], options].concat(), &study);
        assert!(said.stdout.contains("suspend"), "{}{}", said.stdout, said.stderr);
        let said = kubectl(cluster, &namespace, &[&["apply"], options].concat(), &study);
        assert!(said.success, "{}", said.stderr);
        assert_eq!(namespace.get(&["study", name]).unwrap()["spec"]["suspend"], false);
    }
}

#[test]
fn of_an_indexed_job_any_pod_that_fails_fails_its_trial() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("indexed-failing");
    let _operator = Operator::start(cluster, &namespace);
    let waits = "echo '{\"step\": 1, \"score\": 1}' >> $SWEEP_METRICS; sleep 300";
    let script = format!("if [ $JOB_COMPLETION_INDEX = 1 ]; then sleep 1; echo no peers; exit 3; fi; {waits}");
    let mut study = shell_study("failing", &script);
    study["spec"]["maxTrials"] = json!(1);
    study["spec"]["maxFailedTrials"] = json!(0);
    for (field, value) in [("completionMode", json!("Indexed")), ("completions", json!(2)), ("parallelism", json!(2))] {
        study["spec"]["jobTemplate"]["spec"][field] = value;
    }
    namespace.apply(&study.to_string());
    wait_for_end(&namespace, "failing");
    let trial = trials(&namespace, "failing").remove(0);
    assert_eq!(trial["status"]["phase"], "Failed", "{trial:#}");
    assert_eq!(trial["status"]["run"]["number"], 1, "it is not run again: {trial:#}");
    assert!(trial["status"]["message"].as_str().unwrap().contains("exit code 3"), "{trial:#}");
}
