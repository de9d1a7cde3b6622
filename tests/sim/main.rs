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
