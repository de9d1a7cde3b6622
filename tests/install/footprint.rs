//! What the operator's pod uses, by its control group. `cargo test --test install footprint -- --nocapture` prints the
//! figures of docs/operations.md.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Cluster, LIMIT, wait_for};
use crate::operator::{shell_study, trials};
use crate::*;

/// A file of the control group of the operator's pod; `v1` is its controller and name there.
fn of_cgroup(cluster: &Cluster, v2: &str, v1: (&str, &str)) -> String {
    let uid = pods(cluster)[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    let root = Path::new("/sys/fs/cgroup");
    let (root, name) =
        if root.join("cgroup.controllers").exists() { (root.into(), v2) } else { (root.join(v1.0), v1.1) };
    let found = Command::new("find").arg(&root).args(["-type", "d", "-name", &format!("pod{uid}")]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    std::fs::read_to_string(Path::new(found.lines().next().unwrap()).join(name)).unwrap()
}

/// Bytes of memory that cannot be taken back, and nanoseconds of CPU so far; as a kubelet counts them.
fn usage(cluster: &Cluster) -> (u64, u64) {
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    let of_stat = |text: &str, key: &str| text.lines().find_map(|line| Some(number(line.strip_prefix(key)?)));
    let used = number(&of_cgroup(cluster, "memory.current", ("memory", "memory.usage_in_bytes")));
    let stat = of_cgroup(cluster, "memory.stat", ("memory", "memory.stat"));
    let inactive = of_stat(&stat, "total_inactive_file ").or(of_stat(&stat, "inactive_file ")).unwrap();
    let cpu = of_cgroup(cluster, "cpu.stat", ("cpuacct", "cpuacct.usage"));
    let cpu = of_stat(&cpu, "usage_usec ").map_or_else(|| number(&cpu), |micros| micros * 1000);
    (used.saturating_sub(inactive), cpu)
}

fn figure(cluster: &Cluster, what: &str, window: Duration) -> u64 {
    let (_, before) = usage(cluster);
    std::thread::sleep(window);
    let (memory, after) = usage(cluster);
    let cores = (after - before) as f64 / window.as_nanos() as f64;
    println!("figure: {what}: {} MiB, {:.1} thousandths of a core", memory >> 20, cores * 1000.0);
    memory
}

#[test]
fn an_idle_operator_has_less_than_40_mib() {
    let Some((cluster, _turn)) = empty() else { return };
    make_system_namespace(cluster);
    let team = team(cluster, "busy");
    HELM_4.apply(cluster, "install", &[]);
    leader(cluster);
    let idle = figure(cluster, "idle operator", Duration::from_secs(30));
    assert!(idle < 40 << 20, "{idle} bytes");
    // Fifty reports a second, and a new trial every other second or so.
    let trainer = "i=0; while [ $i -lt 200 ]; do i=$((i+1));
        echo \"{\\\"step\\\": $i, \\\"score\\\": $x}\" >> $SWEEP_METRICS; sleep 0.2; done";
    let mut study = restricted(shell_study("busy", trainer));
    study["spec"]["maxTrials"] = json!(200);
    study["spec"]["parallelism"] = json!(10);
    study["spec"]["pruner"] = json!({"median": {"startupTrials": 2, "warmupSteps": 5}});
    team.apply(&study.to_string());
    wait_for("ten running trials", LIMIT, || {
        let running = trials(&team, "busy").iter().filter(|trial| trial["status"]["phase"] == "Running").count();
        if running >= 10 { Ok(()) } else { Err(running) }
    });
    figure(cluster, "operator with ten trials that report five times a second each", Duration::from_secs(30));
}
