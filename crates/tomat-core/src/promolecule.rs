//! Promolecules: a density as the sum of spherical atoms over all periodic images.
//!
//! `rho(r) = sum_a sum_T f_Z(a)(|r - r_a - T|)` over the atoms `a` of the cell and the lattice vectors `T`, with one
//! radial function `f_Z` an element, in electrons per cubic angstrom, that is zero from its cutoff on. What `f_Z` is
//! comes from a fit to densities ([`fit`]) or from a formula ([`analytic`]).
//!
//! ```
//! use std::collections::BTreeMap;
//! use tomat_core::grid::{Crystal, Lattice};
//! use tomat_core::promolecule::Promolecule;
//! use tomat_core::promolecule::analytic::{Form, radial_table, valence_electrons};
//!
//! # fn main() -> tomat_core::Result<()> {
//! let silicon = radial_table(Form::Slater, 14, f64::from(valence_electrons(14)?))?;
//! let promolecule = Promolecule::new(BTreeMap::from([(14, silicon)]))?;
//! let lattice = Lattice::from_matrix([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]])?;
//! let crystal = Crystal::new(lattice, vec![14, 14], vec![[0.0; 3], [0.25; 3]])?;
//! let density = promolecule.evaluate(&crystal, [24, 24, 24], None)?;
//! let electrons = density.iter().sum::<f64>() / density.len() as f64 * lattice.volume();
//! assert!((electrons - 8.0).abs() < 1e-3);
//! # Ok(())
//! # }
//! ```

pub mod analytic;
mod cholesky;
pub mod fit;
mod periodic;
mod radial;
mod spline;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::elements::SYMBOLS;
use crate::error::{Error, Result};
use crate::grid::{Crystal, Lattice, check_atoms};
use crate::memory;
use crate::patch::{check_offset, for_each_run};
use periodic::Images;
pub use radial::RadialTable;
pub use spline::RadialBasis;

/// One radial function an element.
#[derive(Debug, Clone, PartialEq)]
pub struct Promolecule {
    radial: BTreeMap<u8, RadialTable>,
}

impl Promolecule {
    /// From a radial function (electrons per cubic angstrom) for each atomic number.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none, or a key is no atomic number.
    pub fn new(radial: BTreeMap<u8, RadialTable>) -> Result<Self> {
        if radial.is_empty() {
            return Err(Error::invalid("a promolecule needs the radial function of at least one element"));
        }
        if let Some(z) = radial.keys().find(|z| !(1..=118).contains(*z)) {
            return Err(Error::invalid(format!(
                "atomic number {z} is not an element; give 1 (H) to 118 (Og)"
            )));
        }
        Ok(Self { radial })
    }

    /// The radial functions, by atomic number.
    #[must_use]
    pub const fn radial(&self) -> &BTreeMap<u8, RadialTable> {
        &self.radial
    }

    /// The density in electrons per cubic angstrom on a grid, row-major, as [`crate::grid::Density`] has it.
    ///
    /// Values below zero become zero. With `electrons`, the density is then scaled so that its mean times the
    /// volume is that many.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an element without a radial function, a grid without points, a cell too small for
    /// the cutoff, an electron count that is not positive, or a density that is zero everywhere and cannot be scaled.
    pub fn evaluate(
        &self,
        crystal: &Crystal,
        grid_shape: [usize; 3],
        electrons: Option<f64>,
    ) -> Result<Vec<f64>> {
        let mut density = self.sum(crystal, grid_shape)?;
        for value in &mut density {
            *value = value.max(0.0);
        }
        if let Some(electrons) = electrons {
            scale(&mut density, electrons, &crystal.lattice)?;
        }
        Ok(density)
    }

    /// The plain sum over atoms and images, electrons per cubic angstrom: neither clipped nor scaled.
    ///
    /// # Errors
    /// As [`Promolecule::evaluate`], without those about scaling.
    pub fn sum(&self, crystal: &Crystal, grid_shape: [usize; 3]) -> Result<Vec<f64>> {
        let images = self.images(crystal, grid_shape)?;
        let mut density = memory::filled(images.len(), 0.0)?;
        for (z, &position) in crystal.atomic_numbers.iter().zip(&crystal.frac_coords) {
            if let Some(table) = self.radial.get(z) {
                images.add(position, table, &mut density);
            }
        }
        Ok(density)
    }

    /// The voxels of one patch of [`Promolecule::evaluate`] without an electron count, row-major: those at
    /// `(offset + i) mod grid`. Nothing is computed outside of it.
    ///
    /// # Errors
    /// As [`Promolecule::sum`]; [`Error::Invalid`] for an offset outside the grid.
    pub fn evaluate_patch(
        &self,
        crystal: &Crystal,
        grid_shape: [usize; 3],
        offset: [usize; 3],
        patch_shape: [usize; 3],
    ) -> Result<Vec<f64>> {
        let images = self.images(crystal, grid_shape)?;
        check_offset(grid_shape, offset)?;
        // A patch longer than the grid repeats itself: its first period is enough.
        let once: [usize; 3] = std::array::from_fn(|axis| patch_shape[axis].min(grid_shape[axis]));
        let mut density = memory::filled(once.iter().product(), 0.0)?;
        for (z, &position) in crystal.atomic_numbers.iter().zip(&crystal.frac_coords) {
            if let Some(table) = self.radial.get(z) {
                images.add_patch(position, table, (offset, once), &mut density);
            }
        }
        for value in &mut density {
            *value = value.max(0.0);
        }
        if once == patch_shape {
            return Ok(density);
        }
        let points = patch_shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
        let mut whole = memory::with_room(points.unwrap_or(usize::MAX))?;
        for_each_run(once, patch_shape, [0; 3], |run| whole.extend_from_slice(&density[run]));
        Ok(whole)
    }

    /// The grid with its images, when everything the sum needs is there.
    fn images(&self, crystal: &Crystal, grid_shape: [usize; 3]) -> Result<Images> {
        check_atoms(&crystal.atomic_numbers, &crystal.frac_coords)?;
        self.check_elements(&crystal.atomic_numbers)?;
        let images = Images::new(&crystal.lattice, grid_shape)?;
        for table in self.radial.values() {
            images.check_cutoff(table.cutoff())?;
        }
        Ok(images)
    }

    pub(crate) fn check_elements(&self, atomic_numbers: &[u8]) -> Result<()> {
        let missing: BTreeSet<u8> =
            atomic_numbers.iter().copied().filter(|z| !self.radial.contains_key(z)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the promolecule has no radial function for {}; it has {} (fit it to materials that contain them, or \
             name a fallback)",
            symbols(&missing),
            symbols(self.radial.keys())
        )))
    }
}

/// Scales a density in electrons per cubic angstrom to an electron count.
fn scale(density: &mut [f64], electrons: f64, lattice: &Lattice) -> Result<()> {
    if !(electrons.is_finite() && electrons > 0.0) {
        return Err(Error::invalid(format!(
            "cannot scale to {electrons} electrons; give a number above zero"
        )));
    }
    let sum: f64 = density.iter().sum();
    let factor = electrons * density.len() as f64 / (sum * lattice.volume());
    if !factor.is_finite() {
        return Err(Error::invalid(format!(
            "the promolecule is zero on the whole grid and cannot be scaled to {electrons} electrons; use a finer grid \
             or a longer cutoff"
        )));
    }
    for value in density {
        *value *= factor;
    }
    Ok(())
}

/// `H, C, O` for the message of an error.
pub(crate) fn symbols<'a>(atomic_numbers: impl IntoIterator<Item = &'a u8>) -> String {
    let names: Vec<&str> = atomic_numbers
        .into_iter()
        .map(|&z| SYMBOLS.get(usize::from(z).wrapping_sub(1)).copied().unwrap_or("?"))
        .collect();
    names.join(", ")
}
