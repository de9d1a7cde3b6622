//! The built Job, and the CRDs as they are committed.

use std::path::Path;

use serde_json::{Value, json};
use sweep_operator::api;
use sweep_operator::core::Assignments;
use sweep_operator::job::{JobIdentity, SidecarSettings, dry_run_job, environment, job, job_name};

use crate::support::study;

const POD: &str = "/jobTemplate/spec/template/spec";

fn identity() -> JobIdentity {
    JobIdentity {
        name: "digits-0007".to_owned(),
        namespace: "team".to_owned(),
        study: "digits".to_owned(),
        trial: "digits-0007".to_owned(),
        trial_uid: "6f1c7c1e-0000-0000-0000-000000000007".to_owned(),
    }
}

fn settings() -> SidecarSettings {
    SidecarSettings {
        image: "registry.example/sweep-operator:1".to_owned(),
        pull_policy: None,
        cpu: "10m".to_owned(),
        memory: "32Mi".to_owned(),
        pull_secrets: Vec::new(),
    }
}

#[test]
fn the_sidecar_s_pull_secrets_stand_after_the_template_s_own_and_once() {
    let patch = ("/jobTemplate/spec/template/spec/imagePullSecrets", json!([{"name": "team"}, {"name": "both"}]));
    let study = study(&[patch]);
    let pull_secrets = vec!["both".to_owned(), "sweep".to_owned()];
    let settings = SidecarSettings { pull_secrets, ..settings() };
    let job = job(&study.template, &identity(), &[], &settings);
    let secrets = &job["spec"]["template"]["spec"]["imagePullSecrets"];
    assert_eq!(*secrets, json!([{"name": "team"}, {"name": "both"}, {"name": "sweep"}]));
}

fn built(patches: &[(&str, Value)], assignments: &[(&str, &str)]) -> Value {
    let study = study(patches);
    let assignments: Assignments =
        assignments.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let environment = environment(&study.core.space, "digits", "digits-0007", 7, &assignments);
    job(&study.template, &identity(), &environment, &settings())
}

const ADAM: [(&str, &str); 4] = [("learning_rate", "0.001"), ("layers", "2"), ("batch", "32"), ("optimizer", "adam")];

#[test]
fn a_job_with_a_metrics_file_and_a_gpu() {
    insta::assert_yaml_snapshot!("file_and_gpu", built(&[], &ADAM));
}

#[test]
fn what_lines_look_like_reaches_the_sidecar_as_one_argument_in_which_nothing_is_expanded() {
    let patterns = json!(["^a$|(?P<accuracy>$(x)|[0-9.]+)"]);
    let metrics = json!({"file": {"patterns": patterns}, "step": "global_step", "additional": ["lr", "val/loss"]});
    let job = built(&[("/metrics", metrics.clone())], &ADAM);
    let sidecar = &job["spec"]["template"]["spec"]["initContainers"][0];
    insta::assert_yaml_snapshot!("grammar", sidecar["args"]);
    let read = sidecar["args"][3].as_str().unwrap().strip_prefix("--grammar=").unwrap().replace("$$", "$");
    let grammar: sweep_operator::metrics::Grammar = serde_json::from_str(&read).unwrap();
    assert_eq!(grammar, *study(&[("/metrics", metrics)]).template.grammar);
}

#[test]
fn a_job_whose_metrics_are_printed_has_neither_sidecar_nor_volume() {
    let job = built(&[("/metrics", json!({"stdout": {}})), ("/gpu", Value::Null)], &ADAM);
    insta::assert_yaml_snapshot!("stdout", job);
}

/// The trainer's container, the sidecar and the volumes, as far as metrics shape them.
fn shared(job: &Value) -> Value {
    let pod = &job["spec"]["template"]["spec"];
    let (trainer, sidecar) = (&pod["containers"][0], &pod["initContainers"][0]);
    json!({
        "trainer": {"env": trainer["env"][0], "volumeMounts": trainer["volumeMounts"]},
        "sidecar": {"args": sidecar["args"], "volumeMounts": sidecar["volumeMounts"]},
        "volumes": pod["volumes"],
    })
}

#[test]
fn event_files_are_in_a_volume_that_trainer_and_sidecar_share() {
    insta::assert_yaml_snapshot!("tensor_board", shared(&built(&[("/metrics", json!({"tensorBoard": {}}))], &ADAM)));
    let fixed = json!({"tensorBoard": {"path": "/app/$logs"}});
    insta::assert_yaml_snapshot!("tensor_board_path", shared(&built(&[("/metrics", fixed)], &ADAM)));
}

#[test]
fn event_files_in_a_volume_of_the_template_are_read_there() {
    let mounts = json!([
        {"name": "work", "mountPath": "/app", "subPath": "w"},
        {"name": "data", "mountPath": "/"},
        {"name": "data", "mountPath": "/app/logs/cache"},
    ]);
    let patches = [
        ("/metrics", json!({"tensorBoard": {"path": "/app/logs"}})),
        (
            &*format!("{POD}/volumes"),
            json!([{"name": "work", "emptyDir": {}}, {"name": "data", "hostPath": {"path": "/d"}}]),
        ),
        (&*format!("{POD}/containers/0/volumeMounts"), mounts),
    ];
    insta::assert_yaml_snapshot!("tensor_board_mounted", shared(&built(&patches, &ADAM)));
}

#[test]
fn a_page_of_metrics_needs_no_volume_in_the_trainer() {
    let patches = [
        ("/metrics", json!({"prometheus": {"port": 8000}})),
        (&*format!("{POD}/containers/0/args"), json!(["--port=$(SWEEP_METRICS_PORT)"])),
        ("/objectives/0", json!({"metric": "val_accuracy", "direction": "Maximize"})),
    ];
    insta::assert_yaml_snapshot!("prometheus", shared(&built(&patches, &ADAM)));
}

#[test]
fn values_with_dollars_are_escaped_and_inactive_parameters_have_their_inactive_value() {
    let words = json!(["$(HOME)", "a$$b", "$"]);
    let patches = [
        ("/parameters/3", json!({"name": "optimizer", "categorical": {"values": words}})),
        ("/parameters/4/when/0/in", json!(["$"])),
        ("/parameters/4/inactiveValue", json!("none, $0")),
        ("/initialAssignments", Value::Null),
    ];
    let job =
        built(&patches, &[("learning_rate", "0.001"), ("layers", "2"), ("batch", "32"), ("optimizer", "$(HOME)")]);
    let trainer = &job["spec"]["template"]["spec"]["containers"][0]["env"];
    insta::assert_yaml_snapshot!("dollars", trainer);
}

#[test]
fn a_pod_that_runs_as_root_gives_the_sidecar_a_user_of_its_own() {
    let job = built(&[(&format!("{POD}/securityContext"), json!({"runAsUser": 0, "fsGroup": 5}))], &ADAM);
    insta::assert_yaml_snapshot!("root", job["spec"]["template"]["spec"]);
}

#[test]
fn what_the_template_says_is_kept() {
    let patches = [
        ("/jobTemplate/metadata", json!({"labels": {"team": "vision"}, "annotations": {"a": "b"}})),
        ("/jobTemplate/spec/aFieldOfTomorrow", json!({"deep": [1, null]})),
        ("/jobTemplate/spec/backoffLimit", json!(2)),
        ("/jobTemplate/spec/podFailurePolicy", json!({"rules": [{"action": "FailJob"}], "tomorrow": true})),
        ("/jobTemplate/spec/template/metadata", json!({"labels": {"team": "vision"}})),
        (&format!("{POD}/anotherOne"), json!("x")),
        (&format!("{POD}/automountServiceAccountToken"), json!(true)),
        (&format!("{POD}/terminationGracePeriodSeconds"), json!(120)),
        (&format!("{POD}/volumes"), json!([{"name": "data", "emptyDir": {}}])),
        (&format!("{POD}/containers/0/env"), json!([{"name": "RATE", "value": "$(learning_rate)"}])),
        (&format!("{POD}/containers/0/volumeMounts"), json!([{"name": "data", "mountPath": "/data"}])),
        (&format!("{POD}/containers/0/resources"), json!({"limits": {"memory": "1Gi"}, "claims": []})),
        (&format!("{POD}/containers/-"), json!({"name": "proxy", "image": "proxy:1"})),
        (&format!("{POD}/initContainers"), json!([{"name": "fetch", "image": "fetch:1"}])),
    ];
    insta::assert_yaml_snapshot!("kept", built(&patches, &ADAM));
}

#[test]
fn python_prints_at_once_unless_the_template_says_otherwise() {
    let unbuffered = |job: &Value, list: &str| -> Vec<Value> {
        let env = job["spec"]["template"]["spec"][list][0]["env"].as_array().unwrap().clone();
        env.into_iter().filter(|variable| variable["name"] == "PYTHONUNBUFFERED").collect()
    };
    let theirs = json!({"name": "PYTHONUNBUFFERED", "value": ""});
    let patches = [
        (&*format!("{POD}/containers/0/env"), json!([theirs])),
        (&*format!("{POD}/initContainers"), json!([{"name": "fetch", "image": "fetch:1"}])),
    ];
    let job = built(&patches, &ADAM);
    assert_eq!(unbuffered(&job, "containers"), [theirs]);
    assert_eq!(unbuffered(&job, "initContainers"), [json!({"name": "PYTHONUNBUFFERED", "value": "1"})]);
}

#[test]
fn the_time_to_live_is_withheld_until_the_result_is_recorded() {
    let patches = [("/jobTemplate/spec/ttlSecondsAfterFinished", json!(60))];
    assert_eq!(built(&patches, &ADAM)["spec"].get("ttlSecondsAfterFinished"), None);
    assert_eq!(study(&patches).template.ttl_seconds(), 60);
    assert_eq!(study(&[]).template.ttl_seconds(), 86_400);
}

#[test]
fn the_trainer_is_the_container_that_the_annotation_names() {
    let annotations = json!({"kubectl.kubernetes.io/default-container": "trainer"});
    let containers = json!([{"name": "proxy", "image": "p"}, {"name": "trainer", "image": "t"}]);
    let patches = [
        ("/jobTemplate/spec/template/metadata", json!({"annotations": annotations})),
        (&format!("{POD}/containers"), containers),
    ];
    assert_eq!(study(&patches).template.trainer_name(), "trainer");
    let job = built(&patches, &ADAM);
    let containers = &job["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0].get("volumeMounts"), None);
    assert_eq!(containers[0].get("resources"), None);
    assert_eq!(containers[1]["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert_eq!(containers[1]["env"][0]["name"], "SWEEP_METRICS");
    // Both have the parameters.
    assert_eq!(containers[0]["env"][0]["name"], "learning_rate");
    assert_eq!(containers[1]["env"][1]["name"], "learning_rate");
}

#[test]
fn the_job_of_a_dry_run_has_no_owner_and_is_named_by_the_server() {
    let study = study(&[]);
    let job = dry_run_job(&study.template, &identity(), &[], &settings());
    assert_eq!(job["metadata"]["generateName"], "digits-");
    assert_eq!(job["metadata"].get("name"), None);
    assert_eq!(job["metadata"].get("ownerReferences"), None);
}

#[test]
fn a_later_run_has_a_name_of_its_own() {
    assert_eq!(job_name("digits-0007", 1), "digits-0007");
    assert_eq!(job_name("digits-0007", 2), "digits-0007-r2");
    // The longest name there is still fits a pod's label.
    let longest = job_name(&api::trial_name(&"a".repeat(40), u32::MAX), 11);
    assert!(longest.len() <= 63, "{longest}");
}

#[test]
fn a_template_s_hash_depends_on_its_content_alone() {
    let hash = |patches: &[(&str, Value)]| study(patches).template.hash();
    assert_eq!(hash(&[]), hash(&[("/maxTrials", json!(3))]));
    assert_ne!(hash(&[]), hash(&[(&format!("{POD}/containers/0/image"), json!("registry.example/digits:2"))]));
}

/// `SWEEP_UPDATE_CRDS=1 cargo test --test core crds` writes them.
#[test]
fn the_crds_that_are_committed_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for crd in api::crds() {
        let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
        let yaml = format!(
            "# Generated from src/api: SWEEP_UPDATE_CRDS=1 cargo test --test core crds\n{}",
            serde_yaml::to_string(&crd).unwrap()
        );
        if std::env::var_os("SWEEP_UPDATE_CRDS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &yaml).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            committed == yaml,
            "{} is out of date: run SWEEP_UPDATE_CRDS=1 cargo test --test core crds",
            file.display()
        );
    }
}

#[test]
fn the_crds_are_documents_that_kubectl_takes() {
    for crd in api::crds() {
        let json = serde_json::to_value(&crd).unwrap();
        assert_eq!(json["apiVersion"], "apiextensions.k8s.io/v1");
        assert_eq!(json["kind"], "CustomResourceDefinition");
        assert_eq!(json["metadata"]["name"], format!("{}.{}", crd.spec.names.plural, api::GROUP));
        assert_eq!(json.get("status"), None);
    }
}
