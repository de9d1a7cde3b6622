//! What the trainer prints.

use super::kind::{Kind, LinesSpec};

/// The trainer's standard output.
pub struct Stdout;

impl Kind for Stdout {
    type Settings = LinesSpec;
    const NAME: &'static str = "stdout";
    const DESCRIPTION: &'static str =
        "The trainer prints such lines, or `epoch 3: accuracy=0.91`, among whatever else it prints. Best\n\
         effort: a log that the node rotates away before it was read is lost.";
    const HAS_SIDECAR: bool = false;
    const VARIABLE: Option<&'static str> = None;

    fn patterns(lines: &LinesSpec) -> &[String] {
        &lines.patterns
    }
}
