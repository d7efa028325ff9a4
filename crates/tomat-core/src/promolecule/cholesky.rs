//! Symmetric positive definite systems.

/// The lower triangle `L` of `A = L L^T`, row-major in a full square.
pub(super) struct Cholesky {
    n: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors a symmetric matrix, of which the lower triangle is read. The error is the first row at which it
    /// is not positive definite.
    pub(super) fn new(mut matrix: Vec<f64>, n: usize) -> Result<Self, usize> {
        for i in 0..n {
            let (above, rest) = matrix.split_at_mut(i * n);
            let row = &mut rest[..n];
            for j in 0..i {
                let other = &above[j * n..][..=j];
                row[j] = (row[j] - inner(&row[..j], &other[..j])) / other[j];
            }
            let pivot = row[i] - inner(&row[..i], &row[..i]);
            // Below this, rounding decides the sign.
            if pivot.is_nan() || pivot <= 1e-15 * row[i].abs() {
                return Err(i);
            }
            row[i] = pivot.sqrt();
        }
        Ok(Self { n, lower: matrix })
    }

    /// `A x = b`, in place.
    pub(super) fn solve(&self, b: &mut [f64]) {
        let n = self.n;
        for i in 0..n {
            let row = &self.lower[i * n..][..=i];
            b[i] = (b[i] - inner(&row[..i], &b[..i])) / row[i];
        }
        for i in (0..n).rev() {
            let row = &self.lower[i * n..][..=i];
            b[i] /= row[i];
            let x = b[i];
            for (value, l) in b[..i].iter_mut().zip(row) {
                *value -= x * l;
            }
        }
    }
}

/// A dot product in four lanes, so that it can use vector registers; the order of additions is fixed.
fn inner(a: &[f64], b: &[f64]) -> f64 {
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let tail: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| x * y).sum();
    let mut lanes = [0.0; 4];
    for (x, y) in a4.zip(b4) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + tail
}
