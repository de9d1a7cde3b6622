//! Whatever the space: proposals lie in it, and a finite one is worked off without a repetition.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use sweep_operator::core::sampler::{Auto, Cache, Cmaes, Gp, Grid, Next, Random, Sampler, Sobol, Tpe};
use sweep_operator::core::{
    Activation, Assignments, Decision, Direction, Domain, Limits, Objective, Parameter, Phase, Recorded, Scale, Space,
    Study, Trial, Value, ValueOf, Values,
};

use crate::support;

pub const SAMPLERS: [Sampler; 7] = [
    Sampler::Random(Random),
    Sampler::Grid(Grid),
    Sampler::Sobol(Sobol),
    Sampler::Auto(Auto),
    Sampler::Tpe(Tpe { startup_trials: 2, candidates: 24, gamma: 0.1 }),
    Sampler::Gp(Gp { startup_trials: Some(2) }),
    Sampler::Cmaes(Cmaes { sigma: 0.2, population: Some(3), restarts: 9 }),
];

pub fn study(space: Space, sampler: Sampler, seed: u64) -> Study {
    Study {
        name: "test".to_owned(),
        seed,
        objective: Objective { metric: "accuracy".to_owned(), direction: Direction::Maximize, value: ValueOf::Last },
        space,
        initial: Vec::new(),
        sampler,
        pruners: Default::default(),
        limits: Limits { max_trials: 10_000, max_failed_trials: 10_000, max_duration: None, target: None },
        parallelism: 1,
        suspend: false,
        template: 0,
    }
}

pub fn trial(index: u32, assignments: Assignments) -> Trial {
    Trial { phase: Phase::Succeeded, value: Some(f64::from(index)), ..Trial::proposed(index, assignments) }
}

/// What the study does next, decided without a cache.
pub fn decide(study: &Study, history: &[Trial], orphans: u32, recorded: &Recorded, now: Timestamp) -> Decision {
    sweep_operator::core::decide(study, history, orphans, recorded, now, &mut Cache::default())
}

/// What the study's sampler proposes.
pub fn propose(study: &Study, history: &[Trial], index: u32) -> Option<Assignments> {
    match study.propose(study.budget(), history, &[], index, &mut Cache::default()) {
        Next::Propose(suggestion) => Some(suggestion.assignments),
        Next::Exhausted => None,
    }
}

pub fn words(n: usize) -> Domain {
    Domain::Categorical((0..n).map(|i| format!("w{i}")).collect())
}

pub fn parameter(position: usize, domain: Domain, when: Vec<Activation>) -> Parameter {
    Parameter { name: format!("p{position}"), domain, when, inactive_value: None }
}

pub fn plain(domains: Vec<Domain>) -> Space {
    Space::new(domains.into_iter().enumerate().map(|(i, domain)| parameter(i, domain, Vec::new())).collect())
}

pub fn continuous() -> impl Strategy<Value = Domain> {
    let range = (-1e6..1e6, 1e-6..1e6).prop_map(|(min, width): (f64, f64)| (min, min + width));
    prop_oneof![
        range.prop_map(|(min, max)| Domain::Double { min, max, scale: Scale::Linear, step: None }),
        (-12.0..12.0, 0.01..6.0).prop_map(|(low, width): (f64, f64)| Domain::Double {
            min: 10_f64.powf(low),
            max: 10_f64.powf(low + width),
            scale: Scale::Log,
            step: None
        }),
        (-1e3..1e3, 1.0..1e3, 0.0..1.0, 0.01..2.0).prop_map(|(min, width, at, deviation): (f64, f64, f64, f64)| {
            let scale = Scale::Normal { mean: min + at * width, deviation: deviation * width };
            Domain::Double { min, max: min + width, scale, step: None }
        }),
    ]
}

pub fn finite() -> impl Strategy<Value = Domain> {
    prop_oneof![
        (-1000..1000_i64, 1..6_i64, 1..5_i64, 0..1000_u32).prop_map(|(min, steps, hundredths, rest)| {
            let (min, step) = (min as f64 / 10.0, hundredths as f64 / 100.0);
            let max = min + (steps as f64 + f64::from(rest % 10) / 10.0) * step;
            Domain::Double { min, max, scale: Scale::Linear, step: Some(step) }
        }),
        (-20..20_i64, 1..6_i64, 1..4_i64).prop_map(|(min, width, step)| Domain::Int {
            min,
            max: min + width.max(step),
            scale: Scale::Linear,
            step
        }),
        (1..50_i64, 1..6_i64).prop_map(|(min, width)| Domain::Int {
            min,
            max: min + width,
            scale: Scale::Log,
            step: 1
        }),
        prop::collection::btree_set(-50..50_i32, 1..5)
            .prop_map(|values| { Domain::Discrete(values.into_iter().map(|value| f64::from(value) / 4.0).collect()) }),
        (1..5_usize).prop_map(words),
        (1..5_usize).prop_map(|n| Domain::Ordinal((0..n).map(|i| format!("size{i}")).collect())),
        (-20..20_i64, 1..6_i64, 1..3_i64).prop_map(|(min, steps, step)| Domain::Int {
            min,
            max: min + steps * step,
            scale: Scale::Normal { mean: min as f64 + 0.3, deviation: 1.0 },
            step
        }),
    ]
}

fn marked(size: usize, mask: u8) -> Vec<usize> {
    (0..size).filter(|choice| mask >> choice & 1 == 1).collect()
}

fn upper_part(min: f64, max: f64, mask: u8) -> Values {
    Values::Between(min + f64::from(mask) / 255.0 * (max - min), max)
}

/// A space whose parameters may hang on any earlier one, also on several, also nested.
pub fn space(domain: impl Strategy<Value = Domain>, most: usize) -> impl Strategy<Value = Space> {
    let condition = (any::<prop::sample::Index>(), any::<u8>());
    prop::collection::vec((domain, prop::collection::vec(condition, 0..3)), 1..=most).prop_map(|drawn| {
        let mut parameters: Vec<Parameter> = Vec::new();
        for (position, (domain, conditions)) in drawn.into_iter().enumerate() {
            let mut when: Vec<Activation> = Vec::new();
            for (index, mask) in conditions.into_iter().filter(|_| position > 0) {
                let parent = index.index(position);
                let values = match &parameters[parent].domain {
                    Domain::Discrete(values) => Values::In(marked(values.len(), mask)),
                    Domain::Categorical(values) | Domain::Ordinal(values) => Values::In(marked(values.len(), mask)),
                    Domain::Int { min, max, .. } => upper_part(*min as f64, *max as f64, mask),
                    Domain::Double { min, max, .. } => upper_part(*min, *max, mask),
                };
                if values != Values::In(Vec::new()) && when.iter().all(|a| a.parent != parent) {
                    when.push(Activation { parent, values });
                }
            }
            parameters.push(parameter(position, domain, when));
        }
        Space::new(parameters)
    })
}

/// In the space, with exactly the active parameters, and written the one way there is.
pub fn lies_in(space: &Space, proposal: &Assignments) -> Result<(), TestCaseError> {
    prop_assert!(space.parse(proposal).is_ok(), "{proposal:?}: {:?}", space.parse(proposal));
    prop_assert_eq!(&space.canonical(proposal), proposal);
    Ok(())
}

/// Proposes until the space is exhausted, with gaps between the indices.
fn work_off(study: &Study, gap: u32, at_most: usize) -> Vec<Assignments> {
    let mut history = Vec::new();
    let mut index = 0;
    while let Some(assignments) = propose(study, &history, index) {
        history.push(trial(index, assignments));
        index += gap;
        assert!(history.len() <= at_most, "no end after {at_most} trials");
    }
    history.into_iter().map(|trial| trial.assignments).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_proposal_lies_in_its_space(
        space in space(prop_oneof![finite(), continuous()], 8),
        seed in any::<u64>(),
        index in 0..200_000_u32,
    ) {
        for sampler in SAMPLERS.into_iter().filter(|sampler| sampler.capabilities(&space).is_ok()) {
            let study = study(space.clone(), sampler, seed);
            let first = propose(&study, &[], index).unwrap();
            lies_in(&space, &first)?;
            prop_assert_eq!(Some(first), propose(&study, &[], index), "not deterministic");
        }
    }

    #[test]
    fn the_size_is_the_number_of_distinct_configurations(space in space(finite(), 7)) {
        let size = space.size().unwrap();
        prop_assert!(!space.is_too_entangled());
        prop_assume!(size <= 3_000);
        let mut all = BTreeSet::new();
        for rank in 0..size {
            let configuration = space.nth(rank);
            lies_in(&space, &configuration)?;
            all.insert(configuration);
        }
        prop_assert_eq!(all.len() as u128, size);
    }

    #[test]
    fn a_finite_space_is_exhausted_without_repetition(
        space in space(finite(), 4),
        seed in any::<u64>(),
        gap in 1..4_u32,
    ) {
        let size = space.size().unwrap();
        prop_assume!(size <= 100);
        for sampler in SAMPLERS {
            let tried = work_off(&study(space.clone(), sampler, seed), gap, size as usize);
            let distinct: BTreeSet<&Assignments> = tried.iter().collect();
            prop_assert_eq!((tried.len() as u128, distinct.len() as u128), (size, size), "{:?}", sampler);
        }
    }

    #[test]
    fn every_number_of_a_unit_interval_gives_a_value_of_the_domain(domain in prop_oneof![finite(), continuous()], u in 0.0..1.0) {
        for u in [u, 0.0, 0.5, 0.999_999, 1.0 - f64::EPSILON / 2.0] {
            let value = domain.at_unit(u);
            let text = domain.text(value);
            prop_assert_eq!(domain.parse(&text), Ok(value), "{} at {}", text, u);
        }
    }

    #[test]
    fn parsing_never_panics(domain in prop_oneof![finite(), continuous()], text in ".{0,20}", number in any::<f64>()) {
        for text in [text, number.to_string(), format!("{number:e}"), (number as i64).to_string()] {
            if let Ok(value) = domain.parse(&text) {
                let text = domain.text(value);
                prop_assert_eq!(domain.parse(&text), Ok(value), "{}", text);
            }
        }
    }

    #[test]
    fn the_last_point_of_a_stepped_range_is_on_the_grid(min in -500..500_i32, steps in 1..2_000_u32, decimals in 0..6_i32) {
        let step = 10_f64.powi(-decimals);
        let step: f64 = format!("{step:.*}", decimals as usize).parse().unwrap();
        let min = f64::from(min) / 10.0;
        let max: f64 = format!("{:.8}", min + f64::from(steps) * step).parse().unwrap();
        prop_assume!(min < max);
        let domain = Domain::Double { min, max, scale: Scale::Linear, step: Some(step) };
        prop_assert_eq!(domain.size(), Some(u128::from(steps) + 1));
        prop_assert_eq!(domain.nth(u128::from(steps)), Value::Double(max));
        prop_assert_eq!(domain.parse(&max.to_string()), Ok(Value::Double(max)));
    }
}

#[test]
fn extreme_domains_neither_panic_nor_leave_their_range() {
    const SAFE: i64 = (1 << 53) - 1;
    let next = |x: f64| f64::from_bits(x.to_bits() + 1);
    let double = |min, max, scale, step| Domain::Double { min, max, scale, step };
    let domains = [
        double(-1e300, 1e300, Scale::Linear, None),
        double(-f64::MAX, f64::MAX, Scale::Linear, None),
        double(1e-300, 1e300, Scale::Log, None),
        double(f64::MIN_POSITIVE, f64::MAX, Scale::Log, None),
        double(5e-324, 1e-323, Scale::Log, None),
        double(1.0, next(1.0), Scale::Linear, None),
        double(1.0, next(next(1.0)), Scale::Log, None),
        double(1e300, next(1e300), Scale::Linear, None),
        double(-1e300, 1e300, Scale::Linear, Some(1e289)),
        double(0.0, 1.0, Scale::Linear, Some(1e-12)),
        double(0.0, 1e-300, Scale::Linear, Some(1e-301)),
        double(0.1, 0.7, Scale::Linear, Some(1.0 / 3.0)),
        Domain::Int { min: -SAFE, max: SAFE, scale: Scale::Linear, step: 1 },
        Domain::Int { min: SAFE - 1, max: SAFE, scale: Scale::Linear, step: 1 },
        Domain::Int { min: -SAFE, max: SAFE, scale: Scale::Linear, step: SAFE },
        Domain::Int { min: 1, max: SAFE, scale: Scale::Log, step: 1 },
        Domain::Int { min: SAFE - 1, max: SAFE, scale: Scale::Log, step: 1 },
        Domain::Discrete(vec![f64::MIN, -1e-300, 0.0, 5e-324, f64::MAX]),
        Domain::Discrete(vec![3.0]),
        words(1),
    ];
    for domain in &domains {
        for k in 0..=1_000 {
            let u = (f64::from(k) / 1_000.0).min(1.0 - f64::EPSILON / 2.0);
            let value = domain.at_unit(u);
            assert_eq!(domain.parse(&domain.text(value)), Ok(value), "{domain:?} at {u}");
        }
        if let Some(size) = domain.size() {
            for rank in [0, size / 2, size - 1] {
                let value = domain.nth(rank);
                assert_eq!(domain.parse(&domain.text(value)), Ok(value), "{domain:?} at rank {rank}");
            }
        }
    }
    let space = plain(domains.into_iter().cycle().take(64).collect());
    for sampler in [Sampler::Random(Random), Sampler::Sobol(Sobol)] {
        let study = study(space.clone(), sampler, u64::MAX);
        for index in [0, 1, 65_535, 65_536, u32::MAX] {
            let proposal = propose(&study, &[], index).unwrap();
            assert!(space.parse(&proposal).is_ok(), "{proposal:?}");
        }
    }
}

#[test]
fn a_huge_finite_space_saturates_and_is_still_sampled_by_a_grid() {
    let space = plain((0..64).map(|_| words(64)).collect());
    assert_eq!(space.size(), Some(u128::MAX));
    let study = study(space.clone(), Sampler::Grid(Grid), 3);
    let mut history = Vec::new();
    for index in 0..20 {
        history.push(trial(index, propose(&study, &history, index).unwrap()));
    }
    let distinct: BTreeSet<&Assignments> = history.iter().map(|trial| &trial.assignments).collect();
    assert_eq!(distinct.len(), 20);
}

#[test]
fn a_space_of_one_configuration_is_exhausted_by_one_trial() {
    for sampler in SAMPLERS {
        let study = study(plain(vec![words(1), Domain::Discrete(vec![2.0])]), sampler, 1);
        assert_eq!(work_off(&study, 1, 1).len(), 1);
    }
}

#[test]
fn many_independent_branches_are_counted() {
    let branch = |i: usize| {
        let when = vec![Activation { parent: 2 * i, values: Values::In(vec![0]) }];
        [parameter(2 * i, words(2), Vec::new()), parameter(2 * i + 1, words(3), when)]
    };
    let space = Space::new((0..32).flat_map(branch).collect());
    assert_eq!(space.size(), Some(4_u128.pow(32)));
    let flat = (0..32).map(|i| parameter(i, words(2), Vec::new()));
    let children =
        (0..32).map(|i| parameter(32 + i, words(3), vec![Activation { parent: i, values: Values::In(vec![1]) }]));
    assert_eq!(Space::new(flat.chain(children).collect()).size(), Some(4_u128.pow(32)));
}

#[test]
fn a_chain_of_conditions_is_counted() {
    let link = |i: usize| {
        let when = i.checked_sub(1).map(|parent| Activation { parent, values: Values::In(vec![63]) });
        parameter(i, words(64), when.into_iter().collect())
    };
    let space = Space::new((0..64).map(link).collect());
    assert_eq!(space.size(), Some(63 * 64 + 1));
    assert_eq!(space.nth(63 * 64).len(), 64);
    assert!(!space.is_too_entangled());
}

#[test]
fn a_whole_number_on_a_log_scale_has_its_own_bin() {
    let domain = Domain::Int { min: 1, max: 100, scale: Scale::Log, step: 1 };
    assert_eq!(domain.at_unit(0.0), Value::Int(1));
    assert_eq!(domain.at_unit(0.999_999), Value::Int(100));
    assert_eq!(domain.at_unit(1.0 - f64::EPSILON / 2.0), Value::Int(100));
    let mut seen = BTreeSet::new();
    for k in 0..100_000 {
        if let Value::Int(n) = domain.at_unit(f64::from(k) / 100_000.0) {
            seen.insert(n);
        }
    }
    assert_eq!(seen, (1..=100).collect());
}

#[test]
fn values_are_written_as_a_person_would() {
    let stepped = Domain::Double { min: -0.3, max: 0.3, scale: Scale::Linear, step: Some(0.1) };
    let texts: Vec<String> = (0..7).map(|rank| stepped.text(stepped.nth(rank))).collect();
    assert_eq!(texts, ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3"]);
    let discrete = Domain::Discrete(vec![0.5, 16.0, 1e20]);
    let texts: Vec<String> = (0..3).map(|rank| discrete.text(discrete.nth(rank))).collect();
    assert_eq!(texts, ["0.5", "16", "1e20"]);
    let log = Domain::Double { min: 1e-5, max: 1.0, scale: Scale::Log, step: None };
    assert_eq!(log.text(Value::Double(1e-5)), "1e-5");
    assert_eq!(log.text(Value::Double(1.0)), "1.0");
}

#[test]
fn one_configuration_has_one_canonical_text() {
    let space = support::study(&[]).core.space;
    let written = |lr: &str, layers: &str, batch: &str| -> Assignments {
        let all =
            [("learning_rate", lr), ("layers", layers), ("batch", batch), ("optimizer", "sgd"), ("momentum", "0.30")];
        all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    let canonical = space.canonical(&written("0.001", "2", "32"));
    assert_eq!(space.canonical(&written("1e-3", " 2 ", "32.0")), canonical);
    assert_eq!(canonical["momentum"], "0.3");
    assert_eq!(
        serde_json::Value::Object(space.json(&canonical)),
        json!({"learning_rate": 0.001, "layers": 2, "batch": 32, "optimizer": "sgd", "momentum": 0.3})
    );
}

#[test]
fn negative_zero_is_zero() {
    let domain = Domain::Double { min: -1.0, max: 1.0, scale: Scale::Linear, step: None };
    assert_eq!(domain.parse("-0").map(|value| domain.text(value)), Ok("0.0".to_owned()));
}

#[test]
fn a_sampler_without_a_model_does_not_read_what_trials_reported() {
    // What a proposal may depend on is the set of tried configurations and the index.
    let space = plain(vec![words(4), words(4)]);
    for sampler in [Sampler::Random(Random), Sampler::Grid(Grid), Sampler::Sobol(Sobol)] {
        let study = study(space.clone(), sampler, 9);
        let history: Vec<Trial> = (0..8).map(|index| trial(index, space.nth(u128::from(index)))).collect();
        let mut other = history.clone();
        other.reverse();
        other.iter_mut().for_each(|trial| {
            trial.value = None;
            trial.phase = Phase::Running;
        });
        assert_eq!(propose(&study, &history, 8), propose(&study, &other, 8));
    }
}
