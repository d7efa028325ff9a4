"""Workers as Ray tasks on a real cluster of two nodes, each a set of processes; one is killed in the middle."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

import tomat
from crews import Faulty, Squares
from places import DATA, TESTS
from runs import LABEL, ROOT, SMALL, many, meta, sound, tokenize, tomat_main, tree
from tomat.dataset import Entry, TokenizeConfig, resolve_inputs
from tomat.engine import Crew, Job, Lost, ProcessEngine, Progress, StoppedError
from tomat.engine.ray import RayEngine
from tomat.evaluate.result import load_result

CONFIG = TokenizeConfig(
    patch_size=4, pad_to=256, patches_per_material=3, codec="lmq-16k", rows_per_shard=3, n_workers=2
)
OPTIONS = (*SMALL, "--rows-per-shard", 3, "--workers", 2)
BY_RAY = (*OPTIONS, "--engine", "ray")
#: Little memory.
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
#: Patience: the machine may be busy.
LONG_S = 150.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and a second node, and this process connected to them."""
    with pytest.MonkeyPatch.context() as patch:
        # The nodes' processes find the package under test; nothing is reported to anybody.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(tomat.__file__).parents[1]), str(TESTS)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made: Any = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            made.add_node(**NODE)
            made.wait_for_nodes(timeout=LONG_S)
            ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def wait_until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not ready():
        assert time.monotonic() < end, "nothing happened for too long"
        time.sleep(0.05)


def task_processes() -> set[int]:
    """Processes that do a part now: Ray names a process after its task."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_work"):
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


class Gated:
    """A job of two workers, each of which waits in the middle of its part for a material behind a named pipe."""

    content = (DATA / "chgcar" / "vasp-mp-2300242.CHGCAR.gz").read_bytes()

    def __init__(self, folder: Path) -> None:
        self.gates = [folder / f"gate-{index}.CHGCAR.gz" for index in range(2)]
        for gate in self.gates:
            os.mkfifo(gate)
        label = many(folder / "root", 20) / "label"
        entries = resolve_inputs(sorted(map(str, label.iterdir())))
        gated = [Entry(gate.name.split(".")[0], str(gate)) for gate in self.gates]
        self.entries = [*entries[:10], *gated, *entries[10:]]
        self.out = folder / "out"
        self.job = Job.of(CONFIG, self.entries, self.out, threads=1)
        self.engine = RayEngine()
        self.outcome: Any = None
        self.seen: list[Progress] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        wait_until(lambda: all(len(list(self.out.glob(f"worker-0{i}/shard-*"))) == 5 for i in range(2)))

    def _run(self) -> None:
        try:
            self.outcome = self.engine.run(self.job, watch=self.seen.append)
        except BaseException as error:
            self.outcome = error

    def result(self) -> Any:
        """Give whoever waits its material until the job ends."""
        end = time.monotonic() + LONG_S
        while self.thread.is_alive():
            assert time.monotonic() < end, "the job does not end"
            for gate in self.gates:
                self._feed(gate)
            self.thread.join(timeout=0.05)
        for gate in self.gates:
            gate.unlink()
            gate.write_bytes(self.content)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def _feed(self, gate: Path) -> None:
        try:
            pipe = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody waits
                return
            raise
        os.set_blocking(pipe, True)
        with os.fdopen(pipe, "wb") as file:
            file.write(self.content)

    def calm(self, out: Path) -> dict[str, str]:
        """What a run that nothing disturbs writes."""
        ProcessEngine(1).run(Job.of(CONFIG, self.entries, out, threads=1))
        return tree(out)


def test_the_bytes_of_the_local_engine(cluster: Any, tmp_path: Path) -> None:
    sound(ROOT, "--out", tmp_path / "local", *OPTIONS, "--quiet")
    result = sound(ROOT, "--out", tmp_path / "ray", *BY_RAY, "--json").json
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert (result["n_materials"], result["rows"], result["shards"]) == (20, 60, 20)
    again = tokenize(ROOT, "--out", tmp_path / "ray", *BY_RAY)
    assert again.code == 1
    assert "holds a finished dataset" in again.err
    resumed = sound(ROOT, "--out", tmp_path / "ray", *BY_RAY, "--resume", "--json").json
    assert resumed["resumed_shards"] == 20
    other = (*BY_RAY, "--seed", 1)
    assert "seed was 0, is 1" in tokenize(ROOT, "--out", tmp_path / "ray", *other, "--resume").err
    sound(ROOT, "--out", tmp_path / "ray", *other, "--overwrite", "--quiet")
    sound(ROOT, "--out", tmp_path / "seed", *OPTIONS, "--seed", 1, "--quiet")
    assert tree(tmp_path / "ray") == tree(tmp_path / "seed")


def test_a_material_that_cannot_be_read(cluster: Any, tmp_path: Path) -> None:
    bad, codec = tmp_path / "bad-one.cube", tmp_path / "mine.npz"
    bad.write_bytes(b"no density")
    tomat.load_codec("lmq-16k").save(codec)
    inputs = (LABEL / "qe-0039.zarr", bad, LABEL / "qe-0048.zarr")
    options = (*BY_RAY, "--codec", codec)
    result = tokenize(*inputs, "--out", tmp_path / "out", *options)
    assert result.code == 1
    assert result.err.startswith(f"error: {bad}: "), result.err
    assert not (tmp_path / "out" / "worker-01" / "meta.json").exists()
    sound(*inputs, "--out", tmp_path / "out", *options, "--resume", "--on-error", "skip", "--quiet")
    assert meta(tmp_path / "out" / "worker-01")["first_materials_unreadable"] == ["bad-one"]
    assert meta(tmp_path / "out" / "worker-00")["density_codec_name"] == "mine"


def test_items_of_processes_that_die(cluster: Any, tmp_path: Path) -> None:
    """All others are done; one whose process dies each time is lost."""
    crew = Crew(RayEngine(), 2)
    work = Squares(tmp_path, ahead=3, deadly=frozenset({4}), deadly_once=frozenset({7}))
    results = dict(crew.each(work, list(range(9))))
    lost = results.pop(4)
    assert isinstance(lost, Lost)
    assert str(lost).startswith("its worker process died 3 times, at last with WorkerCrashedError")
    assert results == {n: n * n for n in range(9) if n != 4}
    assert dict(crew.each(Faulty("not at all"), [0])) == {0: (1, "1", "1")}
    with pytest.raises(ValueError, match="no such checkpoint"):
        list(crew.each(Faulty("cannot be opened"), [0]))
    with pytest.raises(OSError, match="before they began"):
        list(crew.each(Faulty("dies as it opens"), [0]))


def test_predictions_and_evaluations_are_those_of_one_process(cluster: Any, tmp_path: Path) -> None:
    given = sorted(LABEL.iterdir())[:6]
    options = ("--spacing", 0.4, "--format", "zarr", "--format", "chgcar", "--quiet")
    for name, how in (("one", ()), ("ray", ("--engine", "ray", "--workers", 2))):
        predicted = tomat_main("predict", "promolecule", *given, "-o", tmp_path / name, *options, *how)
        assert predicted.code == 0, predicted.err
        done = tomat_main("eval", "promolecule", *given, "-o", tmp_path / f"eval-{name}", "-q", *how)
        assert done.code == 0, done.err
    one, by_ray = (
        {file: digest for file, digest in tree(tmp_path / name).items() if not file.endswith(".json")}
        for name in ("one", "ray")
    )
    assert by_ray == one
    rows = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in load_result(path).rows]
        for path in (tmp_path / "eval-one", tmp_path / "eval-ray")
    ]
    assert rows[0] == rows[1]
    assert tree(tmp_path / "eval-ray" / "volumes") == tree(tmp_path / "eval-one" / "volumes")


def test_a_process_is_killed_then_a_node(cluster: Any, tmp_path: Path) -> None:
    """Each time both workers are in the middle of their part: the end is the same to the byte."""
    gated = Gated(tmp_path)
    first = task_processes()
    assert len(first) == 2
    os.kill(min(first), signal.SIGKILL)
    wait_until(lambda: len(task_processes() - {min(first)}) == 2)
    second = task_processes()
    (node,) = [node for node in cluster.list_all_nodes() if node != cluster.head_node]
    cluster.remove_node(node, allow_graceful=False)
    wait_until(lambda: len(second & task_processes()) == 1)
    summary = gated.result()
    assert (summary.n_materials, summary.rows) == (22, 66)
    assert gated.seen[-1].n_materials <= 22
    assert tree(gated.out) == gated.calm(tmp_path / "calm")


def test_stopped_and_resumed(cluster: Any, tmp_path: Path) -> None:
    if len(cluster.list_all_nodes()) < 2:
        cluster.add_node(**NODE)
        cluster.wait_for_nodes(timeout=LONG_S)
    gated = Gated(tmp_path)
    gated.engine.cancel()
    time.sleep(1.0)  # mostly enough for the word to arrive; the end is the same where it is not
    with pytest.raises(StoppedError, match="--resume"):
        gated.result()
    summary = RayEngine().run(gated.job, resume=True)
    assert summary.resumed_shards >= 10
    assert tree(gated.out) == gated.calm(tmp_path / "calm")
