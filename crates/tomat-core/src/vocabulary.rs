//! Which ids mean what: the only owner of token ids.
//!
//! Regions in order: specials, atoms, ints, the position codec's components, the density codec's components. The
//! `lattice` vocabulary has two specials more than `legacy`, so all its later regions sit two ids higher; nothing
//! outside this file may know that. Crystals as language have a vocabulary of their own ([`crystal`]): five specials
//! more, and no position codec, since their positions are ints.

pub mod crystal;

use std::ops::Range;

use sha2::Digest;

use crate::codec::{DensityCodec, LogCodec, sha256_hex};
use crate::elements::SYMBOLS;
use crate::error::{Error, Result};

/// Int tokens stand for 0 to 1023.
pub const N_INTS: usize = 1024;

/// Which specials a vocabulary has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VocabularyKind {
    /// 18 specials (layouts v1 and v2).
    Legacy,
    /// 20 specials: `[LATTICE_START]` and `[LATTICE_END]` as well.
    Lattice,
}

impl VocabularyKind {
    /// `legacy` or `lattice`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Lattice => "lattice",
        }
    }

    const fn n_specials(self) -> usize {
        match self {
            Self::Legacy => 18,
            Self::Lattice => 20,
        }
    }
}

/// The special tokens; the discriminant is the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // their names say what they open and close
pub enum Special {
    Pad,
    Bos,
    Eos,
    AtomsStart,
    AtomsEnd,
    PosStart,
    PosEnd,
    GridStart,
    GridEnd,
    ShapeStart,
    ShapeEnd,
    OffsetStart,
    OffsetEnd,
    HiStart,
    HiEnd,
    DensStart,
    DensEnd,
    Nl,
    LatticeStart,
    LatticeEnd,
    Mask,
    ConditionsStart,
    ConditionsEnd,
    AnswerStart,
    AnswerEnd,
}

/// Printed names, by id.
pub(crate) const SPECIAL_NAMES: [&str; 25] = [
    "[PAD]",
    "[BOS]",
    "[EOS]",
    "[ATOMS_START]",
    "[ATOMS_END]",
    "[POS_START]",
    "[POS_END]",
    "[GRID_START]",
    "[GRID_END]",
    "[SHAPE_START]",
    "[SHAPE_END]",
    "[OFFSET_START]",
    "[OFFSET_END]",
    "[HI_START]",
    "[HI_END]",
    "[DENS_START]",
    "[DENS_END]",
    "[NL]",
    "[LATTICE_START]",
    "[LATTICE_END]",
    "[MASK]",
    "[CONDITIONS_START]",
    "[CONDITIONS_END]",
    "[ANSWER_START]",
    "[ANSWER_END]",
];

impl Special {
    /// The token id, the same in all vocabularies that have it.
    #[must_use]
    pub const fn id(self) -> i32 {
        self as i32
    }

    /// The printed name, `[BOS]` and the like.
    #[must_use]
    pub const fn name(self) -> &'static str {
        SPECIAL_NAMES[self as usize]
    }
}

/// What reads rows asks this of a vocabulary.
pub trait Ids {
    /// What an id stands for.
    ///
    /// # Errors
    /// [`Error::Index`] when there is no such id.
    fn token(&self, id: i32) -> Result<Token>;

    /// The printed form of an id.
    ///
    /// # Errors
    /// [`Error::Index`] when there is no such id.
    fn name(&self, id: i32) -> Result<String>;

    /// All atom ids, hydrogen first.
    fn atom_range(&self) -> Range<i32>;
}

/// What a token id stands for. Numbers count from the start of the region (for positions and densities: from the
/// start of the component's range).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Token {
    /// A special, by id.
    Special(u8),
    /// An atomic number, 1 to 118.
    Atom(u8),
    /// A number, 0 to 1023.
    Int(u16),
    /// A component of a position.
    Position {
        /// Which component.
        component: usize,
        /// Its value.
        value: u32,
    },
    /// A component of a density.
    Density {
        /// Which component.
        component: usize,
        /// Its value.
        value: u32,
    },
}

/// A vocabulary: the regions of one density codec behind one kind of specials.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    kind: VocabularyKind,
    position_codec: LogCodec,
    density_codec: DensityCodec,
    atoms: i32,
    ints: i32,
    position_bases: Vec<i32>,
    density_bases: Vec<i32>,
    total_size: usize,
}

impl Vocabulary {
    /// The vocabulary of a density codec.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the codec has so many values that ids would not fit an int32.
    pub fn new(kind: VocabularyKind, density_codec: DensityCodec) -> Result<Self> {
        let position_codec = LogCodec::position();
        let mut next = 0usize;
        let mut region = |size: usize| {
            let start = next;
            next += size;
            start as i32
        };
        region(kind.n_specials());
        let atoms = region(SYMBOLS.len());
        let ints = region(N_INTS);
        let position_bases = position_codec.sizes().iter().map(|&size| region(size)).collect();
        let density_bases = density_codec.sizes().iter().map(|&size| region(size)).collect();
        if next > i32::MAX as usize / 2 {
            return Err(Error::invalid(format!("a vocabulary of {next} tokens does not fit int32 ids")));
        }
        Ok(Self {
            kind,
            position_codec,
            density_codec,
            atoms,
            ints,
            position_bases,
            density_bases,
            total_size: next,
        })
    }

    /// Which specials it has.
    #[must_use]
    pub const fn kind(&self) -> VocabularyKind {
        self.kind
    }

    /// The codec of atom positions.
    #[must_use]
    pub const fn position_codec(&self) -> &LogCodec {
        &self.position_codec
    }

    /// The codec of densities.
    #[must_use]
    pub const fn density_codec(&self) -> &DensityCodec {
        &self.density_codec
    }

    /// Number of ids: they run from 0 to one less.
    #[must_use]
    pub const fn total_size(&self) -> usize {
        self.total_size
    }

    /// First id of each component of the position codec.
    #[must_use]
    pub fn position_bases(&self) -> &[i32] {
        &self.position_bases
    }

    /// First id of each component of the density codec.
    #[must_use]
    pub fn density_bases(&self) -> &[i32] {
        &self.density_bases
    }

    /// All ids of the density codec.
    #[must_use]
    pub fn density_range(&self) -> Range<i32> {
        self.density_bases[0]..self.total_size as i32
    }

    /// All ids of the position codec.
    #[must_use]
    pub fn position_range(&self) -> Range<i32> {
        self.position_bases[0]..self.density_bases[0]
    }

    /// All atom ids, hydrogen first.
    #[must_use]
    pub fn atom_range(&self) -> Range<i32> {
        self.atoms..self.ints
    }

    /// All int ids, 0 first.
    #[must_use]
    pub fn int_range(&self) -> Range<i32> {
        self.ints..self.ints + N_INTS as i32
    }

    /// Printed names of the specials with their ids.
    pub fn specials(&self) -> impl Iterator<Item = (&'static str, i32)> {
        SPECIAL_NAMES.into_iter().take(self.kind.n_specials()).zip(0..)
    }

    /// The id of an atom, from its atomic number 1 to 118 (checked by the caller's types: see `grid.rs`).
    pub(crate) fn atom(&self, z: u8) -> i32 {
        self.atoms + i32::from(z) - 1
    }

    /// The id of an int 0 to 1023.
    pub(crate) fn int(&self, value: usize) -> i32 {
        debug_assert!(value < N_INTS);
        self.ints + value as i32
    }

    /// What an id stands for.
    ///
    /// # Errors
    /// [`Error::Index`] when it is negative or not below [`Self::total_size`].
    pub fn token(&self, id: i32) -> Result<Token> {
        if id < 0 || id as usize >= self.total_size {
            return Err(Error::Index { what: "token id".to_owned(), index: id.into(), len: self.total_size });
        }
        let component_of = |bases: &[i32]| {
            let component = bases.partition_point(|&base| base <= id) - 1;
            (component, (id - bases[component]) as u32)
        };
        Ok(if id < self.atoms {
            Token::Special(id as u8)
        } else if id < self.ints {
            Token::Atom((id - self.atoms + 1) as u8)
        } else if id < self.position_bases[0] {
            Token::Int((id - self.ints) as u16)
        } else if id < self.density_bases[0] {
            let (component, value) = component_of(&self.position_bases);
            Token::Position { component, value }
        } else {
            let (component, value) = component_of(&self.density_bases);
            Token::Density { component, value }
        })
    }

    /// The printed form of an id: specials by name, atoms by symbol, ints as numbers, `pN` and `dN` with N counted
    /// from the start of the position and density regions.
    ///
    /// # Errors
    /// [`Error::Index`] when there is no such id.
    pub fn name(&self, id: i32) -> Result<String> {
        Ok(match self.token(id)? {
            Token::Special(special) => SPECIAL_NAMES[usize::from(special)].to_owned(),
            Token::Atom(z) => SYMBOLS[usize::from(z) - 1].to_owned(),
            Token::Int(value) => value.to_string(),
            Token::Position { .. } => format!("p{}", id - self.position_bases[0]),
            Token::Density { .. } => format!("d{}", id - self.density_bases[0]),
        })
    }

    /// SHA-256 of everything that gives an id its meaning: the regions with their sizes, the names of the specials,
    /// and the parameters of both codecs. It travels with every dataset and every checkpoint.
    #[must_use]
    pub fn hash(&self) -> String {
        sha256_hex(|hasher| {
            hasher.update(b"tomat.vocabulary.1\0");
            for (name, _) in self.specials() {
                hasher.update(name.as_bytes());
                hasher.update(b"\0");
            }
            for symbol in SYMBOLS {
                hasher.update(symbol.as_bytes());
                hasher.update(b"\0");
            }
            hasher.update((N_INTS as u64).to_le_bytes());
            hasher.update(self.position_codec.hash().as_bytes());
            hasher.update(self.density_codec.hash().as_bytes());
        })
    }
}

impl Ids for Vocabulary {
    fn token(&self, id: i32) -> Result<Token> {
        self.token(id)
    }

    fn name(&self, id: i32) -> Result<String> {
        self.name(id)
    }

    fn atom_range(&self) -> Range<i32> {
        self.atom_range()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::LloydMaxCodec;
    use crate::grid::Unit;

    fn lmq(n: usize) -> DensityCodec {
        let boundaries = (1..n).map(|i| i as f32).collect();
        let codec = LloydMaxCodec::new(boundaries, vec![0.0; n], 1e6, Unit::Chgcar).unwrap();
        DensityCodec::LloydMax(Arc::new(codec))
    }

    #[test]
    fn totals_of_the_format_page() {
        let log = DensityCodec::Log(Arc::new(LogCodec::named("two_token_9_12").unwrap()));
        assert_eq!(Vocabulary::new(VocabularyKind::Legacy, log).unwrap().total_size(), 6792);
        let v3 = Vocabulary::new(VocabularyKind::Lattice, lmq(16_384)).unwrap();
        assert_eq!(v3.total_size(), 18_570);
        assert_eq!(v3.density_range(), 2186..18_570);
    }

    #[test]
    fn the_lattice_vocabulary_sits_two_ids_higher() {
        let legacy = Vocabulary::new(VocabularyKind::Legacy, lmq(8)).unwrap();
        let lattice = Vocabulary::new(VocabularyKind::Lattice, lmq(8)).unwrap();
        for id in 18..legacy.total_size() as i32 {
            assert_eq!(legacy.name(id).unwrap(), lattice.name(id + 2).unwrap());
        }
        assert_ne!(legacy.hash(), lattice.hash());
        assert_ne!(lattice.hash(), Vocabulary::new(VocabularyKind::Lattice, lmq(9)).unwrap().hash());
    }

    #[test]
    fn printed_names() {
        let v = Vocabulary::new(VocabularyKind::Lattice, lmq(8)).unwrap();
        assert_eq!(v.name(0).unwrap(), "[PAD]");
        assert_eq!(v.name(Special::LatticeEnd.id()).unwrap(), "[LATTICE_END]");
        assert_eq!(v.name(v.atom(14)).unwrap(), "Si");
        assert_eq!(v.name(v.int(1023)).unwrap(), "1023");
        assert_eq!(v.name(v.position_range().start + 512).unwrap(), "p512");
        assert_eq!(v.name(v.density_range().end - 1).unwrap(), "d7");
        assert_eq!(
            v.token(v.position_range().start + 512).unwrap(),
            Token::Position { component: 1, value: 0 }
        );
        assert!(v.name(-1).is_err());
        assert!(v.name(v.total_size() as i32).is_err());
    }
}
