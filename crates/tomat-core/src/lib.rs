//! Electron densities on periodic grids as token sequences: the mathematics, without I/O.

pub mod error;
pub mod fit;
pub mod grid;

pub use error::{Error, Result};
