//! A page of Prometheus metrics.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// An endpoint of the trainer's.
pub struct Prometheus;

/// Where the trainer serves its metrics.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrometheusSpec {
    /// The port on which the trainer listens, on the loopback interface or on all. `$SWEEP_METRICS_PORT` holds it.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The path of the page. Left out: `/metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/[!-~]*$"))]
    pub path: Option<String>,
}

impl PrometheusSpec {
    /// The path of the page where the study names none.
    pub const PATH: &str = "/metrics";

    /// The page's address, at this port.
    pub fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}{}", self.path.as_deref().unwrap_or(Self::PATH))
    }
}

impl Kind for Prometheus {
    type Settings = PrometheusSpec;
    const NAME: &'static str = "prometheus";
    const DESCRIPTION: &'static str =
        "The trainer serves a page of Prometheus metrics, which is read once a second: what is set in the last second before\n\
         it ends may be missed.";
    const HAS_SIDECAR: bool = true;
    const VARIABLE: Option<&'static str> = Some("SWEEP_METRICS_PORT");
}
