//! The supply chain: dependencies, SBOM, workflows, and the documents of a release.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regex::Regex;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn run(command: &mut Command) -> Output {
    command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a command printed; it must have succeeded.
fn said(command: &mut Command) -> String {
    let output = run(command);
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}");
    stdout + &stderr
}

/// A tool of tests/tools.sh, built where it is missing.
fn tool(name: &str) -> PathBuf {
    said(Command::new("tests/tools.sh").args(["build", name]));
    PathBuf::from(said(Command::new("tests/tools.sh").args(["path", name])).trim())
}

/// The workflows by name.
fn workflows() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(root().join(".github/workflows")).unwrap();
    let mut names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["ci.yml", "release.yml"]);
    names.into_iter().map(|name| (name.clone(), read(&format!(".github/workflows/{name}")))).collect()
}

#[test]
fn what_the_binary_is_made_of_is_allowed() {
    let said = said(&mut Command::new("tests/deny.sh"));
    assert!(said.contains("licenses ok"), "{said}");
    assert!(said.contains("advisories ok") || said.contains("SKIPPED advisories"), "{said}");
}

#[test]
fn a_licence_and_a_source_that_are_not_allowed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [("\"MIT\", ", "", "licenses FAILED"), ("crates.io-index", "another-index", "sources FAILED")];
    for (from, to, verdict) in cases {
        let config = read("deny.toml");
        assert!(config.contains(from), "{from}");
        let file = folder.path().join("deny.toml");
        std::fs::write(&file, config.replace(from, to)).unwrap();
        let mut deny = Command::new(tool("cargo-deny"));
        deny.args(["--locked", "--config"]).arg(&file).args(["check", "licenses", "bans", "sources"]);
        let output = run(&mut deny);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(verdict), "{from}: {said}");
    }
}

#[test]
fn the_sbom_lists_the_binary_s_dependencies_and_no_more() {
    said(Command::new("make").arg("sbom"));
    let text = read("target/image/sweep-operator.cdx.json");
    let sbom: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    let about = &sbom["metadata"]["component"];
    let wanted = concat!("pkg:cargo/sweep-operator@", env!("CARGO_PKG_VERSION"));
    assert!(about["purl"].as_str().unwrap().starts_with(wanted), "{about}");
    let names: Vec<&str> =
        sbom["components"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    assert!(["kube", "tokio", "ring"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(["criterion", "proptest", "insta"].iter().all(|name| !names.contains(name)), "{names:?}");
    assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "a path of this machine");
}

#[test]
fn the_workflows_pass_actionlint() {
    // What else is installed on a machine makes no difference.
    said(Command::new(tool("actionlint")).args(["-shellcheck=", "-pyflakes="]));
}

#[test]
fn actionlint_sees_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("release.yml");
    let workflow = read(".github/workflows/release.yml");
    std::fs::write(&file, workflow.replacen("needs.version.outputs.version", "needs.version.outputs.verison", 1))
        .unwrap();
    let output = run(Command::new(tool("actionlint")).args(["-shellcheck=", "-pyflakes="]).arg(&file));
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stdout).contains("verison"), "{output:?}");
}

/// A tag can be moved, a commit cannot.
#[test]
fn actions_are_pinned_by_commit_and_jobs_have_the_rights_they_name() {
    let uses = Regex::new(r"(?m)^\s*-? ?uses: (.*)$").unwrap();
    let pinned = Regex::new(r"^[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$").unwrap();
    for (name, text) in workflows() {
        assert!(uses.find(&text).is_some(), "{name}");
        for found in uses.captures_iter(&text) {
            assert!(pinned.is_match(&found[1]), "{name}: {}", &found[1]);
        }
        let workflow: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{name}");
        for (job, spec) in workflow["jobs"].as_object().unwrap() {
            assert!(spec["permissions"].is_object(), "{name}: {job} has all rights");
            // What others may choose, such as a branch's name, must not become a script.
            for step in spec["steps"].as_array().unwrap() {
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{name}: {job}: give it by env: {script}");
            }
        }
    }
}

#[test]
fn every_make_target_that_is_spoken_of_exists() {
    let targets: Vec<String> = Regex::new(r"(?m)^([a-z-]+):")
        .unwrap()
        .captures_iter(&read("Makefile"))
        .map(|found| found[1].to_owned())
        .collect();
    let spoken = Regex::new(r"(?m)(?:^\$ |`|run: |=1 )make ([a-z-]+)").unwrap();
    let mut pages = workflows();
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|page| (page.to_owned(), read(page))));
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            pages.push((name.clone(), read(&format!("docs/{name}"))));
        }
    }
    let mut count = 0;
    for (page, text) in pages {
        for found in spoken.captures_iter(&text) {
            assert!(targets.contains(&found[1].to_owned()), "{page}: there is no make {}", &found[1]);
            count += 1;
        }
    }
    assert!(count >= 10, "{count}");
}

#[test]
fn the_change_log_tells_of_this_version() {
    let heading = Regex::new(r"(?m)^## \[([^\]]+)\](?: - (.*))?$").unwrap();
    let text = read("CHANGELOG.md");
    let versions: Vec<(&str, Option<&str>)> = heading
        .captures_iter(&text)
        .map(|found| (found.get(1).unwrap().as_str(), found.get(2).map(|date| date.as_str())))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let (_, date) = versions.iter().find(|(name, _)| *name == version).unwrap_or_else(|| panic!("no {version}"));
    let is_date = |date: &str| Regex::new(r"^\d{4}-\d{2}-\d{2}$").unwrap().is_match(date);
    assert!(date.is_some_and(|date| date == "unreleased" || is_date(date)), "{date:?}");
}
