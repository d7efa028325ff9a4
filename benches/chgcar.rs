//! CHGCAR text to a density: the reader of this crate beside a plain `split_whitespace` and `str::parse`.
//!
//! `cargo bench -p tomat-io --bench chgcar`. The unit is bytes of uncompressed text; the bar is 1 GB/s on one core.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tomat_io::{chgcar, cube, numbers};

const SHAPE: [usize; 3] = [96, 108, 112];

/// Densities as a calculation has them: over several powers of ten, two in ten thousand below zero.
fn values() -> impl Iterator<Item = (bool, u64, i32)> {
    let n = SHAPE.iter().product();
    let mut state = 1_u64;
    (0..n).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let digits = 10_000_000_000 + (state >> 11) % 90_000_000_000;
        ((state >> 40).is_multiple_of(5000), digits, ((state >> 3) % 5) as i32 - 1)
    })
}

/// Numbers `0.ddd` with so many decimals, `per_line` a line, each after `gap`.
fn block(decimals: u32, per_line: usize, gap: &str) -> String {
    let mut text = String::new();
    for (i, (negative, digits, exponent)) in values().enumerate() {
        let sign = if negative { '-' } else { '0' };
        let digits = digits / 10_u64.pow(11 - decimals);
        let end = if (i + 1) % per_line == 0 { "\n" } else { "" };
        let _ = write!(text, "{gap}{sign}.{digits:0width$}E{exponent:+03}{end}", width = decimals as usize);
    }
    text.push('\n');
    text
}

fn chgcar_text(block: &str) -> String {
    let [nx, ny, nz] = SHAPE;
    format!("Si\n1.0\n8 0 0\n0 9 0\n0 0 9.5\nSi\n1\nDirect\n0 0 0\n\n{nx} {ny} {nz}\n{block}")
}

/// What a first version of such a reader does.
fn naive(text: &str, shape: [usize; 3]) -> Vec<f32> {
    let [nx, ny, nz] = shape;
    let mut result = vec![0.0; nx * ny * nz];
    for (i, word) in text.split_whitespace().enumerate() {
        let (x, y, z) = (i % nx, i / nx % ny, i / (nx * ny));
        result[(x * ny + y) * nz + z] = word.parse::<f64>().unwrap_or(f64::NAN) as f32;
    }
    result
}

fn benches(criterion: &mut Criterion) {
    let n = SHAPE.iter().product();
    let block_5 = block(11, 5, " ");
    let chgcar = chgcar_text(&block_5);
    let path = Path::new("bench/CHGCAR");
    assert_eq!(
        chgcar::parse(path, chgcar.as_bytes()).map(|m| m.density.into_values()).ok(),
        Some(naive(&block_5, SHAPE))
    );

    let mut group = criterion.benchmark_group("chgcar");
    group.throughput(Throughput::Bytes(block_5.len() as u64)).sample_size(20);
    group.bench_function("naive", |b| b.iter(|| naive(black_box(&block_5), SHAPE)));
    group.bench_function("numbers", |b| {
        b.iter(|| numbers::read_values(black_box(block_5.as_bytes()), n, |v| v as f32));
    });
    group.bench_function("file", |b| b.iter(|| chgcar::parse(path, black_box(chgcar.as_bytes()))));
    group.finish();

    let block_10 = block(5, 10, " ");
    let chg = chgcar_text(&block_10);
    let mut group = criterion.benchmark_group("chg");
    group.throughput(Throughput::Bytes(block_10.len() as u64)).sample_size(20);
    group.bench_function("naive", |b| b.iter(|| naive(black_box(&block_10), SHAPE)));
    group.bench_function("file", |b| b.iter(|| chgcar::parse(path, black_box(chg.as_bytes()))));
    group.finish();

    let block_6 = block(5, 6, "  ");
    let [nx, ny, nz] = SHAPE;
    let text = format!("\n\n1 0 0 0\n{nx} .1 0 0\n{ny} 0 .1 0\n{nz} 0 0 .1\n14 0 0 0 0\n{block_6}");
    let mut group = criterion.benchmark_group("cube");
    group.throughput(Throughput::Bytes(block_6.len() as u64)).sample_size(20);
    group.bench_function("file", |b| b.iter(|| cube::parse(Path::new("a.cube"), black_box(text.as_bytes()))));
    group.finish();
}

criterion_group!(chgcar_benches, benches);
criterion_main!(chgcar_benches);
