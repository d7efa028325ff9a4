//! Bins by lookup: how many of ascending boundaries lie at or below a value.
//!
//! Positive float32 numbers sort like their bit patterns, so the pattern itself is the key: its exponent picks a row,
//! its leading mantissa bits a cell, and a cell of 32 bits knows its first bin and the one boundary inside it. Each
//! exponent has its own number of cells, up to sixteen times its number of boundaries, so that nearly every cell holds
//! one boundary at most; those that hold more are searched. The same is written twice: for any processor, and for
//! those that look up eight or sixteen cells at a time.

const MANTISSA_BITS: u32 = 23;
/// Bits of mantissa below a cell's edge: a cell has room for 15.
const MOST_SHIFT: u32 = 15;
/// Bits of a row that hold its shift.
const SHIFT_BITS: u32 = 5;
/// Marks in the low half of a cell: without a boundary, and with several (or a bin beyond 16 bits). Both lie above all
/// that [`MOST_SHIFT`] bits hold.
const NONE: u32 = 0xffff;
const SEARCH: u32 = 0xfffe;

/// Boundaries above zero, for look-up.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    /// The boundaries as bit patterns, ascending.
    keys: Vec<u32>,
    /// Keys below the first and above the last are as good as these; what is clipped is above the last.
    low: i32,
    high: i32,
    /// One row an exponent, from that of `low`: the index of its first cell, and by how much to shift a mantissa.
    rows: Vec<u32>,
    /// The bin at the cell's low edge in the high half; in the low half the first boundary above that edge, counted
    /// from it.
    cells: Vec<u32>,
}

impl Table {
    /// A table of positive boundaries, as bit patterns; values are clipped at the pattern `clip`.
    pub(super) fn new(keys: Vec<u32>, clip: u32) -> Self {
        let high = keys.last().map_or(0, |&last| last.min(clip));
        let low = keys.first().map_or(0, |first| first - 1).min(high);
        let (mut rows, mut cells) = (Vec::new(), Vec::new());
        for exponent in low >> MANTISSA_BITS..=high >> MANTISSA_BITS {
            let edge = exponent << MANTISSA_BITS;
            let first = keys.partition_point(|&k| k < edge);
            let last = keys.partition_point(|&k| k < edge + (1 << MANTISSA_BITS));
            let shift = (MANTISSA_BITS - cell_bits(&keys[first..last])).min(MOST_SHIFT);
            // At most 2^27 cells: 256 exponents of 2^18, twice the most bins there are.
            rows.push((cells.len() as u32) << SHIFT_BITS | shift);
            push_cells(&keys, (first, last), edge, shift, &mut cells);
        }
        Self { keys, low: low as i32, high: high as i32, rows, cells }
    }

    /// For each key the number of boundaries at or below it, plus `base`. As signed integers the patterns of negative
    /// floats, -0.0 among them, are below zero, so one integer clamp clips at both ends.
    pub(super) fn count(&self, keys: &[i32], base: i32, out: &mut [i32]) {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the processor was just asked.
                #[allow(unsafe_code)] // the only way from portable code to that of an instruction set
                return unsafe { self.count_by_sixteen(keys, base, out) };
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                return unsafe { self.count_by_eight(keys, base, out) };
            }
        }
        self.count_one_by_one(keys, base, out);
    }

    fn count_one_by_one(&self, keys: &[i32], base: i32, out: &mut [i32]) {
        for (&key, place) in keys.iter().zip(out) {
            *place = base + self.bin(key) as i32;
        }
    }

    #[inline]
    fn bin(&self, key: i32) -> u32 {
        let key = key.clamp(self.low, self.high) as u32;
        let row = self.rows[(key >> MANTISSA_BITS) as usize - (self.low as u32 >> MANTISSA_BITS) as usize];
        let (first, shift) = (row >> SHIFT_BITS, row & ((1 << SHIFT_BITS) - 1));
        let mantissa = key & ((1 << MANTISSA_BITS) - 1);
        let cell = self.cells[(first + (mantissa >> shift)) as usize];
        let boundary = cell & 0xffff;
        if boundary == SEARCH {
            return self.search(key);
        }
        (cell >> 16) + u32::from(mantissa & ((1 << shift) - 1) >= boundary)
    }

    /// The same by binary search.
    #[cold]
    fn search(&self, key: u32) -> u32 {
        self.keys.partition_point(|&k| k <= key) as u32
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // reading many places at a time is done by address
mod wide {
    #[allow(clippy::wildcard_imports)] // instructions
    use std::arch::x86_64::*;

    use super::{MANTISSA_BITS, SEARCH, SHIFT_BITS, Table};

    impl Table {
        #[target_feature(enable = "avx512f")]
        pub(super) fn count_by_sixteen(&self, keys: &[i32], base: i32, out: &mut [i32]) {
            let all = |n: i32| _mm512_set1_epi32(n);
            let (low, high, start) = (all(self.low), all(self.high), all(self.low >> MANTISSA_BITS));
            let (ones, base_of_all) = (all(-1), all(base));
            let (keys, rest) = keys.as_chunks::<16>();
            let (places, last) = out.as_chunks_mut::<16>();
            for (keys, places) in keys.iter().zip(places) {
                // SAFETY: loads and stores of sixteen values that are there. A key between `low` and `high` has a row,
                // and each of its mantissas a cell, as `Table::new` made them.
                unsafe {
                    let given = _mm512_loadu_si512(keys.as_ptr().cast());
                    let key = _mm512_min_epi32(_mm512_max_epi32(given, low), high);
                    let exponent = _mm512_sub_epi32(_mm512_srli_epi32::<MANTISSA_BITS>(key), start);
                    let row = _mm512_i32gather_epi32::<4>(exponent, self.rows.as_ptr().cast());
                    let shift = _mm512_and_si512(row, all((1 << SHIFT_BITS) - 1));
                    let mantissa = _mm512_and_si512(key, all((1 << MANTISSA_BITS) - 1));
                    let first = _mm512_srli_epi32::<SHIFT_BITS>(row);
                    let index = _mm512_add_epi32(first, _mm512_srlv_epi32(mantissa, shift));
                    let cell = _mm512_i32gather_epi32::<4>(index, self.cells.as_ptr().cast());
                    let boundary = _mm512_and_si512(cell, all(0xffff));
                    let inside = _mm512_andnot_si512(_mm512_sllv_epi32(ones, shift), mantissa);
                    let bin = _mm512_add_epi32(_mm512_srli_epi32::<16>(cell), base_of_all);
                    let above = _mm512_cmpge_epi32_mask(inside, boundary);
                    let bin = _mm512_mask_sub_epi32(bin, above, bin, ones);
                    _mm512_storeu_si512(places.as_mut_ptr().cast(), bin);
                    let several = _mm512_cmpeq_epi32_mask(boundary, all(SEARCH as i32));
                    if several != 0 {
                        self.search_marked(several.into(), keys, base, places);
                    }
                }
            }
            self.count_one_by_one(rest, base, last);
        }

        #[target_feature(enable = "avx2")]
        pub(super) fn count_by_eight(&self, keys: &[i32], base: i32, out: &mut [i32]) {
            let all = |n: i32| _mm256_set1_epi32(n);
            let (low, high, start) = (all(self.low), all(self.high), all(self.low >> MANTISSA_BITS));
            let (ones, base_of_all) = (all(-1), all(base));
            let (keys, rest) = keys.as_chunks::<8>();
            let (places, last) = out.as_chunks_mut::<8>();
            for (keys, places) in keys.iter().zip(places) {
                // SAFETY: as in `count_by_sixteen`.
                unsafe {
                    let given = _mm256_loadu_si256(keys.as_ptr().cast());
                    let key = _mm256_min_epi32(_mm256_max_epi32(given, low), high);
                    let exponent =
                        _mm256_sub_epi32(_mm256_srli_epi32::<{ MANTISSA_BITS as i32 }>(key), start);
                    let row = _mm256_i32gather_epi32::<4>(self.rows.as_ptr().cast(), exponent);
                    let shift = _mm256_and_si256(row, all((1 << SHIFT_BITS) - 1));
                    let mantissa = _mm256_and_si256(key, all((1 << MANTISSA_BITS) - 1));
                    let first = _mm256_srli_epi32::<{ SHIFT_BITS as i32 }>(row);
                    let index = _mm256_add_epi32(first, _mm256_srlv_epi32(mantissa, shift));
                    let cell = _mm256_i32gather_epi32::<4>(self.cells.as_ptr().cast(), index);
                    let boundary = _mm256_and_si256(cell, all(0xffff));
                    let inside = _mm256_andnot_si256(_mm256_sllv_epi32(ones, shift), mantissa);
                    // At or above it: one more, and one less where it is below.
                    let below = _mm256_cmpgt_epi32(boundary, inside);
                    let bin = _mm256_add_epi32(_mm256_srli_epi32::<16>(cell), base_of_all);
                    let bin = _mm256_add_epi32(_mm256_sub_epi32(bin, ones), below);
                    _mm256_storeu_si256(places.as_mut_ptr().cast(), bin);
                    let several = _mm256_cmpeq_epi32(boundary, all(SEARCH as i32));
                    let several = _mm256_movemask_ps(_mm256_castsi256_ps(several));
                    if several != 0 {
                        self.search_marked(several as u32, keys, base, places);
                    }
                }
            }
            self.count_one_by_one(rest, base, last);
        }

        /// Bins of the marked keys by search.
        #[cold]
        fn search_marked(&self, marks: u32, keys: &[i32], base: i32, places: &mut [i32]) {
            for (i, (&key, place)) in keys.iter().zip(places).enumerate() {
                if marks >> i & 1 == 1 {
                    *place = base + self.search(key.clamp(self.low, self.high) as u32) as i32;
                }
            }
        }
    }
}

/// The bits of mantissa that tell an exponent's boundaries apart, within a budget of 16 cells a boundary.
fn cell_bits(keys: &[u32]) -> u32 {
    if keys.is_empty() {
        return 0;
    }
    let fewest = (usize::BITS - (keys.len() - 1).leading_zeros()).min(MANTISSA_BITS);
    let most = (fewest + 4).min(MANTISSA_BITS);
    let told_apart = |bits: &u32| {
        let shift = MANTISSA_BITS - bits;
        keys.windows(2).all(|pair| pair[0] >> shift != pair[1] >> shift)
    };
    (fewest..=most).find(told_apart).unwrap_or((fewest + 2).min(MANTISSA_BITS))
}

fn push_cells(keys: &[u32], range: (usize, usize), low: u32, shift: u32, cells: &mut Vec<u32>) {
    let mut next = range.0;
    for index in 0..1u32 << (MANTISSA_BITS - shift) {
        let start = low + (index << shift);
        let end = start + (1 << shift);
        // A boundary on the low edge is at or below every key of the cell.
        while next < range.1 && keys[next] <= start {
            next += 1;
        }
        let inside = keys[next..range.1].iter().take(2).take_while(|&&k| k < end).count();
        let boundary = match inside {
            _ if next > 0xffff => SEARCH,
            0 => NONE,
            1 => keys[next] - start,
            _ => SEARCH,
        };
        cells.push((next as u32) << 16 | boundary);
        while next < range.1 && keys[next] < end {
            next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Table;

    /// What each way gives, those the processor has not left out.
    fn counts(table: &Table, keys: &[i32]) -> Vec<(&'static str, Vec<i32>)> {
        type Way = fn(&Table, &[i32], i32, &mut [i32]);
        let mut ways: Vec<(&'static str, Way)> =
            vec![("dispatched", Table::count), ("one by one", Table::count_one_by_one)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was just asked.
            #[allow(unsafe_code)]
            ways.push(("by eight", |table, keys, base, out| unsafe {
                table.count_by_eight(keys, base, out);
            }));
        }
        let found = ways.into_iter().map(|(name, count)| {
            let mut out = vec![0; keys.len()];
            count(table, keys, 3, &mut out);
            (name, out)
        });
        found.collect()
    }

    fn check(keys: Vec<u32>, clip: u32) {
        let clip_at = |key: i32| key.clamp(0, clip as i32) as u32;
        let near = keys.iter().flat_map(|&k| [k.saturating_sub(1), k, k + 1].map(|k| k as i32));
        let probes: Vec<i32> = near
            .chain([0, 1, i32::MIN, -1, clip as i32 - 1, clip as i32, clip as i32 + 1, 0x7f80_0000])
            .collect();
        let expected: Vec<i32> =
            probes.iter().map(|&k| 3 + keys.partition_point(|&b| b <= clip_at(k)) as i32).collect();
        let table = Table::new(keys, clip);
        for (name, found) in counts(&table, &probes) {
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn more_bins_than_a_cell_can_number_are_searched_for() {
        check((0x3f00_0000..0x3f00_0000 + 70_000).collect(), 0x4000_0000);
        check((0..70_000).map(|i| 0x3000_0000 + 4_001 * i).collect(), 0x4200_0000);
    }

    #[test]
    fn few_boundaries() {
        check(vec![], 0x3f80_0000);
        check(vec![1], 0x3f80_0000);
        check(vec![0x3f80_0000], 0x3f80_0000);
        check(vec![0x3f80_0000], 0x3f00_0000);
        // On the edges of cells, of exponents and of all there is.
        check(vec![0x0080_0000, 0x3f80_0000, 0x3f80_8000, 0x3f80_ffff, 0x7f7f_ffff], 0x7f7f_ffff);
    }

    proptest! {
        #[test]
        fn every_way_counts_boundaries(
            mut keys in prop::collection::vec(1_u32..0x7f80_0000, 0..300),
            dense in 1_u32..0x7f00_0000,
            many in 0_u32..300,
            step in 1_u32..5000,
            clip in 1_u32..0x7f80_0000,
        ) {
            keys.extend((0..many).map(|i| dense + i * step));
            keys.sort_unstable();
            keys.dedup();
            check(keys, clip);
        }
    }
}
