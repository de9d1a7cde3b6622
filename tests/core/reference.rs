//! docs/api.md, generated from the CRDs, and docs that are held to what they speak of.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;
use sweep_operator::api;

/// `make crds` writes it, as the CRDs.
#[test]
fn the_reference_of_the_api_is_what_the_crds_say() {
    let file = root().join("docs/api.md");
    let text = reference();
    if std::env::var_os("SWEEP_UPDATE_CRDS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == text, "docs/api.md is out of date: run make crds");
}

#[test]
fn every_link_of_the_reference_has_its_target() {
    let text = reference();
    let all = |pattern: &str| -> BTreeSet<String> {
        Regex::new(pattern).unwrap().captures_iter(&text).map(|found| found[1].to_owned()).collect()
    };
    let (links, targets) = (all(r"\]\(#([^)]+)\)"), all(r#"<a id="([^"]+)"></a>"#));
    assert!(links.len() > 30, "{links:?}");
    assert_eq!(links.difference(&targets).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// What is immutable is read from the rules; were they written in another way, this would say so.
#[test]
fn the_reference_knows_what_may_be_edited() {
    let text = reference();
    let editable = |section: &str, field: &str| {
        let section = text.split("\n<a id=").find(|part| part.starts_with(&format!("\"{section}\""))).unwrap();
        let row = section.lines().find(|line| line.starts_with(&format!("| `{field}` |"))).unwrap();
        row.split(" | ").nth(4).unwrap().to_owned()
    };
    for field in
        ["maxTrials", "parallelism", "maxFailedTrials", "maxDuration", "reportTimeout", "suspend", "jobTemplate"]
    {
        assert_eq!(editable("study-spec", field), "yes", "{field}");
    }
    for field in ["parameters", "initialAssignments", "sampler", "pruner", "seed", "metrics", "gpu", "bestConfigMap"] {
        assert_eq!(editable("study-spec", field), "no", "{field}");
    }
    assert_eq!(editable("study-spec", "objectives"), "in parts");
    assert_eq!(editable("study-spec-objectives", "target"), "yes");
    assert_eq!(editable("study-spec-objectives", "metric"), "no");
    assert_eq!(editable("study-spec-objectives", "value"), "no");
    assert_eq!(editable("study-spec-pruner-hyperband", "maxSteps"), "no");
    assert_eq!(editable("trial-spec", "assignments"), "no");
    assert_eq!(editable("trial-spec", "desiredState"), "yes");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The whole of docs/api.md.
fn reference() -> String {
    let mut text = HEAD.to_owned();
    for crd in api::crds() {
        let crd = serde_json::to_value(&crd).unwrap();
        kind(&crd, &mut text);
    }
    text
}

const HEAD: &str = "\
<!-- Generated from the CRDs, and they from src/api: `make crds`. -->
# The API, field by field

`sweep-operator.dev/v1alpha1` has two kinds: a [Study](#study) is what you write, a [Trial](#trial) is what the operator
makes of it, one for each configuration that is tried. `kubectl explain study.spec` says the same in a terminal.

- *Required*: `yes`; or `one of`, where exactly one of the object's fields so marked must be there.
- *Where left out* is what holds then; `–` where that is nothing, or where the field cannot be left out.
- *Editable*: whether the API server takes a change once the object is there. What is not, is refused: create a new Study.
- `spec.parameters[]` is an entry of the list `spec.parameters`.
- A field that is not here is refused by `kubectl apply`, and by `sweep check` with its path.
";

/// One kind: its columns, then every object of its schema.
fn kind(crd: &Value, text: &mut String) {
    let (names, version) = (&crd["spec"]["names"], &crd["spec"]["versions"][0]);
    let (kind, schema) = (names["kind"].as_str().unwrap(), &version["schema"]["openAPIV3Schema"]);
    let anchor = kind.to_lowercase();
    let short = names["shortNames"][0].as_str().unwrap();
    write!(text, "\n<a id=\"{anchor}\"></a>\n## {kind}\n\n{}\n\n", line(&schema["description"])).unwrap();
    writeln!(text, "Short name `{short}`, category `{}`.", names["categories"][0].as_str().unwrap()).unwrap();
    let columns: Vec<String> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            let wide = if column["priority"].as_i64().unwrap_or(0) > 0 { ", with `-o wide`" } else { "" };
            format!("{} (`{}`{wide})", column["name"].as_str().unwrap(), column["jsonPath"].as_str().unwrap())
        })
        .collect();
    writeln!(text, "Columns of `kubectl get {short}`: {}.", columns.join(", ")).unwrap();
    rules(schema, text);
    for part in ["spec", "status"] {
        let whole = if part == "spec" { Editable::Yes } else { Editable::Operator };
        object(&anchor, part, &schema["properties"][part], whole, text);
    }
}

/// Whether what was written once may be changed.
#[derive(Clone, Copy, PartialEq)]
enum Editable {
    Yes,
    InParts,
    No,
    /// The operator writes it.
    Operator,
}

impl Editable {
    fn word(self) -> &'static str {
        match self {
            Editable::Yes => "yes",
            Editable::InParts => "in parts",
            Editable::No => "no",
            Editable::Operator => "–",
        }
    }
}

/// A section with a table of the fields, and then the sections of the objects in it.
fn object(kind: &str, path: &str, schema: &Value, whole: Editable, text: &mut String) {
    write!(text, "\n<a id=\"{}\"></a>\n### {path}\n\n{}\n", anchor(kind, path), line(&schema["description"])).unwrap();
    let rules_here = rules(schema, text);
    let operator = whole == Editable::Operator;
    text.push_str(match operator {
        true => "\n| Field | Type | Always there | Description |\n|---|---|---|---|\n",
        false => "\n| Field | Type | Required | Where left out | Editable | Description |\n|---|---|---|---|---|---|\n",
    });
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let choices = choices(&rules_here);
    let fixed = fixed_fields(&rules_here);
    let mut inner = Vec::new();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let below = format!("{path}.{name}{}", if field["type"] == "array" { "[]" } else { "" });
        let objects = if field["type"] == "array" { &field["items"] } else { field };
        let editable = match whole {
            Editable::Yes if fixed.contains(name) => Editable::No,
            // Rules on the fields of its entries.
            Editable::Yes
                if rules_here.iter().any(|rule| partly_fixed(rule).is_some_and(|(list, _)| list == *name)) =>
            {
                Editable::InParts
            }
            Editable::InParts => unreachable!("the parts of a part are one or the other"),
            whole => whole,
        };
        if objects["properties"].is_object() {
            inner.push((below.clone(), objects, editable, name));
        }
        let (left_out, description) = left_out(field);
        let type_ = type_of(kind, &below, field);
        let required = if required.contains(&name.as_str()) { "yes" } else { "no" };
        if operator {
            writeln!(text, "| `{name}` | {type_} | {required} | {} |", cell(&line(&field["description"]))).unwrap();
        } else {
            let required = if choices.contains(name) { "one of" } else { required };
            writeln!(
                text,
                "| `{name}` | {type_} | {required} | {left_out} | {} | {} |",
                editable.word(),
                cell(&description)
            )
            .unwrap();
        }
    }
    for (below, schema, editable, name) in inner {
        match editable {
            Editable::InParts => {
                let fixed = rules_here.iter().filter_map(|rule| partly_fixed(rule)).find(|(list, _)| list == name);
                // As if its own rules said so.
                let mut schema = schema.clone();
                let rules: Vec<String> =
                    fixed.unwrap().1.iter().map(|field| format!("self.{field} == oldSelf.{field}")).collect();
                schema["x-kubernetes-validations"] =
                    serde_json::json!([{"rule": rules.join(" && "), "message": "is immutable"}]);
                object(kind, &below, &schema, Editable::Yes, text);
            }
            _ => object(kind, &below, schema, editable, text),
        }
    }
}

/// Prints the rules of an object in the words of the API server, but those of immutability, which the table shows; all of them.
fn rules(schema: &Value, text: &mut String) -> Vec<String> {
    let all = schema["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
    let shown: Vec<&str> = all
        .iter()
        .filter_map(|rule| rule["message"].as_str())
        .filter(|message| !message.contains("immutable"))
        .collect();
    if !shown.is_empty() {
        text.push_str("\nRefused unless:\n\n");
        shown.iter().for_each(|message| writeln!(text, "- {message}").unwrap());
    }
    all.iter().map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect()
}

/// The fields of which exactly one must be there.
fn choices(rules: &[String]) -> BTreeSet<String> {
    let has = Regex::new(r"has\(self\.(\w+)\)").unwrap();
    let is_choice =
        Regex::new(r"^\[.*\]\.filter\(x, x\)\.size\(\) == 1$|^has\(self\.\w+\) != has\(self\.\w+\)$").unwrap();
    let names = |rule: &String| has.captures_iter(rule).map(|found| found[1].to_owned()).collect::<Vec<_>>();
    rules.iter().filter(|rule| is_choice.is_match(rule)).flat_map(names).collect()
}

/// The fields that rules of the form `self.x == oldSelf.x` fix.
fn fixed_fields(rules: &[String]) -> BTreeSet<String> {
    let fixed = Regex::new(r"\bself\.(\w+) == oldSelf\.(\w+)").unwrap();
    let pairs = |rule: &String| {
        let pairs = fixed.captures_iter(rule).filter(|found| found[1] == found[2]);
        pairs.map(|found| found[1].to_owned()).collect::<Vec<_>>()
    };
    rules.iter().flat_map(pairs).collect()
}

/// A list of which a rule fixes some fields of each entry, with those fields.
fn partly_fixed(rule: &str) -> Option<(String, BTreeSet<String>)> {
    let list = Regex::new(r"^self\.(\w+)\.all\(o, oldSelf\.\w+\.exists\(p,").unwrap().captures(rule)?[1].to_owned();
    let pairs = Regex::new(r"\bp\.(\w+) == o\.(\w+)").unwrap();
    Some((list, pairs.captures_iter(rule).map(|found| found[1].to_owned()).collect()))
}

/// What holds where the field is left out, and the description without it.
fn left_out(field: &Value) -> (String, String) {
    let description = line(&field["description"]);
    if let Some(default) = field.get("default") {
        return (format!("`{default}`"), description);
    }
    let sentence = Regex::new(r"Left out: (.*?)\.( |$)").unwrap();
    if let Some(found) = sentence.captures(&description) {
        let rest = description.replacen(&found[0], "", 1);
        return (cell(&found[1]), rest.trim().to_owned());
    }
    let word = Regex::new(r"(`\w+`) \(where left out\)").unwrap();
    match word.captures(&description) {
        Some(found) => (found[1].to_owned(), description.replacen(" (where left out)", "", 1)),
        None => ("–".to_owned(), description),
    }
}

/// The type with its bounds, and a link to the section of an object.
fn type_of(kind: &str, path: &str, schema: &Value) -> String {
    let bound = |least: &str, most: &str| (whole(&schema[least]), whole(&schema[most]));
    let range = |(least, most): (Option<String>, Option<String>), unit: &str| match (least, most) {
        (Some(least), Some(most)) if least == most => format!(", {least}{unit}"),
        (Some(least), Some(most)) => format!(", {least} to {most}{unit}"),
        (None, Some(most)) => format!(", at most {most}{unit}"),
        (Some(least), None) => format!(", at least {least}{unit}"),
        (None, None) => String::new(),
    };
    match schema["type"].as_str() {
        Some("string") => {
            if let Some(words) = schema["enum"].as_array() {
                let words: Vec<String> =
                    words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
                return words.join(" or ");
            }
            let format = match schema["format"].as_str() {
                Some("date-time") => "time".to_owned(),
                _ => "string".to_owned(),
            };
            let pattern = schema["pattern"].as_str().map(|pattern| format!(", matches `{}`", cell(pattern)));
            format!("{format}{}{}", range(bound("minLength", "maxLength"), " characters"), pattern.unwrap_or_default())
        }
        Some("array") => {
            let items = type_of(kind, path, &schema["items"]);
            let keyed = match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => {
                    format!(", no two of the same `{}`", schema["x-kubernetes-list-map-keys"][0].as_str().unwrap())
                }
                _ => String::new(),
            };
            format!(
                "list{} of: {items}{keyed}",
                range(bound("minItems", "maxItems"), "").replacen(',', " of", 1).replacen(" of at", ", at", 1)
            )
        }
        Some("object") if schema["properties"].is_object() => format!("[object](#{})", anchor(kind, path)),
        Some("object") if schema["additionalProperties"].is_object() => {
            let values = type_of(kind, path, &schema["additionalProperties"]);
            format!("map of at most {} names to: {values}", whole(&schema["maxProperties"]).unwrap_or_default())
                .replace("of at most  names", "of names")
        }
        Some("object") if schema["x-kubernetes-preserve-unknown-fields"] == true => "object of another API".to_owned(),
        Some("object") => "`{}`".to_owned(),
        Some(number) => format!("{number}{}", range(bound("minimum", "maximum"), "")),
        None => "any".to_owned(),
    }
}

/// A bound as a whole number, where it is one.
fn whole(bound: &Value) -> Option<String> {
    let number = bound.as_f64()?;
    Some(if number.fract() == 0.0 { format!("{number:.0}") } else { number.to_string() })
}

fn anchor(kind: &str, path: &str) -> String {
    format!("{kind}-{}", path.replace("[]", "").replace('.', "-"))
}

/// A description in one line.
fn line(description: &Value) -> String {
    description.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// In a table a bar ends the cell, also between backticks.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The pages of the docs and the README, by name.
fn pages() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    pages.sort();
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    pages.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_study_in_the_docs_is_valid() {
    let block = Regex::new(r"(?ms)^```yaml\n(.*?)^```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for (page, text) in pages() {
        for found in block.captures_iter(&text) {
            for document in found[1].split("\n---\n").filter(|text| text.contains("kind: Study\n")) {
                let file = folder.path().join(format!("{count}.yaml"));
                std::fs::write(&file, document).unwrap();
                let said = Command::new(env!("CARGO_BIN_EXE_sweep")).arg("check").arg(&file).output().unwrap();
                assert!(said.status.success(), "{page}: {}\n{document}", String::from_utf8_lossy(&said.stderr));
                assert!(said.stderr.is_empty(), "{page}: {}\n{document}", String::from_utf8_lossy(&said.stderr));
                count += 1;
            }
        }
    }
    assert!(count >= 2, "{count}");
}

#[test]
fn every_page_stands_in_both_indices() {
    let (readme, index) = (root().join("README.md"), root().join("docs/README.md"));
    let [readme, index] = [readme, index].map(|path| std::fs::read_to_string(path).unwrap());
    for (page, _) in pages().iter().filter(|(page, _)| page.starts_with("docs/") && !page.ends_with("README.md")) {
        assert!(readme.contains(&format!("({page})")), "README.md does not link {page}");
        let name = page.trim_start_matches("docs/");
        assert!(index.contains(&format!("({name})")), "docs/README.md does not link {name}");
    }
}

/// Of other sites nothing is asked.
#[test]
fn every_link_between_the_pages_has_its_target() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let code = Regex::new(r"(?ms)^```.*?^```|`[^`\n]*`").unwrap();
    for (page, text) in pages() {
        for found in link.captures_iter(&code.replace_all(&text, "")).filter(|found| !found[1].contains("://")) {
            let (file, anchor) = found[1].split_once('#').unwrap_or((&found[1], ""));
            let target = match file {
                "" => root().join(&page),
                file => root().join(&page).parent().unwrap().join(file),
            };
            assert!(target.exists(), "{page}: {file} is not there");
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let is_there =
                    text.contains(&format!("<a id=\"{anchor}\">")) || headings(&text).any(|slug| slug == anchor);
                assert!(is_there, "{page}: no heading #{anchor} in {}", target.display());
            }
        }
    }
}

#[test]
fn every_file_that_is_named_is_there() {
    let path = Regex::new(r"`((?:src|tests|docs|crds|benches|examples|\.github)(?:/[A-Za-z0-9_./-]*)?|[a-z]+\.toml)`")
        .unwrap();
    let mut count = 0;
    for (page, text) in pages() {
        for found in path.captures_iter(&text).filter(|found| !found[1].contains("NAME")) {
            assert!(root().join(&found[1]).exists(), "{page}: there is no {}", &found[1]);
            count += 1;
        }
    }
    assert!(count >= 40, "{count}");
}

/// The anchors that GitHub gives to headings.
fn headings(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The sources without their tests.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut folders, mut sources) = (vec![root().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let text =
                    text.split("\n#[cfg(test)]\n#[allow(clippy::unwrap_used)]\nmod tests {").next().unwrap_or_default();
                sources.push((path.strip_prefix(root()).unwrap().to_owned(), text.to_owned()));
            }
        }
    }
    sources.sort();
    sources
}

/// Words that stand between quotes where reasons do, and are none.
const NO_REASONS: [&str; 17] = [
    // Types of conditions of others, and words of the API.
    "PodScheduled",
    "DisruptionTarget",
    "Never",
    "Always",
    "Indexed",
    "Foreground",
    "True",
    "False",
    "Map",
    "Pod",
    "Job",
    // Actions of Events.
    "Validate",
    "KeepBest",
    "Finish",
    "Rank",
    "RecordResult",
    "StopTrial",
];

/// Every reason of a condition, an Event or an end that the operator's code spells out.
#[test]
fn every_reason_that_a_user_can_see_is_explained() {
    let word = Regex::new(r#""([A-Z][A-Za-z]+)""#).unwrap();
    let page = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let of_users = [
        "src/controller/study",
        "src/controller/trial",
        "src/controller/workload",
        "src/core/life",
        "src/api/status.rs",
        "src/api/history.rs",
    ];
    let mut reasons = BTreeSet::new();
    for (path, text) in sources() {
        if of_users.iter().any(|of_users| path.starts_with(of_users)) {
            reasons.extend(word.captures_iter(&text).map(|found| found[1].to_owned()));
        }
    }
    for crd in api::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let status = &schema["openAPIV3Schema"]["properties"]["status"]["properties"];
        for list in [&status["ended"]["properties"]["reason"]["enum"], &status["phase"]["enum"]] {
            reasons.extend(list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        }
    }
    reasons.retain(|reason| !NO_REASONS.contains(&reason.as_str()));
    for expected in ["OutOfMemory", "JobRefused", "ImagePullBackOff", "TrialsDiverged", "NewBest", "Pending"] {
        assert!(reasons.contains(expected), "the search for reasons finds no {expected}: {reasons:?}");
    }
    let missing: Vec<_> = reasons.iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not explain {missing:?}");
}

/// A message stands in code, with `…` for what changes; commands begin with a program's name.
#[test]
fn every_message_that_is_explained_is_one_of_the_operator() {
    let all: String = sources().into_iter().map(|(_, text)| text + "\n").collect();
    // A text that is broken over lines is one text; so are quotes that are escaped in it.
    let all = Regex::new(r"\\\n\s*")
        .unwrap()
        .replace_all(&all, "")
        .replace("\\\"", "\"")
        .replace("{{", "{")
        .replace("}}", "}");
    let page = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let page = Regex::new(r"(?ms)^```.*?^```").unwrap().replace_all(&page, "").into_owned();
    let broken = page.lines().find(|line| line.matches('`').count() % 2 == 1);
    assert_eq!(broken, None, "code that is broken over lines escapes the test");
    let programs = ["kubectl", "sweep", "helm", "make", "python"];
    let mut count = 0;
    for found in Regex::new(r"`([^`\n]+)`").unwrap().captures_iter(&page) {
        let text = &found[1];
        let is_message = text.contains(' ') && !programs.iter().any(|program| text.starts_with(&format!("{program} ")));
        if !is_message {
            continue;
        }
        let parts: Vec<String> = text.trim_matches('…').split('…').map(regex::escape).collect();
        let message = Regex::new(&parts.join(r"\{[^{}\n]*\}")).unwrap();
        assert!(message.is_match(&all), "no message of the operator: {text}");
        count += 1;
    }
    assert!(count >= 30, "only {count} messages are explained");
}

/// What decides, and what reads metrics, can be read and tested without a cluster.
#[test]
fn the_core_knows_nothing_of_kubernetes_files_clocks_or_the_shells() {
    let others = Regex::new(
        r"\b(kube|k8s_openapi|tokio)::|\bcrate::(api|build|controller|local|sidecar|validate)\b|Timestamp::now|std::(fs|time::Instant)",
    )
    .unwrap();
    let mut count = 0;
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("src/core")) {
        assert_eq!(others.find(&text).map(|found| found.as_str()), None, "{path:?}");
        count += 1;
    }
    assert!(count > 20, "only {count} files of the core were found");
}
