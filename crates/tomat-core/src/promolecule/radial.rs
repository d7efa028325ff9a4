//! Any radial function as a table of cubics, fast to look up.

use std::f64::consts::PI;

use crate::error::{Error, Result};

/// Intervals of a table: 32 bytes each, so that one element's table stays in the cache of a core.
const INTERVALS: usize = 1024;

/// Distances worked on at a time.
const BLOCK: usize = 16;

/// A function of the distance `r` from a nucleus, in electrons per cubic angstrom: a cubic on each of 1,024 equal
/// intervals of `[0, cutoff)`, zero beyond.
///
/// Each cubic goes through the function at the ends and thirds of its interval; the error is of fourth order in
/// `cutoff / 1024`, and the table is continuous.
#[derive(Debug, Clone, PartialEq)]
pub struct RadialTable {
    cutoff: f64,
    inverse_step: f64,
    cubics: Vec<[f64; 4]>,
}

impl RadialTable {
    /// Tabulates `function` (argument in angstrom) up to `cutoff` angstrom.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the cutoff is not between 0 and 1,000 angstrom or a value is not finite.
    pub fn from_fn(cutoff: f64, function: impl Fn(f64) -> f64) -> Result<Self> {
        check_cutoff(cutoff)?;
        let step = cutoff / INTERVALS as f64;
        let sample = |third: usize| {
            let r = third as f64 * step / 3.0;
            let value = function(r);
            if value.is_finite() {
                Ok(value)
            } else {
                Err(Error::invalid(format!(
                    "the radial function is {value} at {r} angstrom; it must be finite"
                )))
            }
        };
        let samples = (0..=3 * INTERVALS).map(sample).collect::<Result<Vec<f64>>>()?;
        let cubics = samples.windows(4).step_by(3).map(cubic_through).collect();
        Ok(Self { cutoff, inverse_step: 1.0 / step, cubics })
    }

    /// The distance in angstrom from which on the function is zero.
    #[must_use]
    pub const fn cutoff(&self) -> f64 {
        self.cutoff
    }

    /// The value at distance `r >= 0` in angstrom, electrons per cubic angstrom.
    #[must_use]
    #[inline]
    pub fn value(&self, r: f64) -> f64 {
        let x = r * self.inverse_step;
        // Through u32: one instruction and a compare, where usize takes several.
        let interval = x as u32;
        match self.cubics.get(interval as usize) {
            Some([c0, c1, c2, c3]) => {
                let t = x - f64::from(interval);
                c0 + t * (c1 + t * (c2 + t * c3))
            }
            None => 0.0,
        }
    }

    /// Adds the values at the distances whose squares `square(0)`, `square(1)`, ... are to `out`.
    #[inline]
    pub(super) fn add(&self, out: &mut [f64], square: impl Fn(usize) -> f64) {
        // Square roots of a block at a time use vector registers; the look-ups that follow cannot.
        let mut places = [0.0; BLOCK];
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            for (i, place) in places.iter_mut().take(out.len()).enumerate() {
                *place = square(block * BLOCK + i).sqrt() * self.inverse_step;
            }
            for (value, &x) in out.iter_mut().zip(&places) {
                let interval = x as u32; // as above
                if let Some([c0, c1, c2, c3]) = self.cubics.get(interval as usize) {
                    let t = x - f64::from(interval);
                    *value += c0 + t * (c1 + t * (c2 + t * c3));
                }
            }
        }
    }

    /// The electrons of the atom: `4 pi` times the integral of `r^2 f(r)`, exact for the table.
    #[must_use]
    pub fn electrons(&self) -> f64 {
        let step = 1.0 / self.inverse_step;
        // r = h (i + t): the integral over t of (i + t)^2 t^k is i^2/(k+1) + 2i/(k+2) + 1/(k+3).
        let parts = self.cubics.iter().enumerate().map(|(i, cubic)| {
            let i = i as f64;
            let moments =
                [1.0, 2.0, 3.0, 4.0].map(|k: f64| i * i / k + 2.0 * i / (k + 1.0) + 1.0 / (k + 2.0));
            cubic.iter().zip(moments).map(|(c, m)| c * m).sum::<f64>()
        });
        4.0 * PI * step.powi(3) * parts.sum::<f64>()
    }

    /// The same function times a number.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        for coefficient in self.cubics.iter_mut().flatten() {
            *coefficient *= factor;
        }
        self
    }
}

/// A cutoff that means something.
pub(super) fn check_cutoff(cutoff: f64) -> Result<()> {
    if cutoff.is_finite() && cutoff > 0.0 && cutoff <= 1000.0 {
        return Ok(());
    }
    Err(Error::invalid(format!("the cutoff is {cutoff} angstrom; give a number above 0, up to 1000")))
}

/// Coefficients in `t` of the cubic through four values at `t = 0, 1/3, 2/3, 1`.
fn cubic_through(values: &[f64]) -> [f64; 4] {
    let [a, b, c, d] = [values[0], values[1], values[2], values[3]];
    [
        a,
        -5.5 * a + 9.0 * b - 4.5 * c + d,
        9.0 * a - 22.5 * b + 18.0 * c - 4.5 * d,
        -4.5 * a + 13.5 * b - 13.5 * c + 4.5 * d,
    ]
}
