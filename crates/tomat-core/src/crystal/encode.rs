//! Rows out.

use super::{
    Answer, Condition, CrystalLanguage, CrystalRow, FIRST_COLUMN, MAX_ANGLE, MAX_LENGTH, Resolution,
};
use crate::codec::DensityCodec;
use crate::error::{Error, Result};
use crate::vocabulary::crystal::CrystalVocabulary;
use crate::vocabulary::{N_INTS, Special};

impl CrystalLanguage {
    /// A language of crystals, or with a density codec of crystals and densities.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the codec's values do not fit the vocabulary.
    pub fn new(resolution: Resolution, density_codec: Option<DensityCodec>) -> Result<Self> {
        Ok(Self { vocabulary: CrystalVocabulary::new(density_codec)?, resolution })
    }

    /// The vocabulary.
    #[must_use]
    pub const fn vocabulary(&self) -> &CrystalVocabulary {
        &self.vocabulary
    }

    /// Values that a coordinate can take.
    #[must_use]
    pub const fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// The tokens of a row, from `[BOS]` to `[EOS]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the row cannot be written: a number out of its range, slots that do not ascend, an answer
    /// to other questions than were asked.
    pub fn encode(&self, row: &CrystalRow) -> Result<Vec<i32>> {
        let mut out = Tokens { ids: vec![Special::Bos.id()], resolution: self.resolution };
        out.conditions(&row.conditions)?;
        out.lattice(row)?;
        if row.sites.is_empty() {
            return Err(crate::grid::no_atoms());
        }
        out.special(Special::AtomsStart);
        for site in &row.sites {
            match site.element {
                Some(z) => out.atom(z)?,
                None => out.special(Special::Mask),
            }
        }
        out.special(Special::AtomsEnd);
        out.special(Special::PosStart);
        for site in &row.sites {
            match site.position {
                Some(position) => out.position(position)?,
                None => (0..3).for_each(|_| out.special(Special::Mask)),
            }
        }
        out.special(Special::PosEnd);
        if let Some(answer) = &row.answer {
            check_answer(answer, row.masked())?;
            out.special(Special::AnswerStart);
            answer.elements.iter().try_for_each(|&z| out.atom(z))?;
            answer.positions.iter().try_for_each(|&position| out.position(position))?;
            out.special(Special::AnswerEnd);
        }
        out.special(Special::Eos);
        Ok(out.ids)
    }
}

/// Whether an answer fits what was masked.
pub(super) fn check_answer(answer: &Answer, (elements, positions): (usize, usize)) -> Result<()> {
    let n = answer.elements.len();
    if elements + positions == 0 {
        return Err(Error::invalid("an answer, but nothing is masked"));
    }
    if n != elements && !(n == 1 && elements > 1) {
        return Err(Error::invalid(format!("{n} elements answer for {elements} that are masked")));
    }
    if answer.positions.len() != positions {
        return Err(Error::invalid(format!(
            "{} positions answer for {positions} that are masked",
            answer.positions.len()
        )));
    }
    Ok(())
}

struct Tokens {
    ids: Vec<i32>,
    resolution: Resolution,
}

impl Tokens {
    fn special(&mut self, special: Special) {
        self.ids.push(special.id());
    }

    fn int(&mut self, what: &str, value: u32) -> Result<()> {
        if value as usize >= N_INTS {
            return Err(Error::invalid(format!("{what} {value} cannot be written; numbers end at 1023")));
        }
        self.ids.push(CrystalVocabulary::int(value as u16));
        Ok(())
    }

    fn atom(&mut self, z: u8) -> Result<()> {
        if !(1..=118).contains(&z) {
            return Err(Error::invalid(format!(
                "atomic number {z} is not an element; give 1 (H) to 118 (Og)"
            )));
        }
        self.ids.push(CrystalVocabulary::atom(z));
        Ok(())
    }

    fn position(&mut self, position: [u16; 3]) -> Result<()> {
        let n = self.resolution.values();
        for x in position {
            if x >= n {
                return Err(Error::invalid(format!("coordinate {x} of {n} lies outside the cell")));
            }
            match self.resolution {
                Resolution::One => self.int("coordinate", x.into())?,
                Resolution::Two => {
                    self.int("coordinate", (x / 4).into())?;
                    self.int("coordinate", (x % 4).into())?;
                }
            }
        }
        Ok(())
    }

    fn conditions(&mut self, conditions: &[Condition]) -> Result<()> {
        if conditions.is_empty() {
            return Ok(());
        }
        if !conditions.is_sorted_by(|a, b| a.slot() < b.slot()) {
            return Err(Error::invalid("conditions must stand in ascending slots, each once"));
        }
        self.special(Special::ConditionsStart);
        for condition in conditions {
            self.int("slot", condition.slot().into())?;
            match condition {
                Condition::Formula(counts) => self.formula(counts)?,
                Condition::Atoms(n) => self.int("number of atoms", (*n).into())?,
                Condition::SpaceGroup(number) => {
                    if !(1..=230).contains(number) {
                        return Err(Error::invalid(format!("space group {number}; they are 1 to 230")));
                    }
                    self.int("space group", (*number).into())?;
                }
                Condition::Column { slot, bin } => {
                    if *slot < FIRST_COLUMN {
                        return Err(Error::invalid(format!("slot {slot} is no column's; they begin at 3")));
                    }
                    self.int("bin", (*bin).into())?;
                }
            }
        }
        self.special(Special::ConditionsEnd);
        Ok(())
    }

    fn formula(&mut self, counts: &[(u8, u16)]) -> Result<()> {
        if counts.is_empty() || !counts.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::invalid("a formula needs elements, in ascending atomic number, each once"));
        }
        for &(z, count) in counts {
            if count == 0 {
                return Err(Error::invalid("a formula has an element with no atoms"));
            }
            self.atom(z)?;
            self.int("count", count.into())?;
        }
        Ok(())
    }

    fn lattice(&mut self, row: &CrystalRow) -> Result<()> {
        self.special(Special::LatticeStart);
        for (values, max, what) in [(row.lengths, MAX_LENGTH, "length"), (row.angles, MAX_ANGLE, "angle")] {
            for value in values {
                if !(1..=max).contains(&value) {
                    return Err(Error::invalid(format!("{what} {value} is outside 1 to {max}")));
                }
                self.int(what, value / 10)?;
                self.int(what, value % 10)?;
            }
        }
        self.special(Special::LatticeEnd);
        Ok(())
    }
}
