//! `sweep supervise`: the parent of one trainer, so that no trainer outlives `sweep run`, however that ends.
//!
//! `sweep run` holds the other end of the supervisor's standard input. Once that is closed, by `sweep run` or by its
//! death, the trainer and all that it has started are told to end, and killed after a grace period; what is left of a trainer
//! that ends by itself is killed at once. On Linux that holds for children with a session of their own, too: the supervisor
//! is their subreaper. Where supervisors are killed, `sweep run` does their work; where both are killed at once with
//! SIGKILL, trainers stay.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep, timeout_at};

use super::descendants;

/// Arguments of `sweep supervise`.
#[derive(clap::Args)]
pub struct SuperviseArgs {
    /// A file that is locked, shared, while the trainer lives.
    #[arg(long)]
    lock: PathBuf,
    /// How many seconds the trainer may take to end once it was told to.
    #[arg(long)]
    grace: u64,
    /// The trainer's command and arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs a trainer to its end. Exits with the trainer's exit code, or 128 + its signal.
pub fn supervise(args: &SuperviseArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = runtime.and_then(|runtime| {
        let code = runtime.block_on(follow(args));
        // A read of standard input that still waits would be waited for.
        runtime.shutdown_background();
        code
    });
    let code = code.unwrap_or_else(|error| {
        // Standard error is the trial's log.
        eprintln!("sweep: cannot supervise the trainer: {error}");
        1
    });
    std::process::exit(code)
}

async fn follow(args: &SuperviseArgs) -> io::Result<i32> {
    let lock = File::open(&args.lock)?;
    lock.lock_shared()?;
    let mut terminate = unix::signal(SignalKind::terminate())?;
    let mut interrupt = unix::signal(SignalKind::interrupt())?;
    descendants::adopt_orphans();
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).process_group(0).spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("sweep: cannot start {program}: {error}");
            return Ok(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let trainer = Pid::from_child(&child);
    let grace = Duration::from_secs(args.grace);
    let mut ended = tokio::task::spawn_blocking(move || wait(trainer));
    let by_itself = tokio::select! {
        biased;
        ended = &mut ended => Some(ended),
        () = end_of_input() => None,
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let code = match by_itself {
        Some(ended) => ended.map_err(io::Error::other)??,
        // One that was told to end has not done its work, however politely it goes.
        None => match stop(trainer, ended, grace).await.map_err(io::Error::other)?? {
            0 => 128 + Signal::TERM.as_raw(),
            code => code,
        },
    };
    // As in a pod, where nothing outlives its first process.
    signal_group(trainer, Signal::KILL);
    descendants::end(&[]);
    Ok(code)
}

/// Waits for the trainer without reaping it: while it is a zombie, no other group can get its number. Orphans of it that
/// end meanwhile are reaped.
fn wait(trainer: Pid) -> io::Result<i32> {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::All, ended) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = waitid(WaitId::Pid(trainer), ended | WaitIdOptions::NOHANG)? {
            return Ok(exit_code(&status));
        }
        descendants::reap(&[trainer]);
    }
}

fn exit_code(status: &WaitIdStatus) -> i32 {
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(signal).unwrap_or(1)
}

/// Returns once nobody holds the other end of standard input.
async fn end_of_input() {
    let drain = || io::copy(&mut io::stdin().lock(), &mut io::sink());
    // An input that cannot be read has ended, too.
    let _ = tokio::task::spawn_blocking(drain).await;
}

type Ended = Result<io::Result<i32>, tokio::task::JoinError>;

/// Tells the trainer and all that it has started to end; what has not after `grace` is killed.
async fn stop(trainer: Pid, mut ended: tokio::task::JoinHandle<io::Result<i32>>, grace: Duration) -> Ended {
    let deadline = Instant::now() + grace;
    signal(trainer, Signal::TERM);
    let Ok(ended) = timeout_at(deadline, &mut ended).await else {
        signal(trainer, Signal::KILL);
        return ended.await;
    };
    while descendants::any() && Instant::now() < deadline {
        sleep(descendants::AGAIN).await;
    }
    ended
}

/// Signals the trainer and all that it has started, each once.
fn signal(trainer: Pid, signal: Signal) {
    // Where descendants cannot be found, the group is what is known of them.
    if !descendants::signal(signal, &[]) {
        signal_group(trainer, signal);
    }
}

/// A group that is gone needs no signal.
fn signal_group(group: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(group, signal)
        && error != Errno::SRCH
    {
        eprintln!("sweep: cannot signal the trainer: {error}");
    }
}
