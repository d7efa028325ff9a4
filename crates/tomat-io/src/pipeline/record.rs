//! What is known of a finished shard: the record beside it, from which a run resumes and `meta.json` is made.

use serde::Serialize;
use tomat_core::refusal::{Clipped, Reason};

/// A finished shard. Written after the shard has its final name; a shard without a record is not finished.
#[derive(Debug, Clone, Serialize)]
pub struct ShardRecord {
    /// What identifies the configuration.
    pub identity: String,
    /// File name.
    pub shard: String,
    /// Rows in it.
    pub rows: usize,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Materials with rows, in order.
    pub materials: Vec<MaterialRecord>,
    /// Materials without.
    pub left_out: Vec<LeftOut>,
}

/// A material with rows in the shard.
#[derive(Debug, Clone, Serialize)]
pub struct MaterialRecord {
    /// Its id.
    pub task_id: String,
    /// Rows.
    pub rows: usize,
    /// Points of its grid.
    pub grid_shape: [usize; 3],
    /// The patch that was cut.
    pub patch_shape: [usize; 3],
    /// How many voxels were covered 0, 1, 2, ... times.
    pub coverage: Vec<u64>,
    /// What the codec clips of the whole density, where it clips anything.
    pub clipped: Option<Clipped>,
    /// What is implausible about it, in words.
    pub warnings: Vec<String>,
    /// The crystal as it was read.
    pub crystal: CrystalRecord,
}

/// A crystal, exactly: rows hold lattices and positions in bins.
#[derive(Debug, Clone, Serialize)]
pub struct CrystalRecord {
    /// Rows a, b, c in angstrom.
    pub lattice: [[f64; 3]; 3],
    /// Of the atoms.
    pub atomic_numbers: Vec<u8>,
    /// Fractional coordinates.
    pub frac_coords: Vec<[f64; 3]>,
}

/// A material left out of the shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its id.
    pub task_id: String,
    /// Why, as the format names it.
    pub reason: Reason,
    /// Why, in words.
    pub detail: String,
}
