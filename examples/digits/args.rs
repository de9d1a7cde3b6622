//! The command line.

use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

pub const HELP: &str = "\
Trains a small neural network on the UCI handwritten digits, and reports its validation accuracy.

Usage: digits [--flag VALUE | --flag=VALUE]...

  --learning-rate X    above 0                                    [0.001]
  --width N            units in each hidden layer, 1 to 1024      [32]
  --depth N            hidden layers, 1 to 16                     [2]
  --optimizer NAME     adam or sgd                                [adam]
  --momentum X         of sgd, from 0 to below 1                  [0.9]
  --batch N            samples per step, 1 to 1000                [32]
  --weight-decay X     decoupled, 0 or more                       [0]
  --epochs N           passes over the training samples, 1 or more  [27]
  --seed N             of the initial weights and the batches     [0]
  --epoch-seconds S    each epoch lasts at least so long          [0]
  --help

Each epoch appends a line such as {\"step\": 3, \"accuracy\": 0.9140, \"loss\": 0.3108} to the file that the
environment variable SWEEP_METRICS names; where it is not set, these lines go to standard output.
";

pub enum Command {
    Train(Args),
    Help,
}

#[derive(Debug, PartialEq)]
pub struct Args {
    pub learning_rate: f32,
    pub width: usize,
    pub depth: usize,
    pub optimizer: Method,
    pub momentum: f32,
    pub batch: usize,
    pub weight_decay: f32,
    pub epochs: usize,
    pub seed: u64,
    pub epoch_seconds: f64,
}

#[derive(Debug, PartialEq)]
pub enum Method {
    Adam,
    Sgd,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            learning_rate: 0.001,
            width: 32,
            depth: 2,
            optimizer: Method::Adam,
            momentum: 0.9,
            batch: 32,
            weight_decay: 0.0,
            epochs: 27,
            seed: 0,
            epoch_seconds: 0.0,
        }
    }
}

/// Reads the words after the program's name. Of a flag that is given twice, the last one counts.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut args = Args::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Ok(Command::Help);
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let value = || value.or_else(|| words.next()).ok_or_else(|| format!("{name} needs a value"));
        args.set(&name, value)?;
    }
    Ok(Command::Train(args))
}

impl Args {
    fn set(&mut self, name: &str, value: impl FnOnce() -> Result<String, String>) -> Result<(), String> {
        match name {
            "--learning-rate" => {
                let above_zero = (Bound::Excluded(0.0), Bound::Included(f32::MAX));
                self.learning_rate = number(name, &value()?, above_zero, "a number above 0")?;
            }
            "--width" => self.width = number(name, &value()?, 1..=1024, "a whole number from 1 to 1024")?,
            "--depth" => self.depth = number(name, &value()?, 1..=16, "a whole number from 1 to 16")?,
            "--optimizer" => self.optimizer = method(name, &value()?)?,
            "--momentum" => self.momentum = number(name, &value()?, 0.0..1.0, "a number from 0 to below 1")?,
            "--batch" => self.batch = number(name, &value()?, 1..=1000, "a whole number from 1 to 1000")?,
            "--weight-decay" => {
                self.weight_decay = number(name, &value()?, 0.0..=f32::MAX, "a number of 0 or more")?;
            }
            "--epochs" => self.epochs = number(name, &value()?, 1.., "a whole number of 1 or more")?,
            "--seed" => self.seed = number(name, &value()?, .., "a whole number of 0 or more")?,
            "--epoch-seconds" => {
                self.epoch_seconds = number(name, &value()?, 0.0..=86_400.0, "a number from 0 to 86400")?;
            }
            _ => return Err(format!("unknown argument {name:?}")),
        }
        Ok(())
    }
}

/// Reads a number within a range, which `wanted` puts into words.
fn number<T>(name: &str, text: &str, range: impl RangeBounds<T>, wanted: &str) -> Result<T, String>
where
    T: FromStr + PartialOrd,
{
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| format!("{name}: {text:?} is not {wanted}"))
}

fn method(name: &str, text: &str) -> Result<Method, String> {
    match text {
        "adam" => Ok(Method::Adam),
        "sgd" => Ok(Method::Sgd),
        _ => Err(format!("{name}: {text:?} is not adam or sgd")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Args, String> {
        match parse(line.split_whitespace().map(str::to_owned))? {
            Command::Train(args) => Ok(args),
            Command::Help => Err("help".into()),
        }
    }

    #[test]
    fn both_forms_of_a_flag_are_read() {
        let expected = Args { learning_rate: 0.5, optimizer: Method::Sgd, ..Args::default() };
        assert_eq!(parsed("--learning-rate=0.5 --optimizer sgd"), Ok(expected));
        assert_eq!(parsed("--width=4 --help"), Err("help".into()));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("--with=3", "unknown argument \"--with\""),
            ("--width", "--width needs a value"),
            ("--width=0", "--width: \"0\" is not a whole number from 1 to 1024"),
            ("--learning-rate=NaN", "--learning-rate: \"NaN\" is not a number above 0"),
            ("--momentum=1", "--momentum: \"1\" is not a number from 0 to below 1"),
            ("--optimizer=$(optimizer)", "--optimizer: \"$(optimizer)\" is not adam or sgd"),
        ] {
            assert_eq!(parsed(line), Err(expected.into()));
        }
    }
}
