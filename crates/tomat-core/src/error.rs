//! The one error type of the core.
//!
//! Every message says what is wrong, with the value and its unit, and what to do about it.

use thiserror::Error;

/// What can go wrong in the core. Messages carry the offending value and the remedy.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter or an array that cannot mean what it should (wrong length, not finite, out of range).
    #[error("{0}")]
    Invalid(String),
    /// A grid axis that is zero or too long for the token format.
    #[error(
        "grid axis {axis} has {points} points; the token format holds 1 to {limit} \
         (down-sample the density, or leave the material out)"
    )]
    GridAxis {
        /// `x`, `y` or `z`.
        axis: char,
        /// The number of grid points along it.
        points: usize,
        /// The largest number that can be written.
        limit: usize,
    },
    /// A lattice parameter that no int token can hold.
    #[error(
        "lattice parameter {name} = {value} {unit} falls in bin {bin}, outside 0 to 1023 \
         (use a layout without a LATTICE block, or another setting of the cell)"
    )]
    LatticeOutOfRange {
        /// `a`, `b`, `c`, `alpha`, `beta` or `gamma`.
        name: &'static str,
        /// Its value.
        value: f64,
        /// `angstrom` or `degrees`.
        unit: &'static str,
        /// The bin it would need.
        bin: f64,
    },
    /// A cell that rows of crystals cannot hold.
    #[error(
        "lattice parameter {name} = {value} {unit} cannot be written; rows of crystals hold up to {max} {unit}"
    )]
    CellOutOfRange {
        /// `a`, `b`, `c`, `alpha`, `beta` or `gamma`.
        name: &'static str,
        /// Its value.
        value: f64,
        /// `angstrom` or `degrees`.
        unit: &'static str,
        /// The largest that can be written.
        max: f64,
    },
    /// The sequence is longer than the row, with the patch shape and all fallbacks.
    #[error(
        "{n_atoms} atoms and the smallest allowed patch {shape:?} need {tokens} tokens, more than pad_to = {pad_to} \
         (raise pad_to, lower the patch size, or add a smaller fallback shape)"
    )]
    Overflow {
        /// Atoms in the cell.
        n_atoms: usize,
        /// The patch shape that came closest.
        shape: [usize; 3],
        /// The tokens it needs.
        tokens: usize,
        /// The length of a row.
        pad_to: usize,
    },
    /// A token sequence that does not follow its layout.
    #[error("block {block}, position {position}: {problem}")]
    Sequence {
        /// The block in which decoding stopped.
        block: &'static str,
        /// Index into the row.
        position: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A token id outside the vocabulary, or an index outside an array.
    #[error("{what} {index} is out of range, there are {len}")]
    Index {
        /// What was indexed.
        what: String,
        /// The index asked for.
        index: i64,
        /// How many there are.
        len: usize,
    },
    /// A name that is not known.
    #[error("unknown {what} {name:?}; known: {known}")]
    Unknown {
        /// What was named (`layout`, `codec`, ...).
        what: &'static str,
        /// The name given.
        name: String,
        /// The names that exist, comma separated.
        known: String,
    },
    /// The system did not give the memory that an array needs.
    #[error(
        "{bytes} bytes of memory are needed and were not given; use a smaller grid, or a machine with more memory"
    )]
    Memory {
        /// Bytes of the array.
        bytes: usize,
    },
}

impl Error {
    /// Shorthand for [`Error::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// The result type of the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;
