//! What a study would cost, before anything runs: sweeps are simulated with the study's own pruner, on curves that fall fast at
//! first, cross now and then and are a little noisy, as those of trainings do. No trainer is like another: what comes of it is
//! given with the range over these sweeps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use jiff::{SignedDuration, Timestamp};

use super::normal;
use super::objective::Direction;
use super::pruner::Heard;
use super::rng::{Stream, stream};
use super::sampler::Sampler;
use super::space::Assignments;
use super::study::Study;
use super::trial::{DesiredState, Phase, Trial};

/// A figure over the simulated sweeps.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Figure {
    /// Nineteen of twenty sweeps have more.
    pub low: f64,
    /// The mean.
    pub mean: f64,
    /// Nineteen of twenty sweeps have less.
    pub high: f64,
}

/// What becomes of the trials at one rung.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AtRung {
    /// The rung, in the pruner's own count: steps, or reports with `forecast`.
    pub rung: u64,
    /// How many trials come to it.
    pub reached: Figure,
    /// How many of them are stopped there.
    pub stopped: Figure,
}

/// What a study would cost.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// How many sweeps were simulated.
    pub sweeps: u32,
    /// How many trials a sweep has.
    pub trials: u32,
    /// How many trials each bracket gets; empty where there are no brackets.
    pub brackets: Vec<u32>,
    /// Where trials are compared, ascending; empty where no rungs are kept.
    pub rungs: Vec<AtRung>,
    /// How many trials run to their end.
    pub whole: Figure,
    /// The steps of all trials, against those without a pruner.
    pub cost: Figure,
    /// How long the sweep takes, against one without a pruner.
    pub time: Figure,
}

/// Trials of a sweep that are simulated at most.
const MOST_TRIALS: u32 = 400;

/// Reports of a trial that are simulated at most: more of them change little.
const MOST_REPORTS: u64 = 200;

/// Simulates this study, whose trainer has so many steps. Bounded: large studies are simulated less often.
pub fn plan(study: &Study, steps: u64) -> Plan {
    let trials =
        study.limits.max_trials.min(study.space.size().map_or(u32::MAX, |size| size.min(u32::MAX.into()) as u32));
    let reports = steps.clamp(1, MOST_REPORTS);
    let simulated = trials.min(MOST_TRIALS);
    let work = f64::from(simulated) * f64::from(simulated) * reports as f64;
    let sweeps = (5e7 / work.max(1.0)).clamp(5.0, 100.0) as u32;
    let one = |sweep: u32| simulate(study, simulated, steps, stream(study.seed, "plan", sweep.into()));
    let seen: Vec<Sweep> = (0..sweeps).map(one).collect();
    let figure = |of: &dyn Fn(&Sweep) -> f64| Figure::of(seen.iter().map(of).collect());
    // Of a large study a part is simulated.
    let scale = f64::from(trials) / f64::from(simulated.max(1));
    let mut rungs: Vec<u64> = seen.iter().flat_map(|sweep| sweep.rungs.keys().copied()).collect();
    rungs.sort_unstable();
    rungs.dedup();
    let at = |sweep: &Sweep, rung: u64| sweep.rungs.get(&rung).copied().unwrap_or_default();
    let rungs = rungs.into_iter().map(|rung| AtRung {
        rung,
        reached: figure(&|sweep| scale * f64::from(at(sweep, rung).0)),
        stopped: figure(&|sweep| scale * f64::from(at(sweep, rung).1)),
    });
    let mut brackets: Vec<u32> = Vec::new();
    for bracket in (0..trials).filter_map(|index| study.pruners.bracket(index)) {
        brackets.resize(brackets.len().max(bracket as usize + 1), 0);
        brackets[bracket as usize] += 1;
    }
    Plan {
        sweeps,
        trials,
        brackets,
        rungs: rungs.collect(),
        whole: figure(&|sweep| scale * f64::from(sweep.whole)),
        cost: figure(&|sweep| sweep.cost),
        time: figure(&|sweep| sweep.time),
    }
}

impl Figure {
    fn of(mut values: Vec<f64>) -> Figure {
        values.sort_unstable_by(f64::total_cmp);
        let last = values.len() - 1;
        let at = |share: f64| values[(share * last as f64).round() as usize];
        Figure { low: at(0.05), mean: values.iter().sum::<f64>() / values.len() as f64, high: at(0.95) }
    }
}

/// What came of one simulated sweep.
struct Sweep {
    /// By rung: how many came to it, and how many were stopped there.
    rungs: BTreeMap<u64, (u32, u32)>,
    whole: u32,
    cost: f64,
    time: f64,
}

/// A trial's curve, to be minimised: from `end` + `fall` down to `end`.
struct Curve {
    end: f64,
    fall: f64,
    rate: f64,
    noise: f64,
    /// How long a step takes.
    pace: f64,
}

impl Curve {
    /// A curve of a configuration that is as far from the best as `spread` lets it be.
    fn drawn(spread: f64, random: &mut Stream) -> Curve {
        let normal = |random: &mut Stream| normal::quantile(random.unit().clamp(1e-9, 1.0 - 1e-9));
        Curve {
            // Many are near the best, a few far away.
            end: -libm::log(1.0 - random.unit()) * spread,
            fall: libm::exp(0.5 * normal(random)) * 2.0,
            rate: 3.0 + 9.0 * random.unit(),
            noise: 0.03,
            pace: libm::exp(0.2 * normal(random)),
        }
    }

    /// The value of a fold, which has learnt all that it can.
    fn fold(&self, random: &mut Stream) -> f64 {
        self.end + 0.1 * normal::quantile(random.unit().clamp(1e-9, 1.0 - 1e-9))
    }

    fn value(&self, share: f64, random: &mut Stream) -> f64 {
        let noise = normal::quantile(random.unit().clamp(1e-9, 1.0 - 1e-9));
        self.end + self.fall * libm::exp(-self.rate * share) + self.noise * noise
    }
}

fn simulate(study: &Study, trials: u32, steps: u64, mut random: Stream) -> Sweep {
    let reports = steps.clamp(1, MOST_REPORTS);
    // A sampler that learns comes closer to the best; how fast, nobody knows before.
    let learning = match study.sampler {
        Sampler::Random(_) | Sampler::Grid(_) | Sampler::Sobol(_) => 0.0,
        _ => 0.3 * random.unit(),
    };
    let spread = |index: u32| 1.0 / (1.0 + learning * f64::from(index));
    let curves: Vec<Curve> = (0..trials).map(|index| Curve::drawn(spread(index), &mut random)).collect();
    let places = study.parallelism.max(1);
    let problem = study.problem(study.budget());
    let mut sweep = Sweep { rungs: BTreeMap::new(), whole: 0, cost: 0.0, time: 0.0 };
    let mut history: Vec<Trial> = Vec::new();
    // When which trial makes its next report, in whole microseconds: an order that is total.
    let mut due: BinaryHeap<Reverse<(i64, u32, u64)>> = BinaryHeap::new();
    let after = |now: i64, index: u32| now + (1e3 * curves[index as usize].pace) as i64 + 1;
    let start = |now: i64, history: &mut Vec<Trial>, due: &mut BinaryHeap<_>| {
        let index = history.len() as u32;
        if index < trials {
            let bracket = study.pruners.bracket(index);
            history.push(Trial { phase: Phase::Running, bracket, ..Trial::proposed(index, Assignments::new()) });
            due.push(Reverse((after(now, index), index, 1)));
        }
    };
    for _ in 0..places {
        start(0, &mut history, &mut due);
    }
    let mut end = 0;
    while let Some(Reverse((now, index, report))) = due.pop() {
        end = now;
        sweep.cost += 1.0;
        let step = (report * steps).div_ceil(reports);
        let loss = curves[index as usize].value(report as f64 / reports as f64, &mut random);
        let value = if study.objective.direction == Direction::Minimize { loss } else { -loss };
        let at = Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_micros(now)).unwrap_or(Timestamp::MAX);
        let trial = &mut history[index as usize];
        let before = trial.series.arrivals().last().map(|arrival| arrival.rung);
        let mut heard = study.pruners.observe(&study.objective, &mut trial.series, (step, value), at);
        if study.pruners.fold_metric().is_some() {
            let fold = curves[index as usize].fold(&mut random);
            let value = if study.objective.direction == Direction::Minimize { fold } else { -fold };
            heard = study.pruners.observe_fold(&mut trial.series, (step, value), at);
        }
        let rung = trial.series.arrivals().last().map(|arrival| arrival.rung).filter(|rung| Some(*rung) != before);
        let is_kept = study.pruners.keeps_rungs();
        if let Some(rung) = rung.filter(|_| is_kept) {
            sweep.rungs.entry(rung).or_default().0 += 1;
        }
        if report == reports {
            let value = trial.series.value(study.objective.value, study.objective.direction).map(|(_, value)| value);
            (trial.phase, trial.value, trial.completed) = (Phase::Succeeded, value, Some(at));
            sweep.whole += 1;
        } else if heard == Heard::Compared && study.pruners.verdict_on(&problem, &history, index as usize).is_some() {
            let trial = &mut history[index as usize];
            (trial.phase, trial.desired, trial.completed) = (Phase::Pruned, DesiredState::Stopped, Some(at));
            if let Some(rung) = rung.filter(|_| is_kept) {
                sweep.rungs.entry(rung).or_default().1 += 1;
            }
        } else {
            history[index as usize].passed = rung.or(before);
            due.push(Reverse((after(now, index), index, report + 1)));
            continue;
        }
        start(now, &mut history, &mut due);
    }
    sweep.cost /= f64::from(trials.max(1)) * reports as f64;
    sweep.time = end as f64 / without_a_pruner(&curves, places, reports, after);
    sweep
}

/// When the last of these trials would end, if none was stopped.
fn without_a_pruner(curves: &[Curve], places: u32, reports: u64, after: impl Fn(i64, u32) -> i64) -> f64 {
    let mut free: BinaryHeap<Reverse<i64>> = (0..places).map(|_| Reverse(0)).collect();
    let mut end = 1;
    for index in 0..curves.len() as u32 {
        let Some(Reverse(start)) = free.pop() else { break };
        let ended = start + (after(0, index)) * reports as i64;
        end = end.max(ended);
        free.push(Reverse(ended));
    }
    end as f64
}
