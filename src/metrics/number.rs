//! What is a number: a whole token, or nothing of it.

use super::found::Step;

/// The longest token that may be a number, in characters: a double that is written out has 340.
const LONGEST_NUMBER: usize = 512;

/// The longest word that is a number, in characters: `-Infinity%.`
const LONGEST_WORD: usize = 11;

/// What stands where a value is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    /// A number, NaN and the infinities included.
    Number(f64),
    /// It begins like a number, and is none: a fraction, a time, thousands, a unit glued on.
    Refused,
    /// Something else, such as a word.
    Nothing,
}

/// What `text` begins with.
pub(super) fn leading(text: &str) -> Found {
    let looks_like_one = looks_like_number(text);
    let otherwise = if looks_like_one { Found::Refused } else { Found::Nothing };
    let limit = if looks_like_one { LONGEST_NUMBER } else { LONGEST_WORD };
    match token(text, limit) {
        Some(token) if !is_over(&text[token.len()..]) => whole(token).map_or(otherwise, Found::Number),
        _ => otherwise,
    }
}

/// The number that `text` is as a whole. One mark that ends a sentence is taken off it, and a percent sign: the
/// number before it counts.
pub(super) fn whole(text: &str) -> Option<f64> {
    let text = without_mark(text)?;
    let text = text.strip_suffix('%').map_or(text, |number| number.strip_suffix(' ').unwrap_or(number));
    text.parse().ok()
}

/// The step that `text` begins with, as far as it is a number. What stands behind a slash is how many there are.
pub(super) fn leading_step(text: &str) -> Option<Step> {
    let token = token(text, LONGEST_NUMBER)?;
    let token = without_mark(token.split('/').next().unwrap_or(token))?;
    Step::from_text(token).or_else(|| Step::from_text(&ungrouped(token)?))
}

fn without_mark(text: &str) -> Option<&str> {
    let text = text.strip_suffix(['.', '!', '?']).unwrap_or(text);
    // More than one, as in `0.5...`, leaves digits out.
    (!text.ends_with('.')).then_some(text)
}

/// A whole number without the separators of its thousands: one kind of them, three digits behind each.
fn ungrouped(token: &str) -> Option<String> {
    let separator = token.chars().find(|c| !c.is_ascii_digit()).filter(|c| is_separator(*c) && *c != ':')?;
    let mut groups = token.split(separator);
    let is_digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let first = groups.next().filter(|first| (1..=3).contains(&first.len()) && is_digits(first))?;
    let mut digits = first.to_owned();
    for group in groups {
        if group.len() != 3 || !is_digits(group) {
            return None;
        }
        digits.push_str(group);
    }
    Some(digits)
}

/// The token at the beginning of `text`: up to what stands between values. None where it is longer than `limit`.
fn token(text: &str, limit: usize) -> Option<&str> {
    let mut before = None;
    let mut characters = text.char_indices().peekable();
    let mut length = 0;
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let is_between_digits = || is_digit(before) && is_digit(next);
        if ends_value(c) && !(is_separator(c) && is_between_digits()) {
            return Some(&text[..at]);
        }
        length += 1;
        if length > limit {
            return None;
        }
        before = Some(c);
    }
    Some(text)
}

fn is_digit(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_ascii_digit())
}

fn ends_value(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, ';' | '|' | '(' | ')' | '[' | ']' | '{' | '}' | '"' | '`')
        // The lines of tables.
        || matches!(c, '\u{2500}'..='\u{257f}')
        || is_separator(c) && c != '_'
}

/// What belongs to a number where it stands directly between digits: separators of thousands, a decimal comma, the
/// colons of a time.
fn is_separator(c: char) -> bool {
    matches!(c, ',' | ':' | '_' | '\'' | '’' | '\u{a0}' | '\u{2009}' | '\u{202f}')
}

/// Whether a number is over another one, as in `9870 / 10000`.
fn is_over(behind: &str) -> bool {
    let below = behind.trim_start().strip_prefix('/');
    below.is_some_and(|below| is_digit(below.trim_start().chars().next()))
}

/// Whether `text` begins with a digit, a sign and a digit, or with a dot before them.
fn looks_like_number(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-', '−']).unwrap_or(text);
    text.strip_prefix('.').unwrap_or(text).starts_with(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_whole_token() {
        let numbers = [
            ("0.91", 0.91),
            ("-9.1E-1;", -0.91),
            ("+.5, more", 0.5),
            ("7.", 7.0),
            ("7!", 7.0),
            ("91.2%", 91.2),
            ("91.2 %", 91.2),
            ("91.2%.", 91.2),
            ("12 ms", 12.0),
            ("0.5 ± 0.1", 0.5),
            ("0.5,acc=3", 0.5),
            ("0.5:acc", 0.5),
            ("0.5'", 0.5),
            ("0.5│", 0.5),
            ("0.5, 0.6", 0.5),
            ("0.5)", 0.5),
            ("-inf", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("1e999", f64::INFINITY),
            ("0.5 / it", 0.5),
        ];
        for (text, number) in numbers {
            assert_eq!(leading(text), Found::Number(number), "{text}");
        }
        assert!(matches!(leading("nan"), Found::Number(nan) if nan.is_nan()));
        assert!(matches!(leading("-nan(ind)"), Found::Number(nan) if nan.is_nan()));
    }

    #[test]
    fn what_begins_like_a_number_and_is_none_is_refused_and_never_cut() {
        let refused = [
            "1,234.5",
            "2.345,5",
            "1'234",
            "1’234.5",
            "1\u{a0}234",
            "1\u{202f}234,5",
            "1\u{2009}234",
            "9870/10000",
            "9870 / 10000",
            "9870/ 10000",
            "00:01:30",
            "1:30.5",
            "0,75",
            "0.5±0.1",
            "0.9+0.01",
            "1.2.3",
            "12k",
            "3M",
            "0.9ms",
            "1_000",
            "0x1F",
            "2026-03-01",
            "0.5...",
            "1..",
            "0.5/step",
            "−0.5",
            "٣",
            "5e",
            "0.5*",
            "0.5->0.6",
        ];
        for text in refused {
            assert_eq!(leading(text), Found::Refused, "{text}");
        }
        assert_eq!(leading(&"1".repeat(LONGEST_NUMBER + 1)), Found::Refused);
    }

    #[test]
    fn words_are_nothing() {
        for text in ["", "high", "see below", "-", "--", "?", "None", "n/a", "infer", "tensor(0.5)", "np.float64(0.5)"]
        {
            assert_eq!(leading(text), Found::Nothing, "{text}");
        }
    }

    #[test]
    fn a_step_may_have_thousands_and_how_many_there_are() {
        let steps = [
            ("3", Some(Step::Given(3))),
            ("3/10", Some(Step::Given(3))),
            ("3:", Some(Step::Given(3))),
            ("3.0", Some(Step::Given(3))),
            ("3.", Some(Step::Given(3))),
            ("1,000", Some(Step::Given(1000))),
            ("1,234,567/2,000,000", Some(Step::Given(1_234_567))),
            ("1_000", Some(Step::Given(1000))),
            ("1,00", None),
            ("1,000'000", None),
            ("1:30", None),
            ("12k", None),
            ("0.32", Some(Step::Fractional)),
            ("-1", Some(Step::Impossible)),
            ("word", None),
        ];
        for (text, step) in steps {
            assert_eq!(leading_step(text), step, "{text}");
        }
    }
}
