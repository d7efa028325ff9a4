//! Passes over whole densities, at the speed of memory: in registers as wide as the processor has them, with the same
//! result whatever their width.

#![allow(clippy::inline_always)] // see vector::Kernel

use crate::vector::{Kernel, Register, run};

/// A float type a density array may have: `f32` or `f64`.
pub trait Real: Copy + PartialOrd + Send + Sync + From<f32> + Into<f64> + 'static {
    /// Neither NaN nor infinite.
    fn finite(self) -> bool;
    /// NaN.
    fn nan(self) -> bool;
}

impl Real for f32 {
    fn finite(self) -> bool {
        self.is_finite()
    }

    fn nan(self) -> bool {
        self.is_nan()
    }
}

impl Real for f64 {
    fn finite(self) -> bool {
        self.is_finite()
    }

    fn nan(self) -> bool {
        self.is_nan()
    }
}

/// What all values of a density say together, in its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// Their sum, taken in float64.
    pub sum: f64,
    /// The least of them.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

/// Values looked at together: a few pages, so that they are still in the cache when they are looked at again.
const BLOCK: usize = 4096;

/// Whether `holds` is true of all values.
pub(crate) fn all<T: Real>(values: &[T], holds: impl Fn(T) -> bool) -> bool {
    struct All<'a, T, F> {
        values: &'a [T],
        holds: F,
        found: &'a mut bool,
    }
    impl<T: Real, F: Fn(T) -> bool> Kernel for All<'_, T, F> {
        #[inline(always)]
        fn run<R: Register>(self) {
            // Without a way out inside a block, which would keep the compiler from vector instructions.
            let block_holds = |block: &[T]| block.iter().fold(true, |all, &v| all & (self.holds)(v));
            *self.found = self.values.chunks(BLOCK).all(block_holds);
        }
    }
    let mut found = true;
    run(All { values, holds, found: &mut found });
    found
}

/// The least and the largest of values that are not NaN; [`None`] where there are none.
pub(crate) fn extremes<T: Real>(values: &[T]) -> Option<(T, T)> {
    struct Extremes<'a, T> {
        values: &'a [T],
        found: &'a mut Option<(T, T)>,
    }
    impl<T: Real> Kernel for Extremes<'_, T> {
        #[inline(always)]
        fn run<R: Register>(self) {
            *self.found = extremes_of(self.values);
        }
    }
    let mut found = None;
    run(Extremes { values, found: &mut found });
    found
}

/// Sum, least and largest of finite values.
pub(crate) fn extent(values: &[f32]) -> Extent {
    struct OfAll<'a> {
        values: &'a [f32],
        found: &'a mut Extent,
    }
    impl Kernel for OfAll<'_> {
        #[inline(always)]
        fn run<R: Register>(self) {
            for block in self.values.chunks(BLOCK) {
                let (min, max) = extremes_of(block).unwrap_or((0.0, 0.0));
                self.found.sum += sum(block, |v| v);
                self.found.min = self.found.min.min(min.into());
                self.found.max = self.found.max.max(max.into());
            }
        }
    }
    let mut found = Extent { sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };
    run(OfAll { values, found: &mut found });
    found
}

/// How often each byte occurs, up to the largest.
///
/// Comparing all bytes with one number is so fast (16 or more at a time) that doing it once a number beats adding to a
/// table, which waits for itself wherever neighbours are equal: where the numbers are few.
pub(crate) fn count_bytes(bytes: &[u8]) -> Vec<u64> {
    /// Largest number for which comparing pays.
    const FEW: usize = 24;
    struct Count<'a> {
        bytes: &'a [u8],
        counts: &'a mut [u64],
    }
    impl Kernel for Count<'_> {
        #[inline(always)]
        fn run<R: Register>(self) {
            // As many as a byte can count.
            for block in self.bytes.chunks(192) {
                for (n, count) in (0_u8..).zip(&mut *self.counts) {
                    *count += u64::from(block.iter().fold(0_u8, |found, &byte| found + u8::from(byte == n)));
                }
            }
        }
    }
    let most = usize::from(bytes.iter().copied().max().unwrap_or(0));
    let mut counts = vec![0; most + 1];
    if most <= FEW {
        run(Count { bytes, counts: &mut counts });
    } else {
        for &n in bytes {
            counts[usize::from(n)] += 1;
        }
    }
    counts
}

#[inline(always)]
fn extremes_of<T: Real>(values: &[T]) -> Option<(T, T)> {
    const LANES: usize = 16;
    let first = *values.first()?;
    // Comparisons that the compiler turns into vector instructions.
    let less = |a: T, b: T| if b < a { b } else { a };
    let more = |a: T, b: T| if b > a { b } else { a };
    let (blocks, rest) = values.as_chunks::<LANES>();
    // No lane is looked up by its number but in a loop that unrolls: the lanes stay in registers.
    let (mut least, mut most) = ([first; LANES], [first; LANES]);
    for block in blocks {
        least = std::array::from_fn(|lane| less(least[lane], block[lane]));
        most = std::array::from_fn(|lane| more(most[lane], block[lane]));
    }
    let least = least.into_iter().chain(rest.iter().copied()).fold(first, less);
    Some((least, most.into_iter().chain(rest.iter().copied()).fold(first, more)))
}

/// The sum of `f` over values, in float64.
#[inline(always)]
pub(crate) fn sum<T: Real>(values: &[T], f: impl Fn(f64) -> f64) -> f64 {
    /// Sums side by side, which the compiler turns into vector instructions. Their number fixes how it is rounded.
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    let rest: f64 = rest.iter().map(|&v| f(v.into())).sum();
    for block in blocks {
        sums = std::array::from_fn(|lane| sums[lane] + f(block[lane].into()));
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // what is exact is compared so
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn passes_equal_loops(values in prop::collection::vec(-1e3_f32..1e3, 0..9000), few in 1_u8..40) {
            let least = values.iter().copied().reduce(f32::min);
            let most = values.iter().copied().reduce(f32::max);
            prop_assert_eq!(extremes(&values), least.zip(most));
            if let Some((least, most)) = least.zip(most) {
                let found = extent(&values);
                prop_assert_eq!((found.min, found.max), (least.into(), most.into()));
                let total: f64 = values.iter().map(|&v| f64::from(v)).sum();
                prop_assert!((found.sum - total).abs() < 1e-9 * values.len() as f64);
                // The order of additions is that of a loop over eight sums, whatever the registers.
                let by_blocks: f64 = values.chunks(BLOCK).fold(0.0, |all, block| all + sum(block, |v| v));
                prop_assert_eq!(found.sum, by_blocks);
                prop_assert!(all(&values, |v| v <= most) && !all(&values, |v| v < most));
            }
            let bytes: Vec<u8> = values.iter().map(|v| v.to_bits() as u8 % few).collect();
            let counts = count_bytes(&bytes);
            for (n, &count) in counts.iter().enumerate() {
                prop_assert_eq!(count, bytes.iter().filter(|&&b| usize::from(b) == n).count() as u64);
            }
            prop_assert_eq!(counts.iter().sum::<u64>(), bytes.len() as u64);
        }
    }
}
