//! A file that the trainer appends to.

use super::kind::{Kind, LinesSpec};

/// The file `$SWEEP_METRICS`.
pub struct File;

impl Kind for File {
    type Settings = LinesSpec;
    const NAME: &'static str = "file";
    const DESCRIPTION: &'static str =
        "The trainer appends lines such as `{\"step\": 3, \"accuracy\": 0.91}` to the file `$SWEEP_METRICS`.";
    const HAS_SIDECAR: bool = true;
    const VARIABLE: Option<&'static str> = Some("SWEEP_METRICS");

    fn patterns(lines: &LinesSpec) -> &[String] {
        &lines.patterns
    }
}
