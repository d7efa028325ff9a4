//! VASP densities: CHGCAR, CHG, AECCAR0, AECCAR1, AECCAR2.
//!
//! The file holds a POSCAR, a line with the grid, and `nx * ny * nz` values of `rho * V_cell` in electrons with the
//! FIRST axis fastest. PAW augmentation occupancies may follow, and the magnetisation: one more density (collinear
//! spin) or three (non-collinear), each with its own grid line and occupancies. Only the total density is used;
//! what follows is checked for being there.
//! Layout: <https://www.vasp.at/wiki/index.php/CHGCAR>.

mod header;
mod tail;
mod transpose;

use std::path::Path;

use tomat_core::grid::{Density, Unit};

use crate::error::{Error, Result};
use crate::material::Material;
use crate::read::{TextFormat, starts_with_numbers};
use crate::task_id::task_id;
use crate::text::{Lines, VALUE_BYTES};

/// What the format is called.
pub const NAME: &str = "chgcar";

pub(crate) const FORMAT: TextFormat = TextFormat {
    files: "VASP files CHGCAR, CHG, AECCAR0, NAME.CHGCAR or NAME.vasp",
    suffixes: &["vasp", "chgcar", "chg", "aeccar", "aeccar0", "aeccar1", "aeccar2"],
    is_name: |name| {
        ["chgcar", "aeccar", "chg"].iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_lowercase()))
        })
    },
    // A number on line 2 and vectors on lines 3 to 5.
    is_content: |text| {
        starts_with_numbers(text, 1, 1) && (2..5).all(|line| starts_with_numbers(text, line, 3))
    },
    parse,
    needs,
};

/// Text that the occupancies of one atom take at most: some 500 values are the most in use.
const ATOM_BYTES: u64 = 1 << 16;

/// Reads the text of a CHGCAR, CHG or AECCAR; `path` names it in messages and gives the task id.
///
/// The density comes in [`Unit::Chgcar`], row-major: parsed in float64 and rounded to float32 once.
///
/// # Errors
/// [`Error::Unreadable`] with the line and the remedy; [`Error::Core`] for a grid axis that is too long for the
/// token format.
pub fn parse(path: &Path, text: &[u8]) -> Result<Material> {
    let mut lines = Lines::new(path, text);
    let header::Header { crystal, shape } = header::read(&mut lines)?;
    let n = lines.expect_values(shape)?;
    let mut order = transpose::FirstAxisFastest::new(shape).map_err(|e| Error::core(path, e))?;
    let before = lines.rest();
    lines.density(n, order.slab(), |value| value as f32, |values| order.store(values))?;
    let read = &before[..before.len() - lines.rest().len()];
    let source = tail::read(&mut lines, read, shape, crystal.atomic_numbers.len())?;
    let density = Density::new(shape, Unit::Chgcar, order.into_row_major())
        .map_err(|e| Error::unreadable(path, e.to_string()))?;
    Ok(Material { task_id: task_id(path), density, crystal, source })
}

/// The most bytes of text a file can need, from at least the part that comes before the density: four densities, and
/// the occupancies of all atoms in each, real and imaginary.
///
/// # Errors
/// As [`parse`].
pub(crate) fn needs(path: &Path, text: &[u8]) -> Result<u64> {
    let header = header::read(&mut Lines::new(path, text))?;
    let values = 4 * header.shape.iter().product::<usize>() as u64 * VALUE_BYTES;
    let occupancies = 8 * header.crystal.atomic_numbers.len() as u64 * ATOM_BYTES;
    Ok(text.len() as u64 + values + occupancies)
}
