//! What is said where a trainer ended well and its objective was never read.

use super::dropped::Dropped;
use super::pattern::Grammar;
use super::source::Source;
use super::unread::{names_of_numbers, unread};

/// How many names a message lists, and how long one may be.
const NAMES: usize = 8;
const LONGEST_NAME: usize = 64;

/// What was looked at for the objective's metric.
#[derive(Clone, Copy, Debug)]
pub struct Missing<'a> {
    /// The metric.
    pub metric: &'a str,
    /// Where metrics come from.
    pub source: Source,
    /// Where it was looked for, such as `in the file $SWEEP_METRICS`.
    pub place: &'a str,
    /// What stands there, where that can be looked at.
    pub content: Option<&'a str>,
    /// What the trainer printed, where it was looked for elsewhere.
    pub printed: Option<&'a str>,
    /// What kept it from being read.
    pub problem: Option<&'a str>,
    /// What a line with metrics looks like.
    pub grammar: &'a Grammar,
    /// What was dropped.
    pub dropped: &'a Dropped,
}

impl Missing<'_> {
    /// What was looked for, where, and what stood there instead.
    pub fn message(&self) -> String {
        let Missing { metric, place, .. } = self;
        let what = match self.source {
            Source::File | Source::Stdout => format!("lines such as {{\"step\": 1, \"{metric}\": 0.5}}"),
            Source::TensorBoard => format!("the tag {metric}"),
            Source::Prometheus => format!("the metric {metric}"),
        };
        let mut message = format!("the trainer ended without reporting {metric}; looked for {what} {place}");
        if let Some(problem) = self.problem {
            message += &format!("; {problem}");
        }
        if let Some(unread) = self.content.and_then(|text| unread(metric, text, self.grammar)) {
            message += &format!("; not read: {unread}");
        }
        let names = self.content.map(names_of_numbers).unwrap_or_default();
        let others: Vec<String> = names.iter().filter(|name| *name != metric).map(|name| clipped(name)).collect();
        if !others.is_empty() {
            let more = if others.len() > NAMES { ", …" } else { "" };
            message += &format!("; other numbers there: {}{more}", others[..others.len().min(NAMES)].join(", "));
        }
        if self.printed.is_some_and(|printed| names_of_numbers(printed).contains(*metric)) {
            message += "; it stands in the trainer's output: did you mean `metrics: {stdout: {}}`?";
        }
        if !self.dropped.is_zero() {
            message += &format!("; dropped: {}", self.dropped);
        }
        message
    }
}

fn clipped(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_metric_is_told_with_where_it_was_looked_for_and_what_stood_there() {
        let (grammar, nothing) = (Grammar::default(), Dropped::default());
        let dropped = Dropped { non_finite: 2, ..Dropped::default() };
        let file = |content, printed| Missing {
            metric: "accuracy",
            source: Source::File,
            place: "in the file m.jsonl",
            content,
            printed: Some(printed),
            problem: None,
            grammar: &grammar,
            dropped: &nothing,
        };
        let output = |content| Missing { printed: None, ..file(Some(content), "") };
        let cases = [
            (file(None, ""), r#"accuracy; looked for lines such as {"step": 1, "accuracy": 0.5} in the file m.jsonl"#),
            (
                file(Some("{\"step\": 1, \"loss\": 0.5, \"name\": \"x\"}\n{\"acc\": 1}"), ""),
                "m.jsonl; other numbers there: acc, loss",
            ),
            (
                file(Some(""), "epoch 3: accuracy=0.91"),
                "it stands in the trainer's output: did you mean `metrics: {stdout: {}}`?",
            ),
            (output("epoch 3: acc=0.91 loss: 0.2, done: yes {'lr': 1e-3}"), "; other numbers there: acc, loss, lr"),
            (
                output("val accuracy 0.91"),
                "; not read: \"val accuracy 0.91\": neither = nor : stands between accuracy and the number",
            ),
            (
                file(Some("accuracy=np.float64(0.91)"), "accuracy 0.91"),
                "; not read: \"accuracy=np.float64(0.91)\": np.float64(0.91) is not a plain number",
            ),
            (Missing { dropped: &dropped, ..file(Some(""), "") }, "; dropped: 2 non-finite values"),
            (
                Missing { source: Source::TensorBoard, place: "in event files", ..file(None, "") },
                "; looked for the tag accuracy in event files",
            ),
            (
                Missing {
                    source: Source::Prometheus,
                    place: "at http://127.0.0.1:8000/metrics",
                    problem: Some("nobody listens there"),
                    ..file(None, "")
                },
                "; looked for the metric accuracy at http://127.0.0.1:8000/metrics; nobody listens there",
            ),
            (Missing { problem: Some("it is a directory"), ..file(None, "") }, "; it is a directory"),
        ];
        for (missing, says) in cases {
            let message = missing.message();
            assert!(message.starts_with("the trainer ended without reporting accuracy; looked for"), "{message}");
            assert!(message.contains(says), "{message}");
        }
    }
}
