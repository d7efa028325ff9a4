//! Magnitude codes without a call of `log10`, the same to the last bit.
//!
//! The code of a magnitude is the whole part of its position `top (log10 |v| - log_min) / (log_max - log_min)`. Here
//! the position comes from the exponent and a series of the mantissa, within a bound that is known: where a whole
//! number is nearer than that, the formula itself is asked. Some ten values in a million are so near one at 20 bits.

use crate::grid::Real;
use crate::vector::{self, Kernel, Register};

/// Values that are coded together.
const BLOCK: usize = 16;

/// By how much the two logarithms, base 10, differ at most, with room to spare. The series leaves out less than 8e-12;
/// rounding a whole exponent of float64 and all other steps adds less than 1e-12, and a `log10` of the system that is
/// wrong by a hundred units in the last place 6e-12.
const LOG_ERROR: f64 = 1e-10;

/// The same for what comes after the logarithm, which rounds some ten times.
const ROUNDING: f64 = 1e-14;

/// The position of a magnitude among the codes, as a line over its logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    /// Codes an octave.
    slope: f64,
    /// The position of magnitude 1.
    at_one: f64,
    /// The largest code.
    top: f64,
    /// Positions nearer to a whole number than this say nothing.
    doubt: f64,
}

impl Line {
    /// [`None`] where positions would tell too little, as steps are hardly wider than float64 has them, and for ranges
    /// that no number reaches over.
    pub(super) fn new(log_min: f64, log_max: f64, top: f64) -> Option<Self> {
        let codes_a_decade = top / (log_max - log_min);
        let at_one = -log_min * codes_a_decade;
        let doubt = LOG_ERROR * codes_a_decade + ROUNDING * (at_one.abs() + top);
        // With its sign, a code fits into 32 bits; infinity is above the range.
        let fits = top < f64::from(1_u32 << 31) && codes_a_decade > 0.0 && log_max < 308.0;
        (fits && doubt < 0.125).then_some(Self {
            slope: codes_a_decade * std::f64::consts::LOG10_2,
            at_one,
            top,
            doubt,
        })
    }

    /// Codes an octave, and the position of magnitude 1.
    pub(super) const fn course(&self) -> (f64, f64) {
        (self.slope, self.at_one)
    }

    /// The code of a magnitude, and whether its position is too near to a whole number to tell.
    #[inline(always)]
    #[allow(clippy::inline_always)] // see Kernel
    fn code_of<R: Register>(&self, magnitude: f64) -> (u32, bool) {
        // Added to a number below 2^51, this rounds it to a whole one, which the last bits then hold.
        const ROUND: f64 = (1_u64 << 52) as f64;
        let position = multiply_add::<R>(log2::<R>(magnitude), self.slope, self.at_one);
        let position = if position > self.top + self.doubt { self.top + 0.5 } else { position };
        let position = if position < -self.doubt { 0.5 } else { position };
        let position = if magnitude < super::ZERO_BELOW { 0.5 } else { position };
        let sum = position + ROUND;
        let over = position - (sum - ROUND);
        let whole = (sum.to_bits() as u32).wrapping_sub(u32::from(over < 0.0));
        (whole, over.abs() <= self.doubt)
    }
}

/// `log2` of a normal number above zero: of the mantissa between `sqrt(1/2)` and `sqrt(2)`, by the series of the inverse
/// hyperbolic tangent. What follows its sixth term is below 2.6e-11.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
fn log2<R: Register>(x: f64) -> f64 {
    const ONE: u64 = 1.0_f64.to_bits();
    const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    const BIAS: u64 = 1023;
    // With the exponent in its last bits, this is 2^52 and so much more.
    const WHOLE: u64 = ((1_u64 << 52) as f64).to_bits();
    const TWICE: f64 = 2.0 * std::f64::consts::LOG2_E;
    let bits = x.to_bits();
    let exponent = bits.wrapping_add(ONE - SQRT_HALF) >> 52;
    let mantissa = f64::from_bits(bits.wrapping_sub(exponent << 52).wrapping_add(BIAS << 52));
    let exponent = f64::from_bits(exponent | WHOLE) - ((1_u64 << 52) + BIAS) as f64;
    let f = (mantissa - 1.0) / (mantissa + 1.0);
    let s = f * f;
    let fourth = s * s;
    let lowest = multiply_add::<R>(s, TWICE / 3.0, TWICE);
    let low = multiply_add::<R>(fourth, multiply_add::<R>(s, TWICE / 7.0, TWICE / 5.0), lowest);
    let high = multiply_add::<R>(s, TWICE / 11.0, TWICE / 9.0);
    multiply_add::<R>(f, multiply_add::<R>(fourth * fourth, high, low), exponent)
}

/// `a b + c`, as [`vector::multiply_add`].
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
fn multiply_add<R: Register>(a: f64, b: f64, c: f64) -> f64 {
    if R::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// A way to codes that says where it does not know.
pub(super) trait Codes<T>: Copy {
    /// The code of a value's magnitude, and whether it is in doubt.
    fn code<R: Register>(&self, value: T) -> (u32, bool);

    /// The code of a magnitude that is in doubt, the formula being `exact`.
    fn settle<R: Register>(&self, value: T, exact: &impl Fn(f64) -> u32) -> u32;
}

impl<T: Real> Codes<T> for Line {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see Kernel
    fn code<R: Register>(&self, value: T) -> (u32, bool) {
        let value: f64 = value.into();
        self.code_of::<R>(value.abs())
    }

    #[cold]
    #[inline(never)]
    fn settle<R: Register>(&self, value: T, exact: &impl Fn(f64) -> u32) -> u32 {
        exact(value.into())
    }
}

/// Values on their way to words of `K` components, or of as many as there are bases where `K` is 0.
pub(super) struct Encode<'a, T, C, const K: usize, F> {
    pub(super) codes: C,
    /// Magnitude bits of each component.
    pub(super) bits: &'a [u32],
    pub(super) bases: &'a [i32],
    pub(super) values: &'a [T],
    pub(super) out: &'a mut [i32],
    /// The formula: the code of a magnitude.
    pub(super) exact: F,
}

impl<T: Real, C: Codes<T>, const K: usize, F: Fn(f64) -> u32> Encode<'_, T, C, K, F> {
    pub(super) fn run_widest(self) {
        vector::run(self);
    }
}

impl<T: Real, C: Codes<T>, const K: usize, F: Fn(f64) -> u32> Kernel for Encode<'_, T, C, K, F> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see Kernel
    fn run<R: Register>(self) {
        let Self { codes, bits, bases, values, out, exact } = self;
        let k = if K == 0 { bases.len() } else { K };
        let total: u32 = if K == 0 { bits.iter().sum() } else { bits.iter().take(K).sum() };
        let base = bases[0];
        for (values, places) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK * k)) {
            let mut block = [T::from(1.0); BLOCK];
            if let Some(values) = values.first_chunk::<BLOCK>() {
                block = *values;
            } else {
                block[..values.len()].copy_from_slice(values);
            }
            let words = words::<R, T>(&codes, &block, total, &exact);
            if let Some(places) = places.first_chunk_mut::<BLOCK>()
                && K == 1
            {
                *places = words.map(|word| base + word as i32);
            } else {
                spread::<K>(&words[..values.len()], bits, bases, places);
            }
        }
    }
}

/// The codes of a block, each with its sign on the bit above.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
fn words<R: Register, T: Real>(
    codes: &impl Codes<T>,
    values: &[T; BLOCK],
    total: u32,
    exact: &impl Fn(f64) -> u32,
) -> [u32; BLOCK] {
    let (mut words, mut doubts) = ([0_u32; BLOCK], [0_u32; BLOCK]);
    for i in 0..BLOCK {
        let (code, doubt) = codes.code::<R>(values[i]);
        (words[i], doubts[i]) = (code, u32::from(doubt));
    }
    if doubts.iter().fold(0, |any, &doubt| any | doubt) != 0 {
        for (i, &doubt) in doubts.iter().enumerate() {
            if doubt != 0 {
                words[i] = codes.settle::<R>(values[i], exact);
            }
        }
    }
    for i in 0..BLOCK {
        words[i] |= u32::from(values[i].into() < 0.0) << total;
    }
    words
}

/// Takes words apart into their components, most significant first, and adds the bases.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
fn spread<const K: usize>(words: &[u32], bits: &[u32], bases: &[i32], out: &mut [i32]) {
    if let (Some(&bits), Some(&bases)) = (bits.first_chunk::<K>(), bases.first_chunk::<K>())
        && K > 0
    {
        let mut shifts = [0_u32; K];
        for j in (1..K).rev() {
            shifts[j - 1] = shifts[j] + bits[j];
        }
        for (place, &word) in out.as_chunks_mut::<K>().0.iter_mut().zip(words) {
            for j in 0..K {
                let kept = if j == 0 { u32::MAX } else { (1 << bits[j]) - 1 };
                place[j] = bases[j] + (word >> shifts[j] & kept) as i32;
            }
        }
        return;
    }
    for (place, &word) in out.chunks_exact_mut(bases.len()).zip(words) {
        let mut word = word;
        for j in (1..bases.len()).rev() {
            place[j] = bases[j] + (word & ((1 << bits[j]) - 1)) as i32;
            word >>= bits[j];
        }
        place[0] = bases[0] + word as i32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::LogCodec;

    /// Every value is encoded as the formula does it, in one call and in calls of `run` values, in all registers.
    fn check<T: Real>(codec: &LogCodec, values: &[T], run: usize) {
        let k = codec.bits().len();
        let bases: Vec<i32> = (0..k as i32).map(|j| 7 * j - 3).collect();
        let mut expected = vec![0; values.len() * k];
        for (&value, word) in values.iter().zip(expected.chunks_exact_mut(k)) {
            codec.encode_value(value.into(), &bases, word);
        }
        vector::in_each(|| {
            let mut found = vec![-1; expected.len()];
            codec.encode(values, &bases, &mut found);
            let place = found.iter().zip(&expected).position(|(a, b)| a != b).map(|i| values[i / k].into());
            assert_eq!(place, None, "in one call, {codec:?}");
            found.fill(-1);
            for (values, out) in values.chunks(run).zip(found.chunks_mut(run * k)) {
                codec.encode(values, &bases, out);
            }
            assert_eq!(found, expected, "in calls of {run}");
        });
    }

    fn check_both(codec: &LogCodec, values: &[f64]) {
        let signed: Vec<f64> = values.iter().flat_map(|&v| [v, -v]).collect();
        check(codec, &signed, 19);
        let narrow: Vec<f32> = signed.iter().map(|&v| v as f32).collect();
        check(codec, &narrow, 5);
    }

    /// The float32 numbers around the lower end of a code, all of them for so many places, and the nearest float64.
    fn around_boundary(codec: &LogCodec, code: f64, places: i32, values: &mut Vec<f64>) {
        let top = codec.sizes().iter().product::<usize>() as f64 / 2.0 - 1.0;
        let end = 10f64.powf(codec.log_min() + code / top * (codec.log_max() - codec.log_min()));
        let (wide, narrow) = (end.to_bits(), (end as f32).to_bits());
        values.extend((-3..=3).map(|i| f64::from_bits(wide.wrapping_add_signed(i))));
        let near = (-places..=places).map(|i| f32::from_bits(narrow.saturating_add_signed(i)));
        values.extend(near.filter(|v| !v.is_nan()).map(f64::from));
    }

    fn codecs() -> Vec<LogCodec> {
        let named =
            ["two_token_9_12", "tomol_3byte", "fp16_1token"].map(|name| LogCodec::named(name).unwrap());
        let new = |low, high, bits: &[u32]| LogCodec::new(low, high, bits).unwrap();
        let mut all = vec![LogCodec::position()];
        all.extend(named);
        all.extend([
            new(-20.0, 30.0, &[10]),
            new(-60.0, 45.0, &[3, 0, 9, 4]),
            new(-4.0, 2.0, &[1]),
            new(0.5, 0.75, &[12]),
            new(-330.0, 330.0, &[9]),
            new(-3.0, 3.0, &[16, 15]),
            new(-3.0, 3.0, &[16, 16]),
            new(7.0, 7.0 + 1e-9, &[8]),
            new(-1e300, 1e300, &[8]),
        ]);
        all
    }

    #[test]
    fn codes_around_every_boundary_are_those_of_the_formula() {
        for codec in codecs() {
            let codes = codec.sizes().iter().product::<usize>() / 2;
            // A prime step, so that the boundaries of many codes are not all of one kind.
            let step = if codes <= 1 << 15 { 1 } else { (codes / 20_011) | 1 };
            let mut values = Vec::new();
            for code in (0..codes).step_by(step).chain([1, codes - 1]) {
                around_boundary(&codec, code as f64, 6, &mut values);
            }
            values.retain(|v| v.is_finite());
            check_both(&codec, &values);
        }
    }

    #[test]
    fn codes_of_all_exponents_are_those_of_the_formula() {
        let mantissas = [0, 1, 0x35_04f2, 0x35_04f3, 0x35_04f4, 0x12_3456, 0x7f_ffff];
        let mut values: Vec<f64> = (0..255_u32)
            .flat_map(|exponent| {
                mantissas.map(|mantissa| f64::from(f32::from_bits(exponent << 23 | mantissa)))
            })
            .collect();
        values.extend((0..2047_u64).map(|exponent| f64::from_bits(exponent << 52 | 0x6_a09e_667f_3bcd)));
        let ends = [0.0, f64::INFINITY, f64::MAX, super::super::ZERO_BELOW, f64::MIN_POSITIVE, 5e-324];
        values.extend(ends.iter().flat_map(|v| [v.next_down(), *v, v.next_up()]).filter(|v| !v.is_nan()));
        for codec in codecs() {
            let mut values = values.clone();
            around_boundary(&codec, 0.0, 40, &mut values);
            values.retain(|v| !v.is_nan());
            check_both(&codec, &values);
        }
    }

    #[test]
    fn codes_of_float32_numbers_all_over_are_those_of_the_formula() {
        // A prime step through all that are not below zero, so that mantissas are of all kinds.
        let values: Vec<f32> = (0..=f32::INFINITY.to_bits()).step_by(4999).map(f32::from_bits).collect();
        for codec in codecs() {
            check(&codec, &values, 1021);
        }
    }

    #[test]
    fn most_codecs_are_fast_and_the_series_is_as_good_as_it_says() {
        let fast = codecs().iter().filter(|codec| codec.line.is_some()).count();
        assert_eq!(fast, codecs().len() - 4, "all but those out of proportion");
        let narrow = codecs().iter().filter(|codec| codec.narrow.is_some()).count();
        assert_eq!(narrow, 4, "those of up to 20 bits over what float32 has room for, and no 1e-15 in it");
        for i in 0..=1_000_000 {
            let x = 0.7 + f64::from(i) * 0.72e-6;
            let off = (log2::<vector::Portable>(x) - x.log2()).abs();
            assert!(off < 2.7e-11, "log2({x}) is off by {off}");
        }
    }

    proptest! {
        #[test]
        fn any_codec_and_values(
            log_min in -20.0_f64..20.0,
            width in 0.001_f64..60.0,
            bits in prop::collection::vec(1_u32..=12, 1..=4).prop_filter("32 bits", |bits| bits.iter().sum::<u32>() <= 32),
            patterns in prop::collection::vec(any::<u32>(), 1..200),
        ) {
            let codec = LogCodec::new(log_min, log_min + width, &bits).unwrap();
            let values = patterns.into_iter().map(|pattern| f64::from(f32::from_bits(pattern)));
            check_both(&codec, &values.filter(|v| !v.is_nan()).collect::<Vec<_>>());
        }
    }
}
