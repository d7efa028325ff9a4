//! The bytes of a sketch.
//!
//! Layout, integers as LEB128 varints in their shortest form unless said otherwise:
//! 1. `tomatsk` and the version byte 1; one byte mantissa bits; one byte weight bits; one byte unit (0 `chgcar`,
//!    1 `e_per_A3`);
//! 2. the number of materials, then each name in ascending order: length, UTF-8;
//! 3. smallest and largest value as float32, little endian (both zero in an empty sketch);
//! 4. exact zero: count, weight;
//! 5. the number of cells, then each by ascending key: key minus one more than the key before it, count, sum of
//!    cut-off mantissa bits, weight;
//! 6. the SHA-256 of all that, 32 bytes.
//!
//! Every sketch has exactly one such form, so equal content means equal bytes and an equal hash.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::sketch::{
    Cell, LOW_BITS, LOW_MASK, MANTISSA_BITS, MAX_TOTAL_WEIGHT, MAX_VOXELS, N_KEYS, Sketch, WEIGHT_BITS,
};
use crate::error::{Error, Result};
use crate::grid::Unit;

const MAGIC: &[u8; 7] = b"tomatsk";
const VERSION: u8 = 1;
const HASH: usize = 32;

impl Sketch {
    /// The sketch as bytes; see [`Sketch::from_bytes`]. Equal sketches give equal bytes. Some ten bytes a cell.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 12 * self.n_cells());
        out.extend_from_slice(MAGIC);
        let unit = u8::from(self.unit() == Unit::ElectronsPerCubicAngstrom);
        out.extend_from_slice(&[VERSION, MANTISSA_BITS as u8, WEIGHT_BITS as u8, unit]);
        put(&mut out, self.ids().len() as u128);
        for id in self.ids() {
            put(&mut out, id.len() as u128);
            out.extend_from_slice(id.as_bytes());
        }
        let (low, high) = self.range().unwrap_or((0.0, 0.0));
        out.extend_from_slice(&low.to_le_bytes());
        out.extend_from_slice(&high.to_le_bytes());
        put(&mut out, u128::from(self.zero().count));
        put(&mut out, self.zero().weight);
        put(&mut out, self.occupied().count() as u128);
        let mut next = 0;
        for (key, cell) in self.occupied() {
            put(&mut out, u128::from(key - next));
            put(&mut out, u128::from(cell.count));
            put(&mut out, u128::from(cell.low));
            put(&mut out, cell.weight);
            next = key + 1;
        }
        let hash = Sha256::digest(&out);
        out.extend_from_slice(&hash);
        out
    }

    /// The SHA-256 of the content, as 64 lower-case hexadecimal digits: the last 32 bytes of [`Sketch::to_bytes`].
    #[must_use]
    pub fn hash(&self) -> String {
        let bytes = self.to_bytes();
        bytes[bytes.len() - HASH..].iter().fold(String::with_capacity(2 * HASH), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            text
        })
    }

    /// Reads what [`Sketch::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Invalid`], with the position, when the bytes are not a sketch of this version, are cut short or
    /// altered, or say something no sketch can say. Memory is taken only for what has been read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let unit = header(&mut reader)?;
        let Some(end) = bytes.len().checked_sub(HASH).filter(|&end| end >= reader.at) else {
            return Err(reader.wrong("the sketch is cut short"));
        };
        if Sha256::digest(&bytes[..end])[..] != bytes[end..] {
            return Err(reader.wrong("the sketch is damaged: its content does not give its hash"));
        }
        reader.bytes = &bytes[..end];
        let ids = names(&mut reader)?;
        let (low, high) = (reader.float()?, reader.float()?);
        let zero = Cell { count: reader.integer(MAX_VOXELS)?, low: 0, weight: reader.varint()? };
        let total = MAX_TOTAL_WEIGHT * ids.len() as u128;
        let range = (!ids.is_empty()).then_some((low, high));
        let mut sketch = Self::from_parts(unit, ids, range, zero);
        cells(&mut reader, &mut sketch, total)?;
        check_range(&reader, &sketch, low, high)?;
        Ok(sketch)
    }
}

fn header(reader: &mut Reader) -> Result<Unit> {
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(reader.wrong("this is not a sketch; make one from densities"));
    }
    let version = reader.byte()?;
    let made = (u32::from(reader.byte()?), u32::from(reader.byte()?));
    if version != VERSION || made != (MANTISSA_BITS, WEIGHT_BITS) {
        return Err(reader.wrong(&format!(
            "sketch version {version} with {} mantissa and {} weight bits; this program reads version {VERSION} with \
             {MANTISSA_BITS} and {WEIGHT_BITS}: make the sketch again",
            made.0, made.1
        )));
    }
    match reader.byte()? {
        0 => Ok(Unit::Chgcar),
        1 => Ok(Unit::ElectronsPerCubicAngstrom),
        unit => Err(reader.wrong(&format!("unit {unit} is neither 0 (chgcar) nor 1 (e_per_A3)"))),
    }
}

fn names(reader: &mut Reader) -> Result<BTreeSet<String>> {
    let n = reader.integer(u64::from(u32::MAX))?;
    let mut ids = BTreeSet::new();
    for _ in 0..n {
        let length = reader.integer(u64::from(u32::MAX))?;
        let Ok(id) = std::str::from_utf8(reader.take(length as usize)?) else {
            return Err(reader.wrong("a material's name is not UTF-8"));
        };
        if ids.last().is_some_and(|last: &String| last.as_str() >= id) {
            return Err(reader.wrong(&format!("material {id} is out of order")));
        }
        ids.insert(id.to_owned());
    }
    Ok(ids)
}

fn cells(reader: &mut Reader, sketch: &mut Sketch, mut weight_left: u128) -> Result<()> {
    let n = reader.integer(u64::from(N_KEYS))?;
    let zero = *sketch.zero();
    let Some(left) = weight_left.checked_sub(zero.weight).filter(|_| zero.count > 0 || zero.weight == 0)
    else {
        return Err(reader.wrong("the weight of zero is more than its materials can give"));
    };
    weight_left = left;
    let mut next = 0_u64;
    for _ in 0..n {
        let key = next + reader.integer(u64::from(N_KEYS))?;
        let cell = Cell {
            count: reader.integer(MAX_VOXELS)?,
            low: reader.integer(MAX_VOXELS << LOW_BITS)?,
            weight: reader.varint()?,
        };
        next = key + 1;
        if key >= u64::from(N_KEYS) || !f32::from_bits((key as u32) << LOW_BITS).is_finite() {
            return Err(reader.wrong(&format!("cell {key} is not a finite float32")));
        }
        // The cells next to zero cannot hold zero itself.
        let least = if key.is_multiple_of(u64::from(N_KEYS / 2)) { cell.count } else { 0 };
        if cell.count == 0 || cell.low < least || cell.low > cell.count * u64::from(LOW_MASK) {
            return Err(reader.wrong(&format!("cell {key} has a count and a mantissa sum that cannot be")));
        }
        let Some(left) = weight_left.checked_sub(cell.weight) else {
            return Err(reader.wrong(&format!("cell {key} weighs more than the materials can give")));
        };
        weight_left = left;
        sketch.put(key as u32, cell);
        if sketch.n_voxels() > MAX_VOXELS {
            return Err(reader.wrong("the sketch holds more than 2^56 voxels"));
        }
    }
    if reader.at != reader.bytes.len() {
        return Err(reader.wrong("there are bytes after the last cell"));
    }
    Ok(())
}

/// The range must lie in the first and the last cell, and materials and voxels come together.
fn check_range(reader: &Reader, sketch: &Sketch, low: f32, high: f32) -> Result<()> {
    let cells = sketch.ascending();
    let same = |x: f32, cell: f32| {
        x.to_bits() >> LOW_BITS == cell.to_bits() >> LOW_BITS && (x == 0.0) == (cell == 0.0)
    };
    let fits = match (cells.first(), cells.last()) {
        (Some(first), Some(last)) => {
            same(low, first.0) && same(high, last.0) && low <= high && range_is_mean(&cells, low, high)
        }
        _ => low.to_bits() == 0 && high.to_bits() == 0,
    };
    if !fits
        || cells.is_empty() != (sketch.ids().len() == 0)
        || (sketch.ids().len() as u64) > sketch.n_voxels()
    {
        return Err(
            reader.wrong(&format!("the range {low} to {high} or the materials do not belong to the cells"))
        );
    }
    Ok(())
}

/// The mean of the first cell is not below the smallest value, nor that of the last above the largest.
fn range_is_mean(cells: &[(f32, Cell)], low: f32, high: f32) -> bool {
    cells.first().is_some_and(|c| low <= c.0) && cells.last().is_some_and(|c| c.0 <= high)
}

fn put(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, problem: &str) -> Error {
        Error::invalid(format!("sketch, byte {}: {problem}", self.at))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(n);
        let Some(part) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(self.wrong("the sketch is cut short"));
        };
        self.at += n;
        Ok(part)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or(0))
    }

    fn float(&mut self) -> Result<f32> {
        let mut raw = [0; 4];
        raw.copy_from_slice(self.take(4)?);
        let value = f32::from_le_bytes(raw);
        if !value.is_finite() || raw == (-0.0_f32).to_le_bytes() {
            return Err(self.wrong(&format!("{value} cannot be an end of the range")));
        }
        Ok(value)
    }

    fn varint(&mut self) -> Result<u128> {
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let part = u128::from(byte & 0x7f);
            if (part << shift) >> shift != part || (byte == 0 && shift > 0) {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.wrong("an integer is not in its shortest form or above 128 bits"))
    }

    fn integer(&mut self, limit: u64) -> Result<u64> {
        let value = self.varint()?;
        if value > u128::from(limit) {
            return Err(self.wrong(&format!("{value} is above the limit {limit} of its field")));
        }
        Ok(value as u64)
    }
}
