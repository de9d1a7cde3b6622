//! Leader election: of several operators only the one that holds the Lease reconciles. As client-go does it
//! (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>): whether a Lease has expired is judged by when
//! its last change was *seen*, so clocks need not agree.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{Error, found};

/// How a Lease is held.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// Its name.
    pub name: String,
    /// Its namespace; the operator's own where None.
    pub namespace: Option<String>,
    /// Who we are; no two operators may have the same.
    pub identity: String,
    /// How long others wait after the last renewal that they have seen.
    pub duration: Duration,
    /// How long we go on without a renewal.
    pub renew_deadline: Duration,
    /// How often we try.
    pub retry_period: Duration,
}

/// The Lease as it was last seen to change.
#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    since: Instant,
}

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// There is none.
    Create,
    /// It is free, or expired.
    Take,
    /// It is ours.
    Renew,
    /// Somebody else has it.
    Wait,
}

fn step(seen: Option<&Seen>, identity: &str, now: Instant) -> Step {
    let Some(Seen { lease, since }) = seen else {
        return Step::Create;
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let expires = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0).unsigned_abs().into());
    match spec.holder_identity.as_deref() {
        Some(holder) if holder == identity => Step::Renew,
        None | Some("") => Step::Take,
        Some(_) if now.duration_since(*since) >= expires => Step::Take,
        Some(_) => Step::Wait,
    }
}

/// One operator's part in the election.
pub struct Election {
    api: Api<Lease>,
    settings: LeaseSettings,
    clock: fn() -> Timestamp,
    seen: Option<Seen>,
}

impl Election {
    pub fn new(client: &Client, settings: LeaseSettings, clock: fn() -> Timestamp) -> Election {
        let namespace = settings.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Election { api: Api::namespaced(client.clone(), &namespace), settings, clock, seen: None }
    }

    /// Waits for the Lease, says so, and renews it for as long as it can; why it could not any more.
    pub async fn run(mut self, leads: watch::Sender<bool>) -> Error {
        let LeaseSettings { retry_period, renew_deadline, .. } = self.settings;
        tracing::info!(lease = self.settings.name, identity = self.settings.identity, "waiting for the lease");
        let mut renewed = loop {
            // From before the call: others count from when they see it.
            let asked = Instant::now();
            if self.try_to_hold().await.is_ok_and(|held| held) {
                break asked;
            }
            sleep(retry_period).await;
        };
        tracing::info!(lease = self.settings.name, "leading");
        leads.send_replace(true);
        loop {
            // Enforced also while a call is under way: others count from the renewal that they have seen.
            match timeout_at(renewed + renew_deadline, self.renew()).await {
                Ok(Ok(asked)) => renewed = asked,
                Ok(Err(error)) => return error,
                Err(_) => {
                    let limit = renew_deadline.as_secs_f64();
                    return Error::LeaseLost(format!("it could not be renewed for {limit} s"));
                }
            }
        }
    }

    /// Tries until the Lease is renewed; when the call that did it was begun.
    async fn renew(&mut self) -> Result<Instant, Error> {
        loop {
            sleep(self.settings.retry_period).await;
            let asked = Instant::now();
            match self.try_to_hold().await {
                Ok(true) => return Ok(asked),
                Ok(false) => return Err(Error::LeaseLost(format!("{} has it now", self.holder()))),
                Err(error) => tracing::warn!(%error, "the lease could not be renewed, will be tried again"),
            }
        }
    }

    /// Whether the Lease is ours afterwards.
    async fn try_to_hold(&mut self) -> Result<bool, Error> {
        let limit = self.settings.renew_deadline / 2;
        match timeout(limit, self.hold()).await {
            Ok(held) => held,
            Err(_) => Err(Error::Timeout),
        }
    }

    async fn hold(&mut self) -> Result<bool, Error> {
        let lease = found(self.api.get(&self.settings.name).await.map_err(Error::from))?;
        self.see(lease);
        let now = MicroTime((self.clock)());
        let old = self.seen.as_ref().and_then(|seen| seen.lease.spec.clone()).unwrap_or_default();
        let step = step(self.seen.as_ref(), &self.settings.identity, Instant::now());
        let spec = LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: i32::try_from(self.settings.duration.as_secs()).ok(),
            renew_time: Some(now.clone()),
            acquire_time: if step == Step::Renew { old.acquire_time } else { Some(now) },
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(step == Step::Take)),
            ..LeaseSpec::default()
        };
        let name = self.settings.name.clone();
        let written = match (step, &self.seen) {
            (Step::Wait, _) => return Ok(false),
            (Step::Take | Step::Renew, Some(Seen { lease, .. })) => {
                let at = json!({"uid": lease.uid(), "resourceVersion": lease.resource_version()});
                let patch = Patch::Merge(json!({"metadata": at, "spec": spec}));
                self.api.patch(&name, &PatchParams::default(), &patch).await
            }
            _ => {
                let mut lease = Lease { spec: Some(spec), ..Lease::default() };
                lease.metadata.name = Some(name);
                self.api.create(&PostParams::default(), &lease).await
            }
        };
        match written.map_err(Error::from) {
            Ok(lease) => {
                self.see(Some(lease));
                Ok(true)
            }
            // Somebody was first; whether it was us, before an answer that was lost, the next look tells.
            Err(error) if error.code() == Some(409) && step != Step::Renew => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn see(&mut self, lease: Option<Lease>) {
        let spec = |lease: Option<&Lease>| lease.map(|lease| (lease.uid(), lease.spec.clone()));
        if spec(lease.as_ref()) != spec(self.seen.as_ref().map(|seen| &seen.lease)) {
            self.seen = lease.map(|lease| Seen { lease, since: Instant::now() });
        } else if let (Some(seen), Some(lease)) = (&mut self.seen, lease) {
            seen.lease = lease;
        }
    }

    fn holder(&self) -> String {
        let holder = self.seen.as_ref().and_then(|seen| seen.lease.spec.as_ref()?.holder_identity.clone());
        holder.unwrap_or_else(|| "nobody".to_owned())
    }
}

/// Takes the Lease away if it is ours, so that the next operator need not wait, and uninstalling leaves nothing.
pub async fn release(client: &Client, settings: &LeaseSettings) {
    let namespace = settings.namespace.as_deref().unwrap_or(client.default_namespace());
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let released = async {
        loop {
            let lease = api.get(&settings.name).await?;
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
            if holder != Some(&settings.identity) {
                return Ok(());
            }
            let preconditions = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(&settings.name, &params).await {
                Ok(_) => {
                    tracing::info!(lease = settings.name, "released");
                    return Ok(());
                }
                // A renewal of ours that was still under way came in between.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
    };
    match timeout(settings.retry_period, released).await {
        Ok(Ok(())) => {}
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
        Ok(Err(error)) => tracing::warn!(%error, "the lease could not be released: it expires"),
        Err(_) => tracing::warn!("the lease could not be released in time: it expires"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> Option<Seen> {
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        Some(Seen { lease: Lease { spec: Some(spec), ..Lease::default() }, since: Instant::now() })
    }

    fn step_after(seen: &Option<Seen>, seconds: u64) -> Step {
        step(seen.as_ref(), "we", Instant::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_that_is_not_there_is_created() {
        assert_eq!(step_after(&None, 0), Step::Create);
    }

    #[test]
    fn our_own_is_renewed_however_late() {
        assert_eq!(step_after(&lease(Some("we")), 0), Step::Renew);
        assert_eq!(step_after(&lease(Some("we")), 60), Step::Renew);
    }

    #[test]
    fn that_of_another_is_taken_once_it_was_seen_unchanged_for_its_duration() {
        assert_eq!(step_after(&lease(Some("they")), 14), Step::Wait);
        assert_eq!(step_after(&lease(Some("they")), 16), Step::Take);
    }

    #[test]
    fn one_that_nobody_holds_is_taken() {
        assert_eq!(step_after(&lease(None), 0), Step::Take);
        assert_eq!(step_after(&lease(Some("")), 0), Step::Take);
    }

    /// A client of an API server that answers as told: (method, the body of the answer); None never answers.
    fn client(answer: impl Fn(&str) -> Option<(u16, serde_json::Value)> + Send + Sync + 'static) -> Client {
        let answer = std::sync::Arc::new(answer);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let answer = answer.clone();
            async move {
                let Some((code, body)) = answer(request.method().as_str()) else {
                    return std::future::pending().await;
                };
                let body = kube::client::Body::from(body.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "default")
    }

    fn settings(duration: u64, renew_deadline: u64, retry_period: u64) -> LeaseSettings {
        let [duration, renew_deadline, retry_period] =
            [duration, renew_deadline, retry_period].map(Duration::from_secs);
        let (name, identity) = ("sweep-operator".to_owned(), "we".to_owned());
        LeaseSettings { name, namespace: None, identity, duration, renew_deadline, retry_period }
    }

    fn held(version: u32) -> serde_json::Value {
        json!({"metadata": {"name": "sweep-operator", "uid": "1", "resourceVersion": version.to_string()},
               "spec": {"holderIdentity": "we", "leaseDurationSeconds": 11}})
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_given_up_before_others_may_take_it_also_while_a_call_hangs() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let calls = AtomicU32::new(0);
        // It is acquired by a GET and a PATCH; then the API server is silent.
        let client = client(move |_| (calls.fetch_add(1, Ordering::Relaxed) < 2).then(|| (200, held(7))));
        let (leads, leading) = watch::channel(false);
        let start = Instant::now();
        let error = Election::new(&client, settings(11, 10, 9), || Timestamp::UNIX_EPOCH).run(leads).await;
        assert!(*leading.borrow() && matches!(error, Error::LeaseLost(_)), "{error}");
        assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_renewal_that_comes_in_between_does_not_keep_the_lease() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicU32, Ordering};
        let deletions = Arc::new(AtomicU32::new(0));
        let counted = deletions.clone();
        let conflict = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                              "message": "the version is another", "reason": "Conflict", "code": 409});
        let client = client(move |method| match method {
            "DELETE" if counted.fetch_add(1, Ordering::Relaxed) == 0 => Some((409, conflict.clone())),
            _ => Some((200, held(7))),
        });
        release(&client, &settings(15, 10, 2)).await;
        assert_eq!(deletions.load(Ordering::Relaxed), 2);
    }
}
