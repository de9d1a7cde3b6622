//! `sweep check` on files that are wrong as files, as YAML or as a Study.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::support::SPEC;

fn study() -> String {
    let spec: String = SPEC.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: sweep-operator.dev/v1alpha1\nkind: Study\nmetadata: {{name: digits}}\nspec:\n{spec}")
}

fn sweep_check(text: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sweep"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn refused(text: &str, phrases: &[&str]) {
    let output = sweep_check(text);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for phrase in phrases {
        assert!(stderr.contains(phrase), "no {phrase:?} in {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// The study with one text replaced.
fn replaced(from: &str, to: &str) -> String {
    let study = study();
    assert!(study.contains(from), "{from}");
    study.replacen(from, to, 1)
}

#[test]
fn a_valid_study_is_accepted() {
    for text in [study(), format!("---\n{}---\n", study()), format!("# mine\n{}", study())] {
        let output = sweep_check(&text);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("study digits is valid"));
    }
}

#[test]
fn warnings_are_printed_and_the_study_is_valid() {
    let text = replaced("image: registry.example/digits:1", "imagePullPolicy: Always");
    let path = "spec.jobTemplate.spec.template.spec.containers[0]";
    for (text, count, warnings) in [
        (text.clone(), "1 warning", vec![format!("warning: {path}.image: is missing: a local run needs none")]),
        (
            text.replace("--layers=$(layers)", "--layers=${layers}"),
            "2 warnings",
            vec![format!("warning: {path}.args[1]: ${{layers}} stays as it is"), format!("warning: {path}.image: ")],
        ),
    ] {
        let output = sweep_check(&text);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(0), "{err}");
        assert!(out.contains(&format!("study digits is valid, with {count}\n")), "{out}");
        assert!(warnings.iter().all(|warning| err.contains(warning)), "{err}");
    }
    let init = text.replace("containers:", "initContainers: [{name: fetch}]\n          containers:");
    let output = sweep_check(&init);
    assert!(String::from_utf8_lossy(&output.stderr).contains("spec.initContainers[0].image: is missing"));
}

#[test]
fn a_study_may_use_anchors_and_merge_keys() {
    let text = replaced("- {name: layers, int: {min: 1, max: 8}}", "- &layers {name: layers, int: {min: 1, max: 8}}")
        .replace("  initialAssignments:", "    - {<<: *layers, name: units}\n  initialAssignments:")
        .replace("layers: \"2\"", "layers: \"2\", units: \"2\"");
    let output = sweep_check(&text);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_misspelt_field_is_named_with_its_path() {
    refused(&replaced("maxTrials", "maxTrails"), &["spec: missing field `maxTrials`"]);
    refused(&replaced("maxDuration", "maxDurations"), &["spec.maxDurations: is not a field of a Study", "1 problem"]);
    refused(&replaced("scale: Log", "skale: Log"), &["spec.parameters[0].double.skale: is not a field"]);
    let two = replaced("maxDuration", "maxDurations").replace("maxTrials: 64", "maxTrials: 0");
    refused(&two, &["spec.maxDurations", "spec.maxTrials: is 0", "2 problems"]);
}

#[test]
fn a_wrong_type_is_named_with_its_path() {
    refused(&replaced("maxTrials: 64", "maxTrials: many"), &["spec.maxTrials: ", "\"many\""]);
    refused(&replaced("maxTrials: 64", "maxTrials: -1"), &["spec.maxTrials: ", "-1"]);
    refused(&replaced("direction: Maximize", "direction: Up"), &["spec.objectives[0].direction: ", "`Up`", "Minimize"]);
    refused(&replaced("layers: \"2\"", "layers: 2"), &["spec.initialAssignments[0].layers: ", "put it in quotes"]);
    refused(&replaced("min: 1, max: 8", "min: 1.5, max: 8"), &["spec.parameters[1].int.min: ", "1.5"]);
    refused(&replaced("parameters:", "parameters: 3\n  other:"), &["spec.parameters: ", "a sequence"]);
}

#[test]
fn a_missing_required_field_is_named() {
    refused(&replaced("direction: Maximize, ", ""), &["spec.objectives[0]: missing field `direction`"]);
    refused(&replaced("spec:", "specification:"), &["missing field `spec`"]);
    refused(&replaced("{name: digits}", "{}"), &["metadata.name: is missing"]);
}

#[test]
fn what_is_not_one_study_is_refused() {
    refused("", &["file: is empty"]);
    refused("# nothing here\n", &["file: is empty"]);
    refused("a: [1, 2", &["file: is not YAML"]);
    refused("\tkind: Study\n", &["file: is not YAML"]);
    refused("a: 1\na: 2\n", &["file: is not YAML", "duplicate"]);
    refused("just a sentence", &["file: is not a Study"]);
    refused(&format!("{}---\n{}", study(), study()), &["file: has 2 YAML documents"]);
    refused(&replaced("kind: Study", "kind: Job"), &["kind: is Job: it must be Study"]);
    refused(&replaced("kind: Study\n", ""), &["kind: is missing"]);
    refused(
        &replaced("sweep-operator.dev/v1alpha1", "kubeflow.org/v1beta1"),
        &["apiVersion: is kubeflow.org/v1beta1: it must be sweep-operator.dev/v1alpha1"],
    );
    refused(&replaced("apiVersion: sweep-operator.dev/v1alpha1", "apiVersion: 1"), &["apiVersion: must be"]);
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    for path in [folder.path().join("missing.yaml"), folder.path().to_owned(), binary] {
        let output = Command::new(env!("CARGO_BIN_EXE_sweep")).arg("check").arg(&path).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("file: cannot be read"), "{stderr}");
        assert!(stderr.contains(path.to_str().unwrap()), "{stderr}");
    }
}
