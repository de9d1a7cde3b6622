//! The four watches, what they bring into the index, and who is to be reconciled after an event. Each watch is on its
//! own, so that one that fails does not delay the others.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ObjectMeta, PartialObjectMeta};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, utils::Backoff, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::backoff;
use super::health::Health;
use super::index::{Index, Indexed};
use super::memory::Memories;
use super::slim::Guarded;
use crate::api::{LABEL_STUDY, LABEL_TRIAL, Study, Trial};

/// The name of an object, namespace and UID.
pub type Name<K> = PartialObjectMeta<K>;

/// The names that are there, for kube's controllers: the objects themselves are in the [`Index`].
#[derive(Clone)]
pub struct Names {
    pub studies: Store<Name<Study>>,
    pub trials: Store<Name<Trial>>,
}

/// Objects that are to be reconciled, each once: however long nobody takes any, there are no more than objects.
pub struct Pending<K: Resource<DynamicType = ()>> {
    /// By namespace and name.
    objects: Mutex<BTreeSet<(String, String)>>,
    news: Notify,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()>> Pending<K> {
    fn new() -> Arc<Pending<K>> {
        Arc::new(Pending { objects: Mutex::default(), news: Notify::new(), kind: PhantomData })
    }

    fn add(&self, name: &str, namespace: &str) {
        let object = (namespace.to_owned(), name.to_owned());
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(object);
        self.news.notify_one();
    }

    async fn next(&self) -> ObjectRef<K> {
        loop {
            let first = self.objects.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            if let Some((namespace, name)) = first {
                return ObjectRef::new(&name).within(&namespace);
            }
            self.news.notified().await;
        }
    }

    /// All that are and will be.
    pub fn stream(self: Arc<Self>) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
    where
        K: 'static,
    {
        stream::unfold(self, |pending| async move { Some((pending.next().await, pending)) })
    }
}

/// What the controllers have to do. Their schedulers merge equal entries as well.
#[derive(Clone)]
pub struct Queues {
    pub studies: Arc<Pending<Name<Study>>>,
    pub trials: Arc<Pending<Name<Trial>>>,
    /// Trials that were told to stop: they do not wait for those that start.
    pub stops: Arc<Pending<Name<Trial>>>,
    /// Trials whose recorded run is to get its Job.
    pub starts: Arc<Pending<Name<Trial>>>,
}

impl Queues {
    /// Nothing to do.
    pub fn new() -> Queues {
        Queues { studies: Pending::new(), trials: Pending::new(), stops: Pending::new(), starts: Pending::new() }
    }

    /// The Study shall be reconciled.
    pub fn study(&self, name: &str, namespace: &str) {
        self.studies.add(name, namespace);
    }

    /// The Trial shall be reconciled.
    pub fn trial(&self, name: &str, namespace: &str) {
        self.trials.add(name, namespace);
    }

    /// The Trial, which was told to stop, shall be reconciled.
    pub fn stop(&self, name: &str, namespace: &str) {
        self.stops.add(name, namespace);
    }

    /// The Job of the Trial's recorded run shall be created, where there is a place for it.
    pub fn start(&self, name: &str, namespace: &str) {
        self.starts.add(name, namespace);
    }
}

/// Starts the watches of a namespace, or of all; the future ends only when a watch does.
pub fn start<'a>(
    client: &Client,
    namespace: Option<&str>,
    index: &Index,
    memories: &Arc<Memories>,
    queues: &'a Queues,
    health: &'a Arc<Health>,
) -> (Names, impl Future<Output = ()> + use<>) {
    // Below the idle limit of common load balancers, which would cut a watch silently.
    let all = Config::default().timeout(200);
    let ours = all.clone().labels(LABEL_TRIAL);
    let (studies, study_names) = store();
    let (trials, trial_names) = store();
    let study_watch = watch::<Study>("studies", client, namespace, all.clone(), health);
    let trial_watch = watch::<Trial>("trials", client, namespace, all, health);
    let job_watch = watch::<Job>("jobs", client, namespace, ours.clone(), health);
    let pod_watch = watch::<Pod>("pods", client, namespace, ours, health);
    let (q, index, memories) = (queues.clone(), index.clone(), memories.clone());
    let (q1, q2, q3) = (q.clone(), q.clone(), q.clone());
    let known = index.studies.clone();
    let forget = move || {
        let there = known.all().iter().filter_map(|study| study.uid()).collect();
        memories.retain(&there);
    };
    let running = async move {
        tokio::join!(
            keep(study_watch, &index, Some(study_names), |event: &Event<Arc<Study>>| match event {
                Event::Apply(study) | Event::InitApply(study) =>
                    q.study(&study.name_any(), &study.namespace().unwrap_or_default()),
                Event::Delete(_) | Event::InitDone => forget(),
                Event::Init => {}
            }),
            keep(
                trial_watch,
                &index,
                Some(trial_names),
                changed(|trial: &Trial| {
                    let namespace = trial.namespace().unwrap_or_default();
                    q1.trial(&trial.name_any(), &namespace);
                    q1.study(&trial.spec.study, &namespace);
                })
            ),
            keep(
                job_watch,
                &index,
                None,
                changed(|job: &Job| {
                    let namespace = job.namespace().unwrap_or_default();
                    if let Some(trial) = job.labels().get(LABEL_TRIAL) {
                        q2.trial(trial, &namespace);
                    }
                    if let Some(study) = job.labels().get(LABEL_STUDY) {
                        q2.study(study, &namespace);
                    }
                })
            ),
            keep(
                pod_watch,
                &index,
                None,
                changed(|pod: &Pod| {
                    if let Some(trial) = pod.labels().get(LABEL_TRIAL) {
                        q3.trial(trial, &pod.namespace().unwrap_or_default());
                    }
                })
            ),
        );
    };
    (Names { studies, trials }, running)
}

/// A watch that goes on after errors, and skips objects that cannot be read.
fn watch<K>(
    kind: &'static str,
    client: &Client,
    namespace: Option<&str>,
    config: Config,
    health: &Arc<Health>,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + use<K>
where
    K: Indexed + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Debug + Send + 'static,
{
    let api: Api<Guarded<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let scope = namespace.unwrap_or_default().to_owned();
    health.expect(&scope, kind);
    let health = health.clone();
    // kube asks again from the same version where a watch is refused as too old: only a new one lists again.
    let watches = stream::repeat_with(move || until_gone(watcher(api.clone(), config.clone()))).flatten();
    watches.backoff(WatchBackoff::new(kind)).filter_map(move |event| {
        // What comes of lists, and errors; the answers to quiet watches are noted by the client.
        health.heard(&scope, kind);
        let event = match event {
            Ok(event) => {
                if matches!(event, Event::InitDone) {
                    health.listed(&scope, kind);
                }
                readable(kind, event).map(Ok)
            }
            Err(error) => {
                match &error {
                    watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
                        tracing::warn!(kind, "the CRD is not installed: run `sweep crd | kubectl apply -f -`");
                    }
                    error => tracing::warn!(kind, %error, "watch failed, will be tried again"),
                }
                Some(Err(error))
            }
        };
        std::future::ready(event)
    })
}

/// The stream up to the refusal of a watch as too old, and with it.
fn until_gone<K>(
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>>,
) -> impl Stream<Item = Result<Event<K>, watcher::Error>> {
    let is_gone = |event: &Result<Event<K>, watcher::Error>| matches!(event, Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410);
    stream.scan(false, move |gone, event| {
        let ended = *gone;
        *gone = is_gone(&event);
        std::future::ready((!ended).then_some(event))
    })
}

/// From one second to a minute between the attempts of a watch.
struct WatchBackoff {
    kind: &'static str,
    failures: u32,
    last_failure: Instant,
}

/// A watch that has not failed for so long after its last wait is well again: single events prove nothing.
const WELL_AGAIN: Duration = Duration::from_secs(30);

impl WatchBackoff {
    fn new(kind: &'static str) -> WatchBackoff {
        WatchBackoff { kind, failures: 0, last_failure: Instant::now() }
    }

    fn wait(&self) -> Duration {
        backoff(self.kind, self.failures, Duration::from_secs(1), Duration::from_secs(60))
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.failures > 0 && self.last_failure.elapsed() >= self.wait() + WELL_AGAIN {
            self.failures = 0;
        }
        self.failures += 1;
        self.last_failure = Instant::now();
        Some(self.wait())
    }
}

impl Backoff for WatchBackoff {
    /// Called at every event; how long there was no failure is what counts.
    fn reset(&mut self) {}
}

fn readable<K: Indexed>(kind: &'static str, event: Event<Guarded<K>>) -> Option<Event<K>> {
    let read = |guarded: Guarded<K>| match guarded.0 {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::warn!(kind, %error, "an object cannot be read and is skipped");
            None
        }
    };
    mapped(event, read)
}

/// The event of what `map` makes of its object; None where that is nothing.
fn mapped<K, L>(event: Event<K>, map: impl FnOnce(K) -> Option<L>) -> Option<Event<L>> {
    Some(match event {
        Event::Apply(object) => Event::Apply(map(object)?),
        Event::Delete(object) => Event::Delete(map(object)?),
        Event::InitApply(object) => Event::InitApply(map(object)?),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    })
}

/// Brings every event into the index, and then tells of it.
async fn keep<K: Indexed + 'static>(
    stream: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    index: &Index,
    mut names: Option<Writer<Name<K>>>,
    then: impl Fn(&Event<Arc<K>>),
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let Some(event) = event.ok().and_then(|event| mapped(event, |object| Some(Arc::new(object)))) else { continue };
        if let Some(names) = &mut names
            && let Some(event) = mapped(event.clone(), |object| Some(name_of(&*object)))
        {
            names.apply_watcher_event(&event);
        }
        K::kept(index).apply(event.clone());
        match event {
            // The names are there once the list is done: a request for one that is new would be dropped before.
            Event::InitApply(_) => {}
            Event::InitDone => {
                then(&event);
                for object in K::kept(index).all() {
                    then(&Event::InitApply(object));
                }
            }
            event => then(&event),
        }
    }
}

/// Calls `then` with every object that changed or was deleted.
fn changed<K>(then: impl Fn(&K)) -> impl Fn(&Event<Arc<K>>) {
    move |event| {
        if let Event::Apply(object) | Event::Delete(object) | Event::InitApply(object) = event {
            then(object);
        }
    }
}

fn name_of<K: Resource<DynamicType = ()>>(object: &K) -> Name<K> {
    let ObjectMeta { name, namespace, uid, .. } = object.meta().clone();
    let metadata = ObjectMeta { name, namespace, uid, ..ObjectMeta::default() };
    PartialObjectMeta { types: None, metadata, _phantom: PhantomData }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Requests for objects that kube's store of names does not hold are dropped: nobody would ask again for a long time.
    #[tokio::test]
    async fn who_is_told_of_an_object_of_a_list_finds_its_name() {
        let trial = |name: &str| -> Trial {
            let spec = serde_json::json!({"study": "s", "index": 0, "assignments": {}, "desiredState": "Running",
                                          "sampler": {"name": "random", "version": 1}});
            let mut trial = Trial::new(name, serde_json::from_value(spec).unwrap());
            trial.metadata.namespace = Some("default".to_owned());
            trial.metadata.uid = Some(name.to_owned());
            trial
        };
        let (names, writer) = store();
        let told = std::cell::RefCell::new(Vec::new());
        let then = changed(|trial: &Trial| {
            let name = ObjectRef::<Name<Trial>>::new(&trial.name_any()).within("default");
            told.borrow_mut().push((trial.name_any(), names.get(&name).is_some()));
        });
        // The second list, after a watch that was too old, holds one more.
        let lists = [vec!["s-0000"], vec!["s-0000", "s-0001"]];
        let events = lists.into_iter().flat_map(|list| {
            let listed = list.into_iter().map(|name| Ok(Event::InitApply(trial(name))));
            [Ok(Event::Init)].into_iter().chain(listed.collect::<Vec<_>>()).chain([Ok(Event::InitDone)])
        });
        let events: Vec<Result<Event<Trial>, watcher::Error>> = events.collect();
        keep(stream::iter(events), &Index::default(), Some(writer), then).await;
        let told = told.into_inner();
        assert!(told.iter().all(|(_, is_known)| *is_known), "{told:?}");
        assert!(told.iter().any(|(name, _)| name == "s-0001"), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_after_each_event_is_tried_ever_less_often() {
        let mut backoff = WatchBackoff::new("trials");
        let mut waits = Vec::new();
        for _ in 0..6 {
            let wait = backoff.next().unwrap();
            waits.push(wait);
            tokio::time::advance(wait + Duration::from_secs(1)).await;
            backoff.reset();
        }
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(backoff.next().unwrap() < Duration::from_secs(2));
    }
}
