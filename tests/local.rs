//! `sweep run` with real processes: tiny shell trainers in folders of their own.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_yaml::Value;
use tempfile::TempDir;

/// Generous: the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder with a Study and the state of its run.
struct Sandbox {
    folder: TempDir,
}

/// A Study as text, from what matters to a test.
struct Spec {
    /// Lines of `spec` beside the objective, the parameter, the metrics and the template.
    fields: &'static str,
    /// `file` or `stdout`.
    metrics: &'static str,
    /// A shell script.
    script: &'static str,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            fields: "maxTrials: 6\nparallelism: 3\nsampler: {random: {}}",
            metrics: "file",
            script: r#"echo "{\"step\": 1, \"score\": $x}" >> "$SWEEP_METRICS""#,
        }
    }
}

impl Spec {
    fn text(&self) -> String {
        let indent = |text: &str, by: usize| text.replace('\n', &format!("\n{}", " ".repeat(by)));
        format!(
            "apiVersion: sweep-operator.dev/v1alpha1
kind: Study
metadata: {{name: t}}
spec:
  objectives: [{{metric: score, direction: Maximize}}]
  parameters:
    - {{name: x, double: {{min: 0, max: 1}}}}
  {}
  metrics: {{{}: {{}}}}
  jobTemplate:
    spec:
      template:
        spec:
          containers:
            - name: trainer
              image: none
              command:
                - sh
                - -c
                - |
                  {}
",
            indent(self.fields, 2),
            self.metrics,
            indent(self.script, 18)
        )
    }
}

impl Sandbox {
    fn new(spec: &Spec) -> Sandbox {
        let sandbox = Sandbox { folder: tempfile::tempdir().unwrap() };
        sandbox.write(&spec.text());
        sandbox
    }

    fn write(&self, study: &str) {
        fs::write(self.path("study.yaml"), study).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path(".sweep/t")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sweep"));
        command.args(["run", "study.yaml"]).args(arguments).current_dir(self.folder.path());
        // Every trainer of this sandbox can be told from those of other tests.
        command.env("SANDBOX", self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }

    fn start(&self) -> Child {
        self.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn study(&self) -> Value {
        serde_yaml::from_str(&fs::read_to_string(self.state().join("study.yaml")).unwrap()).unwrap()
    }

    /// The Trials, by name.
    fn trials(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.state().join("trials")) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        paths.iter().map(|path| serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect()
    }

    fn count(&self, phase: &str) -> usize {
        self.trials().iter().filter(|trial| trial["status"]["phase"] == phase).count()
    }

    /// Processes with this sandbox in their environment.
    fn processes(&self) -> usize {
        let marker = format!("SANDBOX={}\0", self.folder.path().display());
        let holds = |path: &Path| {
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            environment.windows(marker.len()).any(|window| window == marker.as_bytes())
        };
        fs::read_dir("/proc").unwrap().filter(|entry| holds(&entry.as_ref().unwrap().path())).count()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            eventually("nothing is left behind", || self.processes() == 0);
        }
    }
}

/// How a `sweep run` ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn of(output: Output) -> Run {
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn ended(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(self, text: &str) -> Run {
        assert!(self.err.contains(text) || self.out.contains(text), "no {text:?} in\n{}\n{}", self.out, self.err);
        self
    }
}

#[track_caller]
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn indices(trials: &[Value]) -> Vec<u64> {
    trials.iter().map(|trial| trial["spec"]["index"].as_u64().unwrap()).collect()
}

#[test]
fn a_sweep_runs_to_its_end_and_its_best_is_the_best_trial() {
    let sandbox = Sandbox::new(&Spec::default());
    let run = sandbox.run(&[]).ended(0).says("complete: 6 trials finished").says("best trial t-000");
    assert!(run.err.contains("trial t-0000 started: x=0."), "{}", run.err);
    assert!(run.err.contains("new best: score 0."), "{}", run.err);
    let (study, trials) = (sandbox.study(), sandbox.trials());
    assert_eq!(indices(&trials), [0, 1, 2, 3, 4, 5]);
    let value = |trial: &Value| trial["status"]["objectives"][0]["value"].as_f64().unwrap();
    let best = trials.iter().max_by(|a, b| value(a).total_cmp(&value(b))).unwrap();
    let status = &study["status"];
    assert_eq!(status["best"]["trial"], best["metadata"]["name"]);
    assert_eq!(status["best"]["objectives"][0]["value"], best["status"]["objectives"][0]["value"]);
    assert_eq!(status["best"]["assignments"], best["spec"]["assignments"]);
    assert_eq!(status["lastIndex"], 5);
    assert_eq!(status["progress"], "6/6");
    assert_eq!(status["trials"]["succeeded"], 6);
    assert_eq!(status["ended"]["reason"], "MaxTrialsReached");
    for trial in &trials {
        assert_eq!(trial["status"]["conditions"][0]["reason"], "Succeeded");
        // What the trainer saw is what was recorded, to the last digit.
        assert_eq!(trial["spec"]["assignments"]["x"].as_str().unwrap().parse::<f64>().unwrap(), value(trial));
    }
    let completions: BTreeSet<_> = trials.iter().map(|t| t["status"]["completionTime"].as_str().unwrap()).collect();
    assert_eq!(completions.len(), 6);
    // A study that has ended says its result again, and runs nothing.
    let again = sandbox.run(&["-o", "json"]).ended(0);
    let json: serde_json::Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(json["status"]["best"]["trial"].as_str(), best["metadata"]["name"].as_str());
    assert_eq!(sandbox.study(), study);
}

#[test]
fn an_edited_limit_reopens_a_study_and_an_edited_parameter_does_not_fit() {
    let sandbox = Sandbox::new(&Spec::default());
    sandbox.run(&[]).ended(0);
    sandbox.write(&Spec { fields: "maxTrials: 8\nparallelism: 1\nsampler: {random: {}}", ..Spec::default() }.text());
    sandbox.run(&[]).ended(0).says("8 trials finished");
    assert_eq!(sandbox.count("Succeeded"), 8);
    let other = Spec { fields: "maxTrials: 8\nseed: 3\nsampler: {grid: {}}", ..Spec::default() };
    sandbox.write(&other.text().replace("max: 1}", "max: 2, step: 1}"));
    let run = sandbox.run(&[]).ended(2).says("spec.parameters: differs").says("spec.sampler: differs");
    run.says("spec.seed: differs").says("--dir");
    sandbox.run(&["--dir", "elsewhere"]).ended(0);
    assert!(sandbox.path("elsewhere/study.yaml").exists());
}

#[test]
fn a_run_that_was_killed_leaves_no_trainer_behind_and_goes_on() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 8\nparallelism: 3\nsampler: {random: {}}",
        script: r#"
            echo run >> "starts-$SWEEP_TRIAL"
            if [ "$SWEEP_TRIAL_INDEX" -ge 2 ] && [ ! -e go ]; then
              echo '{"step": 1, "score": 9}' >> "$SWEEP_METRICS"; sleep 1000 & sleep 1000
            fi
            echo "{\"step\": 2, \"score\": $x}" >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let mut child = sandbox.start();
    eventually("three trials hang", || {
        sandbox.count("Succeeded") == 2 && (2..5).all(|i| sandbox.path(&format!("starts-t-000{i}")).exists())
    });
    let before = sandbox.trials();
    child.kill().unwrap();
    child.wait().unwrap();
    // Started at once: it waits for the trainers of the killed one.
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.run(&[]).ended(0).says("3 lost their process");
    let trials = sandbox.trials();
    assert_eq!(indices(&trials), (0..8).collect::<Vec<_>>());
    assert_eq!(sandbox.count("Succeeded"), 8);
    assert_eq!(trials[..2], before[..2], "what was finished stays as it is");
    for (i, trial) in trials.iter().enumerate() {
        let lost = u64::from((2..5).contains(&i));
        assert_eq!(trial["status"]["disruptions"].as_u64().unwrap_or(0), lost, "trial {i}");
        assert_eq!(trial["status"]["run"]["number"], 1 + lost, "trial {i}");
        assert_eq!(trial["status"]["observations"][0]["steps"], Value::from(vec![2]), "trial {i}");
        assert_eq!(trial["spec"]["assignments"], before.get(i).unwrap_or(trial)["spec"]["assignments"]);
        let starts = fs::read_to_string(sandbox.path(&format!("starts-t-000{i}"))).unwrap();
        assert_eq!(starts.lines().count() as u64, 1 + lost, "trial {i}");
    }
    assert_eq!(trials[2]["status"]["run"]["job"], "t-0002-r2");
}

#[test]
fn a_trainer_that_ignores_the_end_is_killed_with_the_run() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 1\nsampler: {random: {}}",
        script: "trap '' TERM; touch started; while true; do sleep 1; done",
        ..Spec::default()
    });
    let mut child = sandbox.start();
    eventually("it runs", || sandbox.path("started").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(sandbox.processes() > 0);
    eventually("it is killed", || sandbox.processes() == 0);
}

#[test]
fn nothing_of_a_trial_outlives_it_in_a_session_of_its_own_neither() {
    // One that ends well with such children, and grandchildren whose parent has gone; one that is pruned; one that fails.
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 3\nparallelism: 1\nsampler: {random: {}}\npruner: {median: {startupTrials: 1}}",
        script: r#"
            setsid sleep 1000 &
            setsid sh -c '(setsid sleep 1000 &) ; trap "" TERM; while true; do sleep 1; done' &
            (nohup setsid sleep 1000 > /dev/null 2>&1 &)
            [ "$SWEEP_TRIAL_INDEX" != 2 ] || exit 3
            echo "{\"step\": 1, \"score\": -$SWEEP_TRIAL_INDEX}" >> "$SWEEP_METRICS"
            [ "$SWEEP_TRIAL_INDEX" != 1 ] || sleep 1000"#,
        ..Spec::default()
    });
    let study = fs::read_to_string(sandbox.path("study.yaml")).unwrap();
    sandbox.write(&study.replace("containers:", "terminationGracePeriodSeconds: 1\n          containers:"));
    sandbox.run(&[]).ended(0);
    assert_eq!((sandbox.count("Succeeded"), sandbox.count("Pruned"), sandbox.count("Failed")), (1, 1, 1));
    // Not `eventually`: a trial has ended only when nothing of it is left.
    assert_eq!(sandbox.processes(), 0);
}

#[test]
fn a_child_with_a_session_of_its_own_is_told_to_end_before_it_is_killed() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 1\nsampler: {random: {}}",
        // The trainer ends at once, its child after some work.
        script: r#"
            setsid sh -c 'trap "sleep 0.3; touch saved; exit 0" TERM; touch ready; while true; do sleep 0.05; done' &
            trap 'echo told >> told; exit 0' TERM
            while true; do sleep 0.05; [ ! -e ready ] || touch started; done"#,
        ..Spec::default()
    });
    for kill in [false, true] {
        for file in ["saved", "ready", "started", "told"] {
            let _ = fs::remove_file(sandbox.path(file));
        }
        let mut child = sandbox.start();
        eventually("it runs", || sandbox.path("started").exists());
        signal(&child, if kill { Signal::KILL } else { Signal::TERM });
        child.wait().unwrap();
        eventually("all of it has ended", || sandbox.processes() == 0);
        assert!(sandbox.path("saved").exists(), "kill {kill}");
        assert_eq!(fs::read_to_string(sandbox.path("told")).unwrap(), "told\n", "each is told once");
    }
}

#[test]
fn a_supervisor_that_is_killed_leaves_nothing_of_its_trial_and_the_others_run_on() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 2\nparallelism: 2\nsampler: {random: {}}",
        script: r#"
            setsid sleep 1000 &
            echo $PPID > "supervisor-$SWEEP_TRIAL_INDEX"
            touch "started-$SWEEP_TRIAL_INDEX"
            [ "$SWEEP_TRIAL_INDEX" = 0 ] || sleep 1000
            while [ ! -e go ]; do sleep 0.05; done
            echo "{\"score\": $x}" >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let child = sandbox.start();
    eventually("both run", || (0..2).all(|i| sandbox.path(&format!("started-{i}")).exists()));
    let supervisor = fs::read_to_string(sandbox.path("supervisor-1")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::KILL).unwrap();
    eventually("its trial has failed", || sandbox.count("Failed") == 1);
    // `sweep run`, a supervisor, its trainer and that one's two children.
    eventually("what is left is of the other trial", || sandbox.processes() <= 5);
    fs::write(sandbox.path("go"), "").unwrap();
    Run::of(child.wait_with_output().unwrap()).ended(0).says("its supervisor was killed by signal 9");
    assert_eq!((sandbox.count("Succeeded"), sandbox.processes()), (1, 0));
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_costs_its_trials_nothing() {
    for (number, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let sandbox = Sandbox::new(&Spec {
            script: r#"
                touch "started-$SWEEP_TRIAL_INDEX"
                [ -e go ] || sleep 1000
                echo "{\"score\": $x}" >> "$SWEEP_METRICS""#,
            ..Spec::default()
        });
        let child = sandbox.start();
        eventually("all run", || (0..3).all(|i| sandbox.path(&format!("started-{i}")).exists()));
        signal(&child, number);
        let run = Run::of(child.wait_with_output().unwrap()).ended(130).says("sweep run study.yaml");
        assert_eq!(sandbox.processes(), 0, "{name}: {}", run.err);
        assert_eq!(sandbox.count("Pending"), 3);
        assert_eq!(sandbox.study()["status"]["conditions"][0]["reason"], "Interrupted");
        fs::write(sandbox.path("go"), "").unwrap();
        sandbox.run(&[]).ended(0);
        let trials = sandbox.trials();
        assert_eq!(trials.len(), 6);
        assert_eq!(trials[0]["status"]["run"]["number"], 2);
        assert!(trials.iter().all(|trial| trial["status"]["disruptions"].is_null()));
    }
}

#[test]
fn a_trainers_text_is_shown_as_a_terminal_shows_it_and_its_log_stays_as_it_wrote_it() {
    let printed = "20%|##| 1/5 [loss=0.1]\r40%|###| 2/5\r\x1b[31mout of\tmem\u{202e}ory\x1b[0m\x1b[2J\x1b]0;owned\x07";
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 1",
        metrics: "stdout",
        script: r#"printf '20%%|##| 1/5 [loss=0.1]\r40%%|###| 2/5\r\033[31mout of\tmem\342\200\256ory\033[0m\033[2J\033]0;owned\007'
exit 1"#,
    });
    let run = sandbox.run(&[]).ended(1).says("trial t-0000 failed: OutOfMemory: trainer exit code 1: out of memory\n");
    for text in [&run.out, &run.err] {
        assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    }
    let status = &sandbox.trials()[0]["status"];
    assert_eq!(status["message"], "OutOfMemory: trainer exit code 1: out of memory");
    assert_eq!(status["conditions"][0]["message"], "OutOfMemory: trainer exit code 1: out of memory");
    assert_eq!(status["logTail"], "out of memory");
    let log = fs::read_to_string(sandbox.state().join("logs/t-0000.log")).unwrap();
    assert!(log.ends_with(printed), "{log:?}");
}

#[test]
fn failing_trainers_fail_the_study_with_their_last_words() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 9\nmaxFailedTrials: 1\nsampler: {random: {}}",
        script: "echo first; echo 'ValueError: no data' >&2; exit 3",
        ..Spec::default()
    });
    sandbox
        .run(&[])
        .ended(1)
        .says("trial t-0000 failed: TrainerFailed: trainer exit code 3: ValueError: no data")
        .says("maxFailedTrials 1");
    let (study, trials) = (sandbox.study(), sandbox.trials());
    assert_eq!(trials.len(), 2);
    assert_eq!(trials[0]["status"]["conditions"][0]["reason"], "TrainerFailed");
    assert_eq!(trials[0]["status"]["logTail"], "first\nValueError: no data");
    assert_eq!(study["status"]["ended"]["reason"], "TooManyFailedTrials");
    let log = fs::read_to_string(sandbox.state().join("logs/t-0000.log")).unwrap();
    assert!(log.starts_with("=== t-0000 started ") && log.ends_with("ValueError: no data\n"), "{log}");
    // It has failed for good, until a limit is edited.
    sandbox.run(&[]).ended(1);
    assert_eq!(sandbox.trials(), trials);
}

#[test]
fn a_command_that_does_not_exist_and_a_crash_are_told_apart() {
    let fields = "maxTrials: 1\nmaxFailedTrials: 0\nsampler: {random: {}}";
    let sandbox = Sandbox::new(&Spec { fields, script: "kill -SEGV $$$$", ..Spec::default() });
    sandbox.run(&["--dir", "a", "--", "no-such-trainer", "--x=$(x)"]).ended(1).says("cannot start no-such-trainer");
    sandbox.run(&["--dir", "b"]).ended(1).says("trainer was killed by signal 11 (exit code 139)");
}

#[test]
fn a_missing_metric_is_explained() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 2\nmaxFailedTrials: 0\nsampler: {random: {}}",
        script: r#"echo '{"step": 1, "scores": 0.5, "loss": 2}' >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let run = sandbox.run(&[]).ended(1).says("MetricsMissing").says("without reporting score");
    run.says("other numbers there: loss, scores").says("metrics/t-0000-r1.jsonl");
    assert_eq!(sandbox.trials()[0]["status"]["conditions"][0]["reason"], "MetricsMissing");
}

/// A sandbox whose objective and metrics are others.
fn sandbox_with(spec: &Spec, objective: &str, metrics: &str) -> Sandbox {
    let sandbox = Sandbox::new(spec);
    let text = spec.text().replace("metric: score", &format!("metric: {objective}"));
    sandbox.write(&text.replace("metrics: {file: {}}", &format!("metrics: {metrics}")));
    fs::copy(EVENT_FILE, sandbox.path("events")).unwrap();
    sandbox
}

/// An event file of PyTorch's writer; its first 300 bytes hold the first step, and a part of the second.
const EVENT_FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/events/pytorch/events.out.tfevents.1700000000.host");

/// (phase, last step, value) of each trial.
fn results(sandbox: &Sandbox) -> Vec<(String, u64, f64)> {
    let result = |trial: &Value| {
        let status = &trial["status"];
        let objective = &status["objectives"][0];
        let phase = status["phase"].as_str().unwrap().to_owned();
        (phase, objective["step"].as_u64().unwrap_or(0), objective["value"].as_f64().unwrap_or(f64::NAN))
    };
    sandbox.trials().iter().map(result).collect()
}

#[test]
fn event_files_in_the_folder_of_each_trial_are_read_and_a_pruner_sees_them_while_they_grow() {
    let spec = Spec {
        fields: "maxTrials: 4\nparallelism: 2\nmaxFailedTrials: 0\nsampler: {random: {}}",
        script: r#"
            mkdir "$SWEEP_METRICS/run"
            file="$SWEEP_METRICS/run/events.out.tfevents.1700000000.host"
            head -c 300 events > "$file"; sleep 0.5; tail -c +301 events >> "$file""#,
        ..Spec::default()
    };
    let sandbox = sandbox_with(&spec, "val/accuracy", "{tensorBoard: {}}");
    sandbox.run(&[]).ended(0);
    assert_eq!(results(&sandbox), vec![("Succeeded".to_owned(), 5, 0.8); 4]);
    let status = &sandbox.trials()[0]["status"];
    let others: Vec<&str> =
        status["metrics"].as_sequence().unwrap().iter().map(|metric| metric["name"].as_str().unwrap()).collect();
    assert_eq!(others, ["loss/train"]);
    assert_eq!(status["observations"][0]["steps"].as_sequence().unwrap().len(), 5);
}

#[test]
fn trials_that_run_one_after_the_other_may_write_event_files_to_one_folder() {
    let spec = Spec {
        fields: "maxTrials: 3\nparallelism: 1\nmaxFailedTrials: 0\nsampler: {random: {}}",
        script: r#"
            mkdir -p logs; file="logs/events.out.tfevents.170000000$SWEEP_TRIAL_INDEX.host"
            if [ "$SWEEP_TRIAL_INDEX" = 1 ]; then head -c 300 events > "$file"; else cp events "$file"; fi"#,
        ..Spec::default()
    };
    let sandbox = sandbox_with(&spec, "val/accuracy", "");
    let path = sandbox.path("logs").display().to_string();
    let text = fs::read_to_string(sandbox.path("study.yaml")).unwrap();
    let text = text.replace("metrics: \n", &format!("metrics: {{tensorBoard: {{path: {path}}}}}\n"));
    sandbox.write(&text);
    sandbox.run(&[]).ended(0);
    let found = results(&sandbox);
    assert_eq!((&found[0], &found[2]), (&("Succeeded".to_owned(), 5, 0.8), &("Succeeded".to_owned(), 5, 0.8)));
    assert!(found[1].0 == "Succeeded" && found[1].1 < 5, "{found:?}");

    sandbox
        .write(&text.replace("parallelism: 1", "parallelism: 2").replace("maxFailedTrials: 0", "maxFailedTrials: 9"));
    let run = sandbox.run(&["--dir", "at-once"]);
    run.ended(1)
        .says(&format!("spec.metrics.tensorBoard.path (trials that run at once would share {path}"))
        .says("MetricsMissing: the trainer ended without reporting val/accuracy; looked for the tag val/accuracy in event files")
        .says("there are no event files");
}

#[test]
fn a_tag_that_is_missing_is_told_with_those_that_there_are() {
    let spec = Spec {
        fields: "maxTrials: 1\nmaxFailedTrials: 0\nsampler: {random: {}}",
        script: r#"cp events "$SWEEP_METRICS/events.out.tfevents.1.host""#,
        ..Spec::default()
    };
    let sandbox = sandbox_with(&spec, "accuracy", "{tensorBoard: {}}");
    let run = sandbox.run(&[]).ended(1);
    run.says("looked for the tag accuracy in event files in the folder $SWEEP_METRICS (")
        .says("; there are the tags val/accuracy, loss/train; did you mean val/accuracy?");
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Answers requests at `port` with one page after the other, each until it was read; then touches the file `done`.
fn serve(port: u16, started: &Path, pages: &[&str], done: &Path) {
    use std::io::{Read, Write};
    let limit = Instant::now() + LIMIT;
    while !started.exists() {
        assert!(Instant::now() < limit, "the trainer did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    for page in pages {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{page}").as_bytes()).unwrap();
    }
    // What the last page says is read before the trainer ends.
    std::thread::sleep(Duration::from_millis(300));
    fs::write(done, "").unwrap();
}

#[test]
fn a_page_of_metrics_is_read_while_the_trainer_runs() {
    let spec = Spec {
        fields: "maxTrials: 1\nsampler: {random: {}}",
        script: r#"[ "$SWEEP_METRICS_PORT" -gt 0 ]; touch started; while [ ! -e done ]; do sleep 0.05; done"#,
        ..Spec::default()
    };
    let port = free_port();
    let sandbox = sandbox_with(&spec, "score", &format!("{{prometheus: {{port: {port}}}}}"));
    let (started, done) = (sandbox.path("started"), sandbox.path("done"));
    let server = std::thread::spawn(move || {
        let pages = ["epoch_total 1\nscore 0.5\nloss 3\n", "epoch_total 2\nscore 0.7\nloss 2\n"];
        serve(port, &started, &pages, &done);
    });
    sandbox.run(&[]).ended(0);
    server.join().unwrap();
    assert_eq!(results(&sandbox), [("Succeeded".to_owned(), 2, 0.7)]);
    assert_eq!(sandbox.trials()[0]["status"]["metrics"][0]["name"], "loss");
}

#[test]
fn a_page_that_is_missing_is_told_and_so_is_one_that_trials_would_share() {
    let spec = Spec {
        fields: "maxTrials: 2\nparallelism: 2\nmaxFailedTrials: 0\nsampler: {random: {}}",
        script: "echo \"port $SWEEP_METRICS_PORT\"; sleep 0.2",
        ..Spec::default()
    };
    let port = free_port();
    let metrics = format!("{{prometheus: {{port: {port}}}}}");
    let sandbox = sandbox_with(&spec, "score", &metrics);
    let run = sandbox.run(&[]).ended(1);
    run.says(&format!(
        "spec.metrics.prometheus.port (trials that run at once cannot share {port}: each is to listen on"
    ))
    .says("looked for the metric score at http://127.0.0.1:")
    .says("; nobody listens there");
    let ports = ["t-0000", "t-0001"].map(|trial| {
        let log = fs::read_to_string(sandbox.state().join(format!("logs/{trial}.log"))).unwrap();
        log.lines().last().unwrap().to_owned()
    });
    assert!(ports[0] != ports[1] && ports.iter().all(|said| !said.ends_with(&port.to_string())), "{ports:?}");

    let spec = Spec { fields: "maxTrials: 1\nsampler: {random: {}}", ..spec };
    let sandbox = sandbox_with(&spec, "score", &metrics);
    let _other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let said =
        format!("cannot start trial t-0000: port {port} of spec.metrics.prometheus is in use by another program");
    sandbox.run(&[]).ended(1).says(&said);
}

#[test]
fn a_trial_that_ends_with_nan_has_failed_and_is_never_the_best() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 3\nmaxFailedTrials: 0\nparallelism: 1\nsampler: {random: {}}",
        metrics: "stdout",
        script: r#"
            case "$SWEEP_TRIAL_INDEX" in
              0) echo "epoch 1 score=7"; echo "epoch 2 score=9"; echo "epoch 3 score=nan"; echo "epoch 4 score=-inf";;
              1) echo "epoch 1 score=8"; echo "epoch 2 score=nan"; echo "score is NaN, aborting"; exit 1;;
              *) echo "epoch 1 score=1";;
            esac"#,
    });
    let run = sandbox.run(&[]).ended(0);
    run.says("trial t-0000 failed: NotANumber: score was NaN or infinite from step 3 on (last number: 9 at step 2)")
        .says("trial t-0001 failed: TrainerFailed: trainer exit code 1: score is NaN, aborting; score was NaN or infinite from step 2 on")
        .says("best score 1 of t-0002");
    let trials = sandbox.trials();
    assert_eq!(trials[0]["status"]["conditions"][0]["reason"], "NotANumber");
    assert_eq!(trials[0]["status"]["objectives"], Value::Null);
    assert_eq!(trials[1]["status"]["conditions"][0]["reason"], "TrainerFailed");
    let status = &sandbox.study()["status"];
    assert_eq!((&status["best"]["trial"], &status["trials"]["failed"]), (&"t-0002".into(), &2.into()));
}

#[test]
fn with_best_a_trial_that_ends_with_nan_keeps_its_best() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 1\nsampler: {random: {}}",
        script: r#"printf '{"score": 7}\n{"score": 9}\n{"score": NaN}\n' >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let study = fs::read_to_string(sandbox.path("study.yaml")).unwrap();
    sandbox.write(&study.replace("direction: Maximize}", "direction: Maximize, value: Best}"));
    sandbox
        .run(&[])
        .ended(0)
        .says("trial t-0000 succeeded: score 9 (step 2); score was NaN or infinite from step 3 on");
}

#[test]
fn a_study_whose_first_trials_all_diverge_fails_and_says_what_to_do() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 30\nparallelism: 2\nsampler: {random: {}}",
        script: r#"printf '{"score": 1}\n{"score": NaN}\n' >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let run = sandbox.run(&[]).ended(1).says("the study failed: the first 10 trials have all diverged: score was NaN");
    run.says("lower max of the learning rate");
    assert_eq!(sandbox.study()["status"]["ended"]["reason"], "TrialsDiverged");
    // Latched.
    sandbox.run(&[]).ended(1).says("the first 10 trials have all diverged");
}

#[test]
fn python_prints_at_once_unless_the_template_says_otherwise() {
    let spec = Spec {
        fields: "maxTrials: 1\nsampler: {random: {}}",
        script: r#"echo "{\"score\": ${PYTHONUNBUFFERED:-0}}" >> "$SWEEP_METRICS""#,
        ..Spec::default()
    };
    let sandbox = Sandbox::new(&spec);
    sandbox.run(&[]).ended(0).says("succeeded: score 1 ");
    let own = "              image: none\n              env: [{name: PYTHONUNBUFFERED, value: \"\"}]\n";
    let sandbox = Sandbox::new(&spec);
    sandbox.write(&spec.text().replace("              image: none\n", own));
    sandbox.run(&[]).ended(0).says("succeeded: score 0 ");
}

#[test]
fn a_pruner_whose_rungs_the_steps_never_meet_says_so_once_and_in_the_condition() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 4\nparallelism: 1\nsampler: {random: {}}\npruner: {hyperband: {minSteps: 1, maxSteps: 9}}",
        metrics: "stdout",
        script: r#"for i in 1000 2000 9000; do echo "step $i score=$x"; done"#,
    });
    let why = "steps begin at 1000, and maxSteps is 9: nothing can ever be pruned";
    let run = sandbox.run(&[]).ended(0);
    assert_eq!(run.err.matches(why).count(), 1, "{}", run.err);
    let conditions = sandbox.study()["status"]["conditions"].as_sequence().unwrap().clone();
    let idle = conditions.iter().find(|condition| condition["type"] == "PrunerIdle").unwrap();
    assert_eq!((&idle["status"], &idle["message"]), (&"True".into(), &why.into()));
}

#[test]
fn a_metric_without_a_sign_between_its_name_and_the_number_is_quoted() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 1\nsampler: {random: {}}",
        metrics: "stdout",
        script: r#"echo "step 250: train score 2.41, val score 2.52""#,
    });
    sandbox.run(&[]).ended(1).says(
        "not read: \"step 250: train score 2.41, val score 2.52\": neither = nor : stands between score and the number",
    );
}

#[test]
fn a_losing_trial_is_pruned_while_it_runs() {
    // Trial 0 to 2 finish well; trial 3 reports a bad value at step 1, and then waits to be stopped.
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 4\nparallelism: 1\nsampler: {random: {}}\npruner: {median: {startupTrials: 3}}",
        script: r#"
            if [ "$SWEEP_TRIAL_INDEX" = 3 ]; then
              echo '{"step": 1, "score": 0}' >> "$SWEEP_METRICS"; sleep 1000; exit 1
            fi
            echo '{"step": 1, "score": 5}' >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    sandbox.run(&[]).ended(0).says("trial t-0003 pruned at step 1: 0, worse than the median 5 of 3 trials");
    let pruned = &sandbox.trials()[3];
    assert_eq!(pruned["status"]["phase"], "Pruned");
    assert_eq!(pruned["spec"]["desiredState"], "Stopped");
    assert_eq!(pruned["spec"]["stop"]["reason"], "Pruned");
    assert_eq!(pruned["spec"]["stop"]["step"], 1);
    assert_eq!(pruned["status"]["observations"][0]["values"], Value::from(vec![0.0]));
    assert_eq!(sandbox.study()["status"]["trials"]["pruned"], 1);
}

#[test]
fn a_reached_target_stops_what_still_runs() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 10\nparallelism: 3\nsampler: {random: {}}",
        script: r#"
            echo '{"step": 1, "score": 0.5}' >> "$SWEEP_METRICS"
            [ "$SWEEP_TRIAL_INDEX" = 1 ] || sleep 1000"#,
        ..Spec::default()
    });
    let text = Spec { ..Spec::default() }.text();
    assert!(text.contains("direction: Maximize}"));
    let study = fs::read_to_string(sandbox.path("study.yaml")).unwrap();
    sandbox.write(&study.replace("direction: Maximize}", "direction: Maximize, target: 0.5}"));
    sandbox
        .run(&[])
        .ended(0)
        .says("target 0.5 reached")
        .says("trial t-0000 stopped: TargetReached: the study has ended");
    assert_eq!((sandbox.count("Succeeded"), sandbox.count("Stopped")), (1, 2));
}

#[test]
fn a_gpu_is_never_shared() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 8\nparallelism: 4\nsampler: {random: {}}\ngpu: {count: 2}",
        // mkdir is atomic: the second user of a GPU fails.
        script: r#"
            set -e
            echo "GPUs $CUDA_VISIBLE_DEVICES"
            a=${CUDA_VISIBLE_DEVICES%,*}; b=${CUDA_VISIBLE_DEVICES#*,}
            [ "$a" != "$b" ]
            mkdir "gpu-$a"; mkdir "gpu-$b"
            sleep 0.2
            rmdir "gpu-$a" "gpu-$b"
            echo "{\"score\": $x}" >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let run = sandbox.run(&["--gpus", "0,1,2,5,7"]).ended(0).says("(GPU 0,1)");
    run.says("waits: not enough free GPUs: a trial needs 2 of the 5 listed");
    assert_eq!(sandbox.count("Succeeded"), 8);
    sandbox.run(&["--gpus", "0", "--dir", "few"]).ended(2).says("spec.gpu.count: is 2, but --gpus lists only 1");
    sandbox.run(&["--gpus", "0,0,1", "--dir", "few"]).ended(2).says("lists 0 twice");
    assert!(!sandbox.path("few").exists());
}

#[test]
fn every_problem_of_the_input_is_told() {
    let sandbox = Sandbox::new(&Spec { fields: "maxTrials: 0\nparalelism: 3", ..Spec::default() });
    sandbox.run(&[]).ended(2).says("spec.paralelism").says("spec.maxTrials").says("has 2 problems");
    sandbox.write(&Spec::default().text().replace("command:", "args:"));
    let run = sandbox.run(&[]).ended(2);
    run.says("spec.jobTemplate.spec.template.spec.containers[0].command: is needed for a local run");
    assert!(!sandbox.path(".sweep").exists());
    sandbox.run(&["--", "sh", "-c", r#"echo "{\"score\": $(x)}" > "$SWEEP_METRICS""#]).ended(0);
    assert_eq!(sandbox.count("Succeeded"), 6);
}

#[test]
fn references_that_mean_no_parameter_are_told_before_anything_starts() {
    let spec = Spec { fields: "maxTrials: 1\nsampler: {random: {}}", ..Spec::default() };
    let sandbox = Sandbox::new(&spec);
    let typo = ["--", "python3", "train.py", "--x=$(x.)"];
    sandbox.run(&typo).ended(2).says("COMMAND[2]: $(x.) is no parameter").says("did you mean $(x)?");
    assert!(!sandbox.path(".sweep").exists());
    let path = "spec.jobTemplate.spec.template.spec.containers[0]";
    sandbox.write(&spec.text().replace("command:", "args: ['$(RANK)', '$x']\n              command:"));
    let run = sandbox.run(&[]).ended(0).says(&format!("warning: {path}.args[0]: $(RANK) stays as it is"));
    run.says(&format!("warning: {path}.args[1]: $x stays as it is, since no shell reads it: write $(x)"));
    let conditions = &sandbox.study()["status"]["conditions"];
    assert!(conditions.as_sequence().unwrap().iter().any(|condition| condition["type"] == "SpecWarning"));
}

#[test]
fn what_a_local_run_leaves_out_is_told_once_at_its_start() {
    let spec = Spec { fields: "maxTrials: 2\nsampler: {random: {}}\ngpu: {count: 1}", ..Spec::default() };
    let sandbox = Sandbox::new(&spec);
    let extra = "initContainers: [{name: fetch, image: i}]\n          volumes: [{name: v, emptyDir: {}}]\n          containers:";
    let trainer = "workingDir: /app\n              envFrom: [{configMapRef: {name: c}}]\n              command:";
    sandbox.write(&spec.text().replace("containers:", extra).replace("command:", trainer));
    let run = sandbox.run(&[]).ended(0);
    let notes: Vec<&str> = run.err.lines().filter(|line| line.starts_with("note:")).collect();
    let pod = "spec.jobTemplate.spec.template.spec";
    assert_eq!(
        notes,
        [format!(
            "note: a local run leaves out of the Study: spec.gpu (every trial sees all GPUs: --gpus 0,1,… hands them out); \
             {pod}.initContainers (they are not run); {pod}.volumes (nothing is mounted); \
             {pod}.containers[0].workingDir (trials start here, not in /app); \
             {pod}.containers[0].envFrom[0] (the ConfigMap c sets nothing here: export what is needed of it)"
        )]
    );
    let plain = Sandbox::new(&Spec { fields: "maxTrials: 1\nsampler: {random: {}}", ..Spec::default() });
    assert!(!plain.run(&[]).ended(0).err.contains("note:"));
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let sandbox = Sandbox::new(&Spec {
        script: r#"touch started; while [ ! -e go ]; do sleep 0.05; done; echo "{\"score\": $x}" >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let child = sandbox.start();
    eventually("it runs", || sandbox.path("started").exists());
    sandbox.run(&[]).ended(1).says(&format!("process {}", child.id()));
    fs::write(sandbox.path("go"), "").unwrap();
    Run::of(child.wait_with_output().unwrap()).ended(0);
}

#[test]
fn metrics_are_found_in_the_output_of_this_run_only() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 2\nparallelism: 2\nsampler: {random: {}}",
        metrics: "stdout",
        script: r#"
            [ -z "$SWEEP_METRICS" ] || exit 1
            if [ ! -e go ]; then echo "step 50: score=100"; touch "started-$SWEEP_TRIAL_INDEX"; sleep 1000; fi
            echo "starting up"
            for step in 1 2 3; do echo "step $step: loss=2 score=0.$step"; done"#,
    });
    let mut child = sandbox.start();
    eventually("both run", || (0..2).all(|i| sandbox.path(&format!("started-{i}")).exists()));
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(sandbox.path("go"), "").unwrap();
    sandbox.run(&[]).ended(0);
    for trial in sandbox.trials() {
        assert_eq!(trial["status"]["objectives"][0]["value"], 0.3);
        assert_eq!(trial["status"]["observations"][0]["steps"], Value::from(vec![1, 2, 3]));
    }
    let log = fs::read_to_string(sandbox.state().join("logs/t-0001.log")).unwrap();
    assert!(log.contains("=== t-0001 started") && log.contains("=== t-0001-r2 started"), "{log}");
}

#[test]
fn one_seed_gives_one_sweep() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 5\nparallelism: 1\nseed: 11\nsampler: {random: {}}",
        ..Spec::default()
    });
    let assignments = |dir: &str| -> Vec<Value> {
        sandbox.run(&["--dir", dir]).ended(0);
        let read = |i| fs::read_to_string(sandbox.path(&format!("{dir}/trials/t-000{i}.yaml"))).unwrap();
        (0..5).map(|i| serde_yaml::from_str::<Value>(&read(i)).unwrap()["spec"]["assignments"].clone()).collect()
    };
    assert_eq!(assignments("a"), assignments("b"));
}

#[test]
fn the_environment_is_that_of_a_job() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 1\nsampler: {random: {}}",
        script: r#"
            echo "$SWEEP_STUDY $SWEEP_TRIAL $SWEEP_TRIAL_INDEX $MODE $FROM $TOKEN" '$$(x)'
            echo "$SWEEP_PARAMETERS"
            echo "{\"score\": $(x)}" >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    let study = fs::read_to_string(sandbox.path("study.yaml")).unwrap();
    let env = "env:
                - {name: MODE, value: 'fast-$(SWEEP_TRIAL)'}
                - {name: FROM, value: '$$(x)'}
                - {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}
                - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
              command:";
    sandbox.write(&study.replacen("command:", env, 1));
    let output = sandbox.command(&[]).env("TOKEN", "secret").output().unwrap();
    let run = Run::of(output).ended(0).says("env[3].valueFrom (NODE is unset here");
    assert!(!run.err.contains("TOKEN"), "{}", run.err);
    let trial = &sandbox.trials()[0];
    let tail = trial["status"]["logTail"].as_str().unwrap();
    let x = trial["spec"]["assignments"]["x"].as_str().unwrap();
    assert_eq!(tail, format!("t t-0000 0 fast-t-0000 $(x) secret $(x)\n{{\"x\":{x}}}"));
}

#[test]
fn a_held_back_study_starts_nothing_and_does_not_hang() {
    for (fields, says) in [
        ("maxTrials: 2\nsuspend: true\nsampler: {random: {}}", "suspended"),
        ("maxTrials: 2\nparallelism: 0\nsampler: {random: {}}", "parallelism is 0"),
    ] {
        let sandbox = Sandbox::new(&Spec { fields, ..Spec::default() });
        sandbox.run(&[]).ended(0).says("nothing starts: ").says(says);
        assert!(sandbox.trials().is_empty());
    }
}

#[test]
fn a_trial_that_reports_nothing_for_too_long_has_failed_and_its_trainer_is_ended() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 3\nparallelism: 3\nreportTimeout: 2s\nsampler: {random: {}}",
        script: r#"
            echo "{\"step\": 7, \"score\": $x}" >> "$SWEEP_METRICS"
            echo "seven steps done"
            [ "$SWEEP_TRIAL_INDEX" != 1 ] || sleep 1000"#,
        ..Spec::default()
    });
    sandbox.run(&[]).ended(0);
    assert_eq!((sandbox.count("Succeeded"), sandbox.count("Failed")), (2, 1));
    let status = &sandbox.trials()[1]["status"];
    assert_eq!(
        status["message"].as_str().unwrap(),
        "ReportTimeout: stopped as hung: nothing was reported for 2s (spec.reportTimeout) after step 7"
    );
    assert_eq!(status["conditions"][0]["reason"].as_str(), Some("ReportTimeout"));
    assert_eq!(status["logTail"].as_str(), Some("seven steps done"));
    assert_eq!(status["observations"][0]["steps"][0].as_u64(), Some(7));
}

#[test]
fn a_trial_that_outlives_its_deadline_has_failed_and_its_trainer_is_ended() {
    for (job, pod, says) in [
        ("activeDeadlineSeconds: 1", "activeDeadlineSeconds: 60", "Job was active longer than specified deadline"),
        ("activeDeadlineSeconds: 60", "activeDeadlineSeconds: 1", "Pod was active on the node longer than"),
        ("backoffLimit: 0", "activeDeadlineSeconds: 1", "Pod was active on the node longer than"),
    ] {
        let sandbox = Sandbox::new(&Spec {
            fields: "maxTrials: 2\nparallelism: 2\nsampler: {random: {}}",
            script: r#"
                echo "{\"step\": 7, \"score\": $x}" >> "$SWEEP_METRICS"
                echo "seven steps done"
                [ "$SWEEP_TRIAL_INDEX" != 1 ] || sleep 1000"#,
            ..Spec::default()
        });
        let study = fs::read_to_string(sandbox.path("study.yaml")).unwrap();
        let study = study.replace("      template:\n", &format!("      {job}\n      template:\n"));
        sandbox.write(&study.replace("          containers:", &format!("          {pod}\n          containers:")));
        sandbox.run(&[]).ended(0).says("trial t-0001 failed: DeadlineExceeded: ").says(says);
        assert_eq!((sandbox.count("Succeeded"), sandbox.count("Failed"), sandbox.processes()), (1, 1, 0));
        let status = &sandbox.trials()[1]["status"];
        assert!(status["message"].as_str().unwrap().ends_with("specified deadline: seven steps done"), "{status:?}");
        assert_eq!(status["conditions"][0]["reason"].as_str(), Some("DeadlineExceeded"));
        assert_eq!(status["observations"][0]["steps"][0].as_u64(), Some(7));
    }
}

#[test]
fn a_duration_that_is_over_ends_the_study_and_its_trainers() {
    let sandbox = Sandbox::new(&Spec {
        fields: "maxTrials: 5\nparallelism: 2\nmaxDuration: 2s\nsampler: {random: {}}",
        script: r#"[ "$SWEEP_TRIAL_INDEX" = 0 ] || sleep 1000; echo "{\"score\": $x}" >> "$SWEEP_METRICS""#,
        ..Spec::default()
    });
    sandbox.run(&[]).ended(0).says("maxDuration reached");
    assert_eq!((sandbox.count("Succeeded"), sandbox.count("Stopped")), (1, 2));
}

/// What a trainer printed, and how its trial ended: steps, values, and what the console says of its end and beside it.
struct Printed {
    objective: &'static str,
    metrics: &'static str,
    log: &'static str,
    ends: &'static str,
    steps: &'static [u64],
    values: &'static [f64],
    says: &'static str,
}

#[test]
fn lines_of_trainers_are_read_whole_or_refused_and_told() {
    const PLAIN: &str = "{stdout: {}}";
    let cases = [
        Printed {
            objective: "{metric: reward, direction: Maximize}",
            metrics: PLAIN,
            log: "episode 10: reward=1,234.5\nepisode 20: reward=2,345.5",
            ends: "MetricsMissing",
            steps: &[],
            values: &[],
            says: r#"2 values that are no numbers, such as "episode 10: reward=1,234.5""#,
        },
        Printed {
            objective: "{metric: Accuracy, direction: Maximize}",
            metrics: PLAIN,
            log: "Test set: Average loss: 0.06, Accuracy: 9810/10000 (98%)\nAccuracy: 0.9",
            ends: "Accuracy 0.9 (step 1)",
            steps: &[1],
            values: &[0.9],
            says: r#"trial t-0000: dropped 1 value that is no number, such as "Test set: Average loss: 0.06, Accuracy: 9810/10000 (98%)""#,
        },
        Printed {
            objective: "{metric: eval_accuracy, direction: Maximize}",
            metrics: PLAIN,
            log: "{'loss': 0.71, 'epoch': 0.16}\n{'eval_accuracy': 0.71, 'epoch': 0.32}\n{'eval_accuracy': 0.86, 'epoch': 0.97}",
            ends: "eval_accuracy 0.86 (step 2)",
            steps: &[1, 2],
            values: &[0.71, 0.86],
            says: "trial t-0000: steps are counted by reports, since epoch is no whole number in",
        },
        Printed {
            objective: "{metric: acc, direction: Maximize, value: Best}",
            metrics: PLAIN,
            log: "epoch 1 batch 100 acc=0.70\nepoch 1 batch 200 acc=0.90\nepoch 1 batch 300 acc=0.20\nepoch 2 batch 100 acc=0.30",
            ends: "acc 0.9 (step 1)",
            steps: &[1, 2],
            values: &[0.9, 0.3],
            says: "succeeded",
        },
        Printed {
            objective: "{metric: acc, direction: Maximize}",
            metrics: PLAIN,
            log: r#"[{"step":1,"acc":0.1},{"step":2,"acc":0.2}]"#,
            ends: "acc 0.2 (step 2)",
            steps: &[1, 2],
            values: &[0.1, 0.2],
            says: "succeeded",
        },
        Printed {
            objective: "{metric: auc, direction: Maximize}",
            metrics: PLAIN,
            log: "fold 1 epoch 1 auc=0.11\nfold 1 epoch 2 auc=0.12\nfold 2 epoch 1 auc=0.21\nfold 2 epoch 2 auc=0.22\nfold 3 epoch 1 auc=0.31",
            ends: "auc 0.22 (step 2)",
            steps: &[1, 2],
            values: &[0.11, 0.22],
            says: r#"dropped 2 values at a lower step than the one before, such as "fold 2 epoch 1 auc=0.21""#,
        },
        Printed {
            objective: "{metric: rmse, direction: Minimize}",
            metrics: r#"{stdout: {patterns: ['^\[(?P<step>[0-9]+)\].*valid_1.s rmse: (?P<rmse>[0-9.]+)']}}"#,
            log: "[100]\ttraining's rmse: 3.17\tvalid_1's rmse: 2.83\n[200]\ttraining's rmse: 2.91\tvalid_1's rmse: 2.95",
            ends: "rmse 2.95 (step 200)",
            steps: &[100, 200],
            values: &[2.83, 2.95],
            says: "succeeded",
        },
        Printed {
            objective: "{metric: loss, direction: Minimize, value: Best}",
            metrics: PLAIN,
            log: "epoch 1 loss=0.2\nepoch 2 loss=nan",
            ends: "loss 0.2 (step 1)",
            steps: &[1],
            values: &[0.2],
            says: r#"trial t-0000: dropped 1 non-finite value, such as "epoch 2 loss=nan""#,
        },
    ];
    for case in cases {
        let text = Spec { fields: "maxTrials: 1", script: "cat trainer.log", ..Spec::default() }.text();
        let text = text.replace("{metric: score, direction: Maximize}", case.objective);
        let sandbox = Sandbox::new(&Spec::default());
        sandbox.write(&text.replace("{file: {}}", case.metrics));
        fs::write(sandbox.path("trainer.log"), case.log).unwrap();
        Run::of(sandbox.command(&[]).output().unwrap()).says(case.ends).says(case.says);
        let status = &sandbox.trials()[0]["status"];
        let list = |field: &str| status["observations"][0][field].as_sequence().cloned().unwrap_or_default();
        assert_eq!(
            list("steps").iter().map(|step| step.as_u64().unwrap()).collect::<Vec<_>>(),
            case.steps,
            "{}",
            case.log
        );
        assert_eq!(list("values").iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>(), case.values, "{}", case.log);
    }
}
