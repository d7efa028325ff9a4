//! Crystals as language: rows that are a crystal alone, for models that write crystals.
//!
//! ```text
//! [BOS] CONDITIONS? LATTICE ATOMS POS ANSWER? [EOS]
//! ```
//!
//! Every block opens and closes with its pair of specials; all numbers are int tokens.
//!
//! | block | between its specials |
//! |---|---|
//! | CONDITIONS | a slot number and what belongs to it, any number of times: 0 formula (an atom and its count, each element once), 1 number of atoms, 2 space group, 3 and above a column's bin |
//! | LATTICE | a b c in hundredths of an angstrom, two ints each (tenths of an angstrom, hundredths 0 to 9); alpha beta gamma in tenths of a degree, two ints each (degrees, tenths 0 to 9) |
//! | ATOMS | one atom token each, or `[MASK]` |
//! | POS | x y z of each atom in 1,024ths of the axis (one int), or 4,096ths (two: a quarter of it, and the rest 0 to 3); three `[MASK]` for an atom whose place is asked for |
//! | ANSWER | what was masked: atoms, then positions, in the order of the atoms; one atom alone answers for all that are masked |

mod decode;
mod encode;

use crate::error::{Error, Result};
use crate::grid::{LatticeParameters, check_atoms};
use crate::vocabulary::N_INTS;

/// Hundredths of an angstrom of the longest cell vector that can be written: 102.39 angstrom.
pub const MAX_LENGTH: u32 = N_INTS as u32 * 10 - 1;
/// Tenths of a degree of the largest angle that can be written.
pub const MAX_ANGLE: u32 = 1799;
/// The first slot of a named column.
pub const FIRST_COLUMN: u16 = 3;

/// Values that a coordinate can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// 1,024 an axis, one token.
    One,
    /// 4,096 an axis, two tokens.
    Two,
}

impl Resolution {
    /// From the number of values an axis.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another number than 1,024 and 4,096.
    pub fn of(values: usize) -> Result<Self> {
        match values {
            1024 => Ok(Self::One),
            4096 => Ok(Self::Two),
            _ => Err(Error::invalid(format!(
                "positions with {values} values an axis; choose 1024 (a token) or 4096 (two)"
            ))),
        }
    }

    /// Values an axis.
    #[must_use]
    pub const fn values(self) -> u16 {
        match self {
            Self::One => 1024,
            Self::Two => 4096,
        }
    }

    /// Tokens of a coordinate.
    #[must_use]
    pub const fn tokens(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// What a row says of its crystal before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Elements with the number of their atoms, each element once.
    Formula(Vec<(u8, u16)>),
    /// Number of atoms.
    Atoms(u16),
    /// Number of the space group, 1 to 230.
    SpaceGroup(u16),
    /// The bin of a named column.
    Column {
        /// [`FIRST_COLUMN`] and above.
        slot: u16,
        /// Its bin.
        bin: u16,
    },
}

impl Condition {
    /// The slot number that stands before it.
    #[must_use]
    pub const fn slot(&self) -> u16 {
        match self {
            Self::Formula(_) => 0,
            Self::Atoms(_) => 1,
            Self::SpaceGroup(_) => 2,
            Self::Column { slot, .. } => *slot,
        }
    }
}

/// An atom of a row. None is `[MASK]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Atomic number.
    pub element: Option<u8>,
    /// Coordinates in units of the resolution.
    pub position: Option<[u16; 3]>,
}

/// What was masked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// One for each masked element, or a single one for all of them.
    pub elements: Vec<u8>,
    /// One for each masked position.
    pub positions: Vec<[u16; 3]>,
}

/// A row in whole numbers: what its tokens say, no more and no less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrystalRow {
    /// What stands before the crystal, in ascending slots.
    pub conditions: Vec<Condition>,
    /// a b c in hundredths of an angstrom.
    pub lengths: [u32; 3],
    /// alpha beta gamma in tenths of a degree.
    pub angles: [u32; 3],
    /// The atoms.
    pub sites: Vec<Site>,
    /// What was masked; None asks for it.
    pub answer: Option<Answer>,
}

/// Writes and reads rows of crystals.
#[derive(Debug, Clone, PartialEq)]
pub struct CrystalLanguage {
    vocabulary: crate::vocabulary::crystal::CrystalVocabulary,
    resolution: Resolution,
}

impl CrystalRow {
    /// A crystal in whole numbers: cell to 0.01 angstrom and 0.1 degrees, positions `frac mod 1` to the resolution, all
    /// halves to even.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no crystal; [`Error::LatticeOutOfRange`] when its cell cannot be written.
    pub fn of(
        lattice: LatticeParameters,
        atomic_numbers: &[u8],
        frac_coords: &[[f64; 3]],
        resolution: Resolution,
    ) -> Result<Self> {
        check_atoms(atomic_numbers, frac_coords)?;
        let rounded = |names: [&'static str; 3], of: [f64; 3], per: f64, max: u32, unit: &'static str| {
            let mut bins = [0; 3];
            for ((name, value), bin) in names.into_iter().zip(of).zip(&mut bins) {
                let whole = (value * per).round_ties_even();
                if !(1.0..=f64::from(max)).contains(&whole) {
                    return Err(Error::CellOutOfRange { name, value, unit, max: f64::from(max) / per });
                }
                *bin = whole as u32;
            }
            Ok(bins)
        };
        let lengths = rounded(["a", "b", "c"], lattice.lengths, 100.0, MAX_LENGTH, "angstrom")?;
        let angles = rounded(["alpha", "beta", "gamma"], lattice.angles, 10.0, MAX_ANGLE, "degrees")?;
        let n = f64::from(resolution.values());
        let sites = atomic_numbers.iter().zip(frac_coords).map(|(&z, frac)| Site {
            element: Some(z),
            // One whole turn is none: 0.9999 of 1,024 is 0.
            position: Some(
                frac.map(|x| ((x - x.floor()) * n).round_ties_even() as u16 % resolution.values()),
            ),
        });
        Ok(Self { conditions: Vec::new(), lengths, angles, sites: sites.collect(), answer: None })
    }

    /// The cell: lengths in angstrom, angles in degrees.
    #[must_use]
    pub fn lattice(&self) -> [f64; 6] {
        let ([a, b, c], [alpha, beta, gamma]) =
            (self.lengths.map(|x| f64::from(x) / 100.0), self.angles.map(|x| f64::from(x) / 10.0));
        [a, b, c, alpha, beta, gamma]
    }

    /// Moves all atoms, the answer's too, by whole steps of the resolution: the crystal in another frame, exactly. What
    /// lies outside the cell stays there, for the writer to refuse.
    pub fn translate(&mut self, by: [u16; 3], resolution: Resolution) {
        let n = resolution.values();
        let answered = self.answer.iter_mut().flat_map(|answer| &mut answer.positions);
        for position in self.sites.iter_mut().filter_map(|site| site.position.as_mut()).chain(answered) {
            for (x, step) in position.iter_mut().zip(by).filter(|(x, _)| **x < n) {
                *x = ((u32::from(*x) + u32::from(step)) % u32::from(n)) as u16;
            }
        }
    }

    /// Masked elements and masked positions.
    #[must_use]
    pub fn masked(&self) -> (usize, usize) {
        let elements = self.sites.iter().filter(|site| site.element.is_none()).count();
        let positions = self.sites.iter().filter(|site| site.position.is_none()).count();
        (elements, positions)
    }
}
