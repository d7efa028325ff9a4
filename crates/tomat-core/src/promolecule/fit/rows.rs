//! The rows of one material: spline values at its voxels, a few planes of the grid at a time.

use super::Loss;
use crate::error::{Error, Result};
use crate::grid::{Crystal, Real, check_atoms};
use crate::promolecule::periodic::Images;
use crate::promolecule::spline::RadialBasis;
use crate::promolecule::symbols;

/// Values of one slab that are worked on at a time: they should stay in the second-level cache.
const SLAB_VALUES: usize = 1 << 17;

/// Rows that update the matrix together, so that it is read and written once for all of them.
const TOGETHER: usize = 4;

pub(super) struct Rows<'a> {
    basis: &'a RadialBasis,
    images: &'a Images,
    crystal: &'a Crystal,
    loss: Loss<'a>,
    mean: f64,
    elements: Vec<u8>,
    /// Coefficients of the step before, element after element; empty when there is none.
    previous: Vec<f64>,
    /// Upper triangle of the normal matrix, row-major in a full square.
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        basis: &'a RadialBasis,
        images: &'a Images,
        crystal: &'a Crystal,
        loss: Loss<'a>,
        mean: f64,
    ) -> Result<Self> {
        check_atoms(&crystal.atomic_numbers, &crystal.frac_coords)?;
        let mut elements = crystal.atomic_numbers.clone();
        elements.sort_unstable();
        elements.dedup();
        if let Loss::Relative { floor } | Loss::Absolute { floor, .. } = loss
            && !(1e-9..=1e9).contains(&floor)
        {
            return Err(Error::invalid(format!("the floor of the loss is {floor}; give 1e-9 to 1e9")));
        }
        let mut previous = Vec::new();
        if let Loss::Absolute { previous: coefficients, .. } = loss {
            for z in &elements {
                let Some(values) = coefficients.get(z) else {
                    return Err(Error::invalid(format!(
                        "the step before has no coefficients for {}; fit every step to the same materials",
                        symbols([z])
                    )));
                };
                basis.check(values)?;
                previous.extend_from_slice(values);
            }
        }
        let size = elements.len() * basis.len();
        let (matrix, right) = (vec![0.0; size * size], vec![0.0; size]);
        Ok(Self { basis, images, crystal, loss, mean, elements, previous, matrix, right })
    }

    pub(super) fn elements(&self) -> &[u8] {
        &self.elements
    }

    pub(super) fn right(&self) -> &[f64] {
        &self.right
    }

    /// The block of two elements, row-major.
    pub(super) fn block(&self, row: usize, column: usize) -> impl Iterator<Item = f64> {
        let (n, size) = (self.basis.len(), self.right.len());
        (0..n * n).map(move |at| {
            let (i, j) = (row * n + at / n, column * n + at % n);
            self.matrix[i.min(j) * size + i.max(j)]
        })
    }

    /// Adds all voxels of a row-major density; `factor` makes it electrons per cubic angstrom.
    pub(super) fn accumulate<T: Real>(&mut self, density: &[T], factor: f64) {
        let size = self.right.len();
        let [nx, ny, nz] = self.images.shape();
        let planes = (SLAB_VALUES / (ny * nz * size)).clamp(1, nx);
        let mut rows = vec![0.0; planes * ny * nz * size];
        for first in (0..nx).step_by(planes) {
            let last = (first + planes).min(nx);
            let values = &density[first * ny * nz..last * ny * nz];
            let rows = &mut rows[..values.len() * size];
            rows.fill(0.0);
            self.splines(first, last, rows);
            for (rows, values) in rows.chunks(TOGETHER * size).zip(values.chunks(TOGETHER)) {
                self.update(rows, values, factor);
            }
        }
    }

    /// Spline values on the planes `first..last` of x, one row a voxel.
    fn splines(&self, first: usize, last: usize, rows: &mut [f64]) {
        let (n, size) = (self.basis.len(), self.right.len());
        let [_, ny, nz] = self.images.shape();
        for (z, &position) in self.crystal.atomic_numbers.iter().zip(&self.crystal.frac_coords) {
            let element = self.elements.iter().position(|e| e == z).unwrap_or(0);
            self.images.lines(position, self.basis.cutoff(), &(first..last), |line| {
                let start = (line.row - first * ny) * nz;
                let mut z = line.first;
                for i in 0..line.count {
                    if let Some((spline, weights)) = self.basis.at(line.square(i)) {
                        let row = &mut rows[(start + z) * size + element * n..][..n];
                        for (value, weight) in row[spline..].iter_mut().zip(weights) {
                            *value += weight;
                        }
                    }
                    z += 1;
                    if z == nz {
                        z = 0;
                    }
                }
            });
        }
    }

    /// Adds up to four voxels to the matrix and the right-hand side.
    fn update<T: Real>(&mut self, rows: &[f64], values: &[T], factor: f64) {
        let size = self.right.len();
        let mut weighted = [0.0; TOGETHER];
        let mut targets = [0.0; TOGETHER];
        for (i, (row, &value)) in rows.chunks(size).zip(values).enumerate() {
            targets[i] = value.into() * factor;
            weighted[i] = self.weight(row, targets[i]);
        }
        let mut lanes = rows.chunks(size);
        let mut lane = || lanes.next().unwrap_or(&[]);
        let (a, b, c, d) = (lane(), lane(), lane(), lane());
        if d.is_empty() {
            for ((row, weight), target) in rows.chunks(size).zip(weighted).zip(targets) {
                self.add_one(row, weight, target);
            }
            return;
        }
        let [wa, wb, wc, wd] = weighted;
        for i in 0..size {
            let (pa, pb, pc, pd) = (wa * a[i], wb * b[i], wc * c[i], wd * d[i]);
            // Not a spline of this neighbourhood.
            if pa == 0.0 && pb == 0.0 && pc == 0.0 && pd == 0.0 {
                continue;
            }
            self.right[i] += pa * targets[0] + pb * targets[1] + pc * targets[2] + pd * targets[3];
            let out = &mut self.matrix[i * size + i..(i + 1) * size];
            let lanes = out.iter_mut().zip(&a[i..]).zip(&b[i..]).zip(&c[i..]).zip(&d[i..]);
            for ((((out, a), b), c), d) in lanes {
                *out += (pa * a + pb * b) + (pc * c + pd * d);
            }
        }
    }

    fn add_one(&mut self, row: &[f64], weight: f64, target: f64) {
        let size = self.right.len();
        for (i, value) in row.iter().enumerate() {
            self.right[i] += weight * value * target;
            for (out, other) in self.matrix[i * size + i..(i + 1) * size].iter_mut().zip(&row[i..]) {
                *out += weight * value * other;
            }
        }
    }

    /// The weight of a voxel: the weights of a material's relative errors have the mean of one voxel's loss.
    fn weight(&self, row: &[f64], target: f64) -> f64 {
        let by_material = 1.0 / (self.images.len() as f64 * self.mean);
        match self.loss {
            Loss::Squared => by_material / self.mean,
            Loss::Relative { floor } => by_material / target.abs().max(floor * self.mean),
            Loss::Absolute { floor, .. } => {
                let model: f64 = row.iter().zip(&self.previous).map(|(a, c)| a * c).sum();
                by_material / (target - model).abs().max(floor * self.mean)
            }
        }
    }
}
