//! What is remembered of each Study from pass to pass. It makes the next pass faster or rarer, its decision never different, and
//! nothing in it is needed for a right answer after a restart. It is dropped when its Study goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use tokio::time::Instant;

use super::look::Looks;
use crate::api::Study;
use crate::core::sampler::Cache;
use crate::validate::{Problem, ValidStudy};

use super::study::history::History;

/// How often a Study's status tells how far things are: however fast its Trials end, and whoever disagrees.
pub const TELL_AGAIN: Duration = Duration::from_secs(1);

/// A pass looks at all Trials, and rests so long for each: in a burst, what one Trial brings is seen with what others do.
const REST: Duration = Duration::from_micros(50);

/// No pass is put off for longer.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// How long Trials that another leader has announced may take to be there. Short: after a crash they never come.
const BEING_CREATED: Duration = Duration::from_secs(1);

/// So long may Jobs beyond the limit be left while Trials start.
const JOBS_LEFT: Duration = Duration::from_secs(15);

/// So long may a Job go unmarked whose result is recorded, where it may be removed before that.
const UNMARKED: Duration = Duration::from_secs(30);

/// A spec, accepted or refused.
pub type Verdict = Result<Arc<ValidStudy>, Arc<Vec<Problem>>>;

/// The memories of all Studies, by UID.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Arc<Memory>>>);

impl Memories {
    /// The memory of a Study.
    pub fn of(&self, study: &Study) -> Arc<Memory> {
        lock(&self.0).entry(study.uid().unwrap_or_default()).or_default().clone()
    }

    /// Forgets the Studies that are gone.
    pub fn retain(&self, there: &BTreeSet<String>) {
        lock(&self.0).retain(|uid, _| there.contains(uid));
    }
}

/// What is remembered of one Study.
#[derive(Default)]
pub struct Memory {
    /// The history as of the last pass.
    pub history: tokio::sync::Mutex<History>,
    /// What the sampler has computed.
    pub sampler: Arc<Mutex<Cache>>,
    /// The last look at what holds a place. Held while somebody looks.
    pub looks: tokio::sync::Mutex<Looks>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// By generation.
    verdict: Option<(i64, Verdict)>,
    /// The last Job that the API server has said it would take.
    tried: Option<serde_json::Value>,
    last_completion: Option<Timestamp>,
    /// The Trial whose assignment the ConfigMap holds.
    kept_best: Option<String>,
    /// When the next pass may begin.
    next_pass: Option<Instant>,
    /// When the status was last written.
    status_written: Option<Instant>,
    starts_told: Burst,
    logs_opened: Burst,
    /// Since when old Jobs are left.
    jobs_left: Option<Instant>,
    /// Whether each Job that ends makes an older one too many.
    has_all_jobs: bool,
    /// Finished Jobs whose result is recorded and that do not say so yet, by UID, and since when.
    unmarked: HashMap<String, Instant>,
    /// The last index, and since when it is known; None where it was this process that proposed it.
    last_index: Option<(u32, Option<Instant>)>,
}

/// Until when what was taken is enough, at one in each interval.
#[derive(Default)]
struct Burst(Option<Instant>);

impl Burst {
    /// Takes one, where there is one: `at_once` of them, and one more in each `interval`.
    fn take(&mut self, at_once: u32, interval: Duration) -> bool {
        let now = Instant::now();
        let next = self.0.map_or(now, |until| until.max(now)) + interval;
        let may = next <= now + interval * at_once;
        if may {
            self.0 = Some(next);
        }
        may
    }
}

impl Memory {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        lock(&self.notes)
    }

    /// How long to wait until a pass may begin.
    pub fn rest(&self) -> Option<Duration> {
        let next = self.notes().next_pass?;
        Some(next.saturating_duration_since(Instant::now())).filter(|rest| !rest.is_zero())
    }

    /// A pass has looked at so many Trials.
    pub fn looked_at(&self, trials: usize) {
        let rest = REST.saturating_mul(u32::try_from(trials).unwrap_or(u32::MAX));
        self.notes().next_pass = Some(Instant::now() + rest.min(LONGEST_REST));
    }

    /// The verdict on this generation of the spec, if there is one: a dry run is asked once.
    pub fn verdict(&self, study: &Study) -> Option<Verdict> {
        let notes = self.notes();
        let (generation, verdict) = notes.verdict.as_ref()?;
        (study.metadata.generation == Some(*generation)).then(|| verdict.clone())
    }

    /// Keeps the verdict on this generation of the spec.
    pub fn keep_verdict(&self, study: &Study, verdict: &Verdict) {
        self.notes().verdict = Some((study.metadata.generation.unwrap_or_default(), verdict.clone()));
    }

    /// Whether the API server has said that it would take this Job.
    pub fn has_tried(&self, job: &serde_json::Value) -> bool {
        self.notes().tried.as_ref() == Some(job)
    }

    /// The API server would take this Job.
    pub fn tried(&self, job: &serde_json::Value) {
        self.notes().tried = Some(job.clone());
    }

    /// Whether anybody has said when the last Trial completed.
    pub fn knows_completions(&self) -> bool {
        self.notes().last_completion.is_some()
    }

    /// A Trial was seen to have completed at `at`.
    pub fn completed(&self, at: Option<Timestamp>) {
        let mut notes = self.notes();
        notes.last_completion = notes.last_completion.max(at);
    }

    /// A completion time for a Trial that ends: now, or just after the last one.
    pub fn completion_time(&self, now: Timestamp) -> Timestamp {
        let mut notes = self.notes();
        let floor = notes.last_completion.and_then(|last| last.checked_add(SignedDuration::from_micros(1)).ok());
        // The API keeps microseconds.
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        let at = floor.map_or(now, |floor| floor.max(now));
        notes.last_completion = Some(at);
        at
    }

    /// Whether the ConfigMap was seen to hold this Trial's assignment.
    pub fn best_is_kept(&self, trial: &str) -> bool {
        self.notes().kept_best.as_deref() == Some(trial)
    }

    /// The ConfigMap holds this Trial's assignment.
    pub fn keep_best(&self, trial: &str) {
        self.notes().kept_best = Some(trial.to_owned());
    }

    /// The Study's status was written.
    pub fn status_written(&self) {
        self.notes().status_written = Some(Instant::now());
    }

    /// Whether the Study's status was written a moment ago.
    pub fn was_written_recently(&self) -> bool {
        self.notes().status_written.is_some_and(|at| at.elapsed() < TELL_AGAIN)
    }

    /// How long old Jobs may still be left, where they may be at all.
    pub fn leave_old_jobs(&self, may_be_left: bool) -> Option<Duration> {
        let mut notes = self.notes();
        let since = may_be_left.then(|| notes.jobs_left.unwrap_or_else(Instant::now));
        let wait = since.map(|since| JOBS_LEFT.saturating_sub(since.elapsed())).filter(|wait| !wait.is_zero());
        notes.jobs_left = since.filter(|_| wait.is_some());
        wait
    }

    /// Whether as many finished Jobs are there as are kept.
    pub fn has_all_jobs(&self, has_all: bool) {
        self.notes().has_all_jobs = has_all;
    }

    /// Puts off the marking of a finished Job whose result is recorded: for how long, or None where it is to be marked now.
    pub fn put_off_mark(&self, job: &str) -> Option<Duration> {
        let mut notes = self.notes();
        if let Some(since) = notes.unmarked.get(job) {
            let wait = Some(UNMARKED.saturating_sub(since.elapsed())).filter(|wait| !wait.is_zero());
            if wait.is_none() {
                notes.unmarked.remove(job);
            }
            return wait;
        }
        if !notes.has_all_jobs {
            return None;
        }
        // Those of earlier are gone by now.
        notes.unmarked.retain(|_, since| since.elapsed() < 2 * UNMARKED);
        notes.unmarked.insert(job.to_owned(), Instant::now());
        Some(UNMARKED)
    }

    /// Whether the result of a finished Job is recorded that does not say so.
    pub fn is_unmarked(&self, job: &str) -> bool {
        self.notes().unmarked.contains_key(job)
    }

    /// Takes one of the starts that are told at once, where there is one: `at_once` of them, and one more each second.
    pub fn takes_start(&self, at_once: u32) -> bool {
        self.notes().starts_told.take(at_once, Duration::from_secs(1))
    }

    /// Takes one of the logs that are opened at once, where there is one: five for each start that is told at once.
    pub fn takes_log(&self, at_once: u32) -> bool {
        self.notes().logs_opened.take(at_once.saturating_mul(5), Duration::from_millis(200))
    }

    /// The indices up to `last` were proposed by this process.
    pub fn proposed(&self, last: u32) {
        self.notes().last_index = Some((last, None));
    }

    /// Whether somebody else proposed `last` a moment ago, and may still be creating those Trials.
    pub fn is_being_created(&self, last: u32) -> bool {
        let mut notes = self.notes();
        let entry = notes.last_index.get_or_insert((last, Some(Instant::now())));
        if entry.0 != last {
            *entry = (last, Some(Instant::now()));
        }
        entry.1.is_some_and(|since| since.elapsed() < BEING_CREATED)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pass_rests_for_each_trial_that_it_looked_at_and_never_long() {
        let memory = Memory::default();
        assert_eq!(memory.rest(), None);
        memory.looked_at(1_000);
        assert_eq!(memory.rest(), Some(Duration::from_millis(50)));
        memory.looked_at(1_000_000);
        assert_eq!(memory.rest(), Some(LONGEST_REST));
        tokio::time::advance(LONGEST_REST).await;
        assert_eq!(memory.rest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_burst_fifty_logs_are_opened_at_once_and_five_more_each_second() {
        let memory = Memory::default();
        let opened = || (0..500).filter(|_| memory.takes_log(10)).count();
        assert_eq!(opened(), 50);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(opened(), 5);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(opened(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn old_jobs_are_left_for_a_while_and_not_again_before_they_are_removed() {
        let memory = Memory::default();
        assert_eq!(memory.leave_old_jobs(true), Some(JOBS_LEFT));
        tokio::time::advance(JOBS_LEFT - Duration::from_secs(1)).await;
        assert_eq!(memory.leave_old_jobs(true), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(memory.leave_old_jobs(true), None, "they are removed now");
        assert_eq!(memory.leave_old_jobs(true), Some(JOBS_LEFT), "those are others");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(memory.leave_old_jobs(false), None);
        assert_eq!(memory.leave_old_jobs(true), Some(JOBS_LEFT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_recorded_job_goes_unmarked_for_a_while_where_it_makes_another_too_many() {
        let memory = Memory::default();
        assert_eq!((memory.put_off_mark("a"), memory.is_unmarked("a")), (None, false), "it stays for long");
        memory.has_all_jobs(true);
        assert_eq!((memory.put_off_mark("a"), memory.is_unmarked("a")), (Some(UNMARKED), true));
        tokio::time::advance(UNMARKED - Duration::from_secs(1)).await;
        memory.has_all_jobs(false);
        assert_eq!(memory.put_off_mark("a"), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((memory.put_off_mark("a"), memory.is_unmarked("a")), (None, false), "it is marked now");
    }
}
