//! `sweep ask-tell`: sampler and pruner for programs in any language. One JSON object a line on standard input, one answer
//! a line on standard output, none of it kept back; several trials may be open at once.

use std::io::{self, BufRead, Write};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::StudySpec;
use crate::core::sampler::{Cache, Next};
use crate::core::{Assignments, Failure, Phase, Study, Trial};
use crate::metrics::{Number, quote_non_finite};
use crate::validate::{any_template, validate};

/// A longer line is refused: ten thousand preloaded trials of 64 parameters fit.
const LONGEST_LINE: usize = 256 << 20;

/// What is asked for.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", deny_unknown_fields)]
enum Request {
    /// Begins a study: its spec, jobTemplate left out.
    Init { study: Map<String, Value> },
    /// Trials that have finished elsewhere.
    Preload { trials: Vec<Preloaded> },
    /// A configuration to try: the sampler's, or the caller's own.
    Ask { params: Option<Map<String, Value>> },
    /// An observation of a running trial: of the objective, or of the metric that is named.
    Report { id: u32, step: u64, value: Number, metric: Option<String> },
    /// A trial has finished.
    Tell { id: u32, value: Option<Number>, state: Option<ToldState> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Preloaded {
    params: Map<String, Value>,
    value: Number,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ToldState {
    Completed,
    Pruned,
    Failed,
}

/// Answers until the end of the input.
///
/// # Errors
/// Standard input cannot be read, or standard output not be written.
pub fn run(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut session = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut input, LONGEST_LINE as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = answer(&mut session, &line).unwrap_or_else(|message| json!({"error": message}));
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
}

fn answer(session: &mut Option<Session>, line: &[u8]) -> Result<Value, String> {
    let request: Request = serde_json::from_slice(line).or_else(|_| {
        // What Python's json.dumps writes for numbers that are none.
        serde_json::from_str(&quote_non_finite(&String::from_utf8_lossy(line))).map_err(|error| error.to_string())
    })?;
    let open = session.as_mut().ok_or("there is no study yet: send init first");
    match request {
        Request::Init { study } => {
            *session = Some(Session::new(study)?);
            Ok(json!({"ok": true}))
        }
        Request::Preload { trials } => open?.preload(trials),
        Request::Ask { params } => open?.ask(params),
        Request::Report { id, step, value, metric } => open?.report(id, (step, value.0), metric.as_deref()),
        Request::Tell { id, value, state } => open?.tell(id, value.map(|value| value.0), state),
    }
}

/// One study, and its trials by id.
struct Session {
    study: Study,
    trials: Vec<Trial>,
    /// How much has happened.
    ticks: i64,
    cache: Cache,
}

impl Session {
    fn new(mut spec: Map<String, Value>) -> Result<Session, String> {
        // Nothing is run here; and who asks decides how many trials there are.
        spec.insert("jobTemplate".to_owned(), any_template());
        let most = spec.get("maxTrials").and_then(Value::as_u64).unwrap_or(10_000).min(10_000);
        spec.insert("maxTrials".to_owned(), most.into());
        let spec: StudySpec = serde_path_to_error::deserialize(Value::Object(spec))
            .map_err(|error| format!("study.{}: {}", error.path(), error.inner()))?;
        let valid = validate("ask-tell", &spec).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            problems.join("; ")
        })?;
        Ok(Session { study: valid.core, trials: Vec::new(), ticks: 0, cache: Cache::default() })
    }

    fn preload(&mut self, trials: Vec<Preloaded>) -> Result<Value, String> {
        // All or none.
        let known: Vec<(Assignments, f64)> = trials
            .into_iter()
            .enumerate()
            .map(|(at, trial)| match self.assignments(&trial.params) {
                Ok(assignments) => Ok((assignments, trial.value.0)),
                Err(message) => Err(format!("trials[{at}].params: {message}")),
            })
            .collect::<Result<_, String>>()?;
        for (assignments, value) in known {
            let id = self.open(assignments, None)?;
            match value.is_finite() {
                true => self.finish(id, Phase::Succeeded, Some(value), None),
                false => self.finish(id, Phase::Failed, None, Some(Failure::Diverged)),
            }
        }
        Ok(json!({"ok": true}))
    }

    fn ask(&mut self, params: Option<Map<String, Value>>) -> Result<Value, String> {
        let (assignments, generation) = match params {
            Some(params) => (self.assignments(&params).map_err(|message| format!("params: {message}"))?, None),
            None => match self.study.propose(
                self.study.budget(),
                &self.trials,
                &[],
                self.trials.len() as u32,
                &mut self.cache,
            ) {
                Next::Propose(suggestion) => (suggestion.assignments, suggestion.generation),
                Next::Exhausted => return Err("every configuration of the search space was tried".to_owned()),
            },
        };
        let params = self.study.space.json(&assignments);
        let id = self.open(assignments, generation)?;
        Ok(json!({"id": id, "params": params}))
    }

    fn report(&mut self, id: u32, seen: (u64, f64), metric: Option<&str>) -> Result<Value, String> {
        let at = self.next_time();
        let Session { study, trials, .. } = self;
        let series = &mut running(trials, id)?.series;
        match metric {
            Some(metric) if study.pruners.fold_metric() == Some(metric) => study.pruners.observe_fold(series, seen, at),
            Some(metric) if metric != study.objective.metric => {
                let known: Vec<&str> = study.pruners.metrics(&study.objective.metric).collect();
                return Err(format!("{metric} is no metric of this study: {}", known.join(", ")));
            }
            _ => study.pruners.observe(&study.objective, series, seen, at),
        };
        let verdict = study.pruners.verdict_on(&study.problem(study.budget()), trials, id as usize);
        if let Some(trial) = trials.get_mut(id as usize).filter(|_| verdict.is_none()) {
            trial.passed = trial.series.arrivals().last().map(|arrival| arrival.rung);
        }
        Ok(match verdict {
            Some(verdict) => json!({"decision": "stop", "message": verdict.message, "evidence": verdict.evidence}),
            None => json!({"decision": "continue"}),
        })
    }

    fn tell(&mut self, id: u32, value: Option<f64>, state: Option<ToldState>) -> Result<Value, String> {
        let (which, direction) = (self.study.objective.value, self.study.objective.direction);
        let trial = running(&mut self.trials, id)?;
        let value = value.or_else(|| trial.series.value(which, direction).map(|(_, value)| value));
        let has_diverged = trial.series.diverged().is_some();
        let (phase, value, failure) = match (state, value) {
            // The caller knows its surroundings, and tells of the configuration: it is not tried again.
            (Some(ToldState::Failed), _) => (Phase::Failed, None, Some(Failure::Diverged)),
            (Some(ToldState::Pruned), _) => (Phase::Pruned, None, None),
            (_, Some(value)) if value.is_finite() => (Phase::Succeeded, Some(value), None),
            // Its last word is no number.
            (_, value) if value.is_some() || has_diverged => (Phase::Failed, None, Some(Failure::Diverged)),
            _ => return Err("a completed trial needs a value: give one, or a state of pruned or failed".to_owned()),
        };
        self.finish(id, phase, value, failure);
        Ok(match failure {
            Some(Failure::Diverged) => json!({"ok": true, "state": "failed"}),
            _ => json!({"ok": true}),
        })
    }

    fn open(&mut self, assignments: Assignments, generation: Option<u32>) -> Result<u32, String> {
        let id = u32::try_from(self.trials.len()).map_err(|_| "there are too many trials".to_owned())?;
        let bracket = self.study.pruners.bracket(id);
        let trial = Trial { phase: Phase::Running, bracket, generation, ..Trial::proposed(id, assignments) };
        self.trials.push(trial);
        Ok(id)
    }

    fn finish(&mut self, id: u32, phase: Phase, value: Option<f64>, failure: Option<Failure>) {
        let time = Some(self.next_time());
        if let Some(trial) = self.trials.get_mut(id as usize) {
            (trial.phase, trial.value, trial.failure, trial.completed) = (phase, value, failure, time);
        }
    }

    /// There is no clock here: what counts is the order.
    fn next_time(&mut self) -> Timestamp {
        self.ticks += 1;
        Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_micros(self.ticks)).unwrap_or(Timestamp::MAX)
    }

    /// Typed JSON as the texts that a trainer would see.
    fn assignments(&self, params: &Map<String, Value>) -> Result<Assignments, String> {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let given = params.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        self.study.space.parse(&given).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(|(name, message)| format!("{name} {message}")).collect();
            problems.join("; ")
        })?;
        Ok(self.study.space.canonical(&given))
    }
}

fn running(trials: &mut [Trial], id: u32) -> Result<&mut Trial, String> {
    let trial = trials.get_mut(id as usize).ok_or_else(|| format!("there is no trial {id}"))?;
    match trial.phase.is_finished() {
        true => Err(format!("trial {id} has finished")),
        false => Ok(trial),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const INIT: &str = r#"{"op":"init","study":{"objectives":[{"metric":"value","direction":"Minimize"}],
        "parameters":[{"name":"x","double":{"min":0,"max":1}},{"name":"n","int":{"min":1,"max":3}},
                      {"name":"opt","categorical":{"values":["adam","sgd"]}},
                      {"name":"m","double":{"min":0,"max":1},"when":[{"parameter":"opt","in":["sgd"]}]}],
        "sampler":{"random":{}},"pruner":{"median":{"startupTrials":1}},"maxTrials":100000,"seed":1}}"#;

    /// The answers to these lines.
    fn told(lines: &[&str]) -> Vec<Value> {
        let init = INIT.replace('\n', " ");
        let input = std::iter::once(init.as_str()).chain(lines.iter().copied()).collect::<Vec<_>>().join("\n");
        let mut output = Vec::new();
        run(input.as_bytes(), &mut output).unwrap();
        let answers = String::from_utf8(output).unwrap();
        answers.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn error(answer: &Value) -> &str {
        answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"))
    }

    #[test]
    fn a_trial_is_asked_for_reported_and_told() {
        let answers = told(&[
            r#"{"op":"ask"}"#,
            r#"{"op":"report","id":0,"step":1,"value":0.5}"#,
            r#"{"op":"tell","id":0,"value":0.4}"#,
        ]);
        assert_eq!(answers[0]["id"], 0);
        assert!(answers[0]["params"]["x"].is_f64() && answers[0]["params"]["n"].is_i64(), "{answers:?}");
        assert_eq!(answers[1], json!({"decision": "continue"}));
        assert_eq!(answers[2], json!({"ok": true}));
    }

    #[test]
    fn numbers_that_are_none_are_of_a_trial_that_failed() {
        let answers = told(&[
            r#"{"op":"ask"}"#,
            r#"{"op":"report","id":0,"step":1,"value":NaN}"#,
            r#"{"op":"tell","id":0,"value":NaN}"#,
            r#"{"op":"tell","id":0,"value":1}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"tell","id":1,"value":-Infinity}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"report","id":2,"step":1,"value":0.5}"#,
            r#"{"op":"report","id":2,"step":2,"value":Infinity}"#,
            r#"{"op":"tell","id":2}"#,
            r#"{"op":"preload","trials":[{"params":{"x":0.5,"n":2,"opt":"adam"},"value":NaN}]}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"tell","id":4,"value":NaN,"state":"pruned"}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"tell","id":5,"value":"high"}"#,
            r#"{"op":"ask","params":{"x":NaN,"n":2,"opt":"adam"}}"#,
        ]);
        let failed = json!({"ok": true, "state": "failed"});
        assert_eq!(answers[1], json!({"decision": "continue"}));
        assert_eq!(answers[2], failed);
        assert!(error(&answers[3]).contains("trial 0 has finished"));
        assert_eq!((&answers[5], &answers[8], &answers[9]), (&failed, &json!({"decision": "continue"}), &failed));
        assert_eq!((&answers[10], &answers[12]), (&json!({"ok": true}), &json!({"ok": true})));
        assert!(error(&answers[14]).contains("expected a number"), "{}", answers[14]);
        assert!(error(&answers[15]).contains("params: x"), "{}", answers[15]);
    }

    #[test]
    fn a_trial_that_reports_nan_loses_every_comparison() {
        let answers = told(&[
            r#"{"op":"ask"}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"report","id":0,"step":1,"value":1e300}"#,
            r#"{"op":"tell","id":0,"value":1e300}"#,
            r#"{"op":"report","id":1,"step":1,"value":NaN}"#,
        ]);
        assert_eq!(answers[4]["decision"], "stop", "{}", answers[4]);
    }

    #[test]
    fn what_is_told_of_a_failure_speaks_of_the_configuration() {
        let mut session = None;
        for line in [
            &INIT.replace('\n', " "),
            r#"{"op":"ask"}"#,
            r#"{"op":"tell","id":0,"state":"failed"}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"report","id":1,"step":1,"value":NaN}"#,
            r#"{"op":"tell","id":1,"state":"failed"}"#,
            r#"{"op":"preload","trials":[{"params":{"x":0.5,"n":2,"opt":"adam"},"value":Infinity}]}"#,
        ] {
            answer(&mut session, line.as_bytes()).unwrap();
        }
        let failures: Vec<_> = session.unwrap().trials.iter().map(|trial| (trial.phase, trial.failure)).collect();
        assert_eq!(failures, vec![(Phase::Failed, Some(Failure::Diverged)); 3]);
    }

    #[test]
    fn a_losing_trial_is_to_stop() {
        let answers = told(&[
            r#"{"op":"ask"}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"report","id":0,"step":1,"value":0.1}"#,
            r#"{"op":"tell","id":0,"value":0.1}"#,
            r#"{"op":"report","id":1,"step":1,"value":0.9}"#,
            r#"{"op":"tell","id":1,"state":"pruned"}"#,
        ]);
        assert_eq!(answers[4]["decision"], "stop");
        assert_eq!(answers[5], json!({"ok": true}));
    }

    #[test]
    fn the_caller_s_own_configuration_is_taken_and_checked() {
        let answers = told(&[
            r#"{"op":"ask","params":{"x":0.25,"n":2,"opt":"sgd","m":0.5}}"#,
            r#"{"op":"ask","params":{"x":0.25,"n":2,"opt":"adam","m":0.5}}"#,
            r#"{"op":"preload","trials":[{"params":{"x":7,"n":2,"opt":"adam"},"value":1}]}"#,
        ]);
        assert_eq!(answers[0]["params"], json!({"x": 0.25, "n": 2, "opt": "sgd", "m": 0.5}));
        assert!(error(&answers[1]).contains("m is inactive"), "{answers:?}");
        assert!(error(&answers[2]).contains("trials[0].params: x 7 is outside"), "{answers:?}");
    }

    #[test]
    fn what_cannot_be_answered_is_told_and_the_program_goes_on() {
        let answers = told(&[
            "nonsense",
            r#"{"op":"fly"}"#,
            r#"{"op":"tell","id":7,"value":1}"#,
            r#"{"op":"ask","speed":9}"#,
            r#"{"op":"ask"}"#,
            r#"{"op":"tell","id":0}"#,
            r#"{"op":"tell","id":0,"value":1}"#,
            r#"{"op":"tell","id":0,"value":1}"#,
        ]);
        assert!(error(&answers[1]).contains("unknown variant `fly`"));
        assert!(error(&answers[2]).contains("there is no trial 7"));
        assert!(error(&answers[3]).contains("speed"), "{answers:?}");
        assert_eq!(answers[4]["id"], 0);
        assert!(error(&answers[5]).contains("needs a value"));
        assert_eq!(answers[6], json!({"ok": true}));
        assert!(error(&answers[7]).contains("trial 0 has finished"));
    }

    #[test]
    fn a_study_that_is_not_valid_is_refused_with_its_field_paths() {
        let mut session = None;
        let problem = |session: &mut Option<Session>, line: &str| answer(session, line.as_bytes()).unwrap_err();
        assert!(problem(&mut session, r#"{"op":"ask"}"#).contains("send init first"));
        let init = INIT.replace('\n', " ");
        let wrong = init.replace(r#""min":1,"max":3"#, r#""min":5,"max":3"#);
        assert!(problem(&mut session, &wrong).contains("spec.parameters[1].int.min"));
        let wrong = init.replace(r#""min":1,"max":3"#, r#""min":"one","max":3"#);
        assert!(problem(&mut session, &wrong).contains("study.parameters[1].int.min"));
    }
}
