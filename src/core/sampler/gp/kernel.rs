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

/// A group's factor in the correlation of two configurations.
struct Compared {
    factor: f64,
    /// Its derivative by the squared distance, where both have the parameters.
    slope: Option<f64>,
    /// Its derivative by the branch's correlation.
    by_correlation: f64,
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

    /// What the parameters of a group make of two configurations.
    #[inline]
    fn compare(&self, h: &Hyperparameters, group: &Group, a: &[f64], b: &[f64]) -> Compared {
        let first = group.positions[0];
        let correlation = group.branch.map(|branch| h.correlations[branch]);
        match (correlation, a[first].is_nan(), b[first].is_nan()) {
            (Some(_), true, true) => Compared { factor: 1.0, slope: None, by_correlation: 0.0 },
            (Some(rho), true, false) | (Some(rho), false, true) => {
                Compared { factor: rho, slope: None, by_correlation: 1.0 }
            }
            (rho, ..) => {
                let parts = group.positions.iter().map(|&position| self.part(h, position, a, b));
                let (value, slope) = matern(parts.fold(0.0, |sum, part| sum + part));
                let rho = rho.unwrap_or(0.0);
                Compared {
                    factor: rho * rho + (1.0 - rho * rho) * value,
                    slope: Some((1.0 - rho * rho) * slope),
                    by_correlation: 2.0 * rho * (1.0 - value),
                }
            }
        }
    }

    /// A parameter's part in the squared distance.
    #[inline]
    fn part(&self, h: &Hyperparameters, position: usize, a: &[f64], b: &[f64]) -> f64 {
        let squared = match self.is_categorical[position] {
            true => f64::from(a[position] != b[position]),
            false => (a[position] - b[position]) * (a[position] - b[position]),
        };
        h.weights[position] * squared
    }

    /// The covariance of `a` and `b` without noise.
    pub fn covariance(&self, h: &Hyperparameters, a: &[f64], b: &[f64]) -> f64 {
        self.groups.iter().fold(h.scale, |product, group| product * self.compare(h, group, a, b).factor)
    }

    /// The covariance of `x` and `b` without noise; its derivatives by the ordered parameters of `x` are put into `slopes`.
    pub fn covariance_slope(&self, h: &Hyperparameters, x: &[f64], b: &[f64], slopes: &mut [f64]) -> f64 {
        let each = |group: &Group, compared: &Compared, slopes: &mut [f64]| {
            for &position in group.positions.iter().filter(|position| !self.is_categorical[**position]) {
                if let Some(slope) = compared.slope {
                    slopes[position] = slope * 2.0 * h.weights[position] * (x[position] - b[position]);
                }
            }
        };
        self.slopes(h, h.scale, x, b, each, slopes)
    }

    /// The correlation of a pair, and its derivatives by the logarithm of each lengthscale and by each branch's
    /// correlation, put into `slopes` in this order.
    pub fn correlation_slopes(&self, h: &Hyperparameters, a: &[f64], b: &[f64], slopes: &mut [f64]) -> f64 {
        let each = |group: &Group, compared: &Compared, slopes: &mut [f64]| {
            for &position in &group.positions {
                if let Some(slope) = compared.slope {
                    slopes[position] = self.part(h, position, a, b) * (-2.0 * slope);
                }
            }
            if let Some(branch) = group.branch {
                slopes[self.parameters() + branch] = compared.by_correlation;
            }
        };
        self.slopes(h, 1.0, a, b, each, slopes)
    }

    /// The product of `scale` and all groups' factors. `each` puts the derivatives of a group's own factor into `slopes`.
    fn slopes(
        &self,
        h: &Hyperparameters,
        scale: f64,
        a: &[f64],
        b: &[f64],
        each: impl Fn(&Group, &Compared, &mut [f64]),
        slopes: &mut [f64],
    ) -> f64 {
        slopes.fill(0.0);
        // No more groups than parameters, of which the API has at most 64.
        let mut factors = [1.0; 64];
        let mut product = scale;
        for (group, factor) in self.groups.iter().zip(&mut factors) {
            let compared = self.compare(h, group, a, b);
            each(group, &compared, slopes);
            *factor = compared.factor;
            product *= compared.factor;
        }
        for (group, factor) in self.groups.iter().zip(&factors) {
            let others = product / factor;
            group.positions.iter().for_each(|&position| slopes[position] *= others);
            if let Some(slope) = group.branch.and_then(|branch| slopes.get_mut(self.parameters() + branch)) {
                *slope *= others;
            }
        }
        product
    }
}
