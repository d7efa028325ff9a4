//! What a material is called, from the path of its file.

use std::path::{Path, PathBuf};

use crate::compression;

/// The stem of `mp-1.chgcar`, `mp-1.chg`, `mp-1.aeccar0` (lower case).
pub(crate) fn vasp_suffix(name: &str) -> Option<&str> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let vasp =
        matches!(suffix, "chgcar" | "chg") || suffix.strip_prefix("aeccar").is_some_and(|n| n.len() <= 1);
    (vasp && !stem.is_empty()).then_some(stem)
}

/// The name of a material: `mp-1` for `mp-1.zarr`, `mp-1.CHGCAR.gz`, `mp-1.vasp` and `mp-1.cube.xz`; the name of
/// the folder for a file VASP named (`mp-1/CHGCAR`, `mp-1/AECCAR0.gz`, `mp-1/CHGCAR.relax2.gz`).
#[must_use]
pub fn task_id(path: &Path) -> String {
    let full = file_name(path);
    let name = compression::strip_suffix(&full);
    let lower = name.to_ascii_lowercase();
    let first = lower.split('.').next().unwrap_or_default();
    if matches!(first, "chgcar" | "chg" | "aeccar" | "aeccar0" | "aeccar1" | "aeccar2") {
        return parent_name(path).unwrap_or_else(|| name.to_owned());
    }
    let stem = match lower.rsplit_once('.') {
        Some((stem, "zarr" | "vasp" | "cube" | "cub")) if !stem.is_empty() => stem.len(),
        _ => vasp_suffix(&lower).map_or(name.len(), str::len),
    };
    // Lower case of ASCII letters keeps every byte in its place.
    name[..stem].to_owned()
}

/// The last part of a path or URL, without the query of a URL.
pub(crate) fn file_name(path: &Path) -> String {
    without_query(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The folder a file lies in; a bare name is looked up from the current folder.
fn parent_name(path: &Path) -> Option<String> {
    let path = without_query(path);
    let is_url = path.to_string_lossy().contains("://");
    let path = if is_url { path } else { std::path::absolute(&path).unwrap_or(path) };
    let parent = path.parent()?.file_name()?;
    Some(parent.to_string_lossy().into_owned())
}

fn without_query(path: &Path) -> PathBuf {
    match path.to_str() {
        Some(url) if url.contains("://") => url.split(['?', '#']).next().unwrap_or_default().into(),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids() {
        for (path, id) in [
            ("label/qe-0001.zarr", "qe-0001"),
            ("label/qe-0001.zarr/", "qe-0001"),
            ("a/mp-1.CHGCAR.gz", "mp-1"),
            ("a/mp-1.chg", "mp-1"),
            ("a/mp-1.AECCAR2.zst", "mp-1"),
            ("a/mp-149/CHGCAR", "mp-149"),
            ("a/mp-149/AECCAR0.gz", "mp-149"),
            ("a/mp-149/CHGCAR.relax2.bz2", "mp-149"),
            ("a/CHGCAR_sum", "CHGCAR_sum"),
            ("a/Si.primitive.vasp", "Si.primitive"),
            ("qe-0039-Si.cube.gz", "qe-0039-Si"),
            ("density.cub", "density"),
            ("s3://bucket/mp-3/CHGCAR.gz?versionId=1", "mp-3"),
            ("https://host/x/mp-4.cube?a=b.c", "mp-4"),
            ("plain", "plain"),
        ] {
            assert_eq!(task_id(Path::new(path)), id, "{path}");
        }
        assert!(!task_id(Path::new("CHGCAR")).is_empty());
    }
}
