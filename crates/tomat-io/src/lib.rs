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
pub use material::{Format, Material, SourceFacts};
pub use read::{read, read_bytes};
pub use task_id::task_id;
