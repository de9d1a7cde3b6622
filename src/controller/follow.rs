//! Follows the logs that carry metrics, live: of the sidecar, or of the trainer itself. Observations
//! stay in memory; one that may have its trial pruned asks for its Study to be reconciled, and none costs a write.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncReadExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Settings;
use super::error::{CALL_LIMIT, Error, call};
use super::index::Kept;
use super::telemetry::Telemetry;
use super::watch::Queues;
use super::workload::pods;
use crate::core::pruner::Pruners;
use crate::core::{Objective, Series};
use crate::job::{SIDECAR_CONTAINER, Source};
use crate::last_words::LOOKED_AT;
use crate::metrics::{Grammar, Line, LineSplitter, Parser, Readings, Report, SidecarLine, Times};
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
    /// Why the sidecar cannot read the metrics.
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
    pruners: Pruners,
    study: String,
}

impl Followed {
    /// The log of `pod` that carries the metrics of a Trial of `study` which runs in the container `trainer`.
    pub fn new(study: &ValidStudy, pod: &Pod, trainer: &str) -> Followed {
        let container = if study.template.source.has_sidecar() { SIDECAR_CONTAINER } else { trainer };
        Followed {
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            container: container.to_owned(),
            source: study.template.source,
            objective: study.core.objective.clone(),
            grammar: study.template.grammar.clone(),
            pruners: study.core.pruners.clone(),
            study: study.core.name.clone(),
        }
    }

    /// The container whose log it is.
    pub fn container(&self) -> &str {
        &self.container
    }
}

/// How often reports ask for a pass over their Study at most: at once for the first, however many follow.
const NEWS: Duration = Duration::from_millis(100);

/// Asks for passes over Studies whose trials have reported.
struct News {
    queues: Queues,
    /// When the last pass of each Study was asked for, or will be.
    told: Mutex<HashMap<(String, String), Instant>>,
}

impl News {
    fn tell(self: &Arc<Self>, study: &str, namespace: &str) {
        let now = Instant::now();
        let due = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            // What was told long ago holds nothing back.
            if told.len() > 1_000 {
                told.retain(|_, last| *last + NEWS > now);
            }
            let last = told.get(&(namespace.to_owned(), study.to_owned())).copied();
            // One that is to come sees this report as well.
            if last.is_some_and(|last| last > now) {
                return;
            }
            let due = last.map_or(now, |last| now.max(last + NEWS));
            told.insert((namespace.to_owned(), study.to_owned()), due);
            due
        };
        if due <= now {
            return self.queues.study(study, namespace);
        }
        let (news, study, namespace) = (self.clone(), study.to_owned(), namespace.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            news.queues.study(&study, &namespace);
        });
    }
}

/// The logs that are followed, by pod UID.
pub struct Followers {
    client: Client,
    news: Arc<News>,
    telemetry: Arc<Telemetry>,
    /// The pods that there are: the logs of others are forgotten.
    known: Kept<Pod>,
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
        known: Kept<Pod>,
        settings: &Settings,
    ) -> Followers {
        let places = Arc::new(Semaphore::new(settings.max_log_streams));
        let news = Arc::new(News { queues, told: Mutex::default() });
        Followers { client, news, telemetry, known, clock: settings.clock, places, pods: Mutex::default() }
    }

    /// What was read of a pod so far.
    pub fn reports(&self, pod_uid: &str) -> Option<Reports> {
        let pods = self.pods();
        let reports = pods.get(pod_uid)?.reports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(reports)
    }

    /// Whether a pod's log is followed, or was.
    pub fn follows(&self, pod_uid: &str) -> bool {
        self.pods().contains_key(pod_uid)
    }

    /// Since when a pod's log is read.
    pub fn begun(&self, pod_uid: &str) -> Option<Timestamp> {
        let pods = self.pods();
        let reports = pods.get(pod_uid)?.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.begun
    }

    /// The objective's observations that were read of a pod so far.
    pub fn series(&self, pod_uid: &str) -> Option<Series> {
        let pods = self.pods();
        let reports = pods.get(pod_uid)?.reports.lock().unwrap_or_else(PoisonError::into_inner);
        Some(reports.readings.series.clone())
    }

    /// How much was read of a pod's series so far.
    pub fn extent(&self, pod_uid: &str) -> Option<(u64, usize)> {
        let pods = self.pods();
        let reports = pods.get(pod_uid)?.reports.lock().unwrap_or_else(PoisonError::into_inner);
        Some(reports.readings.series.extent())
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
        // Pods of deleted Trials and of earlier runs are looked for where there may be any.
        if !pods.contains_key(pod_uid) && pods.len() >= self.known.count() {
            let known: HashSet<String> = self.known.all().iter().filter_map(|pod| pod.uid()).collect();
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

    /// Stops following, and reads what is left of the log of a pod that has ended: its reports, and the last lines of the
    /// trainer's log where it is that.
    pub async fn finish(&self, pod_uid: &str, followed: &Followed) -> (Reports, Option<String>) {
        let (log, reports) = {
            let mut pods = self.pods();
            let follower = pods.entry(pod_uid.to_owned()).or_insert_with(|| self.follower(followed));
            if let Some(task) = follower.task.take() {
                task.abort();
            }
            (follower.log.clone(), follower.reports.clone())
        };
        let known = reports.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tail = if known.ended { None } else { log.lock().await.read_rest().await };
        let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        (reports.clone(), tail)
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
            parser: Parser::new(followed.pruners.metrics(&followed.objective.metric), followed.grammar.clone())
                .with_folds(followed.pruners.fold_metric()),
            followed: followed.clone(),
            position: Position::default(),
            places: self.places.clone(),
            known: self.known.clone(),
            repeated: false,
            reports: reports.clone(),
            news: self.news.clone(),
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
    /// From when on the log is read: the API takes whole seconds, and the client would round them up.
    fn since(&self) -> Option<Timestamp> {
        self.line.and_then(|(at, _)| Timestamp::from_second(at.as_second()).ok())
    }

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
    known: Kept<Pod>,
    /// The line at hand was read before the last reconnection.
    repeated: bool,
    reports: Arc<Mutex<Reports>>,
    news: Arc<News>,
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
                // A log that has ended has mostly ended with its container, and then it is read to its end elsewhere.
                false if result.is_ok() => Duration::from_secs(1),
                false => Duration::from_millis(200),
            };
            tokio::time::sleep(pause).await;
            while self.has_ended() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Whether the container has ended: what is left of its log is read once its Job has.
    fn has_ended(&self) -> bool {
        let pod = self.known.get(&self.followed.namespace, &self.followed.pod);
        pod.is_some_and(|pod| pods::has_terminated(&pod, &self.followed.container))
    }

    /// Reads what is left, once; the last lines of a trainer's log come with it.
    async fn read_rest(&mut self) -> Option<String> {
        let result = match tokio::time::timeout(CALL_LIMIT, self.rest()).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout),
        };
        if let Err(error) = &result {
            tracing::debug!(pod = self.followed.pod, %error, "the log cannot be read");
        }
        let is_gone = match &result {
            Ok(tail) => tail.as_deref().is_some_and(is_gone),
            Err(error) => matches!(error.code(), Some(404 | 400)),
        };
        let mut reports = self.reports();
        reports.lost = is_gone;
        reports.unread = result.is_err() && !is_gone;
        drop(reports);
        result.ok().flatten().and_then(|tail| words(&tail, true))
    }

    async fn rest(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.followed.source.has_sidecar() {
            return self.read(Reading::Rest).await.map(|()| None);
        }
        // Its last lines are asked for in any case, and mostly all that is left is in them.
        let tail = last_lines(&self.api, &self.followed.pod, &self.followed.container, true).await?;
        let known = self.position.line.map(|(at, _)| at);
        if is_gone(&tail) {
            return Ok(Some(tail));
        }
        if is_joined(&tail, known) {
            self.position.reopen();
            let too_long = self.reports().readings.noted.dropped.too_long;
            let mut lines = LineSplitter::new();
            self.take(&mut lines, &tail);
            self.take_last(lines);
            // Those were counted when they came first.
            if known.is_some() {
                self.reports().readings.noted.dropped.too_long = too_long;
            }
        } else {
            self.read(Reading::Rest).await?;
        }
        Ok(Some(tail))
    }

    async fn read(&mut self, reading: Reading) -> Result<(), Error> {
        self.position.reopen();
        let is_sidecar = self.followed.source.has_sidecar();
        let params = LogParams {
            container: Some(self.followed.container.clone()),
            follow: reading == Reading::Stream,
            timestamps: true,
            // What a sidecar says last is read whatever its node's clock has done meanwhile.
            since_time: self.position.since().filter(|_| !(is_sidecar && reading == Reading::Rest)),
            ..LogParams::default()
        };
        let opened = self.api.clone();
        let pod = self.followed.pod.clone();
        let mut stream = Box::pin(call(opened.log_stream(&pod, &params)).await?);
        let mut lines = LineSplitter::new();
        loop {
            let chunk = match tokio::time::timeout(SILENCE, stream.fill_buf()).await {
                // Opened anew: what comes again is recognised. A sidecar would have sent heartbeats.
                Err(_) => {
                    if !is_sidecar {
                        self.heard();
                    }
                    return Ok(());
                }
                Ok(chunk) => chunk.map_err(kube::Error::ReadEvents)?,
            };
            if chunk.is_empty() {
                if reading == Reading::Rest {
                    self.take_last(lines);
                }
                return Ok(());
            }
            let before = self.reports().readings.comparisons;
            self.take(&mut lines, chunk);
            let taken = chunk.len();
            stream.consume_unpin(taken);
            // No other report needs a pass over its Study.
            if self.reports().readings.comparisons > before {
                self.news.tell(&self.followed.study, &self.followed.namespace);
            }
        }
    }

    /// Takes what has come of the log.
    fn take(&mut self, lines: &mut LineSplitter, bytes: &[u8]) {
        self.heard();
        let known_too_long = lines.too_long();
        lines.push(bytes, |line| {
            self.line(line);
        });
        self.reports().readings.noted.dropped.too_long += lines.too_long() - known_too_long;
    }

    /// Takes the last line, which a trainer need not end.
    fn take_last(&mut self, mut lines: LineSplitter) {
        lines.finish(|line| {
            self.line(line);
        });
    }

    /// Takes a line; whether it changed anything.
    fn line(&mut self, line: Line) -> bool {
        if self.followed.source.has_sidecar() { self.sidecar_line(line) } else { self.trainer_line(line) }
    }

    fn sidecar_line(&mut self, line: Line) -> bool {
        let (written, line) = match stamped(line.bytes) {
            Some((at, text)) => {
                self.position.is_new_line(at);
                (Some(at), text)
            }
            None => (None, line.bytes),
        };
        match std::str::from_utf8(line).ok().and_then(SidecarLine::parse) {
            // What another pod says is not about this one.
            Some(line) if line.pod() != self.followed.uid => false,
            Some(SidecarLine::Report { generation, offset, step, metrics, .. }) => {
                if !self.position.is_new_report(generation, offset) {
                    return false;
                }
                self.report(&Report { step, values: metrics }, written)
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

    fn trainer_line(&mut self, line: Line) -> bool {
        // What follows a bare carriage return, as of a progress bar, has no stamp of its own.
        let text = match Some(line.bytes).filter(|_| !line.continues).and_then(stamped) {
            Some((at, text)) => {
                self.repeated = !self.position.is_new_line(at);
                text
            }
            None => line.bytes,
        };
        if self.repeated {
            return false;
        }
        let times = self.times(self.position.line.map(|(at, _)| at));
        let Log { reports, parser, followed, .. } = self;
        let mut reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reports.readings.reports;
        let taken = reports.readings.line(text, parser, &followed.objective, &followed.pruners, times);
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

    /// When a line was read, and when the node says that it was written.
    fn times(&self, written: Option<Timestamp>) -> Times {
        let read = (self.clock)();
        Times { read, written: written.unwrap_or(read) }
    }

    fn report(&mut self, report: &Report, written: Option<Timestamp>) -> bool {
        let times = self.times(written);
        let Followed { objective, pruners, .. } = &self.followed;
        let taken = self.reports().readings.report(report, objective, pruners, times);
        self.telemetry.reported(taken);
        taken
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of the end of a log is asked for. What this limit cuts off is the very end, so it must not: a runtime's lines have
/// 16 KiB at most.
const MOST_OF_TAIL: usize = LOOKED_AT * 17 * 1024;

/// The end of a container's log, with the node's timestamps or without. Whatever bytes a trainer has printed.
async fn last_lines(api: &Api<Pod>, pod: &str, container: &str, timestamps: bool) -> Result<Vec<u8>, Error> {
    let params = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(LOOKED_AT as i64),
        limit_bytes: Some(MOST_OF_TAIL as i64),
        timestamps,
        ..LogParams::default()
    };
    let read = async {
        let mut bytes = Vec::new();
        let mut stream = Box::pin(call(api.log_stream(pod, &params)).await?);
        stream.read_to_end(&mut bytes).await.map_err(kube::Error::ReadEvents)?;
        Ok(bytes)
    };
    tokio::time::timeout(CALL_LIMIT, read).await.unwrap_or(Err(Error::Timeout))
}

/// The end of a container's log, where it has one.
pub async fn log_tail(api: &Api<Pod>, pod: &Pod, container: &str) -> Option<String> {
    if !pods::has_log(pod, container) {
        return None;
    }
    last_lines(api, &pod.name_any(), container, false).await.ok().and_then(|tail| words(&tail, false))
}

/// Whether this is what the node says where it has the log no more; that is not the trainer's word.
fn is_gone(tail: &[u8]) -> bool {
    tail.starts_with(b"unable to retrieve container logs")
}

/// What a trainer has printed last, without the node's timestamps.
fn words(tail: &[u8], is_stamped: bool) -> Option<String> {
    let text = String::from_utf8_lossy(tail);
    let unstamped = |line: &str| match stamped(line.as_bytes()).and_then(|_| line.split_once(' ')) {
        Some((_, text)) if is_stamped => text.to_owned(),
        _ => line.to_owned(),
    };
    (!tail.is_empty() && !is_gone(tail)).then(|| text.split_inclusive('\n').map(unstamped).collect())
}

/// Whether nothing is missing between what was read of a log up to the timestamp `known` and these last lines of it: they
/// begin before it, or are the whole log. A runtime keeps a long line in pieces, each of which counts where lines are counted.
fn is_joined(tail: &[u8], known: Option<Timestamp>) -> bool {
    let begins = stamped(tail).map(|(at, _)| at);
    if begins.zip(known).is_some_and(|(begins, known)| begins < known) {
        return true;
    }
    let mut lines = tail.split_inclusive(|byte| *byte == b'\n');
    let count = lines.clone().count();
    count < LOOKED_AT && tail.len() < MOST_OF_TAIL && lines.all(|line| line.len() < 8 * 1024)
}

/// The node's timestamp of a line, and the line.
fn stamped(line: &[u8]) -> Option<(Timestamp, &[u8])> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    let at = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
    Some((at, &line[end + 1..]))
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
    fn a_log_is_opened_anew_from_the_second_of_its_last_line_on() {
        let mut position = Position::default();
        assert_eq!(position.since(), None);
        position.is_new_line("2026-03-01T12:00:10.7Z".parse().unwrap());
        assert_eq!(
            position.since(),
            Some("2026-03-01T12:00:10Z".parse().unwrap()),
            "rounded up, the rest of it is lost"
        );
    }

    #[test]
    fn last_lines_are_joined_to_what_was_read_where_they_begin_before_its_end_or_are_all() {
        let line = |second: u32| format!("2026-03-01T12:00:{second:02}Z loss=1\n").into_bytes();
        let known = "2026-03-01T12:00:30Z".parse().ok();
        let few = [line(31), line(32)].concat();
        assert!(is_joined(&few, known) && is_joined(&few, None), "the whole log");
        let many = vec![line(31); LOOKED_AT].concat();
        assert!(!is_joined(&many, known) && !is_joined(&many, None), "there may be more before");
        assert!(is_joined(&[line(29), many].concat(), known));
        let long = [line(31), vec![b'x'; 9 * 1024]].concat();
        assert!(!is_joined(&long, None), "its pieces count as lines");
    }

    #[test]
    fn a_trainer_s_words_are_read_whatever_its_bytes_and_without_stamps() {
        let tail = b"2026-03-01T12:00:01Z caf\xe9 \n2026-03-01T12:00:02Z done";
        assert_eq!(words(tail, true).as_deref(), Some("caf\u{fffd} \ndone"));
        assert_eq!(words(b"2026-03-01T12:00:02Z done", false).as_deref(), Some("2026-03-01T12:00:02Z done"));
        assert_eq!(words(b"unable to retrieve container logs for containerd://0a", true), None);
        assert_eq!(words(b"", true), None);
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
