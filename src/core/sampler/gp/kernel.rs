//! The covariance of two configurations: Matérn-5/2 with a lengthscale for each parameter, categories by a Hamming term;
//! parameters that exist together, only in a branch, are a factor of their own.

use crate::core::space::Space;

/// Parameters by the conditions under which they exist: those that always do come first.
pub struct Structure {
    groups: Vec<Group>,
    is_categorical: Vec<bool>,
}

struct Group {
    positions: Vec<usize>,
    /// Where its correlation of absent with present stands among the hyperparameters, from 0; None where always present.
    branch: Option<usize>,
}

/// What the likelihood is maximised over.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// The inverse square of each parameter's lengthscale, in units of the unit cube.
    pub weights: Vec<f64>,
    /// For each branch, the correlation of a configuration without it with one with it, in (0, 1).
    pub correlations: Vec<f64>,
    /// The variance of the surrogate.
    pub scale: f64,
    /// The variance of the noise.
    pub noise: f64,
}

const SQRT_5: f64 = 2.236_067_977_499_79;

/// Matérn-5/2 at a squared distance, and its derivative by that.
fn matern(squared: f64) -> (f64, f64) {
    let r = SQRT_5 * libm::sqrt(squared);
    let decay = libm::exp(-r);
    ((1.0 + r + r * r / 3.0) * decay, -(5.0 / 6.0) * (1.0 + r) * decay)
}

impl Structure {
    /// Of a space's parameters.
    pub fn new(space: &Space) -> Structure {
        let parameters = space.parameters();
        let mut groups: Vec<Group> = Vec::new();
        let mut branches = 0;
        for (position, parameter) in parameters.iter().enumerate() {
            match groups.iter_mut().find(|group| parameters[group.positions[0]].when == parameter.when) {
                Some(group) => group.positions.push(position),
                None => {
                    let branch = (!parameter.when.is_empty()).then_some(branches);
                    branches += usize::from(branch.is_some());
                    groups.push(Group { positions: vec![position], branch });
                }
            }
        }
        let is_categorical = parameters.iter().map(|parameter| parameter.domain.is_categorical()).collect();
        Structure { groups, is_categorical }
    }

    /// How many parameters.
    pub fn parameters(&self) -> usize {
        self.is_categorical.len()
    }

    /// How many branches.
    pub fn branches(&self) -> usize {
        self.groups.iter().filter(|group| group.branch.is_some()).count()
    }

    fn squared(&self, position: usize, a: f64, b: f64) -> f64 {
        match self.is_categorical[position] {
            true => f64::from(a != b),
            false => (a - b) * (a - b),
        }
    }

    /// The covariance of `a` and `b` without noise.
    pub fn covariance(&self, h: &Hyperparameters, a: &[f64], b: &[f64]) -> f64 {
        self.groups.iter().fold(h.scale, |product, group| {
            let first = group.positions[0];
            let correlation = group.branch.map(|branch| h.correlations[branch]);
            match (correlation, a[first].is_nan(), b[first].is_nan()) {
                (Some(_), true, true) => product,
                (Some(rho), true, false) | (Some(rho), false, true) => product * rho,
                (rho, ..) => {
                    let squared = group.positions.iter().fold(0.0, |sum, &position| {
                        sum + h.weights[position] * self.squared(position, a[position], b[position])
                    });
                    let rho = rho.unwrap_or(0.0);
                    product * (rho * rho + (1.0 - rho * rho) * matern(squared).0)
                }
            }
        })
    }

    /// The covariance of `x` and `b`; adds `weight` times its gradient by `x` to `gradient`, for ordered parameters.
    pub fn covariance_slope(&self, h: &Hyperparameters, x: &[f64], b: &[f64], slopes: &mut [f64]) -> f64 {
        slopes.fill(0.0);
        let mut factors = [1.0; 65];
        let mut product = h.scale;
        for (at, group) in self.groups.iter().enumerate() {
            let first = group.positions[0];
            let correlation = group.branch.map(|branch| h.correlations[branch]);
            factors[at] = match (correlation, x[first].is_nan(), b[first].is_nan()) {
                (Some(_), true, true) => 1.0,
                (Some(rho), true, false) | (Some(rho), false, true) => rho,
                (rho, ..) => {
                    let squared = group.positions.iter().fold(0.0, |sum, &position| {
                        sum + h.weights[position] * self.squared(position, x[position], b[position])
                    });
                    let rho = rho.unwrap_or(0.0);
                    let (value, slope) = matern(squared);
                    for &position in &group.positions {
                        if !self.is_categorical[position] {
                            slopes[position] =
                                (1.0 - rho * rho) * slope * 2.0 * h.weights[position] * (x[position] - b[position]);
                        }
                    }
                    rho * rho + (1.0 - rho * rho) * value
                }
            };
            product *= factors[at];
        }
        for (at, group) in self.groups.iter().enumerate() {
            for &position in &group.positions {
                slopes[position] *= product / factors[at];
            }
        }
        product
    }

    /// The correlation of a pair, and its derivatives by the logarithm of each lengthscale and by each branch's
    /// correlation, put into `slopes` in this order.
    pub fn correlation_slopes(&self, h: &Hyperparameters, a: &[f64], b: &[f64], slopes: &mut [f64]) -> f64 {
        slopes.fill(0.0);
        let parameters = self.parameters();
        let mut factors = [1.0; 65];
        let mut product = 1.0;
        for (at, group) in self.groups.iter().enumerate() {
            let first = group.positions[0];
            let correlation = group.branch.map(|branch| (branch, h.correlations[branch]));
            factors[at] = match (correlation, a[first].is_nan(), b[first].is_nan()) {
                (Some(_), true, true) => 1.0,
                (Some((branch, rho)), true, false) | (Some((branch, rho)), false, true) => {
                    slopes[parameters + branch] = 1.0;
                    rho
                }
                (branch, ..) => {
                    let mut squared = 0.0;
                    for &position in &group.positions {
                        let part = h.weights[position] * self.squared(position, a[position], b[position]);
                        slopes[position] = part;
                        squared += part;
                    }
                    let rho = branch.map_or(0.0, |(_, rho)| rho);
                    let (value, slope) = matern(squared);
                    for &position in &group.positions {
                        slopes[position] *= -2.0 * (1.0 - rho * rho) * slope;
                    }
                    if let Some((branch, rho)) = branch {
                        slopes[parameters + branch] = 2.0 * rho * (1.0 - value);
                    }
                    rho * rho + (1.0 - rho * rho) * value
                }
            };
            product *= factors[at];
        }
        for (at, group) in self.groups.iter().enumerate() {
            for &position in &group.positions {
                slopes[position] *= product / factors[at];
            }
            if let Some(branch) = group.branch {
                slopes[parameters + branch] *= product / factors[at];
            }
        }
        product
    }
}
