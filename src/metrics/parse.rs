//! From a line to a report.

use std::collections::BTreeMap;

use super::{Dropped, json, text};
use crate::shown::shown_with_tabs;

/// The highest step that is taken: up to it, every whole number is a JSON number in every language.
pub const MAX_STEP: u64 = 1 << 53;

/// The values that one line reports at one step. Only metrics that were asked for, never empty. One that is NaN or
/// infinite says that the run has diverged.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The trainer's own progress unit.
    pub step: u64,
    /// The values by metric.
    pub values: BTreeMap<String, f64>,
}

/// Finds metrics in lines, one line after the other.
///
/// A line that begins with `{` is a JSON object; any other line is text with `name=value` or `name: value` in it,
/// and so is a Python dictionary (`{'loss': 0.3}`), which is what Hugging Face's Trainer prints. A line without a
/// step is one step after the last one of its metrics, and the first such line is step 1.
#[derive(Clone, Debug)]
pub struct Parser {
    /// The metrics that are asked for, with the last step of each.
    last_steps: BTreeMap<String, Option<u64>>,
    dropped: Dropped,
}

/// What a line says about the metrics that were asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub step: Step,
    /// Finite or not.
    pub values: BTreeMap<String, f64>,
    pub not_a_number: u64,
}

/// What a line says about its step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Step {
    #[default]
    Missing,
    Given(u64),
    /// Negative, fractional or too high.
    Impossible,
}

impl Step {
    /// The step that `number` is, as far as it is a number.
    pub fn from_text(number: &str) -> Option<Step> {
        match number.parse::<u64>() {
            Ok(step) => Some(if step <= MAX_STEP { Step::Given(step) } else { Step::Impossible }),
            Err(_) => number.parse().ok().map(Step::from_float),
        }
    }

    fn from_float(number: f64) -> Step {
        let possible = number >= 0.0 && number <= MAX_STEP as f64 && number.fract() == 0.0;
        if possible { Step::Given(number as u64) } else { Step::Impossible }
    }
}

/// The words for a step. Where a JSON object has several of them, the first of this list counts.
const STEP_WORDS: [&str; 5] = ["step", "epoch", "iteration", "global_step", "iter"];

/// The place of a word for a step among [`STEP_WORDS`].
pub(super) fn step_word(word: &str) -> Option<usize> {
    STEP_WORDS.iter().position(|known| known.eq_ignore_ascii_case(word))
}

impl Parser {
    /// A parser for these metrics, and no others.
    pub fn new<Name: Into<String>>(metrics: impl IntoIterator<Item = Name>) -> Parser {
        let last_steps = metrics.into_iter().map(|name| (name.into(), None)).collect();
        Parser { last_steps, dropped: Dropped::default() }
    }

    /// What the next line, without what ends it, reports. None where it reports nothing, or was dropped.
    pub fn line(&mut self, line: &[u8]) -> Option<Report> {
        let decoded = String::from_utf8_lossy(line);
        let clean = shown_with_tabs(&decoded);
        let line = clean.trim();
        let wanted = |name: &str| self.last_steps.contains_key(name);
        let found = if line.starts_with('{') && !line.starts_with("{'") {
            json::find(line, wanted)
        } else {
            Some(text::find(line, wanted))
        };
        match found {
            Some(found) => self.report(found),
            None => {
                self.dropped.malformed += 1;
                None
            }
        }
    }

    /// What was dropped so far; `too_long` is the [`LineSplitter`](super::LineSplitter)'s to know.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn report(&mut self, found: Found) -> Option<Report> {
        let Found { step, values, not_a_number } = found;
        self.dropped.not_a_number += not_a_number;
        if values.is_empty() {
            return None;
        }
        let last = values.keys().filter_map(|name| *self.last_steps.get(name)?).max();
        let step = match step {
            Step::Given(step) => Some(step),
            Step::Missing => Some(last.map_or(1, |last| last + 1)).filter(|step| *step <= MAX_STEP),
            Step::Impossible => None,
        };
        let Some(step) = step else {
            self.dropped.bad_step += 1;
            return None;
        };
        for name in values.keys() {
            self.last_steps.insert(name.clone(), Some(step));
        }
        self.dropped.non_finite += values.values().filter(|value| !value.is_finite()).count() as u64;
        Some(Report { step, values })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::{LineSplitter, MAX_LINE};
    use proptest::prelude::*;

    const METRICS: [&str; 4] = ["accuracy", "val/loss", "top-5", "f1@k"];

    fn report(step: u64, values: &[(&str, f64)]) -> Report {
        Report { step, values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect() }
    }

    /// What a line reports to a fresh parser.
    fn read(line: &str) -> Option<Report> {
        Parser::new(METRICS).line(line.as_bytes())
    }

    /// A line, and the step and the values that it reports.
    type Case<'a> = (&'a str, u64, &'a [(&'a str, f64)]);

    fn expect(cases: &[Case]) {
        for (line, step, values) in cases {
            assert_eq!(read(line), Some(report(*step, values)), "{line}");
        }
    }

    /// What was dropped after one line; the line reports nothing.
    fn dropped(line: &str) -> Dropped {
        let mut parser = Parser::new(METRICS);
        assert_eq!(parser.line(line.as_bytes()), None, "{line}");
        parser.dropped()
    }

    #[test]
    fn json_objects_report_the_metrics_that_were_asked_for() {
        expect(&[
            (r#"{"step": 3, "accuracy": 0.91}"#, 3, &[("accuracy", 0.91)]),
            (r#"  {"accuracy":1,"step":0}  "#, 0, &[("accuracy", 1.0)]),
            (r#"{"epoch": 3.0, "accuracy": -1e-3, "loss": 7}"#, 3, &[("accuracy", -0.001)]),
            (r#"{"step": "12", "accuracy": " 0.5 "}"#, 12, &[("accuracy", 0.5)]),
            (r#"{"iteration": 9, "val/loss": 0.1, "top-5": 0.2}"#, 9, &[("top-5", 0.2), ("val/loss", 0.1)]),
            (r#"{"global_step": 900, "epoch": 2, "accuracy": 0.5}"#, 2, &[("accuracy", 0.5)]),
            (r#"{"step": 900, "epoch": 2, "accuracy": 0.5}"#, 900, &[("accuracy", 0.5)]),
            (r#"{"step": null, "Epoch": 2, "accuracy": 0.5}"#, 2, &[("accuracy", 0.5)]),
            (r#"{"accuracy": 0.5}"#, 1, &[("accuracy", 0.5)]),
            (r#"{"step": 1, "accuracy": 0.5, "accuracy": 0.6}"#, 1, &[("accuracy", 0.6)]),
            (r#"{"step": 1, "nested": {"accuracy": 0.9, "step": 5}, "accuracy": 0.5}"#, 1, &[("accuracy", 0.5)]),
            (r#"{"step": 1, "accurac\u0079": 0.5}"#, 1, &[("accuracy", 0.5)]),
            (r#"{"step": 9007199254740992, "accuracy": 0.5}"#, MAX_STEP, &[("accuracy", 0.5)]),
            ("\x1b[32m{\"step\": 2, \"accuracy\": 0.5}\x1b[0m", 2, &[("accuracy", 0.5)]),
        ]);
    }

    #[test]
    fn text_reports_the_metrics_that_were_asked_for() {
        expect(&[
            ("accuracy=0.91", 1, &[("accuracy", 0.91)]),
            ("accuracy: 0.91", 1, &[("accuracy", 0.91)]),
            ("accuracy = -9.1E-1;", 1, &[("accuracy", -0.91)]),
            ("accuracy : +.5, more", 1, &[("accuracy", 0.5)]),
            ("the accuracy:7.", 1, &[("accuracy", 7.0)]),
            ("accuracy=91.2%", 1, &[("accuracy", 91.2)]),
            ("(accuracy=0.9)[top-5=1]", 1, &[("accuracy", 0.9), ("top-5", 1.0)]),
            ("val_accuracy=0.1 accuracy=0.2 val/accuracy=0.3", 1, &[("accuracy", 0.2)]),
            ("--accuracy=0.1 loss=3 val/loss=0.5 f1@k: 0.25", 1, &[("f1@k", 0.25), ("val/loss", 0.5)]),
            ("accuracy: 0.91 (best accuracy: 0.95)", 1, &[("accuracy", 0.91)]),
            ("accuracy: see below, accuracy: 0.5", 1, &[("accuracy", 0.5)]),
            ("INFO:accuracy=0.5", 1, &[("accuracy", 0.5)]),
            ("✅accuracy → accuracy=0.5", 1, &[("accuracy", 0.5)]),
            ("\x1b[1maccuracy\x1b[0m: \x1b[32m0.5\x1b[0m", 1, &[("accuracy", 0.5)]),
            (r#"10:32 INFO {"epoch": "4", "accuracy": "0.5"}"#, 4, &[("accuracy", 0.5)]),
            ("{'loss': 0.3, 'accuracy': 0.5, 'epoch': 2.0}", 2, &[("accuracy", 0.5)]),
        ]);
    }

    #[test]
    fn text_says_its_step_in_many_ways() {
        let steps = [
            ("step=3", 3),
            ("epoch 3:", 3),
            ("Epoch 3/27", 3),
            ("[epoch 3]", 3),
            ("Epoch [3/27], Step [100/600],", 3),
            ("EPOCH #3 -", 3),
            ("iteration: 7", 7),
            ("Iter 7,", 7),
            ("global_step=1200", 1200),
            ("step 0", 0),
            ("epoch: 3.0", 3),
            ("Epoch 3:  45%|████      | 45/100 [00:01<00:01, 32.10it/s,", 3),
            ("time per step: fast, epoch 5", 5),
            ("12ms/step - epoch=5", 5),
            ("footstep 9", 1),
            ("step 9x", 1),
            ("3 steps", 1),
        ];
        for (prefix, step) in steps {
            let line = format!("{prefix} accuracy=0.5");
            assert_eq!(read(&line), Some(report(step, &[("accuracy", 0.5)])), "{line}");
        }
    }

    #[test]
    fn what_reports_nothing_is_not_counted_as_dropped() {
        let lines = [
            "",
            "  ",
            "hello",
            "accuracy",
            "accuracy=",
            "accuracy: high",
            "accuracy=0.9ms",
            "accuracy=1.2.3",
            "accuracy=1_000",
            "accuracy 0.9",
            "loss=nan",
            "step=-1",
            "myaccuracy=0.9",
            "accuracy_=0.9",
            "üaccuracy=0.9",
            "{}",
            r#"{"step": -3, "loss": NaN}"#,
            r#"{"accuracy": null}"#,
            r#"{"nested": {"accuracy": 0.9}}"#,
        ];
        for line in lines {
            assert!(dropped(line).is_zero(), "{line}");
        }
    }

    #[test]
    fn malformed_json_reports_nothing_and_is_counted() {
        let deep = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
        let lines = [
            r#"{"accuracy": 0.9"#,
            r#"{"accuracy": 0.9} x"#,
            "{accuracy=0.9}",
            r#"{"a": 1e999, "accuracy": 1}"#,
            "{",
            &deep,
        ];
        for line in lines {
            assert_eq!(dropped(line), Dropped { malformed: 1, ..Dropped::default() }, "{line}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_counted_and_reported_beside_the_others_of_the_line() {
        let lines = [
            "accuracy=nan top-5=0.5",
            "accuracy: -inf, top-5=0.5",
            "accuracy=Infinity top-5=0.5",
            "accuracy=1e999 top-5=0.5",
            r#"{"accuracy": NaN, "top-5": 0.5}"#,
            r#"{"note": "a \"NaN\" \\", "accuracy": -Infinity, "top-5": 0.5}"#,
            r#"{"accuracy": "nan", "top-5": 0.5}"#,
        ];
        for line in lines {
            let mut parser = Parser::new(METRICS);
            let report = parser.line(line.as_bytes()).unwrap();
            assert_eq!((report.step, report.values["top-5"]), (1, 0.5), "{line}");
            assert!(!report.values["accuracy"].is_finite(), "{line}");
            assert_eq!(parser.dropped(), Dropped { non_finite: 1, ..Dropped::default() }, "{line}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_counted() {
        for line in
            [r#"{"accuracy": "high"}"#, r#"{"accuracy": true}"#, r#"{"accuracy": [0.9]}"#, r#"{"accuracy": {}}"#]
        {
            assert_eq!(dropped(line), Dropped { not_a_number: 1, ..Dropped::default() }, "{line}");
        }
    }

    #[test]
    fn a_line_with_an_impossible_step_is_counted() {
        let lines = [
            r#"{"step": -1, "accuracy": 0.9}"#,
            r#"{"step": 1.5, "accuracy": 0.9}"#,
            r#"{"step": 9007199254740993, "accuracy": 0.9}"#,
            r#"{"step": 1e300, "accuracy": 0.9}"#,
            r#"{"step": NaN, "accuracy": 0.9}"#,
            r#"{"step": 99999999999999999999999, "accuracy": 0.9}"#,
            "step=-1 accuracy=0.9",
            "epoch 0.5 accuracy=0.9",
            "step=18446744073709551616 accuracy=0.9",
            "{'accuracy': 0.9, 'epoch': 0.25}",
        ];
        for line in lines {
            assert_eq!(dropped(line), Dropped { bad_step: 1, ..Dropped::default() }, "{line}");
        }
    }

    fn steps(lines: &[&str]) -> Vec<Option<u64>> {
        let mut parser = Parser::new(METRICS);
        lines.iter().map(|line| parser.line(line.as_bytes()).map(|report| report.step)).collect()
    }

    #[test]
    fn a_line_without_a_step_is_one_step_after_the_last_of_its_metrics() {
        assert_eq!(steps(&["accuracy=1", "accuracy=2", "accuracy=3"]), [Some(1), Some(2), Some(3)]);
        assert_eq!(steps(&["step=7 accuracy=1", r#"{"accuracy":2}"#]), [Some(7), Some(8)]);
        assert_eq!(steps(&["accuracy=1", "top-5=1", "top-5=2 accuracy=2"]), [Some(1), Some(1), Some(2)]);
        assert_eq!(steps(&["accuracy=1", "accuracy=nan", "accuracy=3"]), [Some(1), Some(2), Some(3)]);
        assert_eq!(steps(&["accuracy=1", "accuracy=?", "accuracy=3"]), [Some(1), None, Some(2)]);
    }

    #[test]
    fn a_step_after_the_highest_one_is_impossible() {
        let mut parser = Parser::new(METRICS);
        assert_eq!(parser.line(b"step=9007199254740992 accuracy=1").unwrap().step, MAX_STEP);
        assert_eq!(parser.line(b"accuracy=1"), None);
        assert_eq!(parser.dropped(), Dropped { bad_step: 1, ..Dropped::default() });
    }

    #[test]
    fn invalid_utf8_hides_nothing_else_of_its_line() {
        let mut parser = Parser::new(METRICS);
        assert_eq!(parser.line(b"\xff\xfe accuracy=0.5 \xc3").unwrap().values["accuracy"], 0.5);
        assert_eq!(parser.line(b"{\"note\": \"\xff\", \"accuracy\": 0.5}").unwrap().values["accuracy"], 0.5);
    }

    /// Work that grows with the square of the length would take hours here.
    #[test]
    fn long_lines_made_to_be_slow_are_read_in_linear_time() {
        let patterns = [
            "step ",
            "step=",
            "step[",
            "accuracy",
            "accuracy ",
            "accuracy=",
            "accuracy : ",
            "accuracy=1",
            "9",
            "\x1b[",
            "\x1b[1",
            "'",
            "\"",
            "\\",
            "\\\"",
            "{",
            "{\"a\":",
            "[",
            "NaN",
            "{\"accuracy\":NaN,",
            "-Infinity",
            "accuracy='",
            "\u{fffd}",
            ".",
        ];
        let mut parser = Parser::new(METRICS);
        for pattern in patterns {
            for prefix in ["", "{\"a\":", "{\"accuracy\":\"", "accuracy=", "step="] {
                let mut line = prefix.to_owned();
                line.extend(std::iter::repeat_n(pattern, (MAX_LINE - prefix.len()) / pattern.len()));
                for _ in 0..4 {
                    parser.line(line.as_bytes());
                }
            }
        }
    }

    /// The reports and the counters that a stream of bytes gives.
    fn read_all<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Report>, Dropped) {
        let mut splitter = LineSplitter::new();
        let mut parser = Parser::new(METRICS);
        let mut reports = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line, _| reports.extend(parser.line(line)));
        }
        splitter.finish(|line, _| reports.extend(parser.line(line)));
        (reports, parser.dropped())
    }

    /// Pieces that together often make lines with something in them.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        const KNOWN: &[&str] = &[
            "accuracy",
            "val/loss",
            "step",
            "Epoch ",
            "=",
            ": ",
            "\n",
            "\r",
            "{",
            "}",
            "\"",
            "'",
            ",",
            "NaN",
            "-Infinity",
            "nan",
            "0.5",
            "-1",
            "7",
            "1e999",
            "3/27",
            "[",
            "]",
            "\x1b[0m",
            "\\",
            " ",
            "{\"step\":1,\"accuracy\":0.5}\n",
            "step=2 accuracy=",
        ];
        prop_oneof![
            8 => prop::sample::select(KNOWN).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..8),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunking_give_the_same_reports_and_counters(
            pieces in prop::collection::vec(piece(), 0..60),
            size in 1_usize..20,
        ) {
            let bytes = pieces.concat();
            let whole = read_all([bytes.as_slice()]);
            // As texts, since NaN is not equal to itself.
            prop_assert_eq!(format!("{:?}", read_all(bytes.chunks(size))), format!("{whole:?}"));
            for report in &whole.0 {
                prop_assert!(report.step <= MAX_STEP && !report.values.is_empty());
                prop_assert!(report.values.iter().all(|(name, _)| METRICS.contains(&name.as_str())));
            }
        }

        #[test]
        fn every_finite_value_is_read_exactly(bits in any::<u64>(), step in 0..=MAX_STEP) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for line in [format!("accuracy={value:?} step={step}"), format!(r#"{{"step":{step},"accuracy":{value:?}}}"#)] {
                let report = Parser::new(METRICS).line(line.as_bytes()).unwrap();
                prop_assert_eq!((report.step, report.values["accuracy"].to_bits()), (step, value.to_bits()));
            }
        }
    }
}
