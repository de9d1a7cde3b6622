//! Pure builders: from a Study's job template and a Trial to the Job that runs it. No client in here.

mod environment;
mod events;
mod manifest;
mod references;
mod sidecar;
mod template;

pub use crate::metrics::Source;
pub use environment::environment;
pub use manifest::{JobIdentity, dry_run_job, job, job_name};
pub use sidecar::{SIDECAR_CONTAINER, SidecarSettings};
pub use template::{Deadline, Template, trainer_of};

/// The metrics file as the trainer's container sees it.
pub const METRICS_FILE: &str = "/run/sweep-operator/metrics.jsonl";

/// Where the volume of the metrics file, or of event files, is mounted.
const METRICS_DIR: &str = "/run/sweep-operator";

/// The volume of the metrics file.
const METRICS_VOLUME: &str = "sweep-metrics";
