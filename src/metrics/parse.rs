//! From a line to reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::found::{Found, MAX_STEP, Step, Vocabulary};
use super::noted::{Noted, StepsCounted};
use super::pattern::{self, Grammar};
use super::{json, text};
use crate::core::MAX_ARRIVALS;
use crate::shown::shown_with_tabs;

/// What is reported of objectives at one step, never empty. A value that is NaN or infinite says that the run has
/// diverged.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The trainer's own progress unit.
    pub step: u64,
    /// The values by metric.
    pub values: BTreeMap<String, f64>,
}

/// Finds metrics in the lines of one attempt, one line after the other.
///
/// A line that begins with `{` is a JSON object, one that begins with `[{` an array of them, each of which is a report;
/// any other line is text with `name=value` or `name: value` in it, and so is a Python dictionary (`{'loss': 0.3}`),
/// which is what Hugging Face's Trainer prints. What is a number is told in `number.rs`, once for all of them.
///
/// A line's step is the one that it names; else the one that a line of its own has announced (`Epoch 3/10`); else it is
/// one after the last step of its metrics, and 1 for the first. Once a line with an objective has named a step that is
/// no whole number, such as an epoch of 0.32, steps are counted like that for the whole run. A step that is lower than
/// the last one of its metric is dropped.
#[derive(Clone, Debug)]
pub struct Parser {
    /// The objectives, with the last step of each.
    objectives: BTreeMap<String, Option<u64>>,
    folds: Option<Folds>,
    grammar: Arc<Grammar>,
    announced: Option<u64>,
    counts_steps: bool,
}

/// What was reported of folds.
#[derive(Clone, Debug)]
struct Folds {
    metric: String,
    count: usize,
    /// The last one's number and value.
    last: Option<(u64, f64)>,
}

impl Folds {
    /// Whether the value of a fold is one more, or the last one again. Which of two values were the fold's nobody knows.
    fn takes(&mut self, fold: u64, value: f64) -> bool {
        match self.last {
            Some((last, known)) if last == fold => known.to_bits() == value.to_bits(),
            _ if self.count >= MAX_ARRIVALS => false,
            _ => {
                self.count += 1;
                self.last = Some((fold, value));
                true
            }
        }
    }
}

impl Parser {
    /// A parser for these objectives.
    pub fn new<Name: Into<String>>(objectives: impl IntoIterator<Item = Name>, grammar: Arc<Grammar>) -> Parser {
        let objectives = objectives.into_iter().map(|name| (name.into(), None)).collect();
        Parser { objectives, folds: None, grammar, announced: None, counts_steps: false }
    }

    /// One of the objectives is the metric of a fold, reported once for each.
    pub fn with_folds(self, metric: Option<&str>) -> Parser {
        let folds = |metric: &str| Folds { metric: metric.to_owned(), count: 0, last: None };
        Parser { folds: metric.map(folds), ..self }
    }

    /// Reads the next line, without what ends it: calls `each` with what it reports, and notes all else.
    pub fn line(&mut self, line: &[u8], noted: &mut Noted, mut each: impl FnMut(Report)) {
        let decoded = String::from_utf8_lossy(line);
        let clean = shown_with_tabs(&decoded);
        let line = clean.trim();
        let vocabulary = self.vocabulary();
        let is_array = line.strip_prefix('[').is_some_and(|inside| inside.trim_start().starts_with('{'));
        let is_json = is_array || (line.starts_with('{') && !line.starts_with("{'"));
        if !is_json && !self.grammar.patterns.is_empty() && line.len() > pattern::MAX_PATTERN_LINE {
            noted.dropped.count(|dropped| &mut dropped.too_long, 1, line);
            return;
        }
        let found = if is_array {
            json::array(line, &vocabulary)
        } else if is_json {
            json::object(line, &vocabulary).map(|found| vec![found])
        } else {
            let (found, announced) = if self.grammar.patterns.is_empty() {
                (text::find(line, &vocabulary), text::announced(line, &vocabulary))
            } else {
                let found = pattern::find(line, &self.grammar.patterns, &vocabulary);
                let announced = match found.step {
                    Step::Given(step) if found.values.is_empty() && found.others.is_empty() => Some(step),
                    _ => None,
                };
                (found, announced)
            };
            self.announced = announced.or(self.announced);
            Some(vec![found])
        };
        match found {
            Some(found) => found.into_iter().filter_map(|found| self.report(found, line, noted)).for_each(&mut each),
            None => noted.dropped.count(|dropped| &mut dropped.malformed, 1, line),
        }
    }

    /// Which names mean what.
    pub(super) fn vocabulary(&self) -> Vocabulary<'_> {
        let Grammar { step, additional, .. } = &*self.grammar;
        Vocabulary { objectives: &self.objectives, step: step.as_deref(), additional }
    }

    /// Goes on behind this step, which was reported of each objective before.
    pub(super) fn resume(&mut self, step: u64) {
        self.objectives.values_mut().for_each(|last| *last = Some(step));
    }

    /// What is reported by something that was found; `line` is what is quoted of it where a part of it is dropped.
    pub(super) fn report(&mut self, found: Found, line: &str, noted: &mut Noted) -> Option<Report> {
        let Found { step, step_word, mut values, others, not_a_number } = found;
        noted.dropped.count(|dropped| &mut dropped.not_a_number, not_a_number, line);
        let has_objective = !values.is_empty();
        if !has_objective && others.is_empty() {
            return None;
        }
        if step == Step::Fractional && has_objective && !self.counts_steps {
            self.counts_steps = true;
            noted.steps_counted = Some(StepsCounted::new(&step_word, line));
        }
        let named = match step {
            _ if self.counts_steps => Ok(None),
            Step::Given(step) => Ok(Some(step)),
            Step::Missing => Ok(self.announced),
            Step::Fractional => Ok(None),
            Step::Impossible => Err(()),
        };
        let last = values.keys().filter_map(|name| *self.objectives.get(name)?).max();
        let counted = last.map_or(1, |last| last + 1);
        let step = named.map(|named| if has_objective { named.or(Some(counted)) } else { named });
        let Some(step) = step.ok().filter(|step| step.is_none_or(|step| step <= MAX_STEP)) else {
            noted.dropped.count(|dropped| &mut dropped.bad_step, u64::from(has_objective), line);
            return None;
        };
        for (name, value) in others {
            let step = step.unwrap_or_else(|| noted.others.next_step(&name));
            let is_asked = self.grammar.additional.contains(&name);
            noted.others.push(&name, step, value, is_asked, self.grammar.additional.len());
        }
        let step = step?;
        let reported = values.len();
        values.retain(|name, _| self.objectives.get(name).is_none_or(|last| *last <= Some(step)));
        noted.dropped.count(|dropped| &mut dropped.lower_step, (reported - values.len()) as u64, line);
        if let Some(folds) = &mut self.folds
            && let Some(&value) = values.get(&folds.metric)
            && !folds.takes(step, value)
        {
            values.remove(&folds.metric);
            noted.dropped.count(|dropped| &mut dropped.fold, 1, line);
        }
        for name in values.keys() {
            self.objectives.insert(name.clone(), Some(step));
        }
        let non_finite = values.values().filter(|value| !value.is_finite()).count() as u64;
        noted.dropped.count(|dropped| &mut dropped.non_finite, non_finite, line);
        (!values.is_empty()).then_some(Report { step, values })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::{Dropped, LineSplitter, MAX_LINE, Pattern};
    use proptest::prelude::*;

    const METRICS: [&str; 4] = ["accuracy", "val/loss", "top-5", "f1@k"];

    fn report(step: u64, values: &[(&str, f64)]) -> Report {
        Report { step, values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect() }
    }

    /// A parser and what it has noted.
    struct Reading {
        parser: Parser,
        noted: Noted,
    }

    impl Reading {
        fn by(grammar: Grammar) -> Reading {
            Reading { parser: Parser::new(METRICS, Arc::new(grammar)), noted: Noted::default() }
        }

        fn new() -> Reading {
            Reading::by(Grammar::default())
        }

        fn all(&mut self, line: &[u8]) -> Vec<Report> {
            let mut reports = Vec::new();
            self.parser.line(line, &mut self.noted, |report| reports.push(report));
            reports
        }

        /// What a line reports that has one report at most.
        fn line(&mut self, line: impl AsRef<[u8]>) -> Option<Report> {
            let mut reports = self.all(line.as_ref());
            assert!(reports.len() <= 1, "{reports:?}");
            reports.pop()
        }

        /// (step, accuracy) of every report of these lines.
        fn accuracies(&mut self, lines: &[&str]) -> Vec<(u64, f64)> {
            let reports = lines.iter().flat_map(|line| self.all(line.as_bytes()));
            reports.map(|report| (report.step, report.values["accuracy"])).collect()
        }

        fn dropped(&self) -> Dropped {
            Dropped { example: None, ..self.noted.dropped.clone() }
        }

        fn others(&self) -> Vec<(String, Vec<u64>, Vec<f64>)> {
            let summaries = self.noted.others.summaries().into_iter();
            summaries.map(|summary| (summary.name, summary.steps, summary.values)).collect()
        }
    }

    /// What a line reports to a fresh parser.
    fn read(line: &str) -> Option<Report> {
        Reading::new().line(line)
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
        let mut parser = Reading::new();
        assert_eq!(parser.line(line), None, "{line}");
        assert_eq!(parser.noted.dropped.example.is_some(), !parser.noted.dropped.is_zero(), "{line}");
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
            r#"[{"accuracy": 0.9}"#,
            r#"[{"accuracy": 0.9}, 3]"#,
            r#"[ {"accuracy": 0.9}] x"#,
            "[{'accuracy': 0.9}]",
            r#"{"accuracy": 0.9}{"accuracy": 0.8}"#,
            r#"{"accuracy": 0.9},,"#,
            r#"{"accuracy": 0.9}]"#,
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
            let mut parser = Reading::new();
            let report = parser.line(line).unwrap();
            assert_eq!((report.step, report.values["top-5"]), (1, 0.5), "{line}");
            assert!(!report.values["accuracy"].is_finite(), "{line}");
            assert_eq!(parser.dropped(), Dropped { non_finite: 1, ..Dropped::default() }, "{line}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_counted() {
        let lines = [
            r#"{"accuracy": "high"}"#,
            r#"{"accuracy": true}"#,
            r#"{"accuracy": [0.9]}"#,
            r#"{"accuracy": {}}"#,
            r#"{"accuracy": "1,234.5"}"#,
            r#"{"accuracy": "9870/10000"}"#,
            r#"{"accuracy": "0.9 ms"}"#,
            "accuracy=1,234.5",
            "accuracy: 2.345,5",
            "Accuracy: 9/10, accuracy: 9870/10000 (99%)",
            "accuracy: 9870 / 10000",
            "accuracy=00:01:30",
            "accuracy=0,75",
            "accuracy=0.5±0.1",
            "accuracy=1.2.3",
            "accuracy=12k",
            "accuracy=0.9ms",
            "accuracy=1_000",
            "accuracy=0x1F",
            "'accuracy': '1,5'",
            "accuracy=1,5 (best accuracy=2)",
        ];
        for line in lines {
            assert_eq!(dropped(line), Dropped { not_a_number: 1, ..Dropped::default() }, "{line}");
        }
    }

    #[test]
    fn a_line_with_an_impossible_step_is_counted() {
        let lines = [
            r#"{"step": -1, "accuracy": 0.9}"#,
            r#"{"step": 9007199254740992.5e3, "accuracy": 0.9}"#,
            r#"{"step": 9007199254740993, "accuracy": 0.9}"#,
            r#"{"step": 1e300, "accuracy": 0.9}"#,
            r#"{"step": NaN, "accuracy": 0.9}"#,
            r#"{"step": 99999999999999999999999, "accuracy": 0.9}"#,
            "step=-1 accuracy=0.9",
            "epoch -0.5 accuracy=0.9",
            "epoch nan accuracy=0.9",
            "step=18446744073709551616 accuracy=0.9",
        ];
        for line in lines {
            assert_eq!(dropped(line), Dropped { bad_step: 1, ..Dropped::default() }, "{line}");
        }
    }

    #[test]
    fn what_was_dropped_first_is_quoted() {
        let mut parser = Reading::new();
        parser.accuracies(&["accuracy=0.5", "epoch 1\t\x1b[1maccuracy=1,5", "accuracy=nan"]);
        assert_eq!(parser.noted.dropped.example.as_deref(), Some("epoch 1 accuracy=1,5"));
        assert_eq!(parser.noted.dropped.total(), 2);
    }

    #[test]
    fn a_refused_number_is_not_replaced_by_another_one_of_its_line_and_a_word_is() {
        let mut parser = Reading::new();
        assert_eq!(parser.accuracies(&["accuracy=1,5 accuracy=2", "accuracy: high, accuracy=3"]), [(1, 3.0)]);
    }

    #[test]
    fn an_array_reports_each_of_its_objects_and_an_object_may_have_a_comma_behind_it() {
        let mut parser = Reading::new();
        let lines = [
            r#"[{"step":1,"accuracy":0.1},{"step":2,"accuracy":0.2}]"#,
            r#"[ {"step":3,"accuracy":0.3}, {"note": 1} ]"#,
            "[",
            r#"  {"step":4,"accuracy":0.4},"#,
            r#"  {"step":5,"accuracy":0.5}"#,
            "]",
            "[]",
        ];
        let read = parser.accuracies(&lines);
        assert_eq!(read, [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.5)]);
        assert!(parser.dropped().is_zero());
    }

    #[test]
    fn from_the_first_fractional_step_on_every_report_is_one_step_after_the_last() {
        // Hugging Face's Trainer with eval_strategy=steps.
        let mut parser = Reading::new();
        let read = parser.accuracies(&[
            "{'loss': 0.71, 'epoch': 0.16}",
            "{'eval_loss': 0.61, 'accuracy': 0.71, 'epoch': 0.32}",
            "{'loss': 0.5, 'epoch': 0.48}",
            "{'accuracy': 0.83, 'epoch': 0.65}",
            "{'accuracy': 0.86, 'epoch': 1.0}",
        ]);
        assert_eq!(read, [(1, 0.71), (2, 0.83), (3, 0.86)]);
        let counted = parser.noted.steps_counted.clone().unwrap();
        let text = "steps are counted by reports, since epoch is no whole number in \"{'eval_loss': 0.61, 'accuracy': 0.71, 'epoch': 0.32}\"";
        assert_eq!(counted.to_string(), text);
        assert!(parser.dropped().is_zero());

        for lines in [
            ["epoch 1 accuracy=1", "epoch 2 accuracy=2", "epoch 2.99 accuracy=3", "epoch 7 accuracy=4"],
            [
                r#"{"epoch":1.0,"accuracy":1}"#,
                r#"{"epoch":"2","accuracy":2}"#,
                r#"{"epoch":2.5,"accuracy":3}"#,
                r#"{"accuracy":4}"#,
            ],
        ] {
            let mut parser = Reading::new();
            assert_eq!(parser.accuracies(&lines), [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]);
        }
    }

    #[test]
    fn a_step_that_goes_back_is_dropped_and_counted_and_the_same_step_is_not() {
        let mut parser = Reading::new();
        let folds =
            (1..=3).flat_map(|fold| (1..=2).map(move |epoch| format!("fold {fold} epoch {epoch} accuracy=0.{fold}")));
        let lines: Vec<String> = folds.collect();
        let read = parser.accuracies(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(read, [(1, 0.1), (2, 0.1), (2, 0.2), (2, 0.3)]);
        assert_eq!(parser.dropped(), Dropped { lower_step: 2, ..Dropped::default() });
        assert_eq!(parser.noted.dropped.example.as_deref(), Some("fold 2 epoch 1 accuracy=0.2"));
    }

    #[test]
    fn a_round_in_brackets_is_a_step_at_the_start_of_a_line_before_a_tab_where_no_word_is_one() {
        let cases = [
            ("[92]\taccuracy:0.5", 92),
            ("[0]\ttrain-loss:0.1\taccuracy:0.5", 0),
            ("[92]\tstep=3 accuracy:0.5", 3),
            ("[92] accuracy:0.5", 1),
            ("x [92]\taccuracy:0.5", 1),
            ("[92x]\taccuracy:0.5", 1),
            ("[12:30]\taccuracy:0.5", 1),
        ];
        for (line, step) in cases {
            assert_eq!(read(line), Some(report(step, &[("accuracy", 0.5)])), "{line}");
        }
    }

    #[test]
    fn an_epoch_on_a_line_of_its_own_holds_for_the_lines_below_it() {
        for line in
            ["Epoch 3/10", "Epoch 3", "=== Epoch 3 ===", "epoch: 3", "[Epoch 3/10]", "--- step #3 ---", "Epoch [3/10]"]
        {
            let mut parser = Reading::new();
            let read = parser.accuracies(&[
                line,
                "12/12 - 1s - loss: 0.3 - accuracy: 0.5",
                r#"{"accuracy": 0.6}"#,
                "step=7 accuracy=1",
            ]);
            assert_eq!(read, [(3, 0.5), (3, 0.6), (7, 1.0)], "{line}");
        }
        for line in
            ["Epoch 3: 100%", "Epoch 3 of 10", "Epoch 0.5", "Epoch", "\"step\": 3,", "Starting epoch 3", "Epoch 3x"]
        {
            let mut parser = Reading::new();
            assert_eq!(parser.accuracies(&[line, "accuracy: 0.5"]), [(1, 0.5)], "{line}");
        }
    }

    #[test]
    fn a_study_may_say_which_word_is_the_step() {
        let own = |step: &str| Reading::by(Grammar { step: Some(step.to_owned()), ..Grammar::default() });
        let cases = [
            ("global_step", r#"{"step": 1, "global_step": 900, "accuracy": 0.5}"#, 900),
            ("trees", "epoch 2 trees=50 accuracy=0.5", 50),
            ("trees", "epoch 2 accuracy=0.5", 1),
            ("trees", "[7]\taccuracy:0.5", 1),
            ("trainer/global_step", "trainer/global_step: 9, accuracy=0.5", 9),
        ];
        for (step, line, expected) in cases {
            assert_eq!(own(step).line(line), Some(report(expected, &[("accuracy", 0.5)])), "{step}: {line}");
        }
        assert_eq!(own("tokens").line("tokens 1.5 accuracy=0.5").unwrap().step, 1);
    }

    #[test]
    fn patterns_read_what_the_grammar_cannot_know_and_replace_it_for_text() {
        let by = |patterns: &[&str]| {
            Reading::by(Grammar { patterns: patterns.iter().map(|text| pattern(text)).collect(), ..Grammar::default() })
        };
        let lightgbm = r"^\[(?P<step>[0-9]+)\].*training's rmse: (?P<train>[0-9.]+).*valid_1's rmse: (?P<accuracy>\S+)";
        let mut parser = by(&[lightgbm]);
        let read = parser.accuracies(&[
            "[100]\ttraining's rmse: 3.17\tvalid_1's rmse: 2.83",
            "[200]\ttraining's rmse: 2.91\tvalid_1's rmse: 2.95",
            "accuracy=7 is text that no pattern matches",
            r#"{"step": 300, "accuracy": 2.5}"#,
            "[400]\ttraining's rmse: 2.9\tvalid_1's rmse: 2,95",
        ]);
        assert_eq!(read, [(100, 2.83), (200, 2.95), (300, 2.5)]);
        assert_eq!(parser.dropped(), Dropped { not_a_number: 1, ..Dropped::default() });
        assert_eq!(parser.others(), [("train".to_owned(), vec![100, 200, 400], vec![3.17, 2.91, 2.9])]);
        // A line with a step alone announces it.
        let mut parser = by(&["^round (?P<step>[0-9]+) begins", "score (?P<accuracy>[0-9.]+)"]);
        assert_eq!(parser.accuracies(&["round 5 begins", "score 0.5", "score 0.25 of 1"]), [(5, 0.5), (5, 0.25)]);
        // Matching takes a while where it is made to.
        let mut parser = by(&["score (?P<accuracy>[0-9.]+)"]);
        let long = format!("score 0.5 {}", "x".repeat(5000));
        assert_eq!(parser.accuracies(&[&long, "score 0.25"]), [(1, 0.25)]);
        assert_eq!(parser.dropped(), Dropped { too_long: 1, ..Dropped::default() });
        // A group that ends in a number's middle would cut it.
        let mut parser = by(&["score (?P<accuracy>[0-9]+)"]);
        assert_eq!(parser.accuracies(&["score 0.5", "score 9/10", "score 7"]), [(1, 9.0), (2, 7.0)]);
        assert_eq!(parser.dropped().not_a_number, 1);
    }

    #[test]
    fn other_metrics_are_kept_from_json_and_from_lines_with_the_objective() {
        let mut parser = Reading::new();
        for line in [
            "12:30 pid: 17 port=80 lr=3",
            r#"{"step": 1, "lr": 0.1, "name": "x", "bad": NaN, "ok": true, "accuracy": 0.5, "epoch": 2}"#,
            r#"{"lr": 0.2}"#,
            "epoch 5 accuracy=0.5 loss: 0.3, 7: 8 time: 9ms, lr=0.3 lr=4",
        ] {
            parser.all(line.as_bytes());
        }
        assert_eq!(
            parser.others(),
            [("lr".to_owned(), vec![1, 2, 5], vec![0.1, 0.2, 0.3]), ("loss".to_owned(), vec![5], vec![0.3]),]
        );
        let mut parser = Reading::by(Grammar { additional: vec!["lr".to_owned()], ..Grammar::default() });
        parser.all(b"12:30 pid: 17 lr=3");
        assert_eq!(parser.all(b"pid: 17 lr=1,5"), []);
        assert_eq!(parser.others(), [("lr".to_owned(), vec![1], vec![3.0])]);
        assert_eq!(parser.dropped().not_a_number, 1);
    }

    fn steps(lines: &[&str]) -> Vec<Option<u64>> {
        let mut parser = Reading::new();
        lines.iter().map(|line| parser.line(line).map(|report| report.step)).collect()
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
        let mut parser = Reading::new();
        assert_eq!(parser.line(b"step=9007199254740992 accuracy=1").unwrap().step, MAX_STEP);
        assert_eq!(parser.line(b"accuracy=1"), None);
        assert_eq!(parser.dropped(), Dropped { bad_step: 1, ..Dropped::default() });
    }

    #[test]
    fn invalid_utf8_hides_nothing_else_of_its_line() {
        let mut parser = Reading::new();
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
            "a=1:",
            "a=1,",
            "a=n:",
            "accuracy=x:",
            "accuracy=1    ",
            "[{},",
            "1,1",
            "epoch 1,",
            "/ ",
        ];
        let patterns_of =
            |patterns: [&str; 2]| Grammar { patterns: patterns.map(pattern).to_vec(), ..Grammar::default() };
        let parsers = [
            Grammar::default(),
            Grammar { additional: vec!["a".to_owned()], ..Grammar::default() },
            patterns_of(["accuracy=(?P<accuracy>[0-9.]+)", "(?:(?P<step>a*)*(?P<b>a|aa)+)+$"]),
        ];
        let mut parsers = parsers.map(Reading::by);
        for pattern in patterns {
            for prefix in ["", "{\"a\":", "{\"accuracy\":\"", "accuracy=", "step="] {
                let mut line = prefix.to_owned();
                line.extend(std::iter::repeat_n(pattern, (MAX_LINE - prefix.len()) / pattern.len()));
                for parser in &mut parsers {
                    for _ in 0..4 {
                        parser.all(line.as_bytes());
                    }
                }
            }
        }
    }

    /// The reports and the counters that a stream of bytes gives.
    fn read_all<'a>(grammar: &Grammar, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Report>, Noted) {
        let mut splitter = LineSplitter::new();
        let mut parser = Reading::by(grammar.clone());
        let mut reports = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| reports.extend(parser.all(line.bytes)));
        }
        splitter.finish(|line| reports.extend(parser.all(line.bytes)));
        (reports, parser.noted)
    }

    fn pattern(text: &str) -> Pattern {
        text.to_owned().try_into().unwrap()
    }

    fn grammars() -> Vec<Grammar> {
        let patterns =
            vec![pattern("accuracy=(?P<accuracy>[^ ]*)"), pattern("Epoch (?P<step>[0-9/]+)(.*=(?P<lr>[0-9.e-]+))?")];
        vec![
            Grammar::default(),
            Grammar { step: Some("epoch".to_owned()), additional: vec!["lr".to_owned()], ..Grammar::default() },
            Grammar { patterns, ..Grammar::default() },
        ]
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
            "Epoch 3/27\n",
            "[7]\t",
            "[{\"accuracy\":1},{\"accuracy\":NaN,\"lr\":3}]\n",
            "0.5",
            "lr=",
            ".5",
            "1,5",
        ];
        prop_oneof![
            8 => prop::sample::select(KNOWN).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..8),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunking_give_the_same_reports_and_notes(
            pieces in prop::collection::vec(piece(), 0..60),
            size in 1_usize..20,
            grammar in prop::sample::select(grammars()),
        ) {
            let bytes = pieces.concat();
            let whole = read_all(&grammar, [bytes.as_slice()]);
            // As texts, since NaN is not equal to itself.
            prop_assert_eq!(format!("{:?}", read_all(&grammar, bytes.chunks(size))), format!("{whole:?}"));
            let mut last = BTreeMap::new();
            for report in &whole.0 {
                prop_assert!(report.step <= MAX_STEP && !report.values.is_empty());
                for name in report.values.keys() {
                    prop_assert!(METRICS.contains(&name.as_str()));
                    prop_assert!(last.insert(name, report.step) <= Some(report.step), "steps never go back");
                }
            }
            for other in whole.1.others.summaries() {
                prop_assert!(other.min <= other.first && other.last <= other.max && other.steps.is_sorted_by(|a, b| a < b));
                prop_assert!(!METRICS.contains(&other.name.as_str()));
            }
        }

        #[test]
        fn a_number_with_something_glued_to_it_is_never_cut(
            digits in "[0-9]{1,4}",
            glued in "([,'’_:/+\u{a0}\u{202f}\u{2009}-]|[.][0-9]{1,3}[.,]|[a-df-zµ±*>])[0-9]{1,4}",
            behind in "[ ;)|]?",
        ) {
            let mut parser = Reading::new();
            prop_assert_eq!(parser.line(format!("accuracy={digits}{glued}{behind}")), None);
            prop_assert_eq!(parser.dropped(), Dropped { not_a_number: 1, ..Dropped::default() });
        }

        #[test]
        fn every_finite_value_is_read_exactly(bits in any::<u64>(), step in 0..=MAX_STEP) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for line in [format!("accuracy={value:?} step={step}"), format!(r#"{{"step":{step},"accuracy":{value:?}}}"#)] {
                let report = read(&line).unwrap();
                prop_assert_eq!((report.step, report.values["accuracy"].to_bits()), (step, value.to_bits()));
            }
        }
    }

    #[test]
    fn a_fold_counts_once_and_the_first_80_do_and_what_else_is_said_of_folds_is_told() {
        let mut reading = Reading::new();
        reading.parser = reading.parser.with_folds(Some("val/loss"));
        let line = |fold: u64, loss: &str| format!("fold={fold} step={fold} val/loss={loss}");
        let is_taken = |line: String, reading: &mut Reading| reading.line(line).is_some();
        assert!(is_taken(line(1, "0.5"), &mut reading));
        assert!(is_taken(line(1, "0.5"), &mut reading), "a line that is printed again says nothing else");
        assert_eq!(reading.noted.dropped.fold, 0);
        assert!(!is_taken(line(1, "0.4"), &mut reading));
        assert!((2..=80).all(|fold| is_taken(line(fold, "0.5"), &mut reading)));
        assert!(!is_taken(line(81, "0.5"), &mut reading));
        assert_eq!(reading.noted.dropped.fold, 2);
        assert_eq!(reading.noted.dropped.example, Some(line(1, "0.4")));
        assert_eq!(reading.line("step=82 val/loss=0.5 accuracy=0.9").unwrap(), report(82, &[("accuracy", 0.9)]));
    }
}
