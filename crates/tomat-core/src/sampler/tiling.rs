//! Patches that cover a grid evenly: tiles that overlap nothing first, then those that complete the cover.

use super::{SampleKey, Sampler, below, grid_point, words};
use crate::error::Result;
use crate::memory;

/// What a pass is along one axis: the starts of tiles, counted from the pass's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    points: usize,
    patch: usize,
    /// Tiles that overlap none of each other.
    disjoint: usize,
    /// Those and, where the axis is not a multiple of the patch, the one that closes the gap.
    tiles: usize,
}

impl Axis {
    pub(super) fn new(points: usize, patch: usize) -> Self {
        // An axis that the patch goes round by itself needs one tile, which nothing along this axis overlaps.
        let disjoint = (points / patch).max(1);
        Self { points, patch, disjoint, tiles: points.div_ceil(patch) }
    }

    fn start(self, origin: usize, tile: usize) -> usize {
        (origin + tile * self.patch) % self.points
    }
}

impl Sampler {
    /// How many tiles a pass over the grid has: those that overlap no other, and all that the cover takes.
    ///
    /// Along an axis of `n` points tiles start at `origin + k P` for `k` in `0..ceil(n / P)`. The first
    /// `floor(n / P)` of them are disjoint; where `P` does not divide `n` the last one closes the gap and reaches into
    /// the first again. The tiles of the grid are the products of those of its axes. A pass takes the tiles that are
    /// disjoint along every axis first, in shuffled order, and then the others, in shuffled order. So
    /// - the first `prod floor(n / P)` patches cover no voxel twice,
    /// - a pass covers every voxel, each at most `2^k` times, `k` being the number of axes that `P` does not divide,
    ///   and does so with as few tiles as a grid of tiles can,
    /// - passes follow each other, each with an origin and an order of its own.
    ///
    /// A patch longer than an axis covers the same voxels more than once by itself: nothing can be done about that.
    /// Origins are uniform over the grid, so that every voxel has the same expectation, however many patches are cut.
    #[must_use]
    pub fn tiling(grid: [usize; 3], patch: [usize; 3]) -> (usize, usize) {
        let axes: [Axis; 3] = std::array::from_fn(|axis| Axis::new(grid[axis], patch[axis].max(1)));
        (axes.map(|axis| axis.disjoint).iter().product(), axes.map(|axis| axis.tiles).iter().product())
    }
}

/// Pass `p` has the origin of the first three words of `SHA-256("tomat.tiling.1\0" || seed || epoch || p || task_id)`;
/// word `j` of its shuffle is word `j mod 4` of
/// `SHA-256("tomat.tiling.shuffle.1\0" || seed || epoch || p || floor(j / 4) || task_id)`.
pub(super) fn offsets(
    grid: [usize; 3],
    patch: [usize; 3],
    n: usize,
    key: SampleKey<'_>,
) -> Result<Vec<[usize; 3]>> {
    let axes: [Axis; 3] = std::array::from_fn(|axis| Axis::new(grid[axis], patch[axis]));
    let (disjoint, others) = tiles(axes);
    let mut found = memory::with_room(n)?;
    for pass in 0.. {
        if found.len() == n {
            break;
        }
        let origin = grid_point(grid, &words(b"tomat.tiling.1\0", key, &[pass]));
        let mut words = Stream::new(key, pass);
        for group in [&disjoint, &others] {
            for tile in words.shuffled(group, n - found.len()) {
                found.push(std::array::from_fn(|axis| axes[axis].start(origin[axis], tile[axis])));
            }
        }
    }
    Ok(found)
}

/// The tiles of a pass by their numbers along the axes: those disjoint along every axis, and the others.
fn tiles(axes: [Axis; 3]) -> (Vec<[usize; 3]>, Vec<[usize; 3]>) {
    let [x, y, z] = axes.map(|axis| axis.tiles);
    let all = (0..x).flat_map(|i| (0..y).flat_map(move |j| (0..z).map(move |k| [i, j, k])));
    all.partition(|tile| tile.iter().zip(axes).all(|(&number, axis)| number < axis.disjoint))
}

/// The random numbers of one pass, in order.
struct Stream<'a> {
    key: SampleKey<'a>,
    pass: u64,
    next: u64,
    block: [u64; 4],
}

impl<'a> Stream<'a> {
    const fn new(key: SampleKey<'a>, pass: u64) -> Self {
        Self { key, pass, next: 0, block: [0; 4] }
    }

    fn below(&mut self, limit: usize) -> usize {
        let (block, word) = (self.next / 4, self.next % 4);
        if word == 0 {
            self.block = words(b"tomat.tiling.shuffle.1\0", self.key, &[self.pass, block]);
        }
        self.next += 1;
        below(self.block[word as usize], limit as u64) as usize
    }

    /// The first `most` of a shuffled order (R. Durstenfeld, Comm. ACM 7, 420 (1964), from the front).
    fn shuffled(&mut self, group: &[[usize; 3]], most: usize) -> Vec<[usize; 3]> {
        let mut group = group.to_vec();
        let most = most.min(group.len());
        for i in 0..most {
            let j = i + self.below(group.len() - i);
            group.swap(i, j);
        }
        group.truncate(most);
        group
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::coverage::histogram;

    const KEY: SampleKey<'static> = SampleKey { seed: 5, task_id: "mp-2", epoch: 0 };

    proptest! {
        #[test]
        fn nothing_twice_before_the_disjoint_tiles_end_and_everything_once_in_a_pass(
            grid in prop::array::uniform3(1usize..20),
            patch in prop::array::uniform3(1usize..8),
            seed in any::<u64>(),
        ) {
            let key = SampleKey { seed, ..KEY };
            let (disjoint, tiles) = Sampler::tiling(grid, patch);
            let pass = offsets(grid, patch, tiles, key).unwrap();
            let by_itself: usize = grid.iter().zip(patch).map(|(&n, p)| p.div_ceil(n)).product();
            let start = histogram(grid, patch, &pass[..disjoint]).unwrap();
            prop_assert!(start.len() <= by_itself + 1, "{start:?}");
            let whole = histogram(grid, patch, &pass).unwrap();
            prop_assert_eq!(whole[0], 0);
            let uneven = grid.iter().zip(patch).filter(|&(&n, p)| n > p && n % p != 0).count();
            prop_assert!(whole.len() <= (by_itself << uneven) + 1, "{whole:?}");
            // Any part is the beginning of the whole, through several passes.
            let long = offsets(grid, patch, 2 * tiles + 3, key).unwrap();
            prop_assert_eq!(&long[..tiles], &pass[..]);
            prop_assert_eq!(&offsets(grid, patch, tiles + 1, key).unwrap(), &long[..=tiles]);
        }
    }

    #[test]
    fn a_grid_of_whole_tiles_is_covered_evenly_pass_after_pass() {
        let (grid, patch) = ([8, 4, 12], [4, 4, 4]);
        assert_eq!(Sampler::tiling(grid, patch), (6, 6));
        let drawn = offsets(grid, patch, 18, KEY).unwrap();
        assert_eq!(histogram(grid, patch, &drawn).unwrap(), [0, 0, 0, 384]);
        assert_ne!(drawn[..6], drawn[6..12]);
    }

    #[test]
    fn origins_and_order_are_uniform_by_chi_square() {
        let (grid, patch) = ([5, 4, 3], [2, 2, 2]);
        let (mut first, n) = (vec![0.0; 60], 24_000);
        for seed in 0..n {
            let [x, y, z] = offsets(grid, patch, 1, SampleKey { seed, ..KEY }).unwrap()[0];
            first[(x * 4 + y) * 3 + z] += 1.0;
        }
        let expected = n as f64 / 60.0;
        let chi_square: f64 = first.iter().map(|c| (c - expected) * (c - expected) / expected).sum();
        // The 0.999 quantile at 59 degrees of freedom.
        assert!(chi_square < 98.3, "{chi_square}");
        // Six tiles in each of the 720 orders.
        let mut orders = std::collections::HashMap::new();
        let n = 14_400;
        for seed in 0..n {
            let drawn = offsets([4, 6, 2], [2, 2, 2], 6, SampleKey { seed, ..KEY }).unwrap();
            let origin = words(b"tomat.tiling.1\0", SampleKey { seed, ..KEY }, &[0]);
            let [x, y, _] = grid_point([4, 6, 2], &origin);
            let order: Vec<_> =
                drawn.iter().map(|o| ((o[0] + 4 - x) % 4 / 2, (o[1] + 6 - y) % 6 / 2)).collect();
            *orders.entry(order).or_insert(0.0) += 1.0;
        }
        assert_eq!(orders.len(), 720);
        let expected = n as f64 / 720.0;
        let chi_square: f64 = orders.values().map(|c| (c - expected) * (c - expected) / expected).sum();
        // The 0.999 quantile at 719 degrees of freedom is 841.
        assert!(chi_square < 841.0, "{chi_square}");
    }
}
