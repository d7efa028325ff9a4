//! What follows the total density of a CHGCAR: augmentation occupancies and the magnetisation.
//!
//! None of it is used, so its numbers may be anything a number may look like; but a block that ends early means a
//! file that was cut off, and lines that belong to no block mean that the grid line was wrong.

use super::header::grid_line;
use crate::error::Result;
use crate::material::SourceFacts;
use crate::numbers::{parse_number, shorten, words};
use crate::text::{Lines, parse_count};

const AUGMENTATION: &[u8] = b"augmentation occupancies";

/// Where the reader is between two blocks.
#[derive(Default)]
struct State {
    /// Whether the values of this density fill its lines as the first two do, see [`fills_its_lines`].
    fills_its_lines: bool,
    /// Densities met, the total one among them.
    densities: usize,
    /// The last atom whose occupancies were met in this density.
    last_atom: usize,
    /// Numbers met since the last block: the magnetic moments of the atoms.
    moments: usize,
    has_augmentation: bool,
}

/// Reads what follows the total density, whose text was `density`.
pub(super) fn read(
    lines: &mut Lines<'_>,
    density: &[u8],
    shape: [usize; 3],
    n_atoms: usize,
) -> Result<SourceFacts> {
    let n = shape.iter().product();
    end_of_density(lines)?;
    let mut state = State { densities: 1, fills_its_lines: fills_its_lines(density, n), ..State::default() };
    while let Some(line) = lines.next_line() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if let Some(after) = line.strip_prefix(AUGMENTATION) {
            no_loose_numbers(lines, &state)?;
            let (atom, n) = augmentation_counts(after).ok_or_else(|| {
                lines.error(format!("{:?} should end in an atom and a number of values", shorten(line)))
            })?;
            lines.skip(n, "an augmentation block")?;
            state.last_atom = atom;
            state.has_augmentation = true;
        } else if let Some(grid) = grid_line(line) {
            if grid != shape {
                return Err(lines.error(format!(
                    "a second density on a grid {grid:?} follows the first on {shape:?}; they must agree"
                )));
            }
            all_atoms_augmented(lines, &state, n_atoms)?;
            whole_density(lines, &state, n_atoms)?;
            let before = lines.rest();
            lines.skip(n, "the magnetisation density")?;
            let density = &before[..before.len() - lines.rest().len()];
            end_of_density(lines)?;
            state = State {
                fills_its_lines: fills_its_lines(density, n),
                densities: state.densities + 1,
                has_augmentation: state.has_augmentation,
                ..State::default()
            };
        } else if words(line).all(|word| parse_number(word).is_some() || word.starts_with(b"*")) {
            state.moments += words(line).count();
            // A non-collinear file gives three components an atom.
            if state.moments > 3 * n_atoms {
                return Err(too_many(lines));
            }
        } else {
            return Err(lines.error(format!(
                "{:?} belongs to no part of a CHGCAR; if several snapshots were written into one file, split it, \
                 else copy it again",
                shorten(line)
            )));
        }
    }
    no_loose_numbers(lines, &state)?;
    all_atoms_augmented(lines, &state, n_atoms)?;
    match state.densities {
        1 | 2 | 4 => Ok(SourceFacts {
            has_spin: state.densities > 1,
            non_collinear: state.densities == 4,
            has_augmentation: state.has_augmentation,
            ..SourceFacts::plain(super::NAME)
        }),
        n => Err(lines.file_error(format!(
            "the file holds {n} densities; there are 1, 2 (spin) or 4 (non-collinear): it is cut off, copy it again"
        ))),
    }
}

/// `   1 138`; the atom and the number of values stand in four columns each and touch from atom 1000 on. The
/// occupancies of the imaginary part say so in parentheses before.
fn augmentation_counts(text: &[u8]) -> Option<(usize, usize)> {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"(imaginary part)").unwrap_or(text).trim_ascii();
    let mut words = words(text);
    match (words.next(), words.next(), words.next()) {
        (Some(atom), Some(n), None) => Some((parse_count(atom)?, parse_count(n)?)),
        (Some(both), None, None) => {
            let (atom, n) = both.split_at_checked(both.len().checked_sub(4)?)?;
            Some((parse_count(atom)?, parse_count(n)?))
        }
        _ => None,
    }
}

/// Nothing but a line end may follow the last value of a density.
fn end_of_density(lines: &mut Lines<'_>) -> Result<()> {
    match lines.rest_of_line() {
        Some(line) if !line.trim_ascii().is_empty() => Err(too_many(lines)),
        _ => Ok(()),
    }
}

/// Whether as many of the `n` values of a density stand on its last line as must where all others are as full as the
/// first; true as well where the second is not, as that tells nothing.
fn fills_its_lines(density: &[u8], n: usize) -> bool {
    let mut lines = density.split(|&b| b == b'\n').map(|line| words(line).count()).filter(|&count| count > 0);
    let (Some(first), second) = (lines.next(), lines.next()) else { return true };
    if n > 2 * first && second.is_some_and(|second| second != first) {
        return true;
    }
    let last = density.trim_ascii_end().rsplit(|&b| b == b'\n').next().unwrap_or_default();
    words(last).count() == (n - 1) % first + 1
}

/// Before another density: the moments are those of all atoms (three components each where they are not collinear),
/// and no number of them is one that the density has too many, or has taken as its last.
fn whole_density(lines: &Lines<'_>, state: &State, n_atoms: usize) -> Result<()> {
    let fits = [0, n_atoms, 3 * n_atoms].contains(&state.moments);
    // Occupancies stand between the values and the moments: where there are some, nothing is mistaken for the other.
    if !fits || (state.last_atom == 0 && !state.fills_its_lines) {
        return Err(lines.error(format!(
            "{} numbers stand between two densities, where the moments of {n_atoms} atoms should; the first of them has \
             more or fewer values than the grid line says: copy the file again",
            state.moments
        )));
    }
    Ok(())
}

fn no_loose_numbers(lines: &Lines<'_>, state: &State) -> Result<()> {
    if state.moments > 0 { Err(too_many(lines)) } else { Ok(()) }
}

fn too_many(lines: &Lines<'_>) -> crate::Error {
    lines.error(
        "numbers follow the density that belong to no block: there are more values than the grid line says, or the \
         file was cut off before a magnetisation density; copy it again",
    )
}

fn all_atoms_augmented(lines: &Lines<'_>, state: &State, n_atoms: usize) -> Result<()> {
    if (1..n_atoms).contains(&state.last_atom) {
        return Err(lines.file_error(format!(
            "augmentation occupancies end with atom {} of {n_atoms}; the file is cut off, copy it again",
            state.last_atom
        )));
    }
    Ok(())
}
