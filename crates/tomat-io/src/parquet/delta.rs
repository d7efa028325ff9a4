//! The DELTA_BINARY_PACKED encoding of int32 values (Apache Parquet format, `Encodings.md`).

/// Values in a block: they share one smallest delta.
const BLOCK: usize = 128;
/// Values in a miniblock: they share one bit width.
const MINIBLOCK: usize = 32;
const MINIBLOCKS: usize = BLOCK / MINIBLOCK;

/// Appends `value` as an unsigned LEB128 number.
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `values`: a header with the first of them, then the differences, less the smallest of their block, in
/// as few bits as each 32 of them need.
pub(super) fn encode(values: &[i32], out: &mut Vec<u8>) {
    let Some((&first, rest)) = values.split_first() else {
        return write_header(0, 0, out);
    };
    write_header(values.len(), first, out);
    let mut previous = first;
    for chunk in rest.chunks(BLOCK) {
        encode_block(previous, chunk, out);
        previous = chunk[chunk.len() - 1];
    }
}

fn write_header(count: usize, first: i32, out: &mut Vec<u8>) {
    write_varint(out, BLOCK as u64);
    write_varint(out, MINIBLOCKS as u64);
    write_varint(out, count as u64);
    write_varint(out, zigzag(first));
}

fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}

/// One block of 1 to [`BLOCK`] values; `previous` is the value before the first. Arithmetic wraps as the format says,
/// so any int32 is allowed.
fn encode_block(previous: i32, values: &[i32], out: &mut Vec<u8>) {
    let mut deltas = [0_i32; BLOCK];
    deltas[0] = values[0].wrapping_sub(previous);
    for (delta, pair) in deltas[1..].iter_mut().zip(values.windows(2)) {
        *delta = pair[1].wrapping_sub(pair[0]);
    }
    let smallest = deltas[..values.len()].iter().fold(i32::MAX, |least, &delta| least.min(delta));

    // What pads the last miniblock is never read; zeros keep its width down.
    let mut packed = [0_u32; BLOCK];
    for (out, delta) in packed.iter_mut().zip(&deltas[..values.len()]) {
        *out = delta.wrapping_sub(smallest) as u32;
    }
    write_varint(out, zigzag(smallest));
    let (miniblocks, _) = packed.as_chunks::<MINIBLOCK>();
    // A miniblock with no values has a width (zero) but no body.
    let widths: [u8; MINIBLOCKS] = std::array::from_fn(|i| {
        (u32::BITS - miniblocks[i].iter().fold(0, |all, &bits| all | bits).leading_zeros()) as u8
    });
    out.extend_from_slice(&widths);
    for (miniblock, &width) in miniblocks.iter().zip(&widths) {
        pack_width(width, miniblock, out);
    }
}

/// Appends 32 values of `WIDTH` bits, least significant bit first: `4 * WIDTH` bytes.
fn pack<const WIDTH: usize>(values: &[u32; MINIBLOCK], out: &mut Vec<u8>) {
    let mut bytes = [[0_u8; 4]; WIDTH];
    let mut words = [0_u32; WIDTH];
    // WIDTH is a constant, so this unrolls into shifts by constants without a bounds check.
    for (i, &value) in values.iter().enumerate() {
        let (word, shift) = (i * WIDTH / 32, i * WIDTH % 32);
        words[word] |= value << shift;
        if shift + WIDTH > 32 {
            words[word + 1] |= value >> (32 - shift);
        }
    }
    for (bytes, word) in bytes.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    out.extend_from_slice(bytes.as_flattened());
}

fn pack_width(width: u8, values: &[u32; MINIBLOCK], out: &mut Vec<u8>) {
    macro_rules! dispatch {
        ($($bits:literal)*) => {
            match width {
                $($bits => pack::<$bits>(values, out),)*
                _ => {} // width 0: every value is 0 and nothing is written
            }
        };
    }
    dispatch!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_format_page() {
        // 7 5 3 1 2 3 4 5: first value 7, deltas -2 -2 -2 1 1 1 1, smallest -2, hence 0 0 0 3 3 3 3 in two bits.
        let mut out = Vec::new();
        encode(&[7, 5, 3, 1, 2, 3, 4, 5], &mut out);
        let mut expected = vec![0x80, 0x01, 4, 8, 14, 3, 2, 0, 0, 0];
        expected.extend([0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out, expected);
    }

    #[test]
    fn no_values_is_a_header() {
        let mut out = Vec::new();
        encode(&[], &mut out);
        assert_eq!(out, [0x80, 0x01, 4, 0, 0]);
    }

    #[test]
    fn one_value_is_a_header() {
        let mut out = Vec::new();
        encode(&[-1], &mut out);
        assert_eq!(out, [0x80, 0x01, 4, 1, 1]);
    }

    #[test]
    fn varints() {
        for (value, bytes) in
            [(0, vec![0]), (127, vec![127]), (128, vec![0x80, 1]), (16_382, vec![0xfe, 0x7f])]
        {
            let mut out = Vec::new();
            write_varint(&mut out, value);
            assert_eq!(out, bytes);
        }
    }
}
