//! Whole files into memory, decompressed by what they begin with, within a limit.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Text that is read before a file must have said how much can follow: room for the header of a cell with ten
/// thousand atoms, and of one with a million.
const HEADER_BYTES: [u64; 2] = [1 << 20, 64 << 20];

/// How many bytes a text can need, from its start.
///
/// An error says that the start does not tell, being damaged or not all of the header.
pub type Needs<'a> = &'a dyn Fn(&[u8]) -> Result<u64>;

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

/// A whole file, decompressed: no more of it than its start says a density can need.
///
/// # Errors
/// [`Error::Missing`] or [`Error::Io`] from the system, and what [`expand`] finds.
pub fn load(path: &Path, needs: Needs) -> Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata().map_err(|source| Error::io(path, source))?.len();
    let mut input = BufReader::with_capacity(1 << 20, file);
    let compression = Compression::of_content(input.fill_buf().map_err(|source| Error::io(path, source))?);
    read_text(path, input, compression, length, needs)
}

/// Decompresses bytes that came from `path`; plain text comes back as it is.
///
/// # Errors
/// [`Error::Unreadable`] when there are none, when the compressed data is damaged or ends early, or when more comes
/// out than `needs` says of their start; what `needs` finds wrong with a longer start; [`Error::Memory`].
pub fn expand<'a>(path: &Path, bytes: impl Into<Cow<'a, [u8]>>, needs: Needs) -> Result<Cow<'a, [u8]>> {
    let bytes = bytes.into();
    let compression = Compression::of_content(&bytes);
    if compression == Compression::Plain && !bytes.is_empty() {
        return Ok(bytes);
    }
    read_text(path, bytes.as_ref(), compression, bytes.len() as u64, needs).map(Cow::Owned)
}

/// Reads `length` bytes of compressed or plain data: first a start of the text, then as much as that says there can be.
fn read_text(
    path: &Path,
    mut input: impl BufRead,
    compression: Compression,
    length: u64,
    needs: Needs,
) -> Result<Vec<u8>> {
    let failed = |bytes: u64| move |source: io::Error| failed(path, compression, bytes, source);
    if input.fill_buf().map_err(failed(0))?.is_empty() {
        return Err(Error::unreadable(path, "the file is empty; copy or write it again"));
    }
    let mut reader = compression.reader(input).map_err(failed(length))?;
    let mut text = Vec::new();
    let mut limit = None;
    for start in HEADER_BYTES {
        let missing = start - text.len() as u64;
        let read = reader.by_ref().take(missing).read_to_end(&mut text).map_err(failed(start))?;
        if (read as u64) < missing {
            if text.is_empty() {
                let problem = "the file is empty inside its compression; write it again";
                return Err(Error::unreadable(path, problem));
            }
            return Ok(text);
        }
        limit = Some(needs(&text));
        if matches!(limit, Some(Ok(_))) {
            break;
        }
    }
    let limit = limit.unwrap_or(Ok(0))?;
    let is_plain = compression == Compression::Plain;
    // Density text shrinks two- to fourfold.
    let room = if is_plain { length } else { length.saturating_mul(2) };
    if is_plain && length > limit {
        return Err(too_large(path, limit));
    }
    let room = usize::try_from(room.min(limit)).unwrap_or(usize::MAX);
    text.try_reserve(room.saturating_sub(text.len()))
        .map_err(|_| Error::Memory { path: path.to_owned(), bytes: room })?;
    let left = limit.saturating_sub(text.len() as u64).saturating_add(1);
    reader.take(left).read_to_end(&mut text).map_err(failed(limit))?;
    if text.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    Ok(text)
}

/// What an error of reading is about: the system, the memory (of so many bytes at most) or the data.
fn failed(path: &Path, compression: Compression, bytes: u64, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::OutOfMemory {
        return Error::Memory { path: path.to_owned(), bytes: usize::try_from(bytes).unwrap_or(usize::MAX) };
    }
    if compression == Compression::Plain || source.raw_os_error().is_some() {
        return Error::io(path, source);
    }
    Error::unreadable(
        path,
        format!("the {} data is damaged or cut off ({source}); copy the file again", compression.name()),
    )
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
        format!(
            "the file holds more than {limit} bytes of text, which no density on the grid of its header needs; it is \
             damaged, copy it again"
        ),
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

    const ANY: Needs<'static> = &|_| Ok(u64::MAX);
    const ALL: [Compression; 4] = [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

    #[test]
    fn each_is_recognised_and_several_in_a_row_are_joined() {
        for compression in ALL {
            let mut bytes = compressed(compression, TEXT);
            assert_eq!(Compression::of_content(&bytes), compression);
            bytes.extend(compressed(compression, TEXT));
            let text = expand(Path::new("x"), bytes, ANY).unwrap();
            assert_eq!(text, [TEXT, TEXT].concat(), "{compression:?}");
        }
        assert_eq!(expand(Path::new("x.gz"), TEXT.to_vec(), ANY).unwrap(), TEXT);
    }

    #[test]
    fn every_cut_is_an_error() {
        for compression in ALL {
            let bytes = compressed(compression, TEXT);
            // Below six bytes nothing says any more that the file was compressed.
            for length in 6..bytes.len() {
                let result = expand(Path::new("x"), bytes[..length].to_vec(), ANY);
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
                if let Ok(text) = expand(Path::new("x"), damaged, ANY) {
                    assert_eq!(text, TEXT, "{compression:?} with byte {place} changed");
                }
            }
        }
    }

    #[test]
    fn the_limit_holds() {
        const LENGTH: usize = 3 << 20;
        let folder = tempfile::tempdir().unwrap();
        for compression in [Compression::Plain, ALL[0], ALL[1], ALL[2], ALL[3]] {
            let bytes = compressed(compression, &vec![b' '; LENGTH]);
            let path = folder.path().join("x");
            std::fs::write(&path, &bytes).unwrap();
            let within = |limit: usize| load(&path, &|_| Ok(limit as u64));
            assert_eq!(within(LENGTH).unwrap().len(), LENGTH);
            let message = within(LENGTH - 1).unwrap_err().to_string();
            assert!(message.contains("3145727 bytes"), "{compression:?}: {message}");
            if compression != Compression::Plain {
                assert!(expand(&path, bytes, &|_| Ok(LENGTH as u64 - 1)).is_err());
            }
        }
    }

    #[test]
    fn a_text_without_end_that_never_says_what_it_is_stops() {
        // 200 MB that no header begins; 64 MiB are enough to know.
        let mut bytes = Vec::new();
        for _ in 0..20 {
            bytes.extend(compressed(Compression::Zstd, &vec![b' '; 10_000_000]));
        }
        let seen = std::cell::RefCell::new(Vec::new());
        let needs = |text: &[u8]| {
            seen.borrow_mut().push(text.len());
            Err(Error::unreadable("x", "no header"))
        };
        assert!(expand(Path::new("x"), bytes, &needs).unwrap_err().to_string().contains("no header"));
        assert_eq!(seen.into_inner(), HEADER_BYTES.map(|n| n as usize));
    }

    #[test]
    fn nothing_and_a_folder_are_errors() {
        assert!(expand(Path::new("x"), Vec::new(), ANY).is_err());
        assert!(expand(Path::new("x"), compressed(Compression::Gzip, b""), ANY).is_err());
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load(folder.path(), ANY), Err(Error::Io { .. })));
        assert!(matches!(load(&folder.path().join("no"), ANY), Err(Error::Missing { .. })));
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
