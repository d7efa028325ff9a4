//! From Fortran order to row-major order.

/// Edge of the square tiles: 16 float32 values fill one cache line.
const TILE: usize = 16;

/// Reorders values stored with the first axis fastest, `values[x + nx * (y + ny * z)]`, to row-major order,
/// `result[(x * ny + y) * nz + z]`. The length of `values` is the product of `shape`.
///
/// Works through square tiles of x and z that are read into a small buffer first, so that every cache line is
/// touched once on either side, whatever power of two the strides are.
pub(super) fn first_axis_fastest_to_row_major(values: &[f32], shape: [usize; 3]) -> Vec<f32> {
    let [nx, ny, nz] = shape;
    let mut result = vec![0.0; values.len()];
    let mut tile = [[0.0_f32; TILE]; TILE];
    for x0 in (0..nx).step_by(TILE) {
        let width = TILE.min(nx - x0);
        for y in 0..ny {
            for z0 in (0..nz).step_by(TILE) {
                let depth = TILE.min(nz - z0);
                for (z, row) in tile.iter_mut().enumerate().take(depth) {
                    let start = x0 + nx * (y + ny * (z0 + z));
                    row[..width].copy_from_slice(&values[start..start + width]);
                }
                for x in 0..width {
                    let start = ((x0 + x) * ny + y) * nz + z0;
                    for (value, row) in result[start..start + depth].iter_mut().zip(&tile) {
                        *value = row[x];
                    }
                }
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_moves_to_its_place() {
        for shape in [[1, 1, 1], [2, 3, 4], [16, 5, 16], [17, 2, 33], [40, 1, 15], [3, 20, 1]] {
            let [nx, ny, nz] = shape;
            let values: Vec<f32> = (0..nx * ny * nz).map(|i| i as f32).collect();
            let result = first_axis_fastest_to_row_major(&values, shape);
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
