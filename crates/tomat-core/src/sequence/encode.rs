//! Rows out: the sequence of each patch, padded on the right.

use std::ops::Range;

use super::{Block, Frame, MaterialView, Tokenizer};
use crate::error::{Error, Result};
use crate::grid::{
    Crystal, Density, LatticeParameters, Real, check_atoms, check_grid, check_values, no_atoms,
};
use crate::memory;
use crate::patch::{check_offset, for_each_run, frame_of, into_frame, wrap_unit};
use crate::vocabulary::{N_INTS, Special};

/// Bin widths of the LATTICE block.
pub(super) const LENGTH_BIN: f64 = 0.05;
pub(super) const ANGLE_BIN: f64 = 0.2;

/// The names and units of the six lattice parameters, for messages.
const PARAMETERS: [(&str, &str); 6] = [
    ("a", "angstrom"),
    ("b", "angstrom"),
    ("c", "angstrom"),
    ("alpha", "degrees"),
    ("beta", "degrees"),
    ("gamma", "degrees"),
];

impl Tokenizer {
    /// Writes one row of `pad_to` tokens a patch: the patch at each offset, right-padded with `[PAD]`.
    ///
    /// The values are checked once a call, and each voxel is quantised once where patches overlap so much that this
    /// is less work than quantising patch by patch; the rows are the same either way.
    ///
    /// # Errors
    /// [`Error::Invalid`] for arrays that do not fit together, values that are not finite and offsets outside the
    /// grid; [`Error::GridAxis`], [`Error::LatticeOutOfRange`] and [`Error::Overflow`] for materials the layout cannot
    /// write. Nothing has been written to `out` then.
    pub fn encode<T: Real>(
        &self,
        material: &MaterialView<'_, T>,
        offsets: &[[usize; 3]],
        out: &mut [i32],
    ) -> Result<()> {
        check_values(material.grid_shape, material.density)?;
        self.encode_finite(material, offsets, out)
    }

    /// As [`Self::encode`], for a density that was checked when it was made.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_density(
        &self,
        density: &Density,
        crystal: &Crystal,
        offsets: &[[usize; 3]],
        out: &mut [i32],
    ) -> Result<()> {
        self.encode_finite(&self.view(density, crystal)?, offsets, out)
    }

    /// The rows of [`Self::encode_density`] one at a time, for a caller that is done with each before the next.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn rows<'a>(
        &'a self,
        density: &'a Density,
        crystal: &'a Crystal,
        offsets: &'a [[usize; 3]],
    ) -> Result<PatchRows<'a>> {
        let writer = self.writer(self.view(density, crystal)?, offsets)?;
        Ok(PatchRows { writer, offsets, row: memory::filled(self.pad_to, 0)? })
    }

    fn view<'a>(&self, density: &'a Density, crystal: &'a Crystal) -> Result<MaterialView<'a, f32>> {
        if density.unit() != self.unit {
            return Err(Error::invalid(format!(
                "the density is in {}, the tokenizer writes {}; convert it first",
                density.unit(),
                self.unit
            )));
        }
        Ok(MaterialView {
            grid_shape: density.shape(),
            density: density.values(),
            lattice: crystal.lattice.parameters(),
            atomic_numbers: &crystal.atomic_numbers,
            frac_coords: &crystal.frac_coords,
        })
    }

    /// Encodes a density known to fit its grid, every value finite.
    fn encode_finite<T: Real>(
        &self,
        material: &MaterialView<'_, T>,
        offsets: &[[usize; 3]],
        out: &mut [i32],
    ) -> Result<()> {
        let mut writer = self.writer(*material, offsets)?;
        if out.len() != offsets.len() * self.pad_to {
            return Err(Error::invalid(format!(
                "{} rows of {} tokens need {} places, not {}",
                offsets.len(),
                self.pad_to,
                offsets.len() * self.pad_to,
                out.len()
            )));
        }
        for (&offset, row) in offsets.iter().zip(out.chunks_exact_mut(self.pad_to)) {
            writer.write(offset, row);
        }
        Ok(())
    }

    /// Writes the rows at `offsets` of a density known to fit its grid, every value finite.
    fn writer<'a, T: Real>(
        &'a self,
        material: MaterialView<'a, T>,
        offsets: &[[usize; 3]],
    ) -> Result<RowWriter<'a, T>> {
        check_grid(material.grid_shape)?;
        check_atoms(material.atomic_numbers, material.frac_coords)?;
        for &offset in offsets {
            check_offset(material.grid_shape, offset)?;
        }
        let (shape, is_fallback) = self.shape_for(material.atomic_numbers.len())?;
        Ok(RowWriter {
            tokenizer: self,
            material,
            shape,
            blocks: self.blocks(is_fallback),
            lattice_bins: self.lattice_bins(&material.lattice)?,
            voxels: Voxels::new(self, &material, shape, offsets.len())?,
        })
    }

    /// Writes the sequence of one patch at the start of `row`, without padding, for values known to be finite: those
    /// outside the patch are not looked at.
    ///
    /// # Errors
    /// As [`Self::encode`], but for values that are not finite; [`Error::Invalid`] where `row` is too short.
    pub fn encode_patch<T: Real>(
        &self,
        material: &MaterialView<'_, T>,
        offset: [usize; 3],
        row: &mut [i32],
    ) -> Result<Span> {
        check_grid(material.grid_shape)?;
        check_offset(material.grid_shape, offset)?;
        let points: usize = material.grid_shape.iter().product();
        if material.density.len() != points || material.atomic_numbers.len() != material.frac_coords.len() {
            return Err(Error::invalid(format!(
                "{} values for the grid {:?}, {} atomic numbers for {} positions",
                material.density.len(),
                material.grid_shape,
                material.atomic_numbers.len(),
                material.frac_coords.len()
            )));
        }
        let (shape, is_fallback) = self.shape_for(material.atomic_numbers.len())?;
        let length = self.length_of(material.atomic_numbers.len(), shape, is_fallback);
        let Some(row) = row.get_mut(..length) else {
            return Err(Error::invalid(format!(
                "the sequence has {length} tokens, but {} places are left in its row",
                row.len()
            )));
        };
        let mut writer = RowWriter {
            tokenizer: self,
            material: *material,
            shape,
            blocks: self.blocks(is_fallback),
            lattice_bins: self.lattice_bins(&material.lattice)?,
            voxels: Voxels::OnTheFly(memory::filled(shape.iter().product(), T::from(0.0_f32))?),
        };
        writer.write(offset, row);
        let tokens = shape.iter().product::<usize>() * self.vocabulary.density_bases().len();
        Ok(Span { length, density: length - 2 - tokens..length - 2, shape })
    }

    /// The blocks of a sequence.
    fn blocks(&self, is_fallback: bool) -> Vec<Block> {
        let written = |block: &Block| *block != Block::Shape || self.writes_shape(is_fallback);
        self.layout.blocks.iter().copied().filter(written).collect()
    }

    /// The bins of the LATTICE block; empty where the layout has none.
    fn lattice_bins(&self, lattice: &LatticeParameters) -> Result<Vec<usize>> {
        if !self.layout.blocks.contains(&Block::Lattice) {
            return Ok(Vec::new());
        }
        let widths = [LENGTH_BIN, LENGTH_BIN, LENGTH_BIN, ANGLE_BIN, ANGLE_BIN, ANGLE_BIN];
        let parameters = lattice.to_array().into_iter().zip(widths).zip(PARAMETERS);
        parameters
            .map(|((value, width), (name, unit))| {
                let bin = (value / width).round_ties_even();
                if bin >= 0.0 && bin < N_INTS as f64 {
                    Ok(bin as usize)
                } else {
                    Err(Error::LatticeOutOfRange { name, value, unit, bin })
                }
            })
            .collect()
    }

    /// Checks that a material can be written at all, without its density: grid, lattice where it is known, and length.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn check(
        &self,
        grid_shape: [usize; 3],
        lattice: Option<&LatticeParameters>,
        n_atoms: usize,
    ) -> Result<()> {
        check_grid(grid_shape)?;
        if n_atoms == 0 {
            return Err(no_atoms());
        }
        if let Some(lattice) = lattice {
            self.lattice_bins(lattice)?;
        }
        self.shape_for(n_atoms)?;
        Ok(())
    }
}

/// Where the parts of a sequence are, counted from its `[BOS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Tokens from `[BOS]` to `[EOS]`.
    pub length: usize,
    /// The tokens of the voxels.
    pub density: Range<usize>,
    /// The shape of the patch.
    pub shape: [usize; 3],
}

/// Rows of one material, see [`Tokenizer::rows`].
pub struct PatchRows<'a> {
    writer: RowWriter<'a, f32>,
    offsets: &'a [[usize; 3]],
    row: Vec<i32>,
}

impl PatchRows<'_> {
    /// How many rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.offsets.len()
    }

    /// The row at `offsets[index]`: the sequence and its padding.
    ///
    /// # Panics
    /// Where there is no such offset.
    pub fn row(&mut self, index: usize) -> &[i32] {
        self.writer.write(self.offsets[index], &mut self.row);
        &self.row
    }
}

/// The tokens of the voxels: of the whole grid, or made patch by patch. Cutting a patch out first costs little, and
/// lookups go fastest over many values at once.
enum Voxels<T> {
    OnTheFly(Vec<T>),
    Quantised(Vec<i32>),
}

impl<T: Real> Voxels<T> {
    fn new(
        tokenizer: &Tokenizer,
        material: &MaterialView<'_, T>,
        shape: [usize; 3],
        n: usize,
    ) -> Result<Self> {
        let codec = tokenizer.vocabulary.density_codec();
        let patch = shape.iter().product();
        if n.saturating_mul(patch) <= material.density.len() {
            return Ok(Self::OnTheFly(memory::filled(patch, T::from(0.0_f32))?));
        }
        let mut tokens = memory::filled(material.density.len() * codec.components(), 0)?;
        codec.encode_checked(material.density, tokenizer.vocabulary.density_bases(), &mut tokens);
        Ok(Self::Quantised(tokens))
    }
}

struct RowWriter<'a, T> {
    tokenizer: &'a Tokenizer,
    material: MaterialView<'a, T>,
    shape: [usize; 3],
    blocks: Vec<Block>,
    lattice_bins: Vec<usize>,
    voxels: Voxels<T>,
}

/// Appends to a row whose length `shape_for` has checked.
struct Cursor<'a> {
    row: &'a mut [i32],
    at: usize,
}

impl Cursor<'_> {
    fn push(&mut self, id: i32) {
        self.row[self.at] = id;
        self.at += 1;
    }

    fn take(&mut self, n: usize) -> &mut [i32] {
        self.at += n;
        &mut self.row[self.at - n..self.at]
    }
}

impl<T: Real> RowWriter<'_, T> {
    fn write(&mut self, offset: [usize; 3], row: &mut [i32]) {
        let mut cursor = Cursor { row, at: 0 };
        cursor.push(Special::Bos.id());
        for i in 0..self.blocks.len() {
            let block = self.blocks[i];
            let (start, end) = block.specials();
            cursor.push(start.id());
            self.write_block(block, offset, &mut cursor);
            cursor.push(end.id());
        }
        cursor.push(Special::Eos.id());
        let end = cursor.at;
        row[end..].fill(Special::Pad.id());
    }

    fn write_block(&mut self, block: Block, offset: [usize; 3], cursor: &mut Cursor<'_>) {
        let vocabulary = &self.tokenizer.vocabulary;
        let grid = self.material.grid_shape;
        match block {
            Block::Grid => self.write_ints(&grid, cursor),
            Block::Lattice => self.write_ints(&self.lattice_bins, cursor),
            Block::Atoms => {
                for &z in self.material.atomic_numbers {
                    cursor.push(vocabulary.atom(z));
                }
            }
            Block::Pos => self.write_positions(offset, cursor),
            Block::Shape => self.write_ints(&self.shape, cursor),
            Block::Offset => self.write_ints(&offset, cursor),
            Block::Hi => self.write_ints(&high_corner(grid, self.shape, offset), cursor),
            Block::Dens => self.write_voxels(offset, cursor),
        }
    }

    fn write_ints(&self, values: &[usize], cursor: &mut Cursor<'_>) {
        for &value in values {
            cursor.push(self.tokenizer.vocabulary.int(value));
        }
    }

    fn write_positions(&self, offset: [usize; 3], cursor: &mut Cursor<'_>) {
        let vocabulary = &self.tokenizer.vocabulary;
        let bases = vocabulary.position_bases();
        let frame = self.tokenizer.layout.frame;
        let corner = frame_of(self.material.grid_shape, offset);
        for frac in self.material.frac_coords {
            for (&coordinate, corner) in frac.iter().zip(corner) {
                let coordinate = match frame {
                    Frame::Cell => wrap_unit(coordinate),
                    Frame::Patch => into_frame(coordinate, corner),
                };
                vocabulary.position_codec().encode_value(coordinate, bases, cursor.take(bases.len()));
            }
        }
    }

    fn write_voxels(&mut self, offset: [usize; 3], cursor: &mut Cursor<'_>) {
        let vocabulary = &self.tokenizer.vocabulary;
        let codec = vocabulary.density_codec();
        let k = codec.components();
        match &mut self.voxels {
            Voxels::Quantised(tokens) => {
                for_each_run(self.material.grid_shape, self.shape, offset, |run| {
                    cursor.take(run.len() * k).copy_from_slice(&tokens[run.start * k..run.end * k]);
                });
            }
            Voxels::OnTheFly(patch) => {
                let mut left = patch.as_mut_slice();
                for_each_run(self.material.grid_shape, self.shape, offset, |run| {
                    let (places, behind) = std::mem::take(&mut left).split_at_mut(run.len());
                    copy_run(&self.material.density[run], places);
                    left = behind;
                });
                codec.encode_checked(patch, vocabulary.density_bases(), cursor.take(patch.len() * k));
            }
        }
    }
}

/// Copies a run. Most have the length of a patch's edge: two vectors, which may overlap, and no call.
fn copy_run<T: Real>(run: &[T], places: &mut [T]) {
    const VECTOR: usize = 16;
    if run.len() <= 2 * VECTOR
        && let (Some(first), Some(last)) = (run.first_chunk::<VECTOR>(), run.last_chunk::<VECTOR>())
    {
        if let Some(place) = places.first_chunk_mut() {
            *place = *first;
        }
        if let Some(place) = places.last_chunk_mut() {
            *place = *last;
        }
        return;
    }
    places.copy_from_slice(run);
}

/// `(offset + shape - 1) mod grid`.
pub(super) fn high_corner(grid: [usize; 3], shape: [usize; 3], offset: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|axis| (offset[axis] + shape[axis] - 1) % grid[axis])
}
