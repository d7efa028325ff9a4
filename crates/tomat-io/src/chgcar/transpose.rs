//! From Fortran order to row-major order.

use tomat_core::memory;

/// Edge of the square tiles: 16 float32 values fill one cache line.
const TILE: usize = 16;

/// Takes values with the first axis fastest, `x + nx * (y + ny * z)`, slab by slab, and puts them in row-major
/// order, `(x * ny + y) * nz + z`.
///
/// A slab is 16 planes of constant z, still in the cache from parsing. It goes through square tiles of x and z that
/// are copied into a small buffer first, so that every cache line is touched once on either side, whatever power of
/// two the strides are.
pub(super) struct FirstAxisFastest {
    shape: [usize; 3],
    /// The first plane of the next slab.
    z0: usize,
    values: Vec<f32>,
}

impl FirstAxisFastest {
    /// Makes room for a grid of `shape`, whose size was checked.
    ///
    /// # Errors
    /// [`tomat_core::Error::Memory`].
    pub(super) fn new(shape: [usize; 3]) -> tomat_core::Result<Self> {
        Ok(Self { shape, z0: 0, values: memory::filled(shape.iter().product(), 0.0)? })
    }

    /// The number of values a slab has; the last may have fewer.
    pub(super) const fn slab(&self) -> usize {
        self.shape[0] * self.shape[1] * TILE
    }

    /// Stores the next slab.
    pub(super) fn store(&mut self, slab: &[f32]) {
        let [nx, ny, nz] = self.shape;
        let (z0, depth) = (self.z0, slab.len() / (nx * ny));
        let mut tile = [[0.0_f32; TILE]; TILE];
        for x0 in (0..nx).step_by(TILE) {
            let width = TILE.min(nx - x0);
            for y in 0..ny {
                for (z, row) in tile.iter_mut().enumerate().take(depth) {
                    let start = x0 + nx * (y + ny * z);
                    row[..width].copy_from_slice(&slab[start..start + width]);
                }
                for x in 0..width {
                    let start = ((x0 + x) * ny + y) * nz + z0;
                    for (value, row) in self.values[start..start + depth].iter_mut().zip(&tile) {
                        *value = row[x];
                    }
                }
            }
        }
        self.z0 += depth;
    }

    /// All values in row-major order.
    pub(super) fn into_row_major(self) -> Vec<f32> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_moves_to_its_place() {
        for shape in [[1, 1, 1], [2, 3, 4], [16, 5, 16], [17, 2, 33], [40, 1, 15], [3, 20, 1]] {
            let [nx, ny, nz] = shape;
            let values: Vec<f32> = (0..nx * ny * nz).map(|i| i as f32).collect();
            let mut order = FirstAxisFastest::new(shape).unwrap();
            for slab in values.chunks(order.slab()) {
                order.store(slab);
            }
            let result = order.into_row_major();
            for x in 0..nx {
                for y in 0..ny {
                    for z in 0..nz {
                        let expected = (x + nx * (y + ny * z)) as f32;
                        assert!(
                            (result[(x * ny + y) * nz + z] - expected).abs() < 0.5,
                            "{shape:?} at {x} {y} {z}"
                        );
                    }
                }
            }
        }
    }
}
