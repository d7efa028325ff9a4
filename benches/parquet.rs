//! The shard writer beside the general parquet writer, on rows like those of real densities.
//!
//! Rows: 64 patches of 19 x 19 x 19 voxels of a smooth periodic density (a sum of Gaussians), quantised to 16,384 bins
//! placed evenly in the square root of the density, with a preamble and padding to 8192 ids.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tomat_io::parquet::{Encoding, ShardOptions, ShardWriter};

mod arrow_baseline;

const PAD_TO: usize = 8192;
const ROWS: usize = 64;
const GRID: [usize; 3] = [96, 108, 112];
const PATCH: usize = 19;
/// The first density id, and the number of bins.
const FIRST: i32 = 2186;
const BINS: f64 = 16_384.0;

fn shard_writer(criterion: &mut Criterion) {
    let ids = rows();
    let mut group = criterion.benchmark_group("parquet, one material");
    group.throughput(Throughput::Elements(ids.len() as u64)).sample_size(20);

    for (name, encoding) in arrow_baseline::ENCODINGS {
        let write = || {
            arrow_baseline::write(&ids, PAD_TO, ROWS, encoding, 1, &mut Vec::new())
                .expect("memory takes every write")
        };
        print_size("ArrowWriter", name, 1, write().len());
        group.bench_function(BenchmarkId::new("ArrowWriter, level 1", name), |bencher| {
            bencher.iter(|| black_box(write()));
        });
    }
    for (name, encoding) in [
        ("plain", Encoding::Plain),
        ("byte-stream-split", Encoding::ByteStreamSplit),
        ("delta", Encoding::DeltaBinaryPacked),
    ] {
        for level in [-5, 1, 3] {
            let write = || ours(&ids, encoding, level);
            print_size("ShardWriter", name, level, write().len());
            group.bench_function(BenchmarkId::new(format!("ShardWriter, level {level}"), name), |bencher| {
                bencher.iter(|| black_box(write()));
            });
        }
    }
    group.finish();
}

fn ours(ids: &[i32], encoding: Encoding, level: i32) -> Vec<u8> {
    let mut options = ShardOptions::new(PAD_TO);
    options.encoding = encoding;
    options.compression_level = level;
    let mut writer = ShardWriter::new(Vec::new(), "memory", options).expect("options are valid");
    writer.push("mp-149", &[[0; 3]; ROWS], ids).expect("memory takes every write");
    writer.finish().expect("memory takes every write").0
}

fn print_size(writer: &str, encoding: &str, level: i32, bytes: usize) {
    let per_token = bytes as f64 / (PAD_TO * ROWS) as f64;
    println!("{writer}, {encoding}, level {level}: {per_token:.3} bytes a token");
}

/// The rows of one material.
fn rows() -> Vec<i32> {
    let grid = quantised_density();
    let [nx, ny, nz] = GRID;
    let mut state = 1_u64;
    let mut ids = Vec::with_capacity(ROWS * PAD_TO);
    for _ in 0..ROWS {
        let [x, y, z] = GRID.map(|points| random(&mut state) as usize % points);
        ids.extend((0..226).map(|i| 18 + i * 5)); // as long as the preamble of 20 atoms
        for i in 0..PATCH {
            for j in 0..PATCH {
                let line = ((x + i) % nx * ny + (y + j) % ny) * nz;
                ids.extend((0..PATCH).map(|k| grid[line + (z + k) % nz]));
            }
        }
        ids.extend([16, 2]);
        ids.resize(ids.len().next_multiple_of(PAD_TO), 0);
    }
    ids
}

/// The density of 20 Gaussian atoms in a box of 1 x 1 x 1, as token ids, last axis fastest.
fn quantised_density() -> Vec<i32> {
    let mut state = 7_u64;
    let mut uniform = || f64::from(random(&mut state)) / f64::from(u32::MAX);
    let mut density = vec![0.0; GRID.iter().product()];
    for _ in 0..20 {
        let width = 0.05 + 0.08 * uniform();
        let height = 10_f64.powf(2.0 * uniform());
        // A Gaussian is a product of one factor an axis; images one cell away on either side are enough.
        let factors = GRID.map(|points| {
            let centre = uniform();
            let factor = |point: usize| {
                let distance = point as f64 / points as f64 - centre;
                let image = |shift: f64| (-((distance + shift) / width).powi(2)).exp();
                image(-1.0) + image(0.0) + image(1.0)
            };
            (0..points).map(factor).collect::<Vec<f64>>()
        });
        let [along_x, along_y, along_z] = &factors;
        let columns = along_x.iter().flat_map(|x| along_y.iter().map(move |y| height * x * y));
        for (line, xy) in density.chunks_mut(along_z.len()).zip(columns) {
            line.iter_mut().zip(along_z).for_each(|(value, z)| *value += xy * z);
        }
    }
    let top = density.iter().fold(0.0_f64, |top, &value| top.max(value));
    density.iter().map(|value| FIRST + ((value / top).sqrt() * (BINS - 1.0)) as i32).collect()
}

/// The 32 high bits of a linear congruential generator (Knuth's MMIX constants).
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 32) as u32
}

criterion_group!(benches, shard_writer);
criterion_main!(benches);
