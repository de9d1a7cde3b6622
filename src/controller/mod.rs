//! The Kubernetes shell: a controller of Studies and one of Trials, each a pipeline of observe, validate, decide, build,
//! apply, status; Trials that start, and those that were told to stop, have queues of their own. What a sweep does next is decided in [`crate::core`], what becomes of a Trial in [`crate::core::life`], which
//! sees its Job and pods as [`workload`] tells; the rest of this folder only looks and writes.

mod calls;
mod context;
mod error;
mod events;
mod follow;
mod health;
mod index;
mod lease;
mod look;
mod memory;
mod objects;
mod server;
mod slim;
mod study;
mod telemetry;
mod trial;
mod untold;
mod watch;
mod workload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryFutureExt};
use http::header::{HeaderValue, USER_AGENT};
use jiff::Timestamp;
use kube::runtime::controller::{Action, Config, ReconcileReason, ReconcileRequest, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};

use crate::api::FIELD_MANAGER;
use crate::job::SidecarSettings;
use context::Context;
pub use error::Error;
use health::{Health, SILENCE};
use index::Indexed;
pub use lease::LeaseSettings;
use watch::Name;

/// What the operator was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespaces to serve; all where empty.
    pub namespaces: Vec<String>,
    /// The sidecar of trials with `metrics: {file: {}}`.
    pub sidecar: SidecarSettings,
    /// Whether `bestConfigMap` is kept; without it nothing is asked of ConfigMaps.
    pub keeps_best: bool,
    /// Where health and metrics are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// How many reconciles of each controller run at once.
    pub concurrency: u16,
    /// How many logs are streamed at once, a connection each; those beyond are read every 10 s.
    pub max_log_streams: usize,
    /// How many starts of a Study's Trials are told at once; those that follow within seconds are told later.
    pub starts_told: u32,
    /// The Lease without which nothing is reconciled; None where this is the only operator for sure.
    pub lease: Option<LeaseSettings>,
    /// What time it is: tests have a clock of their own.
    pub clock: fn() -> Timestamp,
}

/// Runs the operator until it gets SIGTERM or SIGINT.
///
/// # Errors
/// No cluster can be reached, the port is taken, or a controller ended.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut config = kube::Config::infer().await.map_err(Error::NoCluster)?;
    // Retried POSTs would hide a conflict from us, and hold a reconcile for minutes.
    config.default_retry = false;
    // Log streams and watches may be silent for long; every other call has its own limit.
    config.read_timeout = None;
    // What audit logs name, and managed fields as the manager of what is written.
    let agent = format!("{FIELD_MANAGER}/{}", env!("CARGO_PKG_VERSION"));
    config.headers.extend(HeaderValue::try_from(agent).map(|agent| (USER_AGENT, agent)));
    let client = Client::try_from(config)?;
    let lease = settings.lease.clone();
    tokio::select! {
        () = terminated() => tracing::info!("asked to end"),
        error = operate(client.clone(), settings) => return Err(error),
    }
    if let Some(lease) = lease {
        lease::release(&client, &lease).await;
    }
    Ok(())
}

/// Serves Studies through `client`, for as long as all parts go on; why they did not.
pub async fn operate(client: Client, settings: Settings) -> Error {
    let (leads, leading) = tokio::sync::watch::channel(settings.lease.is_none());
    let health = Arc::new(Health::default());
    let telemetry = Arc::new(telemetry::Telemetry::new(leading.clone(), health.clone()));
    let client = calls::noted(client, health.clone(), telemetry.clone());
    let scopes: Vec<Option<String>> = match settings.namespaces.as_slice() {
        [] => vec![None],
        namespaces => namespaces.iter().cloned().map(Some).collect(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(listen) = settings.listen {
        tasks.spawn(server::serve(listen, telemetry.clone(), health.clone()));
    }
    for scope in scopes {
        let shared = (telemetry.clone(), health.clone(), leading.clone());
        tasks.spawn(run_scope(client.clone(), settings.clone(), scope, shared));
    }
    match settings.lease {
        Some(lease) => drop(tasks.spawn(lease::Election::new(&client, lease, settings.clock).run(leads))),
        // Nobody else can come to lead.
        None => drop(leads),
    }
    tasks.spawn(end_when_wedged(health));
    match tasks.join_next().await {
        Some(Ok(error)) => error,
        _ => Error::Ended("a controller"),
    }
}

/// A process that stands still is worth nothing: a new one is.
async fn end_when_wedged(health: Arc<Health>) -> Error {
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        if let Some(what) = health.wedged(SILENCE) {
            return Error::Wedged(what);
        }
    }
}

/// What all scopes share: metrics, health, and whether this operator leads.
type Shared = (Arc<telemetry::Telemetry>, Arc<Health>, tokio::sync::watch::Receiver<bool>);

/// Both controllers, for one namespace or all.
async fn run_scope(client: Client, settings: Settings, namespace: Option<String>, shared: Shared) -> Error {
    let (telemetry, health, mut leading) = shared;
    let concurrency = settings.concurrency;
    let (index, memories, queues) = (index::Index::default(), Arc::default(), watch::Queues::new());
    let (names, watches) = watch::start(&client, namespace.as_deref(), &index, &memories, &queues, &health);
    let untold = untold::Untold::default();
    telemetry.counts(index.clone(), untold.clone());
    let q = queues.clone();
    let context = Arc::new(Context::new(client, settings, (index, memories, queues, untold), telemetry, health));
    let (studies, trials) = (names.studies, names.trials);
    let c = || context.clone();
    let studies = control(studies, q.studies.stream(), concurrency, c(), "study", study::reconcile);
    let starts = control(trials.clone(), q.starts.stream(), concurrency, c(), "start", trial::places::reconcile);
    // One Study that starts a thousand Trials does not keep another from freeing its GPUs.
    let stops = control(trials.clone(), q.stops.stream(), concurrency, c(), "stop", trial::reconcile);
    let trials = control(trials, q.trials.stream(), concurrency, c(), "trial", trial::reconcile_unless_stopped);
    let ready = context.clone();
    let controllers = async move {
        // A pass over half-filled stores would take what it does not see for gone.
        ready.index.wait_until_complete().await;
        // An error means that nobody will ever say so: the election has ended, and with it the process.
        if leading.wait_for(|leads| *leads).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::select! {
            () = studies => {}
            () = trials => {}
            () = starts => {}
            () = stops => {}
        }
    };
    tokio::select! {
        () = watches => Error::Ended("a watch"),
        () = controllers => Error::Ended("a controller"),
    }
}

/// Reconciles what comes out of `queue`, with a backoff of its own for every object that fails.
async fn control<K, F>(
    names: Store<Name<K>>,
    queue: impl Stream<Item = ObjectRef<Name<K>>> + Send + 'static,
    concurrency: u16,
    context: Arc<Context>,
    controller: &'static str,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Copy,
) where
    K: Indexed + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
{
    let queue = queue.map(|obj_ref| Ok::<_, std::convert::Infallible>(request(obj_ref)));
    let observed = move |name: Arc<Name<K>>, context: Arc<Context>| {
        let started = std::time::Instant::now();
        let uid = name.metadata.uid.clone().unwrap_or_default();
        let under_way = context.health.begin(format!("{controller} {}", name.name_any()));
        let reconciled = found(&context, &name).map(|object| reconcile(object, context.clone()));
        Box::pin(async move {
            let result = match reconciled {
                Some(reconciled) => reconciled.await,
                None => Ok(None),
            };
            drop(under_way);
            let outcome = result.as_ref().map_or_else(Error::outcome, |_| "ok");
            context.telemetry.reconciled(controller, outcome, started.elapsed());
            let look_again = result?;
            context.failures.reset(&format!("{controller} {uid}"));
            Ok(look_again.map_or_else(Action::await_change, Action::requeue))
        })
    };
    let on_error = move |name: Arc<Name<K>>, error: &Error, context: Arc<Context>| {
        let uid = name.metadata.uid.as_deref().unwrap_or_default();
        let delay = context.failures.next(&format!("{controller} {uid}"), error);
        let namespace = name.metadata.namespace.as_deref();
        let object = found(&context, &name);
        let owner = object.as_ref().and_then(|object| object.meta().owner_references.as_ref()?.first());
        let (study, trial) = match owner {
            Some(study) if controller != "study" => (Some(study.name.as_str()), name.metadata.name.as_deref()),
            _ => (name.metadata.name.as_deref(), None),
        };
        let reason = error.status().map(|status| status.reason.as_str());
        let delay_seconds = delay.as_secs();
        if error.is_expected() {
            tracing::debug!(namespace, study, trial, reason, %error, "will be tried again");
        } else {
            tracing::warn!(
                namespace, study, trial, reason, %error, delay_seconds, "reconcile failed, will be tried again"
            );
        }
        Action::requeue(delay)
    };
    let config = Config::default().concurrency(concurrency);
    applier(observed, on_error, context, names, queue, config)
        .for_each(|result| async move {
            // An object that is gone was deleted: nothing to do.
            if let Err(error) = result {
                tracing::trace!(%error, "reconcile ended");
            }
        })
        .await;
}

/// The object of this name, as last seen.
fn found<K: Indexed>(context: &Context, name: &Name<K>) -> Option<Arc<K>> {
    K::kept(&context.index).get(name.metadata.namespace.as_deref().unwrap_or_default(), &name.name_any())
}

fn request<K: Resource<DynamicType = ()>>(obj_ref: ObjectRef<K>) -> ReconcileRequest<K> {
    ReconcileRequest { obj_ref, reason: ReconcileReason::Unknown }
}

async fn terminated() {
    let interrupt = tokio::signal::ctrl_c().unwrap_or_else(|_| ());
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! { _ = interrupt => {}, () = terminate => {} }
}
