//! Where the metrics go: the file that `SWEEP_METRICS` names, and standard output.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// The variable that names the metrics file.
const METRICS_VARIABLE: &str = "SWEEP_METRICS";

/// What one epoch reached on the validation samples.
pub struct Epoch {
    pub step: usize,
    pub accuracy: f64,
    pub loss: f64,
}

pub struct Report {
    metrics: Option<(PathBuf, File)>,
}

impl Report {
    /// Opens the metrics file, if there is to be one. It is appended to: a restarted trainer keeps the earlier lines.
    pub fn from_environment() -> Result<Self, String> {
        let Some(path) = std::env::var_os(METRICS_VARIABLE).filter(|path| !path.is_empty()) else {
            return Ok(Self { metrics: None });
        };
        let path = PathBuf::from(path);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|error| {
            format!("cannot open {METRICS_VARIABLE}={}: {error}; its folder must exist and be writable", path.display())
        })?;
        Ok(Self { metrics: Some((path, file)) })
    }

    /// Reports an epoch: JSON to the file and a line for people to standard output; without a file, JSON to standard output.
    pub fn epoch(&mut self, epoch: &Epoch) -> Result<(), String> {
        let Epoch { step, accuracy, loss } = epoch;
        let json = format!("{{\"step\": {step}, \"accuracy\": {accuracy:.4}, \"loss\": {loss:.4}}}\n");
        let Some((path, file)) = &mut self.metrics else {
            return print(&json);
        };
        // One write per line, so that whoever follows the file sees whole lines.
        file.write_all(json.as_bytes())
            .map_err(|error| format!("cannot append to {METRICS_VARIABLE}={}: {error}", path.display()))?;
        print(&format!("epoch {step}: accuracy={accuracy:.4} loss={loss:.4}\n"))
    }
}

/// Prints to standard output at once; a closed pipe is an error here, where `print!` would panic.
pub fn print(text: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}
