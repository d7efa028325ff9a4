//! Bytes in, bytes out: readers of electron density files and the writer of parquet shards.

pub mod chgcar;
pub mod compression;
pub mod cube;
pub mod error;
pub mod limits;
pub mod material;
pub mod numbers;
pub mod parquet;
pub mod pipeline;
pub mod read;
pub mod structure;
mod task_id;
mod text;
pub mod zarr;

pub use error::{Error, Result};
pub use material::{Material, SourceFacts};
pub use read::{read, read_bytes};
pub use task_id::task_id;

use read::TextFormat;

/// The formats that are text, in the order in which they are asked whether a content is theirs. A new one is a module
/// and a place here; Zarr groups are folders, and told by that.
const TEXT_FORMATS: [TextFormat; 2] = [cube::FORMAT, chgcar::FORMAT];

/// What the layout of Zarr groups is called, and the suffix of their folders.
const ZARR: &str = "zarr";
