//! `decide` in a simulated world: virtual time, scripted trials, users and crashes, in random orders.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sweep_operator::core::pruner::PrunerSpec;
use sweep_operator::core::sampler::{Grid, Random, Sampler, Sobol};
use sweep_operator::core::{
    Assignments, Best, Decision, DesiredState, Direction, Domain, EndReason, Failure, Limits, Parameter, Phase,
    Recorded, Scale, Space, State, Study, Trial, ValueOf, stream,
};

use crate::space::{self, decide};

/// Draws for the simulation.
struct Dice(sweep_operator::core::Stream);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        (self.0.bits() % n.max(1) as u64) as usize
    }

    fn chance(&mut self, p: f64) -> bool {
        self.0.unit() < p
    }
}

/// What becomes of a trial that nobody stops; it depends on nothing but its index.
struct Fate {
    quality: f64,
    steps: u64,
    stride: u64,
    fails_at: Option<u64>,
}

/// A shell, its trials and its users.
struct World {
    seed: u64,
    study: Study,
    trials: BTreeMap<u32, Trial>,
    recorded: Recorded,
    now: Timestamp,
    dice: Dice,
    /// Every index that was ever created.
    used: BTreeSet<u32>,
    /// Every created trial: index, assignments and sampler.
    created: Vec<(u32, Assignments, &'static str)>,
    /// Why trials were stopped.
    reasons: BTreeMap<u32, String>,
    /// Share of trials that fail.
    failing: f64,
    /// How likely the process is killed while it carries out a decision.
    killing: f64,
    last: Option<Decision>,
}

const START: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

impl World {
    fn new(study: Study, seed: u64) -> World {
        World {
            seed,
            study,
            trials: BTreeMap::new(),
            recorded: Recorded::default(),
            now: at(0),
            dice: Dice(stream(seed, "events", 0)),
            used: BTreeSet::new(),
            created: Vec::new(),
            reasons: BTreeMap::new(),
            failing: 0.0,
            killing: 0.0,
            last: None,
        }
    }

    fn fate(&self, index: u32) -> Fate {
        let mut dice = Dice(stream(self.seed, "fate", u64::from(index)));
        // Few different qualities, so that ties occur.
        let quality = dice.below(8) as f64 / 8.0;
        let steps = 1 + dice.below(30) as u64;
        let stride = 1 + dice.below(3) as u64;
        let fails_at = dice.chance(self.failing).then(|| dice.below(steps as usize) as u64);
        Fate { quality, steps, stride, fails_at }
    }

    fn history(&self) -> Vec<Trial> {
        self.trials.values().cloned().collect()
    }

    fn active(&self) -> usize {
        self.trials.values().filter(|trial| trial.is_active()).count()
    }

    /// Decides, checks what must hold, carries the decision out, perhaps not to its end, and decides again.
    fn reconcile(&mut self) {
        let history = self.history();
        let decision = decide(&self.study, &history, 0, &self.recorded, self.now);
        self.check_determinism(history, &decision);
        self.check_decision(&decision);
        if self.carry_out(&decision) {
            self.check_quiet(&decision);
            self.last = Some(decision);
        }
    }

    fn check_determinism(&mut self, mut history: Vec<Trial>, decision: &Decision) {
        for i in (1..history.len()).rev() {
            history.swap(i, self.dice.below(i + 1));
        }
        let again = decide(&self.study, &history, 0, &self.recorded, self.now);
        assert_eq!(&again, decision, "the order of the history counts");
    }

    fn check_decision(&self, decision: &Decision) {
        assert_eq!(decision.best, self.recomputed_best());
        let mut last = self.recorded.last_index;
        let mut known: Vec<Assignments> = self.trials.values().map(|trial| trial.assignments.clone()).collect();
        for proposal in &decision.proposals {
            assert!(Some(proposal.index) > last, "index {} after {last:?}", proposal.index);
            assert!(!self.used.contains(&proposal.index), "index {} is used twice", proposal.index);
            assert!(self.study.space.parse(&proposal.assignments).is_ok());
            let untried = self.study.initial.iter().filter(|initial| !known.contains(initial)).count();
            assert_eq!(proposal.sampler == "initial", untried > 0, "initial assignments come first");
            last = Some(proposal.index);
            known.push(proposal.assignments.clone());
        }
        assert_eq!(decision.recorded.last_index.max(last), decision.recorded.last_index);
        if !decision.proposals.is_empty() {
            assert!(!self.study.suspend, "a suspended study starts nothing");
            let active = self.active() + decision.proposals.len();
            assert!(active <= self.study.parallelism as usize, "{active} active");
            let total = self.trials.len() + decision.proposals.len();
            assert!(total <= self.study.limits.max_trials as usize, "{total} trials");
        }
        for stop in &decision.stops {
            assert!(self.trials[&stop.index].can_be_stopped(), "trial {} cannot be stopped", stop.index);
            assert!(!stop.reason.is_empty() && !stop.message.is_empty());
        }
        if let Some((_, limits)) = self.recorded.ended.as_ref().filter(|(_, limits)| *limits == self.study.limits) {
            let ended = decision.recorded.ended.as_ref();
            assert_eq!(ended.map(|(_, limits)| limits), Some(limits), "an end is latched");
            assert_eq!(ended, self.recorded.ended.as_ref(), "an end is latched");
            assert_eq!(decision.proposals, []);
        }
        let ended = matches!(decision.state, State::Ending(_) | State::Ended(_));
        assert_eq!(ended, decision.recorded.ended.is_some());
        if ended {
            let left = self.trials.values().filter(|trial| trial.can_be_stopped()).count();
            assert_eq!(decision.stops.len(), left, "an end stops all that runs");
            assert_eq!(matches!(decision.state, State::Ended(_)), self.active() == 0);
        }
        assert!(decision.look_again.is_none_or(|when| when > self.now), "time alone changes nothing by then");
        assert!(!decision.message.is_empty());
    }

    fn recomputed_best(&self) -> Option<Best> {
        let mut best: Option<Best> = None;
        for trial in self.trials.values().filter(|trial| trial.phase == Phase::Succeeded) {
            let Some(value) = trial.value else { continue };
            let wins = best.is_none_or(|best| match self.study.objective.direction {
                Direction::Maximize => value > best.value,
                Direction::Minimize => value < best.value,
            });
            if wins {
                best = Some(Best { index: trial.index, value });
            }
        }
        best
    }

    /// Stops, then the record, then the proposals; false where the process was killed before the end.
    fn carry_out(&mut self, decision: &Decision) -> bool {
        let writes = decision.stops.len() + 1 + decision.proposals.len();
        let kill = self.dice.chance(self.killing);
        let done = if kill { self.dice.below(writes + 1) } else { writes };
        for stop in decision.stops.iter().take(done) {
            let trial = self.trials.get_mut(&stop.index).unwrap();
            trial.desired = DesiredState::Stopped;
            self.reasons.insert(stop.index, stop.reason.clone());
        }
        if done > decision.stops.len() {
            self.recorded = decision.recorded.clone();
        }
        for proposal in decision.proposals.iter().take(done.saturating_sub(decision.stops.len() + 1)) {
            let mut trial = space::trial(proposal.index, proposal.assignments.clone());
            (trial.phase, trial.value, trial.bracket) = (Phase::Pending, None, proposal.bracket);
            self.trials.insert(proposal.index, trial);
            assert!(self.used.insert(proposal.index));
            self.created.push((proposal.index, proposal.assignments.clone(), proposal.sampler));
        }
        done == writes
    }

    /// Nothing more is asked for once a decision was carried out.
    fn check_quiet(&self, decision: &Decision) {
        let again = decide(&self.study, &self.history(), 0, &self.recorded, self.now);
        let quiet = Decision { stops: Vec::new(), proposals: Vec::new(), ..decision.clone() };
        assert_eq!(again, quiet, "deciding again asks for more");
    }

    /// Something happens to one trial; false where nothing can.
    fn progress(&mut self) -> bool {
        let open: Vec<u32> = self.trials.values().filter(|trial| trial.is_active()).map(|trial| trial.index).collect();
        if open.is_empty() {
            return false;
        }
        let index = open[self.dice.below(open.len())];
        let fate = self.fate(index);
        let lingers = self.dice.chance(0.3);
        self.now = self.now.checked_add(SignedDuration::from_millis(1)).unwrap();
        let objective = self.study.objective.clone();
        let (pruners, now) = (self.study.pruners.clone(), self.now);
        let trial = self.trials.get_mut(&index).unwrap();
        if trial.phase.is_finished() {
            trial.occupied = false;
            return true;
        }
        let step = trial.series.last_step().unwrap_or(0) + fate.stride;
        let ended = if trial.desired == DesiredState::Stopped {
            Some(match self.reasons.get(&index).map(String::as_str) {
                Some("Pruned") => Phase::Pruned,
                Some("Patience") => Phase::Succeeded,
                _ => Phase::Stopped,
            })
        } else if trial.phase == Phase::Pending {
            trial.phase = Phase::Running;
            None
        } else if fate.fails_at.is_some_and(|at| step > at) {
            trial.message = Some("exit code 1".to_owned());
            Some(Phase::Failed)
        } else {
            let value = fate.quality * (1.0 - 1.0 / (step as f64 + 1.0));
            pruners.observe(&objective, &mut trial.series, (step, value), now);
            (step >= fate.steps).then_some(Phase::Succeeded)
        };
        if let Some(phase) = ended {
            trial.phase = phase;
            trial.occupied = lingers;
            trial.completed = Some(self.now);
            let value = trial.series.value(objective.value, objective.direction).map(|(_, value)| value);
            trial.value = value.filter(|_| phase == Phase::Succeeded);
        }
        true
    }

    /// A user stops or deletes a trial.
    fn meddle(&mut self) {
        let all: Vec<u32> = self.trials.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let index = all[self.dice.below(all.len())];
        if self.dice.chance(0.5) {
            self.trials.remove(&index);
        } else if let Some(trial) = self.trials.get_mut(&index).filter(|trial| trial.can_be_stopped()) {
            trial.desired = DesiredState::Stopped;
        }
    }

    /// A user edits the study.
    fn edit(&mut self) {
        match self.dice.below(5) {
            0 | 1 => self.study.suspend = !self.study.suspend,
            2 | 3 => self.study.parallelism = self.dice.below(6) as u32,
            _ => self.study.limits.max_trials = 1 + self.dice.below(30) as u32,
        }
    }

    /// Without further interference until the study has ended.
    fn run_to_its_end(&mut self) -> EndReason {
        self.study.suspend = false;
        self.study.parallelism = self.study.parallelism.max(1);
        for _ in 0..20_000 {
            self.reconcile();
            if let Some(Decision { state: State::Ended(reason), .. }) = self.last {
                return reason;
            }
            self.progress();
        }
        panic!("no end: {:?}", self.last);
    }
}

fn named(domains: Vec<Domain>) -> Space {
    let parameter = |(i, domain)| Parameter { name: format!("p{i}"), domain, when: Vec::new(), inactive_value: None };
    Space::new(domains.into_iter().enumerate().map(parameter).collect())
}

fn endless() -> Space {
    named(vec![Domain::Double { min: 0.0, max: 1.0, scale: Scale::Linear, step: None }, Domain::Categorical(words(3))])
}

/// Twelve configurations.
fn small() -> Space {
    named(vec![Domain::Int { min: 1, max: 4, scale: Scale::Linear, step: 1 }, Domain::Categorical(words(3))])
}

fn words(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("w{i}")).collect()
}

fn initial(texts: &[(&str, &str)]) -> Vec<Assignments> {
    let one = |(a, b): &(&str, &str)| [("p0", a), ("p1", b)].map(|(k, v)| (k.to_owned(), (*v).to_owned())).into();
    texts.iter().map(one).collect()
}

/// A study of some kind.
fn any_study(seed: u64) -> Study {
    let mut dice = Dice(stream(seed, "study", 0));
    let finite = dice.chance(0.5);
    let samplers = [Sampler::Random(Random), Sampler::Sobol(Sobol), Sampler::Grid(Grid)];
    let sampler = samplers[dice.below(if finite { 3 } else { 2 })];
    let mut study = space::study(if finite { small() } else { endless() }, sampler, seed);
    study.initial = initial(&[("1", "w2"), ("1", "w0"), ("1", "w1")][..dice.below(4)]);
    if !finite {
        // Canonical doubles.
        study.initial = study.initial.iter().map(|initial| study.space.canonical(initial)).collect();
    }
    let pruners = [
        json!({}),
        json!({"median": {"startupTrials": 2, "warmupSteps": 1, "interval": 2}}),
        json!({"hyperband": {"maxSteps": 27}}),
        json!({"forecast": {}, "threshold": {"lower": 0.05}}),
        json!({"asha": {"maxSteps": 27, "reductionFactor": 2}, "patience": {"steps": 9}}),
    ];
    let pruner = pruners[dice.below(pruners.len())].clone();
    study.pruners = serde_json::from_value::<PrunerSpec>(pruner).unwrap().given();
    study.objective.direction = if dice.chance(0.5) { Direction::Maximize } else { Direction::Minimize };
    study.objective.value = if dice.chance(0.5) { ValueOf::Last } else { ValueOf::Best };
    study.limits = Limits {
        max_trials: 1 + dice.below(25) as u32,
        max_failed_trials: dice.below(6) as u32,
        max_duration: dice.chance(0.2).then(|| SignedDuration::from_millis(1 + dice.below(400) as i64)),
        target: dice.chance(0.2).then(|| dice.below(8) as f64 / 8.0),
    };
    study.parallelism = 1 + dice.below(5) as u32;
    study
}

#[test]
fn whatever_happens_the_promises_hold_and_the_study_ends() {
    for seed in 0..500 {
        println!("seed {seed}");
        let mut world = World::new(any_study(seed), seed);
        world.failing = 0.15;
        world.killing = 0.2;
        for _ in 0..120 {
            world.reconcile();
            match world.dice.below(20) {
                0 => world.meddle(),
                1 => world.edit(),
                _ => {
                    world.progress();
                }
            }
        }
        world.run_to_its_end();
        assert!(world.trials.values().all(|trial| trial.phase.is_finished()));
    }
}

#[test]
fn a_kill_at_any_point_loses_no_trial() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut study = any_study(seed);
        study.limits = Limits { max_trials: 10, max_failed_trials: 10, max_duration: None, target: None };
        let initial = study.initial.clone();
        let mut world = World::new(study, seed);
        world.killing = 0.6;
        let reason = world.run_to_its_end();
        assert_eq!((world.trials.len(), reason), (10, EndReason::MaxTrialsReached));
        for initial in initial {
            assert!(world.trials.values().any(|trial| trial.assignments == initial), "{initial:?} was not tried");
        }
    }
}

#[test]
fn a_finite_space_is_worked_off_also_with_gaps_in_the_indices() {
    for seed in 0..60 {
        println!("seed {seed}");
        let samplers = [Sampler::Random(Random), Sampler::Sobol(Sobol), Sampler::Grid(Grid)];
        let mut study = space::study(small(), samplers[seed as usize % 3], seed);
        study.initial = initial(&[("3", "w1"), ("4", "w0")]);
        study.parallelism = 3;
        let mut world = World::new(study, seed);
        world.killing = 0.5;
        let reason = world.run_to_its_end();
        let distinct: BTreeSet<&Assignments> = world.trials.values().map(|trial| &trial.assignments).collect();
        assert_eq!((world.trials.len(), distinct.len(), reason), (12, 12, EndReason::SearchSpaceExhausted));
    }
}

#[test]
fn suspending_and_draining_do_not_change_the_sequence() {
    for seed in 0..100 {
        println!("seed {seed}");
        let mut study = any_study(seed);
        study.limits = Limits { max_trials: 12, max_failed_trials: 12, max_duration: None, target: None };
        let mut calm = World::new(study.clone(), seed);
        calm.run_to_its_end();
        let mut restless = World::new(study, seed);
        for _ in 0..150 {
            restless.reconcile();
            match restless.dice.below(6) {
                0 => restless.study.suspend = !restless.study.suspend,
                1 => restless.study.parallelism = restless.dice.below(5) as u32,
                _ => {
                    restless.progress();
                }
            }
        }
        restless.run_to_its_end();
        assert_eq!(calm.created, restless.created);
    }
}

#[test]
fn a_deleted_trial_is_replaced_under_a_new_index() {
    let mut world = World::new(small_study(), 1);
    world.study.limits.max_trials = 4;
    world.study.parallelism = 4;
    world.reconcile();
    world.trials.remove(&1);
    world.trials.remove(&3);
    world.run_to_its_end();
    assert_eq!(world.trials.keys().copied().collect::<Vec<u32>>(), [0, 2, 4, 5]);
}

#[test]
fn all_trials_deleted_still_leaves_their_indices_used() {
    let mut world = World::new(small_study(), 1);
    world.study.parallelism = 3;
    world.reconcile();
    world.trials.clear();
    world.reconcile();
    assert_eq!(world.trials.keys().copied().collect::<Vec<u32>>(), [3, 4, 5]);
}

#[test]
fn an_ended_study_stays_ended_until_a_limit_is_edited() {
    let mut world = World::new(small_study(), 2);
    world.study.limits.max_trials = 3;
    assert_eq!(world.run_to_its_end(), EndReason::MaxTrialsReached);
    world.trials.clear();
    world.study.parallelism = 5;
    world.reconcile();
    assert_eq!(world.trials.len(), 0, "deleting trials does not reopen it");
    world.study.limits.max_trials = 4;
    world.reconcile();
    assert_eq!(world.trials.len(), 4, "editing maxTrials does");
}

#[test]
fn raising_the_target_reopens_a_study_and_an_unreached_one_goes_on() {
    let study = small_study();
    let mut succeeded = space::trial(0, study.space.nth(0));
    succeeded.value = Some(0.9);
    let with_target =
        |target| Study { limits: Limits { target: Some(target), ..study.limits.clone() }, ..study.clone() };
    let ended = decide(&with_target(0.9), &[succeeded.clone()], 0, &Recorded::default(), at(0));
    assert_eq!(ended.state, State::Ended(EndReason::TargetReached));
    assert_eq!(ended.message, "target 0.9 reached; best accuracy 0.9 of test-0000");
    let reopened = decide(&with_target(0.95), &[succeeded], 0, &ended.recorded, at(1));
    assert_eq!((reopened.state, reopened.recorded.ended), (State::Running, None));
}

fn small_study() -> Study {
    space::study(small(), Sampler::Grid(Grid), 5)
}

fn with_phase(index: u32, phase: Phase, value: Option<f64>) -> Trial {
    let mut trial = space::trial(index, small().nth(u128::from(index)));
    (trial.phase, trial.value) = (phase, value);
    trial
}

#[test]
fn a_target_is_reached_from_the_right_side() {
    let cases = [
        (Direction::Maximize, 0.5, 0.5, true),
        (Direction::Maximize, 0.5, 0.6, true),
        (Direction::Maximize, 0.5, 0.4, false),
        (Direction::Minimize, 0.5, 0.5, true),
        (Direction::Minimize, 0.5, 0.4, true),
        (Direction::Minimize, 0.5, 0.6, false),
    ];
    for (direction, target, value, reached) in cases {
        let mut study = small_study();
        study.objective.direction = direction;
        study.limits.target = Some(target);
        let decision = decide(&study, &[with_phase(0, Phase::Succeeded, Some(value))], 0, &Recorded::default(), at(0));
        let ended = decision.state == State::Ended(EndReason::TargetReached);
        assert_eq!(ended, reached, "{direction:?}: {value} for a target of {target}");
    }
}

#[test]
fn only_a_succeeded_trial_can_reach_the_target_or_be_best() {
    let mut study = small_study();
    study.limits.target = Some(0.5);
    for phase in [Phase::Pruned, Phase::Failed, Phase::Stopped, Phase::Running] {
        let decision = decide(&study, &[with_phase(0, phase, Some(0.9))], 0, &Recorded::default(), at(0));
        assert_eq!((decision.best, decision.state), (None, State::Running), "{phase:?}");
    }
}

#[test]
fn ties_for_the_best_go_to_the_lower_index() {
    for direction in [Direction::Maximize, Direction::Minimize] {
        let mut study = small_study();
        study.objective.direction = direction;
        let history = [
            with_phase(2, Phase::Succeeded, Some(0.5)),
            with_phase(1, Phase::Succeeded, Some(0.5)),
            with_phase(0, Phase::Pruned, Some(0.5)),
        ];
        let best = decide(&study, &history, 0, &Recorded::default(), at(0)).best;
        assert_eq!(best, Some(Best { index: 1, value: 0.5 }));
    }
}

#[test]
fn the_deadline_ends_a_study_and_stops_what_runs() {
    let mut study = small_study();
    study.limits.max_duration = Some(SignedDuration::from_hours(1));
    let history = [with_phase(0, Phase::Succeeded, Some(0.1)), with_phase(1, Phase::Running, None)];
    let recorded = Recorded { start: Some(at(0)), last_index: Some(1), ..Recorded::default() };
    let before = decide(&study, &history, 0, &recorded, at(3_599));
    assert_eq!((before.state, before.look_again), (State::Running, Some(at(3_600))));
    let after = decide(&study, &history, 0, &recorded, at(3_600));
    assert_eq!(after.state, State::Ending(EndReason::MaxDurationReached));
    assert_eq!(after.message, "maxDuration reached; best accuracy 0.1 of test-0000; 1 trial is being stopped");
    let stops: Vec<(u32, &str)> = after.stops.iter().map(|stop| (stop.index, stop.reason.as_str())).collect();
    assert_eq!(stops, [(1, "MaxDurationReached")]);
    assert_eq!(after.look_again, None);
}

#[test]
fn an_end_without_a_result_is_a_failure() {
    let mut study = small_study();
    study.limits.max_duration = Some(SignedDuration::from_hours(1));
    let recorded = Recorded { start: Some(at(0)), last_index: None, ..Recorded::default() };
    let decision = decide(&study, &[], 0, &recorded, at(4_000));
    assert_eq!(decision.state, State::Ended(EndReason::NoSuccessfulTrial));
    assert!(EndReason::NoSuccessfulTrial.is_failure());
    study.limits.max_duration = None;
    study.limits.max_trials = 2;
    let mut failed = with_phase(1, Phase::Failed, None);
    failed.message = Some("exit code 137".to_owned());
    let decision = decide(&study, &[with_phase(0, Phase::Stopped, None), failed], 0, &recorded, at(1));
    assert_eq!(decision.state, State::Ended(EndReason::NoSuccessfulTrial));
    assert_eq!(decision.message, "none of 2 trials has a result; the last failure: exit code 137");
}

#[test]
fn more_failed_trials_than_allowed_fail_the_study() {
    let mut study = small_study();
    study.limits.max_failed_trials = 1;
    let failed = |index, second, message: &str| {
        let mut trial = with_phase(index, Phase::Failed, None);
        trial.completed = Some(at(second));
        trial.message = Some(message.to_owned());
        trial
    };
    let one = decide(&study, &[failed(0, 5, "out of memory")], 0, &Recorded::default(), at(9));
    assert_eq!(one.state, State::Running);
    assert!(one.message.contains("1 failed of at most 1 (last: out of memory)"), "{}", one.message);
    let two = decide(&study, &[failed(0, 5, "late"), failed(1, 2, "early")], 0, &Recorded::default(), at(9));
    assert_eq!(two.state, State::Ended(EndReason::TooManyFailedTrials));
    assert_eq!(two.message, "2 trials failed, more than maxFailedTrials 1; the last failure: late");
    let mut last = failed(2, 7, "TrainerFailed: container trainer exit code 3: KeyError: 'lr'");
    last.last_words = ["Traceback:", "  line 7", "KeyError: 'lr'"].map(str::to_owned).to_vec();
    let told = decide(&study, &[failed(0, 5, "late"), last.clone()], 0, &Recorded::default(), at(9));
    assert_eq!(
        told.message,
        "2 trials failed, more than maxFailedTrials 1; the last failure: TrainerFailed: container trainer exit code 3; its log: Traceback: |   line 7 | KeyError: 'lr'"
    );
    last.last_words = vec!["é".repeat(5_000); 3];
    last.message = Some("é".repeat(5_000));
    let long = decide(&study, &[failed(0, 5, "late"), last], 0, &Recorded::default(), at(9));
    assert!(long.message.chars().count() < 1_300, "{}", long.message);
}

fn diverged(index: u32) -> Trial {
    let mut trial = with_phase(index, Phase::Failed, None);
    trial.completed = Some(at(i64::from(index)));
    trial.failure = Some(Failure::Diverged);
    trial.message = Some("NotANumber: accuracy was NaN or infinite from step 3 on".to_owned());
    trial
}

#[test]
fn trials_that_diverged_are_told_apart_and_do_not_count_as_failed() {
    let mut study = small_study();
    study.limits.max_failed_trials = 1;
    let mut failed = with_phase(0, Phase::Failed, None);
    failed.message = Some("exit code 1".to_owned());
    failed.failure = Some(Failure::Error);
    let mut history = vec![failed];
    history.extend((1..9).map(diverged));
    history.push(with_phase(9, Phase::Succeeded, Some(0.5)));
    history.push(diverged(10));
    let decision = decide(&study, &history, 0, &Recorded::default(), at(99));
    assert_eq!(decision.state, State::Running);
    assert!(decision.message.contains("9 diverged; 1 failed of at most 1 (last: exit code 1)"), "{}", decision.message);
    assert_eq!(decision.best, Some(Best { index: 9, value: 0.5 }));
}

#[test]
fn a_study_whose_first_ten_trials_all_diverge_has_failed_and_says_what_to_do() {
    let study = small_study();
    let mut history: Vec<Trial> = (0..9).map(diverged).collect();
    let mut pruned = with_phase(9, Phase::Pruned, None);
    pruned.series.push(1, f64::NAN, ValueOf::Last, Direction::Maximize);
    pruned.completed = Some(at(9));
    let mut stopped = with_phase(10, Phase::Stopped, None);
    stopped.completed = Some(at(0));
    let decide = |history: &[Trial]| decide(&study, history, 0, &Recorded::default(), at(99));
    history.push(stopped);
    assert_eq!(decide(&history).state, State::Running, "nine are not enough");
    history.push(pruned);
    let decision = decide(&history);
    assert_eq!(decision.state, State::Ended(EndReason::TrialsDiverged));
    assert!(EndReason::TrialsDiverged.is_failure());
    assert!(
        decision.message.starts_with("the first 10 trials have all diverged: accuracy was NaN"),
        "{}",
        decision.message
    );
    assert!(decision.message.contains("lower max of the learning rate"), "{}", decision.message);
    assert!(decision.message.ends_with("the last failure: NotANumber: accuracy was NaN or infinite from step 3 on"));
    // The order in which they ended counts.
    let mut first = with_phase(11, Phase::Succeeded, Some(0.1));
    first.completed = Some(at(-1));
    history.push(first);
    assert_eq!(decide(&history).state, State::Ended(EndReason::SearchSpaceExhausted));
}

#[test]
fn where_there_are_fewer_than_ten_trials_all_of_them_must_diverge() {
    let mut study = small_study();
    study.limits.max_trials = 3;
    let decide = |study: &Study, history: &[Trial], recorded: &Recorded| decide(study, history, 0, recorded, at(99));
    let history: Vec<Trial> = (0..3).map(diverged).collect();
    let ended = decide(&study, &history, &Recorded::default());
    assert_eq!(ended.state, State::Ended(EndReason::TrialsDiverged));
    let mixed = [diverged(0), diverged(1), with_phase(2, Phase::Succeeded, Some(0.5))];
    assert_eq!(decide(&study, &mixed, &Recorded::default()).state, State::Ended(EndReason::MaxTrialsReached));
    // Latched; a mended template counts anew once the study is reopened.
    study.template += 1;
    let of_old = |mut trial: Trial| {
        trial.template = Some(study.template - 1);
        trial
    };
    let history: Vec<Trial> = history.into_iter().map(of_old).collect();
    assert_eq!(decide(&study, &history, &ended.recorded).state, State::Ended(EndReason::TrialsDiverged));
    study.limits.max_trials = 6;
    assert_eq!(decide(&study, &history, &ended.recorded).state, State::Running);
}

#[test]
fn a_tenth_of_the_trials_may_fail_where_nothing_is_said_but_at_least_three() {
    let allowed = |max_trials: u32| {
        let patches = [("/maxFailedTrials", serde_json::Value::Null), ("/maxTrials", max_trials.into())];
        crate::support::study(&patches).core.limits.max_failed_trials
    };
    assert_eq!([1, 30, 39, 40, 1_000].map(allowed), [3, 3, 3, 4, 100]);
}

#[test]
fn the_message_says_why_trials_wait() {
    let mut study = small_study();
    study.limits.max_trials = 12;
    study.parallelism = 8;
    let pending = |index, why: Option<&str>| {
        let mut trial = with_phase(index, Phase::Pending, None);
        trial.message = why.map(str::to_owned);
        trial
    };
    let gpu = Some("0/4 nodes have a free nvidia.com/gpu");
    let mut history = vec![pending(0, gpu), pending(1, gpu), pending(2, Some("its image is being pulled"))];
    history.extend((3..8).map(|index| with_phase(index, Phase::Running, None)));
    let message = |history: &[Trial]| decide(&study, history, 0, &Recorded::default(), at(0)).message;
    assert_eq!(
        message(&history),
        "0 of 12 trials finished; 5 running; 3 of 8 trials wait: 0/4 nodes have a free nvidia.com/gpu"
    );
    history.drain(1..3);
    assert!(message(&history).contains("1 of 6 trials waits: 0/4 nodes"), "{}", message(&history));
}

#[test]
fn the_message_says_what_holds_a_study_back() {
    let mut study = small_study();
    study.parallelism = 0;
    let decision = decide(&study, &[], 0, &Recorded::default(), at(0));
    assert_eq!(decision.message, "0 of 10000 trials finished; parallelism is 0: nothing new starts");
    study.parallelism = 1;
    study.suspend = true;
    let decision = decide(&study, &[], 0, &Recorded::default(), at(0));
    assert_eq!(decision.state, State::Suspended { quiet: true });
    assert_eq!(decision.message, "0 of 10000 trials finished; suspended");
    let running = decide(&study, &[with_phase(0, Phase::Running, None)], 0, &Recorded::default(), at(0));
    assert_eq!(running.state, State::Suspended { quiet: false });
    assert_eq!((running.stops, running.proposals), (Vec::new(), Vec::new()), "what runs ends by itself");
}

#[test]
fn a_suspended_study_ends_once_its_last_trial_has_ended() {
    let mut study = small_study();
    study.suspend = true;
    study.limits.max_trials = 1;
    let decision = decide(&study, &[with_phase(0, Phase::Succeeded, Some(0.5))], 0, &Recorded::default(), at(0));
    assert_eq!(decision.state, State::Ended(EndReason::MaxTrialsReached));
    assert_eq!(decision.message, "1 trial finished; best accuracy 0.5 of test-0000");
}

#[test]
fn a_job_that_is_not_gone_yet_holds_its_place() {
    let mut study = small_study();
    study.parallelism = 1;
    let mut trial = with_phase(0, Phase::Succeeded, Some(0.5));
    trial.occupied = true;
    let decide =
        |trial: &Trial| decide(&study, std::slice::from_ref(trial), 0, &Recorded::default(), at(0)).proposals.len();
    assert_eq!(decide(&trial), 0);
    trial.occupied = false;
    assert_eq!(decide(&trial), 1);
}

#[test]
fn the_indices_end_before_they_start_over() {
    let recorded = Recorded { start: None, last_index: Some(u32::MAX), ..Recorded::default() };
    let decision = decide(&small_study(), &[], 0, &recorded, at(0));
    assert_eq!(decision.proposals, []);
    assert_eq!(decision.recorded.last_index, Some(u32::MAX));
}

#[test]
fn a_proposal_records_the_last_completion_it_has_seen() {
    let mut study = small_study();
    study.parallelism = 2;
    let mut history = vec![with_phase(0, Phase::Succeeded, Some(0.1)), with_phase(1, Phase::Pruned, None)];
    history[0].completed = Some(at(9));
    history[1].completed = Some(at(4));
    let decision = decide(&study, &history, 0, &Recorded::default(), at(20));
    let after: Vec<Option<Timestamp>> = decision.proposals.iter().map(|proposal| proposal.proposed_after).collect();
    assert_eq!(after, [Some(at(9)), Some(at(9))]);
}

#[test]
fn a_job_whose_trial_was_deleted_holds_its_place_until_it_is_gone() {
    let mut study = small_study();
    study.parallelism = 2;
    let proposals = |orphans| decide(&study, &[], orphans, &Recorded::default(), at(0)).proposals.len();
    assert_eq!(proposals(0), 2);
    assert_eq!(proposals(1), 1);
    assert_eq!(proposals(2), 0);
}
