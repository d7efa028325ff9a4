//! How often the patches of a material covered each voxel.

use crate::error::{Error, Result};
use crate::memory;
use crate::passes;
use crate::patch::{check_offset, for_each_run};

/// The most voxels that are counted: 2^32, four GiB of counters at one byte each.
const MAX_VOXELS: usize = 1 << 32;

/// `h[k]` voxels were covered exactly `k` times; the last entry is not zero (unless it is the only one).
///
/// Every voxel of every patch counts, also the repeated ones of a patch longer than a grid axis, so that
/// `sum(h) = voxels` and `sum(k h[k]) = patches * voxels a patch`.
///
/// # Errors
/// [`Error::Invalid`] when an offset lies outside the grid, an axis is empty, or the grid is too large to count.
pub fn histogram(grid: [usize; 3], patch: [usize; 3], offsets: &[[usize; 3]]) -> Result<Vec<u64>> {
    let voxels = grid
        .iter()
        .try_fold(1usize, |n, &axis| n.checked_mul(axis))
        .filter(|&n| n > 0 && n <= MAX_VOXELS)
        .ok_or_else(|| Error::invalid(format!("coverage of a grid of shape {grid:?} cannot be counted")))?;
    for &offset in offsets {
        check_offset(grid, offset)?;
    }
    // No voxel is covered more often than this. The counters are as narrow as it allows, since what takes time here
    // is memory.
    let wraps: usize = patch.iter().zip(grid).map(|(&p, n)| p.div_ceil(n)).product();
    let most = offsets.len().saturating_mul(wraps);
    let mut counts = if u8::try_from(most).is_ok() {
        let mut times = memory::filled(voxels, 0u8)?;
        for &offset in offsets {
            for_each_run(grid, patch, offset, |run| {
                // A run is a vector or two, and a few more.
                let (vectors, rest) = times[run].as_chunks_mut::<16>();
                for vector in vectors {
                    *vector = vector.map(|n| n + 1);
                }
                for n in rest {
                    *n += 1;
                }
            });
        }
        passes::count_bytes(&times)
    } else {
        let mut times = memory::filled(voxels, 0u32)?;
        for &offset in offsets {
            for_each_run(grid, patch, offset, |run| times[run].iter_mut().for_each(|n| *n += 1));
        }
        let mut counts = vec![0u64; times.iter().copied().max().unwrap_or(0) as usize + 1];
        for &n in &times {
            counts[n as usize] += 1;
        }
        counts
    };
    while counts.len() > 1 && counts.last() == Some(&0) {
        counts.pop();
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        // Two voxels from two overlapping patches on a line of five.
        assert_eq!(histogram([1, 1, 5], [1, 1, 2], &[[0, 0, 1], [0, 0, 2]]).unwrap(), [2, 2, 1]);
        // A patch of five on an axis of two covers one voxel three times.
        assert_eq!(histogram([1, 1, 2], [1, 1, 5], &[[0, 0, 0]]).unwrap(), [0, 0, 1, 1]);
        assert_eq!(histogram([2, 2, 2], [2, 2, 2], &[]).unwrap(), [8]);
        assert!(histogram([2, 2, 2], [1, 1, 1], &[[0, 0, 2]]).is_err());
    }

    #[test]
    fn wide_counts_need_wide_counters() {
        // Few visits and many, by comparison and by table.
        for visits in [24, 25] {
            let counts = histogram([1, 7, 100], [1, 1, 1], &vec![[0, 3, 50]; visits]).unwrap();
            assert_eq!((counts[0], counts[visits], counts.len()), (699, 1, visits + 1));
        }
        // 255 and 256 visits: either side of the narrow counter's width.
        for visits in [255, 256, 65_536] {
            let counts = histogram([1, 1, 2], [1, 1, 1], &vec![[0, 0, 1]; visits]).unwrap();
            assert_eq!((counts[0], counts[visits], counts.len()), (1, 1, visits + 1));
        }
        // The bound on visits is not reached here: no zeros are left at the end.
        assert_eq!(histogram([1, 1, 3], [1, 1, 4], &[[0, 0, 0]]).unwrap(), [0, 2, 1]);
    }
}
