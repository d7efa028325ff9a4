//! The log-uniform codec: equal steps of `log10 |v|`, split over one to several components.

mod fast;
mod narrow;

use std::any::TypeId;

use sha2::Digest;

use super::sha256_hex;
use crate::error::{Error, Result};
use crate::grid::Real;
use fast::{Codes, Encode, Line};
use narrow::Narrow;

/// Magnitudes below this encode as exact zero.
const ZERO_BELOW: f64 = 1e-15;

/// Equal steps of `log10 |v|` between `log_min` and `log_max`, `B` bits in all, the sign on the first component.
#[derive(Debug, Clone, PartialEq)]
pub struct LogCodec {
    log_min: f64,
    log_max: f64,
    bits: Vec<u32>,
    sizes: Vec<usize>,
    /// `2^B - 1` as a float: the largest magnitude code.
    top: f64,
    /// What spares most values their logarithm.
    line: Option<Line>,
    /// The same for float32 values.
    narrow: Option<Narrow>,
}

impl LogCodec {
    /// A codec over `[10^log_min, 10^log_max]` with the given magnitude bits, most significant first.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the range is empty or not finite, there are no components, a component has more
    /// than 20 bits, or all together have more than 32.
    pub fn new(log_min: f64, log_max: f64, bits: &[u32]) -> Result<Self> {
        if !(log_min.is_finite() && log_max.is_finite() && log_min < log_max) {
            return Err(Error::invalid(format!(
                "log_min = {log_min} and log_max = {log_max} must be finite with log_min below log_max (base 10)"
            )));
        }
        let total = bits.iter().fold(0u32, |sum, &b| sum.saturating_add(b));
        if bits.is_empty() || total == 0 || bits.iter().any(|&b| b > 20) || total > 32 {
            return Err(Error::invalid(format!(
                "magnitude bits {bits:?} must be one to several numbers up to 20 that add up to between 1 and 32"
            )));
        }
        Ok(Self::of(log_min, log_max, bits))
    }

    /// The codec of atom positions: 8 + 8 + 8 bits over `[1e-4, 1]`.
    #[must_use]
    pub fn position() -> Self {
        Self::of(-4.0, 0.0, &[8, 8, 8])
    }

    /// From parameters known to be good.
    fn of(log_min: f64, log_max: f64, bits: &[u32]) -> Self {
        let mut sizes: Vec<usize> = bits.iter().map(|&b| 1usize << b).collect();
        sizes[0] *= 2;
        let top = ((1u64 << bits.iter().sum::<u32>()) - 1) as f64;
        let line = Line::new(log_min, log_max, top);
        let narrow = line.and_then(|line| Narrow::new(line, top));
        Self { log_min, log_max, bits: bits.to_vec(), sizes, top, line, narrow }
    }

    /// A density codec by its name in the format page: `two_token_9_12`, `tomol_3byte` or `fp16_1token`, over the
    /// range of label v1 (`log_min = -4.127`, `log_max = 4.967`).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let bits: &[u32] = match name {
            "two_token_9_12" => &[8, 12],
            "tomol_3byte" => &[8, 8, 8],
            "fp16_1token" => &[15],
            _ => return None,
        };
        Self::new(-4.127, 4.967, bits).ok()
    }

    /// Lower end of the range, base 10.
    #[must_use]
    pub const fn log_min(&self) -> f64 {
        self.log_min
    }

    /// Upper end of the range, base 10.
    #[must_use]
    pub const fn log_max(&self) -> f64 {
        self.log_max
    }

    /// Magnitude bits of each component, most significant first.
    #[must_use]
    pub fn bits(&self) -> &[u32] {
        &self.bits
    }

    /// Number of values each component can take.
    #[must_use]
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The formula that every code comes from.
    fn magnitude_code(&self, value: f64) -> u64 {
        let magnitude = value.abs();
        if magnitude < ZERO_BELOW {
            return 0;
        }
        let t = (magnitude.log10().clamp(self.log_min, self.log_max) - self.log_min)
            / (self.log_max - self.log_min);
        (t * self.top) as u64
    }

    fn magnitude(&self, code: u64) -> f64 {
        if code == 0 {
            return 0.0;
        }
        10f64.powf(code as f64 / self.top * (self.log_max - self.log_min) + self.log_min)
    }

    /// Encodes one value, each component plus its base, into `out` (one place a component).
    pub(crate) fn encode_value(&self, value: f64, bases: &[i32], out: &mut [i32]) {
        let mut code = self.magnitude_code(value);
        for ((place, &base), &bits) in out.iter_mut().zip(bases).zip(&self.bits).rev() {
            *place = base + (code & ((1 << bits) - 1)) as i32;
            code >>= bits;
        }
        if value < 0.0 {
            out[0] += 1 << self.bits[0];
        }
    }

    /// Encodes `n` values that are not NaN into `n * k` places.
    pub(crate) fn encode<T: Real>(&self, values: &[T], bases: &[i32], out: &mut [i32]) {
        let is_narrow = TypeId::of::<T>() == TypeId::of::<f32>();
        match (self.narrow, self.line) {
            (Some(narrow), _) if is_narrow => self.encode_by(narrow, values, bases, out),
            (_, Some(line)) => self.encode_by(line, values, bases, out),
            (_, None) => {
                for (&value, word) in values.iter().zip(out.chunks_exact_mut(self.bits.len())) {
                    self.encode_value(value.into(), bases, word);
                }
            }
        }
    }

    fn encode_by<T: Real>(&self, codes: impl Codes<T>, values: &[T], bases: &[i32], out: &mut [i32]) {
        match self.bits.len() {
            1 => self.encode_into::<T, 1>(codes, values, bases, out),
            2 => self.encode_into::<T, 2>(codes, values, bases, out),
            3 => self.encode_into::<T, 3>(codes, values, bases, out),
            _ => self.encode_into::<T, 0>(codes, values, bases, out),
        }
    }

    fn encode_into<T: Real, const K: usize>(
        &self,
        codes: impl Codes<T>,
        values: &[T],
        bases: &[i32],
        out: &mut [i32],
    ) {
        let exact = |magnitude| self.magnitude_code(magnitude) as u32;
        Encode::<T, _, K, _> { codes, bits: &self.bits, bases, values, out, exact }.run_widest();
    }

    /// One value from components in their ranges.
    pub(crate) fn decode_word(&self, word: &[i32]) -> f64 {
        let sign_bit = 1i32 << self.bits[0];
        let negative = word[0] >= sign_bit;
        let first = word[0] & (sign_bit - 1);
        let code =
            word[1..].iter().zip(&self.bits[1..]).fold(first as u64, |code, (&c, &b)| code << b | c as u64);
        if negative { -self.magnitude(code) } else { self.magnitude(code) }
    }

    /// The closed range of values that share a code with `value`; the ends carry the rounding of `log10`.
    pub(crate) fn bin_of(&self, value: f64) -> (f64, f64) {
        let code = self.magnitude_code(value);
        let edge = |n: u64| 10f64.powf(n as f64 / self.top * (self.log_max - self.log_min) + self.log_min);
        let low = if code == 0 { 0.0 } else { edge(code) * (1.0 - 1e-12) };
        // The last code holds log_max alone, and everything clipped to it.
        let high = if code as f64 >= self.top { f64::INFINITY } else { edge(code + 1) * (1.0 + 1e-12) };
        if value < 0.0 { (-high, -low) } else { (low, high) }
    }

    /// SHA-256 of the parameters.
    #[must_use]
    pub fn hash(&self) -> String {
        sha256_hex(|hasher| {
            hasher.update(b"tomat.codec.log.1\0");
            hasher.update(self.log_min.to_le_bytes());
            hasher.update(self.log_max.to_le_bytes());
            hasher.update((self.bits.len() as u64).to_le_bytes());
            for &bits in &self.bits {
                hasher.update(bits.to_le_bytes());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn components(codec: &LogCodec, value: f64) -> Vec<i32> {
        let k = codec.sizes().len();
        let mut out = vec![0; k];
        codec.encode(&[value], &vec![0; k], &mut out);
        out
    }

    #[test]
    fn zero_sign_and_the_ends_of_the_range() {
        let codec = LogCodec::position();
        assert_eq!(components(&codec, 0.0), [0, 0, 0]);
        assert_eq!(components(&codec, -0.0), [0, 0, 0], "-0.0 counts as positive");
        assert_eq!(components(&codec, 1.0), [255, 255, 255]);
        assert_eq!(components(&codec, -1.0), [511, 255, 255]);
        assert_eq!(components(&codec, 1e30), [255, 255, 255]);
        assert_eq!(components(&codec, -1e-16), [256, 0, 0]);
        assert_eq!(codec.decode_word(&[255, 255, 255]).to_bits(), 1.0f64.to_bits());
        assert_eq!(codec.decode_word(&[256, 0, 0]).to_bits(), (-0.0f64).to_bits());
    }

    #[test]
    fn bad_parameters_are_refused() {
        assert!(LogCodec::new(1.0, 1.0, &[8]).is_err());
        assert!(LogCodec::new(f64::NAN, 1.0, &[8]).is_err());
        assert!(LogCodec::new(0.0, 1.0, &[]).is_err());
        assert!(LogCodec::new(0.0, 1.0, &[21]).is_err());
        assert!(LogCodec::new(0.0, 1.0, &[16, 17]).is_err());
        assert!(LogCodec::new(0.0, 1.0, &[u32::MAX, u32::MAX]).is_err());
        assert!(LogCodec::new(0.0, 1.0, &[0]).is_err());
    }

    proptest! {
        #[test]
        fn decoding_stays_within_one_step(
            exponent in -6.0f64..6.0,
            negative: bool,
            bits in prop::collection::vec(1u32..12, 1..3),
        ) {
            let codec = LogCodec::new(-4.127, 4.967, &bits).unwrap();
            let value = if negative { -(10f64.powf(exponent)) } else { 10f64.powf(exponent) };
            let word = components(&codec, value);
            for (&component, &size) in word.iter().zip(codec.sizes()) {
                prop_assert!(component >= 0 && (component as usize) < size);
            }
            let back = codec.decode_word(&word);
            let (low, high) = codec.bin_of(value);
            prop_assert!(low <= value && value <= high);
            prop_assert!(back == 0.0 || (low <= back && back <= high), "{back} not in {low}..{high}");
            prop_assert_eq!(components(&codec, value), word);
        }
    }
}
