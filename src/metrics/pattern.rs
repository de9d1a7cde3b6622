//! What a study says of its trainer's lines: which word is the step, which metrics it wants, and patterns.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::found::{Found, Vocabulary};
use super::number;

/// How many patterns a study may have.
pub const MAX_PATTERNS: usize = 16;

/// The longest pattern, in characters.
pub const MAX_PATTERN: usize = 512;

/// The longest line that patterns read, in bytes: one that is made to be slow takes a while.
pub(super) const MAX_PATTERN_LINE: usize = 4 * 1024;

/// How much memory a compiled pattern may take, in bytes, and again as much while it matches.
const MAX_COMPILED: usize = 256 * 1024;

/// The group of a pattern that is the step.
const STEP_GROUP: &str = "step";

/// What a study says of its trainer's lines. Left out: the built-in grammar alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grammar {
    /// The only word for a step. None: the built-in ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What lines of text look like, instead of the built-in grammar for them; JSON is read all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<Pattern>,
    /// Metrics beside the objective that are kept from any line of text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional: Vec<String>,
}

/// A regular expression with named groups: `step`, and metrics by their names. It matches in linear time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it has a group for this metric.
    pub fn has(&self, metric: &str) -> bool {
        metric != STEP_GROUP && self.0.capture_names().flatten().any(|name| name == metric)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        if text.chars().count() > MAX_PATTERN {
            return Err(format!("has more than {MAX_PATTERN} characters"));
        }
        let mut builder = RegexBuilder::new(&text);
        let regex =
            builder.size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build().map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => {
                    "is too big: bound its repetitions, or drop \\w and \\d for [A-Za-z] and [0-9]".to_owned()
                }
                // The last line says what is wrong; those before it draw the place.
                error => {
                    let text = error.to_string();
                    let what = text.lines().last().unwrap_or_default();
                    format!("is no regular expression: {}", what.strip_prefix("error: ").unwrap_or(what))
                }
            })?;
        if regex.capture_names().flatten().next().is_none() {
            return Err(
                "has no named group: write (?P<step>[0-9]+) for the step, and metrics by their names".to_owned()
            );
        }
        Ok(Pattern(regex))
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0.as_str().to_owned()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// What the patterns find in a line; of several for one name, the first one's first match.
pub(super) fn find(line: &str, patterns: &[Pattern], vocabulary: &Vocabulary) -> Found {
    let mut found = Found::default();
    let mut refused = Vec::new();
    for Pattern(regex) in patterns {
        let Some(captures) = regex.captures(line) else { continue };
        let groups = regex.capture_names().flatten();
        for (name, group) in groups.filter_map(|name| Some((name, captures.name(name)?))) {
            if name == STEP_GROUP {
                if found.step_word.is_empty() {
                    found.step = number::leading_step(group.as_str().trim()).unwrap_or_default();
                    found.step_word = name.to_owned();
                }
                continue;
            }
            let is_objective = vocabulary.is_objective(name);
            let is_known = found.values.contains_key(name) || found.others.iter().any(|(known, _)| known == name);
            if is_known || refused.contains(&name) || !(is_objective || vocabulary.is_other(name)) {
                continue;
            }
            match number::whole(group.as_str().trim()).filter(|_| !is_cut(line, &group)) {
                Some(value) if is_objective => {
                    found.values.insert(name.to_owned(), value);
                }
                Some(value) if value.is_finite() => found.others.push((name.to_owned(), value)),
                Some(_) => {}
                None => refused.push(name),
            }
        }
    }
    found.not_a_number = refused.len() as u64;
    found
}

/// Whether a group begins or ends in the middle of a number.
fn is_cut(line: &str, group: &regex::Match) -> bool {
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let dot_and_digit = |characters: &mut dyn Iterator<Item = char>| match characters.next() {
        Some('.') => is_digit(characters.next()),
        c => is_digit(c),
    };
    let ends = is_digit(group.as_str().chars().next_back()) && dot_and_digit(&mut line[group.end()..].chars());
    let begins = is_digit(group.as_str().chars().next()) && dot_and_digit(&mut line[..group.start()].chars().rev());
    ends || begins
}
