//! Dense layers over a block of points.

use crate::error::{Error, Result};
use crate::memory;
use crate::vector::{Register, exp};

/// Registers of points that are worked on at a time, for a strip of outputs or half of one: their sums stay in registers.
const WIDE: usize = 3;
const STRIP: usize = 8;
const HALF: usize = STRIP / 2;
/// Points of a block.
pub(super) const POINTS: usize = 48;

/// One number of each point of a block.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))] // a load across two lines of the cache takes twice as long
pub(super) struct Row(pub(super) [f32; POINTS]);

impl Row {
    pub(super) const ZERO: Self = Self([0.0; POINTS]);
}

/// A linear map `x W + b`.
#[derive(Debug, Clone)]
pub struct Dense {
    inputs: usize,
    outputs: usize,
    /// For each strip of outputs, their weights of all inputs, zeros behind the last output.
    strips: Vec<[f32; STRIP]>,
    bias: Vec<[f32; STRIP]>,
}

impl Dense {
    /// `weight`: `(inputs, outputs)`, row-major; `bias`: `(outputs,)`, or none for zeros.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are not as many, or no inputs or outputs; [`Error::Memory`] when there is no room.
    pub fn new(inputs: usize, outputs: usize, weight: &[f32], bias: &[f32]) -> Result<Self> {
        let fit = inputs.checked_mul(outputs) == Some(weight.len()) && !weight.is_empty();
        if !fit || !(bias.is_empty() || bias.len() == outputs) {
            return Err(Error::invalid(format!(
                "{} weights and {} biases for a layer of {inputs} inputs and {outputs} outputs",
                weight.len(),
                bias.len()
            )));
        }
        let strips = outputs.div_ceil(STRIP);
        let mut packed = memory::filled(strips * inputs, [0.0; STRIP])?;
        for (input, row) in weight.chunks_exact(outputs).enumerate() {
            for (strip, values) in row.chunks(STRIP).enumerate() {
                packed[strip * inputs + input][..values.len()].copy_from_slice(values);
            }
        }
        let mut biases = memory::filled(strips, [0.0; STRIP])?;
        for (part, values) in biases.iter_mut().zip(bias.chunks(STRIP)) {
            part[..values.len()].copy_from_slice(values);
        }
        Ok(Self { inputs, outputs, strips: packed, bias: biases })
    }

    /// The number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The number of outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Writes the outputs of a block.
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    pub(super) fn apply<R: Register>(&self, x: &[Row], out: &mut [Row]) {
        let strips = self.strips.chunks_exact(self.inputs).zip(&self.bias);
        for ((weights, bias), out) in strips.zip(out.chunks_mut(STRIP)) {
            for group in 0..POINTS / (WIDE * R::LEN) {
                let start = group * WIDE * R::LEN;
                if R::MANY && out.len() > HALF {
                    sums::<R, STRIP>(weights, bias, 0, x, start, out);
                    continue;
                }
                for (half, out) in out.chunks_mut(HALF).enumerate() {
                    sums::<R, HALF>(weights, bias, half * HALF, x, start, out);
                }
            }
        }
    }
}

/// Outputs from the `first` of a strip on, of points from `start` on.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn sums<R: Register, const OUTPUTS: usize>(
    weights: &[[f32; STRIP]],
    bias: &[f32; STRIP],
    first: usize,
    x: &[Row],
    start: usize,
    out: &mut [Row],
) {
    let mut sums = [[R::splat(0.0); WIDE]; OUTPUTS];
    for (output, sums) in sums.iter_mut().enumerate() {
        *sums = [R::splat(bias[first + output]); WIDE];
    }
    for (weights, x) in weights.iter().zip(x) {
        let x = [R::read(&x.0, start), R::read(&x.0, start + R::LEN), R::read(&x.0, start + 2 * R::LEN)];
        for (output, sums) in sums.iter_mut().enumerate() {
            let weight = R::splat(weights[first + output]);
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = weight.times_plus(x, *sum);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (i, sum) in sums.into_iter().enumerate() {
            sum.write(&mut out.0, start + i * R::LEN);
        }
    }
}

/// `x / (1 + exp(-x))` of all numbers.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
pub(super) fn silu(x: &mut [Row]) {
    for row in x {
        for x in &mut row.0 {
            *x /= 1.0 + exp(-*x);
        }
    }
}

/// Numbers `(points, rows)` as rows; points that are missing are those of the block before, or zero.
pub(super) fn columns(numbers: &[f32], rows: &mut [Row]) {
    let width = rows.len();
    for (point, numbers) in numbers.chunks_exact(width).enumerate() {
        for (row, number) in rows.iter_mut().zip(numbers) {
            row.0[point] = *number;
        }
    }
}
