//! What a source of metrics is.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::metrics::pattern::{MAX_PATTERN, MAX_PATTERNS};

/// A source of metrics: a file of this folder, and its line in the list of `mod.rs`.
pub trait Kind {
    /// Its settings as a user writes them.
    type Settings: JsonSchema + Serialize + DeserializeOwned;
    /// Its name in the API.
    const NAME: &'static str;
    /// What the CRD says of it.
    const DESCRIPTION: &'static str;
    /// Whether, in a cluster, a sidecar reads it. If not, the operator reads the trainer's log.
    const HAS_SIDECAR: bool;
    /// The environment variable that tells the trainer where to put its metrics.
    const VARIABLE: Option<&'static str>;

    /// Regular expressions for lines that the built-in grammar cannot know.
    fn patterns(_: &Self::Settings) -> &[String] {
        &[]
    }
}

/// What lines with metrics look like.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinesSpec {
    /// Regular expressions for lines that the built-in grammar cannot know, such as
    /// `^\[(?P<step>[0-9]+)\].*valid_1's rmse: (?P<rmse>[0-9.]+)`. The group `step` is the step, each other group the metric
    /// of its name. Where there are patterns, lines of text are read by them alone; JSON lines are read all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns_schema")]
    pub patterns: Vec<String>,
}

fn patterns_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_PATTERNS,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN},
    })
}
