//! Electron densities on periodic grids as token sequences: the mathematics, without I/O.
//!
//! One sequence is one patch of a periodic density, cut with wrap, one codec word a voxel, behind a preamble of grid,
//! lattice, atoms and atom positions. `docs/format.md` of the project is the format in words.
//!
//! ```
//! use std::sync::Arc;
//! use tomat_core::codec::{DensityCodec, LogCodec};
//! use tomat_core::grid::LatticeParameters;
//! use tomat_core::sequence::{FALLBACK_SHAPES, Layout, MaterialView, Tokenizer};
//!
//! # fn main() -> tomat_core::Result<()> {
//! let codec = DensityCodec::Log(Arc::new(LogCodec::named("two_token_9_12").unwrap()));
//! let tokenizer = Tokenizer::new(Layout::named("v3")?, codec, Some(2), 128, FALLBACK_SHAPES.to_vec())?;
//! let density = vec![0.5_f32; 4 * 5 * 6];
//! let material = MaterialView {
//!     grid_shape: [4, 5, 6],
//!     density: &density,
//!     lattice: LatticeParameters::new([3.0, 3.0, 3.0, 90.0, 90.0, 90.0])?,
//!     atomic_numbers: &[14],
//!     frac_coords: &[[0.25, 0.25, 0.25]],
//! };
//! let mut row = vec![0; 128];
//! tokenizer.encode(&material, &[[3, 4, 5]], &mut row)?;
//! let patch = tokenizer.decode(&row)?;
//! assert_eq!(patch.grid_shape, [4, 5, 6]);
//! assert!((patch.density[0] - 0.5).abs() < 1e-4);
//! # Ok(())
//! # }
//! ```

pub mod clipping;
pub mod codec;
pub mod coverage;
pub mod crystal;
pub mod elements;
pub mod environment;
pub mod error;
pub mod examples;
pub mod fit;
pub mod grid;
pub mod memory;
mod passes;
pub mod patch;
pub mod plausibility;
pub mod promolecule;
pub mod readout;
pub mod refusal;
pub mod sampler;
pub mod sequence;
pub mod shuffle;
mod vector;
pub mod vocabulary;

pub use error::{Error, Result};
