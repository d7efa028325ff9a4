"""The image of the Modal app: its steps run in a clean environment, and the app's functions in what they made."""

from __future__ import annotations

import importlib.util
import os
import pickle
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import modal
import pytest

import tomat
from places import REPOSITORY as SOURCES
from runs import ROOT, tree
from tomat.dataset import TokenizeConfig, resolve_inputs
from tomat.engine import Job, ProcessEngine
from tomat.engine.modal import FUNCTIONS, ModalEngine, ModalSettings, built_wheel, image

APP = SOURCES / "training" / "modal_tokenize.py"
CONFIG = TokenizeConfig(patch_size=4, pad_to=256, patches_per_material=3, rows_per_shard=3, n_workers=2)

#: A container's process: Modal imports the app's file there, which finds no wheel, and calls one function of it.
#: No volume is mounted.
CONTAINER = """
import pickle, sys
from pathlib import Path

import modal

modal.is_local = lambda: False
sys.path.insert(0, sys.argv[1])
import modal_tokenize as app

app.volumes = ()
name, arguments = pickle.loads(Path(sys.argv[2]).read_bytes())
Path(sys.argv[2]).write_bytes(pickle.dumps(getattr(app, name).local(*arguments)))
"""


class Image:
    """What `modal.Image` is told, in order."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self.commands: list[str] = []

    @classmethod
    def debian_slim(cls, *, python_version: str) -> Self:
        assert python_version == "3.12"
        return cls()

    def add_local_file(self, local: Path, remote: str, *, copy: bool) -> Self:
        assert copy, "a file that is mounted when the container starts is not there when pip runs"
        assert not self.commands
        self.files[remote] = local
        return self

    def run_commands(self, *commands: str) -> Self:
        self.commands += commands
        return self


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModalSettings], Image]:
    """The steps of the image of some settings."""
    stand_in = SimpleNamespace(Image=Image, is_local=lambda: True)

    def record(settings: ModalSettings) -> Image:
        with monkeypatch.context() as patch:
            patch.setattr("tomat.engine.modal._modal", lambda: stand_in)
            steps: Image = image(settings)
        return steps

    return record


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the tomat under test: the one that was installed, or one of this tree where tomat runs from it."""
    beside = sorted(Path(sys.prefix, "wheel").glob("tomat-*.whl"))
    if beside and Path(tomat.__file__).is_relative_to(sys.prefix):
        return beside[0]
    folder = tmp_path_factory.mktemp("built")
    maturin = [
        sys.executable,
        "-m",
        "maturin",
        "build",
        "--release",
        "--quiet",
        "--interpreter",
        sys.executable,
    ]
    subprocess.run([*maturin, "--out", str(folder)], cwd=SOURCES, check=True)
    return next(folder.glob("*.whl"))


def _app(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The app's file, imported where ``dist`` holds ``wheel``."""
    monkeypatch.setattr("tomat.engine.modal.built_wheel", lambda _root: wheel)
    spec = importlib.util.spec_from_file_location("modal_tokenize", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Container:
    """A function of the app, each call in a new process of the clean environment."""

    def __init__(self, name: str, python: Path, folder: Path) -> None:
        self.name, self.python, self.folder = name, python, folder

    def remote(self, *arguments: Any) -> Any:
        call = self.folder / "call.pickle"
        call.write_bytes(pickle.dumps((self.name, arguments)))
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(self.python), "-c", CONTAINER, str(self.folder / "root"), str(call)]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return pickle.loads(call.read_bytes())

    def spawn(self, *arguments: Any) -> Any:
        return SimpleNamespace(get=lambda timeout: self.remote(*arguments), cancel=lambda: None)


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the containers are Linux on x86_64",
)
@pytest.mark.skipif(sys.version_info[:2] != (3, 12), reason="the containers have Python 3.12")
def test_a_container_is_built_and_writes_the_bytes_of_this_machine(
    wheel: Path,
    recorded: Callable[[ModalSettings], Image],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The image's files and commands, /install in a folder, pip a new environment's; then its four functions."""
    steps = recorded(_app(wheel, monkeypatch).SETTINGS)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    tools = tmp_path / "venv" / "bin"
    for there, here in steps.files.items():
        place = tmp_path / there.removeprefix("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(here, place)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean["PIP_NO_COMPILE"] = "1"  # quicker, and changes nothing that is installed
    clean["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    assert steps.commands
    # Modal brings its own client to every container.
    client = f"pip install -q -c /install/constraints.txt modal=={modal.__version__}"
    for command in (*steps.commands, client):
        moved = command.replace("/install/", f"{tmp_path}/install/")
        subprocess.run(["bash", "-c", moved], env=clean, check=True, timeout=600)

    (tmp_path / "root").mkdir()
    shutil.copy(APP, tmp_path / "root")
    monkeypatch.setattr("tomat.engine.modal._POLL_S", 0.01)
    engine = ModalEngine(functions={name: Container(name, tools / "python", tmp_path) for name in FUNCTIONS})
    entries = engine.resolve_inputs([str(ROOT)], split_file=None, split=None, limit=4)
    assert entries == resolve_inputs([ROOT], limit=4)
    summary = engine.run(Job.of(CONFIG, entries, tmp_path / "rows"))
    assert (summary.rows, summary.n_materials) == (12, 4)
    ProcessEngine().run(Job.of(CONFIG, entries, tmp_path / "here"))
    assert tree(tmp_path / "rows") == tree(tmp_path / "here")


def test_the_image_has_the_wheel_the_pins_and_what_was_asked_for(
    recorded: Callable[[ModalSettings], Image], tmp_path: Path
) -> None:
    wheel = tmp_path / "tomat-0.1.0-cp312-abi3-linux_x86_64.whl"
    steps = recorded(
        ModalSettings(wheel=wheel, constraints=tmp_path / "pins", extra_packages=("s3fs>=2024.6",))
    )
    assert steps.files == {f"/install/{wheel.name}": wheel, "/install/constraints.txt": tmp_path / "pins"}
    assert steps.commands == [
        f"pip install -q -c /install/constraints.txt '/install/{wheel.name}[gcs]' 's3fs>=2024.6'"
    ]
    bare = recorded(replace(ModalSettings(), wheel=wheel))
    assert bare.commands == [f"pip install -q '/install/{wheel.name}[gcs]'"]


def test_no_wheel_and_a_wheel_of_another_system_are_refused(
    recorded: Callable[[ModalSettings], Image], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no wheel of tomat for the containers; make one with: make wheel"):
        recorded(ModalSettings())
    for name in ("macosx_11_0_arm64", "manylinux_2_34_aarch64"):
        with pytest.raises(ValueError, match="the containers are Linux on x86_64"):
            recorded(ModalSettings(wheel=tmp_path / f"tomat-0.1.0-cp312-abi3-{name}.whl"))


def test_the_newest_wheel_is_taken(tmp_path: Path) -> None:
    assert built_wheel(tmp_path) is None
    (tmp_path / "dist").mkdir()
    for age, name in enumerate(("tomat-0.10.0-x.whl", "tomat-0.9.0-x.whl", "other-1.whl")):
        (tmp_path / "dist" / name).touch()
        os.utime(tmp_path / "dist" / name, (1e9 - age, 1e9 - age))
    assert built_wheel(tmp_path) == tmp_path / "dist" / "tomat-0.10.0-x.whl"
