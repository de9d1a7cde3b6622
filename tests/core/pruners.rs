//! Which running trials a pruner stops, and what it says.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use sweep_operator::core::pruner::{Algorithm, Heard, Hyperband, PrunerSpec, Pruners, Rungs, Verdict, reports_at_end};
use sweep_operator::core::sampler::{Random, Sampler};
use sweep_operator::core::{
    DesiredState, Direction, Domain, Parameter, Phase, Recorded, Scale, Space, Study, Trial, ValueOf,
};

use crate::space::{self, decide};

/// A study that maximises, with these pruners.
fn study(pruner: Value) -> Study {
    let domain = Domain::Double { min: 0.0, max: 1.0, scale: Scale::Linear, step: None };
    let parameter = Parameter { name: "x".to_owned(), domain, when: Vec::new(), inactive_value: None };
    let mut study = space::study(Space::new(vec![parameter]), Sampler::Random(Random), 1);
    study.objective.direction = Direction::Maximize;
    study.pruners = serde_json::from_value::<PrunerSpec>(pruner).unwrap().given();
    assert!(study.pruners.is_valid());
    study
}

fn minimizing(pruner: Value) -> Study {
    let mut study = study(pruner);
    study.objective.direction = Direction::Minimize;
    study
}

fn median(startup_trials: u32, warmup_steps: u64, interval: u64) -> Study {
    study(json!({"median": {"startupTrials": startup_trials, "warmupSteps": warmup_steps, "interval": interval}}))
}

fn hyperband(max_steps: u64) -> Study {
    study(json!({"hyperband": {"maxSteps": max_steps}}))
}

fn at(seconds: u64, micros: u32) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds as i64) + SignedDuration::from_micros(micros.into())
}

/// A trial that reports step n in second n; of several the one of the lower index is first.
fn running(study: &Study, index: u32, points: &[(u64, f64)]) -> Trial {
    let mut trial = space::trial(index, [("x".to_owned(), "0.5".to_owned())].into());
    (trial.phase, trial.value, trial.completed) = (Phase::Running, None, None);
    for &(step, value) in points {
        study.pruners.observe(&study.objective, &mut trial.series, (step, value), at(step, index));
        if study.pruners.fold_metric().is_some() {
            study.pruners.observe_fold(&mut trial.series, (step, value), at(step, index));
        }
    }
    trial
}

/// One that had succeeded before all others began.
fn succeeded(study: &Study, index: u32, points: &[(u64, f64)]) -> Trial {
    let mut trial = running(study, index, points);
    trial.value = trial.series.value(study.objective.value, study.objective.direction).map(|(_, value)| value);
    trial.phase = Phase::Succeeded;
    trial
}

fn verdicts(study: &Study, history: &[Trial]) -> Vec<Verdict> {
    study.pruners.verdicts(&study.problem(study.budget()), history)
}

fn stopped(study: &Study, history: &[Trial]) -> Vec<u32> {
    verdicts(study, history).into_iter().map(|verdict| verdict.index).collect()
}

#[test]
fn a_trial_below_the_median_of_those_that_succeeded_at_its_step_is_stopped_with_its_evidence() {
    let study = median(3, 0, 1);
    let history = [
        succeeded(&study, 0, &[(1, 0.1), (2, 0.8)]),
        succeeded(&study, 1, &[(1, 0.2), (2, 0.9)]),
        succeeded(&study, 2, &[(1, 0.3), (2, 0.7)]),
        running(&study, 3, &[(1, 0.1), (2, 0.75)]),
    ];
    let [verdict] = &verdicts(&study, &history)[..] else { panic!() };
    assert_eq!(verdict.message, "at step 2: 0.75, worse than the median 0.8 of 3 trials that have succeeded");
    assert_eq!((verdict.index, verdict.step, verdict.is_end), (3, 2, false));
    let evidence = serde_json::to_value(&verdict.evidence).unwrap();
    assert_eq!(evidence, json!({"pruner": "median", "value": 0.75, "peers": 3, "cutoff": 0.8, "incumbent": 0.9}));
}

#[test]
fn a_trial_at_the_median_goes_on() {
    for values in [[0.5, 0.9], [0.7, 0.7]] {
        let study = median(2, 0, 1);
        let history = [
            succeeded(&study, 0, &[(1, values[0])]),
            succeeded(&study, 1, &[(1, values[1])]),
            running(&study, 2, &[(1, 0.7)]),
        ];
        assert_eq!(stopped(&study, &history), [0_u32; 0]);
    }
}

#[test]
fn with_minimize_the_trial_above_the_median_is_stopped() {
    let study = minimizing(json!({"median": {"startupTrials": 2}}));
    let history = [
        succeeded(&study, 0, &[(1, 0.5)]),
        succeeded(&study, 1, &[(1, 0.9)]),
        running(&study, 2, &[(1, 0.8)]),
        running(&study, 3, &[(1, 0.6)]),
    ];
    assert_eq!(stopped(&study, &history), [2]);
}

#[test]
fn only_trials_that_succeeded_are_peers_of_the_median_and_enough_of_them_must_have() {
    let study = median(2, 0, 1);
    let peers = [succeeded(&study, 0, &[(1, 0.9), (5, 0.9)]), succeeded(&study, 1, &[(1, 0.9)])];
    let loser = running(&study, 2, &[(1, 0.1), (5, 0.1)]);
    let another = running(&study, 3, &[(1, 0.9), (7, 0.95)]);
    let history = [peers[0].clone(), loser.clone(), another.clone()];
    assert_eq!(stopped(&study, &history), [0_u32; 0]);
    let waits = |history: &[Trial]| study.pruners.waits(&study.problem(study.budget()), history);
    assert_eq!(waits(&history).as_deref(), Some("pruner waits: 1 of 2 trials have succeeded"));
    for phase in [Phase::Pruned, Phase::Failed, Phase::Stopped] {
        let other = end_of(peers[1].clone(), phase);
        assert_eq!(stopped(&study, &[peers[0].clone(), other, loser.clone()]), [0_u32; 0], "{phase:?}");
    }
    // Of the two that have succeeded one has come to step 5.
    let history = [peers[0].clone(), peers[1].clone(), loser, another];
    assert_eq!((stopped(&study, &history), waits(&history)), (vec![2], None));
    assert!(verdicts(&study, &history)[0].message.ends_with("the median 0.9 of 1 trial that has succeeded"));
}

#[test]
fn who_succeeds_later_changes_nothing_for_a_trial_that_was_judged_before() {
    let study = median(1, 0, 1);
    let mut late = succeeded(&study, 0, &[(1, 0.9)]);
    let trial = running(&study, 1, &[(1, 0.1)]);
    late.completed = Some(at(1, 500));
    assert_eq!(stopped(&study, &[late.clone(), trial.clone()]), [0_u32; 0]);
    let next = running(&study, 1, &[(1, 0.1), (2, 0.1)]);
    assert_eq!(stopped(&study, &[late.clone(), next]), [0_u32; 0], "nobody that succeeded has come to step 2");
    late.completed = Some(at(0, 0));
    assert_eq!(stopped(&study, &[late, trial]), [1]);
}

#[test]
fn nothing_is_stopped_before_the_warmup_is_over() {
    let study = median(1, 5, 1);
    let stopped_at = |last| {
        let peer = succeeded(&study, 0, &[(1, 0.9), (9, 0.9)]);
        stopped(&study, &[peer, running(&study, 1, &[(1, 0.1), (last, 0.1)])])
    };
    assert_eq!((stopped_at(4), stopped_at(5)), (vec![], vec![1]));
}

#[test]
fn with_an_interval_a_trial_is_judged_by_the_first_report_at_a_multiple_or_behind_it() {
    // At steps 2, 6, 10: at step 9 the value of step 6 counts, which is good.
    let study = median(1, 2, 4);
    let peer = succeeded(&study, 0, &[(1, 0.4), (6, 0.5), (12, 0.6)]);
    assert_eq!(stopped(&study, &[peer.clone(), running(&study, 1, &[(6, 0.55), (9, 0.1)])]), [0_u32; 0]);
    let verdicts = verdicts(&study, &[peer, running(&study, 1, &[(6, 0.55), (11, 0.1), (12, 0.2)])]);
    assert_eq!(verdicts[0].step, 11);
}

#[test]
fn a_sparse_reporter_is_compared_by_its_latest_value() {
    let study = median(1, 0, 1);
    let history = [succeeded(&study, 0, &[(10, 0.5), (20, 0.9)]), running(&study, 1, &[(3, 0.2), (15, 0.3)])];
    let message = "at step 15: 0.3, worse than the median 0.5 of 1 trial that has succeeded";
    assert_eq!(verdicts(&study, &history)[0].message, message);
}

#[test]
fn with_best_a_trial_is_judged_by_its_best_value() {
    for (which, expected) in [(ValueOf::Last, vec![1]), (ValueOf::Best, vec![])] {
        let mut study = median(1, 0, 1);
        study.objective.value = which;
        let history = [succeeded(&study, 0, &[(1, 0.5), (2, 0.5)]), running(&study, 1, &[(1, 0.5), (2, 0.1)])];
        assert_eq!(stopped(&study, &history), expected);
    }
}

#[test]
fn the_median_of_huge_values_does_not_overflow() {
    let study = median(2, 0, 1);
    let huge = [f64::MAX, f64::MAX / 2.0].map(|value| [(1, value)]);
    let history = [succeeded(&study, 0, &huge[0]), succeeded(&study, 1, &huge[1]), running(&study, 2, &[(1, 0.0)])];
    let message = verdicts(&study, &history)[0].message.clone();
    assert!(message.contains("the median 1.3483e308 of 2 trials"), "{message}");
}

#[test]
fn a_percentile_stops_who_is_not_within_the_best_share() {
    let of = |percentile: u32| {
        let study = study(json!({"percentile": {"percentile": percentile, "startupTrials": 4}}));
        let mut history: Vec<Trial> =
            (0..5).map(|index| succeeded(&study, index, &[(1, f64::from(index) / 10.0)])).collect();
        history.extend((5..10).map(|index| running(&study, index, &[(1, f64::from(index - 5) / 10.0 + 0.01)])));
        stopped(&study, &history)
    };
    // The trial of 0.41 beats all: it is never stopped.
    assert_eq!((of(0), of(25), of(50), of(100)), (vec![5, 6, 7, 8], vec![5, 6, 7], vec![5, 6], vec![]));
}

#[test]
fn values_in_messages_are_short() {
    let study = minimizing(json!({"median": {"startupTrials": 1}}));
    let say = |value: f64| {
        let history = [succeeded(&study, 0, &[(1, -1e300)]), running(&study, 1, &[(1, value)])];
        let message = verdicts(&study, &history)[0].message.clone();
        message.trim_start_matches("at step 1: ").split(',').next().unwrap_or_default().to_owned()
    };
    let short = [(0.5, "0.5"), (1.0 / 3.0, "0.33333"), (200.0 / 3.0, "66.667"), (1e-9 / 3.0, "3.3333e-10"), (0.0, "0")];
    for (value, text) in short {
        assert_eq!(say(value), text);
    }
}

/// Of each pruner one that judges from the first steps on.
fn every_pruner() -> [Value; 8] {
    [
        json!({"forecast": {"maxSteps": 27}}),
        json!({"median": {"startupTrials": 1}}),
        json!({"percentile": {"percentile": 25, "startupTrials": 1}}),
        json!({"hyperband": {"maxSteps": 27}}),
        json!({"asha": {"maxSteps": 27}}),
        json!({"threshold": {"lower": 0.2, "upper": 0.8}}),
        json!({"asha": {"maxSteps": 27}, "threshold": {"lower": 0.1}}),
        json!({"wilcoxon": {"metric": "fold", "pThreshold": 0.6}}),
    ]
}

/// A trial whose folds 1, 2, … had these values, fold n in second n.
fn folds(study: &Study, index: u32, values: &[f64]) -> Trial {
    let mut trial = running(study, index, &[]);
    for (&value, fold) in values.iter().zip(1..) {
        study.pruners.observe_fold(&mut trial.series, (fold, value), at(fold, index));
    }
    trial
}

/// One that had succeeded before all others began, with the mean of its folds.
fn succeeded_folds(study: &Study, index: u32, values: &[f64]) -> Trial {
    let mut trial = folds(study, index, values);
    trial.value = Some(values.iter().sum::<f64>() / values.len() as f64);
    trial.phase = Phase::Succeeded;
    trial
}

fn wilcoxon() -> Study {
    study(json!({"wilcoxon": {"metric": "fold"}}))
}

#[test]
fn a_trial_whose_folds_are_too_much_worse_than_the_incumbent_s_is_stopped_with_its_evidence() {
    let study = wilcoxon();
    let best = succeeded_folds(&study, 0, &[0.9, 0.8, 0.9, 0.8, 0.9, 0.8]);
    let other = succeeded_folds(&study, 1, &[0.5; 6]);
    let worse = folds(&study, 2, &[0.8, 0.7, 0.8, 0.7]);
    let early = folds(&study, 3, &[0.8, 0.7, 0.8]);
    let mixed = folds(&study, 4, &[0.8, 0.9, 0.8, 0.9, 0.8]);
    let [verdict] = &verdicts(&study, &[best, other, worse, early, mixed])[..] else { panic!() };
    let message =
        "at fold 4: mean 0.75 of 4 folds, worse than the incumbent's 0.85 on the same ones (p 0.0625 below 0.1)";
    assert_eq!((verdict.index, verdict.step, verdict.message.as_str()), (2, 4, message));
    let evidence = serde_json::to_value(&verdict.evidence).unwrap();
    assert_eq!(evidence["pruner"], "wilcoxon");
    let of = |field: &str| evidence[field].as_f64().unwrap();
    for (field, expected) in
        [("value", 0.75), ("cutoff", 0.85), ("incumbent", 0.85), ("pValue", 0.0625), ("peers", 1.0)]
    {
        assert!((of(field) - expected).abs() < 1e-12, "{evidence}");
    }
}

#[test]
fn folds_that_are_worse_by_little_and_better_by_much_stop_nothing() {
    let study = wilcoxon();
    let best = succeeded_folds(&study, 0, &[0.5; 12]);
    let lopsided = folds(&study, 1, &[0.99, 0.45, 0.46, 0.44, 0.47, 0.43, 0.48, 0.42]);
    assert_eq!(stopped(&study, &[best, lopsided]), [0_u32; 0]);
}

#[test]
fn with_minimize_the_larger_folds_are_worse_and_a_fold_that_is_no_number_is_the_worst() {
    let study = minimizing(json!({"wilcoxon": {"metric": "fold", "pThreshold": 0.2}}));
    let best = succeeded_folds(&study, 0, &[0.5, 0.4, 0.5, 0.4, 0.5]);
    // The best of those whose folds are all numbers is what others are compared with.
    let mut partly = succeeded_folds(&study, 4, &[f64::NAN, 0.1, 0.1, 0.1, 0.1]);
    partly.value = Some(0.1);
    let smaller = folds(&study, 1, &[0.4, 0.3, 0.4, 0.3]);
    let larger = folds(&study, 2, &[0.6, 0.5, 0.6]);
    let none = folds(&study, 3, &[f64::NAN, 0.5, 0.6]);
    let verdicts = verdicts(&study, &[best, smaller, larger, none, partly]);
    assert_eq!(verdicts.iter().map(|verdict| verdict.index).collect::<Vec<_>>(), [2, 3]);
    assert!(verdicts[1].message.starts_with("at fold 3: mean NaN of 3 folds"), "{}", verdicts[1].message);
    assert_eq!(verdicts[1].evidence.value, None);
}

#[test]
fn a_trial_that_has_run_nearly_all_its_folds_or_that_nobody_precedes_goes_on() {
    let study = wilcoxon();
    let best = succeeded_folds(&study, 0, &[0.9; 4]);
    let worse = folds(&study, 1, &[0.1; 4]);
    assert_eq!(stopped(&study, &[best, worse.clone()]), [0_u32; 0]);
    assert_eq!(stopped(&study, &[folds(&study, 0, &[0.9; 10]), worse.clone()]), [0_u32; 0]);
    // One that succeeded later than the fold came changes nothing.
    let mut later = succeeded_folds(&study, 0, &[0.9; 10]);
    later.completed = Some(at(100, 0));
    assert_eq!(stopped(&study, &[later, worse]), [0_u32; 0]);
}

#[test]
fn too_few_folds_are_told_and_so_is_what_is_waited_for() {
    let study = wilcoxon();
    let problem = study.problem(study.budget());
    let obstacle = |history: &[Trial]| study.pruners.obstacle(&problem, history);
    let waits = |history: &[Trial]| study.pruners.waits(&problem, history);
    assert_eq!(waits(&[]).unwrap(), "pruner waits: no trial has succeeded yet");
    let of = |values: &[f64]| [succeeded_folds(&study, 0, values)];
    assert_eq!((waits(&of(&[0.5; 5])), obstacle(&of(&[0.5; 5]))), (None, None));
    let few = "trials have 4 folds, of which 0.9 are compared, and pThreshold 0.1 takes 4 that are numbers: nothing can ever be pruned";
    assert_eq!(obstacle(&of(&[0.5; 4])).unwrap(), few);
    let none = [succeeded(&Study { pruners: Pruners::default(), ..wilcoxon() }, 0, &[(1, 0.5)])];
    assert_eq!(obstacle(&none).unwrap(), "trials report no fold: nothing can ever be pruned");
}

#[test]
fn a_fold_is_taken_once_and_in_order() {
    let study = wilcoxon();
    let mut series = Default::default();
    let heard: Vec<Heard> =
        [1, 2, 2, 1, 4].iter().map(|fold| study.pruners.observe_fold(&mut series, (*fold, 0.5), at(0, 0))).collect();
    assert_eq!(heard, [Heard::Compared, Heard::Compared, Heard::Dropped, Heard::Dropped, Heard::Compared]);
    assert_eq!(series.extent(), (0, 3));
    assert_eq!((series.last_step(), series.points()), (None, &[][..]));
}

#[test]
fn a_trial_whose_value_so_far_beats_every_succeeded_one_s_is_never_stopped() {
    for pruner in every_pruner() {
        let study = study(pruner.clone());
        let crowd = (1..6).map(|index| end_of(running(&study, index, &[(1, 0.9), (3, 0.9), (4, 0.2)]), Phase::Pruned));
        let leader = running(&study, 6, &[(1, 0.05), (2, 0.07), (3, 0.08)]);
        let best = |value| succeeded(&study, 0, &[(1, value), (3, value), (4, value)]);
        let history: Vec<Trial> = [best(0.07)].into_iter().chain(crowd.clone()).chain([leader.clone()]).collect();
        assert_eq!(stopped(&study, &history), [0_u32; 0], "{pruner}");
        let history: Vec<Trial> = [best(0.95)].into_iter().chain(crowd).chain([leader]).collect();
        assert_eq!(stopped(&study, &history), [6], "{pruner}");
    }
}

#[test]
fn who_took_the_lead_before_anybody_could_stop_it_has_passed_its_rung() {
    let study = hyperband(27);
    let history = |late: f64| {
        [
            succeeded(&study, 0, &[(3, 0.5), (9, 0.6), (27, 0.6)]),
            running(&study, 1, &[(3, 0.5)]),
            running(&study, 3, &[(3, 0.1), (4, late), (5, 0.2)]),
        ]
    };
    assert_eq!((stopped(&study, &history(0.3)), stopped(&study, &history(0.7))), (vec![3], vec![]));
    // Nor when another, later, has succeeded with more.
    let mut later = succeeded(&study, 4, &[(27, 0.8)]);
    later.completed = Some(at(30, 0));
    let more: Vec<Trial> = history(0.7).into_iter().chain([later]).collect();
    assert_eq!(stopped(&study, &more), [0_u32; 0]);
}

#[test]
fn who_is_stopped_already_is_not_stopped_again() {
    let study = median(1, 0, 1);
    let mut loser = running(&study, 1, &[(1, 0.1)]);
    loser.desired = DesiredState::Stopped;
    assert_eq!(stopped(&study, &[succeeded(&study, 0, &[(1, 0.9)]), loser]), [0_u32; 0]);
}

#[test]
fn a_pruned_trial_is_told_so_with_its_evidence() {
    let study = median(1, 0, 1);
    let history = [succeeded(&study, 0, &[(1, 0.9)]), running(&study, 1, &[(1, 0.1)])];
    let stop = &decide(&study, &history, 0, &Recorded::default(), Timestamp::UNIX_EPOCH).stops[0];
    assert_eq!((stop.reason.as_str(), stop.step), ("Pruned", Some(1)));
    assert_eq!(stop.evidence.as_ref().unwrap().cutoff, Some(0.9));
}

#[test]
fn rungs_lie_below_nine_tenths_of_a_whole_trial() {
    let rungs = |min_steps, max_steps, reduction_factor| Rungs { min_steps, max_steps, reduction_factor }.steps();
    assert_eq!(rungs(1, 27, 3), [1, 3, 9]);
    assert_eq!(rungs(1, 29, 3), [1, 3, 9]);
    assert_eq!(rungs(1, 30, 3), [1, 3, 9, 27]);
    assert_eq!(rungs(2, 3, 4), [2]);
    assert_eq!(rungs(1, 1_000_000_000, 2).len(), 30);
}

fn dealt(index: u32, max_steps: u64, reduction_factor: u32) -> u32 {
    Hyperband(Rungs { min_steps: 1, max_steps, reduction_factor }).bracket(index).unwrap()
}

#[test]
fn brackets_have_hyperband_s_shares_and_are_interleaved() {
    let weights = [27, 12, 6, 4];
    let mut counts = [0_u32; 4];
    for index in 0..98 {
        counts[dealt(index, 27, 3) as usize] += 1;
        for (bracket, weight) in weights.iter().enumerate() {
            let share = f64::from(index + 1) * f64::from(*weight) / 49.0;
            let off = (f64::from(counts[bracket]) - share).abs();
            assert!(off < 1.5, "after {index}: bracket {bracket} was dealt {}, its share is {share}", counts[bracket]);
        }
    }
    assert_eq!(counts, [54, 24, 12, 8]);
    assert_eq!(dealt(0, 27, 3), 0);
    // The sequence starts over: any index is cheap, also the last one there is.
    assert_eq!(dealt(49 * 80_000_000, 27, 3), 0);
    assert!(dealt(u32::MAX, 27, 3) < 4);
    assert!((0..200).all(|index| dealt(index, 1_000_000_000, 2) <= 30));
}

#[test]
fn each_trial_is_judged_at_a_rung_by_those_that_had_come_there_and_the_first_always_go_on() {
    let study = study(json!({"asha": {"maxSteps": 27}}));
    // They come in the order of their indices: 0.1 is second of two, 0.5 second of three.
    let values = [0.9, 0.1, 0.5, 0.7, 0.6, 0.2, 0.65];
    let history: Vec<Trial> = (0..).zip(values).map(|(index, value)| running(&study, index, &[(1, value)])).collect();
    let verdicts = verdicts(&study, &history);
    let told: Vec<(u32, u32)> =
        verdicts.iter().map(|verdict| (verdict.index, verdict.evidence.peers.unwrap_or(0))).collect();
    // ceil(4/3) = 2 of four, three of seven go on.
    assert_eq!(told, [(2, 3), (4, 5), (5, 6)]);
    let message = "at step 1: 0.5, rank 2 of the 3 trials that had come to rung 1; the best goes on";
    assert_eq!((verdicts[0].message.as_str(), verdicts[0].evidence.cutoff), (message, Some(0.9)));
}

#[test]
fn late_arrivals_change_nothing_for_who_has_gone_on() {
    let study = hyperband(27);
    let slow = running(&study, 0, &[(1, 0.3), (2, 0.4)]);
    let crowd = (1..9).map(|index| running(&study, index, &[(1, 0.9)]));
    let history: Vec<Trial> = [slow].into_iter().chain(crowd).collect();
    assert!(!stopped(&study, &history).contains(&0));
}

#[test]
fn trials_of_all_brackets_are_compared_at_a_rung_and_judged_at_those_of_their_own() {
    let study = hyperband(27);
    let trial = |index: u32, bracket: u32, points: &[(u64, f64)]| Trial {
        bracket: Some(bracket),
        ..running(&study, index, points)
    };
    // Bracket 1 skips the first rung, 3 never stops; both count for the others.
    let history = [trial(0, 3, &[(3, 0.9)]), trial(1, 1, &[(3, 0.8)]), trial(2, 0, &[(3, 0.7)])];
    assert_eq!(stopped(&study, &history), [2]);
    let history =
        [trial(0, 3, &[(1, 0.9)]), trial(1, 0, &[(1, 0.8)]), trial(2, 1, &[(1, 0.1)]), trial(3, 3, &[(1, 0.1)])];
    assert_eq!(stopped(&study, &history), [0_u32; 0], "bracket 1 is not judged at the first rung");
    let history: Vec<Trial> = (0..9).map(|index| trial(index, 3, &[(9, 1.0 - f64::from(index) / 10.0)])).collect();
    assert_eq!(stopped(&study, &history), [0_u32; 0]);
}

#[test]
fn ties_at_a_rung_go_to_the_lower_index() {
    let study = hyperband(27);
    let history: Vec<Trial> = (0..6).map(|index| running(&study, index, &[(1, 0.5)])).collect();
    // Of three one goes on, of four and more two.
    assert_eq!(stopped(&study, &history), [2, 3, 4, 5]);
}

#[test]
fn with_minimize_the_lowest_go_on() {
    let study = minimizing(json!({"hyperband": {"maxSteps": 27}}));
    let history: Vec<Trial> = (0..3).map(|index| running(&study, index, &[(1, f64::from(index))])).collect();
    assert_eq!(stopped(&study, &history), [2]);
}

#[test]
fn a_trial_is_judged_by_the_first_report_at_the_rung_or_behind_it_and_only_at_the_highest_it_passes() {
    let study = hyperband(27);
    let rungs = |points: &[(u64, f64)]| -> Vec<(u64, u64, Option<f64>)> {
        let trial = running(&study, 0, points);
        trial.series.arrivals().iter().map(|arrival| (arrival.rung, arrival.step, arrival.value)).collect()
    };
    assert_eq!(rungs(&[(1, 0.1), (2, 0.2), (3, 0.3), (5, 0.5)]), [(1, 1, Some(0.1)), (3, 3, Some(0.3))]);
    assert_eq!(rungs(&[(2, 0.2), (10, 0.9), (20, 0.1)]), [(1, 2, Some(0.2)), (9, 10, Some(0.9))]);
    assert_eq!(rungs(&[(0, 0.1)]), []);
    // Beyond 0.9 of 27 there is little left to save.
    assert_eq!(rungs(&[(8, 0.1), (25, 0.2)]), [(3, 8, Some(0.1))]);
    assert_eq!(rungs(&[(1, f64::NAN), (3, 0.5)]), [(1, 1, None), (3, 3, Some(0.5))]);
}

#[test]
fn who_diverged_loses_at_a_rung() {
    let study = hyperband(27);
    let nan = [(1, f64::NAN)];
    let history = [running(&study, 0, &[(1, 0.1)]), running(&study, 1, &[(1, 0.2)]), running(&study, 2, &nan)];
    let verdict = &verdicts(&study, &history)[0];
    assert_eq!((verdict.index, verdict.evidence.value), (2, None));
    assert!(verdict.message.starts_with("at step 1: NaN, rank 3 of the 3 trials"), "{}", verdict.message);
}

/// A curve that falls from 1 to `end`, fast at first, over 27 steps.
fn falling(end: f64, steps: u64) -> Vec<(u64, f64)> {
    (1..=steps).map(|step| (step, end + (1.0 - end) * (-(step as f64) / 6.0).exp())).collect()
}

#[test]
fn a_forecast_stops_who_cannot_reach_the_best_final_value_and_lets_a_late_bloomer_live() {
    let study = minimizing(json!({"forecast": {"maxSteps": 27}}));
    let best = succeeded(&study, 0, &falling(0.2, 27));
    let flat: Vec<(u64, f64)> = (1..=4).map(|step| (step, 0.9)).collect();
    let verdict = &verdicts(&study, &[best.clone(), running(&study, 1, &flat)])[0];
    let incumbent = best.value.unwrap();
    assert_eq!((verdict.step, verdict.evidence.cutoff, verdict.evidence.forecast), (3, Some(incumbent), Some(0.9)));
    let expected = "at step 3: 0.9, which would become 0.9 at best by step 27, worse than the best final value 0.20889";
    assert_eq!(verdict.message, expected);
    // It falls steadily: at 0.25 of that slope it would get there.
    let steady: Vec<(u64, f64)> = (1..=7).map(|step| (step, 1.0 - 0.1 * step as f64)).collect();
    assert_eq!(stopped(&study, &[best.clone(), running(&study, 1, &steady)]), [0_u32; 0]);
    let wary = minimizing(json!({"forecast": {"maxSteps": 27, "optimism": 0}}));
    assert_eq!(stopped(&wary, &[best.clone(), running(&wary, 1, &steady)]), [1]);
    // Nothing is judged before three reports, nor beyond 0.9 of the steps.
    assert_eq!(stopped(&study, &[best.clone(), running(&study, 1, &flat[..2])]), [0_u32; 0]);
    let late: Vec<(u64, f64)> = (25..=27).map(|step| (step, 0.9)).collect();
    assert_eq!(stopped(&study, &[best, running(&study, 1, &late)]), [0_u32; 0]);
}

#[test]
fn a_single_bad_report_stops_nobody_in_a_forecast() {
    let study = minimizing(json!({"forecast": {"maxSteps": 27}}));
    let best = succeeded(&study, 0, &falling(0.2, 27));
    let mut noisy = falling(0.15, 9);
    noisy[8].1 = 5.0;
    assert_eq!(stopped(&study, &[best, running(&study, 1, &noisy)]), [0_u32; 0]);
}

#[test]
fn before_any_trial_has_succeeded_a_forecast_compares_with_what_a_running_one_holds() {
    let study = minimizing(json!({"forecast": {"maxSteps": 81}}));
    let good = running(&study, 0, &(1..=9).map(|step| (step, 0.1)).collect::<Vec<_>>());
    let bad = running(&study, 1, &(1..=9).map(|step| (step, 0.9)).collect::<Vec<_>>());
    let verdicts = verdicts(&study, &[good, bad]);
    assert_eq!(verdicts.len(), 1);
    assert_eq!((verdicts[0].index, verdicts[0].evidence.incumbent), (1, None));
    assert!(verdicts[0].message.ends_with("worse than what a running trial holds 0.1"), "{}", verdicts[0].message);
}

#[test]
fn a_forecast_without_max_steps_waits_for_the_first_trial_that_succeeds_and_takes_its_last_step() {
    let study = minimizing(json!({"forecast": {}}));
    let loser = running(&study, 1, &[(1, 0.9), (2, 0.9), (3, 0.9)]);
    let waits = |history: &[Trial]| study.pruners.waits(&study.problem(study.budget()), history);
    assert!(waits(std::slice::from_ref(&loser)).unwrap().starts_with("pruner waits: the first trial that succeeds"));
    assert_eq!(stopped(&study, std::slice::from_ref(&loser)), [0_u32; 0]);
    let history = [succeeded(&study, 0, &falling(0.2, 27)), loser];
    assert_eq!((stopped(&study, &history), waits(&history)), (vec![1], None));
    assert!(verdicts(&study, &history)[0].message.contains("by step 27"));
}

#[test]
fn a_forecast_counts_in_reports_whatever_the_trainer_s_steps_are() {
    let rungs = |scale: u64, offset: u64, warmup: u64| -> Vec<u64> {
        let study = minimizing(json!({"forecast": {"maxSteps": 100_000, "warmupSteps": warmup}}));
        let points: Vec<(u64, f64)> = (0..27).map(|n| (offset + n * scale, 0.5)).collect();
        running(&study, 0, &points).series.arrivals().iter().map(|arrival| arrival.rung).collect()
    };
    let expected = [1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27];
    for (scale, offset) in [(1, 1), (1, 0), (500, 500), (500, 3), (10, 10)] {
        assert_eq!(rungs(scale, offset, 0), expected, "every {scale} from {offset}");
    }
    // Behind a warm-up of ten reports they begin anew.
    assert_eq!(rungs(500, 0, 5_000), expected[..9]);
}

#[test]
fn a_forecast_gives_the_same_verdicts_for_maximize_mirrored() {
    let (low, high) = (minimizing(json!({"forecast": {"maxSteps": 27}})), study(json!({"forecast": {"maxSteps": 27}})));
    for end in [0.15, 0.2, 0.25, 0.3, 0.5] {
        let mirrored =
            |points: Vec<(u64, f64)>| points.into_iter().map(|(step, value)| (step, -value)).collect::<Vec<_>>();
        for steps in 1..25 {
            let curve = falling(end, steps);
            let down = [succeeded(&low, 0, &falling(0.2, 27)), running(&low, 1, &curve)];
            let up = [succeeded(&high, 0, &mirrored(falling(0.2, 27))), running(&high, 1, &mirrored(curve))];
            assert_eq!(stopped(&low, &down), stopped(&high, &up), "{end} {steps}");
        }
    }
}

#[test]
fn a_threshold_stops_at_once_what_is_beyond_it_or_no_number() {
    let study = study(json!({"threshold": {"lower": 0.2, "upper": 0.8, "warmupSteps": 2}}));
    let say =
        |points: &[(u64, f64)]| verdicts(&study, &[running(&study, 0, points)]).pop().map(|verdict| verdict.message);
    assert_eq!(say(&[(1, 0.1), (2, 0.5), (3, 0.8)]), None);
    assert_eq!(say(&[(2, 0.1), (3, 0.5)]).as_deref(), Some("at step 2: 0.1, below the lower bound 0.2"));
    assert_eq!(say(&[(2, 0.9)]).as_deref(), Some("at step 2: 0.9, above the upper bound 0.8"));
    assert_eq!(say(&[(2, 0.5), (3, f64::INFINITY)]).as_deref(), Some("at step 3: not a number"));
}

#[test]
fn a_trial_that_no_longer_improves_has_succeeded_with_its_value() {
    let study = study(json!({"patience": {"steps": 3, "minDelta": 0.05}}));
    let points = [(1, 0.5), (2, 0.6), (3, 0.64), (4, 0.62), (5, 0.61)];
    assert_eq!(verdicts(&study, &[running(&study, 0, &points[..4])]), []);
    let verdict = &verdicts(&study, &[running(&study, 0, &points)])[0];
    assert_eq!(verdict.message, "at step 5: 0.61, no improvement by 0.05 on 0.6 of step 2 in 3 steps");
    assert!(verdict.is_end);
    // The best of all may be ended as well: it keeps its value.
    let history = [succeeded(&study, 0, &[(1, 0.1)]), running(&study, 1, &points)];
    assert_eq!(stopped(&study, &history), [1]);
}

#[test]
fn what_is_thinned_away_or_followed_by_others_is_not_forgotten() {
    // A saw that rises: each fifth observation is an improvement on all before.
    let saw = |step: u64| step as f64 / 1e4 - if step.is_multiple_of(5) { 0.0 } else { 0.01 };
    let points: Vec<(u64, f64)> = (1..=1_500).map(|step| (step, saw(step))).collect();
    let patient = study(json!({"patience": {"steps": 10}}));
    assert_eq!(verdicts(&patient, &[running(&patient, 0, &points)]), []);
    let bounds = study(json!({"threshold": {"upper": 0.8}}));
    for bad in [f64::NAN, 0.9] {
        let verdict = &verdicts(&bounds, &[running(&bounds, 0, &[(1, 0.5), (3, bad), (3, 0.5), (4, 0.5)])])[0];
        assert_eq!(verdict.step, 3);
    }
}

#[test]
fn of_several_rungs_since_the_last_look_each_is_judged() {
    let study = study(json!({"asha": {"maxSteps": 27}}));
    let mut history: Vec<Trial> = (0..2).map(|index| running(&study, index, &[(1, 0.9), (3, 0.1)])).collect();
    // Last at rung 1, and the best at rung 3 before anybody looked.
    history.push(running(&study, 2, &[(1, 0.1), (3, 0.9)]));
    assert_eq!(verdicts(&study, &history)[0].step, 1);
    history[2].passed = Some(1);
    assert_eq!(verdicts(&study, &history), []);
}

#[test]
fn who_was_found_to_go_on_is_not_judged_again_whatever_becomes_known() {
    let study = study(json!({"asha": {"maxSteps": 27}}));
    let trial = |index, value| running(&study, index, &[(1, value)]);
    let mut history = vec![trial(0, 0.9), trial(1, 0.1), trial(2, 0.2), trial(3, 0.8)];
    // Trial 3 is second of four, of which two go on; without trial 1, whose node was drained, second of three.
    assert_eq!(stopped(&study, &history), [2]);
    history.remove(1);
    assert_eq!(stopped(&study, &history), [3]);
    history[2].passed = Some(1);
    assert_eq!(stopped(&study, &history), [0_u32; 0]);
}

#[test]
fn one_pruner_that_compares_trials_may_stand_beside_those_that_do_not() {
    let valid = |pruner: Value| serde_json::from_value::<PrunerSpec>(pruner).unwrap().given().is_valid();
    assert!(valid(json!({"forecast": {}, "threshold": {}, "patience": {"steps": 3}})));
    assert!(valid(json!({"patience": {"steps": 3}})));
    assert!(!valid(json!({})));
    assert!(!valid(json!({"forecast": {}, "median": {}})));
    let both = study(json!({"median": {"startupTrials": 1}, "threshold": {"lower": 0.0}}));
    let best = succeeded(&both, 0, &[(1, 0.9)]);
    let history =
        [best, running(&both, 1, &[(1, 0.5)]), running(&both, 2, &[(1, -1.0)]), running(&both, 3, &[(1, 0.95)])];
    let told: Vec<(u32, String)> =
        verdicts(&both, &history).into_iter().map(|verdict| (verdict.index, verdict.evidence.pruner)).collect();
    assert_eq!(told, [(1, "median".to_owned()), (2, "median".to_owned())].map(|told| told));
}

fn obstacle(study: &Study, history: &[Trial]) -> Option<String> {
    study.pruners.obstacle(&study.problem(study.budget()), history)
}

fn end_of(mut trial: Trial, phase: Phase) -> Trial {
    trial.phase = phase;
    trial
}

#[test]
fn a_hyperband_whose_rungs_the_steps_never_meet_says_so() {
    let study = hyperband(9);
    let units = running(&study, 0, &[(1000, 0.5)]);
    let why = "steps begin at 1000, and maxSteps is 9: nothing can ever be pruned";
    assert_eq!(obstacle(&study, &[]), None, "nothing was shown yet");
    assert_eq!(obstacle(&study, std::slice::from_ref(&units)).as_deref(), Some(why));
    assert_eq!(obstacle(&study, &[units, running(&study, 1, &[(8, 0.1)])]), None, "another one meets them");
    let at_the_end = running(&study, 0, &[(9, 0.5)]);
    assert_eq!(obstacle(&study, &[at_the_end]).as_deref(), Some(why.replace("1000", "9").as_str()));
    let late = self::study(json!({"hyperband": {"minSteps": 9, "maxSteps": 27}}));
    let short = running(&late, 0, &[(1, 0.5), (5, 0.5)]);
    assert_eq!(obstacle(&late, std::slice::from_ref(&short)), None, "it may go on");
    let why = "trials end at step 5, and minSteps is 9: nothing can ever be pruned";
    assert_eq!(obstacle(&late, &[end_of(short.clone(), Phase::Succeeded)]).as_deref(), Some(why));
    assert_eq!(obstacle(&late, &[end_of(short, Phase::Failed)]), None, "what failed has not shown its last step");
    let why = "no step from minSteps 9 up to 0.9 of maxSteps 27 is reported: nothing can ever be pruned";
    assert_eq!(obstacle(&late, &[succeeded(&late, 0, &[(1, 0.5), (100, 0.5)])]).as_deref(), Some(why));
    assert_eq!(obstacle(&late, &[succeeded(&late, 0, &[(1, 0.5), (24, 0.5)])]), None);
    // A trainer that diverged has shown its steps all the same.
    let nan = running(&study, 0, &[(500, f64::NAN)]);
    assert!(obstacle(&study, &[nan]).unwrap().starts_with("steps begin at 500"));
}

#[test]
fn a_median_whose_warmup_is_never_over_says_so() {
    let study = median(3, 10, 1);
    let why = "trials end at step 7, and warmupSteps is 10: nothing can ever be pruned";
    let ended = [succeeded(&study, 0, &[(3, 0.5)]), succeeded(&study, 1, &[(7, 0.5)])];
    assert_eq!(obstacle(&study, &[running(&study, 0, &[(7, 0.5)])]), None);
    assert_eq!(obstacle(&study, &ended).as_deref(), Some(why));
    assert_eq!(obstacle(&study, &[ended[1].clone(), running(&study, 1, &[(10, 0.5)])]), None);
}

#[test]
fn a_forecast_of_trials_with_three_reports_says_that_it_can_stop_nothing() {
    let study = minimizing(json!({"forecast": {}}));
    let history: Vec<Trial> =
        (0..3).map(|index| succeeded(&study, index, &[(10, 0.5), (20, 0.4), (30, 0.3)])).collect();
    let why = "trials end after 3 reports, and a forecast needs more than 3: nothing can ever be pruned";
    assert_eq!(obstacle(&study, &history).as_deref(), Some(why));
    assert_eq!(obstacle(&study, &history[..2]), None);
}

#[test]
fn a_pruner_that_needs_more_trials_than_there_are_says_so_at_once() {
    let (mut few, mut fewer) = (median(8, 0, 1), hyperband(9));
    (few.limits.max_trials, fewer.limits.max_trials) = (8, 2);
    let why = "startupTrials is 8, and maxTrials only 8: nothing can ever be pruned";
    assert_eq!(obstacle(&few, &[]).as_deref(), Some(why));
    let why = "reductionFactor is 3, and maxTrials only 2: nothing can ever be pruned";
    assert_eq!(obstacle(&fewer, &[]).as_deref(), Some(why));
}

#[test]
fn trials_that_report_everything_at_their_end_cannot_be_pruned() {
    let study = median(1, 0, 1);
    let late = |index| {
        let mut trial = succeeded(&study, index, &[(1, 0.5), (2, 0.6)]);
        trial.reported_at_end = true;
        trial
    };
    let timely = |index| succeeded(&study, index, &[(1, 0.5)]);
    assert_eq!(obstacle(&study, &[late(0), late(1)]), None, "two are not enough");
    let why = obstacle(&study, &[late(0), late(1), late(2), timely(3)]).unwrap();
    assert!(why.starts_with("nothing can be pruned: trials report everything in their last second"), "{why}");
    assert_eq!(obstacle(&study, &[late(0), timely(1), late(2), late(3)]), None);
    let pruned = end_of(running(&study, 4, &[(1, 0.1)]), Phase::Pruned);
    assert_eq!(obstacle(&study, &[late(0), late(1), late(2), pruned]), None, "one was pruned");
}

#[test]
fn what_came_in_the_last_second_of_a_longer_run_came_at_its_end() {
    let at = |millis| Timestamp::from_millisecond(millis).unwrap();
    let cases = [
        (0, 9_500, 10_000, true),
        (0, 10_200, 10_000, true),
        (0, 8_900, 10_000, false),
        (0, 1_000, 10_000, false),
        (0, 1_900, 2_000, false),
        (0, 2_500, 3_000, true),
    ];
    for (start, first, end, expected) in cases {
        assert_eq!(reports_at_end(at(start), at(first), at(end)), expected, "{start} {first} {end}");
    }
}

#[test]
fn an_idle_pruner_and_one_that_waits_are_told_in_the_message() {
    let mut idle = hyperband(9);
    idle.limits.max_trials = 9;
    let message = |study: &Study, step| {
        let history = [running(study, 0, &[(step, 0.5)])];
        decide(study, &history, 0, &Recorded::default(), Timestamp::UNIX_EPOCH).message
    };
    let told = message(&idle, 1000);
    assert!(told.contains("; steps begin at 1000, and maxSteps is 9: nothing can ever"), "{told}");
    let mut waiting = median(5, 0, 1);
    waiting.limits.max_trials = 9;
    let told = message(&waiting, 1);
    assert!(told.contains("; pruner waits: 0 of 5 trials have succeeded"), "{told}");
}

#[test]
fn a_report_is_told_of_only_where_it_brings_a_trial_to_a_comparison() {
    let heard = |study: &Study, steps: &[u64]| -> Vec<bool> {
        let mut series = Default::default();
        let observe = |step: &u64| study.pruners.observe(&study.objective, &mut series, (*step, 0.5), at(0, 0));
        steps.iter().map(observe).map(|heard| heard == Heard::Compared).collect()
    };
    let steps = [1, 2, 3, 7, 8, 30];
    assert_eq!(heard(&median(1, 3, 5), &steps), [false, false, true, false, true, true]);
    // Rungs at 1, 3 and 9 of 27.
    assert_eq!(heard(&hyperband(27), &steps), [true, false, true, false, false, false]);
    assert_eq!(heard(&study(json!({"threshold": {"upper": 0.6}})), &steps), [false; 6]);
    assert_eq!(heard(&study(json!({"threshold": {"upper": 0.4}})), &steps), [true; 6]);
    let none = Study { pruners: Pruners::default(), ..hyperband(27) };
    assert_eq!(heard(&none, &steps), [false; 6]);
}

/// What happens in a sweep, in order: a report of a trial, or its end.
#[derive(Clone, Debug)]
enum Happening {
    Report { trial: u32, step: u64, value: f64 },
    End { trial: u32 },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let value = prop_oneof![8 => (0..40_u32).prop_map(|n| f64::from(n) / 40.0), 1 => Just(f64::NAN)];
    let report = (0..7_u32, 1..4_u64, value).prop_map(|(trial, step, value)| Happening::Report { trial, step, value });
    let end = (0..7_u32).prop_map(|trial| Happening::End { trial });
    prop::collection::vec(prop_oneof![12 => report, 1 => end], 1..150)
}

/// The sweep as it stands after each happening, none of its trials being stopped before `stop` says so. A report's step is by
/// so many behind the last one of its trial.
fn play(study: &Study, happenings: &[Happening], mut stop: impl FnMut(&[Trial], usize) -> Vec<u32>) -> Vec<Trial> {
    let mut trials: BTreeMap<u32, Trial> = BTreeMap::new();
    for (tick, happening) in happenings.iter().enumerate() {
        let now = at(0, tick as u32);
        let (Happening::Report { trial: index, .. } | Happening::End { trial: index }) = happening;
        let trial = trials.entry(*index).or_insert_with(|| {
            let bracket = study.pruners.bracket(*index);
            Trial { bracket, ..running(study, *index, &[]) }
        });
        if trial.phase != Phase::Running {
            continue;
        }
        match happening {
            Happening::Report { step, value, .. } => {
                let step = trial.series.last_step().unwrap_or(0) + step;
                study.pruners.observe(&study.objective, &mut trial.series, (step, *value), now);
                if study.pruners.fold_metric().is_some() {
                    study.pruners.observe_fold(&mut trial.series, (step, *value), now);
                }
            }
            Happening::End { .. } => {
                let value =
                    trial.series.value(study.objective.value, study.objective.direction).map(|(_, value)| value);
                trial.phase = if value.is_some() { Phase::Succeeded } else { Phase::Failed };
                (trial.value, trial.completed) = (value, Some(now));
            }
        }
        let history: Vec<Trial> = trials.values().cloned().collect();
        for index in stop(&history, tick) {
            let trial = trials.get_mut(&index).unwrap();
            (trial.phase, trial.desired, trial.completed) = (Phase::Pruned, DesiredState::Stopped, Some(now));
        }
    }
    trials.into_values().collect()
}

/// As it would be read from what was recorded of it.
fn as_recorded(trial: &Trial) -> Trial {
    let (steps, values): (Vec<u64>, Vec<f64>) = trial.series.points().iter().copied().unzip();
    let series =
        sweep_operator::core::Series::from_recorded(&steps, &values, trial.series.count(), trial.series.divergence());
    let mut series = series.with_arrivals(trial.series.arrivals().to_vec());
    // Not recorded: the log is read again.
    if let Some(mark) = trial.series.marked("threshold") {
        series.mark("threshold", mark);
    }
    Trial { series, ..trial.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_leader_is_stopped_and_a_verdict_follows_from_what_is_recorded_in_any_order(
        happenings in happenings(), maximize in any::<bool>(), best in any::<bool>(), pruner in 0..8_usize,
    ) {
        let mut study = study(every_pruner()[pruner].clone());
        study.objective.direction = if maximize { Direction::Maximize } else { Direction::Minimize };
        study.objective.value = if best { ValueOf::Best } else { ValueOf::Last };
        let direction = study.objective.direction;
        play(&study, &happenings, |history, _| {
            let verdicts = verdicts(&study, history);
            let values = history.iter().filter(|trial| trial.phase == Phase::Succeeded).filter_map(|trial| trial.value);
            let best = values.reduce(|a, b| if sweep_operator::core::beats(direction, b, a) { b } else { a });
            for verdict in &verdicts {
                let trial = history.iter().find(|trial| trial.index == verdict.index).unwrap();
                let value = trial.series.value(study.objective.value, direction).map(|(_, value)| value);
                let leads = best.zip(value).is_some_and(|(best, value)| sweep_operator::core::beats(direction, value, best));
                assert!(trial.can_be_stopped() && !leads, "{verdict:?}");
                assert!(!verdict.evidence.pruner.is_empty() && (verdict.message.starts_with("at step ") || verdict.message.starts_with("at fold ")), "{verdict:?}");
            }
            let mut turned: Vec<Trial> = history.iter().rev().map(as_recorded).collect();
            let again = |history: &[Trial]| {
                let mut again = self::verdicts(&study, history);
                again.sort_by_key(|verdict| verdict.index);
                again
            };
            assert_eq!(again(&turned), verdicts);
            turned.rotate_left(history.len() / 2);
            assert_eq!(again(&turned), verdicts);
            verdicts.iter().map(|verdict| verdict.index).collect()
        });
    }

    #[test]
    fn a_rung_is_judged_once_whatever_comes_later(happenings in happenings(), pruner in 0..6_usize) {
        let study = study(every_pruner()[if pruner == 5 { 7 } else { pruner }].clone());
        let mut passed: BTreeMap<(u32, u64), ()> = BTreeMap::new();
        play(&study, &happenings, |history, _| {
            let stops: Vec<u32> = stopped(&study, history);
            for trial in history.iter().filter(|trial| trial.can_be_stopped()) {
                let Some(arrival) = trial.series.arrivals().last() else { continue };
                let is_stopped = stops.contains(&trial.index);
                assert!(!is_stopped || !passed.contains_key(&(trial.index, arrival.rung)), "{trial:?}");
                if !is_stopped {
                    passed.insert((trial.index, arrival.rung), ());
                }
            }
            stops
        });
    }

    #[test]
    fn who_hears_of_it_late_gives_the_same_verdict(happenings in happenings(), pruner in 0..6_usize) {
        let study = study(every_pruner()[if pruner == 5 { 7 } else { pruner }].clone());
        // At once, after each happening.
        let mut at_once: BTreeMap<u32, u64> = BTreeMap::new();
        play(&study, &happenings, |history, _| {
            for verdict in verdicts(&study, history) {
                at_once.entry(verdict.index).or_insert(verdict.step);
            }
            Vec::new()
        });
        // At the end, each trial cut off where it was stopped: the same step and reason.
        let end = play(&study, &happenings, |_, _| Vec::new());
        for (index, step) in at_once {
            let mut history = end.clone();
            let trial = history.iter_mut().find(|trial| trial.index == index).unwrap();
            let cut = trial.series.points().iter().copied().filter(|point| point.0 <= step);
            let (steps, values): (Vec<u64>, Vec<f64>) = cut.unzip();
            let arrivals: Vec<_> = trial.series.arrivals().iter().copied().filter(|arrival| arrival.step <= step).collect();
            let diverged = trial.series.divergence().filter(|divergence| divergence.first_step <= step);
            // Of a curve that recovered the gap is not kept: that is another one.
            prop_assume!(arrivals.last().is_some_and(|arrival| arrival.step == step && arrival.value.is_some()) && diverged.is_none());
            trial.series = sweep_operator::core::Series::from_recorded(&steps, &values, steps.len() as u64, None).with_arrivals(arrivals);
            (trial.phase, trial.completed, trial.value) = (Phase::Running, None, None);
            let is_same = verdicts(&study, &history).iter().any(|verdict| (verdict.index, verdict.step) == (index, step));
            // Whoever beats all that have succeeded meanwhile stays.
            let values = history.iter().filter(|trial| trial.phase == Phase::Succeeded).filter_map(|trial| trial.value);
            let best = values.reduce(f64::max);
            let own = history.iter().find(|trial| trial.index == index).and_then(|trial| Some(trial.series.points().last()?.1));
            prop_assert!(is_same || best.zip(own).is_some_and(|(best, own)| own > best), "trial {index} at step {step}");
        }
    }
}
