//! The command line. Exit codes: 0 done, 1 the work failed, 2 the input is wrong.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::api::{self, Study};
use crate::validate::{Problem, ValidStudy, validate};

/// Hyperparameter sweeps, as Jobs of a Kubernetes cluster or as local processes.
#[derive(Parser)]
#[command(name = "sweep", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a Study and prints every problem with its field path.
    Check {
        /// The Study's YAML file; `-` reads standard input.
        file: PathBuf,
    },
    /// Prints the CustomResourceDefinitions of Study and Trial.
    Crd,
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check { file } => check(&file),
        Command::Crd => match api::crds_yaml() {
            Ok(yaml) => {
                print!("{yaml}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error.to_string()),
        },
    }
}

/// The work failed.
fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(1)
}

fn check(file: &Path) -> ExitCode {
    match load(file) {
        Ok((study, _)) => {
            println!("{}: study {} is valid", file.display(), study.metadata.name.unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            print_problems(file, &problems);
            ExitCode::from(2)
        }
    }
}

/// Prints every problem of an input file to standard error.
pub fn print_problems(file: &Path, problems: &[Problem]) {
    for problem in problems {
        eprintln!("{}: {problem}", file.display());
    }
    let count = problems.len();
    eprintln!("error: {} has {count} {}", file.display(), if count == 1 { "problem" } else { "problems" });
}

/// Reads and validates the Study of a file.
///
/// # Errors
/// Every problem: of the file, of the YAML, unknown fields, and those of [`validate`].
pub fn load(file: &Path) -> Result<(Study, ValidStudy), Vec<Problem>> {
    let one = |path: &str, message: String| vec![Problem { path: path.to_owned(), message }];
    let text = read(file).map_err(|error| one("file", format!("cannot be read: {error}")))?;
    let mut unknown = Vec::new();
    let deserializer = serde_yaml::Deserializer::from_str(&text);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let parsed: Result<Study, _> = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    let study = parsed.map_err(|error| one(&track.path().to_string(), error.to_string()))?;
    let mut problems: Vec<Problem> = unknown
        .into_iter()
        .map(|path| Problem {
            path,
            message: "is not a field of a Study; is it misspelt or wrongly indented?".to_owned(),
        })
        .collect();
    let name = study.metadata.name.clone().unwrap_or_default();
    match validate(&name, &study.spec) {
        Ok(valid) if problems.is_empty() => Ok((study, valid)),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}
