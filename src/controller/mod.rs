//! The Kubernetes shell: two controllers, each a pipeline of observe, validate, decide, build, apply,
//! status. What a sweep does next is decided in [`crate::core`], what a Trial's Job shall be in
//! [`trial::decide`]; the rest of this folder only looks and writes.

mod context;
mod error;
mod events;
mod follow;
mod health;
mod lease;
mod objects;
mod server;
mod study;
mod telemetry;
mod trial;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryFutureExt};
use jiff::Timestamp;
use kube::runtime::controller::{Action, Config, ReconcileReason, ReconcileRequest, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};

use crate::build::SidecarSettings;
use context::Context;
pub use error::Error;
use health::{Health, SILENCE};
pub use lease::LeaseSettings;

/// What the operator was told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespaces to serve; all where empty.
    pub namespaces: Vec<String>,
    /// The sidecar of trials with `metrics: {file: {}}`.
    pub sidecar: SidecarSettings,
    /// Where health and metrics are served, if anywhere.
    pub listen: Option<SocketAddr>,
    /// How many reconciles of each controller run at once.
    pub concurrency: u16,
    /// How many logs are streamed at once, a connection each; those beyond are read every 10 s.
    pub max_log_streams: usize,
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
    let telemetry = Arc::new(telemetry::Telemetry::new(leading.clone()));
    let health = Arc::new(Health::default());
    let client = health::noting(client, health.clone());
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
    let queues = watch::Queues::new();
    let (study_queue, trial_queue) = (queues.studies.clone().stream(), queues.trials.clone().stream());
    let (stores, watches) = watch::start(&client, namespace.as_deref(), &queues, &health);
    telemetry.counts(stores.clone());
    let context = Arc::new(Context::new(client, settings, stores, queues, telemetry, health));
    let studies =
        control(context.stores.studies.clone(), study_queue, concurrency, context.clone(), "study", study::reconcile);
    let trials =
        control(context.stores.trials.clone(), trial_queue, concurrency, context.clone(), "trial", trial::reconcile);
    let ready = context.clone();
    let controllers = async move {
        // A pass over half-filled stores would take what it does not see for gone.
        ready.stores.wait_until_ready().await;
        // An error means that nobody will ever say so: the election has ended, and with it the process.
        if leading.wait_for(|leads| *leads).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::select! {
            () = studies => {}
            () = trials => {}
        }
    };
    tokio::select! {
        () = watches => Error::Ended("a watch"),
        () = controllers => Error::Ended("a controller"),
    }
}

/// Reconciles what comes out of `queue`, with a backoff of its own for every object that fails.
async fn control<K, F>(
    store: Store<K>,
    queue: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    concurrency: u16,
    context: Arc<Context>,
    controller: &'static str,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Copy,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
{
    let queue = queue.map(|obj_ref| Ok::<_, std::convert::Infallible>(request(obj_ref)));
    let observed = move |object: Arc<K>, context: Arc<Context>| {
        let started = std::time::Instant::now();
        let uid = object.meta().uid.clone().unwrap_or_default();
        let name = object.meta().name.clone().unwrap_or_default();
        let under_way = context.health.begin(format!("{controller} {name}"));
        let reconciled = reconcile(object, context.clone());
        Box::pin(async move {
            let result = reconciled.await;
            drop(under_way);
            context.telemetry.reconciled(controller, result.is_ok(), started.elapsed());
            let look_again = result?;
            context.failures.reset(&uid);
            Ok(look_again.map_or_else(Action::await_change, Action::requeue))
        })
    };
    let on_error = move |object: Arc<K>, error: &Error, context: Arc<Context>| {
        let delay = context.failures.next(object.meta().uid.as_deref().unwrap_or_default(), error);
        let name = object.meta().name.as_deref().unwrap_or_default();
        if error.is_expected() {
            tracing::debug!(controller, name, %error, "will be tried again");
        } else {
            tracing::warn!(controller, name, %error, delay = delay.as_secs(), "reconcile failed, will be tried again");
        }
        Action::requeue(delay)
    };
    let config = Config::default().concurrency(concurrency);
    applier(observed, on_error, context, store, queue, config)
        .for_each(|result| async move {
            // An object that is gone from the store was deleted: nothing to do.
            if let Err(error) = result {
                tracing::trace!(%error, "reconcile ended");
            }
        })
        .await;
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
