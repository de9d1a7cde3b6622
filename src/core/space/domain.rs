//! What a parameter may be: its values, their places in the unit interval, and the texts that a trainer sees.

use crate::core::normal::Truncated;

/// What a parameter may be. Every domain is valid: min < max, Log above 0, values distinct.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// A real number from a range.
    Double {
        /// Lowest.
        min: f64,
        /// Highest.
        max: f64,
        /// How it is covered.
        scale: Scale,
        /// Only min + k step.
        step: Option<f64>,
    },
    /// A whole number from a range.
    Int {
        /// Lowest.
        min: i64,
        /// Highest.
        max: i64,
        /// How it is covered.
        scale: Scale,
        /// Only min + k step.
        step: i64,
    },
    /// One of some numbers, ascending.
    Discrete(Vec<f64>),
    /// One of some words.
    Categorical(Vec<String>),
    /// One of some words that have an order.
    Ordinal(Vec<String>),
}

/// How a range is covered: where the prior of its values has its mass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// Evenly in the logarithm.
    Log,
    /// As a normal distribution, cut to the range.
    Normal {
        /// Within the range.
        mean: f64,
        /// Above 0.
        deviation: f64,
    },
    /// As a normal distribution of the natural logarithm, cut to the range.
    LogNormal {
        /// Of the logarithm.
        mean: f64,
        /// Of the logarithm, above 0.
        deviation: f64,
    },
}

/// So near to an end of its range a proposal is the end.
const AT_BOUND: f64 = 1e-12;

impl Scale {
    /// The share of the prior below `x`, within `low` to `high`: from 0 to 1.
    fn unit(&self, x: f64, low: f64, high: f64) -> f64 {
        let even = |x: f64, low: f64, high: f64| {
            // Halved, since high - low overflows for ranges near the largest doubles.
            ((x * 0.5 - low * 0.5) / (high * 0.5 - low * 0.5)).clamp(0.0, 1.0)
        };
        match *self {
            Scale::Linear => even(x, low, high),
            Scale::Log => even(libm::log(x), libm::log(low), libm::log(high)),
            Scale::Normal { mean, deviation } => Truncated::new(mean, deviation, low, high).cdf(x),
            Scale::LogNormal { mean, deviation } => {
                Truncated::new(mean, deviation, libm::log(low), libm::log(high)).cdf(libm::log(x))
            }
        }
    }

    /// The point below which a share `u` of the prior lies. The ends are the very bounds, which a logarithm and back would
    /// miss by the last bits.
    fn at(&self, u: f64, low: f64, high: f64) -> f64 {
        if u <= AT_BOUND {
            return low;
        }
        if u >= 1.0 - AT_BOUND {
            return high;
        }
        let x = match *self {
            // low + u (high - low) would overflow for ranges near the largest doubles.
            Scale::Linear => low * (1.0 - u) + high * u,
            Scale::Log => {
                let (low, high) = (libm::log(low), libm::log(high));
                libm::exp(low + u * (high - low))
            }
            Scale::Normal { mean, deviation } => Truncated::new(mean, deviation, low, high).quantile(u),
            Scale::LogNormal { mean, deviation } => {
                libm::exp(Truncated::new(mean, deviation, libm::log(low), libm::log(high)).quantile(u))
            }
        };
        x.clamp(low, high)
    }
}

/// A value of a domain. Discrete and categorical values are their position.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Value {
    /// Of a double.
    Double(f64),
    /// Of an int.
    Int(i64),
    /// Of a discrete or categorical parameter.
    Choice(usize),
}

/// A parameter exists only where its parent has such a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// Position of the parent, below the parameter's own.
    pub parent: usize,
    /// Which of the parent's values.
    pub values: Values,
}

/// Some of the values of a domain.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Those of discrete and categorical parameters, as positions in the domain.
    In(Vec<usize>),
    /// Those of a range, both ends included.
    Between(f64, f64),
}

impl Values {
    /// Whether `value` is one of them.
    pub fn contain(&self, value: Value) -> bool {
        match (self, value) {
            (Values::In(choices), Value::Choice(choice)) => choices.contains(&choice),
            (Values::Between(min, max), Value::Double(x)) => (*min..=*max).contains(&x),
            (Values::Between(min, max), Value::Int(n)) => (*min..=*max).contains(&(n as f64)),
            _ => false,
        }
    }
}

/// One dimension of the space.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it may be.
    pub domain: Domain,
    /// It exists only where all of these hold.
    pub when: Vec<Activation>,
    /// What the environment variable holds where it is inactive.
    pub inactive_value: Option<String>,
}

impl Domain {
    /// How many values there are; None for a continuum.
    pub fn size(&self) -> Option<u128> {
        match self {
            Domain::Double { step: None, .. } => None,
            Domain::Double { min, max, step: Some(step), .. } => Some(grid_points(*min, *max, *step)),
            Domain::Int { min, max, step, .. } => {
                Some(((i128::from(*max) - i128::from(*min)) / i128::from(*step)) as u128 + 1)
            }
            Domain::Discrete(values) => Some(values.len() as u128),
            Domain::Categorical(values) | Domain::Ordinal(values) => Some(values.len() as u128),
        }
    }

    /// Whether its values have no order.
    pub fn is_categorical(&self) -> bool {
        matches!(self, Domain::Categorical(_))
    }

    /// Whether its values are a continuum.
    pub fn is_continuous(&self) -> bool {
        self.size().is_none()
    }

    /// The value at `u` from [0, 1), the share of the prior below it: each value of a finite domain has a bin of
    /// its own; other than on a linear scale a whole number's bin is [n - step/2, n + step/2).
    pub fn at_unit(&self, u: f64) -> Value {
        match self {
            Domain::Double { min, max, scale, step: None } => Value::Double(scale.at(u, *min, *max)),
            Domain::Int { scale: Scale::Linear, .. } | Domain::Double { scale: Scale::Linear, .. } => self.in_bins(u),
            Domain::Int { .. } | Domain::Double { .. } => {
                let (low, high, step) = self.edges();
                let scale = self.scale();
                let size = self.size().unwrap_or(1);
                let rank = libm::floor((scale.at(u, low, high) - low) / step);
                self.nth((rank.max(0.0) as u128).min(size - 1))
            }
            Domain::Discrete(_) | Domain::Categorical(_) | Domain::Ordinal(_) => self.in_bins(u),
        }
    }

    /// The value of a finite domain with bins of one width.
    fn in_bins(&self, u: f64) -> Value {
        let size = self.size().unwrap_or(1);
        self.nth(((u * size as f64) as u128).min(size - 1))
    }

    /// Where `value` lies in [0, 1]: the middle of its bin in a finite domain. The inverse of [`Domain::at_unit`].
    pub fn unit(&self, value: Value) -> f64 {
        match (self, value) {
            (Domain::Double { min, max, scale, step: None }, Value::Double(x)) => scale.unit(x, *min, *max),
            _ => {
                let (low, high) = self.bin(value);
                0.5 * (low + high)
            }
        }
    }

    /// The bin of a value in [0, 1]; of no width in a continuum.
    pub fn bin(&self, value: Value) -> (f64, f64) {
        match (self, value) {
            (Domain::Double { step: None, .. }, _) => {
                let u = self.unit(value);
                (u, u)
            }
            (Domain::Int { scale: Scale::Linear, .. } | Domain::Double { scale: Scale::Linear, .. }, _)
            | (_, Value::Choice(_)) => {
                let (rank, size) = (self.rank(value) as f64, self.size().unwrap_or(1) as f64);
                (rank / size, (rank + 1.0) / size)
            }
            _ => {
                let (low, high, step) = self.edges();
                let from = low + self.rank(value) as f64 * step;
                let unit = |x: f64| self.scale().unit(x, low, high);
                (unit(from), unit(from + step))
            }
        }
    }

    /// The rank of a value of a finite domain; see [`Domain::nth`].
    pub fn rank(&self, value: Value) -> u128 {
        let last = self.size().unwrap_or(1) - 1;
        match (self, value) {
            (Domain::Double { min, step: Some(step), .. }, Value::Double(x)) => {
                (libm::round((x - min) / step).max(0.0) as u128).min(last)
            }
            (Domain::Int { min, step, .. }, Value::Int(n)) => {
                (((i128::from(n) - i128::from(*min)) / i128::from(*step)).max(0) as u128).min(last)
            }
            (_, Value::Choice(position)) => (position as u128).min(last),
            _ => 0,
        }
    }

    /// The outer edges of the bins of a stepped range, and their width.
    fn edges(&self) -> (f64, f64, f64) {
        let last = self.size().unwrap_or(1).saturating_sub(1) as f64;
        let (min, step) = match self {
            Domain::Double { min, step, .. } => (*min, step.unwrap_or(0.0)),
            Domain::Int { min, step, .. } => (*min as f64, *step as f64),
            Domain::Discrete(_) | Domain::Categorical(_) | Domain::Ordinal(_) => (0.0, 1.0),
        };
        (min - 0.5 * step, min + (last + 0.5) * step, step)
    }

    fn scale(&self) -> Scale {
        match self {
            Domain::Double { scale, .. } | Domain::Int { scale, .. } => *scale,
            Domain::Discrete(_) | Domain::Categorical(_) | Domain::Ordinal(_) => Scale::Linear,
        }
    }

    /// The value at `rank`, below [`Domain::size`], of a finite domain. A continuum gives its lowest value.
    pub fn nth(&self, rank: u128) -> Value {
        match self {
            Domain::Double { min, max, step, .. } => {
                let step = step.unwrap_or(0.0);
                Value::Double(round_to_grid(min + rank as f64 * step, *min, step).min(*max))
            }
            Domain::Int { min, step, .. } => Value::Int((i128::from(*min) + rank as i128 * i128::from(*step)) as i64),
            Domain::Discrete(_) | Domain::Categorical(_) | Domain::Ordinal(_) => Value::Choice(rank as usize),
        }
    }

    /// The text that the trainer sees.
    pub fn text(&self, value: Value) -> String {
        match (self, value) {
            (_, Value::Double(x)) => double_text(x),
            (_, Value::Int(n)) => n.to_string(),
            (Domain::Discrete(values), Value::Choice(i)) => number_text(values[i]),
            (Domain::Categorical(values) | Domain::Ordinal(values), Value::Choice(i)) => values[i].clone(),
            (_, Value::Choice(i)) => i.to_string(),
        }
    }

    /// The value that `text` stands for, or what is wrong with it.
    ///
    /// # Errors
    /// A message that says what would be accepted.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        match self {
            Domain::Double { min, max, step, .. } => {
                let x: f64 = parse_finite(text)?;
                if x < *min || x > *max {
                    return Err(format!("{text} is outside {} to {}", double_text(*min), double_text(*max)));
                }
                if let Some(step) = step {
                    let rank = libm::round((x - min) / step);
                    // A part of the step, and the rounding of the doubles themselves.
                    let tolerance = 1e-9 * step + 4.0 * f64::EPSILON * min.abs().max(x.abs());
                    if (min + rank * step - x).abs() > tolerance {
                        return Err(format!(
                            "{text} is not {} plus a multiple of {}",
                            double_text(*min),
                            double_text(*step)
                        ));
                    }
                    return Ok(self.nth(rank as u128));
                }
                Ok(Value::Double(x))
            }
            Domain::Int { min, max, step, .. } => {
                let n: i64 = text.trim().parse().map_err(|_| format!("{text:?} is not a whole number"))?;
                if n < *min || n > *max {
                    return Err(format!("{n} is outside {min} to {max}"));
                }
                if (i128::from(n) - i128::from(*min)) % i128::from(*step) != 0 {
                    return Err(format!("{n} is not {min} plus a multiple of {step}"));
                }
                Ok(Value::Int(n))
            }
            Domain::Discrete(values) => {
                let x = parse_finite(text)?;
                let position = values.iter().position(|v| *v == x);
                position
                    .map(Value::Choice)
                    .ok_or_else(|| format!("{text} is none of {}", list(values.iter().map(|v| number_text(*v)))))
            }
            Domain::Categorical(values) | Domain::Ordinal(values) => {
                let position = values.iter().position(|v| v == text);
                position
                    .map(Value::Choice)
                    .ok_or_else(|| format!("{text:?} is none of {}", list(values.iter().cloned())))
            }
        }
    }

    /// The value as JSON: a number, but for categories.
    pub fn json(&self, value: Value) -> serde_json::Value {
        match (self, value) {
            (_, Value::Double(x)) => x.into(),
            (_, Value::Int(n)) => n.into(),
            (Domain::Discrete(values), Value::Choice(i)) if is_whole(values[i]) => (values[i] as i64).into(),
            (Domain::Discrete(values), Value::Choice(i)) => values[i].into(),
            (domain, value) => domain.text(value).into(),
        }
    }
}

impl Parameter {
    /// Whether it exists, given the values of the parameters before it.
    pub fn is_active(&self, before: &[Option<Value>]) -> bool {
        self.when.iter().all(|a| before.get(a.parent).copied().flatten().is_some_and(|value| a.values.contain(value)))
    }
}

fn grid_points(min: f64, max: f64, step: f64) -> u128 {
    let steps = (max - min) / step;
    // 1e-9: 0.1 to 0.3 by 0.1 is three points, whatever the rounding of (max - min) / step.
    (libm::floor(steps * (1.0 + 2.0 * f64::EPSILON) + 1e-9) as u128).saturating_add(1)
}

/// `min + k step` without the noise of binary fractions: 0.3, not 0.30000000000000004.
fn round_to_grid(x: f64, min: f64, step: f64) -> f64 {
    let decimals = decimals(min).max(decimals(step));
    if decimals > 15 {
        return x;
    }
    // Adding 0.0 makes a negative zero positive.
    format!("{x:.decimals$}").parse().map_or(x, |rounded: f64| rounded + 0.0)
}

fn decimals(x: f64) -> usize {
    let text = format!("{x}");
    text.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

fn is_whole(x: f64) -> bool {
    x == libm::trunc(x) && x.abs() < 1e15
}

/// The shortest text that reads back as the same double: `0.001`, `1e-5`, `2.0`.
fn double_text(x: f64) -> String {
    format!("{x:?}")
}

/// As [`double_text`], but whole numbers as such: `16`, not `16.0`.
fn number_text(x: f64) -> String {
    if is_whole(x) { format!("{}", x as i64) } else { double_text(x) }
}

fn parse_finite(text: &str) -> Result<f64, String> {
    let x: f64 = text.trim().parse().map_err(|_| format!("{text:?} is not a number"))?;
    // Adding 0.0 makes a negative zero positive: the two are one value, and shall be one text.
    if x.is_finite() { Ok(x + 0.0) } else { Err(format!("{text} is not a finite number")) }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
