//! One shard on disk: written beside its place, flushed, renamed, recorded.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::record::ShardRecord;
use super::{Job, Outcome, ShardPlan};
use crate::parquet::ShardWriter;
use crate::{Error, Result};

/// The folder of unfinished files and of records, inside the dataset directory.
const PROGRESS_FOLDER: &str = ".progress";

/// A shard being written. Dropped before [`OpenShard::finish`], it removes what it wrote.
pub(super) struct OpenShard<'a> {
    job: &'a Job<'a>,
    unfinished: Unfinished,
    writer: ShardWriter<BufWriter<File>>,
    record: ShardRecord,
}

impl<'a> OpenShard<'a> {
    pub(super) fn create(job: &'a Job<'a>, plan: &ShardPlan) -> Result<Self> {
        let folder = job.directory.join(PROGRESS_FOLDER);
        fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
        let path = job.unfinished(&folder, &plan.name);
        let file = File::create(&path).map_err(|error| Error::io(&path, error))?;
        let unfinished = Unfinished { path: Some(path.clone()) };
        let writer =
            ShardWriter::new(BufWriter::with_capacity(1 << 20, file), &path, job.shard_options.clone())?;
        let record = ShardRecord {
            identity: job.identity.clone(),
            shard: plan.name.clone(),
            rows: 0,
            bytes: 0,
            sha256: String::new(),
            materials: Vec::new(),
            left_out: Vec::new(),
        };
        Ok(Self { job, unfinished, writer, record })
    }

    pub(super) fn append(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::LeftOut(material) => self.record.left_out.push(material),
            Outcome::Rows(material) => {
                self.writer.append(&material.rows)?;
                self.record.materials.push(material.record);
            }
        }
        Ok(())
    }

    /// Makes the shard final and returns its size: data to disk, the name, then the record.
    pub(super) fn finish(self) -> Result<u64> {
        let Self { job, mut unfinished, writer, mut record } = self;
        let directory = job.directory;
        let path = directory.join(&record.shard);
        let (sink, summary) = writer.finish()?;
        let file = sink.into_inner().map_err(|error| Error::io(&path, error.into_error()))?;
        file.sync_all().map_err(|error| Error::io(&path, error))?;
        drop(file);
        record.rows = summary.rows;
        record.bytes = summary.bytes;
        record.sha256 = summary.sha256;
        if let Some(from) = &unfinished.path {
            fs::rename(from, &path).map_err(|error| Error::io(&path, error))?;
        }
        unfinished.path = None;
        sync_directory(directory)?;
        write_record(job, &record)?;
        Ok(record.bytes)
    }
}

/// The file of a shard that is not finished; removed on drop, so that a failed run leaves no debris.
struct Unfinished {
    path: Option<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // Nothing more can be done where even this fails, and a resumed run overwrites the file.
            let _ = fs::remove_file(path);
        }
    }
}

fn write_record(job: &Job, record: &ShardRecord) -> Result<()> {
    let folder = job.directory.join(PROGRESS_FOLDER);
    let path = folder.join(format!("{}.json", record.shard));
    let unfinished = job.unfinished(&folder, &format!("{}.json", record.shard));
    let mut text = serde_json::to_vec(record)
        .map_err(|error| Error::unreadable(&path, format!("the record cannot be written: {error}")))?;
    // A line of JSON and its digest: one that is damaged is no record, see dataset/records.py.
    let digest = Sha256::digest(&text);
    text.push(b'\n');
    for byte in digest {
        text.extend(format!("{byte:02x}").bytes());
    }
    text.push(b'\n');
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|error| Error::io(&path, error))?;
    sync_directory(&folder)
}

/// Makes renames in a directory last through a power failure, where the system can.
fn sync_directory(directory: &Path) -> Result<()> {
    if cfg!(unix) {
        let file = File::open(directory).map_err(|error| Error::io(directory, error))?;
        file.sync_all().map_err(|error| Error::io(directory, error))?;
    }
    Ok(())
}
