//! Numbers in text files: correctly rounded, and fast for the fixed columns that Fortran programs write.
//!
//! The fast way takes digits eight at a time inside a machine word and scales the integer mantissa by one exact
//! power of ten (W. D. Clinger, "How to read floating point numbers accurately", PLDI 1990): with a mantissa below
//! 2^53 and a power of at most 10^22 both operands are exact in float64, so a single multiplication or division
//! rounds correctly. Everything else goes to the parser of the standard library. Both give the same bits.

mod columns;

use columns::{chgcar_line, chgcar_value, scale, short_field, short_line, short_value};

/// Why a block of numbers could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How many values were read before it.
    pub index: usize,
    /// The byte of the text where reading stopped.
    pub position: usize,
    /// The word that is no number, shortened to 40 characters; `None` when the text ended.
    pub word: Option<String>,
}

/// Whether `n` numbers fit into `len` bytes of text: each needs a digit, and a separator before the next.
#[must_use]
pub const fn can_hold(len: usize, n: usize) -> bool {
    len.div_ceil(2) >= n
}

/// Reads `n` numbers separated by white space, any number of them a line, and converts each with `convert`.
/// Returns them with the number of bytes consumed.
///
/// Nothing is allocated unless the text is long enough to hold `n` numbers.
///
/// # Errors
/// [`Fault`] at the first word that is no finite number, or at the end of a text that holds too few.
pub fn read_values<T>(text: &[u8], n: usize, convert: impl Fn(f64) -> T) -> Result<(Vec<T>, usize), Fault> {
    if !can_hold(text.len(), n) {
        let index = words(text).count();
        return Err(Fault { index, position: text.len(), word: None });
    }
    let mut values = Vec::with_capacity(n);
    let mut reader = ValueReader::new(text);
    reader.read_into(&mut values, n, convert)?;
    Ok((values, reader.position()))
}

/// Reads a block of numbers part by part.
#[derive(Debug, Clone)]
pub struct ValueReader<'a> {
    text: &'a [u8],
    rest: &'a [u8],
    index: usize,
}

impl<'a> ValueReader<'a> {
    /// At the start of a text.
    #[must_use]
    pub const fn new(text: &'a [u8]) -> Self {
        Self { text, rest: text, index: 0 }
    }

    /// The number of bytes consumed.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// Appends the next `n` numbers to `values`, each converted with `convert`.
    ///
    /// # Errors
    /// [`Fault`] as for [`read_values`]; its index counts from the start of the text.
    pub fn read_into<T>(
        &mut self,
        values: &mut Vec<T>,
        n: usize,
        convert: impl Fn(f64) -> T,
    ) -> Result<(), Fault> {
        let end = self.index + n;
        let mut rest = self.rest;
        while self.index < end {
            // Back in step with the lines after one that was read value by value.
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            let left = end - self.index;
            if left >= 5
                && let Some((line, after)) = rest.split_first_chunk()
                && let Some(five) = chgcar_line(line)
            {
                values.extend(five.map(&convert));
                self.index += 5;
                rest = after;
                continue;
            }
            let (mut n, mut after) = read_columns::<T, 12, 10>(rest, left, values, &convert);
            if n == 0 {
                (n, after) = read_columns::<T, 13, 6>(rest, left, values, &convert);
            }
            if n > 0 {
                self.index += n;
                rest = after;
                continue;
            }
            let (value, after) = next_value(rest).map_err(|(offset, word)| Fault {
                index: self.index,
                position: self.text.len() - rest.len() + offset,
                word,
            })?;
            values.push(convert(value));
            self.index += 1;
            rest = after;
        }
        self.rest = rest;
        Ok(())
    }
}

/// Appends what stands in the columns of a CHG (ten values a line) or of a cube file (six) at the start of a text, `n`
/// values at most. Returns how many they are, and what follows.
#[inline(never)]
fn read_columns<'a, T, const WIDTH: usize, const N: usize>(
    text: &'a [u8],
    n: usize,
    values: &mut Vec<T>,
    convert: impl Fn(f64) -> T,
) -> (usize, &'a [u8]) {
    let (mut rest, mut left) = (text, n);
    loop {
        while left >= N
            && let Some((line, after)) = short_line::<WIDTH, N>(rest)
        {
            values.extend(line.map(&convert));
            (rest, left) = (after, left - N);
        }
        // A row of the grid may end within a line.
        let before = left;
        while left > 0
            && let Some((field, after)) = rest.split_first_chunk::<WIDTH>()
            && after.first().is_none_or(|&b| is_space(b))
            && let Some(value) = short_field(field)
        {
            values.push(convert(value));
            (rest, left) = (after, left - 1);
        }
        match rest.strip_prefix(b"\n") {
            Some(after) if 0 < left && left < before => rest = after,
            _ => return (n - left, rest),
        }
    }
}

/// Steps over `n` words that look like numbers, `****` and `NaN` among them, without taking their values.
/// Returns the number of bytes consumed.
///
/// # Errors
/// [`Fault`] at the first word that does not begin like a number, or at the end of a text that holds too few.
pub fn skip_values(text: &[u8], n: usize) -> Result<usize, Fault> {
    let mut rest = text;
    for index in 0..n {
        let start = skip_space(rest);
        let position = text.len() - rest.len() + start;
        rest = rest.get(start..).unwrap_or_default();
        let length = word_length(rest);
        match rest.first() {
            None => return Err(Fault { index, position, word: None }),
            Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'*' | b'N' | b'n' | b'I' | b'i') => {}
            Some(_) => return Err(Fault { index, position, word: Some(shorten(&rest[..length])) }),
        }
        rest = &rest[length..];
    }
    Ok(text.len() - rest.len())
}

/// Whether the value that ends at byte `end` was probably cut off: it runs into the end of the text without a
/// line end, and is shorter than the value before it.
#[must_use]
pub fn is_cut_short(text: &[u8], end: usize) -> bool {
    if end < text.len() || text.last().is_none_or(|&b| is_space(b)) {
        return false;
    }
    let mut backwards = text.rsplit(|&b| is_space(b)).filter(|word| !word.is_empty());
    match (backwards.next(), backwards.next()) {
        (Some(last), Some(before)) => last.len() < before.len(),
        _ => false,
    }
}

/// One number: `1`, `-.5`, `1.0E+02`, `1.0d2`, and Fortran's three-digit exponents without a letter,
/// `0.123-101`. `None` for anything else, infinities and NaN among them.
#[must_use]
pub fn parse_number(word: &[u8]) -> Option<f64> {
    let (negative, unsigned) = match word {
        [b'-', after @ ..] => (true, after),
        [b'+', after @ ..] => (false, after),
        _ => (false, word),
    };
    let mut mantissa: u64 = 0;
    let mut digits = 0_usize;
    let mut decimals = 0_usize;
    let mut seen_point = false;
    let mut at = 0;
    while let Some(&byte) = unsigned.get(at) {
        match byte {
            b'0'..=b'9' => {
                // Wraps only beyond 19 digits, where the value below is not used.
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                digits += 1;
                decimals += usize::from(seen_point);
            }
            b'.' if !seen_point => seen_point = true,
            _ => break,
        }
        at += 1;
    }
    if digits == 0 {
        return None;
    }
    let exponent = parse_exponent(&unsigned[at..])?;
    let power = exponent - i64::try_from(decimals).ok()?;
    if digits <= 19 && mantissa < 1 << 53 && power.unsigned_abs() <= 22 {
        return Some(scale(mantissa, power, negative));
    }
    let number = format!("{}e{exponent}", std::str::from_utf8(&unsigned[..at]).ok()?);
    let value: f64 = number.parse().ok()?;
    value.is_finite().then_some(if negative { -value } else { value })
}

/// `E+02`, `d2`, `-101`, or nothing: the exponent. It is held within +-100000, beyond which every float64 is
/// zero or infinite for the numbers of digits met here.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let signed = match text {
        [] => return Some(0),
        [b'e' | b'E' | b'd' | b'D', after @ ..] => after,
        [b'+' | b'-', ..] => text,
        _ => return None,
    };
    let (negative, digits) = match signed {
        [b'-', after @ ..] => (true, after),
        [b'+', after @ ..] => (false, after),
        _ => (false, signed),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = (value * 10 + i64::from(byte - b'0')).min(100_000);
    }
    Some(if negative { -value } else { value })
}

/// The offset of a word that is no number, and the word; `None` at the end of the text.
type NoNumber = (usize, Option<String>);

/// The next number and what follows it, or the offset and the word that is none.
fn next_value(text: &[u8]) -> Result<(f64, &[u8]), NoNumber> {
    let start = skip_space(text);
    let text = text.get(start..).unwrap_or_default();
    if let Some((field, after)) = text.split_first_chunk()
        && after.first().is_none_or(|&b| is_space(b))
        && let Some(value) = chgcar_value(field)
    {
        return Ok((value, after));
    }
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    if let Some((field, after)) = unsigned.split_first_chunk()
        && after.first().is_none_or(|&b| is_space(b))
        && let Some(value) = short_value(field)
        && (unsigned.len() == text.len() || field[0] != b'-')
    {
        return Ok((if unsigned.len() < text.len() { -value } else { value }, after));
    }
    if text.is_empty() {
        return Err((start, None));
    }
    let (word, after) = text.split_at(word_length(text));
    let value = parse_number(word).ok_or_else(|| (start, Some(shorten(word))))?;
    Ok((value, after))
}

/// The words of a text.
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&b| is_space(b)).filter(|word| !word.is_empty())
}

/// A word as it may stand in a message: at most 40 characters.
#[must_use]
pub fn shorten(word: &[u8]) -> String {
    let word = word.trim_ascii();
    let mut text: String = String::from_utf8_lossy(&word[..word.len().min(160)]).chars().take(40).collect();
    if text.len() < word.len() && !text.ends_with('\u{FFFD}') {
        text.push_str("...");
    }
    text
}

fn skip_space(text: &[u8]) -> usize {
    text.iter().position(|&b| !is_space(b)).unwrap_or(text.len())
}

fn word_length(text: &[u8]) -> usize {
    text.iter().position(|&b| is_space(b)).unwrap_or(text.len())
}

#[inline]
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fortran_numbers() {
        for (word, value) in [
            ("0.123-101", 0.123e-101),
            ("1.0D+02", 100.0),
            ("-.5d-1", -0.05),
            ("+3", 3.0),
            ("7.", 7.0),
            ("1.5+003", 1500.0),
            ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
            ("0.1234567890123456789012345E+05", 12_345.678_901_234_568),
            ("1e-400", 0.0),
        ] {
            assert_eq!(parse_number(word.as_bytes()), Some(value), "{word}");
        }
        for word in
            ["", ".", "-", "1e", "1e+", "1.2.3", "nan", "inf", "1e999", "****", "1x", "--1", "1-", "E5"]
        {
            assert_eq!(parse_number(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn a_text_too_short_is_refused_before_anything_is_allocated() {
        let fault = read_values(b"1 2 3", usize::MAX, |v| v).unwrap_err();
        assert_eq!(fault, Fault { index: 3, position: 5, word: None });
        assert!(can_hold(5, 3) && !can_hold(5, 4) && can_hold(0, 0));
    }

    #[test]
    fn faults_name_their_place() {
        let fault = read_values(b"1.0 2.0\n ****** 4.0", 4, |v| v).unwrap_err();
        assert_eq!(fault, Fault { index: 2, position: 9, word: Some("******".to_owned()) });
        let fault = skip_values(b"1 **** NaN augmentation", 4).unwrap_err();
        assert_eq!(fault, Fault { index: 3, position: 11, word: Some("augmentation".to_owned()) });
        assert_eq!(skip_values(b"1 **** NaN", 3), Ok(10));
    }

    #[test]
    fn a_value_without_its_tail_is_noticed() {
        assert!(is_cut_short(b"0.11E+01 0.45E", 14));
        assert!(!is_cut_short(b"0.11E+01 0.45E+01", 17));
        assert!(!is_cut_short(b"0.11E+01 0.45E ", 14));
        assert!(!is_cut_short(b"5", 1));
    }

    proptest! {
        #[test]
        fn columns_agree_with_the_standard_library(
            digits in 0_u64..100_000_000_000, exponent in -99_i32..=99, negative: bool, crlf: bool,
        ) {
            let sign = if negative { '-' } else { '0' };
            let word = format!("{sign}.{digits:011}E{exponent:+03}");
            let expected: f64 = word.parse().unwrap();
            prop_assert_eq!(parse_number(word.as_bytes()).map(f64::to_bits), Some(expected.to_bits()));
            let end = if crlf { "\r\n" } else { "\n" };
            let line = format!(" {word} {word} {word} {word} {word}{end}");
            let (values, consumed) = read_values(line.as_bytes(), 5, f64::to_bits).unwrap();
            prop_assert_eq!(values, vec![expected.to_bits(); 5]);
            prop_assert!(consumed >= 90);
        }

        #[test]
        fn short_columns_agree_with_the_standard_library(
            lead in 0_u8..=10, digits in 0_u32..100_000, exponent in -99_i32..=99, negative: bool,
        ) {
            let lead = if lead == 10 { "-".to_owned() } else { format!("{}{lead}", if negative { "-" } else { "" }) };
            let word = format!("{lead}.{digits:05}E{exponent:+03}");
            let expected: f64 = word.parse().unwrap();
            let (values, consumed) = read_values(format!(" {word} {word}\n").as_bytes(), 2, f64::to_bits).unwrap();
            prop_assert_eq!((values, consumed), (vec![expected.to_bits(); 2], 2 * word.len() + 2));
        }

        #[test]
        fn any_number_agrees_with_the_standard_library(value: f64, decimals in 0_usize..20) {
            prop_assume!(value.is_finite());
            for word in [format!("{value:.decimals$e}"), format!("{value:E}"), format!("{value}")] {
                let expected: f64 = word.parse().unwrap();
                prop_assume!(expected.is_finite());
                prop_assert_eq!(parse_number(word.as_bytes()).map(f64::to_bits), Some(expected.to_bits()));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), n in 0_usize..100) {
            let _ = parse_number(&bytes);
            let _ = skip_values(&bytes, n);
            if let Ok((values, consumed)) = read_values(&bytes, n, |v| v) {
                prop_assert_eq!(values.len(), n);
                prop_assert!(consumed <= bytes.len() && values.iter().all(|v| v.is_finite()));
                let _ = is_cut_short(&bytes, consumed);
            }
        }
    }
}
