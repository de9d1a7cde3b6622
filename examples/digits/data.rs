//! The digits: embedded in the program, so that it needs no file at run time. DATA.md tells where they come from.

use crate::inflate::gunzip;
use crate::random::Random;

/// Pixels of an image: 8 x 8.
pub const PIXELS: usize = 64;
/// The digits 0 to 9.
pub const CLASSES: usize = 10;

const COMPRESSED: &[u8] = include_bytes!("digits.csv.gz");
/// Pixels are counts from 0 to this.
const BRIGHTEST: u8 = 16;
/// How many samples are kept back to measure the accuracy; the others are trained on.
const VALIDATION: usize = 500;
/// Every trial has the same split: `--seed` has no part in it, or accuracies could not be compared.
const SPLIT_SEED: u64 = 1998;

/// One image and the digit it shows.
#[derive(Clone)]
pub struct Sample {
    /// From 0 (white) to 1 (black), row by row.
    pub pixels: [f32; PIXELS],
    pub label: usize,
}

pub struct Dataset {
    pub train: Vec<Sample>,
    pub validation: Vec<Sample>,
}

pub fn load() -> Result<Dataset, String> {
    let bytes = gunzip(COMPRESSED).map_err(|error| format!("digits.csv.gz: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|error| format!("digits.csv.gz: not text: {error}"))?;
    let mut train = parse(&text)?;
    if train.len() <= VALIDATION {
        return Err(format!("digits.csv.gz: {} samples; more than {VALIDATION} are needed", train.len()));
    }
    Random::new(SPLIT_SEED).shuffle(&mut train);
    let validation = train.split_off(train.len() - VALIDATION);
    Ok(Dataset { train, validation })
}

/// Reads lines of 64 pixels and a label, separated by commas.
fn parse(text: &str) -> Result<Vec<Sample>, String> {
    (1..)
        .zip(text.lines())
        .map(|(number, line)| sample(line).map_err(|error| format!("digits.csv.gz: line {number}: {error}")))
        .collect()
}

fn sample(line: &str) -> Result<Sample, String> {
    let values = line
        .split(',')
        .map(|field| field.parse().map_err(|_| format!("{field:?} is not a number from 0 to 255")))
        .collect::<Result<Vec<u8>, _>>()?;
    let Some((&label, counts)) = values.split_last().filter(|(_, counts)| counts.len() == PIXELS) else {
        return Err(format!("{} values; a sample has {}", values.len(), PIXELS + 1));
    };
    if usize::from(label) >= CLASSES {
        return Err(format!("label {label}; it must be a digit"));
    }
    if let Some(count) = counts.iter().find(|&&count| count > BRIGHTEST) {
        return Err(format!("pixel {count}; the most is {BRIGHTEST}"));
    }
    let mut pixels = [0.0; PIXELS];
    for (pixel, &count) in pixels.iter_mut().zip(counts) {
        *pixel = f32::from(count) / f32::from(BRIGHTEST);
    }
    Ok(Sample { pixels, label: usize::from(label) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_digits_load() {
        let dataset = load().expect("the embedded data is sound");
        assert_eq!((dataset.train.len(), dataset.validation.len()), (1297, 500));
    }

    #[test]
    fn bad_lines_are_named() {
        let good = format!("{}7", "0,".repeat(PIXELS));
        assert_eq!(parse(&good).expect("a good line").len(), 1);
        for (bad, expected) in [
            ("1,2".to_owned(), "line 2: 2 values; a sample has 65"),
            (good.replace('7', "10"), "line 2: label 10; it must be a digit"),
            (good.replacen('0', "17", 1), "line 2: pixel 17; the most is 16"),
            (good.replacen('0', "x", 1), "line 2: \"x\" is not a number from 0 to 255"),
        ] {
            let error = parse(&format!("{good}\n{bad}\n")).err().unwrap_or_default();
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
