//! Values in the fixed columns of Fortran programs, digits taken eight at a time.

#[cfg(target_arch = "x86_64")]
mod wide;

/// The powers of ten that float64 holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Columns of one value of a CHGCAR without the space before it: `0.12345678901E+02`, `-.12345678901E+02`.
const CHGCAR_WIDTH: usize = 17;
/// Five such values, each after a space, and the line end.
const CHGCAR_LINE: usize = 5 * (CHGCAR_WIDTH + 1) + 1;

/// `mantissa * 10^power`, correctly rounded for a mantissa below 2^53 and a power within +-22.
#[inline]
pub(super) fn scale(mantissa: u64, power: i64, negative: bool) -> f64 {
    let exact = mantissa as f64;
    let factor = POWERS_OF_TEN[power.unsigned_abs() as usize];
    let magnitude = if power < 0 { exact / factor } else { exact * factor };
    if negative { -magnitude } else { magnitude }
}

/// Five values in CHGCAR columns and a line end, or `None`.
#[inline]
pub(super) fn chgcar_line(line: &[u8; CHGCAR_LINE]) -> Option<[f64; 5]> {
    if line[CHGCAR_LINE - 1] != b'\n' {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: the processor was just asked.
        #[allow(unsafe_code)] // the only way from portable code to that of an instruction set
        let five = unsafe { wide::chgcar_line(line) };
        if five.is_some() {
            return five;
        }
    }
    let mut five = [0.0; 5];
    for (value, field) in five.iter_mut().zip(line.as_chunks::<18>().0) {
        let (space, columns) = field.split_first_chunk::<1>()?;
        if space[0] != b' ' {
            return None;
        }
        *value = chgcar_value(columns.first_chunk()?)?;
    }
    Some(five)
}

/// `0.12345678901E+02` or `-.12345678901E+02`, or `None` for another layout or an exponent out of the fast range.
#[inline]
pub(super) fn chgcar_value(field: &[u8; CHGCAR_WIDTH]) -> Option<f64> {
    const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
    // Of bytes 9 to 16, `8901E+02` in the example, those that are digits of the mantissa or the exponent.
    const DIGITS: u64 = u64::from_le_bytes([0, 0xFF, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
    let head = u64::from_le_bytes(*field[2..].first_chunk()?);
    let tail = (u64::from_le_bytes(*field[9..].first_chunk()?) & DIGITS) | (ZEROS & !DIGITS);
    let layout = matches!(field[0], b'0' | b'-' | b' ')
        && field[1] == b'.'
        && field[13] == b'E'
        && matches!(field[14], b'+' | b'-');
    if !(layout && are_digits(head) && are_digits(tail)) {
        return None;
    }
    // The tail reads as 0ddd00ee: three more digits of the mantissa, and the exponent.
    let tail = eight_digits(tail);
    let mantissa = eight_digits(head) * 1000 + tail / 10_000;
    let exponent = (tail % 10_000) as i64;
    let power = if field[14] == b'-' { -exponent } else { exponent } - 11;
    (power.unsigned_abs() <= 22).then(|| scale(mantissa, power, field[0] == b'-'))
}

/// `0.30013E-02`, `2.96170E+00` or `-.30013E-02`, the columns of CHG and cube files, or `None`.
#[inline]
pub(super) fn short_value(field: &[u8; 11]) -> Option<f64> {
    const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
    // Of bytes 2 to 9, `30013E-0` in the example, those that are digits.
    const DIGITS: u64 = u64::from_le_bytes([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0xFF]);
    let word = (u64::from_le_bytes(*field[2..].first_chunk()?) & DIGITS) | (ZEROS & !DIGITS);
    let negative = field[0] == b'-';
    #[allow(clippy::needless_bitwise_bool)] // one branch for all of them, which is always taken the same way
    let layout = (field[0].is_ascii_digit() | negative)
        & (field[1] == b'.')
        & (field[7] == b'E')
        & ((field[8] == b'+') | (field[8] == b'-'))
        & field[10].is_ascii_digit();
    if !(layout & are_digits(word)) {
        return None;
    }
    // The word reads as ddddd00e.
    let word = eight_digits(word);
    let lead = if negative { 0 } else { u64::from(field[0] - b'0') };
    let mantissa = lead * 100_000 + word / 1000;
    let exponent = (word % 1000 * 10) as i64 + i64::from(field[10] - b'0');
    let power = if field[8] == b'-' { -exponent } else { exponent } - 5;
    (power.unsigned_abs() <= 22).then(|| scale(mantissa, power, negative))
}

/// A line of `N` values in columns of `WIDTH` and a line end, and what follows it; or `None`.
#[inline]
pub(super) fn short_line<const WIDTH: usize, const N: usize>(text: &[u8]) -> Option<([f64; N], &[u8])> {
    if text.get(WIDTH * N) != Some(&b'\n') {
        return None;
    }
    let (fields, after) = text.split_at(WIDTH * N);
    let after = &after[1..];
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: the processor was just asked.
        #[allow(unsafe_code)] // as above
        if let Some(values) = unsafe { wide::short_line::<WIDTH, N>(text) } {
            return Some((values, after));
        }
    }
    let mut values = [0.0; N];
    for (value, field) in values.iter_mut().zip(fields.as_chunks::<WIDTH>().0) {
        *value = short_field(field)?;
    }
    Some((values, after))
}

/// A short value after white space, perhaps with a sign before it, in columns of `WIDTH`; or `None`.
#[inline]
pub(super) fn short_field<const WIDTH: usize>(field: &[u8; WIDTH]) -> Option<f64> {
    let (gap, columns) = field.split_last_chunk::<11>()?;
    let value = if columns[7] == b'E' { short_value(columns) } else { plain_value(columns) }?;
    match gap {
        [b' '] | [b' ', b' '] => Some(value),
        [b' ', b'-'] if columns[0].is_ascii_digit() => Some(-value),
        _ => None,
    }
}

/// `0.30013    `, ` 12.345    ` or `-12345.    `, what Fortran writes as `G11.5` of a number from 0.1 to 99999: five
/// digits with a point before, among or after them; or `None`.
#[inline]
fn plain_value(field: &[u8; 11]) -> Option<f64> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
    // Of the bytes below, those of the five digits.
    const DIGITS: u64 = u64::from_le_bytes([0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0]);
    let word = u64::from_le_bytes(*field.first_chunk()?);
    if field[7..] != *b"    " || !matches!(field[0], b' ' | b'-' | b'0') {
        return None;
    }
    // The lowest byte that is a point: the first whose difference from one is zero.
    let differs = word ^ (ONES * u64::from(b'.'));
    let point = (differs.wrapping_sub(ONES) & !differs & (ONES << 7)).trailing_zeros() / 8;
    if !(1..=6).contains(&point) {
        return None;
    }
    // The bytes before the point go one up, into its place.
    let before = (1_u64 << (8 * point)) - 1;
    let digits = ((word & before) << 8) | (word & !(before << 8 | 0xFF));
    let digits = (digits & DIGITS) | (ZEROS & !DIGITS);
    if !are_digits(digits) {
        return None;
    }
    // They read as 00ddddd0.
    Some(scale(eight_digits(digits) / 10, i64::from(point) - 6, field[0] == b'-'))
}

/// Whether all eight bytes are ASCII digits.
#[inline]
const fn are_digits(word: u64) -> bool {
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const SIX: u64 = 0x0606_0606_0606_0606;
    // A byte 0x30..=0x39 keeps its high half when 6 is added; 0x3A..=0x3F does not.
    (word & HIGH) | ((word.wrapping_add(SIX) & HIGH) >> 4) == 0x3333_3333_3333_3333
}

/// Eight ASCII digits, first in the lowest byte, as a number: pairs, then fours, then all eight.
#[inline]
const fn eight_digits(word: u64) -> u64 {
    let ones = word & 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = (ones.wrapping_mul(10 * 0x100 + 1) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100 * 0x1_0000 + 1) >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(10_000 * 0x1_0000_0000 + 1) >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A number as Fortran writes it in `E` with so many decimals: a point before the first digit that counts.
    fn scientific(digits: u32, exponent: i32, negative: bool, lead: &str) -> String {
        format!("{}.{digits:05}E{exponent:+03}", if negative { "-" } else { lead })
    }

    /// `G11.5` of five digits with the point after so many of them.
    fn general(digits: u32, point: usize, negative: bool) -> String {
        let digits = format!("{digits:05}");
        let (whole, decimals) = digits.split_at(point);
        let sign = if negative {
            "-"
        } else if point == 0 {
            "0"
        } else {
            " "
        };
        format!("{sign}{whole}.{decimals}    ")
    }

    /// What `f` gives in wide registers, where the processor has them, and without; both must be the same.
    fn both_ways<T: PartialEq + std::fmt::Debug>(f: impl Fn() -> T) -> T {
        let found = f();
        #[cfg(target_arch = "x86_64")]
        {
            wide::ALLOWED.set(false);
            let portable = f();
            wide::ALLOWED.set(true);
            assert_eq!(found, portable);
        }
        found
    }

    /// The values of a line that another follows.
    fn bits<const WIDTH: usize, const N: usize>(line: &[u8]) -> Option<[u64; N]> {
        let text = [line, line].concat();
        both_ways(|| {
            short_line::<WIDTH, N>(&text).map(|(values, after)| {
                assert_eq!(after, line);
                values.map(f64::to_bits)
            })
        })
    }

    fn chgcar_bits(line: &[u8]) -> Option<[u64; 5]> {
        let line = line.try_into().unwrap();
        both_ways(|| chgcar_line(line).map(|values| values.map(f64::to_bits)))
    }

    /// What the standard library reads of the words of a line.
    fn slow<const N: usize>(line: &str) -> [u64; N] {
        let mut words = line.split_whitespace().map(|word| word.parse::<f64>().unwrap().to_bits());
        let values = std::array::from_fn(|_| words.next().unwrap());
        assert_eq!(words.next(), None);
        values
    }

    proptest! {
        #[test]
        fn lines_of_a_chg_are_what_the_standard_library_reads(
            numbers in prop::collection::vec((0_u32..100_000, -17_i32..=27, any::<bool>(), 0_usize..=5, any::<bool>()), 10),
            lead in prop::sample::select(vec!["0", "1", "9"]),
        ) {
            let fields = numbers.iter().map(|&(digits, exponent, negative, point, is_general)| {
                let field =
                    if is_general { general(digits, point, negative) } else { scientific(digits, exponent, negative, lead) };
                assert_eq!(field.len(), 11);
                format!(" {field}")
            });
            let line = format!("{}\n", fields.collect::<String>());
            prop_assert_eq!(bits::<12, 10>(line.as_bytes()), Some(slow::<10>(&line)));
        }

        #[test]
        fn lines_of_a_cube_are_what_the_standard_library_reads(
            numbers in prop::collection::vec((0_u32..100_000, -17_i32..=27, any::<bool>()), 6),
        ) {
            let fields = numbers.iter().map(|&(digits, exponent, negative)| {
                format!("{}{}", if negative { " -" } else { "  " }, scientific(digits, exponent, false, "0"))
            });
            let line = format!("{}\n", fields.collect::<String>());
            prop_assert_eq!(bits::<13, 6>(line.as_bytes()), Some(slow::<6>(&line)));
        }

        #[test]
        fn lines_of_a_chgcar_are_what_the_standard_library_reads(
            numbers in prop::collection::vec((0_u64..100_000_000_000, -11_i32..=33, 0_usize..3), 5),
        ) {
            let line: String = numbers
                .iter()
                .map(|&(digits, exponent, lead)| format!(" {}.{digits:011}E{exponent:+03}", ["0", "-", " "][lead]))
                .chain(["\n".to_owned()])
                .collect();
            prop_assert_eq!(chgcar_bits(line.as_bytes()), Some(slow::<5>(&line)));
        }

        #[test]
        fn a_line_with_another_byte_is_no_line_or_the_same_as_the_words_in_it(
            place in 0_usize..78, byte: u8, exponent in -3_i32..3, point in 0_usize..=5, negative: bool,
        ) {
            let cube = format!(" {}{}", if negative { "-" } else { " " }, scientific(12_345, exponent, false, "0"));
            let chg = [general(12_345, point, negative), scientific(12_345, exponent, negative, "0")];
            let sign = if negative { "-" } else { "0" };
            let chgcar = format!(" {sign}.12345678901E{exponent:+03}");
            let with_byte = |fields: String| {
                let mut line = format!("{fields}\n").into_bytes();
                line[place] = byte;
                line
            };
            let text = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
            let line = with_byte(cube.repeat(6));
            if let Some(values) = bits::<13, 6>(&line) {
                prop_assert_eq!(values, slow::<6>(&text(&line)));
            }
            let line = with_byte(format!(" {} {}", chg[0], chg[1]).repeat(5));
            if let Some(values) = bits::<12, 10>(&line) {
                prop_assert_eq!(values, slow::<10>(&text(&line)));
            }
            let line = with_byte(chgcar.repeat(5));
            if let Some(values) = chgcar_bits(&line) {
                prop_assert_eq!(values, slow::<5>(&text(&line)));
            }
        }

        #[test]
        fn plain_columns_with_another_byte_are_none_or_the_number_in_them(
            digits in 0_u32..100_000, point in 0_usize..=5, negative: bool, place in 0_usize..11, byte: u8,
        ) {
            let mut field: [u8; 11] = general(digits, point, negative).into_bytes().try_into().unwrap();
            field[place] = byte;
            if let Some(value) = plain_value(&field) {
                let word = std::str::from_utf8(&field).unwrap().trim();
                prop_assert_eq!(value.to_bits(), word.parse::<f64>().unwrap().to_bits(), "{}", word);
            }
        }
    }
}
