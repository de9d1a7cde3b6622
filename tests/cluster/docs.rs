//! Every YAML of the docs, before a real API server.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Value, json};

use crate::harness::{Cluster, Namespace};
use crate::operator::prepared;

/// Groups of others, whose CRDs are not here. CONTRIBUTING.md has the convention for all else.
const FOREIGN: [&str; 7] = [
    "argoproj.io",
    "helm.toolkit.fluxcd.io",
    "kueue.x-k8s.io",
    "kustomize.config.k8s.io",
    "kustomize.toolkit.fluxcd.io",
    "monitoring.coreos.com",
    "source.toolkit.fluxcd.io",
];

/// An object of a page.
struct Example {
    page: String,
    object: Value,
}

/// The objects of all `yaml` blocks of README.md and docs/.
fn examples() -> Vec<Example> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.push(root.join("README.md"));
    pages.sort();
    let block = Regex::new(r"(?ms)^ *```yaml\n(.*?)^ *```").unwrap();
    let mut examples = Vec::new();
    for path in pages {
        let page = path.strip_prefix(root).unwrap().display().to_string();
        for found in block.captures_iter(&std::fs::read_to_string(&path).unwrap()) {
            let first = found[1].trim_start();
            if first.starts_with("# values.yaml") || first.starts_with("# a part of ") {
                continue;
            }
            for document in found[1].split("\n---\n") {
                let object: Value = serde_yaml::from_str(document).unwrap_or_else(|error| panic!("{page}: {error}"));
                assert!(object["apiVersion"].is_string(), "{page}: what is no complete object says so:\n{document}");
                examples.push(Example { page: page.clone(), object });
            }
        }
    }
    examples
}

/// As it would be taken; nothing is created. A warning is a refusal here.
fn dry_run(cluster: &Cluster, namespace: &Namespace, object: &Value) -> Result<(), String> {
    let args = ["-n", &namespace.name, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    let said = cluster.kubectl_reading(args, &object.to_string());
    if said.success && said.stderr.is_empty() { Ok(()) } else { Err(said.stderr) }
}

/// The Job of a Study's template, as far as the template says.
fn job(study: &Value) -> Value {
    let mut job = study["spec"]["jobTemplate"].clone();
    job["apiVersion"] = json!("batch/v1");
    job["kind"] = json!("Job");
    job["metadata"]["name"] = json!("of-the-docs");
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    job
}

fn restricted(cluster: &'static Cluster) -> Namespace {
    let namespace = cluster.namespace("docs");
    cluster.enforce_restricted(&namespace.name);
    namespace
}

#[test]
fn every_yaml_of_the_docs_is_taken_by_the_api_server() {
    let cluster = prepared();
    let namespace = restricted(cluster);
    let mut taken = 0;
    for Example { page, mut object } in examples() {
        let group = object["apiVersion"].as_str().unwrap().split_once('/').map_or("", |(group, _)| group).to_owned();
        if FOREIGN.contains(&group.as_str()) {
            continue;
        }
        // The pages' namespaces are not here.
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        let refused = |why: String| panic!("{page}: {}: {why}", object["metadata"]["name"]);
        dry_run(cluster, &namespace, &object).unwrap_or_else(refused);
        taken += 1;
    }
    assert!(taken >= 3, "only {taken} objects");
}

#[test]
fn the_job_of_every_study_of_the_docs_is_taken_and_that_of_the_first_study_is_restricted() {
    let cluster = prepared();
    // Without Pod Security: the pages speak of other things, and a template is short for that.
    let (any, restricted) = (cluster.namespace("docs"), restricted(cluster));
    let studies: Vec<Example> = examples().into_iter().filter(|example| example.object["kind"] == "Study").collect();
    for Example { page, object } in &studies {
        dry_run(cluster, &any, &job(object)).unwrap_or_else(|why| panic!("{page}: {why}"));
    }
    let mut first = studies.iter().filter(|example| example.page.ends_with("first-study.md")).peekable();
    assert!(first.peek().is_some());
    for Example { page, object } in first {
        dry_run(cluster, &restricted, &job(object)).unwrap_or_else(|why| panic!("{page}: {why}"));
        let mut root = job(object);
        root["spec"]["template"]["spec"].as_object_mut().unwrap().remove("securityContext");
        let why = dry_run(cluster, &restricted, &root).expect_err("Pod Security sees no difference");
        assert!(why.contains("PodSecurity"), "{why}");
    }
}
