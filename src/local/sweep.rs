//! The loop of a local run: observe, decide, carry it out.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::descendants;
use super::gpus::Gpus;
use super::process::{Ended, Exit, Launch, Metrics, Progress, Running, Spawn, run_seen};
use super::records::{self, Read, clipped};
use super::screen::{self, Screen};
use super::state::{Folder, StateError, immutable_differences};
use super::trials::{Tracked, Trials};
use super::view::ending;
use crate::api::{self, Condition, DesiredState, Note, StopRecord, Study, StudyStatus, Trial, TrialStatus};
use crate::core::life::{Action, RunSeen, Wait};
use crate::core::sampler::Cache;
use crate::core::{self, Decision, Phase, Proposal, State, Stop, decide};
use crate::job::environment;
use crate::validate::{Problem, ValidStudy};

/// How often the metrics of running trials are read.
const POLL: Duration = Duration::from_millis(75);

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The folder is of a Study that this one is not an edit of.
    #[error("{} holds another Study", folder.display())]
    AnotherStudy {
        /// The folder.
        folder: PathBuf,
        /// The fields that differ.
        problems: Vec<Problem>,
    },
    /// The async runtime or a signal handler cannot be set up.
    #[error("cannot set up: {0}")]
    Runtime(io::Error),
    /// A trainer cannot be started, for a reason that is not the trainer's.
    #[error("cannot start trial {trial}: {source}")]
    Start {
        /// The trial.
        trial: String,
        /// Why.
        source: io::Error,
    },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The study is complete.
    Complete(String),
    /// The study failed.
    Failed(String),
    /// Suspended, or parallelism 0: nothing runs, and nothing shall start.
    HeldBack(String),
    /// By a signal.
    Interrupted(String),
}

/// A sweep that is run.
pub struct Sweep {
    /// As the user wrote it, with the status.
    pub(super) study: Study,
    pub(super) valid: ValidStudy,
    launch: Launch,
    pub(super) folder: Folder,
    pub(super) trials: Trials,
    gpus: Option<Gpus>,
    pub(super) screen: Screen,
    ended: UnboundedSender<Ended>,
    exits: UnboundedReceiver<Ended>,
    last_completion: Option<Timestamp>,
    pub(super) best: Option<core::Best>,
    /// Whether it was said that steps are counted.
    told_counted_steps: bool,
    /// What was said of a pruner that cannot act.
    pub(super) told_obstacle: Option<String>,
    /// What the sampler has computed so far.
    cache: Cache,
}

impl Sweep {
    /// A new sweep, or one that goes on from its folder.
    ///
    /// # Errors
    /// The folder cannot be read, or is of another Study.
    pub fn load(
        mut study: Study,
        valid: ValidStudy,
        launch: Launch,
        gpus: Option<Gpus>,
        folder: Folder,
        screen: Screen,
    ) -> Result<Sweep, Error> {
        // A status in the user's file, such as of `kubectl get -o yaml`, is of another run.
        study.status = None;
        if let Some(old) = folder.read_study()? {
            let problems = immutable_differences(&old, &study);
            if !problems.is_empty() {
                return Err(Error::AnotherStudy { folder: folder.root().to_owned(), problems });
            }
            study.status = old.status;
        }
        let trials = folder.read_trials(&valid.core.name)?;
        let (ended, exits) = unbounded_channel();
        let mut sweep = Sweep {
            study,
            launch,
            folder,
            last_completion: trials.values().filter_map(completion).max(),
            trials: Trials::default(),
            gpus: gpus.filter(|_| valid.template.gpu.is_some()),
            screen,
            ended,
            exits,
            best: None,
            told_counted_steps: false,
            told_obstacle: None,
            cache: Cache::default(),
            valid,
        };
        trials.into_values().for_each(|trial| sweep.trials.insert(trial));
        sweep.refresh();
        sweep.best =
            core::outlook(&sweep.valid.core, sweep.trials.history(), 0, &core::Recorded::default(), now()).best;
        sweep.recover()?;
        Ok(sweep)
    }

    /// Trials that were running have lost their process: their trainers are gone by now.
    fn recover(&mut self) -> Result<(), Error> {
        let (total, mut lost) = (self.trials.history().len(), 0);
        for index in self.trials.unfinished().clone() {
            let Some(tracked) = self.trials.get(index) else { continue };
            if !tracked.is_stopped() && tracked.phase() != Phase::Running {
                continue;
            }
            lost += u32::from(!tracked.is_stopped());
            self.record(index, &[RunSeen::Absent], &Read::default())?;
        }
        if total > 0 {
            let again = if lost > 0 { format!(", {lost} lost their process and run again") } else { String::new() };
            self.refresh();
            let finished = self.trials.count_finished();
            let text =
                format!("going on in {}: {finished} of {total} trials finished{again}", self.folder.shown_root());
            self.screen.line(&text);
        }
        Ok(())
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// The folder cannot be written, or processes cannot be started. Trainers that run are ended, and are run again
    /// once the sweep goes on.
    pub async fn run(&mut self) -> Result<End, Error> {
        let mut signals = Signals::new().map_err(Error::Runtime)?;
        let end = self.follow(&mut signals).await;
        if end.is_err() {
            self.release().await;
        }
        self.screen.close();
        end
    }

    async fn follow(&mut self, signals: &mut Signals) -> Result<End, Error> {
        let mut tick = interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_again = None;
        let mut changed = true;
        loop {
            if changed || look_again.is_some_and(|time| now() >= time) {
                let decision = self.settle()?;
                if let Some(end) = self.end(&decision) {
                    return Ok(end);
                }
                look_again = decision.look_again;
            }
            self.draw();
            changed = tokio::select! {
                biased;
                () = signals.recv() => return self.interrupt(signals).await,
                Some(ended) = self.exits.recv() => {
                    self.ended(&ended)?;
                    true
                }
                _ = tick.tick() => {
                    let observed = self.poll();
                    self.stop_overdue()? || observed
                }
            };
        }
    }

    /// Looks at the trials that have changed.
    pub(super) fn refresh(&mut self) {
        self.trials.refresh(&self.valid.core);
    }

    /// How many trials have a process.
    fn running(&mut self) -> usize {
        self.refresh();
        self.trials.running().len()
    }

    /// Decides and carries it out, until the decision asks for nothing more.
    fn settle(&mut self) -> Result<Decision, Error> {
        loop {
            let now = now();
            self.refresh();
            let recorded = api::recorded(self.study.status.as_ref());
            let decision = decide(&self.valid.core, self.trials.history(), 0, &recorded, now, &mut self.cache);
            self.show_best(&decision);
            self.show_obstacle(&decision);
            for stop in &decision.stops {
                self.stop(stop, now)?;
            }
            // Before the status: nobody else deletes Trials here, so their files alone tell which index is next, and
            // a kill in between skips none.
            for proposal in &decision.proposals {
                self.create(proposal)?;
            }
            self.write_status(&decision, now)?;
            let started = matches!(decision.state, State::Running) && self.start_waiting()?;
            if decision.stops.is_empty() && decision.proposals.is_empty() && !started {
                return Ok(decision);
            }
        }
    }

    /// Whether the decision is the last one.
    fn end(&mut self, decision: &Decision) -> Option<End> {
        let message = decision.message.clone();
        match decision.state {
            State::Ended(reason) if reason.is_failure() => Some(End::Failed(message)),
            State::Ended(_) => Some(End::Complete(message)),
            // A trial that waits starts unless nothing may start at all.
            State::Suspended { .. } | State::Running if self.running() == 0 => Some(End::HeldBack(message)),
            _ => None,
        }
    }

    /// Records the stop with its evidence, then ends the trainer.
    fn stop(&mut self, stop: &Stop, now: Timestamp) -> Result<(), Error> {
        let Some(tracked) = self.trials.get_mut(stop.index) else { return Ok(()) };
        tracked.trial.spec.desired_state = DesiredState::Stopped;
        tracked.trial.spec.stop = Some(StopRecord {
            reason: stop.reason.clone(),
            message: clipped(&stop.message, 1024),
            step: stop.step,
            evidence: stop.evidence.clone(),
            at: MicroTime(now),
        });
        let (run, read) = match &tracked.process {
            Some(process) => (process.seen(Progress::Runs, now), process.read(None, now)),
            None => (RunSeen::Absent, Read::default()),
        };
        if self.record(stop.index, &[run], &read)? == Action::Stop {
            self.stop_process(stop.index);
        }
        Ok(())
    }

    fn stop_process(&mut self, index: u32) {
        if let Some(process) = self.trials.get_mut(index).and_then(|tracked| tracked.process.as_mut()) {
            process.stop();
        }
    }

    fn create(&mut self, proposal: &Proposal) -> Result<(), Error> {
        let mut trial = api::new_trial(&self.valid.core, proposal);
        trial.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(seconds(now())));
        trial.status = Some(TrialStatus::default());
        self.folder.write_trial(&trial)?;
        self.trials.insert(trial);
        Ok(())
    }

    /// Starts trials that have no process, in index order. Returns whether anything has changed.
    fn start_waiting(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        self.refresh();
        let waiting: Vec<u32> = self.trials.unfinished().difference(self.trials.running()).copied().collect();
        for index in waiting {
            if self.trials.get(index).is_none_or(Tracked::is_stopped) {
                continue;
            }
            // Lowered since the trial was created: the running ones come first.
            if self.running() >= self.valid.core.parallelism as usize {
                break;
            }
            let gpus = match (&mut self.gpus, &self.valid.template.gpu) {
                (Some(gpus), Some(wanted)) => match gpus.take(wanted.count as usize) {
                    Some(taken) => taken,
                    None => {
                        let message = format!(
                            "not enough free GPUs: a trial needs {} of the {} listed",
                            wanted.count,
                            gpus.count()
                        );
                        changed |= self.wait(index, message)?;
                        continue;
                    }
                },
                _ => Vec::new(),
            };
            self.start(index, gpus)?;
            changed = true;
        }
        Ok(changed)
    }

    /// Says why a trial does not start. Returns whether that is new.
    fn wait(&mut self, index: u32, message: String) -> Result<bool, Error> {
        let Some(tracked) = self.trials.get_mut(index) else { return Ok(false) };
        if tracked.status().message.as_ref() == Some(&message) {
            return Ok(false);
        }
        let text = format!("trial {} waits: {message}", tracked.name());
        let held = records::held_back(&self.valid, tracked.status(), Wait::Unschedulable, &message, now());
        tracked.trial.status = Some(held);
        self.folder.write_trial(&tracked.trial)?;
        self.screen.event(&text);
        Ok(true)
    }

    /// Records the next run of a trial, then starts it.
    fn start(&mut self, index: u32, gpus: Vec<String>) -> Result<(), Error> {
        let now = now();
        let Some(tracked) = self.trials.get(index) else { return Ok(()) };
        let begins = run_seen(&tracked.run(), now, Progress::Runs, now);
        self.record(index, &[RunSeen::Absent, begins], &Read::default())?;
        let Some(tracked) = self.trials.get_mut(index) else { return Ok(()) };
        let trial = tracked.name().to_owned();
        let number = tracked.status().run.as_ref().map_or(1, |run| run.number);

        let core = &self.valid.core;
        let assignments = &tracked.trial.spec.assignments;
        let mut ours = environment(&core.space, &core.name, &trial, index, assignments);
        let template = &self.valid.template;
        let metrics = Metrics::new(template, &self.folder, &trial, number, core.parallelism <= 1);
        let metrics = metrics.map_err(|source| Error::Start { trial: trial.clone(), source })?;
        if let Some((variable, value)) = template.source.variable().zip(metrics.variable()) {
            ours.push((variable.to_owned(), value));
        }
        let (command, mut environment) = self.launch.prepare(&ours);
        if !gpus.is_empty() {
            environment.insert("CUDA_VISIBLE_DEVICES".to_owned(), gpus.join(","));
        }
        let run = Spawn {
            folder: &self.folder,
            index,
            trial: &trial,
            number,
            command: &command,
            environment: &environment,
            metrics: &metrics,
            grammar: &template.grammar,
            grace: template.grace_seconds(),
        };
        let on = if gpus.is_empty() { String::new() } else { format!(" (GPU {})", gpus.join(",")) };
        let again = if number > 1 { format!(" again, run {number}") } else { String::new() };
        let process = Running::start(&run, core, gpus, self.ended.clone());
        tracked.process = Some(process.map_err(|source| Error::Start { trial: trial.clone(), source })?);
        let assignments = screen::one_line(&core.space, assignments);
        self.screen.event(&format!("trial {trial} started{again}{on}: {assignments}"));
        Ok(())
    }

    /// Reads new observations. Returns whether there are any.
    fn poll(&mut self) -> bool {
        self.trials.observe(|process| process.poll(&self.valid.core))
    }

    /// Trials that have run, or reported nothing, for longer than they may have failed, and are told to end. Returns
    /// whether there are any.
    fn stop_overdue(&mut self) -> Result<bool, Error> {
        let may_end = |tracked: &Tracked| !tracked.is_stopped() && !tracked.phase().is_finished();
        let (now, mut overdue) = (now(), Vec::new());
        for (tracked, process) in self.trials.processes().filter(|(tracked, _)| may_end(tracked)) {
            let progress = match self.valid.template.deadline().filter(|deadline| process.is_overdue(*deadline)) {
                Some(deadline) => Progress::Overdue(deadline),
                None if self.valid.report_timeout.is_some_and(|limit| process.is_silent_for(limit)) => Progress::Runs,
                None => continue,
            };
            overdue.push((tracked.trial.spec.index, process.seen(progress, now), process.read(None, now)));
        }
        for (index, run, read) in &overdue {
            // Recorded before its trainer goes.
            self.record(*index, std::slice::from_ref(run), read)?;
            if self.trials.get(*index).is_some_and(|tracked| tracked.phase().is_finished()) {
                self.stop_process(*index);
            }
        }
        Ok(!overdue.is_empty())
    }

    /// A trainer has ended.
    fn ended(&mut self, ended: &Ended) -> Result<(), Error> {
        self.end_strays(ended.exit);
        let Some(tracked) = self.trials.get_mut(ended.index) else { return Ok(()) };
        let Some(mut process) = tracked.process.take() else { return Ok(()) };
        if let Some(gpus) = &mut self.gpus {
            gpus.give_back(&process.gpus);
        }
        if tracked.phase().is_finished() {
            return Ok(());
        }
        let problem = process.finish(&self.valid.core).err();
        let now = now();
        let run = process.seen(Progress::Ended(ended.exit, ended.at), now);
        // Once its end is recorded, nothing of it is there any more.
        self.record(ended.index, &[run, RunSeen::Absent], &process.read(problem, now))?;
        Ok(())
    }

    /// Ends what a supervisor that was killed could not end.
    fn end_strays(&self, exit: Exit) {
        if matches!(exit, Exit::SupervisorKilled(_)) {
            let running = self.trials.processes().filter_map(|(_, process)| process.supervisor);
            descendants::end(&running.collect::<Vec<_>>());
        }
    }

    /// Records the steps of a trial that `runs` make. Returns what to do then.
    fn record(&mut self, index: u32, runs: &[RunSeen], read: &Read) -> Result<Action, Error> {
        let Some(tracked) = self.trials.get(index) else { return Ok(Action::Nothing) };
        let was_finished = tracked.phase().is_finished();
        let (mut status, action) = records::steps(&self.valid, &tracked.trial, runs, read, now());
        let has_ended = status.phase.is_finished() && !was_finished;
        if has_ended {
            status.completion_time = Some(MicroTime(self.next_completion()));
        }
        if let Some(tracked) = self.trials.get_mut(index) {
            tracked.trial.status = Some(status);
            self.folder.write_trial(&tracked.trial)?;
        }
        if has_ended {
            self.show_end(index);
        }
        Ok(action)
    }

    /// Says how a trial ended, and what its status notes.
    fn show_end(&mut self, index: u32) {
        let Some(tracked) = self.trials.get(index) else { return };
        let text = ending(&tracked.trial, &self.valid.core.objective);
        match tracked.phase() {
            Phase::Failed => self.screen.line(&text),
            _ => self.screen.event(&text),
        }
        let notes = tracked.trial.status.as_ref().map(api::notes).unwrap_or_default();
        for (note, message) in notes {
            let is_of_steps = note == Note::StepsCounted;
            // Steps are counted in every trial alike, and a missing metric is told with what was dropped.
            let is_told = text.contains(&message) || (is_of_steps && self.told_counted_steps);
            self.told_counted_steps |= is_of_steps;
            if !is_told {
                let of = if is_of_steps { "" } else { "dropped " };
                self.screen.line(&format!("trial {}: {of}{message}", tracked.name()));
            }
        }
    }

    /// Strictly increasing, so that what a proposal had seen is told by one time.
    fn next_completion(&mut self) -> Timestamp {
        let after = |last: Timestamp| last.checked_add(SignedDuration::from_micros(1)).unwrap_or(last);
        let time = self.last_completion.map_or_else(now, |last| now().max(after(last)));
        self.last_completion = Some(time);
        time
    }

    /// Writes what was decided, and the trials as they were seen then.
    fn write_status(&mut self, decision: &Decision, now: Timestamp) -> Result<(), Error> {
        let none = StudyStatus::default();
        let old = self.study.status.as_ref().unwrap_or(&none);
        let max_duration = self.study.spec.max_duration.as_deref();
        let generation = self.study.metadata.generation;
        let mut status =
            api::study_status(&self.valid.core, self.trials.history(), decision, old, max_duration, generation, now);
        api::warn(&mut status, &self.valid.warnings, old, generation, now);
        self.replace_status(status)
    }

    fn replace_status(&mut self, status: StudyStatus) -> Result<(), Error> {
        if self.study.status.as_ref() != Some(&status) {
            self.study.status = Some(status);
            self.folder.write_study(&self.study)?;
        }
        Ok(())
    }

    /// Ends the trainers without finishing their trials.
    async fn interrupt(&mut self, signals: &mut Signals) -> Result<End, Error> {
        // A trainer that ended before counts.
        while let Ok(ended) = self.exits.try_recv() {
            self.ended(&ended)?;
        }
        self.refresh();
        let running = self.trials.running().clone();
        self.screen.line(&format!("stopping {} running trials; once more to leave at once", running.len()));
        let release = self.release();
        tokio::select! {
            () = release => {}
            // Their supervisors end them all the same.
            () = signals.recv() => {}
        }
        for index in &running {
            let Some(tracked) = self.trials.get_mut(*index) else { continue };
            tracked.process = None;
            if tracked.phase().is_finished() {
                continue;
            }
            let now = now();
            let run = match tracked.is_stopped() {
                true => RunSeen::Absent,
                false => run_seen(&tracked.run(), now, Progress::Interrupted, now),
            };
            self.record(*index, &[run], &Read::default())?;
        }
        self.refresh();
        let finished = self.trials.count_finished();
        let message = format!("{finished} of {} trials finished", self.valid.core.limits.max_trials);
        let mut status = self.study.status.clone().unwrap_or_default();
        let text = format!("interrupted, {message}: `sweep run` goes on");
        let ready = Condition::next(
            &status.conditions,
            "Ready",
            true,
            "Interrupted",
            &text,
            self.study.metadata.generation,
            now(),
        );
        status.conditions.retain(|condition| condition.type_ != "Ready");
        status.conditions.insert(0, ready);
        if let Some(counts) = &mut status.trials {
            counts.pending += counts.running;
            counts.running = 0;
        }
        self.replace_status(status)?;
        Ok(End::Interrupted(message))
    }

    /// Ends all trainers, and waits until they are gone.
    async fn release(&mut self) {
        self.refresh();
        self.trials.observe(|process| {
            process.stop();
            false
        });
        let limit = Instant::now() + Duration::from_secs(self.valid.template.grace_seconds() + 5);
        while self.running() > 0 {
            tokio::select! {
                Some(ended) = self.exits.recv() => {
                    self.end_strays(ended.exit);
                    if let Some(tracked) = self.trials.get_mut(ended.index) {
                        tracked.process = None;
                    }
                }
                () = sleep_until(limit) => return,
            }
        }
    }

    /// The Study with its status.
    pub fn study(&self) -> &Study {
        &self.study
    }
}

/// When a trial ended.
pub(super) fn completion(trial: &Trial) -> Option<Timestamp> {
    Some(trial.status.as_ref()?.completion_time.as_ref()?.0)
}

/// Now, as exact as a MicroTime keeps it.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The signals that interrupt a run.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
