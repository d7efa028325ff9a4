//! The same columns in registers of 16 bytes: all digits of a value at a time, and one branch a line.
//!
//! A line that does not have the expected layout in all places is none here; it is then read value by value.

use std::arch::x86_64::{
    __m128i, _mm_add_sd, _mm_and_si128, _mm_cmpeq_epi8, _mm_cvtepi32_pd, _mm_cvtsd_f64, _mm_extract_epi16,
    _mm_loadu_si128, _mm_madd_epi16, _mm_maddubs_epi16, _mm_movemask_epi8, _mm_mul_sd, _mm_or_si128,
    _mm_packus_epi32, _mm_set_epi64x, _mm_set_sd, _mm_set1_epi8, _mm_set1_epi16, _mm_set1_epi32,
    _mm_setzero_si128, _mm_shuffle_epi8, _mm_sub_epi8, _mm_subs_epu8, _mm_testz_si128, _mm_unpackhi_pd,
    _mm_xor_si128,
};

use super::{CHGCAR_LINE, POWERS_OF_TEN};

/// Columns that are looked at together.
const WINDOW: usize = 16;
/// Ends of the mantissa and of the exponent among shuffled digits.
const MANTISSA_END: usize = 12;
const EXPONENT_END: usize = WINDOW;

/// What mantissas are divided by, by their power of ten: below zero for values below zero, and not a number where
/// float64 does not hold the power exactly. A power below zero is at the end.
static DIVISORS: [[f64; 256]; 2] = {
    let mut divisors = [[f64::NAN; 256]; 2];
    let mut power = 0;
    while power < POWERS_OF_TEN.len() {
        divisors[0][power] = POWERS_OF_TEN[power];
        divisors[1][power] = -POWERS_OF_TEN[power];
        power += 1;
    }
    divisors
};

/// Whether the processor has these registers.
#[inline]
pub(super) fn available() -> bool {
    #[cfg(test)]
    if !ALLOWED.get() {
        return false;
    }
    is_x86_feature_detected!("avx2")
}

#[cfg(test)]
thread_local!(pub(super) static ALLOWED: std::cell::Cell<bool> = const { std::cell::Cell::new(true) });

/// What stands where in a window.
#[derive(Clone, Copy)]
struct Layout {
    /// From where digits come.
    shuffle: [u8; WINDOW],
    /// All bits of places that must be digits.
    digits: [u8; WINDOW],
    /// What else must stand where, and all bits of places where it must.
    text: [u8; WINDOW],
    is_text: [u8; WINDOW],
    /// The power of ten that the digits are divided by where the exponent is zero: how many are decimals.
    decimals: i32,
    /// By how much an exponent changes that power.
    step: i32,
}

impl Layout {
    /// A window that begins with such columns: `d` a digit of the mantissa, `e` one of the exponent, all others themselves.
    const fn new(columns: &[u8]) -> Self {
        let none = [0; WINDOW];
        // The highest bit of a place makes a shuffle leave zero.
        let mut layout =
            Self { shuffle: [0x80; WINDOW], digits: none, text: none, is_text: none, decimals: 0, step: 0 };
        let (mut mantissa, mut exponent) = (MANTISSA_END, EXPONENT_END);
        let mut place = columns.len();
        while place > 0 {
            place -= 1;
            match columns[place] {
                b'd' => {
                    mantissa -= 1;
                    layout.shuffle[mantissa] = place as u8;
                    layout.digits[place] = 0xFF;
                }
                b'e' => {
                    exponent -= 1;
                    layout.shuffle[exponent] = place as u8;
                    layout.digits[place] = 0xFF;
                }
                byte => {
                    layout.text[place] = byte;
                    layout.is_text[place] = 0xFF;
                }
            }
            match columns[place] {
                b'.' => layout.decimals = (MANTISSA_END - mantissa) as i32,
                b'+' => layout.step = -1,
                b'-' if exponent < EXPONENT_END && mantissa == MANTISSA_END => layout.step = 1,
                _ => {}
            }
        }
        layout
    }
}

/// A value of a CHGCAR from its point on, by the sign of its exponent.
static CHGCAR: [Layout; 2] = [Layout::new(b".dddddddddddE+ee"), Layout::new(b".dddddddddddE-ee")];

/// Layouts of short values: with an exponent, where the place of the point is not asked for, and without one, by that.
type Short = [[Layout; 8]; 2];

/// A value of a CHG after its gap, and one below zero.
static CHG: Short = [
    [
        Layout::new(b" d.dddddE+ee"),
        Layout::new(b" 0.ddddd    "),
        Layout::new(b"  d.dddd    "),
        Layout::new(b"  dd.ddd    "),
        Layout::new(b"  ddd.dd    "),
        Layout::new(b"  dddd.d    "),
        Layout::new(b"  ddddd.    "),
        Layout::new(b" d.dddddE-ee"),
    ],
    [
        Layout::new(b" -.dddddE+ee"),
        Layout::new(b" -.ddddd    "),
        Layout::new(b" -d.dddd    "),
        Layout::new(b" -dd.ddd    "),
        Layout::new(b" -ddd.dd    "),
        Layout::new(b" -dddd.d    "),
        Layout::new(b" -ddddd.    "),
        Layout::new(b" -.dddddE-ee"),
    ],
];

/// The same of a cube file, which has exponents everywhere.
static CUBE: Short = {
    let [mut positive, mut negative] =
        [[Layout::new(b"  d.dddddE+ee"); 8], [Layout::new(b" -d.dddddE+ee"); 8]];
    positive[WITH_NEGATIVE_EXPONENT] = Layout::new(b"  d.dddddE-ee");
    negative[WITH_NEGATIVE_EXPONENT] = Layout::new(b" -d.dddddE-ee");
    [positive, negative]
};
const WITH_POSITIVE_EXPONENT: usize = 0;
const WITH_NEGATIVE_EXPONENT: usize = 7;

/// Five values in CHGCAR columns, as [`super::chgcar_line`].
#[target_feature(enable = "avx2")]
pub(super) fn chgcar_line(line: &[u8; CHGCAR_LINE]) -> Option<[f64; 5]> {
    let (mut differs, mut leads_fit) = (_mm_setzero_si128(), true);
    let mut five = [0.0; 5];
    for (value, field) in five.iter_mut().zip(line.as_chunks::<{ 2 + WINDOW }>().0) {
        let [space, lead, columns @ ..] = field;
        leads_fit &= *space == b' ';
        leads_fit &= matches!(lead, b'0' | b'-' | b' ');
        let layout = &CHGCAR[usize::from(columns[13] == b'-')];
        *value = number(load(columns), layout, *lead == b'-', &mut differs);
    }
    (leads_fit && are_numbers(&five, differs)).then_some(five)
}

/// `N` values in columns of `WIDTH`, as [`super::short_line`]; [`None`] as well where the text ends within a window.
#[target_feature(enable = "avx2")]
pub(super) fn short_line<const WIDTH: usize, const N: usize>(text: &[u8]) -> Option<[f64; N]> {
    let text = text.get(..WIDTH * (N - 1) + WINDOW)?;
    let layouts = if WIDTH == 12 { &CHG } else { &CUBE };
    let gap = WIDTH - 11;
    let mut differs = _mm_setzero_si128();
    let mut values = [0.0; N];
    for (i, value) in values.iter_mut().enumerate() {
        let window: &[u8; WINDOW] = text[WIDTH * i..].first_chunk()?;
        let bytes = load(window);
        let kind = match (window[gap + 7], window[gap + 8]) {
            (b'E', b'-') => WITH_NEGATIVE_EXPONENT,
            (b'E', _) => WITH_POSITIVE_EXPONENT,
            _ => {
                // A point elsewhere than in the layouts has that of another, which does not fit.
                let points = _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'.' as i8)));
                (points >> gap).trailing_zeros() as usize % layouts[0].len()
            }
        };
        // Right after the gap or at its end.
        let negative = window[1] == b'-';
        *value = number(bytes, &layouts[usize::from(negative)][kind], negative, &mut differs);
    }
    are_numbers(&values, differs).then_some(values)
}

/// The number in a window of such a layout; leaves bits in `differs` where it has another, and is not a number where
/// its power of ten is not held.
#[inline]
#[target_feature(enable = "avx2")]
fn number(window: __m128i, layout: &Layout, negative: bool, differs: &mut __m128i) -> f64 {
    let digits = _mm_sub_epi8(window, _mm_set1_epi8(b'0' as i8));
    let no_digits = _mm_and_si128(_mm_subs_epu8(digits, _mm_set1_epi8(9)), load(&layout.digits));
    let other_text = _mm_and_si128(_mm_xor_si128(window, load(&layout.text)), load(&layout.is_text));
    *differs = _mm_or_si128(*differs, _mm_or_si128(no_digits, other_text));
    // Pairs of digits, fours, and of the mantissa eight and four.
    let pairs = _mm_maddubs_epi16(_mm_shuffle_epi8(digits, load(&layout.shuffle)), _mm_set1_epi16(0x010A));
    let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x0001_0064));
    let fours = _mm_packus_epi32(fours, fours);
    let mantissa = _mm_cvtepi32_pd(_mm_madd_epi16(fours, _mm_set_epi64x(0, 0x0000_0001_0001_2710)));
    let eight = _mm_mul_sd(mantissa, _mm_set_sd(1e4));
    let mantissa = _mm_cvtsd_f64(_mm_add_sd(eight, _mm_unpackhi_pd(mantissa, mantissa)));
    let power = layout.decimals + layout.step * _mm_extract_epi16::<3>(fours);
    mantissa / DIVISORS[usize::from(negative)][usize::from(power as u8)]
}

/// Whether all that was read is a number, and nothing differs from its layout.
#[inline]
#[target_feature(enable = "avx2")]
fn are_numbers(values: &[f64], differs: __m128i) -> bool {
    let all = values.iter().fold(true, |all, value| all & !value.is_nan());
    all & (_mm_testz_si128(differs, differs) == 1)
}

/// Bytes in a register.
#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; WINDOW]) -> __m128i {
    // SAFETY: as many bytes are read as there are, from wherever they begin.
    #[allow(unsafe_code)] // put together from numbers, the bytes would be loaded one by one
    unsafe {
        _mm_loadu_si128(bytes.as_ptr().cast())
    }
}
