//! Minimisation of a smooth function in a box: L-BFGS with projection (Nocedal and Wright 2006, algorithms 7.4 and 16.5
//! in spirit). From a fixed start the same bits everywhere.

use super::linalg::{add_scaled, dot};

const MEMORY: usize = 8;

/// The lowest point that was found, and the value there. `f` puts its gradient into the second slice, and may give
/// infinity where it cannot be computed.
pub fn minimise(
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
    start: &[f64],
    bounds: &[(f64, f64)],
    iterations: usize,
) -> (Vec<f64>, f64) {
    let n = start.len();
    let project = |x: &mut [f64]| x.iter_mut().zip(bounds).for_each(|(x, (low, high))| *x = x.clamp(*low, *high));
    let mut x = start.to_vec();
    project(&mut x);
    let mut gradient = vec![0.0; n];
    let mut value = f(&x, &mut gradient);
    let mut steps: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
    if !value.is_finite() {
        return (x, value);
    }
    for _ in 0..iterations {
        // Where a bound holds back, that coordinate is left alone.
        let free: Vec<bool> = (0..n)
            .map(|i| match gradient[i] > 0.0 {
                true => x[i] > bounds[i].0,
                false => x[i] < bounds[i].1,
            })
            .collect();
        let masked =
            |v: &[f64]| -> Vec<f64> { v.iter().zip(&free).map(|(v, free)| if *free { *v } else { 0.0 }).collect() };
        let steepest = masked(&gradient);
        let largest = steepest.iter().fold(0.0_f64, |most, g| most.max(g.abs()));
        if largest < 1e-6 {
            break;
        }
        let mut direction = masked(&two_loops(&steepest, &steps));
        let descends = dot(&direction, &steepest) < 0.0;
        if !descends {
            steps.clear();
            direction = steepest.iter().map(|g| -g).collect();
        }
        let mut length = if steps.is_empty() { (0.2 / largest).min(1.0) } else { 1.0 };
        let mut next = None;
        for _ in 0..15 {
            let mut to = x.clone();
            add_scaled(&mut to, length, &direction);
            project(&mut to);
            let mut slope = vec![0.0; n];
            let there = f(&to, &mut slope);
            let moved: Vec<f64> = to.iter().zip(&x).map(|(to, from)| to - from).collect();
            if there.is_finite() && there <= value + 1e-4 * dot(&gradient, &moved) {
                next = Some((to, there, slope, moved));
                break;
            }
            length *= 0.4;
        }
        let Some((to, there, slope, moved)) = next else {
            // The memory may be what leads astray.
            if steps.is_empty() {
                break;
            }
            steps.clear();
            continue;
        };
        let bent: Vec<f64> = slope.iter().zip(&gradient).map(|(to, from)| to - from).collect();
        if dot(&moved, &bent) > 1e-10 * dot(&bent, &bent) {
            steps.push((moved, bent));
            if steps.len() > MEMORY {
                steps.remove(0);
            }
        }
        let gained = value - there;
        (x, value, gradient) = (to, there, slope);
        if gained <= 1e-9 * (1.0 + value.abs()) {
            break;
        }
    }
    (x, value)
}

/// Minus the inverse Hessian's estimate times the gradient.
fn two_loops(gradient: &[f64], steps: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(steps.len());
    for (moved, bent) in steps.iter().rev() {
        let share = dot(moved, &q) / dot(moved, bent);
        add_scaled(&mut q, -share, bent);
        shares.push(share);
    }
    if let Some((moved, bent)) = steps.last() {
        let scale = dot(moved, bent) / dot(bent, bent);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((moved, bent), share) in steps.iter().zip(shares.into_iter().rev()) {
        let back = dot(bent, &q) / dot(moved, bent);
        add_scaled(&mut q, share - back, moved);
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_valley_of_rosenbrock() {
        let rosenbrock = |x: &[f64], g: &mut [f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            g[0] = -2.0 * a - 400.0 * x[0] * b;
            g[1] = 200.0 * b;
            a * a + 100.0 * b * b
        };
        let (x, value) = minimise(rosenbrock, &[-1.2, 1.0], &[(-2.0, 2.0), (-2.0, 2.0)], 200);
        assert!(value < 1e-8 && (x[0] - 1.0).abs() < 1e-3, "{x:?} {value}");
    }

    #[test]
    fn a_bound_holds() {
        let slope = |x: &[f64], g: &mut [f64]| {
            g.copy_from_slice(&[1.0, 2.0 * (x[1] - 0.3)]);
            x[0] + (x[1] - 0.3) * (x[1] - 0.3)
        };
        let (x, _) = minimise(slope, &[0.5, 0.9], &[(0.0, 1.0), (0.0, 1.0)], 50);
        assert!(x[0] == 0.0 && (x[1] - 0.3).abs() < 1e-5, "{x:?}");
    }
}
