//! What several benches need: a smooth density of realistic range, and a fitted-looking codec for it.

use std::sync::Arc;

use tomat_core::codec::{DensityCodec, LloydMaxCodec};
use tomat_core::grid::Unit;

/// A grid of the Materials Project's median size.
pub(crate) const GRID: [usize; 3] = [96, 108, 112];

/// Atoms in the cell: 20, on a jittered lattice.
pub(crate) fn atoms() -> (Vec<u8>, Vec<[f64; 3]>) {
    let numbers = (0..20).map(|i| [8, 14, 26, 56][i % 4]).collect();
    let positions = (0..20)
        .map(|i| {
            let t = i as f64;
            [(t * 0.618_034).fract(), (t * 0.754_878).fract(), (t * 0.569_840).fract()]
        })
        .collect();
    (numbers, positions)
}

/// A periodic density in the `chgcar` convention: exponential tails of all atoms over a low background, from about
/// 1 to about 1,000, as real valence densities have it.
pub(crate) fn density() -> Vec<f32> {
    let (_, atoms) = atoms();
    let [nx, ny, nz] = GRID;
    let mut values = Vec::with_capacity(nx * ny * nz);
    for i in 0..nx {
        for j in 0..ny {
            for k in 0..nz {
                let point = [i as f64 / nx as f64, j as f64 / ny as f64, k as f64 / nz as f64];
                let rho: f64 = atoms.iter().map(|atom| tail(*atom, point)).sum();
                values.push((1.0 + 900.0 * rho) as f32);
            }
        }
    }
    values
}

fn tail(atom: [f64; 3], point: [f64; 3]) -> f64 {
    let squared: f64 = atom
        .iter()
        .zip(point)
        .map(|(a, p)| {
            let d = (a - p).abs();
            d.min(1.0 - d).powi(2)
        })
        .sum();
    (-squared.sqrt() * 40.0).exp()
}

/// A Lloyd-Max codec of `bins` bins placed by the square root of the density of values (see `fit`).
pub(crate) fn codec(values: &[f32], bins: usize) -> DensityCodec {
    let mut sorted: Vec<f32> = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    // Equal steps of the integral of p^(1/2), with p from the spacing of every 4th value.
    let sample: Vec<f64> = sorted.iter().step_by(4).map(|&v| f64::from(v)).collect();
    let steps: Vec<f64> = sample.windows(2).map(|w| (w[1] - w[0]).max(1e-9).sqrt()).collect();
    let total: f64 = steps.iter().sum();
    let mut boundaries = Vec::with_capacity(bins);
    let (mut sum, mut next) = (0.0, 1usize);
    for (step, pair) in steps.iter().zip(sample.windows(2)) {
        while next < bins && sum + step >= total * next as f64 / bins as f64 {
            let t = (total * next as f64 / bins as f64 - sum) / step;
            boundaries.push((pair[0] + t * (pair[1] - pair[0])) as f32);
            next += 1;
        }
        sum += step;
    }
    boundaries.dedup();
    assert!(
        boundaries.len() * 100 >= bins * 99,
        "{} boundaries are too few for {bins} bins",
        boundaries.len()
    );
    let points = (0..=boundaries.len())
        .map(|i| boundaries.get(i.saturating_sub(1)).copied().unwrap_or_default())
        .collect();
    let clip_max = f64::from(sorted[sorted.len() - 1]);
    DensityCodec::LloydMax(Arc::new(
        LloydMaxCodec::new(boundaries, points, clip_max, Unit::Chgcar).expect("boundaries ascend"),
    ))
}
