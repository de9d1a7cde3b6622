//! The processes below this one: found, told to end, and reaped.
//!
//! A process whose parent has ended becomes a child of the nearest subreaper above it (Linux), so that one which left
//! its trainer's group, by a session of its own, is found all the same. Elsewhere there is no /proc to look in, and only
//! direct children are known.

use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, RawPid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// How often those that were killed are looked for again.
pub const AGAIN: Duration = Duration::from_millis(10);

/// Makes orphans below this process its own children.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        eprintln!("sweep: a process with a session of its own may outlive its trial: {error}");
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    id: RawPid,
    parent: RawPid,
    /// Whether it has ended, and is not reaped yet.
    is_zombie: bool,
}

/// Whether anything below this process has not ended.
pub fn any() -> bool {
    !alive(&[]).is_empty()
}

/// Signals all processes below this one, but for the trees of `except`. Returns whether it could signal any.
pub fn signal(signal: Signal, except: &[Pid]) -> bool {
    let send = |process: &Pid| match kill_process(*process, signal) {
        Ok(()) => true,
        Err(Errno::SRCH) => false,
        // Another user's, such as of sudo.
        Err(error) => {
            eprintln!("sweep: process {} cannot be ended: {error}", process.as_raw_nonzero());
            false
        }
    };
    alive(except).iter().filter(|process| send(process)).count() > 0
}

/// Kills all processes below this one, but for the trees of `except`, and reaps them, until none is left.
pub fn end(except: &[Pid]) {
    while reap(except) && signal(Signal::KILL, except) {
        std::thread::sleep(AGAIN);
    }
}

/// Reaps children that have ended, but for `except`. Returns whether others may be left.
pub fn reap(except: &[Pid]) -> bool {
    if except.is_empty() {
        loop {
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let children = processes().into_iter().filter(|process| process.parent == me && process.is_zombie);
    for child in children.filter_map(|process| Pid::from_raw(process.id)).filter(|id| !except.contains(id)) {
        // It has ended: there is nothing to wait for, and nothing to learn.
        let _ = waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
    true
}

fn alive(except: &[Pid]) -> Vec<Pid> {
    let me = rustix::process::getpid().as_raw_nonzero().get();
    let except: Vec<RawPid> = except.iter().map(|id| id.as_raw_nonzero().get()).collect();
    below(me, &except, &processes()).into_iter().filter_map(Pid::from_raw).collect()
}

/// Those of `processes` below `root` that have not ended, children before grandchildren, without the trees of `except`.
fn below(root: RawPid, except: &[RawPid], processes: &[Process]) -> Vec<RawPid> {
    let mut found = vec![root];
    let mut alive = Vec::new();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for process in processes.iter().filter(|process| process.parent == parent && !except.contains(&process.id)) {
            found.push(process.id);
            if !process.is_zombie {
                alive.push(process.id);
            }
        }
    }
    alive
}

/// All processes of this machine.
fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RawPid>().ok());
    // One that has gone meanwhile is none.
    ids.filter_map(|id| parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)).collect()
}

/// A line of /proc/PID/stat: `12 (a name) S 1 …`; the name may hold anything.
fn parse(stat: &str) -> Option<Process> {
    let (id, rest) = stat.split_once(" (")?;
    let mut fields = rest.rsplit_once(") ")?.1.split(' ');
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    Some(Process { id: id.parse().ok()?, parent: fields.next()?.parse().ok()?, is_zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let process = |is_zombie| Some(Process { id: 12, parent: 7, is_zombie });
        assert_eq!(parse("12 (sleep) S 7 12 12 0"), process(false));
        assert_eq!(parse("12 (a) S 1 (b) Z 7 12"), process(true));
        assert_eq!(parse("12 sleep S 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn those_below_are_found_through_any_generation() {
        let process = |id, parent, is_zombie| Process { id, parent, is_zombie };
        let all = [
            process(5, 3, false),
            process(2, 1, false),
            process(3, 2, true),
            process(4, 2, false),
            process(6, 9, false),
            process(7, 5, false),
        ];
        assert_eq!(below(1, &[], &all), [2, 4, 5, 7]);
        assert_eq!(below(1, &[3], &all), [2, 4]);
        assert!(below(6, &[], &all).is_empty());
    }
}
