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

/// Encodes rows into pages, and collects the pages of a row group.
pub(super) struct PageEncoder {
    encoding: Encoding,
    pad_to: usize,
    /// Tokens in a full page.
    page_tokens: usize,
    zstd: zstd::bulk::Compressor<'static>,
    /// Tokens that do not fill a page yet.
    staged: Vec<i32>,
    /// The page before and after compression.
    body: Vec<u8>,
    compressed: Vec<u8>,
    /// Finished pages with their headers.
    chunk: TrackedWrite<Vec<u8>>,
    totals: Totals,
}

/// What the metadata of a column chunk has to say.
#[derive(Default)]
struct Totals {
    values: usize,
    uncompressed: usize,
    compressed: usize,
}

impl PageEncoder {
    pub(super) fn new(options: &ShardOptions) -> io::Result<Self> {
        Ok(Self {
            encoding: options.encoding,
            pad_to: options.pad_to,
            page_tokens: options.pad_to * options.rows_per_page.min(options.rows_per_group),
            zstd: zstd::bulk::Compressor::new(options.compression_level)?,
            staged: Vec::new(),
            body: Vec::new(),
            compressed: Vec::new(),
            chunk: TrackedWrite::new(Vec::new()),
            totals: Totals::default(),
        })
    }

    /// Takes whole rows. Where the pages end depends on the number of rows only, not on how they are handed in.
    pub(super) fn push(&mut self, mut ids: &[i32]) -> ParquetResult<()> {
        while !ids.is_empty() {
            if self.staged.is_empty() && ids.len() >= self.page_tokens {
                let (page, rest) = ids.split_at(self.page_tokens);
                self.write_page(page)?;
                ids = rest;
            } else {
                let (taken, rest) = ids.split_at(ids.len().min(self.page_tokens - self.staged.len()));
                self.staged.extend_from_slice(taken);
                ids = rest;
                if self.staged.len() == self.page_tokens {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Closes the row group: its pages, and what the file has to know about them.
    pub(super) fn take_chunk(&mut self, column: ColumnDescPtr) -> ParquetResult<(Bytes, ColumnCloseResult)> {
        self.flush()?;
        let chunk = std::mem::replace(&mut self.chunk, TrackedWrite::new(Vec::new())).into_inner()?;
        let totals = std::mem::take(&mut self.totals);
        let metadata = ColumnChunkMetaData::builder(column)
            .set_encodings_mask(EncodingMask::new_from_encodings(
                [PageEncoding::RLE, self.encoding.in_file()].iter(),
            ))
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_num_values(totals.values as i64)
            .set_total_uncompressed_size(totals.uncompressed as i64)
            .set_total_compressed_size(totals.compressed as i64)
            .set_data_page_offset(0)
            .set_statistics(Statistics::int32(None, None, None, Some(0), false));
        let close = ColumnCloseResult {
            bytes_written: chunk.len() as u64,
            rows_written: (totals.values / self.pad_to) as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        Ok((chunk.into(), close))
    }

    fn flush(&mut self) -> ParquetResult<()> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let mut staged = std::mem::take(&mut self.staged);
        let written = self.write_page(&staged);
        staged.clear();
        self.staged = staged;
        written
    }

    fn write_page(&mut self, ids: &[i32]) -> ParquetResult<()> {
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
        let spec = SerializedPageWriter::new(&mut self.chunk).write_page(page)?;

        self.totals.values += ids.len();
        self.totals.uncompressed += spec.uncompressed_size;
        self.totals.compressed += spec.compressed_size;
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
