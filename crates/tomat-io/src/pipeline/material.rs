//! One material: its patches drawn, cut, quantised and compressed, or the reason why not.

use std::fmt;

use serde::{Serialize, Serializer};
use tomat_core::codec::DensityCodec;
use tomat_core::coverage;
use tomat_core::grid::{Crystal, Density};
use tomat_core::memory;
use tomat_core::patch::check_offset;
use tomat_core::plausibility::implausible;
use tomat_core::sampler::{SampleKey, Target};

use super::record::{Clipped, LeftOut, MaterialRecord};
use super::{Checks, Job, OnError, Progress};
use crate::parquet::{EncodedRows, RowEncoder};
use crate::{Error, Material, Result};

/// Why a material is left out; the names are those of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No file.
    Missing,
    /// A grid axis above 1023.
    Oversized,
    /// A lattice that cannot be encoded.
    BadLattice,
    /// No patch shape fits a row.
    Overflow,
    /// More of its electrons lie beyond the codec's range than the run allows.
    Clipped,
    /// Damaged, or not a density.
    Unreadable,
}

impl Reason {
    /// All reasons, in the order of the format page.
    pub const ALL: [Self; 6] =
        [Self::Missing, Self::Oversized, Self::BadLattice, Self::Overflow, Self::Clipped, Self::Unreadable];

    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Oversized => "oversized",
            Self::BadLattice => "bad_lattice",
            Self::Overflow => "overflow",
            Self::Clipped => "clipped",
            Self::Unreadable => "unreadable",
        }
    }

    /// The reason an error stands for.
    fn of(error: &Error) -> Self {
        match error {
            Error::Missing { .. } => Self::Missing,
            Error::Core(tomat_core::Error::GridAxis { points, .. }) if *points > 0 => Self::Oversized,
            Error::Core(tomat_core::Error::LatticeOutOfRange { .. }) => Self::BadLattice,
            Error::Core(tomat_core::Error::Overflow { .. }) => Self::Overflow,
            Error::Clipped { .. } => Self::Clipped,
            _ => Self::Unreadable,
        }
    }

    /// Whether the input is at fault (it is not there or is damaged), as opposed to a sound material that the
    /// format cannot hold.
    const fn is_fault(self) -> bool {
        matches!(self, Self::Missing | Self::Unreadable)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A material's rows, and what its shard's record says of it.
pub struct EncodedMaterial {
    /// For the record.
    pub record: MaterialRecord,
    /// The rows, compressed.
    pub rows: EncodedRows,
}

/// What became of a material.
pub enum Outcome {
    /// Rows.
    Rows(Box<EncodedMaterial>),
    /// None, for a reason.
    LeftOut(LeftOut),
}

/// What was found out about a density.
struct Found {
    clipped: Option<Clipped>,
    warnings: Vec<String>,
}

/// Why a density is left out as clipped, in words.
fn too_much(
    codec: &DensityCodec,
    density: &Density,
    lost: Clipped,
    checks: &Checks,
    warnings: &[String],
) -> String {
    let (low, high) = codec.range();
    let [x, y, z] = lost.worst_voxel;
    let (limit, option, range) = if lost.share_below > checks.max_negative {
        (
            checks.max_negative,
            "may lie below: --max-negative",
            "for negative values: a signed one, tomat codec fit",
        )
    } else {
        (checks.max_clipped, "may lie above: --max-clipped", "of a wider range: tomat codec list")
    };
    let implausible =
        if warnings.is_empty() { String::new() } else { format!("; implausible: {}", warnings.join("; ")) };
    format!(
        "the codec holds {low} to {high} {unit} and would lose {percent:.3} % of the electrons ({electrons:.4}, in \
         {voxels} of {all} voxels, the worst {worst} at grid point ({x}, {y}, {z})), where {limit} % {option}; take a \
         codec {range}{implausible}",
        unit = density.unit(),
        percent = 100.0 * lost.share,
        electrons = lost.electrons,
        voxels = lost.voxels,
        all = density.values().len(),
        worst = lost.worst,
        limit = 100.0 * limit,
    )
}

/// Encodes materials on one thread; its buffers are kept from one to the next.
pub(super) struct MaterialEncoder<'a> {
    job: &'a Job<'a>,
    encoder: RowEncoder,
    rows: Vec<i32>,
}

impl<'a> MaterialEncoder<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Result<Self> {
        Ok(Self { job, encoder: RowEncoder::new(&job.shard_options)?, rows: Vec::new() })
    }

    /// # Errors
    /// A fault of the input with [`OnError::Fail`], with the material's id in front where the error lacks a file; a
    /// failure of the sampler, or of the memory, always.
    pub(super) fn encode(
        &mut self,
        index: usize,
        material: Result<Material>,
        progress: &Progress,
    ) -> Result<Outcome> {
        let task_id = self.job.source.task_id(index).to_owned();
        match material.and_then(|material| self.rows_of(index, &task_id, material, progress)) {
            Ok(rows) => Ok(Outcome::Rows(Box::new(rows))),
            Err(error) => {
                // Neither is a fault of the material.
                if matches!(error, Error::Sampler { .. }) || error.is_memory() {
                    return Err(error);
                }
                let reason = Reason::of(&error);
                if reason.is_fault() && self.job.on_error == OnError::Fail {
                    return Err(error);
                }
                Ok(Outcome::LeftOut(LeftOut { task_id, reason, detail: error.to_string() }))
            }
        }
    }

    fn rows_of(
        &mut self,
        index: usize,
        task_id: &str,
        material: Material,
        progress: &Progress,
    ) -> Result<EncodedMaterial> {
        let tokenizer = self.job.tokenizer;
        let Material { density, crystal, .. } = material;
        let grid_shape = density.shape();
        let n_atoms = crystal.atomic_numbers.len();
        let (offsets, patch_shape, found) = Progress::timed(&progress.encode_ns, || -> Result<_> {
            tokenizer.check(grid_shape, &crystal.lattice.parameters(), n_atoms)?;
            let (patch_shape, _) = tokenizer.shape_for(n_atoms)?;
            let density = density.into_unit(tokenizer.unit(), crystal.lattice.volume());
            let found = self.check(index, &density, &crystal)?;
            let target = Target { grid: grid_shape, patch: patch_shape, density: Some(density.values()) };
            let offsets = self.draw(index, task_id, &target)?;
            memory::resize(&mut self.rows, offsets.len().saturating_mul(tokenizer.pad_to()), 0)?;
            tokenizer.encode_density(&density, &crystal, &offsets, &mut self.rows)?;
            Ok((offsets, patch_shape, found))
        })?;
        let coverage =
            Progress::timed(&progress.encode_ns, || coverage::histogram(grid_shape, patch_shape, &offsets))?;
        let corners: Vec<[i32; 3]> = offsets.iter().map(|o| o.map(|n| n as i32)).collect();
        let rows =
            Progress::timed(&progress.compress_ns, || self.encoder.encode(task_id, &corners, &self.rows))?;
        let record = MaterialRecord {
            task_id: task_id.to_owned(),
            rows: rows.n_rows(),
            grid_shape,
            patch_shape,
            coverage,
            clipped: found.clipped,
            warnings: found.warnings,
        };
        Ok(EncodedMaterial { record, rows })
    }

    /// What is to be known of a density before it is encoded.
    ///
    /// # Errors
    /// [`Error::Clipped`] where the codec clips more than the run allows; [`Error::Unreadable`] for an implausible one
    /// where the run is strict.
    fn check(&self, index: usize, density: &Density, crystal: &Crystal) -> Result<Found> {
        let Job { tokenizer, source, checks, .. } = self.job;
        let volume = crystal.lattice.volume();
        let extent = density.extent();
        let warnings = implausible(crystal, extent, density.electrons_per_unit(volume));
        if checks.strict && !warnings.is_empty() {
            return Err(Error::unreadable(
                source.name(index),
                format!("implausible: {}", warnings.join("; ")),
            ));
        }
        let codec = tokenizer.vocabulary().density_codec();
        let clipped = Clipped::of(codec, density, extent, volume)?;
        if let Some(lost) = clipped.filter(|lost| lost.exceeds(checks)) {
            let problem = too_much(codec, density, lost, checks, &warnings);
            return Err(Error::Clipped { name: source.name(index), problem });
        }
        Ok(Found { clipped, warnings })
    }

    fn draw(&self, index: usize, task_id: &str, target: &Target<'_>) -> Result<Vec<[usize; 3]>> {
        let sampling = self.job.sampling;
        let n = sampling.patches.get(index).copied().unwrap_or_default();
        let key = SampleKey { seed: sampling.seed, task_id, epoch: sampling.epoch };
        let failed = |problem: String| Error::Sampler { task_id: task_id.to_owned(), problem };
        let offsets = sampling.origins.offsets(target, n, key).map_err(|error| failed(error.to_string()))?;
        if offsets.len() != n {
            return Err(failed(format!("the sampler gave {} origins, {n} were asked for", offsets.len())));
        }
        for &offset in &offsets {
            check_offset(target.grid, offset)
                .map_err(|error| failed(format!("the sampler gave what is no origin: {error}")))?;
        }
        Ok(offsets)
    }
}
