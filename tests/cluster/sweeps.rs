//! Whole sweeps on the real cluster.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{LIMIT, require_node, wait_for};
use crate::operator::*;

#[test]
fn the_digits_are_swept_with_gpus_and_the_best_is_kept() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    cluster.set_capacity("sweep.test/digits-gpu", 2);
    let namespace = cluster.namespace("digits");
    let _operator = Operator::start(cluster, &namespace);
    let mut study = example("study.yaml");
    study["spec"]["gpu"]["resource"] = json!("sweep.test/digits-gpu");
    study["spec"]["maxTrials"] = json!(16);
    namespace.apply(&study.to_string());

    wait_for_message(&namespace, "digits", "1 of 3 trials waits: 0/1 nodes have a free sweep.test/digits-gpu");
    namespace.kubectl_ok(&["wait", "--for=condition=Complete", "study/digits", "--timeout=240s"]);

    let study = namespace.get(&["study", "digits"]).unwrap();
    let status = &study["status"];
    let trials = trials(&namespace, "digits");
    assert_eq!(trials.len(), 16);
    assert_eq!(status["progress"], "16/16");
    assert_eq!(status["lastIndex"], 15);
    let best = status["best"]["objectives"][0]["value"].as_f64();
    assert_eq!(best, best_of(&trials), "status.best is the best over the Trials");
    assert!(best > Some(0.95), "{best:?}");

    let name = status["best"]["trial"].as_str().unwrap();
    let log = namespace.kubectl_ok(&["logs", &format!("job/{name}"), "-c", "trainer"]);
    let logged = log.lines().last().unwrap();
    let value =
        logged.split("accuracy ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|v| v.parse::<f64>().ok());
    assert_eq!(value, best, "the trainer's own log says {logged:?}");
    let map = namespace.get(&["configmap", "digits-best"]).unwrap();
    assert_eq!(map["data"], status["best"]["assignments"]);

    let pruned: Vec<&Value> = trials.iter().filter(|trial| trial["status"]["phase"] == "Pruned").collect();
    assert!(!pruned.is_empty(), "the forecast stops losing trials");
    for trial in pruned {
        let why = trial["spec"]["stop"]["message"].as_str().unwrap();
        assert!(why.contains("which would become") && why.contains("worse than"), "{why}");
        assert_eq!(trial["spec"]["stop"]["evidence"]["pruner"], "forecast", "{trial:#}");
        assert!(trial["status"]["message"].as_str().unwrap().contains(why));
        assert!(
            trial["status"]["logTail"].as_str().is_some_and(|tail| tail.contains("epoch")),
            "its log is kept: {trial:#}"
        );
        let job = namespace.get(&["job", trial["metadata"]["name"].as_str().unwrap()]);
        assert_eq!(job, None, "its Job is gone");
    }
    let table = namespace.kubectl_ok(&["get", "swp,swt"]);
    assert!(table.contains("16/16") && table.contains("Complete") && table.contains("Pruned"), "{table}");

    namespace.kubectl_ok(&["delete", "study", "digits", "--cascade=foreground", "--timeout=120s"]);
    wait_for("empty namespace", LIMIT, || {
        let left = namespace.kubectl_ok(&["get", "studies,trials.sweep-operator.dev,jobs,pods", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(namespace.get(&["configmap", "digits-best"]), None);
}

#[test]
fn hyperband_deletes_losing_jobs_at_their_rungs_while_they_run() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    cluster.set_capacity("sweep.test/hyperband-gpu", 3);
    let namespace = cluster.namespace("hyperband");
    let _operator = Operator::start(cluster, &namespace);
    let mut study = example("study-hyperband.yaml");
    study["spec"]["gpu"] = json!({"count": 1, "resource": "sweep.test/hyperband-gpu"});
    study["spec"]["maxTrials"] = json!(18);
    namespace.apply(&study.to_string());
    let study = wait_for_end(&namespace, "digits-hyperband");

    assert_eq!(study["status"]["trials"]["failed"], 0, "{study:#}");
    let trials = trials(&namespace, "digits-hyperband");
    let pruned: Vec<&Value> = trials.iter().filter(|trial| trial["status"]["phase"] == "Pruned").collect();
    assert!(pruned.len() >= 4, "most trials end at a rung: {}", pruned.len());
    for trial in &pruned {
        let rung = trial["spec"]["stop"]["step"].as_u64().unwrap();
        assert!([1, 3, 9].contains(&rung), "{trial:#}");
        let bracket = trial["spec"]["bracket"].as_u64().unwrap();
        assert!(rung >= 3_u64.pow(bracket as u32), "bracket {bracket} starts later: {trial:#}");
    }
    let early = pruned.iter().filter(|trial| trial["status"]["objectives"][0]["step"].as_u64() < Some(27)).count();
    assert!(early >= 3, "Jobs are deleted while they run, not at their end: {early}");
    assert_eq!(study["status"]["best"]["objectives"][0]["value"].as_f64(), best_of(&trials));
}

#[test]
fn sweep_run_and_the_operator_propose_the_same() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("same");
    let _operator = Operator::start(cluster, &namespace);
    let mut study = shell_study("same", "echo \"score=$x\"");
    study["spec"]["metrics"] = json!({"stdout": {}});
    // One after the other: what a model has learned does not depend on who was faster.
    study["spec"]["sampler"] = json!({"auto": {}});
    study["spec"]["parallelism"] = json!(1);
    study["spec"]["parameters"] = example("study.yaml")["spec"]["parameters"].clone();
    let parameters = study["spec"]["parameters"].as_array_mut().unwrap();
    parameters.push(json!({"name": "x", "double": {"min": 0, "max": 1}}));
    study["spec"]["maxTrials"] = json!(12);
    namespace.apply(&study.to_string());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("study.json");
    std::fs::write(&file, study.to_string()).unwrap();
    let run = Command::new(SWEEP).arg("run").arg(&file).arg("--dir").arg(dir.path().join("run")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let study = wait_for_end(&namespace, "same");
    assert_eq!(study["status"]["sampler"], "auto: gp, after 3 trials of sobol");
    for trial in trials(&namespace, "same") {
        let name = trial["metadata"]["name"].as_str().unwrap();
        let local = std::fs::read_to_string(dir.path().join(format!("run/trials/{name}.yaml"))).unwrap();
        let local: Value = serde_yaml::from_str(&local).unwrap();
        assert_eq!(local["spec"]["assignments"], trial["spec"]["assignments"], "{name}");
        let value = |trial: &Value| trial["status"]["objectives"][0]["value"].as_f64();
        assert_eq!(value(&local), value(&trial), "{name}");
    }
}

#[test]
fn an_operator_that_is_killed_again_and_again_loses_nothing() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("killed");
    let mut operator = Operator::start(cluster, &namespace);
    let mut study = shell_study(
        "killed",
        "for step in 1 2 3; do echo \"{\\\"step\\\": $step, \\\"score\\\": $x}\" >> $SWEEP_METRICS; sleep 0.3; done",
    );
    study["spec"]["maxTrials"] = json!(14);
    study["spec"]["parallelism"] = json!(3);

    // Seen from outside: every Job that ever existed, and how many had not ended at the same time.
    let mut watch = cluster
        .kubectl_command()
        .args(["-n", &namespace.name, "get", "jobs", "--watch", "--output-watch-events", "-o"])
        .arg("jsonpath={.type} {.object.metadata.name} {.object.metadata.uid} {.object.status.conditions[*].type}{\"\\n\"}")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let recorder = std::thread::spawn(move || {
        let (mut unfinished, mut most, mut uids) = (BTreeMap::new(), 0, BTreeMap::<String, Vec<String>>::new());
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ').map(str::to_owned);
            let (Some(event), Some(name), Some(uid)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let ended = words.any(|condition| condition == "Complete" || condition == "Failed");
            if event == "DELETED" || ended {
                unfinished.remove(&uid);
            } else {
                unfinished.insert(uid.clone(), ());
            }
            most = most.max(unfinished.len());
            let known = uids.entry(name).or_default();
            if !known.contains(&uid) {
                known.push(uid);
            }
        }
        (most, uids)
    });
    namespace.apply(&study.to_string());
    let end = Instant::now() + LIMIT * 2;
    let mut kills = 0;
    loop {
        // Kills fall anywhere in the operator's work; only their spacing is chosen.
        std::thread::sleep(Duration::from_millis(1500));
        operator.kill_and_restart();
        kills += 1;
        let study = namespace.get(&["study", "killed"]).unwrap();
        let finished =
            trials(&namespace, "killed").iter().filter(|trial| trial["status"]["completionTime"].is_string()).count();
        if finished >= 12 || study["status"]["completionTime"].is_string() {
            break;
        }
        assert!(Instant::now() < end, "not done after {kills} kills: {:#}", study["status"]);
    }
    let study = wait_for_end(&namespace, "killed");
    let trials = trials(&namespace, "killed");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let (most, jobs) = recorder.join().unwrap();

    assert!(kills >= 3, "{kills}");
    assert_eq!(trials.len(), 14, "{study:#}");
    assert!(most <= 3, "never more than parallelism unfinished Jobs, but {most}");
    assert_eq!(study["status"]["trials"]["succeeded"], 14);
    assert_eq!(study["status"]["best"]["objectives"][0]["value"].as_f64(), best_of(&trials));
    for trial in &trials {
        let run = &trial["status"]["run"];
        let name = run["job"].as_str().unwrap();
        assert_eq!(jobs[name], [run["jobUid"].as_str().unwrap()], "one Job for the run that counts: {trial:#}");
        assert_eq!(run["number"], 1, "nothing ran twice: {trial:#}");
    }
    assert_eq!(jobs.len(), 14, "no strays");
    let times: Vec<&str> = trials.iter().map(|trial| trial["status"]["completionTime"].as_str().unwrap()).collect();
    let distinct: std::collections::BTreeSet<&&str> = times.iter().collect();
    assert_eq!(distinct.len(), times.len(), "completion times are distinct");
}

/// From the line that lost to the deletion of its Job, over all prunings of a sweep: prints the figures for docs/benchmarks.md.
#[test]
fn losing_jobs_are_deleted_soon_after_the_line_that_lost_and_their_gpus_are_used_again() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    cluster.set_capacity("sweep.test/latency-gpu", 4);
    let namespace = cluster.namespace("latency");
    let _operator = Operator::start(cluster, &namespace);
    // Each trial rises evenly, from where nobody else stands, in 27 steps; it prints when it wrote which.
    let mut study = shell_study(
        "latency",
        "quality=$((SWEEP_TRIAL_INDEX * 10 % 27)); step=0; while [ $step -lt 27 ]; do step=$((step + 1)); sleep 0.5; echo \"$step $(date +%s%N)\"; \
         echo \"{\\\"step\\\": $step, \\\"score\\\": $((quality * 100 + step))}\" >> $SWEEP_METRICS; done",
    );
    study["spec"]["gpu"] = json!({"count": 1, "resource": "sweep.test/latency-gpu"});
    study["spec"]["maxTrials"] = json!(27);
    study["spec"]["parallelism"] = json!(4);
    study["spec"]["pruner"] = json!({"hyperband": {"maxSteps": 27, "reductionFactor": 3}});
    let (sender, deletions) = channel();
    let mut watch = cluster
        .kubectl_command()
        .args(["-n", &namespace.name, "get", "jobs", "--watch", "-o"])
        .arg("jsonpath={.metadata.name} {.metadata.deletionTimestamp}{\"\\n\"}")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let recorder = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some((name, at)) = line.split_once(' ')
                && !at.is_empty()
            {
                let _ = sender.send((name.to_owned(), std::time::SystemTime::now()));
            }
        }
    });
    namespace.apply(&study.to_string());
    let study = wait_for_end(&namespace, "latency");
    watch.kill().unwrap();
    watch.wait().unwrap();
    recorder.join().unwrap();
    let mut deleted = BTreeMap::new();
    for (name, at) in deletions {
        deleted.entry(name).or_insert(at);
    }
    let trials = trials(&namespace, "latency");
    assert_eq!((trials.len(), study["status"]["trials"]["failed"].as_u64()), (27, Some(0)), "{study:#}");
    let mut starts: Vec<jiff::Timestamp> =
        trials.iter().map(|trial| trial["status"]["startTime"].as_str().unwrap().parse().unwrap()).collect();
    starts.sort();
    let (mut took, mut reused) = (Vec::new(), Vec::new());
    for trial in trials.iter().filter(|trial| trial["status"]["phase"] == "Pruned") {
        let step = trial["spec"]["stop"]["step"].as_u64().unwrap();
        let printed = trial["status"]["logTail"].as_str().unwrap();
        let line = printed.lines().find_map(|line| line.strip_prefix(&format!("{step} ")));
        let reported: u64 = line.unwrap_or_else(|| panic!("{trial:#}")).parse().unwrap();
        let reported = std::time::UNIX_EPOCH + Duration::from_nanos(reported);
        let at = deleted[trial["metadata"]["name"].as_str().unwrap()];
        took.push(at.duration_since(reported).unwrap());
        let at = jiff::Timestamp::try_from(at).unwrap();
        let next = starts.partition_point(|start| *start <= at);
        reused.extend(starts.get(next).map(|start| start.duration_since(at).unsigned_abs()));
        let end = trial["status"]["objectives"][0]["step"].as_u64();
        assert!(end < Some(27), "its Job is deleted while it runs: {trial:#}");
    }
    assert!(took.len() >= 8, "most trials end at a rung: {}", took.len());
    assert_eq!(study["status"]["best"]["objectives"][0]["value"].as_f64(), best_of(&trials));
    took.sort();
    reused.sort();
    let (middle, most) = (took[took.len() / 2], took[took.len() - 1]);
    eprintln!(
        "from the line that lost to the deletion of its Job, as a watcher sees it, {} prunings: median {middle:?}, most {most:?}",
        took.len()
    );
    let (middle, most) = (reused[reused.len() / 2], reused[reused.len() - 1]);
    eprintln!("from there to the start of another trainer: median {middle:?}, most {most:?}");
}

#[test]
fn the_newest_finished_jobs_are_kept_and_all_results() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("history");
    let _operator = Operator::start(cluster, &namespace);
    let mut study = shell_study("kept", "echo \"{\\\"score\\\": $x}\" >> $SWEEP_METRICS");
    study["spec"]["maxTrials"] = json!(5);
    study["spec"]["parallelism"] = json!(1);
    study["spec"]["finishedJobsHistoryLimit"] = json!(2);
    // The first is the best: its Job stays as long as its Study runs.
    study["spec"]["initialAssignments"] = json!([0.9, 0.1, 0.2, 0.3, 0.4].map(|x| json!({"x": x.to_string()})));
    namespace.apply(&study.to_string());
    wait_for_end(&namespace, "kept");
    let jobs = || {
        let list = namespace.get(&["jobs"]).unwrap();
        let name = |job: &Value| job["metadata"]["name"].as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    wait_for("the two newest Jobs, and no other", LIMIT, || match jobs() {
        jobs if jobs == ["kept-0003", "kept-0004"] => Ok(()),
        jobs => Err(jobs),
    });
    let trials = trials(&namespace, "kept");
    assert!(trials.len() == 5 && trials.iter().all(|trial| trial["status"]["phase"] == "Succeeded"), "{trials:#?}");
    assert_eq!(namespace.get(&["study", "kept"]).unwrap()["status"]["best"]["trial"], "kept-0000");
    // More are kept: none comes back, and the next ones stay.
    let edit = json!({"spec": {"finishedJobsHistoryLimit": 3, "maxTrials": 6}}).to_string();
    namespace.kubectl_ok(&["patch", "study", "kept", "--type=merge", "-p", &edit]);
    wait_for("three Jobs", LIMIT, || match jobs() {
        jobs if jobs == ["kept-0003", "kept-0004", "kept-0005"] => Ok(()),
        jobs => Err(jobs),
    });
}

/// An event file of PyTorch's writer: an accuracy at five steps, the first of them in its first 300 bytes.
const EVENTS: &[u8] = include_bytes!("../data/events/pytorch/events.out.tfevents.1700000000.host");

/// A shell command that prints these bytes.
fn printing(bytes: &[u8]) -> String {
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!("printf '{octal}'")
}

#[test]
fn event_files_are_read_in_the_folder_of_ours_and_in_one_that_the_trainer_is_fixed_to() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("events");
    cluster.enforce_restricted(&namespace.name);
    let _operator = Operator::start(cluster, &namespace);
    let (first, rest) = (printing(&EVENTS[..300]), printing(&EVENTS[300..609]));
    let mounted = json!([{"name": "work", "mountPath": "/app", "subPath": "w"}]);
    for (name, metrics, folder, mounts) in [
        ("ours", json!({"tensorBoard": {}}), "\"$SWEEP_METRICS\"", json!([])),
        ("fixed", json!({"tensorBoard": {"path": "/app/logs"}}), "/app/logs", json!([])),
        ("mounted", json!({"tensorBoard": {"path": "/app/"}}), "/app", mounted),
    ] {
        let script =
            format!("cd {folder}; {first} > events.out.tfevents.1.h; sleep 1; {rest} >> events.out.tfevents.1.h");
        let mut study = restricted_study(name, &script);
        study["spec"]["objectives"][0]["metric"] = json!("val/accuracy");
        study["spec"]["metrics"] = metrics;
        study["spec"]["maxTrials"] = json!(2);
        let pod = &mut study["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        pod["volumes"] = json!([{"name": "work", "emptyDir": {}}]);
        pod["containers"][0]["volumeMounts"] = mounts;
        namespace.apply(&study.to_string());
    }
    for name in ["ours", "fixed", "mounted"] {
        let study = wait_for_end(&namespace, name);
        assert_eq!(study["status"]["trials"]["succeeded"], 2, "{name}: {:#}", study["status"]);
        for trial in trials(&namespace, name) {
            let status = &trial["status"];
            assert_eq!(status["observations"][0]["steps"], json!([1, 2, 3, 4, 5]), "{name}: {status:#}");
            assert_eq!(status["objectives"][0]["value"], 0.8, "{name}: {status:#}");
            assert_eq!(status["metrics"][0]["name"], "loss/train", "{name}: {status:#}");
        }
    }
}

#[test]
fn a_page_of_metrics_is_read_and_a_trial_that_is_losing_there_is_pruned_while_it_runs() {
    let cluster = prepared();
    if !require_node(cluster) {
        return;
    }
    let namespace = cluster.namespace("pages");
    cluster.enforce_restricted(&namespace.name);
    let _operator = Operator::start(cluster, &namespace);
    // Serves until it has been at epoch 4 for two seconds.
    let script = r#"exec perl -e '
        my ($x, $port, $begin) = ($ENV{x}, $ENV{SWEEP_METRICS_PORT}, time);
        socket(my $server, 2, 1, 6) or die $!;
        bind($server, pack("S n a4 x8", 2, $port, "\0" x 4)) or die $!;
        listen($server, 5) or die $!;
        while (time - $begin < 10) {
            my $ready = ""; vec($ready, fileno($server), 1) = 1;
            next unless select($ready, undef, undef, 0.2);
            accept(my $client, $server) or next;
            sysread($client, my $request, 4096);
            my $epoch = 1 + int((time - $begin) / 2.5);
            $epoch = 4 if $epoch > 4; # asked in the very second of the end
            my $score = $x + $epoch / 1000;
            syswrite($client, "HTTP/1.0 200 OK\r\n\r\nepoch_total $epoch\nscore $score\nlr 0.1\n");
            close $client;
        }'"#;
    let mut study = restricted_study("pages", script);
    study["spec"]["metrics"] = json!({"prometheus": {"port": 8000}});
    study["spec"]["pruner"] = json!({"median": {"startupTrials": 1}});
    study["spec"]["initialAssignments"] = json!([{"x": "0.9"}, {"x": "0.1"}]);
    study["spec"]["maxTrials"] = json!(2);
    study["spec"]["parallelism"] = json!(1);
    namespace.apply(&study.to_string());
    let study = wait_for_end(&namespace, "pages");
    let trials = trials(&namespace, "pages");
    let status = &trials[0]["status"];
    assert_eq!(status["phase"], "Succeeded", "{:#} {status:#}", study["status"]);
    let steps = status["observations"][0]["steps"].as_array().unwrap();
    assert!(steps.len() >= 3 && steps[0] == 1, "{status:#}");
    let value = status["objectives"][0]["value"].as_f64().unwrap();
    assert!(value > 0.9 && value <= 0.904, "{status:#}");
    assert_eq!(status["metrics"][0]["name"], "lr", "{status:#}");
    assert_eq!(trials[1]["status"]["phase"], "Pruned", "{:#}", trials[1]["status"]);
}

/// A Study of a shell script that is let into a restricted namespace.
fn restricted_study(name: &str, script: &str) -> Value {
    let mut study = shell_study(name, script);
    let pod = &mut study["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    pod["securityContext"] =
        json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}});
    pod["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    study
}
