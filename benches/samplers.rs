//! Time of a proposal, and of a decision, with so many trials behind it: ten doubles, in process, the cache warm.
//! `make bench`.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use sweep_operator::core::pruner::PrunerSpec;
use sweep_operator::core::sampler::{Cache, Next, Random, Sampler, Suggestion};
use sweep_operator::core::{Phase, Recorded, Study, Trial, decide, outlook};
use sweep_operator::validate::validate;

fn study(sampler: &str) -> Study {
    let parameters: Vec<String> = (0..10).map(|i| format!("{{name: x{i}, double: {{min: -5, max: 10}}}}")).collect();
    let spec = format!(
        "objectives: [{{metric: loss, direction: Minimize}}]\nparameters: [{}]\nsampler: {{{sampler}: {{}}}}\n\
         maxTrials: 10000\njobTemplate: {{spec: {{template: {{spec: {{containers: [{{name: a, image: a}}]}}}}}}}}",
        parameters.join(", ")
    );
    validate("bench", &serde_yaml::from_str(&spec).unwrap()).unwrap().core
}

/// The sphere function: what a trial comes to.
fn finished(suggestion: Suggestion, index: u32) -> Trial {
    let squares = suggestion.assignments.values().map(|text| text.parse::<f64>().unwrap().powi(2));
    let value = Some(squares.sum());
    let completed = Some(Timestamp::UNIX_EPOCH + SignedDuration::from_micros(index.into()));
    let generation = suggestion.generation;
    Trial { phase: Phase::Succeeded, value, completed, generation, ..Trial::proposed(index, suggestion.assignments) }
}

fn proposal(study: &Study, history: &[Trial], cache: &mut Cache) -> Suggestion {
    match study.propose(study.budget(), history, &[], history.len() as u32, cache) {
        Next::Propose(suggestion) => suggestion,
        Next::Exhausted => panic!("a continuum is not exhausted"),
    }
}

/// A history of random trials; of CMA-ES its own, since it learns from no others.
fn history(study: &Study, count: u32) -> Vec<Trial> {
    let source = match study.sampler {
        Sampler::Cmaes(_) => study.clone(),
        _ => Study { sampler: Sampler::Random(Random), ..study.clone() },
    };
    let mut cache = Cache::default();
    let mut history = Vec::new();
    for index in 0..count {
        let suggestion = proposal(&source, &history, &mut cache);
        history.push(finished(suggestion, index));
    }
    history
}

fn proposals(c: &mut Criterion) {
    let mut group = c.benchmark_group("proposal");
    group.sample_size(20);
    for (sampler, counts) in [
        ("random", &[10_000][..]),
        ("sobol", &[10_000]),
        ("cmaes", &[100, 1_000, 10_000]),
        ("tpe", &[100, 300, 1_000, 10_000]),
        ("gp", &[100, 300, 1_000, 10_000]),
    ] {
        let study = study(sampler);
        for &count in counts {
            let mut history = history(&study, count);
            let mut cache = Cache::default();
            // One more trial has finished since the last proposal, as in a sweep.
            let last = proposal(&study, &history, &mut cache);
            history.push(finished(last, count));
            group.bench_function(BenchmarkId::new(sampler, count), |bench| {
                bench.iter(|| proposal(&study, &history, &mut cache));
            });
        }
    }
    for sampler in ["cmaes", "tpe", "gp"] {
        let study = study(sampler);
        let history = history(&study, 10_000);
        group.bench_function(BenchmarkId::new(format!("{sampler} cold"), 10_000), |bench| {
            bench.iter_batched(
                Cache::default,
                |mut cache| proposal(&study, &history, &mut cache),
                BatchSize::PerIteration,
            );
        });
    }
    // As the operator and `sweep run` ask: with all else that a decision looks at.
    for sampler in ["auto", "tpe"] {
        let study = study(sampler);
        let mut history = history(&study, 9_998);
        let mut cache = Cache::default();
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1);
        let last = proposal(&study, &history, &mut cache);
        history.push(finished(last, 9_998));
        group.bench_function(BenchmarkId::new(format!("decide {sampler}"), 9_999), |bench| {
            bench.iter(|| {
                let decision = decide(&study, &history, 0, &Recorded::default(), now, &mut cache);
                assert_eq!(decision.proposals.len(), 1);
            });
        });
    }
    group.finish();
}

/// A pass that needs no proposal: 9,500 trials of 27 steps have finished, and 500 run, each at a step of its own.
fn outlooks(c: &mut Criterion) {
    let mut group = c.benchmark_group("outlook");
    for pruner in ["none", "median: {}", "hyperband: {maxSteps: 27}", "forecast: {maxSteps: 27}"] {
        let mut study = study("random");
        let spec = (pruner != "none").then(|| serde_yaml::from_str::<PrunerSpec>(pruner).unwrap());
        study.pruners = spec.map(|spec| spec.given()).unwrap_or_default();
        let mut history = history(&study, 10_000);
        for trial in &mut history {
            let steps = if trial.index < 9_500 { 27 } else { 1 + u64::from(trial.index) % 26 };
            let value = trial.value.unwrap();
            for step in 1..=steps {
                let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(step as i64);
                let observation = (step, value + 1.0 / step as f64);
                study.pruners.observe(&study.objective, &mut trial.series, observation, at);
            }
            if steps < 27 {
                (trial.phase, trial.value, trial.completed) = (Phase::Running, None, None);
            }
        }
        study.parallelism = 500;
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1);
        let name = pruner.split(':').next().unwrap();
        group.bench_function(BenchmarkId::new(name, 10_000), |bench| {
            bench.iter(|| outlook(&study, &history, 0, &Recorded::default(), now));
        });
    }
    group.finish();
}

criterion_group!(benches, proposals, outlooks);
criterion_main!(benches);
