//! Reads a Study from a file, and tells what is wrong with it, for commands that a person runs.

use std::io::{Read, Write};
use std::path::Path;

use serde::Deserialize;

use crate::api::{self, Study};
use crate::validate::{Problem, ValidStudy, validate};

/// Prints every problem of an input file to standard error.
pub fn print_problems(file: &Path, problems: &[Problem]) {
    for problem in problems {
        eprintln!("{}: {problem}", file.display());
    }
    let count = problems.len();
    eprintln!("error: {} has {count} {}", file.display(), if count == 1 { "problem" } else { "problems" });
}

/// Reads and validates the Study of a file.
///
/// # Errors
/// Every problem: of the file, of the YAML, unknown fields, and those of [`validate`].
pub fn load(file: &Path) -> Result<(Study, ValidStudy), Vec<Problem>> {
    let one = |path: &str, message: String| vec![Problem { path: path.to_owned(), message }];
    let text = read(file).map_err(|error| one("file", format!("cannot be read: {error}")))?;
    let document = document(&text).map_err(|problem| vec![problem])?;
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(document, &mut track);
    let parsed: Result<Study, _> = serde_ignored::deserialize(tracked, |path| unknown.push(field_path(&path)));
    let parsed = parsed.map_err(|error| one(&track.path().to_string(), parse_message(&error)));
    let mut problems: Vec<Problem> = unknown
        .into_iter()
        // Known, and checked by `document`; the generated type does not keep them.
        .filter(|path| path != "apiVersion" && path != "kind")
        .map(|path| Problem {
            path,
            message: "is not a field of a Study; is it misspelt or wrongly indented?".to_owned(),
        })
        .collect();
    let study = match parsed {
        Ok(study) => study,
        Err(unreadable) => {
            problems.extend(unreadable);
            return Err(problems);
        }
    };
    let name = study.metadata.name.clone().unwrap_or_default();
    match validate(&name, &study.spec) {
        Ok(valid) if problems.is_empty() => Ok((study, valid)),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

/// The one YAML document of a text, if it is a Study of this version.
///
/// It is read as a value first: read straight into a type, YAML takes the number `2` for a text, and the API
/// server does not.
fn document(text: &str) -> Result<serde_yaml::Value, Problem> {
    let wrong = |path: &str, message: String| Err(Problem { path: path.to_owned(), message });
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document).and_then(|mut value| {
            value.apply_merge()?;
            Ok(value)
        });
        match value {
            Ok(serde_yaml::Value::Null) => {}
            Ok(value) => documents.push(value),
            Err(error) => return wrong("file", format!("is not YAML: {error}")),
        }
    }
    let count = documents.len();
    let (Some(document), 1) = (documents.pop(), count) else {
        return match count {
            0 => wrong("file", "is empty: there is no Study in it".to_owned()),
            _ => wrong("file", format!("has {count} YAML documents: give one Study a file")),
        };
    };
    if !document.is_mapping() {
        return wrong("file", "is not a Study: a Study has apiVersion, kind, metadata and spec".to_owned());
    }
    let version = format!("{}/v1alpha1", api::GROUP);
    for (field, wanted) in [("apiVersion", version.as_str()), ("kind", "Study")] {
        match document.get(field) {
            None => return wrong(field, format!("is missing: it must be {wanted}")),
            Some(value) if value.as_str() == Some(wanted) => {}
            Some(serde_yaml::Value::String(other)) => return wrong(field, format!("is {other}: it must be {wanted}")),
            Some(_) => return wrong(field, format!("must be {wanted}")),
        }
    }
    Ok(document)
}

/// The path of an unknown field, written like those of [`Problem`].
fn field_path(path: &serde_ignored::Path) -> String {
    use serde_ignored::Path::{Map, NewtypeStruct, NewtypeVariant, Root, Seq, Some};
    match path {
        Root => String::new(),
        Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Map { parent: Root, key } => key.clone(),
        Map { parent, key } => format!("{}.{key}", field_path(parent)),
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => field_path(parent),
    }
}

/// What was wrong, with a hint where YAML's own types are the usual cause.
fn parse_message(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    let hint = if message.contains("expected a string") { ": put it in quotes" } else { "" };
    message + hint
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// Prints to standard output.
///
/// # Errors
/// It is closed, or full.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()
}
