//! The baseline of the parquet benches: the same rows through the general writer of the `parquet` crate.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// What is compared; `None` is the crate's default, a dictionary.
pub(crate) const ENCODINGS: [(&str, Option<Encoding>); 4] = [
    ("dictionary", None),
    ("plain", Some(Encoding::PLAIN)),
    ("byte-stream-split", Some(Encoding::BYTE_STREAM_SPLIT)),
    ("delta", Some(Encoding::DELTA_BINARY_PACKED)),
];

/// Writes `ids` in rows of `pad_to`, `rows_per_batch` rows a record batch; `laps` gets the time after each of them, and
/// at the end.
pub(crate) fn write(
    ids: &[i32],
    pad_to: usize,
    rows_per_batch: usize,
    encoding: Option<Encoding>,
    level: i32,
    laps: &mut Vec<Instant>,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?));
    if let Some(encoding) = encoding {
        properties = properties.set_dictionary_enabled(false).set_encoding(encoding);
        // Strings have no such encoding; only the ids matter here.
        properties = properties.set_column_encoding("task_id".into(), Encoding::PLAIN);
    }
    let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
    for rows in ids.chunks(rows_per_batch * pad_to) {
        let batch = batch(rows, pad_to)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(ArrowWriter::try_new(
                Vec::new(),
                batch.schema(),
                Some(properties.clone().build()),
            )?),
        };
        writer.write(&batch)?;
        laps.push(Instant::now());
    }
    let file = writer.ok_or("no rows")?.into_inner()?;
    laps.push(Instant::now());
    Ok(file)
}

fn batch(ids: &[i32], pad_to: usize) -> Result<RecordBatch, Box<dyn Error>> {
    let rows = ids.len() / pad_to;
    let mut lists = ListBuilder::with_capacity(Int32Builder::with_capacity(ids.len()), rows);
    for row in ids.chunks(pad_to) {
        lists.values().append_slice(row);
        lists.append(true);
    }
    let offsets = |value| Arc::new(Int32Array::from(vec![value; rows])) as ArrayRef;
    Ok(RecordBatch::try_from_iter([
        ("task_id", Arc::new(StringArray::from(vec!["qe-0001"; rows])) as ArrayRef),
        ("offset_x", offsets(1)),
        ("offset_y", offsets(2)),
        ("offset_z", offsets(3)),
        ("input_ids", Arc::new(lists.finish()) as ArrayRef),
    ])?)
}
