//! What a codec cannot hold of a density: the values beyond its range, and what is lost with them.

use crate::codec::DensityCodec;
use crate::error::Result;
use crate::grid::{Real, check_not_nan};
use crate::passes::{extremes, sum};

/// Values looked at together: a few pages, so that they are still in the cache when they are looked at again.
const BLOCK: usize = 4096;

/// The values of a density that lie beyond the range of a codec, and what clipping them costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipping {
    /// How many values lie beyond the range.
    pub voxels: u64,
    /// The sum of `v - clip(v)` of the values above the range, in the unit of the values.
    pub above: f64,
    /// The sum of `clip(v) - v` of those below it.
    pub below: f64,
    /// The sum of `|v|` over all values, in their unit.
    pub total: f64,
    /// The value that loses most.
    pub worst: f64,
    /// Where it is: an index into the values.
    pub worst_index: usize,
}

impl Clipping {
    /// The share that is lost above the range, 0 to 1: of the electrons, since the negative voxels of a density hold
    /// next to none.
    #[must_use]
    pub fn share_above(&self) -> f64 {
        if self.above.is_finite() { self.above / self.total } else { 1.0 }
    }

    /// The share that is lost below the range, 0 to 1: what the negative voxels of PAW densities hold, where a codec
    /// takes them for zero.
    #[must_use]
    pub fn share_below(&self) -> f64 {
        if self.below.is_finite() { self.below / self.total } else { 1.0 }
    }

    /// Both: the least NMAE that decoding can have.
    #[must_use]
    pub fn share(&self) -> f64 {
        (self.share_above() + self.share_below()).min(1.0)
    }
}

impl DensityCodec {
    /// What lies beyond the range of this codec; `None` where nothing does, which takes one fast pass.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when a value is NaN.
    pub fn clipping<T: Real>(&self, values: &[T]) -> Result<Option<Clipping>> {
        check_not_nan(values)?;
        let (low, high) = self.range();
        let holds = |(min, max): (T, T)| min.into() >= low && max.into() <= high;
        if extremes(values).is_none_or(holds) {
            return Ok(None);
        }
        let mut found =
            Clipping { voxels: 0, above: 0.0, below: 0.0, total: 0.0, worst: 0.0, worst_index: 0 };
        let mut most = 0.0;
        for (index, block) in values.chunks(BLOCK).enumerate() {
            if extremes(block).is_none_or(holds) {
                found.total += sum(block, f64::abs);
                continue;
            }
            for (inside, &value) in block.iter().enumerate() {
                let value: f64 = value.into();
                let (above, below) = ((value - high).max(0.0), (low - value).max(0.0));
                let lost = above + below;
                found.total += value.abs();
                found.above += above;
                found.below += below;
                found.voxels += u64::from(lost > 0.0);
                if lost > most {
                    (most, found.worst, found.worst_index) = (lost, value, index * BLOCK + inside);
                }
            }
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // what is exact is compared so
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::codec::{LloydMaxCodec, LogCodec};
    use crate::grid::Unit;

    fn lloyd_max(clip_min: f64, clip_max: f64) -> DensityCodec {
        let codec = LloydMaxCodec::new(vec![0.5], vec![0.0, 1.0], clip_max, Unit::Chgcar).unwrap();
        DensityCodec::LloydMax(Arc::new(codec.with_clip_min(clip_min).unwrap()))
    }

    fn log(log_max: f64) -> DensityCodec {
        DensityCodec::Log(Arc::new(LogCodec::new(-4.0, log_max, &[15]).unwrap()))
    }

    #[test]
    fn what_is_lost_by_hand() {
        let found = lloyd_max(0.0, 10.0).clipping(&[1.0_f32, 14.0, -2.0, 11.0]).unwrap().unwrap();
        assert_eq!((found.voxels, found.above, found.below, found.total), (3, 4.0 + 1.0, 2.0, 28.0));
        assert_eq!((found.worst, found.worst_index, found.share()), (14.0, 1, 0.25));
        // A log codec holds both signs, and what lies below its range is rounded, not clipped.
        let found = log(1.0).clipping(&[-30.0_f64, 1e-9, 10.0, -10.0]).unwrap().unwrap();
        assert_eq!((found.voxels, found.below, found.worst, found.worst_index), (1, 20.0, -30.0, 0));
    }

    #[test]
    fn nothing_beyond_the_range_is_no_clipping() {
        assert_eq!(lloyd_max(0.0, 10.0).clipping(&[0.0_f32, 10.0]).unwrap(), None);
        assert_eq!(lloyd_max(-2.0, 10.0).clipping(&[-2.0_f32, 10.0]).unwrap(), None);
        assert_eq!(lloyd_max(0.0, 10.0).clipping::<f32>(&[]).unwrap(), None);
        assert!(lloyd_max(0.0, 10.0).clipping(&[0.0, f32::NAN]).is_err());
        let endless = lloyd_max(0.0, 10.0).clipping(&[1.0, f64::INFINITY]).unwrap().unwrap();
        assert_eq!((endless.voxels, endless.share()), (1, 1.0));
    }

    proptest! {
        #[test]
        fn as_one_value_after_the_other(
            values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 0..20),
            tail in prop::collection::vec(-20.0_f32..20.0, 0..3 * BLOCK),
            clip in (-9.0_f64..=0.0, 1.0_f64..19.0),
        ) {
            let codec = lloyd_max(clip.0, clip.1);
            let values: Vec<f32> = values.into_iter().map(|v| v % 1e4).chain(tail).collect();
            let lost: Vec<f64> = values
                .iter()
                .map(|&v| f64::from(v))
                .map(|v| if v > clip.1 { v - clip.1 } else if v < clip.0 { clip.0 - v } else { 0.0 })
                .collect();
            let Some(found) = codec.clipping(&values).unwrap() else {
                prop_assert!(lost.iter().all(|&l| l == 0.0));
                return Ok(());
            };
            prop_assert_eq!(found.voxels, lost.iter().filter(|&&l| l > 0.0).count() as u64);
            let total: f64 = lost.iter().sum();
            prop_assert!((found.above + found.below - total).abs() <= 1e-9 * total);
            prop_assert_eq!(lost[found.worst_index], lost.iter().copied().fold(0.0, f64::max));
            prop_assert_eq!(found.worst, f64::from(values[found.worst_index]));
        }
    }
}
