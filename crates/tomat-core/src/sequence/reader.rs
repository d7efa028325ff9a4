//! What every reader of rows does: expect specials, numbers and atoms, and say where one is missing.

use crate::error::{Error, Result};
use crate::vocabulary::{Ids, Special, Token};

/// Reads a row from left to right; errors name the block and the position.
pub(crate) struct Reader<'a, V> {
    pub(crate) vocabulary: &'a V,
    pub(crate) ids: &'a [i32],
    pub(crate) at: usize,
    pub(crate) block: &'static str,
}

impl<'a, V: Ids> Reader<'a, V> {
    pub(crate) fn error(&self, position: usize, problem: impl Into<String>) -> Error {
        Error::Sequence { block: self.block, position, problem: problem.into() }
    }

    pub(crate) fn peek(&self) -> Option<i32> {
        self.ids.get(self.at).copied()
    }

    fn printed(&self, id: Option<i32>) -> String {
        match id {
            None => "the end of the row".to_owned(),
            Some(id) => {
                self.vocabulary.name(id).unwrap_or_else(|_| format!("id {id}, not in the vocabulary"))
            }
        }
    }

    pub(crate) fn special(&mut self, expected: Special) -> Result<()> {
        let found = self.peek();
        if found != Some(expected.id()) {
            let problem = format!("expected {}, found {}", expected.name(), self.printed(found));
            return Err(self.error(self.at, problem));
        }
        self.at += 1;
        Ok(())
    }

    /// The next `n` ids, which must all be there.
    pub(crate) fn take(&mut self, n: usize, what: &str) -> Result<&'a [i32]> {
        let left = self.ids.len() - self.at;
        if n > left {
            let problem = format!("{n} tokens of {what} are expected, but only {left} are left in the row");
            return Err(self.error(self.at, problem));
        }
        self.at += n;
        Ok(&self.ids[self.at - n..self.at])
    }

    pub(crate) fn wrong(&self, position: usize, expected: &str) -> Error {
        let found = self.printed(self.ids.get(position).copied());
        self.error(position, format!("expected {expected}, found {found}"))
    }

    pub(crate) fn ints<const N: usize>(&mut self) -> Result<[usize; N]> {
        let start = self.at;
        let ids = self.take(N, "numbers")?;
        let mut values = [0; N];
        for (i, (&id, value)) in ids.iter().zip(&mut values).enumerate() {
            match self.vocabulary.token(id) {
                Ok(Token::Int(int)) => *value = usize::from(int),
                _ => return Err(self.wrong(start + i, "a number")),
            }
        }
        Ok(values)
    }

    /// Three numbers above zero.
    pub(crate) fn sizes(&mut self) -> Result<[usize; 3]> {
        let start = self.at;
        let values: [usize; 3] = self.ints()?;
        match values.iter().position(|&n| n == 0) {
            Some(axis) => Err(self.error(start + axis, format!("an axis of {values:?} is empty"))),
            None => Ok(values),
        }
    }

    pub(crate) fn atoms(&mut self) -> Result<Vec<u8>> {
        let start = self.at;
        while let Some(Ok(Token::Atom(_))) = self.peek().map(|id| self.vocabulary.token(id)) {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.wrong(start, "an atom"));
        }
        let first = self.vocabulary.atom_range().start;
        Ok(self.ids[start..self.at].iter().map(|&id| (id - first + 1) as u8).collect())
    }
}
