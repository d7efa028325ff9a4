//! One way in for every format: what a file is, what its material is called, and its density.

use std::path::Path;

use crate::error::{Error, Result};
use crate::material::{Format, Material};
use crate::numbers::{parse_number, words};
use crate::task_id::{file_name, vasp_suffix};
use crate::{chgcar, compression, cube, zarr};

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
pub fn read_bytes(name: &str, bytes: Vec<u8>) -> Result<Material> {
    let path = Path::new(name);
    refuse_by_name(path)?;
    parse(path, &compression::expand(path, bytes, &|start| text_needs(path, start))?)
}

fn parse(path: &Path, text: &[u8]) -> Result<Material> {
    match text_format(path, text)? {
        Format::Cube => cube::parse(path, text),
        _ => chgcar::parse(path, text),
    }
}

/// The most bytes that the text of a density can hold, by the header at its start.
fn text_needs(path: &Path, start: &[u8]) -> Result<u64> {
    match text_format(path, start)? {
        Format::Cube => cube::needs(path, start),
        _ => chgcar::needs(path, start),
    }
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
fn text_format(path: &Path, text: &[u8]) -> Result<Format> {
    let name = file_name(path);
    let name = compression::strip_suffix(&name).to_ascii_lowercase();
    let vasp_start = ["chgcar", "aeccar", "chg"].iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_lowercase()))
    });
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    if matches!(suffix, "cube" | "cub") {
        Ok(Format::Cube)
    } else if vasp_start || suffix == "vasp" || vasp_suffix(&name).is_some() {
        Ok(Format::Chgcar)
    } else {
        format_of_content(text).ok_or_else(|| {
            Error::unreadable(
                path,
                "neither the name nor the content tells the format; VASP files are called CHGCAR, CHG, AECCAR0, \
                 NAME.CHGCAR or NAME.vasp, Gaussian cube files NAME.cube, Zarr groups NAME.zarr",
            )
        })
    }
}

/// Cube files have a count and a vector on lines 3 to 6; VASP files a number on line 2 and vectors on lines 3 to 5.
fn format_of_content(text: &[u8]) -> Option<Format> {
    let mut lines = text.split(|&b| b == b'\n').skip(1);
    let mut numbers =
        || -> Vec<Option<f64>> { words(lines.next().unwrap_or_default()).map(parse_number).collect() };
    let scale = numbers();
    let rows = [numbers(), numbers(), numbers(), numbers()];
    let starts_with = |row: &[Option<f64>], n| row.len() >= n && row[..n].iter().all(Option::is_some);
    if rows.iter().all(|row| starts_with(row, 4)) {
        Some(Format::Cube)
    } else if starts_with(&scale, 1) && rows[..3].iter().all(|row| starts_with(row, 3)) {
        Some(Format::Chgcar)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_name_and_content() {
        let cube = b"\n\n 1 0 0 0\n 2 1 0 0\n 2 0 1 0\n 2 0 0 1\n";
        let vasp = b"Si\n1.0\n1 0 0\n0 1 0\n0 0 1\nSi\n1\n";
        let format = |name: &str, text: &[u8]| text_format(Path::new(name), text);
        for name in
            ["CHGCAR", "x/CHG.gz", "AECCAR0", "CHGCAR.relax2.gz", "CHGCAR_sum", "a.vasp", "mp-1.CHGCAR.xz"]
        {
            assert_eq!(format(name, b"").unwrap(), Format::Chgcar, "{name}");
        }
        assert_eq!(format("a.CUBE.bz2", b"").unwrap(), Format::Cube);
        assert_eq!(format("density.dat", cube).unwrap(), Format::Cube);
        assert_eq!(format("density.dat", vasp).unwrap(), Format::Chgcar);
        assert!(format("chgs.dat", b"hello").unwrap_err().to_string().contains("format"));
        assert!(refuse_by_name(Path::new("a/LOCPOT.gz")).is_err());
    }
}
