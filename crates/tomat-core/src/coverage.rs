//! How often the patches of a material covered each voxel.

use crate::error::{Error, Result};
use crate::patch::{check_offset, for_each_run};

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
        .filter(|&n| n > 0 && n <= 1 << 32)
        .ok_or_else(|| Error::invalid(format!("coverage of a grid of shape {grid:?} cannot be counted")))?;
    for &offset in offsets {
        check_offset(grid, offset)?;
    }
    let mut times = vec![0u32; voxels];
    for &offset in offsets {
        for_each_run(grid, patch, offset, |run| times[run].iter_mut().for_each(|n| *n += 1));
    }
    let most = times.iter().copied().max().unwrap_or(0);
    let mut counts = vec![0u64; most as usize + 1];
    for &n in &times {
        counts[n as usize] += 1;
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
}
