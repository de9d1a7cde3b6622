//! A trainer to sweep over: a small neural network learns handwritten digits, on the CPU, in a second or two.
//!
//! It knows nothing of sweep-operator: it takes its parameters as flags, and appends one JSON line per
//! epoch to the file that `SWEEP_METRICS` names.

mod args;
mod data;
mod inflate;
mod network;
mod optimizer;
mod random;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use args::{Args, Command};
use data::{Dataset, Sample};
use network::Network;
use optimizer::Optimizer;
use random::Random;
use report::{Epoch, Report};

fn main() -> ExitCode {
    let outcome = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Train(args)) => train(&args),
        Ok(Command::Help) => report::print(args::HELP),
        Err(message) => {
            eprintln!("digits: {message} (see --help)");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("digits: {message}");
            ExitCode::FAILURE
        }
    }
}

fn train(args: &Args) -> Result<(), String> {
    let Dataset { mut train, validation } = data::load()?;
    let mut report = Report::from_environment()?;
    let mut random = Random::new(args.seed);
    let mut network = Network::new(data::PIXELS, args.width, args.depth, data::CLASSES, &mut random);
    let mut optimizer = Optimizer::new(args, network.parameters().len());

    let mut accuracy = 0.0;
    for step in 1..=args.epochs {
        let start = Instant::now();
        random.shuffle(&mut train);
        for batch in train.chunks(args.batch) {
            let (parameters, gradient) = network.gradient(batch);
            optimizer.update(parameters, gradient);
        }
        let epoch = evaluate(&mut network, &validation, step);
        if !epoch.loss.is_finite() {
            return Err(format!("training diverged at epoch {step}: loss is not finite; lower the learning rate"));
        }
        wait_until(start, args.epoch_seconds);
        report.epoch(&epoch)?;
        accuracy = epoch.accuracy;
    }
    // Not in the form `accuracy=...`: it would read as one more observation in the trainer's log.
    report::print(&format!("done: accuracy {accuracy:.4} after {} epochs\n", args.epochs))
}

/// Measures the network on samples that it was not trained on.
fn evaluate(network: &mut Network, samples: &[Sample], step: usize) -> Epoch {
    let mut correct = 0;
    let mut loss = 0.0;
    for sample in samples {
        let (guess, sample_loss) = network.classify(sample);
        correct += usize::from(guess == sample.label);
        loss += f64::from(sample_loss);
    }
    let count = samples.len() as f64;
    Epoch { step, accuracy: correct as f64 / count, loss: loss / count }
}

/// Lets an epoch last as long as was asked for, so that a demo can be watched.
fn wait_until(start: Instant, seconds: f64) {
    let rest = seconds - start.elapsed().as_secs_f64();
    if rest > 0.0 {
        std::thread::sleep(Duration::from_secs_f64(rest));
    }
}
