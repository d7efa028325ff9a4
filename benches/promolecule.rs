//! A promolecule on a grid: runs of points inside each cutoff sphere, beside a loop over images and all points.
//!
//! `cargo bench -p tomat-core --bench promolecule`. The bar is a million voxels with 50 atoms in under a second on
//! one core. The naive version is measured on a grid of an eighth of the points along each axis.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tomat_core::grid::{Crystal, Lattice, Unit};
use tomat_core::promolecule::fit::{Loss, NormalEquations};
use tomat_core::promolecule::{Promolecule, RadialBasis, RadialTable};

const CUTOFF: f64 = 6.0;

/// 50 atoms at 20 cubic angstrom each, in a skewed cell.
fn crystal() -> Crystal {
    let lattice = Lattice::from_matrix([[11.0, 0.0, 0.0], [-4.0, 9.5, 0.0], [1.5, 2.0, 9.6]]);
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let frac = (0..50).map(|_| [next(), next(), next()]).collect();
    let numbers = (0..50).map(|i| [3, 8, 22][i % 3]).collect();
    lattice.and_then(|lattice| Crystal::new(lattice, numbers, frac)).expect("a fixed crystal")
}

/// What a first version does: every point, every atom, every image near enough to the cell.
fn naive(crystal: &Crystal, shape: [usize; 3], tables: &BTreeMap<u8, RadialTable>) -> Vec<f64> {
    let rows = crystal.lattice.matrix();
    let mut density = Vec::with_capacity(shape.iter().product());
    for index in 0..shape.iter().product::<usize>() {
        let point = [index / (shape[1] * shape[2]), index / shape[2] % shape[1], index % shape[2]];
        let mut sum = 0.0;
        for (z, frac) in crystal.atomic_numbers.iter().zip(&crystal.frac_coords) {
            for image in 0..27_usize {
                let shift = [image / 9, image / 3 % 3, image % 3];
                let d: [f64; 3] = std::array::from_fn(|a| {
                    point[a] as f64 / shape[a] as f64 - frac[a] - (shift[a] as f64 - 1.0)
                });
                let square: f64 =
                    (0..3).map(|x| (0..3).map(|a| d[a] * rows[a][x]).sum::<f64>().powi(2)).sum();
                sum += tables[z].value(square.sqrt());
            }
        }
        density.push(sum);
    }
    density
}

fn benches(criterion: &mut Criterion) {
    let crystal = crystal();
    let tables: BTreeMap<u8, RadialTable> = [(3, 1.0), (8, 3.0), (22, 2.0)]
        .into_iter()
        .map(|(z, k)| (z, RadialTable::from_fn(CUTOFF, |r| (-k * r).exp()).expect("a fixed table")))
        .collect();
    let promolecule = Promolecule::new(tables.clone()).expect("three elements");

    let small = [13, 12, 13];
    let expected = naive(&crystal, small, &tables);
    let sum = promolecule.sum(&crystal, small).expect("a sum");
    assert!(sum.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9 * b.abs()));

    let mut group = criterion.benchmark_group("promolecule");
    group.sample_size(10);
    group.throughput(Throughput::Elements(small.iter().product::<usize>() as u64));
    group.bench_function("naive", |b| b.iter(|| naive(black_box(&crystal), small, &tables)));
    let shape = [104, 96, 100];
    group.throughput(Throughput::Elements(shape.iter().product::<usize>() as u64));
    group.bench_function("sum", |b| b.iter(|| promolecule.sum(black_box(&crystal), shape)));

    let shape = [26, 24, 25];
    let density = promolecule.sum(&crystal, shape).expect("a sum");
    group.throughput(Throughput::Elements(density.len() as u64));
    let basis = RadialBasis::new(CUTOFF, 0.5, 24).expect("a fixed basis");
    group.bench_function("normal equations", |b| {
        b.iter(|| {
            let mut sums = NormalEquations::new(basis.clone());
            sums.add(black_box(&crystal), shape, &density, Unit::ElectronsPerCubicAngstrom, Loss::Squared)
        });
    });
    group.finish();
}

criterion_group!(promolecule_benches, benches);
criterion_main!(promolecule_benches);
