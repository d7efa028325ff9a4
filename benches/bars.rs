//! Bars of the core: encoding rows against quantising alone, in turns, in one run.
//!
//! Prints what it measured; where `TOMAT_BENCH_TABLE` names a file, also a line of JSON a bar for `benches/bars.py`.

mod common;

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use tomat_core::grid::{Crystal, Density, Lattice, Unit};
use tomat_core::patch::for_each_run;
use tomat_core::sampler::{SampleKey, uniform_offsets};
use tomat_core::sequence::{FALLBACK_SHAPES, Layout, PAD_TO, Tokenizer};

const PATCHES: usize = 64;
const CUBE: [usize; 3] = [19; 3];
const ROUNDS: usize = 201;

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
    let mut cut = Vec::new();
    for &offset in &offsets {
        for_each_run(common::GRID, CUBE, offset, |run| cut.extend_from_slice(&density.values()[run]));
    }
    let mut bins = vec![0; cut.len()];

    let (mut quantising, mut encoding) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quantising.push(seconds(|| codec.encode(black_box(&cut), &[0], &mut bins).expect("no NaN")));
        encoding.push(seconds(|| {
            let mut rows = tokenizer.rows(&density, &crystal, &offsets).expect("a sound material");
            for row in 0..rows.n_rows() {
                black_box(rows.row(row));
            }
        }));
    }
    let (quantising, encoding) = (median(quantising), median(encoding));
    let million = 1e-6 * cut.len() as f64;
    println!(
        "quantising {:.0} million voxels a second, rows of patches {:.0}",
        million / quantising,
        million / encoding
    );
    report("rows of a material over quantising alone (core)", 1.4, encoding / quantising);
}

fn report(what: &str, bar: f64, measured: f64) {
    println!("{what}: {measured:.2}x, at most {bar}x");
    let Ok(path) = std::env::var("TOMAT_BENCH_TABLE") else { return };
    let line = format!(
        r#"{{"what": "{what}", "bar": {bar}, "measured": {measured}, "unit": "x", "at_most": true}}"#
    );
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| writeln!(file, "{line}")).expect("the table can be written");
}
