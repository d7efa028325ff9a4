//! Sketching and fitting: voxels a second into a sketch, and the time of each method on a million-cell sketch.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tomat_core::fit::{FitOptions, Method, Sketch, Weighting, fit};
use tomat_core::grid::Unit;

/// A heavy-tailed "density" that varies smoothly along each row, as grids do: sixteen octaves, a little noise.
fn density(voxels: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2) + 1;
    (0..voxels)
        .map(|i| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 40) as f64 / (1_u64 << 24) as f64;
            let wave =
                (i as f64 * 0.061).sin() + (i as f64 * 0.000_57).sin() + 0.7 * (i as f64 * 0.000_003_1).cos();
            (0.05 * (2.04 * wave + 0.05 * noise).exp()) as f32
        })
        .collect()
}

fn sketching(c: &mut Criterion) {
    let mut group = c.benchmark_group("sketch");
    for voxels in [50_000, 1_000_000] {
        let values = density(voxels, 1);
        group.throughput(Throughput::Elements(voxels as u64));
        for (name, scale) in [("add", 1.0), ("add_scaled", 1.0 / 163.7)] {
            group.bench_function(BenchmarkId::new(name, voxels), |b| {
                // Into one growing sketch, as a run over many materials does.
                let (mut sketch, mut id) = (Sketch::new(Unit::Chgcar), 0_u64);
                b.iter(|| {
                    id += 1;
                    sketch.add(&id.to_string(), black_box(&values), scale)
                });
            });
        }
    }
    group.finish();
}

fn million_cells() -> Sketch {
    let mut sketch = Sketch::new(Unit::Chgcar);
    for seed in 0..8 {
        let values = density(4_000_000, seed);
        let _ = sketch.add(&seed.to_string(), &values, 1.0);
    }
    sketch
}

fn fitting(c: &mut Criterion) {
    let sketch = million_cells();
    println!("fitting {} cells of {} voxels", sketch.n_cells(), sketch.n_voxels());
    let bytes = sketch.to_bytes();
    let mut group = c.benchmark_group("fit");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    group.bench_function("to_bytes", |b| b.iter(|| black_box(&sketch).to_bytes()));
    group.bench_function("from_bytes", |b| b.iter(|| Sketch::from_bytes(black_box(&bytes))));
    for method in Method::ALL {
        for bins in [1024, 4096, 16_384] {
            let options = FitOptions::new(method, Weighting::Material, bins);
            group.bench_function(BenchmarkId::new(method.name(), bins), |b| {
                b.iter(|| fit(black_box(&sketch), &options));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, sketching, fitting);
criterion_main!(benches);
