//! A live look at what holds a place of a Study. A cache may be behind what was written: more Trials and Jobs than
//! `parallelism` allows would be the price. It asks only for what can hold a place, so that it costs the same however many
//! Trials have finished.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use tokio::time::Instant;

use super::context::Context;
use super::error::{Error, call};
use super::objects::{ask, is_owned_by};
use super::slim::{MetadataList, MetadataOnly, Slim};
use super::trial::decide::is_unfinished;
use crate::api::{LABEL_RECORDED, LABEL_STUDY, LABEL_TRIAL, Study, Trial, trial_name};

/// A Study is looked at so often at most, and a look may take a third of the time at most.
const INTERVAL: Duration = Duration::from_millis(300);

/// So much rarer for each Trial that it lists: what a look costs is shared by the places that have become free since the last.
const FOR_EACH: Duration = Duration::from_micros(500);

/// However many it lists.
const LONGEST: Duration = Duration::from_secs(1);

/// How long a look is good for.
const VALID: Duration = Duration::from_secs(5);

/// How long a Trial may take to be there, or to be gone, once somebody has begun to write it: two calls of 30 s, and some.
const UNDER_WAY: Duration = Duration::from_secs(65);

/// So many Trials are asked for one by one; more of them by one list of all.
const MOST_GETS: usize = 32;

/// What holds a place, as the API server said at one time.
#[derive(Debug)]
pub struct Look {
    at: Instant,
    /// The Jobs that have not ended, or whose pods have not, by the name of their Trial; none of one that was given its place
    /// since.
    holders: HashMap<String, BTreeSet<String>>,
}

impl Look {
    /// The Trials that hold a place through a Job, or were given one since.
    pub fn holders(&self) -> BTreeSet<String> {
        self.holders.keys().cloned().collect()
    }

    /// How many those are.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether this Trial is one of them.
    pub fn holds(&self, trial: &str) -> bool {
        self.holders.contains_key(trial)
    }

    /// The Jobs through which a Trial held a place.
    pub fn jobs_of(&self, trial: &str) -> impl Iterator<Item = &str> {
        self.holders.get(trial).into_iter().flatten().map(String::as_str)
    }

    /// A look that has seen these Jobs hold a place: the name of the Trial, and of the Job.
    #[cfg(test)]
    pub fn of(jobs: &[(&str, &str)]) -> Look {
        let mut holders = HashMap::<String, BTreeSet<String>>::new();
        for (trial, job) in jobs {
            holders.entry((*trial).to_owned()).or_default().insert((*job).to_owned());
        }
        Look { at: Instant::now(), holders }
    }

    /// Gives a place to a Trial: it is taken until the next look, whatever comes of it.
    pub fn give(&mut self, trial: &str) {
        self.holders.entry(trial.to_owned()).or_default();
    }
}

/// The looks at one Study.
#[derive(Default)]
pub struct Looks {
    last: Option<Look>,
    /// From when on the next is due.
    due: Option<Instant>,
    /// Indices that were given out and that nobody has seen a Trial of, and since when that is known.
    missing: BTreeMap<u32, Instant>,
    /// All indices below were seen, or are known to be missing; None before the first look.
    known_below: Option<u32>,
}

impl Looks {
    /// The last look, while it is good.
    pub fn valid(&mut self) -> Option<&mut Look> {
        self.last.as_mut().filter(|look| look.at.elapsed() < VALID)
    }

    /// How long to wait for the next look.
    pub fn wait(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// Looks, and brings the index up to what is seen: its Trials are as fresh as this look.
    ///
    /// # Errors
    /// The API server's; NotFound where the Study is gone.
    pub async fn look(&mut self, study: &Study, context: &Context) -> Result<&mut Look, Error> {
        let at = Instant::now();
        let namespace = study.namespace().unwrap_or_default();
        let name = study.name_any();
        let trials = context.slim::<Trial>(&namespace);
        let unfinished_before = context.index.trials.unfinished_of(study);
        let unfinished = ListParams::default().fields(&format!(
            "spec.study={name},status.phase!=Succeeded,status.phase!=Pruned,status.phase!=Failed,status.phase!=Stopped"
        ));
        let studies = context.slim::<Study>(&namespace);
        let (Slim(live), listed) = tokio::try_join!(call(studies.get(&name)), call(trials.list(&unfinished)))?;
        context.index.studies.put(live);
        let mut seen = BTreeSet::new();
        for Slim(trial) in listed.items.into_iter().filter(|trial| is_owned_by(trial, study)) {
            seen.insert(trial.uid());
            context.index.trials.listed(trial);
        }
        self.ask_for_the_others(study, &unfinished_before, &seen, &trials, context).await?;
        // After the Trials: the Job of one that was created in between is seen, if only as that of an unknown Trial.
        let holders = jobs(&namespace, &name, context).await?;
        let listed = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let interval = (INTERVAL + FOR_EACH.saturating_mul(listed)).min(LONGEST);
        self.due = Some(Instant::now().max(at + interval).max(at + at.elapsed() * 3));
        Ok(self.last.insert(Look { at, holders }))
    }

    /// Asks for what the index holds as unfinished, or never held though it was given out, and the list has left out.
    async fn ask_for_the_others(
        &mut self,
        study: &Study,
        unfinished: &[std::sync::Arc<Trial>],
        seen: &BTreeSet<Option<String>>,
        api: &Api<Slim<Trial>>,
        context: &Context,
    ) -> Result<(), Error> {
        let namespace = study.namespace().unwrap_or_default();
        let name = study.name_any();
        let trial_of = |index: u32| context.index.trials.get(&namespace, &trial_name(&name, index));
        let live = context.index.studies.get(&namespace, &name);
        let last = live.as_ref().and_then(|study| study.status.as_ref()?.last_index);
        let now = Instant::now();
        let end = last.map_or(0, |last| last.saturating_add(1));
        // What was absent when the watch had listed all was deleted, or never created.
        for index in self.known_below.unwrap_or(end)..end {
            if trial_of(index).is_none() {
                self.missing.insert(index, now);
            }
        }
        self.known_below = self.known_below.max(Some(end));
        self.missing.retain(|index, since| now.duration_since(*since) < UNDER_WAY && trial_of(*index).is_none());
        let mut names: BTreeSet<String> = self.missing.keys().map(|index| trial_name(&name, *index)).collect();
        let is_left_out = |trial: &&std::sync::Arc<Trial>| {
            let is_known_to_have_finished = || {
                let known = context.index.trials.get(&namespace, &trial.name_any());
                known.is_none_or(|known| known.metadata.uid != trial.metadata.uid || is_finished(&known))
            };
            !seen.contains(&trial.uid()) && !is_known_to_have_finished()
        };
        let left_out: Vec<_> = unfinished.iter().filter(is_left_out).collect();
        names.extend(left_out.iter().map(|trial| trial.name_any()));
        if names.len() > MOST_GETS || last.is_none() {
            let of_study = ListParams::default().fields(&format!("spec.study={name}"));
            let listed = call(api.list(&of_study)).await?;
            let uids: BTreeSet<_> = listed.items.iter().map(ResourceExt::uid).collect();
            for Slim(trial) in listed.items.into_iter().filter(|trial| is_owned_by(trial, study)) {
                context.index.trials.listed(trial);
            }
            for trial in left_out.iter().filter(|trial| !uids.contains(&trial.uid())) {
                context.index.trials.gone(&namespace, &trial.name_any(), &trial.uid().unwrap_or_default());
            }
            // What others may be creating just now has the highest indices.
            let highest = end.saturating_sub(MOST_GETS as u32);
            self.missing.retain(|index, _| *index >= highest);
            return Ok(());
        }
        for name in names {
            ask::<Trial>(&namespace, &name, context).await?;
        }
        Ok(())
    }
}

/// Whether a Trial has ended.
pub fn is_finished(trial: &Trial) -> bool {
    trial.status.as_ref().is_some_and(|status| status.phase.is_finished())
}

/// The Jobs that hold a place, by the name of their Trial. Those whose result is recorded have ended, and are not listed.
async fn jobs(namespace: &str, study: &str, context: &Context) -> Result<HashMap<String, BTreeSet<String>>, Error> {
    let params = ListParams::default().labels(&format!("{LABEL_STUDY}={study},!{LABEL_RECORDED}"));
    let request = kube::core::Request::new(Job::url_path(&(), Some(namespace))).list_metadata(&params);
    let request = request.map_err(kube::Error::BuildRequest)?;
    let mut holders = HashMap::<String, BTreeSet<String>>::new();
    // Only which there are: one that was seen to have ended is not unfinished again, and templates may be large.
    let MetadataList { items } = call(context.client.request(request)).await?;
    for MetadataOnly(metadata) in items.into_iter().flatten() {
        let job = Job { metadata, ..Job::default() };
        let name = job.name_any();
        let seen = context.index.jobs.now(&job);
        if job.metadata.deletion_timestamp.is_some() || seen.is_none_or(|seen| is_unfinished(&seen)) {
            let trial = job.labels().get(LABEL_TRIAL).cloned().unwrap_or_else(|| name.clone());
            holders.entry(trial).or_default().insert(name);
        }
    }
    Ok(holders)
}
