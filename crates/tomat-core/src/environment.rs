//! The surroundings of points in a crystal: sums over the atoms within a cutoff of radial functions times real
//! spherical harmonics.
//!
//! For a point `r`, an atom `s` of the cell, a radial function `n` and an angular function `lm`,
//!
//! `S[s, n, lm](r) = sum_T R_n(d) Y_lm(d / sqrt(d^2 + core^2)),  d = r_s + T - r`,
//!
//! over the lattice vectors `T`. The `R_n` are the splines of [`RadialBasis`], zero with two derivatives from the
//! cutoff on; one more, if asked for, is the atom's own radial density (a [`RadialTable`]). `Y_lm` are the real solid
//! harmonics of the damped direction, so that a sum is smooth where `d` goes to zero. Under a rotation of crystal and
//! points the `2 l + 1` sums of one `l` rotate among themselves; nothing else changes.

mod harmonics;
mod images;
mod sums;
#[cfg(test)]
mod tests;

pub use harmonics::{MAX_L, angular_count};
pub use sums::{Basis, Channels, Densities};
