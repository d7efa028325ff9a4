//! The `input_ids` column: data pages of rows that all have the same length.
//!
//! Such a column needs no bookkeeping per value. Its repetition levels are "one 0, then `pad_to - 1` ones" for each
//! row and its definition levels are all 3, so both are a handful of run-length pairs; only the values take work.

use std::io;

use ::parquet::basic::{Compression, Encoding as PageEncoding, EncodingMask, ZstdLevel};
use ::parquet::column::page::{CompressedPage, Page, PageWriter};
use ::parquet::column::writer::ColumnCloseResult;
use ::parquet::errors::Result as ParquetResult;
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::statistics::Statistics;
use ::parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use ::parquet::schema::types::ColumnDescPtr;
use bytes::Bytes;

use super::{Encoding, ShardOptions, delta};

/// The definition level of a value that is there, in an optional list of optional elements.
const PRESENT: u8 = 3;
/// Tokens split into byte planes at a time: they stay in the first-level cache.
const SPLIT: usize = 4096;

/// Encodes rows into pages; its buffers are kept from one call to the next.
pub(super) struct PageEncoder {
    encoding: Encoding,
    pad_to: usize,
    /// Tokens in a full page.
    page_tokens: usize,
    zstd: zstd::bulk::Compressor<'static>,
    /// The page before and after compression.
    body: Vec<u8>,
    compressed: Vec<u8>,
}

/// Finished pages with their headers, and what the metadata of a column chunk has to say about them. Pages know
/// nothing of their place, so chunks can be joined.
#[derive(Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    values: usize,
    uncompressed: usize,
    compressed: usize,
}

impl Chunk {
    /// Adds the pages of another chunk behind these.
    pub(super) fn join(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.values += other.values;
        self.uncompressed += other.uncompressed;
        self.compressed += other.compressed;
    }

    /// The pages as the column chunk of a row group.
    pub(super) fn close(
        self,
        column: ColumnDescPtr,
        options: &ShardOptions,
    ) -> ParquetResult<(Bytes, ColumnCloseResult)> {
        let metadata = ColumnChunkMetaData::builder(column)
            .set_encodings_mask(EncodingMask::new_from_encodings(
                [PageEncoding::RLE, options.encoding.in_file()].iter(),
            ))
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_num_values(self.values as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_total_compressed_size(self.compressed as i64)
            .set_data_page_offset(0)
            .set_statistics(Statistics::int32(None, None, None, Some(0), false));
        let close = ColumnCloseResult {
            bytes_written: self.bytes.len() as u64,
            rows_written: (self.values / options.pad_to) as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((self.bytes.into(), close))
    }
}

impl PageEncoder {
    pub(super) fn new(options: &ShardOptions) -> io::Result<Self> {
        Ok(Self {
            encoding: options.encoding,
            pad_to: options.pad_to,
            page_tokens: options.pad_to * options.rows_per_page.min(options.rows_per_group),
            zstd: zstd::bulk::Compressor::new(options.compression_level)?,
            body: Vec::new(),
            compressed: Vec::new(),
        })
    }

    /// Encodes whole rows into pages of their own.
    pub(super) fn encode(&mut self, ids: &[i32]) -> ParquetResult<Chunk> {
        let mut sink = TrackedWrite::new(Vec::new());
        let mut chunk = Chunk::default();
        for page in ids.chunks(self.page_tokens) {
            self.write_page(page, &mut sink, &mut chunk)?;
        }
        chunk.bytes = sink.into_inner()?;
        Ok(chunk)
    }

    fn write_page(
        &mut self,
        ids: &[i32],
        sink: &mut TrackedWrite<Vec<u8>>,
        chunk: &mut Chunk,
    ) -> ParquetResult<()> {
        self.body.clear();
        write_levels(ids.len() / self.pad_to, self.pad_to, &mut self.body);
        match self.encoding {
            Encoding::Plain => write_plain(ids, &mut self.body),
            Encoding::ByteStreamSplit => write_byte_planes(ids, &mut self.body),
            Encoding::DeltaBinaryPacked => delta::encode(ids, &mut self.body),
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.body.len()));
        self.zstd.compress_to_buffer(&self.body, &mut self.compressed)?;
        let page = Page::DataPage {
            buf: Bytes::copy_from_slice(&self.compressed),
            num_values: u32::try_from(ids.len())?,
            encoding: self.encoding.in_file(),
            def_level_encoding: PageEncoding::RLE,
            rep_level_encoding: PageEncoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, self.body.len());
        let spec = SerializedPageWriter::new(sink).write_page(page)?;
        chunk.values += ids.len();
        chunk.uncompressed += spec.uncompressed_size;
        chunk.compressed += spec.compressed_size;
        Ok(())
    }
}

impl Encoding {
    fn in_file(self) -> PageEncoding {
        match self {
            Self::Plain => PageEncoding::PLAIN,
            Self::ByteStreamSplit => PageEncoding::BYTE_STREAM_SPLIT,
            Self::DeltaBinaryPacked => PageEncoding::DELTA_BINARY_PACKED,
        }
    }
}

/// The repetition and definition levels of `rows` rows of `pad_to` values, each with its length in front.
fn write_levels(rows: usize, pad_to: usize, out: &mut Vec<u8>) {
    let with_length = |out: &mut Vec<u8>, write: &dyn Fn(&mut Vec<u8>)| {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        write(out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    };
    with_length(out, &|out| {
        if pad_to == 1 {
            return write_run(rows, 0, out);
        }
        for _ in 0..rows {
            write_run(1, 0, out);
            write_run(pad_to - 1, 1, out);
        }
    });
    with_length(out, &|out| write_run(rows * pad_to, PRESENT, out));
}

/// One run of the run-length / bit-packed hybrid, for levels of at most eight bits.
fn write_run(length: usize, level: u8, out: &mut Vec<u8>) {
    delta::write_varint(out, (length as u64) << 1);
    out.push(level);
}

fn write_plain(ids: &[i32], out: &mut Vec<u8>) {
    out.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
}

/// All lowest bytes, then all second bytes, and so on.
fn write_byte_planes(ids: &[i32], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 4 * ids.len(), 0);
    let (low, high) = out[start..].split_at_mut(2 * ids.len());
    let (first, second) = low.split_at_mut(ids.len());
    let (third, fourth) = high.split_at_mut(ids.len());
    let planes = first.chunks_mut(SPLIT).zip(second.chunks_mut(SPLIT)).zip(third.chunks_mut(SPLIT));
    for (ids, (((first, second), third), fourth)) in
        ids.chunks(SPLIT).zip(planes.zip(fourth.chunks_mut(SPLIT)))
    {
        split_byte::<0>(ids, first);
        split_byte::<8>(ids, second);
        // Vocabularies are mostly smaller than 65,536, which leaves the zeros that are there.
        if ids.iter().fold(0, |all, &id| all | id) >> 16 != 0 {
            split_byte::<16>(ids, third);
            split_byte::<24>(ids, fourth);
        }
    }
}

fn split_byte<const SHIFT: u32>(ids: &[i32], plane: &mut [u8]) {
    for (byte, id) in plane.iter_mut().zip(ids) {
        *byte = (id >> SHIFT) as u8;
    }
}
