//! A tokenization run: the pipeline behind one object that can be watched and stopped from another thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyFileNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use tomat_core::refusal::Checks;
use tomat_io::Material;
use tomat_io::parquet::{Encoding, ShardOptions};
use tomat_io::pipeline::{Ended, Job, LocalFiles, OnError, Progress, Sampling, ShardPlan, Source};

use crate::errors::{core_error, io_error};
use crate::read::group_files;
use crate::sampler::origins;
use crate::sequence::Tokenizer;

/// Materials behind URLs: `reader(index)`, called from several threads, returns the content of a file (bytes), those of
/// the files of a Zarr group (a dict by name), or None for a local path. Python only fetches; what is parsed and checked
/// here keeps its reason.
struct PythonReader {
    entries: Vec<(String, PathBuf)>,
    reader: Py<PyAny>,
}

impl Source for PythonReader {
    fn task_id(&self, index: usize) -> &str {
        &self.entries[index].0
    }

    fn name(&self, index: usize) -> String {
        self.entries[index].1.display().to_string()
    }

    fn read(&self, index: usize) -> tomat_io::Result<Material> {
        let path = &self.entries[index].1;
        let fetched = Python::attach(|py| {
            let result =
                self.reader.bind(py).call1((index,)).map_err(|error| python_error(py, path, &error))?;
            if result.is_none() {
                return Ok(Fetched::Local);
            }
            if let Ok(bytes) = result.cast::<PyBytes>() {
                return Ok(Fetched::Content(bytes.clone().into()));
            }
            if let Ok(files) = result.cast::<PyDict>() {
                let files = group_files(files).map_err(|error| python_error(py, path, &error))?;
                return Ok(Fetched::Group(files));
            }
            Err(tomat_io::Error::unreadable(path, "the reader gave neither bytes nor a dict of them"))
        })?;
        match fetched {
            Fetched::Local => tomat_io::read(path),
            Fetched::Content(bytes) => tomat_io::read_bytes(&path.to_string_lossy(), &bytes[..]),
            Fetched::Group(files) => tomat_io::zarr::read_fetched(&path.to_string_lossy(), &files),
        }
    }
}

/// What a Python reader brought.
enum Fetched {
    Local,
    Content(PyBackedBytes),
    Group(BTreeMap<String, PyBackedBytes>),
}

fn python_error(py: Python<'_>, path: &Path, error: &PyErr) -> tomat_io::Error {
    if error.is_instance_of::<PyFileNotFoundError>(py) {
        return tomat_io::Error::Missing { path: path.to_owned() };
    }
    let message = error.value(py).to_string();
    // Readers name the file themselves; once is enough.
    let prefix = format!("{}: ", path.display());
    tomat_io::Error::unreadable(path, message.strip_prefix(&prefix).unwrap_or(&message))
}

/// Writes shards, see `tomat.engine`.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct ShardRun {
    tokenizer: tomat_core::sequence::Tokenizer,
    source: Box<dyn Source>,
    sampling: Sampling,
    directory: PathBuf,
    shard_options: ShardOptions,
    on_error: OnError,
    checks: Checks,
    threads: usize,
    identity: String,
    run_id: String,
    progress: Progress,
}

#[pymethods]
impl ShardRun {
    #[new]
    #[pyo3(signature = (tokenizer, entries, reader, *, seed, epoch, patches, sampler, draw, directory, metadata,
        encoding, compression_level, skip_errors, max_clipped, max_negative, strict, threads, identity, run_id="0"))]
    #[allow(clippy::too_many_arguments)] // one configuration, spelled out by name
    fn new(
        tokenizer: &Tokenizer,
        entries: Vec<(String, PathBuf)>,
        reader: Option<Py<PyAny>>,
        seed: u64,
        epoch: u64,
        patches: Vec<usize>,
        sampler: (String, bool),
        draw: Option<(Py<PyAny>, bool)>,
        directory: PathBuf,
        metadata: Vec<(String, String)>,
        encoding: &str,
        compression_level: i32,
        skip_errors: bool,
        max_clipped: f64,
        max_negative: f64,
        strict: bool,
        threads: usize,
        identity: String,
        run_id: &str,
    ) -> PyResult<Self> {
        if patches.len() != entries.len() {
            return Err(PyValueError::new_err(format!(
                "{} numbers of patches for {} materials; give one a material",
                patches.len(),
                entries.len()
            )));
        }
        let source: Box<dyn Source> = match reader {
            None => Box::new(LocalFiles(entries)),
            Some(reader) => Box::new(PythonReader { entries, reader }),
        };
        let pad_to = tokenizer.inner.pad_to();
        Ok(Self {
            tokenizer: tokenizer.inner.clone(),
            source,
            sampling: Sampling { seed, epoch, origins: origins(&sampler.0, sampler.1, draw)?, patches },
            directory,
            shard_options: ShardOptions {
                encoding: encoding.parse::<Encoding>().map_err(core_error)?,
                compression_level,
                metadata,
                ..ShardOptions::new(pad_to)
            },
            on_error: if skip_errors { OnError::Skip } else { OnError::Fail },
            checks: Checks { max_clipped, max_negative, strict },
            threads,
            identity,
            run_id: run_id.to_owned(),
            progress: Progress::default(),
        })
    }

    /// Writes the shards `(name, first material, end)`; False where the run was cancelled. Blocks without the GIL.
    fn run(&self, py: Python<'_>, plan: Vec<(String, usize, usize)>) -> PyResult<bool> {
        let plan: Vec<ShardPlan> =
            plan.into_iter().map(|(name, start, end)| ShardPlan { name, materials: start..end }).collect();
        let job = Job {
            tokenizer: &self.tokenizer,
            source: self.source.as_ref(),
            sampling: &self.sampling,
            directory: Path::new(&self.directory),
            shard_options: self.shard_options.clone(),
            on_error: self.on_error,
            checks: self.checks,
            threads: self.threads,
            identity: self.identity.clone(),
            run_id: self.run_id.clone(),
        };
        let ended = py.detach(|| job.run(&plan, &self.progress)).map_err(|error| io_error(error, ""))?;
        Ok(ended == Ended::Complete)
    }

    /// Counters: materials, left_out, rows, bytes, and nanoseconds summed over threads.
    fn progress(&self) -> Vec<(&'static str, u64)> {
        let p = &self.progress;
        [
            ("materials", &p.materials),
            ("left_out", &p.left_out),
            ("rows", &p.rows),
            ("bytes", &p.bytes),
            ("read_ns", &p.read_ns),
            ("encode_ns", &p.encode_ns),
            ("compress_ns", &p.compress_ns),
            ("write_ns", &p.write_ns),
        ]
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
        .to_vec()
    }

    /// Stops at the next material; finished shards stay.
    fn cancel(&self) {
        self.progress.cancel.store(true, Ordering::Relaxed);
    }
}
