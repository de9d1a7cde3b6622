//! `metav1.Condition`, with a bounded schema.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shown::shown;

/// One aspect of an object's state, as `metav1.Condition`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The aspect, in CamelCase.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one CamelCase word.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, for a person.
    #[schemars(length(max = 8192))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows.
    Unknown,
}

impl Condition {
    /// A condition as it shall stand now; its message is cleaned as what a trainer wrote. `old` are the conditions so far: the transition time is kept
    /// where the status has not changed.
    pub fn next(
        old: &[Condition],
        type_: &str,
        status: bool,
        reason: &str,
        message: &str,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Condition {
        let status = if status { ConditionStatus::True } else { ConditionStatus::False };
        let since = old
            .iter()
            .find(|c| c.type_ == type_ && c.status == status)
            .map_or_else(|| Time(whole_seconds(now)), |c| c.last_transition_time.clone());
        Condition {
            type_: type_.to_owned(),
            status,
            reason: reason.to_owned(),
            message: bounded(&shown(message)),
            last_transition_time: since,
            observed_generation: generation,
        }
    }
}

/// Whether the condition `type_` stands and is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == ConditionStatus::True)
}

/// The API keeps whole seconds; a finer time would never equal what is read back.
pub(super) fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Cut at 8192 characters, as the schema demands.
fn bounded(message: &str) -> String {
    if message.chars().count() <= 8192 {
        return message.to_owned();
    }
    message.chars().take(8191).chain(['…']).collect()
}
