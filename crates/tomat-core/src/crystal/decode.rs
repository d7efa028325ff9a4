//! Rows in: a row is read block by block, and refused where it is not one.

use super::encode::check_answer;
use super::{Answer, Condition, CrystalLanguage, CrystalRow, MAX_ANGLE, MAX_LENGTH, Resolution, Site};
use crate::error::Result;
use crate::sequence::reader::Reader;
use crate::vocabulary::crystal::CrystalVocabulary;
use crate::vocabulary::{Ids, Special, Token};

type CrystalReader<'a> = Reader<'a, CrystalVocabulary>;

impl CrystalLanguage {
    /// Reads a row: the sequence, and only `[PAD]` after it.
    ///
    /// # Errors
    /// [`crate::Error::Sequence`] with the block and the position, for a missing or unordered block, a wrong count, a
    /// number outside its range, an answer that does not fit what was masked.
    pub fn decode(&self, ids: &[i32]) -> Result<CrystalRow> {
        let mut reader = Reader { vocabulary: &self.vocabulary, ids, at: 0, block: "BOS" };
        reader.special(Special::Bos)?;
        let conditions = read_conditions(&mut reader)?;
        reader.block = "LATTICE";
        reader.special(Special::LatticeStart)?;
        let lengths = numbers(&mut reader, MAX_LENGTH)?;
        let angles = numbers(&mut reader, MAX_ANGLE)?;
        reader.special(Special::LatticeEnd)?;
        reader.block = "ATOMS";
        reader.special(Special::AtomsStart)?;
        let elements = self.elements(&mut reader, true)?;
        reader.special(Special::AtomsEnd)?;
        reader.block = "POS";
        reader.special(Special::PosStart)?;
        let mut sites = Vec::with_capacity(elements.len());
        for element in elements {
            sites.push(Site { element, position: self.position(&mut reader, true)? });
        }
        reader.special(Special::PosEnd)?;
        let mut row = CrystalRow { conditions, lengths, angles, sites, answer: None };
        row.answer = self.answer(&mut reader, &row)?;
        reader.block = "EOS";
        reader.special(Special::Eos)?;
        reader.block = "PAD";
        while reader.at < ids.len() {
            reader.special(Special::Pad)?;
        }
        Ok(row)
    }

    /// The row in printed form, one name a token, trailing padding left out.
    ///
    /// # Errors
    /// [`crate::Error::Index`] for an id outside the vocabulary.
    pub fn show(&self, ids: &[i32]) -> Result<Vec<String>> {
        let end = ids.iter().rposition(|&id| id != Special::Pad.id()).map_or(0, |last| last + 1);
        ids[..end].iter().map(|&id| self.vocabulary.name(id)).collect()
    }

    /// Atoms as long as there are any; `[MASK]` counts where `masks` are allowed.
    fn elements(&self, reader: &mut CrystalReader<'_>, masks: bool) -> Result<Vec<Option<u8>>> {
        let mut found = Vec::new();
        while let Some(id) = reader.peek() {
            match self.vocabulary.token(id) {
                Ok(Token::Atom(z)) => found.push(Some(z)),
                Ok(Token::Special(_)) if masks && id == Special::Mask.id() => found.push(None),
                _ => break,
            }
            reader.at += 1;
        }
        if found.is_empty() && masks {
            return Err(reader.wrong(reader.at, "an atom"));
        }
        Ok(found)
    }

    fn position(&self, reader: &mut CrystalReader<'_>, masks: bool) -> Result<Option<[u16; 3]>> {
        if masks && reader.peek() == Some(Special::Mask.id()) {
            (0..3).try_for_each(|_| reader.special(Special::Mask))?;
            return Ok(None);
        }
        let mut position = [0; 3];
        for x in &mut position {
            *x = match self.resolution {
                Resolution::One => reader.ints::<1>()?[0],
                Resolution::Two => {
                    let start = reader.at;
                    let [quarter, rest] = reader.ints()?;
                    if rest > 3 {
                        return Err(reader.wrong(start + 1, "0 to 3"));
                    }
                    quarter * 4 + rest
                }
            } as u16;
        }
        Ok(Some(position))
    }

    fn answer(&self, reader: &mut CrystalReader<'_>, row: &CrystalRow) -> Result<Option<Answer>> {
        if reader.peek() != Some(Special::AnswerStart.id()) {
            return Ok(None);
        }
        reader.block = "ANSWER";
        let start = reader.at;
        reader.special(Special::AnswerStart)?;
        let elements = self.elements(reader, false)?.into_iter().flatten().collect();
        let mut positions = Vec::new();
        while reader.peek() != Some(Special::AnswerEnd.id()) {
            positions.extend(self.position(reader, false)?);
        }
        reader.special(Special::AnswerEnd)?;
        let answer = Answer { elements, positions };
        check_answer(&answer, row.masked()).map_err(|error| reader.error(start, error.to_string()))?;
        Ok(Some(answer))
    }
}

/// Three numbers of two ints each: tens and ones.
fn numbers(reader: &mut CrystalReader<'_>, max: u32) -> Result<[u32; 3]> {
    let mut values = [0; 3];
    for value in &mut values {
        let start = reader.at;
        let [tens, ones]: [usize; 2] = reader.ints()?;
        if ones > 9 {
            return Err(reader.wrong(start + 1, "0 to 9"));
        }
        *value = (tens * 10 + ones) as u32;
        if !(1..=max).contains(value) {
            return Err(reader.error(start, format!("{value} is outside 1 to {max}")));
        }
    }
    Ok(values)
}

fn read_conditions(reader: &mut CrystalReader<'_>) -> Result<Vec<Condition>> {
    let mut found: Vec<Condition> = Vec::new();
    if reader.peek() != Some(Special::ConditionsStart.id()) {
        return Ok(found);
    }
    reader.block = "CONDITIONS";
    reader.special(Special::ConditionsStart)?;
    while found.is_empty() || reader.peek() != Some(Special::ConditionsEnd.id()) {
        let start = reader.at;
        let slot = reader.ints::<1>()?[0] as u16;
        if found.last().is_some_and(|last| last.slot() >= slot) {
            return Err(reader.error(start, format!("slot {slot} does not come after the one before it")));
        }
        found.push(match slot {
            0 => Condition::Formula(read_formula(reader)?),
            1 => Condition::Atoms(reader.ints::<1>()?[0] as u16),
            2 => {
                let number = reader.ints::<1>()?[0] as u16;
                if !(1..=230).contains(&number) {
                    return Err(reader.wrong(start + 1, "a space group, 1 to 230"));
                }
                Condition::SpaceGroup(number)
            }
            slot => Condition::Column { slot, bin: reader.ints::<1>()?[0] as u16 },
        });
    }
    reader.special(Special::ConditionsEnd)?;
    Ok(found)
}

fn read_formula(reader: &mut CrystalReader<'_>) -> Result<Vec<(u8, u16)>> {
    let mut counts: Vec<(u8, u16)> = Vec::new();
    while let Some(Ok(Token::Atom(z))) = reader.peek().map(|id| reader.vocabulary.token(id)) {
        if counts.last().is_some_and(|&(last, _)| last >= z) {
            return Err(reader.wrong(reader.at, "an element of a higher atomic number"));
        }
        reader.at += 1;
        let count = reader.ints::<1>()?[0] as u16;
        if count == 0 {
            return Err(reader.wrong(reader.at - 1, "a count above 0"));
        }
        counts.push((z, count));
    }
    if counts.is_empty() {
        return Err(reader.wrong(reader.at, "an atom"));
    }
    Ok(counts)
}
