//! Radial functions from densities by linear least squares.
//!
//! A promolecule is linear in the coefficients of its splines, so that all a material says is in its normal equations
//! `H = A^T W A`, `g = A^T W rho`, with a row of `A` a voxel. They are summed over materials in fixed point: integer
//! sums do not depend on their order, so any split of the materials over workers gives the same bits.

use std::collections::BTreeMap;

use super::cholesky::Cholesky;
use super::periodic::Images;
use super::spline::RadialBasis;
use super::symbols;
use crate::error::{Error, Result};
use crate::grid::{Crystal, Real, Unit, check_values};

mod rows;
use rows::Rows;

/// One unit of the fixed-point sums.
const RESOLUTION: f64 = 1.0 / 1_208_925_819_614_629_174_706_176.0; // 2^-80

/// The largest term that may be added, so that a hundred million of them cannot overflow.
const LARGEST: f64 = 1_048_576.0 * 1_048_576.0; // 2^40

/// Coefficients of the splines by atomic number, electrons per cubic angstrom.
pub type Coefficients = BTreeMap<u8, Vec<f64>>;

/// What a fit makes small. Every material counts the same: its errors are divided by its mean |density|.
#[derive(Debug, Clone, Copy)]
pub enum Loss<'a> {
    /// The mean of squared errors: dense regions, cores first, decide.
    Squared,
    /// Squared errors divided by the density (chi-square), with densities below `floor` times the mean raised to it.
    Relative {
        /// In units of the material's mean |density|.
        floor: f64,
    },
    /// One step of iteratively reweighted least squares towards the mean of |errors|: squared errors divided by the
    /// |errors| of `previous`, those below `floor` times the mean density raised to it.
    Absolute {
        /// In units of the material's mean |density|.
        floor: f64,
        /// The coefficients of the step before.
        previous: &'a Coefficients,
    },
}

/// What is added to the normal equations so that they have one solution.
#[derive(Debug, Clone, Copy)]
pub struct Penalty {
    /// Times the diagonal of the normal equations, on each coefficient: a ridge on columns of equal length.
    pub ridge: f64,
    /// Times the mean diagonal of an element's block, on second differences of neighbouring coefficients: it draws
    /// the functions towards smooth ones where no voxel says anything.
    pub smooth: f64,
}

/// Summed normal equations.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalEquations {
    basis: RadialBasis,
    materials: u64,
    voxels: u64,
    /// Full `len x len` blocks for pairs of atomic numbers, the first not above the second.
    blocks: BTreeMap<(u8, u8), Vec<i128>>,
    right: BTreeMap<u8, Vec<i128>>,
}

impl NormalEquations {
    /// Of no materials yet.
    #[must_use]
    pub const fn new(basis: RadialBasis) -> Self {
        Self { basis, materials: 0, voxels: 0, blocks: BTreeMap::new(), right: BTreeMap::new() }
    }

    /// The splines.
    #[must_use]
    pub const fn basis(&self) -> &RadialBasis {
        &self.basis
    }

    /// Materials added.
    #[must_use]
    pub const fn materials(&self) -> u64 {
        self.materials
    }

    /// Voxels added.
    #[must_use]
    pub const fn voxels(&self) -> u64 {
        self.voxels
    }

    /// Atomic numbers met.
    pub fn elements(&self) -> impl Iterator<Item = u8> {
        self.right.keys().copied()
    }

    /// Adds a material; `density` is row-major in `unit`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the density does not fit its shape, is not finite or zero everywhere, the cell is too
    /// small for the cutoff, or `loss` has a bad floor or lacks an element.
    pub fn add<T: Real>(
        &mut self,
        crystal: &Crystal,
        grid_shape: [usize; 3],
        density: &[T],
        unit: Unit,
        loss: Loss<'_>,
    ) -> Result<()> {
        check_values(grid_shape, density)?;
        let images = Images::new(&crystal.lattice, grid_shape)?;
        images.check_cutoff(self.basis.cutoff())?;
        let factor = match unit {
            Unit::Chgcar => 1.0 / crystal.lattice.volume(),
            Unit::ElectronsPerCubicAngstrom => 1.0,
        };
        let total: f64 = density.iter().map(|&v| v.into().abs()).sum();
        let mean = total * factor / density.len() as f64;
        if !(mean.is_finite() && mean > 0.0) {
            return Err(Error::invalid(format!(
                "the mean of |density| is {mean} electrons per cubic angstrom; a fit needs densities that are not zero"
            )));
        }
        let basis = self.basis.clone();
        let mut rows = Rows::new(&basis, &images, crystal, loss, mean)?;
        rows.accumulate(density, factor);
        self.take(&rows, density.len())
    }

    /// Adds what another worker summed.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the splines differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.basis != other.basis {
            return Err(Error::invalid(format!(
                "normal equations for {:?} and for {:?} cannot be added; fit all parts with the same splines",
                self.basis, other.basis
            )));
        }
        for (pair, block) in &other.blocks {
            add_fixed(self.blocks.entry(*pair).or_default(), block.iter().copied())?;
        }
        for (z, right) in &other.right {
            add_fixed(self.right.entry(*z).or_default(), right.iter().copied())?;
        }
        self.materials += other.materials;
        self.voxels += other.voxels;
        Ok(())
    }

    fn take(&mut self, rows: &Rows<'_>, voxels: usize) -> Result<()> {
        let n = self.basis.len();
        let mut blocks = Vec::new();
        for (s, &z) in rows.elements().iter().enumerate() {
            for (t, &other) in rows.elements().iter().enumerate().skip(s) {
                blocks.push(((z, other), fixed(rows.block(s, t))?));
            }
        }
        for (pair, block) in blocks {
            add_fixed(self.blocks.entry(pair).or_default(), block.into_iter())?;
        }
        for (s, &z) in rows.elements().iter().enumerate() {
            let right = fixed(rows.right()[s * n..(s + 1) * n].iter().copied())?;
            add_fixed(self.right.entry(z).or_default(), right.into_iter())?;
        }
        self.materials += 1;
        self.voxels += voxels as u64;
        Ok(())
    }

    /// The coefficients of every element met.
    ///
    /// With `electrons`, the function of each element named there integrates to that number exactly (by Lagrange
    /// multipliers), so that a cell of such elements holds their sum.
    ///
    /// # Errors
    /// [`Error::Invalid`] when nothing was added, a penalty or an electron count is bad, or the equations are
    /// singular.
    pub fn solve(&self, penalty: Penalty, electrons: &BTreeMap<u8, f64>) -> Result<Coefficients> {
        if self.materials == 0 {
            return Err(Error::invalid("no material was added; there is nothing to fit"));
        }
        for (name, value) in [("ridge", penalty.ridge), ("smooth", penalty.smooth)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::invalid(format!("{name} is {value}; give a number that is not negative")));
            }
        }
        if let Some((z, n)) = electrons.iter().find(|(_, n)| !(n.is_finite() && **n > 0.0)) {
            return Err(Error::invalid(format!(
                "{} has {n} electrons; give a number above zero",
                symbols([z])
            )));
        }
        let n = self.basis.len();
        let elements: Vec<u8> = self.elements().collect();
        let size = n * elements.len();
        let matrix = self.matrix(&elements, penalty);
        let factor = Cholesky::new(matrix, size).map_err(|row| {
            Error::invalid(format!(
                "the normal equations are singular at spline {} of {}; raise ridge, or fit fewer splines",
                row % n,
                symbols(elements.get(row / n))
            ))
        })?;
        let mut solution: Vec<f64> =
            self.right.values().flatten().map(|&fixed| fixed as f64 * RESOLUTION).collect();
        factor.solve(&mut solution);
        self.constrain(&mut solution, &factor, &elements, electrons)?;
        Ok(elements.into_iter().zip(solution.chunks(n).map(<[f64]>::to_vec)).collect())
    }

    /// The dense matrix with its penalties.
    fn matrix(&self, elements: &[u8], penalty: Penalty) -> Vec<f64> {
        let n = self.basis.len();
        let size = n * elements.len();
        let mut matrix = vec![0.0; size * size];
        for ((z, other), block) in &self.blocks {
            let place = |z| elements.iter().position(|e| e == z).unwrap_or(0) * n;
            let (row, column) = (place(z), place(other));
            for (i, values) in block.chunks(n).enumerate() {
                for (j, &value) in values.iter().enumerate() {
                    let value = value as f64 * RESOLUTION;
                    matrix[(row + i) * size + column + j] = value;
                    matrix[(column + j) * size + row + i] = value;
                }
            }
        }
        for first in (0..size).step_by(n) {
            let diagonal = (first..first + n).map(|i| matrix[i * size + i]).sum::<f64>() / n as f64;
            for i in first..first + n {
                matrix[i * size + i] *= 1.0 + penalty.ridge;
            }
            for start in first..first + n - 2 {
                for (i, a) in [1.0, -2.0, 1.0].into_iter().enumerate() {
                    for (j, b) in [1.0, -2.0, 1.0].into_iter().enumerate() {
                        matrix[(start + i) * size + start + j] += penalty.smooth * diagonal * a * b;
                    }
                }
            }
        }
        matrix
    }

    /// Moves a solution to the nearest one, in the metric of the equations, whose elements hold their electrons.
    fn constrain(
        &self,
        solution: &mut [f64],
        factor: &Cholesky,
        elements: &[u8],
        electrons: &BTreeMap<u8, f64>,
    ) -> Result<()> {
        let n = self.basis.len();
        let weights = self.basis.electrons();
        let held = |vector: &[f64], at: usize| -> f64 {
            vector[at * n..(at + 1) * n].iter().zip(&weights).map(|(c, w)| c * w).sum()
        };
        let bound: Vec<(usize, f64)> = elements
            .iter()
            .enumerate()
            .filter_map(|(at, z)| electrons.get(z).map(|&count| (at, count)))
            .collect();
        if bound.is_empty() {
            return Ok(());
        }
        let directions: Vec<Vec<f64>> = bound
            .iter()
            .map(|&(at, _)| {
                let mut direction = vec![0.0; solution.len()];
                direction[at * n..(at + 1) * n].copy_from_slice(&weights);
                factor.solve(&mut direction);
                direction
            })
            .collect();
        let schur =
            directions.iter().flat_map(|d| bound.iter().map(|&(at, _)| held(d, at))).collect::<Vec<f64>>();
        let schur = Cholesky::new(schur, bound.len())
            .map_err(|_| Error::invalid("the electron counts cannot all be met; raise ridge"))?;
        let mut multipliers: Vec<f64> = bound.iter().map(|&(at, count)| count - held(solution, at)).collect();
        schur.solve(&mut multipliers);
        for (direction, multiplier) in directions.iter().zip(multipliers) {
            for (value, d) in solution.iter_mut().zip(direction) {
                *value += multiplier * d;
            }
        }
        Ok(())
    }
}

fn fixed(values: impl Iterator<Item = f64>) -> Result<Vec<i128>> {
    values
        .map(|value| {
            if value.abs() <= LARGEST {
                Ok((value / RESOLUTION) as i128)
            } else {
                Err(Error::invalid(format!(
                    "a term of the normal equations is {value:.1e}; the density has values too far above its mean, or \
                     far too many atoms lie in one place"
                )))
            }
        })
        .collect()
}

fn add_fixed(sums: &mut Vec<i128>, terms: impl ExactSizeIterator<Item = i128>) -> Result<()> {
    sums.resize(terms.len(), 0);
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum = sum
            .checked_add(term)
            .ok_or_else(|| Error::invalid("the normal equations overflow; fit fewer materials at once"))?;
    }
    Ok(())
}
