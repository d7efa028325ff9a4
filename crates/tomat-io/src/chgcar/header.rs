//! The POSCAR at the head of a CHGCAR, and the grid line after it.

use tomat_core::grid::{Crystal, Lattice};

use crate::error::Result;
use crate::numbers::{parse_number, shorten, words};
use crate::structure::fractional;
use crate::text::{Lines, parse_count};
use tomat_core::elements::atomic_number;

/// VASP breaks symbols and counts over lines of 20; a cell has no more than these.
const MAX_SPECIES_LINES: usize = 50;

/// What stands before the density.
pub(super) struct Header {
    /// Cell and atoms.
    pub(super) crystal: Crystal,
    /// Grid points along x, y, z.
    pub(super) shape: [usize; 3],
}

/// Species in the order of the file: a symbol, where the file gives one, and how many atoms follow.
struct Species {
    symbols: Option<Vec<u8>>,
    counts: Vec<usize>,
    n_atoms: usize,
}

pub(super) fn read(lines: &mut Lines<'_>) -> Result<Header> {
    let comment = lines.expect_line("the comment")?;
    let (lattice, scale) = read_lattice(lines)?;
    let species = read_species(lines)?;
    let (positions, labels) = read_positions(lines, &lattice, scale, species.n_atoms)?;
    let by_species = match species.symbols {
        Some(numbers) => Some(numbers),
        None if labels.is_some() => None,
        None => Some(species_from_comment(lines, comment, &species.counts)?),
    };
    let atomic_numbers = match (by_species, labels) {
        (Some(numbers), _) => numbers
            .iter()
            .zip(&species.counts)
            .flat_map(|(&z, &count)| std::iter::repeat_n(z, count))
            .collect(),
        (None, labels) => labels.unwrap_or_default(),
    };
    let crystal =
        Crystal::new(lattice, atomic_numbers, positions).map_err(|e| lines.file_error(e.to_string()))?;
    let shape = read_grid(lines)?;
    Ok(Header { crystal, shape })
}

/// Scale factors and lattice vectors: the scaled lattice, and the factors along x, y, z for Cartesian positions.
fn read_lattice(lines: &mut Lines<'_>) -> Result<(Lattice, [f64; 3])> {
    let line = lines.expect_line("the scale factor")?;
    let given: Vec<f64> = words(line).map_while(parse_number).take(3).collect();
    let scale_line = lines.clone();
    let mut matrix = [[0.0; 3]; 3];
    for (row, name) in matrix.iter_mut().zip(["a", "b", "c"]) {
        let line = lines.expect_line("a lattice vector")?;
        *row = lines.floats(line, &format!("lattice vector {name}"))?;
    }
    let bad_scale = || {
        scale_line.error(format!(
            "the scale factor is {:?}; it must be a positive number, a negative one (minus the cell volume in A^3) \
             or three positive ones",
            shorten(line)
        ))
    };
    let scale = match given.as_slice() {
        &[x, y, z] if x > 0.0 && y > 0.0 && z > 0.0 => [x, y, z],
        &[factor] | &[factor, _] if factor > 0.0 => [factor; 3],
        &[minus_volume, ..] if minus_volume < 0.0 && given.len() < 3 => {
            let unscaled = Lattice::from_matrix(matrix).map_err(|e| lines.error(e.to_string()))?;
            [(-minus_volume / unscaled.volume()).cbrt(); 3]
        }
        _ => return Err(bad_scale()),
    };
    for row in &mut matrix {
        for (value, factor) in row.iter_mut().zip(scale) {
            *value *= factor;
        }
    }
    let lattice = Lattice::from_matrix(matrix).map_err(|e| lines.error(e.to_string()))?;
    Ok((lattice, scale))
}

/// The symbols (VASP 5 and later) and the counts.
fn read_species(lines: &mut Lines<'_>) -> Result<Species> {
    let mut line = lines.expect_line("the symbols of the elements")?;
    let mut symbols = Vec::new();
    for _ in 0..MAX_SPECIES_LINES {
        if words(line).next().is_none_or(|word| parse_count(word).is_some()) {
            break;
        }
        for word in words(line) {
            symbols.push(element(word).ok_or_else(|| {
                lines.error(format!(
                    "{:?} is not the symbol of an element; line 6 names the elements (pseudo-hydrogens and dummy \
                     atoms cannot be written)",
                    shorten(word)
                ))
            })?);
        }
        line = lines.expect_line("the number of atoms of each element")?;
    }
    let mut counts: Vec<usize> = Vec::new();
    loop {
        for word in words(line) {
            counts.push(parse_count(word).ok_or_else(|| {
                lines.error(format!(
                    "{:?} is no number of atoms; one for each element is needed",
                    shorten(word)
                ))
            })?);
        }
        if counts.len() >= symbols.len() || counts.is_empty() {
            break;
        }
        line = lines.expect_filled_line("the number of atoms of each element")?;
    }
    if !symbols.is_empty() && symbols.len() != counts.len() {
        return Err(lines.error(format!(
            "{} elements but {} numbers of atoms; the two lines must match",
            symbols.len(),
            counts.len()
        )));
    }
    let n_atoms = counts.iter().try_fold(0_usize, |sum, &count| sum.checked_add(count));
    // The shortest line of coordinates is `0 0 0` and a line end.
    let n_atoms = n_atoms.filter(|&n| n > 0 && n <= lines.rest().len() / 6).ok_or_else(|| {
        lines.error(format!(
            "the numbers of atoms {:?} do not fit the {} bytes that follow; the line is damaged or the file cut off",
            shorten(line),
            lines.rest().len()
        ))
    })?;
    Ok(Species { symbols: (!symbols.is_empty()).then_some(symbols), counts, n_atoms })
}

/// `Fe`, `Fe_pv` or `Fe_pv/f474ac0d`: VASP 6 writes the name of the potential and part of its hash.
fn element(word: &[u8]) -> Option<u8> {
    let word = std::str::from_utf8(word).ok()?;
    atomic_number(word.split(['/', '_']).next().unwrap_or_default())
}

/// VASP 4 files have no symbols; people put them into the comment.
fn species_from_comment(lines: &Lines<'_>, comment: &[u8], counts: &[usize]) -> Result<Vec<u8>> {
    let from_word = |(word, &count): (&[u8], &usize)| {
        let word = std::str::from_utf8(word).ok()?;
        let symbol = word.trim_end_matches(|c: char| c.is_ascii_digit());
        let fits = symbol.len() == word.len() || word[symbol.len()..].parse() == Ok(count);
        element(symbol.as_bytes()).filter(|_| fits)
    };
    let symbols: Option<Vec<u8>> = words(comment).zip(counts).map(from_word).collect();
    symbols.filter(|found| found.len() == counts.len() && words(comment).count() == counts.len()).ok_or_else(|| {
        lines.file_error(format!(
            "the file is of VASP 4: it gives {} numbers of atoms and no elements, and the comment {:?} does not \
             name them either; insert a line with their symbols before the numbers (line 6)",
            counts.len(),
            shorten(comment)
        ))
    })
}

/// Fractional coordinates, and the element after each where every line has one.
type Positions = (Vec<[f64; 3]>, Option<Vec<u8>>);

fn read_positions(
    lines: &mut Lines<'_>,
    lattice: &Lattice,
    scale: [f64; 3],
    n_atoms: usize,
) -> Result<Positions> {
    let mut mode = lines.expect_line("Direct or Cartesian")?;
    let selective = matches!(first_letter(mode), Some(b's' | b'S'));
    if selective {
        mode = lines.expect_line("Direct or Cartesian")?;
    }
    let cartesian = match first_letter(mode) {
        Some(b'c' | b'C' | b'k' | b'K') => true,
        Some(letter) if letter.is_ascii_alphabetic() => false,
        _ => {
            return Err(lines.error(format!(
                "{:?} stands where Direct or Cartesian should; the header is damaged",
                shorten(mode)
            )));
        }
    };
    let mut positions = Vec::with_capacity(n_atoms);
    let mut labels = Some(Vec::with_capacity(n_atoms));
    for i in 0..n_atoms {
        let line = lines.expect_line("the position of an atom")?;
        let given: [f64; 3] = lines.floats(line, &format!("the position of atom {} of {n_atoms}", i + 1))?;
        positions.push(if cartesian {
            fractional(lattice, std::array::from_fn(|x| given[x] * scale[x]))
        } else {
            given
        });
        let label = words(line).nth(if selective { 6 } else { 3 }).and_then(element);
        labels = labels.zip(label).map(|(mut all, label)| {
            all.push(label);
            all
        });
    }
    Ok((positions, labels))
}

fn first_letter(line: &[u8]) -> Option<u8> {
    words(line).next().and_then(|word| word.first().copied())
}

fn read_grid(lines: &mut Lines<'_>) -> Result<[usize; 3]> {
    let line = lines.expect_filled_line("the grid")?;
    let shape = grid_line(line).ok_or_else(|| {
        lines.error(format!("{:?} stands where the grid, three whole numbers, should", shorten(line)))
    })?;
    lines.grid_points(shape)?;
    Ok(shape)
}

/// The grid of a line that holds exactly three whole numbers.
pub(super) fn grid_line(line: &[u8]) -> Option<[usize; 3]> {
    let mut words = words(line);
    let shape = [parse_count(words.next()?)?, parse_count(words.next()?)?, parse_count(words.next()?)?];
    words.next().is_none().then_some(shape)
}
