//! The promises of DESIGN §6 under the faults that clusters have: a simulated API server, cluster and time.
//!
//! A failure prints its seed and what happened. That interleaving again, and no other:
//! `SWEEP_SIM_SEED=<seed> SWEEP_SIM_COUNT=1 cargo test --test sim no_interleaving`. More of them: `make soak`.

// Helpers of tests may unwrap.
#![allow(clippy::unwrap_used)]

mod api;
mod cluster;
mod faults;
#[path = "../install/permissions.rs"]
mod permissions;
mod promises;
mod run;
mod store;
mod table;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::Removed;
use cluster::Weather;
use run::{Edit, HYPERBAND, Report, Scenario, run};

fn tell(scenario: &Scenario, report: &Report) -> String {
    format!(
        "seed {}: {} violations\n{}\n\n{}",
        scenario.seed,
        report.violations.len(),
        report.violations.join("\n"),
        report.trace.join("\n")
    )
}

/// Runs these scenarios on all cores; every one with its report, in order.
fn run_all(scenarios: Vec<Scenario>) -> Vec<(Scenario, Report)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut report = run(scenario);
                    if report.violations.is_empty() {
                        report.trace.clear();
                    }
                    done.lock().unwrap().push((scenario.clone(), report));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(scenario, _)| scenario.seed);
    done
}

/// Fails with the whole story of the first that broke a promise.
fn expect_promises_kept(reports: &[(Scenario, Report)]) {
    let broken: Vec<_> = reports.iter().filter(|(_, report)| !report.violations.is_empty()).collect();
    for (scenario, report) in &broken {
        println!("{scenario:?}: {}", report.violations.join("; "));
    }
    if let Some((scenario, report)) = broken.first() {
        panic!(
            "{} of {} interleavings broke a promise; the first: {}",
            broken.len(),
            reports.len(),
            tell(scenario, report)
        );
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Interleavings drawn from seeds: 2,000 of them, or as the environment says.
fn drawn() -> Vec<(Scenario, Report)> {
    let first = from_environment("SWEEP_SIM_SEED").unwrap_or(0);
    let count = from_environment("SWEEP_SIM_COUNT").unwrap_or(2_000);
    run_all((first..first + count).map(Scenario::drawn).collect())
}

#[test]
fn no_interleaving_of_faults_breaks_a_promise() {
    let reports = drawn();
    expect_promises_kept(&reports);
    if let Some(path) = std::env::var_os("SWEEP_SIM_TABLE") {
        std::fs::write(path, table::markdown(&reports)).unwrap();
    }
}

/// The operator is killed after every n-th call, for every n that a study takes.
fn killed() -> Vec<(Scenario, Report)> {
    let scenario = |n: Option<u64>, starts_told| {
        let weather = Weather { disrupted: 20, lost: 0, failing: 10, steps: 6 };
        let calm = Scenario::calm(n.unwrap_or(0));
        Scenario { pruner: Some(HYPERBAND), weather, parallelism: 3, kill_after: n, starts_told, ..calm }
    };
    let calls = run(&scenario(None, 10)).calls;
    assert!(calls > 50, "{calls}");
    run_all((1..=calls).flat_map(|n| [0, 10].map(|starts_told| scenario(Some(n), starts_told))).collect())
}

#[test]
fn an_operator_that_is_killed_after_any_call_breaks_no_promise() {
    let reports = killed();
    expect_promises_kept(&reports);
    println!(
        "figure: `an_operator_that_is_killed_after_any_call_breaks_no_promise`: {} studies, each with every operator killed after its n-th call, for n from 1 to {}",
        reports.len(),
        reports.len() / 2
    );
}

/// Every edit of a Study at eight moments of it.
fn edited() -> Vec<(Scenario, Report)> {
    let edits: [&[(u64, Edit)]; 8] = [
        &[(0, Edit::Suspend), (60, Edit::Resume)],
        &[(0, Edit::Suspend), (2, Edit::Resume)],
        &[(0, Edit::Parallelism(1))],
        &[(0, Edit::Parallelism(5)), (9, Edit::Parallelism(0)), (60, Edit::Parallelism(2))],
        &[(0, Edit::MaxTrials(2)), (90, Edit::MaxTrials(8))],
        &[(0, Edit::MaxTrials(12))],
        &[(0, Edit::EasyTarget)],
        &[(0, Edit::Delete)],
    ];
    let mut scenarios = Vec::new();
    for edits in edits {
        for start in [0, 1, 3, 7, 15, 30, 50, 80] {
            let at = |(after, edit): &(u64, Edit)| (Duration::from_millis((start + after) * 1000 + 137), *edit);
            let seed = scenarios.len() as u64;
            let edits = edits.iter().map(at).collect();
            scenarios.push(Scenario {
                edits,
                pruner: seed.is_multiple_of(2).then_some(HYPERBAND),
                ..Scenario::calm(seed)
            });
        }
    }
    run_all(scenarios)
}

#[test]
fn no_edit_of_a_study_at_any_time_breaks_a_promise() {
    let reports = edited();
    expect_promises_kept(&reports);
    println!(
        "figure: `no_edit_of_a_study_at_any_time_breaks_a_promise`: 8 edits at 8 moments, {} studies",
        reports.len()
    );
}

/// The net holds: with a protection taken out on the way to the API server, a broken promise is seen.
#[test]
fn a_protection_that_is_taken_out_is_missed() {
    for removed in [Removed::UidPrecondition, Removed::ConflictCheck, Removed::LiveList, Removed::RecordFirst] {
        let scenario = |seed| Scenario { removed: Some(removed), ..Scenario::drawn(seed) };
        let found = (0..500).map(scenario).find_map(|scenario| {
            let report = run(&scenario);
            Some((scenario.seed, report.violations.first()?.clone()))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("nobody misses {removed:?}"));
        println!(
            "figure: `a_protection_that_is_taken_out_is_missed`: without {removed:?}, seed {seed} breaks {violation}"
        );
    }
}

/// Kube's queues are hash maps: which of two reconciles of one instant comes first is not the seed's to say, so that a seed
/// has a few interleavings. All else is: each comes back when the seed is run again.
#[test]
fn the_interleaving_of_a_seed_comes_back() {
    for seed in 0..20 {
        let scenario = Scenario::drawn(seed);
        let mut traces = std::collections::HashSet::new();
        let comes_back = (0..10).any(|_| !traces.insert(run(&scenario).trace));
        assert!(comes_back, "seed {seed} has given {} interleavings", traces.len());
    }
}

#[test]
fn a_trial_of_a_hundred_reports_costs_at_most_eight_writes() {
    let weather = Weather { steps: 100, ..Weather::default() };
    let report = run(&Scenario { weather, trials: 10, window: Duration::from_secs(3600), ..Scenario::calm(1) });
    assert!(report.violations.is_empty(), "{}", report.violations.join("; "));
    println!("figure: `a_trial_of_a_hundred_reports_costs_at_most_eight_writes`: 10 trials cost {:?}", report.writes);
    let of_trials: u64 = report.writes.iter().filter(|(kind, _)| **kind != "studies").map(|(_, n)| n).sum();
    assert!(of_trials <= 80, "{:?}", report.writes);
}

/// The simulator sees what no cluster shows in a minute: conflicts, lost answers, two leaders.
#[test]
fn no_fault_makes_the_operator_ask_for_what_docs_permissions_md_does_not_have() {
    let reports = run_all((0..300).map(Scenario::drawn).collect());
    let documented = permissions::documented();
    let asked: std::collections::BTreeSet<_> = reports.iter().flat_map(|(_, report)| &report.asked).collect();
    let without: Vec<_> = asked.iter().filter(|right| !documented.contains(**right)).collect();
    assert!(without.is_empty(), "not in docs/permissions.md: {without:?}");
    assert!(asked.len() > 15, "{asked:?}");
}
