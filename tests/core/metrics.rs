//! The examples of docs/metrics.md are what the parser does.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sweep_operator::metrics::{Dropped, Parser, Readings, unread};

use crate::support::study;

/// The text between backticks, in order.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What lines say, in the words of the documentation.
fn read(lines: &[String], objective: &str, metrics: &str) -> String {
    let metrics: Value = if metrics.is_empty() { json!({"file": {}}) } else { serde_yaml::from_str(metrics).unwrap() };
    let study = study(&[
        ("/objectives", json!([{"metric": objective, "direction": "Maximize"}])),
        ("/pruner", Value::Null),
        ("/metrics", metrics),
    ]);
    let mut parser = Parser::new([objective], study.template.grammar.clone());
    let mut readings = Readings::default();
    let mut said = Vec::new();
    for line in lines {
        parser.line(line.as_bytes(), &mut readings.noted, |report| {
            said.push(format!("{} at step {}", report.values[objective], report.step));
        });
    }
    let dropped = Dropped { example: None, ..readings.noted.dropped };
    said.extend((!dropped.is_zero()).then(|| dropped.to_string()));
    said.extend(readings.noted.steps_counted.map(|_| "steps are counted".to_owned()));
    if said.is_empty() { "nothing".to_owned() } else { said.join("; ") }
}

/// The rows of the table below a heading of the documentation, without the table's own heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    let below = text.split(heading).nth(1).unwrap();
    let section = below.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| {
        let row = row.replace("\\|", "\u{1}");
        row.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    };
    rows.map(cells).collect()
}

#[test]
fn every_reason_of_the_documentation_why_nothing_was_read_is_what_is_said() {
    let rows = table("## Where nothing was read");
    assert!(rows.len() > 10);
    for cells in rows {
        let [lines, objective, says] = &cells[..] else { panic!("{cells:?}") };
        let patterns = if lines.contains("with `patterns`") { vec!["^nothing (?P<loss>[0-9.]+)$"] } else { Vec::new() };
        let study = study(&[
            ("/objectives", json!([{"metric": objective, "direction": "Maximize"}])),
            ("/pruner", Value::Null),
            ("/metrics", json!({"stdout": {"patterns": patterns}})),
        ]);
        let lines: Vec<String> = code(lines).into_iter().filter(|line| line != "patterns").collect();
        let said = unread(objective, &lines.join("\n"), &study.template.grammar).unwrap_or_default();
        assert_eq!(said.rsplit_once("\": ").map(|(_, why)| why), Some(says.as_str()), "{cells:?}: {said}");
    }
}

#[test]
fn every_example_of_the_documentation_is_read_as_it_says() {
    let mut count = 0;
    for cells in table("## Examples") {
        let [_, lines, objective, metrics, says] = &cells[..] else { panic!("{cells:?}") };
        let lines: Vec<String> = code(lines).iter().map(|line| line.replace("\\t", "\t")).collect();
        let metrics = code(metrics).pop().unwrap_or_default();
        assert_eq!(read(&lines, objective, &metrics), *says, "{cells:?}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}
