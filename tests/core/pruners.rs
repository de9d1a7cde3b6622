//! Which running trials a pruner stops, and what it says.

use jiff::Timestamp;
use sweep_operator::core::pruner::{Algorithm, Hyperband, Median, Pruner, Verdict, reports_at_end};
use sweep_operator::core::sampler::{Random, Sampler};
use sweep_operator::core::{
    DesiredState, Direction, Domain, Parameter, Phase, Recorded, Scale, Series, Space, Study, Trial, ValueOf,
};

use crate::space::{self, decide};

fn study(pruner: Pruner, direction: Direction) -> Study {
    let domain = Domain::Double { min: 0.0, max: 1.0, scale: Scale::Linear, step: None };
    let parameter = Parameter { name: "x".to_owned(), domain, when: Vec::new(), inactive_value: None };
    let mut study = space::study(Space::new(vec![parameter]), Sampler::Random(Random), 1);
    study.objective.direction = direction;
    study.pruner = Some(pruner);
    study
}

fn median(startup_trials: u32, warmup_steps: u64, interval: u64) -> Study {
    study(Pruner::Median(Median { startup_trials, warmup_steps, interval }), Direction::Maximize)
}

fn hyperband(max_steps: u64) -> Study {
    let hyperband = Hyperband { min_steps: 1, max_steps, reduction_factor: 3 };
    study(Pruner::Hyperband(hyperband), Direction::Maximize)
}

fn running(index: u32, points: &[(u64, f64)]) -> Trial {
    let (steps, values): (Vec<u64>, Vec<f64>) = points.iter().copied().unzip();
    let mut trial = space::trial(index, [("x".to_owned(), "0.5".to_owned())].into());
    (trial.phase, trial.value) = (Phase::Running, None);
    trial.series = Series::from_recorded(&steps, &values, 0, None);
    trial
}

fn succeeded(index: u32, points: &[(u64, f64)]) -> Trial {
    let mut trial = running(index, points);
    (trial.phase, trial.value) = (Phase::Succeeded, points.last().map(|point| point.1));
    trial
}

fn verdicts(study: &Study, history: &[Trial]) -> Vec<Verdict> {
    study.pruner.as_ref().unwrap().verdicts(&study.problem(study.budget()), history)
}

fn stopped(study: &Study, history: &[Trial]) -> Vec<u32> {
    verdicts(study, history).into_iter().map(|verdict| verdict.index).collect()
}

#[test]
fn a_trial_below_the_median_of_the_others_at_its_step_is_stopped() {
    let history = [
        succeeded(0, &[(1, 0.1), (2, 0.8)]),
        succeeded(1, &[(1, 0.2), (2, 0.9)]),
        succeeded(2, &[(1, 0.3), (2, 0.7)]),
        running(3, &[(1, 0.1), (2, 0.75)]),
    ];
    let verdict = verdicts(&median(3, 0, 1), &history);
    let expected = "at step 2: 0.75, worse than the median 0.8 of 3 trials";
    assert_eq!(verdict, [Verdict { index: 3, step: 2, message: expected.to_owned() }]);
}

#[test]
fn a_trial_at_the_median_goes_on() {
    let history = [succeeded(0, &[(1, 0.5)]), succeeded(1, &[(1, 0.9)]), running(2, &[(1, 0.7)])];
    assert_eq!(stopped(&median(2, 0, 1), &history), [0_u32; 0]);
    let tie = [succeeded(0, &[(1, 0.7)]), succeeded(1, &[(1, 0.7)]), running(2, &[(1, 0.7)])];
    assert_eq!(stopped(&median(2, 0, 1), &tie), [0_u32; 0]);
}

#[test]
fn with_minimize_the_trial_above_the_median_is_stopped() {
    let mut study = median(2, 0, 1);
    study.objective.direction = Direction::Minimize;
    let history =
        [succeeded(0, &[(1, 0.5)]), succeeded(1, &[(1, 0.9)]), running(2, &[(1, 0.8)]), running(3, &[(1, 0.6)])];
    assert_eq!(stopped(&study, &history), [2]);
}

#[test]
fn nothing_is_stopped_before_enough_trials_have_reached_the_step() {
    let short = succeeded(0, &[(1, 0.9)]);
    let long = succeeded(1, &[(1, 0.9), (5, 0.9)]);
    let loser = running(2, &[(1, 0.1), (5, 0.1)]);
    assert_eq!(stopped(&median(2, 0, 1), &[short.clone(), long.clone(), loser.clone()]), [0_u32; 0]);
    let another = running(3, &[(1, 0.9), (7, 0.95)]);
    assert_eq!(stopped(&median(2, 0, 1), &[short, long, loser, another]), [2]);
}

#[test]
fn nothing_is_stopped_before_the_warmup_is_over() {
    let peers = |last| [succeeded(0, &[(1, 0.9), (9, 0.9)]), running(1, &[(1, 0.1), (last, 0.1)])];
    assert_eq!(stopped(&median(1, 5, 1), &peers(4)), [0_u32; 0]);
    assert_eq!(stopped(&median(1, 5, 1), &peers(5)), [1]);
}

#[test]
fn with_an_interval_the_step_of_comparison_is_the_last_multiple() {
    // At steps 2, 6, 10: at step 9 the value of step 6 counts, which is good.
    let history = [succeeded(0, &[(1, 0.4), (6, 0.5), (12, 0.6)]), running(1, &[(6, 0.55), (9, 0.1)])];
    assert_eq!(stopped(&median(1, 2, 4), &history), [0_u32; 0]);
    let history = [succeeded(0, &[(1, 0.4), (6, 0.5), (12, 0.6)]), running(1, &[(6, 0.55), (10, 0.1)])];
    assert_eq!(verdicts(&median(1, 2, 4), &history)[0].step, 10);
}

#[test]
fn a_sparse_reporter_is_compared_by_its_latest_value() {
    let history = [succeeded(0, &[(10, 0.5), (20, 0.9)]), running(1, &[(3, 0.2), (15, 0.3)])];
    let verdict = verdicts(&median(1, 0, 1), &history);
    assert_eq!(verdict[0].message, "at step 15: 0.3, worse than the median 0.5 of 1 trial");
}

#[test]
fn with_best_a_trial_is_judged_by_its_best_value() {
    let mut study = median(1, 0, 1);
    let history = [succeeded(0, &[(1, 0.5), (2, 0.5)]), running(1, &[(1, 0.5), (2, 0.1)])];
    assert_eq!(stopped(&study, &history), [1]);
    study.objective.value = ValueOf::Best;
    assert_eq!(stopped(&study, &history), [0_u32; 0]);
}

#[test]
fn the_median_of_huge_values_does_not_overflow() {
    let history = [succeeded(0, &[(1, f64::MAX)]), succeeded(1, &[(1, f64::MAX)]), running(2, &[(1, 0.0)])];
    let verdict = verdicts(&median(2, 0, 1), &history);
    assert!(verdict[0].message.contains("the median 1.7977e308 of 2 trials"), "{}", verdict[0].message);
}

#[test]
fn values_in_messages_are_short() {
    let say = |value: f64| {
        let mut study = median(1, 0, 1);
        study.objective.direction = Direction::Minimize;
        let history = [succeeded(0, &[(1, -1e300)]), running(1, &[(1, value)])];
        let message = verdicts(&study, &history)[0].message.clone();
        message.trim_start_matches("at step 1: ").split(',').next().unwrap_or_default().to_owned()
    };
    assert_eq!(say(0.5), "0.5");
    assert_eq!(say(1.0 / 3.0), "0.33333");
    assert_eq!(say(200.0 / 3.0), "66.667");
    assert_eq!(say(2e5 / 3.0), "66667");
    assert_eq!(say(1e-9 / 3.0), "3.3333e-10");
    assert_eq!(say(-1.0 / 3.0), "-0.33333");
    assert_eq!(say(0.0), "0");
}

#[test]
fn the_leader_is_never_stopped_before_a_trial_has_finished() {
    let history = [running(0, &[(1, 0.1), (2, 0.6)]), running(1, &[(1, 0.9), (2, 0.5)]), running(2, &[(1, 0.5)])];
    // Trial 2 has 0.5 at step 1, at the median of 0.1 and 0.9; trial 1 is worse than trial 0 at step 2.
    assert_eq!(stopped(&median(1, 0, 1), &history), [1]);
}

#[test]
fn a_trial_that_beats_the_best_finished_value_is_never_stopped() {
    let crowd = (1..6).map(|index| {
        let mut trial = running(index, &[(1, 0.9), (2, 0.2)]);
        trial.phase = Phase::Pruned;
        trial
    });
    let history: Vec<Trial> =
        [succeeded(0, &[(1, 0.3)])].into_iter().chain(crowd).chain([running(6, &[(1, 0.4)])]).collect();
    assert_eq!(stopped(&median(1, 0, 1), &history), [0_u32; 0]);
    assert_eq!(stopped(&hyperband(27), &history), [0_u32; 0]);
}

#[test]
fn who_is_stopped_already_is_not_stopped_again() {
    let mut loser = running(1, &[(1, 0.1)]);
    loser.desired = DesiredState::Stopped;
    assert_eq!(stopped(&median(1, 0, 1), &[succeeded(0, &[(1, 0.9)]), loser]), [0_u32; 0]);
}

#[test]
fn a_pruned_trial_is_told_so_with_its_evidence() {
    let study = median(1, 0, 1);
    let history = [succeeded(0, &[(1, 0.9)]), running(1, &[(1, 0.1)])];
    let decision = decide(&study, &history, 0, &Recorded::default(), Timestamp::UNIX_EPOCH);
    assert_eq!((decision.stops[0].reason.as_str(), decision.stops[0].step), ("Pruned", Some(1)));
}

#[test]
fn rungs_lie_below_the_last_step() {
    let rungs = |min_steps, max_steps, reduction_factor| Hyperband { min_steps, max_steps, reduction_factor }.rungs();
    assert_eq!(rungs(1, 27, 3), [1, 3, 9]);
    assert_eq!(rungs(1, 28, 3), [1, 3, 9, 27]);
    assert_eq!(rungs(2, 3, 4), [2]);
    assert_eq!(rungs(1, 1_000_000_000, 2).len(), 30);
}

#[test]
fn brackets_have_hyperband_s_shares_and_are_interleaved() {
    let hyperband = Hyperband { min_steps: 1, max_steps: 27, reduction_factor: 3 };
    let weights = [27, 12, 6, 4];
    let mut dealt = [0_u32; 4];
    for index in 0..98 {
        dealt[hyperband.bracket(index).unwrap() as usize] += 1;
        for (bracket, weight) in weights.iter().enumerate() {
            let share = f64::from(index + 1) * f64::from(*weight) / 49.0;
            let off = (f64::from(dealt[bracket]) - share).abs();
            assert!(off < 1.5, "after {index}: bracket {bracket} was dealt {}, its share is {share}", dealt[bracket]);
        }
    }
    assert_eq!(dealt, [54, 24, 12, 8]);
    assert_eq!(hyperband.bracket(0), Some(0));
    // The sequence starts over: any index is cheap, also the last one there is.
    assert_eq!(hyperband.bracket(49 * 80_000_000), Some(0));
    assert!(hyperband.bracket(u32::MAX).unwrap() < 4);
}

#[test]
fn the_largest_hyperband_deals_its_brackets() {
    let hyperband = Hyperband { min_steps: 1, max_steps: 1_000_000_000, reduction_factor: 2 };
    assert!((0..200).all(|index| hyperband.bracket(index).unwrap() <= 30));
}

#[test]
fn the_first_at_a_rung_always_go_on() {
    let study = hyperband(27);
    let mut history = vec![running(0, &[(1, 0.9)]), running(1, &[(1, 0.1)])];
    assert_eq!(stopped(&study, &history), [0_u32; 0]);
    history.push(running(2, &[(1, 0.5)]));
    let verdicts = verdicts(&study, &history);
    let indices: Vec<u32> = verdicts.iter().map(|verdict| verdict.index).collect();
    assert_eq!(indices, [1, 2]);
    assert_eq!(verdicts[0].message, "at step 1: 0.1, rank 3 of the 3 trials that reached this rung; the best goes on");
}

#[test]
fn trials_of_all_brackets_are_compared_at_a_rung() {
    let study = hyperband(27);
    let mut history: Vec<Trial> = (0..3).map(|index| running(index, &[(3, 0.9 - f64::from(index) / 10.0)])).collect();
    // Bracket 1 skips the first rung, 3 never stops; both count for the others.
    for (trial, bracket) in history.iter_mut().zip([3, 1, 0]) {
        trial.bracket = Some(bracket);
    }
    assert_eq!(stopped(&study, &history), [1, 2]);
    history[1].series = Series::from_recorded(&[1], &[0.1], 1, None);
    history[0].series = Series::from_recorded(&[1], &[0.9], 1, None);
    history[2].series = Series::from_recorded(&[1], &[0.1], 1, None);
    assert_eq!(stopped(&study, &history), [2], "bracket 1 is not judged at the first rung");
}

#[test]
fn a_trial_of_the_last_bracket_never_stops() {
    let study = hyperband(27);
    let mut history: Vec<Trial> = (0..9).map(|index| running(index, &[(9, f64::from(index)), (20, 0.5)])).collect();
    history[0].bracket = Some(3);
    history[1].bracket = Some(2);
    assert_eq!(stopped(&study, &history), [1, 2, 3, 4, 5]);
}

#[test]
fn ties_at_a_rung_go_to_the_lower_index() {
    let history: Vec<Trial> = (0..6).map(|index| running(index, &[(1, 0.5)])).collect();
    assert_eq!(stopped(&hyperband(27), &history), [2, 3, 4, 5]);
}

#[test]
fn with_minimize_the_lowest_go_on() {
    let mut study = hyperband(27);
    study.objective.direction = Direction::Minimize;
    let history: Vec<Trial> = (0..3).map(|index| running(index, &[(1, f64::from(index))])).collect();
    assert_eq!(stopped(&study, &history), [1, 2]);
}

#[test]
fn a_trial_is_judged_by_its_value_at_the_rung_not_after_it() {
    // At step 3 trial 0 was the best, though it has fallen since; the leader at the moment is trial 2.
    let history =
        [running(0, &[(3, 0.9), (5, 0.1)]), running(1, &[(3, 0.5), (5, 0.6)]), running(2, &[(3, 0.4), (5, 0.7)])];
    assert_eq!(stopped(&hyperband(27), &history), [1]);
}

#[test]
fn who_has_done_all_steps_is_never_stopped() {
    let history =
        [succeeded(0, &[(9, 0.9), (27, 0.9)]), running(2, &[(9, 0.1), (27, 0.1)]), running(3, &[(9, 0.1), (26, 0.1)])];
    assert_eq!(stopped(&hyperband(27), &history), [3]);
}

#[test]
fn a_sparse_reporter_is_judged_at_a_rung_once_it_has_passed_it() {
    let peers = || vec![succeeded(0, &[(4, 0.9), (8, 0.9)]), succeeded(1, &[(1, 0.7), (4, 0.8)])];
    let mut history = peers();
    history.push(running(2, &[(2, 0.1), (4, 0.95)]));
    // At rung 3 only its value of step 2 and trial 1's of step 1 are known: two are not enough.
    assert_eq!(stopped(&hyperband(27), &history), [0_u32; 0]);
    // A trial that reports for the first time at step 4 says nothing about rung 3.
    let mut history = peers();
    history.push(running(2, &[(4, 0.1)]));
    assert_eq!(stopped(&hyperband(27), &history), [0_u32; 0]);
}

fn obstacle(study: &Study, history: &[Trial]) -> Option<String> {
    study.pruner.as_ref().unwrap().obstacle(&study.problem(study.budget()), history)
}

fn end_of(mut trial: Trial, phase: Phase) -> Trial {
    trial.phase = phase;
    trial
}

#[test]
fn a_hyperband_whose_rungs_the_steps_never_meet_says_so() {
    let (units, study) = (running(0, &[(1000, 0.5)]), hyperband(9));
    let why = "steps begin at 1000, and maxSteps is 9: nothing can ever be pruned";
    assert_eq!(obstacle(&study, &[]), None, "nothing was shown yet");
    assert_eq!(obstacle(&study, std::slice::from_ref(&units)).as_deref(), Some(why));
    assert_eq!(obstacle(&study, &[units.clone(), running(1, &[(8, 0.1)])]), None, "another one meets them");
    assert_eq!(obstacle(&study, &[running(0, &[(9, 0.5)])]).as_deref(), Some(why.replace("1000", "9").as_str()));
    let mut late = hyperband(27);
    late.pruner = Some(Pruner::Hyperband(Hyperband { min_steps: 9, max_steps: 27, reduction_factor: 3 }));
    let short = running(0, &[(1, 0.5), (5, 0.5)]);
    assert_eq!(obstacle(&late, std::slice::from_ref(&short)), None, "it may go on");
    let why = "trials end at step 5, and minSteps is 9: nothing can ever be pruned";
    assert_eq!(obstacle(&late, &[end_of(short.clone(), Phase::Succeeded)]).as_deref(), Some(why));
    assert_eq!(obstacle(&late, &[end_of(short, Phase::Failed)]), None, "what failed has not shown its last step");
    let why = "no step from minSteps 9 up to maxSteps 27 is reported: nothing can ever be pruned";
    assert_eq!(obstacle(&late, &[succeeded(0, &[(1, 0.5), (100, 0.5)])]).as_deref(), Some(why));
    assert_eq!(obstacle(&late, &[succeeded(0, &[(1, 0.5), (26, 0.5)])]), None);
    // A trainer that diverged has shown its steps all the same.
    let mut nan = running(0, &[]);
    nan.series.push(500, f64::NAN, ValueOf::Last, Direction::Maximize, &[]);
    assert!(obstacle(&study, &[nan]).unwrap().starts_with("steps begin at 500"));
}

#[test]
fn a_median_whose_warmup_is_never_over_says_so() {
    let study = median(3, 10, 1);
    let why = "trials end at step 7, and warmupSteps is 10: nothing can ever be pruned";
    assert_eq!(obstacle(&study, &[running(0, &[(7, 0.5)])]), None);
    assert_eq!(obstacle(&study, &[succeeded(0, &[(3, 0.5)]), succeeded(1, &[(7, 0.5)])]).as_deref(), Some(why));
    assert_eq!(obstacle(&study, &[succeeded(0, &[(7, 0.5)]), running(1, &[(10, 0.5)])]), None);
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
        let mut trial = succeeded(index, &[(1, 0.5), (2, 0.6)]);
        trial.reported_at_end = true;
        trial
    };
    assert_eq!(obstacle(&study, &[late(0), late(1)]), None, "two are not enough");
    let why = obstacle(&study, &[late(0), late(1), late(2), succeeded(3, &[(1, 0.5)])]).unwrap();
    assert!(why.starts_with("nothing can be pruned: trials report everything in their last second"), "{why}");
    assert_eq!(obstacle(&study, &[late(0), succeeded(1, &[(1, 0.5)]), late(2), late(3)]), None);
    let pruned = end_of(running(4, &[(1, 0.1)]), Phase::Pruned);
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
fn an_idle_pruner_is_told_in_the_message() {
    let mut study = hyperband(9);
    study.limits.max_trials = 9;
    let decision = decide(&study, &[running(0, &[(1000, 0.5)])], 0, &Recorded::default(), Timestamp::UNIX_EPOCH);
    assert!(
        decision.message.contains("; steps begin at 1000, and maxSteps is 9: nothing can ever"),
        "{}",
        decision.message
    );
    assert!(decision.pruner_idle.is_some());
}

#[test]
fn a_report_is_told_of_only_where_it_brings_a_trial_to_a_comparison() {
    let told = |study: &Study, bracket, steps: &[(Option<u64>, u64)]| -> Vec<bool> {
        let pruner = study.pruner.as_ref().unwrap();
        steps.iter().map(|(before, after)| pruner.compares(bracket, *before, *after)).collect()
    };
    let every_fifth = median(1, 3, 5);
    let steps = [(None, 1), (Some(1), 2), (Some(2), 3), (Some(3), 7), (Some(7), 8), (Some(8), 30), (None, 40)];
    assert_eq!(told(&every_fifth, None, &steps), [false, false, true, false, true, true, true]);
    // Rungs at 1, 3 and 9 of 27.
    let steps = [(None, 1), (Some(1), 2), (Some(2), 3), (Some(3), 8), (Some(8), 20), (Some(20), 27)];
    assert_eq!(told(&hyperband(27), Some(0), &steps), [true, false, true, false, true, false]);
    assert_eq!(told(&hyperband(27), Some(2), &steps), [false, false, false, false, true, false]);
}
