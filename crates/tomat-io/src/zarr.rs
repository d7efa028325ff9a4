//! The `rho_gga` layout: one Zarr v3 group a material, in a local folder or as files that a caller fetched.
//!
//! `NAME.zarr/zarr.json` has the attribute `structure`, the JSON text of a pymatgen `Structure` dict, and may have
//! `metadata`, JSON text with a `task_id`; the array `charge_density_total` (float32 or float64, `nx * ny * nz`)
//! holds `rho * V_cell` in electrons, row-major.
//! A chunk that is missing is an error here. Zarr itself would put fill values in its place.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use tomat_core::grid::{Crystal, Density, Unit, check_grid};
use zarrs::array::{
    Array, ArrayMetadata, ArrayShardedExt, ArrayToBytesCodecTraits, CodecOptions, ElementOwned,
    FromArrayBytes,
};
use zarrs::filesystem::FilesystemStore;
use zarrs::metadata::v3::MetadataV3;
use zarrs::storage::store::MemoryStore;
use zarrs::storage::{ReadableStorageTraits, StoreKey, WritableStorageTraits};

use crate::error::{Error, Result};
use crate::material::{Format, Material, SourceFacts};
use crate::structure::crystal_from_json;
use crate::task_id::task_id;

/// The name of the array.
pub const ARRAY: &str = "charge_density_total";

/// The most a byte of any codec here can grow to (a zstd block of 4 bytes holds 128 KiB of one value).
const MAX_RATIO: u64 = 1 << 15;

/// The largest `zarr.json` that is read, in bytes.
const MAX_METADATA: u64 = 256 << 20;

type AnyArray = Array<dyn ReadableStorageTraits>;

/// Where the files of a group are. Errors call the group by its path or URL.
#[derive(Clone, Copy)]
enum Place<'a> {
    Folder(&'a Path),
    Fetched(&'a Path, &'a BTreeMap<String, Vec<u8>>),
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
pub fn read_fetched(url: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Material> {
    read_place(Place::Fetched(Path::new(url), files))
}

fn read_place(place: Place) -> Result<Material> {
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
    let (array, shape) = open(place)?;
    let crystal = read_crystal(path, &group.attributes)?;
    let values = read_values(path, &array, shape)?;
    let density =
        Density::new(shape, Unit::Chgcar, values).map_err(|e| Error::unreadable(path, e.to_string()))?;
    let recorded_task_id = recorded_task_id(&group.attributes);
    let source = SourceFacts { recorded_task_id, ..SourceFacts::plain(Format::Zarr) };
    Ok(Material { task_id: task_id(path), density, crystal, source })
}

/// The grid of a material, from the metadata of its array alone.
///
/// # Errors
/// As [`read`].
pub fn peek(path: &Path) -> Result<[usize; 3]> {
    read_shape(path, &read_json(Place::Folder(path), &format!("{ARRAY}/zarr.json"))?)
}

impl<'a> Place<'a> {
    fn path(self) -> &'a Path {
        match self {
            Self::Folder(path) | Self::Fetched(path, _) => path,
        }
    }

    fn store(self) -> Result<Arc<dyn ReadableStorageTraits>, String> {
        match self {
            Self::Folder(path) => Ok(Arc::new(FilesystemStore::new(path).map_err(|e| e.to_string())?)),
            Self::Fetched(_, files) => {
                let store = MemoryStore::new();
                for (name, content) in files {
                    let key = StoreKey::new(name.as_str()).map_err(|e| e.to_string())?;
                    store.set(&key, content.clone().into()).map_err(|e| e.to_string())?;
                }
                Ok(Arc::new(store))
            }
        }
    }

    /// The content of a file of the group, [`None`] where it is not there.
    fn metadata(self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = match self {
            Self::Folder(path) => path.join(name),
            Self::Fetched(_, files) => return Ok(files.get(name).cloned()),
        };
        let length = match fs::metadata(&path) {
            Ok(facts) => facts.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, error)),
        };
        check_length(self.path(), name, length)?;
        fs::read(&path).map(Some).map_err(|error| Error::io(&path, error))
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
fn open(place: Place) -> Result<(AnyArray, [usize; 3])> {
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
    let store = place.store().map_err(|e| wrong(&e))?;
    let array = AnyArray::new_with_metadata(store, &format!("/{ARRAY}"), metadata).map_err(|e| wrong(&e))?;
    if array.is_sharded() {
        return Err(Error::unreadable(
            path,
            format!("{ARRAY} is sharded, where a missing part would read as zeros; write it without shards"),
        ));
    }
    Ok((array, shape))
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
fn read_values(path: &Path, array: &AnyArray, shape: [usize; 3]) -> Result<Vec<f32>> {
    let data_type = array.data_type().to_string();
    match data_type.split_whitespace().next().unwrap_or_default() {
        "float32" => assemble::<f32>(path, array, shape, |value| value),
        "float64" => assemble::<f64>(path, array, shape, |value| value as f32),
        _ => Err(Error::unreadable(
            path,
            format!(
                "{ARRAY} is of type {data_type}; float32 or float64 is needed, write it again as float32"
            ),
        )),
    }
}

/// Decodes chunk after chunk into its place.
fn assemble<T: ElementOwned + Copy>(
    path: &Path,
    array: &AnyArray,
    shape: [usize; 3],
    convert: impl Fn(T) -> f32,
) -> Result<Vec<f32>> {
    let grid: [u64; 3] = array.chunk_grid_shape().try_into().map_err(|_| no_grid(path))?;
    let mut values = Vec::new();
    for i in 0..grid[0] {
        for j in 0..grid[1] {
            for k in 0..grid[2] {
                let chunk = [i, j, k];
                let (part, size) = read_chunk::<T>(path, array, chunk)?;
                if grid == [1, 1, 1] && size == shape {
                    return Ok(part.into_iter().map(convert).collect());
                }
                if values.is_empty() {
                    values = vec![0.0; shape.iter().product()];
                }
                let origin = array.chunk_origin(&chunk).map_err(|e| chunk_error(path, array, chunk, &e))?;
                let origin: [usize; 3] =
                    std::array::from_fn(|a| origin.get(a).map_or(usize::MAX, |&o| o as usize));
                place(&mut values, shape, &part, size, origin, &convert);
            }
        }
    }
    Ok(values)
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
fn read_chunk<T: ElementOwned>(
    path: &Path,
    array: &AnyArray,
    chunk: [u64; 3],
) -> Result<(Vec<T>, [usize; 3])> {
    let error = |problem: &dyn std::fmt::Display| chunk_error(path, array, chunk, problem);
    let encoded = array.retrieve_encoded_chunk(&chunk).map_err(|e| error(&e))?.ok_or_else(|| {
        error(&"it is missing, and zeros in its place would be a lie; copy the folder again")
    })?;
    let chunk_shape = array.chunk_shape(&chunk).map_err(|e| error(&e))?;
    let size: [u64; 3] = std::array::from_fn(|a| chunk_shape.get(a).map_or(0, |n| n.get()));
    let expected = size.iter().try_fold(size_of::<T>() as u64, |product, &n| product.checked_mul(n));
    let expected =
        expected.filter(|&n| n <= (encoded.len() as u64).saturating_mul(MAX_RATIO)).ok_or_else(|| {
            error(&format!(
                "its {} bytes cannot hold {size:?} values; the folder is damaged, copy it again",
                encoded.len()
            ))
        })?;
    check_outermost_codec(array, &encoded, expected).map_err(|problem| error(&problem))?;
    let bytes = array
        .codecs()
        .decode(encoded.into(), &chunk_shape, array.data_type(), array.fill_value(), &CodecOptions::default())
        .map_err(|e| error(&format!("it is damaged or cut off ({e}); copy the folder again")))?;
    let values =
        Vec::<T>::from_array_bytes(bytes.into_owned(), &size, array.data_type()).map_err(|e| error(&e))?;
    Ok((values, size.map(|n| n as usize)))
}

/// What the frame of the outermost codec says it holds, where it says so, must be what the chunk should hold:
/// otherwise a few bytes could ask for any amount of memory.
fn check_outermost_codec(array: &AnyArray, encoded: &[u8], expected: u64) -> Result<(), String> {
    let ArrayMetadata::V3(metadata) = array.metadata() else {
        return Err("the array is not of Zarr v3; write it again with zarr 3".to_owned());
    };
    let codecs: Vec<&str> = metadata.codecs.iter().map(MetadataV3::name).collect();
    let says = match codecs.as_slice() {
        [.., "bytes", "zstd"] => {
            let frame = zstd::zstd_safe::find_frame_compressed_size(encoded)
                .map_err(|_| "its zstd frame is damaged or cut off; copy the folder again".to_owned())?;
            if frame != encoded.len() {
                return Err(format!(
                    "{} bytes follow its zstd frame; copy the folder again",
                    encoded.len() - frame
                ));
            }
            zstd::zstd_safe::get_frame_content_size(encoded).ok().flatten()
        }
        [.., "bytes", "blosc"] => {
            encoded.get(4..8).and_then(|n| n.try_into().ok()).map(|n| u64::from(u32::from_le_bytes(n)))
        }
        _ => return Ok(()),
    };
    match says {
        Some(n) if n == expected => Ok(()),
        Some(n) => Err(format!("it says it holds {n} bytes where {expected} belong; copy the folder again")),
        None if codecs.last() == Some(&"zstd") => bounded_zstd(encoded, expected),
        None => Err("its frame is cut off; copy the folder again".to_owned()),
    }
}

/// For zstd frames that do not say their size: decodes into nothing, and stops when there is too much.
fn bounded_zstd(encoded: &[u8], expected: u64) -> Result<(), String> {
    let decoder = zstd::stream::read::Decoder::with_buffer(encoded).map_err(|e| e.to_string())?;
    let mut limited = std::io::Read::take(decoder, expected + 1);
    match std::io::copy(&mut limited, &mut std::io::sink()) {
        Ok(n) if n == expected => Ok(()),
        Ok(_) => {
            Err(format!("it does not hold the {expected} bytes that belong there; copy the folder again"))
        }
        Err(e) => Err(format!("its zstd frame is damaged or cut off ({e}); copy the folder again")),
    }
}

fn chunk_error(path: &Path, array: &AnyArray, chunk: [u64; 3], problem: &dyn std::fmt::Display) -> Error {
    Error::unreadable(path, format!("chunk {}: {problem}", array.chunk_key(&chunk)))
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
fn read_json<T: serde::de::DeserializeOwned>(place: Place, name: &str) -> Result<T> {
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
