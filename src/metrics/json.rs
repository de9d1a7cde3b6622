//! Metrics in JSON objects.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::found::{Found, Step, Vocabulary};
use super::number;

type Fields = BTreeMap<String, Value>;

/// What a line says that is a JSON object, with or without a comma behind it; None where it is malformed.
pub(super) fn object(line: &str, vocabulary: &Vocabulary) -> Option<Found> {
    read(line.strip_suffix(',').unwrap_or(line)).map(|fields| find(fields, vocabulary))
}

/// What each object of a line says that is a JSON array of objects; None where it is malformed.
pub(super) fn array(line: &str, vocabulary: &Vocabulary) -> Option<Vec<Found>> {
    let objects: Vec<Fields> = read(line)?;
    Some(objects.into_iter().map(|fields| find(fields, vocabulary)).collect())
}

fn read<T: DeserializeOwned>(line: &str) -> Option<T> {
    serde_json::from_str(line).or_else(|_| serde_json::from_str(&quote_non_finite(line))).ok()
}

fn find(fields: Fields, vocabulary: &Vocabulary) -> Found {
    let mut found = Found::default();
    let mut best_rank = usize::MAX;
    for (name, value) in fields {
        if let Some(rank) = vocabulary.step_rank(&name) {
            if let Some(step) = step(&value).filter(|_| rank < best_rank) {
                (found.step, best_rank) = (step, rank);
                found.step_word.clone_from(&name);
            }
        } else if vocabulary.is_other(&name)
            && let Some(value) = value.as_f64().filter(|value| value.is_finite())
        {
            found.others.push((name, value));
            continue;
        }
        if vocabulary.is_objective(&name) && !value.is_null() {
            match number(&value) {
                Some(value) => {
                    found.values.insert(name, value);
                }
                None => found.not_a_number += 1,
            }
        }
    }
    found
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => number::whole(text.trim()),
        _ => None,
    }
}

fn step(value: &Value) -> Option<Step> {
    match value {
        Value::Number(number) => Step::from_text(&number.to_string()),
        Value::String(text) => number::leading_step(text.trim()),
        _ => None,
    }
}

/// The line with the NaN, Infinity and -Infinity that Python's json.dumps writes outside of strings as strings.
pub fn quote_non_finite(line: &str) -> String {
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
