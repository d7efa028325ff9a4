//! Codecs: encode and decode, each beside the obvious way to do it.

mod common;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tomat_core::codec::{DensityCodec, LogCodec};

fn lloyd_max(criterion: &mut Criterion) {
    let values = common::density();
    let mut out = vec![0i32; values.len()];
    let mut group = criterion.benchmark_group("lloyd-max encode");
    group.throughput(Throughput::Elements(values.len() as u64));
    for bins in [1024, 4096, 16_384, 65_536] {
        let codec = common::codec(&values, bins);
        let DensityCodec::LloydMax(table) = &codec else { unreachable!("the bench made it") };
        let boundaries = table.boundaries();
        group.bench_function(BenchmarkId::new("table", bins), |bencher| {
            bencher.iter(|| codec.encode(black_box(&values), &[0], &mut out));
        });
        group.bench_function(BenchmarkId::new("binary search", bins), |bencher| {
            bencher.iter(|| {
                for (place, value) in out.iter_mut().zip(black_box(&values)) {
                    *place = boundaries.partition_point(|b| b <= value) as i32;
                }
            });
        });
    }
    group.finish();

    let codec = common::codec(&values, 16_384);
    codec.encode(&values, &[0], &mut out).expect("values are finite");
    let mut decoded = vec![0.0; values.len()];
    let mut group = criterion.benchmark_group("lloyd-max decode");
    group.throughput(Throughput::Elements(values.len() as u64));
    group.bench_function("checked table", |bencher| {
        bencher.iter(|| codec.decode(black_box(&out), &mut decoded));
    });
    group.finish();
}

fn log(criterion: &mut Criterion) {
    let values = &common::density()[..200_000];
    for name in ["two_token_9_12", "fp16_1token"] {
        let codec = DensityCodec::Log(Arc::new(LogCodec::named(name).expect("a known name")));
        let k = codec.components();
        let mut out = vec![0i32; values.len() * k];
        let mut decoded = vec![0.0; values.len()];
        let bases = vec![0; k];
        let mut group = criterion.benchmark_group(format!("log {name}"));
        group.throughput(Throughput::Elements(values.len() as u64));
        group.bench_function("encode", |bencher| {
            bencher.iter(|| codec.encode(black_box(values), &bases, &mut out));
        });
        // A call of the logarithm a value, as the codec is defined.
        let (low, high) = (-4.127, 4.967);
        let top = (codec.sizes().iter().product::<usize>() / 2 - 1) as f64;
        group.bench_function("encode by the formula", |bencher| {
            bencher.iter(|| {
                for (word, &value) in out.chunks_exact_mut(k).zip(black_box(values)) {
                    let exponent = f64::from(value.abs()).log10().clamp(low, high);
                    word[0] = ((exponent - low) / (high - low) * top) as i32;
                }
            });
        });
        codec.encode(values, &bases, &mut out).expect("values are finite");
        group.bench_function("decode", |bencher| {
            bencher.iter(|| codec.decode(black_box(&out), &mut decoded).expect("these are codes"));
        });
        group.finish();
    }
}

criterion_group!(benches, lloyd_max, log);
criterion_main!(benches);
