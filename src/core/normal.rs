//! The normal distribution, with the same bits everywhere.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The share of a standard normal below `z`.
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z * FRAC_1_SQRT_2)
}

/// The density of a standard normal at `z`.
pub fn pdf(z: f64) -> f64 {
    libm::exp(-0.5 * z * z) / libm::sqrt(2.0 * PI)
}

/// The logarithm of the square root of two pi.
pub const LOG_SQRT_2PI: f64 = 0.918_938_533_204_672_7;

/// The logarithm of the density of a standard normal at `z`.
pub fn log_pdf(z: f64) -> f64 {
    -0.5 * z * z - LOG_SQRT_2PI
}

/// The share between `low` and `high`, low at most high: exact also far out on either side.
pub fn between(low: f64, high: f64) -> f64 {
    // Far above the mean, shares are differences of numbers close to one: mirrored they are not.
    if low > 0.0 { cdf(-low) - cdf(-high) } else { cdf(high) - cdf(low) }
}

/// The point below which a share `p` lies: Wichura 1988, "Algorithm AS 241", PPND16; about 16 digits.
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * ratio(r, &CENTRAL);
    }
    let tail = if q < 0.0 { p } else { 1.0 - p };
    if tail <= 0.0 {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let r = libm::sqrt(-libm::log(tail));
    let z = if r <= 5.0 { ratio(r - 1.6, &MIDDLE) } else { ratio(r - 5.0, &FAR) };
    if q < 0.0 { -z } else { z }
}

/// `ln(pdf(z) + z cdf(z))`, the logarithm of the expected improvement at a standard deviation of one, and its
/// derivative, where the improvement itself would underflow: Ament 2023, "Unexpected Improvements to Expected
/// Improvement", equation 9.
pub fn log_improvement(z: f64) -> (f64, f64) {
    if z > -1.0 {
        let value = pdf(z) + z * cdf(z);
        return (libm::log(value), cdf(z) / value);
    }
    // h(z) = pdf + z cdf = pdf (1 + z m), m the ratio of Mills; for large -z: 1 + z m = 1/z² - 3/z⁴ + ….
    let mills = mills(-z);
    let rest = if z > -1e3 { 1.0 + z * mills } else { 1.0 / (z * z) - 3.0 / (z * z * z * z) };
    (log_pdf(z) + libm::log(rest), mills / rest)
}

/// `(1 - cdf(x)) / pdf(x)` for x of at least 1: by erfc while it does not underflow, then as a continued fraction.
fn mills(x: f64) -> f64 {
    if x < 5.0 {
        return cdf(-x) / pdf(x);
    }
    // Laplace's continued fraction, from the inside out.
    (1..=60).rev().fold(x, |inner, k| x + f64::from(k) / inner).recip()
}

fn ratio(r: f64, coefficients: &[[f64; 8]; 2]) -> f64 {
    let polynomial = |c: &[f64; 8]| c.iter().rev().fold(0.0, |sum, c| sum * r + c);
    polynomial(&coefficients[0]) / polynomial(&coefficients[1])
}

#[allow(clippy::excessive_precision)]
const CENTRAL: [[f64; 8]; 2] = [
    [
        3.387_132_872_796_366_608,
        1.331_416_678_917_843_774_5e2,
        1.971_590_950_306_551_442_7e3,
        1.373_169_376_550_946_112_5e4,
        4.592_195_393_154_987_145_7e4,
        6.726_577_092_700_870_085_3e4,
        3.343_057_558_358_812_810_5e4,
        2.509_080_928_730_122_672_7e3,
    ],
    [
        1.0,
        4.231_333_070_160_091_125_2e1,
        6.871_870_074_920_579_083_0e2,
        5.394_196_021_424_751_107_7e3,
        2.121_379_430_158_659_586_7e4,
        3.930_789_580_009_271_061_0e4,
        2.872_908_573_572_194_267_4e4,
        5.226_495_278_852_854_561_0e3,
    ],
];

#[allow(clippy::excessive_precision)]
const MIDDLE: [[f64; 8]; 2] = [
    [
        1.423_437_110_749_683_577_34,
        4.630_337_846_156_545_295_9,
        5.769_497_221_460_691_405_5,
        3.647_848_324_763_204_605_04,
        1.270_458_252_452_368_382_58,
        2.417_807_251_774_506_117_7e-1,
        2.272_384_498_926_918_458_33e-2,
        7.745_450_142_783_414_076_4e-4,
    ],
    [
        1.0,
        2.053_191_626_637_758_821_87,
        1.676_384_830_183_803_849_4,
        6.897_673_349_851_000_045_5e-1,
        1.481_039_764_274_800_745_9e-1,
        1.519_866_656_361_645_719_66e-2,
        5.475_938_084_995_344_946e-4,
        1.050_750_071_644_416_843_24e-9,
    ],
];

#[allow(clippy::excessive_precision)]
const FAR: [[f64; 8]; 2] = [
    [
        6.657_904_643_501_103_777_2,
        5.463_784_911_164_114_369_9,
        1.784_826_539_917_291_335_8,
        2.965_605_718_285_048_912_3e-1,
        2.653_218_952_657_612_309_3e-2,
        1.242_660_947_388_078_438_6e-3,
        2.711_555_568_743_487_578_15e-5,
        2.010_334_399_292_288_132_65e-7,
    ],
    [
        1.0,
        5.998_322_065_558_879_376_9e-1,
        1.369_298_809_227_358_053_1e-1,
        1.487_536_129_085_061_485_25e-2,
        7.868_691_311_456_132_591e-4,
        1.846_318_317_510_054_681_8e-5,
        1.421_511_758_316_445_888_7e-7,
        2.044_263_103_389_939_785_64e-15,
    ],
];

/// A normal distribution cut to a range.
#[derive(Clone, Copy, Debug)]
pub struct Truncated {
    mean: f64,
    deviation: f64,
    /// Share of the whole normal below the range, and within it.
    below: f64,
    within: f64,
}

impl Truncated {
    /// Of `mean` and `deviation`, cut to `low` to `high`; the mean lies between these.
    pub fn new(mean: f64, deviation: f64, low: f64, high: f64) -> Truncated {
        let (a, b) = ((low - mean) / deviation, (high - mean) / deviation);
        Truncated { mean, deviation, below: cdf(a), within: between(a, b) }
    }

    /// The share below `x`, from 0 to 1.
    pub fn cdf(&self, x: f64) -> f64 {
        ((cdf((x - self.mean) / self.deviation) - self.below) / self.within).clamp(0.0, 1.0)
    }

    /// The point below which a share `u` lies.
    pub fn quantile(&self, u: f64) -> f64 {
        self.mean + self.deviation * quantile((self.below + u * self.within).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_is_the_inverse_of_the_share() {
        for z in [-8.0, -5.0, -3.0, -1.5, -0.5, 0.0, 0.3, 1.0, 2.5, 4.0] {
            let back = quantile(cdf(z));
            assert!((back - z).abs() < 1e-9 * (1.0 + z.abs()), "{z} {back}");
        }
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-14);
    }

    #[test]
    fn the_log_improvement_is_smooth_where_its_formulas_meet() {
        for at in [-1.0, -5.0, -1e3] {
            let (above, slope) = log_improvement(at + 1e-9 * -at);
            let (below, _) = log_improvement(at - 1e-9 * -at);
            let step = 2e-9 * -at * slope;
            assert!((above - below - step).abs() < 1e-6 * (1.0 + above.abs()), "{at}: {above} {below} {step}");
        }
        // Known values: ln(pdf(z) + z cdf(z)).
        assert!((log_improvement(0.0).0 - libm::log(0.398_942_280_401_432_7)).abs() < 1e-12);
        assert!((log_improvement(-3.0).0 - libm::log(3.821_543_170_1e-4)).abs() < 1e-6);
    }
}
