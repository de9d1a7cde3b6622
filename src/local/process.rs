//! A trial as a process: what is started, and what is known of it while it runs.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
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
use crate::intake::{Intake, Place};
use crate::job::{Deadline, Source, Template};
use crate::metrics::{Grammar, PrometheusSpec, Readings, Times};
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
    pub metrics: &'a Metrics,
    /// What lines with metrics look like.
    pub grammar: &'a Arc<Grammar>,
    /// How many seconds the trainer may take to end once it was told to.
    pub grace: u64,
}

/// Where the metrics of a run are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// In this file.
    File(PathBuf),
    /// In the run's log.
    Output(PathBuf),
    /// In event files in a folder of the run's own, and in new ones in the trainer's.
    Events {
        /// The run's own.
        folder: PathBuf,
        /// The trainer's, where no other trial may write to it at the same time.
        fixed: Option<PathBuf>,
    },
    /// On a page.
    Page {
        /// The port that the trainer shall listen on.
        port: u16,
        /// Where the page is.
        page: PrometheusSpec,
    },
}

impl Metrics {
    /// Where a run of a trial has its metrics. `alone` tells that no other trial runs at the same time: then a folder or a port
    /// that the study names can be told to be of this trial.
    ///
    /// # Errors
    /// There is no free port, or the one that the study names is in use.
    pub fn new(template: &Template, folder: &Folder, trial: &str, number: u32, alone: bool) -> io::Result<Metrics> {
        Ok(match (&template.tensor_board, &template.prometheus) {
            (Some(events), _) => Metrics::Events {
                folder: folder.events(trial, number),
                fixed: events.path.as_ref().filter(|_| alone).map(PathBuf::from),
            },
            (None, Some(page)) => {
                Metrics::Page { port: free_port(if alone { page.port } else { 0 })?, page: page.clone() }
            }
            (None, None) if template.source == Source::Stdout => Metrics::Output(folder.log(trial)),
            (None, None) => Metrics::File(folder.metrics(trial, number)),
        })
    }

    /// What the variable of the source says.
    pub fn variable(&self) -> Option<String> {
        match self {
            Metrics::File(path) | Metrics::Events { folder: path, .. } => Some(path.display().to_string()),
            Metrics::Page { port, .. } => Some(port.to_string()),
            Metrics::Output(_) => None,
        }
    }

    /// Where they are looked for, for a person.
    pub fn place(&self) -> String {
        match self {
            Metrics::File(path) => format!("in the file $SWEEP_METRICS ({})", path.display()),
            Metrics::Output(path) => format!("in the output of the trainer ({})", path.display()),
            Metrics::Events { folder, fixed } => {
                let fixed =
                    fixed.as_ref().map_or(String::new(), |fixed| format!(", and in new ones in {}", fixed.display()));
                format!("in event files in the folder $SWEEP_METRICS ({}){fixed}", folder.display())
            }
            Metrics::Page { port, page } => format!("at {} ($SWEEP_METRICS_PORT is {port})", page.url(*port)),
        }
    }

    fn intake(&self) -> Place {
        match self.clone() {
            Metrics::File(path) => Place::File(path),
            // What stands in the log now is of earlier runs.
            Metrics::Output(path) => Place::EndOfFile(path),
            Metrics::Events { folder, fixed } => Place::Events { folder, fixed },
            Metrics::Page { port, page } => {
                Place::Page { port, path: page.path.unwrap_or_else(|| PrometheusSpec::PATH.to_owned()), state: None }
            }
        }
    }

    /// Makes room for a run: what an earlier `sweep run` left there is none of it.
    fn prepare(&self) -> io::Result<()> {
        let removed = match self {
            Metrics::File(path) => fs::remove_file(path),
            Metrics::Events { folder, .. } => fs::remove_dir_all(folder),
            Metrics::Output(_) | Metrics::Page { .. } => Ok(()),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => match self {
                Metrics::Events { folder, .. } => fs::create_dir_all(folder),
                _ => Ok(()),
            },
        }
    }
}

/// A port of the loopback interface on which nobody listens: `wanted`, or any where that is 0.
fn free_port(wanted: u16) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted));
    let listener = listener.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let message = format!("port {wanted} of spec.metrics.prometheus is in use by another program: stop it");
            io::Error::new(error.kind(), message)
        }
        _ => error,
    });
    Ok(listener?.local_addr()?.port())
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
    metrics: Metrics,
    log: PathBuf,
    /// Where this run begins in the log.
    log_start: u64,
    intake: Intake,
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
        let log = run.folder.log(run.trial);
        run.metrics.prepare()?;
        let output = log_with_header(&log, run)?;
        let log_start = output.metadata()?.len();
        let metrics: Vec<&str> = study.pruners.metrics(&study.objective.metric).collect();
        let intake = Intake::new(run.metrics.intake(), &metrics, run.grammar)?;
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
            metrics: run.metrics.clone(),
            log,
            log_start,
            intake,
        })
    }

    /// Tells the supervisor to end the trainer.
    pub fn stop(&mut self) {
        self.hold = None;
    }

    /// Reads what was reported since the last call. Returns whether anything was. What cannot be read now is read later, or
    /// told at the end.
    pub fn poll(&mut self, study: &core::Study) -> bool {
        self.take(false, study).0
    }

    /// Reads what is left once the trainer has ended.
    ///
    /// # Errors
    /// Why not all of it can be read, or why nothing was read of the objective, where that is known.
    pub fn finish(&mut self, study: &core::Study) -> Result<(), String> {
        loop {
            let (_, read) = self.take(true, study);
            if !self.intake.more_waiting() {
                read?;
                break;
            }
        }
        match (self.readings.reports, &self.metrics) {
            // What stands in a file is looked at by whoever tells of it.
            (0, Metrics::Events { .. } | Metrics::Page { .. }) => self.intake.why_nothing().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Reads a piece: whether there is a new observation, and what kept it from being read.
    fn take(&mut self, is_last: bool, study: &core::Study) -> (bool, Result<(), String>) {
        let Running { readings, intake, .. } = self;
        let (mut reports, now) = (Vec::new(), Timestamp::now());
        let read = intake.read(is_last, &mut readings.noted, |_, report| reports.push(report));
        let mut taken = false;
        let times = Times { read: now, written: now };
        for report in &reports {
            taken |= readings.report(report, &study.objective, &study.pruners, times);
        }
        if !reports.is_empty() {
            self.reported = Instant::now();
        }
        (taken, read)
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
    pub fn read(&self, problem: Option<String>, now: Timestamp) -> records::Read {
        let log = excerpt(&self.log, |length| self.log_start.max(length.saturating_sub(EXCERPT)));
        let log = log.unwrap_or_default();
        let (content, printed) = match &self.metrics {
            Metrics::File(path) => (excerpt(path, |_| 0).ok(), Some(log.clone())),
            Metrics::Output(_) => (Some(log.clone()), None),
            Metrics::Events { .. } | Metrics::Page { .. } => (None, Some(log.clone())),
        };
        records::Read {
            readings: self.readings.clone(),
            began: Some(before(now, self.started)),
            reported: (self.readings.reports > 0).then(|| before(now, self.reported)),
            place: self.metrics.place(),
            content,
            printed,
            log: Some(log),
            problem,
        }
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
