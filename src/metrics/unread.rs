//! Why nothing was read of a metric: the line in which its name stands, and what is wrong with it.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::dropped::example;
use super::found::is_step_word;
use super::number::{self, Found};
use super::pattern::Grammar;
use super::text::{value, words};
use crate::shown::shown;

/// How much that was found tells, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The name, and something that is no number, or cannot be taken.
    Value,
    /// The name and a number, but nothing that makes them a pair.
    Apart,
    /// The name in other letters, with a number.
    Spelling,
    /// A longer name that holds it, with a number.
    Longer,
}

/// The first line of `text`, of which nothing was read of `metric`, that comes nearest to a report of it, and why it is none:
/// `"val loss 2.5": neither = nor : stands between loss and the number`. None where its name does not stand there. Linear in
/// the length of the text.
pub fn unread(metric: &str, text: &str, grammar: &Grammar) -> Option<String> {
    let mut lines = text.lines().map(shown).filter(|line| !line.trim().is_empty()).peekable();
    let mut nearest: Option<(Rank, String)> = None;
    while let Some(line) = lines.next() {
        let line = line.trim();
        let found = match serde_json::from_str::<Json>(line) {
            Ok(json @ (Json::Object(_) | Json::Array(_))) => in_json(metric, &json, true),
            _ if line.starts_with("{\"") && line.contains(metric) => Some((Rank::Value, "it is no JSON".to_owned())),
            _ if !grammar.patterns.is_empty() => by_patterns(metric, line),
            _ => in_text(metric, line, lines.peek().map(|next| next.trim())),
        };
        if let Some((rank, why)) = found
            && nearest.as_ref().is_none_or(|(best, _)| rank < *best)
        {
            nearest = Some((rank, format!("\"{}\": {why}", example(line))));
        }
    }
    nearest.map(|(_, why)| why)
}

/// The names of what is read as a number in `text`, by the built-in grammar: keys of JSON objects, `name=1` and `name: 1`.
pub fn names_of_numbers(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(shown) {
        match serde_json::from_str(line.trim()) {
            Ok(Json::Object(object)) => {
                let numbers = object.into_iter().filter(|(_, value)| value.is_number());
                // An escape of JSON may stand for any character.
                names.extend(numbers.map(|(name, _)| shown(&name).into_owned()));
            }
            _ => {
                let numbers = words(&line).filter(|(_, behind)| matches!(value(behind), Found::Number(_)));
                let begins = |name: &&str| name.starts_with(|c: char| c.is_alphabetic() || c == '_');
                names.extend(numbers.map(|(name, _)| name).filter(begins).map(str::to_owned));
            }
        }
    }
    names.retain(|name| !is_step_word(name));
    names
}

/// How many names a message lists.
const NAMES: usize = 8;

/// What there is instead of a metric, of which nothing was read: `there are the tags loss, val/acc; did you mean val/acc?`.
/// `kind` is what the names are called. None where there are none.
pub(super) fn instead(metric: &str, kind: &str, names: &BTreeSet<String>) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| short(shown(name).trim())).collect();
    let is_typo = |name: &&String| strsim::osa_distance(&plain(name), &plain(metric)) <= plain(metric).len() / 4;
    let near = names.iter().find(|name| plain(name) == plain(metric));
    let near = near.or_else(|| names.iter().find(|name| is_part(metric, name) || is_part(name, metric)));
    let near = near.or_else(|| names.iter().find(is_typo));
    let listed: Vec<&str> =
        near.into_iter().chain(names.iter().filter(|name| Some(*name) != near)).map(String::as_str).collect();
    let more = if listed.len() > NAMES { ", …" } else { "" };
    let question = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
    let listed = listed.get(..NAMES).unwrap_or(&listed).join(", ");
    (!names.is_empty()).then(|| format!("there are the {kind} {listed}{more}{question}"))
}

fn in_json(metric: &str, json: &Json, outermost: bool) -> Option<(Rank, String)> {
    let object = match json {
        Json::Object(object) => object,
        Json::Array(items) => return items.iter().find_map(|item| in_json(metric, item, outermost)),
        _ => return None,
    };
    let is_number =
        |value: &Json| value.is_number() || value.as_str().is_some_and(|text| number::whole(text).is_some());
    if let Some(value) = object.get(metric) {
        let why = match value {
            _ if !outermost => {
                format!("{metric} stands in an inner object: only the fields of the outermost one are read")
            }
            value if is_number(value) => "its step cannot be taken".to_owned(),
            value => format!("{} is not a number", short(&value.to_string())),
        };
        return Some((Rank::Value, why));
    }
    let inner = object.values().filter(|value| value.is_object()).find_map(|value| in_json(metric, value, false));
    let alike = || {
        let (name, _) = object.iter().find(|(name, value)| is_number(value) && plain(name) == plain(metric))?;
        Some((Rank::Spelling, spelled(metric, name)))
    };
    let longer = || {
        let (name, _) = object.iter().find(|(name, value)| is_number(value) && is_part(metric, name))?;
        Some((Rank::Longer, called(metric, name)))
    };
    inner.or_else(alike).or_else(longer)
}

fn by_patterns(metric: &str, line: &str) -> Option<(Rank, String)> {
    let stands = words(line).any(|(word, _)| word == metric) && line.contains(|c: char| c.is_ascii_digit());
    stands.then(|| (Rank::Apart, "no pattern of spec.metrics finds it".to_owned()))
}

fn in_text(metric: &str, line: &str, next: Option<&str>) -> Option<(Rank, String)> {
    let mut nearest: Option<(Rank, String)> = None;
    let mut before: Option<&str> = None;
    for (word, behind) in words(line) {
        let found = if word == metric {
            beside_the_name(metric, behind, next)
        } else {
            let has_number = || has_number(behind);
            let joined = || before.is_some_and(|before| plain(before) + &plain(word) == plain(metric));
            if plain(word) == plain(metric) && has_number() {
                Some((Rank::Spelling, spelled(metric, word)))
            } else if joined() && has_number() {
                Some((Rank::Spelling, spelled(metric, &format!("{} {word}", before.unwrap_or_default()))))
            } else if is_part(metric, word) && has_number() {
                Some((Rank::Longer, called(metric, word)))
            } else {
                None
            }
        };
        if let Some(found) = found
            && nearest.as_ref().is_none_or(|(best, _)| found.0 < *best)
        {
            nearest = Some(found);
        }
        before = Some(word);
    }
    nearest
}

/// What keeps the metric's name and what stands behind it from being a report.
fn beside_the_name(metric: &str, behind: &str, next: Option<&str>) -> Option<(Rank, String)> {
    let unquoted = behind.strip_prefix(['\'', '"']).unwrap_or(behind).trim_start();
    let Some(given) = unquoted.strip_prefix(['=', ':']) else {
        let first = unquoted.trim_start_matches(|c: char| c == '|' || c == '│' || c.is_whitespace());
        return match number::leading(first) {
            Found::Nothing => None,
            _ => Some((Rank::Apart, format!("neither = nor : stands between {metric} and the number"))),
        };
    };
    let given = given.trim_start();
    if given.is_empty() {
        let follows = next.is_some_and(|next| number::leading(next) != Found::Nothing);
        return follows.then(|| (Rank::Apart, format!("the number is not in the same line as {metric}")));
    }
    let token = given.split(|c: char| c.is_whitespace() || c == ';' || c == '|').next().unwrap_or_default();
    let token = short(token.trim_end_matches(','));
    let why = match value(behind) {
        Found::Number(_) => "its step cannot be taken".to_owned(),
        Found::Refused if token.contains(',') => {
            format!("{token} is not a plain number: write thousands without a separator, and decimals behind a dot")
        }
        Found::Refused => format!("{token} is not a plain number"),
        // A number in a wrapping, or a list of them.
        Found::Nothing if token.contains(['(', '[']) && token.contains(|c: char| c.is_ascii_digit()) => {
            format!("{token} is not a plain number: print the number itself, such as float(…) in Python")
        }
        Found::Nothing => format!("{token} is not a number"),
    };
    Some((Rank::Value, why))
}

fn has_number(behind: &str) -> bool {
    let behind = behind.trim_start_matches(|c: char| matches!(c, '\'' | '"' | '=' | ':') || c.is_whitespace());
    matches!(number::leading(behind), Found::Number(_))
}

/// A name without what spellings differ in.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether `name` is a longer one with `metric` as a part of it, as `val_loss` has `loss`.
fn is_part(metric: &str, name: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    name.len() > metric.len()
        && name
            .match_indices(metric)
            .any(|(at, _)| is_edge(name[..at].chars().next_back()) && is_edge(name[at + metric.len()..].chars().next()))
}

fn spelled(metric: &str, name: &str) -> String {
    format!("it is spelled {}, and not {metric}", short(name))
}

fn called(metric: &str, name: &str) -> String {
    format!("its name is {}, and not {metric}", short(name))
}

/// At most 64 characters.
fn short(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_not_read_is_quoted_with_what_is_wrong_with_it() {
        let cases = [
            ("loss", "step 250: train loss 2.41, val loss 2.52", "neither = nor : stands between loss and the number"),
            ("loss", "| loss | 0.51 |", "neither = nor : stands between loss and the number"),
            ("acc", "epoch 1 acc=np.float64(0.71)", "np.float64(0.71) is not a plain number: print the number itself"),
            ("acc", "acc: tensor(0.71, device='cuda:0')", "tensor(0.71 is not a plain number: print the number itself"),
            ("acc", "acc=[0.71]", "[0.71] is not a plain number: print the number itself"),
            ("reward", "reward=1,234.5", "1,234.5 is not a plain number: write thousands without a separator"),
            ("acc", "acc=0,75", "0,75 is not a plain number: write thousands without a separator"),
            ("acc", "Accuracy acc: 9870/10000 (99%)", "9870/10000 is not a plain number"),
            ("eta", "eta: 00:01:30", "00:01:30 is not a plain number"),
            ("acc", "acc: None", "None is not a number"),
            ("loss", "epoch 1 Loss=0.5", "it is spelled Loss, and not loss"),
            ("val_loss", "step 250: val loss 2.52", "it is spelled val loss, and not val_loss"),
            ("val_loss", "val-loss: 2.52", "it is spelled val-loss, and not val_loss"),
            ("valLoss", "val_loss=2.52", "it is spelled val_loss, and not valLoss"),
            ("loss", "epoch 1 val_loss=0.5", "its name is val_loss, and not loss"),
            ("loss", "train/loss: 0.5", "its name is train/loss, and not loss"),
            ("loss", "loss:\n0.25", "the number is not in the same line as loss"),
            ("acc", "epoch -1 acc=0.1", "its step cannot be taken"),
            ("acc", r#"{"step": 1, "acc": "high"}"#, r#""high" is not a number"#),
            ("acc", r#"{"step": 1, "acc": [0.5]}"#, "[0.5] is not a number"),
            ("acc", r#"{"step": 1, "acc": null}"#, "null is not a number"),
            ("acc", r#"{"step": 1, "val": {"acc": 0.5}}"#, "acc stands in an inner object"),
            ("acc", r#"{"step": -1, "acc": 0.5}"#, "its step cannot be taken"),
            ("acc", r#"{"step": 1, "Acc": 0.5}"#, "it is spelled Acc, and not acc"),
            ("acc", r#"{"step": 1, "val_acc": 0.5}"#, "its name is val_acc, and not acc"),
            ("acc", r#"{"acc": 0.5"#, "it is no JSON"),
        ];
        for (metric, text, why) in cases {
            let told = unread(metric, text, &Grammar::default()).unwrap_or_else(|| panic!("{text}"));
            let quoted = text.lines().next().unwrap();
            assert!(told.starts_with(&format!("\"{quoted}\": {why}")), "{told}");
        }
    }

    #[test]
    fn what_is_no_attempt_at_a_report_is_not_quoted() {
        for text in
            ["", "the loss is high", "loss", "glossy=0.5", "lossy: 3", "loss function: mse", "loss:\nhigh", "1 = 2"]
        {
            assert_eq!(unread("loss", text, &Grammar::default()), None, "{text}");
        }
    }

    #[test]
    fn the_nearest_line_is_told_and_the_first_of_equals() {
        let text = "val_loss=3\nLoss=2\nloss 1\n\x1b[1mloss=1,5\x1b[0m\nloss=2,5";
        assert!(unread("loss", text, &Grammar::default()).unwrap().starts_with("\"loss=1,5\": 1,5 is"));
        let text = "val_loss=3\nLoss=2\nloss 1";
        assert!(unread("loss", text, &Grammar::default()).unwrap().starts_with("\"loss 1\": neither"));
    }

    #[test]
    fn where_patterns_are_given_a_line_is_of_interest_that_none_of_them_matches() {
        let patterns = vec!["loss is (?P<loss>[0-9.]+)".to_owned().try_into().unwrap()];
        let grammar = Grammar { patterns, ..Grammar::default() };
        let told = unread("loss", "epoch 1\nloss=0.5", &grammar);
        assert_eq!(told.as_deref(), Some("\"loss=0.5\": no pattern of spec.metrics finds it"));
        assert!(unread("loss", r#"{"loss": null}"#, &grammar).unwrap().contains("null is not a number"));
    }

    #[test]
    fn numbers_with_names_are_listed() {
        let text =
            "epoch 3: acc=0.91 loss: 0.2, done: yes {'lr': 1e-3} at 12:30\n{\"b\": 2, \"c\": \"x\", \"step\": 1}";
        assert_eq!(names_of_numbers(text).into_iter().collect::<Vec<_>>(), ["acc", "b", "loss", "lr"]);
    }
}
