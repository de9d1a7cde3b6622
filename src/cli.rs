//! The command line. Exit codes: 0 done, 1 the work failed, 2 the input is wrong, 130 interrupted.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::api;
use crate::ask_tell;
use crate::controller::{self, LeaseSettings};
use crate::input::{load, print_problems};
use crate::job::SidecarSettings;
use crate::local;
use crate::plan;
use crate::probe;
use crate::shown::shown;
use crate::sidecar;
use crate::validate::parse_duration;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SWEEP_COMMIT"), ")");

/// Hyperparameter sweeps, as Jobs of a Kubernetes cluster or as local processes.
#[derive(Parser)]
#[command(name = "sweep", version = VERSION, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a Study and prints every problem with its field path.
    ///
    /// Warnings are what a cluster accepts and may not do what was meant, such as a `$(name)` that nothing sets.
    /// Exit codes: 0 valid, with or without warnings; 2 refused.
    Check {
        /// The Study's YAML file; `-` reads standard input.
        file: PathBuf,
    },
    /// Says what a Study would cost: its trials, where they are compared, and the steps with and without its pruner.
    ///
    /// Sweeps are simulated with the Study's own pruner, on curves that only resemble a trainer's: each figure comes with the range
    /// of nine sweeps in ten. Exit codes: 0 done; 2 refused.
    Plan(plan::Args),
    /// Prints the CustomResourceDefinitions of Study and Trial.
    Crd,
    /// Runs the whole sweep as processes of this machine; started again, it goes on.
    Run(local::RunArgs),
    /// Proposes configurations and stops losing trials for another program: one JSON object a line on standard input,
    /// one answer a line on standard output.
    #[command(after_help = ASK_TELL)]
    AskTell,
    /// The parent of one trainer.
    #[command(hide = true)]
    Supervise(local::SuperviseArgs),
    /// Runs the controllers, in a cluster or with the current kubeconfig.
    Operator(OperatorArgs),
    /// Asks an operator for its health, as `helm test` does from within the cluster.
    ///
    /// Exit codes: 0 where it answers with success, 1 otherwise.
    #[command(hide = true)]
    Probe {
        /// Such as http://sweep-operator:8080/readyz.
        url: http::Uri,
    },
    /// Runs beside a trainer: follows its metrics file and prints what it finds for the operator.
    Sidecar(sidecar::Args),
}

const ASK_TELL: &str = r#"The lines, and their answers:
  {"op":"init","study":{a Study's spec, without jobTemplate}}
      {"ok":true}
  {"op":"preload","trials":[{"params":{...},"value":1.2},...]}
      {"ok":true}
  {"op":"ask"}
      {"id":0,"params":{"lr":0.01,"opt":"adam"}}
  {"op":"ask","params":{the caller's own configuration}}
      {"id":1,"params":{...}}
  {"op":"report","id":0,"step":3,"value":0.5}
      {"decision":"continue"}, or {"decision":"stop","message":"..."}
  {"op":"report","id":0,"step":3,"metric":"fold_loss","value":0.5}, a fold for the pruner wilcoxon
      {"decision":"continue"}, or as above
  {"op":"tell","id":0,"value":0.4}
      {"ok":true}
  {"op":"tell","id":0,"state":"pruned"}, or "failed"
      {"ok":true}
A value that is NaN, Infinity or -Infinity, as Python's json.dumps writes them or as a string, says that the trial has
diverged: reported, it is worse than any number; told or preloaded, the trial has failed, and so it has where its last
report was none and no value is told. The answer to tell is then {"ok":true,"state":"failed"}.
What cannot be answered gets {"error":"..."}, and the program goes on."#;

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
    /// A Secret with which nodes pull the sidecar image, in each namespace that has Studies; may be given several times.
    #[arg(
        long = "sidecar-pull-secret",
        env = "SWEEP_SIDECAR_PULL_SECRETS",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    sidecar_pull_secrets: Vec<String>,
    /// Whether `bestConfigMap` is kept: without it no right on ConfigMaps is needed.
    #[arg(long, env = "SWEEP_BEST_CONFIG_MAP", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    best_config_map: bool,
    /// Where health (/healthz, /readyz) and metrics (/metrics) are served.
    #[arg(long, env = "SWEEP_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// How many reconciles of each controller run at once.
    #[arg(long, env = "SWEEP_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How many logs of trials are streamed at once, a connection each; those beyond are read every 10 s.
    #[arg(long, env = "SWEEP_MAX_LOG_STREAMS", default_value_t = 512, value_parser = clap::value_parser!(u16).range(0..))]
    max_log_streams: u16,
    /// Whether a Lease decides which of several operators is at work; the others stand by.
    #[arg(long, env = "SWEEP_LEADER_ELECT", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
        default_missing_value = "true", require_equals = true)]
    leader_elect: bool,
    /// The name of the Lease.
    #[arg(long, env = "SWEEP_LEASE_NAME", default_value = "sweep-operator")]
    lease_name: String,
    /// The namespace of the Lease; the operator's own where left out.
    #[arg(long, env = "SWEEP_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,
    /// How long the others wait after the last renewal that they have seen, in whole seconds.
    #[arg(long, env = "SWEEP_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    lease_duration: Duration,
    /// How long the leader goes on without a renewal; it ends then.
    #[arg(long, env = "SWEEP_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = duration)]
    lease_renew_deadline: Duration,
    /// How often the Lease is asked for and renewed.
    #[arg(long, env = "SWEEP_LEASE_RETRY_PERIOD", default_value = "2s", value_parser = duration)]
    lease_retry_period: Duration,
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
        Command::Plan(args) => plan::run(&args),
        Command::Crd => match api::crds_yaml() {
            Ok(yaml) => {
                print!("{yaml}");
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error.to_string()),
        },
        Command::Run(args) => local::run(&args),
        Command::AskTell => match ask_tell::run(std::io::stdin().lock(), std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            // Who asked has gone.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        },
        Command::Supervise(args) => local::supervise(&args),
        Command::Operator(args) => operator(args),
        Command::Probe { url } => match probe::run(&url) {
            Ok(body) => {
                print!("{body}");
                ExitCode::SUCCESS
            }
            Err(message) => failed(&message),
        },
        Command::Sidecar(args) => match sidecar::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        },
    }
}

/// Standard error, for log lines: what they quote, such as an API server's refusal, is cleaned as what a trainer wrote.
struct CleanStderr;

impl io::Write for CleanStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        io::stderr().write_all(format!("{}\n", shown(text.trim_end())).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn operator(args: OperatorArgs) -> ExitCode {
    // Its spans would repeat, in each line, what our own fields say.
    let filter = match EnvFilter::try_new(format!("kube_runtime=warn,{}", args.log)) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("error: --log {}: {error}", args.log);
            return ExitCode::from(2);
        }
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| CleanStderr);
    match args.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    let lease = match lease(&args) {
        Ok(lease) => lease,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let settings = controller::Settings {
        namespaces: args.namespaces,
        sidecar: SidecarSettings {
            image: args.sidecar_image,
            pull_policy: args.sidecar_pull_policy,
            cpu: args.sidecar_cpu,
            memory: args.sidecar_memory,
            pull_secrets: args.sidecar_pull_secrets,
        },
        keeps_best: args.best_config_map,
        listen: Some(args.listen),
        concurrency: args.concurrency,
        max_log_streams: args.max_log_streams.into(),
        starts_told: 10,
        lease,
        clock: jiff::Timestamp::now,
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

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = parse_duration(text).and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "not a duration such as 15s or 2m".to_owned())
}

/// The Lease to hold, if one shall be held.
fn lease(args: &OperatorArgs) -> Result<Option<LeaseSettings>, String> {
    if !args.leader_elect {
        return Ok(None);
    }
    let (duration, renew_deadline, retry_period) =
        (args.lease_duration, args.lease_renew_deadline, args.lease_retry_period);
    if duration <= renew_deadline || renew_deadline <= retry_period || retry_period.is_zero() {
        return Err("--lease-duration must be longer than --lease-renew-deadline, and that longer than \
                    --lease-retry-period: two operators would be at work"
            .to_owned());
    }
    // The pod's name, and something that two processes in it do not share.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "sweep-operator".to_owned());
    let identity = format!("{host}_{:016x}", RandomState::new().hash_one(std::process::id()));
    let (name, namespace) = (args.lease_name.clone(), args.lease_namespace.clone());
    Ok(Some(LeaseSettings { name, namespace, identity, duration, renew_deadline, retry_period }))
}

/// The work failed.
fn failed(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(1)
}

fn check(file: &Path) -> ExitCode {
    match load(file) {
        Ok((study, valid)) => {
            let warnings = [valid.warnings, valid.template.missing_images()].concat();
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            let with = match warnings.len() {
                0 => String::new(),
                1 => ", with 1 warning".to_owned(),
                count => format!(", with {count} warnings"),
            };
            println!("{}: study {} is valid{with}", file.display(), study.metadata.name.unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            print_problems(file, &problems);
            ExitCode::from(2)
        }
    }
}
