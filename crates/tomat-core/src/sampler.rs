//! Where patches are cut. What is drawn depends on (seed, task id, epoch) and nothing else.
//!
//! Every sampler numbers its draws: the first patches of a longer draw are those of a shorter one. Each random number
//! is the SHA-256 of what it is for, the key and its own number, so that none depends on another, on the machine or on
//! the order of the work.

mod box_sums;
mod electrons;
mod tiling;

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::grid::check_grid;
use crate::memory;

pub use box_sums::box_sums;

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

/// What patches are cut from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target<'a> {
    /// Points of the grid along x, y, z.
    pub grid: [usize; 3],
    /// Shape of the patches.
    pub patch: [usize; 3],
    /// The density, row-major, in any unit; only [`Sampler::Electrons`] looks at it.
    pub density: Option<&'a [f32]>,
}

/// A rule for the origins of patches.
///
/// Without replacement no origin comes again before every origin that can come has come once; the draws up to the
/// first repetition are the same with and without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// Every grid point with the same probability.
    Uniform {
        /// Whether an origin may come twice.
        replacement: bool,
    },
    /// Every grid point with probability proportional to the density in its patch: the sum of `|rho|` over the voxels
    /// `(origin + i) mod grid`, repeated ones of a patch longer than an axis included.
    Electrons {
        /// Whether an origin may come twice.
        replacement: bool,
    },
    /// A random origin, then tiles in shuffled order, those first that overlap no other; see [`tiling`](Self::tiling).
    Tiling,
}

impl Sampler {
    /// The names that [`Sampler::named`] knows.
    pub const NAMES: [&'static str; 3] = ["uniform", "electrons", "tiling"];

    /// The sampler of a name. `replacement` says nothing to `tiling`, which has its own order.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that exist.
    pub fn named(name: &str, replacement: bool) -> Result<Self> {
        match name {
            "uniform" => Ok(Self::Uniform { replacement }),
            "electrons" => Ok(Self::Electrons { replacement }),
            "tiling" => Ok(Self::Tiling),
            _ => {
                Err(Error::Unknown { what: "sampler", name: name.to_owned(), known: Self::NAMES.join(", ") })
            }
        }
    }

    /// Whether [`Target::density`] must be there.
    #[must_use]
    pub const fn needs_density(self) -> bool {
        matches!(self, Self::Electrons { .. })
    }

    /// The origins of patches `0..n`.
    ///
    /// # Errors
    /// [`Error::GridAxis`] when an axis is empty or too long for the format; [`Error::Invalid`] when a patch axis is
    /// empty, or the density is needed and not there, of another size or not finite; [`Error::Memory`] for more
    /// patches than fit.
    pub fn offsets(self, target: &Target<'_>, n: usize, key: SampleKey<'_>) -> Result<Vec<[usize; 3]>> {
        let Target { grid, patch, density } = *target;
        check_grid(grid)?;
        if patch.contains(&0) {
            return Err(Error::invalid(format!(
                "a patch of shape {patch:?} holds nothing; give three numbers above 0"
            )));
        }
        match self {
            Self::Uniform { replacement: true } => uniform_offsets(grid, n, key),
            Self::Uniform { replacement: false } => uniform_without_replacement(grid, n, key),
            Self::Electrons { replacement } => {
                let density = density.ok_or_else(|| {
                    Error::invalid("the sampler electrons needs the density of the material; give it")
                })?;
                electrons::offsets(grid, patch, density, n, key, replacement)
            }
            Self::Tiling => tiling::offsets(grid, patch, n, key),
        }
    }
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
    let mut found = memory::with_room(n)?;
    found.extend((0..n as u64).map(|i| uniform_offset(grid, i, key)));
    Ok(found)
}

fn uniform_offset(grid: [usize; 3], i: u64, key: SampleKey<'_>) -> [usize; 3] {
    grid_point(grid, &words(b"tomat.uniform.1\0", key, &[i]))
}

/// Draws as with replacement, those that were there already left out; all over again when every origin was there.
fn uniform_without_replacement(grid: [usize; 3], n: usize, key: SampleKey<'_>) -> Result<Vec<[usize; 3]>> {
    let origins: usize = grid.iter().product();
    let mut seen = HashSet::new();
    let mut found = memory::with_room(n)?;
    for i in 0.. {
        if found.len() == n {
            break;
        }
        if seen.len() == origins {
            seen.clear();
        }
        let offset = uniform_offset(grid, i, key);
        if seen.insert(offset) {
            found.push(offset);
        }
    }
    Ok(found)
}

/// Four random numbers: the SHA-256 of a purpose, the key, and numbers that count within the purpose.
fn words(purpose: &[u8], key: SampleKey<'_>, numbers: &[u64]) -> [u64; 4] {
    let mut hasher = Sha256::new();
    hasher.update(purpose);
    for number in [key.seed, key.epoch].iter().chain(numbers) {
        hasher.update(number.to_le_bytes());
    }
    hasher.update(key.task_id.as_bytes());
    let digest = hasher.finalize();
    std::array::from_fn(|word| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[word * 8..word * 8 + 8]);
        u64::from_le_bytes(bytes)
    })
}

/// A random number brought to `0..limit`: `floor(word * limit / 2^64)`.
fn below(word: u64, limit: u64) -> u64 {
    ((u128::from(word) * u128::from(limit)) >> 64) as u64
}

fn grid_point(grid: [usize; 3], words: &[u64; 4]) -> [usize; 3] {
    std::array::from_fn(|axis| below(words[axis], grid[axis] as u64) as usize)
}

/// The grid point of a row-major index.
fn unravel(grid: [usize; 3], index: usize) -> [usize; 3] {
    let [_, ny, nz] = grid;
    [index / (ny * nz), index / nz % ny, index % nz]
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
