//! Parquet shards of token rows.
//!
//! Columns: `task_id` string, `offset_x`, `offset_y`, `offset_z` int32, `input_ids` list&lt;int32&gt;; every row of
//! `input_ids` holds exactly `pad_to` ids. The schema is the one that pyarrow gives a table with `pa.string()`,
//! `pa.int32()` and `pa.list_(pa.int32())`: nullable fields, list elements named `element`.
//!
//! Rows of one known length let the writer skip what a general one does for each value (levels, hashing for a
//! dictionary), so its speed is that of zstd: `docs/parquet.md` has the measurements behind the default encoding.
//! Rows are encoded and compressed by [`RowEncoder`]s, on any thread, and put into the file by a [`ShardWriter`], in
//! order. The bytes are a function of the options and the rows of each material alone.

mod delta;
mod pages;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use sha2::{Digest, Sha256};

pub use self::pages::Rows;
use self::pages::{Chunk, Lent, PageEncoder};
use crate::{Error, Result};

/// The key under which Arrow's own description of the columns is kept; callers cannot set it.
const ARROW_KEY: &str = "ARROW:schema";
/// The column that holds the ids, counted from zero.
const INPUT_IDS: usize = 4;
/// A page keeps its sizes in 32 signed bits; its values must stay under that even where zstd or the delta encoding
/// makes them longer.
const MAX_PAGE_TOKENS: usize = 1 << 28;

const SCHEMA: &str = "message schema {
    OPTIONAL BYTE_ARRAY task_id (STRING);
    OPTIONAL INT32 offset_x;
    OPTIONAL INT32 offset_y;
    OPTIONAL INT32 offset_z;
    OPTIONAL GROUP input_ids (LIST) { REPEATED GROUP list { OPTIONAL INT32 element; } }
}";

/// [`SCHEMA`] as Arrow describes it: what its crates write for such columns (a test asks them), so that not all of them
/// have to be compiled for it.
const ARROW_SCHEMA: &str = "\
    /////4QBAAAQAAAAAAAKAAwACgAJAAQACgAAABAAAAAAAQQACAAIAAAABAAIAAAABAAAAAUAAAAoAQAA2AAAAKAAAABoAAAABAAA\
    APz+//8YAAAADAAAAAAAAQxAAAAAAQAAAAgAAADw/v//HP///xAAAAAYAAAAAAABAhQAAABY////IAAAAAAAAAEAAAAABAAAAGl0\
    ZW0AAAAACQAAAGlucHV0X2lkcwAAAFz///8QAAAAGAAAAAAAAQIUAAAAmP///yAAAAAAAAABAAAAAAgAAABvZmZzZXRfegAAAACQ\
    ////EAAAABgAAAAAAAECFAAAAMz///8gAAAAAAAAAQAAAAAIAAAAb2Zmc2V0X3kAAAAAxP///xgAAAAgAAAAAAABAhwAAAAIAAwA\
    BAALAAgAAAAgAAAAAAAAAQAAAAAIAAAAb2Zmc2V0X3gAAAAAEAAUABAADgAPAAQAAAAIABAAAAAYAAAADAAAAAAAAQUQAAAAAAAA\
    AAQABAAEAAAABwAAAHRhc2tfaWQA";

/// How the ids of a page are laid out before zstd compresses them. Every choice is standard Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// Four bytes an id. The largest and slowest, readable by everything.
    Plain,
    /// All lowest bytes, then all second bytes, and so on: neighbouring voxels share their high bytes, and zstd finds
    /// that. The smallest files.
    #[default]
    ByteStreamSplit,
    /// Differences of neighbours in as few bits as each 32 of them need. The fastest; zstd gains nothing on top of it,
    /// so overlapping patches cost the same again.
    DeltaBinaryPacked,
}

/// What a shard is made of besides its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardOptions {
    /// Ids in every row.
    pub pad_to: usize,
    /// How the ids are laid out.
    pub encoding: Encoding,
    /// The zstd level; negative ones are faster and larger.
    pub compression_level: i32,
    /// Rows in a row group, at most, unless one material has more: what a reader decodes at a time, and what the
    /// writer holds (compressed) in memory.
    pub rows_per_group: usize,
    /// Rows in a page, at most; a page holds rows of one material. It is what is compressed at a time: patches of a
    /// material overlap, so a page that holds them all is smaller than several.
    pub rows_per_page: usize,
    /// Key and value pairs for the file's footer, written in this order.
    pub metadata: Vec<(String, String)>,
}

impl FromStr for Encoding {
    type Err = tomat_core::Error;

    fn from_str(name: &str) -> tomat_core::Result<Self> {
        match name {
            "plain" => Ok(Self::Plain),
            "byte_stream_split" => Ok(Self::ByteStreamSplit),
            "delta_binary_packed" => Ok(Self::DeltaBinaryPacked),
            _ => Err(tomat_core::Error::Unknown {
                what: "encoding",
                name: name.to_owned(),
                known: "plain, byte_stream_split, delta_binary_packed".to_owned(),
            }),
        }
    }
}

impl ShardOptions {
    /// The defaults for rows of `pad_to` ids.
    #[must_use]
    pub fn new(pad_to: usize) -> Self {
        Self {
            pad_to,
            encoding: Encoding::default(),
            compression_level: 1,
            rows_per_group: 512,
            rows_per_page: 64,
            metadata: Vec::new(),
        }
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [
            ("pad_to", self.pad_to),
            ("rows_per_group", self.rows_per_group),
            ("rows_per_page", self.rows_per_page),
        ] {
            if value == 0 {
                return Err(invalid(format!("{name} = 0; it must be at least 1")));
            }
        }
        let page = self.pad_to.saturating_mul(self.rows_per_page.min(self.rows_per_group));
        if page > MAX_PAGE_TOKENS {
            return Err(invalid(format!(
                "a page of rows_per_page = {} rows of pad_to = {} ids is too large: at most {MAX_PAGE_TOKENS} ids fit \
                 (lower rows_per_page)",
                self.rows_per_page, self.pad_to
            )));
        }
        let levels = zstd::compression_level_range();
        if !levels.contains(&self.compression_level) {
            return Err(invalid(format!(
                "compression_level = {} is not a zstd level; use {} to {}",
                self.compression_level,
                levels.start(),
                levels.end()
            )));
        }
        for (i, (key, _)) in self.metadata.iter().enumerate() {
            if key == ARROW_KEY || self.metadata[..i].iter().any(|(other, _)| other == key) {
                return Err(invalid(format!(
                    "metadata key {key:?} is given twice or reserved; give every key once"
                )));
            }
        }
        Ok(())
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSummary {
    /// Rows in the file.
    pub rows: usize,
    /// The size of the file.
    pub bytes: u64,
    /// The SHA-256 of the file, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// Rows of one material, encoded and compressed; [`ShardWriter::append`] puts them into a file.
pub struct EncodedRows {
    task_id: ByteArray,
    offsets: Vec<[i32; 3]>,
    pages: Chunk,
}

impl EncodedRows {
    /// How many rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.offsets.len()
    }
}

/// Encodes and compresses rows; one a thread.
pub struct RowEncoder {
    pad_to: usize,
    pages: PageEncoder,
}

impl RowEncoder {
    /// An encoder for shards with these options.
    ///
    /// # Errors
    /// Options that cannot be.
    pub fn new(options: &ShardOptions) -> Result<Self> {
        options.check()?;
        let pages = PageEncoder::new(options).map_err(|error| Error::io("zstd", error))?;
        Ok(Self { pad_to: options.pad_to, pages })
    }

    /// Encodes the rows of one material: row `i` is the patch at `offsets[i]` (grid points along x, y, z) with ids
    /// `input_ids[i * pad_to..(i + 1) * pad_to]`, padded with zeros by the caller.
    ///
    /// # Errors
    /// As many ids as `offsets` does not call for, or a negative id.
    pub fn encode(&mut self, task_id: &str, offsets: &[[i32; 3]], input_ids: &[i32]) -> Result<EncodedRows> {
        check_rows(self.pad_to, task_id, offsets, input_ids)?;
        self.encode_rows(task_id, offsets.to_vec(), &mut Lent { ids: input_ids, pad_to: self.pad_to })
    }

    /// As [`Self::encode`] for rows that are made one at a time; no id of them is negative.
    ///
    /// # Errors
    /// Rows that are not as many as `offsets`.
    pub fn encode_rows(
        &mut self,
        task_id: &str,
        offsets: Vec<[i32; 3]>,
        rows: &mut impl Rows,
    ) -> Result<EncodedRows> {
        if rows.n_rows() != offsets.len() {
            return Err(invalid(format!(
                "{task_id}: {} rows for {} offsets; give one offset a row",
                rows.n_rows(),
                offsets.len()
            )));
        }
        let pages = self.pages.encode(rows).map_err(|error| write_error(Path::new(task_id), error))?;
        Ok(EncodedRows { task_id: ByteArray::from(task_id.as_bytes().to_vec()), offsets, pages })
    }
}

fn check_rows(pad_to: usize, task_id: &str, offsets: &[[i32; 3]], input_ids: &[i32]) -> Result<()> {
    let rows = offsets.len();
    if rows.checked_mul(pad_to) != Some(input_ids.len()) {
        return Err(invalid(format!(
            "{task_id}: {} ids for {rows} rows; give {pad_to} (pad_to) a row, padded with zeros",
            input_ids.len()
        )));
    }
    // One pass without a branch; the position is looked for only where there is one.
    if input_ids.iter().fold(0, |all, &id| all | id) < 0 {
        let at = input_ids.iter().position(|&id| id < 0).unwrap_or(0);
        return Err(invalid(format!(
            "{task_id}: id {} in row {}, position {} is negative; ids count from 0",
            input_ids.get(at).copied().unwrap_or(-1),
            at / pad_to,
            at % pad_to
        )));
    }
    Ok(())
}

/// Writes one shard. Nothing is complete before [`ShardWriter::finish`]: a writer that is dropped leaves a file without
/// a footer, which no reader takes.
///
/// ```
/// use tomat_io::parquet::{ShardOptions, ShardWriter};
///
/// let mut writer = ShardWriter::new(Vec::new(), "shard-00000.parquet", ShardOptions::new(4))?;
/// writer.push("mp-149", &[[0, 0, 0], [5, 9, 2]], &[1, 7, 2, 0, 1, 8, 2, 0])?;
/// let (file, summary) = writer.finish()?;
/// assert_eq!((summary.rows, summary.bytes), (2, file.len() as u64));
/// # Ok::<(), tomat_io::Error>(())
/// ```
pub struct ShardWriter<W: Write + Send> {
    file: SerializedFileWriter<HashingSink<W>>,
    path: PathBuf,
    options: ShardOptions,
    encoder: RowEncoder,
    group: RowGroup,
    rows: usize,
    /// Whether a write has failed: what is on disk is then unknown, and nothing more is written.
    failed: bool,
}

/// The rows that are not written yet.
#[derive(Default)]
struct RowGroup {
    task_ids: Vec<ByteArray>,
    offsets: [Vec<i32>; 3],
    pages: Chunk,
}

impl<W: Write + Send> ShardWriter<W> {
    /// Starts a shard on `sink`. `path` is what errors call the file; nothing is opened.
    ///
    /// # Errors
    /// Options that cannot be, or a failure of the sink.
    pub fn new(sink: W, path: impl AsRef<Path>, options: ShardOptions) -> Result<Self> {
        let encoder = RowEncoder::new(&options)?;
        let path = path.as_ref().to_owned();
        let start = || -> ParquetResult<_> {
            let schema = Arc::new(parse_message_type(SCHEMA)?);
            let properties = Arc::new(properties(&options)?);
            SerializedFileWriter::new(HashingSink::new(sink), schema, properties)
        };
        let file = start().map_err(|error| write_error(&path, error))?;
        Ok(Self { file, path, options, encoder, group: RowGroup::default(), rows: 0, failed: false })
    }

    /// Encodes the rows of one material, see [`RowEncoder::encode`], and appends them.
    ///
    /// # Errors
    /// As there and for [`ShardWriter::append`]. What is refused for its values leaves the writer as it was.
    pub fn push(&mut self, task_id: &str, offsets: &[[i32; 3]], input_ids: &[i32]) -> Result<()> {
        let rows = self.encoder.encode(task_id, offsets, input_ids)?;
        self.append(&rows)
    }

    /// Appends the rows of one material, encoded with this shard's options.
    ///
    /// # Errors
    /// A failure of the sink; every further call then fails.
    pub fn append(&mut self, rows: &EncodedRows) -> Result<()> {
        if self.failed {
            return Err(self.already_failed());
        }
        self.add(rows).map_err(|error| {
            self.failed = true;
            write_error(&self.path, error)
        })
    }

    /// Writes what is left and the footer, and returns the sink (flushed, not synced) with a summary of the file.
    ///
    /// # Errors
    /// A failure of the sink, now or in an earlier call.
    pub fn finish(mut self) -> Result<(W, ShardSummary)> {
        if self.failed {
            return Err(self.already_failed());
        }
        let closed = self.flush_group().and_then(|()| self.file.finish());
        closed.map_err(|error| write_error(&self.path, error))?;
        let sink = self.file.inner_mut();
        let Some(inner) = sink.inner.take() else {
            return Err(self.already_failed());
        };
        let mut sha256 = String::with_capacity(64);
        for byte in sink.hash.finalize_reset() {
            let _ = write!(sha256, "{byte:02x}"); // a String takes everything
        }
        Ok((inner, ShardSummary { rows: self.rows, bytes: sink.bytes, sha256 }))
    }

    /// Rows pushed so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn add(&mut self, rows: &EncodedRows) -> ParquetResult<()> {
        if self.group.task_ids.len() + rows.n_rows() > self.options.rows_per_group {
            self.flush_group()?;
        }
        self.group.task_ids.extend(std::iter::repeat_n(&rows.task_id, rows.n_rows()).cloned());
        for (axis, column) in self.group.offsets.iter_mut().enumerate() {
            column.extend(rows.offsets.iter().map(|offset| offset[axis]));
        }
        self.group.pages.join(&rows.pages);
        self.rows += rows.n_rows();
        Ok(())
    }

    /// Writes the rows held as a row group.
    fn flush_group(&mut self) -> ParquetResult<()> {
        if self.group.task_ids.is_empty() {
            return Ok(());
        }
        let column = self.file.schema_descr().column(INPUT_IDS);
        let (pages, close) = std::mem::take(&mut self.group.pages).close(column, &self.options)?;
        let mut group = self.file.next_row_group()?;
        write_column::<_, ByteArrayType>(&mut group, &self.group.task_ids)?;
        for values in &self.group.offsets {
            write_column::<_, Int32Type>(&mut group, values)?;
        }
        group.append_column(&pages, close)?;
        group.close()?;
        self.group.task_ids.clear();
        self.group.offsets.iter_mut().for_each(Vec::clear);
        Ok(())
    }

    fn already_failed(&self) -> Error {
        Error::io(
            &self.path,
            io::Error::other("an earlier write failed; the file is not complete, write it again"),
        )
    }
}

/// Writes a flat nullable column in which every value is there.
fn write_column<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
) -> ParquetResult<()> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has too few columns".to_owned()));
    };
    column.typed::<T>().write_batch(values, Some(&vec![1; values.len()]), None)?;
    column.close()
}

/// How the crate writes the small columns and the footer.
fn properties(options: &ShardOptions) -> ParquetResult<WriterProperties> {
    let arrow = (ARROW_KEY.to_owned(), ARROW_SCHEMA.to_owned());
    let pairs = options.metadata.iter().cloned().chain([arrow]);
    Ok(WriterProperties::builder()
        .set_created_by(concat!("tomat ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(pairs.map(|(key, value)| KeyValue::new(key, value)).collect()))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(options.compression_level.max(1))?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build())
}

fn invalid(message: String) -> Error {
    Error::Core(tomat_core::Error::Invalid(message))
}

/// A failure below as an error on the file; what the sink said comes through as it was.
fn write_error(path: &Path, error: ParquetError) -> Error {
    let source = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(source) => *source,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    };
    Error::io(path, source)
}

/// Counts and hashes what goes through.
struct HashingSink<W> {
    /// Taken out when the file is finished.
    inner: Option<W>,
    hash: Sha256,
    bytes: u64,
}

impl<W> HashingSink<W> {
    fn new(inner: W) -> Self {
        Self { inner: Some(inner), hash: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for HashingSink<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else {
            return Err(io::Error::other("the file is finished"));
        };
        let written = inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.as_mut().map_or(Ok(()), Write::flush)
    }
}
