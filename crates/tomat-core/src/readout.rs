//! The network that reads the sums around points ([`crate::environment`]): what a trained field model makes of them.
//!
//! Sums of `l = 0` are taken as they are, the fixed ones behind them apart; of `l > 0`, `sum_m s_m (s_m M)` with a matrix
//! `M` of the model. Their inverse hyperbolic sines, brought to a root mean square of about 1, the logarithm and root of
//! the starting density and the fixed sums go through dense layers with SiLU between them; the last layer's outputs are
//! those of the head. In training the same is computed by `tomat.lm.field.network`, which the tests compare.
//!
//! ```
//! use tomat_core::readout::{Dense, Readout};
//!
//! # fn main() -> tomat_core::Result<()> {
//! // One sum of l = 0, no others: the inputs are its invariant, and two of the starting density.
//! let layer = Dense::new(3, 1, &[0.0, 0.0, 2.0], &[1.0])?;
//! let readout = Readout::new(&[1], &[], vec![], vec![layer])?;
//! assert!((readout.read(&[0.7], &[0.25])?[0] - 2.0).abs() < 1e-6); // 1 + 2 sqrt(0.25)
//! # Ok(())
//! # }
//! ```

mod dense;
mod inputs;
mod quantile;
#[cfg(test)]
mod tests;

pub use dense::Dense;
pub use inputs::Fixed;
pub use quantile::Mixtures;

use crate::environment::{Basis, Channels, Options};
use crate::error::{Error, Result};
use crate::grid::Crystal;
use crate::memory;
use crate::vector::{self, Kernel, Lane, Register};
use dense::{POINTS, Row};

/// The network of a field model behind its sums.
#[derive(Debug)]
pub struct Readout {
    channels: Vec<usize>,
    fixed: Vec<Fixed>,
    mixing: Vec<Dense>,
    layers: Vec<Dense>,
}

impl Readout {
    /// `channels`: learned sums of each `l`; `fixed`: what the sums of `l = 0` behind these are; `mixing`: the matrix of
    /// each `l > 0`; `layers`: the dense layers, the head last.
    ///
    /// # Errors
    /// [`Error::Invalid`] when their sizes do not fit.
    pub fn new(channels: &[usize], fixed: &[Fixed], mixing: Vec<Dense>, layers: Vec<Dense>) -> Result<Self> {
        let squares = mixing.len() + 1 == channels.len()
            && mixing.iter().zip(&channels[1..]).all(|(m, &n)| m.inputs() == n && m.outputs() == n);
        let inputs = channels.iter().fold(fixed.len() + 2, |sum, &n| sum.saturating_add(n));
        let chained = layers.first().is_some_and(|layer| layer.inputs() == inputs)
            && layers.windows(2).all(|pair| pair[0].outputs() == pair[1].inputs());
        if !squares || !chained {
            let of = |layers: &[Dense]| -> Vec<[usize; 2]> {
                layers.iter().map(|layer| [layer.inputs(), layer.outputs()]).collect()
            };
            return Err(Error::invalid(format!(
                "channels {channels:?} with {} fixed sums need a square matrix for each l > 0 and layers from {inputs} \
                 inputs; there are matrices {:?} and layers {:?}",
                fixed.len(),
                of(&mixing),
                of(&layers)
            )));
        }
        Ok(Self { channels: channels.to_vec(), fixed: fixed.to_vec(), mixing, layers })
    }

    /// Sums of a point: `2 l + 1` for each channel of `l`, the fixed ones behind those of `l = 0`.
    #[must_use]
    pub fn width(&self) -> usize {
        let learned: usize = self.channels.iter().enumerate().map(|(l, n)| (2 * l + 1) * n).sum();
        learned + self.fixed.len()
    }

    /// Outputs of a point.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, Dense::outputs)
    }

    /// Outputs (points, outputs) of sums (points, width) in the order of [`crate::environment::Basis::contracted`] and
    /// starting densities (points,) in e/A^3, all row-major.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the numbers of sums and densities do not fit, [`Error::Memory`] when there is no room.
    pub fn read(&self, sums: &[f32], guess: &[f32]) -> Result<Vec<f32>> {
        if guess.len().saturating_mul(self.width()) != sums.len() {
            return Err(Error::invalid(format!(
                "{} sums for {} points; {} a point are needed",
                sums.len(),
                guess.len(),
                self.width()
            )));
        }
        let mut out: Vec<f32> = memory::filled(guess.len().saturating_mul(self.outputs()), 0.0)?;
        let mut scratch = Scratch::new(self)?;
        let blocks = sums.chunks(POINTS * self.width()).zip(guess.chunks(POINTS));
        for ((sums, guess), out) in blocks.zip(out.chunks_mut(POINTS * self.outputs())) {
            dense::columns(sums, &mut scratch.sums);
            scratch.guess.0[..guess.len()].copy_from_slice(guess);
            vector::run(Block { readout: self, scratch: &mut scratch });
            for (point, out) in out.chunks_exact_mut(self.outputs()).enumerate() {
                scratch.write(self, point, out);
            }
        }
        Ok(out)
    }

    /// Outputs (points, outputs) of the sums of [`Basis::contracted`], which are not kept.
    ///
    /// # Errors
    /// As there, and [`Error::Invalid`] when there are not as many sums as the network takes, or not one starting
    /// density a point.
    pub fn around(
        &self,
        basis: &Basis,
        crystal: &Crystal,
        points: &[[f64; 3]],
        options: Options<'_>,
        weights: Channels<'_>,
        guess: &[f32],
    ) -> Result<Vec<f32>> {
        if weights.width() != self.width() || guess.len() != points.len() {
            return Err(Error::invalid(format!(
                "{} sums a point and {} starting densities for {} points; {} and one a point are needed",
                weights.width(),
                guess.len(),
                points.len(),
                self.width()
            )));
        }
        let outputs = self.outputs();
        let mut out = memory::filled(points.len().saturating_mul(outputs), 0.0)?;
        let mut scratch = Scratch::new(self)?;
        // The point at each place of a block; the last block may lack some.
        let mut here = [usize::MAX; POINTS];
        let mut part = 0;
        let mut read = |scratch: &mut Scratch, here: &mut [usize; POINTS]| {
            vector::run(Block { readout: self, scratch });
            for (place, &point) in here.iter().enumerate().filter(|(_, point)| **point != usize::MAX) {
                scratch.write(self, place, &mut out[point * outputs..][..outputs]);
            }
            here.fill(usize::MAX);
        };
        basis.each_contracted(crystal, points, options, weights, |chunk, sums| {
            sums.each(|column, lane| {
                scratch.sums[column].0[part..][..Lane::LEN].copy_from_slice(&lane.0);
            });
            for (i, of) in chunk.iter().enumerate() {
                here[part + i] = of.point;
                scratch.guess.0[part + i] = guess[of.point];
            }
            part += Lane::LEN;
            if part == POINTS {
                read(&mut scratch, &mut here);
                part = 0;
            }
        })?;
        if part > 0 {
            read(&mut scratch, &mut here);
        }
        Ok(out)
    }
}

/// Numbers of a block of points: a row for each sum, input or output.
struct Scratch {
    sums: Vec<Row>,
    guess: Row,
    mixed: Vec<Row>,
    here: Vec<Row>,
    there: Vec<Row>,
}

impl Scratch {
    fn new(readout: &Readout) -> Result<Self> {
        let most = readout.layers.iter().map(|layer| layer.inputs().max(layer.outputs())).max();
        let mixed = readout.mixing.iter().map(Dense::outputs).max();
        let rows = |n: usize| memory::filled(n, Row::ZERO);
        let most = most.unwrap_or(0);
        Ok(Self {
            sums: rows(readout.width())?,
            guess: Row::ZERO,
            mixed: rows(mixed.unwrap_or(0))?,
            here: rows(most)?,
            there: rows(most)?,
        })
    }

    /// Writes the outputs at a place of the block.
    fn write(&self, readout: &Readout, place: usize, out: &mut [f32]) {
        let rows = if readout.layers.len().is_multiple_of(2) { &self.here } else { &self.there };
        for (row, out) in rows.iter().zip(out) {
            *out = row.0[place];
        }
    }
}

/// From the sums and starting densities of a block to its outputs.
struct Block<'a> {
    readout: &'a Readout,
    scratch: &'a mut Scratch,
}

impl Kernel for Block<'_> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn run<R: Register>(self) {
        let Readout { channels, fixed, mixing, layers } = self.readout;
        let Scratch { sums, guess, mixed, here, there } = self.scratch;
        inputs::write::<R>(channels, fixed, mixing, sums, guess, mixed, here);
        let (mut from, mut to) = (here, there);
        for (i, layer) in layers.iter().enumerate() {
            layer.apply::<R>(&from[..layer.inputs()], &mut to[..layer.outputs()]);
            if i + 1 < layers.len() {
                dense::silu(&mut to[..layer.outputs()]);
            }
            (from, to) = (to, from);
        }
    }
}
