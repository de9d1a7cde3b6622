//! The command line. Exit codes: 0 done, 1 the work failed, 2 the input is wrong, 130 interrupted.

use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::api::{self, Study};
use crate::build::SidecarSettings;
use crate::controller;
use crate::local;
use crate::sidecar;
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
    /// Runs the whole sweep as processes of this machine; started again, it goes on.
    Run(local::RunArgs),
    /// The parent of one trainer.
    #[command(hide = true)]
    Supervise(local::SuperviseArgs),
    /// Runs the controllers, in a cluster or with the current kubeconfig.
    Operator(OperatorArgs),
    /// Runs beside a trainer: follows its metrics file and prints what it finds for the operator.
    Sidecar(sidecar::Args),
}

#[derive(Args)]
struct OperatorArgs {
    /// A namespace to serve; may be given several times. All namespaces where left out.
    #[arg(long = "namespace", env = "SWEEP_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// The image of the sidecar that is put into trial pods: this operator's own.
    #[arg(long, env = "SWEEP_SIDECAR_IMAGE")]
    sidecar_image: String,
    /// The sidecar image's pull policy.
    #[arg(long, env = "SWEEP_SIDECAR_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    sidecar_pull_policy: Option<String>,
    /// The sidecar's CPU request and limit.
    #[arg(long, env = "SWEEP_SIDECAR_CPU", default_value = "50m")]
    sidecar_cpu: String,
    /// The sidecar's memory request and limit.
    #[arg(long, env = "SWEEP_SIDECAR_MEMORY", default_value = "32Mi")]
    sidecar_memory: String,
    /// Where health (/healthz, /readyz) and metrics (/metrics) are served.
    #[arg(long, env = "SWEEP_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// How many reconciles of each controller run at once.
    #[arg(long, env = "SWEEP_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How log lines are written.
    #[arg(long, env = "SWEEP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged, as of the tracing crate's filters: error, warn, info, debug, or by module.
    #[arg(long, env = "SWEEP_LOG", default_value = "info")]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
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
        Command::Run(args) => local::run(&args),
        Command::Supervise(args) => local::supervise(&args),
        Command::Operator(args) => operator(args),
        Command::Sidecar(args) => match sidecar::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        },
    }
}

fn operator(args: OperatorArgs) -> ExitCode {
    let filter = match EnvFilter::try_new(&args.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: --log {}: {error}", args.log);
            return ExitCode::from(2);
        }
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
    let settings = controller::Settings {
        namespaces: args.namespaces,
        sidecar: SidecarSettings {
            image: args.sidecar_image,
            pull_policy: args.sidecar_pull_policy,
            cpu: args.sidecar_cpu,
            memory: args.sidecar_memory,
        },
        listen: args.listen,
        concurrency: args.concurrency,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime cannot start: {error}")),
    };
    let result = runtime.block_on(controller::run(settings));
    // Followers and samplers in the background are not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
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
    let document = document(&text).map_err(|problem| vec![problem])?;
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(document, &mut track);
    let parsed: Result<Study, _> = serde_ignored::deserialize(tracked, |path| unknown.push(field_path(&path)));
    let study = parsed.map_err(|error| one(&track.path().to_string(), parse_message(&error)))?;
    let mut problems: Vec<Problem> = unknown
        .into_iter()
        // Known, and checked by `document`; the generated type does not keep them.
        .filter(|path| path != "apiVersion" && path != "kind")
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

/// The one YAML document of a text, if it is a Study of this version.
///
/// It is read as a value first: read straight into a type, YAML takes the number `2` for a text, and the API
/// server does not.
fn document(text: &str) -> Result<serde_yaml::Value, Problem> {
    let wrong = |path: &str, message: String| Err(Problem { path: path.to_owned(), message });
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document).and_then(|mut value| {
            value.apply_merge()?;
            Ok(value)
        });
        match value {
            Ok(serde_yaml::Value::Null) => {}
            Ok(value) => documents.push(value),
            Err(error) => return wrong("file", format!("is not YAML: {error}")),
        }
    }
    let count = documents.len();
    let (Some(document), 1) = (documents.pop(), count) else {
        return match count {
            0 => wrong("file", "is empty: there is no Study in it".to_owned()),
            _ => wrong("file", format!("has {count} YAML documents: give one Study a file")),
        };
    };
    if !document.is_mapping() {
        return wrong("file", "is not a Study: a Study has apiVersion, kind, metadata and spec".to_owned());
    }
    let version = format!("{}/v1alpha1", api::GROUP);
    for (field, wanted) in [("apiVersion", version.as_str()), ("kind", "Study")] {
        match document.get(field) {
            None => return wrong(field, format!("is missing: it must be {wanted}")),
            Some(value) if value.as_str() == Some(wanted) => {}
            Some(serde_yaml::Value::String(other)) => return wrong(field, format!("is {other}: it must be {wanted}")),
            Some(_) => return wrong(field, format!("must be {wanted}")),
        }
    }
    Ok(document)
}

/// The path of an unknown field, written like those of [`Problem`].
fn field_path(path: &serde_ignored::Path) -> String {
    use serde_ignored::Path::{Map, NewtypeStruct, NewtypeVariant, Root, Seq, Some};
    match path {
        Root => String::new(),
        Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Map { parent: Root, key } => key.clone(),
        Map { parent, key } => format!("{}.{key}", field_path(parent)),
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => field_path(parent),
    }
}

/// What was wrong, with a hint where YAML's own types are the usual cause.
fn parse_message(error: &serde_yaml::Error) -> String {
    let message = error.to_string();
    let hint = if message.contains("expected a string") { ": put it in quotes" } else { "" };
    message + hint
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}
