//! `sweep supervise`: the parent of one trainer, so that no trainer outlives `sweep run`, however that ends.
//!
//! `sweep run` holds the other end of the supervisor's standard input. Once that is closed, by `sweep run` or by its
//! death, the trainer's process group is told to end, and killed after a grace period. A child that left the group, by a session
//! of its own, is out of reach.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid};
use tokio::signal::unix::{SignalKind, signal};

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
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
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
    let group = Pid::from_child(&child);
    let grace = Duration::from_secs(args.grace);
    let mut ended = tokio::task::spawn_blocking(move || wait(group));
    let ended = tokio::select! {
        ended = &mut ended => ended,
        () = end_of_input() => stop(group, ended, grace).await,
        _ = terminate.recv() => stop(group, ended, grace).await,
        _ = interrupt.recv() => stop(group, ended, grace).await,
    };
    let code = ended.map_err(io::Error::other)??;
    // As in a pod, where nothing outlives its first process.
    signal_group(group, Signal::KILL);
    Ok(code)
}

/// Waits for the trainer without reaping it: while it is a zombie, no other group can get its number.
fn wait(trainer: Pid) -> io::Result<i32> {
    loop {
        match waitid(WaitId::Pid(trainer), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => return Ok(exit_code(&status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
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

async fn stop(group: Pid, mut ended: tokio::task::JoinHandle<io::Result<i32>>, grace: Duration) -> Ended {
    signal_group(group, Signal::TERM);
    if let Ok(ended) = tokio::time::timeout(grace, &mut ended).await {
        return ended;
    }
    signal_group(group, Signal::KILL);
    ended.await
}

/// A group that is gone needs no signal.
fn signal_group(group: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        eprintln!("sweep: cannot signal the trainer: {error}");
    }
}
