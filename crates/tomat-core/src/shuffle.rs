//! Random numbers and permutations without a state: determined by keys, the same on every processor.

#![allow(clippy::inline_always)] // see vector::Kernel

use crate::vector::{Kernel, Register, run};

/// Bits of the numbers of [`random_bits`].
pub const RANDOM_BITS: u32 = 24;

/// The finalizer of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
#[must_use]
pub const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The key of a number among those that belong to `key`.
#[must_use]
pub const fn key_of_number(key: u64, number: i64) -> u64 {
    mix(mix(number as u64) ^ key)
}

/// The sequence of random numbers of a key, any of which is there at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    low: u32,
    high: u32,
}

impl Numbers {
    pub(crate) const fn of(key: u64) -> Self {
        let key = mix(key);
        Self { low: key as u32, high: (key >> 32) as u32 }
    }

    /// The finalizer lowbias32 (C. Wellons, hash-prospector). 32 bits go fastest in wide registers, and this runs over
    /// every token of every batch.
    #[inline(always)]
    pub(crate) const fn at(self, index: u32) -> u32 {
        let x = index.wrapping_mul(0x9E37_79B9).wrapping_add(self.low) ^ self.high;
        let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
        (x ^ (x >> 16)) >> (32 - RANDOM_BITS)
    }
}

/// The first random numbers of a key, of [`RANDOM_BITS`] bits.
pub fn random_bits(key: u64, out: &mut [u32]) {
    struct Fill<'a>(Numbers, &'a mut [u32]);
    impl Kernel for Fill<'_> {
        #[inline(always)]
        fn run<R: Register>(self) {
            for (index, number) in (0_u32..).zip(self.1) {
                *number = self.0.at(index);
            }
        }
    }
    run(Fill(Numbers::of(key), out));
}

/// A permutation of `0..n`, in time independent of `n`: a Feistel network over the next power of four, iterated until
/// the result is below `n`, on average in fewer than four steps.
#[derive(Debug, Clone)]
pub struct Permutation<'a> {
    n: u64,
    half: u32,
    keys: &'a [u64],
}

impl<'a> Permutation<'a> {
    /// The permutation of `0..n` with a key for each round.
    #[must_use]
    pub fn new(n: u64, keys: &'a [u64]) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).max(1).leading_zeros();
        Self { n, half: bits.div_ceil(2), keys }
    }

    /// The image of a position; [`None`] for one that is not below `n`.
    #[must_use]
    pub fn image(&self, position: u64) -> Option<u64> {
        if position >= self.n {
            return None;
        }
        let mut x = self.network(position);
        while x >= self.n {
            x = self.network(x);
        }
        Some(x)
    }

    fn network(&self, x: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (x >> self.half, x & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vector::in_each;

    #[test]
    fn the_mix_is_that_of_splitmix64() {
        // The first outputs of the generator seeded with 1234567.
        let mut state = 1_234_567_u64;
        let found = [(); 3].map(|()| {
            let out = mix(state);
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            out
        });
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    proptest! {
        #[test]
        fn numbers_are_the_same_in_all_registers(key: u64, n in 0_usize..200) {
            let expected: Vec<u32> = (0..n as u32).map(|i| Numbers::of(key).at(i)).collect();
            let found = in_each(|| {
                let mut out = vec![0; n];
                random_bits(key, &mut out);
                out
            });
            for numbers in found {
                prop_assert_eq!(&numbers, &expected);
            }
            prop_assert!(expected.iter().all(|&x| x < 1 << RANDOM_BITS));
        }

        #[test]
        fn every_place_is_taken_once(n in 1_u64..3000, keys: [u64; 8]) {
            let order = Permutation::new(n, &keys);
            let mut images: Vec<u64> = (0..n).filter_map(|i| order.image(i)).collect();
            images.sort_unstable();
            prop_assert_eq!(images, (0..n).collect::<Vec<_>>());
            prop_assert_eq!(order.image(n), None);
        }
    }
}
