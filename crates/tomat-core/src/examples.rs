//! Training examples in place: what stands beside the tokens of a row, and what of it a model is shown and asked.
//!
//! A row comes as its tokens, with the values of its voxels; [`annotate`] writes all else that is known of it. Then one
//! of [`next_token`], [`masked`] and [`from_guess`] makes an example of it. All of it is written once, into the arrays
//! that the trainer gets.

#![allow(clippy::inline_always)] // see vector::Kernel

use std::ops::Range;

use crate::error::{Error, Result};
use crate::shuffle::Numbers;
use crate::vector::{Kernel, Register, run};
use crate::vocabulary::{Special, Vocabulary};

/// Where a sequence is in its row.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The place of its first token.
    pub column: usize,
    /// Its tokens.
    pub length: usize,
    /// Its density tokens, counted from its first.
    pub density: Range<usize>,
    /// The weight of its voxels.
    pub weight: f32,
}

/// The arrays of a row, all of one length.
pub struct Row<'a> {
    /// Token ids.
    pub tokens: &'a mut [i32],
    /// The true density at the last token of each voxel.
    pub values: &'a mut [f32],
    /// Tokens of the starting density, if there is one.
    pub guess: Option<&'a mut [i32]>,
    /// The number of the sequence in the row, -1 at padding.
    pub segments: &'a mut [i32],
    /// Positions from 0 in each sequence.
    pub positions: &'a mut [i32],
    /// The weight of each density token.
    pub weight: &'a mut [f32],
}

/// Writes all of a row but what the tokens of its sequences say: segments, positions and weights everywhere; values and
/// the guess where there is no density token; tokens where there is no sequence.
///
/// # Errors
/// [`Error::Invalid`] where sequences overlap, are not in order or leave the row, and arrays differ in length.
pub fn annotate(row: &mut Row<'_>, sequences: &[Placed]) -> Result<()> {
    let width = row.tokens.len();
    let lengths = [row.values.len(), row.segments.len(), row.positions.len(), row.weight.len()];
    let guess = row.guess.as_ref().map_or(width, |guess| guess.len());
    if guess != width || lengths.iter().any(|&n| n != width) {
        return Err(Error::invalid(format!("the arrays of a row of {width} tokens differ in length")));
    }
    let mut end = 0;
    for (number, sequence) in (0..).zip(sequences) {
        let Placed { column, length, ref density, weight } = *sequence;
        let inside = density.start <= density.end && density.end <= length;
        let fits = column.checked_add(length).is_some_and(|behind| end <= column && behind <= width);
        if !(inside && fits) {
            return Err(Error::invalid(format!(
                "{sequence:?} does not fit into a row of {width} tokens whose first {end} are taken"
            )));
        }
        pad(row, end..column);
        end = column + length;
        row.segments[column..end].fill(number);
        for (position, place) in (0..).zip(&mut row.positions[column..end]) {
            *place = position;
        }
        let (first, last) = (column + density.start, column + density.end);
        beside(row, column..first);
        row.weight[first..last].fill(weight);
        beside(row, last..end);
    }
    pad(row, end..width);
    Ok(())
}

/// Tokens that are not of the density.
fn beside(row: &mut Row<'_>, places: Range<usize>) {
    row.values[places.clone()].fill(0.0);
    row.weight[places.clone()].fill(0.0);
    if let Some(guess) = &mut row.guess {
        guess[places].fill(0);
    }
}

fn pad(row: &mut Row<'_>, places: Range<usize>) {
    row.tokens[places.clone()].fill(Special::Pad.id());
    row.segments[places.clone()].fill(-1);
    row.positions[places.clone()].fill(0);
    beside(row, places);
}

/// Consecutive token ids.
#[derive(Debug, Clone, Copy)]
struct Ids {
    first: i32,
    count: u32,
}

impl Ids {
    const fn of(range: &Range<i32>) -> Self {
        Self { first: range.start, count: range.end.wrapping_sub(range.start) as u32 }
    }

    /// Whether a token is one of them, in one comparison.
    #[inline(always)]
    const fn hold(self, token: i32) -> bool {
        (token.wrapping_sub(self.first) as u32) < self.count
    }
}

/// What is common to the examples of a batch.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Of density tokens, and of those that are not the first of their voxel.
    density: Ids,
    later: Ids,
    /// Whether every voxel weighs 1; otherwise as in the row.
    equal: bool,
}

/// The arrays of an example, all of one length. At first `tokens` is free, and the others are those of the row.
pub struct Example<'a> {
    /// What the model is shown.
    pub tokens: &'a mut [i32],
    /// What it is asked.
    pub targets: &'a mut [i32],
    /// The weight of each answer, 0 where nothing is asked.
    pub weight: &'a mut [f32],
}

/// Which voxels of a row are masked.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// The id shown in their place.
    pub id: i32,
    /// The key of the random numbers of the row's places.
    pub key: u64,
    /// For each segment, below which number a voxel is masked; one alone is for all.
    pub limits: &'a [u32],
}

impl Asking {
    /// Of voxels in this vocabulary.
    #[must_use]
    pub fn new(vocabulary: &Vocabulary, equal: bool) -> Self {
        let density = vocabulary.density_range();
        let later = vocabulary.density_bases().get(1).map_or(density.end, |&base| base);
        Self { density: Ids::of(&density), later: Ids::of(&(later..density.end)), equal }
    }

    /// Each token is asked at the place before it, but for the first of a sequence. Tokens other than those of the
    /// density weigh `preamble`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the arrays differ in length.
    pub fn next_token(
        &self,
        example: &mut Example<'_>,
        values: &mut [f32],
        segments: &[i32],
        preamble: f32,
    ) -> Result<()> {
        let n = check(example, &[values.len(), segments.len()])?;
        example.tokens.copy_from_slice(example.targets);
        run(Weights { asking: self, tokens: example.tokens, weight: example.weight, beside: preamble });
        if n == 0 {
            return Ok(());
        }
        example.targets.copy_within(1.., 0);
        values.copy_within(1.., 0);
        example.weight.copy_within(1.., 0);
        (example.targets[n - 1], values[n - 1], example.weight[n - 1]) = (0, 0.0, 0.0);
        run(Within { segments, weight: example.weight });
        Ok(())
    }

    /// Voxels are masked and asked for, all tokens of each or none; of a row with density at least one voxel.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the arrays differ in length, or there is no limit for a segment.
    pub fn masked(&self, example: &mut Example<'_>, segments: &[i32], mask: &Mask<'_>) -> Result<()> {
        let n = check(example, &[segments.len()])?;
        let mut numbers = vec![0; n];
        self.draw(example.targets, mask.key, &mut numbers);
        let mut parts = parts_of(segments, mask.limits)?;
        // Nearly always one of the first voxels is below its limit.
        let any = |(places, limit): &(Range<usize>, u32)| numbers[places.clone()].iter().any(|x| x < limit);
        if !parts.iter().any(any) {
            let lowest = numbers.iter().copied().min().unwrap_or(u32::MAX);
            parts = vec![(0..n, lowest.saturating_add(1))];
        }
        for (places, limit) in parts {
            run(Hide {
                numbers: &numbers[places.clone()],
                limit,
                id: mask.id,
                equal: self.equal,
                tokens: &mut example.tokens[places.clone()],
                targets: &example.targets[places.clone()],
                weight: &mut example.weight[places],
            });
        }
        Ok(())
    }

    /// Density tokens show those of a starting density, and all are asked.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the arrays differ in length.
    pub fn from_guess(&self, example: &mut Example<'_>, guess: &[i32]) -> Result<()> {
        check(example, &[guess.len()])?;
        let shown = example.tokens.iter_mut().zip(&*example.targets).zip(guess);
        for ((token, &target), &guess) in shown {
            *token = if self.density.hold(target) { guess } else { target };
        }
        run(Weights { asking: self, tokens: example.targets, weight: example.weight, beside: 0.0 });
        Ok(())
    }

    /// A random number for each density token, the same for those of one voxel; the largest there is for others.
    fn draw(&self, tokens: &[i32], key: u64, numbers: &mut [u32]) {
        run(Draw { density: self.density, tokens, from: Numbers::of(key), numbers });
        if self.later.count == 0 {
            return;
        }
        for i in 1..numbers.len() {
            if self.later.hold(tokens[i]) {
                numbers[i] = numbers[i - 1];
            }
        }
    }
}

/// The length of all arrays of an example.
fn check(example: &Example<'_>, others: &[usize]) -> Result<usize> {
    let n = example.targets.len();
    let lengths = [example.tokens.len(), example.weight.len()];
    if lengths.iter().chain(others).any(|&length| length != n) {
        return Err(Error::invalid(format!("the arrays of an example of {n} tokens differ in length")));
    }
    Ok(n)
}

/// The places of each segment, and the limit there. At padding, where nothing is masked, any will do.
fn parts_of(segments: &[i32], limits: &[u32]) -> Result<Vec<(Range<usize>, u32)>> {
    if let [limit] = limits {
        return Ok(vec![(0..segments.len(), *limit)]);
    }
    let mut end = 0;
    let of_part = |part: &[i32]| {
        let (start, segment) = (end, part[0]);
        end += part.len();
        let limit = limits.get(segment.max(0) as usize).ok_or_else(|| {
            Error::invalid(format!("segment {segment} of a row has none of the {} limits", limits.len()))
        })?;
        Ok((start..end, *limit))
    };
    segments.chunk_by(|a, b| a == b).map(of_part).collect()
}

struct Draw<'a> {
    density: Ids,
    tokens: &'a [i32],
    from: Numbers,
    numbers: &'a mut [u32],
}

impl Kernel for Draw<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        for (index, (number, token)) in (0_u32..).zip(self.numbers.iter_mut().zip(self.tokens)) {
            *number = if self.density.hold(*token) { self.from.at(index) } else { u32::MAX };
        }
    }
}

struct Hide<'a> {
    numbers: &'a [u32],
    limit: u32,
    id: i32,
    equal: bool,
    tokens: &'a mut [i32],
    targets: &'a [i32],
    weight: &'a mut [f32],
}

impl Kernel for Hide<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        for ((token, &target), &number) in self.tokens.iter_mut().zip(self.targets).zip(self.numbers) {
            *token = either_bits(number < self.limit, self.id as u32, target as u32) as i32;
        }
        let weights = self.weight.iter_mut().zip(self.numbers);
        if self.equal {
            weights.for_each(|(weight, &number)| *weight = either(number < self.limit, 1.0, 0.0));
        } else {
            weights.for_each(|(weight, &number)| *weight = either(number < self.limit, *weight, 0.0));
        }
    }
}

/// One of two without a branch, which would keep the compiler from wide registers.
#[inline(always)]
const fn either_bits(first: bool, one: u32, other: u32) -> u32 {
    let mask = (first as u32).wrapping_neg();
    (one & mask) | (other & !mask)
}

#[inline(always)]
const fn either(first: bool, one: f32, other: f32) -> f32 {
    f32::from_bits(either_bits(first, one.to_bits(), other.to_bits()))
}

/// The weight of each token, were it asked in its own place.
struct Weights<'a> {
    asking: &'a Asking,
    tokens: &'a [i32],
    weight: &'a mut [f32],
    /// Of tokens that are not of the density.
    beside: f32,
}

impl Kernel for Weights<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let Asking { density, equal, .. } = *self.asking;
        let weights = self.weight.iter_mut().zip(self.tokens);
        if equal {
            weights.for_each(|(weight, &token)| *weight = either(density.hold(token), 1.0, self.beside));
        } else {
            weights.for_each(|(weight, &token)| *weight = either(density.hold(token), *weight, self.beside));
        }
    }
}

/// Nothing is asked across the ends of sequences.
struct Within<'a> {
    segments: &'a [i32],
    weight: &'a mut [f32],
}

impl Kernel for Within<'_> {
    #[inline(always)]
    fn run<R: Register>(self) {
        let next = &self.segments[1..];
        for ((weight, &here), &next) in self.weight.iter_mut().zip(self.segments).zip(next) {
            *weight = either(here == next && next >= 0, *weight, 0.0);
        }
    }
}

#[cfg(test)]
mod tests;
