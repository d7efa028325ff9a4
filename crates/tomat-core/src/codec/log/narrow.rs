//! Magnitude codes of float32 values, mostly in single precision: twice as many fit into a register.
//!
//! The position among the codes is taken apart into whole numbers, which are exact, and what is left, which is small. So
//! its error is that of one logarithm of a mantissa, some hundredths of a code at most; where that leaves a code in
//! doubt, a [`Line`] tells it.

#![allow(clippy::inline_always)] // see vector::Kernel

use super::ZERO_BELOW;
use super::fast::{Codes, Line};
use crate::grid::Real;
use crate::vector::{Portable, Register, ln_in_parts, multiply_add};

/// What a position is off by at most for each code an e-fold: 7e-8 by the logarithm of a mantissa, and 4.2e-8 by the
/// factor that it is multiplied with and the product, each rounded to float32.
const LOG_ERROR: f64 = 1.2e-7;

/// The same for all that follows: six roundings of numbers below 256.
const ROUNDING: f64 = 1e-4;

/// Beyond so much doubt, asking again would take longer than this spares.
const MOST_DOUBT: f64 = 0.03;

/// Added to a number within +-2^22, this rounds it to a whole one, which the last bits of the sum then hold.
const ROUND: f32 = 12_582_912.0;

/// A [`Line`] in single precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Narrow {
    line: Line,
    /// Patterns of magnitudes that have the first and the last code, as have all below and above.
    low: i32,
    high: i32,
    /// Codes an octave, and the position of magnitude 1: whole numbers, and what they leave.
    slope: (i32, f32),
    at_one: (i32, f32),
    /// Codes an e-fold.
    natural_slope: f32,
    doubt: f32,
}

impl Narrow {
    /// [`None`] where single precision says too little about a code, and where the range has no room in float32.
    pub(super) fn new(line: Line, top: f64) -> Option<Self> {
        let (slope, at_one) = line.course();
        let natural_slope = slope * std::f64::consts::LOG2_E;
        let doubt = natural_slope * LOG_ERROR + ROUNDING;
        let magnitude = |position: f64| ((position - at_one) / slope).exp2() as f32;
        let (low, high) = (magnitude(0.5), magnitude(top + 0.5));
        let is_of = |magnitude: f32, code: f64| {
            Codes::<f32>::code::<Portable>(&line, magnitude) == (code as u32, false)
        };
        let fits = low.is_normal() && high.is_normal() && f64::from(low) >= ZERO_BELOW;
        let parts = |x: f64| (x.floor() as i32, (x - x.floor()) as f32);
        (fits && doubt < MOST_DOUBT && is_of(low, 0.0) && is_of(high, top)).then(|| Self {
            line,
            low: low.to_bits() as i32,
            high: high.to_bits() as i32,
            slope: parts(slope),
            at_one: parts(at_one),
            natural_slope: natural_slope as f32,
            doubt: doubt as f32,
        })
    }
}

impl<T: Real> Codes<T> for Narrow {
    #[inline(always)]
    fn code<R: Register>(&self, value: T) -> (u32, bool) {
        let value: f64 = value.into();
        // The compiler sees that this is what the value was.
        let magnitude = (value as f32).to_bits() & !(1 << 31);
        let magnitude = (magnitude as i32).max(self.low).min(self.high);
        let (exponent, of_mantissa) = ln_in_parts(f32::from_bits(magnitude as u32));
        let (whole, mantissa_rest) = rounded(of_mantissa * self.natural_slope);
        let exponent_rest = multiply_add::<R>(exponent as f32, self.slope.1, self.at_one.1);
        let (more, over) = rounded(mantissa_rest + exponent_rest);
        let code = exponent * self.slope.0 + self.at_one.0 + whole + more - i32::from(over < 0.0);
        (code as u32, over.abs() <= self.doubt)
    }

    #[cold]
    #[inline(never)]
    fn settle<R: Register>(&self, value: T, exact: &impl Fn(f64) -> u32) -> u32 {
        let (code, doubt) = Codes::<T>::code::<R>(&self.line, value);
        if doubt { exact(value.into()) } else { code }
    }
}

/// The nearest whole number, and what is left of `x`.
#[inline(always)]
fn rounded(x: f32) -> (i32, f32) {
    let sum = x + ROUND;
    (sum.to_bits().wrapping_sub(ROUND.to_bits()) as i32, x - (sum - ROUND))
}
