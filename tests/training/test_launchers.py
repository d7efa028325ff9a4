"""Launchers do what they say, with a gcloud that runs here what it is given; the Modal app is what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from places import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCH = REPOSITORY / "training" / "launch"

#: gcloud over a slice of two hosts, which are folders: ``ssh`` gives the command to a shell as sshd does, ``scp``
#: copies.
GCLOUD = """
import os, shutil, subprocess, sys
from argparse import ArgumentParser
from pathlib import Path

hosts = sorted(Path(os.environ["HOSTS"]).iterdir())
assert sys.argv[1:4] == ["compute", "tpus", "tpu-vm"], sys.argv
parser = ArgumentParser()
parser.add_argument("verb")
parser.add_argument("names", nargs="+")
for option in ("--zone", "--worker", "--command"):
    parser.add_argument(option)
given = parser.parse_args(sys.argv[4:])
assert given.zone == "us-east5-b", given
chosen = hosts if given.worker == "all" else [hosts[int(given.worker)]]
if given.verb == "scp":
    *files, place = given.names
    assert place == "slice:", place
    for file in files:
        assert ":" not in file.split("/")[0], f"{file} is a file of another host"
        for host in chosen:
            shutil.copy(file, host)
    sys.exit(0)
assert (given.verb, given.names) == ("ssh", ["slice"]), given
codes = [
    subprocess.run(["bash", "-c", given.command], cwd=host, env={**os.environ, "HOME": str(host)}).returncode
    for host in chosen
]
sys.exit(max(codes))
"""

#: What stands for `iris`: it takes the options that the installed Iris declares for `job run`, and no others, and
#: writes down what it would submit, with the files that Iris itself would send. Iris is read, not run: its command line
#: imports its server, which needs other versions of packages than the client has here.
IRIS = """
import ast, json, os, sys
from importlib.util import find_spec
from pathlib import Path

from iris.cluster.client.bundle import collect_workspace_files

source = Path(find_spec("iris").origin).parent / "cli" / "job.py"
run = next(n for n in ast.parse(source.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == "run")
values = {}  # of each option: how many words follow it
for call in run.decorator_list:
    if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "option":
        given = {word.arg: word.value for word in call.keywords}
        pair = isinstance(given.get("type"), ast.Tuple)
        for name in (part for arg in call.args for part in arg.value.split("/")):
            flag = "is_flag" in given or "/" in call.args[0].value
            values[name] = 0 if flag else 2 if pair else 1
assert len(values) > 20, values

cluster, verb, words = sys.argv[1:3], sys.argv[3:5], sys.argv[5:]
assert cluster == ["--cluster", "marin"] and verb == ["job", "run"], sys.argv
found = {}
while words[0] != "--":
    name = words.pop(0)
    found[name] = [words.pop(0) for _ in range(values[name])]
files = {str(path.relative_to(Path.cwd())): path.read_text() for path in collect_workspace_files(Path.cwd())}
content = {"options": found, "command": words[1:], "files": files}
Path(os.environ["SUBMITTED"]).write_text(json.dumps(content))
"""

#: What stands for `tomat train` on a host: it keeps what it was given, and saves when it is asked to end.
TOMAT = r"""#!/usr/bin/env bash
printf '%s\n' "$@" >"$HOME/arguments"
cat "$2" >"$HOME/configuration" || exit 1
trap 'echo saved >"$HOME/saved"; exit 130' TERM
echo training
while :; do sleep 0.05; done
"""

#: A name that every careless shell trips over, and fields that one must not touch.
AWKWARD = """it's my "best" $HOME run; exit 7.yaml"""
FIELDS = ["--data.densities", "[gs://bucket/it's here]", "--name", 'a "b" $HOME `id` *', "--note", ""]


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The homes of a slice's two hosts, with tomat installed; what still trains at the end is ended."""
    tools = tmp_path / "tools"
    tools.mkdir()
    _executable(tools / "gcloud", f"#!{sys.executable}\n{GCLOUD}")
    found = [tmp_path / "hosts" / name for name in ("host 0", "host 1")]
    for host in found:
        (host / "tomat-env" / "bin").mkdir(parents=True)
        _executable(host / "tomat-env" / "bin" / "tomat", TOMAT)
    monkeypatch.setenv("HOSTS", str(tmp_path / "hosts"))
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    yield found
    for host in found:
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(_process(host), signal.SIGKILL)


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _process(host: Path) -> int:
    """The number of the process that trains on ``host``, as the launcher wrote it down."""
    return int((host / "tomat-train.pid").read_text())


def _is_running(process: int) -> bool:
    """Whether it is there, and not only waits for a parent to look."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def _launch(script: str, *arguments: str | Path, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [str(LAUNCH / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


def _tpu(action: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return _launch("tpu.sh", action, "slice", "us-east5-b", *arguments)


@pytest.mark.parametrize("name", ["tpu.sh", "gpu.sh", "iris.sh"])
def test_a_shell_reads_it_and_it_says_how_to_use_it(name: str) -> None:
    subprocess.run(["bash", "-n", str(LAUNCH / name)], check=True)
    told = _launch(name)
    assert told.returncode == 2
    assert f"training/launch/{name}" in told.stdout
    assert "set -euo" not in told.stdout


def test_an_unknown_slice_and_a_missing_wheel_are_refused_before_anything_is_called() -> None:
    for arguments, words in (
        (["create", "slice", "zone", "v5e-8"], "unknown type v5e-8: v6e-4, v6e-8 or v6e-16"),
        (["install", "slice", "zone", "none.whl"], "none.whl: no such wheel; make one with: make wheel"),
        (["train", "slice", "zone", "none.yaml"], "none.yaml: no such configuration"),
    ):
        told = _launch("tpu.sh", *arguments)
        assert told.returncode != 0
        assert words in told.stderr


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the hosts of a TPU run Linux")
@pytest.mark.parametrize("fields", [[], FIELDS], ids=["no fields", "fields"])
@pytest.mark.parametrize("name", ["guess-30M.yaml", AWKWARD, "-a:b.yaml"])
def test_training_starts_on_all_hosts_and_stops_saved(
    hosts: list[Path], tmp_path: Path, name: str, fields: list[str]
) -> None:
    (tmp_path / name).write_text("name: x\n")
    started = _tpu("train", name, *fields)
    assert started.returncode == 0, started.stderr
    for host in hosts:
        assert (host / "configuration").read_text() == "name: x\n"
        assert (host / "arguments").read_text().split("\n")[:-1] == ["train", str(host / name), *fields]
        assert (host / f"{name.removesuffix('.yaml')}.log").read_text() == "training\n"
        assert _is_running(_process(host))
    processes = [_process(host) for host in hosts]

    again = _tpu("train", name, *fields)
    assert again.returncode == 1
    assert f"process {processes[0]} is training here already; stop it first" in again.stderr
    assert [_process(host) for host in hosts] == processes

    stopped = _tpu("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert not any(_is_running(process) for process in processes)
    assert [(host / "saved").read_text() for host in hosts] == ["saved\n"] * 2
    nothing = _tpu("stop")
    assert (nothing.returncode, nothing.stdout.count("nothing is training here")) == (0, 2)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the hosts of a TPU run Linux")
def test_a_stop_leaves_a_process_alone_that_took_the_number(hosts: list[Path]) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        for host in hosts:
            (host / "tomat-train.pid").write_text(f"{other.pid}\n")
        assert _tpu("stop").returncode == 0
        assert other.poll() is None
    finally:
        for host in hosts:
            (host / "tomat-train.pid").unlink()
        other.kill()
        other.wait()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the hosts of a TPU run Linux")
def test_training_that_ends_at_once_is_an_error_with_its_words(hosts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("name: x\n")
    for host in hosts:
        _executable(host / "tomat-env" / "bin" / "tomat", "#!/bin/sh\necho no such codec >&2; exit 1\n")
    told = _tpu("train", "run.yaml")
    assert told.returncode == 1
    assert told.stderr.count("training ended at once") == 2
    assert "no such codec" in told.stderr


def test_the_log_is_shown(hosts: list[Path]) -> None:
    (hosts[0] / AWKWARD.replace(".yaml", ".log")).write_text("step 1\n")
    command = [str(LAUNCH / "tpu.sh"), "logs", "slice", "us-east5-b", AWKWARD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as shown:
        assert shown.stdout is not None
        assert shown.stdout.readline() == "step 1\n"
        os.killpg(shown.pid, signal.SIGTERM)


def test_a_wheel_is_installed_on_all_hosts(hosts: list[Path], tmp_path: Path) -> None:
    """pip gets the wheel that was copied, with its extras, in one word."""
    for host in hosts:
        shutil.rmtree(host / "tomat-env")
    _executable(tmp_path / "tools" / "sudo", "#!/bin/sh\n")
    pip = 'mkdir -p "$3/bin" && printf \'#!/bin/sh\\nprintf "%%s\\\\n" "$@" >>"$HOME/pip"\\n\' >"$3/bin/pip"'
    _executable(tmp_path / "tools" / "python3.12", f'#!/bin/sh\n{pip} && chmod +x "$3/bin/pip"\n')
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    wheel = folder / "tomat-0.1.0-cp312-abi3-linux_x86_64.whl"
    wheel.write_text("a wheel")
    told = _tpu("install", wheel.relative_to(tmp_path))
    assert told.returncode == 0, told.stderr
    for host in hosts:
        assert (host / wheel.name).read_text() == "a wheel"
        pins = ["install", "-q", "-c", str(host / "constraints.txt")]
        assert (host / "constraints.txt").exists()
        asked = (host / "pip").read_text().splitlines()
        assert asked == [*pins, f"{host / wheel.name}[train,gcs]", *pins, "jax[tpu]==0.11.2"]


@pytest.fixture
def iris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which `iris` writes down what it would submit."""
    pytest.importorskip("iris.cluster.client.bundle")
    tools = tmp_path / "tools"
    tools.mkdir()
    _executable(tools / "iris", f"#!{sys.executable}\n{IRIS}")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SUBMITTED", str(tmp_path / "submitted.json"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tomat-0.1.0-cp312-abi3-linux_x86_64.whl").write_text("a wheel")
    (tmp_path / AWKWARD).write_text("name: x\n")
    return tmp_path / "submitted.json"


def test_a_job_of_iris_is_the_wheel_the_configuration_and_every_word(
    iris: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = next(iris.parent.glob("*.whl")).name
    monkeypatch.setenv("TOMAT_IRIS_OPTIONS", "--region us-east5 --priority batch")
    told = _launch("iris.sh", "train", "marin", "v6e-8", wheel, AWKWARD, *FIELDS)
    assert told.returncode == 0, told.stderr
    job = json.loads(iris.read_text())
    assert job["command"] == ["bash", "train.sh", *FIELDS]
    options = job["options"]
    assert options["--tpu"] == ["v6e-8"]
    assert options["--job-name"] == ["tomat-it-s-my-best-HOME-run-exit-7"]
    assert (options["--region"], options["--priority"]) == (["us-east5"], ["batch"])
    # Iris installs nothing: the job's own script does.
    assert {"--no-sync", "--preemptible", "--no-wait", "--enable-extra-resources"} <= set(options)
    assert "--gpu" not in options
    assert set(job["files"]) == {wheel, "constraints.txt", "run.yaml", "train.sh"}
    assert job["files"]["run.yaml"] == "name: x\n"
    script = job["files"]["train.sh"]
    assert "'jax[tpu]==0.11.2'" in script
    # The signal of a preemption reaches the training.
    assert script.rstrip().splitlines()[-1] == 'exec tomat-env/bin/tomat train run.yaml "$@"'
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_job_of_iris_is_printed_and_not_submitted(iris: Path) -> None:
    wheel = next(iris.parent.glob("*.whl")).name
    told = _launch("iris.sh", "print", "marin", "H100x8", wheel, AWKWARD)
    assert told.returncode == 0, told.stderr
    assert "--gpu H100x8 " in told.stdout
    assert "'jax[cuda13]==0.11.2'" in told.stdout
    assert not iris.exists()
    for arguments, words in (
        (["v6e-8", "none.whl", AWKWARD], "none.whl: no such wheel; make one with: make wheel"),
        (["v6e-8", wheel, "none.yaml"], "none.yaml: no such configuration"),
        (["fast", wheel, AWKWARD], "unknown type fast: a TPU such as v6e-8"),
    ):
        told = _launch("iris.sh", "train", "marin", *arguments)
        assert told.returncode != 0
        assert words in told.stderr
    assert not iris.exists()


def test_the_gpu_launcher_gives_every_word_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / AWKWARD).write_text("name: x\n")
    for arguments, words in (
        (["install", "none.whl"], "none.whl: no such wheel"),
        (["install", "a.whl", "b.whl"], "one wheel, not 2"),
        (["train", "none.yaml"], "none.yaml: no such configuration"),
        (["train", AWKWARD], "make it with: training/launch/gpu.sh install WHEEL"),
    ):
        told = _launch("gpu.sh", *arguments)
        assert told.returncode != 0
        assert words in told.stderr
    (tmp_path / "tomat-env" / "bin").mkdir(parents=True)
    keep = "import json, sys; json.dump(sys.argv[1:], open('arguments', 'w'))"
    _executable(tmp_path / "tomat-env" / "bin" / "tomat", f"#!{sys.executable}\n{keep}\n")
    for fields in ([], FIELDS):
        told = _launch("gpu.sh", "train", AWKWARD, *fields)
        assert told.returncode == 0, told.stderr
        assert json.loads((tmp_path / "arguments").read_text()) == ["train", AWKWARD, *fields]


def test_the_modal_app_trains_in_a_volume_and_is_tried_again() -> None:
    modal = pytest.importorskip("modal")
    spec = spec_from_file_location("modal_train", LAUNCH / "modal_train.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert isinstance(module.app, modal.App)
    assert module.app.name == "tomat-train"
    assert isinstance(module.train, modal.Function)
    assert module.main.info.function_name == "main"
