//! The examples of docs/metrics.md are what the parser does.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sweep_operator::metrics::{Dropped, Parser, Readings};

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

#[test]
fn every_example_of_the_documentation_is_read_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut count = 0;
    for row in rows {
        let row = row.replace("\\|", "\u{1}");
        let cells: Vec<String> = row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect();
        let [_, _, lines, objective, metrics, says, _] = &cells[..] else { panic!("{row}") };
        let lines: Vec<String> = code(lines).iter().map(|line| line.replace("\\t", "\t")).collect();
        let metrics = code(metrics).pop().unwrap_or_default();
        assert_eq!(read(&lines, objective, &metrics), *says, "{row}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}
