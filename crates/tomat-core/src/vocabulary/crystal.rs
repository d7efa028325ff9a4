//! The vocabulary of crystals as language.
//!
//! Regions in order: 25 specials, atoms, ints, and the components of a density codec where rows go on with a density.
//! Lengths, angles and positions are ints, so that a thousand values serve them all.

use std::ops::Range;

use sha2::Digest;

use super::{Ids, N_INTS, SPECIAL_NAMES, Token};
use crate::codec::{DensityCodec, sha256_hex};
use crate::elements::SYMBOLS;
use crate::error::{Error, Result};

/// Which ids mean what in rows of crystals.
#[derive(Debug, Clone, PartialEq)]
pub struct CrystalVocabulary {
    density_codec: Option<DensityCodec>,
    density_bases: Vec<i32>,
    total_size: usize,
}

const ATOMS: i32 = SPECIAL_NAMES.len() as i32;
const INTS: i32 = ATOMS + SYMBOLS.len() as i32;
const DENSITY: i32 = INTS + N_INTS as i32;

impl CrystalVocabulary {
    /// The vocabulary of crystals alone, or of crystals with densities.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the codec has so many values that ids would not fit an int32.
    pub fn new(density_codec: Option<DensityCodec>) -> Result<Self> {
        let mut next = DENSITY as usize;
        let mut density_bases = Vec::new();
        for &size in density_codec.as_ref().map_or(&[][..], DensityCodec::sizes) {
            density_bases.push(next as i32);
            next += size;
            if next > i32::MAX as usize / 2 {
                return Err(Error::invalid(format!("a vocabulary of {next} tokens does not fit int32 ids")));
            }
        }
        Ok(Self { density_codec, density_bases, total_size: next })
    }

    /// Number of ids: they run from 0 to one less.
    #[must_use]
    pub const fn total_size(&self) -> usize {
        self.total_size
    }

    /// The codec of densities, where rows may have one.
    #[must_use]
    pub const fn density_codec(&self) -> Option<&DensityCodec> {
        self.density_codec.as_ref()
    }

    /// First id of each component of the density codec.
    #[must_use]
    pub fn density_bases(&self) -> &[i32] {
        &self.density_bases
    }

    /// All int ids, 0 first.
    #[must_use]
    pub fn int_range(&self) -> Range<i32> {
        INTS..DENSITY
    }

    /// All ids of the density codec; empty without one.
    #[must_use]
    pub fn density_range(&self) -> Range<i32> {
        DENSITY..self.total_size as i32
    }

    /// Printed names of the specials with their ids.
    pub fn specials(&self) -> impl Iterator<Item = (&'static str, i32)> {
        SPECIAL_NAMES.into_iter().zip(0..)
    }

    /// The id of an atom, from its atomic number 1 to 118 (checked by the caller).
    pub(crate) fn atom(z: u8) -> i32 {
        debug_assert!((1..=118).contains(&z));
        ATOMS + i32::from(z) - 1
    }

    /// The id of an int 0 to 1023.
    pub(crate) fn int(value: u16) -> i32 {
        debug_assert!(usize::from(value) < N_INTS);
        INTS + i32::from(value)
    }

    /// SHA-256 of everything that gives an id its meaning. It travels with every dataset and every checkpoint.
    #[must_use]
    pub fn hash(&self) -> String {
        sha256_hex(|hasher| {
            hasher.update(b"tomat.crystal-vocabulary.1\0");
            for name in SPECIAL_NAMES.iter().chain(&SYMBOLS) {
                hasher.update(name.as_bytes());
                hasher.update(b"\0");
            }
            hasher.update((N_INTS as u64).to_le_bytes());
            if let Some(codec) = &self.density_codec {
                hasher.update(codec.hash().as_bytes());
            }
        })
    }
}

impl Ids for CrystalVocabulary {
    fn token(&self, id: i32) -> Result<Token> {
        if id < 0 || id as usize >= self.total_size {
            return Err(Error::Index { what: "token id".to_owned(), index: id.into(), len: self.total_size });
        }
        Ok(if id < ATOMS {
            Token::Special(id as u8)
        } else if id < INTS {
            Token::Atom((id - ATOMS + 1) as u8)
        } else if id < DENSITY {
            Token::Int((id - INTS) as u16)
        } else {
            let component = self.density_bases.partition_point(|&base| base <= id) - 1;
            Token::Density { component, value: (id - self.density_bases[component]) as u32 }
        })
    }

    fn name(&self, id: i32) -> Result<String> {
        Ok(match self.token(id)? {
            Token::Special(special) => SPECIAL_NAMES[usize::from(special)].to_owned(),
            Token::Atom(z) => SYMBOLS[usize::from(z) - 1].to_owned(),
            Token::Int(value) => value.to_string(),
            Token::Position { .. } | Token::Density { .. } => format!("d{}", id - DENSITY),
        })
    }

    fn atom_range(&self) -> Range<i32> {
        ATOMS..INTS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::LogCodec;
    use crate::vocabulary::Special;

    #[test]
    fn regions_follow_each_other() {
        let alone = CrystalVocabulary::new(None).unwrap();
        assert_eq!(alone.total_size(), 25 + 118 + 1024);
        assert_eq!(alone.name(Special::Mask.id()).unwrap(), "[MASK]");
        assert_eq!(alone.name(CrystalVocabulary::atom(118)).unwrap(), "Og");
        assert_eq!(alone.name(CrystalVocabulary::int(0)).unwrap(), "0");
        assert_eq!(alone.name(alone.total_size() as i32 - 1).unwrap(), "1023");
        assert!(alone.name(alone.total_size() as i32).is_err());
        assert!(alone.name(-1).is_err());
        let log = DensityCodec::Log(Arc::new(LogCodec::named("two_token_9_12").unwrap()));
        let joint = CrystalVocabulary::new(Some(log)).unwrap();
        assert_eq!(joint.total_size(), alone.total_size() + 512 + 4096);
        assert_eq!(joint.name(joint.density_range().start + 512).unwrap(), "d512");
        assert_eq!(
            joint.token(joint.density_range().start + 512).unwrap(),
            Token::Density { component: 1, value: 0 }
        );
        assert_ne!(alone.hash(), joint.hash());
    }
}
