//! Patches of a periodic grid: which voxels they hold, and where the atoms are in their frame.

use std::ops::Range;

use crate::error::{Error, Result};

/// Calls `run` with each contiguous run of grid indices of the patch at `offset`, in row-major order of the patch.
///
/// The patch holds `grid[(offset + i) mod shape]`. A grid axis shorter than the patch wraps more than once, so a
/// line of the patch is one run or several.
pub fn for_each_run(
    grid: [usize; 3],
    patch: [usize; 3],
    offset: [usize; 3],
    mut run: impl FnMut(Range<usize>),
) {
    let [nx, ny, nz] = grid;
    // A division takes longer than all else here, and few places need one.
    let wrapped = |at: usize, n: usize| if at < n { at } else { at % n };
    for i in 0..patch[0] {
        let x = wrapped(offset[0] + i, nx);
        for j in 0..patch[1] {
            let y = wrapped(offset[1] + j, ny);
            let line = (x * ny + y) * nz;
            let (mut z, mut left) = (offset[2], patch[2]);
            while left > 0 {
                let length = left.min(nz - z);
                run(line + z..line + z + length);
                left -= length;
                z = 0;
            }
        }
    }
}

/// Checks that `offset` is a point of the grid.
///
/// # Errors
/// [`Error::Invalid`] naming the axis.
pub fn check_offset(grid: [usize; 3], offset: [usize; 3]) -> Result<()> {
    for (axis, (&o, n)) in ['x', 'y', 'z'].into_iter().zip(offset.iter().zip(grid)) {
        if o >= n {
            return Err(Error::invalid(format!(
                "offset {offset:?} lies outside the grid {grid:?} along {axis}; give 0 to {} (it does not wrap by itself)",
                n - 1
            )));
        }
    }
    Ok(())
}

/// The floor modulus by 1, as Python and NumPy take it: in [0, 1], since a tiny negative number rounds to 1.0.
#[must_use]
pub fn wrap_unit(x: f64) -> f64 {
    // Most are there already, and the remainder takes a call.
    if (0.0..1.0).contains(&x) {
        return x;
    }
    let remainder = x % 1.0;
    if remainder < 0.0 { remainder + 1.0 } else { remainder }
}

/// A fractional coordinate moved into the frame of a patch, whose origin is at `corner`: `((frac mod 1) - corner) mod 1`.
#[must_use]
pub fn into_frame(frac: f64, corner: f64) -> f64 {
    wrap_unit(wrap_unit(frac) - corner)
}

/// The origin of the frame of the patch at `offset`, in fractional coordinates: `offset/grid`.
#[must_use]
pub fn frame_of(grid: [usize; 3], offset: [usize; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| offset[axis] as f64 / grid[axis] as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_floor_modulus_may_be_one() {
        assert_eq!(wrap_unit(-1e-17).to_bits(), 1.0f64.to_bits());
        assert!((wrap_unit(-0.25) - 0.75).abs() < 1e-15);
        assert_eq!(wrap_unit(1.0).abs().to_bits(), 0);
        assert_eq!(wrap_unit(-3.0).abs().to_bits(), 0);
    }

    #[test]
    fn offsets_do_not_wrap() {
        assert!(check_offset([4, 5, 6], [3, 4, 5]).is_ok());
        assert!(check_offset([4, 5, 6], [3, 5, 5]).unwrap_err().to_string().contains("along y"));
    }

    proptest! {
        #[test]
        fn runs_are_the_wrapped_patch(
            grid in prop::array::uniform3(1usize..7),
            patch in prop::array::uniform3(1usize..12),
            seed in prop::array::uniform3(0usize..1000),
        ) {
            let offset = [seed[0] % grid[0], seed[1] % grid[1], seed[2] % grid[2]];
            let mut indices = Vec::new();
            for_each_run(grid, patch, offset, |run| indices.extend(run));
            let mut expected = Vec::new();
            for i in 0..patch[0] {
                for j in 0..patch[1] {
                    for k in 0..patch[2] {
                        let [x, y, z] =
                            [(offset[0] + i) % grid[0], (offset[1] + j) % grid[1], (offset[2] + k) % grid[2]];
                        expected.push((x * grid[1] + y) * grid[2] + z);
                    }
                }
            }
            prop_assert_eq!(indices, expected);
        }
    }
}
