//! Gaussian cube files.
//!
//! Two comment lines; the number of atoms and the origin; three lines with the number of voxels and the voxel
//! vector; the atoms; the values with z fastest. Numbers of voxels above zero mean that the lengths are in bohr,
//! below zero in angstrom; the density is in e/bohr^3 either way. A negative number of atoms announces a line with
//! the number of data sets and their names, of which one is accepted.
//! Layout: <https://gaussian.com/cubegen/>, <http://paulbourke.net/dataformats/cube/>.
//!
//! Grid point (0, 0, 0) lies at the origin of the file. A density here starts at the corner of the cell, so atoms
//! are moved by minus the origin.

use std::path::Path;

use tomat_core::grid::{Crystal, Density, Lattice, Unit};
use tomat_core::memory;

use crate::error::{Error, Result};
use crate::material::{Material, SourceFacts};
use crate::numbers::{parse_number, shorten, words};
use crate::read::{TextFormat, starts_with_numbers};
use crate::structure::fractional;
use crate::task_id::task_id;
use crate::text::{Lines, VALUE_BYTES, parse_count};

/// What the format is called.
pub const NAME: &str = "cube";

pub(crate) const FORMAT: TextFormat = TextFormat {
    files: "Gaussian cube files NAME.cube",
    suffixes: &["cube", "cub"],
    is_name: |_| false,
    // A count and a vector on lines 3 to 6.
    is_content: |text| (2..6).all(|line| starts_with_numbers(text, line, 4)),
    parse,
    needs,
};

/// The Bohr radius in angstrom, CODATA 2018.
pub const BOHR: f64 = 0.529_177_210_903;

/// Values converted at a time; small enough to stay in the cache.
const SLAB: usize = 1 << 14;

/// What stands before the values.
struct Header {
    crystal: Crystal,
    shape: [usize; 3],
}

/// Reads the text of a cube file; `path` names it in messages and gives the task id.
///
/// The density comes in [`Unit::ElectronsPerCubicAngstrom`], converted in float64 and rounded to float32 once.
///
/// # Errors
/// [`Error::Unreadable`] with the line and the remedy; [`Error::Core`] for a grid axis that is too long for the
/// token format.
pub fn parse(path: &Path, text: &[u8]) -> Result<Material> {
    let mut lines = Lines::new(path, text);
    let Header { crystal, shape } = read_header(&mut lines)?;
    let n = lines.expect_values(shape)?;
    let mut values = memory::with_room(n).map_err(|e| Error::core(path, e))?;
    let convert = |value| (value / (BOHR * BOHR * BOHR)) as f32;
    lines.density(n, SLAB, convert, |slab| values.extend_from_slice(slab))?;
    if let Some(word) = words(lines.rest()).next() {
        return Err(lines.file_error(format!(
            "{:?} follows the last value of the {shape:?} grid; the voxel counts of lines 4 to 6 do not fit the \
             data, or the file holds several data sets: write one density alone",
            shorten(word)
        )));
    }
    let density = Density::new(shape, Unit::ElectronsPerCubicAngstrom, values)
        .map_err(|e| Error::unreadable(path, e.to_string()))?;
    Ok(Material { task_id: task_id(path), density, crystal, source: SourceFacts::plain(NAME) })
}

/// The most bytes of text a file can need, from at least the part that comes before the values.
///
/// # Errors
/// As [`parse`].
pub(crate) fn needs(path: &Path, text: &[u8]) -> Result<u64> {
    let shape = read_header(&mut Lines::new(path, text))?.shape;
    Ok(text.len() as u64 + shape.iter().product::<usize>() as u64 * VALUE_BYTES)
}

fn read_header(lines: &mut Lines<'_>) -> Result<Header> {
    lines.expect_line("the first comment")?;
    lines.expect_line("the second comment")?;
    let (n_atoms, named_data_sets, origin) = read_atom_count(lines)?;
    let mut counts = [0_i64; 3];
    let mut vectors = [[0.0; 3]; 3];
    for (i, axis) in ["x", "y", "z"].into_iter().enumerate() {
        let line = lines.expect_line("the voxels along an axis")?;
        let [_, x, y, z] = lines.floats(line, &format!("the voxels along {axis}"))?;
        counts[i] = whole(lines, line, "the number of voxels")?;
        vectors[i] = [x, y, z];
    }
    let unit = if counts.iter().all(|&n| n > 0) {
        BOHR
    } else if counts.iter().all(|&n| n < 0) {
        1.0
    } else {
        return Err(lines.error(format!(
            "the voxel counts {counts:?} must all be above zero (lengths in bohr) or all below (angstrom)"
        )));
    };
    let shape = counts.map(|n| usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX));
    lines.grid_points(shape)?;
    let matrix = std::array::from_fn(|i| vectors[i].map(|x| x * shape[i] as f64 * unit));
    let lattice = Lattice::from_matrix(matrix).map_err(|e| lines.error(e.to_string()))?;
    let crystal = read_atoms(lines, lattice, n_atoms, origin, unit)?;
    if named_data_sets {
        read_data_set_names(lines)?;
    }
    Ok(Header { crystal, shape })
}

/// The number of atoms, whether names of data sets follow them, and the origin in the unit of the file.
fn read_atom_count(lines: &mut Lines<'_>) -> Result<(usize, bool, [f64; 3])> {
    let line = lines.expect_line("the number of atoms and the origin")?;
    let [_, x, y, z] = lines.floats(line, "the number of atoms and the origin")?;
    let signed = whole(lines, line, "the number of atoms")?;
    if let Some(word) = words(line).nth(4)
        && parse_count(word) != Some(1)
    {
        return Err(lines.error(format!(
            "the file holds {:?} values a voxel; write the density alone, one value a voxel",
            shorten(word)
        )));
    }
    // The shortest line of an atom is `1 0 0 0 0` and a line end.
    let n_atoms = usize::try_from(signed.unsigned_abs()).ok().filter(|&n| n <= lines.rest().len() / 10);
    let n_atoms = n_atoms.ok_or_else(|| {
        lines.error(format!(
            "{signed} atoms do not fit the {} bytes that follow; the file is cut off",
            lines.rest().len()
        ))
    })?;
    Ok((n_atoms, signed < 0, [x, y, z]))
}

fn read_atoms(
    lines: &mut Lines<'_>,
    lattice: Lattice,
    n_atoms: usize,
    origin: [f64; 3],
    unit: f64,
) -> Result<Crystal> {
    let mut atomic_numbers = Vec::with_capacity(n_atoms);
    let mut positions = Vec::with_capacity(n_atoms);
    for i in 0..n_atoms {
        let line = lines.expect_line("an atom")?;
        let what = format!("atom {} of {n_atoms} (number, charge, x, y, z)", i + 1);
        let [_, _charge, x, y, z] = lines.floats(line, &what)?;
        let number = whole(lines, line, "the atomic number")?;
        let number = u8::try_from(number).ok().filter(|z| (1..=118).contains(z)).ok_or_else(|| {
            lines.error(format!("atomic number {number} is not an element; 1 (H) to 118 (Og) can be written"))
        })?;
        atomic_numbers.push(number);
        let position = [(x - origin[0]) * unit, (y - origin[1]) * unit, (z - origin[2]) * unit];
        positions.push(fractional(&lattice, position));
    }
    Crystal::new(lattice, atomic_numbers, positions).map_err(|e| lines.file_error(e.to_string()))
}

/// The number of data sets and their names, over as many lines as they need; there must be one.
fn read_data_set_names(lines: &mut Lines<'_>) -> Result<()> {
    let line = lines.expect_filled_line("the number of data sets")?;
    let mut words = words(line);
    if words.next().and_then(parse_count) != Some(1) {
        return Err(lines.error(format!(
            "the data sets are {:?}; write the density alone, one data set a file",
            shorten(line)
        )));
    }
    if words.next().is_none() {
        lines.expect_filled_line("the name of the data set")?;
    }
    Ok(())
}

/// The first word of a line as a whole number.
fn whole(lines: &Lines<'_>, line: &[u8], what: &str) -> Result<i64> {
    let word = words(line).next().unwrap_or_default();
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
    number.ok_or_else(|| {
        let hint = if parse_number(word).is_some() { "" } else { ", which is no number" };
        lines.error(format!("{what} must be a whole number, not {:?}{hint}", shorten(word)))
    })
}
