//! Bytes in, bytes out: readers of electron density files and the writer of parquet shards.

pub mod error;
pub mod parquet;

pub use error::{Error, Result};
