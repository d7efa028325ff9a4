"""All parts of a dataset by one command: processes of this machine and Modal's functions through their local call."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import modal
import pytest

import tomat
from places import REPOSITORY
from runs import (
    LABEL,
    ROOT,
    SHARD_EACH,
    SMALL,
    Gate,
    end,
    many,
    sound,
    start,
    tokenize,
    tree,
    wait_for,
)
from tomat.dataset import Entry, TokenizeConfig, open_dataset, resolve_inputs
from tomat.engine import Job, ProcessEngine, Progress
from tomat.engine.job import Board
from tomat.engine.modal import FUNCTIONS, ModalEngine, ModalSettings, function_options, image, mounts, synced

CONFIG = TokenizeConfig(
    patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k", rows_per_shard=3, n_workers=3
)


def apart(inputs: Path, out: Path, n: int, *options: object) -> dict[str, str]:
    """What ``n`` commands, one a worker, write."""
    for index in range(n):
        sound(
            inputs, "--out", out, *SHARD_EACH, *options, "--worker-index", index, "--n-workers", n, "--quiet"
        )
    return tree(out)


def part_processes() -> list[int]:
    """Workers that this process started."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


# --- processes ----------------------------------------------------------------------------------------------


def test_the_bytes_of_one_command_a_worker(tmp_path: Path) -> None:
    result = sound(ROOT, "--out", tmp_path / "out", *SHARD_EACH, "--workers", 3, "--json").json
    assert tree(tmp_path / "out") == apart(ROOT, tmp_path / "apart", 3)
    assert (result["n_materials"], result["rows"], result["shards"]) == (20, 60, 20)
    assert result["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").rglob("shard-*.parquet"))
    one = sound(ROOT, "--out", tmp_path / "one", *SHARD_EACH, "--workers", 1, "--json").json
    sound(ROOT, "--out", tmp_path / "plain", *SHARD_EACH, "--quiet")
    assert tree(tmp_path / "one") == tree(tmp_path / "plain")
    assert one["rows"] == 60


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out", *SMALL)
    assert tokenize(ROOT, *out, "--engine", "ray", "--workers", 2, "--worker-index", 0).code == 2
    unknown = tokenize(ROOT, *out, "--engine", "rays", "--workers", 2)
    assert unknown.code == 1
    assert "unknown engine 'rays'; known: local, ray, modal" in unknown.err
    result = tokenize(ROOT, *out, "--engine", "ray")
    assert result.code == 2
    assert "--workers" in result.err
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "out"
    apart(ROOT, out, 2)
    before = tree(out)
    options = ("--out", out, *SHARD_EACH, "--workers", 2, "--quiet")
    assert "holds a finished dataset; give --overwrite" in tokenize(ROOT, *options).err
    fewer = tokenize(ROOT, "--out", out, *SHARD_EACH, "--workers", 1, "--resume")
    assert fewer.code == 1
    assert "holds the parts of several workers" in fewer.err
    other = tokenize(ROOT, *options, "--seed", 5, "--resume")
    assert other.code == 1
    assert "seed was 0, is 5" in other.err
    assert tree(out) == before
    sound(ROOT, "--out", out, *SHARD_EACH, "--workers", 1, "--overwrite", "--quiet")
    sound(ROOT, "--out", tmp_path / "plain", *SHARD_EACH, "--quiet")
    assert tree(out) == tree(tmp_path / "plain")


def test_a_material_that_cannot_be_read_stops_all(tmp_path: Path) -> None:
    bad = tmp_path / "bad.cube"
    bad.write_bytes(b"no density")
    inputs = (ROOT, bad)
    result = tokenize(*inputs, "--out", tmp_path / "out", *SHARD_EACH, "--workers", 2)
    assert result.code == 1
    assert result.err.startswith(f"error: {bad}: "), result.err
    missing = tokenize(tmp_path / "gone.zarr", ROOT, "--out", tmp_path / "gone", *SHARD_EACH, "--workers", 2)
    assert missing.code == 1
    assert "gone.zarr: no such file" in missing.err
    left = tokenize(
        *inputs, "--out", tmp_path / "out", *SHARD_EACH, "--workers", 2, "--resume", "--on-error", "skip"
    )
    assert left.code == 0
    assert "left out 1 of 21 materials: 1 unreadable" in left.err
    assert "  bad: unreadable: " in left.err


def test_a_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    """It waits for a material in the middle of its part; the others go on."""
    gate, seen = Gate(tmp_path, 9, 11), list[Progress]()
    engine = ProcessEngine(2)
    kills: list[int] = []

    deadline = time.monotonic() + 180

    def watch(progress: Progress) -> None:
        assert kills or time.monotonic() < deadline, "the part never came to its gate"
        seen.append(progress)
        is_stuck = (tmp_path / "out" / "worker-00" / "shard-00002.parquet").exists()
        others = [tmp_path / "out" / f"worker-0{index}" / "meta.json" for index in (1, 2)]
        processes = part_processes()
        if not kills and is_stuck and all(path.exists() for path in others) and len(processes) == 1:
            os.kill(processes[0], signal.SIGKILL)
            kills.append(processes[0])
            gate.remove()

    job = Job.of(CONFIG, resolve_inputs([gate.list]), tmp_path / "out", threads=1)
    summary = engine.run(job, watch=watch)
    assert len(kills) == 1
    assert summary.n_materials == 21
    assert seen[-1].n_materials <= 21
    calm = Job.of(CONFIG, job.entries, tmp_path / "calm", threads=2)
    ProcessEngine(1).run(calm)
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def _leave(*_: Any) -> None:
    """What a worker does that is killed for its memory: it is gone without a word."""
    os._exit(7)


def test_a_worker_that_always_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomat.engine.processes._work", _leave)
    monkeypatch.setattr("tomat.engine.processes._LIVES", 2)
    with pytest.raises(OSError, match="worker 0 died 2 times, at last with exit code 7"):
        ProcessEngine(1).run(Job.of(CONFIG, resolve_inputs([ROOT]), tmp_path / "out"))
    assert not part_processes()


def test_interrupted_and_resumed(tmp_path: Path) -> None:
    gate, out = Gate(tmp_path, 20, 30), tmp_path / "out"
    process = start(gate.list, "--out", out, *SHARD_EACH, "--workers", 2)
    wait_for(lambda: len(list(out.glob("worker-*/shard-*.parquet"))) >= 20, process)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.7)
    gate.open(process)
    result = end(process)
    assert result.code == 130, result.err
    assert "--resume" in result.err
    assert "Traceback" not in result.err
    gate.remove()
    sound(gate.list, "--out", out, *SHARD_EACH, "--workers", 2, "--resume", "--quiet")
    sound(gate.list, "--out", tmp_path / "calm", *SHARD_EACH, "--workers", 2, "--quiet")
    assert tree(out) == tree(tmp_path / "calm")


#: A part, where a lock keeps nobody out, as on some network file systems.
PART_WITHOUT_LOCK = """
import sys, filelock
filelock.FileLock.acquire = lambda self, **_: None
filelock.FileLock.release = lambda self: None
from tomat.engine import Job
from tomat.dataset import TokenizeConfig, resolve_inputs
config = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k", rows_per_shard=3)
(part,) = Job.of(config, resolve_inputs([sys.argv[1]]), sys.argv[2]).parts(1)
print(part.run().rows)
"""


def test_two_at_once_where_no_lock_holds(tmp_path: Path) -> None:
    """They make the same files under names of their own; one that is disturbed runs again, as in an engine."""
    root = many(tmp_path / "root", 120)
    out = tmp_path / "out"
    command = [sys.executable, "-c", PART_WITHOUT_LOCK, str(root), str(out)]

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    for run in [begin(), begin()]:
        result = end(run)
        while result.code != 0:
            assert "FileNotFoundError" in result.err or "OSError" in result.err, result.err
            result = end(begin())
        assert result.out.strip() == "360"
    sound(root, "--out", tmp_path / "calm", *SHARD_EACH, "--quiet")
    assert tree(out) == tree(tmp_path / "calm")


# --- parts --------------------------------------------------------------------------------------------------


def test_a_part_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pickled, run in another folder, without the codec's file: the same bytes."""
    monkeypatch.chdir(tmp_path)
    tomat.load_codec("lmq-16k").save("mine.npz")
    (tmp_path / "root").symlink_to(ROOT)
    config = TokenizeConfig(**{**vars_of(CONFIG), "codec": "mine.npz"})
    job = Job.of(config, resolve_inputs(["root"]), "out")
    sent = [pickle.dumps(part) for part in job.parts(1)]
    (tmp_path / "mine.npz").rename(tmp_path / "other.npz")
    monkeypatch.chdir(LABEL)
    for content in sent:
        part = pickle.loads(content)
        first, again = part.run(), part.run()
        assert (first.rows, first.n_listed) == (again.rows, again.n_listed)
        assert again.resumed_shards == first.shards
    assert open_dataset(tmp_path / "out").total_rows == 60
    assert open_dataset(tmp_path / "out").meta["density_codec_name"] == "mine"


def vars_of(config: TokenizeConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in TokenizeConfig.__dataclass_fields__}


def test_the_board_counts_those_that_have_not_begun() -> None:
    job = Job(CONFIG, [Entry(str(n), str(n)) for n in range(20)], "out")
    board = Board(job)
    assert (board.total.materials, board.total.n_materials) == (0, 20)
    board.post(2, Progress(3, 6, 1, 6, 100, 2.0))
    board.post(0, Progress(1, 4, 0, 3, 50, 3.0))
    assert board.total == Progress(4, 6 + 4 + 7, 1, 9, 150, 3.0)


# --- Modal, without an account ------------------------------------------------------------------------------


class Call:
    """A call of a function, run in this process at the second look."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.looks, self.is_cancelled = work, 0, False

    def get(self, timeout: float | None = None) -> Any:
        self.looks += 1
        if self.looks == 1 and timeout == 0:
            raise TimeoutError
        return self.work()

    def cancel(self) -> None:
        self.is_cancelled = True


class Local:
    """A Modal function through its local call, where Modal would run it in a container."""

    def __init__(self, function: modal.Function[..., Any, Any]) -> None:
        self.function = function
        self.calls: list[Call] = []

    def remote(self, *arguments: Any) -> Any:
        return self.function.local(*pickle.loads(pickle.dumps(arguments)))

    def spawn(self, *arguments: Any) -> Call:
        self.calls.append(Call(lambda: self.remote(*arguments)))
        return self.calls[-1]


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> dict[str, Local]:
    """Those of the app file; a volume has nothing to say where it is not mounted."""
    monkeypatch.setattr("tomat.engine.modal._POLL_S", 0.01)
    wheel = Path("dist/tomat-0.1.0-cp312-abi3-linux_x86_64.whl")
    monkeypatch.setattr("tomat.engine.modal.built_wheel", lambda _root: wheel)
    path = REPOSITORY / "training" / "modal_tokenize.py"
    spec = importlib.util.spec_from_file_location("modal_tokenize", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.app, modal.App)
    monkeypatch.setattr(module, "volumes", ())
    return {name: Local(getattr(module, name)) for name in FUNCTIONS}


@pytest.mark.filterwarnings("ignore:The .* function is executing locally")
def test_the_bytes_of_the_modal_functions(functions: dict[str, Local], tmp_path: Path) -> None:
    engine = ModalEngine(functions=functions)
    entries = engine.resolve_inputs([str(ROOT)], split_file=None, split=None, limit=None)
    assert entries == resolve_inputs([ROOT])
    seen: list[Progress] = []
    job = Job.of(CONFIG, entries, tmp_path / "out")
    summary = engine.run(job, watch=seen.append)
    assert (summary.rows, summary.n_materials, seen[-1].materials) == (60, 20, 20)
    assert tree(tmp_path / "out") == apart(ROOT, tmp_path / "apart", 3)
    with pytest.raises(FileExistsError, match="holds a finished dataset"):
        engine.run(job)
    assert engine.run(job, resume=True).resumed_shards == 20


@pytest.mark.filterwarnings("ignore:The .* function is executing locally")
def test_a_modal_function_that_fails_cancels_the_others(functions: dict[str, Local], tmp_path: Path) -> None:
    bad = tmp_path / "bad.cube"
    bad.write_bytes(b"no density")
    entries = [Entry("bad", str(bad)), *resolve_inputs([ROOT])]
    with pytest.raises(ValueError, match=r"bad\.cube"):
        ModalEngine(functions=functions).run(Job.of(CONFIG, entries, tmp_path / "out"))
    assert [call.is_cancelled for call in functions["tokenize_worker"].calls] == [True, True, True]
    assert not (tmp_path / "out" / "meta.json").exists()


def test_the_modal_app_is_built_from_settings(tmp_path: Path) -> None:
    settings = ModalSettings(
        volumes={"/data": "tomat"},
        buckets={"/gcs": "densities"},
        bucket_endpoint="https://storage.googleapis.com",
        secret="gcs",
        wheel=tmp_path / "tomat-0.1.0-cp312-abi3-linux_x86_64.whl",
        cpu=8.0,
    )
    found = mounts(settings)
    assert isinstance(found["/data"], modal.Volume)
    assert isinstance(found["/gcs"], modal.CloudBucketMount)
    assert isinstance(image(settings), modal.Image)
    options = function_options(settings)
    app = modal.App("test")
    function = app.function(**options, serialized=True)(lambda part: part)
    assert isinstance(function, modal.Function)
    assert (options["cpu"], options["retries"].max_retries, len(options["secrets"])) == (8.0, 5, 1)


def test_volumes_are_committed_whatever_happens() -> None:
    class Volume:
        def __init__(self) -> None:
            self.said: list[str] = []

        def reload(self) -> None:
            self.said.append("reload")

        def commit(self) -> None:
            self.said.append("commit")

    volume = Volume()
    assert synced([volume, object()], lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        synced([volume], lambda: 1 // 0)
    assert volume.said == ["reload", "commit"] * 2
