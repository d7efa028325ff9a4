//! What follows the total density of a CHGCAR: augmentation occupancies and the magnetisation.
//!
//! None of it is used, so its numbers may be anything a number may look like; but a block that ends early means a
//! file that was cut off, and lines that belong to no block mean that the grid line was wrong.

use super::header::grid_line;
use crate::error::Result;
use crate::material::{Format, SourceFacts};
use crate::numbers::{parse_number, shorten, words};
use crate::text::{Lines, parse_count};

const AUGMENTATION: &[u8] = b"augmentation occupancies";

/// Where the reader is between two blocks.
#[derive(Default)]
struct State {
    /// Densities met, the total one among them.
    densities: usize,
    /// The last atom whose occupancies were met in this density.
    last_atom: usize,
    /// Numbers met since the last block: the magnetic moments of the atoms.
    moments: usize,
    has_augmentation: bool,
}

pub(super) fn read(lines: &mut Lines<'_>, shape: [usize; 3], n_atoms: usize) -> Result<SourceFacts> {
    end_of_density(lines)?;
    let mut state = State { densities: 1, ..State::default() };
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
            lines.skip(shape.iter().product(), "the magnetisation density")?;
            end_of_density(lines)?;
            state = State {
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
            ..SourceFacts::plain(Format::Chgcar)
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
