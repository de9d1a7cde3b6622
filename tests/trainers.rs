//! Trainers people have: the examples in Python are swept, and real logs are read as docs/trainers.md says.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sweep_operator::metrics::{Dropped, LineSplitter, Parser, Readings};
use sweep_operator::validate::validate;

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where pinned packages are kept from one run of the tests to the next.
fn cache() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("SWEEP_TEST_CACHE").or_else(|| set("XDG_CACHE_HOME"));
    root.unwrap_or_else(|| set("HOME").unwrap().join(".cache")).join("sweep-operator")
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The `bin` folder of a venv with the examples' packages. Without Python it prints that the test is skipped; in CI
/// (`CI=true`) it fails, since there nobody reads what was skipped.
fn require_python() -> Option<PathBuf> {
    let python = Command::new("python3").args(["-c", "import sys, ensurepip, venv; print(sys.version)"]).output();
    let Some(python) = python.ok().filter(|output| output.status.success()) else {
        let reason = "no python3 with the module venv: install it, such as by apt-get install python3 python3-venv";
        assert!(env::var("CI").as_deref() != Ok("true"), "{reason}");
        // Written to the process's stderr itself: the test runner hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED {}: {reason}", std::thread::current().name().unwrap_or("a test"));
        return None;
    };
    let requirements = checkout("examples/python/requirements.txt");
    let mut hasher = DefaultHasher::new();
    (fs::read(&requirements).unwrap(), python.stdout).hash(&mut hasher);
    let venv = cache().join(format!("python-{:016x}", hasher.finish()));
    fs::create_dir_all(cache()).unwrap();
    // Built in its place, for a venv cannot be moved; what was begun and not completed is built anew.
    let lock = File::create(venv.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let complete = venv.join(".complete");
    if !complete.exists() {
        succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--only-binary=:all:", "--requirement"]).arg(&requirements);
        succeed(&mut pip);
        File::create(complete).unwrap();
    }
    Some(venv.join("bin"))
}

/// Every file and folder below this one.
fn below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(below(&path));
        }
        paths.insert(path);
    }
    paths
}

fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Sweeps an example with fewer trials; its best value must lie between these.
fn sweep(example: &str, least: f64, most: f64) {
    const TRIALS: usize = 7;
    let Some(bin) = require_python() else { return };
    // A copy, so that whatever it leaves behind is seen.
    let folder = tempfile::tempdir().unwrap();
    let scripts = folder.path().join("examples/python");
    fs::create_dir_all(&scripts).unwrap();
    for entry in fs::read_dir(checkout("examples/python")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), scripts.join(entry.file_name())).unwrap();
        }
    }
    let file = scripts.join(example);
    let text = fs::read_to_string(&file).unwrap();
    let fewer = text.replace("maxTrials: 24", &format!("maxTrials: {TRIALS}"));
    assert_ne!(text, fewer);
    fs::write(&file, fewer).unwrap();
    let before = below(folder.path());

    let state = tempfile::tempdir().unwrap();
    let state = state.path().join("run");
    let mut path = OsString::from(bin);
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let mut run = Command::new(env!("CARGO_BIN_EXE_sweep"));
    run.arg("run").arg(format!("examples/python/{example}")).arg("--dir").arg(&state);
    let output = succeed(run.current_dir(folder.path()).env("PATH", path));
    assert_eq!(below(folder.path()), before);

    let study = yaml(&state.join("study.yaml"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(study["status"]["trials"]["succeeded"].as_u64().unwrap() + pruned(&study), TRIALS as u64, "{said}");
    let trials: Vec<Value> = below(&state.join("trials")).iter().map(|path| yaml(path)).collect();
    assert_eq!(trials.len(), TRIALS);
    let mut finished = Vec::new();
    for trial in &trials {
        let status = &trial["status"];
        let reasons: Vec<&str> =
            status["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["Finished"], "nothing is dropped, and steps are the trainer's own: {status}");
        let steps: Vec<u64> =
            status["observations"][0]["steps"].as_array().unwrap().iter().map(|step| step.as_u64().unwrap()).collect();
        assert!(steps.len() > 1, "{status}");
        assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
        if status["phase"] == "Succeeded" {
            finished.push(status["objectives"][0]["value"].as_f64().unwrap());
        }
    }
    let is_maximized = study["spec"]["objectives"][0]["direction"] == "Maximize";
    let recorded = finished.into_iter().reduce(if is_maximized { f64::max } else { f64::min }).unwrap();
    let best = study["status"]["best"]["objectives"][0]["value"].as_f64().unwrap();
    assert_eq!(best, recorded);
    assert!((least..=most).contains(&best), "{best}: {said}");
}

fn pruned(study: &Value) -> u64 {
    study["status"]["trials"]["pruned"].as_u64().unwrap()
}

#[test]
fn scikit_learn_is_swept() {
    sweep("sklearn.yaml", 0.9, 1.0);
}

#[test]
fn xgboost_is_swept() {
    sweep("xgboost.yaml", 0.01, 0.5);
}

#[test]
fn lightgbm_is_swept() {
    sweep("lightgbm.yaml", 40.0, 65.0);
}

#[test]
fn folds_are_swept() {
    sweep("folds.yaml", 0.9, 1.0);
}

#[test]
fn event_files_are_swept() {
    sweep("tensorboard.yaml", 0.9, 1.0);
}

#[test]
fn pages_of_metrics_are_swept() {
    sweep("prometheus.yaml", 0.9, 1.0);
}

#[test]
fn an_example_has_fewer_than_40_lines() {
    let scripts = below(&checkout("examples/python"));
    let scripts: Vec<_> = scripts.iter().filter(|path| path.extension().is_some_and(|name| name == "py")).collect();
    assert_eq!(scripts.len(), 6);
    for path in scripts {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.lines().count() < 40, "{path:?}");
        let ours = text.lines().filter(|line| line.contains("SWEEP_")).count();
        assert!(ours <= 1, "{path:?}");
    }
}

fn documentation() -> String {
    fs::read_to_string(checkout("docs/trainers.md")).unwrap()
}

fn log(name: &str) -> Vec<u8> {
    fs::read(checkout("tests/data/logs").join(name)).unwrap()
}

/// What a log says, in the words of the documentation: the first and the last step (of several values at one the
/// later stands), and what was dropped.
fn read(log: &[u8], objective: &str, metrics: &str) -> String {
    let metrics: Value = serde_yaml::from_str(metrics).unwrap();
    let spec = json!({
        "objectives": [{"metric": objective, "direction": "Minimize"}],
        "parameters": [{"name": "x", "double": {"min": 0, "max": 1}}],
        "maxTrials": 1,
        "metrics": metrics,
        "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "trainer", "image": "none"}]}}}},
    });
    let study = validate("logs", &serde_json::from_value(spec).unwrap()).unwrap();
    let mut parser = Parser::new([objective], study.template.grammar.clone());
    let mut readings = Readings::default();
    let mut observations = BTreeMap::new();
    let mut each = |line: &[u8]| {
        parser.line(line, &mut readings.noted, |report| {
            observations.insert(report.step, report.values[objective]);
        });
    };
    let mut lines = LineSplitter::new();
    lines.push(log, |line| each(line.bytes));
    lines.finish(|line| each(line.bytes));
    let mut said = match (observations.first_key_value(), observations.last_key_value()) {
        (Some((first, from)), Some((last, to))) => {
            vec![format!("{} steps, from {from} at step {first} to {to} at step {last}", observations.len())]
        }
        _ => vec!["nothing".to_owned()],
    };
    let dropped = Dropped { example: None, ..readings.noted.dropped };
    said.extend((!dropped.is_zero()).then(|| dropped.to_string()));
    said.extend(readings.noted.steps_counted.map(|_| "steps are counted".to_owned()));
    said.join("; ")
}

#[test]
fn every_log_is_read_as_the_documentation_says() {
    let documentation = documentation();
    let table = documentation.split("## What is read").nth(1).unwrap();
    let mut read_logs = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| [")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [file, objective, metrics, says] = &cells[..] else { panic!("{row}") };
        let name = file.split(['[', ']']).nth(1).unwrap();
        let said = read(&log(name), objective, metrics.trim_matches('`'));
        if said != *says {
            wrong.push(format!("{name}, {objective}: {said}"));
        }
        read_logs.insert(name.to_owned());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let names = fs::read_dir(checkout("tests/data/logs")).unwrap();
    let logs: BTreeSet<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(read_logs, logs);
}

#[test]
fn every_excerpt_of_the_documentation_stands_in_a_log() {
    let names = fs::read_dir(checkout("tests/data/logs")).unwrap();
    let logs: Vec<String> =
        names.map(|name| String::from_utf8(fs::read(name.unwrap().path()).unwrap()).unwrap()).collect();
    let documentation = documentation();
    let excerpts: Vec<&str> =
        documentation.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(excerpts.len() > 5);
    for excerpt in excerpts {
        assert!(logs.iter().any(|log| log.contains(excerpt)), "{excerpt}");
    }
}
