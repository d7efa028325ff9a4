//! The worked cases of the format page: inputs, and the token ids they must give.

use std::sync::Arc;

use serde::Deserialize;
use tomat_core::codec::{DensityCodec, LloydMaxCodec, LogCodec};
use tomat_core::grid::{Crystal, Density, Lattice, LatticeParameters, Unit};
use tomat_core::sequence::{Layout, MaterialView, Tokenizer};

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    layout: String,
    vocabulary: String,
    patch_size: usize,
    patch_shape: [usize; 3],
    offset: [usize; 3],
    grid_shape: [usize; 3],
    lattice: [f64; 6],
    atomic_numbers: Vec<u8>,
    frac_coords: Vec<[f64; 3]>,
    density: Vec<f64>,
    codec_params: CodecParameters,
    tokens: Vec<i32>,
    decoded_density: Vec<f64>,
    decoded_frac_coords: Vec<[f64; 3]>,
    total_vocab_size: usize,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum CodecParameters {
    Log { log_min: f64, log_max: f64, bits: Vec<u32> },
    Lmq { boundaries: Vec<f32>, recon_points: Vec<f32>, clip_max: f64 },
}

fn cases() -> Vec<Case> {
    let text = include_str!("../../../tests/golden/vectors.json");
    serde_json::from_str::<Vectors>(text).expect("vectors.json is readable").cases
}

fn tokenizer(case: &Case, pad_to: usize) -> Tokenizer {
    let codec = match &case.codec_params {
        CodecParameters::Log { log_min, log_max, bits } => {
            DensityCodec::Log(Arc::new(LogCodec::new(*log_min, *log_max, bits).unwrap()))
        }
        CodecParameters::Lmq { boundaries, recon_points, clip_max } => DensityCodec::LloydMax(Arc::new(
            LloydMaxCodec::new(boundaries.clone(), recon_points.clone(), *clip_max, Unit::Chgcar).unwrap(),
        )),
    };
    let layout = Layout::named(&case.layout).unwrap();
    Tokenizer::new(layout, codec, Some(case.patch_size), pad_to, vec![case.patch_shape]).unwrap()
}

/// Relative to the larger of the two: the last bits of `10^x` are the platform's.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-14 * a.abs().max(b.abs())
}

#[test]
fn all_cases_both_ways() {
    let cases = cases();
    assert_eq!(cases.len(), 9);
    for case in &cases {
        let n = case.tokens.len();
        // A row of just the right length: a fallback case does not fit its default cube into it.
        let tokenizer = tokenizer(case, n);
        let name = &case.name;
        assert_eq!(tokenizer.vocabulary().total_size(), case.total_vocab_size, "{name}");
        assert_eq!(tokenizer.vocabulary().kind().name(), case.vocabulary, "{name}");
        let material = MaterialView {
            grid_shape: case.grid_shape,
            density: &case.density,
            lattice: LatticeParameters::new(case.lattice).unwrap(),
            atomic_numbers: &case.atomic_numbers,
            frac_coords: &case.frac_coords,
        };
        let mut row = vec![-1; n];
        tokenizer.encode(&material, &[case.offset], &mut row).unwrap();
        assert_eq!(row, case.tokens, "{name}");
        let narrow: Vec<f32> = case.density.iter().map(|&v| v as f32).collect();
        assert!(
            narrow.iter().zip(&case.density).all(|(&a, &b)| f64::from(a).to_bits() == b.to_bits()),
            "{name} is float32"
        );
        // Many offsets at once quantise the whole grid first: the rows must not change.
        let mut rows = vec![-1; n * 40];
        let view = MaterialView {
            density: narrow.as_slice(),
            grid_shape: material.grid_shape,
            lattice: material.lattice,
            atomic_numbers: material.atomic_numbers,
            frac_coords: material.frac_coords,
        };
        tokenizer.encode(&view, &[case.offset; 40], &mut rows).unwrap();
        assert!(rows.chunks(n).all(|row| row == case.tokens), "{name}");
        // A checked density goes the same way; the case's cell is given by its parameters, so only layouts that do
        // not write them can be compared.
        if !case.layout.starts_with("v2-lat") && case.layout != "v3" {
            let density = Density::new(case.grid_shape, Unit::Chgcar, narrow.clone()).unwrap();
            let cube = Lattice::from_matrix([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]]).unwrap();
            let crystal = Crystal::new(cube, case.atomic_numbers.clone(), case.frac_coords.clone()).unwrap();
            tokenizer.encode_density(&density, &crystal, &[case.offset], &mut row).unwrap();
            assert_eq!(row, case.tokens, "{name}");
        }

        let patch = tokenizer.decode(&case.tokens).unwrap();
        assert_eq!(patch.grid_shape, case.grid_shape, "{name}");
        assert_eq!(patch.patch_shape, case.patch_shape, "{name}");
        assert_eq!(patch.atomic_numbers, case.atomic_numbers, "{name}");
        assert_eq!(patch.offset, (case.layout != "v3").then_some(case.offset), "{name}");
        assert_eq!(patch.density.len(), case.decoded_density.len());
        for (&a, &b) in patch.density.iter().zip(&case.decoded_density) {
            // The page holds them rounded to float32.
            assert_eq!((a as f32).to_bits(), (b as f32).to_bits(), "{name}: {a} and {b}");
        }
        let positions = patch.frac_coords.iter().flatten().zip(case.decoded_frac_coords.iter().flatten());
        for (&a, &b) in positions {
            assert!(close(a, b), "{name}: {a} and {b}");
        }
    }
}
