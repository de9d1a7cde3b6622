//! The few kernels of linear algebra that models need, in a fixed order and without fused operations: the same bits on
//! every machine, which libraries that choose their instructions at run time do not promise.

/// The sum of products, in eight interleaved parts, so that a compiler may compute several at once.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).fold(0.0, |sum, (a, b)| sum + a * b);
    let [s0, s1, s2, s3, s4, s5, s6, s7] = sums;
    (((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))) + rest
}

/// `y += a x`.
pub fn add_scaled(y: &mut [f64], a: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// A lower triangular matrix L with positive diagonal, row by row: the Cholesky factor of L Lᵀ.
#[derive(Clone, Debug, Default)]
pub struct Factor {
    rows: Vec<Vec<f64>>,
}

impl Factor {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds the row of a symmetric positive definite matrix that `covariance` begins, up to its diagonal. One row after
    /// the other gives the factor of the whole, bit for bit.
    ///
    /// # Errors
    /// The matrix is not positive definite as far as doubles can tell; nothing was added.
    pub fn append(&mut self, covariance: &[f64]) -> Result<(), NotPositiveDefinite> {
        let n = self.rows.len();
        let mut row = covariance[..n].to_vec();
        self.solve_lower(&mut row);
        let pivot = covariance[n] - dot(&row, &row);
        // A pivot that is nothing but rounding: what follows would be noise.
        if pivot.is_nan() || pivot <= covariance[n] * 1e-13 {
            return Err(NotPositiveDefinite);
        }
        row.push(libm::sqrt(pivot));
        self.rows.push(row);
        Ok(())
    }

    /// Keeps the first `n` rows.
    pub fn truncate(&mut self, n: usize) {
        self.rows.truncate(n);
    }

    /// Solves L x = b in place, for as many rows as `b` has.
    pub fn solve_lower(&self, b: &mut [f64]) {
        for i in 0..b.len() {
            let row = &self.rows[i];
            let (known, rest) = b.split_at_mut(i);
            rest[0] = (rest[0] - dot(&row[..i], known)) / row[i];
        }
    }

    /// Solves Lᵀ x = b in place.
    pub fn solve_upper(&self, b: &mut [f64]) {
        for i in (0..b.len()).rev() {
            let row = &self.rows[i];
            let x = b[i] / row[i];
            b[i] = x;
            add_scaled(&mut b[..i], -x, &row[..i]);
        }
    }

    /// The logarithm of the determinant of L Lᵀ.
    pub fn log_determinant(&self) -> f64 {
        self.rows.iter().enumerate().fold(0.0, |sum, (i, row)| sum + 2.0 * libm::log(row[i]))
    }

    /// The lower triangle of the inverse of L Lᵀ, row by row.
    pub fn inverse(&self) -> Vec<Vec<f64>> {
        let n = self.rows.len();
        // Rows of L⁻ᵀ: row j is column j of L⁻¹, from the diagonal on.
        let columns: Vec<Vec<f64>> = (0..n)
            .map(|j| {
                let mut column = Vec::with_capacity(n - j);
                for i in j..n {
                    let b = if i == j { 1.0 } else { 0.0 };
                    let x = (b - dot(&self.rows[i][j..i], &column)) / self.rows[i][i];
                    column.push(x);
                }
                column
            })
            .collect();
        // (L Lᵀ)⁻¹ = L⁻ᵀ L⁻¹: entry (i, j), j ≤ i, sums over rows k ≥ i.
        (0..n).map(|i| (0..=i).map(|j| dot(&columns[i], &columns[j][i - j..])).collect()).collect()
    }
}

/// A matrix that has no Cholesky factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotPositiveDefinite;

/// The identity matrix, row by row.
pub fn identity(n: usize) -> Vec<Vec<f64>> {
    (0..n).map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect()
}

/// Eigenvalues and eigenvectors of a symmetric matrix: Jacobi's method, in cyclic order. The vectors are the columns of
/// the matrix that is returned, in the order of the values, which are in no order.
pub fn eigen(matrix: &[Vec<f64>]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = matrix.len();
    let mut a = matrix.to_vec();
    let mut vectors = identity(n);
    for _ in 0..60 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).fold(0.0, |sum, (i, j)| sum + a[i][j] * a[i][j]);
        let diagonal: f64 = (0..n).fold(0.0, |sum, i| sum + a[i][i] * a[i][i]);
        if off <= 1e-30 * diagonal {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + libm::sqrt(theta * theta + 1.0));
                let c = 1.0 / libm::sqrt(t * t + 1.0);
                let s = t * c;
                for row in a.iter_mut() {
                    let (x, y) = (row[p], row[q]);
                    row[p] = c * x - s * y;
                    row[q] = s * x + c * y;
                }
                let (above, below) = a.split_at_mut(q);
                for (to_p, to_q) in above[p].iter_mut().zip(below[0].iter_mut()) {
                    let (x, y) = (*to_p, *to_q);
                    *to_p = c * x - s * y;
                    *to_q = s * x + c * y;
                }
                for row in vectors.iter_mut() {
                    let (x, y) = (row[p], row[q]);
                    row[p] = c * x - s * y;
                    row[q] = s * x + c * y;
                }
            }
        }
    }
    ((0..n).map(|i| a[i][i]).collect(), vectors)
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;

    use super::*;
    use crate::core::rng::stream;

    /// A symmetric positive definite matrix.
    fn matrix(n: usize, seed: u64) -> DMatrix<f64> {
        let mut stream = stream(seed, "matrix", n as u64);
        let a = DMatrix::from_fn(n, n, |_, _| stream.unit() - 0.5);
        &a * a.transpose() + DMatrix::identity(n, n) * 0.1
    }

    fn factor(matrix: &DMatrix<f64>) -> Factor {
        let mut factor = Factor::default();
        for i in 0..matrix.nrows() {
            let row: Vec<f64> = (0..=i).map(|j| matrix[(i, j)]).collect();
            assert_eq!(factor.append(&row), Ok(()));
        }
        factor
    }

    #[test]
    fn factor_solutions_inverse_and_determinant_are_those_of_nalgebra() {
        for n in [1, 2, 7, 8, 9, 33, 100] {
            let matrix = matrix(n, 1);
            let ours = factor(&matrix);
            let cholesky = matrix.clone().cholesky().expect("positive definite as built");
            let b: Vec<f64> = (0..n).map(|i| i as f64 - 3.0).collect();
            let mut x = b.clone();
            ours.solve_lower(&mut x);
            ours.solve_upper(&mut x);
            let theirs = cholesky.solve(&nalgebra::DVector::from_vec(b));
            let inverse = cholesky.inverse();
            for i in 0..n {
                assert!((x[i] - theirs[i]).abs() < 1e-9 * (1.0 + theirs[i].abs()), "solution, n {n}");
                for j in 0..=i {
                    let difference = ours.inverse()[i][j] - inverse[(i, j)];
                    assert!(difference.abs() < 1e-9 * (1.0 + inverse[(i, j)].abs()), "inverse, n {n}");
                }
                if n > 10 && i > 10 {
                    break;
                }
            }
            let log: f64 = cholesky.l().diagonal().iter().map(|d| 2.0 * d.ln()).sum();
            assert!((ours.log_determinant() - log).abs() < 1e-9 * (1.0 + log.abs()), "determinant, n {n}");
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_refused_and_the_factor_is_as_before() {
        let mut factor = Factor::default();
        assert_eq!(factor.append(&[4.0]), Ok(()));
        assert_eq!(factor.append(&[4.0, 4.0]), Err(NotPositiveDefinite));
        assert_eq!(factor.append(&[f64::NAN, 4.0]), Err(NotPositiveDefinite));
        assert_eq!(factor.len(), 1);
        assert_eq!(factor.append(&[2.0, 4.0]), Ok(()));
    }

    #[test]
    fn eigenvalues_are_those_of_nalgebra_and_the_vectors_give_the_matrix_back() {
        for n in [1, 2, 5, 20] {
            let matrix = matrix(n, 2);
            let rows: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| matrix[(i, j)]).collect()).collect();
            let (mut values, vectors) = eigen(&rows);
            for i in 0..n {
                for j in 0..n {
                    let back: f64 = (0..n).map(|k| vectors[i][k] * values[k] * vectors[j][k]).sum();
                    assert!((back - matrix[(i, j)]).abs() < 1e-10, "n {n}");
                }
            }
            values.sort_unstable_by(f64::total_cmp);
            let mut theirs: Vec<f64> = matrix.symmetric_eigenvalues().iter().copied().collect();
            theirs.sort_unstable_by(f64::total_cmp);
            values.iter().zip(&theirs).for_each(|(a, b)| assert!((a - b).abs() < 1e-10, "{values:?} {theirs:?}"));
        }
    }
}
