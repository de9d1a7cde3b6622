//! Metrics in a JSON object.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parse::{Found, Step, step_word};

/// What a line says that is a JSON object; None where it is malformed.
pub(super) fn find(line: &str, wanted: impl Fn(&str) -> bool) -> Option<Found> {
    let fields: BTreeMap<String, Value> =
        serde_json::from_str(line).or_else(|_| serde_json::from_str(&quote_non_finite(line))).ok()?;
    let mut found = Found::default();
    let mut step_rank = usize::MAX;
    for (name, value) in fields {
        if let Some(rank) = step_word(&name).filter(|rank| *rank < step_rank)
            && let Some(step) = step(&value)
        {
            (found.step, step_rank) = (step, rank);
        }
        if wanted(&name) && !value.is_null() {
            match number(&value) {
                Some(value) => {
                    found.values.insert(name, value);
                }
                None => found.not_a_number += 1,
            }
        }
    }
    Some(found)
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn step(value: &Value) -> Option<Step> {
    match value {
        Value::Number(number) => Step::from_text(&number.to_string()),
        Value::String(text) => Step::from_text(text.trim()),
        _ => None,
    }
}

/// The line with the NaN, Infinity and -Infinity that Python's json.dumps writes outside of strings as strings.
fn quote_non_finite(line: &str) -> String {
    let mut quoted = String::with_capacity(line.len());
    let mut in_string = false;
    for piece in line.split_inclusive('"') {
        if in_string {
            quoted.push_str(piece);
            let backslashes = piece.trim_end_matches('"').bytes().rev().take_while(|byte| *byte == b'\\').count();
            in_string = backslashes % 2 == 1;
        } else {
            let one_word = piece.replace("-Infinity", "NaN").replace("Infinity", "NaN");
            quoted.push_str(&one_word.replace("NaN", "\"NaN\""));
            in_string = true;
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_outside_of_strings_is_quoted() {
        let cases = [
            (r#"{"a": NaN, "b": [Infinity,-Infinity]}"#, r#"{"a": "NaN", "b": ["NaN","NaN"]}"#),
            (r#"{"NaN": 1, "b\"NaN": NaN}"#, r#"{"NaN": 1, "b\"NaN": "NaN"}"#),
            (r#"{"b\\": NaN, "c": "\\\"NaN"}"#, r#"{"b\\": "NaN", "c": "\\\"NaN"}"#),
            (r#"{"NaN"#, r#"{"NaN"#),
        ];
        for (line, quoted) in cases {
            assert_eq!(quote_non_finite(line), quoted);
        }
    }
}
