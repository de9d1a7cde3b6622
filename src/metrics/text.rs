//! Metrics in a line of text.

use super::found::{Found, Step, Vocabulary};
use super::number::{self, Found as Value};
use super::others::MAX_OTHERS;

/// What a line says as `name=value` or `name: value`. The first number of a name counts, and the first word for a step
/// with a number behind it.
pub(super) fn find(line: &str, vocabulary: &Vocabulary) -> Found {
    let mut found = Found::default();
    let mut refused = Vec::new();
    for (word, behind) in words(line) {
        if found.step == Step::Missing && vocabulary.step_rank(word).is_some() {
            found.step = step(behind).unwrap_or_default();
            found.step_word = word.to_owned();
        }
        let is_objective = vocabulary.is_objective(word);
        let is_known = found.values.contains_key(word) || refused.contains(&word);
        if (!is_objective && !vocabulary.is_additional(word)) || is_known {
            continue;
        }
        match value(behind) {
            Value::Number(value) if is_objective => {
                found.values.insert(word.to_owned(), value);
            }
            // What a name that begins like a number means is not guessed from what stands behind it.
            Value::Refused => refused.push(word),
            Value::Number(_) | Value::Nothing => {}
        }
    }
    found.not_a_number = refused.len() as u64;
    if found.step == Step::Missing && !vocabulary.has_own_step_word() {
        found.step = round(line).unwrap_or_default();
    }
    let all = !found.values.is_empty();
    if all || vocabulary.has_additional() {
        found.others = others(line, vocabulary, |name| all || vocabulary.is_additional(name));
    }
    found
}

/// The step that a line announces for those below it: a word for a step and its number, and nothing but punctuation
/// beside them, as in `Epoch 3/10` or `=== Epoch 3 ===`.
pub(super) fn announced(line: &str, vocabulary: &Vocabulary) -> Option<u64> {
    let is_said = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '"');
    let start = line.find(is_said).filter(|start| !line[*start..].starts_with(['\'', '"']))?;
    let (word, behind) = words(&line[start..]).next()?;
    vocabulary.step_rank(word)?;
    let behind = behind.trim_start_matches(is_before_step);
    let Step::Given(step) = step(behind)? else { return None };
    let rest = behind.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ',' | '_' | '.' | ' ' | '/'));
    (!rest.contains(is_said)).then_some(step)
}

/// XGBoost's and LightGBM's `[92]` at the start of a line, before a tab.
fn round(line: &str) -> Option<Step> {
    let (number, _) = line.strip_prefix('[')?.split_once("]\t")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| Step::from_text(number))?
}

/// Every number of the line that has a name and belongs to `wanted`, but for the objective and the step.
fn others(line: &str, vocabulary: &Vocabulary, wanted: impl Fn(&str) -> bool) -> Vec<(String, f64)> {
    let is_other = |name: &str| {
        let begins = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        begins && vocabulary.is_other(name) && wanted(name)
    };
    let named = words(line).filter(|(word, _)| is_other(word));
    let numbers = named.filter_map(|(word, behind)| match value(behind) {
        Value::Number(value) if value.is_finite() => Some((word, value)),
        _ => None,
    });
    let mut others: Vec<(String, f64)> = Vec::new();
    for (name, value) in numbers {
        if others.len() == MAX_OTHERS {
            break;
        }
        if others.iter().all(|(known, _)| known != name) {
            others.push((name.to_owned(), value));
        }
    }
    others
}

/// Every word that could be a name, with what stands behind it.
pub(super) fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(is_name_char)?;
        let from = &rest[start..];
        let (word, behind) = from.split_at(from.find(|c| !is_name_char(c)).unwrap_or(from.len()));
        rest = behind;
        Some((word, behind))
    })
}

/// What names of metrics consist of, so that `accuracy` is not found in `val_accuracy` or `val/accuracy`.
fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '-' | '@')
}

/// What stands between a word for a step and its number: `Epoch [3/27]`, `step #3`, `'epoch': 3`.
fn is_before_step(c: char) -> bool {
    c.is_whitespace() || matches!(c, '=' | ':' | '#' | '[' | '(' | '\'' | '"')
}

/// The step in what follows a word for one.
fn step(behind: &str) -> Option<Step> {
    number::leading_step(behind.trim_start_matches(is_before_step))
}

/// The value in what follows a metric's name; the name, the value, or both may be quoted.
pub(super) fn value(behind: &str) -> Value {
    let behind = behind.strip_prefix(['\'', '"']).unwrap_or(behind);
    let Some(behind) = behind.trim_start().strip_prefix(['=', ':']) else { return Value::Nothing };
    let behind = behind.trim_start();
    number::leading(behind.strip_prefix(['\'', '"']).unwrap_or(behind))
}
