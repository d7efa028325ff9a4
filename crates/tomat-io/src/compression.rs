//! Whole files into memory, decompressed by what they begin with, within a limit.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// The most text a file may hold, decompressed: 16 GiB. A grid of 1023^3 points, the largest the token format can
/// write, is 18 GiB of CHGCAR text; the largest in use are near 3 GiB.
pub const MAX_TEXT_BYTES: u64 = 16 << 30;

/// The most memory an xz dictionary may ask for, in KiB: 512 MiB, eight times that of `xz -9`.
const XZ_MEMORY_KIB: u32 = 512 << 10;

/// A way of compressing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Plain,
    /// gzip, `.gz`.
    Gzip,
    /// bzip2, `.bz2`.
    Bzip2,
    /// xz, `.xz`.
    Xz,
    /// Zstandard, `.zst`.
    Zstd,
}

impl Compression {
    /// What a file is, by its first bytes. Its name plays no part: a download may have been decompressed on the way.
    #[must_use]
    pub fn of_content(start: &[u8]) -> Self {
        match start {
            [0x1F, 0x8B, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Self::Bzip2,
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// A reader of the decompressed bytes: all members, streams or frames in a row.
    fn reader<'a>(self, compressed: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(compressed),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(compressed)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(compressed)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(compressed, true, XZ_MEMORY_KIB)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(compressed)?),
        })
    }
}

/// The name of a file without `.gz`, `.bz2`, `.xz` or `.zst`.
#[must_use]
pub fn strip_suffix(name: &str) -> &str {
    for suffix in [".gz", ".bz2", ".xz", ".zst"] {
        if let Some(split) = name.len().checked_sub(suffix.len())
            && split > 0
            && name.is_char_boundary(split)
            && name[split..].eq_ignore_ascii_case(suffix)
        {
            return &name[..split];
        }
    }
    name
}

/// A whole file, decompressed.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Io`] from the system, and what [`expand`] finds.
pub fn load(path: &Path) -> Result<Vec<u8>> {
    let mut file = open(path)?;
    let length = file.metadata().map_err(|source| Error::io(path, source))?.len();
    if length > MAX_TEXT_BYTES {
        return Err(too_large(path, MAX_TEXT_BYTES));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    expand(path, bytes)
}

/// Decompresses bytes that came from `path`; plain text comes back as it is.
///
/// # Errors
/// [`Error::Unreadable`] when there are none, when the compressed data is damaged or ends early, or when more than
/// [`MAX_TEXT_BYTES`] come out.
pub fn expand(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    expand_within(path, bytes, MAX_TEXT_BYTES)
}

fn expand_within(path: &Path, bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>> {
    if bytes.is_empty() {
        return Err(Error::unreadable(path, "the file is empty; copy or write it again"));
    }
    let compression = Compression::of_content(&bytes);
    if compression == Compression::Plain {
        return Ok(bytes);
    }
    let damaged = |source: io::Error| {
        Error::unreadable(
            path,
            format!("the {} data is damaged or cut off ({source}); copy the file again", compression.name()),
        )
    };
    let reader = compression.reader(bytes.as_slice()).map_err(damaged)?;
    // Density text shrinks two- to fourfold; a hostile file gets no more than it sent until it delivers.
    let mut text = Vec::with_capacity(bytes.len().saturating_mul(2));
    reader.take(limit.saturating_add(1)).read_to_end(&mut text).map_err(damaged)?;
    if text.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    if text.is_empty() {
        return Err(Error::unreadable(path, "the file is empty inside its compression; write it again"));
    }
    Ok(text)
}

/// The first `length` bytes of a file, decompressed; less when it is shorter.
///
/// # Errors
/// As [`load`], for as far as it reads.
pub fn load_start(path: &Path, length: u64) -> Result<Vec<u8>> {
    let mut compressed = BufReader::new(open(path)?);
    let start = compressed.fill_buf().map_err(|source| Error::io(path, source))?;
    if start.is_empty() {
        return Err(Error::unreadable(path, "the file is empty; copy or write it again"));
    }
    let compression = Compression::of_content(start);
    let mut text = Vec::new();
    compression.reader(compressed).and_then(|reader| reader.take(length).read_to_end(&mut text)).map_err(
        |source| Error::unreadable(path, format!("the {} data cannot be read: {source}", compression.name())),
    )?;
    Ok(text)
}

/// Opens a file and refuses a folder, which some systems open without complaint.
fn open(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    if file.metadata().is_ok_and(|facts| facts.is_dir()) {
        return Err(Error::io(path, io::ErrorKind::IsADirectory.into()));
    }
    Ok(file)
}

fn too_large(path: &Path, limit: u64) -> Error {
    Error::unreadable(
        path,
        format!("the file holds more than {limit} bytes, the most a density is read from; down-sample it"),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"one two three, one two three, one two three: a text to be compressed\n";

    fn compressed(compression: Compression, text: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Plain => text.to_vec(),
            Compression::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(text).unwrap();
                writer.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                writer.write_all(text).unwrap();
                writer.finish().unwrap()
            }
            Compression::Xz => {
                let mut writer =
                    lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
                writer.write_all(text).unwrap();
                writer.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(text, 1).unwrap(),
        }
    }

    const ALL: [Compression; 4] = [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

    #[test]
    fn each_is_recognised_and_several_in_a_row_are_joined() {
        for compression in ALL {
            let mut bytes = compressed(compression, TEXT);
            assert_eq!(Compression::of_content(&bytes), compression);
            bytes.extend(compressed(compression, TEXT));
            let text = expand(Path::new("x"), bytes).unwrap();
            assert_eq!(text, [TEXT, TEXT].concat(), "{compression:?}");
        }
        assert_eq!(expand(Path::new("x.gz"), TEXT.to_vec()).unwrap(), TEXT);
    }

    #[test]
    fn every_cut_is_an_error() {
        for compression in ALL {
            let bytes = compressed(compression, TEXT);
            // Below six bytes nothing says any more that the file was compressed.
            for length in 6..bytes.len() {
                let result = expand(Path::new("x"), bytes[..length].to_vec());
                assert!(result.is_err(), "{compression:?} cut to {length} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn damage_is_an_error_where_a_checksum_tells() {
        for compression in [Compression::Gzip, Compression::Bzip2, Compression::Xz] {
            let bytes = compressed(compression, TEXT);
            for place in 12..bytes.len() - 1 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 0x10;
                if let Ok(text) = expand(Path::new("x"), damaged) {
                    assert_eq!(text, TEXT, "{compression:?} with byte {place} changed");
                }
            }
        }
    }

    #[test]
    fn the_limit_holds() {
        for compression in ALL {
            let bytes = compressed(compression, &vec![b' '; 100_000]);
            assert_eq!(expand_within(Path::new("x"), bytes.clone(), 100_000).unwrap().len(), 100_000);
            let message = expand_within(Path::new("x"), bytes, 99_999).unwrap_err().to_string();
            assert!(message.contains("99999 bytes"), "{message}");
        }
    }

    #[test]
    fn nothing_and_a_folder_are_errors() {
        assert!(expand(Path::new("x"), Vec::new()).is_err());
        assert!(expand(Path::new("x"), compressed(Compression::Gzip, b"")).is_err());
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load(folder.path()), Err(Error::Io { .. })));
        assert!(matches!(load(&folder.path().join("no")), Err(Error::Missing { .. })));
    }

    #[test]
    fn suffixes() {
        for (name, stripped) in [
            ("CHGCAR.gz", "CHGCAR"),
            ("a.cube.BZ2", "a.cube"),
            ("x.zst", "x"),
            ("CHGCAR", "CHGCAR"),
            (".gz", ".gz"),
        ] {
            assert_eq!(strip_suffix(name), stripped);
        }
    }
}
