//! No trial is wasted: what was tried is not proposed again, nor what no trainer could tell from it; a failure teaches only
//! where it speaks of its configuration, and what it said nothing about is tried again.

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;
use sweep_operator::core::sampler::{Auto, Cache, Cmaes, Gp, Grid, Next, Random, Sampler, Sobol, Suggestion, Tpe};
use sweep_operator::core::{
    Assignments, Direction, Domain, Failure, Objective, Phase, Scale, Space, Study, Trial, ValueOf, stream,
};

use crate::space::{continuous, plain, study, words};

/// Within this share of each range two values are one.
const SPACING: f64 = 1e-4;

fn log() -> Domain {
    Domain::Double { min: 1e-5, max: 1.0, scale: Scale::Log, step: None }
}

fn linear() -> Domain {
    Domain::Double { min: -3.0, max: 5.0, scale: Scale::Linear, step: None }
}

fn minimised(space: Space, sampler: Sampler, seed: u64) -> Study {
    let objective = Objective { metric: "loss".to_owned(), direction: Direction::Minimize, value: ValueOf::Last };
    Study { objective, ..study(space, sampler, seed) }
}

fn at(micros: usize) -> Option<Timestamp> {
    Some(Timestamp::UNIX_EPOCH + SignedDuration::from_micros(micros as i64))
}

/// Where the trials of a space of ranges alone lie, each range from 0 to 1 on its scale.
fn unit(study: &Study, assignments: &Assignments) -> Vec<f64> {
    let values = study.space.parse(assignments).unwrap();
    study.space.parameters().iter().zip(values).map(|(p, value)| p.domain.unit(value.unwrap())).collect()
}

/// The trials of a sweep, so many at a time; the first to start is the first to end. An objective of None is a failure.
fn sweep(study: &Study, count: usize, workers: usize, objective: impl Fn(&[f64], u32) -> Option<f64>) -> Vec<Vec<f64>> {
    let mut cache = Cache::default();
    let (mut trials, mut ended): (Vec<Trial>, usize) = (Vec::new(), 0);
    while trials.len() < count {
        if trials.len() - ended == workers {
            let x = unit(study, &trials[ended].assignments);
            let index = trials[ended].index;
            let trial = &mut trials[ended];
            (trial.completed, trial.value) = (at(ended), objective(&x, index));
            (trial.phase, trial.failure) = match trial.value {
                Some(_) => (Phase::Succeeded, None),
                None => (Phase::Failed, Some(Failure::Diverged)),
            };
            ended += 1;
            continue;
        }
        let Next::Propose(Suggestion { assignments, generation, .. }) =
            study.propose(study.budget(), &trials, &[], trials.len() as u32, &mut cache)
        else {
            panic!("a continuum is not exhausted")
        };
        let trial = Trial::proposed(trials.len() as u32, assignments);
        trials.push(Trial { phase: Phase::Running, generation, ..trial });
    }
    trials.iter().map(|trial| unit(study, &trial.assignments)).collect()
}

/// How far apart the nearest two of these points are, in the parameter in which they differ most.
fn least_distance(points: &[Vec<f64>]) -> f64 {
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0_f64, |most, (a, b)| most.max((a - b).abs()));
    let pairs = points.iter().enumerate().flat_map(|(i, a)| points[..i].iter().map(move |b| distance(a, b)));
    pairs.fold(f64::INFINITY, f64::min)
}

/// The objectives that have tempted samplers to come back.
fn tempting(kind: &str, x: &[f64], index: u32) -> Option<f64> {
    let square = |centre: f64| x.iter().map(|x| (x - centre) * (x - centre)).sum::<f64>();
    match kind {
        "monotone, its optimum in a corner" => Some(-x.iter().sum::<f64>()),
        "flat" => Some(0.5),
        "a step function" => Some((x[0] * 4.0).floor()),
        "noisy" => Some(square(0.3) + 0.2 * stream(1, "noise", u64::from(index)).unit()),
        "a third fails, next to the optimum" => (x[0] > 1.0 / 3.0).then(|| square(0.35)),
        _ => unreachable!("{kind}"),
    }
}

#[rstest]
fn no_configuration_is_tried_twice_nor_one_that_no_trainer_could_tell_from_it(
    #[values(Sampler::Random(Random), Sampler::Sobol(Sobol), Sampler::Auto(Auto), Sampler::Tpe(Tpe::default()))]
    sampler: Sampler,
    #[values(
        "monotone, its optimum in a corner",
        "flat",
        "a step function",
        "noisy",
        "a third fails, next to the optimum"
    )]
    kind: &str,
    #[values(1, 8)] workers: usize,
) {
    let count = if sampler == Sampler::Auto(Auto) { 50 } else { 200 };
    for domains in [vec![log()], vec![log(), linear()]] {
        let study = Study { parallelism: workers as u32, ..minimised(plain(domains), sampler, 3) };
        let points = sweep(&study, count, workers, |x, index| tempting(kind, x, index));
        let least = least_distance(&points);
        assert!(least > SPACING, "{sampler:?}, {kind}: two trials lie {least} apart");
    }
}

#[rstest]
fn cmaes_comes_close_only_once_it_has_converged_and_never_back(
    #[values("monotone, its optimum in a corner", "flat", "noisy", "a third fails, next to the optimum")] kind: &str,
    #[values(1, 8)] workers: usize,
) {
    let study = minimised(plain(vec![log(), linear()]), Sampler::Cmaes(Cmaes::default()), 3);
    let points = sweep(&study, 200, workers, |x, index| tempting(kind, x, index));
    assert!(least_distance(&points) > 0.0, "{kind}");
    let early = least_distance(&points[..40]);
    assert!(early > SPACING, "{kind}: two of the first trials lie {early} apart");
}

#[test]
fn trials_that_run_at_the_same_time_keep_apart() {
    for workers in [4, 8] {
        let study = Study { parallelism: workers, ..minimised(plain(vec![linear()]), Sampler::Auto(Auto), 9) };
        let points = sweep(&study, 60, workers as usize, |x, _| Some((x[0] - 0.4) * (x[0] - 0.4)));
        for together in points.windows(workers as usize) {
            assert!(least_distance(together) > SPACING, "{together:?}");
        }
    }
}

#[test]
fn the_surrogate_meets_the_optimum_all_the_same() {
    let study = minimised(plain(vec![linear(), linear()]), Sampler::Auto(Auto), 5);
    let far = |x: &[f64]| x.iter().map(|x| (x - 0.6123) * (x - 0.6123)).sum::<f64>();
    let points = sweep(&study, 50, 1, |x, _| Some(far(x)));
    let best = points.iter().map(|x| far(x)).fold(f64::INFINITY, f64::min);
    assert!(best < 1e-6, "{best}");
}

proptest::proptest! {
    #[test]
    fn a_proposal_at_a_bound_is_the_bound(domain in continuous()) {
        let Domain::Double { min, max, .. } = domain else { unreachable!() };
        for (u, bound) in [(0.0, min), (1e-15, min), (1.0, max), (1.0 - 1e-15, max)] {
            proptest::prop_assert_eq!(domain.text(domain.at_unit(u)), format!("{bound:?}"));
        }
    }
}

#[test]
fn a_bound_on_a_logarithmic_scale_is_written_as_the_user_wrote_it() {
    let study = minimised(plain(vec![Domain::Double { min: 1e-4, max: 1.0, scale: Scale::Log, step: None }]), GP, 1);
    // The closer to the lower bound the better.
    let points = sweep(&study, 12, 1, |x, _| Some(x[0]));
    let lowest = points.iter().map(|x| x[0]).fold(1.0, f64::min);
    assert_eq!(study.space.parameters()[0].domain.text(study.space.parameters()[0].domain.at_unit(lowest)), "0.0001");
}

const GP: Sampler = Sampler::Gp(Gp { startup_trials: Some(4) });

#[test]
fn a_grid_too_large_to_be_permuted_is_shuffled_too() {
    let hundred = || Domain::Int { min: 1, max: 100, scale: Scale::Linear, step: 1 };
    let study = minimised(plain(vec![hundred(); 20]), Sampler::Grid(Grid), 3);
    let mut trials: Vec<Trial> = Vec::new();
    for index in 0..40 {
        let Next::Propose(suggestion) = study.propose(study.budget(), &trials, &[], index, &mut Cache::default())
        else {
            panic!()
        };
        trials.push(Trial::proposed(index, suggestion.assignments));
    }
    for parameter in study.space.parameters() {
        let values: std::collections::BTreeSet<&String> =
            trials.iter().map(|trial| &trial.assignments[&parameter.name]).collect();
        assert!(values.len() > 20, "{}: {values:?}", parameter.name);
    }
}

/// A history of failures and successes, in the order of their ends.
struct History {
    study: Study,
    trials: Vec<Trial>,
    cache: Cache,
}

impl History {
    fn new(study: Study) -> History {
        History { study, trials: Vec::new(), cache: Cache::default() }
    }

    /// The next trial; it ends so. With it what proposed it, and its configuration.
    fn run(&mut self, failure: Option<Failure>) -> (&'static str, Assignments) {
        let index = self.trials.len();
        let cached = self.study.propose(self.study.budget(), &self.trials, &[], index as u32, &mut self.cache);
        assert_eq!(
            cached,
            self.study.propose(self.study.budget(), &self.trials, &[], index as u32, &mut Cache::default()),
            "cached or cold"
        );
        let Next::Propose(suggestion) = cached else { panic!("exhausted") };
        self.trials.push(Trial {
            phase: if failure.is_some() { Phase::Failed } else { Phase::Succeeded },
            value: failure.is_none().then_some(index as f64),
            failure,
            template: Some(self.study.template),
            completed: at(index),
            generation: suggestion.generation,
            ..Trial::proposed(index as u32, suggestion.assignments.clone())
        });
        (suggestion.sampler, suggestion.assignments)
    }
}

fn with_initial(sampler: Sampler) -> History {
    let initial = ["0.001", "0.5"].map(|x| Assignments::from([("p0".to_owned(), x.to_owned())]));
    History::new(Study { initial: initial.to_vec(), ..minimised(plain(vec![log()]), sampler, 4) })
}

#[test]
fn what_failed_before_any_had_succeeded_is_tried_again_once_one_has_the_initial_ones_first() {
    for sampler in [Sampler::Auto(Auto), Sampler::Random(Random), Sampler::Tpe(Tpe::default())] {
        let mut history = with_initial(sampler);
        let failed: Vec<_> = (0..4).map(|_| history.run(Some(Failure::Error)).1).collect();
        let (by, _) = history.run(None);
        assert_ne!(by, "retry", "nothing has shown yet that it would go better");
        let again: Vec<_> = (0..4).map(|_| history.run(None)).collect();
        assert_eq!(again, failed.into_iter().map(|assignments| ("retry", assignments)).collect::<Vec<_>>());
        assert_ne!(history.run(None).0, "retry", "{sampler:?}");
    }
}

#[test]
fn under_an_edited_template_what_failed_is_tried_again_at_once() {
    let mut history = with_initial(Sampler::Auto(Auto));
    let failed: Vec<_> = (0..3).map(|_| history.run(Some(Failure::Error)).1).collect();
    history.study.template += 1;
    assert_eq!(history.run(Some(Failure::Error)), ("retry", failed[0].clone()), "the initial one first");
    assert_eq!(history.run(None), ("retry", failed[1].clone()));
    assert_eq!(history.run(None), ("retry", failed[0].clone()), "it failed before one had succeeded");
    assert_eq!(history.run(None), ("retry", failed[2].clone()));
}

#[rstest]
#[case::an_error_while_others_succeed(Failure::Error)]
#[case::out_of_memory(Failure::OutOfMemory)]
#[case::diverged(Failure::Diverged)]
fn a_failure_that_speaks_of_its_configuration_is_not_tried_again(#[case] failure: Failure) {
    let mut history = with_initial(Sampler::Auto(Auto));
    history.run(None);
    let (_, failed) = history.run(Some(failure));
    for _ in 0..20 {
        let (by, assignments) = history.run(None);
        assert!(by != "retry" && assignments != failed);
    }
}

#[test]
fn what_says_nothing_of_its_configuration_is_tried_once_more_and_no_more() {
    let mut history = with_initial(Sampler::Auto(Auto));
    history.run(None);
    let (_, failed) = history.run(Some(Failure::Surroundings));
    assert_eq!(history.run(Some(Failure::Surroundings)), ("retry", failed.clone()));
    for _ in 0..20 {
        assert_ne!(history.run(None).1, failed);
    }
}

#[test]
fn failures_that_teach_nothing_keep_no_sampler_away_from_their_neighbourhood() {
    // The first four met an error that was then mended; the optimum lies among them.
    for sampler in [GP, Sampler::Tpe(Tpe { startup_trials: 4, ..Tpe::default() }), Sampler::Cmaes(Cmaes::default())] {
        let mut history = History::new(minimised(plain(vec![linear(), linear()]), sampler, 4));
        let mut taught = History::new(history.study.clone());
        for _ in 0..4 {
            history.run(Some(Failure::Error));
        }
        let wasted: Vec<Trial> = history.trials.clone();
        for index in 4..20 {
            history.run(None);
            let mut trial = history.trials[index].clone();
            // As if the failed ones had never been, but for the index.
            trial.index = index as u32;
            taught.trials.push(trial);
        }
        let with = |trials: &[Trial]| {
            let stopped = wasted.iter().cloned().map(|trial| Trial { phase: Phase::Stopped, failure: None, ..trial });
            let all: Vec<Trial> = stopped.chain(trials.iter().cloned()).collect();
            history.study.propose(history.study.budget(), &all, &[], 20, &mut Cache::default())
        };
        let failed = history.study.propose(history.study.budget(), &history.trials, &[], 20, &mut Cache::default());
        assert_eq!(failed, with(&taught.trials), "{sampler:?}: a trial that was stopped teaches nothing either");
    }
}

#[test]
fn a_finite_space_is_not_exhausted_by_failures_that_teach_nothing() {
    let mut history = History::new(minimised(plain(vec![words(3)]), Sampler::Random(Random), 4));
    let first = history.run(Some(Failure::Error)).1;
    history.run(None);
    assert_eq!(history.run(None), ("retry", first));
    history.run(None);
    let index = history.trials.len() as u32;
    assert_eq!(
        history.study.propose(history.study.budget(), &history.trials, &[], index, &mut Cache::default()),
        Next::Exhausted
    );
}
