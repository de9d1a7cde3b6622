//! Helm and the other programs that the tests run, and what they render.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

/// Both majors that people use.
pub const HELMS: [&str; 2] = ["helm3", "helm4"];
pub const NAMESPACE: &str = "sweep-operator-system";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn chart() -> PathBuf {
    root().join("charts/sweep-operator")
}

pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The standard output of a program, or all that it said.
pub fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stdout) + &text(&output.stderr)),
    }
}

/// A program of `tests/tools.sh`, which is built where it is missing.
pub fn tool(name: &'static str) -> Command {
    static BUILT: OnceLock<()> = OnceLock::new();
    let script = root().join("tests/tools.sh");
    BUILT.get_or_init(|| {
        let mut build = Command::new(&script);
        said(&build.args(["build", "helm3", "helm4", "helm-docs", "promtool"]).output().unwrap()).unwrap();
    });
    let path = said(&Command::new(&script).args(["path", name]).output().unwrap()).unwrap();
    let mut command = Command::new(path.trim());
    // Nothing here asks a cluster.
    command.env("KUBECONFIG", "/dev/null");
    command
}

/// The chart of that folder, rendered as a release of that name; each argument of Helm's is a word.
pub fn render_chart(helm: &'static str, chart: &Path, release: &str, args: &[&str]) -> Result<String, String> {
    let mut command = tool(helm);
    command.args(["template", release]).arg(chart).args(["--namespace", NAMESPACE, "--kube-version", "1.33"]);
    said(&command.args(args).output().unwrap())
}

/// Our chart, rendered with these values, such as `replicaCount=2`.
pub fn try_render(helm: &'static str, values: &[&str]) -> Result<String, String> {
    let args: Vec<_> = values.iter().flat_map(|value| ["--set", value]).collect();
    render_chart(helm, &chart(), "sweep-operator", &args)
}

pub fn documents(yaml: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    documents.filter(|document| !document.is_null()).collect()
}

/// The objects of our chart with these values.
pub fn objects(values: &[&str]) -> Vec<Value> {
    documents(&try_render("helm4", values).unwrap())
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The only object of that kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    assert_eq!(found.len(), 1, "{kind}: {found:?}");
    found[0]
}

/// A file of values in `ci/`.
pub fn ci(name: &str) -> String {
    chart().join("ci").join(name).to_str().unwrap().to_owned()
}
