//! The wire types of `sweep-operator.dev/v1alpha1`: what stands in YAML, in the API server and in the
//! folder of a local run. They carry no decision; what the
//! core works on are types of its own, but for a few words that both share.

mod condition;
mod crd;
mod editable;
mod history;
pub mod life;
mod status;
mod study;
mod trial;

pub use crate::core::{DesiredState, Direction, EndReason, PRUNED, Phase, ValueOf, trial_name};
pub use condition::{Condition, ConditionStatus, is_true};
pub use crd::{crds, crds_yaml};
pub use editable::{immutable_differences, with_edited};
pub use history::{Note, belongs_to, core_trial, new_trial, note, notes, observations, recorded};
pub use status::{InvalidSpec, not_ready, study_status, warn};
pub use study::*;
pub use trial::*;

/// The API group of Study and Trial, and the prefix of our labels.
pub const GROUP: &str = "sweep-operator.dev";

/// Label on Trials, Jobs and pods: the name of their Study.
pub const LABEL_STUDY: &str = "sweep-operator.dev/study";

/// Label on Jobs and pods: the name of their Trial.
pub const LABEL_TRIAL: &str = "sweep-operator.dev/trial";
/// On a Job whose result is recorded in its Trial: it holds no place any more.
pub const LABEL_RECORDED: &str = "sweep-operator.dev/recorded";

/// Label on Trials, Jobs and pods: what manages them.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "sweep-operator";
