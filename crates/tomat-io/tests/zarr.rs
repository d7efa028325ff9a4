//! The `rho_gga` layout: whole groups, groups with a part missing, and hostile ones.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use tomat_core::grid::Unit;
use tomat_io::{Error, read};

/// A group with the values 0, 1, 2, ... on a 2 x 3 x 4 grid, in one chunk.
struct Group {
    _folder: TempDir,
    path: PathBuf,
}

const SHAPE: [usize; 3] = [2, 3, 4];

impl Group {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qe-0001.zarr");
        fs::create_dir_all(path.join("charge_density_total/c/0/0")).unwrap();
        let structure = json!({
            "@class": "Structure",
            "lattice": {"matrix": [[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 6.0]]},
            "sites": [{"species": [{"element": "Si", "oxidation_state": 4.0, "occu": 1}], "abc": [0.0, 0.5, 0.25]}],
        });
        let metadata = json!({"task_id": "qe-9999"});
        let group = json!({
            "zarr_format": 3, "node_type": "group",
            "attributes": {"structure": structure.to_string(), "metadata": metadata.to_string()},
        });
        fs::write(path.join("zarr.json"), group.to_string()).unwrap();
        let group = Self { _folder: folder, path };
        group.write_array(&array(SHAPE, SHAPE, "float32"));
        group.write_chunk("0/0/0", &floats(0..24));
        group
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn write_array(&self, metadata: &Value) {
        fs::write(self.file("charge_density_total/zarr.json"), metadata.to_string()).unwrap();
    }

    fn write_raw(&self, chunk: &str, bytes: &[u8]) {
        let file = self.file("charge_density_total/c").join(chunk);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    fn write_chunk(&self, chunk: &str, bytes: &[u8]) {
        self.write_raw(chunk, &compress(bytes));
    }

    fn change_attribute(&self, name: &str, value: Option<Value>) {
        let file = self.file("zarr.json");
        let mut group: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let attributes = group["attributes"].as_object_mut().unwrap();
        match value {
            Some(value) => attributes.insert(name.to_owned(), value),
            None => attributes.remove(name),
        };
        fs::write(file, group.to_string()).unwrap();
    }

    #[track_caller]
    fn fails(&self, reason: &str) {
        let message = read(&self.path).unwrap_err().to_string();
        assert!(message.starts_with(&self.path.display().to_string()), "{message}");
        assert!(message.contains(reason), "{message:?} does not say {reason:?}");
    }
}

fn array(shape: [usize; 3], chunk: [usize; 3], data_type: &str) -> Value {
    json!({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 1, "checksum": false}},
        ],
        "attributes": {},
    })
}

fn floats(values: impl IntoIterator<Item = u16>) -> Vec<u8> {
    values.into_iter().flat_map(|v| f32::from(v).to_le_bytes()).collect()
}

/// A zstd frame that says how much it holds, as numcodecs writes it.
fn compress(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

fn expected() -> Vec<f32> {
    (0..24_u16).map(f32::from).collect()
}

#[test]
fn a_group_is_a_material() {
    let group = Group::new();
    let material = read(&group.path).unwrap();
    assert_eq!((material.density.shape(), material.density.unit()), (SHAPE, Unit::Chgcar));
    assert_eq!(material.density.values(), expected());
    assert_eq!(
        (material.crystal.atomic_numbers, material.crystal.frac_coords),
        (vec![14], vec![[0.0, 0.5, 0.25]])
    );
    assert_eq!((material.task_id.as_str(), material.source.format), ("qe-0001", "zarr"));
    assert_eq!(material.source.recorded_task_id.as_deref(), Some("qe-9999"));
}

#[test]
fn metadata_may_be_absent_or_odd() {
    let group = Group::new();
    for metadata in [None, Some(json!("not JSON")), Some(json!("[1]")), Some(json!(7))] {
        group.change_attribute("metadata", metadata);
        assert_eq!(read(&group.path).unwrap().source.recorded_task_id, None);
    }
    group.change_attribute("metadata", Some(json!({"task_id": "a"})));
    assert_eq!(read(&group.path).unwrap().source.recorded_task_id.as_deref(), Some("a"));
}

#[test]
fn float64_is_rounded_to_float32() {
    let group = Group::new();
    group.write_array(&array(SHAPE, SHAPE, "float64"));
    let bytes: Vec<u8> = (0..24).flat_map(|v| (f64::from(v) + 1e-12).to_le_bytes()).collect();
    group.write_chunk("0/0/0", &bytes);
    assert_eq!(read(&group.path).unwrap().density.values()[1..], expected()[1..]);
}

#[test]
fn several_chunks_meet_at_their_places() {
    let group = Group::new();
    // Chunks of 2 x 2 x 3 over 2 x 3 x 4: the last ones reach over the end.
    group.write_array(&array(SHAPE, [2, 2, 3], "float32"));
    for (j, k) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut values = Vec::new();
        for x in 0..2 {
            for y in 2 * j..2 * j + 2 {
                for z in 3 * k..3 * k + 3 {
                    values.push(if y < 3 && z < 4 { (x * 3 + y) * 4 + z } else { 999 });
                }
            }
        }
        group.write_chunk(&format!("0/{j}/{k}"), &floats(values));
    }
    assert_eq!(read(&group.path).unwrap().density.values(), expected());
    fs::remove_file(group.file("charge_density_total/c/0/1/0")).unwrap();
    group.fails("chunk charge_density_total/c/0/1/0: it is missing");
}

#[test]
fn parts_that_are_missing() {
    let group = Group::new();
    fs::remove_file(group.file("charge_density_total/c/0/0/0")).unwrap();
    group.fails("it is missing");
    fs::remove_dir_all(group.file("charge_density_total")).unwrap();
    group.fails("the folder has no charge_density_total/zarr.json");
    fs::remove_file(group.file("zarr.json")).unwrap();
    group.fails("the folder has no zarr.json");
    fs::remove_dir_all(&group.path).unwrap();
    assert!(matches!(read(&group.path), Err(Error::Missing { .. })));
}

#[test]
fn structures_that_are_missing_or_broken() {
    let group = Group::new();
    for (value, reason) in [
        (None, "no attribute `structure`"),
        (Some(json!("not JSON")), "attribute `structure`: it is not the JSON"),
        (Some(json!("{\"lattice\": NaN}")), "it is not the JSON"),
        (Some(json!(3)), "no attribute `structure`"),
    ] {
        group.change_attribute("structure", value);
        group.fails(reason);
    }
}

#[test]
fn every_cut_of_the_chunk_is_an_error() {
    let group = Group::new();
    let whole = compress(&floats(0..24));
    group.write_raw("0/0/0", b"");
    group.fails("the 0 bytes of charge_density_total cannot hold");
    for length in 1..whole.len() {
        group.write_raw("0/0/0", &whole[..length]);
        group.fails("chunk charge_density_total/c/0/0/0: it");
    }
    group.write_raw("0/0/0", &[whole.as_slice(), b"more"].concat());
    group.fails("4 bytes follow");
    group.write_chunk("0/0/0", &floats(0..23));
    group.fails("holds 92 bytes where 96 belong");
}

#[test]
fn arrays_of_another_kind() {
    let group = Group::new();
    let mut metadata = array(SHAPE, SHAPE, "float32");
    for (key, value, reason) in [
        ("shape", json!([6, 4]), "three axes"),
        ("shape", json!([2, 0, 4]), "without any points"),
        ("shape", json!("x"), "must be a list"),
        ("shape", json!([2, -3, 4]), "must be a list"),
        ("data_type", json!("int32"), "float32 or float64"),
        ("data_type", json!("float16"), "float32 or float64"),
        ("data_type", json!("quaternion"), "can be read"),
        ("codecs", json!([]), "can be read"),
        ("codecs", json!([{"name": "bytes"}, {"name": "nonesuch"}]), "can be read"),
        ("zarr_format", json!(2), "can be read"),
        (
            "chunk_grid",
            json!({"name": "regular", "configuration": {"chunk_shape": [2, 0, 4]}}),
            "can be read",
        ),
        ("chunk_grid", json!({"name": "regular", "configuration": {"chunk_shape": [2, 12]}}), "can be read"),
    ] {
        let kept = metadata[key].clone();
        metadata[key] = value;
        if key == "data_type" {
            metadata["fill_value"] = json!(0);
        }
        group.write_array(&metadata);
        group.fails(reason);
        metadata[key] = kept;
    }
    let array_itself = group.file("charge_density_total");
    group.write_array(&array(SHAPE, SHAPE, "float32"));
    assert!(read(&array_itself).unwrap_err().to_string().contains("not the group"));
}

#[test]
fn a_sharded_array_is_refused() {
    let group = Group::new();
    let mut metadata = array(SHAPE, SHAPE, "float32");
    metadata["codecs"] = json!([{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [1, 3, 4], "codecs": metadata["codecs"], "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "index_location": "end",
    }}]);
    group.write_array(&metadata);
    group.fails("is sharded");
}

#[test]
fn values_that_are_not_finite() {
    let group = Group::new();
    let mut bytes = floats(0..24);
    bytes[4 * 17..4 * 18].copy_from_slice(&f32::NAN.to_le_bytes());
    group.write_chunk("0/0/0", &bytes);
    group.fails("NaN at grid point (1, 1, 1)");
}

#[test]
fn enormous_shapes_are_refused_before_memory_is_asked_for() {
    let group = Group::new();
    // Just within the number of points that is read.
    let big = [640, 640, 640];
    group.write_array(&array(big, big, "float32"));
    group.fails("cannot hold");
    // Enough bytes to pass as a ratio, but the frame says what it holds.
    group.write_raw("0/0/0", &[compress(&floats(0..24)), vec![0; 1 << 18]].concat());
    group.fails("bytes follow");
    // A frame that unpacks to more than the chunk should hold.
    group.write_array(&array(SHAPE, SHAPE, "float32"));
    group.write_chunk("0/0/0", &vec![0; 64 << 20]);
    group.fails("67108864 bytes where 96 belong");
    // The same without saying so: the streaming writer leaves the size out.
    group.write_raw("0/0/0", &zstd::encode_all(vec![0; 64 << 20].as_slice(), 1).unwrap());
    group.fails("more than 96 bytes where 96 belong");
    // A chunk far larger than the array.
    group.write_array(&array(SHAPE, [1 << 40, 1 << 40, 1 << 40], "float32"));
    assert!(read(&group.path).is_err());
    for axis in [1024, usize::MAX] {
        group.write_array(&array([2, axis, 4], SHAPE, "float32"));
        let error = read(&group.path).unwrap_err();
        assert!(matches!(error, Error::Core(tomat_core::Error::GridAxis { axis: 'y', .. })), "{error}");
    }
}

#[test]
fn a_frame_without_its_size_is_read() {
    let group = Group::new();
    group.write_raw("0/0/0", &zstd::encode_all(floats(0..24).as_slice(), 1).unwrap());
    assert_eq!(read(&group.path).unwrap().density.values(), expected());
}

#[test]
fn other_codecs_are_read_and_checked() {
    let group = Group::new();
    let mut metadata = array(SHAPE, SHAPE, "float32");
    metadata["codecs"] = json!([{"name": "bytes", "configuration": {"endian": "big"}}]);
    group.write_array(&metadata);
    let big_endian: Vec<u8> = (0..24_u16).flat_map(|v| f32::from(v).to_be_bytes()).collect();
    group.write_raw("0/0/0", &big_endian);
    assert_eq!(read(&group.path).unwrap().density.values(), expected());
    group.write_raw("0/0/0", &big_endian[..92]);
    group.fails("chunk charge_density_total/c/0/0/0");
}

/// The chain that `tomat.write` writes.
fn with_checksums() -> Value {
    let mut metadata = array(SHAPE, SHAPE, "float32");
    metadata["codecs"] = json!([
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3, "checksum": true}},
        {"name": "crc32c"},
    ]);
    metadata
}

#[test]
fn every_flipped_bit_of_a_chunk_with_a_checksum_is_an_error() {
    let group = Group::new();
    group.write_array(&with_checksums());
    let chunk = tomat_io::zarr::encode_chunk(&floats(0..24), 3).unwrap();
    group.write_raw("0/0/0", &chunk);
    assert_eq!(read(&group.path).unwrap().density.values(), expected());
    for bit in 0..8 * chunk.len() {
        let mut flipped = chunk.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        group.write_raw("0/0/0", &flipped);
        group.fails("chunk charge_density_total/c/0/0/0");
    }
    for length in 0..chunk.len() {
        group.write_raw("0/0/0", &chunk[..length]);
        group.fails("copy");
    }
}

#[test]
fn a_checksum_does_not_hide_what_a_frame_says() {
    let group = Group::new();
    group.write_array(&with_checksums());
    // A frame of 8 MiB of zeros in a few hundred bytes, with the checksum that belongs to it.
    group.write_raw("0/0/0", &tomat_io::zarr::encode_chunk(&vec![0; 8 << 20], 3).unwrap());
    group.fails("its zstd data holds 8388608 bytes where 96 belong");
}

fn mutate(path: &Path, changes: &[(prop::sample::Index, u8)], cut: Option<prop::sample::Index>) {
    let mut bytes = fs::read(path).unwrap();
    for (place, byte) in changes {
        let place = place.index(bytes.len());
        bytes[place] = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    fs::write(path, bytes).unwrap();
}

proptest! {
    #[test]
    fn mutated_groups_never_panic(
        which in prop::sample::select(vec!["zarr.json", "charge_density_total/zarr.json", "charge_density_total/c/0/0/0"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), b'0'..=b'9']), 0..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let group = Group::new();
        mutate(&group.file(which), &changes, cut);
        if let Ok(material) = read(&group.path) {
            prop_assert!(material.density.values().iter().all(|v| v.is_finite()));
        }
    }
}
