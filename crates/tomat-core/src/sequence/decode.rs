//! Rows in: a sequence is read block by block, and refused where it is not one.

use super::encode::{ANGLE_BIN, LENGTH_BIN, high_corner};
use super::reader::Reader;
use super::{Block, Patch, ShapeBlock, Tokenizer};
use crate::error::Result;
use crate::vocabulary::{Special, Vocabulary};

impl Tokenizer {
    /// Reads a row: the sequence, and only `[PAD]` after it. v3 is accepted with or without SHAPE; without it the
    /// patch must be the default cube.
    ///
    /// # Errors
    /// [`Error::Sequence`] with the block and the position, for a missing or unordered block, a wrong count, an id
    /// outside its region, or corners that contradict each other.
    pub fn decode(&self, ids: &[i32]) -> Result<Patch> {
        let mut reader = Reader { vocabulary: &self.vocabulary, ids, at: 0, block: "BOS" };
        reader.special(Special::Bos)?;
        let mut parts = Parts::default();
        for &block in self.layout.blocks {
            let (start, end) = block.specials();
            let optional = block == Block::Shape && self.layout.shape_block == ShapeBlock::Fallback;
            if optional && reader.peek() != Some(start.id()) {
                continue;
            }
            reader.block = block.name();
            reader.special(start)?;
            self.read_block(block, &mut reader, &mut parts)?;
            reader.special(end)?;
        }
        reader.block = "EOS";
        reader.special(Special::Eos)?;
        reader.block = "PAD";
        while reader.at < ids.len() {
            reader.special(Special::Pad)?;
        }
        Ok(Patch {
            grid_shape: parts.grid,
            lattice: parts.lattice,
            atomic_numbers: parts.atoms,
            frac_coords: parts.positions,
            patch_shape: parts.shape.unwrap_or(self.cube()),
            offset: parts.offset,
            density: parts.density,
        })
    }

    fn read_block(&self, block: Block, reader: &mut Reader<'_, Vocabulary>, parts: &mut Parts) -> Result<()> {
        match block {
            Block::Grid => parts.grid = reader.sizes()?,
            Block::Shape => parts.shape = Some(reader.sizes()?),
            Block::Lattice => {
                let bins: [usize; 6] = reader.ints()?;
                parts.lattice = Some(std::array::from_fn(|i| {
                    bins[i] as f64 * if i < 3 { LENGTH_BIN } else { ANGLE_BIN }
                }));
            }
            Block::Atoms => parts.atoms = reader.atoms()?,
            Block::Pos => parts.positions = reader.positions(parts.atoms.len())?,
            Block::Offset => {
                let at = reader.at;
                let offset: [usize; 3] = reader.ints()?;
                if offset.iter().zip(parts.grid).any(|(&o, n)| o >= n) {
                    return Err(
                        reader.error(at, format!("offset {offset:?} lies outside the grid {:?}", parts.grid))
                    );
                }
                parts.offset = Some(offset);
            }
            Block::Hi => {
                let at = reader.at;
                let hi: [usize; 3] = reader.ints()?;
                let (shape, offset) = (parts.shape.unwrap_or(self.cube()), parts.offset.unwrap_or_default());
                let expected = high_corner(parts.grid, shape, offset);
                if hi != expected {
                    let problem = format!(
                        "the high corner is {hi:?}, but offset {offset:?} and shape {shape:?} on the grid {:?} end at {expected:?}",
                        parts.grid
                    );
                    return Err(reader.error(at, problem));
                }
            }
            Block::Dens => {
                let shape = parts.shape.unwrap_or(self.cube());
                parts.density = reader.voxels(shape)?;
            }
        }
        Ok(())
    }

    /// The sequence in printed form, one name a token, trailing padding left out.
    ///
    /// # Errors
    /// [`Error::Index`] for an id outside the vocabulary.
    pub fn show(&self, ids: &[i32]) -> Result<Vec<String>> {
        let end = ids.iter().rposition(|&id| id != Special::Pad.id()).map_or(0, |last| last + 1);
        ids[..end].iter().map(|&id| self.vocabulary.name(id)).collect()
    }
}

#[derive(Default)]
struct Parts {
    grid: [usize; 3],
    lattice: Option<[f64; 6]>,
    atoms: Vec<u8>,
    positions: Vec<[f64; 3]>,
    shape: Option<[usize; 3]>,
    offset: Option<[usize; 3]>,
    density: Vec<f64>,
}

impl Reader<'_, Vocabulary> {
    fn positions(&mut self, n_atoms: usize) -> Result<Vec<[f64; 3]>> {
        let codec = self.vocabulary.position_codec();
        let (bases, sizes) = (self.vocabulary.position_bases(), codec.sizes());
        let start = self.at;
        let ids = self.take(n_atoms * 3 * bases.len(), "positions")?;
        let words = self.components(start, ids, bases, sizes, "p")?;
        let coordinates: Vec<f64> =
            words.chunks_exact(bases.len()).map(|word| codec.decode_word(word)).collect();
        Ok(coordinates.chunks_exact(3).map(|xyz| [xyz[0], xyz[1], xyz[2]]).collect())
    }

    fn voxels(&mut self, shape: [usize; 3]) -> Result<Vec<f64>> {
        let codec = self.vocabulary.density_codec();
        let (bases, sizes) = (self.vocabulary.density_bases(), codec.sizes());
        let start = self.at;
        let voxels: usize = shape.iter().product();
        let ids = self.take(voxels * bases.len(), "densities")?;
        let words = self.components(start, ids, bases, sizes, "d")?;
        Ok(words.chunks_exact(bases.len()).map(|word| codec.decode_word(word)).collect())
    }

    /// Component values of ids that must lie in the range of their component.
    fn components(
        &self,
        start: usize,
        ids: &[i32],
        bases: &[i32],
        sizes: &[usize],
        letter: &str,
    ) -> Result<Vec<i32>> {
        let k = bases.len();
        let mut values = Vec::with_capacity(ids.len());
        for (i, &id) in ids.iter().enumerate() {
            let value = i64::from(id) - i64::from(bases[i % k]);
            if value < 0 || value >= sizes[i % k] as i64 {
                let first = bases[i % k] - bases[0];
                let last = first + sizes[i % k] as i32 - 1;
                return Err(self.wrong(start + i, &format!("{letter}{first} to {letter}{last}")));
            }
            values.push(value as i32);
        }
        Ok(values)
    }
}
