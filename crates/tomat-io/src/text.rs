//! Header lines of text formats, and messages that say where in the file something is wrong.

use std::path::Path;

use tomat_core::grid::check_grid;
use tomat_core::memory;

use crate::error::{Error, Result};
use crate::limits::check_points;
use crate::numbers::{self, Fault, ValueReader, parse_number, shorten};

/// Text that a value takes at most, white space included: three times the columns of a CHGCAR.
pub(crate) const VALUE_BYTES: u64 = 64;

/// Goes through the lines of a text and knows where it is.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a> {
    path: &'a Path,
    text: &'a [u8],
    /// The byte after what was taken.
    position: usize,
    /// The first byte of the line taken last.
    line_start: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a [u8]) -> Self {
        Self { path, text, position: 0, line_start: 0 }
    }

    /// The text after the last line taken.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.text.get(self.position..).unwrap_or_default()
    }

    /// Takes the rest of a line of which a part was read as numbers; `None` if its end was read as well.
    pub(crate) fn rest_of_line(&mut self) -> Option<&'a [u8]> {
        let at_start =
            self.position.checked_sub(1).and_then(|last| self.text.get(last)).is_none_or(|&b| b == b'\n');
        if at_start { None } else { self.next_line() }
    }

    /// Steps over `length` bytes that were read as numbers, line ends among them.
    pub(crate) fn advance(&mut self, length: usize) {
        self.position = (self.position + length).min(self.text.len());
    }

    /// The next line without its end, `None` at the end of the text.
    pub(crate) fn next_line(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        let length = rest.iter().position(|&b| b == b'\n');
        let line = &rest[..length.unwrap_or(rest.len())];
        self.line_start = self.position;
        self.position += length.map_or(rest.len(), |n| n + 1);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The next line; the file must not end before it.
    pub(crate) fn expect_line(&mut self, what: &str) -> Result<&'a [u8]> {
        let number = self.text[..self.position].split_inclusive(|&b| b == b'\n').count();
        self.next_line().ok_or_else(|| {
            Error::unreadable(
                self.path,
                format!("the file ends after line {number}, where {what} should follow; it is empty or cut off: copy it again"),
            )
        })
    }

    /// The next line that is not blank; the file must not end before it.
    pub(crate) fn expect_filled_line(&mut self, what: &str) -> Result<&'a [u8]> {
        loop {
            let line = self.expect_line(what)?;
            if numbers::words(line).next().is_some() {
                return Ok(line);
            }
        }
    }

    /// An error on the line taken last.
    pub(crate) fn error(&self, problem: impl AsRef<str>) -> Error {
        Error::unreadable(self.path, format!("line {}: {}", self.line_of(self.line_start), problem.as_ref()))
    }

    /// An error on the file as a whole.
    pub(crate) fn file_error(&self, problem: impl Into<String>) -> Error {
        Error::unreadable(self.path, problem)
    }

    /// The first `N` words of a line as finite numbers; what follows is the caller's.
    pub(crate) fn floats<const N: usize>(&self, line: &[u8], what: &str) -> Result<[f64; N]> {
        let mut values = [0.0; N];
        let mut words = numbers::words(line);
        for value in &mut values {
            *value = words.next().and_then(parse_number).ok_or_else(|| {
                self.error(format!("{what} needs {N} numbers, but the line is {:?}", shorten(line)))
            })?;
        }
        Ok(values)
    }

    /// The number of values of a density on a grid of `shape`, after checking that the text is long enough for them.
    pub(crate) fn expect_values(&self, shape: [usize; 3]) -> Result<usize> {
        let n = self.grid_points(shape)?;
        let bytes = self.rest().len();
        if numbers::can_hold(bytes, n) {
            return Ok(n);
        }
        let [nx, ny, nz] = shape;
        Err(self.error(format!(
            "the grid {nx} x {ny} x {nz} needs {n} values, but only {bytes} bytes of text follow; the file is cut off \
             or the grid line is wrong: copy the file again"
        )))
    }

    /// Reads the `n` values of a density as float32 and hands them to `store` in slabs of at most `slab` values.
    pub(crate) fn density(
        &mut self,
        n: usize,
        slab: usize,
        convert: impl Fn(f64) -> f32,
        mut store: impl FnMut(&[f32]),
    ) -> Result<()> {
        let rest = self.rest();
        let mut reader = ValueReader::new(rest);
        let mut values = memory::with_room(slab.min(n)).map_err(|e| Error::core(self.path, e))?;
        let mut left = n;
        while left > 0 {
            let length = left.min(slab);
            values.clear();
            reader.read_into(&mut values, length, &convert).map_err(|f| self.fault(&f, n))?;
            store(&values);
            left -= length;
        }
        self.advance(reader.position());
        if numbers::is_cut_short(rest, reader.position()) {
            return Err(self.error_here(
                "the file ends inside the last value of the density; copy it again (if the value is whole, end the line)",
            ));
        }
        Ok(())
    }

    /// Steps over the `n` numbers of a block that is not used.
    pub(crate) fn skip(&mut self, n: usize, what: &str) -> Result<()> {
        let length = numbers::skip_values(self.rest(), n).map_err(|fault| {
            self.advance(fault.position);
            match fault.word {
                None => self.file_error(format!(
                    "{what} needs {n} values, but the file ends after {}; it is cut off: copy it again",
                    fault.index
                )),
                Some(word) => self.error_here(format!(
                    "{what} needs {n} values, but after {} comes {word:?}; the file is damaged: copy it again",
                    fault.index
                )),
            }
        })?;
        self.advance(length);
        Ok(())
    }

    /// The number of points of a grid that fits the token format.
    pub(crate) fn grid_points(&self, shape: [usize; 3]) -> Result<usize> {
        let [nx, ny, nz] = shape;
        if shape.contains(&0) {
            return Err(self.error(format!("the grid {nx} x {ny} x {nz} has no points; the file is damaged")));
        }
        check_grid(shape)?;
        check_points(shape).map_err(|problem| self.error(problem))
    }

    /// The number of the line a byte stands in. Counted only for a message: counting along the way would take
    /// its share of the time of reading.
    fn line_of(&self, position: usize) -> usize {
        self.text[..position].split(|&b| b == b'\n').count()
    }

    /// An error on the line in which the byte after the last one taken stands.
    fn error_here(&self, problem: impl AsRef<str>) -> Error {
        Error::unreadable(self.path, format!("line {}: {}", self.line_of(self.position), problem.as_ref()))
    }

    fn fault(&mut self, fault: &Fault, n: usize) -> Error {
        self.advance(fault.position);
        let index = fault.index;
        match &fault.word {
            None => self.file_error(format!(
                "the density has {n} values, but the file ends after {index} of them; it is cut off or the grid \
                 line is wrong: copy it again"
            )),
            Some(word) if word.starts_with('*') => self.error_here(format!(
                "value {} of {n} is {word:?}: a number too wide for its column when it was written; the value is \
                 lost, write the file again",
                index + 1
            )),
            Some(word) => self.error_here(format!(
                "value {} of {n} of the density is {word:?}, which is no finite number; the file is damaged or \
                 the grid line is wrong: copy it again",
                index + 1
            )),
        }
    }
}

/// A word as a count, `None` if it is none.
pub(crate) fn parse_count(word: &[u8]) -> Option<usize> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
