//! From one page of Prometheus metrics after the other to what the trainer reported.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::dropped::example;
use super::exposition::{Sample, samples};
use super::found::{Found, STEP_WORDS, Step, Vocabulary};
use super::noted::Noted;
use super::others::MAX_OTHERS;
use super::parse::{Parser, Report};
use super::unread::instead;
use super::wire::Number;

/// How many names a page is remembered by.
const MAX_NAMES: usize = 256;

/// How many samples of a page are considered beside those that the study asks for: a page may hold a hundred thousand of them, and
/// there is little memory.
const MAX_SAMPLES: usize = 1_000;

/// Names that the client libraries add of themselves.
const OF_CLIENTS: [&str; 3] = ["python_", "process_", "go_"];

/// What pages said so far of an objective.
///
/// A page is a moment: the step and the value on it need not belong together, as a trainer sets one after the other. A value
/// that is new is a report, at the step of its page. One that stays while the step goes on is a report once the step goes on
/// again, or the trainer ends: until then it may be the one of the step before.
#[derive(Clone, Debug)]
pub struct Pages {
    objective: String,
    current: Option<Current>,
    /// The objective has been 0 since the first page: most likely nobody has set it yet.
    is_unset: bool,
    /// The step that was reported last.
    reported: Option<u64>,
    /// The names on the last page.
    names: BTreeSet<String>,
    /// What kept the objective from being read, of the last page that it was on.
    refused: Option<String>,
}

/// What the last page said.
#[derive(Clone, Debug)]
struct Current {
    step: Option<(String, f64)>,
    value: f64,
    others: Vec<(String, f64)>,
    is_reported: bool,
}

/// What has to be known for reading pages to go on where it was left off, once the reader is started again: a page says
/// nothing of those before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// The step that was reported last.
    pub step: u64,
    /// What stood on the page for the step, with the word for it.
    pub on_page: Option<(String, Number)>,
    /// The value that was reported last.
    pub value: Number,
}

impl Pages {
    /// A reader of what a trainer reports of this objective. `reached` is where another one was left off.
    pub fn of(objective: impl Into<String>, reached: Option<Reached>, parser: &mut Parser) -> Pages {
        let mut pages = Pages::new(objective);
        if let Some(Reached { step, on_page, value }) = reached {
            let on_page = on_page.map(|(word, step)| (word, step.0));
            pages.current = Some(Current { step: on_page, value: value.0, others: Vec::new(), is_reported: true });
            pages.reported = Some(step);
            parser.resume(step);
        }
        pages
    }

    /// Reads the next page: calls `each` with what it reports, and notes all else. Returns what is wrong with the page.
    pub fn read(
        &mut self,
        page: &str,
        parser: &mut Parser,
        noted: &mut Noted,
        mut each: impl FnMut(Report),
    ) -> Option<String> {
        let (found, problem) = self.page(page, &parser.vocabulary());
        found.into_iter().for_each(|found| self.report(found, parser, noted, &mut each));
        problem
    }

    /// Calls `each` with what is left to be reported once the trainer has ended.
    pub fn finish(&mut self, parser: &mut Parser, noted: &mut Noted, mut each: impl FnMut(Report)) {
        if let Some(found) = self.last() {
            self.report(found, parser, noted, &mut each);
        }
    }

    fn report(&mut self, found: Found, parser: &mut Parser, noted: &mut Noted, each: &mut impl FnMut(Report)) {
        let value = found.values.get(&self.objective).copied().unwrap_or(f64::NAN);
        let step = match &found.step {
            Step::Missing => String::new(),
            _ => format!(
                "{} {}: ",
                found.step_word,
                self.current.as_ref().and_then(|c| Some(c.step.as_ref()?.1)).unwrap_or(f64::NAN)
            ),
        };
        if let Some(report) = parser.report(found, &format!("{step}{} {value}", self.objective), noted) {
            self.reported = Some(report.step);
            each(report);
        }
    }

    /// Where it has got to: None where nothing was reported yet.
    pub fn reached(&self) -> Option<Reached> {
        let current = self.current.as_ref().filter(|current| current.is_reported)?;
        let on_page = current.step.clone().map(|(word, step)| (word, Number(step)));
        Some(Reached { step: self.reported?, on_page, value: Number(current.value) })
    }

    /// Why nothing was read of the metric: what is wrong with it, or what there is instead. None where there was no page, or
    /// where something was read before this reader was started.
    pub fn why_nothing(&self) -> Option<String> {
        if self.reported.is_some() {
            return None;
        }
        if self.is_unset {
            return Some(format!("{} was 0 on every page, as one that was never set", self.objective));
        }
        self.refused.clone().or_else(|| instead(&self.objective, "metrics", &self.names))
    }

    fn new(objective: impl Into<String>) -> Pages {
        Pages {
            objective: objective.into(),
            current: None,
            is_unset: false,
            reported: None,
            names: BTreeSet::new(),
            refused: None,
        }
    }

    /// What the next page says, and what is wrong with it.
    fn page(&mut self, page: &str, vocabulary: &Vocabulary) -> (Vec<Found>, Option<String>) {
        let mut room = MAX_SAMPLES;
        let (samples, wrong) = samples(page, |sample| {
            let is_asked = sample.name == self.objective
                || is_step(sample.name, vocabulary)
                || vocabulary.is_additional(sample.name);
            let is_kept = is_asked || room > 0;
            room = room.saturating_sub(usize::from(!is_asked));
            is_kept
        });
        let mut problem = wrong.map(|line| format!("it is no page of Prometheus metrics: \"{}\"", example(line)));
        let names: BTreeSet<&str> = samples.iter().map(|sample| sample.name).collect();
        self.names = names.into_iter().take(MAX_NAMES).map(str::to_owned).collect();
        let value = match single(&samples, &self.objective) {
            Ok(value) => value,
            Err(count) => {
                problem = Some(format!("{} has {count} sets of labels there: which one is meant?", self.objective));
                self.refused.clone_from(&problem);
                None
            }
        };
        let Some(value) = value else { return (Vec::new(), problem) };
        let step = step(&samples, vocabulary.step);
        let step_wrong = step.as_ref().filter(|(_, step)| Step::from_float(*step) == Step::Impossible);
        self.refused = step_wrong
            .map(|(word, step)| format!("{} is there, but {word} is {step}, which is no step", self.objective));
        let others = samples.iter().filter(|sample| is_other(sample, vocabulary)).take(MAX_SAMPLES + MAX_OTHERS);
        let others = others.map(|sample| (sample.name.to_owned(), sample.value)).collect();
        (self.take(step, value, others), problem)
    }

    fn take(&mut self, step: Option<(String, f64)>, value: f64, others: Vec<(String, f64)>) -> Vec<Found> {
        let mut next = Current { step, value, others, is_reported: false };
        let mut reports = Vec::new();
        match &mut self.current {
            None => {
                self.is_unset = value == 0.0;
                next.is_reported = !self.is_unset;
            }
            Some(current) => {
                let is_new = current.value.to_bits() != next.value.to_bits();
                let goes_on = bits(&current.step) != bits(&next.step);
                if !is_new && !goes_on {
                    return reports;
                }
                if goes_on && !current.is_reported && !self.is_unset {
                    reports.push(current.found(&self.objective));
                }
                self.is_unset &= !is_new;
                next.is_reported = is_new;
            }
        }
        if next.is_reported {
            reports.push(next.found(&self.objective));
        }
        self.current = Some(next);
        reports
    }

    /// What is left to be reported once the trainer has ended.
    fn last(&mut self) -> Option<Found> {
        let is_unset = self.is_unset;
        let current = self.current.as_mut().filter(|current| !current.is_reported && !is_unset)?;
        current.is_reported = true;
        Some(current.found(&self.objective))
    }
}

impl Current {
    /// What it reports, once: the other metrics are handed over.
    fn found(&mut self, objective: &str) -> Found {
        let (step_word, step) = match &self.step {
            Some((word, step)) => (word.clone(), Step::from_float(*step)),
            None => (String::new(), Step::Missing),
        };
        let values = [(objective.to_owned(), self.value)].into();
        Found { step, step_word, values, others: std::mem::take(&mut self.others), not_a_number: 0 }
    }
}

/// The value of a metric: without labels, or with them where it is there only once. How many there are, where it is not told
/// which one is meant.
fn single(samples: &[Sample], name: &str) -> Result<Option<f64>, usize> {
    let of_name = || samples.iter().filter(|sample| sample.name == name);
    if let Some(plain) = of_name().find(|sample| sample.labels.is_empty()) {
        return Ok(Some(plain.value));
    }
    match of_name().count() {
        0 | 1 => Ok(of_name().next().map(|sample| sample.value)),
        count => Err(count),
    }
}

/// A step as it can be compared: NaN is equal to itself.
fn bits(step: &Option<(String, f64)>) -> Option<(&str, u64)> {
    step.as_ref().map(|(word, step)| (word.as_str(), step.to_bits()))
}

/// Whether a metric of this name is a step.
fn is_step(name: &str, vocabulary: &Vocabulary) -> bool {
    let plain = name.strip_suffix("_total").unwrap_or(name);
    vocabulary.step_rank(name).is_some() || vocabulary.step_rank(plain).is_some()
}

/// The metric that is the step, with the word for it: a counter has `_total` behind its name.
fn step(samples: &[Sample], own: Option<&str>) -> Option<(String, f64)> {
    let words = own.map_or(STEP_WORDS.to_vec(), |own| vec![own]);
    words.iter().find_map(|word| {
        let is_step = |name: &&str| {
            name.eq_ignore_ascii_case(word)
                || name.strip_suffix("_total").is_some_and(|name| name.eq_ignore_ascii_case(word))
        };
        let name = samples.iter().map(|sample| sample.name).find(is_step)?;
        Some(((*word).to_owned(), single(samples, name).ok()??))
    })
}

/// Whether it is a metric that may be kept beside the objective.
fn is_other(sample: &Sample, vocabulary: &Vocabulary) -> bool {
    let of_client =
        OF_CLIENTS.iter().any(|prefix| sample.name.starts_with(prefix)) || sample.name.ends_with("_created");
    let is_plain = sample.labels.is_empty() && sample.value.is_finite();
    is_plain
        && vocabulary.is_other(sample.name)
        && !is_step(sample.name, vocabulary)
        && (!of_client || vocabulary.is_additional(sample.name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use proptest::prelude::*;

    /// (step, value) of what pages report, and what is left at the end; without a step it is NaN.
    fn read(pages: &[&str], own_step: Option<&str>) -> Vec<(f64, f64)> {
        let objectives = BTreeMap::from([("loss".to_owned(), None)]);
        let vocabulary = Vocabulary { objectives: &objectives, step: own_step, additional: &[] };
        let mut reader = Pages::new("loss");
        let mut found: Vec<Found> = Vec::new();
        for page in pages {
            let (reports, problem) = reader.page(&page.replace("; ", "\n"), &vocabulary);
            assert_eq!(problem, None);
            found.extend(reports);
        }
        found.extend(reader.last());
        let step = |found: &Found| match found.step {
            Step::Given(step) => step as f64,
            _ => f64::NAN,
        };
        found.iter().map(|found| (step(found), found.values["loss"])).collect()
    }

    #[test]
    fn a_new_value_is_a_report_at_the_step_of_its_page() {
        assert_eq!(read(&["epoch 1; loss 3", "epoch 1; loss 3", "epoch 2; loss 2"], None), [(1.0, 3.0), (2.0, 2.0)]);
        assert_eq!(read(&["epoch 1; loss 3", "epoch 1; loss 2"], None), [(1.0, 3.0), (1.0, 2.0)]);
    }

    #[test]
    fn a_step_that_goes_on_before_its_value_does_not_take_the_value_of_the_one_before() {
        let pages = ["epoch 1; loss 3", "epoch 2; loss 3", "epoch 2; loss 2", "epoch 3; loss 2", "epoch 3; loss 1"];
        assert_eq!(read(&pages, None), [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]);
    }

    #[test]
    fn a_value_that_stays_is_a_report_of_each_step_that_it_outlives() {
        let pages = ["step 1; loss 3", "step 2; loss 3", "step 3; loss 3", "step 4; loss 2"];
        assert_eq!(read(&pages, None), [(1.0, 3.0), (2.0, 3.0), (3.0, 3.0), (4.0, 2.0)]);
        assert_eq!(read(&["step 1; loss 3", "step 2; loss 3"], None), [(1.0, 3.0), (2.0, 3.0)], "at the end");
    }

    #[test]
    fn a_gauge_that_nobody_has_set_yet_is_no_report() {
        assert_eq!(read(&["epoch 0; loss 0", "epoch 1; loss 0", "epoch 1; loss 3"], None), [(1.0, 3.0)]);
        assert_eq!(read(&["epoch 0; loss 0", "epoch 1; loss 0", "epoch 2; loss 0"], None), []);
        assert_eq!(read(&["epoch 0; loss 1", "epoch 1; loss 0"], None), [(0.0, 1.0), (1.0, 0.0)]);
    }

    #[test]
    fn a_step_may_be_a_counter_or_named_by_the_study_or_missing() {
        assert_eq!(read(&["steps_total 9; Iter_total 4; loss 3"], None), [(4.0, 3.0)]);
        assert_eq!(read(&["steps_total 9; iter 4; loss 3"], Some("steps")), [(9.0, 3.0)]);
        assert_eq!(read(&["steps_total 9; iter 4; loss 3"], Some("steps_total")), [(9.0, 3.0)]);
        assert_eq!(read(&["epoch 2; step 40; loss 3"], None), [(40.0, 3.0)], "the first word of the list");
        let counted = read(&["loss 3", "loss 3", "loss 2"], None);
        assert_eq!(counted.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [3.0, 2.0]);
        assert!(counted.iter().all(|(step, _)| step.is_nan()));
    }

    #[test]
    fn a_metric_with_labels_is_taken_where_there_is_one_of_its_name() {
        assert_eq!(read(&["epoch{x=\"y\"} 2; loss{split=\"val\"} 3"], None), [(2.0, 3.0)]);
        assert_eq!(read(&["loss{split=\"val\"} 3; loss 4; epoch 1"], None), [(1.0, 4.0)]);
        let objectives = BTreeMap::from([("loss".to_owned(), None)]);
        let vocabulary = Vocabulary { objectives: &objectives, step: None, additional: &[] };
        let (reports, problem) = Pages::new("loss").page("loss{a=\"b\"} 3\nloss{a=\"c\"} 4", &vocabulary);
        assert!(reports.is_empty());
        assert_eq!(problem.unwrap(), "loss has 2 sets of labels there: which one is meant?");
    }

    #[test]
    fn what_else_is_on_the_page_comes_along_but_for_what_clients_add() {
        let objectives = BTreeMap::from([("loss".to_owned(), None)]);
        let additional = ["process_threads".to_owned()];
        let vocabulary = Vocabulary { objectives: &objectives, step: None, additional: &additional };
        let page =
            "loss 3\nepoch 1\nlr 0.1\nbad NaN\nsteps{a=\"b\"} 4\nprocess_open_fds 9\nprocess_threads 8\nlr_created 1e9";
        let (reports, _) = Pages::new("loss").page(page, &vocabulary);
        assert_eq!(reports[0].others, [("lr".to_owned(), 0.1), ("process_threads".to_owned(), 8.0)]);
    }

    #[test]
    fn a_step_that_is_no_number_does_not_go_on_by_standing_there() {
        let nan = ["step NaN; loss 3"; 3];
        assert_eq!(read(&nan, None).len(), 1);
    }

    #[test]
    fn of_a_long_page_what_the_study_asks_for_is_found_and_of_the_rest_a_part() {
        let objectives = BTreeMap::from([("loss".to_owned(), None)]);
        let additional = ["lr".to_owned()];
        let vocabulary = Vocabulary { objectives: &objectives, step: None, additional: &additional };
        let many: String = (0..50_000).map(|i| format!("m{i} 1\n")).collect();
        let (reports, problem) = Pages::new("loss").page(&format!("{many}epoch_total 2\nlr 0.1\nloss 3"), &vocabulary);
        assert_eq!((problem, reports[0].step, reports[0].values["loss"]), (None, Step::Given(2), 3.0));
        assert_eq!(reports[0].others.len(), MAX_SAMPLES + 1);
        assert_eq!(reports[0].others.last().unwrap(), &("lr".to_owned(), 0.1));
    }

    /// Why nothing was read of the loss on this page.
    fn why_nothing(page: &str) -> Option<String> {
        let (mut parser, mut pages) = (Parser::new(["loss"], Arc::default()), Pages::new("loss"));
        pages.read(page, &mut parser, &mut Noted::default(), |_| ());
        pages.why_nothing()
    }

    #[test]
    fn where_a_metric_is_there_and_was_refused_that_is_told_and_not_that_it_is_there() {
        let why = |page| why_nothing(page).unwrap();
        let labels = "loss has 2 sets of labels there: which one is meant?";
        assert_eq!(why("loss{a=\"b\"} 3\nloss{a=\"c\"} 4"), labels);
        assert_eq!(why("epoch -1\nloss 3"), "loss is there, but epoch is -1, which is no step");
        assert_eq!(why("epoch NaN\nloss 3"), "loss is there, but epoch is NaN, which is no step");
        assert_eq!(why("epoch 1\nLoss 3"), "there are the metrics Loss, epoch; did you mean Loss?");
        assert_eq!(why_nothing("epoch 1\nloss 3"), None);
    }

    #[test]
    fn what_was_reached_can_be_written_and_read_whatever_stood_there() {
        let reached =
            Reached { step: 3, on_page: Some(("epoch".to_owned(), Number(f64::NEG_INFINITY))), value: Number(0.5) };
        let text = serde_json::to_string(&reached).unwrap();
        assert_eq!(serde_json::from_str::<Reached>(&text).unwrap(), reached);
    }

    proptest! {
        /// However often a page is looked at, it says the same.
        #[test]
        fn looking_more_often_reports_nothing_more(steps in prop::collection::vec((0u64..3, 1u64..3), 1..12), twice in any::<u16>()) {
            let mut step = 0;
            let pages: Vec<String> = steps
                .iter()
                .map(|(more, value)| {
                    step += more;
                    format!("step {step}; loss {value}")
                })
                .collect();
            let once: Vec<&str> = pages.iter().map(String::as_str).collect();
            let often = once.iter().enumerate().flat_map(|(i, page)| vec![*page; 1 + usize::from(twice >> i & 1)]);
            prop_assert_eq!(read(&once, None), read(&often.collect::<Vec<_>>(), None));
        }
    }
}
