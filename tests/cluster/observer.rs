//! Looks at a namespace from outside, past every proxy, and keeps the whole life of its Jobs and Trials.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sweep_operator::api::Trial;

use crate::harness::{Cluster, LIMIT, Namespace};

/// What was seen since the observer was started.
#[derive(Default)]
pub struct Seen {
    /// Every Job that ever was, by UID: its name, and its Trial's UID.
    pub jobs: BTreeMap<String, (String, String)>,
    /// Those that have not ended, by UID: their Studies and Trials.
    unfinished: BTreeMap<String, (String, String)>,
    /// The most unfinished Jobs of a Study at any event.
    pub most: BTreeMap<String, usize>,
    /// The UIDs of the Trials of each Study and index.
    uids: BTreeMap<(String, u32), BTreeSet<String>>,
    /// Every run that was ever recorded: the Trial's UID, and the Job's name.
    runs: BTreeSet<(String, String)>,
    results: BTreeMap<String, String>,
    /// What must not be.
    pub broken: Vec<String>,
    /// How often two unfinished Jobs of one Trial were seen.
    pub strays: usize,
}

impl Seen {
    fn job(&mut self, job: &Job, deleted: bool) {
        let uid = job.uid().unwrap_or_default();
        let label = |name: &str| job.labels().get(&format!("sweep-operator.dev/{name}")).cloned().unwrap_or_default();
        let (study, trial) = (label("study"), label("trial"));
        let owner = job.owner_references().first().map(|owner| owner.uid.clone()).unwrap_or_default();
        let is_new = self.jobs.insert(uid.clone(), (job.name_any(), owner)).is_none();
        let conditions = job.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let ended = conditions.iter().any(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"));
        match ended || deleted {
            true => self.unfinished.remove(&uid),
            false => self.unfinished.insert(uid, (study.clone(), trial.clone())),
        };
        let count = self.unfinished.values().filter(|(of, _)| *of == study).count();
        let most = self.most.entry(study).or_default();
        *most = count.max(*most);
        let of_trial = self.unfinished.values().filter(|(_, of)| *of == trial).count();
        self.strays += usize::from(is_new && of_trial > 1);
    }

    fn trial(&mut self, trial: &Trial) {
        let uid = trial.uid().unwrap_or_default();
        let uids = self.uids.entry((trial.spec.study.clone(), trial.spec.index)).or_default();
        uids.insert(uid.clone());
        if uids.len() > 1 {
            self.broken.push(format!("index {} of {} was proposed twice", trial.spec.index, trial.spec.study));
        }
        let Some(status) = &trial.status else { return };
        if let Some(run) = &status.run {
            self.runs.insert((uid.clone(), run.job.clone()));
        }
        if status.phase.is_finished() {
            let result = format!("{:?} {:?} {:?}", status.phase, status.objectives, status.run);
            let first = self.results.entry(uid).or_insert_with(|| result.clone());
            if *first != result {
                self.broken.push(format!("the result of {} went from {first} to {result}", trial.name_any()));
            }
        }
    }

    /// What must not be, now that all has ended: `trials` are those of one Study.
    pub fn at_the_end(&self, trials: &[Trial]) -> Vec<String> {
        let mut broken = self.broken.clone();
        for (name, owner) in self.jobs.values() {
            if !self.runs.contains(&(owner.clone(), name.clone())) {
                broken.push(format!("Job {name} was never recorded as a run"));
            }
        }
        for trial in trials {
            let uid = trial.uid().unwrap_or_default();
            let run = trial.status.as_ref().and_then(|status| status.run.clone());
            let name = trial.name_any();
            match run.and_then(|run| run.job_uid.map(|uid| (run.job, uid))) {
                // Stopped before it had one.
                None => {}
                Some((job, job_uid)) if self.jobs.get(&job_uid) == Some(&(job.clone(), uid)) => {}
                Some((job, _)) => broken.push(format!("the run {job} of {name} was never there")),
            }
        }
        if !self.unfinished.is_empty() {
            broken.push(format!("unfinished at the end: {:?}", self.unfinished));
        }
        broken
    }
}

/// Watches until it is dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    _runtime: tokio::runtime::Runtime,
}

impl Observer {
    /// From when this returns, nothing is missed.
    pub fn start(cluster: &Cluster, namespace: &Namespace) -> Observer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(cluster.client());
        let seen = Arc::<Mutex<Seen>>::default();
        let (jobs, trials) = (seen.clone(), seen.clone());
        let (listed, lists) = std::sync::mpsc::channel();
        let name = namespace.name.clone();
        runtime.spawn(watch(client.clone(), name.clone(), listed.clone(), move |job: &Job, deleted| {
            jobs.lock().unwrap().job(job, deleted);
        }));
        runtime.spawn(watch(client, name, listed, move |trial: &Trial, _| trials.lock().unwrap().trial(trial)));
        for _ in 0..2 {
            lists.recv_timeout(LIMIT).expect("the API server lists Jobs and Trials");
        }
        Observer { seen, _runtime: runtime }
    }

    pub fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

/// Calls `then` with every object that changes, and whether it was deleted; `listed` hears of each list.
async fn watch<K>(client: Client, namespace: String, listed: Sender<()>, mut then: impl FnMut(&K, bool))
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api = Api::<K>::namespaced(client, &namespace);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    let (mut known, mut present) = (BTreeMap::<String, K>::new(), BTreeSet::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => present.clear(),
            Ok(Event::InitApply(object)) => {
                present.insert(object.uid().unwrap_or_default());
                then(&object, false);
                known.insert(object.uid().unwrap_or_default(), object);
            }
            // What went while nobody watched.
            Ok(Event::InitDone) => {
                known.retain(|uid, object| {
                    let stays = present.contains(uid);
                    if !stays {
                        then(object, true);
                    }
                    stays
                });
                // Only the first is waited for.
                let _ = listed.send(());
            }
            Ok(Event::Apply(object)) => {
                then(&object, false);
                known.insert(object.uid().unwrap_or_default(), object);
            }
            Ok(Event::Delete(object)) => {
                then(&object, true);
                known.remove(&object.uid().unwrap_or_default());
            }
            // The API server may be away in some tests.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
    }
}
