//! Dense layers over a block of points.

use crate::error::{Error, Result};
use crate::memory;
use crate::vector::{exp, multiply_add};

const LANES: usize = 8;
/// Lanes of points that are worked on at a time, and outputs: their sums stay in registers.
const WIDE: usize = 3;
const OUTPUTS: usize = 4;
const GROUPS: usize = 2;
/// Points of a block.
pub(super) const POINTS: usize = GROUPS * WIDE * LANES;

type Lane = [f32; LANES];
/// One number of each point of a block.
pub(super) type Row = [[Lane; WIDE]; GROUPS];

/// A linear map `x W + b`.
#[derive(Debug, Clone)]
pub struct Dense {
    inputs: usize,
    outputs: usize,
    /// For each four outputs, their weights of all inputs, zeros behind the last output.
    strips: Vec<[f32; OUTPUTS]>,
    bias: Vec<[f32; OUTPUTS]>,
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
        let strips = outputs.div_ceil(OUTPUTS);
        let mut packed = memory::filled(strips * inputs, [0.0; OUTPUTS])?;
        for (input, row) in weight.chunks_exact(outputs).enumerate() {
            for (strip, values) in row.chunks(OUTPUTS).enumerate() {
                packed[strip * inputs + input][..values.len()].copy_from_slice(values);
            }
        }
        let mut biases = memory::filled(strips, [0.0; OUTPUTS])?;
        for (part, values) in biases.iter_mut().zip(bias.chunks(OUTPUTS)) {
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
    pub(super) fn apply<const FUSED: bool>(&self, x: &[Row], out: &mut [Row]) {
        let strips = self.strips.chunks_exact(self.inputs).zip(&self.bias);
        for ((weights, bias), out) in strips.zip(out.chunks_mut(OUTPUTS)) {
            for group in 0..GROUPS {
                let sums = strip::<FUSED>(weights, bias, x, group);
                for (out, sum) in out.iter_mut().zip(sums) {
                    out[group] = sum;
                }
            }
        }
    }
}

/// Four outputs of a group of points.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn strip<const FUSED: bool>(
    weights: &[[f32; OUTPUTS]],
    bias: &[f32; OUTPUTS],
    x: &[Row],
    group: usize,
) -> [[Lane; WIDE]; OUTPUTS] {
    // Named one by one, so that all stay in registers.
    let [mut a, mut b, mut c, mut d] = bias.map(|bias| [[bias; LANES]; WIDE]);
    for (weights, x) in weights.iter().zip(x) {
        let x = &x[group];
        a = add::<FUSED>(weights[0], x, a);
        b = add::<FUSED>(weights[1], x, b);
        c = add::<FUSED>(weights[2], x, c);
        d = add::<FUSED>(weights[3], x, d);
    }
    [a, b, c, d]
}

#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn add<const FUSED: bool>(weight: f32, x: &[Lane; WIDE], sums: [Lane; WIDE]) -> [Lane; WIDE] {
    let [a, b, c] = sums;
    [
        add_lane::<FUSED>(weight, &x[0], a),
        add_lane::<FUSED>(weight, &x[1], b),
        add_lane::<FUSED>(weight, &x[2], c),
    ]
}

#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn add_lane<const FUSED: bool>(weight: f32, x: &Lane, sum: Lane) -> Lane {
    let mut new = [0.0; LANES];
    for i in 0..LANES {
        new[i] = multiply_add::<FUSED>(weight, x[i], sum[i]);
    }
    new
}

/// `x / (1 + exp(-x))` of all numbers.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
pub(super) fn silu(x: &mut [Row]) {
    for lane in x.iter_mut().flatten().flatten() {
        *lane = lane.map(|x| x / (1.0 + exp(-x)));
    }
}

/// Numbers `(points, rows)` as rows; points that are missing are those of the block before, or zero.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
pub(super) fn columns(numbers: &[f32], rows: &mut [Row]) {
    let width = rows.len();
    for (point, numbers) in numbers.chunks_exact(width).enumerate() {
        let (group, lane, place) = place(point);
        for (row, number) in rows.iter_mut().zip(numbers) {
            row[group][lane][place] = *number;
        }
    }
}

/// Rows as numbers `(points, rows)`.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
pub(super) fn rows(rows: &[Row], numbers: &mut [f32]) {
    for (point, numbers) in numbers.chunks_exact_mut(rows.len()).enumerate() {
        let (group, lane, place) = place(point);
        for (row, number) in rows.iter().zip(numbers) {
            *number = row[group][lane][place];
        }
    }
}

fn place(point: usize) -> (usize, usize, usize) {
    (point / (WIDE * LANES), point / LANES % WIDE, point % LANES)
}
