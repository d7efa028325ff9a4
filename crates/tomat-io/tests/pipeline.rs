//! The pipeline: order, what stops it, and what it leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tomat_core::codec::{DensityCodec, LogCodec};
use tomat_core::grid::{Crystal, Density, Lattice, Unit, check_grid};
use tomat_core::refusal::Checks;
use tomat_core::sampler::Sampler;
use tomat_core::sequence::{Layout, Tokenizer};
use tomat_io::parquet::ShardOptions;
use tomat_io::pipeline::{Ended, Job, OnError, Progress, Sampling, ShardPlan, Source};
use tomat_io::{Error, Material, Result, SourceFacts};

const PAD_TO: usize = 64;
const MATERIALS: usize = 12;

/// What a source does instead of returning a sound material.
#[derive(Clone, Copy)]
enum Fault {
    Missing,
    Damaged,
    NotFinite,
    Oversized,
    LongCell,
    ManyAtoms,
    Panic,
}

/// Small materials made from their index, with faults at some.
#[derive(Default)]
struct Made {
    ids: Vec<String>,
    faults: BTreeMap<usize, Fault>,
    /// Called with each index before it is read.
    before: Option<Box<dyn Fn(usize) + Send + Sync>>,
    reads: AtomicUsize,
}

impl Made {
    fn new(faults: &[(usize, Fault)]) -> Self {
        let ids = (0..MATERIALS).map(|index| format!("m-{index}")).collect();
        Self { ids, faults: faults.iter().copied().collect(), ..Self::default() }
    }

    fn before(mut self, before: impl Fn(usize) + Send + Sync + 'static) -> Self {
        self.before = Some(Box::new(before));
        self
    }
}

fn material(task_id: &str, index: usize, edge: f64, atoms: usize) -> tomat_core::Result<Material> {
    let shape = [3, 4, 5];
    let values = (0..60).map(|i| (i * (index + 1)) as f32 * 0.25).collect();
    let lattice = Lattice::from_matrix([[edge, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.5]])?;
    Ok(Material {
        task_id: task_id.to_owned(),
        density: Density::new(shape, Unit::Chgcar, values)?,
        crystal: Crystal::new(lattice, vec![14; atoms], vec![[0.1, 0.2, 0.3]; atoms])?,
        source: SourceFacts::plain("zarr"),
    })
}

impl Source for Made {
    fn task_id(&self, index: usize) -> &str {
        &self.ids[index]
    }

    fn read(&self, index: usize) -> Result<Material> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if let Some(before) = &self.before {
            before(index);
        }
        let id = &self.ids[index];
        let path = || Path::new(id).to_owned();
        match self.faults.get(&index) {
            None => Ok(material(id, index, 4.0, 1)?),
            Some(Fault::Missing) => Err(Error::Missing { path: path() }),
            Some(Fault::Damaged) => Err(Error::unreadable(path(), "cut off")),
            Some(Fault::NotFinite) => {
                Err(Density::new([1, 1, 1], Unit::Chgcar, vec![f32::NAN]).unwrap_err().into())
            }
            Some(Fault::Oversized) => Err(check_grid([1024, 1, 1]).unwrap_err().into()),
            Some(Fault::LongCell) => Ok(material(id, index, 51.2, 1)?),
            Some(Fault::ManyAtoms) => Ok(material(id, index, 4.0, 9)?),
            Some(Fault::Panic) => panic!("a bug in reading {id}"),
        }
    }
}

fn tokenizer() -> Tokenizer {
    let codec = DensityCodec::Log(Arc::new(LogCodec::new(-4.0, 4.0, &[15]).unwrap()));
    Tokenizer::new(Layout::named("v3").unwrap(), codec, Some(2), PAD_TO, Vec::new()).unwrap()
}

/// Shards of `size` materials.
fn plan(size: usize) -> Vec<ShardPlan> {
    (0..MATERIALS)
        .step_by(size)
        .enumerate()
        .map(|(k, start)| ShardPlan {
            name: format!("shard-{k:05}.parquet"),
            materials: start..(start + size).min(MATERIALS),
        })
        .collect()
}

struct Run<'a> {
    source: &'a dyn Source,
    on_error: OnError,
    threads: usize,
    progress: Progress,
    folder: TempDir,
}

fn sampling() -> Sampling {
    let origins = Arc::new(Sampler::Uniform { replacement: true });
    Sampling { seed: 7, epoch: 0, origins, patches: vec![2; MATERIALS] }
}

impl<'a> Run<'a> {
    fn new(source: &'a dyn Source, threads: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { source, on_error: OnError::Fail, threads, progress: Progress::default(), folder }
    }

    fn skipping(mut self) -> Self {
        self.on_error = OnError::Skip;
        self
    }

    fn run(&self, plan: &[ShardPlan]) -> Result<Ended> {
        let tokenizer = tokenizer();
        let job = Job {
            tokenizer: &tokenizer,
            source: self.source,
            sampling: &sampling(),
            directory: self.folder.path(),
            shard_options: ShardOptions::new(PAD_TO),
            on_error: self.on_error,
            checks: Checks::DEFAULT,
            threads: self.threads,
            identity: "test".to_owned(),
            run_id: "test".to_owned(),
        };
        job.run(plan, &self.progress)
    }

    /// Files by name, those in the folder of records included.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for folder in [self.folder.path().to_owned(), self.folder.path().join(".progress")] {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let name = path.strip_prefix(self.folder.path()).unwrap().display().to_string();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
        found
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    fn record(&self, shard: usize) -> Value {
        // A line of JSON, then a line with its digest.
        let content = &self.files()[&format!(".progress/shard-{shard:05}.parquet.json")];
        let line = content.split(|&byte| byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(line).unwrap()
    }
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|material| material["task_id"].as_str().unwrap()).collect()
}

#[test]
fn order_is_that_of_the_plan_whoever_is_faster() {
    let even = Made::new(&[]);
    let reference = Run::new(&even, 1);
    assert_eq!(reference.run(&plan(5)).unwrap(), Ended::Complete);
    for (shard, expected) in
        [&["m-0", "m-1", "m-2", "m-3", "m-4"][..], &["m-5", "m-6", "m-7", "m-8", "m-9"]].iter().enumerate()
    {
        assert_eq!(ids(&reference.record(shard)["materials"]), *expected);
        assert_eq!(reference.record(shard)["rows"], 10);
    }
    // The first materials take the longest.
    let uneven =
        Made::new(&[]).before(|index| thread::sleep(Duration::from_millis(3 * (MATERIALS - index) as u64)));
    for threads in [2, 3, 8, 40] {
        let run = Run::new(&uneven, threads);
        assert_eq!(run.run(&plan(5)).unwrap(), Ended::Complete);
        assert_eq!(run.files(), reference.files(), "{threads} threads");
    }
    assert_eq!(reference.progress.materials.load(Ordering::SeqCst), MATERIALS as u64);
    assert_eq!(reference.progress.rows.load(Ordering::SeqCst), 2 * MATERIALS as u64);
}

#[test]
fn a_part_of_the_plan_gives_the_same_shards() {
    let source = Made::new(&[]);
    let (whole, part) = (Run::new(&source, 2), Run::new(&source, 2));
    whole.run(&plan(3)).unwrap();
    let plan = plan(3);
    part.run(&plan[2..]).unwrap();
    part.run(&plan[..1]).unwrap();
    part.run(&plan[1..2]).unwrap();
    assert_eq!(part.files(), whole.files());
    assert_eq!(part.run(&[]).unwrap(), Ended::Complete);
}

#[test]
fn the_first_fault_of_the_list_is_the_error_and_earlier_shards_stay() {
    for threads in [1, 2, 6] {
        // Material 7 is slow, so that 9 fails first in time.
        let source = Made::new(&[(7, Fault::Damaged), (9, Fault::Missing)]).before(|index| {
            if index == 7 {
                thread::sleep(Duration::from_millis(60));
            }
        });
        let run = Run::new(&source, threads);
        let error = run.run(&plan(3)).unwrap_err();
        assert_eq!(error.to_string(), "m-7: cut off");
        assert_eq!(
            run.names(),
            [
                ".progress/shard-00000.parquet.json",
                ".progress/shard-00001.parquet.json",
                "shard-00000.parquet",
                "shard-00001.parquet",
            ]
        );
    }
}

#[test]
fn skipped_faults_are_recorded_with_their_reasons() {
    let faults = [
        (0, Fault::Missing),
        (1, Fault::Damaged),
        (2, Fault::NotFinite),
        (3, Fault::Oversized),
        (4, Fault::LongCell),
        (5, Fault::ManyAtoms),
    ];
    let source = Made::new(&faults);
    let run = Run::new(&source, 3).skipping();
    assert_eq!(run.run(&plan(MATERIALS)).unwrap(), Ended::Complete);
    let record = run.record(0);
    let reasons: Vec<_> = record["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|material| {
            assert!(!material["detail"].as_str().unwrap().is_empty());
            (material["task_id"].as_str().unwrap(), material["reason"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        reasons,
        [
            ("m-0", "missing"),
            ("m-1", "unreadable"),
            ("m-2", "unreadable"),
            ("m-3", "oversized"),
            ("m-4", "bad_lattice"),
            ("m-5", "overflow"),
        ]
    );
    assert_eq!(ids(&record["materials"]), ["m-6", "m-7", "m-8", "m-9", "m-10", "m-11"]);
    assert_eq!(run.progress.left_out.load(Ordering::SeqCst), 6);
}

#[test]
fn what_the_format_cannot_hold_does_not_stop_a_run() {
    let source = Made::new(&[
        (3, Fault::Oversized),
        (4, Fault::LongCell),
        (5, Fault::ManyAtoms),
        (11, Fault::LongCell),
    ]);
    let run = Run::new(&source, 2);
    assert_eq!(run.run(&plan(4)).unwrap(), Ended::Complete);
    assert_eq!(ids(&run.record(0)["left_out"]), ["m-3"]);
    assert_eq!(ids(&run.record(1)["left_out"]), ["m-4", "m-5"]);
    assert_eq!(run.record(2)["rows"], 6);
}

#[test]
fn a_shard_may_be_empty() {
    let faults: Vec<_> = (0..3).map(|index| (index, Fault::Missing)).collect();
    let source = Made::new(&faults);
    let run = Run::new(&source, 2).skipping();
    assert_eq!(run.run(&plan(3)).unwrap(), Ended::Complete);
    assert_eq!(run.record(0)["rows"], 0);
    assert_eq!(run.names().len(), 8);
}

#[test]
fn a_panic_in_the_source_ends_the_run_as_an_error() {
    for (threads, on_error) in
        [(1, OnError::Fail), (2, OnError::Fail), (2, OnError::Skip), (5, OnError::Skip)]
    {
        let source = Made::new(&[(4, Fault::Panic), (6, Fault::Panic)]);
        let mut run = Run::new(&source, threads);
        run.on_error = on_error;
        let message = run.run(&plan(3)).unwrap_err().to_string();
        assert!(message.contains("m-4") && message.contains("a bug in reading m-4"), "{message}");
        assert!(message.contains("report"), "{message}");
        assert_eq!(run.names(), [".progress/shard-00000.parquet.json", "shard-00000.parquet"]);
    }
    // More panics than threads.
    let faults: Vec<_> = (0..MATERIALS).map(|index| (index, Fault::Panic)).collect();
    let message = Run::new(&Made::new(&faults), 2).run(&plan(3)).unwrap_err().to_string();
    assert!(message.contains("m-0"), "{message}");
}

#[test]
fn cancelling_keeps_finished_shards_and_nothing_else() {
    let progress = Arc::new(Progress::default());
    let signal = Arc::clone(&progress);
    let source = Made::new(&[]).before(move |index| {
        if index == 8 {
            signal.cancel.store(true, Ordering::SeqCst);
        }
    });
    let run = Run::new(&source, 1);
    let tokenizer = tokenizer();
    let job = Job {
        tokenizer: &tokenizer,
        source: &source,
        sampling: &sampling(),
        directory: run.folder.path(),
        shard_options: ShardOptions::new(PAD_TO),
        on_error: OnError::Fail,
        checks: Checks::DEFAULT,
        threads: 1,
        identity: "test".to_owned(),
        run_id: "test".to_owned(),
    };
    assert_eq!(job.run(&plan(2), &progress).unwrap(), Ended::Cancelled);
    let names = run.names();
    let shards = names.iter().filter(|name| name.starts_with("shard-")).count();
    assert!(shards < 6, "{names:?}");
    assert_eq!(names.len(), 2 * shards, "a record a shard and no debris: {names:?}");
    assert!(source.reads.load(Ordering::SeqCst) < MATERIALS);
}

#[test]
fn a_run_cancelled_beforehand_reads_nothing() {
    let source = Made::new(&[]);
    let run = Run::new(&source, 2);
    run.progress.cancel.store(true, Ordering::SeqCst);
    assert_eq!(run.run(&plan(3)).unwrap(), Ended::Cancelled);
    assert_eq!(source.reads.load(Ordering::SeqCst), 0);
    assert_eq!(run.names(), [] as [&str; 0]);
}

#[test]
fn readers_stay_within_a_window() {
    // Material 0 is held back until nothing more is read; what has begun by then is ahead of the writer.
    let (begun, ahead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, held) = (Arc::clone(&begun), Arc::clone(&ahead));
    let mut source = Made::new(&[]).before(move |index| {
        counter.fetch_add(1, Ordering::SeqCst);
        if index > 0 {
            return;
        }
        loop {
            thread::sleep(Duration::from_millis(60));
            let now = counter.load(Ordering::SeqCst);
            if now == held.swap(now, Ordering::SeqCst) {
                return;
            }
        }
    });
    source.ids = (0..200).map(|index| format!("m-{index}")).collect();
    let run = Run::new(&source, 2);
    let plan = [ShardPlan { name: "shard-00000.parquet".to_owned(), materials: 0..200 }];
    assert_eq!(run.run(&plan).unwrap(), Ended::Complete);
    assert_eq!(begun.load(Ordering::SeqCst), 200);
    let ahead = ahead.load(Ordering::SeqCst);
    assert!((1..=8).contains(&ahead), "{ahead} materials in flight with 2 threads");
}

#[test]
fn a_directory_that_vanishes_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("out");
    fs::create_dir(&gone).unwrap();
    let doomed = gone.clone();
    let source = Made::new(&[]).before(move |index| {
        if index == 5 {
            fs::remove_dir_all(&doomed).unwrap();
        }
    });
    let tokenizer = tokenizer();
    let job = Job {
        tokenizer: &tokenizer,
        source: &source,
        sampling: &sampling(),
        directory: &gone,
        shard_options: ShardOptions::new(PAD_TO),
        on_error: OnError::Skip,
        checks: Checks::DEFAULT,
        threads: 1,
        identity: "test".to_owned(),
        run_id: "test".to_owned(),
    };
    let message = job.run(&plan(6), &Progress::default()).unwrap_err().to_string();
    assert!(message.starts_with(&gone.display().to_string()), "{message}");
}

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error_that_names_it() {
    let source = Made::new(&[]);
    let run = Run::new(&source, 2);
    fs::write(run.folder.path().join(".progress"), "").unwrap();
    let message = run.run(&plan(6)).unwrap_err().to_string();
    assert!(message.contains(".progress"), "{message}");
    // A folder where a shard should go.
    let run = Run::new(&source, 2);
    fs::create_dir_all(run.folder.path().join("shard-00001.parquet/inside")).unwrap();
    let message = run.run(&plan(6)).unwrap_err().to_string();
    assert!(message.contains("shard-00001.parquet"), "{message}");
    assert_eq!(run.names(), [".progress/shard-00000.parquet.json", "shard-00000.parquet"]);
}

#[test]
fn a_shard_that_cannot_be_finished_is_the_error_whatever_fails_after_it() {
    // The last one, and one behind which a material is damaged, with a shard to be made between the two or none.
    for (shard, fault, threads) in [(3, None, 1), (1, Some(6), 1), (1, Some(7), 6), (0, Some(11), 2)] {
        let faults: Vec<_> = fault.into_iter().map(|index| (index, Fault::Damaged)).collect();
        let source = Made::new(&faults);
        let run = Run::new(&source, threads);
        let name = format!("shard-{shard:05}.parquet");
        fs::create_dir_all(run.folder.path().join(&name).join("inside")).unwrap();
        let message = run.run(&plan(3)).unwrap_err().to_string();
        assert!(message.contains(&name), "{message}");
        assert_eq!(run.names().len(), 2 * shard, "what is before it, with records, and no debris");
    }
}
