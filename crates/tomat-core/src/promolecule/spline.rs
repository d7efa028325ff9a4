//! Cubic B-splines in a graded radial coordinate.

use std::f64::consts::PI;

use super::radial::{RadialTable, check_cutoff};
use crate::error::{Error, Result};

/// `n` cubic B-splines on knots that lie close together near the nucleus and apart far from it.
///
/// The splines are uniform in `u(r) = ln(1 + r^2 / inner^2)`, from 0 to the cutoff. A function of `r^2` is smooth at
/// the nucleus, as pseudopotential densities are; the knots are about `inner * step` apart around `r = inner` and
/// `r * step / 2` apart far out, with `step = u(cutoff) / n`. Splines that are not zero at the cutoff, with two
/// derivatives, are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct RadialBasis {
    cutoff: f64,
    inner: f64,
    len: usize,
    inverse_square: f64,
    inverse_step: f64,
}

impl RadialBasis {
    /// `len` splines up to `cutoff` angstrom, graded around `inner` angstrom.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the cutoff is not between 0 and 1,000, `inner` is not between a thousandth of the
    /// cutoff and a thousand times it, or `len` is not 4 to 1,000.
    pub fn new(cutoff: f64, inner: f64, len: usize) -> Result<Self> {
        check_cutoff(cutoff)?;
        if !(inner.is_finite() && inner >= 1e-3 * cutoff && inner <= 1e3 * cutoff) {
            return Err(Error::invalid(format!(
                "the knots are graded around {inner} angstrom; give a number between {} and {} (a thousandth of the \
                 cutoff and a thousand times it)",
                1e-3 * cutoff,
                1e3 * cutoff
            )));
        }
        if !(4..=1000).contains(&len) {
            return Err(Error::invalid(format!("{len} splines an element; give 4 to 1000")));
        }
        let inverse_square = 1.0 / (inner * inner);
        let inverse_step = len as f64 / (cutoff * cutoff * inverse_square).ln_1p();
        Ok(Self { cutoff, inner, len, inverse_square, inverse_step })
    }

    /// The distance in angstrom from which on all splines are zero.
    #[must_use]
    pub const fn cutoff(&self) -> f64 {
        self.cutoff
    }

    /// The distance in angstrom around which knots are densest.
    #[must_use]
    pub const fn inner(&self) -> f64 {
        self.inner
    }

    /// The number of splines.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // at least four
    pub const fn len(&self) -> usize {
        self.len
    }

    /// `(a, b)` of the coordinate in which the knots are 0, 1, 2, ...: `b ln(1 + a r^2)`.
    pub(crate) const fn coordinate(&self) -> (f64, f64) {
        (self.inverse_square, self.inverse_step)
    }

    /// The first spline that is not zero at squared distance `square`, and the values of it and the next three;
    /// those past the last spline count for nothing. `None` from the cutoff on.
    #[inline]
    pub(super) fn at(&self, square: f64) -> Option<(usize, [f64; 4])> {
        let x = (1.0 + square * self.inverse_square).ln() * self.inverse_step;
        let interval = x as usize;
        if interval >= self.len {
            return None;
        }
        let t = x - interval as f64;
        let s = 1.0 - t;
        let (t2, s2) = (t * t, s * s);
        let weights = [
            s2 * s / 6.0,
            (4.0 - 6.0 * t2 + 3.0 * t2 * t) / 6.0,
            (4.0 - 6.0 * s2 + 3.0 * s2 * s) / 6.0,
            t2 * t / 6.0,
        ];
        Some((interval, weights))
    }

    /// The function with these coefficients at distance `r` in angstrom.
    #[must_use]
    pub fn value(&self, coefficients: &[f64], r: f64) -> f64 {
        self.at(r * r).map_or(0.0, |(first, weights)| {
            coefficients.iter().skip(first).zip(weights).map(|(c, w)| c * w).sum()
        })
    }

    /// The function with these coefficients as a table.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is not one coefficient a spline, or one is not finite.
    pub fn table(&self, coefficients: &[f64]) -> Result<RadialTable> {
        self.check(coefficients)?;
        RadialTable::from_fn(self.cutoff, |r| self.value(coefficients, r))
    }

    /// The electrons of each spline with coefficient 1: `4 pi` times the integral of `r^2 B(r)`.
    #[must_use]
    pub fn electrons(&self) -> Vec<f64> {
        const NODES: usize = 20_000;
        let step = self.cutoff / NODES as f64;
        let mut electrons = vec![0.0; self.len];
        for node in 0..NODES {
            // The midpoint rule: the error of this many nodes is below 1e-7 of the whole.
            let r = (node as f64 + 0.5) * step;
            if let Some((first, weights)) = self.at(r * r) {
                for (sum, w) in electrons.iter_mut().skip(first).zip(weights) {
                    *sum += 4.0 * PI * r * r * w * step;
                }
            }
        }
        electrons
    }

    pub(super) fn check(&self, coefficients: &[f64]) -> Result<()> {
        if coefficients.len() != self.len {
            return Err(Error::invalid(format!(
                "{} coefficients for {} splines; one each is needed",
                coefficients.len(),
                self.len
            )));
        }
        if let Some(i) = coefficients.iter().position(|c| !c.is_finite()) {
            return Err(Error::invalid(format!(
                "coefficient {i} is {}; every coefficient must be finite",
                coefficients[i]
            )));
        }
        Ok(())
    }
}
