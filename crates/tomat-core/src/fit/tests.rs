use proptest::prelude::*;

use super::cost::{Absolute, Cost, Square};
use super::*;
use crate::grid::Unit;

mod codec;
mod sketch;

/// A sketch of one material.
fn sketch_of(values: &[f32]) -> Sketch {
    let mut sketch = Sketch::new(Unit::Chgcar);
    sketch.add("one", values, 1.0).unwrap();
    sketch
}

/// Three heavy-tailed materials with a few negative values, different in level and size.
fn heavy_tail() -> Sketch {
    let mut sketch = Sketch::new(Unit::ElectronsPerCubicAngstrom);
    let mut state = 1_u64;
    for (id, n, level) in [("a", 9_000, 0.02), ("b", 4_000, 0.3), ("c", 14_000, 1.5)] {
        let values: Vec<f32> = (0..n)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let u = ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                let value = level * u.powf(-0.5);
                if i % 701 == 0 { -value as f32 } else { value as f32 }
            })
            .collect();
        sketch.add(id, &values, 1.0).unwrap();
    }
    sketch
}

/// Cost of a run by its definition, around the weighted median or mean.
fn naive(values: &[f32], weights: &[f64], squared: bool) -> f64 {
    let total: f64 = weights.iter().sum();
    let about = |m: f64| -> f64 {
        let error = values.iter().map(|&v| (f64::from(v) - m).abs());
        error.zip(weights).map(|(e, w)| if squared { w * e * e } else { w * e }).sum()
    };
    if squared {
        let shift = f64::from(values[0]);
        let moment: f64 = values.iter().zip(weights).map(|(&v, w)| w * (f64::from(v) - shift)).sum();
        return about(shift + moment / total);
    }
    values.iter().map(|&v| about(f64::from(v))).fold(f64::INFINITY, f64::min)
}

/// `F(k)` for all `k`, row by row.
fn brute_force(values: &[f32], weights: &[f64], squared: bool) -> Vec<f64> {
    let n = values.len();
    let cost = |i: usize, j: usize| naive(&values[i..j], &weights[i..j], squared);
    let costs: Vec<Vec<f64>> =
        (0..n).map(|i| (0..=n).map(|j| if i < j { cost(i, j) } else { f64::INFINITY }).collect()).collect();
    let mut row = vec![f64::INFINITY; n + 1];
    row[0] = 0.0;
    let mut totals = vec![f64::INFINITY];
    for _ in 0..n {
        row = (0..=n).map(|j| (0..j).map(|i| row[i] + costs[i][j]).fold(f64::INFINITY, f64::min)).collect();
        totals.push(row[n]);
    }
    totals
}

fn value<C: Cost>(cost: &C, ends: &[usize]) -> f64 {
    ends.windows(2).map(|run| cost.cost(run[0], run[1])).sum()
}

fn check_optimal(values: &[f32], weights: &[f64]) {
    let n = values.len();
    let (absolute, square) = (Absolute::new(values, weights), Square::new(values, weights));
    for squared in [false, true] {
        let best = brute_force(values, weights, squared);
        // The cost's rounding, and that of the prefix sums in 106 bits.
        let power = if squared { 2 } else { 1 };
        let sums: f64 = values.iter().zip(weights).map(|(&v, w)| w * f64::from(v).abs().powi(power)).sum();
        for k in 1..=n {
            // A poor start must not change the result.
            let start: Vec<usize> = (0..=n).step_by(n).collect();
            let (ends, got) = if squared {
                let ends = partition::optimal(&square, k, &start);
                (ends.clone(), value(&square, &ends))
            } else {
                let ends = partition::optimal(&absolute, k, &start);
                (ends.clone(), value(&absolute, &ends))
            };
            assert_eq!(ends.len(), k + 1, "{k} runs of {values:?}");
            assert!(ends[0] == 0 && ends[k] == n && ends.windows(2).all(|e| e[0] < e[1]), "{ends:?}");
            assert!(
                (got - best[k]).abs() <= 1e-12 * best[k] + 1e-29 * sums,
                "k {k} squared {squared}: {got} against {}",
                best[k]
            );
            let direct: f64 =
                ends.windows(2).map(|e| naive(&values[e[0]..e[1]], &weights[e[0]..e[1]], squared)).sum();
            assert!(
                (direct - best[k]).abs() <= 1e-12 * best[k] + 1e-29 * sums,
                "k {k}: {direct} against {}",
                best[k]
            );
        }
    }
}

/// Strictly ascending values over nine orders of magnitude of either sign, with integer weights.
fn cells() -> impl Strategy<Value = (Vec<f32>, Vec<f64>)> {
    let value = prop_oneof![
        (-6.0_f32..3.3).prop_map(|x| 10_f32.powf(x)),
        (-3.0_f32..1.5).prop_map(|x| -10_f32.powf(x)),
        (0_i16..40).prop_map(f32::from),
        (0_u32..40).prop_map(|ulps| f32::from_bits(1_f32.to_bits() + ulps)),
    ];
    let weight = prop_oneof![Just(1_u32), 1_u32..20, 1_u32..2_000_000];
    prop::collection::vec((value, weight), 1..28).prop_map(|mut cells| {
        cells.sort_by(|a, b| a.0.total_cmp(&b.0));
        cells.dedup_by_key(|cell| cell.0);
        cells.into_iter().map(|(v, w)| (v, f64::from(w))).unzip()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn partitions_are_optimal((values, weights) in cells()) {
        check_optimal(&values, &weights);
    }

    #[test]
    fn partitions_of_equal_steps_are_optimal(n in 1_u16..40, weight in 1_u32..4) {
        let values: Vec<f32> = (0..n).map(f32::from).collect();
        check_optimal(&values, &vec![f64::from(weight); values.len()]);
    }

    #[test]
    fn partitions_of_clusters_are_optimal(clusters in prop::collection::vec((0_u16..30, 1_u16..6), 1..6)) {
        let mut values: Vec<f32> =
            clusters.iter().flat_map(|&(at, n)| (0..n).map(move |i| f32::from(at) * 100.0 + f32::from(i))).collect();
        values.sort_by(f32::total_cmp);
        values.dedup();
        let weights: Vec<f64> = (0..values.len()).map(|i| 1.0 + (i % 3) as f64).collect();
        check_optimal(&values, &weights);
    }
}

#[test]
fn costs_hold_far_from_the_origin() {
    // Neighbouring float32 after a heavy beginning: float64 prefix sums would lose the cost altogether.
    let mut values = vec![1e-3_f32, 2000.0];
    let mut weights = vec![1e9, 3e6];
    for ulps in 1..6 {
        values.push(f32::from_bits(2000_f32.to_bits() + ulps));
        weights.push(f64::from(ulps));
    }
    let n = values.len();
    for squared in [false, true] {
        let (absolute, square) = (Absolute::new(&values, &weights), Square::new(&values, &weights));
        let got = if squared { square.cost(2, n) } else { absolute.cost(2, n) };
        let expected = naive(&values[2..], &weights[2..], squared);
        assert!((got - expected).abs() <= 1e-10 * expected, "{squared}: {got} {expected}");
    }
}
