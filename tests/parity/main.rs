//! The simulated API server answers as the real one does: one script of calls runs on both, and what was answered is
//! compared line by line.

#![allow(clippy::unwrap_used, dead_code, missing_docs)]

#[path = "../sim/api.rs"]
mod api;
#[path = "../sim/cluster.rs"]
mod cluster;
#[path = "../sim/faults.rs"]
mod faults;
#[path = "../cluster/harness.rs"]
mod harness;
#[path = "../sim/promises.rs"]
mod promises;
#[path = "../sim/store.rs"]
mod store;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

const OURS: &str = "/apis/sweep-operator.dev/v1alpha1/namespaces/default";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

/// Makes calls and writes down what was answered.
struct Caller {
    client: Client,
    answers: Vec<String>,
}

impl Caller {
    async fn call(&mut self, what: &str, method: &str, path: &str, kind: &str, body: Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let kind = if kind.is_empty() { "json" } else { kind };
        let request =
            http::Request::builder().method(method).uri(path).header("content-type", format!("application/{kind}"));
        let answer = self.client.request::<Value>(request.body(body).unwrap()).await;
        let (said, object) = match answer {
            Ok(object) => ("ok".to_owned(), object),
            Err(kube::Error::Api(status)) => (format!("{} {}", status.code, status.reason), Value::Null),
            Err(error) => panic!("{what}: {error}"),
        };
        self.answers.push(format!("{what}: {said}"));
        object
    }

    async fn get(&mut self, what: &str, path: &str) -> Value {
        self.call(what, "GET", path, "", Value::Null).await
    }

    async fn post(&mut self, what: &str, path: &str, body: Value) -> Value {
        self.call(what, "POST", path, "", body).await
    }

    async fn merge(&mut self, what: &str, path: &str, body: Value) -> Value {
        self.call(what, "PATCH", path, "merge-patch+json", body).await
    }

    async fn merge_status(&mut self, what: &str, path: &str, body: Value) -> Value {
        self.merge(what, &format!("{path}/status?fieldManager=sweep-operator"), body).await
    }

    async fn delete(&mut self, what: &str, path: &str, body: Value) -> Value {
        self.call(what, "DELETE", path, "", body).await
    }

    fn note(&mut self, what: &str, seen: &Value) {
        self.answers.push(format!("{what}: {seen}"));
    }

    /// Waits until there is nothing at `path`.
    async fn gone(&mut self, what: &str, path: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let request = http::Request::get(path).body(Vec::new()).unwrap();
            match self.client.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                _ => assert!(Instant::now() < end, "{what}: it is still there"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.answers.push(format!("{what}: gone"));
    }

    /// The first `count` events of a watch: type and name, or code. Bookmarks come when they come.
    async fn watch(&mut self, what: &str, path: &str, count: usize) {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let stream = self.client.request_stream(request).await.unwrap();
        let mut lines = std::pin::pin!(stream.lines());
        let mut seen = Vec::new();
        while seen.len() < count {
            let line = tokio::time::timeout(Duration::from_secs(30), lines.try_next()).await.unwrap().unwrap().unwrap();
            let event: Value = serde_json::from_str(&line).unwrap();
            let object = &event["object"];
            match event["type"].as_str().unwrap() {
                "BOOKMARK" => {}
                "ERROR" => seen.push(format!("ERROR {} {}", object["code"], object["reason"])),
                type_ => seen.push(format!("{type_} {}", object["metadata"]["name"])),
            }
        }
        self.answers.push(format!("{what}: {}", seen.join(", ")));
    }
}

fn trial(name: &str, index: u32) -> Value {
    json!({
        "apiVersion": "sweep-operator.dev/v1alpha1",
        "kind": "Trial",
        "metadata": {"name": name, "labels": {"sweep-operator.dev/study": "parity"}},
        "spec": {"study": "parity", "index": index, "assignments": {"lr": "0.5"},
                 "sampler": {"name": "random", "version": 1}, "desiredState": "Running"},
        "status": {"phase": "Failed"},
    })
}

fn study() -> Value {
    json!({
        "apiVersion": "sweep-operator.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": "parity"},
        "spec": {
            "objectives": [{"metric": "score", "direction": "Maximize"}],
            "parameters": [{"name": "lr", "double": {"min": 0, "max": 1}}],
            "maxTrials": 3,
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "trainer", "image": "trainer:1"}]}}}},
        },
    })
}

fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"sweep-operator.dev/study": "parity"}},
        "spec": {"suspend": true, "backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "trainer", "image": "trainer:1"}]}}},
    })
}

async fn script(client: Client) -> Vec<String> {
    let c = &mut Caller { client, answers: Vec::new() };
    let trials = format!("{OURS}/trials");
    let one = format!("{trials}/parity-0000");

    // Creation.
    let list = c.get("an empty list", &format!("{trials}?labelSelector=sweep-operator.dev/study=parity")).await;
    c.note("items", &json!(list["items"].as_array().unwrap().len()));
    let from = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    c.get("nothing there", &one).await;
    let dry = c.post("a dry run", &format!("{trials}?dryRun=All"), trial("parity-0000", 0)).await;
    c.note("its name", &dry["metadata"]["name"]);
    c.get("nothing there after a dry run", &one).await;
    let created = c.post("a creation", &trials, trial("parity-0000", 0)).await;
    c.note("no status is created", &created["status"]["phase"]);
    c.note("its generation", &created["metadata"]["generation"]);
    c.post("the same creation", &trials, trial("parity-0000", 0)).await;

    // Preconditions.
    let uid = created["metadata"]["uid"].clone();
    let version = created["metadata"]["resourceVersion"].clone();
    let status = |version: &Value, message: &str| {
        json!({"metadata": {"uid": uid, "resourceVersion": version},
            "status": {"phase": "Pending", "message": message, "run": {"number": 1, "job": "parity-0000", "jobUid": "u"}}})
    };
    let written = c.merge_status("a status", &one, status(&version, "one")).await;
    c.note("its generation after a status", &written["metadata"]["generation"]);
    c.merge_status("a status at an old version", &one, status(&version, "two")).await;
    let version = written["metadata"]["resourceVersion"].clone();
    let same = c.merge_status("the same status", &one, status(&version, "one")).await;
    c.note("no new version", &json!(same["metadata"]["resourceVersion"] == version));
    let gone = json!({"metadata": {"uid": uid, "resourceVersion": version},
        "status": {"phase": "Running", "message": null, "run": {"jobUid": null}}});
    let next = c.merge_status("another status", &one, gone).await;
    c.note("what is null is gone, what is left out stays", &next["status"]);
    c.merge_status(
        "a status of another UID",
        &one,
        json!({"metadata": {"uid": "another"}, "status": {"phase": "Running"}}),
    )
    .await;
    c.merge_status(
        "a status of nothing",
        &format!("{trials}/parity-0009"),
        json!({"metadata": {"uid": uid}, "status": {"phase": "Running"}}),
    )
    .await;
    let version = next["metadata"]["resourceVersion"].clone();
    let stop = |version: &Value, state: &str| json!({"metadata": {"uid": uid, "resourceVersion": version}, "spec": {"desiredState": state}});
    c.merge("a patch at an old version", &one, stop(&json!("1"), "Stopped")).await;
    c.merge(
        "a patch of another UID",
        &one,
        json!({"metadata": {"uid": "another"}, "spec": {"desiredState": "Stopped"}}),
    )
    .await;
    let stopped = c.merge("a patch", &one, stop(&version, "Stopped")).await;
    c.note("its generation after a patch", &stopped["metadata"]["generation"]);
    c.note("its status stays", &stopped["status"]["phase"]);
    let version = stopped["metadata"]["resourceVersion"].clone();
    let idle = c.merge("a patch of nothing", &one, json!({"spec": {"desiredState": "Stopped"}})).await;
    c.note("no new version", &json!(idle["metadata"]["resourceVersion"] == version));
    c.merge("Stopped is final", &one, stop(&version, "Running")).await;
    let patched = c.merge("a status beside the subresource", &one, json!({"status": {"phase": "Failed"}})).await;
    c.note("is not taken", &patched["status"]["phase"]);

    // Lists and watches.
    c.post("a second Trial", &trials, trial("parity-0001", 1)).await;
    let labelled = c.get("a list by label", &format!("{trials}?labelSelector=sweep-operator.dev/study=parity")).await;
    c.note("items", &json!(labelled["items"].as_array().unwrap().len()));
    let other =
        c.get("a list by another label", &format!("{trials}?labelSelector=sweep-operator.dev/study=other")).await;
    c.note("items", &json!(other["items"].as_array().unwrap().len()));
    let running = "status.phase!=Succeeded,status.phase!=Pruned,status.phase!=Failed,status.phase!=Stopped";
    for (what, selector) in [
        ("the unfinished of the Study", format!("fieldSelector=spec.study=parity,{running}")),
        ("the unfinished of another", format!("fieldSelector=spec.study=other,{running}")),
        ("those of a phase", "fieldSelector=status.phase=Running".to_owned()),
        ("those without a phase", "fieldSelector=status.phase=".to_owned()),
        ("all but those of a phase", "fieldSelector=status.phase!=Running".to_owned()),
        ("one by its name", "fieldSelector=metadata.name=parity-0001".to_owned()),
        (
            "those without a label",
            "labelSelector=sweep-operator.dev/study=parity,!sweep-operator.dev/recorded".to_owned(),
        ),
        ("those without a label that all have", "labelSelector=!sweep-operator.dev/study".to_owned()),
        ("those with a label", "labelSelector=sweep-operator.dev/study".to_owned()),
        ("those with another label", "labelSelector=sweep-operator.dev/study!=parity".to_owned()),
        ("by a field that nobody selects by", "fieldSelector=spec.index=0".to_owned()),
    ] {
        let list = c.get(what, &format!("{trials}?{}", selector.replace(',', "%2C").replace('!', "%21"))).await;
        let names: Vec<&Value> =
            list["items"].as_array().into_iter().flatten().map(|trial| &trial["metadata"]["name"]).collect();
        c.note("they are", &json!(names));
    }
    c.delete("a deletion of another UID", &one, json!({"preconditions": {"uid": "another"}})).await;
    c.delete("a deletion", &one, json!({"preconditions": {"uid": uid}})).await;
    c.gone("the Trial", &one).await;
    c.delete("a deletion of nothing", &one, Value::Null).await;
    let watch = format!("{trials}?watch=true&resourceVersion={from}&timeoutSeconds=20");
    c.watch("all since the empty list", &watch, 6).await;
    c.watch("a watch that comes too late", &format!("{trials}?watch=true&resourceVersion=1&timeoutSeconds=20"), 1)
        .await;

    // Foreground deletion, and what goes with its owner.
    let first = c.post("a Job", JOBS, job("parity-0001")).await;
    c.post("the same Job", JOBS, job("parity-0001")).await;
    let path = format!("{JOBS}/parity-0001");
    let ttl = json!({"metadata": {"uid": first["metadata"]["uid"]}, "spec": {"ttlSecondsAfterFinished": 600}});
    let expiring = c.merge("a TTL", &path, ttl).await;
    c.note("its TTL", &expiring["spec"]["ttlSecondsAfterFinished"]);
    let foreground = |uid: &Value| json!({"propagationPolicy": "Foreground", "preconditions": {"uid": uid}});
    c.delete("a foreground deletion of another UID", &path, foreground(&json!("another"))).await;
    c.delete("a foreground deletion", &path, foreground(&first["metadata"]["uid"])).await;
    c.gone("the Job", &path).await;
    c.post("a Study", &format!("{OURS}/studies"), study()).await;
    let scale = format!("{OURS}/studies/parity/scale");
    let scaled = c.merge("scaling it", &scale, json!({"spec": {"replicas": 3}})).await;
    c.note("its replicas", &scaled["spec"]["replicas"]);
    let owner = c.get("the scaled Study", &format!("{OURS}/studies/parity")).await;
    c.note("its parallelism", &owner["spec"]["parallelism"]);
    c.note("its generation", &owner["metadata"]["generation"]);
    let mut owned = trial("parity-0002", 2);
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "sweep-operator.dev/v1alpha1", "kind": "Study",
        "name": "parity", "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}]);
    let owned = c.post("its Trial", &trials, owned).await;
    let mut owned_job = job("parity-0002");
    owned_job["metadata"]["ownerReferences"] = json!([{"apiVersion": "sweep-operator.dev/v1alpha1", "kind": "Trial",
        "name": "parity-0002", "uid": owned["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}]);
    c.post("its Job", JOBS, owned_job).await;
    c.delete("the Study's deletion", &format!("{OURS}/studies/parity"), Value::Null).await;
    c.gone("its Trial", &format!("{trials}/parity-0002")).await;
    c.gone("its Trial's Job", &format!("{JOBS}/parity-0002")).await;

    // Leases.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "parity"},
        "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}});
    let held = c.post("a Lease", LEASES, lease.clone()).await;
    c.post("the same Lease", LEASES, lease).await;
    let path = format!("{LEASES}/parity");
    let take = |version: &Value| json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "b"}});
    let taken = c.merge("taking it", &path, take(&held["metadata"]["resourceVersion"])).await;
    c.note("the rest stays", &taken["spec"]["leaseDurationSeconds"]);
    c.merge("taking it at an old version", &path, take(&held["metadata"]["resourceVersion"])).await;
    c.delete(
        "its deletion at an old version",
        &path,
        json!({"preconditions": {"resourceVersion": held["metadata"]["resourceVersion"]}}),
    )
    .await;
    c.delete(
        "its deletion",
        &path,
        json!({"preconditions": {"resourceVersion": taken["metadata"]["resourceVersion"]}}),
    )
    .await;
    c.delete("the second Trial's deletion", &format!("{trials}/parity-0001"), Value::Null).await;
    c.gone("the second Trial", &format!("{trials}/parity-0001")).await;
    std::mem::take(&mut c.answers)
}

fn simulated() -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Mutex::new(store::Store::new(Instant::now(), promises::Promises::default())));
        // What is older than the first revision has been compacted away.
        store.lock().unwrap().compacted = 2;
        let seed = store.lock().unwrap().create(
            store::Actor::User,
            "configmaps",
            json!({"metadata": {"name": "first"}}),
            false,
        );
        seed.unwrap();
        let cluster =
            Arc::new(Mutex::new(cluster::Cluster::new(0, cluster::Weather { steps: 1, ..Default::default() })));
        let work = tokio::spawn(cluster::work(store.clone(), cluster.clone()));
        let faults = Arc::new(Mutex::new(faults::Faults::new(0, Vec::new())));
        let api = api::Api::new(store, cluster, faults, "parity");
        let answers = script(api.client()).await;
        work.abort();
        answers
    })
}

fn real() -> Vec<String> {
    let server = harness::Cluster::without_node();
    server.install_crds();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { script(server.client().await).await })
}

#[test]
fn the_simulated_api_server_answers_as_the_real_one() {
    let (simulated, real) = (simulated(), real());
    assert!(real.len() > 60, "{}", real.len());
    for (simulated, real) in simulated.iter().zip(&real) {
        println!("{real}");
        assert_eq!(simulated, real, "the simulated one, then the real one");
    }
    assert_eq!(simulated.len(), real.len());
}
