//! The promises of DESIGN §6 under the faults that clusters have: a simulated API server, cluster and time.
//!
//! A failure prints its seed and what happened; `SWEEP_SIM_SEED=<seed> cargo test --test sim replay -- --nocapture`
//! runs that interleaving again.

// Helpers of tests may unwrap.
#![allow(clippy::unwrap_used)]

mod api;
mod cluster;
mod faults;
mod promises;
mod run;
mod store;

use run::{Report, Scenario, run};

fn tell(scenario: &Scenario, report: &Report) -> String {
    format!(
        "seed {}: {} violations\n{}\n\n{}",
        scenario.seed,
        report.violations.len(),
        report.violations.join("\n"),
        report.trace.join("\n")
    )
}

#[test]
fn a_study_without_faults_ends_and_then_nothing_is_written() {
    let scenario = Scenario::calm(1);
    let report = run(&scenario);
    assert!(report.violations.is_empty(), "{}", tell(&scenario, &report));
    println!("{} calls, {} writes, {:?}", report.calls, report.writes, report.virtual_time);
}

/// Runs these seeds on all cores; the reports that have violations.
fn sweep(seeds: impl Iterator<Item = u64> + Send, scenario: impl Fn(u64) -> Scenario + Sync) -> Vec<(Scenario, Report)> {
    let seeds = std::sync::Mutex::new(seeds);
    let broken = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else { return };
                    let scenario = scenario(seed);
                    let report = run(&scenario);
                    if !report.violations.is_empty() {
                        broken.lock().unwrap().push((scenario, report));
                    }
                }
            });
        }
    });
    broken.into_inner().unwrap()
}

#[test]
fn no_interleaving_of_faults_breaks_a_promise() {
    let count = std::env::var("SWEEP_SIM_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000);
    let first = std::env::var("SWEEP_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let broken = sweep(first..first + count, Scenario::drawn);
    for (scenario, report) in &broken {
        println!("seed {} {:?}: {}", scenario.seed, scenario.classes, report.violations.join("; "));
    }
    if let Some((scenario, report)) = broken.first() {
        panic!("{} of {count} interleavings broke a promise; the first: {}", broken.len(), tell(scenario, report));
    }
}
