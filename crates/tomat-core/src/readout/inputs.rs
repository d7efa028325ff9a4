//! What the layers take: invariants of sums, the starting density, and the fixed sums.

use super::dense::{Dense, Row};
use crate::vector::{Register, asinh, ln, multiply_add};

/// What brings sums to a size of about 1.
const OF_SUMS: f32 = 0.5;
/// Density in e/A^3 below which logarithms flatten, and that is added to a density that is divided by.
const FAINT: f32 = 1e-4;
const SMALL: f32 = 0.02;
/// Added to the mean square of the invariants.
const LEAST: f32 = 0.1;

/// What a fixed sum of `l = 0` is; the first one is a smoothed density if there is a Laplacian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// A smoothed density in e/A^3: half its logarithm is read.
    Density,
    /// A Laplacian in e/A^5: what is read is about its logarithm, in units of the first density.
    Laplacian,
    /// A potential in eV.
    Potential,
}

impl Fixed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Density, Self::Laplacian, Self::Potential];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Density => "density",
            Self::Laplacian => "laplacian",
            Self::Potential => "potential",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fixed| fixed.name() == name)
    }
}

/// Writes the inputs of the first layer to the front of `out`. `mixed` is for the mixing matrices.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
pub(super) fn write<R: Register>(
    channels: &[usize],
    fixed: &[Fixed],
    mixing: &[Dense],
    sums: &[Row],
    guess: &Row,
    mixed: &mut [Row],
    out: &mut [Row],
) {
    let learned: usize = channels.iter().sum();
    let (invariants, rest) = out.split_at_mut(learned);
    let (of_l, mut sums) = sums.split_at(channels[0] + fixed.len());
    let (of_state, of_fixed) = of_l.split_at(channels[0]);
    let (scalars, mut places) = invariants.split_at_mut(channels[0]);
    each(of_state, scalars, |x| asinh(OF_SUMS * x));
    for (l, (&n, mixing)) in channels[1..].iter().zip(mixing).enumerate() {
        let (mine, after) = places.split_at_mut(n);
        mine.fill(Row::ZERO);
        for _ in 0..2 * l + 3 {
            let (of_m, others) = sums.split_at(n);
            mixing.apply::<R>(of_m, &mut mixed[..n]);
            for ((sum, a), b) in mine.iter_mut().zip(of_m).zip(&*mixed) {
                for ((sum, a), b) in flat(sum).zip(numbers(a)).zip(numbers(b)) {
                    *sum = multiply_add::<R>(*a, *b, *sum);
                }
            }
            sums = others;
        }
        for row in mine {
            for x in flat(row) {
                *x = asinh(OF_SUMS * OF_SUMS * *x);
            }
        }
        places = after;
    }
    scale::<R>(invariants);
    let (of_guess, descriptors) = rest.split_at_mut(2);
    let guess = std::slice::from_ref(guess);
    each(guess, &mut of_guess[..1], |x| 0.5 * ln(x + FAINT));
    each(guess, &mut of_guess[1..], f32::sqrt);
    describe(fixed, of_fixed, descriptors);
}

/// Brings the root mean square of each point's numbers to about 1.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn scale<R: Register>(rows: &mut [Row]) {
    let mut factor = Row::ZERO;
    for row in &*rows {
        for (square, x) in flat(&mut factor).zip(numbers(row)) {
            *square = multiply_add::<R>(*x, *x, *square);
        }
    }
    for x in flat(&mut factor) {
        *x = 1.0 / (*x / rows.len() as f32 + LEAST).sqrt();
    }
    for row in rows {
        for (x, factor) in flat(row).zip(numbers(&factor)) {
            *x *= *factor;
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn describe(fixed: &[Fixed], sums: &[Row], out: &mut [Row]) {
    for ((kind, sum), out) in fixed.iter().zip(sums).zip(out) {
        let of = std::slice::from_ref(sum);
        let to = std::slice::from_mut(out);
        match kind {
            Fixed::Density => each(of, to, |x| 0.5 * ln(x.max(0.0) + FAINT)),
            Fixed::Potential => each(of, to, |x| asinh(0.1 * x)),
            Fixed::Laplacian => {
                for ((to, x), first) in flat(out).zip(numbers(sum)).zip(numbers(&sums[0])) {
                    *to = asinh(0.05 * x / (first.max(0.0) + SMALL));
                }
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn each(from: &[Row], to: &mut [Row], of: impl Fn(f32) -> f32) {
    for (to, from) in to.iter_mut().zip(from) {
        for (to, x) in flat(to).zip(numbers(from)) {
            *to = of(*x);
        }
    }
}

#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn flat(row: &mut Row) -> impl Iterator<Item = &mut f32> {
    row.0.iter_mut()
}

#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn numbers(row: &Row) -> impl Iterator<Item = &f32> {
    row.0.iter()
}
