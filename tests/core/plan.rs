//! What `sweep plan` says before anything runs.

use serde_json::{Value, json};
use sweep_operator::core::plan::{Figure, plan};
use sweep_operator::core::pruner::PrunerSpec;
use sweep_operator::core::sampler::{Random, Sampler};
use sweep_operator::core::{Domain, Parameter, Scale, Space, Study};

use crate::space;

fn study(pruner: Value) -> Study {
    let domain = Domain::Double { min: 0.0, max: 1.0, scale: Scale::Linear, step: None };
    let parameter = Parameter { name: "x".to_owned(), domain, when: Vec::new(), inactive_value: None };
    let mut study = space::study(Space::new(vec![parameter]), Sampler::Random(Random), 1);
    study.pruners = serde_json::from_value::<PrunerSpec>(pruner).unwrap().given();
    (study.limits.max_trials, study.parallelism) = (49, 4);
    study
}

fn whole(value: f64) -> Figure {
    Figure { low: value, mean: value, high: value }
}

#[test]
fn without_a_pruner_every_trial_runs_to_its_end() {
    let plan = plan(&study(json!({})), 27);
    assert_eq!((plan.trials, plan.whole, plan.cost, plan.time), (49, whole(49.0), whole(1.0), whole(1.0)));
    assert!(plan.brackets.is_empty() && plan.rungs.is_empty());
}

#[test]
fn each_trial_is_in_one_bracket_and_fewer_come_to_each_further_rung() {
    let plan = plan(&study(json!({"hyperband": {"maxSteps": 27}})), 27);
    assert_eq!(plan.brackets, [27, 12, 6, 4]);
    let rungs: Vec<u64> = plan.rungs.iter().map(|at| at.rung).collect();
    assert_eq!(rungs, [1, 3, 9]);
    assert_eq!(plan.rungs[0].reached, whole(49.0));
    for pair in plan.rungs.windows(2) {
        let went_on = pair[0].reached.mean - pair[0].stopped.mean;
        assert!((went_on - pair[1].reached.mean).abs() < 1e-9, "{pair:?}");
    }
    let stopped: f64 = plan.rungs.iter().map(|at| at.stopped.mean).sum();
    assert!((49.0 - stopped - plan.whole.mean).abs() < 1e-9, "{plan:?}");
    assert!((0.2..0.6).contains(&plan.cost.mean) && plan.cost.low < plan.cost.high, "{plan:?}");
}

#[test]
fn a_plan_is_the_same_each_time_and_says_less_for_a_stricter_pruner() {
    let of = |pruner: Value| plan(&study(pruner), 27);
    let (forecast, asha) = (json!({"forecast": {"maxSteps": 27}}), json!({"asha": {"maxSteps": 27}}));
    assert_eq!(of(forecast.clone()), of(forecast.clone()));
    let strict = of(json!({"forecast": {"maxSteps": 27, "optimism": 0}}));
    assert!(
        strict.cost.mean < of(forecast).cost.mean
            && of(asha.clone()).cost.mean < of(json!({"hyperband": {"maxSteps": 27}})).cost.mean
    );
    assert_eq!(of(asha).brackets, [0_u32; 0]);
}

#[test]
fn folds_are_planned_too() {
    let plan = plan(&study(json!({"wilcoxon": {"metric": "fold"}})), 10);
    assert!((0.3..0.9).contains(&plan.cost.mean), "{plan:?}");
    assert_eq!(plan.rungs.iter().map(|at| at.rung).collect::<Vec<_>>(), (1..=10).collect::<Vec<u64>>());
    assert!(plan.rungs.iter().all(|at| (4..10).contains(&at.rung) || at.stopped.mean == 0.0), "{plan:?}");
}

#[test]
fn long_trials_and_large_studies_are_planned_too() {
    let mut large = study(json!({"median": {}}));
    (large.limits.max_trials, large.parallelism) = (2_000, 100);
    let plan = plan(&large, 1_000_000);
    assert!(plan.sweeps >= 5 && plan.cost.mean < 1.0, "{plan:?}");
}
