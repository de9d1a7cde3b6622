//! The folder of a local run: the Study, its Trials, their logs and metrics.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{self, Study, Trial};
use crate::job::job_name;
use crate::validate::{Problem, Problems};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Another `sweep run` is at work here.
    #[error("{} is in use by another `sweep run` ({holder}): wait for it, stop it, or use another --dir", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// Who holds the lock.
        holder: String,
    },
    /// Trainers of an earlier run do not end.
    #[error("trainers of an earlier `sweep run` in {} still run after {} s", path.display(), waited.as_secs())]
    TrainersLeft {
        /// The folder.
        path: PathBuf,
        /// How long they were waited for.
        waited: Duration,
    },
}

/// The folder of a local run, locked while this lives.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates the folder if need be, and locks it.
    ///
    /// # Errors
    /// Another `sweep run` uses it, or it cannot be written.
    pub fn open(root: &Path) -> Result<Folder, StateError> {
        for part in ["trials", "logs", "metrics"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(|source| StateError::Io { path, source })?;
        }
        // Trainers get paths in it, and may change their working directory.
        let root = root.canonicalize().map_err(|source| StateError::Io { path: root.to_owned(), source })?;
        let path = root.join("lock");
        let lock = lock(&path).map_err(|source| StateError::Io { path, source })?;
        let lock = lock.map_err(|holder| StateError::Busy { path: root.clone(), holder })?;
        let folder = Folder { root, _lock: lock };
        let path = folder.trainers_lock();
        File::create(&path).map_err(|source| StateError::Io { path, source })?;
        Ok(folder)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where it is, as a person would say it here.
    pub fn shown_root(&self) -> std::path::Display<'_> {
        let here = std::env::current_dir().ok();
        let below = here.and_then(|here| self.root.strip_prefix(here).ok()).filter(|below| *below != Path::new(""));
        below.unwrap_or(&self.root).display()
    }

    /// The file that every supervisor locks, shared, while its trainer lives.
    pub fn trainers_lock(&self) -> PathBuf {
        self.root.join("trainers.lock")
    }

    /// Waits for what an earlier `sweep run` that was killed left behind: its supervisors are ending it, and give
    /// each trainer `grace` to end.
    ///
    /// # Errors
    /// It does not end.
    pub fn wait_for_trainers(&self, grace: Duration) -> Result<(), StateError> {
        let path = self.trainers_lock();
        let file = File::open(&path).map_err(|source| StateError::Io { path: path.clone(), source })?;
        let (start, limit) = (Instant::now(), grace + Duration::from_secs(10));
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if start.elapsed() < limit => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StateError::TrainersLeft { path: self.root.clone(), waited: limit });
                }
                Err(TryLockError::Error(source)) => return Err(StateError::Io { path, source }),
            }
        }
    }

    /// The Study with its status. None where nothing was run here yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_study(&self) -> Result<Option<Study>, StateError> {
        let path = self.root.join("study.yaml");
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }

    /// Writes the Study with its status.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_study(&self, study: &Study) -> Result<(), StateError> {
        write(&self.root.join("study.yaml"), study)
    }

    /// The Trials of the Study `name`, by index.
    ///
    /// # Errors
    /// One cannot be read, or is not of this Study.
    pub fn read_trials(&self, name: &str) -> Result<BTreeMap<u32, Trial>, StateError> {
        let folder = self.root.join("trials");
        let mut trials = BTreeMap::new();
        let entries = fs::read_dir(&folder).map_err(|source| StateError::Io { path: folder.clone(), source })?;
        for entry in entries {
            let path = entry.map_err(|source| StateError::Io { path: folder.clone(), source })?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden || path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let trial: Trial = read(&path)?;
            let expected = api::trial_name(name, trial.spec.index);
            if !api::belongs_to(&trial, name) || path.file_stem().is_none_or(|stem| *stem != *expected) {
                let message = format!("is not a Trial of the Study {name}, or not under its own name");
                return Err(StateError::Malformed { path, message });
            }
            trials.insert(trial.spec.index, trial);
        }
        Ok(trials)
    }

    /// Writes a Trial.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_trial(&self, trial: &Trial) -> Result<(), StateError> {
        let name = trial.metadata.name.as_deref().unwrap_or_default();
        write(&self.root.join("trials").join(format!("{name}.yaml")), trial)
    }

    /// The log of a trial: what its trainer printed, all runs.
    pub fn log(&self, trial: &str) -> PathBuf {
        self.root.join("logs").join(format!("{trial}.log"))
    }

    /// The folder of the event files of a trial's run.
    pub fn events(&self, trial: &str, run: u32) -> PathBuf {
        self.root.join("metrics").join(format!("{trial}-r{run}"))
    }

    /// The metrics file of a trial's run.
    pub fn metrics(&self, trial: &str, run: u32) -> PathBuf {
        self.root.join("metrics").join(format!("{trial}-r{run}.jsonl"))
    }
}

/// The name of a run, as its Job would be called.
pub fn run_name(trial: &str, run: u32) -> String {
    job_name(trial, run)
}

/// Fields that differ from those that `old` was run with, and may not be edited.
pub fn immutable_differences(old: &Study, new: &Study) -> Vec<Problem> {
    let mut problems = Problems::default();
    let mut fields = Vec::new();
    if old.metadata.name != new.metadata.name {
        fields.push("metadata.name".to_owned());
    }
    match api::immutable_differences(&old.spec, &new.spec) {
        Ok(of_spec) => fields.extend(of_spec),
        Err(error) => problems.add("spec", format!("cannot be compared with what this folder was run with: {error}")),
    }
    for field in fields {
        problems.add(field, "differs from what this folder was run with");
    }
    problems.into_vec()
}

fn lock(path: &Path) -> io::Result<Result<File, String>> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.take(256).read_to_string(&mut holder)?;
            return Ok(Err(holder.trim().to_owned()));
        }
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(
        file,
        "process {} since {}",
        std::process::id(),
        jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default()
    )?;
    Ok(Ok(file))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, StateError> {
    let text = fs::read_to_string(path).map_err(|source| StateError::Io { path: path.to_owned(), source })?;
    serde_yaml::from_str(&text)
        .map_err(|error| StateError::Malformed { path: path.to_owned(), message: error.to_string() })
}

/// Replaces the file as a whole: a reader, or a resumed run, sees the old content or the new one.
fn write(path: &Path, object: &impl Serialize) -> Result<(), StateError> {
    let text = serde_yaml::to_string(object)
        .map_err(|error| StateError::Malformed { path: path.to_owned(), message: error.to_string() })?;
    replace(path, text.as_bytes()).map_err(|source| StateError::Io { path: path.to_owned(), source })
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let temporary = folder.join(format!(".{}.tmp", name.to_string_lossy()));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // What is written next must not reach the disk before this.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_learns_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path()).unwrap();
        let message = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(first);
        Folder::open(folder.path()).unwrap();
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        replace(&path, b"first, and long").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
