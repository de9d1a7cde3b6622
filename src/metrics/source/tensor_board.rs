//! Event files, as TensorBoard reads them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// A folder of event files.
pub struct TensorBoard;

/// Where the trainer writes event files.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorBoardSpec {
    /// The folder in the trainer's container that it writes to, for a trainer that cannot be told: an empty volume is mounted
    /// there, unless the template mounts one. Left out: a folder of ours. `$SWEEP_METRICS` holds the folder in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 256), regex(pattern = r"^/[^:]+$"))]
    pub path: Option<String>,
}

impl Kind for TensorBoard {
    type Settings = TensorBoardSpec;
    const NAME: &'static str = "tensorBoard";
    const DESCRIPTION: &'static str =
        "The trainer writes TensorBoard event files to the folder `$SWEEP_METRICS`, or to one that is named here, and to folders\n\
         in it. A metric is a scalar's tag, such as `val/accuracy`; `validation/epoch_accuracy` is the tag `epoch_accuracy` in\n\
         the folder `validation`.";
    const HAS_SIDECAR: bool = true;
    const VARIABLE: Option<&'static str> = Some("SWEEP_METRICS");
}
