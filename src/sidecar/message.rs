//! The container's termination message.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two writes that are not the last one.
const MIN_INTERVAL: Duration = Duration::from_millis(500);

/// The file of the termination message, rewritten when the message changes.
#[derive(Debug)]
pub struct TerminationMessage {
    path: PathBuf,
    written: String,
    written_at: Option<Instant>,
}

impl TerminationMessage {
    pub fn new(path: PathBuf) -> TerminationMessage {
        TerminationMessage { path, written: String::new(), written_at: None }
    }

    /// Whether enough time has passed since the last write.
    pub fn is_due(&self) -> bool {
        self.written_at.is_none_or(|at| at.elapsed() >= MIN_INTERVAL)
    }

    /// Writes the message, unless it is what was written before. Without the file there is nobody to read it.
    pub fn write(&mut self, message: String) -> io::Result<()> {
        if message == self.written {
            return Ok(());
        }
        self.written_at = Some(Instant::now());
        // In place, since the kubelet mounts the file itself: a rename onto it would fail.
        match OpenOptions::new().write(true).truncate(true).open(&self.path) {
            Ok(mut file) => file.write_all(message.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.written = message;
        Ok(())
    }
}
