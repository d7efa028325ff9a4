//! The histogram a codec is fitted to: one pass over the data, mergeable, exact.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::grid::Unit;

/// Mantissa bits of a float32 kept in a cell's key; the other seven only enter the cell's mean.
///
/// 65,536 cells an octave. By estimate, a 65,536-bin codec spends at most some 8,000 bins on one octave of a density, so
/// that a bin holds eight cells or more; placing points on cells rather than on voxels then costs about one percent of
/// the codec's error, and falls with the square of the cells a bin. Some 25 million voxels of 377 materials fill 0.65
/// million cells.
pub const MANTISSA_BITS: u32 = 16;

/// A material's weight is `2^WEIGHT_BITS / sum|rho|`, rounded to an integer: integers add in any order.
pub const WEIGHT_BITS: u32 = 60;

pub(super) const LOW_BITS: u32 = 23 - MANTISSA_BITS;
pub(super) const LOW_MASK: u32 = (1 << LOW_BITS) - 1;
/// Keys run over sign, exponent and kept mantissa; the exponent 255 (infinity, NaN) never occurs.
pub(super) const N_KEYS: u32 = 1 << (32 - LOW_BITS);
const PAGE_BITS: u32 = 8;
const PAGE: usize = 1 << PAGE_BITS;
const N_PAGES: usize = (N_KEYS >> PAGE_BITS) as usize;
const SIGN_KEY: u32 = N_KEYS / 2;
/// Voxels taken at a time: their bit patterns stay in the nearest cache.
const CHUNK: usize = 1 << 14;

/// What one cell knows. All sums are integers, so they do not depend on the order of the voxels or of merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cell {
    /// Voxels in the cell.
    pub(super) count: u64,
    /// Sum over its voxels of the mantissa bits below the key.
    pub(super) low: u64,
    /// Sum over its voxels of their material's weight.
    pub(super) weight: u128,
}

impl Cell {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.low += other.low;
        self.weight += other.weight;
    }

    const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A fine histogram of density values, in one unit.
///
/// A cell is a float32 bit pattern cut to sign, exponent and [`MANTISSA_BITS`] mantissa bits: cells are spaced as
/// logarithms are, for both signs; denormals have cells as well and exact zero (of either sign) its own. A cell
/// holds the number of its voxels, the integer sum of the mantissa bits that were cut off (from which its mean is
/// exact) and the integer sum of its voxels' material weights. Only cells that occur take memory in a file and pages
/// of 256 cells in memory: 8 KiB each, 1 GiB in the worst case.
///
/// Everything is an integer, so a sketch of many materials equals the merged sketches of its parts to the bit,
/// whatever the number of workers and the order. The materials' names are kept, and none can enter twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    unit: Unit,
    ids: BTreeSet<String>,
    n_voxels: u64,
    range: Option<(f32, f32)>,
    zero: Cell,
    pages: Vec<Option<Box<[Cell; PAGE]>>>,
}

impl Sketch {
    /// An empty sketch for values in `unit`.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        Self {
            unit,
            ids: BTreeSet::new(),
            n_voxels: 0,
            range: None,
            zero: Cell::default(),
            pages: vec![None; N_PAGES],
        }
    }

    /// The unit of the values.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The names of the materials in it, ascending.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }

    /// The number of voxels.
    #[must_use]
    pub const fn n_voxels(&self) -> u64 {
        self.n_voxels
    }

    /// The smallest and the largest value, if there is any.
    #[must_use]
    pub const fn range(&self) -> Option<(f32, f32)> {
        self.range
    }

    /// The number of cells that occur, zero included.
    #[must_use]
    pub fn n_cells(&self) -> usize {
        self.occupied().count() + usize::from(!self.zero.is_empty())
    }

    /// The number of voxels below zero.
    #[must_use]
    pub fn n_negative(&self) -> u64 {
        self.occupied().filter(|&(key, _)| key >= SIGN_KEY).map(|(_, cell)| cell.count).sum()
    }

    /// The number of voxels that are exactly zero.
    #[must_use]
    pub const fn n_zero(&self) -> u64 {
        self.zero.count
    }

    /// The sum of all values, summed cell by cell in ascending key order.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.occupied().map(|(key, cell)| cell_mean(key, cell) * cell.count as f64).sum()
    }

    /// Adds the density of the material `id`; a value enters as `values[i] * scale`, the product taken in float64
    /// and rounded once to float32, as [`crate::grid::Density::into_unit`] does. The order of the values does not
    /// matter. A material whose density is zero everywhere weighs nothing under material weighting.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are no values, one is not finite (before or after scaling), the scale is not
    /// finite and above zero, or `id` is in the sketch already; the sketch is then unchanged.
    pub fn add(&mut self, id: &str, values: &[f32], scale: f64) -> Result<()> {
        if self.ids.contains(id) {
            return Err(twice(id));
        }
        if !(scale.is_finite() && scale > 0.0) {
            return Err(Error::invalid(format!("{id}: scale {scale} must be finite and above zero")));
        }
        let mut summary = Summary::new();
        let mut bits = Vec::with_capacity(values.len().min(CHUNK));
        for chunk in values.chunks(CHUNK) {
            to_bits(chunk, scale, &mut bits);
            summary.add(&bits);
        }
        if !summary.finite() {
            to_bits(values, scale, &mut bits);
            let index = bits.iter().position(|&b| !f32::from_bits(b).is_finite()).unwrap_or(0);
            return Err(Error::invalid(format!(
                "{id}: value {} at row-major index {index} times {scale} is not a finite float32; leave the material out",
                values[index]
            )));
        }
        let Some(range) = summary.range() else {
            return Err(Error::invalid(format!("{id}: the density has no values")));
        };
        let weight = material_weight(summary.sum(), values.len());
        let single = values.len() <= CHUNK;
        for chunk in values.chunks(CHUNK) {
            if !single {
                to_bits(chunk, scale, &mut bits);
            }
            self.accumulate(&bits, weight);
        }
        self.n_voxels += values.len() as u64;
        self.widen(range);
        self.ids.insert(id.to_owned());
        Ok(())
    }

    /// Adds values of the material `id` that do not count alike: `weights[i]` is what an error of one in `values[i]`
    /// counts for under material weighting, as `1 / sum|rho|` is in [`Self::add`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are no values, one is not finite, the lengths differ, a weight is not finite and
    /// at least zero, or their sum is above `2^35`, or `id` is in the sketch already; the sketch is then unchanged.
    pub fn add_weighted(&mut self, id: &str, values: &[f32], weights: &[f64]) -> Result<()> {
        if self.ids.contains(id) {
            return Err(twice(id));
        }
        if values.is_empty() || values.len() != weights.len() {
            return Err(Error::invalid(format!(
                "{id}: {} values with {} weights; give one weight for each of at least one value",
                values.len(),
                weights.len()
            )));
        }
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::invalid(format!(
                "{id}: value {} at index {index} is not finite; leave the material out",
                values[index]
            )));
        }
        let scaled = |weight: f64| (weight * (1_u64 << WEIGHT_BITS) as f64).round();
        let total: f64 = weights.iter().copied().map(scaled).sum();
        if !weights.iter().all(|&weight| weight >= 0.0) || total > MAX_TOTAL_WEIGHT as f64 / 2.0 {
            return Err(Error::invalid(format!(
                "{id}: weights must be at least zero and finite, and sum to less than 2^35"
            )));
        }
        for (&value, &weight) in values.iter().zip(weights) {
            let value = value + 0.0;
            self.accumulate(&[value.to_bits()], scaled(weight) as u128);
            self.widen((value, value));
        }
        self.n_voxels += values.len() as u64;
        self.ids.insert(id.to_owned());
        Ok(())
    }

    /// Adds all of `other`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the units differ or a material is in both; the sketch is then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.unit != other.unit {
            return Err(Error::invalid(format!(
                "a sketch in {} cannot take one in {}; sketch the densities again in one unit",
                self.unit, other.unit
            )));
        }
        if let Some(id) = self.ids.intersection(&other.ids).next() {
            return Err(twice(id));
        }
        let n_voxels = self.n_voxels.checked_add(other.n_voxels);
        let Some(n_voxels) = n_voxels.filter(|&n| n <= MAX_VOXELS) else {
            return Err(Error::invalid("the two sketches together hold more than 2^56 voxels"));
        };
        self.n_voxels = n_voxels;
        self.ids.extend(other.ids.iter().cloned());
        self.zero.add(other.zero);
        if let Some(range) = other.range {
            self.widen(range);
        }
        for (mine, theirs) in self.pages.iter_mut().zip(&other.pages) {
            match (mine.as_mut(), theirs) {
                (Some(mine), Some(theirs)) => mine.iter_mut().zip(theirs.iter()).for_each(|(a, &b)| a.add(b)),
                (None, Some(_)) => mine.clone_from(theirs),
                (_, None) => {}
            }
        }
        Ok(())
    }

    fn widen(&mut self, (low, high): (f32, f32)) {
        self.range = Some(self.range.map_or((low, high), |(a, b)| (a.min(low), b.max(high))));
    }

    /// Adds voxels of one material, by their bit patterns. Grid order is kind here: neighbours in space differ, so that
    /// no addition waits for the one before it. Sorting them first, or tallying a material on its own, was not faster
    /// beyond the noise of the measurement.
    fn accumulate(&mut self, bits: &[u32], weight: u128) {
        for &b in bits {
            // Exact zero shares its key with the smallest denormals.
            let cell = if b == 0 { &mut self.zero } else { self.cell_mut(b >> LOW_BITS) };
            cell.count += 1;
            cell.low += u64::from(b & LOW_MASK);
            cell.weight += weight;
        }
    }

    pub(super) fn cell_mut(&mut self, key: u32) -> &mut Cell {
        let page =
            self.pages[(key >> PAGE_BITS) as usize].get_or_insert_with(|| Box::new([Cell::default(); PAGE]));
        &mut page[key as usize % PAGE]
    }

    /// The cells that occur, exact zero left out, by ascending key (positive values, then negative ones).
    pub(super) fn occupied(&self) -> impl DoubleEndedIterator<Item = (u32, &Cell)> {
        let pages = self.pages.iter().enumerate().filter_map(|(p, page)| Some((p, page.as_ref()?)));
        pages
            .flat_map(|(p, page)| page.iter().enumerate().map(move |(c, cell)| ((p * PAGE + c) as u32, cell)))
            .filter(|(_, cell)| !cell.is_empty())
    }

    /// All cells by ascending value: the mean of the cell rounded to float32, and the cell.
    pub(super) fn ascending(&self) -> Vec<(f32, Cell)> {
        let value = |(key, cell): (u32, &Cell)| (cell_mean(key, cell) as f32, *cell);
        let split = self.occupied();
        let (positive, negative): (Vec<_>, Vec<_>) = split.partition(|&(key, _)| key < SIGN_KEY);
        let zero = (!self.zero.is_empty()).then_some((0.0, self.zero));
        negative.into_iter().rev().map(value).chain(zero).chain(positive.into_iter().map(value)).collect()
    }

    pub(super) fn each_cell_mut(&mut self, change: impl FnMut(&mut Cell)) {
        let cells = self.pages.iter_mut().flatten().flat_map(|page| page.iter_mut());
        cells.filter(|cell| !cell.is_empty()).for_each(change);
    }

    /// The keys of the smallest and the largest value, exact zero left out.
    pub(super) fn outer_keys(&self) -> Vec<u32> {
        let keys: Vec<u32> = self.occupied().map(|(key, _)| key).collect();
        let (above, below) = keys.split_at(keys.partition_point(|&key| key < SIGN_KEY));
        [below.first(), below.last(), above.first(), above.last()].into_iter().flatten().copied().collect()
    }

    pub(super) const fn set_zero(&mut self, zero: Cell) {
        self.zero = zero;
    }

    pub(super) const fn zero(&self) -> &Cell {
        &self.zero
    }

    /// A sketch from parsed parts; the reader has checked them.
    pub(super) fn from_parts(
        unit: Unit,
        ids: BTreeSet<String>,
        range: Option<(f32, f32)>,
        zero: Cell,
    ) -> Self {
        Self { ids, range, zero, n_voxels: zero.count, ..Self::new(unit) }
    }

    pub(super) fn put(&mut self, key: u32, cell: Cell) {
        self.n_voxels += cell.count;
        *self.cell_mut(key) = cell;
    }
}

/// More voxels than this could overflow the sum of cut-off mantissa bits of one cell.
pub(super) const MAX_VOXELS: u64 = 1 << 56;

/// No material weighs more than this in all, so that `u128` holds the sum over 2^32 materials.
pub(super) const MAX_TOTAL_WEIGHT: u128 = 1 << 96;

fn twice(id: &str) -> Error {
    Error::invalid(format!("material {id} is in the sketch already; give every material once"))
}

/// `2^WEIGHT_BITS / sum|rho|` as an integer, at least 1 and at most [`MAX_TOTAL_WEIGHT`] over all voxels; 0 for a
/// density that is zero everywhere.
fn material_weight(sum: f64, n_voxels: usize) -> u128 {
    if sum == 0.0 {
        return 0;
    }
    let exact = ((1_u64 << WEIGHT_BITS) as f64 / sum).round() as u128;
    exact.clamp(1, MAX_TOTAL_WEIGHT / n_voxels as u128)
}

/// The mean of the values in a cell.
pub(super) fn cell_mean(key: u32, cell: &Cell) -> f64 {
    let low = f64::from(f32::from_bits(key << LOW_BITS));
    // One unit in the last place of the cell: the next bit pattern's distance.
    let ulp = f64::from(f32::from_bits((key << LOW_BITS) + 1)) - low;
    low + ulp * (cell.low as f64 / cell.count as f64)
}

fn to_bits(values: &[f32], scale: f64, bits: &mut Vec<u32>) {
    bits.clear();
    // Adding +0 turns -0 into +0 and changes nothing else.
    if scale.to_bits() == 1_f64.to_bits() {
        bits.extend(values.iter().map(|&v| (v + 0.0).to_bits()));
    } else {
        bits.extend(values.iter().map(|&v| ((f64::from(v) * scale) as f32 + 0.0).to_bits()));
    }
}

/// Range and exact absolute sum of a material.
struct Summary {
    /// Sum of mantissas (hidden bit included) for each exponent, two tables so that equal exponents in a row do not
    /// wait for each other.
    mantissas: [[u64; 256]; 2],
    /// Smallest and largest value as integers that order like the floats.
    range: (i32, i32),
}

impl Summary {
    const fn new() -> Self {
        Self { mantissas: [[0; 256]; 2], range: (i32::MAX, i32::MIN) }
    }

    fn add(&mut self, bits: &[u32]) {
        let (low, high) = bits.iter().map(|&b| ordered(b)).fold(self.range, |(a, b), x| (a.min(x), b.max(x)));
        self.range = (low, high);
        let [even, odd] = &mut self.mantissas;
        let put = |table: &mut [u64; 256], b: u32| {
            let hidden = u32::from(b & 0x7f80_0000 != 0) << 23;
            table[(b >> 23) as usize & 0xff] += u64::from(b & 0x7f_ffff | hidden);
        };
        let (pairs, last) = bits.as_chunks::<2>();
        for &[a, b] in pairs {
            put(even, a);
            put(odd, b);
        }
        if let [b] = last {
            put(even, *b);
        }
    }

    /// No infinity or NaN was among the values: those have the exponent 255.
    const fn finite(&self) -> bool {
        self.mantissas[0][255] == 0 && self.mantissas[1][255] == 0
    }

    /// `sum |v|`: integers for each exponent, then float64 from the smallest exponent up; independent of the order.
    fn sum(&self) -> f64 {
        let [even, odd] = &self.mantissas;
        let sums = even.iter().zip(odd).map(|(&a, &b)| (a + b) as f64).enumerate();
        sums.map(|(exponent, sum)| sum * 2_f64.powi(exponent.max(1) as i32 - 150)).sum()
    }

    fn range(&self) -> Option<(f32, f32)> {
        let value = |x: i32| f32::from_bits(ordered(x as u32) as u32);
        (self.range.0 <= self.range.1).then(|| (value(self.range.0), value(self.range.1)))
    }
}

/// Bit pattern to an integer that orders like the float; its own inverse.
const fn ordered(bits: u32) -> i32 {
    (bits ^ (((bits as i32 >> 31) as u32) >> 1)) as i32
}
