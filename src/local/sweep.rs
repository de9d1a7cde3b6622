//! The loop of a local run: observe, decide, carry it out.

use std::cmp::Reverse;
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
use super::outcome::{self, Evidence, Exit, Outcome, clipped};
use super::process::{Ended, Launch, Run, Running};
use super::screen::{self, Row, Screen, View};
use super::state::{Folder, StateError, immutable_differences, run_name};
use super::trials::{Tracked, Trials};
use crate::api::{self, Condition, DesiredState, FINISHED, StopRecord, Study, StudyStatus, Trial, TrialStatus};
use crate::build::{Source, environment};
use crate::core::pruner::reports_at_end;
use crate::core::sampler::Cache;
use crate::core::{self, Decision, MAX_DISRUPTIONS, Phase, Proposal, State, Stop, decide, reason};
use crate::last_words;
use crate::metrics::Noted;
use crate::shown::shown;
use crate::validate::{Problem, ValidStudy};

/// How often the metrics of running trials are read.
const POLL: Duration = Duration::from_millis(75);

/// How many trials any terminal has room for.
const MOST_ROWS: usize = 200;

/// How many trials the table at the end shows.
const TOP: usize = 10;

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
    study: Study,
    valid: ValidStudy,
    launch: Launch,
    folder: Folder,
    trials: Trials,
    gpus: Option<Gpus>,
    screen: Screen,
    ended: UnboundedSender<Ended>,
    exits: UnboundedReceiver<Ended>,
    last_completion: Option<Timestamp>,
    best: Option<core::Best>,
    /// Whether it was said that steps are counted.
    told_counted_steps: bool,
    /// What was said of a pruner that cannot act.
    told_obstacle: Option<String>,
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
            let Some(tracked) = self.trials.get_mut(index) else { continue };
            if tracked.is_stopped() {
                let outcome = outcome::stopped(tracked.trial.spec.stop.as_ref());
                self.finish(index, outcome)?;
                continue;
            }
            if tracked.phase() != Phase::Running {
                continue;
            }
            lost += 1;
            let status = tracked.status();
            status.phase = Phase::Pending;
            status.message = Some("its process was lost: it is run again".to_owned());
            status.disruptions += 1;
            api::note(status, &self.valid.core, &core::Series::default(), &Noted::default());
            if status.disruptions > MAX_DISRUPTIONS {
                let message = format!("its process was lost {} times", status.disruptions);
                let reason = reason::LOST.to_owned();
                self.finish(index, Outcome { phase: Phase::Failed, reason, message })?;
            } else {
                self.folder.write_trial(&tracked.trial)?;
            }
        }
        if total > 0 {
            let again = if lost > 0 { format!(", {lost} lost their process and run again") } else { String::new() };
            self.refresh();
            let finished = self.trials.count_finished();
            let text =
                format!("going on in {}: {finished} of {total} trials finished{again}", self.folder.root().display());
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
    fn refresh(&mut self) {
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
            at: MicroTime(now),
        });
        if let Some(process) = &tracked.process {
            let status = tracked.trial.status.get_or_insert_default();
            api::note(status, &self.valid.core, &process.readings.series, &process.readings.noted);
        }
        self.folder.write_trial(&tracked.trial)?;
        match &mut tracked.process {
            Some(process) => {
                process.stop();
                Ok(())
            }
            None => {
                let outcome = outcome::stopped(tracked.trial.spec.stop.as_ref());
                self.finish(stop.index, outcome)
            }
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
        tracked.status().message = Some(message);
        self.folder.write_trial(&tracked.trial)?;
        self.screen.event(&text);
        Ok(true)
    }

    /// Records the next run of a trial, then starts it.
    fn start(&mut self, index: u32, gpus: Vec<String>) -> Result<(), Error> {
        let Some(tracked) = self.trials.get_mut(index) else { return Ok(()) };
        let trial = tracked.name().to_owned();
        let template_hash = format!("{:016x}", self.valid.core.template);
        let status = tracked.status();
        let number = status.run.as_ref().map_or(1, |run| run.number.saturating_add(1));
        status.run = Some(api::Run {
            number,
            job: run_name(&trial, number),
            job_uid: None,
            template_hash: Some(template_hash),
            attempts: 0,
            pod_uid: None,
        });
        status.phase = Phase::Running;
        status.message = None;
        status.start_time.get_or_insert_with(|| MicroTime(now()));
        self.folder.write_trial(&tracked.trial)?;

        let core = &self.valid.core;
        let assignments = &tracked.trial.spec.assignments;
        let mut ours = environment(&core.space, &core.name, &trial, index, assignments);
        let source = self.valid.template.source;
        if source == Source::File {
            ours.push(("SWEEP_METRICS".to_owned(), self.folder.metrics(&trial, number).display().to_string()));
        }
        let (command, mut environment) = self.launch.prepare(&ours);
        if !gpus.is_empty() {
            environment.insert("CUDA_VISIBLE_DEVICES".to_owned(), gpus.join(","));
        }
        let run = Run {
            folder: &self.folder,
            index,
            trial: &trial,
            number,
            command: &command,
            environment: &environment,
            source,
            grammar: &self.valid.template.grammar,
            grace: self.valid.template.grace_seconds(),
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
        // What cannot be read now is read later, or missed at the end, where it is said.
        self.trials.observe(|process| process.poll(&self.valid.core).unwrap_or(false))
    }

    /// Trials that have run, or reported nothing, for longer than they may have failed, and are told to end. Returns
    /// whether there are any.
    fn stop_overdue(&mut self) -> Result<bool, Error> {
        let may_end = |tracked: &Tracked| !tracked.is_stopped() && !tracked.phase().is_finished();
        let running = self.trials.processes().filter(|(tracked, _)| may_end(tracked));
        let overdue: Vec<(u32, Outcome)> =
            running.filter_map(|(tracked, process)| Some((tracked.trial.spec.index, self.overdue(process)?))).collect();
        let any = !overdue.is_empty();
        for (index, outcome) in overdue {
            let Some(tracked) = self.trials.get_mut(index) else { continue };
            let Some(process) = &tracked.process else { continue };
            let status = tracked.trial.status.get_or_insert_default();
            api::note(status, &self.valid.core, &process.readings.series, &process.readings.noted);
            status.log_tail = last_words::tail(&process.log_excerpt());
            // Recorded before its trainer goes.
            self.finish(index, outcome)?;
            if let Some(process) = self.trials.get_mut(index).and_then(|tracked| tracked.process.as_mut()) {
                process.stop();
            }
        }
        Ok(any)
    }

    /// How a trial has failed whose time is over.
    fn overdue(&self, process: &Running) -> Option<Outcome> {
        let silent = SignedDuration::try_from(process.reported.elapsed()).unwrap_or(SignedDuration::MAX);
        if let Some(deadline) = self.valid.template.deadline()
            && process.started.elapsed().as_secs() >= deadline.seconds()
        {
            return Some(outcome::overdue(deadline, &process.log_excerpt()));
        }
        let limit = self.valid.report_timeout.filter(|limit| silent >= *limit)?;
        Some(outcome::hung(limit, &process.readings.series))
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
        let unreadable = process.finish(&self.valid.core).err();
        let log = process.log_excerpt();
        let content = process.metrics_excerpt();
        let evidence = Evidence {
            source: self.valid.template.source,
            path: process.looked_in(),
            content: content.as_deref(),
            log: &log,
            grammar: &self.valid.template.grammar,
            dropped: &process.readings.noted.dropped,
        };
        let mut outcome = match tracked.is_stopped() {
            true => outcome::stopped(tracked.trial.spec.stop.as_ref()),
            false => outcome::outcome(ended.exit, &self.valid.core.objective, &process.readings.series, &evidence),
        };
        if let (Some(error), Phase::Failed) = (unreadable, outcome.phase) {
            outcome.message += &format!("; {} cannot be read: {error}", process.looked_in().display());
        }
        let status = tracked.trial.status.get_or_insert_default();
        api::note(status, &self.valid.core, &process.readings.series, &process.readings.noted);
        status.log_tail = last_words::tail(&log);
        let (end, ran) = (now(), SignedDuration::try_from(process.started.elapsed()).unwrap_or_default());
        let start = end.checked_sub(ran).unwrap_or(end);
        status.reported_at_end = process.readings.first.is_some_and(|first| reports_at_end(start, first, end));
        self.finish(ended.index, outcome)
    }

    /// Ends what a supervisor that was killed could not end.
    fn end_strays(&self, exit: Exit) {
        if matches!(exit, Exit::SupervisorKilled(_)) {
            let running = self.trials.processes().filter_map(|(_, process)| process.supervisor);
            descendants::end(&running.collect::<Vec<_>>());
        }
    }

    /// Records how a trial ended.
    fn finish(&mut self, index: u32, mut outcome: Outcome) -> Result<(), Error> {
        // It may quote the trainer.
        outcome.message = shown(&outcome.message).into_owned();
        let time = self.next_completion();
        let Some(tracked) = self.trials.get_mut(index) else { return Ok(()) };
        let status = tracked.trial.status.get_or_insert_default();
        let old = std::mem::take(&mut status.conditions);
        let condition =
            |type_, reason: &str, message: &str| Condition::next(&old, type_, true, reason, message, None, time);
        status.conditions = vec![condition(FINISHED, &outcome.reason, &outcome.message)];
        let notes = api::notes(status);
        status.conditions.extend(notes.iter().map(|(type_, reason, message)| condition(type_, reason, message)));
        status.phase = outcome.phase;
        status.message = Some(clipped(&outcome.message, 1024));
        status.completion_time = Some(MicroTime(time));
        self.folder.write_trial(&tracked.trial)?;
        let text = ending(&tracked.trial, &outcome);
        match outcome.phase {
            Phase::Failed => self.screen.line(&text),
            _ => self.screen.event(&text),
        }
        for (type_, _, message) in notes {
            // Steps are counted in every trial alike, and a missing metric is told with what was dropped.
            let is_told = outcome.message.contains(&message) || (type_ == "StepsCounted" && self.told_counted_steps);
            self.told_counted_steps |= type_ == "StepsCounted";
            if !is_told {
                let of = if type_ == "MetricsDropped" { "dropped " } else { "" };
                self.screen.line(&format!("trial {}: {of}{message}", tracked.name()));
            }
        }
        Ok(())
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
            if tracked.is_stopped() {
                let outcome = outcome::stopped(tracked.trial.spec.stop.as_ref());
                self.finish(*index, outcome)?;
                continue;
            }
            let status = tracked.status();
            status.phase = Phase::Pending;
            status.message = Some("interrupted: it is run again".to_owned());
            api::note(status, &self.valid.core, &core::Series::default(), &Noted::default());
            self.folder.write_trial(&tracked.trial)?;
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

    /// Says once why nothing can be pruned.
    fn show_obstacle(&mut self, decision: &Decision) {
        if let Some(why) = decision.pruner_idle.as_ref().filter(|why| self.told_obstacle.as_ref() != Some(*why)) {
            self.screen.line(&format!("note: {why}"));
            self.told_obstacle = Some(why.clone());
        }
    }

    fn show_best(&mut self, decision: &Decision) {
        if decision.best == self.best {
            return;
        }
        self.best = decision.best;
        if let Some(best) = &self.best {
            let text = format!(
                "new best: {} {} of {}",
                self.valid.core.objective.metric,
                core::number(best.value),
                api::trial_name(&self.valid.core.name, best.index)
            );
            self.screen.event(&text);
        }
    }

    fn draw(&mut self) {
        self.refresh();
        let mut screen = std::mem::take(&mut self.screen);
        screen.draw(|| self.view());
        self.screen = screen;
    }

    fn view(&self) -> View {
        let counts = [Phase::Running, Phase::Pending, Phase::Succeeded, Phase::Pruned, Phase::Failed, Phase::Stopped]
            .map(|phase| (self.trials.count(phase), format!("{phase:?}").to_lowercase()));
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let counts = counts.map(|(count, phase)| format!("{count} {phase}")).collect::<Vec<_>>().join(", ");
        let core = &self.valid.core;
        let best = self.best.map(|best| {
            let trial = api::trial_name(&core.name, best.index);
            format!("best {} {} of {trial}", core.objective.metric, core::number(best.value))
        });
        let mut shown = self.trials.latest(MOST_ROWS);
        // Those that are being stopped have a process, too.
        shown.sort_by_key(|tracked| {
            let completed = completion(&tracked.trial);
            (tracked.process.is_none(), completed.is_some(), Reverse(completed), tracked.trial.spec.index)
        });
        shown.truncate(MOST_ROWS);
        View {
            study: core.name.clone(),
            metric: core.objective.metric.clone(),
            finished: self.trials.count_finished(),
            total: core.limits.max_trials,
            counts,
            best,
            left: None,
            running: self.trials.running().len(),
            rows: shown.into_iter().map(|tracked| self.row(tracked)).collect(),
        }
    }

    fn row(&self, tracked: &Tracked) -> Row {
        let objective = &self.valid.core.objective;
        let live =
            tracked.process.as_ref().map(|process| process.readings.series.value(objective.value, objective.direction));
        let recorded = || {
            let objectives = &tracked.trial.status.as_ref()?.objectives;
            objectives.first().map(|objective| (objective.step.unwrap_or_default(), objective.value))
        };
        let value = live.unwrap_or_else(recorded);
        Row {
            name: tracked.name().to_owned(),
            index: tracked.trial.spec.index,
            phase: tracked.phase(),
            stopping: tracked.process.is_some() && (tracked.is_stopped() || tracked.phase().is_finished()),
            value: value.map(|(_, value)| value),
            step: value.map(|(step, _)| step),
            time: match &tracked.process {
                Some(process) => Some(process.started.elapsed()),
                None => took(&tracked.trial),
            },
            assignments: screen::assignments(&self.valid.core.space, &tracked.trial.spec.assignments),
        }
    }

    /// The Study with its status.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// The best trials, the best configuration, and where the files are.
    pub fn summary(&self, on_stderr: bool) -> String {
        let core = &self.valid.core;
        let (metric, direction) = (&core.objective.metric, core.objective.direction);
        let mut ranked: Vec<&Tracked> = self.trials.all().collect();
        let key = |tracked: &Tracked| tracked.trial.status.as_ref().and_then(|s| Some(s.objectives.first()?.value));
        ranked.sort_by(|a, b| {
            let succeeded = |tracked: &Tracked| tracked.phase() != Phase::Succeeded;
            let by_value = match (key(a), key(b)) {
                (Some(x), Some(y)) if core::beats(direction, x, y) => std::cmp::Ordering::Less,
                (Some(x), Some(y)) if core::beats(direction, y, x) => std::cmp::Ordering::Greater,
                (x, y) => x.is_none().cmp(&y.is_none()),
            };
            // Those that ran to their end compete; the others follow.
            succeeded(a).cmp(&succeeded(b)).then(by_value).then(a.trial.spec.index.cmp(&b.trial.spec.index))
        });
        let rows: Vec<Row> = ranked.iter().take(TOP).map(|tracked| self.row(tracked)).collect();
        let mut text = screen::trials_table(metric, &rows, on_stderr);
        if ranked.len() > TOP {
            text += &format!("\n… and {} more", ranked.len() - TOP);
        }
        text += "\n";
        if let Some(best) = self.study.status.as_ref().and_then(|status| status.best.as_ref()) {
            let value =
                best.objectives.first().map(|objective| format!(": {metric} {}", core::number(objective.value)));
            text += &format!("\nbest trial {}{}\n", best.trial, value.unwrap_or_default());
            // Exact, for who takes them over.
            for (name, value) in screen::in_order(&core.space, &best.assignments) {
                text += &format!("  {name}: {}\n", shown(value));
            }
        }
        text + &format!("\nstudy.yaml, trials, logs and metrics are in {}", self.folder.root().display())
    }
}

/// How a trial ended, as a line.
fn ending(trial: &Trial, outcome: &Outcome) -> String {
    let name = trial.metadata.name.as_deref().unwrap_or_default();
    let message = &outcome.message;
    let time = took(trial).map(|time| format!(" in {}", screen::duration(time))).unwrap_or_default();
    match outcome.phase {
        Phase::Succeeded => format!("trial {name} succeeded: {message}{time}"),
        Phase::Pruned => match trial.spec.stop.as_ref().and_then(|stop| stop.step) {
            // The message says at which step, too.
            Some(step) => format!(
                "trial {name} pruned at step {step}: {}",
                message.strip_prefix(&format!("at step {step}: ")).unwrap_or(message)
            ),
            None => format!("trial {name} pruned: {message}"),
        },
        Phase::Stopped => format!("trial {name} stopped: {message}"),
        _ => format!("trial {name} failed: {message}"),
    }
}

fn completion(trial: &Trial) -> Option<Timestamp> {
    Some(trial.status.as_ref()?.completion_time.as_ref()?.0)
}

/// How long a finished trial took.
fn took(trial: &Trial) -> Option<Duration> {
    let start = trial.status.as_ref()?.start_time.as_ref()?.0;
    completion(trial)?.duration_since(start).try_into().ok()
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
