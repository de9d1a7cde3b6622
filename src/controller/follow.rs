//! Follows the logs that carry metrics, live: of the sidecar, or of the trainer itself. Observations
//! stay in memory; a new one asks for its Study to be reconciled, and costs no write.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncReadExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Settings;
use super::error::{CALL_LIMIT, Error};
use super::telemetry::Telemetry;
use super::watch::Queues;
use crate::build::{SIDECAR_CONTAINER, Source};
use crate::core::{Objective, Series};
use crate::metrics::{Grammar, LineSplitter, Parser, Readings, Report, SidecarLine};
use crate::validate::ValidStudy;

/// The sidecar sends a heartbeat every 20 s: a stream that is silent for this long is half-open.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a log is read for which there is no stream.
const POLL: Duration = Duration::from_secs(10);

/// When observations of a running Trial are first put into its status; then after ten times as long, and so on:
/// however long a Trial runs, that costs a handful of writes.
const CHECKPOINT: Duration = Duration::from_secs(60);

/// What is known of one pod's reports.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// What was read.
    pub readings: Readings,
    /// Why the sidecar cannot read the metrics file.
    pub problem: Option<String>,
    /// The sidecar has said that nothing more will come.
    pub ended: bool,
    /// The log cannot be read any more, because the pod is gone.
    pub lost: bool,
    /// The log could not be read to its end, for now.
    pub unread: bool,
    /// Whether the log was read now and then for want of a stream: then reports were read later than they came.
    pub polled: bool,
    /// When the log was begun to be followed.
    pub begun: Option<Timestamp>,
    /// When the log was last heard of: a heartbeat counts, a connection that may be dead does not.
    pub heard: Option<Timestamp>,
}

/// Where a pod's metrics are found, and what to look for.
#[derive(Clone)]
pub struct Followed {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    source: Source,
    objective: Objective,
    grammar: Arc<Grammar>,
    rungs: Vec<u64>,
    study: String,
}

impl Followed {
    /// The log of `pod` that carries the metrics of a Trial of `study`, which runs in the container `trainer`.
    pub fn new(study: &ValidStudy, pod: &Pod, trainer: &str) -> Followed {
        let container = match study.template.source {
            Source::File => SIDECAR_CONTAINER,
            Source::Stdout => trainer,
        };
        Followed {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            container: container.to_owned(),
            source: study.template.source,
            objective: study.core.objective.clone(),
            grammar: study.template.grammar.clone(),
            rungs: study.core.pruner.as_ref().map(|pruner| pruner.rungs()).unwrap_or_default(),
            study: study.core.name.clone(),
        }
    }

    /// The container whose log it is.
    pub fn container(&self) -> &str {
        &self.container
    }
}

/// The logs that are followed, by pod UID.
pub struct Followers {
    client: Client,
    queues: Queues,
    telemetry: Arc<Telemetry>,
    /// The pods that there are: the logs of others are forgotten.
    known: Store<Pod>,
    clock: fn() -> Timestamp,
    places: Arc<Semaphore>,
    pods: Mutex<HashMap<String, Follower>>,
}

struct Follower {
    log: Arc<tokio::sync::Mutex<Log>>,
    reports: Arc<Mutex<Reports>>,
    task: Option<JoinHandle<()>>,
    since: Instant,
    /// How long after `since` the next checkpoint is due.
    checkpoint: Duration,
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Followers {
    pub fn new(
        client: Client,
        queues: Queues,
        telemetry: Arc<Telemetry>,
        known: Store<Pod>,
        settings: &Settings,
    ) -> Followers {
        let places = Arc::new(Semaphore::new(settings.max_log_streams));
        Followers { client, queues, telemetry, known, clock: settings.clock, places, pods: Mutex::default() }
    }

    /// What was read of a pod so far.
    pub fn reports(&self, pod_uid: &str) -> Option<Reports> {
        let pods = self.pods();
        let reports = pods.get(pod_uid)?.reports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(reports)
    }

    /// The objective's observations that were read of a pod so far.
    pub fn series(&self, pod_uid: &str) -> Option<Series> {
        let pods = self.pods();
        let reports = pods.get(pod_uid)?.reports.lock().unwrap_or_else(PoisonError::into_inner);
        Some(reports.readings.series.clone())
    }

    /// Whether it is time to put observations into the Trial's status; then it is not for another while.
    pub fn is_checkpoint_due(&self, pod_uid: &str) -> bool {
        let mut pods = self.pods();
        let Some(follower) = pods.get_mut(pod_uid).filter(|follower| follower.since.elapsed() >= follower.checkpoint)
        else {
            return false;
        };
        follower.checkpoint *= 10;
        true
    }

    /// Follows a pod's log, if it is not followed already.
    pub fn follow(&self, pod_uid: &str, followed: &Followed) {
        let mut pods = self.pods();
        if !pods.contains_key(pod_uid) {
            // Pods of deleted Trials and of earlier runs.
            let known: HashSet<String> = self.known.state().iter().filter_map(|pod| pod.uid()).collect();
            pods.retain(|uid, _| known.contains(uid));
        }
        let follower = pods.entry(pod_uid.to_owned()).or_insert_with(|| self.follower(followed));
        // One that ended early found no log: the node may not have known the pod yet.
        let is_followed = follower.task.as_ref().is_some_and(|task| !task.is_finished());
        let ended = follower.reports.lock().unwrap_or_else(PoisonError::into_inner).ended;
        if !is_followed && !ended {
            let log = follower.log.clone();
            follower.task = Some(tokio::spawn(async move { log.lock().await.follow().await }));
        }
    }

    /// Stops following, and reads what is left of the log of a pod that has ended.
    pub async fn finish(&self, pod_uid: &str, followed: &Followed) -> Reports {
        let (log, reports) = {
            let mut pods = self.pods();
            let follower = pods.entry(pod_uid.to_owned()).or_insert_with(|| self.follower(followed));
            if let Some(task) = follower.task.take() {
                task.abort();
            }
            (follower.log.clone(), follower.reports.clone())
        };
        let known = reports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !known.ended {
            log.lock().await.read_rest().await;
        }
        let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.clone()
    }

    /// Forgets pods of a Trial whose result is recorded.
    pub fn forget(&self, pod_uids: impl IntoIterator<Item = String>) {
        let mut pods = self.pods();
        for uid in pod_uids {
            pods.remove(&uid);
        }
    }

    fn follower(&self, followed: &Followed) -> Follower {
        let reports = Reports { begun: Some((self.clock)()), ..Reports::default() };
        let reports = Arc::new(Mutex::new(reports));
        let log = Log {
            api: Api::namespaced(self.client.clone(), &followed.namespace),
            parser: Parser::new([followed.objective.metric.as_str()], followed.grammar.clone()),
            followed: followed.clone(),
            position: Position::default(),
            places: self.places.clone(),
            repeated: false,
            reports: reports.clone(),
            queues: self.queues.clone(),
            telemetry: self.telemetry.clone(),
            clock: self.clock,
        };
        Follower {
            log: Arc::new(tokio::sync::Mutex::new(log)),
            reports,
            task: None,
            since: Instant::now(),
            checkpoint: CHECKPOINT,
        }
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Follower>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a log was read: what comes again after a reconnection is dropped.
#[derive(Default)]
struct Position {
    /// Of a sidecar: generation and offset in the metrics file.
    file: Option<(u32, u64)>,
    /// Of a trainer: the node's latest timestamp, and how many lines had it.
    line: Option<(Timestamp, u64)>,
    /// How many lines with the latest timestamp come again; None once all has come again.
    again: Option<u64>,
}

impl Position {
    /// The log is opened anew, from the second of the latest timestamp on.
    fn reopen(&mut self) {
        self.again = self.line.map(|(_, count)| count);
    }

    /// Whether a sidecar's report is news: one that was started again reads the file from its start.
    fn is_new_report(&mut self, generation: u32, offset: u64) -> bool {
        let at = Some((generation, offset));
        let is_new = at > self.file;
        if is_new {
            self.file = at;
        }
        is_new
    }

    /// Whether a trainer's line is news. Several lines may have one timestamp, and the node's clock may be set back.
    fn is_new_line(&mut self, at: Timestamp) -> bool {
        let (latest, count) = self.line.unwrap_or((at, 0));
        if let Some(left) = self.again {
            if at < latest {
                return false;
            }
            if at == latest && left > 0 {
                self.again = Some(left - 1);
                return false;
            }
            self.again = None;
        }
        self.line = Some(match at.cmp(&latest) {
            Ordering::Greater => (at, 1),
            Ordering::Equal => (at, count + 1),
            Ordering::Less => (latest, count),
        });
        true
    }
}

/// How a log is read.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    /// As it grows.
    Stream,
    /// What there is now; more will come.
    Poll,
    /// What there is, and that is all.
    Rest,
}

/// One log and what was made of it.
struct Log {
    api: Api<Pod>,
    followed: Followed,
    parser: Parser,
    position: Position,
    /// Room for streams: each is a connection.
    places: Arc<Semaphore>,
    /// The line at hand was read before the last reconnection.
    repeated: bool,
    reports: Arc<Mutex<Reports>>,
    queues: Queues,
    telemetry: Arc<Telemetry>,
    clock: fn() -> Timestamp,
}

impl Log {
    /// Follows until the sidecar says that it was all, or somebody aborts this.
    async fn follow(&mut self) {
        let mut pause = Duration::from_millis(200);
        loop {
            let before = (self.position.file, self.position.line);
            // Without a place for a stream the log is asked for now and then.
            let place = self.places.clone().try_acquire_owned().ok();
            let reading = if place.is_some() { Reading::Stream } else { Reading::Poll };
            self.reports().polled |= reading == Reading::Poll;
            let result = self.read(reading).await;
            drop(place);
            if self.reports().ended {
                return;
            }
            if let Err(error) = &result {
                tracing::debug!(pod = self.followed.pod, %error, "the log cannot be followed, will be tried again");
                if error.code() == Some(404) {
                    return;
                }
            }
            // Something came: the next break is a new one.
            pause = match (self.position.file, self.position.line) == before {
                _ if reading == Reading::Poll => POLL,
                true => (pause * 2).min(Duration::from_secs(10)),
                false => Duration::from_millis(200),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads what there is, once.
    async fn read_rest(&mut self) {
        let result = match tokio::time::timeout(CALL_LIMIT, self.read(Reading::Rest)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout),
        };
        if let Err(error) = &result {
            tracing::debug!(pod = self.followed.pod, %error, "the log cannot be read");
        }
        let mut reports = self.reports();
        reports.lost = result.as_ref().is_err_and(|error| matches!(error.code(), Some(404 | 400)));
        reports.unread = result.is_err() && !reports.lost;
    }

    async fn read(&mut self, reading: Reading) -> Result<(), Error> {
        self.position.reopen();
        let params = LogParams {
            container: Some(self.followed.container.clone()),
            follow: reading == Reading::Stream,
            timestamps: self.followed.source == Source::Stdout,
            since_time: self.position.line.map(|(at, _)| at),
            ..LogParams::default()
        };
        let opened = self.api.clone();
        let pod = self.followed.pod.clone();
        let mut stream = Box::pin(super::error::call(opened.log_stream(&pod, &params)).await?);
        let mut lines = LineSplitter::new();
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let read = match tokio::time::timeout(SILENCE, read_some(&mut stream, &mut chunk)).await {
                // Opened anew: what comes again is recognised. A sidecar would have sent heartbeats.
                Err(_) => {
                    if self.followed.source == Source::Stdout {
                        self.heard();
                    }
                    return Ok(());
                }
                Ok(read) => read.map_err(kube::Error::ReadEvents)?,
            };
            if read == 0 {
                // A trainer need not end its last line.
                if reading == Reading::Rest {
                    lines.finish(|line, _| {
                        self.line(line);
                    });
                }
                return Ok(());
            }
            self.heard();
            let mut news = false;
            let known_too_long = lines.too_long();
            lines.push(&chunk[..read], |line, _| news |= self.line(line));
            self.reports().readings.noted.dropped.too_long += lines.too_long() - known_too_long;
            if news {
                self.queues.study(&self.followed.study, &self.followed.namespace);
            }
        }
    }

    /// Takes a line; whether it changed anything.
    fn line(&mut self, line: &[u8]) -> bool {
        match self.followed.source {
            Source::File => self.sidecar_line(line),
            Source::Stdout => self.trainer_line(line),
        }
    }

    fn sidecar_line(&mut self, line: &[u8]) -> bool {
        match std::str::from_utf8(line).ok().and_then(SidecarLine::parse) {
            // What another pod says is not about this one.
            Some(line) if line.pod() != self.followed.uid => false,
            Some(SidecarLine::Report { generation, offset, step, metrics, .. }) => {
                if !self.position.is_new_report(generation, offset) {
                    return false;
                }
                self.report(&Report { step, values: metrics })
            }
            Some(SidecarLine::Heartbeat { noted, problem, .. }) => {
                let mut reports = self.reports();
                reports.readings.noted = noted;
                reports.problem = problem;
                false
            }
            Some(SidecarLine::End { noted, problem, .. }) => {
                let mut reports = self.reports();
                reports.readings.noted = noted;
                reports.problem = problem;
                reports.ended = true;
                false
            }
            None => false,
        }
    }

    fn trainer_line(&mut self, line: &[u8]) -> bool {
        let text = match stamped(line) {
            Some((at, text)) => {
                self.repeated = !self.position.is_new_line(at);
                text
            }
            // What follows a bare carriage return, as of a progress bar, has no stamp of its own.
            None => line,
        };
        if self.repeated {
            return false;
        }
        let Log { reports, parser, followed, clock, .. } = self;
        let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reports.readings.reports;
        let taken = reports.readings.line(text, parser, &followed.objective, &followed.rungs, clock());
        let is_report = reports.readings.reports > before;
        drop(reports);
        if is_report {
            self.telemetry.reported(taken);
        }
        taken
    }

    fn heard(&self) {
        self.reports().heard = Some((self.clock)());
    }

    fn report(&mut self, report: &Report) -> bool {
        let Followed { objective, rungs, .. } = &self.followed;
        let taken = self.reports().readings.report(report, objective, rungs, (self.clock)());
        self.telemetry.reported(taken);
        taken
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's timestamp of a line, and the line.
fn stamped(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    let at = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    Some((at, &line[end + 1..]))
}

async fn read_some(stream: &mut (impl AsyncBufRead + Unpin), chunk: &mut [u8]) -> std::io::Result<usize> {
    stream.read(chunk).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn news(position: &mut Position, seconds: &[i64]) -> Vec<bool> {
        seconds.iter().map(|second| position.is_new_line(at(*second))).collect()
    }

    #[test]
    fn lines_of_one_timestamp_are_neither_lost_nor_counted_twice_when_the_log_is_opened_anew() {
        let mut position = Position::default();
        assert_eq!(news(&mut position, &[1, 2, 2]), [true; 3]);
        position.reopen();
        assert_eq!(news(&mut position, &[1, 2, 2, 2, 3]), [false, false, false, true, true]);
        position.reopen();
        assert_eq!(news(&mut position, &[3, 3]), [false, true]);
        position.reopen();
        assert_eq!(news(&mut position, &[3, 3, 4]), [false, false, true]);
    }

    #[test]
    fn a_node_s_clock_that_is_set_back_loses_no_line_of_a_stream() {
        let mut position = Position::default();
        assert_eq!(news(&mut position, &[10, 4, 5, 11]), [true; 4]);
    }

    #[test]
    fn a_sidecar_that_was_started_again_repeats_itself() {
        let mut position = Position::default();
        let offsets = |position: &mut Position, of: &[(u32, u64)]| -> Vec<bool> {
            of.iter().map(|(generation, offset)| position.is_new_report(*generation, *offset)).collect()
        };
        assert_eq!(offsets(&mut position, &[(1, 30), (1, 60)]), [true, true]);
        position.reopen();
        assert_eq!(offsets(&mut position, &[(1, 30), (1, 60), (1, 90)]), [false, false, true]);
        // The trainer has begun a new file.
        assert_eq!(offsets(&mut position, &[(2, 10), (1, 120)]), [true, false]);
    }
}
