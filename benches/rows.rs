//! From a grid to rows: cutting patches and assembling sequences, each beside the voxel-by-voxel way.

mod common;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tomat_core::codec::DensityCodec;
use tomat_core::grid::LatticeParameters;
use tomat_core::patch::for_each_run;
use tomat_core::sampler::{SampleKey, uniform_offsets};
use tomat_core::sequence::{FALLBACK_SHAPES, Layout, MaterialView, PAD_TO, Tokenizer};

const PATCHES: usize = 64;
const CUBE: [usize; 3] = [19; 3];

fn offsets() -> Vec<[usize; 3]> {
    let key = SampleKey { seed: 0, task_id: "bench", epoch: 0 };
    uniform_offsets(common::GRID, PATCHES, key).expect("the grid is small enough")
}

fn voxel(offset: [usize; 3], i: usize, j: usize, k: usize) -> usize {
    let [nx, ny, nz] = common::GRID;
    (((offset[0] + i) % nx) * ny + (offset[1] + j) % ny) * nz + (offset[2] + k) % nz
}

fn patches(criterion: &mut Criterion) {
    let values = common::density();
    let offsets = offsets();
    let voxels = PATCHES * CUBE.iter().product::<usize>();
    let mut out = vec![0.0f32; voxels];
    let mut group = criterion.benchmark_group("patches");
    group.throughput(Throughput::Elements(voxels as u64));
    group.bench_function("runs", |bencher| {
        bencher.iter(|| {
            let mut at = 0;
            for &offset in &offsets {
                for_each_run(common::GRID, CUBE, offset, |run| {
                    out[at..at + run.len()].copy_from_slice(&black_box(&values)[run.clone()]);
                    at += run.len();
                });
            }
        });
    });
    group.bench_function("voxel by voxel", |bencher| {
        bencher.iter(|| {
            let mut at = 0;
            for &offset in &offsets {
                for i in 0..CUBE[0] {
                    for j in 0..CUBE[1] {
                        for k in 0..CUBE[2] {
                            out[at] = black_box(&values)[voxel(offset, i, j, k)];
                            at += 1;
                        }
                    }
                }
            }
        });
    });
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let values = common::density();
    let (atomic_numbers, frac_coords) = common::atoms();
    let codec = common::codec(&values, 16_384);
    let DensityCodec::LloydMax(table) = codec.clone() else { unreachable!("the bench made it") };
    let layout = Layout::named("v3").expect("a known name");
    let tokenizer =
        Tokenizer::new(layout, codec, None, PAD_TO, FALLBACK_SHAPES.to_vec()).expect("defaults are valid");
    let view = MaterialView {
        grid_shape: common::GRID,
        density: values.as_slice(),
        lattice: LatticeParameters::new([9.6, 10.8, 11.2, 90.0, 90.0, 90.0]).expect("a sound cell"),
        atomic_numbers: &atomic_numbers,
        frac_coords: &frac_coords,
    };
    let offsets = offsets();
    let mut out = vec![0i32; PATCHES * PAD_TO];
    let mut group = criterion.benchmark_group("rows of a material");
    group.throughput(Throughput::Elements(out.len() as u64));
    group.bench_function("tokenizer", |bencher| {
        bencher.iter(|| tokenizer.encode(black_box(&view), &offsets, &mut out));
    });
    let first = tokenizer.vocabulary().density_range().start;
    group.bench_function("voxel by voxel, binary search", |bencher| {
        bencher.iter(|| {
            for (row, &offset) in out.chunks_exact_mut(PAD_TO).zip(&offsets) {
                let mut at = 200;
                for i in 0..CUBE[0] {
                    for j in 0..CUBE[1] {
                        for k in 0..CUBE[2] {
                            let value = black_box(&values)[voxel(offset, i, j, k)];
                            row[at] = first + table.boundaries().partition_point(|b| *b <= value) as i32;
                            at += 1;
                        }
                    }
                }
            }
        });
    });
    group.finish();
    tokenizer.encode(&view, &offsets, &mut out).expect("the view is sound");
    let mut group = criterion.benchmark_group("decode a row");
    group.throughput(Throughput::Elements(PAD_TO as u64));
    group.bench_function("tokenizer", |bencher| bencher.iter(|| tokenizer.decode(black_box(&out[..PAD_TO]))));
    group.finish();
}

criterion_group!(benches, patches, rows);
criterion_main!(benches);
