//! What a material is called, from the path of its file.

use std::path::{Component, Path, PathBuf};

use crate::{TEXT_FORMATS, ZARR, compression};

/// The name of what has none: the root of a file system.
const UNNAMED: &str = "unnamed";

/// Whether a suffix, lower case, says that a file is a density.
fn is_suffix(suffix: &str) -> bool {
    suffix == ZARR || TEXT_FORMATS.iter().any(|format| format.suffixes.contains(&suffix))
}

/// The name of a material: `mp-1` for `mp-1.zarr`, `mp-1.CHGCAR.gz`, `mp-1.vasp` and `mp-1.cube.xz`; the name of
/// the folder for a file VASP named (`mp-1/CHGCAR`, `mp-1/AECCAR0.gz`, `mp-1/CHGCAR.relax2.gz`, `mp-1/POSCAR`).
///
/// `.` and `..` are no names: what they stand for is. The name is never empty, and holds no path separator.
#[must_use]
pub fn task_id(path: &Path) -> String {
    let (parent, full) = names(path);
    let name = compression::strip_suffix(&full);
    let lower = name.to_ascii_lowercase();
    if is_nameless(&lower) {
        return parent.unwrap_or_else(|| name.to_owned());
    }
    let stem = match lower.rsplit_once('.') {
        Some((stem, suffix)) if !stem.is_empty() && is_suffix(suffix) => stem.len(),
        _ => name.len(),
    };
    // Lower case of ASCII letters keeps every byte in its place.
    let stem = &name[..stem];
    // `...cube` is called so, not `..`.
    if matches!(stem, "." | "..") { full } else { stem.to_owned() }
}

/// Whether VASP named a file (lower case, without compression), so that its name says nothing of the material.
fn is_nameless(name: &str) -> bool {
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    match first {
        "chgcar" | "chg" | "aeccar" | "aeccar0" | "aeccar1" | "aeccar2" => true,
        // What follows may be a name: POSCAR.Si.
        "poscar" | "contcar" => {
            rest.is_empty() || rest == "vasp" || rest.strip_prefix("relax").is_some_and(is_number)
        }
        _ => false,
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// The last part of a path or URL, without the query of a URL.
pub(crate) fn file_name(path: &Path) -> String {
    names(path).1
}

/// The folder a file lies in, where it has a name, and the name of the file itself.
fn names(path: &Path) -> (Option<String>, String) {
    if let Some(place) = path.to_str().and_then(place_of_url) {
        let mut parts: Vec<&str> = Vec::new();
        for part in place.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let name = parts.pop().unwrap_or(UNNAMED).to_owned();
        return (parts.pop().map(ToOwned::to_owned), name);
    }
    let path = resolved(path);
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let parent = path.parent().and_then(Path::file_name).map(text);
    (parent, path.file_name().map_or_else(|| UNNAMED.to_owned(), text))
}

/// What a URL names within its store, without a query; `None` for a local path.
fn place_of_url(text: &str) -> Option<&str> {
    let place = match text.split_once("://") {
        Some((_, place)) => place,
        None => text.strip_prefix("memory:")?,
    };
    place.split(['?', '#']).next()
}

/// An absolute path that ends in a name. Links are followed only where `..` stands after them: elsewhere the name that
/// somebody gave is the better one.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if !absolute.components().any(|part| part == Component::ParentDir) {
        return absolute;
    }
    let found = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map(|parent| parent.join(name)),
        _ => absolute.canonicalize(),
    };
    found.unwrap_or_else(|_| {
        // Not there: whoever reads it will say so.
        let mut path = PathBuf::new();
        for part in absolute.components() {
            if part == Component::ParentDir {
                path.pop();
            } else {
                path.push(part);
            }
        }
        path
    })
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
            ("a/mp-2/POSCAR", "mp-2"),
            ("a/mp-2/CONTCAR.relax2.gz", "mp-2"),
            ("a/POSCAR.Si", "POSCAR.Si"),
            ("a/mp-3/./CHG.bz2", "mp-3"),
            ("no/mp-4/x/../CHGCAR", "mp-4"),
            ("no/x/../mp-5.cube", "mp-5"),
            ("...cube", "...cube"),
            ("a/..zarr", "..zarr"),
            ("/", "unnamed"),
            ("/CHGCAR", "CHGCAR"),
            ("memory://CHGCAR", "CHGCAR"),
            ("memory:a/mp-6/CHGCAR", "mp-6"),
            ("s3://bucket/mp-7/x/../CHGCAR", "mp-7"),
            ("s3://bucket/mp-8.zarr/", "mp-8"),
            ("https://host/", "host"),
            ("s3://", "unnamed"),
        ] {
            assert_eq!(task_id(Path::new(path)), id, "{path}");
        }
        assert!(!task_id(Path::new("CHGCAR")).is_empty());
    }

    #[test]
    fn dots_stand_for_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("mp-1/deep")).unwrap();
        std::fs::create_dir(root.join("qe-1.zarr")).unwrap();
        for (path, id) in [
            ("mp-1/deep/../CHGCAR", "mp-1"),
            ("mp-1/deep/../POSCAR.gz", "mp-1"),
            ("mp-1/deep/..", "mp-1"),
            ("mp-1/deep/../../qe-1.zarr/.", "qe-1"),
            ("qe-1.zarr/../qe-1.zarr/", "qe-1"),
        ] {
            assert_eq!(task_id(&root.join(path)), id, "{path}");
        }
        if cfg!(unix) {
            #[cfg(unix)]
            std::os::unix::fs::symlink(root.join("mp-1/deep"), root.join("link")).unwrap();
            // Of the folder above what the link leads to, not above the link; a link's own name is a name.
            assert_eq!(task_id(&root.join("link/../CHGCAR")), "mp-1");
            assert_eq!(task_id(&root.join("link/CHGCAR")), "link");
        }
        let here = task_id(Path::new("."));
        let name = std::env::current_dir().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(here, name);
        assert_eq!(task_id(Path::new("./CHGCAR")), name);
    }
}
