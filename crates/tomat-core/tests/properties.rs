//! What must hold for any material: rows decode to what they came from, and nothing crashes the decoder.

use std::sync::Arc;

use proptest::prelude::*;
use tomat_core::codec::{DensityCodec, LloydMaxCodec, LogCodec};
use tomat_core::grid::{LatticeParameters, Unit};
use tomat_core::sequence::{Layout, MaterialView, Tokenizer};
use tomat_core::vocabulary::Token;

fn codec(which: usize) -> DensityCodec {
    match which {
        0 => DensityCodec::Log(Arc::new(LogCodec::named("two_token_9_12").unwrap())),
        1 => DensityCodec::Log(Arc::new(LogCodec::named("fp16_1token").unwrap())),
        _ => {
            let boundaries: Vec<f32> = (1..50).map(|i| (i * i) as f32 * 0.01).collect();
            let points = (0..50).map(|i| (i * i + i) as f32 * 0.01).collect();
            DensityCodec::LloydMax(Arc::new(
                LloydMaxCodec::new(boundaries, points, 30.0, Unit::Chgcar).unwrap(),
            ))
        }
    }
}

fn tokenizer(layout: usize, which: usize, patch: usize, pad_to: usize) -> Tokenizer {
    let layout = Layout::named(["v1", "v2", "v2-lat", "v3"][layout]).unwrap();
    Tokenizer::new(layout, codec(which), Some(patch), pad_to, vec![[1, 2, 3], [1, 1, 1]]).unwrap()
}

fn lattice() -> LatticeParameters {
    LatticeParameters::new([3.025, 4.0, 51.15, 60.1, 89.9, 120.0]).unwrap()
}

proptest! {
    #[test]
    fn rows_decode_to_their_material(
        layout in 0usize..4,
        which in 0usize..3,
        patch in 1usize..5,
        grid in prop::array::uniform3(1usize..8),
        atoms in prop::collection::vec((1u8..=118, prop::array::uniform3(-2.0f64..2.0)), 1..6),
        corner in prop::array::uniform3(0usize..1000),
        values in prop::collection::vec(-1.0f32..40.0, 343),
        short: bool,
    ) {
        let n_atoms = atoms.len();
        let probe = tokenizer(layout, which, patch, 4096);
        let pad_to = if short { probe.length(n_atoms, Some([1, 2, 3])).unwrap() } else { 2048 };
        let tokenizer = tokenizer(layout, which, patch, pad_to);
        let offset = [corner[0] % grid[0], corner[1] % grid[1], corner[2] % grid[2]];
        let density = &values[..grid.iter().product()];
        let (atomic_numbers, frac_coords): (Vec<u8>, Vec<[f64; 3]>) = atoms.into_iter().unzip();
        let view = MaterialView {
            grid_shape: grid, density, lattice: lattice(),
            atomic_numbers: &atomic_numbers, frac_coords: &frac_coords,
        };
        let mut row = vec![-1; pad_to];
        tokenizer.encode(&view, &[offset], &mut row).unwrap();
        for &id in &row {
            prop_assert!(tokenizer.vocabulary().token(id).is_ok());
        }
        let (shape, is_fallback) = tokenizer.shape_for(n_atoms).unwrap();
        let used = row.iter().rposition(|&id| id != 0).unwrap() + 1;
        if !is_fallback || shape != [patch; 3] {
            prop_assert_eq!(used, tokenizer.length(n_atoms, Some(shape)).unwrap());
        }
        let back = tokenizer.decode(&row).unwrap();
        prop_assert_eq!(back.grid_shape, grid);
        prop_assert_eq!(back.patch_shape, shape);
        prop_assert_eq!(back.atomic_numbers, atomic_numbers);
        let mut at = 0;
        for i in 0..shape[0] { for j in 0..shape[1] { for k in 0..shape[2] {
            let point = [(offset[0] + i) % grid[0], (offset[1] + j) % grid[1], (offset[2] + k) % grid[2]];
            let value = f64::from(density[(point[0] * grid[1] + point[1]) * grid[2] + point[2]]);
            let (low, high) = tokenizer.vocabulary().density_codec().bin_of(value);
            let decoded = back.density[at];
            prop_assert!(decoded == 0.0 || (low <= decoded && decoded <= high), "{value} gave {decoded}");
            at += 1;
        }}}
    }

    #[test]
    fn shifting_crystal_and_density_together_keeps_v3_rows(
        shift in prop::array::uniform3(0usize..8),
        corner in prop::array::uniform3(0usize..8),
        atoms in prop::collection::vec((1u8..=118, prop::array::uniform3(0usize..64)), 1..4),
        values in prop::collection::vec(0.0f32..40.0, 8 * 8 * 8),
    ) {
        // Grid and coordinates are dyadic, so that shifting is exact in float64.
        let grid = [8, 8, 8];
        let tokenizer = tokenizer(3, 2, 3, 512);
        let (z, points): (Vec<u8>, Vec<[usize; 3]>) = atoms.into_iter().unzip();
        let frac: Vec<[f64; 3]> = points.iter().map(|p| p.map(|i| i as f64 / 64.0)).collect();
        let moved: Vec<[f64; 3]> =
            frac.iter().map(|p| std::array::from_fn(|a| p[a] + shift[a] as f64 / 8.0)).collect();
        let mut rolled = vec![0.0; values.len()];
        for i in 0..8 { for j in 0..8 { for k in 0..8 {
            let to = ((i + shift[0]) % 8 * 8 + (j + shift[1]) % 8) * 8 + (k + shift[2]) % 8;
            rolled[to] = values[(i * 8 + j) * 8 + k];
        }}}
        let mut rows = [vec![0; 512], vec![0; 512]];
        let target = std::array::from_fn(|a| (corner[a] + shift[a]) % 8);
        let inputs = [(&values, &frac, corner), (&rolled, &moved, target)];
        for ((density, frac_coords, offset), row) in inputs.into_iter().zip(&mut rows) {
            let view = MaterialView {
                grid_shape: grid, density, lattice: lattice(), atomic_numbers: &z, frac_coords,
            };
            tokenizer.encode(&view, &[offset], row).unwrap();
        }
        prop_assert_eq!(&rows[0], &rows[1]);
    }

    #[test]
    fn hostile_rows_are_refused_or_read(
        layout in 0usize..4,
        which in 0usize..3,
        mutations in prop::collection::vec((0usize..300, prop_oneof![-5i32..25, 0i32..8000, any::<i32>()]), 0..4),
        cut in 0usize..300,
        noise in prop::collection::vec(-2i32..7000, 0..100),
    ) {
        let tokenizer = tokenizer(layout, which, 3, 300);
        let values: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let view = MaterialView {
            grid_shape: [3, 4, 5], density: values.as_slice(), lattice: lattice(),
            atomic_numbers: &[8, 1], frac_coords: &[[0.1, 0.2, 0.3], [0.5; 3]],
        };
        let mut row = vec![0; 300];
        tokenizer.encode(&view, &[[2, 1, 4]], &mut row).unwrap();
        for (at, id) in mutations {
            row[at] = id;
        }
        for ids in [&row[..], &row[..cut], &noise] {
            if let Ok(patch) = tokenizer.decode(ids) {
                prop_assert_eq!(patch.density.len(), patch.patch_shape.iter().product::<usize>());
                prop_assert_eq!(patch.frac_coords.len(), patch.atomic_numbers.len());
            }
            let _ = tokenizer.show(ids);
        }
    }
}

#[test]
fn materials_that_cannot_be_written_say_why() {
    let tokenizer = tokenizer(3, 2, 3, 100);
    let ok = lattice();
    assert!(tokenizer.check([3, 3, 3], Some(&ok), 2).is_ok());
    let long = LatticeParameters::new([52.0, 4.0, 4.0, 90.0, 90.0, 90.0]).unwrap();
    let message = tokenizer.check([3, 3, 3], Some(&long), 2).unwrap_err().to_string();
    assert!(message.contains("a = 52 angstrom"), "{message}");
    let message = tokenizer.check([3, 1024, 3], Some(&ok), 2).unwrap_err().to_string();
    assert!(message.contains("axis y has 1024 points"), "{message}");
    let message = tokenizer.check([3, 3, 3], Some(&ok), 12).unwrap_err().to_string();
    assert!(message.contains("[1, 1, 1]") && message.contains("pad_to = 100"), "{message}");
}

#[test]
fn every_id_has_a_token() {
    for layout in 0..4 {
        let tokenizer = tokenizer(layout, 0, 3, 300);
        let vocabulary = tokenizer.vocabulary();
        let densities = (0..vocabulary.total_size() as i32)
            .filter(|&id| matches!(vocabulary.token(id).unwrap(), Token::Density { .. }))
            .count();
        assert_eq!(densities, vocabulary.density_range().len());
    }
}
