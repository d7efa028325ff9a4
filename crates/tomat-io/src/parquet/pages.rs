//! The `input_ids` column: data pages of rows that all have the same length.
//!
//! Such a column needs no bookkeeping per value. Its repetition levels are "one 0, then `pad_to - 1` ones" for each
//! row and its definition levels are all 3, so both are a handful of run-length pairs; only the values take work.

use std::io;
use std::ops::Range;

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

/// Encodes rows into pages; its buffers are kept from one call to the next.
pub(super) struct PageEncoder {
    encoding: Encoding,
    pad_to: usize,
    /// Rows in a full page.
    page_rows: usize,
    zstd: zstd::bulk::Compressor<'static>,
    /// The page before and after compression.
    body: Vec<u8>,
    compressed: Vec<u8>,
    /// Whether the upper planes of the page before are zero: for a page of the same length they need not be written.
    has_zeros: bool,
    /// The ids of a page, for an encoding that needs all of them at once.
    ids: Vec<i32>,
}

/// Rows of `pad_to` ids, made or lent one at a time: a row that is in the cache is split into bytes there.
pub trait Rows {
    /// How many rows.
    fn n_rows(&self) -> usize;

    /// The ids of a row; called once for each, in order.
    fn row(&mut self, index: usize) -> &[i32];
}

/// Rows that lie one behind the other.
pub(super) struct Lent<'a> {
    pub(super) ids: &'a [i32],
    pub(super) pad_to: usize,
}

impl Rows for Lent<'_> {
    fn n_rows(&self) -> usize {
        self.ids.len() / self.pad_to
    }

    fn row(&mut self, index: usize) -> &[i32] {
        &self.ids[index * self.pad_to..(index + 1) * self.pad_to]
    }
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
            page_rows: options.rows_per_page.min(options.rows_per_group),
            zstd: zstd::bulk::Compressor::new(options.compression_level)?,
            body: Vec::new(),
            compressed: Vec::new(),
            has_zeros: false,
            ids: Vec::new(),
        })
    }

    /// Encodes whole rows into pages of their own.
    pub(super) fn encode(&mut self, rows: &mut impl Rows) -> ParquetResult<Chunk> {
        let mut sink = TrackedWrite::new(Vec::new());
        let mut chunk = Chunk::default();
        for first in (0..rows.n_rows()).step_by(self.page_rows) {
            let last = rows.n_rows().min(first + self.page_rows);
            self.write_page(first..last, rows, &mut sink, &mut chunk)?;
        }
        chunk.bytes = sink.into_inner()?;
        Ok(chunk)
    }

    fn start(&mut self, levels: &[u8]) {
        self.body.clear();
        self.body.extend_from_slice(levels);
    }

    fn write_page(
        &mut self,
        range: Range<usize>,
        rows: &mut impl Rows,
        sink: &mut TrackedWrite<Vec<u8>>,
        chunk: &mut Chunk,
    ) -> ParquetResult<()> {
        let n = range.len() * self.pad_to;
        let mut levels = Vec::new();
        write_levels(range.len(), self.pad_to, &mut levels);
        match self.encoding {
            Encoding::Plain => {
                self.start(&levels);
                range.for_each(|row| write_plain(rows.row(row), &mut self.body));
            }
            Encoding::ByteStreamSplit => {
                let whole = levels.len() + 4 * n;
                if !self.has_zeros || self.body.len() != whole || !self.body.starts_with(&levels) {
                    self.start(&levels);
                    self.body.resize(whole, 0);
                }
                self.has_zeros = write_byte_planes(range, n, rows, &mut self.body[levels.len()..]);
            }
            Encoding::DeltaBinaryPacked => {
                self.start(&levels);
                self.ids.clear();
                range.for_each(|row| self.ids.extend_from_slice(rows.row(row)));
                delta::encode(&self.ids, &mut self.body);
            }
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.body.len()));
        self.zstd.compress_to_buffer(&self.body, &mut self.compressed)?;
        let page = Page::DataPage {
            buf: Bytes::copy_from_slice(&self.compressed),
            num_values: u32::try_from(n)?,
            encoding: self.encoding.in_file(),
            def_level_encoding: PageEncoding::RLE,
            rep_level_encoding: PageEncoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, self.body.len());
        let spec = SerializedPageWriter::new(sink).write_page(page)?;
        chunk.values += n;
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

/// The lowest bytes of `n` ids of rows, then all second bytes, and so on, where the third and fourth are zero. Returns
/// whether they still are.
fn write_byte_planes(range: Range<usize>, n: usize, rows: &mut impl Rows, planes: &mut [u8]) -> bool {
    let mut are_zero = true;
    let (low, high) = planes.split_at_mut(2 * n);
    let (first, second) = low.split_at_mut(n);
    let (third, fourth) = high.split_at_mut(n);
    let mut at = 0;
    for row in range {
        let ids = rows.row(row);
        let here = at..at + ids.len();
        split_byte::<0>(ids, &mut first[here.clone()]);
        split_byte::<8>(ids, &mut second[here.clone()]);
        // Vocabularies are mostly smaller than 65,536, which leaves the zeros that are there.
        if ids.iter().fold(0, |all, &id| all | id) >> 16 != 0 {
            split_byte::<16>(ids, &mut third[here.clone()]);
            split_byte::<24>(ids, &mut fourth[here.clone()]);
            are_zero = false;
        }
        at = here.end;
    }
    are_zero
}

fn split_byte<const SHIFT: u32>(ids: &[i32], plane: &mut [u8]) {
    for (byte, id) in plane.iter_mut().zip(ids) {
        *byte = (id >> SHIFT) as u8;
    }
}
