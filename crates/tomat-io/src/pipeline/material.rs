//! One material: its patches drawn, cut, quantised and compressed, or the reason why not.

use std::time::{Duration, Instant};

use tomat_core::coverage;
use tomat_core::grid::{Crystal, Density};
use tomat_core::patch::check_offset;
use tomat_core::refusal::{Inspection, Reason, Subject};
use tomat_core::sampler::{SampleKey, Target};

use tomat_core::sequence::PatchRows;

use super::record::{CrystalRecord, LeftOut, MaterialRecord};
use super::{Job, OnError, Progress};
use crate::parquet::{EncodedRows, RowEncoder, Rows};
use crate::{Error, Material, Result};

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

/// Encodes materials on one thread; its buffers are kept from one to the next.
pub(super) struct MaterialEncoder<'a> {
    job: &'a Job<'a>,
    encoder: RowEncoder,
}

/// The rows of a material for the encoder of pages, with the time that making them takes.
struct Timed<'a> {
    rows: PatchRows<'a>,
    spent: Duration,
}

impl Rows for Timed<'_> {
    fn n_rows(&self) -> usize {
        self.rows.n_rows()
    }

    fn row(&mut self, index: usize) -> &[i32] {
        let start = Instant::now();
        let row = self.rows.row(index);
        self.spent += start.elapsed();
        row
    }
}

impl<'a> MaterialEncoder<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Result<Self> {
        Ok(Self { job, encoder: RowEncoder::new(&job.shard_options)? })
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
                let reason = error.reason();
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
        let (density, offsets, patch_shape, found) =
            Progress::timed(&progress.encode_ns, || -> Result<_> {
                let density = density.into_unit(tokenizer.unit(), crystal.lattice.volume());
                let found = self.inspect(index, &density, &crystal)?;
                let (patch_shape, _) = tokenizer.shape_for(n_atoms)?;
                let target = Target { grid: grid_shape, patch: patch_shape, density: Some(density.values()) };
                let offsets = self.draw(index, task_id, &target)?;
                Ok((density, offsets, patch_shape, found))
            })?;
        let coverage =
            Progress::timed(&progress.encode_ns, || coverage::histogram(grid_shape, patch_shape, &offsets))?;
        let corners: Vec<[i32; 3]> = offsets.iter().map(|o| o.map(|n| n as i32)).collect();
        let start = Instant::now();
        let mut timed = Timed { rows: tokenizer.rows(&density, &crystal, &offsets)?, spent: start.elapsed() };
        let rows = self.encoder.encode_rows(task_id, corners, &mut timed)?;
        Progress::add_time(&progress.encode_ns, timed.spent);
        Progress::add_time(&progress.compress_ns, start.elapsed().saturating_sub(timed.spent));
        let record = MaterialRecord {
            task_id: task_id.to_owned(),
            rows: rows.n_rows(),
            grid_shape,
            patch_shape,
            coverage,
            clipped: found.clipped,
            warnings: found.warnings,
            crystal: CrystalRecord {
                lattice: *crystal.lattice.matrix(),
                atomic_numbers: crystal.atomic_numbers,
                frac_coords: crystal.frac_coords,
            },
        };
        Ok(EncodedMaterial { record, rows })
    }

    /// What is to be known of a density, in the unit of the tokenizer, before it is encoded.
    ///
    /// # Errors
    /// [`Error::Refused`] where the material is left out; [`Error::Unreadable`] for an implausible one where the run is
    /// strict.
    fn inspect(&self, index: usize, density: &Density, crystal: &Crystal) -> Result<Inspection> {
        let subject = Subject {
            grid_shape: density.shape(),
            lattice: crystal.lattice.parameters(),
            volume: crystal.lattice.volume(),
            atomic_numbers: &crystal.atomic_numbers,
            values: density.values(),
            extent: density.extent(),
        };
        let mut found = self.job.tokenizer.inspect(&subject, &self.job.checks)?;
        let Some(mut refusal) = found.refusal.take() else { return Ok(found) };
        let name = self.job.source.name(index);
        match refusal.reason {
            Reason::Unreadable => return Err(Error::unreadable(name, refusal.detail)),
            // The numbers that are wrong are in this file.
            Reason::Clipped => refusal.detail = format!("{name}: {}", refusal.detail),
            _ => {}
        }
        Err(Error::Refused(refusal))
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
