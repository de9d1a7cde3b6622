//! A trial as a process: what is started, and what is known of it while it runs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use rustix::process::Pid;
use serde_json::Value;
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc::UnboundedSender;

use super::expand::expand;
use super::left_out::LeftOut;
use super::records;
use super::state::Folder;
use crate::core;
use crate::core::life::{End, Fault, How, Reason, RunSeen, Stage};
use crate::job::{Deadline, Source, Template};
use crate::metrics::{FileFollower, FollowedLine, Grammar, Parser, Readings, Times};
use crate::validate::{Problem, Problems};

/// How much of a log's end, and of a metrics file's beginning, is looked at when a trial has ended.
const EXCERPT: u64 = 64 * 1024;

/// What every trial starts: the command line and the template's own variables, nothing expanded yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    command: Vec<String>,
    environment: Vec<(String, String)>,
    /// Variables that only a cluster could resolve and the user's environment does not hold.
    pub unresolved: Vec<LeftOut>,
}

impl Launch {
    /// What the trainer's container starts, or `instead` of its command and arguments.
    ///
    /// # Errors
    /// There is nothing to start.
    pub fn new(
        template: &Template,
        instead: &[String],
        user: impl Fn(&str) -> Option<String>,
    ) -> Result<Launch, Vec<Problem>> {
        let mut problems = Problems::default();
        let trainer = template.trainer();
        let path = template.trainer_path();
        let command = if instead.is_empty() {
            let mut command = strings(&trainer["command"], &format!("{path}.command"), &mut problems);
            if command.is_empty() {
                problems.add(
                    format!("{path}.command"),
                    "is needed for a local run: the image's own entrypoint is not known here. Add it, or give one after `--`",
                );
            }
            command.extend(strings(&trainer["args"], &format!("{path}.args"), &mut problems));
            command
        } else {
            instead.to_vec()
        };
        let (mut environment, mut unresolved) = (Vec::new(), Vec::new());
        for (i, variable) in trainer["env"].as_array().into_iter().flatten().enumerate() {
            let Some(name) = variable["name"].as_str().filter(|name| !name.is_empty() && !name.contains(['=', '\0']))
            else {
                problems.add(format!("{path}.env[{i}].name"), "a variable needs a name");
                continue;
            };
            if variable["valueFrom"].is_null() {
                environment.push((name.to_owned(), variable["value"].as_str().unwrap_or_default().to_owned()));
            } else if let Some(value) = user(name) {
                // As a value that is looked up, it is not expanded.
                environment.push((name.to_owned(), value.replace('$', "$$")));
            } else {
                let instead = format!("{name} is unset here, unless you export it");
                unresolved.push(LeftOut { path: format!("{path}.env[{i}].valueFrom"), instead });
            }
        }
        for (i, source) in trainer["envFrom"].as_array().into_iter().flatten().enumerate() {
            let kinds = [("configMapRef", "ConfigMap"), ("secretRef", "Secret")];
            let named = kinds.into_iter().find_map(|(key, kind)| Some((kind, source[key]["name"].as_str()?)));
            let what = named.map_or("it".to_owned(), |(kind, name)| format!("the {kind} {name}"));
            let instead = format!("{what} sets nothing here: export what is needed of it");
            unresolved.push(LeftOut { path: format!("{path}.envFrom[{i}]"), instead });
        }
        let problems = problems.into_vec();
        if problems.is_empty() { Ok(Launch { command, environment, unresolved }) } else { Err(problems) }
    }

    /// The command line and the environment of a trial. `ours` stands first, so that the template's may refer to it.
    pub fn prepare(&self, ours: &[(String, String)]) -> (Vec<String>, BTreeMap<String, String>) {
        let mut environment: BTreeMap<String, String> = ours.iter().cloned().collect();
        for (name, value) in &self.environment {
            let value = expand(value, |name| environment.get(name).map(String::as_str));
            environment.insert(name.clone(), value);
        }
        let variable = |name: &str| environment.get(name).map(String::as_str);
        let command = self.command.iter().map(|argument| expand(argument, variable)).collect();
        (command, environment)
    }
}

fn strings(list: &Value, path: &str, problems: &mut Problems) -> Vec<String> {
    let mut texts = Vec::new();
    for (i, item) in list.as_array().into_iter().flatten().enumerate() {
        match item.as_str() {
            Some(text) => texts.push(text.to_owned()),
            None => problems.add(format!("{path}[{i}]"), format!("{item} is not a string: put it in quotes")),
        }
    }
    texts
}

/// A run of a trial to be started: where it reads and writes.
#[derive(Clone, Debug)]
pub struct Spawn<'a> {
    /// The folder of the sweep.
    pub folder: &'a Folder,
    /// The trial's index.
    pub index: u32,
    /// The trial's name.
    pub trial: &'a str,
    /// The run's number.
    pub number: u32,
    /// The command line.
    pub command: &'a [String],
    /// The variables on top of the user's environment.
    pub environment: &'a BTreeMap<String, String>,
    /// Where metrics are found.
    pub source: Source,
    /// What lines with metrics look like.
    pub grammar: &'a Arc<Grammar>,
    /// How many seconds the trainer may take to end once it was told to.
    pub grace: u64,
}

/// A trainer that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its trial.
    pub index: u32,
    /// How.
    pub exit: Exit,
    /// When.
    pub at: Timestamp,
}

/// How a trainer's process ended, as its supervisor saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An exit code; 128 + signal where it was killed.
    Code(i32),
    /// The supervisor itself was killed by this signal.
    SupervisorKilled(i32),
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It runs.
    Runs,
    /// It runs for longer than its template allows.
    Overdue(Deadline),
    /// It has ended.
    Ended(Exit, Timestamp),
    /// It was ended by a person who interrupts the sweep.
    Interrupted,
}

/// The process of the run `name`, which was started at `began`, as a run.
pub fn run_seen(name: &str, began: Timestamp, progress: Progress, now: Timestamp) -> RunSeen {
    let ended = |how: How, at: Timestamp| {
        Stage::Ended(End {
            at,
            failed: how != How::Succeeded,
            how,
            is_settled: true,
            awaits_reports: true,
            trainer_began: Some(began),
            trainer_ended: Some(at),
            is_noted: true,
        })
    };
    let stage = match progress {
        Progress::Runs => Stage::Running { since: began, is_leaving: false, stuck: None },
        // In the words of a Job and of a pod.
        Progress::Overdue(deadline) => {
            let words = match deadline {
                Deadline::Job(_) => "Job was active longer than specified deadline",
                Deadline::Pod(_) => {
                    "pod DeadlineExceeded: Pod was active on the node longer than the specified deadline"
                }
            };
            ended(How::Failed(Fault::known(Reason::DeadlineExceeded, words)), now)
        }
        Progress::Ended(Exit::Code(0), at) => ended(How::Succeeded, at),
        Progress::Ended(Exit::Code(code), at) => ended(How::Failed(Fault::exit("trainer", code)), at),
        Progress::Ended(Exit::SupervisorKilled(signal), at) => {
            let what = format!("its supervisor was killed by signal {signal}");
            ended(How::Failed(Fault::known(Reason::TrainerFailed, what)), at)
        }
        Progress::Interrupted => ended(How::Interrupted, now),
    };
    RunSeen::There { id: name.to_owned(), attempt: None, stage }
}

/// A trainer that runs.
#[derive(Debug)]
pub struct Running {
    /// The supervisor's process; None where it has ended at once.
    pub supervisor: Option<Pid>,
    /// While this is held, the supervisor lets the trainer run.
    hold: Option<ChildStdin>,
    /// What was read of this run.
    pub readings: Readings,
    /// Its GPUs.
    pub gpus: Vec<String>,
    /// When it was started.
    pub started: Instant,
    /// When its last report was read, or it was started.
    reported: Instant,
    /// The name of its run.
    name: String,
    source: Source,
    metrics: PathBuf,
    log: PathBuf,
    /// Where this run begins in the log.
    log_start: u64,
    follower: FileFollower,
    /// Lines that were too long for the follower, of earlier runs or counted already.
    known_too_long: u64,
    parser: Parser,
}

impl Running {
    /// Starts the trainer, under a supervisor. Its end is sent to `ended`.
    ///
    /// # Errors
    /// The log cannot be written, or the supervisor not be started.
    pub fn start(
        run: &Spawn,
        study: &core::Study,
        gpus: Vec<String>,
        ended: UnboundedSender<Ended>,
    ) -> io::Result<Running> {
        let (metrics, log) = (run.folder.metrics(run.trial, run.number), run.folder.log(run.trial));
        match fs::remove_file(&metrics) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let output = log_with_header(&log, run)?;
        let log_start = output.metadata()?.len();
        let mut follower = FileFollower::new(if run.source == Source::File { &metrics } else { &log });
        if run.source == Source::Stdout {
            // What stands in the log now is of earlier runs.
            follower.poll()?;
            while follower.more_waiting() {
                follower.poll()?;
            }
        }
        let mut child = supervisor(run)
            .envs(run.environment)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let supervisor = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let hold = child.stdin.take();
        let index = run.index;
        tokio::spawn(async move {
            let exit = child.wait().await.map_or(Exit::Code(1), exit);
            // Nobody listens any more: then nobody needs to know.
            let _ = ended.send(Ended { index, exit, at: Timestamp::now() });
        });
        Ok(Running {
            supervisor,
            hold,
            readings: Readings::default(),
            gpus,
            started: Instant::now(),
            reported: Instant::now(),
            name: super::state::run_name(run.trial, run.number),
            source: run.source,
            metrics,
            log,
            log_start,
            known_too_long: follower.too_long(),
            follower,
            parser: Parser::new([study.objective.metric.as_str()], run.grammar.clone()),
        })
    }

    /// Tells the supervisor to end the trainer.
    pub fn stop(&mut self) {
        self.hold = None;
    }

    /// Reads what was reported since the last call. Returns whether anything was.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn poll(&mut self, study: &core::Study) -> io::Result<bool> {
        let lines = self.follower.poll()?;
        Ok(self.take(&lines, study))
    }

    /// Reads what is left once the trainer has ended.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn finish(&mut self, study: &core::Study) -> io::Result<()> {
        loop {
            let lines = self.follower.finish()?;
            self.take(&lines, study);
            if !self.follower.more_waiting() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, lines: &[FollowedLine], study: &core::Study) -> bool {
        let Running { readings, parser, .. } = self;
        let (before, now) = (readings.reports, Timestamp::now());
        let mut taken = false;
        for line in lines {
            let times = Times { read: now, written: now };
            taken |= readings.line(&line.bytes, parser, &study.objective, &study.pruners, times);
        }
        let too_long = self.follower.too_long();
        readings.noted.dropped.too_long += too_long - self.known_too_long;
        self.known_too_long = too_long;
        if readings.reports > before {
            self.reported = Instant::now();
        }
        taken
    }

    /// How it stands as a run.
    pub fn seen(&self, progress: Progress, now: Timestamp) -> RunSeen {
        run_seen(&self.name, before(now, self.started), progress, now)
    }

    /// Whether it has run for longer than `deadline` allows.
    pub fn is_overdue(&self, deadline: Deadline) -> bool {
        self.started.elapsed().as_secs() >= deadline.seconds()
    }

    /// Whether it has reported nothing for `limit`.
    pub fn is_silent_for(&self, limit: SignedDuration) -> bool {
        SignedDuration::try_from(self.reported.elapsed()).is_ok_and(|silent| silent >= limit)
    }

    /// What was read of it. `problem` is why not all of it could be.
    pub fn read(&self, problem: Option<io::Error>, now: Timestamp) -> records::Read {
        let log = excerpt(&self.log, |length| self.log_start.max(length.saturating_sub(EXCERPT)));
        let log = log.unwrap_or_default();
        let path = if self.source == Source::File { &self.metrics } else { &self.log };
        let (content, printed) = match self.source {
            Source::File => (excerpt(&self.metrics, |_| 0).ok(), Some(log.clone())),
            Source::Stdout => (Some(log.clone()), None),
        };
        records::Read {
            readings: self.readings.clone(),
            began: Some(before(now, self.started)),
            reported: (self.readings.reports > 0).then(|| before(now, self.reported)),
            place: place(self.source, path),
            content,
            printed,
            log: Some(log),
            problem: problem.map(|error| format!("{} cannot be read: {error}", path.display())),
        }
    }
}

/// Where metrics are looked for, for a person.
pub fn place(source: Source, path: &Path) -> String {
    let path = path.display();
    match source {
        Source::File => format!("in the file $SWEEP_METRICS ({path})"),
        Source::Stdout => format!("in the output of the trainer ({path})"),
    }
}

/// When something was, by a clock that stands still while the machine sleeps.
fn before(now: Timestamp, then: Instant) -> Timestamp {
    let since = SignedDuration::try_from(then.elapsed()).unwrap_or_default();
    now.checked_sub(since).unwrap_or(now)
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::SupervisorKilled(signal.unwrap_or(0)),
    }
}

fn supervisor(run: &Spawn) -> Command {
    // On Linux this is the running binary, even where the file was replaced since.
    let this = Path::new("/proc/self/exe");
    let this = if this.exists() { this.to_owned() } else { std::env::current_exe().unwrap_or_else(|_| "sweep".into()) };
    let mut command = Command::new(this);
    command.arg0("sweep").args(["supervise", "--lock"]).arg(run.folder.trainers_lock());
    command.arg("--grace").arg(run.grace.to_string()).arg("--").args(run.command);
    command
}

/// Opens the log, behind what earlier runs left there and a line that says what this one is.
fn log_with_header(path: &Path, run: &Spawn) -> io::Result<File> {
    let mut log = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let name = super::state::run_name(run.trial, run.number);
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default();
    let end = log.seek(SeekFrom::End(0))?;
    let line_end = if end > 0 { "\n" } else { "" };
    // What was started is one line, whatever it holds: nothing in it shall look like the trainer's output.
    let command = super::screen::quoted(run.command).replace(['\n', '\r'], " ");
    writeln!(log, "{line_end}=== {name} started {now}: {}", records::clipped(&command, 1000))?;
    Ok(log)
}

fn excerpt(path: &Path, from: impl Fn(u64) -> u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = from(file.metadata()?.len());
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(EXCERPT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn ours_is_literal_and_the_templates_values_refer_to_what_stands_before_them() {
        let launch = Launch {
            command: ["python", "--lr=$(lr)", "$(BOTH)", "$(HOME)", "$$(lr)"].map(str::to_owned).to_vec(),
            environment: vec![pair("BOTH", "$(lr)/$(LATER)"), pair("LATER", "$$x"), pair("AGAIN", "$(BOTH)")],
            unresolved: Vec::new(),
        };
        let (command, environment) = launch.prepare(&[pair("lr", "0.1"), pair("WORD", "$(lr)")]);
        assert_eq!(command, ["python", "--lr=0.1", "0.1/$(LATER)", "$(HOME)", "$(lr)"]);
        assert_eq!(environment["WORD"], "$(lr)");
        assert_eq!(environment["LATER"], "$x");
        assert_eq!(environment["AGAIN"], "0.1/$(LATER)");
    }
}
