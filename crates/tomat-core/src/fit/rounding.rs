//! A sketch that packs into little space.

use super::sketch::{Cell, LOW_MASK, MAX_TOTAL_WEIGHT, Sketch};

impl Sketch {
    /// The same cells and counts, with weights rounded to `bits` significant bits and each cell's mean moved to the
    /// cell's middle. What is dropped is noise to a fit, which looks at many cells together, but most of what a
    /// compressor cannot pack: the sketch of 25 million voxels goes from 5 MB to 1.1 MB with three bits. The smallest
    /// and the largest cell keep their means, so that the range stays that of the data.
    #[must_use]
    pub fn rounded(&self, bits: u32) -> Self {
        let weights = || self.occupied().map(|(_, cell)| cell.weight).chain([self.zero().weight]);
        let total: u128 = weights().map(|w| nearest(w, bits)).sum();
        // Rounding up must not say more than the materials can weigh.
        let up = total <= MAX_TOTAL_WEIGHT * self.ids().len() as u128;
        let round = |weight| if up { nearest(weight, bits) } else { truncated(weight, bits) };
        let mut rounded = self.clone();
        rounded.each_cell_mut(|cell| {
            cell.weight = round(cell.weight);
            cell.low = cell.count * u64::from(LOW_MASK.div_ceil(2));
        });
        for key in self.outer_keys() {
            let low = self.occupied().find(|&(k, _)| k == key).map(|(_, cell)| cell.low);
            rounded.cell_mut(key).low = low.unwrap_or(0);
        }
        let zero = *self.zero();
        rounded.set_zero(Cell { weight: round(zero.weight), ..zero });
        rounded
    }
}

const fn excess(value: u128, bits: u32) -> u32 {
    (u128::BITS - value.leading_zeros()).saturating_sub(if bits == 0 { 1 } else { bits })
}

/// The nearest number of at most `bits` significant bits, the larger of two as near.
const fn nearest(value: u128, bits: u32) -> u128 {
    let shift = excess(value, bits);
    if shift == 0 {
        return value;
    }
    ((value >> (shift - 1)).div_ceil(2)) << shift
}

const fn truncated(value: u128, bits: u32) -> u128 {
    let shift = excess(value, bits);
    (value >> shift) << shift
}
