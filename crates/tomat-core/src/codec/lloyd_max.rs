//! The Lloyd-Max codec: fitted bins, one token a voxel, quantised by lookup.

use sha2::Digest;

use super::sha256_hex;
use super::table::Table;
use crate::error::{Error, Result};
use crate::grid::{Real, Unit};

/// Fitted bins: `n - 1` ascending boundaries and `n` reconstruction points, values clipped to `[clip_min, clip_max]`;
/// `clip_min` is zero unless [`LloydMaxCodec::with_clip_min`] says otherwise.
///
/// Encoding costs two look-ups a value in a [`Table`]. Values below zero, of which densities have few, are searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct LloydMaxCodec {
    boundaries: Vec<f32>,
    recon_points: Vec<f32>,
    clip_min: f64,
    clip_max: f64,
    unit: Unit,
    sizes: [usize; 1],
    /// How many boundaries are at or below zero: every clipped value counts them.
    at_or_below_zero: usize,
    /// The boundaries above zero.
    table: Table,
}

/// Values whose keys are made at a time: they stay in the first-level cache.
const BLOCK: usize = 512;

impl LloydMaxCodec {
    /// A codec from its arrays; `unit` is the convention of the densities it was fitted to.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the lengths do not fit, boundaries are not finite and strictly ascending,
    /// reconstruction points are not finite, or `clip_max` is not above zero.
    pub fn new(boundaries: Vec<f32>, recon_points: Vec<f32>, clip_max: f64, unit: Unit) -> Result<Self> {
        let n = recon_points.len();
        if n == 0 || boundaries.len() != n - 1 {
            return Err(Error::invalid(format!(
                "{} boundaries and {n} reconstruction points do not fit; n bins have n - 1 boundaries and n points",
                boundaries.len()
            )));
        }
        if n > 1 << 24 {
            return Err(Error::invalid(format!("{n} bins are too many; the limit is {}", 1 << 24)));
        }
        if let Some(i) = boundaries.iter().position(|b| !b.is_finite()) {
            return Err(Error::invalid(format!("boundary {i} is {}; all must be finite", boundaries[i])));
        }
        if let Some(i) = boundaries.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(Error::invalid(format!(
                "boundaries {i} and {} are {} and {}; they must be strictly ascending float32 numbers",
                i + 1,
                boundaries[i],
                boundaries[i + 1]
            )));
        }
        if let Some(i) = recon_points.iter().position(|r| !r.is_finite()) {
            return Err(Error::invalid(format!(
                "reconstruction point {i} is {}; all must be finite",
                recon_points[i]
            )));
        }
        if !(clip_max.is_finite() && clip_max > 0.0) {
            return Err(Error::invalid(format!("clip_max is {clip_max}; it must be finite and above zero")));
        }
        let at_or_below_zero = boundaries.partition_point(|&b| b <= 0.0);
        let keys = boundaries[at_or_below_zero..].iter().map(|b| b.to_bits()).collect();
        let table = Table::new(keys, round_down(clip_max));
        Ok(Self {
            boundaries,
            recon_points,
            clip_min: 0.0,
            clip_max,
            unit,
            sizes: [n],
            at_or_below_zero,
            table,
        })
    }

    /// The same bins for values clipped to `[clip_min, clip_max]`: a signed codec where `clip_min` is below zero.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `clip_min` is above zero or not finite.
    pub fn with_clip_min(self, clip_min: f64) -> Result<Self> {
        if !(clip_min.is_finite() && clip_min <= 0.0) {
            return Err(Error::invalid(format!(
                "clip_min is {clip_min}; it must be finite, and zero or below zero"
            )));
        }
        // Not -0.0, which would print and hash as another number.
        Ok(Self { clip_min: clip_min + 0.0, ..self })
    }

    /// The `n - 1` boundaries.
    #[must_use]
    pub fn boundaries(&self) -> &[f32] {
        &self.boundaries
    }

    /// The `n` values that bins decode to.
    #[must_use]
    pub fn recon_points(&self) -> &[f32] {
        &self.recon_points
    }

    /// The smallest value told apart, zero or below; smaller ones encode as it does.
    #[must_use]
    pub const fn clip_min(&self) -> f64 {
        self.clip_min
    }

    /// The largest value told apart; larger ones encode as it does.
    #[must_use]
    pub const fn clip_max(&self) -> f64 {
        self.clip_max
    }

    /// The convention of the densities this codec was fitted to.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// `[n]`.
    #[must_use]
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The bin of each value plus `base`; values are not NaN.
    pub(crate) fn encode<T: Real>(&self, values: &[T], base: i32, out: &mut [i32]) {
        let from_zero = base + self.at_or_below_zero as i32;
        let mut keys = [0; BLOCK];
        for (values, places) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let keys = &mut keys[..values.len()];
            for (key, &value) in keys.iter_mut().zip(values) {
                *key = value.key();
            }
            self.table.count(keys, from_zero, places);
            if self.clip_min < 0.0 {
                for ((&value, key), place) in values.iter().zip(keys).zip(places) {
                    if *key < 0 {
                        *place = base + self.bin_below_zero(value.into()) as i32;
                    }
                }
            }
        }
    }

    /// The bin of a value at or below zero in a signed codec.
    #[cold]
    fn bin_below_zero(&self, value: f64) -> usize {
        let clipped = value.max(self.clip_min);
        self.boundaries[..self.at_or_below_zero].partition_point(|&b| f64::from(b) <= clipped)
    }

    /// The value of a bin in range.
    pub(crate) fn decode_bin(&self, bin: i32) -> f64 {
        f64::from(self.recon_points[bin as usize])
    }

    /// The closed range of values that share a bin with `value`.
    pub(crate) fn bin_of(&self, value: f64) -> (f64, f64) {
        let clipped = value.clamp(self.clip_min, self.clip_max);
        let bin = self.boundaries.partition_point(|&b| f64::from(b) <= clipped);
        let low = bin.checked_sub(1).map_or(f64::NEG_INFINITY, |i| f64::from(self.boundaries[i]));
        let high = self.boundaries.get(bin).map_or(f64::INFINITY, |&b| f64::from(b));
        (low, high)
    }

    /// SHA-256 of unit, `clip_max`, boundaries, reconstruction points, and `clip_min` of a signed codec.
    #[must_use]
    pub fn hash(&self) -> String {
        sha256_hex(|hasher| {
            hasher.update(b"tomat.codec.lmq.1\0");
            hasher.update(self.unit.name().as_bytes());
            hasher.update(b"\0");
            hasher.update(self.clip_max.to_le_bytes());
            hasher.update((self.recon_points.len() as u64).to_le_bytes());
            for value in self.boundaries.iter().chain(&self.recon_points) {
                hasher.update(value.to_le_bytes());
            }
            if self.clip_min < 0.0 {
                hasher.update(self.clip_min.to_le_bytes());
            }
        })
    }
}

/// The largest float32 not above a positive finite float64, as a bit pattern.
fn round_down(value: f64) -> u32 {
    let nearest = value as f32;
    nearest.to_bits() - u32::from(f64::from(nearest) > value)
}

/// The key of a value: the bit pattern of the largest float32 not above it (for values above zero; any pattern with
/// the sign bit set for those below). Boundaries are float32, so no boundary lies between a value and its key.
trait Key {
    fn key(self) -> i32;
}

impl<T: Real> Key for T {
    #[inline]
    fn key(self) -> i32 {
        let value: f64 = self.into();
        // Exact for float32 input: the compiler sees through the round trip.
        let nearest = value as f32;
        nearest.to_bits() as i32 - i32::from(f64::from(nearest) > value && value > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slow(codec: &LloydMaxCodec, value: f64) -> i32 {
        let (boundaries, clipped) = (codec.boundaries(), value.clamp(codec.clip_min(), codec.clip_max()));
        boundaries.iter().filter(|&&b| f64::from(b) <= clipped).count() as i32
    }

    fn check(boundaries: Vec<f32>, clip_max: f64, values: &[f64]) {
        let n = boundaries.len() + 1;
        let codec = LloydMaxCodec::new(boundaries, vec![0.0; n], clip_max, Unit::Chgcar).unwrap();
        check_codec(&codec, values);
    }

    fn check_codec(codec: &LloydMaxCodec, values: &[f64]) {
        let clip = |value: f64| value.clamp(codec.clip_min(), codec.clip_max());
        let mut out = vec![0; values.len()];
        codec.encode(values, 0, &mut out);
        for (&value, &bin) in values.iter().zip(&out) {
            assert_eq!(bin, slow(codec, value), "f64 {value:e}");
            let (low, high) = codec.bin_of(value);
            assert!(low <= clip(value) && clip(value) <= high);
        }
        let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        codec.encode(&narrow, 7, &mut out);
        for (&value, &bin) in narrow.iter().zip(&out) {
            assert_eq!(bin, 7 + slow(codec, value.into()), "f32 {value:e}");
        }
    }

    /// Each boundary, its float64 and float32 neighbours, and the extremes.
    fn probes(boundaries: &[f32], clip_max: f64) -> Vec<f64> {
        let around = |v: f64| [v, v.next_up(), v.next_down()];
        boundaries
            .iter()
            .flat_map(|&b| [f64::from(b), f64::from(b.next_up()), f64::from(b.next_down())])
            .chain([clip_max, 0.0, -0.0, 1e-320, 1e-46, -1e-46, 1e-300, f64::MAX, f64::MIN])
            .chain([f64::from(f32::MAX), f64::INFINITY, f64::NEG_INFINITY])
            .flat_map(around)
            .filter(|v| !v.is_nan())
            .collect()
    }

    #[test]
    fn edges_of_hand_made_codecs() {
        for boundaries in [
            vec![],
            vec![0.0],
            vec![-1.0, -0.0, 1.0],
            vec![f32::from_bits(1), f32::from_bits(2), f32::MIN_POSITIVE],
            vec![1.0, 1.0f32.next_up(), 1.0f32.next_up().next_up(), 1.5, 2.0],
            vec![0.1, 0.2, 5.0, 9.0],
        ] {
            for clip_max in [5.0, 3.7, 1e-40, 1e-44, f64::from(f32::MAX), 1e300] {
                check(boundaries.clone(), clip_max, &probes(&boundaries, clip_max));
            }
        }
    }

    #[test]
    fn many_boundaries_in_one_cell_fall_back_to_searching() {
        // A thousand neighbours, then one far away in the same octave: no table size tells these apart.
        let mut boundaries: Vec<f32> = (0..1000).map(|i| f32::from_bits(1.0f32.to_bits() + i)).collect();
        boundaries.push(1.75);
        check(boundaries.clone(), 10.0, &probes(&boundaries, 10.0));
    }

    #[test]
    fn broken_codecs_are_refused() {
        let new =
            |b: &[f32], n: usize, clip| LloydMaxCodec::new(b.to_vec(), vec![0.0; n], clip, Unit::Chgcar);
        assert!(new(&[1.0], 2, 1.0).is_ok());
        assert!(new(&[1.0], 1, 1.0).is_err());
        assert!(new(&[], 0, 1.0).is_err());
        assert!(new(&[1.0, 1.0], 3, 1.0).is_err());
        assert!(new(&[2.0, 1.0], 3, 1.0).is_err());
        assert!(new(&[f32::NAN], 2, 1.0).is_err());
        assert!(new(&[1.0], 2, 0.0).is_err());
        assert!(new(&[1.0], 2, f64::INFINITY).is_err());
        assert!(LloydMaxCodec::new(vec![], vec![f32::NAN], 1.0, Unit::Chgcar).is_err());
        for clip_min in [1e-300, f64::NAN, f64::NEG_INFINITY, f64::INFINITY] {
            assert!(new(&[1.0], 2, 1.0).unwrap().with_clip_min(clip_min).is_err());
        }
        let codec = new(&[1.0], 2, 1.0).unwrap();
        assert_eq!(codec.clone().with_clip_min(-0.0).unwrap().hash(), codec.hash());
    }

    proptest! {
        #[test]
        fn lookup_equals_counting(
            mut patterns in prop::collection::vec(0u32..0x7f7f_ffff, 0..200),
            dense in 0u32..0x7f00_0000,
            many in 0u32..300,
            clip in 1u32..0x7f7f_ffff,
        ) {
            patterns.extend(dense..dense + many);
            patterns.sort_unstable();
            patterns.dedup();
            let boundaries: Vec<f32> = patterns.into_iter().map(f32::from_bits).collect();
            let clip_max = f64::from(f32::from_bits(clip));
            check(boundaries.clone(), clip_max, &probes(&boundaries, clip_max));
        }

        #[test]
        fn signed_lookup_equals_counting(
            mut patterns in prop::collection::vec(0u32..0x7f7f_ffff, 0..100),
            mut below in prop::collection::vec(1u32..0x7f7f_ffff, 0..100),
            clip in (0u32..0x7f7f_ffff, 1u32..0x7f7f_ffff),
        ) {
            patterns.sort_unstable();
            patterns.dedup();
            below.sort_unstable_by(|a, b| b.cmp(a));
            below.dedup();
            let boundaries: Vec<f32> =
                below.iter().map(|&b| -f32::from_bits(b)).chain(patterns.into_iter().map(f32::from_bits)).collect();
            let (clip_min, clip_max) = (-f64::from(f32::from_bits(clip.0)), f64::from(f32::from_bits(clip.1)));
            let n = boundaries.len() + 1;
            let codec = LloydMaxCodec::new(boundaries.clone(), vec![0.0; n], clip_max, Unit::Chgcar).unwrap();
            let unsigned = codec.hash();
            let codec = codec.with_clip_min(clip_min).unwrap();
            prop_assert_eq!(codec.hash() == unsigned, clip_min == 0.0);
            let mut values = probes(&boundaries, clip_max);
            values.extend([clip_min, clip_min.next_up(), clip_min.next_down()]);
            check_codec(&codec, &values);
        }
    }
}
