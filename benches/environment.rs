//! Sums over the surroundings of points: blocks of points and lanes of channels, beside a loop over points and images.
//!
//! `cargo bench -p tomat-core --bench environment`. The bar is a million points in under three seconds on one core, in
//! a typical solid (60 atoms within the cutoff of 5 angstrom, channels 64, 24, 16, 8). The naive version is measured on
//! few points.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tomat_core::environment::{Basis, Channels, Options, Radial};
use tomat_core::grid::{Crystal, Lattice};
use tomat_core::promolecule::RadialBasis;

const CUTOFF: f64 = 5.0;
const CORE: f64 = 0.3;
const SPLINES: usize = 20;
const CHANNELS: [usize; 4] = [64, 24, 16, 8];
const RADIAL: Radial = Radial { cutoff: CUTOFF, inner: 0.5, splines: SPLINES, reach: 2.0 };

/// `n` atoms in a skewed cell of `edge` angstrom.
fn crystal(n: usize, edge: f64) -> Crystal {
    let rows = [[1.0, 0.0, 0.0], [-0.4, 0.95, 0.0], [0.15, 0.2, 0.96]].map(|row| row.map(|x| x * edge));
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let frac = (0..n).map(|_| [next(), next(), next()]).collect();
    let crystal = Lattice::from_matrix(rows).and_then(|lattice| Crystal::new(lattice, vec![14; n], frac));
    crystal.expect("a fixed crystal")
}

fn points([nx, ny, nz]: [usize; 3]) -> Vec<[f64; 3]> {
    let index = |i: usize| [i / (ny * nz), i / nz % ny, i % nz];
    let point = |[i, j, k]: [usize; 3]| [i as f64 / nx as f64, j as f64 / ny as f64, k as f64 / nz as f64];
    (0..nx * ny * nz).map(|i| point(index(i))).collect()
}

fn weights(sites: usize) -> Vec<f32> {
    (0..sites * SPLINES * CHANNELS.iter().sum::<usize>()).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// What a first version does: every point, every atom, every image near enough to the cell, each function by its
/// definition.
fn naive(crystal: &Crystal, points: &[[f64; 3]], weights: &[f32]) -> Vec<f32> {
    let splines = RadialBasis::new(2.0 * CUTOFF, 0.5, SPLINES).expect("a fixed basis");
    let rows = crystal.lattice.matrix();
    let total: usize = CHANNELS.iter().sum();
    let width: usize = CHANNELS.iter().enumerate().map(|(l, c)| (2 * l + 1) * c).sum();
    let mut out = vec![0.0; points.len() * width];
    for (point, out) in points.iter().zip(out.chunks_exact_mut(width)) {
        for (site, frac) in crystal.frac_coords.iter().enumerate() {
            for image in 0..125_usize {
                let shift = [image / 25, image / 5 % 5, image % 5];
                let d: [f64; 3] = std::array::from_fn(|x| {
                    (0..3).map(|a| (frac[a] + shift[a] as f64 - 2.0 - point[a]) * rows[a][x]).sum()
                });
                let square: f64 = d.iter().map(|x| x * x).sum();
                if square >= CUTOFF * CUTOFF {
                    continue;
                }
                let window = (1.0 - square / (CUTOFF * CUTOFF)).powi(3);
                let mut values = vec![0.0_f32; total];
                let mut unit = vec![0.0; SPLINES];
                for n in 0..SPLINES {
                    unit.fill(0.0);
                    unit[n] = window;
                    let r = splines.value(&unit, square.sqrt()) as f32;
                    let row = &weights[(site * SPLINES + n) * total..][..total];
                    for (value, w) in values.iter_mut().zip(row) {
                        *value += r * w;
                    }
                }
                let y = harmonics(d.map(|x| x / (square + CORE * CORE).sqrt()));
                let (mut place, mut start) = (0, 0);
                for (l, count) in CHANNELS.into_iter().enumerate() {
                    for y in &y[l * l..(l + 1) * (l + 1)] {
                        for value in &values[start..start + count] {
                            out[place] += value * *y as f32;
                            place += 1;
                        }
                    }
                    start += count;
                }
            }
        }
    }
    out
}

fn harmonics([x, y, z]: [f64; 3]) -> [f64; 16] {
    let (r3, r15) = (3.0_f64.sqrt(), 15.0_f64.sqrt());
    let (a, b) = (0.375_f64.sqrt(), 0.625_f64.sqrt());
    let square = x * x + y * y + z * z;
    [
        1.0,
        y,
        z,
        x,
        r3 * x * y,
        r3 * y * z,
        0.5 * (3.0 * z * z - square),
        r3 * x * z,
        0.5 * r3 * (x * x - y * y),
        b * y * (3.0 * x * x - y * y),
        r15 * x * y * z,
        a * y * (5.0 * z * z - square),
        0.5 * z * (5.0 * z * z - 3.0 * square),
        a * x * (5.0 * z * z - square),
        0.5 * r15 * z * (x * x - y * y),
        b * x * (x * x - 3.0 * y * y),
    ]
}

fn benches(criterion: &mut Criterion) {
    let basis = Basis::new(RADIAL, 3, CORE).expect("a fixed basis");
    let mut group = criterion.benchmark_group("environment");
    group.sample_size(10);
    // 8.7 cubic angstrom an atom: 60 neighbours.
    for (name, crystal, shape, few) in [
        ("50 atoms", crystal(50, 7.83), [40, 40, 40], [4, 4, 4]),
        ("2 atoms", crystal(2, 2.68), [40, 40, 40], [4, 4, 4]),
    ] {
        let weights = weights(crystal.frac_coords.len());
        let channels = Channels { channels: &CHANNELS, weights: &weights };
        let of = |points: &[[f64; 3]]| {
            basis.contracted(black_box(&crystal), points, Options::default(), channels).expect("sums")
        };
        let few = points(few);
        let worst = of(&few)
            .iter()
            .zip(naive(&crystal, &few, &weights))
            .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
            .fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
        group.throughput(Throughput::Elements(few.len() as u64));
        group.bench_function(format!("{name}, naive"), |b| b.iter(|| naive(&crystal, &few, &weights)));
        let points = points(shape);
        group.throughput(Throughput::Elements(points.len() as u64));
        group.bench_function(format!("{name}, contracted"), |b| b.iter(|| of(&points)));
    }
    // Points of a training example: few, far apart, in random order.
    let crystal = crystal(12, 4.87);
    let points: Vec<[f64; 3]> =
        (0..64).map(|i| [0.618_034, 0.754_878, 0.569_84].map(|x| (f64::from(i) * x).fract())).collect();
    group.throughput(Throughput::Elements(64));
    group.bench_function("12 atoms, by site, 64 points", |b| {
        b.iter(|| basis.by_site(black_box(&crystal), &points, Options::default()));
    });
    group.finish();
}

criterion_group!(environment_benches, benches);
criterion_main!(environment_benches);
