//! Sequences: the layouts as one table, and the tokenizer that writes and reads rows by it.

mod decode;
mod encode;
pub(crate) mod reader;

pub use encode::{PatchRows, Span};

use crate::codec::DensityCodec;
use crate::error::{Error, Result};
use crate::grid::{LatticeParameters, Unit};
use crate::vocabulary::{Special, Vocabulary, VocabularyKind};

/// A block of a sequence: what stands between its own pair of specials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Grid points along x, y, z.
    Grid,
    /// Cell lengths and angles in bins of 0.05 angstrom and 0.2 degrees.
    Lattice,
    /// One token an atom.
    Atoms,
    /// The coordinates of each atom.
    Pos,
    /// The shape of the patch.
    Shape,
    /// The low corner of the patch.
    Offset,
    /// The high corner of the patch.
    Hi,
    /// The voxels of the patch.
    Dens,
}

impl Block {
    /// The name in messages and docs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grid => "GRID",
            Self::Lattice => "LATTICE",
            Self::Atoms => "ATOMS",
            Self::Pos => "POS",
            Self::Shape => "SHAPE",
            Self::Offset => "OFFSET",
            Self::Hi => "HI",
            Self::Dens => "DENS",
        }
    }

    /// The specials that open and close it.
    #[must_use]
    pub const fn specials(self) -> (Special, Special) {
        match self {
            Self::Grid => (Special::GridStart, Special::GridEnd),
            Self::Lattice => (Special::LatticeStart, Special::LatticeEnd),
            Self::Atoms => (Special::AtomsStart, Special::AtomsEnd),
            Self::Pos => (Special::PosStart, Special::PosEnd),
            Self::Shape => (Special::ShapeStart, Special::ShapeEnd),
            Self::Offset => (Special::OffsetStart, Special::OffsetEnd),
            Self::Hi => (Special::HiStart, Special::HiEnd),
            Self::Dens => (Special::DensStart, Special::DensEnd),
        }
    }
}

/// When a layout writes its SHAPE block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShapeBlock {
    /// In every sequence.
    Always,
    /// Only where the patch is not the default cube.
    Fallback,
}

/// The frame that atom positions are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The cell: `frac mod 1`.
    Cell,
    /// The patch: `((frac mod 1) - offset/grid) mod 1`.
    Patch,
}

/// A layout: one row of [`LAYOUTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The label in the field.
    pub name: &'static str,
    /// The specials it needs.
    pub vocabulary: VocabularyKind,
    /// Its blocks, between `[BOS]` and `[EOS]`.
    pub blocks: &'static [Block],
    /// When SHAPE is written.
    pub shape_block: ShapeBlock,
    /// The frame of the positions.
    pub frame: Frame,
    /// The density codec that goes with it where none is named.
    pub default_codec: &'static str,
    /// The default edge of the patch, in grid points.
    pub patch_size: usize,
    /// The default number of patches a material.
    pub patches_per_material: usize,
}

const CELL_BLOCKS: &[Block] =
    &[Block::Grid, Block::Atoms, Block::Pos, Block::Shape, Block::Offset, Block::Hi, Block::Dens];

/// All layouts. A new one is a new row here and a golden file.
pub const LAYOUTS: [Layout; 4] = [
    Layout {
        name: "v1",
        vocabulary: VocabularyKind::Legacy,
        blocks: CELL_BLOCKS,
        shape_block: ShapeBlock::Always,
        frame: Frame::Cell,
        default_codec: "two_token_9_12",
        patch_size: 14,
        patches_per_material: 32,
    },
    Layout {
        name: "v2",
        vocabulary: VocabularyKind::Legacy,
        blocks: CELL_BLOCKS,
        shape_block: ShapeBlock::Always,
        frame: Frame::Cell,
        default_codec: "l1-16k-e_per_A3-1e4",
        patch_size: 14,
        patches_per_material: 32,
    },
    Layout {
        name: "v2-lat",
        vocabulary: VocabularyKind::Lattice,
        blocks: &[
            Block::Grid,
            Block::Lattice,
            Block::Atoms,
            Block::Pos,
            Block::Shape,
            Block::Offset,
            Block::Hi,
            Block::Dens,
        ],
        shape_block: ShapeBlock::Always,
        frame: Frame::Cell,
        default_codec: "l1-16k-e_per_A3-1e4",
        patch_size: 14,
        patches_per_material: 32,
    },
    Layout {
        name: "v3",
        vocabulary: VocabularyKind::Lattice,
        blocks: &[Block::Grid, Block::Lattice, Block::Atoms, Block::Pos, Block::Shape, Block::Dens],
        shape_block: ShapeBlock::Fallback,
        frame: Frame::Patch,
        default_codec: "l1-16k-e_per_A3-1e4",
        patch_size: 19,
        patches_per_material: 64,
    },
];

/// The default length of a row.
pub const PAD_TO: usize = 8192;

/// The default fallback list.
pub const FALLBACK_SHAPES: [[usize; 3]; 1] = [[18, 19, 19]];

/// The largest row, in tokens, and so the largest patch, in voxels, that is believed.
const MAX_ROW: usize = 1 << 24;

impl Layout {
    /// The layout of a name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the names that exist.
    pub fn named(name: &str) -> Result<&'static Self> {
        LAYOUTS.iter().find(|layout| layout.name == name).ok_or_else(|| Error::Unknown {
            what: "layout",
            name: name.to_owned(),
            known: LAYOUTS.map(|layout| layout.name).join(", "),
        })
    }
}

/// Writes and reads rows of one layout with one density codec.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    layout: &'static Layout,
    vocabulary: Vocabulary,
    unit: Unit,
    patch_size: usize,
    pad_to: usize,
    fallback_shapes: Vec<[usize; 3]>,
}

/// A decoded sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// Points of the whole grid along x, y, z.
    pub grid_shape: [usize; 3],
    /// Bin values of the cell (multiples of 0.05 angstrom and 0.2 degrees), where the layout writes them.
    pub lattice: Option<[f64; 6]>,
    /// Atomic numbers.
    pub atomic_numbers: Vec<u8>,
    /// Fractional coordinates in the layout's frame.
    pub frac_coords: Vec<[f64; 3]>,
    /// The shape of the patch.
    pub patch_shape: [usize; 3],
    /// The low corner of the patch, where the layout writes it.
    pub offset: Option<[usize; 3]>,
    /// Density values, row-major over `patch_shape`.
    pub density: Vec<f64>,
}

/// A material as the tokenizer takes it: arrays by reference, checked at each call.
#[derive(Debug, Clone, Copy)]
pub struct MaterialView<'a, T> {
    /// Grid points along x, y, z.
    pub grid_shape: [usize; 3],
    /// Density, row-major, in the unit of the tokenizer.
    pub density: &'a [T],
    /// The cell.
    pub lattice: LatticeParameters,
    /// Atomic numbers.
    pub atomic_numbers: &'a [u8],
    /// Fractional coordinates.
    pub frac_coords: &'a [[f64; 3]],
}

impl Tokenizer {
    /// A tokenizer. `patch_size` defaults to the layout's; the unit is that of the codec, or [`Unit::Chgcar`] where the
    /// codec has none (see [`Tokenizer::in_unit`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] when a patch axis is outside 1 to 1023, or `pad_to` is zero or beyond reason.
    pub fn new(
        layout: &'static Layout,
        density_codec: DensityCodec,
        patch_size: Option<usize>,
        pad_to: usize,
        fallback_shapes: Vec<[usize; 3]>,
    ) -> Result<Self> {
        let unit = density_codec.unit_for(None)?;
        let vocabulary = Vocabulary::new(layout.vocabulary, density_codec)?;
        let patch_size = patch_size.unwrap_or(layout.patch_size);
        if pad_to == 0 || pad_to > MAX_ROW {
            return Err(Error::invalid(format!("pad_to = {pad_to} must be between 1 and {MAX_ROW} tokens")));
        }
        for shape in fallback_shapes.iter().copied().chain([[patch_size; 3]]) {
            check_patch_shape(shape)?;
        }
        Ok(Self { layout, vocabulary, unit, patch_size, pad_to, fallback_shapes })
    }

    /// The same tokenizer for densities in `unit`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the codec was made for another unit.
    pub fn in_unit(self, unit: Unit) -> Result<Self> {
        Ok(Self { unit: self.vocabulary.density_codec().unit_for(Some(unit))?, ..self })
    }

    /// The unit of the densities it writes and reads: every other place asks here.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The layout.
    #[must_use]
    pub const fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// The vocabulary.
    #[must_use]
    pub const fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The edge of the default patch.
    #[must_use]
    pub const fn patch_size(&self) -> usize {
        self.patch_size
    }

    /// The length of a row.
    #[must_use]
    pub const fn pad_to(&self) -> usize {
        self.pad_to
    }

    /// The shapes tried, in order, where the default cube does not fit.
    #[must_use]
    pub fn fallback_shapes(&self) -> &[[usize; 3]] {
        &self.fallback_shapes
    }

    const fn cube(&self) -> [usize; 3] {
        [self.patch_size; 3]
    }

    fn writes_shape(&self, is_fallback: bool) -> bool {
        is_fallback || self.layout.shape_block == ShapeBlock::Always
    }

    /// Tokens of a sequence from `[BOS]` to `[EOS]`: of the default cube where `shape` is `None`, of a fallback
    /// patch (which v3 marks by its SHAPE block) where it is another shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a patch axis is outside 1 to 1023 or the numbers are beyond reason.
    pub fn length(&self, n_atoms: usize, shape: Option<[usize; 3]>) -> Result<usize> {
        let shape = shape.unwrap_or(self.cube());
        check_patch_shape(shape)?;
        if n_atoms > MAX_ROW {
            return Err(Error::invalid(format!("{n_atoms} atoms are more than any row can hold")));
        }
        Ok(self.length_of(n_atoms, shape, shape != self.cube()))
    }

    fn length_of(&self, n_atoms: usize, shape: [usize; 3], is_fallback: bool) -> usize {
        let inside = |block: &Block| match block {
            Block::Grid | Block::Shape | Block::Offset | Block::Hi => 3,
            Block::Lattice => 6,
            Block::Atoms => n_atoms,
            Block::Pos => n_atoms * 3 * self.vocabulary.position_bases().len(),
            Block::Dens => shape.iter().product::<usize>() * self.vocabulary.density_bases().len(),
        };
        let blocks =
            self.layout.blocks.iter().filter(|b| **b != Block::Shape || self.writes_shape(is_fallback));
        2 + blocks.map(|block| inside(block) + 2).sum::<usize>()
    }

    /// The patch shape for a number of atoms: the default cube, or the first fallback that fits `pad_to`. The flag
    /// says whether it is a fallback.
    ///
    /// # Errors
    /// [`Error::Overflow`] when none fits.
    pub fn shape_for(&self, n_atoms: usize) -> Result<([usize; 3], bool)> {
        let mut smallest = (usize::MAX, self.cube());
        let candidates = std::iter::once((self.cube(), false))
            .chain(self.fallback_shapes.iter().map(|&shape| (shape, true)));
        for (shape, is_fallback) in candidates {
            let tokens = self.length_of(n_atoms.min(MAX_ROW), shape, is_fallback);
            if tokens <= self.pad_to {
                return Ok((shape, is_fallback));
            }
            smallest = smallest.min((tokens, shape));
        }
        Err(Error::Overflow { n_atoms, shape: smallest.1, tokens: smallest.0, pad_to: self.pad_to })
    }
}

fn check_patch_shape(shape: [usize; 3]) -> Result<()> {
    if shape.iter().any(|n| !(1..=1023).contains(n)) || shape.iter().product::<usize>() > MAX_ROW {
        return Err(Error::invalid(format!(
            "a patch of shape {shape:?} cannot be written; give three numbers from 1 to 1023 with at most {MAX_ROW} voxels"
        )));
    }
    Ok(())
}
