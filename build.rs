//! Puts the commit into the program: `SWEEP_COMMIT` where it is set, else that of the checkout.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=SWEEP_COMMIT");
    let commit = std::env::var("SWEEP_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = commit.or_else(|| {
        // It changes with every commit, checkout and reset.
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
        git(&["rev-parse", "--short=12", "HEAD"])
    });
    println!("cargo::rustc-env=SWEEP_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
