//! Writes a file of raw rows as parquet shards in every encoding, and prints size and time, for
//! `benches/parquet_encodings.py`, which makes the rows and times the readers.
//!
//! Arguments: ROWS (raw little-endian int32), PAD_TO, OUT (directory). One line a shard on standard output:
//! writer, encoding, zstd level, bytes, seconds (one thread, memory to memory; the best of several passes, taken for
//! each material by itself so that other work on the machine shows less), file name.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use tomat_io::parquet::{Encoding, ShardOptions, ShardWriter};

#[path = "arrow_baseline.rs"]
mod arrow_baseline;

/// Rows handed over at a time, as many as the patches of a material.
const ROWS_PER_PUSH: usize = 64;
const PASSES: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rows, pad_to, out] = arguments.as_slice() else {
        return Err("usage: shard_encodings ROWS PAD_TO OUT".into());
    };
    let pad_to: usize = pad_to.parse()?;
    let bytes = fs::read(rows)?;
    let ids: Vec<i32> = bytes.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect();

    for (name, encoding) in [
        ("plain", Encoding::Plain),
        ("byte-stream-split", Encoding::ByteStreamSplit),
        ("delta", Encoding::DeltaBinaryPacked),
    ] {
        for level in [-5, -1, 1, 2, 3, 6] {
            let mut options = ShardOptions::new(pad_to);
            options.encoding = encoding;
            options.compression_level = level;
            report("tomat", name, level, Path::new(out), |laps| ours(&ids, &options, laps))?;
        }
    }
    for (name, encoding) in arrow_baseline::ENCODINGS {
        for level in [1, 3] {
            report("arrow-rs", name, level, Path::new(out), |laps| {
                arrow_baseline::write(&ids, pad_to, ROWS_PER_PUSH, encoding, level, laps)
            })?;
        }
    }
    Ok(())
}

fn ours(ids: &[i32], options: &ShardOptions, laps: &mut Vec<Instant>) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut writer = ShardWriter::new(Vec::new(), "memory", options.clone())?;
    for rows in ids.chunks(ROWS_PER_PUSH * options.pad_to) {
        writer.push("qe-0001", &vec![[1, 2, 3]; rows.len() / options.pad_to], rows)?;
        laps.push(Instant::now());
    }
    let file = writer.finish()?.0;
    laps.push(Instant::now());
    Ok(file)
}

fn report(
    writer: &str,
    encoding: &str,
    level: i32,
    out: &Path,
    write: impl Fn(&mut Vec<Instant>) -> Result<Vec<u8>, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut best: Vec<f64> = Vec::new();
    let mut file = Vec::new();
    for _ in 0..PASSES {
        let mut laps = vec![Instant::now()];
        file = write(&mut laps)?;
        let seconds = laps.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64());
        if best.is_empty() {
            best = seconds.collect();
        } else {
            best.iter_mut().zip(seconds).for_each(|(best, seconds)| *best = best.min(seconds));
        }
    }
    let best: f64 = best.iter().sum();
    let name = format!("{writer}-{encoding}-{level}.parquet");
    fs::write(out.join(&name), &file)?;
    println!("{writer}\t{encoding}\t{level}\t{}\t{best:.6}\t{name}", file.len());
    Ok(())
}
