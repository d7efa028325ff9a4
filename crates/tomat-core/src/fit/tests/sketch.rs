use sha2::{Digest, Sha256};

use super::*;
use crate::fit::sketch::LOW_BITS;

/// Any finite float32, with zeros, denormals and near-ties common.
fn any_value() -> impl Strategy<Value = f32> {
    let finite = any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |v| v.is_finite());
    prop_oneof![
        finite,
        Just(0.0_f32),
        Just(-0.0_f32),
        (0_u32..400).prop_map(f32::from_bits),
        (0_u32..400).prop_map(|b| f32::from_bits(b | 1 << 31)),
        (0_u32..1_000).prop_map(|ulps| f32::from_bits(0.25_f32.to_bits() + ulps)),
        0.0_f32..5.0,
    ]
}

fn materials() -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(prop::collection::vec(any_value(), 1..60), 1..7)
}

fn sketch_from<'a>(materials: impl IntoIterator<Item = (usize, &'a Vec<f32>)>) -> Sketch {
    let mut sketch = Sketch::new(Unit::Chgcar);
    for (i, values) in materials {
        sketch.add(&format!("mp-{i}"), values, 1.0).unwrap();
    }
    sketch
}

fn merged(parts: &[&Sketch]) -> Sketch {
    let mut all = Sketch::new(Unit::Chgcar);
    for part in parts {
        all.merge(part).unwrap();
    }
    all
}

proptest! {
    #[test]
    fn parts_add_up_to_the_whole(materials in materials(), split in any::<[bool; 7]>(), third in any::<[bool; 7]>()) {
        let whole = sketch_from(materials.iter().enumerate());
        let part = |k: usize| {
            let of = |i: usize| if third[i] { 2 } else { usize::from(split[i]) };
            sketch_from(materials.iter().enumerate().filter(move |&(i, _)| of(i) == k))
        };
        let (a, b, c) = (part(0), part(1), part(2));
        let left = merged(&[&merged(&[&a, &b]), &c]);
        let right = merged(&[&a, &merged(&[&c, &b])]);
        prop_assert_eq!(whole.to_bytes(), left.to_bytes());
        prop_assert_eq!(whole.to_bytes(), right.to_bytes());
        prop_assert!(whole == left && left == right);
    }

    #[test]
    fn a_weight_counts_like_copies(values in prop::collection::vec((any_value(), 0_u8..4), 1..60)) {
        // Weights that are sixteenths: exact as integers.
        let weights: Vec<f64> = values.iter().map(|&(_, n)| f64::from(n) / 16.0).collect();
        let single: Vec<f32> = values.iter().map(|&(value, _)| value).collect();
        let mut sketch = Sketch::new(Unit::Chgcar);
        sketch.add_weighted("one", &single, &weights).unwrap();
        prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()).unwrap(), sketch.clone());
        let plain = sketch_from([(0, &single)]);
        prop_assert_eq!(sketch.range(), plain.range());
        prop_assert_eq!(sketch.n_voxels(), plain.n_voxels());
        for (cell, (value, mine)) in plain.ascending().iter().zip(sketch.ascending()) {
            prop_assert_eq!(cell.0.to_bits(), value.to_bits());
            prop_assert_eq!(cell.1.count, mine.count);
            // Both zeros are one.
            let cell_of = |x: f32| (x + 0.0).to_bits() >> LOW_BITS;
            let same = |x: f32| cell_of(x) == cell_of(value) && (x == 0.0) == (value == 0.0);
            let copies: u128 = values.iter().filter(|v| same(v.0)).map(|v| u128::from(v.1)).sum();
            prop_assert_eq!(mine.weight, copies << (WEIGHT_BITS - 4));
        }
    }

    #[test]
    fn rounding_keeps_counts_range_and_validity(materials in materials(), bits in 0_u32..8) {
        let sketch = sketch_from(materials.iter().enumerate());
        let rounded = sketch.rounded(bits);
        prop_assert_eq!(Sketch::from_bytes(&rounded.to_bytes()).unwrap(), rounded.clone());
        prop_assert_eq!(rounded.rounded(bits), rounded.clone());
        prop_assert_eq!(rounded.range(), sketch.range());
        prop_assert_eq!(rounded.n_voxels(), sketch.n_voxels());
        prop_assert_eq!(rounded.ascending().len(), sketch.ascending().len());
        for ((a, before), (b, after)) in sketch.ascending().into_iter().zip(rounded.ascending()) {
            prop_assert_eq!(before.count, after.count);
            prop_assert_eq!(a.to_bits() >> LOW_BITS, b.to_bits() >> LOW_BITS);
            let weights = (before.weight, after.weight);
            let (before, after) = (weights.0 as f64, weights.1 as f64);
            prop_assert!((after / before - 1.0).abs() <= 0.5_f64.powi(bits.max(1) as i32 - 1) || weights.0 == weights.1);
        }
    }

    #[test]
    fn voxel_order_does_not_matter(values in prop::collection::vec(any_value(), 1..200)) {
        let reversed: Vec<f32> = values.iter().rev().copied().collect();
        prop_assert_eq!(sketch_of(&values).to_bytes(), sketch_of(&reversed).to_bytes());
    }

    #[test]
    fn bytes_come_back(materials in materials()) {
        let sketch = sketch_from(materials.iter().enumerate());
        let bytes = sketch.to_bytes();
        let back = Sketch::from_bytes(&bytes).unwrap();
        prop_assert!(back == sketch);
        prop_assert_eq!(back.to_bytes(), bytes);
    }

    #[test]
    fn counts_are_those_of_the_values(values in prop::collection::vec(any_value(), 1..200)) {
        let sketch = sketch_of(&values);
        prop_assert_eq!(sketch.n_voxels(), values.len() as u64);
        prop_assert_eq!(sketch.n_zero(), values.iter().filter(|&&v| v == 0.0).count() as u64);
        prop_assert_eq!(sketch.n_negative(), values.iter().filter(|&&v| v < 0.0).count() as u64);
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assert_eq!(sketch.range(), Some((low, high)));
        // The cells' means are exact: so is the sum, up to float64 rounding.
        let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
        let scale: f64 = values.iter().map(|&v| f64::from(v.abs())).sum();
        prop_assert!((sketch.sum() - sum).abs() <= 1e-12 * scale, "{} {sum}", sketch.sum());
    }

    #[test]
    fn altered_bytes_are_refused(materials in materials(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = sketch_from(materials.iter().enumerate()).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(Sketch::from_bytes(&bytes).is_err());
        prop_assert!(Sketch::from_bytes(&bytes[..at]).is_err());
    }

    /// Someone who computes the hash anew cannot make the reader panic, nor read what writes differently.
    #[test]
    fn forged_bytes_do_no_harm(
        materials in materials(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut bytes = sketch_from(materials.iter().enumerate()).to_bytes();
        bytes.truncate(bytes.len() - 32);
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        if let Ok(sketch) = Sketch::from_bytes(&bytes) {
            prop_assert_eq!(sketch.to_bytes(), bytes);
            for method in Method::ALL {
                let _ = fit(&sketch, &FitOptions::new(method, Weighting::Material, 5));
            }
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Sketch::from_bytes(&bytes).is_err());
    }
}

#[test]
fn absurd_counts_are_refused_before_memory_is_taken() {
    let sign = |mut bytes: Vec<u8>| {
        let hash = Sha256::digest(&bytes);
        bytes.extend_from_slice(&hash);
        bytes
    };
    let head = || sketch_of(&[1.0]).to_bytes()[..11].to_vec();
    let mut many_names = head();
    many_names.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    let mut long_name = head();
    long_name.extend([1, 0xff, 0xff, 0xff, 0xff, 0x0f, b'x']);
    let mut many_cells = head();
    many_cells.extend([1, 1, b'x', 0, 0, 0x80, 0x3f, 0, 0, 0x80, 0x3f, 0, 0, 0xff, 0xff, 0xff, 0x0f]);
    for bytes in [many_names, long_name, many_cells] {
        let error = Sketch::from_bytes(&sign(bytes)).unwrap_err().to_string();
        assert!(error.starts_with("sketch, byte "), "{error}");
        assert!(error.contains("cut short"), "{error}");
    }
    let mut newer = sketch_of(&[1.0]).to_bytes();
    newer[7] = 9;
    assert!(Sketch::from_bytes(&newer).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn the_bytes_are_frozen() {
    let mut sketch = Sketch::new(Unit::ElectronsPerCubicAngstrom);
    sketch.add("mp-2", &[0.0, 0.125, 0.12501, -3.5, 1e-40, 2000.0], 1.0).unwrap();
    sketch.add("mp-10", &[0.5, -0.0, 7.0], 0.1).unwrap();
    assert_eq!(sketch.hash(), "8bc5997c679e013166ac9d43ac3915d5180f1cbf238bee008f7f02e96e7cab3c");
}

#[test]
fn wrong_input_changes_nothing() {
    let mut sketch = sketch_of(&[1.0, 2.0]);
    let before = sketch.to_bytes();
    let error = sketch.add("two", &[0.5, f32::NAN], 1.0).unwrap_err().to_string();
    assert!(error.contains("two") && error.contains("NaN") && error.contains("index 1"), "{error}");
    assert!(sketch.add("two", &[0.5, f32::NEG_INFINITY], 1.0).is_err());
    assert!(sketch.add("two", &[f32::MAX], 2.0).is_err());
    assert!(sketch.add("two", &[], 1.0).is_err());
    assert!(sketch.add("one", &[1.0], 1.0).unwrap_err().to_string().contains("one is in the sketch already"));
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(sketch.add("two", &[1.0], scale).is_err());
    }
    assert!(sketch.merge(&Sketch::new(Unit::ElectronsPerCubicAngstrom)).is_err());
    assert!(sketch.merge(&sketch_of(&[3.0])).is_err());
    assert_eq!(sketch.to_bytes(), before);
}

#[test]
fn scaling_rounds_once() {
    let values = [0.1_f32, 1.7, 33.3, -2.0];
    let volume = 17.3_f64;
    let scaled: Vec<f32> = values.iter().map(|&v| (f64::from(v) * (1.0 / volume)) as f32).collect();
    let mut sketch = Sketch::new(Unit::Chgcar);
    sketch.add("one", &values, 1.0 / volume).unwrap();
    assert_eq!(sketch.to_bytes(), sketch_of(&scaled).to_bytes());
}

#[test]
fn large_materials_are_taken_in_chunks() {
    let values: Vec<f32> = (0..100_003_u32).map(|i| (i % 977) as f32 * 0.01 - 1.0).collect();
    let mut shuffled = values.clone();
    shuffled.rotate_left(33_333);
    let sketch = sketch_of(&values);
    assert_eq!(sketch.to_bytes(), sketch_of(&shuffled).to_bytes());
    assert_eq!(sketch.n_voxels(), 100_003);
    assert_eq!(sketch.n_cells(), 977);
}
