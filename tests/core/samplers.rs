//! What samplers that learn promise: the same proposals however the history comes to them, and no trouble with numbers.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sweep_operator::core::sampler::{Auto, Cache, Cmaes, Gp, Next, Random, Sampler, Sobol, Suggestion, Tpe};
use sweep_operator::core::{
    Activation, Assignments, Direction, Domain, Phase, Recorded, Scale, Series, Space, Study, Trial, ValueOf, Values,
    stream,
};

use crate::space::{
    SAMPLERS, continuous, decide, finite, lies_in, parameter, plain, propose, space, study, trial, words,
};

const LEARNERS: [Sampler; 4] = [
    Sampler::Auto(Auto),
    Sampler::Tpe(Tpe { startup_trials: 4, candidates: 24, gamma: 0.1 }),
    Sampler::Gp(Gp { startup_trials: Some(4) }),
    Sampler::Cmaes(Cmaes { sigma: 0.2, population: Some(4), restarts: 9 }),
];

fn unit() -> Domain {
    Domain::Double { min: 0.0, max: 1.0, scale: Scale::Linear, step: None }
}

/// Numbers, categories, and a branch.
fn mixed() -> Space {
    let sgd = vec![Activation { parent: 3, values: Values::In(vec![1]) }];
    let deep = vec![Activation { parent: 1, values: Values::Between(4.0, 8.0) }];
    Space::new(vec![
        parameter(0, Domain::Double { min: 1e-5, max: 1.0, scale: Scale::Log, step: None }, Vec::new()),
        parameter(1, Domain::Int { min: 1, max: 8, scale: Scale::Linear, step: 1 }, Vec::new()),
        parameter(2, Domain::Discrete(vec![16.0, 32.0, 64.0]), Vec::new()),
        parameter(3, words(3), Vec::new()),
        parameter(4, unit(), sgd),
        parameter(5, unit(), deep),
    ])
}

fn at(micros: i64) -> Option<Timestamp> {
    Some(Timestamp::UNIX_EPOCH + SignedDuration::from_micros(micros))
}

/// What a trial comes to: some value of its text, the same each time.
fn value_of(assignments: &Assignments) -> f64 {
    let text = format!("{assignments:?}");
    stream(sweep_operator::core::fnv1a(text.as_bytes()), "value", 0).unit()
}

/// A sweep of so many trials, four at a time, that end out of order: some fail, some are pruned. With each proposal the
/// history that it was made on.
struct Sweep {
    study: Study,
    trials: Vec<Trial>,
    proposals: Vec<(Suggestion, Option<Timestamp>)>,
}

impl Sweep {
    fn run(study: Study, count: u32, mut cache: Option<&mut Cache>) -> Sweep {
        let mut sweep = Sweep { study, trials: Vec::new(), proposals: Vec::new() };
        let mut dice = stream(7, "sweep", 0);
        let mut clock = 0;
        for index in 0..count {
            while sweep.trials.iter().filter(|trial| !trial.phase.is_finished()).count() >= 4 {
                clock += 1;
                sweep.finish_one(&mut dice, clock);
            }
            let seen = sweep.trials.iter().filter_map(|trial| trial.completed).max();
            let mut cold = Cache::default();
            let cache = cache.as_deref_mut().unwrap_or(&mut cold);
            match sweep.study.propose(sweep.study.budget(), &sweep.trials, &[], index, cache) {
                Next::Exhausted => break,
                Next::Propose(suggestion) => {
                    let trial = Trial::proposed(index, suggestion.assignments.clone());
                    sweep.trials.push(Trial { phase: Phase::Running, generation: suggestion.generation, ..trial });
                    sweep.proposals.push((suggestion, seen));
                }
            }
        }
        sweep
    }

    fn finish_one(&mut self, dice: &mut sweep_operator::core::Stream, clock: i64) {
        let mut running: Vec<&mut Trial> = self.trials.iter_mut().filter(|trial| !trial.phase.is_finished()).collect();
        let chosen = (dice.bits() % running.len() as u64) as usize;
        let trial = &mut running[chosen];
        trial.completed = at(clock);
        let value = value_of(&trial.assignments);
        let steps = if dice.unit() < 0.2 { 2 } else { 5 };
        for step in 1..=steps {
            trial.series.push(step, value * step as f64, ValueOf::Last, Direction::Maximize);
        }
        (trial.phase, trial.value) = match dice.unit() {
            u if u < 0.1 => (Phase::Failed, None),
            _ if steps == 2 => (Phase::Pruned, None),
            _ => (Phase::Succeeded, Some(value * 5.0)),
        };
    }

    /// The history as it was when `index` was proposed, in another order.
    fn history_before(&self, index: usize) -> Vec<Trial> {
        let seen = self.proposals[index].1;
        let mut history: Vec<Trial> = self.trials[..index].to_vec();
        for trial in &mut history {
            if trial.completed > seen || trial.completed.is_none() {
                let Trial { index, assignments, generation, .. } = trial.clone();
                *trial = Trial { generation, phase: Phase::Running, ..Trial::proposed(index, assignments) };
            }
        }
        let middle = history.len() / 3;
        history.rotate_left(middle);
        history.reverse();
        history
    }
}

#[test]
fn a_recorded_sweep_is_replayed_from_any_prefix_in_any_order_without_a_cache() {
    let finite = plain(vec![words(4), words(5), Domain::Discrete(vec![1.0, 2.0, 4.0])]);
    let spaces = [finite, mixed()];
    let cases = SAMPLERS.into_iter().flat_map(|sampler| spaces.iter().map(move |space| (sampler, space.clone())));
    for (sampler, space) in cases.filter(|(sampler, space)| sampler.capabilities(space).is_ok()) {
        let sweep = Sweep::run(study(space, sampler, 11), 40, Some(&mut Cache::default()));
        assert_eq!(sweep.proposals.len(), 40);
        for (index, (recorded, _)) in sweep.proposals.iter().enumerate() {
            let history = sweep.history_before(index);
            let again = sweep.study.propose(sweep.study.budget(), &history, &[], index as u32, &mut Cache::default());
            assert_eq!(again, Next::Propose(recorded.clone()), "{sampler:?}, trial {index}");
        }
    }
}

#[test]
fn a_cache_of_anything_changes_no_answer() {
    for sampler in LEARNERS {
        let one = Sweep::run(study(mixed(), sampler, 1), 30, None);
        let mut cache = Cache::default();
        // What was proposed on other parts of the history is in the cache by then.
        for index in [29, 3, 17, 16, 28, 5] {
            let history = one.history_before(index);
            let warm = one.study.propose(one.study.budget(), &history, &[], index as u32, &mut cache);
            assert_eq!(warm, Next::Propose(one.proposals[index].0.clone()), "{sampler:?}, trial {index}");
            // One of them was deleted.
            let rest = [&history[..1], &history[2..]].concat();
            let warm = one.study.propose(one.study.budget(), &rest, &[], index as u32, &mut cache);
            let cold = one.study.propose(one.study.budget(), &rest, &[], index as u32, &mut Cache::default());
            assert_eq!(warm, cold, "{sampler:?}, trial {index}");
        }
    }
}

#[test]
fn proposals_are_the_same_on_every_machine() {
    // Recorded once: other bits here mean that recorded sweeps cannot be replayed any more, and that the version of the
    // sampler must be raised.
    let last = |sampler| {
        let sweep = Sweep::run(study(mixed(), sampler, 5), 24, None);
        let (suggestion, _) = sweep.proposals.last().unwrap();
        suggestion.assignments.values().cloned().collect::<Vec<_>>().join(" ")
    };
    insta::assert_yaml_snapshot!(LEARNERS.map(|sampler| format!("{}: {}", sampler.name(), last(sampler))));
}

/// A study of one or more finished trials with these values; None is a failed one.
fn with_values(space: &Space, sampler: Sampler, values: &[Option<f64>]) -> (Study, Vec<Trial>) {
    let study = study(space.clone(), sampler, 3);
    let mut history: Vec<Trial> = Vec::new();
    let mut cache = Cache::default();
    for (index, value) in values.iter().enumerate() {
        let Next::Propose(suggestion) = study.propose(study.budget(), &history, &[], index as u32, &mut cache) else {
            break;
        };
        let generation = suggestion.generation;
        let trial = Trial { generation, completed: at(index as i64), ..trial(index as u32, suggestion.assignments) };
        history.push(match value {
            Some(value) => Trial { value: Some(*value), ..trial },
            None => Trial { value: None, phase: Phase::Failed, ..trial },
        });
    }
    (study, history)
}

#[test]
fn values_of_any_kind_are_survived() {
    let n = 30;
    let cases: [(&str, Vec<Option<f64>>); 7] = [
        ("one finished trial", vec![Some(1.0)]),
        ("a constant", vec![Some(0.5); n]),
        ("all failed", vec![None; n]),
        ("all but one failed", (0..n).map(|i| (i == 7).then_some(1.0)).collect()),
        (
            "the largest and the smallest together",
            (0..n).map(|i| Some(if i % 2 == 0 { 1e300 } else { 1e-300 })).collect(),
        ),
        ("both ends of the doubles", (0..n).map(|i| Some(if i % 2 == 0 { f64::MAX } else { f64::MIN })).collect()),
        ("two values", (0..n).map(|i| Some(f64::from(u8::from(i % 3 == 0)))).collect()),
    ];
    for space in [mixed(), plain(vec![unit(), unit()])] {
        for sampler in LEARNERS {
            for (what, values) in &cases {
                let (study, history) = with_values(&space, sampler, values);
                let proposal = propose(&study, &history, n as u32);
                lies_in(&space, &proposal.unwrap()).unwrap_or_else(|error| panic!("{what}, {sampler:?}: {error}"));
            }
        }
    }
}

#[test]
fn thousands_of_ties_and_duplicates_are_survived() {
    let space = plain(vec![unit(), words(2)]);
    for sampler in LEARNERS {
        let study = study(space.clone(), sampler, 3);
        let first = propose(&study, &[], 0).unwrap();
        let history: Vec<Trial> = (0..3_000)
            .map(|index| Trial { value: Some(1.0), completed: at(index.into()), ..trial(index, first.clone()) })
            .collect();
        lies_in(&space, &propose(&study, &history, 3_000).unwrap()).unwrap();
    }
}

#[test]
fn spaces_of_any_shape_are_survived() {
    let ulp = |x: f64| f64::from_bits(x.to_bits() + 1);
    let narrow = |min: f64| Domain::Double { min, max: ulp(ulp(min)), scale: Scale::Linear, step: None };
    let wide = Domain::Double { min: f64::MIN, max: f64::MAX, scale: Scale::Linear, step: None };
    let long = Domain::Int { min: 1, max: (1 << 53) - 1, scale: Scale::Log, step: 1 };
    let spaces = [
        ("64 parameters", plain(vec![unit(); 64])),
        ("64 categories", plain(vec![words(64), unit()])),
        ("categories alone", plain(vec![words(3), words(4), words(5)])),
        ("a few ulps", plain(vec![narrow(1.0), narrow(1e300), unit()])),
        ("the widest ranges", plain(vec![wide, long, unit()])),
        ("a single value beside others", plain(vec![words(1), Domain::Discrete(vec![4.0]), unit()])),
    ];
    for (what, space) in spaces {
        for sampler in LEARNERS {
            let values: Vec<Option<f64>> = (0..20).map(|i| Some(f64::from(i * 7 % 11))).collect();
            let (study, history) = with_values(&space, sampler, &values);
            let proposal = propose(&study, &history, 20).unwrap();
            lies_in(&space, &proposal).unwrap_or_else(|error| panic!("{what}, {sampler:?}: {error}"));
        }
    }
}

#[test]
fn a_space_of_one_point_is_one_trial() {
    for sampler in SAMPLERS {
        let (study, history) = with_values(&plain(vec![words(1)]), sampler, &[Some(1.0), Some(1.0)]);
        assert_eq!(history.len(), 1, "{sampler:?}");
        assert_eq!(propose(&study, &history, 1), None);
    }
}

/// The share of the last trials that lie where they fail: a quarter of the space.
fn share_of_failures(sampler: Sampler, seed: u64) -> f64 {
    let study = Study { objective: minimised(), ..study(plain(vec![unit(), unit()]), sampler, seed) };
    let mut history: Vec<Trial> = Vec::new();
    let mut cache = Cache::default();
    for index in 0..80 {
        let Next::Propose(suggestion) = study.propose(study.budget(), &history, &[], index, &mut cache) else { break };
        let x: Vec<f64> = suggestion.assignments.values().map(|text| text.parse().unwrap()).collect();
        let generation = suggestion.generation;
        let trial = Trial { generation, completed: at(index.into()), ..trial(index, suggestion.assignments) };
        // The best values lie close to what fails.
        history.push(match x[0] < 0.5 && x[1] < 0.5 {
            true => Trial { phase: Phase::Failed, value: None, ..trial },
            false => Trial { value: Some((x[0] - 0.65).powi(2) + (x[1] - 0.4).powi(2)), ..trial },
        });
    }
    let late = &history[50..];
    late.iter().filter(|trial| trial.phase == Phase::Failed).count() as f64 / late.len() as f64
}

fn minimised() -> sweep_operator::core::Objective {
    sweep_operator::core::Objective { metric: "loss".to_owned(), direction: Direction::Minimize, value: ValueOf::Last }
}

#[test]
fn no_sampler_sits_where_trials_fail() {
    for sampler in LEARNERS {
        let shares: Vec<f64> = (0..6).map(|seed| share_of_failures(sampler, seed)).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!(mean <= 0.125, "{}: {mean} of the late trials fail, of random ones 0.25: {shares:?}", sampler.name());
    }
}

/// Its `startupTrials` left out: they follow from the budget, as those of `auto` do.
#[test]
fn an_edit_of_parallelism_or_max_trials_moves_no_switch() {
    for sampler in [Sampler::Auto(Auto), Sampler::Gp(Gp { startup_trials: None })] {
        let mut study = study(mixed(), sampler, 3);
        (study.parallelism, study.limits.max_trials) = (5, 40);
        let history = Sweep::run(study.clone(), 18, None).trials;
        let first = decide(&study, &[], 0, &Recorded::default(), Timestamp::UNIX_EPOCH);
        let recorded = Recorded { last_index: Some(17), ..first.recorded };
        let before = decide(&study, &history, 0, &recorded, Timestamp::UNIX_EPOCH);
        // With this budget the first twenty would be those of Sobol.
        (study.parallelism, study.limits.max_trials) = (20, 1_000);
        let after = decide(&study, &history, 0, &recorded, Timestamp::UNIX_EPOCH);
        assert_eq!(after.proposals.first(), before.proposals.first(), "{}", sampler.name());
        assert_eq!(after.proposals[0].sampler, "gp");
        assert_eq!(after.recorded.budget, before.recorded.budget);
        let fresh = decide(&study, &[], 0, &Recorded::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(fresh.recorded.budget, Some(study.budget()));
    }
}

#[test]
fn auto_goes_from_sobol_to_the_surrogate() {
    let study = study(mixed(), Sampler::Auto(Auto), 2);
    let sweep = Sweep::run(study.clone(), 30, None);
    assert_eq!(sweep.proposals[0].0.sampler, "sobol");
    assert_eq!(sweep.proposals[29].0.sampler, "gp");
    assert_eq!(study.standing(study.budget(), &[]), "auto: sobol, until 8 trials have finished");
    assert_eq!(study.standing(study.budget(), &sweep.trials), "auto: gp, after 8 trials of sobol");
    let many = Study { space: plain(vec![unit(); 41]), ..study.clone() };
    assert_eq!(many.standing(many.budget(), &sweep.trials), "auto: cmaes, for 41 parameters: gp takes up to 40");
    let mut domains = vec![unit(); 41];
    domains.push(words(2));
    let words = Study { space: plain(domains), ..study };
    assert_eq!(words.standing(words.budget(), &sweep.trials), "auto: tpe, for 42 parameters: gp takes up to 40");
}

#[test]
fn a_prior_draws_proposals_to_its_mean() {
    let scale = Scale::Normal { mean: 20.0, deviation: 5.0 };
    let space = plain(vec![Domain::Double { min: 0.0, max: 100.0, scale, step: None }]);
    for sampler in [Sampler::Random(Random), Sampler::Sobol(Sobol)] {
        let study = study(space.clone(), sampler, 1);
        let draws: Vec<f64> =
            (0..400).map(|index| propose(&study, &[], index).unwrap()["p0"].parse().unwrap()).collect();
        let mean = draws.iter().sum::<f64>() / 400.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 400.0;
        assert!((mean - 20.0).abs() < 1.0 && (variance.sqrt() - 5.0).abs() < 0.7, "{mean} {variance}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_proposal_of_a_learner_lies_in_its_space(
        space in space(prop_oneof![finite(), continuous()], 7),
        seed in any::<u64>(),
    ) {
        for sampler in LEARNERS {
            let sweep = Sweep::run(study(space.clone(), sampler, seed), 16, Some(&mut Cache::default()));
            for (suggestion, _) in &sweep.proposals {
                lies_in(&space, &suggestion.assignments)?;
            }
            if space.size().is_none() {
                prop_assert_eq!(sweep.proposals.len(), 16);
            }
        }
    }
}

#[test]
fn a_series_with_pruned_trials_teaches_their_standing() {
    // Trials that were pruned at step 2 with low values are worse than those that ran on.
    let space = plain(vec![unit()]);
    let sampler = Sampler::Gp(Gp { startup_trials: Some(2) });
    let study = study(space, sampler, 4);
    let history: Vec<Trial> = (0..20)
        .map(|index| {
            let x = f64::from(index) / 20.0;
            let assignments = Assignments::from([("p0".to_owned(), format!("{x:?}"))]);
            let good = x > 0.7;
            let mut series = Series::default();
            for step in 1..=(if good { 9 } else { 2 }) {
                series.push(step, x * step as f64, ValueOf::Last, Direction::Maximize);
            }
            let (phase, value) = if good { (Phase::Succeeded, Some(x * 9.0)) } else { (Phase::Pruned, None) };
            Trial { phase, value, series, completed: at(index.into()), ..Trial::proposed(index, assignments) }
        })
        .collect();
    let x: f64 = propose(&study, &history, 20).unwrap()["p0"].parse().unwrap();
    assert!(x > 0.7, "{x} lies where trials were pruned");
}
