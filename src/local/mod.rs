//! The process shell: a whole sweep as processes of this machine, behind `sweep run`.
//!
//! [`run`] prepares, `sweep` is the loop around [`crate::core::decide`], `process` sees a process as a run, `records` has
//! [`crate::core::life`] say what is recorded of its trial, and `view` is what a person sees.
//! [`supervise`](supervise()) is the parent of every trainer. The folder of a run ([`state`]) is all that is remembered: a run that was killed goes on from it.

mod descendants;
mod expand;
mod gpus;
mod layout;
mod left_out;
pub(crate) mod process;
pub(crate) mod records;
mod screen;
mod state;
mod supervise;
mod sweep;
mod trials;
mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

pub use supervise::{SuperviseArgs, supervise};

use self::gpus::Gpus;
use self::process::Launch;
use self::screen::Screen;
use self::state::Folder;
use self::sweep::{End, Error, Sweep};
use crate::api::Study;
use crate::core::fnv1a;
use crate::input;
use crate::job::Template;
use crate::validate::{Problem, Problems, ValidStudy};

/// Arguments of `sweep run`.
#[derive(clap::Args)]
pub struct RunArgs {
    /// The Study's YAML file; `-` reads standard input.
    file: PathBuf,
    /// The folder of the run; started again with the same one, it goes on. [default: .sweep/NAME]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// GPUs to hand out through CUDA_VISIBLE_DEVICES, such as 0,1,2,3.
    #[arg(long, value_delimiter = ',')]
    gpus: Option<Vec<String>>,
    /// What is printed at the end.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Run this instead of the template's command and args; $(name) is expanded as there.
    #[arg(last = true)]
    command: Vec<String>,
}

/// What is printed at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// Tables.
    Text,
    /// The Study with its status.
    Json,
}

/// Exit code of a run that was interrupted: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs a sweep to its end. Exit codes: 0 complete, 1 the study failed, 2 bad input, 130 interrupted.
pub fn run(args: &RunArgs) -> ExitCode {
    let (study, valid, launch, gpus) = match input(args) {
        Ok(input) => input,
        Err(problems) => return refused(&args.file, &problems),
    };
    match carry_out(args, study, valid, launch, gpus) {
        Ok((end, study)) => report(args, end, &study),
        Err(Error::AnotherStudy { folder, problems }) => {
            let code = refused(&args.file, &problems);
            eprintln!("use another --dir for this Study, or remove {}", folder.display());
            code
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

type Input = (Study, ValidStudy, Launch, Option<Gpus>);

/// Everything that can be wrong with the input, before anything is touched.
fn input(args: &RunArgs) -> Result<Input, Vec<Problem>> {
    let (study, mut valid) = input::load(&args.file)?;
    let mut command = Problems::default();
    valid.template.check_command(&study.spec, &args.command, &mut command);
    valid.warnings.extend(command.take_warnings());
    let mut problems = command.into_vec();
    let user = |name: &str| std::env::var(name).ok();
    let launch = Launch::new(&valid.template, &args.command, user).map_err(|more| problems.extend(more));
    let gpus = args.gpus.as_deref().map(Gpus::new).transpose();
    let gpus = gpus.map_err(|message| problems.push(Problem { path: "--gpus".to_owned(), message }));
    if let (Some(gpu), Ok(Some(gpus))) = (&study.spec.gpu, &gpus)
        && gpu.count as usize > gpus.count()
    {
        problems.push(Problem {
            path: "spec.gpu.count".to_owned(),
            message: format!("is {}, but --gpus lists only {}: no trial could ever start", gpu.count, gpus.count()),
        });
    }
    if !args.command.is_empty() {
        valid.core.template = template_with(&valid.template, &args.command);
    }
    match (launch, gpus) {
        (Ok(launch), Ok(gpus)) if problems.is_empty() => Ok((study, valid, launch, gpus)),
        _ => Err(problems),
    }
}

/// The hash of a template whose command is replaced: that is a template of its own, and what failed with another command
/// may be tried again with this one.
fn template_with(template: &Template, command: &[String]) -> u64 {
    fnv1a(serde_json::json!([template.hash(), command]).to_string().as_bytes())
}

fn refused(file: &Path, problems: &[Problem]) -> ExitCode {
    input::print_problems(file, problems);
    ExitCode::from(2)
}

fn carry_out(
    args: &RunArgs,
    study: Study,
    valid: ValidStudy,
    launch: Launch,
    gpus: Option<Gpus>,
) -> Result<(End, Sweep), Error> {
    let root = args.dir.clone().unwrap_or_else(|| Path::new(".sweep").join(&valid.core.name));
    let folder = Folder::open(&root)?;
    let mut screen = Screen::new();
    for warning in &valid.warnings {
        screen.line(&format!("warning: {warning}"));
    }
    for note in notes(&valid, &launch, gpus.as_ref()) {
        screen.line(&note);
    }
    // Should a supervisor be killed, its trainer comes to this process.
    descendants::adopt_orphans();
    folder.wait_for_trainers(Duration::from_secs(valid.template.grace_seconds()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let mut sweep = Sweep::load(study, valid, launch, gpus, folder, screen)?;
        let end = sweep.run().await?;
        Ok((end, sweep))
    })
}

/// What differs from a run in a cluster, so that nobody is surprised.
fn notes(valid: &ValidStudy, launch: &Launch, gpus: Option<&Gpus>) -> Vec<String> {
    let here = std::env::current_dir().unwrap_or_default();
    let alone = valid.core.parallelism <= 1;
    let left_out = left_out::left_out(&valid.template, &launch.unresolved, gpus.is_some(), alone, &here);
    let mut notes: Vec<String> = left_out::note(&left_out).into_iter().collect();
    if gpus.is_some() && valid.template.gpu.is_none() {
        notes.push("note: --gpus is ignored: spec.gpu does not say how many GPUs a trial needs".to_owned());
    }
    notes
}

fn report(args: &RunArgs, end: End, sweep: &Sweep) -> ExitCode {
    if args.output == Output::Json {
        let json = serde_json::to_string_pretty(sweep.study()).map_err(std::io::Error::from);
        if let Err(error) = json.and_then(|json| input::print(&json)) {
            eprintln!("error: the Study cannot be printed: {error}; it is in the run's folder");
            return ExitCode::from(1);
        }
    }
    let show = |text: String| match args.output {
        // Who closed the output does not want it; the result is in the folder.
        Output::Text => drop(input::print(&text)),
        Output::Json => eprintln!("{text}"),
    };
    match end {
        End::Complete(message) => {
            show(sweep.summary(args.output == Output::Json));
            show(format!("complete: {message}"));
            ExitCode::SUCCESS
        }
        End::Failed(message) => {
            show(sweep.summary(args.output == Output::Json));
            eprintln!("error: the study failed: {message}");
            ExitCode::from(1)
        }
        End::HeldBack(message) => {
            eprintln!("nothing starts: {message}");
            ExitCode::SUCCESS
        }
        End::Interrupted(message) => {
            eprintln!("interrupted: {message}; go on with\n  {}", screen::quoted(&resume_command(args)));
            ExitCode::from(INTERRUPTED)
        }
    }
}

/// The command line that goes on with this run.
fn resume_command(args: &RunArgs) -> Vec<String> {
    let mut words = vec!["sweep".to_owned(), "run".to_owned(), args.file.display().to_string()];
    if let Some(dir) = &args.dir {
        words.extend(["--dir".to_owned(), dir.display().to_string()]);
    }
    if let Some(gpus) = &args.gpus {
        words.extend(["--gpus".to_owned(), gpus.join(",")]);
    }
    if args.output == Output::Json {
        words.extend(["--output", "json"].map(str::to_owned));
    }
    if !args.command.is_empty() {
        words.push("--".to_owned());
        words.extend(args.command.iter().cloned());
    }
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::validate::{any_template, validate};

    #[test]
    fn another_command_is_another_template() {
        let spec = serde_json::json!({
            "objectives": [{"metric": "loss", "direction": "Minimize"}],
            "parameters": [{"name": "x", "double": {"min": 0, "max": 1}}],
            "maxTrials": 1,
            "jobTemplate": any_template(),
        });
        let valid = validate("s", &serde_json::from_value(spec).unwrap()).unwrap();
        let hash = |words: &[&str]| {
            template_with(&valid.template, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(hash(&["sh", "a"]), hash(&["sh", "a"]));
        assert_ne!(hash(&["sh", "a"]), hash(&["sh", "b"]));
        assert_ne!(hash(&["sh", "a"]), hash(&["sh a"]));
        assert_ne!(hash(&["sh", "a"]), valid.core.template);
    }
}
