//! What is known of a finished shard: the record beside it, from which a run resumes and `meta.json` is made.

use serde::Serialize;
use tomat_core::codec::DensityCodec;
use tomat_core::grid::{Density, Extent};

use super::{Checks, Reason};
use crate::Result;

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
}

/// What a codec clips of a density: of all its voxels, whether they are in a row or not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Clipped {
    /// Voxels beyond the codec's range.
    pub voxels: u64,
    /// Electrons that are lost: the sum of `|v - clip(v)|` over all voxels.
    pub electrons: f64,
    /// Their share of the material's electrons.
    pub share: f64,
    /// The part of that share that lies below the codec's range: negative voxels.
    pub share_below: f64,
    /// The value that loses most, in the unit of the run.
    pub worst: f64,
    /// The grid point where it is.
    pub worst_voxel: [usize; 3],
}

impl Clipped {
    /// Whether it is more than a run allows.
    #[must_use]
    pub fn exceeds(&self, checks: &Checks) -> bool {
        self.share - self.share_below > checks.max_clipped || self.share_below > checks.max_negative
    }

    /// Of a density of known extent in the unit of the run, in a cell of `volume` cubic angstrom; [`None`] where nothing
    /// is clipped.
    ///
    /// # Errors
    /// As [`DensityCodec::clipping`].
    pub fn of(codec: &DensityCodec, density: &Density, extent: Extent, volume: f64) -> Result<Option<Self>> {
        let (low, high) = codec.range();
        if low <= extent.min && extent.max <= high {
            return Ok(None);
        }
        let [_, ny, nz] = density.shape();
        Ok(codec.clipping(density.values())?.map(|found| Self {
            voxels: found.voxels,
            electrons: (found.above + found.below) * density.electrons_per_unit(volume),
            share: found.share(),
            share_below: found.share_below(),
            worst: found.worst,
            worst_voxel: [found.worst_index / (ny * nz), found.worst_index / nz % ny, found.worst_index % nz],
        }))
    }
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
