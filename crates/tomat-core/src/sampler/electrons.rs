//! Patches drawn in proportion to the density they hold.

use std::collections::HashSet;

use super::{SampleKey, below, box_sums, unravel, words};
use crate::error::Result;
use crate::grid::check_values;
use crate::memory;

/// Draws in a row that were there already, after which those that were there are taken out of the table. It changes
/// the time a draw takes, and nothing about what can be drawn: but it is part of what is drawn.
const REJECTIONS: usize = 32;

/// Bits of the sum over all boxes.
const BITS: i32 = 62;

/// The weights of all origins, summed up: origin `i` has `sums[i] - sums[i - 1]`.
struct Table {
    sums: Vec<u64>,
    /// Origins that can be drawn.
    possible: usize,
}

impl Table {
    /// Box sums of `|rho|`, exact in fixed point.
    ///
    /// `|rho|` is multiplied by the power of two that gives the sum over all boxes 62 bits, and rounded down to an
    /// integer: finer than float64 would hold the same sums, and the same on every machine in any order. A density that
    /// is zero everywhere counts as constant.
    fn new(grid: [usize; 3], patch: [usize; 3], density: &[f32]) -> Result<Self> {
        check_values(grid, density)?;
        let sum: f64 = density.iter().map(|&rho| f64::from(rho.abs())).sum();
        let mut sums: Vec<u64> = memory::with_room(density.len())?;
        if sum > 0.0 {
            let boxes: usize = patch.iter().product();
            // 2^(exponent - 1) <= x < 2^exponent, of the sum and of the number of boxes that hold a voxel.
            let exponents = exponent(sum) + exponent(boxes as f64);
            // A power of two by its bits: exact everywhere.
            let scale = f64::from_bits(((BITS - exponents + 1023) as u64) << 52);
            // Through i64, whose conversion is one instruction; the sum of all is below 2^62.
            sums.extend(density.iter().map(|&rho| (f64::from(rho.abs()) * scale) as i64 as u64));
        } else {
            sums.resize(density.len(), 1);
        }
        box_sums(&mut sums, grid, patch);
        let (mut total, mut possible) = (0, 0);
        for sum in &mut sums {
            possible += usize::from(*sum > 0);
            total += *sum;
            *sum = total;
        }
        Ok(Self { sums, possible })
    }

    /// The origin of a random number.
    fn draw(&self, word: u64) -> usize {
        let total = self.sums.last().copied().unwrap_or(0);
        let place = below(word, total);
        self.sums.partition_point(|&sum| sum <= place)
    }

    /// Takes origins out.
    fn remove(&mut self, origins: &HashSet<usize>) {
        let (mut before, mut removed) = (0, 0);
        for (i, sum) in self.sums.iter_mut().enumerate() {
            let weight = *sum - before;
            before = *sum;
            if origins.contains(&i) {
                removed += weight;
            }
            *sum -= removed;
        }
    }
}

/// The binary exponent: `2^(e - 1) <= x < 2^e` for a normal `x` above zero.
fn exponent(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1022
}

/// Attempt `i` takes the first word of `SHA-256("tomat.electrons.1\0" || seed || epoch || i || task_id)`.
pub(super) fn offsets(
    grid: [usize; 3],
    patch: [usize; 3],
    density: &[f32],
    n: usize,
    key: SampleKey<'_>,
    replacement: bool,
) -> Result<Vec<[usize; 3]>> {
    let mut table = Table::new(grid, patch, density)?;
    let word = |i: u64| words(b"tomat.electrons.1\0", key, &[i])[0];
    if replacement {
        let mut found = memory::with_room(n)?;
        found.extend((0..n as u64).map(|i| unravel(grid, table.draw(word(i)))));
        return Ok(found);
    }
    let mut found = memory::with_room(n)?;
    let mut seen = HashSet::new();
    let mut rejections = 0;
    for i in 0.. {
        if found.len() == n {
            break;
        }
        if seen.len() == table.possible {
            // Every origin was there: all over again.
            seen.clear();
            table = Table::new(grid, patch, density)?;
        }
        let origin = table.draw(word(i));
        if seen.insert(origin) {
            found.push(unravel(grid, origin));
            rejections = 0;
        } else {
            rejections += 1;
        }
        if rejections == REJECTIONS {
            table.remove(&seen);
            rejections = 0;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::for_each_run;

    const KEY: SampleKey<'static> = SampleKey { seed: 3, task_id: "mp-149", epoch: 1 };

    /// A density of both signs with empty places; many more orders of magnitude than float32 has digits.
    fn density(grid: [usize; 3]) -> Vec<f32> {
        let n: usize = grid.iter().product();
        (0..n)
            .map(|i| match i % 7 {
                0 => 0.0,
                1 => -0.25,
                k => (k * k) as f32 * if i % 3 == 0 { 1e-9 } else { 0.5 },
            })
            .collect()
    }

    fn held(grid: [usize; 3], patch: [usize; 3], density: &[f32], origin: [usize; 3]) -> f64 {
        let mut sum = 0.0;
        for_each_run(grid, patch, origin, |run| {
            sum += density[run].iter().map(|&rho| f64::from(rho.abs())).sum::<f64>();
        });
        sum
    }

    #[test]
    fn weights_are_the_density_held() {
        for (grid, patch) in [([4, 5, 6], [2, 3, 2]), ([3, 2, 7], [7, 5, 7]), ([2, 1, 1], [4, 4, 4])] {
            let density = density(grid);
            let table = Table::new(grid, patch, &density).unwrap();
            let total = *table.sums.last().unwrap();
            assert!((58..63).contains(&total.ilog2()), "{total:b}");
            let all: f64 = (0..table.sums.len()).map(|i| held(grid, patch, &density, unravel(grid, i))).sum();
            let mut before = 0;
            for (i, &sum) in table.sums.iter().enumerate() {
                let expected = held(grid, patch, &density, unravel(grid, i)) / all;
                let got = (sum - before) as f64 / total as f64;
                assert!((got - expected).abs() <= 1e-12, "{grid:?} {i}: {got} {expected}");
                before = sum;
            }
        }
    }

    #[test]
    fn frequencies_by_chi_square() {
        let (grid, patch, n) = ([4, 3, 5], [2, 2, 7], 60_000);
        let mut density = density(grid);
        density.iter_mut().enumerate().for_each(|(i, rho)| *rho += (i % 11) as f32);
        let draws = offsets(grid, patch, &density, n, KEY, true).unwrap();
        let weights: Vec<f64> = (0..60).map(|i| held(grid, patch, &density, unravel(grid, i))).collect();
        let total: f64 = weights.iter().sum();
        let mut counts = vec![0.0; 60];
        for [x, y, z] in draws {
            counts[(x * 3 + y) * 5 + z] += 1.0;
        }
        let chi_square: f64 = counts
            .iter()
            .zip(&weights)
            .map(|(count, weight)| {
                let expected = n as f64 * weight / total;
                (count - expected) * (count - expected) / expected
            })
            .sum();
        // The 0.999 quantile at 59 degrees of freedom is 98.3; the draw is fixed, so this is no gamble.
        assert!(chi_square < 98.3, "{chi_square}");
    }

    #[test]
    fn without_replacement_each_origin_comes_once_in_a_round() {
        let grid = [3, 4, 2];
        // Nearly all of the density in one voxel: rejection alone would take for ever.
        let mut density = vec![1e-4; 24];
        density[7] = 1e4;
        let all = offsets(grid, [1, 1, 1], &density, 60, KEY, false).unwrap();
        for round in all.chunks(24) {
            let distinct: HashSet<_> = round.iter().collect();
            assert_eq!(distinct.len(), round.len());
        }
        assert_eq!(offsets(grid, [1, 1, 1], &density, 17, KEY, false).unwrap(), all[..17]);
    }

    #[test]
    fn empty_origins_are_never_drawn_and_an_empty_density_is_constant() {
        let grid = [5, 1, 1];
        let density = [0.0, 0.0, -2.0, 0.0, 0.0];
        for replacement in [true, false] {
            let drawn = offsets(grid, [2, 1, 1], &density, 40, KEY, replacement).unwrap();
            assert!(drawn.iter().all(|o| [[1, 0, 0], [2, 0, 0]].contains(o)), "{drawn:?}");
        }
        let drawn: HashSet<_> =
            offsets(grid, [2, 1, 1], &[0.0; 5], 100, KEY, true).unwrap().into_iter().collect();
        assert_eq!(drawn.len(), 5);
        assert!(offsets(grid, [2, 1, 1], &[f32::NAN; 5], 1, KEY, true).is_err());
        assert!(offsets(grid, [2, 1, 1], &[1.0; 4], 1, KEY, true).is_err());
    }

    #[test]
    fn extreme_magnitudes() {
        for rho in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            let drawn: HashSet<_> =
                offsets([2, 2, 2], [19, 19, 19], &[rho; 8], 200, KEY, true).unwrap().into_iter().collect();
            assert_eq!(drawn.len(), 8);
        }
    }
}
