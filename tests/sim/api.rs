//! The API server as a service behind kube's client: HTTP to the store and back, watches, logs, and the faults
//! in front of all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::header::ACCEPT;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Cluster;
use crate::faults::{Fault, Faults, StreamFault, reset};
use crate::store::{self, Actor, Answer, Deletion, KINDS, Key, Shared, refusal};

type Answered = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A protection of the operator that is taken out on the way to the store, to prove that the promises need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Jobs are deleted by name.
    UidPrecondition,
    /// Writes carry no resourceVersion.
    ConflictCheck,
    /// What is listed before something is proposed or started is 20 s old.
    LiveList,
    /// What is written into a Trial is acknowledged, and lost.
    RecordFirst,
}

/// One operator's way to the API server.
#[derive(Clone)]
pub struct Api {
    pub store: Shared,
    pub cluster: Arc<Mutex<Cluster>>,
    pub faults: Arc<Mutex<Faults>>,
    /// Calls that this operator may still make: after the last one it is never answered again.
    pub calls_left: Arc<Mutex<Option<u64>>>,
    /// Told when the last call was made.
    pub spent: Arc<tokio::sync::Notify>,
    /// Until when the process stands still.
    pub paused: Arc<Mutex<Option<Instant>>>,
    /// How many calls were made.
    pub calls: Arc<Mutex<u64>>,
    /// What was asked for: verbs, groups and resources as RBAC names them.
    pub asked: Arc<Mutex<BTreeSet<(String, String, String)>>>,
    /// Kinds of which events were left out: their watches end in 410 until one starts from the list that was
    /// given out since, at this version. An answer may be lost on its way, so that one 410 is not enough.
    pub behind: Arc<Mutex<BTreeMap<&'static str, Option<u64>>>>,
    pub removed: Option<Removed>,
    /// Calls that are to act at this instant.
    pub turns: Turns,
    /// A name in the trace.
    pub name: &'static str,
}

/// An object, or a list, as it is answered to who asks for the metadata alone.
fn metadata_only(answer: Value) -> Value {
    let (api_version, of) = ("meta.k8s.io/v1", "PartialObjectMetadata");
    let bare = |object: &Value| json!({"apiVersion": api_version, "kind": of, "metadata": object["metadata"]});
    let Some(items) = answer["items"].as_array() else { return bare(&answer) };
    // As the API server has it, where there are none.
    let items = if items.is_empty() { Value::Null } else { items.iter().map(bare).collect() };
    json!({"apiVersion": api_version, "kind": format!("{of}List"), "metadata": answer["metadata"], "items": items})
}

/// Calls of one instant act in the order of what they are: in which order an operator made them depends on the
/// seeds of its hash maps, and one seed shall give one interleaving.
pub type Turns = Arc<Mutex<BTreeSet<(Instant, String, u64)>>>;

struct Turn {
    turns: Turns,
    entry: (Instant, String, u64),
}

impl Turn {
    async fn take(turns: &Turns, what: &str) -> Turn {
        // By then all of this instant have come.
        let due = Instant::now() + Duration::from_millis(1);
        let entry = {
            let mut turns = turns.lock().unwrap();
            let taken = turns.iter().filter(|(_, other, _)| other == what).map(|(.., n)| n + 1).max();
            let entry = (due, what.to_owned(), taken.unwrap_or(0));
            turns.insert(entry.clone());
            entry
        };
        let turn = Turn { turns: turns.clone(), entry };
        sleep_until(due).await;
        while turn.turns.lock().unwrap().first() != Some(&turn.entry) {
            tokio::task::yield_now().await;
        }
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().unwrap().remove(&self.entry);
    }
}

impl Api {
    /// A way without any faults but those of `faults`.
    pub fn new(store: Shared, cluster: Arc<Mutex<Cluster>>, faults: Arc<Mutex<Faults>>, name: &'static str) -> Api {
        Api {
            store,
            cluster,
            faults,
            calls_left: Arc::default(),
            spent: Arc::default(),
            paused: Arc::default(),
            calls: Arc::default(),
            asked: Arc::default(),
            behind: Arc::default(),
            removed: None,
            turns: Turns::default(),
            name,
        }
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { api.serve(request).await }
        });
        Client::new(service, "default")
    }

    async fn pause(&self) {
        let until = *self.paused.lock().unwrap();
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    async fn serve(&self, request: Request<Body>) -> io::Result<Answered> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let query: Vec<(String, String)> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let param = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let Some(target) = Target::parse(&path) else {
            return Ok(refused(404, "NotFound", &format!("no such path: {path}")));
        };
        let is_watch = param("watch").as_deref() == Some("true");
        let is_log = target.subresource.as_deref() == Some("log");
        let verb = parts.method.as_str().to_owned();
        // An Event's name is another each time.
        let named = target.name.as_deref().or(body["metadata"]["name"].as_str()).filter(|_| target.kind != "events");
        let part = target.subresource.clone().or(param("labelSelector")).unwrap_or_default();
        let what = format!("{} {verb} {} {} {part}", self.name, target.kind, named.unwrap_or_default());
        let what = what.trim_end().to_owned();
        let (latency, fault) = {
            let mut faults = self.faults.lock().unwrap();
            faults.about(&what);
            let dry = param("dryRun").is_some();
            (faults.latency(), faults.call(&verb, verb == "POST" && !dry && target.kind != "events"))
        };
        // Half of it on the way there, half on the way back.
        self.pause().await;
        sleep(latency / 2).await;
        let turn = Turn::take(&self.turns, &what).await;
        if fault != Fault::None && target.kind != "events" {
            self.store.lock().unwrap().note(format!("{what}: {fault:?}"));
        }
        match fault {
            Fault::Reset { acted: false } => return Err(reset()),
            Fault::Before(code) => return Ok(refused(code, reason(code), "a fault before the call took effect")),
            _ => {}
        }
        let last = {
            *self.calls.lock().unwrap() += 1;
            self.asked.lock().unwrap().insert(right(&verb, &path, &target, is_watch));
            let mut left = self.calls_left.lock().unwrap();
            if let Some(left) = left.as_mut() {
                *left = left.saturating_sub(1);
            }
            *left == Some(0)
        };
        if matches!(target.kind, "studies" | "trials") && self.store.lock().unwrap().no_crds {
            return Ok(refused(404, "NotFound", "the server could not find the requested resource"));
        }
        if is_watch || is_log {
            if last {
                self.die(&what).await;
            }
            return Ok(if is_watch { self.watch(&target, &param) } else { self.log(&target, &param) });
        }
        let accepts = parts.headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
        let mut answer = self.act(&verb, &target, &param, &body);
        if accepts.contains("as=PartialObjectMetadata") {
            answer = answer.map(metadata_only);
        }
        drop(turn);
        if let Err(refused) = &answer
            && verb != "GET"
        {
            self.store.lock().unwrap().note(format!("{what}: {} {}", refused.code, refused.message));
        }
        if last {
            self.die(&what).await;
        }
        sleep(latency / 2).await;
        self.pause().await;
        match fault {
            Fault::After(code) => Ok(refused(code, reason(code), "a fault after the call took effect")),
            Fault::Reset { .. } => match answer {
                Ok(object) => Ok(torn(&object)),
                Err(_) => Err(reset()),
            },
            _ => Ok(match answer {
                Ok(object) => json_response(if verb == "POST" { 201 } else { 200 }, &object),
                Err(refused) => self::refused(refused.code, refused.reason, &refused.message),
            }),
        }
    }

    /// The process is killed before it hears of the answer.
    async fn die(&self, what: &str) {
        self.store.lock().unwrap().note(format!("{what}: the operator is killed after this call"));
        self.spent.notify_one();
        std::future::pending::<()>().await;
    }

    fn act(&self, verb: &str, target: &Target, param: &impl Fn(&str) -> Option<String>, body: &Value) -> Answer {
        let mut store = self.store.lock().unwrap();
        let kind = target.kind;
        let Some(name) = &target.name else {
            return match verb {
                "POST" => store.create(Actor::Operator, kind, body.clone(), param("dryRun").is_some()),
                _ => {
                    let selector = Selector::new(param);
                    if let Some(field) = selector.unsupported(kind) {
                        return Err(refusal(400, "BadRequest", format!("field label not supported: {field}")));
                    }
                    let items: Vec<Value> = match self.removed == Some(Removed::LiveList) && selector.is_of_one_study()
                    {
                        true => store.of_kind_at(kind, Instant::now() - Duration::from_secs(20)),
                        false => store.of_kind(kind).cloned().collect(),
                    };
                    let items: Vec<Value> = items.into_iter().filter(|object| selector.takes(object)).collect();
                    // Only watches list in pages.
                    if param("limit").is_some()
                        && let Some(listed) = self.behind.lock().unwrap().get_mut(kind)
                    {
                        *listed = Some(store.revision());
                    }
                    let (_, api_version, name) = KINDS.iter().find(|(plural, ..)| *plural == kind).unwrap();
                    Ok(json!({
                        "apiVersion": api_version,
                        "kind": format!("{name}List"),
                        "metadata": {"resourceVersion": store.revision().to_string()},
                        "items": items,
                    }))
                }
            };
        };
        let key = Key::new(kind, name);
        if target.subresource.as_deref() == Some("scale") {
            let mut object = store.get(&key)?;
            if verb == "PATCH" {
                let patch = json!({"metadata": body["metadata"], "spec": {"parallelism": body["spec"]["replicas"]}});
                object = store.patch(Actor::User, &key, &patch, false)?;
            }
            return Ok(json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
                "spec": {"replicas": object["spec"]["parallelism"]}}));
        }
        match verb {
            "GET" => store.get(&key),
            "PATCH" => {
                let status = target.subresource.as_deref() == Some("status");
                let mut body = body.clone();
                if self.removed == Some(Removed::ConflictCheck) {
                    body["metadata"]["resourceVersion"].take();
                }
                if self.removed == Some(Removed::RecordFirst) && kind == "trials" {
                    let mut pretended = store.get(&key)?;
                    store::merge(&mut pretended, &body);
                    return Ok(pretended);
                }
                store.patch(Actor::Operator, &key, &body, status)
            }
            "DELETE" => {
                let uid = body["preconditions"]["uid"].as_str();
                let uid = uid.filter(|_| self.removed != Some(Removed::UidPrecondition));
                let deletion = Deletion {
                    uid: uid.map(str::to_owned),
                    revision: body["preconditions"]["resourceVersion"].as_str().map(str::to_owned),
                    foreground: body["propagationPolicy"] == "Foreground",
                };
                store.delete(Actor::Operator, &key, &deletion)
            }
            _ => Err(refusal(405, "MethodNotAllowed", verb)),
        }
    }

    fn watch(&self, target: &Target, param: &impl Fn(&str) -> Option<String>) -> Answered {
        let store = self.store.lock().unwrap();
        let from: u64 = param("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
        let fault = self.faults.lock().unwrap().about(&format!("{} watch {}", self.name, target.kind)).watch();
        if from < store.compacted || self.is_behind(target.kind, from) {
            // As the API server does it: the watch starts, and has one event. Some proxies refuse it at once.
            return match store.revision().is_multiple_of(2) {
                true => streamed(stream::iter([Ok(gone())])),
                false => refused(410, "Expired", "too old resource version"),
            };
        }
        let selector = Selector::new(param);
        let mut known = BTreeSet::new();
        for change in store.log.iter().filter(|change| change.revision <= from && change.key.kind == target.kind) {
            match !change.deleted && selector.takes(&change.object) {
                true => known.insert(change.key.name.clone()),
                false => known.remove(&change.key.name),
            };
        }
        let limit = param("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(290);
        let now = Instant::now();
        let watch = Watch {
            store: self.store.clone(),
            kind: target.kind,
            selector,
            at: store.log.partition_point(|change| change.revision <= from),
            revision: from,
            known,
            started: now,
            deadline: now + Duration::from_secs(limit),
            bookmark: now + Duration::from_secs(50),
            fault,
            count: 0,
            ended: false,
            api: self.clone(),
        };
        streamed(watch.frames(store.changes()))
    }

    /// Whether a watch of a kind from this version would never bring an event that was left out.
    fn is_behind(&self, kind: &'static str, from: u64) -> bool {
        let mut behind = self.behind.lock().unwrap();
        let is_behind = behind.get(kind).is_some_and(|listed| listed.is_none_or(|listed| from < listed));
        if !is_behind {
            behind.remove(kind);
        }
        is_behind
    }

    fn log(&self, target: &Target, param: &impl Fn(&str) -> Option<String>) -> Answered {
        let store = self.store.lock().unwrap();
        let name = target.name.clone().unwrap_or_default();
        let Ok(pod) = store.get(&Key::new("pods", &name)) else {
            return refused(404, "NotFound", "pods not found");
        };
        let container = param("container").unwrap_or_default();
        if container == "trainer" {
            return Response::new(full("epoch 1\nthe trainer's last words\n"));
        }
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let cluster = self.cluster.lock().unwrap();
        if !cluster.logs.contains_key(&uid) {
            return refused(400, "BadRequest", "container is waiting to start");
        }
        let follow = param("follow").as_deref() == Some("true");
        let mut fault = self.faults.lock().unwrap().about(&format!("{} log {name}", self.name)).log();
        if !follow {
            fault.silent = None;
        }
        let logs = cluster.logged.subscribe();
        let kept = cluster.logs.get(&uid).map_or(0, |log| log.bytes.len());
        let at = if fault.rotated { kept / 2 } else { 0 };
        let follower = LogStream { api: self.clone(), uid, at, follow, started: Instant::now(), fault, ended: false };
        streamed(follower.frames(logs))
    }
}

struct Watch {
    store: Shared,
    kind: &'static str,
    selector: Selector,
    /// Index into the log.
    at: usize,
    revision: u64,
    known: BTreeSet<String>,
    started: Instant,
    deadline: Instant,
    bookmark: Instant,
    fault: StreamFault,
    count: u64,
    ended: bool,
    api: Api,
}

impl Watch {
    fn frames(self, changes: tokio::sync::watch::Receiver<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold((self, changes), |(mut watch, mut changes)| async move {
            loop {
                if watch.ended {
                    return None;
                }
                watch.api.pause().await;
                let [silent, cut] = watch.fault.moments(watch.started);
                let now = Instant::now();
                let no_crds = matches!(watch.kind, "studies" | "trials") && watch.store.lock().unwrap().no_crds;
                if watch.api.faults.lock().unwrap().away || no_crds {
                    watch.ended = true;
                    return Some((Err(reset()), (watch, changes)));
                }
                if silent.is_some_and(|at| now >= at) {
                    std::future::pending::<()>().await;
                }
                if cut.is_some_and(|at| now >= at) {
                    watch.ended = true;
                    let last = if watch.fault.gone { Some(Ok(gone())) } else { watch.fault.end() };
                    return last.map(|last| (last, (watch, changes)));
                }
                let (event, due) = watch.next(now);
                if let Some(event) = event {
                    return Some((Ok(event), (watch, changes)));
                }
                if now >= watch.deadline {
                    return None;
                }
                let mut until = watch.deadline.min(watch.bookmark);
                for at in [due, silent, cut].into_iter().flatten() {
                    until = until.min(at);
                }
                tokio::select! {
                    biased;
                    _ = changes.changed() => {}
                    () = sleep_until(until) => {}
                }
            }
        })
    }

    /// The next event that is due, or when one will be.
    fn next(&mut self, now: Instant) -> (Option<Bytes>, Option<Instant>) {
        let store = self.store.lock().unwrap();
        let mut later = None;
        while let Some(change) = store.log.get(self.at) {
            let due = change.at + self.fault.lag;
            if due > now {
                later = Some(due);
                break;
            }
            self.at += 1;
            self.revision = change.revision;
            if change.key.kind != self.kind {
                continue;
            }
            let takes = !change.deleted && self.selector.takes(&change.object);
            let was_known = match takes {
                true => !self.known.insert(change.key.name.clone()),
                false => self.known.remove(&change.key.name),
            };
            let type_ = match (takes, was_known) {
                (true, false) => "ADDED",
                (true, true) => "MODIFIED",
                (false, true) => "DELETED",
                (false, false) => continue,
            };
            self.count += 1;
            if self.fault.missed.is_some_and(|n| self.count.is_multiple_of(n)) {
                self.api.behind.lock().unwrap().insert(self.kind, None);
                continue;
            }
            let mut event = line(type_, &change.object);
            if self.fault.twice {
                event = Bytes::from([event.clone(), event].concat());
            }
            return (Some(event), None);
        }
        if now >= self.bookmark {
            self.bookmark = now + Duration::from_secs(50);
            let (_, api_version, kind) = KINDS.iter().find(|(plural, ..)| *plural == self.kind).unwrap();
            let object = json!({"apiVersion": api_version, "kind": kind,
                "metadata": {"resourceVersion": self.revision.max(1).to_string()}});
            return (Some(line("BOOKMARK", &object)), None);
        }
        (None, later)
    }
}

struct LogStream {
    api: Api,
    uid: String,
    at: usize,
    follow: bool,
    started: Instant,
    fault: StreamFault,
    ended: bool,
}

impl LogStream {
    fn frames(self, logs: tokio::sync::watch::Receiver<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::unfold((self, logs), |(mut log, mut logs)| async move {
            loop {
                if log.ended {
                    return None;
                }
                let now = Instant::now();
                let [silent, cut] = log.fault.moments(log.started);
                if silent.is_some_and(|at| now >= at) {
                    std::future::pending::<()>().await;
                }
                if log.follow && cut.is_some_and(|at| now >= at) {
                    log.ended = true;
                    return log.fault.end().map(|last| (last, (log, logs)));
                }
                let (piece, closed) = {
                    let cluster = log.api.cluster.lock().unwrap();
                    match cluster.logs.get(&log.uid) {
                        None => (None, true),
                        Some(kept) => (
                            kept.bytes.get(log.at..).filter(|rest| !rest.is_empty()).map(Bytes::copy_from_slice),
                            kept.closed,
                        ),
                    }
                };
                if let Some(rest) = piece {
                    let what = format!("{} piece {}", log.api.name, log.uid);
                    let len = log.api.faults.lock().unwrap().about(&what).piece(rest.len());
                    log.at += len;
                    return Some((Ok(rest.slice(..len)), (log, logs)));
                }
                if closed || !log.follow {
                    return None;
                }
                let until = [cut, silent].into_iter().flatten().min().unwrap_or(now + Duration::from_secs(3600));
                tokio::select! {
                    biased;
                    _ = logs.changed() => {}
                    () = sleep_until(until) => {}
                }
            }
        })
    }
}

/// What a path names.
struct Target {
    kind: &'static str,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    fn parse(path: &str) -> Option<Target> {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        parts.drain(..if parts[0] == "api" { 2 } else { 3 });
        if parts.first() == Some(&"namespaces") {
            parts.drain(..2);
        }
        let (kind, ..) = KINDS.iter().find(|(plural, ..)| Some(plural) == parts.first())?;
        Some(Target {
            kind,
            name: parts.get(1).map(|name| (*name).to_owned()),
            subresource: parts.get(2).map(|name| (*name).to_owned()),
        })
    }
}

/// What a call needs, as RBAC names it.
fn right(method: &str, path: &str, target: &Target, is_watch: bool) -> (String, String, String) {
    let verb = match (method, &target.name) {
        _ if is_watch => "watch",
        ("GET", Some(_)) => "get",
        ("GET", None) => "list",
        ("POST", _) => "create",
        ("DELETE", None) => "deletecollection",
        ("DELETE", _) => "delete",
        ("PUT", _) => "update",
        _ => "patch",
    };
    let group = path.strip_prefix("/apis/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let subresource = target.subresource.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
    (verb.to_owned(), group.to_owned(), format!("{}{subresource}", target.kind))
}

/// Labels and fields to select by.
struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

/// What a label or a field has to be.
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
    DoesNotExist(String),
}

impl Requirement {
    fn all(text: Option<String>) -> Vec<Requirement> {
        let parts = text.unwrap_or_default();
        let parts = parts.split(',').filter(|part| !part.is_empty());
        let requirement = |part: &str| match (part.split_once("!="), part.split_once('='), part.strip_prefix('!')) {
            (Some((name, value)), ..) => Requirement::IsNot(name.to_owned(), value.to_owned()),
            (_, Some((name, value)), _) => Requirement::Is(name.to_owned(), value.trim_start_matches('=').to_owned()),
            (.., Some(name)) => Requirement::DoesNotExist(name.to_owned()),
            _ => Requirement::Exists(part.to_owned()),
        };
        parts.map(requirement).collect()
    }

    fn name(&self) -> &str {
        let (Requirement::Is(name, _) | Requirement::IsNot(name, _)) = self else {
            let (Requirement::Exists(name) | Requirement::DoesNotExist(name)) = self else { unreachable!() };
            return name;
        };
        name
    }

    /// Whether it is met by what is there.
    fn takes(&self, found: Option<&str>) -> bool {
        match self {
            Requirement::Is(_, value) => found == Some(value),
            Requirement::IsNot(_, value) => found != Some(value),
            Requirement::Exists(_) => found.is_some(),
            Requirement::DoesNotExist(_) => found.is_none(),
        }
    }
}

impl Selector {
    fn new(param: &impl Fn(&str) -> Option<String>) -> Selector {
        Selector { labels: Requirement::all(param("labelSelector")), fields: Requirement::all(param("fieldSelector")) }
    }

    /// The field that a kind cannot be selected by, if there is one: of a custom resource those of its CRD can.
    fn unsupported(&self, kind: &str) -> Option<&str> {
        let selectable: &[&str] = match kind {
            "studies" => &[],
            "trials" => &["spec.study", "status.phase"],
            _ => return None,
        };
        let metadata = ["metadata.name", "metadata.namespace"];
        let mut names = self.fields.iter().map(Requirement::name);
        names.find(|name| !metadata.contains(name) && !selectable.contains(name))
    }

    fn takes(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        // A field that is not there is empty.
        let field =
            |path: &str| path.split('.').fold(object, |object, part| &object[part]).as_str().unwrap_or_default();
        self.labels.iter().all(|label| label.takes(labels[label.name()].as_str()))
            && self.fields.iter().all(|required| required.takes(Some(field(required.name()))))
    }

    /// Whether it is about one Study.
    fn is_of_one_study(&self) -> bool {
        self.labels.iter().chain(&self.fields).any(|required| matches!(required, Requirement::Is(..)))
    }
}

fn full(text: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, io::Error> {
    UnsyncBoxBody::new(Full::new(text.into()).map_err(|never| match never {}))
}

fn streamed(frames: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Answered {
    Response::new(UnsyncBoxBody::new(StreamBody::new(frames.map(|frame| frame.map(Frame::data)))))
}

fn json_response(code: u16, object: &Value) -> Answered {
    let mut response = Response::new(full(object.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

/// An answer whose connection breaks in the middle of the body.
fn torn(object: &Value) -> Answered {
    let text = object.to_string();
    let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
    streamed(stream::iter([Ok(half), Err(reset())]))
}

fn refused(code: u16, reason: &str, message: &str) -> Answered {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code});
    if code == 429 {
        status["details"] = json!({"retryAfterSeconds": 1});
    }
    json_response(code, &status)
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "Timeout",
    }
}

fn gone() -> Bytes {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": 410, "reason": "Expired", "message": "too old resource version"});
    line("ERROR", &status)
}

/// An event of a watch, its type first: so the API server writes it.
fn line(type_: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{type_}\",\"object\":{object}}}\n"))
}
