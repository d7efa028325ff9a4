//! Sums over all periodic boxes of a grid, in place and in a time that does not depend on the size of the box.

/// Columns that are summed together: their running sums stay in the fastest memory, and the copy of what they replace
/// stays small.
const STRIP: usize = 256;

/// Replaces each value by the sum over the box that starts there: `out[o] = sum_i values[(o + i) mod grid]` over
/// `i` in `0..patch`.
///
/// A patch longer than an axis wraps more than once and counts values as often as it meets them. The sum is separable:
/// one axis after the other, each by a running sum, so the work is O(voxels). Integers, since a running sum of floats
/// drifts: what has come in does not go out to the last bit. Sums are modulo 2^64, so they are exact where the largest
/// box fits 64 bits, whatever stands in between.
///
/// `values` is row-major; a length that is not that of the grid leaves the rest as it is.
pub fn box_sums(values: &mut [u64], grid: [usize; 3], patch: [usize; 3]) {
    let mut scratch = Vec::new();
    for axis in 0..3 {
        let inner: usize = grid[axis + 1..].iter().product();
        let block = grid[axis] * inner;
        if block == 0 {
            return;
        }
        for lines in values.chunks_exact_mut(block) {
            if inner == 1 {
                slide_line(lines, patch[axis], &mut scratch);
                continue;
            }
            for first in (0..inner).step_by(STRIP) {
                let width = STRIP.min(inner - first);
                let strip = Strip { points: grid[axis], stride: inner, first, width };
                strip.slide(lines, patch[axis], &mut scratch);
            }
        }
    }
}

/// One line of neighbouring values.
fn slide_line(line: &mut [u64], patch: usize, scratch: &mut Vec<u64>) {
    let points = line.len();
    let (rounds, rest) = ((patch / points) as u64, patch % points);
    // Twice round, so that nothing wraps.
    scratch.clear();
    scratch.extend_from_slice(line);
    scratch.extend_from_slice(line);
    let add = |sum: u64, value: &u64| sum.wrapping_add(*value);
    let whole = if rounds > 0 { line.iter().fold(0, add).wrapping_mul(rounds) } else { 0 };
    let mut sum = scratch[..rest].iter().fold(whole, add);
    for ((out, leaves), enters) in line.iter_mut().zip(&scratch[..points]).zip(&scratch[rest..]) {
        *out = sum;
        sum = sum.wrapping_add(enters.wrapping_sub(*leaves));
    }
}

/// Neighbouring lines of `points` values each: value `i` of line `j` at `i * stride + first + j`.
#[derive(Clone, Copy)]
struct Strip {
    points: usize,
    stride: usize,
    first: usize,
    width: usize,
}

impl Strip {
    fn slide(self, lines: &mut [u64], patch: usize, scratch: &mut Vec<u64>) {
        let Self { points, stride, first, width } = self;
        scratch.clear();
        for i in 0..points {
            scratch.extend_from_slice(&lines[i * stride + first..][..width]);
        }
        let row = |i: usize| i * width..(i + 1) * width;
        // Once round as often as the patch wraps, and the rest of it.
        let (rounds, rest) = ((patch / points) as u64, patch % points);
        let mut sums = vec![0u64; width];
        for i in 0..points {
            let times = rounds + u64::from(i < rest);
            for (sum, value) in sums.iter_mut().zip(&scratch[row(i)]) {
                *sum = sum.wrapping_add(value.wrapping_mul(times));
            }
        }
        for i in 0..points {
            lines[i * stride + first..][..width].copy_from_slice(&sums);
            let (enters, leaves) = (&scratch[row((i + rest) % points)], &scratch[row(i)]);
            for ((sum, enters), leaves) in sums.iter_mut().zip(enters).zip(leaves) {
                *sum = sum.wrapping_add(*enters).wrapping_sub(*leaves);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::patch::for_each_run;

    fn brute_force(values: &[u64], grid: [usize; 3], patch: [usize; 3]) -> Vec<u64> {
        let mut sums = Vec::new();
        for x in 0..grid[0] {
            for y in 0..grid[1] {
                for z in 0..grid[2] {
                    let mut sum = 0;
                    for_each_run(grid, patch, [x, y, z], |run| sum += values[run].iter().sum::<u64>());
                    sums.push(sum);
                }
            }
        }
        sums
    }

    proptest! {
        #[test]
        fn sums_are_those_of_brute_force(
            grid in prop::array::uniform3(1usize..7),
            patch in prop::array::uniform3(1usize..16),
            seed in 1u64..1000,
        ) {
            let n: usize = grid.iter().product();
            let mut values: Vec<u64> = (0..n as u64).map(|i| (i * 7919 + seed) * seed % 1009).collect();
            let expected = brute_force(&values, grid, patch);
            box_sums(&mut values, grid, patch);
            prop_assert_eq!(values, expected);
        }
    }

    #[test]
    fn strips_that_do_not_divide_the_lines() {
        let grid = [3, 5, 2 * STRIP / 5 + 1];
        let n: usize = grid.iter().product();
        let mut values: Vec<u64> = (0..n as u64).map(|i| i * i % 31).collect();
        let expected = brute_force(&values, grid, [2, 7, 3]);
        box_sums(&mut values, grid, [2, 7, 3]);
        assert_eq!(values, expected);
    }

    #[test]
    fn an_empty_grid_is_left_alone() {
        box_sums(&mut [], [0, 2, 2], [1, 1, 1]);
        box_sums(&mut [], [2, 2, 0], [1, 1, 1]);
    }
}
