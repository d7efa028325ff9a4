//! From materials to shards: reading, encoding and writing at the same time, in the order of the list.
//!
//! Readers take materials from the list in order, encoders turn each into compressed rows, and the calling thread
//! appends those to the shards in the order of the list; a shard is flushed to disk while the next is made. Which
//! materials a shard holds is fixed beforehand, so its bytes depend neither on the number of threads nor on what was
//! skipped or done before. A window bounds how far readers run ahead; memory is therefore a few materials a thread,
//! however long the list is.

mod material;
mod record;
mod shard;

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tomat_core::refusal::Checks;
use tomat_core::sampler::{SampleKey, Sampler, Target};
use tomat_core::sequence::Tokenizer;

use crate::parquet::ShardOptions;
use crate::{Error, Material, Result};

pub use material::{EncodedMaterial, Outcome};
pub use record::{LeftOut, MaterialRecord, ShardRecord};

/// The most encoding threads of a run.
pub const MAX_THREADS: usize = 1024;

/// Where materials come from. Reading happens on several threads at once.
pub trait Source: Send + Sync {
    /// The id of material `index`.
    fn task_id(&self, index: usize) -> &str;

    /// Reads material `index`.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is none, any other error where it cannot be read.
    fn read(&self, index: usize) -> Result<Material>;

    /// What errors call material `index`: its path or URL, where it has one.
    fn name(&self, index: usize) -> String {
        self.task_id(index).to_owned()
    }
}

/// Local files: a task id and a path each.
pub struct LocalFiles(pub Vec<(String, std::path::PathBuf)>);

impl Source for LocalFiles {
    fn task_id(&self, index: usize) -> &str {
        &self.0[index].0
    }

    fn read(&self, index: usize) -> Result<Material> {
        crate::read(&self.0[index].1)
    }

    fn name(&self, index: usize) -> String {
        self.0[index].1.display().to_string()
    }
}

/// Draws the origins of patches, on several threads at once. What is drawn may depend on the arguments alone.
pub trait DrawOrigins: Send + Sync {
    /// The origins of patches `0..n`, each a point of the grid.
    ///
    /// # Errors
    /// Any failure; it ends the run, since it is no fault of the material.
    fn offsets(&self, target: &Target<'_>, n: usize, key: SampleKey<'_>) -> Result<Vec<[usize; 3]>>;
}

impl DrawOrigins for Sampler {
    fn offsets(&self, target: &Target<'_>, n: usize, key: SampleKey<'_>) -> Result<Vec<[usize; 3]>> {
        Ok(Self::offsets(*self, target, n, key)?)
    }
}

/// What is drawn from each material.
#[derive(Clone)]
pub struct Sampling {
    /// The seed of the run.
    pub seed: u64,
    /// The pass over the materials.
    pub epoch: u64,
    /// Draws the origins; it is given the density in the unit of the tokenizer.
    pub origins: Arc<dyn DrawOrigins>,
    /// Patches of each material of the source.
    pub patches: Vec<usize>,
}

/// What to do about a material that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Stop with its error; shards finished before it stay.
    Fail,
    /// Count it, name it, go on.
    Skip,
}

/// A shard to write: its file name and the materials it holds, as indices of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlan {
    /// File name inside the directory.
    pub name: String,
    /// Materials, in order.
    pub materials: Range<usize>,
}

/// A run: everything that decides the bytes, and how many threads make them.
pub struct Job<'a> {
    /// Writes the rows; densities are brought to its unit.
    pub tokenizer: &'a Tokenizer,
    /// Where materials come from.
    pub source: &'a dyn Source,
    /// What is drawn from each.
    pub sampling: &'a Sampling,
    /// The directory of the shards.
    pub directory: &'a Path,
    /// Layout of the parquet files.
    pub shard_options: ShardOptions,
    /// What to do about unreadable materials.
    pub on_error: OnError,
    /// What a density must be like.
    pub checks: Checks,
    /// Encoding threads, and as many that read.
    pub threads: usize,
    /// What identifies the configuration, kept in every shard's record.
    pub identity: String,
    /// What unfinished files are told apart by, where another run of the same worker writes at the same time: a lock
    /// does not hold on every network file system. The renames put equal bytes in one place, whoever comes last.
    pub run_id: String,
}

/// How far a run is, and where its time goes. Times are nanoseconds summed over threads.
#[derive(Debug, Default)]
pub struct Progress {
    /// Materials done, left out ones included.
    pub materials: AtomicU64,
    /// Materials left out.
    pub left_out: AtomicU64,
    /// Rows written.
    pub rows: AtomicU64,
    /// Bytes of finished shards.
    pub bytes: AtomicU64,
    /// Reading and decompressing.
    pub read_ns: AtomicU64,
    /// Sampling, cutting and quantising.
    pub encode_ns: AtomicU64,
    /// Laying out and compressing pages.
    pub compress_ns: AtomicU64,
    /// Appending to shards, flushing to disk.
    pub write_ns: AtomicU64,
    /// Set to stop the run at the next material.
    pub cancel: AtomicBool,
}

impl Progress {
    /// Runs `work` and adds its time to `counter`.
    pub(crate) fn timed<T>(counter: &AtomicU64, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        Self::add_time(counter, start.elapsed());
        result
    }

    fn add_time(counter: &AtomicU64, spent: Duration) {
        counter.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All shards are written.
    Complete,
    /// [`Progress::cancel`] was set; finished shards stay.
    Cancelled,
}

type Read = (usize, Result<Material>);
type Encoded = (usize, Result<Outcome>);

impl Job<'_> {
    /// The name of a file in `folder` while it is written.
    fn unfinished(&self, folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.{}.unfinished", self.run_id))
    }

    /// Writes the shards of a plan, each complete and under its final name or not there at all, with its record
    /// beside it.
    ///
    /// # Errors
    /// The first unreadable material in the order of the list with [`OnError::Fail`]; any failure to write.
    pub fn run(&self, plan: &[ShardPlan], progress: &Progress) -> Result<Ended> {
        let threads = self.threads.max(1);
        if threads > MAX_THREADS {
            return Err(Error::Core(tomat_core::Error::invalid(format!(
                "{threads} threads were asked for; give at most {MAX_THREADS}, best one a processor"
            ))));
        }
        // Materials in flight: one being read and one being encoded a thread, and as many waiting.
        let window = 4 * threads;
        let (task_sender, task_receiver) = bounded::<usize>(window);
        let (read_sender, read_receiver) = bounded::<Read>(threads);
        let (done_sender, done_receiver) = unbounded::<Encoded>();
        let tasks: Vec<usize> = plan.iter().flat_map(|shard| shard.materials.clone()).collect();
        let aborted = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (receiver, sender, done) =
                    (task_receiver.clone(), read_sender.clone(), done_sender.clone());
                let aborted = &aborted;
                start(scope, move || self.read_materials(&receiver, &sender, &done, progress, aborted))?;
                let (receiver, sender) = (read_receiver.clone(), done_sender.clone());
                start(scope, move || self.encode_materials(&receiver, &sender, progress))?;
            }
            // The clones above are all that keep the channels open.
            drop((task_receiver, read_sender, read_receiver, done_sender));
            let mut queue = InOrder::new(tasks, window, task_sender, done_receiver);
            let result = self.write_shards(plan, &mut queue, progress);
            aborted.store(true, Ordering::Relaxed);
            drop(queue);
            result
        })
    }

    fn read_materials(
        &self,
        tasks: &Receiver<usize>,
        materials: &Sender<Read>,
        done: &Sender<Encoded>,
        progress: &Progress,
        aborted: &AtomicBool,
    ) {
        for index in tasks {
            if aborted.load(Ordering::Relaxed) {
                return;
            }
            let read = || Progress::timed(&progress.read_ns, || self.source.read(index));
            let is_sent = match self.caught(index, read) {
                Ok(material) => materials.send((index, material)).is_ok(),
                // Past the encoders, so that no choice about unreadable materials can hide a bug.
                Err(bug) => done.send((index, Err(bug))).is_ok(),
            };
            if !is_sent {
                return;
            }
        }
    }

    /// Runs `work` on a material; a panic becomes an error, as nobody would answer for the material otherwise and
    /// the run would wait for it for ever.
    fn caught<T>(&self, index: usize, work: impl FnOnce() -> T) -> Result<T> {
        catch_unwind(AssertUnwindSafe(work))
            .map_err(|panic| panicked(self.source.task_id(index), panic.as_ref()))
    }

    fn encode_materials(&self, materials: &Receiver<Read>, done: &Sender<Encoded>, progress: &Progress) {
        let mut encoder = match material::MaterialEncoder::new(self) {
            Ok(encoder) => encoder,
            Err(error) => {
                // Whoever waits for the first material gets the reason.
                if let Ok((index, _)) = materials.recv() {
                    let _ = done.send((index, Err(error)));
                }
                return;
            }
        };
        for (index, material) in materials {
            let outcome =
                self.caught(index, || encoder.encode(index, material, progress)).unwrap_or_else(|bug| {
                    // A panic may have left its buffers in any state.
                    encoder = material::MaterialEncoder::new(self)?;
                    Err(bug)
                });
            if done.send((index, outcome)).is_err() {
                return;
            }
        }
    }

    fn write_shards(&self, plan: &[ShardPlan], queue: &mut InOrder, progress: &Progress) -> Result<Ended> {
        thread::scope(|scope| {
            // Without room: at most one shard waits for the disk while another one is made.
            let (sender, receiver) = bounded(0);
            let finisher = start(scope, move || finish_shards(&receiver, progress))?;
            let made = self.make_shards(plan, queue, &sender, progress);
            drop(sender);
            // What could not be finished comes before whatever failed meanwhile, in the order of the plan.
            finisher.join().unwrap_or_else(|panic| resume_unwind(panic)).and(made)
        })
    }

    fn make_shards<'a>(
        &'a self,
        plan: &[ShardPlan],
        queue: &mut InOrder,
        made: &Sender<shard::OpenShard<'a>>,
        progress: &Progress,
    ) -> Result<Ended> {
        for shard in plan {
            let mut writer = shard::OpenShard::create(self, shard)?;
            for _ in shard.materials.clone() {
                if progress.cancel.load(Ordering::Relaxed) {
                    return Ok(Ended::Cancelled);
                }
                let outcome = queue.next()?;
                match &outcome {
                    Outcome::Rows(rows) => Progress::add(&progress.rows, rows.record.rows),
                    Outcome::LeftOut(_) => Progress::add(&progress.left_out, 1),
                }
                Progress::timed(&progress.write_ns, || writer.append(outcome))?;
                Progress::add(&progress.materials, 1);
            }
            made.send(writer).map_err(|_| stopped())?;
        }
        Ok(Ended::Complete)
    }
}

/// Makes shards final, until one cannot be.
fn finish_shards(shards: &Receiver<shard::OpenShard<'_>>, progress: &Progress) -> Result<()> {
    for shard in shards {
        let bytes = Progress::timed(&progress.write_ns, || shard.finish())?;
        Progress::add(&progress.bytes, bytes as usize);
    }
    Ok(())
}

/// Hands tasks out within a window, and results back in the order of the tasks.
struct InOrder {
    tasks: Vec<usize>,
    handed_out: usize,
    handed_back: usize,
    window: usize,
    sender: Sender<usize>,
    receiver: Receiver<Encoded>,
    /// Results that came before their turn.
    early: BTreeMap<usize, Result<Outcome>>,
}

impl InOrder {
    fn new(tasks: Vec<usize>, window: usize, sender: Sender<usize>, receiver: Receiver<Encoded>) -> Self {
        Self { tasks, handed_out: 0, handed_back: 0, window, sender, receiver, early: BTreeMap::new() }
    }

    fn next(&mut self) -> Result<Outcome> {
        while self.handed_out < self.tasks.len() && self.handed_out < self.handed_back + self.window {
            // The channel holds a whole window, so this never blocks.
            if self.sender.send(self.tasks[self.handed_out]).is_err() {
                return Err(stopped());
            }
            self.handed_out += 1;
        }
        let wanted = self.tasks[self.handed_back];
        self.handed_back += 1;
        loop {
            if let Some(outcome) = self.early.remove(&wanted) {
                return outcome;
            }
            let (index, outcome) = self.receiver.recv().map_err(|_| stopped())?;
            self.early.insert(index, outcome);
        }
    }
}

/// A panic in the reader or the encoder, which is a bug wherever it happens.
fn panicked(task_id: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Error::Core(tomat_core::Error::invalid(format!(
        "{task_id}: the program failed on this material ({message}); please report this as a bug"
    )))
}

/// Starts a thread; a system that gives no more of them is an error.
fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(|error| {
        Error::Core(tomat_core::Error::invalid(format!(
            "the system gives no more threads ({error}); give fewer with --threads"
        )))
    })
}

/// The threads at the other end are gone.
fn stopped() -> Error {
    Error::Core(tomat_core::Error::invalid(
        "a worker thread stopped unexpectedly; please report this as a bug",
    ))
}
