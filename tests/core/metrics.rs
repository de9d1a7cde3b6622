//! The examples of docs/metrics.md are what the parser does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sweep_operator::metrics::{Dropped, Events, Pages, Parser, Readings, unread};

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

/// What a real writer has written: tests/data/events.py.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The step and the value of every report of `objective` in a folder of event files; the other metrics with their last values;
/// and what was dropped.
fn events(folder: &str, objective: &str) -> (Vec<(u64, f64)>, BTreeMap<String, f64>, String) {
    let study = study(&[
        ("/objectives", json!([{"metric": objective, "direction": "Maximize"}])),
        ("/pruner", Value::Null),
        ("/metrics", json!({"tensorBoard": {}})),
    ]);
    let mut parser = Parser::new([objective], study.template.grammar.clone());
    let mut events = Events::new(data("events").join(folder), &parser);
    let (mut readings, mut reports) = (Readings::default(), Vec::new());
    loop {
        let each = |report: sweep_operator::metrics::Report| reports.push((report.step, report.values[objective]));
        events.poll(true, &mut parser, &mut readings.noted, each).unwrap();
        if !events.more_waiting() {
            break;
        }
    }
    let others = readings.noted.others.summaries().into_iter().map(|other| (other.name, other.last));
    (reports, others.collect(), readings.noted.dropped.to_string())
}

#[test]
fn the_event_files_of_pytorch_s_writer_are_read() {
    let (reports, others, dropped) = events("pytorch", "val/accuracy");
    assert_eq!(reports, [(1, 0.4), (2, 0.65), (3, 0.73333335), (4, 0.775), (5, 0.8)]);
    // Those of add_scalars stand in folders of their own; text, a histogram and an image are no scalars.
    let expected = [("loss", 0.2), ("loss/train", 0.2), ("val/loss", 0.22)];
    assert_eq!(others, expected.map(|(name, value)| (name.to_owned(), value)).into());
    assert_eq!(dropped, "nothing");
    assert_eq!(events("pytorch", "loss/val/loss").0.last(), Some(&(5, 0.22)));
}

#[test]
fn the_event_files_of_keras_are_read_with_the_folder_in_the_name() {
    let (reports, others, dropped) = events("keras", "validation/epoch_accuracy");
    assert_eq!(reports, [(0, 0.4), (1, 0.5), (2, 0.6), (3, 0.7), (4, 0.8)]);
    let expected = [("epoch_accuracy", 0.9), ("epoch_loss", 0.2), ("validation/epoch_loss", 1.2)];
    assert_eq!(others, expected.map(|(name, value)| (name.to_owned(), value)).into());
    assert_eq!(dropped, "nothing");
    let (reports, _, dropped) = events("keras", "epoch_loss");
    assert_eq!(reports.first(), Some(&(0, 1.0)), "of the folder that was begun first");
    let said = "5 values in event files of other folders, such as \"validation/epoch_loss: 2 at step 0\"";
    assert_eq!(dropped, said);
}

#[test]
fn tensors_of_each_type_of_number_are_read() {
    let (reports, others, dropped) = events("types", "double");
    assert_eq!((reports, dropped.as_str()), (vec![(3, 0.1)], "nothing"));
    let half = 0.0999755859375;
    let expected = [("content", 0.1), ("float", 0.25), ("half", half), ("int", -7.0), ("long", 1_099_511_627_776.0)];
    assert_eq!(others, expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[test]
fn the_pages_of_prometheus_client_are_read_in_both_formats() {
    for page in ["prometheus.txt", "openmetrics.txt"] {
        for (objective, value) in [("val_accuracy", 0.91), ("loss", 0.3)] {
            let study = study(&[
                ("/objectives", json!([{"metric": objective, "direction": "Maximize"}])),
                ("/pruner", Value::Null),
                ("/metrics", json!({"prometheus": {"port": 8000}})),
            ]);
            let mut parser = Parser::new([objective], study.template.grammar.clone());
            let (mut pages, mut readings) = (Pages::of(objective, None, &mut parser), Readings::default());
            let (mut reports, text) = (Vec::new(), fs::read_to_string(data("pages").join(page)).unwrap());
            let problem = pages.read(&text, &mut parser, &mut readings.noted, |report| {
                reports.push((report.step, report.values[objective]));
            });
            assert_eq!((reports, problem), (vec![(7, value)], None), "{page}, {objective}");
            let others = readings.noted.others.summaries();
            let others: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
            let mut expected = vec!["val_accuracy", "batch_seconds_count", "batch_seconds_sum"];
            expected.retain(|name| *name != objective);
            assert_eq!(others, expected, "{page}");
        }
    }
}
