//! Metrics in a line of text.

use super::parse::{Found, Step, step_word};

/// What a line says as `name=value` or `name: value`. The first occurrence of a name, and of a word for a step, counts.
pub(super) fn find(line: &str, wanted: impl Fn(&str) -> bool) -> Found {
    let mut found = Found::default();
    let mut rest = line;
    while let Some(start) = rest.find(is_name_char) {
        rest = &rest[start..];
        let (word, behind) = rest.split_at(rest.find(|c| !is_name_char(c)).unwrap_or(rest.len()));
        rest = behind;
        if found.step == Step::Missing && step_word(word).is_some() {
            let number = leading_number(behind.trim_start_matches(is_before_step));
            found.step = Step::from_text(number).unwrap_or_default();
        }
        if wanted(word)
            && !found.values.contains_key(word)
            && let Some(value) = value(behind)
        {
            found.values.insert(word.to_owned(), value);
        }
    }
    found
}

/// What names of metrics consist of, so that `accuracy` is not found in `val_accuracy` or `val/accuracy`.
fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | '@')
}

/// What stands between a word for a step and its number: `Epoch [3/27]`, `step #3`, `'epoch': 3`.
fn is_before_step(c: char) -> bool {
    c.is_whitespace() || matches!(c, '=' | ':' | '#' | '[' | '(' | '\'' | '"')
}

/// The value in what follows a metric's name; the name, the value, or both may be quoted.
fn value(behind: &str) -> Option<f64> {
    let behind = behind.strip_prefix(['\'', '"']).unwrap_or(behind);
    let behind = behind.trim_start().strip_prefix(['=', ':'])?.trim_start();
    let behind = behind.strip_prefix(['\'', '"']).unwrap_or(behind);
    leading_number(behind).parse().ok()
}

/// What may be a number at the beginning of `text`. A dot behind it ends a sentence.
fn leading_number(text: &str) -> &str {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text[..end].trim_end_matches('.')
}
