use ::parquet::arrow::encode_arrow_schema;
use ::parquet::basic::Encoding as PageEncoding;
use ::parquet::file::metadata::RowGroupMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type as ArrowInt32;
use arrow_schema::{DataType as ArrowType, Field, Schema};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const ENCODINGS: [Encoding; 3] = [Encoding::Plain, Encoding::ByteStreamSplit, Encoding::DeltaBinaryPacked];

/// A row as a reader sees it: task id, offset, ids.
type Row = (String, [i32; 3], Vec<i32>);

fn options(pad_to: usize, encoding: Encoding) -> ShardOptions {
    ShardOptions { encoding, ..ShardOptions::new(pad_to) }
}

/// Offsets that name the row they belong to.
fn offsets(rows: usize) -> Vec<[i32; 3]> {
    (0..rows as i32).map(|row| [row, 2 * row, row - 7]).collect()
}

/// Writes `ids` as rows of one material, `step` rows at a time.
fn write_in_steps(options: &ShardOptions, ids: &[i32], step: usize) -> (Vec<u8>, ShardSummary) {
    let mut writer = ShardWriter::new(Vec::new(), "test.parquet", options.clone()).unwrap();
    let all = offsets(ids.len() / options.pad_to);
    for (offsets, ids) in all.chunks(step).zip(ids.chunks(step * options.pad_to)) {
        writer.push("mp-1", offsets, ids).unwrap();
    }
    writer.finish().unwrap()
}

/// The same, each step encoded by an encoder that has just done the step behind it.
fn write_encoded_backwards(options: &ShardOptions, ids: &[i32], step: usize) -> Vec<u8> {
    let mut encoder = RowEncoder::new(options).unwrap();
    let all = offsets(ids.len() / options.pad_to);
    let steps: Vec<_> = all.chunks(step).zip(ids.chunks(step * options.pad_to)).collect();
    let encoded: Vec<_> =
        steps.iter().rev().map(|(offsets, ids)| encoder.encode("mp-1", offsets, ids).unwrap()).collect();
    let mut writer = ShardWriter::new(Vec::new(), "test.parquet", options.clone()).unwrap();
    for rows in encoded.iter().rev() {
        writer.append(rows).unwrap();
    }
    writer.finish().unwrap().0
}

fn write(options: &ShardOptions, ids: &[i32]) -> Vec<u8> {
    write_in_steps(options, ids, usize::MAX / options.pad_to).0
}

fn read(file: Vec<u8>) -> Vec<Row> {
    let reader =
        ::parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(Bytes::from(file), 100).unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let offset = |axis: usize| batch.column(1 + axis).as_primitive::<ArrowInt32>();
        for i in 0..batch.num_rows() {
            rows.push((
                batch.column(0).as_string::<i32>().value(i).to_owned(),
                [0, 1, 2].map(|axis| offset(axis).value(i)),
                batch.column(4).as_list::<i32>().value(i).as_primitive::<ArrowInt32>().values().to_vec(),
            ));
        }
    }
    rows
}

fn expected(pad_to: usize, ids: &[i32]) -> Vec<Row> {
    let all = offsets(ids.len() / pad_to);
    ids.chunks(pad_to).zip(all).map(|(ids, offset)| ("mp-1".to_owned(), offset, ids.to_vec())).collect()
}

/// Ids of every kind a block can hold: small, all of them, constant, and steps between extremes.
fn ids(count: usize) -> impl Strategy<Value = Vec<i32>> {
    prop_oneof![
        prop::collection::vec(0..18_570, count),
        prop::collection::vec(0..=i32::MAX, count),
        (0..=i32::MAX).prop_map(move |id| vec![id; count]),
        prop::collection::vec(prop_oneof![Just(0), Just(i32::MAX), 65_530..65_540], count),
    ]
}

fn shards() -> impl Strategy<Value = (ShardOptions, Vec<i32>, usize)> {
    let sizes = (1_usize..70, 0_usize..40, 1_usize..12, 1_usize..12, 1_usize..12, 0..ENCODINGS.len());
    sizes.prop_flat_map(|(pad_to, rows, rows_per_group, rows_per_page, step, encoding)| {
        let options = ShardOptions { rows_per_group, rows_per_page, ..options(pad_to, ENCODINGS[encoding]) };
        (Just(options), ids(pad_to * rows), Just(step))
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read((options, ids, step) in shards()) {
        let (file, summary) = write_in_steps(&options, &ids, step);
        prop_assert_eq!(summary.rows, ids.len() / options.pad_to);
        prop_assert_eq!(summary.bytes, file.len() as u64);
        prop_assert_eq!(read(file), expected(options.pad_to, &ids));
    }

    #[test]
    fn bytes_do_not_depend_on_the_encoder_or_the_order_of_encoding((options, ids, step) in shards()) {
        let (file, summary) = write_in_steps(&options, &ids, step);
        prop_assert_eq!(&file, &write_encoded_backwards(&options, &ids, step));
        let digest: Vec<String> = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(summary.sha256, digest.concat());
    }

    /// Wherever the sink fails, the writer says so and does not panic.
    #[test]
    fn a_failing_sink_is_an_error((options, ids, step) in shards(), part in 0.0..1.0_f64) {
        let (file, _) = write_in_steps(&options, &ids, step);
        let sink = Full { room: (file.len() as f64 * part) as usize };
        let error = push_all(sink, &options, &ids, step).unwrap_err();
        let full = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
        let named = matches!(&error, Error::Io { source, .. } if full(source));
        prop_assert!(named, "{:?}", error);
        prop_assert!(error.to_string().starts_with("test.parquet: "), "{}", error);
    }
}

/// A disk with so many bytes left.
struct Full {
    room: usize,
}

impl Write for Full {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = buffer.len().min(self.room);
        self.room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn push_all(sink: Full, options: &ShardOptions, ids: &[i32], step: usize) -> Result<()> {
    let mut writer = ShardWriter::new(sink, "test.parquet", options.clone())?;
    let all = offsets(ids.len() / options.pad_to);
    for (offsets, ids) in all.chunks(step).zip(ids.chunks(step * options.pad_to)) {
        writer.push("mp-1", offsets, ids)?;
    }
    writer.finish().map(|_| ())
}

#[test]
fn after_a_failure_every_call_fails() {
    let options = ShardOptions { rows_per_group: 1, ..options(4096, Encoding::Plain) };
    let ids: Vec<i32> = (0..4096 * 30).map(|i| i * 7919 % 18_570).collect();
    let mut writer = ShardWriter::new(Full { room: 20_000 }, "test.parquet", options).unwrap();
    assert!(ids.chunks(4096).try_for_each(|row| writer.push("a", &offsets(1), row)).is_err());
    let again = writer.push("a", &offsets(1), &ids[..4096]).unwrap_err();
    assert!(again.to_string().contains("earlier write failed"), "{again}");
    assert!(writer.finish().is_err());
}

#[test]
fn edges_of_rows_pages_groups_and_blocks() {
    // 128 values make a delta block, 32 a miniblock, and the first value stands outside both.
    for (pad_to, rows) in
        [(1, 1), (1, 300), (32, 1), (33, 1), (128, 1), (129, 1), (130, 1), (257, 3), (8192, 1)]
    {
        for encoding in ENCODINGS {
            for (rows_per_page, rows_per_group) in [(1, 1), (2, 3), (3, 2), (64, 512)] {
                let options = ShardOptions { rows_per_group, rows_per_page, ..options(pad_to, encoding) };
                let ids: Vec<i32> = (0..(pad_to * rows) as i32).map(|i| i * i % 18_570).collect();
                assert_eq!(read(write(&options, &ids)), expected(pad_to, &ids), "{options:?}");
            }
        }
    }
}

#[test]
fn rows_of_several_materials_and_full_size() {
    let options = ShardOptions { rows_per_group: 96, ..options(8192, Encoding::ByteStreamSplit) };
    let ids: Vec<i32> = (0..64 * 8192).map(|i| if i % 8192 < 7000 { i * 37 % 18_570 } else { 0 }).collect();
    let mut writer = ShardWriter::new(Vec::new(), "test.parquet", options).unwrap();
    for task_id in ["mp-1", "mp-2", "mp-ünïcode"] {
        writer.push(task_id, &offsets(64), &ids).unwrap();
    }
    assert_eq!(writer.rows(), 192);
    let rows = read(writer.finish().unwrap().0);
    assert_eq!(rows.len(), 192);
    for (i, (task_id, offset, row)) in rows.iter().enumerate() {
        assert_eq!(task_id, ["mp-1", "mp-2", "mp-ünïcode"][i / 64]);
        assert_eq!(*offset, offsets(64)[i % 64]);
        assert_eq!(row, &ids[i % 64 * 8192..(i % 64 + 1) * 8192]);
    }
}

#[test]
fn wrong_lengths_and_negative_ids_are_refused_and_leave_no_trace() {
    let mut writer = ShardWriter::new(Vec::new(), "test.parquet", ShardOptions::new(4)).unwrap();
    for (rows, ids) in [(1, vec![0; 3]), (1, vec![0; 5]), (2, vec![0; 4]), (0, vec![0; 4]), (1, vec![])] {
        let error = writer.push("mp-1", &offsets(rows), &ids).unwrap_err().to_string();
        assert!(error.contains("mp-1") && error.contains("pad_to"), "{error}");
    }
    let error = writer.push("mp-1", &offsets(2), &[1, 2, 3, 4, 5, 6, -3, 8]).unwrap_err().to_string();
    assert!(error.contains("id -3 in row 1, position 2"), "{error}");
    writer.push("mp-1", &offsets(1), &[1, 2, 3, 4]).unwrap();
    writer.push("mp-2", &[], &[]).unwrap();
    assert_eq!(read(writer.finish().unwrap().0), expected(4, &[1, 2, 3, 4]));
}

#[test]
fn options_that_cannot_be_are_refused() {
    let good = ShardOptions::new(8);
    let pair = |key: &str| (key.to_owned(), String::new());
    for (options, word) in [
        (ShardOptions::new(0), "pad_to"),
        (ShardOptions { rows_per_group: 0, ..good.clone() }, "rows_per_group"),
        (ShardOptions { rows_per_page: 0, ..good.clone() }, "rows_per_page"),
        (ShardOptions::new(usize::MAX), "too large"),
        (ShardOptions { compression_level: 23, ..good.clone() }, "compression_level"),
        (ShardOptions { metadata: vec![pair("a"), pair("a")], ..good.clone() }, "metadata"),
        (ShardOptions { metadata: vec![pair("ARROW:schema")], ..good.clone() }, "metadata"),
    ] {
        let error = ShardWriter::new(Vec::new(), "test.parquet", options).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn the_columns_are_described_as_arrow_describes_them() {
    let ids = Field::new("item", ArrowType::Int32, true);
    let schema = Schema::new(vec![
        Field::new("task_id", ArrowType::Utf8, true),
        Field::new("offset_x", ArrowType::Int32, true),
        Field::new("offset_y", ArrowType::Int32, true),
        Field::new("offset_z", ArrowType::Int32, true),
        Field::new("input_ids", ArrowType::List(std::sync::Arc::new(ids)), true),
    ]);
    assert_eq!(ARROW_SCHEMA, encode_arrow_schema(&schema));
}

#[test]
fn the_footer_says_what_pyarrow_would() {
    let metadata = vec![("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())];
    let options = ShardOptions { metadata, rows_per_group: 2, ..options(4, Encoding::ByteStreamSplit) };
    let file = write_in_steps(&options, &(0..12).collect::<Vec<i32>>(), 1).0;
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let footer = reader.metadata();
    let names: Vec<_> =
        footer.file_metadata().schema_descr().columns().iter().map(|column| column.path().string()).collect();
    assert_eq!(names, ["task_id", "offset_x", "offset_y", "offset_z", "input_ids.list.element"]);
    for column in footer.file_metadata().schema_descr().columns() {
        assert_eq!(
            (column.max_def_level(), column.max_rep_level()),
            if column.path().parts().len() == 1 { (1, 0) } else { (3, 1) }
        );
    }
    assert_eq!(footer.file_metadata().created_by(), Some(concat!("tomat ", env!("CARGO_PKG_VERSION"))));
    let keys: Vec<_> =
        footer.file_metadata().key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(keys, ["b", "a", "ARROW:schema"]);
    assert_eq!(footer.row_groups().iter().map(RowGroupMetaData::num_rows).collect::<Vec<_>>(), [2, 1]);
    let ids = footer.row_group(0).column(4);
    assert_eq!(ids.num_values(), 8);
    assert!(ids.encodings().any(|encoding| encoding == PageEncoding::BYTE_STREAM_SPLIT));
    let offset_x = footer.row_group(0).column(1).statistics().unwrap();
    assert_eq!(offset_x.min_bytes_opt(), Some(&0_i32.to_le_bytes()[..]));
    assert_eq!(offset_x.max_bytes_opt(), Some(&1_i32.to_le_bytes()[..]));
}

#[test]
fn a_shard_without_rows_is_a_file() {
    assert_eq!(read(write(&ShardOptions::new(8), &[])), []);
}
