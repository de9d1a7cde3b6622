//! What a study does next.

use std::borrow::Cow;

use jiff::Timestamp;

use super::life::reason;
use super::number::number;
use super::objective::beats;
use super::problem::Budget;
use super::pruner::{Evidence, Verdict};
use super::sampler::{Cache, Next, Suggestion};
use super::space::Assignments;
use super::study::{EndReason, Limits, Study};
use super::trial::{Best, Phase, Trial, best, trial_name};

/// What a study has recorded about itself, beside its trials.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// When it was accepted.
    pub start: Option<Timestamp>,
    /// The highest trial index ever given out.
    pub last_index: Option<u32>,
    /// How much was to be tried when the first trial was proposed.
    pub budget: Option<Budget>,
    /// How it ended, with the limits of that time.
    pub ended: Option<(EndReason, Limits)>,
}

/// What to do, and what to record.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Trials to tell to stop. Carried out before anything is proposed.
    pub stops: Vec<Stop>,
    /// Trials to create, in index order, once `recorded` is written.
    pub proposals: Vec<Proposal>,
    /// Whether there are places for trials that only [`decide`] proposes.
    pub wants_trials: bool,
    /// What to record about the study itself.
    pub recorded: Recorded,
    /// The best trial.
    pub best: Option<Best>,
    /// Where the study stands.
    pub state: State,
    /// What is going on, for a person.
    pub message: String,
    /// Why nothing can be pruned, where the trials have shown that.
    pub pruner_idle: Option<String>,
    /// When time alone changes the decision.
    pub look_again: Option<Timestamp>,
}

/// Where a study stands.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Trials are being run.
    Running,
    /// Suspended; whether nothing runs any more.
    Suspended {
        /// Nothing runs.
        quiet: bool,
    },
    /// It has ended, and what still ran is being stopped.
    Ending(EndReason),
    /// It has ended, and nothing runs.
    Ended(EndReason),
}

/// A trial to stop.
#[derive(Clone, Debug, PartialEq)]
pub struct Stop {
    /// The trial.
    pub index: u32,
    /// `Pruned`, `Patience`, or why the study ended.
    pub reason: String,
    /// The evidence.
    pub message: String,
    /// The step at which it was compared.
    pub step: Option<u64>,
    /// What a pruner's verdict rests on.
    pub evidence: Option<Evidence>,
}

/// A trial to create.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// Its index.
    pub index: u32,
    /// Its assignments.
    pub assignments: Assignments,
    /// The sampler's name, `initial` for an initial assignment.
    pub sampler: &'static str,
    /// The version of the sampler's algorithm.
    pub version: u32,
    /// Its bracket.
    pub bracket: Option<u32>,
    /// Its generation of CMA-ES.
    pub generation: Option<u32>,
    /// The last completion that was seen.
    pub proposed_after: Option<Timestamp>,
}

/// What the study does next. `history` holds every trial, in any order; `orphans` is how many Jobs or
/// processes are not gone yet though their trials are: they hold a place each. What earlier decisions on this study have
/// computed is in `cache`, and makes this one faster, not different.
pub fn decide(
    study: &Study,
    history: &[Trial],
    orphans: u32,
    recorded: &Recorded,
    now: Timestamp,
    cache: &mut Cache,
) -> Decision {
    decide_by(study, history, orphans, recorded, now, Some(cache))
}

/// As [`decide`], but no sampler is asked: quick, and without proposals.
pub fn outlook(study: &Study, history: &[Trial], orphans: u32, recorded: &Recorded, now: Timestamp) -> Decision {
    decide_by(study, history, orphans, recorded, now, None)
}

fn decide_by(
    study: &Study,
    history: &[Trial],
    orphans: u32,
    recorded: &Recorded,
    now: Timestamp,
    cache: Option<&mut Cache>,
) -> Decision {
    let mut history = Cow::from(history);
    if !history.is_sorted_by_key(|trial| trial.index) {
        history.to_mut().sort_by_key(|trial| trial.index);
    }
    let decider = Decider { study, history: &history, tally: Tally::of(&history), orphans, recorded, now };
    decider.decide(cache)
}

/// What one look at the trials tells.
#[derive(Default)]
struct Tally {
    /// By phase.
    phases: [u32; 6],
    /// Those that count against `parallelism`.
    active: u32,
    /// Those of which anything runs.
    at_work: u32,
    /// Those that have failed, the diverged ones not counted.
    failed: u32,
    /// Those that have diverged.
    diverged: u32,
    /// The last completion.
    completed: Option<Timestamp>,
}

impl Tally {
    fn of(history: &[Trial]) -> Tally {
        let mut tally = Tally::default();
        for trial in history {
            tally.phases[trial.phase as usize] += 1;
            tally.active += u32::from(trial.is_active());
            tally.at_work += u32::from(trial.is_at_work());
            tally.failed += u32::from(trial.counts_as_failed());
            tally.diverged += u32::from(trial.has_diverged());
            tally.completed = tally.completed.max(trial.completed);
        }
        tally
    }
}

/// How many trials must diverge, the first ones that end, before the study has failed of it.
const FIRST_TRIALS: usize = 10;

struct Decider<'a> {
    study: &'a Study,
    history: &'a [Trial],
    tally: Tally,
    orphans: u32,
    recorded: &'a Recorded,
    now: Timestamp,
}

impl Decider<'_> {
    fn decide(&self, cache: Option<&mut Cache>) -> Decision {
        let start = self.recorded.start.unwrap_or(self.now);
        let best = best(self.study.objective.direction, self.history);
        let mut decision = Decision {
            stops: Vec::new(),
            proposals: Vec::new(),
            wants_trials: false,
            recorded: Recorded {
                start: Some(start),
                last_index: self.last_index(),
                budget: self.recorded.budget,
                ended: None,
            },
            best,
            state: State::Running,
            message: String::new(),
            pruner_idle: self.study.pruners.obstacle(&self.study.problem(self.study.budget()), self.history),
            look_again: None,
        };
        let deadline = self.deadline();
        if let Some(reason) = self.latched().or_else(|| self.limit_reached(best, deadline)) {
            return self.end(decision, reason);
        }
        decision.look_again = deadline;
        decision.stops = self.pruned();
        let proposed = self.propose(&mut decision, cache);
        if decision.proposals.is_empty()
            && let Some(reason) = self.worked_off(&proposed, best)
        {
            decision.look_again = None;
            return self.end(decision, reason);
        }
        decision.state = match self.study.suspend {
            // A trial that waits for its first Job waits on: nothing new starts.
            true => State::Suspended { quiet: self.orphans == 0 && self.tally.at_work == 0 },
            false => State::Running,
        };
        decision.message = self.progress(&decision);
        decision
    }

    fn deadline(&self) -> Option<Timestamp> {
        let start = self.recorded.start.unwrap_or(self.now);
        self.study.limits.max_duration.and_then(|limit| start.checked_add(limit).ok())
    }

    fn last_index(&self) -> Option<u32> {
        self.history.last().map(|trial| trial.index).max(self.recorded.last_index)
    }

    fn active(&self) -> u32 {
        self.orphans + self.tally.active
    }

    fn count(&self, phase: Phase) -> u32 {
        self.tally.phases[phase as usize]
    }

    /// Whether all of the first trials that ended by themselves or by the pruner have diverged. Those of an earlier job
    /// template may have had another cause than the configuration.
    fn all_diverge(&self) -> bool {
        let enough = FIRST_TRIALS.min(self.study.limits.max_trials as usize);
        if (self.tally.diverged as usize) < enough {
            return false;
        }
        let has_outcome = |trial: &&Trial| matches!(trial.phase, Phase::Succeeded | Phase::Pruned | Phase::Failed);
        let is_current = |trial: &&Trial| trial.template.is_none_or(|template| template == self.study.template);
        let mut ended: Vec<&Trial> = self.history.iter().filter(has_outcome).filter(is_current).collect();
        if ended.len() < enough {
            return false;
        }
        ended.sort_unstable_by_key(|trial| (trial.completed, trial.index));
        ended[..enough].iter().all(|trial| trial.has_diverged())
    }

    /// An end stands until a limit is edited, whatever happens to the trials.
    fn latched(&self) -> Option<EndReason> {
        let (reason, limits) = self.recorded.ended.as_ref()?;
        (*limits == self.study.limits).then_some(*reason)
    }

    /// Ends that stop what still runs.
    fn limit_reached(&self, best: Option<Best>, deadline: Option<Timestamp>) -> Option<EndReason> {
        let limits = &self.study.limits;
        let direction = self.study.objective.direction;
        if self.tally.failed > limits.max_failed_trials {
            return Some(EndReason::TooManyFailedTrials);
        }
        if self.all_diverge() {
            return Some(EndReason::TrialsDiverged);
        }
        if let (Some(target), Some(best)) = (limits.target, best)
            && !beats(direction, target, best.value)
        {
            return Some(EndReason::TargetReached);
        }
        if deadline.is_some_and(|deadline| self.now >= deadline) {
            return Some(with_result(EndReason::MaxDurationReached, best));
        }
        None
    }

    /// Ends that come when nothing is left to do and nothing was proposed.
    fn worked_off(&self, proposed: &Proposed, best: Option<Best>) -> Option<EndReason> {
        if self.active() > 0 {
            return None;
        }
        match proposed {
            Proposed::NoTrialsLeft => Some(with_result(EndReason::MaxTrialsReached, best)),
            Proposed::Exhausted => Some(with_result(EndReason::SearchSpaceExhausted, best)),
            Proposed::HeldBack => None,
        }
    }

    fn end(&self, mut decision: Decision, reason: EndReason) -> Decision {
        decision.stops = self
            .history
            .iter()
            .filter(|trial| trial.can_be_stopped())
            .map(|trial| Stop {
                index: trial.index,
                reason: reason.to_string(),
                message: "the study has ended".to_owned(),
                step: None,
                evidence: None,
            })
            .collect();
        decision.recorded.ended = Some((reason, self.study.limits.clone()));
        decision.message = self.epilogue(reason, decision.best);
        let active = self.active();
        if active > 0 {
            decision.message += &format!("; {} being stopped", counted(active, "trial is", "trials are"));
            decision.state = State::Ending(reason);
        } else {
            decision.state = State::Ended(reason);
        }
        decision
    }

    fn pruned(&self) -> Vec<Stop> {
        let stop = |verdict: Verdict| Stop {
            index: verdict.index,
            reason: if verdict.is_end { reason::PATIENCE } else { reason::PRUNED }.to_owned(),
            message: verdict.message,
            step: Some(verdict.step),
            evidence: Some(verdict.evidence),
        };
        let problem = self.study.problem(self.study.budget());
        self.study.pruners.verdicts(&problem, self.history).into_iter().map(stop).collect()
    }

    fn propose(&self, decision: &mut Decision, mut cache: Option<&mut Cache>) -> Proposed {
        let limits = &self.study.limits;
        let budget = decision.recorded.budget.unwrap_or(self.study.budget());
        let mut proposed: Vec<Trial> = Vec::new();
        loop {
            if (self.history.len() + proposed.len()) as u32 >= limits.max_trials {
                return Proposed::NoTrialsLeft;
            }
            if self.study.suspend || self.active() + proposed.len() as u32 >= self.study.parallelism {
                return Proposed::HeldBack;
            }
            let Some(index) = decision.recorded.last_index.map_or(Some(0), |last| last.checked_add(1)) else {
                return Proposed::Exhausted;
            };
            let Some(cache) = cache.as_deref_mut() else {
                decision.wants_trials = true;
                return Proposed::HeldBack;
            };
            let Suggestion { assignments, sampler, version, generation } =
                match self.study.propose(budget, self.history, &proposed, index, cache) {
                    Next::Propose(suggestion) => suggestion,
                    Next::Exhausted => return Proposed::Exhausted,
                };
            let bracket = self.study.pruners.bracket(index);
            proposed.push(Trial { bracket, generation, ..Trial::proposed(index, assignments.clone()) });
            decision.recorded.last_index = Some(index);
            decision.recorded.budget = Some(budget);
            let proposed_after = self.tally.completed;
            decision.proposals.push(Proposal {
                index,
                assignments,
                sampler,
                version,
                bracket,
                generation,
                proposed_after,
            });
        }
    }

    fn progress(&self, decision: &Decision) -> String {
        let total = self.history.len() as u32;
        let (pending, running) = (self.count(Phase::Pending), self.count(Phase::Running));
        let finished = total - pending - running;
        let mut parts = vec![format!("{finished} of {} trials finished", self.study.limits.max_trials)];
        if running > 0 {
            parts.push(format!("{running} running"));
        }
        let waits = self.history.iter().filter(|trial| pending > 0 && trial.phase == Phase::Pending);
        let waiting: Vec<&str> = waits.filter_map(|trial| trial.message.as_deref()).collect();
        if let Some(why) = most_common(&waiting) {
            let wait = if waiting.len() == 1 { "waits" } else { "wait" };
            parts.push(format!("{} of {} trials {wait}: {why}", waiting.len(), pending + running));
        }
        let diverged = self.tally.diverged;
        if diverged > 0 {
            parts.push(format!("{diverged} diverged"));
        }
        let failed = self.tally.failed;
        if failed > 0 {
            let why = self.last_failure(Trial::counts_as_failed).and_then(|trial| trial.message.as_deref());
            let why = why.map(|why| format!(" (last: {why})")).unwrap_or_default();
            parts.push(format!("{failed} failed of at most {}{why}", self.study.limits.max_failed_trials));
        }
        let waits = || self.study.pruners.waits(&self.study.problem(self.study.budget()), self.history);
        parts.extend(decision.pruner_idle.clone().or_else(waits));
        if self.study.suspend {
            parts.push("suspended".to_owned());
        } else if self.study.parallelism == 0 && total < self.study.limits.max_trials && decision.proposals.is_empty() {
            parts.push("parallelism is 0: nothing new starts".to_owned());
        }
        parts.join("; ")
    }

    fn epilogue(&self, reason: EndReason, best: Option<Best>) -> String {
        let limits = &self.study.limits;
        let failed = self.tally.failed;
        let counts: fn(&Trial) -> bool = match reason {
            EndReason::TooManyFailedTrials => Trial::counts_as_failed,
            _ => |trial| trial.phase == Phase::Failed,
        };
        let last = self.last_failure(counts).map(|trial| format!("; the last failure: {}", failure(trial)));
        let last = last.unwrap_or_default();
        let what = match reason {
            EndReason::TooManyFailedTrials => {
                return format!(
                    "{}, more than maxFailedTrials {}{last}",
                    counted(failed, "trial failed", "trials failed"),
                    limits.max_failed_trials
                );
            }
            EndReason::TrialsDiverged => {
                let first = FIRST_TRIALS.min(limits.max_trials as usize);
                return format!(
                    "the first {} diverged: {} was NaN or infinite in the end. Bring the search space down to where \
                     training is stable (as by a lower max of the learning rate) in a new Study, or mend the trainer in \
                     jobTemplate and raise maxTrials to go on{last}",
                    counted(first as u32, "trial has", "trials have all"),
                    self.study.objective.metric
                );
            }
            // Failed trials alone would have been counted; others were cut off.
            EndReason::NoSuccessfulTrial
                if self.deadline().is_some_and(|deadline| self.now >= deadline)
                    && self.count(Phase::Failed) < self.history.len().max(1) as u32 =>
            {
                return format!("maxDuration reached before any trial had a result: raise it to go on{last}");
            }
            EndReason::NoSuccessfulTrial => {
                return format!("none of {} has a result{last}", counted(self.history.len() as u32, "trial", "trials"));
            }
            EndReason::TargetReached => format!("target {} reached", number(limits.target.unwrap_or(f64::NAN))),
            EndReason::MaxDurationReached => "maxDuration reached".to_owned(),
            EndReason::SearchSpaceExhausted => {
                format!("every configuration of the search space was tried ({})", self.history.len())
            }
            EndReason::MaxTrialsReached => {
                format!("{} finished", counted(self.history.len() as u32, "trial", "trials"))
            }
        };
        match best {
            Some(best) => {
                let trial = trial_name(&self.study.name, best.index);
                format!("{what}; best {} {} of {trial}", self.study.objective.metric, number(best.value))
            }
            None => what,
        }
    }

    fn last_failure(&self, counts: impl Fn(&Trial) -> bool) -> Option<&Trial> {
        let failed = self.history.iter().filter(|trial| counts(trial));
        failed.max_by_key(|trial| (trial.completed, trial.index)).filter(|trial| trial.message.is_some())
    }
}

/// How a trial failed, with the lines of its log up to that: what a person wants to know first. Bounded.
fn failure(trial: &Trial) -> String {
    let message = trial.message.as_deref().unwrap_or_default();
    let Some(last) = trial.last_words.last() else {
        return clipped(message, 500);
    };
    // The message may end with the last line already.
    let message = message.strip_suffix(last.as_str()).and_then(|rest| rest.strip_suffix(": ")).unwrap_or(message);
    let lines: Vec<String> = trial.last_words.iter().map(|line| clipped(line, 200)).collect();
    format!("{}; its log: {}", clipped(message, 500), lines.join(" | "))
}

fn clipped(text: &str, length: usize) -> String {
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Why no further trial is proposed.
enum Proposed {
    HeldBack,
    NoTrialsLeft,
    Exhausted,
}

/// An end without a single result is a failure, whatever limit brought it.
fn with_result(reason: EndReason, best: Option<Best>) -> EndReason {
    match best {
        Some(_) => reason,
        None => EndReason::NoSuccessfulTrial,
    }
}

fn counted(n: u32, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// The text that occurs most often, the first in the alphabet among equals.
fn most_common<'a>(texts: &[&'a str]) -> Option<&'a str> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(a.0))).map(|(text, _)| text)
}
