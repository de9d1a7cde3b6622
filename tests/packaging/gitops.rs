//! What GitOps tools are given: Argo CD's health checks and actions, and the examples.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{helm, lua};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// As in Argo CD's own repository: group, kind, and what there is of it.
fn customizations() -> PathBuf {
    Path::new(EXAMPLES).join("gitops/argocd/resource_customizations/sweep-operator.dev")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: impl AsRef<Path>) -> Value {
    serde_yaml::from_str(&text(path)).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn argo_cd_sees_every_state_as_the_health_tests_say() {
    for kind in ["Study", "Trial"] {
        let folder = customizations().join(kind);
        let script = text(folder.join("health.lua"));
        let tests = yaml(folder.join("health_test.yaml"));
        let mut tested = BTreeSet::new();
        for test in tests["tests"].as_array().unwrap() {
            let input = test["inputPath"].as_str().unwrap();
            tested.insert(input.strip_prefix("testdata/").unwrap().to_owned());
            let answer = lua::run(&script, &yaml(folder.join(input)));
            assert_eq!(answer, test["healthStatus"], "{kind} {input}");
        }
        assert_eq!(tested, names(&folder.join("testdata")), "every object of {kind} is tested");
    }
}

#[test]
fn a_status_of_an_earlier_spec_is_not_believed() {
    let folder = customizations().join("Study");
    let script = text(folder.join("health.lua"));
    for state in ["running", "suspended", "complete", "failed", "invalid"] {
        let mut study = yaml(folder.join(format!("testdata/{state}.yaml")));
        study["metadata"]["generation"] = json!(99);
        assert_eq!(lua::run(&script, &study)["status"], "Progressing", "{state}");
    }
}

#[test]
fn a_study_that_is_neither_ready_nor_stalled_is_on_its_way_as_flux_sees_it() {
    let folder = customizations().join("Study");
    let mut study = yaml(folder.join("testdata/running.yaml"));
    study["status"]["conditions"][0]["status"] = json!("Unknown");
    assert_eq!(lua::run(&text(folder.join("health.lua")), &study)["status"], "Progressing");
}

#[test]
fn argo_cd_offers_suspend_and_resume_where_they_make_sense() {
    let folder = customizations().join("Study/actions");
    let discovery = text(folder.join("discovery.lua"));
    let tests = yaml(folder.join("action_test.yaml"));
    for test in tests["discoveryTests"].as_array().unwrap() {
        let input = test["inputPath"].as_str().unwrap();
        let answer = lua::run(&discovery, &yaml(folder.join(input)));
        let answer = answer.as_object().unwrap();
        let expected = test["result"].as_array().unwrap();
        assert_eq!(answer.len(), expected.len(), "{input}: {answer:?}");
        for action in expected {
            let name = action["name"].as_str().unwrap();
            assert!(folder.join(name).join("action.lua").exists(), "{name} can be run");
            let offered = &answer[name];
            assert_eq!(offered["iconClass"], action["iconClass"], "{input}: {name}");
            assert_eq!(offered["disabled"] == true, action["disabled"] == true, "{input}: {name}");
        }
    }
}

#[test]
fn an_action_changes_suspend_and_nothing_else() {
    let folder = customizations().join("Study/actions");
    let tests = yaml(folder.join("action_test.yaml"));
    let mut tested = BTreeSet::new();
    for test in tests["actionTests"].as_array().unwrap() {
        let [action, input, output] =
            ["action", "inputPath", "expectedOutputPath"].map(|key| test[key].as_str().unwrap());
        tested.insert(output.strip_prefix("testdata/").unwrap().to_owned());
        let before = yaml(folder.join(input));
        let answer = lua::run(&text(folder.join(action).join("action.lua")), &before);
        assert_eq!(answer, lua::normal(yaml(folder.join(output))), "{action} of {input}");
        let mut after = before.clone();
        after["spec"]["suspend"] = json!(action == "suspend");
        assert_eq!(answer, lua::normal(after), "{action} of {input}");
    }
    assert_eq!(tested, names(&folder.join("testdata")));
}

#[test]
fn the_config_map_holds_the_same_scripts() {
    let map = yaml(Path::new(EXAMPLES).join("gitops/argocd/argocd-cm.yaml"));
    let data = map["data"].as_object().unwrap();
    let (health, actions) = ("resource.customizations.health", "resource.customizations.actions");
    for kind in ["Study", "Trial"] {
        let script = text(customizations().join(kind).join("health.lua"));
        assert_eq!(data[&format!("{health}.sweep-operator.dev_{kind}")], script);
    }
    let held: Value =
        serde_yaml::from_str(data[&format!("{actions}.sweep-operator.dev_Study")].as_str().unwrap()).unwrap();
    let folder = customizations().join("Study/actions");
    assert_eq!(held["discovery.lua"], text(folder.join("discovery.lua")));
    let definitions = held["definitions"].as_array().unwrap();
    for action in definitions {
        let name = action["name"].as_str().unwrap();
        assert_eq!(action["action.lua"], text(folder.join(name).join("action.lua")), "{name}");
    }
    assert_eq!((data.len(), definitions.len()), (3, 2), "all that is there is compared");
}

/// Every YAML file below a folder.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in names(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_study_of_the_examples_is_accepted_without_a_warning() {
    let is_study = |path: &PathBuf| {
        let text = text(path);
        let mut documents = serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap());
        documents.any(|document| document["kind"] == "Study")
    };
    // What Argo CD's checks are tested with is wrong on purpose here and there.
    let is_test_data = |path: &PathBuf| path.starts_with(customizations());
    let files = yaml_files(Path::new(EXAMPLES));
    let studies: Vec<&PathBuf> = files.iter().filter(|path| !is_test_data(path) && is_study(path)).collect();
    assert!(studies.len() >= 7, "{studies:?}");
    for file in studies {
        let output = Command::new(env!("CARGO_BIN_EXE_sweep")).arg("check").arg(file).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{}: {stderr}", file.display());
    }
}

/// What the chart says to values of an example.
fn rendered(values: &Value) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    helm::render_chart("helm4", &helm::chart(), "sweep-operator", &["--values", file.to_str().unwrap()])
}

#[test]
fn the_chart_takes_the_values_of_the_examples_and_of_the_docs() {
    let of_argo = yaml(Path::new(EXAMPLES).join("gitops/argocd/operator.yaml"));
    let mut examples = vec![of_argo["spec"]["source"]["helm"]["valuesObject"].clone()];
    let of_flux = helm::documents(&text(Path::new(EXAMPLES).join("gitops/flux/operator.yaml")));
    examples.push(helm::only(&of_flux, "HelmRelease")["spec"]["values"].clone());
    for page in std::fs::read_dir(helm::root().join("docs")).unwrap().map(|entry| entry.unwrap().path()) {
        if page.extension().is_some_and(|end| end == "md") {
            let page = text(page);
            let blocks = page.split("```yaml\n# values.yaml\n").skip(1);
            examples.extend(blocks.map(|block| serde_yaml::from_str(block.split("```").next().unwrap()).unwrap()));
        }
    }
    assert!(examples.len() >= 4 && examples.iter().all(Value::is_object), "{examples:#?}");
    for values in examples {
        rendered(&values).unwrap_or_else(|refusal| panic!("{values}: {refusal}"));
    }
    rendered(&json!({"replicas": 2})).unwrap_err();
}
