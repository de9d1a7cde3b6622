//! `sweep plan`: what a Study would cost, for a person or as JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use crate::core::plan::{Figure, Plan, plan};
use crate::input::{load, print, print_problems};
use crate::validate::ValidStudy;

/// What to plan.
#[derive(clap::Args)]
pub struct Args {
    /// The Study's YAML file; `-` reads standard input
    file: PathBuf,
    /// The steps of a whole trial, in the trainer's own; left out: the pruner's maxSteps
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9_007_199_254_740_991))]
    steps: Option<u64>,
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One JSON object
    Json,
}

/// So many reports a trial has where nobody has said how many steps.
const ASSUMED_STEPS: u64 = 100;

/// So many folds.
const ASSUMED_FOLDS: u64 = 10;

/// Plans, and prints.
pub fn run(args: &Args) -> ExitCode {
    let (study, valid) = match load(&args.file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            print_problems(&args.file, &problems);
            return ExitCode::from(2);
        }
    };
    let steps = args.steps.or_else(|| valid.core.pruners.max_steps());
    let assumed = if valid.core.pruners.fold_metric().is_some() { ASSUMED_FOLDS } else { ASSUMED_STEPS };
    let plan = plan(&valid.core, steps.unwrap_or(assumed));
    let text = match args.output {
        Output::Table => table(study.metadata.name.as_deref().unwrap_or_default(), &valid, &plan, steps),
        Output::Json => {
            let gpus = gpus(&valid);
            let whole = steps.map(|steps| steps as f64 * f64::from(plan.trials) * f64::from(gpus.max(1)));
            format!(
                "{:#}\n",
                json!({"study": study.metadata.name, "parallelism": valid.core.parallelism, "gpus": gpus, "steps": steps, "stepsWithoutPruner": whole, "plan": plan})
            )
        }
    };
    match print(&text) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(1)
        }
    }
}

fn gpus(valid: &ValidStudy) -> u32 {
    valid.template.gpu.as_ref().map_or(0, |gpu| gpu.count)
}

/// `12 (9 to 15)`
fn shown(figure: Figure) -> String {
    let whole = |value: f64| format!("{:.0}", value);
    match whole(figure.low) == whole(figure.high) {
        true => whole(figure.mean),
        false => format!("{} ({} to {})", whole(figure.mean), whole(figure.low), whole(figure.high)),
    }
}

fn scaled(figure: Figure, by: f64) -> Figure {
    Figure { low: figure.low * by, mean: figure.mean * by, high: figure.high * by }
}

fn table(name: &str, valid: &ValidStudy, plan: &Plan, steps: Option<u64>) -> String {
    let gpus = gpus(valid);
    let (unit, by) = if gpus > 0 { ("GPU-steps", f64::from(gpus)) } else { ("steps", 1.0) };
    let pruners = valid.core.pruners.names();
    let mut lines = vec![format!("{name}: {} trials, {} at a time", plan.trials, valid.core.parallelism)];
    lines.push(match pruners.as_slice() {
        [] => "no pruner: each trial runs to its end".to_owned(),
        names => format!("pruner: {}", names.join(", ")),
    });
    if !plan.brackets.is_empty() {
        lines.push(String::new());
        lines.push("bracket  trials".to_owned());
        lines.extend(plan.brackets.iter().enumerate().map(|(bracket, trials)| format!("{bracket:<7}  {trials}")));
    }
    if !plan.rungs.is_empty() {
        lines.push(String::new());
        let what = match valid.core.pruners.fold_metric() {
            Some(_) => "fold",
            None if pruners.contains(&"forecast") => "report",
            None => "rung",
        };
        lines.push(format!("{what:<8} {:<18} stopped there", "reached by"));
        let row =
            |at: &crate::core::plan::AtRung| format!("{:<8} {:<18} {}", at.rung, shown(at.reached), shown(at.stopped));
        lines.extend(plan.rungs.iter().map(row));
    }
    lines.push(String::new());
    lines.push(format!("trials that run to their end   {}", shown(plan.whole)));
    if let Some(steps) = steps {
        let all = steps as f64 * f64::from(plan.trials) * by;
        lines.push(format!("{:<30} {all:.0}", format!("{unit} without a pruner")));
        lines.push(format!("{:<30} {}", format!("{unit} with it"), shown(scaled(plan.cost, all))));
    }
    lines.push(format!("share of the steps, in percent {}", shown(scaled(plan.cost, 100.0))));
    lines.push(format!("share of the time, in percent  {}", shown(scaled(plan.time, 100.0))));
    lines.push(String::new());
    lines.push(format!(
        "Simulated {} times, on curves that only resemble a trainer's; in brackets: nine sweeps of ten.",
        plan.sweeps
    ));
    if steps.is_none() {
        lines.push("How many steps a trial has is not known: --steps gives the cost in steps.".to_owned());
    }
    lines.join("\n") + "\n"
}
