#![allow(clippy::float_cmp)] // the same bits are meant

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::codec::{DensityCodec, LogCodec};
use crate::shuffle::random_bits;
use crate::vector::in_each;
use crate::vocabulary::VocabularyKind;

/// One or two tokens a voxel.
fn vocabulary(k: usize) -> Vocabulary {
    let name = ["fp16_1token", "two_token_9_12"][k - 1];
    Vocabulary::new(VocabularyKind::Lattice, DensityCodec::Log(Arc::new(LogCodec::named(name).unwrap())))
        .unwrap()
}

/// Sequences as (gap before, preamble, voxels, weight), and room behind.
type Shape = (Vec<(usize, usize, usize, f32)>, usize);

fn shapes() -> impl Strategy<Value = Shape> {
    let sequence = (0_usize..3, 1_usize..6, 0_usize..40, 0.1_f32..9.0);
    (prop::collection::vec(sequence, 0..4), 0_usize..20)
}

fn placed(shape: &Shape, k: usize) -> (Vec<Placed>, usize) {
    let mut end = 0;
    let sequence = |&(gap, preamble, voxels, weight): &(usize, usize, usize, f32)| {
        let density = preamble..preamble + k * voxels;
        let column = end + gap;
        let length = density.end + 2;
        end = column + length;
        Placed { column, length, density, weight }
    };
    let sequences = shape.0.iter().map(sequence).collect();
    (sequences, end + shape.1)
}

#[derive(Debug, Clone, PartialEq)]
struct Arrays {
    tokens: Vec<i32>,
    values: Vec<f32>,
    guess: Vec<i32>,
    segments: Vec<i32>,
    positions: Vec<i32>,
    weight: Vec<f32>,
}

impl Arrays {
    /// As a source leaves them: rubbish but for the tokens of sequences, and values and guess of the density.
    fn filled(sequences: &[Placed], width: usize, vocabulary: &Vocabulary) -> Self {
        let mut row = Self {
            tokens: vec![-7; width],
            values: vec![-7.0; width],
            guess: vec![-7; width],
            segments: vec![-7; width],
            positions: vec![-7; width],
            weight: vec![-7.0; width],
        };
        let bases = vocabulary.density_bases();
        for sequence in sequences {
            row.tokens[sequence.column..sequence.column + sequence.length].fill(Special::Bos.id());
            for (i, place) in sequence.density.clone().enumerate() {
                let at = sequence.column + place;
                row.tokens[at] = bases[i % bases.len()] + (at % 200) as i32;
                row.guess[at] = bases[i % bases.len()] + (at % 100) as i32;
                row.values[at] = at as f32;
            }
        }
        row
    }

    fn annotated(sequences: &[Placed], width: usize, vocabulary: &Vocabulary) -> Self {
        let mut row = Self::filled(sequences, width, vocabulary);
        annotate(&mut row.view(), sequences).unwrap();
        row
    }

    fn view(&mut self) -> Row<'_> {
        Row {
            tokens: &mut self.tokens,
            values: &mut self.values,
            guess: Some(&mut self.guess),
            segments: &mut self.segments,
            positions: &mut self.positions,
            weight: &mut self.weight,
        }
    }

    /// The weight of each voxel, 1 where all weigh the same.
    fn full(&self, i: usize, equal: bool, vocabulary: &Vocabulary) -> Option<f32> {
        let full = if equal { 1.0 } else { self.weight[i] };
        vocabulary.density_range().contains(&self.tokens[i]).then_some(full)
    }
}

/// Tokens, targets, values and weights.
type Made = (Vec<i32>, Vec<i32>, Vec<f32>, Vec<f32>);

fn made(row: &Arrays, make: impl Fn(&mut Example<'_>, &mut [f32])) -> [Made; 3] {
    in_each(|| {
        let mut tokens = vec![-9; row.tokens.len()];
        let (mut targets, mut values, mut weight) =
            (row.tokens.clone(), row.values.clone(), row.weight.clone());
        let mut example = Example { tokens: &mut tokens, targets: &mut targets, weight: &mut weight };
        make(&mut example, &mut values);
        (tokens, targets, values, weight)
    })
}

proptest! {
    #[test]
    fn rows_are_annotated(shape in shapes(), k in 1_usize..3) {
        let vocabulary = vocabulary(k);
        let (sequences, width) = placed(&shape, k);
        let before = Arrays::filled(&sequences, width, &vocabulary);
        let row = Arrays::annotated(&sequences, width, &vocabulary);
        for i in 0..width {
            let found = sequences.iter().position(|s| (s.column..s.column + s.length).contains(&i));
            let inside = found.is_some_and(|n| sequences[n].density.contains(&(i - sequences[n].column)));
            prop_assert_eq!(row.segments[i], found.map_or(-1, |n| n as i32));
            prop_assert_eq!(row.positions[i], found.map_or(0, |n| (i - sequences[n].column) as i32));
            prop_assert_eq!(row.tokens[i], if found.is_some() { before.tokens[i] } else { 0 });
            prop_assert_eq!(row.values[i], if inside { before.values[i] } else { 0.0 });
            prop_assert_eq!(row.guess[i], if inside { before.guess[i] } else { 0 });
            prop_assert_eq!(row.weight[i], if inside { sequences[found.unwrap()].weight } else { 0.0 });
        }
    }

    #[test]
    fn the_next_token_is_asked(shape in shapes(), k in 1_usize..3, equal: bool, preamble in 0.0_f32..2.0) {
        let vocabulary = vocabulary(k);
        let (sequences, width) = placed(&shape, k);
        let row = Arrays::annotated(&sequences, width, &vocabulary);
        let asking = Asking::new(&vocabulary, equal);
        let ask = |example: &mut Example<'_>, values: &mut [f32]| {
            asking.next_token(example, values, &row.segments, preamble).unwrap();
        };
        for (tokens, targets, values, weight) in made(&row, ask) {
            prop_assert_eq!(&tokens, &row.tokens);
            for i in 0..width {
                let next = (i + 1 < width).then_some(i + 1);
                prop_assert_eq!(targets[i], next.map_or(0, |j| row.tokens[j]));
                prop_assert_eq!(values[i], next.map_or(0.0, |j| row.values[j]));
                let same = next.filter(|&j| row.segments[j] >= 0 && row.segments[i] == row.segments[j]);
                let full = same.map_or(0.0, |j| row.full(j, equal, &vocabulary).unwrap_or(preamble));
                prop_assert_eq!(weight[i], full);
            }
        }
    }

    #[test]
    fn voxels_are_masked_as_they_are_drawn(
        shape in shapes(),
        k in 1_usize..3,
        equal: bool,
        key: u64,
        limits in prop::collection::vec(prop_oneof![Just(0), Just(1 << 24), 0_u32..1 << 24], 4),
        one: bool,
    ) {
        let vocabulary = vocabulary(k);
        let (sequences, width) = placed(&shape, k);
        let row = Arrays::annotated(&sequences, width, &vocabulary);
        let limits = if one { &limits[..1] } else { &limits };
        let mut numbers = vec![0; width];
        random_bits(key, &mut numbers);
        let number = |i: usize| {
            let start = row.segments[i].max(0) as usize;
            let first = sequences[start].column + sequences[start].density.start;
            numbers[i - (i - first) % k]
        };
        let limit = |i: usize| limits[if one { 0 } else { row.segments[i] as usize }];
        let density: Vec<usize> = (0..width).filter(|&i| row.full(i, equal, &vocabulary).is_some()).collect();
        let mut hidden: Vec<usize> = density.iter().copied().filter(|&i| number(i) < limit(i)).collect();
        if hidden.is_empty() {
            let lowest = density.iter().map(|&i| number(i)).min();
            hidden = density.iter().copied().filter(|&i| Some(number(i)) == lowest).collect();
        }
        let asking = Asking::new(&vocabulary, equal);
        let mask = Mask { id: 1 << 20, key, limits };
        let ask = |example: &mut Example<'_>, _: &mut [f32]| {
            asking.masked(example, &row.segments, &mask).unwrap();
        };
        for (tokens, targets, values, weight) in made(&row, ask) {
            prop_assert_eq!(&targets, &row.tokens);
            prop_assert_eq!(&values, &row.values);
            for i in 0..width {
                let full = hidden.contains(&i).then(|| row.full(i, equal, &vocabulary)).flatten();
                prop_assert_eq!(tokens[i], full.map_or(row.tokens[i], |_| mask.id));
                prop_assert_eq!(weight[i], full.unwrap_or(0.0));
            }
        }
    }

    #[test]
    fn a_guess_stands_where_the_density_is_asked(shape in shapes(), k in 1_usize..3, equal: bool) {
        let vocabulary = vocabulary(k);
        let (sequences, width) = placed(&shape, k);
        let row = Arrays::annotated(&sequences, width, &vocabulary);
        let asking = Asking::new(&vocabulary, equal);
        let ask = |example: &mut Example<'_>, _: &mut [f32]| asking.from_guess(example, &row.guess).unwrap();
        for (tokens, targets, values, weight) in made(&row, ask) {
            prop_assert_eq!(&targets, &row.tokens);
            prop_assert_eq!(&values, &row.values);
            for i in 0..width {
                let full = row.full(i, equal, &vocabulary);
                prop_assert_eq!(tokens[i], if full.is_some() { row.guess[i] } else { row.tokens[i] });
                prop_assert_eq!(weight[i], full.unwrap_or(0.0));
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let vocabulary = vocabulary(1);
    let one = Placed { column: 2, length: 8, density: 3..6, weight: 1.0 };
    let row = || Arrays::filled(&[], 12, &vocabulary);
    assert!(annotate(&mut row().view(), std::slice::from_ref(&one)).is_ok());
    for wrong in [
        vec![one.clone(), one.clone()],
        vec![Placed { column: 5, ..one.clone() }],
        vec![Placed { column: usize::MAX, ..one.clone() }],
        vec![Placed { density: 3..9, ..one.clone() }],
        vec![Placed { density: Range { start: 4, end: 3 }, ..one.clone() }],
    ] {
        assert!(annotate(&mut row().view(), &wrong).is_err(), "{wrong:?}");
    }
    let mut short = row();
    short.guess.pop();
    assert!(annotate(&mut short.view(), &[]).is_err());

    let asking = Asking::new(&vocabulary, true);
    let (mut tokens, mut targets, mut weight) = (vec![0; 3], vec![0; 3], vec![0.0; 3]);
    let mut example = Example { tokens: &mut tokens, targets: &mut targets, weight: &mut weight };
    assert!(asking.next_token(&mut example, &mut [0.0; 2], &[0; 3], 0.0).is_err());
    assert!(asking.from_guess(&mut example, &[0; 4]).is_err());
    let mask = |limits| Mask { id: 9, key: 0, limits };
    assert!(asking.masked(&mut example, &[0, 1, 2], &mask(&[1, 1])).is_err());
    assert!(asking.masked(&mut example, &[0, 1], &mask(&[1])).is_err());
    assert!(asking.masked(&mut example, &[0, 1, -1], &mask(&[1, 1])).is_ok());
}
