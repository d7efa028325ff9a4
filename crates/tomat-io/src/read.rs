//! One way in for every format: what a file is, what its material is called, and its density.

use std::borrow::Cow;
use std::path::Path;

use crate::error::{Error, Result};
use crate::material::Material;
use crate::numbers::{parse_number, words};
use crate::task_id::file_name;
use crate::{TEXT_FORMATS, compression, zarr};

/// Reads a density and its crystal: a `*.zarr` folder, a VASP CHGCAR, CHG or AECCAR, or a Gaussian cube file, the
/// text formats plain or compressed with gzip, bzip2, xz or zstd.
///
/// The format is told by the name, and by the content where the name says nothing; the compression by the content.
///
/// # Errors
/// [`Error::Missing`], [`Error::Io`]; [`Error::Unreadable`] for a file that is damaged or of an unknown format;
/// [`Error::Core`] with [`tomat_core::Error::GridAxis`] for a grid too long for the token format, which is told
/// before any value is read.
pub fn read(path: &Path) -> Result<Material> {
    if is_zarr(path)? {
        return zarr::read(path);
    }
    refuse_by_name(path)?;
    parse(path, &compression::load(path, &|start| text_needs(path, start))?)
}

/// Reads a text format from memory; `name` is its path or URL.
///
/// # Errors
/// As [`read`].
pub fn read_bytes<'a>(name: &str, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Material> {
    let path = Path::new(name);
    refuse_by_name(path)?;
    parse(path, &compression::expand(path, bytes, &|start| text_needs(path, start))?)
}

/// A text format: how its files are told, and read.
pub(crate) struct TextFormat {
    /// Its files, as a message says it.
    pub files: &'static str,
    /// Suffixes that say the format, lower case.
    pub suffixes: &'static [&'static str],
    /// Whether a name says the format without its suffix: lower case, without that of a compression.
    pub is_name: fn(&str) -> bool,
    /// Whether a text can be of the format.
    pub is_content: fn(&[u8]) -> bool,
    /// Reads the text of a file; the path names it.
    pub parse: fn(&Path, &[u8]) -> Result<Material>,
    /// The most bytes that the text of a file can hold, by the header at its start.
    pub needs: fn(&Path, &[u8]) -> Result<u64>,
}

fn parse(path: &Path, text: &[u8]) -> Result<Material> {
    (text_format(path, text)?.parse)(path, text)
}

/// The most bytes that the text of a density can hold, by the header at its start.
fn text_needs(path: &Path, start: &[u8]) -> Result<u64> {
    (text_format(path, start)?.needs)(path, start)
}

/// Whether a path is a folder, which only Zarr groups are.
fn is_zarr(path: &Path) -> Result<bool> {
    let facts = path.metadata().map_err(|source| Error::io(path, source))?;
    if !facts.is_dir() {
        return Ok(false);
    }
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zarr"));
    if named || path.join("zarr.json").exists() {
        return Ok(true);
    }
    Err(Error::unreadable(
        path,
        "this is a folder and no Zarr v3 group; give the files in it, or a folder whose name ends in .zarr",
    ))
}

/// Files in CHGCAR layout that hold no density.
fn refuse_by_name(path: &Path) -> Result<()> {
    let name = file_name(path).to_ascii_uppercase();
    for (prefix, content) in [("LOCPOT", "a potential"), ("ELFCAR", "the electron localisation function")] {
        if name.starts_with(prefix) {
            return Err(Error::unreadable(
                path,
                format!("the file holds {content}, not a density; give the CHGCAR"),
            ));
        }
    }
    Ok(())
}

/// What a text is: by its name first, by its content otherwise.
fn text_format(path: &Path, text: &[u8]) -> Result<&'static TextFormat> {
    let name = file_name(path);
    let name = compression::strip_suffix(&name).to_ascii_lowercase();
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    let find = |is: &dyn Fn(&TextFormat) -> bool| TEXT_FORMATS.iter().find(|format| is(format));
    find(&|format| format.suffixes.contains(&suffix))
        .or_else(|| find(&|format| (format.is_name)(&name)))
        .or_else(|| find(&|format| (format.is_content)(text)))
        .ok_or_else(|| {
            let files: Vec<_> = TEXT_FORMATS.iter().map(|format| format.files).collect();
            let known = files.join("; ");
            Error::unreadable(
                path,
                format!(
                    "neither the name nor the content tells the format; known are {known}; Zarr groups NAME.zarr"
                ),
            )
        })
}

/// Whether a line (from 0) of a text starts with `n` numbers.
pub(crate) fn starts_with_numbers(text: &[u8], line: usize, n: usize) -> bool {
    let line = text.split(|&b| b == b'\n').nth(line).unwrap_or_default();
    words(line).map(parse_number).take_while(Option::is_some).take(n).count() == n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_name_and_content() {
        let cube = b"\n\n 1 0 0 0\n 2 1 0 0\n 2 0 1 0\n 2 0 0 1\n";
        let vasp = b"Si\n1.0\n1 0 0\n0 1 0\n0 0 1\nSi\n1\n";
        let format =
            |name: &str, text: &[u8]| text_format(Path::new(name), text).map(|format| format.suffixes[0]);
        for name in
            ["CHGCAR", "x/CHG.gz", "AECCAR0", "CHGCAR.relax2.gz", "CHGCAR_sum", "a.vasp", "mp-1.CHGCAR.xz"]
        {
            assert_eq!(format(name, b"").unwrap(), "vasp", "{name}");
        }
        assert_eq!(format("a.CUBE.bz2", b"").unwrap(), "cube");
        assert_eq!(format("density.dat", cube).unwrap(), "cube");
        assert_eq!(format("density.dat", vasp).unwrap(), "vasp");
        assert!(format("chgs.dat", b"hello").unwrap_err().to_string().contains("format"));
        assert!(refuse_by_name(Path::new("a/LOCPOT.gz")).is_err());
    }
}
