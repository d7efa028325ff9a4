//! The `rho_gga` layout: one Zarr v3 group a material, in a local folder or as files that a caller fetched.
//!
//! `NAME.zarr/zarr.json` has the attribute `structure`, the JSON text of a pymatgen `Structure` dict, and may have
//! `metadata`, JSON text with a `task_id`; the array `charge_density_total` (float32 or float64, `nx * ny * nz`)
//! holds `rho * V_cell` in electrons, row-major.
//! A chunk that is missing is an error here. Zarr itself would put fill values in its place.

mod stages;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;
use serde::Deserialize;
use serde_json::Value;
use tomat_core::grid::{Crystal, Density, Unit, check_grid};
use tomat_core::memory;
use zarrs::array::{Array, ArrayMetadata, ElementOwned};
use zarrs::storage::StoreKey;
use zarrs::storage::store::MemoryStore;

use crate::ZARR;
use crate::error::{Error, Result};
use crate::limits::check_points;
use crate::material::{Material, SourceFacts};
use crate::structure::crystal_from_json;
use crate::task_id::task_id;
use stages::{Fault, MAX_RATIO, Stages};

/// The name of the array.
pub const ARRAY: &str = "charge_density_total";

/// The largest `zarr.json` that is read, in bytes.
const MAX_METADATA: u64 = 256 << 20;

/// More chunks than this are a mistake: the layout has one.
const MAX_CHUNKS: u64 = 1 << 16;

/// The array, with what undoes its codecs.
struct Open<'a> {
    /// What its metadata say; its chunks are read from the place itself.
    array: Array<MemoryStore>,
    place: Place<'a>,
    stages: Stages,
    shape: [usize; 3],
}

/// Where the files of a group are. Errors call the group by its path or URL.
#[derive(Clone, Copy)]
enum Place<'a> {
    Folder(&'a Path),
    Fetched(&'a Path, &'a BTreeMap<&'a str, &'a [u8]>),
}

/// The part of a group's `zarr.json` that is used.
#[derive(Deserialize)]
struct GroupMetadata {
    node_type: String,
    #[serde(default)]
    attributes: serde_json::Map<String, Value>,
}

/// Reads a material from a local Zarr v3 group. The density comes in [`Unit::Chgcar`].
///
/// # Errors
/// [`Error::Missing`], [`Error::Io`]; [`Error::Unreadable`] when anything is not as the layout says;
/// [`Error::Core`] with [`tomat_core::Error::GridAxis`] for a grid too long for the token format, which is told
/// before any value is read.
pub fn read(path: &Path) -> Result<Material> {
    read_place(Place::Folder(path))
}

/// Reads a material from the files of a group, by their name in it (`zarr.json`, `charge_density_total/zarr.json`,
/// `charge_density_total/c/0/0/0`, ...); `url` is where they came from. Chunks of a grid that is too long need not be
/// there: its shape is told before any of them is looked for.
///
/// # Errors
/// As [`read`]; [`Error::Missing`] where there are no files at all.
pub fn read_fetched(url: &str, files: &BTreeMap<String, impl AsRef<[u8]>>) -> Result<Material> {
    let files = files.iter().map(|(name, content)| (name.as_str(), content.as_ref())).collect();
    read_place(Place::Fetched(Path::new(url), &files))
}

/// The bytes of a chunk as the codecs `zstd` (with its own checksum) and `crc32c` write them, the last one outermost:
/// whatever bit of a file flips, reading it is an error.
///
/// # Errors
/// [`Error::Core`] when `level` is none of zstd.
pub fn encode_chunk(values: &[u8], level: i32) -> Result<Vec<u8>> {
    let compress = || {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        compressor.include_checksum(true)?;
        compressor.compress(values)
    };
    let mut encoded =
        compress().map_err(|error| tomat_core::Error::invalid(format!("zstd level {level}: {error}")))?;
    let checksum = crc32c::crc32c(&encoded);
    encoded.extend_from_slice(&checksum.to_le_bytes());
    Ok(encoded)
}

fn read_place(place: Place<'_>) -> Result<Material> {
    let path = place.path();
    let group: GroupMetadata = read_json(place, "zarr.json")?;
    if group.node_type != "group" {
        return Err(Error::unreadable(
            path,
            format!(
                "this is a Zarr {}, not the group around it; give the folder that ends in .zarr",
                group.node_type
            ),
        ));
    }
    let open = open(place)?;
    let crystal = read_crystal(path, &group.attributes)?;
    let values = read_values(path, &open)?;
    let density =
        Density::new(open.shape, Unit::Chgcar, values).map_err(|e| Error::unreadable(path, e.to_string()))?;
    let recorded_task_id = recorded_task_id(&group.attributes);
    let source = SourceFacts { recorded_task_id, ..SourceFacts::plain(ZARR) };
    Ok(Material { task_id: task_id(path), density, crystal, source })
}

impl<'a> Place<'a> {
    fn path(self) -> &'a Path {
        match self {
            Self::Folder(path) | Self::Fetched(path, _) => path,
        }
    }

    /// Whether the names of all files are such as the files of a group have.
    fn check_names(self) -> Result<(), String> {
        if let Self::Fetched(_, files) = self {
            for &name in files.keys() {
                StoreKey::new(name).map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    /// The bytes of a chunk's file, [`None`] where it is not there.
    fn chunk_length(self, key: &StoreKey) -> Option<u64> {
        match self {
            Self::Folder(path) => fs::metadata(path.join(key.as_str())).ok().map(|facts| facts.len()),
            Self::Fetched(_, files) => files.get(key.as_str()).map(|content| content.len() as u64),
        }
    }

    /// What a chunk's file holds, [`None`] where it is not there.
    fn chunk(self, key: &StoreKey) -> io::Result<Option<Cow<'a, [u8]>>> {
        match self {
            Self::Folder(path) => match fs::read(path.join(key.as_str())) {
                Ok(content) => Ok(Some(Cow::Owned(content))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Self::Fetched(_, files) => Ok(files.get(key.as_str()).map(|&content| Cow::Borrowed(content))),
        }
    }

    /// The content of a file of the group, [`None`] where it is not there.
    fn metadata(self, name: &str) -> Result<Option<Cow<'a, [u8]>>> {
        let path = match self {
            Self::Folder(path) => path.join(name),
            Self::Fetched(_, files) => return Ok(files.get(name).map(|&content| Cow::Borrowed(content))),
        };
        let length = match fs::metadata(&path) {
            Ok(facts) => facts.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, error)),
        };
        check_length(self.path(), name, length)?;
        fs::read(&path).map(|content| Some(Cow::Owned(content))).map_err(|error| Error::io(&path, error))
    }

    /// Whether there is anything at all.
    fn is_there(self) -> bool {
        match self {
            Self::Folder(path) => path.is_dir(),
            Self::Fetched(_, files) => !files.is_empty(),
        }
    }
}

/// Opens the array and checks its shape, before anything is made of the rest of its metadata.
fn open(place: Place<'_>) -> Result<Open<'_>> {
    let path = place.path();
    let name = format!("{ARRAY}/zarr.json");
    let metadata: Value = read_json(place, &name)?;
    let shape = read_shape(path, &metadata)?;
    let wrong = |problem: &dyn std::fmt::Display| {
        Error::unreadable(
            path,
            format!("{name} does not describe a Zarr v3 array that can be read: {problem}"),
        )
    };
    let metadata: ArrayMetadata = serde_json::from_value(metadata).map_err(|e| wrong(&e))?;
    place.check_names().map_err(|e| wrong(&e))?;
    let array = Array::new_with_metadata(Arc::new(MemoryStore::new()), &format!("/{ARRAY}"), metadata)
        .map_err(|e| wrong(&e))?;
    let stages = Stages::new(&array.codecs())
        .map_err(|problem| Error::unreadable(path, format!("{ARRAY} {problem}")))?;
    Ok(Open { array, place, stages, shape })
}

fn read_shape(path: &Path, metadata: &Value) -> Result<[usize; 3]> {
    let shape = metadata.get("shape").unwrap_or(&Value::Null);
    let axes = shape.as_array().map(|axes| axes.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
    let Some(Some(axes)) = axes else {
        return Err(Error::unreadable(
            path,
            format!("{ARRAY}/zarr.json gives the shape {shape}; it must be a list of sizes"),
        ));
    };
    let shape: [u64; 3] = axes.as_slice().try_into().map_err(|_| {
        Error::unreadable(path, format!("{ARRAY} has the shape {axes:?}; a density has three axes"))
    })?;
    if shape.contains(&0) {
        return Err(Error::unreadable(path, format!("{ARRAY} has the shape {shape:?}, without any points")));
    }
    let shape = shape.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    check_grid(shape)?;
    check_points(shape).map_err(|problem| Error::unreadable(path, problem))?;
    Ok(shape)
}

fn read_crystal(path: &Path, attributes: &serde_json::Map<String, Value>) -> Result<Crystal> {
    let text = match attributes.get("structure") {
        Some(Value::String(text)) => text.clone(),
        Some(dict @ Value::Object(_)) => dict.to_string(),
        _ => {
            return Err(Error::unreadable(
                path,
                "the group has no attribute `structure`; it must hold the JSON text of a pymatgen Structure",
            ));
        }
    };
    crystal_from_json(&text)
        .map_err(|problem| Error::unreadable(path, format!("attribute `structure`: {problem}")))
}

/// The `task_id` inside the attribute `metadata`; a group without one is as good.
fn recorded_task_id(attributes: &serde_json::Map<String, Value>) -> Option<String> {
    let parsed;
    let metadata = match attributes.get("metadata")? {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text).ok()?;
            &parsed
        }
        value => value,
    };
    Some(metadata.get("task_id")?.as_str()?.to_owned())
}

/// All values, row-major, as float32.
fn read_values(path: &Path, open: &Open<'_>) -> Result<Vec<f32>> {
    let data_type = open.array.data_type().to_string();
    match data_type.split_whitespace().next().unwrap_or_default() {
        "float32" => assemble::<f32>(path, open, |value| value),
        "float64" => assemble::<f64>(path, open, |value| value as f32),
        _ => Err(Error::unreadable(
            path,
            format!(
                "{ARRAY} is of type {data_type}; float32 or float64 is needed, write it again as float32"
            ),
        )),
    }
}

/// Decodes chunk after chunk into its place.
fn assemble<T: ElementOwned + Pod>(
    path: &Path,
    open: &Open<'_>,
    convert: impl Fn(T) -> f32,
) -> Result<Vec<f32>> {
    let Open { array, shape, .. } = open;
    let chunks = chunks_of::<T>(path, open)?;
    let mut values = Vec::new();
    for &chunk in &chunks {
        let (part, size) = read_chunk::<T>(path, open, chunk)?;
        if chunks.len() == 1 && size == *shape {
            // In the memory that they have.
            return Ok(part.into_iter().map(convert).collect());
        }
        if values.is_empty() {
            values = memory::filled(shape.iter().product(), 0.0).map_err(|e| Error::core(path, e))?;
        }
        let origin = array.chunk_origin(&chunk).map_err(|e| chunk_error(path, open, chunk, &e))?;
        let origin: [usize; 3] = std::array::from_fn(|a| origin.get(a).map_or(usize::MAX, |&o| o as usize));
        place(&mut values, *shape, &part, size, origin, &convert);
    }
    Ok(values)
}

/// All chunks, each of which is there; together they are large enough for the values of the array.
fn chunks_of<T>(path: &Path, open: &Open<'_>) -> Result<Vec<[u64; 3]>> {
    let Open { array, place, shape, .. } = open;
    let grid: [u64; 3] = array.chunk_grid_shape().try_into().map_err(|_| no_grid(path))?;
    let n = grid.iter().try_fold(1_u64, |product, &n| product.checked_mul(n)).unwrap_or(u64::MAX);
    if n > MAX_CHUNKS {
        return Err(Error::unreadable(
            path,
            format!(
                "{ARRAY} has {grid:?} chunks, more than {MAX_CHUNKS}; write it in larger ones, best in one"
            ),
        ));
    }
    let mut chunks = Vec::new();
    let mut stored = 0_u64;
    for i in 0..grid[0] {
        for j in 0..grid[1] {
            for k in 0..grid[2] {
                let chunk = [i, j, k];
                let length = place.chunk_length(&array.chunk_key(&chunk));
                stored = stored.saturating_add(length.ok_or_else(|| missing(path, open, chunk))?);
                chunks.push(chunk);
            }
        }
    }
    let needed = shape.iter().product::<usize>() as u64 * size_of::<T>() as u64;
    if needed > stored.saturating_mul(MAX_RATIO) {
        return Err(Error::unreadable(
            path,
            format!(
                "the {stored} bytes of {ARRAY} cannot hold {shape:?} values; the folder is damaged, copy it again"
            ),
        ));
    }
    Ok(chunks)
}

/// Copies the part of a chunk that lies inside the array; the last chunks of an axis may reach over its end.
fn place<T: Copy>(
    values: &mut [f32],
    shape: [usize; 3],
    part: &[T],
    size: [usize; 3],
    origin: [usize; 3],
    convert: &impl Fn(T) -> f32,
) {
    let inside: [usize; 3] = std::array::from_fn(|a| size[a].min(shape[a].saturating_sub(origin[a])));
    for x in 0..inside[0] {
        for y in 0..inside[1] {
            let from = (x * size[1] + y) * size[2];
            let to = ((origin[0] + x) * shape[1] + origin[1] + y) * shape[2] + origin[2];
            for (value, &given) in values[to..to + inside[2]].iter_mut().zip(&part[from..from + inside[2]]) {
                *value = convert(given);
            }
        }
    }
}

/// The values of one chunk and its size along each axis, which may be larger than what lies inside the array.
fn read_chunk<T: ElementOwned + Pod>(
    path: &Path,
    open: &Open<'_>,
    chunk: [u64; 3],
) -> Result<(Vec<T>, [usize; 3])> {
    let Open { array, place, stages, .. } = open;
    let error = |problem: &dyn std::fmt::Display| chunk_error(path, open, chunk, problem);
    let fault = |fault| match fault {
        Fault::Wrong(problem) => error(&problem),
        Fault::Memory(bytes) => Error::core(path, tomat_core::Error::Memory { bytes }),
    };
    let shape = array.chunk_shape(&chunk).map_err(|e| error(&e))?;
    let size: [u64; 3] = std::array::from_fn(|a| shape.get(a).map_or(0, |n| n.get()));
    let values = size.iter().try_fold(size_of::<T>() as u64, |product, &n| product.checked_mul(n));
    if values.is_none_or(|n| n > 1 << 48) {
        return Err(error(&format!("no memory holds {size:?} values; the folder is damaged, copy it again")));
    }
    let decoder = stages.of_chunk(&shape, array.data_type(), array.fill_value()).map_err(fault)?;
    let key = array.chunk_key(&chunk);
    let length = place.chunk_length(&key).ok_or_else(|| missing(path, open, chunk))?;
    // Before it is read: a file may be of any size.
    decoder.check_stored(length).map_err(fault)?;
    let encoded = place.chunk(&key).map_err(|e| error(&e))?.ok_or_else(|| missing(path, open, chunk))?;
    let values = decoder.decode(encoded).map_err(fault)?;
    Ok((values, size.map(|n| n as usize)))
}

fn missing(path: &Path, open: &Open<'_>, chunk: [u64; 3]) -> Error {
    chunk_error(
        path,
        open,
        chunk,
        &"it is missing, and zeros in its place would be a lie; copy the folder again",
    )
}

fn chunk_error(path: &Path, open: &Open<'_>, chunk: [u64; 3], problem: &dyn std::fmt::Display) -> Error {
    Error::unreadable(path, format!("chunk {}: {problem}", open.array.chunk_key(&chunk)))
}

fn no_grid(path: &Path) -> Error {
    Error::unreadable(path, format!("the chunks of {ARRAY} do not have three axes; write it again"))
}

fn check_length(path: &Path, name: &str, length: u64) -> Result<()> {
    if length > MAX_METADATA {
        return Err(Error::unreadable(
            path,
            format!("{name} has {length} bytes, more than any metadata; it is damaged"),
        ));
    }
    Ok(())
}

/// Reads a JSON file inside the group.
fn read_json<T: serde::de::DeserializeOwned>(place: Place<'_>, name: &str) -> Result<T> {
    let path = place.path();
    let Some(text) = place.metadata(name)? else {
        if !place.is_there() {
            return Err(Error::Missing { path: path.to_owned() });
        }
        let is_v2 = matches!(place, Place::Folder(path) if path.join(".zgroup").exists());
        let hint = if is_v2 { " (it is Zarr v2: write it again as v3)" } else { "" };
        return Err(Error::unreadable(
            path,
            format!("the folder has no {name}{hint}; it is not a whole Zarr v3 group, copy it again"),
        ));
    };
    check_length(path, name, text.len() as u64)?;
    serde_json::from_slice(&text).map_err(|e| {
        Error::unreadable(path, format!("{name} is not the JSON of Zarr v3 ({e}); copy the folder again"))
    })
}
