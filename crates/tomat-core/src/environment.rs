//! The surroundings of points in a crystal: sums over the atoms within a cutoff of radial functions times real
//! spherical harmonics.
//!
//! For a point `r`, an atom `s` of the cell, a radial function `n` and an angular function `lm`,
//!
//! `S[s, n, lm](r) = sum_T R_n(d) Y_lm(d / sqrt(d^2 + core^2)),  d = r_s + T - r`,
//!
//! over the lattice vectors `T` with `d < cutoff`. The radial functions are splines of a stretched distance under a
//! window,
//!
//! `R_n(d) = B_n(scale_s d) (1 - d^2 / cutoff^2)^3`,
//!
//! with the `B_n` of a [`RadialBasis`](crate::promolecule::RadialBasis) up to `reach * cutoff` and a `scale` an atom (1
//! if none is given): a scale of `1 / radius` lets atoms of different size be told by the same functions. One more
//! radial function, if asked for, is the atom's own density ([`Densities`]) times a factor a point, tapered by
//! `(1 - (d / cutoff)^8)^3`, which is close to 1 up to 0.6 of the cutoff. Everything goes to zero at the cutoff with two
//! derivatives.
//!
//! `Y_lm` are the real solid harmonics of the damped direction, so that a sum is smooth where `d` goes to zero. Under a
//! rotation of crystal and points the `2 l + 1` sums of one `l` rotate among themselves; nothing else changes.
//!
//! ```
//! use tomat_core::environment::{Basis, Options, Radial};
//! use tomat_core::grid::{Crystal, Lattice};
//!
//! # fn main() -> tomat_core::Result<()> {
//! let lattice = Lattice::from_matrix([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]])?;
//! let silicon = Crystal::new(lattice, vec![14, 14], vec![[0.0; 3], [0.25; 3]])?;
//! let radial = Radial { cutoff: 5.0, inner: 0.5, splines: 16, reach: 1.0 };
//! let basis = Basis::new(radial, 3, 0.3)?;
//! let points = [[0.1, 0.2, 0.3], [0.125; 3]];
//! let sums = basis.by_site(&silicon, &points, Options::default())?;
//! assert_eq!(sums.len(), 2 * 2 * 16 * 16);
//! // The middle of a bond: inversion swaps the two atoms there.
//! let at = |site: usize, function: usize| sums[(site * 2 + 1) * 256 + function];
//! assert!((at(0, 5 * 16) - at(1, 5 * 16)).abs() < 1e-5);
//! # Ok(())
//! # }
//! ```

mod blocks;
mod contraction;
mod harmonics;
mod images;
mod neighbours;
mod sums;
mod terms;
#[cfg(test)]
mod tests;

pub use contraction::Channels;
pub use harmonics::{MAX_L, angular_count};
pub use sums::{Basis, Densities, Options, Radial};
