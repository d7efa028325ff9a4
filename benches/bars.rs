//! Bars of the core: encoding rows against quantising alone, and log codecs beside their formula, in turns, in one run.
//!
//! Beside the rows stands cutting the patches out and nothing else, which no look-up makes faster: a patch is 361
//! short runs of a grid that lies in no cache near the core.
//!
//! Prints what it measured; where `TOMAT_BENCH_TABLE` names a file, also a line of JSON a bar for `benches/bars.py`.

mod common;

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use tomat_core::codec::{DensityCodec, LogCodec};
use tomat_core::grid::{Crystal, Density, Lattice, Unit};
use tomat_core::patch::for_each_run;
use tomat_core::sampler::{SampleKey, uniform_offsets};
use tomat_core::sequence::{FALLBACK_SHAPES, Layout, PAD_TO, Tokenizer};

const PATCHES: usize = 64;
const CUBE: [usize; 3] = [19; 3];
const ROUNDS: usize = 201;
/// Million voxels a second of a log codec.
const LOG_BAR: f64 = 250.0;

/// Seconds of the middle one of many calls.
fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_unstable_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn main() {
    let values = common::density();
    log_codecs(&values[..200_000]);
    rows(values);
}

fn log_codecs(values: &[f32]) {
    for name in ["two_token_9_12", "tomol_3byte", "fp16_1token"] {
        let log = LogCodec::named(name).expect("a known name");
        let (low, width) = (log.log_min(), log.log_max() - log.log_min());
        let top = (log.sizes().iter().product::<usize>() / 2 - 1) as f64;
        let codec = DensityCodec::Log(Arc::new(log));
        let k = codec.components();
        let (bases, mut out) = (vec![0; k], vec![0; values.len() * k]);
        let (mut encoding, mut formula) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            encoding.push(seconds(|| codec.encode(black_box(values), &bases, &mut out).expect("no NaN")));
            formula.push(seconds(|| {
                for (word, &value) in out.chunks_exact_mut(k).zip(black_box(values)) {
                    let exponent = f64::from(value.abs()).log10().clamp(low, low + width);
                    word[0] = ((exponent - low) / width * top) as i32;
                }
            }));
        }
        let [encoding, formula] = [encoding, formula].map(|all| 1e-6 * values.len() as f64 / median(all));
        println!("{name}: {encoding:.0} million voxels a second, by the formula {formula:.0}");
        report((&format!("log codec {name} (core)"), "M voxels/s"), false, LOG_BAR, encoding);
    }
}

fn rows(values: Vec<f32>) {
    let (atomic_numbers, frac_coords) = common::atoms();
    let codec = common::codec(&values, 16_384);
    let layout = Layout::named("v3").expect("a known name");
    let tokenizer = Tokenizer::new(layout, codec.clone(), None, PAD_TO, FALLBACK_SHAPES.to_vec())
        .expect("defaults are valid");
    let lattice = Lattice::from_matrix([[9.6, 0.0, 0.0], [0.0, 10.8, 0.0], [0.0, 0.0, 11.2]]);
    let crystal = Crystal { lattice: lattice.expect("a sound cell"), atomic_numbers, frac_coords };
    let density = Density::new(common::GRID, Unit::Chgcar, values).expect("values are finite");
    let key = SampleKey { seed: 0, task_id: "bench", epoch: 0 };
    let offsets = uniform_offsets(common::GRID, PATCHES, key).expect("the grid is small enough");
    let cut_out = |offsets: &[[usize; 3]], cut: &mut Vec<f32>| {
        cut.clear();
        for &offset in offsets {
            for_each_run(common::GRID, CUBE, offset, |run| cut.extend_from_slice(&density.values()[run]));
        }
    };
    let (mut cut, mut patch) = (Vec::new(), Vec::new());
    cut_out(&offsets, &mut cut);
    let mut bins = vec![0; cut.len()];

    let (mut cutting, mut quantising, mut encoding) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // One at a time, as rows are made.
        cutting.push(seconds(|| offsets.chunks(1).for_each(|one| cut_out(black_box(one), &mut patch))));
        quantising.push(seconds(|| codec.encode(black_box(&cut), &[0], &mut bins).expect("no NaN")));
        encoding.push(seconds(|| {
            let mut rows = tokenizer.rows(&density, &crystal, &offsets).expect("a sound material");
            for row in 0..rows.n_rows() {
                black_box(rows.row(row));
            }
        }));
    }
    let [cutting, quantising, encoding] = [cutting, quantising, encoding].map(median);
    let million = 1e-6 * cut.len() as f64;
    println!(
        "million voxels a second: quantising {:.0}, cutting out {:.0}, rows of patches {:.0}; \
         quantising and cutting out take {:.2}x quantising alone",
        million / quantising,
        million / cutting,
        million / encoding,
        (quantising + cutting) / quantising
    );
    report(("rows of a material over quantising alone (core)", "x"), true, 1.4, encoding / quantising);
}

/// Prints what was measured, in a unit, beside its bar, the largest it may be or the least.
fn report((what, unit): (&str, &str), at_most: bool, bar: f64, measured: f64) {
    let side = if at_most { "at most" } else { "at least" };
    println!("{what}: {measured:.2} {unit}, {side} {bar} {unit}");
    let Ok(path) = std::env::var("TOMAT_BENCH_TABLE") else { return };
    let line = format!(
        r#"{{"what": "{what}", "bar": {bar}, "measured": {measured}, "unit": "{unit}", "at_most": {at_most}}}"#
    );
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| writeln!(file, "{line}")).expect("the table can be written");
}
