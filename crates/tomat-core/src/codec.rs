//! Codecs: a float to `k` token components, and back. All arithmetic is float64.

mod lloyd_max;
mod log;
mod table;

use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use lloyd_max::LloydMaxCodec;
pub use log::LogCodec;

use crate::error::{Error, Result};
use crate::grid::{Real, Unit, check_not_nan};
use crate::memory;

/// A codec for density values.
#[derive(Debug, Clone, PartialEq)]
pub enum DensityCodec {
    /// Log-uniform, one to several components.
    Log(Arc<LogCodec>),
    /// Lloyd-Max, one component.
    LloydMax(Arc<LloydMaxCodec>),
}

impl DensityCodec {
    /// Number of values each component can take; `sizes().len()` is the number of tokens a voxel costs.
    #[must_use]
    pub fn sizes(&self) -> &[usize] {
        match self {
            Self::Log(codec) => codec.sizes(),
            Self::LloydMax(codec) => codec.sizes(),
        }
    }

    /// Tokens a voxel.
    #[must_use]
    pub fn components(&self) -> usize {
        self.sizes().len()
    }

    /// Encodes `n` values into `n * k` numbers: component `j` of a value plus `bases[j]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a value is NaN, or when the lengths of `bases` and `out` do not fit.
    pub fn encode<T: Real>(&self, values: &[T], bases: &[i32], out: &mut [i32]) -> Result<()> {
        check_not_nan(values)?;
        let k = self.components();
        if bases.len() != k || out.len() != values.len() * k {
            return Err(Error::invalid(format!(
                "{} values of a codec with {k} components need {k} bases and {} places, not {} and {}",
                values.len(),
                values.len() * k,
                bases.len(),
                out.len()
            )));
        }
        self.encode_checked(values, bases, out);
        Ok(())
    }

    /// The `n * k` components of `n` values, without bases, in new memory that is gone through once.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a value is NaN; [`Error::Memory`] when so much is not given.
    pub fn components_of<T: Real>(&self, values: &[T]) -> Result<Vec<i32>> {
        /// Values at a time: they, and what they are encoded as, stay in the cache.
        const BLOCK: usize = 2048;
        let k = self.components();
        let bases = vec![0; k];
        let mut block = memory::filled(BLOCK.min(values.len()) * k, 0)?;
        let mut out = memory::with_room(values.len() * k)?;
        for part in values.chunks(BLOCK) {
            if check_not_nan(part).is_err() {
                // Its place among all values belongs into the message.
                check_not_nan(values)?;
            }
            let places = &mut block[..part.len() * k];
            self.encode_checked(part, &bases, places);
            out.extend_from_slice(places);
        }
        Ok(out)
    }

    /// As [`Self::encode`], for values already known not to be NaN and lengths known to fit.
    pub(crate) fn encode_checked<T: Real>(&self, values: &[T], bases: &[i32], out: &mut [i32]) {
        match self {
            Self::Log(codec) => codec.encode(values, bases, out),
            Self::LloydMax(codec) => codec.encode(values, bases[0], out),
        }
    }

    /// Decodes `n * k` components into `n` values.
    ///
    /// # Errors
    /// [`Error::Index`] when a component is outside its range, [`Error::Invalid`] when the lengths do not fit.
    pub fn decode(&self, components: &[i32], out: &mut [f64]) -> Result<()> {
        let sizes = self.sizes();
        if components.len() != out.len() * sizes.len() {
            return Err(Error::invalid(format!(
                "{} components are not {} values of {} components",
                components.len(),
                out.len(),
                sizes.len()
            )));
        }
        for (row, word) in components.chunks_exact(sizes.len()).enumerate() {
            for (column, (&component, &size)) in word.iter().zip(sizes).enumerate() {
                if usize::try_from(component).map_or(true, |index| index >= size) {
                    return Err(Error::Index {
                        what: format!("row {row}: component {column}:"),
                        index: component.into(),
                        len: size,
                    });
                }
            }
        }
        for (value, word) in out.iter_mut().zip(components.chunks_exact(sizes.len())) {
            *value = self.decode_word(word);
        }
        Ok(())
    }

    /// One value from components known to lie in their ranges.
    pub(crate) fn decode_word(&self, word: &[i32]) -> f64 {
        match self {
            Self::Log(codec) => codec.decode_word(word),
            Self::LloydMax(codec) => codec.decode_bin(word[0]),
        }
    }

    /// The closed range of values that encode as `value` does, in float64: the bin a decoded value speaks for.
    ///
    /// Values beyond the codec's range are clipped into its first and last bins, whose ranges are therefore
    /// unbounded on that side.
    #[must_use]
    pub fn bin_of(&self, value: f64) -> (f64, f64) {
        match self {
            Self::Log(codec) => codec.bin_of(value),
            Self::LloydMax(codec) => codec.bin_of(value),
        }
    }

    /// The closed range of values that are told apart; those beyond it encode as its ends do.
    ///
    /// Log codecs hold magnitudes up to `10^log_max` of either sign; what lies below `10^log_min` is rounded to zero,
    /// not clipped.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        match self {
            Self::Log(codec) => {
                let most = 10f64.powf(codec.log_max());
                (-most, most)
            }
            Self::LloydMax(codec) => (codec.clip_min(), codec.clip_max()),
        }
    }

    /// The convention of the densities this codec was made for; `None` where nothing is known (log codecs).
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        match self {
            Self::Log(_) => None,
            Self::LloydMax(codec) => Some(codec.unit()),
        }
    }

    /// The unit of the values this codec encodes: its own, or for a codec that has none the stated one, or
    /// [`Unit::Chgcar`], which all data of such codecs had before a unit was written beside them.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the stated unit is not the codec's own.
    pub fn unit_for(&self, stated: Option<Unit>) -> Result<Unit> {
        match (self.unit(), stated) {
            (Some(own), Some(stated)) if own != stated => Err(Error::invalid(format!(
                "encodes densities in {own}, not in {stated}; choose a codec of that unit (tomat codec list), or leave \
                 the unit out"
            ))),
            (own, stated) => Ok(own.or(stated).unwrap_or(Unit::Chgcar)),
        }
    }

    /// SHA-256, in hexadecimal, of everything that decides what a token means.
    #[must_use]
    pub fn hash(&self) -> String {
        match self {
            Self::Log(codec) => codec.hash(),
            Self::LloydMax(codec) => codec.hash(),
        }
    }
}

/// Lower-case hexadecimal SHA-256 of what `feed` puts in.
pub(crate) fn sha256_hex(feed: impl FnOnce(&mut Sha256)) -> String {
    use std::fmt::Write;
    let mut hasher = Sha256::new();
    feed(&mut hasher);
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn components_are_those_of_encode_and_nan_is_found_where_it_is(
            some in prop::collection::vec(-1e3_f32..1e3, 0..300), repeats in 1_usize..20, nan: prop::sample::Index,
        ) {
            let mut values = some.repeat(repeats);
            let bounds: Vec<f32> = (1..500_u16).map(|i| f32::from(i) * 0.7).collect();
            let lloyd_max = LloydMaxCodec::new(bounds, vec![0.0; 500], 400.0, Unit::Chgcar).unwrap();
            let log = LogCodec::new(-4.0, 4.0, &[9, 12]).unwrap();
            for codec in [DensityCodec::LloydMax(Arc::new(lloyd_max)), DensityCodec::Log(Arc::new(log))] {
                let k = codec.components();
                let mut expected = vec![0; values.len() * k];
                codec.encode(&values, &vec![0; k], &mut expected).unwrap();
                prop_assert_eq!(codec.components_of(&values).unwrap(), expected);
                if values.is_empty() {
                    continue;
                }
                let place = nan.index(values.len());
                let kept = std::mem::replace(&mut values[place], f32::NAN);
                let error = codec.components_of(&values).unwrap_err().to_string();
                prop_assert!(error.contains(&format!("value {place} is NaN")), "{}", error);
                values[place] = kept;
            }
        }
    }
}
