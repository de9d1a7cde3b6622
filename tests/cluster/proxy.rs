//! A faulty connection between an operator and the real API server: delays, refusals, answers that are lost after the
//! write took effect, streams that are cut or go silent.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use kube::Client;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::harness::Cluster;

/// Forwards until it is dropped.
pub struct Proxy {
    /// For operators: no credentials, and the proxy's address.
    pub kubeconfig: PathBuf,
    shared: Shared,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Shared {
    client: Client,
    faulty: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
    /// Writes that took effect.
    writes: Arc<AtomicU64>,
    rng: Arc<Mutex<ChaCha8Rng>>,
}

impl Proxy {
    /// A proxy whose faults are drawn from `seed`; `name` is that of its kubeconfig in `dir`.
    pub fn start(cluster: &Cluster, dir: &Path, seed: u64) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Shared {
            client: runtime.block_on(cluster.client()),
            faulty: Arc::new(AtomicBool::new(true)),
            faults: Arc::default(),
            writes: Arc::default(),
            rng: Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))),
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(forward).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        let kubeconfig = dir.join(format!("proxy-{}.kubeconfig", address.port()));
        let content = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        });
        std::fs::write(&kubeconfig, content.to_string()).unwrap();
        Proxy { kubeconfig, shared, _runtime: runtime }
    }

    /// From now on it only forwards.
    pub fn stop_faults(&self) {
        self.shared.faulty.store(false, Ordering::Relaxed);
    }

    /// How many faults there were.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    /// How many writes got through.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

impl Shared {
    fn below(&self, n: u64) -> u64 {
        self.rng.lock().unwrap().next_u64() % n
    }

    fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

async fn forward(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let is_log = parts.uri.path().ends_with("/log");
    let is_stream = query.contains("watch=true") || is_log;
    let is_write = parts.method != Method::GET && !query.contains("dryRun");
    let faulty = shared.faulty.load(Ordering::Relaxed);
    let draw = if faulty { shared.below(100) } else { 100 };
    shared.faults.fetch_add(u64::from(draw < 16), Ordering::Relaxed);
    match draw {
        0..4 => tokio::time::sleep(shared.millis(200, 3_000)).await,
        4..8 => return refused([500, 503, 429, 504][shared.below(4) as usize]),
        _ => {}
    }
    let mut upstream = http::Request::builder().method(parts.method).uri(parts.uri);
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            upstream = upstream.header(name, value);
        }
    }
    let Ok(upstream) = upstream.body(kube::client::Body::from(body.to_vec())) else {
        return refused(400);
    };
    let answer = match shared.client.send(upstream).await {
        Ok(answer) => answer,
        // The API server is away: so are we.
        Err(_) => return broken(),
    };
    shared.writes.fetch_add(u64::from(is_write && answer.status().is_success()), Ordering::Relaxed);
    let (parts, body) = answer.into_parts();
    let mut frames = body.into_data_stream().map(|frame| frame.map_err(std::io::Error::other)).boxed();
    match draw {
        // It took effect, and the answer says otherwise.
        8..12 if is_write => return refused([500, 504][shared.below(2) as usize]),
        12..16 if !is_stream => return broken(),
        0..40 if is_stream => {
            let after = if is_log { shared.millis(200, 3_000) } else { shared.millis(500, 15_000) };
            let cut = stream::once(async { Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)) });
            frames = frames.take_until(tokio::time::sleep(after)).chain(cut).boxed();
        }
        _ => {}
    }
    let mut response = Response::new(Body::from_stream(frames));
    *response.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    response
}

/// A connection that ends in the middle of its answer.
fn broken() -> Response {
    let begun = Ok(axum::body::Bytes::from_static(b"{\"kind\": "));
    let frames = stream::iter([begun, Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]);
    Body::from_stream(frames).into_response()
}

fn refused(code: u16) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "a fault of the connection", "reason": "InternalError", "code": code});
    (StatusCode::from_u16(code).unwrap(), [("content-type", "application/json")], status.to_string()).into_response()
}
