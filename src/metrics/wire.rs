//! What the sidecar prints and leaves behind, and the controller reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dropped::Dropped;
use super::noted::Noted;

/// One line of the sidecar's standard output: a JSON object such as
/// `{"report":{"pod":"…","generation":1,"offset":35,"step":3,"metrics":{"accuracy":0.91}}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SidecarLine {
    /// The trainer reported values.
    Report {
        /// UID of the pod.
        pod: String,
        /// Which content of the metrics file it is from; see [`FollowedLine`](super::FollowedLine). With the offset it
        /// increases from report to report, also where there is no file.
        generation: u32,
        /// Where the trainer's line ends in that content, in bytes; where the line holds several reports, those before its
        /// last one are a few bytes before it: (generation, offset) increases from report to report.
        offset: u64,
        /// The trainer's own progress unit.
        step: u64,
        /// The values by metric; NaN, Infinity and -Infinity are strings.
        #[serde(with = "number::map")]
        metrics: BTreeMap<String, f64>,
    },
    /// The sidecar is alive, whether or not there is anything to report.
    Heartbeat {
        /// UID of the pod.
        pod: String,
        /// What was noted so far.
        #[serde(flatten)]
        noted: Noted,
        /// What a person should see to, for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// The trainer has ended and all that it had written was printed: the last line.
    End {
        /// UID of the pod.
        pod: String,
        /// What was noted in all.
        #[serde(flatten)]
        noted: Noted,
        /// Why not all that it had written was printed, or why nothing was read of the objective.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
}

impl SidecarLine {
    /// The UID of the pod that it is about.
    pub fn pod(&self) -> &str {
        match self {
            SidecarLine::Report { pod, .. } | SidecarLine::Heartbeat { pod, .. } | SidecarLine::End { pod, .. } => pod,
        }
    }

    /// The line, without a newline.
    pub fn to_line(&self) -> String {
        to_json(self)
    }

    /// Reads a line, with or without its newline. None for anything that a sidecar does not print.
    pub fn parse(line: &str) -> Option<SidecarLine> {
        serde_json::from_str(line).ok()
    }
}

/// A number as a caller writes it: NaN and the infinities are strings, which [`quote_non_finite`](super::quote_non_finite)
/// makes of the words of Python's json.dumps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Number(#[serde(with = "number")] pub f64);

/// Numbers that JSON cannot write are strings: `"NaN"`, `"Infinity"` and `"-Infinity"`.
mod number {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        match *value {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value if value > 0.0 => serializer.serialize_str("Infinity"),
            _ => serializer.serialize_str("-Infinity"),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_any(Number)
    }

    struct Number;

    impl Visitor<'_> for Number {
        type Value = f64;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
            Ok(value)
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
            Ok(value as f64)
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
            Ok(value as f64)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
            match text {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }

    /// The same for the values of a map.
    pub mod map {
        use std::collections::BTreeMap;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Value(#[serde(with = "super")] f64);

        pub fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(map.iter().map(|(name, value)| (name, Value(*value))))
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
            let map = BTreeMap::<String, Value>::deserialize(deserializer)?;
            Ok(map.into_iter().map(|(name, Value(value))| (name, value)).collect())
        }
    }
}

/// The longest termination message, in bytes: a pod's containers share 12 KiB.
pub const MAX_SUMMARY: usize = 1024;

/// The sidecar's termination message: what the controller knows when the sidecar's log is lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The objectives that were reported, in the study's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveSummary>,
    /// How many reports there were.
    pub count: u64,
    /// UID of the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// What was dropped.
    #[serde(default, skip_serializing_if = "Dropped::is_zero")]
    pub dropped: Dropped,
    /// What a person should see to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What was reported of one objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveSummary {
    /// The metric's name.
    pub metric: String,
    /// The latest value at the highest step.
    pub last: Observation,
    /// The best value, the earliest of equals; not finite where none was.
    pub best: Observation,
}

/// A value at a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The trainer's own progress unit.
    pub step: u64,
    /// NaN and the infinities are strings.
    #[serde(with = "number")]
    pub value: f64,
}

impl Summary {
    /// The termination message, of at most [`MAX_SUMMARY`] bytes. What does not fit is left out: first the problem,
    /// then the example and the counters of what was dropped, then objectives from the last one on, then the pod.
    pub fn to_message(&self) -> String {
        let mut fitting = self.clone();
        loop {
            let message = to_json(&fitting);
            if message.len() <= MAX_SUMMARY {
                return message;
            }
            fitting.leave_out_the_least_important();
        }
    }

    /// Reads a termination message. None for anything that a sidecar does not write.
    pub fn parse(message: &str) -> Option<Summary> {
        serde_json::from_str(message).ok()
    }

    fn leave_out_the_least_important(&mut self) {
        if self.problem.take().is_some() || self.dropped.example.take().is_some() {
        } else if !self.dropped.is_zero() {
            self.dropped = Dropped::default();
        } else if self.objectives.pop().is_none() {
            self.pod.clear();
        }
    }
}

/// Nothing here can fail to be written: keys are strings, and there is no I/O.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::StepsCounted;
    use proptest::prelude::*;

    fn report(metrics: &[(&str, f64)]) -> SidecarLine {
        SidecarLine::Report {
            pod: "u-1".into(),
            generation: 1,
            offset: 35,
            step: 3,
            metrics: metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        }
    }

    /// The wire format outlives a version: an operator reads what an older sidecar prints.
    #[test]
    fn lines_are_compact_and_their_form_is_fixed() {
        let dropped = Dropped { too_long: 2, ..Dropped::default() };
        let mut noted = Noted { dropped: dropped.clone(), ..Noted::default() };
        let some = noted.clone();
        noted.dropped.example = Some("loss=1,5".into());
        noted.steps_counted = Some(StepsCounted { word: "epoch".into(), example: "epoch 0.5".into() });
        noted.others.push("lr", 3, 0.5, false, 0);
        let lines = [
            (
                report(&[("accuracy", 0.91), ("loss", 3.0)]),
                r#"{"report":{"pod":"u-1","generation":1,"offset":35,"step":3,"metrics":{"accuracy":0.91,"loss":3.0}}}"#,
            ),
            (
                SidecarLine::Heartbeat { pod: "u-1".into(), noted: Noted::default(), problem: None },
                r#"{"heartbeat":{"pod":"u-1"}}"#,
            ),
            (
                SidecarLine::Heartbeat { pod: "u-1".into(), noted: some.clone(), problem: Some("no".into()) },
                r#"{"heartbeat":{"pod":"u-1","dropped":{"tooLong":2},"problem":"no"}}"#,
            ),
            (
                SidecarLine::End { pod: "u-1".into(), noted: some, problem: None },
                r#"{"end":{"pod":"u-1","dropped":{"tooLong":2}}}"#,
            ),
            (
                SidecarLine::End { pod: "u-1".into(), noted, problem: None },
                concat!(
                    r#"{"end":{"pod":"u-1","dropped":{"tooLong":2,"example":"loss=1,5"},"#,
                    r#""stepsCounted":{"word":"epoch","example":"epoch 0.5"},"#,
                    r#""metrics":[{"name":"lr","count":1,"first":0.5,"last":0.5,"min":0.5,"max":0.5,"steps":[3],"values":[0.5]}]}}"#,
                ),
            ),
        ];
        for (line, text) in lines {
            assert_eq!(line.to_line(), text);
            assert_eq!(SidecarLine::parse(&format!("{text}\n")), Some(line));
        }
    }

    #[test]
    fn anything_else_is_no_line_of_a_sidecar_and_unknown_fields_are_of_a_later_version() {
        for text in ["", "hello", "{", "{}", "null", r#"{"report":{"pod":"u"}}"#, r#"{"weather":{"pod":"u"}}"#] {
            assert_eq!(SidecarLine::parse(text), None, "{text}");
        }
        assert!(SidecarLine::parse(r#"{"heartbeat":{"pod":"u","mood":"good"}}"#).is_some());
    }

    #[test]
    fn values_that_json_cannot_write_are_strings() {
        let (nan, up, down) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
        let line = report(&[("a", nan), ("b", up), ("c", down), ("d", 1.5)]).to_line();
        assert!(line.contains(r#""metrics":{"a":"NaN","b":"Infinity","c":"-Infinity","d":1.5}"#), "{line}");
        let Some(SidecarLine::Report { metrics, .. }) = SidecarLine::parse(&line) else { panic!("{line}") };
        assert!(metrics["a"].is_nan());
        assert_eq!((metrics["b"], metrics["c"], metrics["d"]), (up, down, 1.5));

        let (last, best) = (Observation { step: 2, value: nan }, Observation { step: 1, value: 3.0 });
        let objectives = vec![ObjectiveSummary { metric: "a".into(), last, best }];
        let message = Summary { objectives, count: 2, ..Summary::default() }.to_message();
        let text = r#"{"objectives":[{"metric":"a","last":{"step":2,"value":"NaN"},"best":{"step":1,"value":3.0}}],"count":2}"#;
        assert_eq!(message, text);
        let read = Summary::parse(&message).unwrap();
        assert!(read.objectives[0].last.value.is_nan());
        assert_eq!(read.objectives[0].best, best);
        assert_eq!(SidecarLine::parse(&line.replace("Infinity", "infinite")), None);
    }

    fn finite() -> impl Strategy<Value = f64> {
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite())
    }

    prop_compose! {
        fn point()(step in any::<u64>(), value in finite()) -> Observation {
            Observation { step, value }
        }
    }

    prop_compose! {
        fn objective()(metric in "\\PC{0,80}", last in point(), best in point()) -> ObjectiveSummary {
            ObjectiveSummary { metric, last, best }
        }
    }

    prop_compose! {
        fn summary()(
            objectives in prop::collection::vec(objective(), 0..12),
            count in any::<u64>(),
            pod in prop_oneof![Just("9d6e0f5c-0f0f-4c8e-9f10-6a8f0f1c2d3e".to_owned()), ".{0,2000}"],
            non_finite in any::<u64>(),
            problem in prop::option::of(".{0,400}"),
        ) -> Summary {
            Summary { objectives, count, pod, dropped: Dropped { non_finite, ..Dropped::default() }, problem }
        }
    }

    proptest! {
        #[test]
        fn every_finite_value_is_read_as_exactly_what_was_printed(value in finite()) {
            let Some(SidecarLine::Report { metrics, .. }) = SidecarLine::parse(&report(&[("a", value)]).to_line()) else {
                return Err(TestCaseError::fail("not read"));
            };
            prop_assert_eq!(metrics["a"].to_bits(), value.to_bits());
        }

        #[test]
        fn a_summary_always_fits_and_keeps_its_first_objectives(summary in summary()) {
            let message = summary.to_message();
            prop_assert!(message.len() <= MAX_SUMMARY);
            let read = Summary::parse(&message).unwrap();
            prop_assert_eq!(read.count, summary.count);
            prop_assert!(summary.objectives.starts_with(&read.objectives));
            prop_assert!(read == summary || to_json(&summary).len() > MAX_SUMMARY);
        }
    }

    #[test]
    fn the_longest_name_and_numbers_of_four_objectives_fit() {
        let point = Observation { step: u64::MAX, value: -1.234_567_890_123_456_7e-300 };
        let objective =
            |index: usize| ObjectiveSummary { metric: index.to_string().repeat(63), last: point, best: point };
        let summary = Summary {
            objectives: (0..6).map(objective).collect(),
            count: u64::MAX,
            pod: "9d6e0f5c-0f0f-4c8e-9f10-6a8f0f1c2d3e".into(),
            dropped: Dropped { too_long: 7, ..Dropped::default() },
            problem: Some("cannot read".into()),
        };
        let read = Summary::parse(&summary.to_message()).unwrap();
        assert_eq!(read.objectives, summary.objectives[..4]);
        assert_eq!((read.pod, read.problem), (summary.pod, None));
    }
}
