//! Where patches are cut. What is drawn depends on (seed, task id, epoch) and nothing else.

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::grid::check_grid;

/// What decides a draw: the same key gives the same patches on every machine, with any number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleKey<'a> {
    /// The seed of the run.
    pub seed: u64,
    /// The material.
    pub task_id: &'a str,
    /// The pass over the materials.
    pub epoch: u64,
}

/// The origins of patches `0..n`, each uniform over all grid points, drawn with replacement.
///
/// Patch `i` takes the first three little-endian u64 `u` of
/// `SHA-256("tomat.uniform.1\0" || seed || epoch || i || task_id)` (numbers as little-endian u64) and lies at
/// `floor(u * n_axis / 2^64)` along each axis. So the first patches of a longer draw are those of a shorter one, and
/// the bias of an axis is below `n_axis / 2^64`.
///
/// # Errors
/// [`crate::Error::GridAxis`] when an axis is empty or too long for the format.
pub fn uniform_offsets(grid: [usize; 3], n: usize, key: SampleKey<'_>) -> Result<Vec<[usize; 3]>> {
    check_grid(grid)?;
    Ok((0..n as u64).map(|i| uniform_offset(grid, i, key)).collect())
}

fn uniform_offset(grid: [usize; 3], i: u64, key: SampleKey<'_>) -> [usize; 3] {
    let mut hasher = Sha256::new();
    hasher.update(b"tomat.uniform.1\0");
    for number in [key.seed, key.epoch, i] {
        hasher.update(number.to_le_bytes());
    }
    hasher.update(key.task_id.as_bytes());
    let digest = hasher.finalize();
    std::array::from_fn(|axis| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[axis * 8..axis * 8 + 8]);
        ((u128::from(u64::from_le_bytes(bytes)) * grid[axis] as u128) >> 64) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey<'static> = SampleKey { seed: 7, task_id: "mp-1", epoch: 0 };

    #[test]
    fn draws_are_prefixes_and_depend_on_the_key_alone() {
        let grid = [17, 96, 1023];
        let long = uniform_offsets(grid, 64, KEY).unwrap();
        assert_eq!(uniform_offsets(grid, 32, KEY).unwrap(), long[..32]);
        assert!(long.iter().all(|o| o.iter().zip(grid).all(|(&o, n)| o < n)));
        for other in [
            SampleKey { seed: 8, ..KEY },
            SampleKey { epoch: 1, ..KEY },
            SampleKey { task_id: "mp-2", ..KEY },
        ] {
            assert_ne!(uniform_offsets(grid, 64, other).unwrap(), long);
        }
        assert!(uniform_offsets([0, 1, 1], 1, KEY).is_err());
    }

    #[test]
    fn axes_are_uniform_by_chi_square() {
        let grid = [5, 16, 3];
        let n = 30_000;
        let draws = uniform_offsets(grid, n, KEY).unwrap();
        for (axis, &cells) in grid.iter().enumerate() {
            let mut counts = vec![0.0; cells];
            for offset in &draws {
                counts[offset[axis]] += 1.0;
            }
            let expected = n as f64 / cells as f64;
            let chi_square: f64 = counts.iter().map(|c| (c - expected) * (c - expected) / expected).sum();
            // The 0.999 quantile at 15 degrees of freedom is 37.7; the draw is fixed, so this is no gamble.
            assert!(chi_square < 37.7, "axis {axis}: {chi_square}");
        }
    }
}
