//! What the watches have seen, found by what a pass asks for: Trials by their Study, Jobs by their Trial, pods by their Job,
//! and all of them by name. Own writes enter at once, so that no pass sees less than this process has done. kube's store
//! has no index: each question to it is a look at every object of the cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use tokio::sync::watch;

use super::slim::Read;
use crate::api::{LABEL_STUDY, LABEL_TRIAL, Study, Trial};

/// The objects of one scope.
#[derive(Clone, Default)]
pub struct Index {
    pub studies: Kept<Study>,
    pub trials: Kept<Trial>,
    pub jobs: Kept<Job>,
    pub pods: Kept<Pod>,
}

impl Index {
    /// Waits until every watch has listed what there is.
    pub async fn wait_until_complete(&self) {
        tokio::join!(
            self.studies.wait_until_complete(),
            self.trials.wait_until_complete(),
            self.jobs.wait_until_complete(),
            self.pods.wait_until_complete(),
        );
    }
}

/// A kind that the index keeps.
pub trait Indexed: Read + Clone {
    /// Where it is kept.
    fn kept(index: &Index) -> &Kept<Self>;

    /// The groups that it is found in.
    fn groups(&self) -> Vec<String> {
        owners_and_study(self)
    }

    /// Whether the watch brings it: what it does not bring would stay as it is for ever.
    fn is_watched(&self) -> bool {
        true
    }
}

/// The objects of one kind. A copy is the same.
pub struct Kept<K> {
    objects: Arc<Mutex<Objects<K>>>,
    /// Whether the watch has listed what there is.
    is_complete: watch::Sender<bool>,
}

impl<K> Clone for Kept<K> {
    fn clone(&self) -> Self {
        Kept { objects: self.objects.clone(), is_complete: self.is_complete.clone() }
    }
}

impl<K> Default for Kept<K> {
    fn default() -> Self {
        Kept { objects: Arc::default(), is_complete: watch::Sender::new(false) }
    }
}

/// Namespace and name.
type Key = (String, String);

/// Objects by namespace and name. It is asked much more often than it changes, and with borrowed names.
struct ByName<K>(HashMap<String, HashMap<String, Arc<K>>>);

impl<K> Default for ByName<K> {
    fn default() -> Self {
        ByName(HashMap::new())
    }
}

impl<K> ByName<K> {
    fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.0.get(namespace)?.get(name)
    }

    fn insert(&mut self, (namespace, name): Key, object: Arc<K>) {
        self.0.entry(namespace).or_default().insert(name, object);
    }

    fn remove(&mut self, (namespace, name): &Key) -> Option<Arc<K>> {
        let of_namespace = self.0.get_mut(namespace)?;
        let removed = of_namespace.remove(name);
        if of_namespace.is_empty() {
            self.0.remove(namespace);
        }
        removed
    }

    fn values(&self) -> impl Iterator<Item = &Arc<K>> {
        self.0.values().flat_map(HashMap::values)
    }
}

struct Objects<K> {
    all: ByName<K>,
    /// By the UID of each owner, and by the namespace and the label of the Study: names, in order.
    groups: HashMap<String, BTreeMap<String, Arc<K>>>,
    /// What a new list of the watch has brought so far. It takes the place of all at once: less than there is would make
    /// the best value fall, and more Trials be proposed.
    listing: Option<HashMap<Key, Arc<K>>>,
    /// The highest resourceVersion that the watch has brought.
    watched: u64,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Objects { all: ByName::default(), groups: HashMap::new(), listing: None, watched: 0 }
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.meta().namespace.clone().unwrap_or_default(), object.meta().name.clone().unwrap_or_default())
}

/// Versions of one kind can be compared (KEP-5504); one that is no number is as old as can be.
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// The group of what carries the label of a Study.
fn of_study(namespace: &str, study: &str) -> String {
    format!("{namespace}/{study}")
}

/// By owner, and by the label of the Study.
fn owners_and_study<K: Resource>(object: &K) -> Vec<String> {
    let meta = object.meta();
    let owners = meta.owner_references.iter().flatten().map(|owner| owner.uid.clone());
    let study = meta.labels.as_ref().and_then(|labels| labels.get(LABEL_STUDY));
    owners.chain(study.map(|study| of_study(meta.namespace.as_deref().unwrap_or_default(), study))).collect()
}

/// The group of the Trials of a Study that have not ended.
fn unfinished(study_uid: &str) -> String {
    format!("{study_uid} unfinished")
}

impl<K: Indexed> Objects<K> {
    /// What is there under the name of `object`.
    fn known(&self, object: &K) -> Option<&Arc<K>> {
        let meta = object.meta();
        self.all.get(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    fn insert(&mut self, object: Arc<K>) {
        let (key, groups) = (key(&*object), object.groups());
        if let Some(known) = self.known(&object).cloned() {
            self.leave(&key.1, known.groups().into_iter().filter(|group| !groups.contains(group)));
        }
        for group in groups {
            let members = self.groups.entry(group).or_default();
            match members.get_mut(&key.1) {
                Some(member) => *member = object.clone(),
                None => drop(members.insert(key.1.clone(), object.clone())),
            }
        }
        self.all.insert(key, object);
    }

    fn remove(&mut self, key: &Key) {
        let Some(object) = self.all.remove(key) else { return };
        self.leave(&key.1, object.groups());
    }

    /// The object of this name is in these groups no more.
    fn leave(&mut self, name: &str, groups: impl IntoIterator<Item = String>) {
        for group in groups {
            if let Some(members) = self.groups.get_mut(&group) {
                members.remove(name);
                if members.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
    }

    /// Takes what is not older than what is there.
    fn update(&mut self, object: Arc<K>) {
        if !object.is_watched() {
            self.remove(&key(&*object));
        } else if self.known(&object).is_none_or(|known| version(&**known) <= version(&*object)) {
            self.insert(object);
        }
    }

    fn apply(&mut self, event: Event<Arc<K>>) {
        if let Event::Apply(object) | Event::Delete(object) | Event::InitApply(object) = &event {
            self.watched = self.watched.max(version(&**object));
        }
        match event {
            Event::Apply(object) => self.update(object),
            Event::Delete(object) => {
                if self.known(&object).is_some_and(|known| version(&**known) <= version(&*object)) {
                    self.remove(&key(&*object));
                }
            }
            Event::Init => self.listing = Some(HashMap::new()),
            Event::InitApply(object) => {
                self.listing.get_or_insert_default().insert(key(&*object), object);
            }
            Event::InitDone => {
                let known = std::mem::take(&mut self.all);
                self.groups.clear();
                for (key, listed) in self.listing.take().unwrap_or_default() {
                    // We may have written since.
                    let newer = known.get(&key.0, &key.1).filter(|known| version(&***known) > version(&*listed));
                    self.insert(newer.cloned().unwrap_or(listed));
                }
            }
        }
    }
}

impl<K: Indexed> Kept<K> {
    fn objects(&self) -> MutexGuard<'_, Objects<K>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the watch brings.
    pub fn apply(&self, event: Event<Arc<K>>) {
        let is_list = matches!(event, Event::InitDone);
        self.objects().apply(event);
        if is_list {
            self.is_complete.send_replace(true);
        }
    }

    async fn wait_until_complete(&self) {
        // This holds a sender: there is no error.
        let _ = self.is_complete.subscribe().wait_for(|is_complete| *is_complete).await;
    }

    /// Takes what a live GET or LIST has found.
    pub fn put(&self, object: K) {
        self.objects().update(Arc::new(object));
    }

    /// Takes what a list has brought whose objects are mostly known: what is as old as what is there is the same.
    pub fn listed(&self, object: K) {
        let mut objects = self.objects();
        if objects.known(&object).is_none_or(|known| version(&**known) < version(&object)) {
            objects.update(Arc::new(object));
        }
    }

    /// Takes the answer to an own write.
    pub fn wrote(&self, object: K) {
        let mut objects = self.objects();
        // What is not there, and older than what the watch has brought, was deleted since.
        if objects.known(&object).is_some() || version(&object) > objects.watched {
            objects.update(Arc::new(object));
        }
    }

    /// Takes what an own write was answered with, put together from what was sent: the watch may have brought the whole object
    /// of this version before.
    pub fn composed(&self, object: K) {
        let is_known = self.objects().known(&object).is_some_and(|known| version(&**known) >= version(&object));
        if !is_known {
            self.wrote(object);
        }
    }

    /// Drops an object that is not there any more, as a call has answered.
    pub fn gone(&self, namespace: &str, name: &str, uid: &str) {
        let mut objects = self.objects();
        if objects.all.get(namespace, name).is_some_and(|known| known.meta().uid.as_deref() == Some(uid)) {
            objects.remove(&(namespace.to_owned(), name.to_owned()));
        }
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.objects().all.get(namespace, name).cloned()
    }

    /// `object` as last seen; None where it is gone, or another has its name.
    pub fn now(&self, object: &impl ResourceExt) -> Option<Arc<K>> {
        let now = self.get(&object.namespace().unwrap_or_default(), &object.name_any())?;
        (now.meta().uid == object.meta().uid).then_some(now)
    }

    /// What `owner` owns, by name.
    pub fn owned_by(&self, owner: &impl ResourceExt) -> Vec<Arc<K>> {
        self.group(owner.meta().uid.as_deref().unwrap_or_default())
    }

    /// What carries the label of the Study, whoever owns it.
    pub fn labelled(&self, namespace: &str, study: &str) -> Vec<Arc<K>> {
        self.group(&of_study(namespace, study))
    }

    /// What `pick` makes of those that carry the label of the Study. They are held still meanwhile: it must not ask for others of
    /// their kind.
    pub fn labelled_by<T>(&self, namespace: &str, study: &str, mut pick: impl FnMut(&K) -> Option<T>) -> Vec<T> {
        let objects = self.objects();
        let labelled = objects.groups.get(&of_study(namespace, study)).into_iter().flat_map(BTreeMap::values);
        labelled.filter_map(|object| pick(object)).collect()
    }

    fn group(&self, group: &str) -> Vec<Arc<K>> {
        self.objects().groups.get(group).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.objects().all.0.values().map(HashMap::len).sum()
    }

    /// All that there are.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.objects().all.values().cloned().collect()
    }
}

/// Whether it carries the label by which Jobs and pods are watched.
fn is_of_a_trial(object: &impl ResourceExt) -> bool {
    object.labels().contains_key(LABEL_TRIAL)
}

impl Indexed for Study {
    fn kept(index: &Index) -> &Kept<Study> {
        &index.studies
    }
}

impl Indexed for Trial {
    fn kept(index: &Index) -> &Kept<Trial> {
        &index.trials
    }

    fn groups(&self) -> Vec<String> {
        let mut groups = owners_and_study(self);
        if !self.status.as_ref().is_some_and(|status| status.phase.is_finished()) {
            groups.extend(self.owner_references().iter().map(|owner| unfinished(&owner.uid)));
        }
        groups
    }
}

impl Kept<Trial> {
    /// The Trials of a Study that have not ended, by index.
    pub fn unfinished_of(&self, study: &Study) -> Vec<Arc<Trial>> {
        let mut trials = self.group(&unfinished(study.metadata.uid.as_deref().unwrap_or_default()));
        trials.sort_by_key(|trial| trial.spec.index);
        trials
    }
}

impl Indexed for Job {
    fn kept(index: &Index) -> &Kept<Job> {
        &index.jobs
    }

    fn is_watched(&self) -> bool {
        is_of_a_trial(self)
    }
}

impl Indexed for Pod {
    fn kept(index: &Index) -> &Kept<Pod> {
        &index.pods
    }

    fn is_watched(&self) -> bool {
        is_of_a_trial(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn job(name: &str, version: u64, owner: &str) -> Job {
        serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": name, "namespace": "ns", "uid": format!("uid of {name}"), "resourceVersion": version.to_string(),
                "labels": {LABEL_STUDY: "digits", LABEL_TRIAL: owner},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Trial", "name": owner, "uid": owner}],
            },
        }))
        .unwrap()
    }

    fn names(jobs: &[Arc<Job>]) -> Vec<String> {
        jobs.iter().map(|job| job.name_any()).collect()
    }

    fn owner(uid: &str) -> Trial {
        let mut trial: Trial = serde_json::from_value(serde_json::json!({
            "metadata": {"name": uid, "namespace": "ns"},
            "spec": {"study": "digits", "index": 0, "assignments": {}, "sampler": {"name": "random", "version": 1}, "desiredState": "Running"},
        }))
        .unwrap();
        trial.metadata.uid = Some(uid.to_owned());
        trial
    }

    #[test]
    fn objects_are_found_by_name_by_owner_and_by_the_study_s_label() {
        let jobs = Kept::<Job>::default();
        for (name, owner) in [("b", "t1"), ("a", "t1"), ("c", "t2")] {
            jobs.apply(Event::Apply(Arc::new(job(name, 1, owner))));
        }
        assert_eq!(names(&jobs.owned_by(&owner("t1"))), ["a", "b"]);
        assert_eq!(names(&jobs.labelled("ns", "digits")), ["a", "b", "c"]);
        assert!(jobs.labelled("another", "digits").is_empty() && jobs.get("ns", "d").is_none());
        jobs.apply(Event::Apply(Arc::new(job("a", 2, "t2"))));
        assert_eq!(names(&jobs.owned_by(&owner("t1"))), ["b"]);
        assert_eq!(names(&jobs.owned_by(&owner("t2"))), ["a", "c"]);
        jobs.apply(Event::Delete(Arc::new(job("a", 3, "t2"))));
        assert_eq!(names(&jobs.owned_by(&owner("t2"))), ["c"]);
    }

    #[test]
    fn a_new_list_takes_the_place_of_all_at_once_and_loses_no_newer_write() {
        let jobs = Kept::<Job>::default();
        jobs.apply(Event::Apply(Arc::new(job("a", 1, "t"))));
        jobs.apply(Event::Apply(Arc::new(job("b", 2, "t"))));
        jobs.apply(Event::Init);
        jobs.apply(Event::InitApply(Arc::new(job("b", 2, "t"))));
        assert_eq!(names(&jobs.owned_by(&owner("t"))), ["a", "b"], "half a list counts for nothing");
        jobs.wrote(job("b", 5, "t"));
        jobs.apply(Event::InitDone);
        assert_eq!(names(&jobs.owned_by(&owner("t"))), ["b"]);
        assert_eq!(jobs.get("ns", "b").unwrap().resource_version().as_deref(), Some("5"));
    }

    #[test]
    fn an_own_write_is_seen_at_once_and_an_older_event_does_not_undo_it() {
        let jobs = Kept::<Job>::default();
        jobs.apply(Event::Apply(Arc::new(job("a", 3, "t"))));
        jobs.wrote(job("a", 7, "t"));
        jobs.apply(Event::Apply(Arc::new(job("a", 5, "t"))));
        assert_eq!(jobs.get("ns", "a").unwrap().resource_version().as_deref(), Some("7"));
    }

    #[test]
    fn what_a_list_brings_is_taken_where_it_is_news() {
        let jobs = Kept::<Job>::default();
        jobs.apply(Event::Apply(Arc::new(job("a", 3, "t"))));
        let known = jobs.get("ns", "a").unwrap();
        jobs.listed(job("a", 3, "t"));
        assert!(Arc::ptr_eq(&known, &jobs.get("ns", "a").unwrap()));
        jobs.listed(job("a", 4, "t"));
        jobs.listed(job("b", 2, "t"));
        assert_eq!(names(&jobs.owned_by(&owner("t"))), ["a", "b"]);
        assert_eq!(jobs.get("ns", "a").unwrap().resource_version().as_deref(), Some("4"));
    }

    #[test]
    fn what_was_put_together_from_an_answer_yields_to_the_whole_object_whichever_comes_first() {
        let suspended = || -> Job {
            let mut job = job("a", 5, "t");
            job.spec = serde_json::from_value(serde_json::json!({"suspend": true, "template": {}})).unwrap();
            job
        };
        let is_whole = |jobs: &Kept<Job>| jobs.get("ns", "a").is_some_and(|job| job.spec.is_some());
        for watch_is_first in [true, false] {
            let jobs = Kept::<Job>::default();
            if watch_is_first {
                jobs.apply(Event::Apply(Arc::new(suspended())));
            }
            jobs.composed(job("a", 5, "t"));
            assert_eq!(is_whole(&jobs), watch_is_first);
            jobs.apply(Event::Apply(Arc::new(suspended())));
            assert!(is_whole(&jobs));
            jobs.composed(job("a", 6, "t"));
            assert!(!is_whole(&jobs), "a later write is news");
        }
    }

    #[test]
    fn an_answer_that_comes_after_the_deletion_brings_nothing_back() {
        let jobs = Kept::<Job>::default();
        jobs.apply(Event::Apply(Arc::new(job("a", 3, "t"))));
        jobs.apply(Event::Delete(Arc::new(job("a", 9, "t"))));
        jobs.wrote(job("a", 8, "t"));
        assert!(jobs.get("ns", "a").is_none());
        // One that the watch has not come to yet is news.
        jobs.wrote(job("b", 10, "t"));
        assert!(jobs.get("ns", "b").is_some());
    }
}
