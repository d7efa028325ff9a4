"""Settings and paths shared by all tests."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tomat.storage import retry

if TYPE_CHECKING:
    from buckets import Door

# The oracle is slow by design and its time varies with the drawn sizes: nothing here is timed.
settings.register_profile(
    "tomat",
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("thorough", settings.get_profile("tomat"), max_examples=2000)
# On a shared runner a change must not fail for an example that it has nothing to do with; new examples are drawn on
# every run elsewhere.
settings.register_profile("ci", settings.get_profile("tomat"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "tomat")

TESTS = Path(__file__).parent

# Most training steps in the tests are the same program: it is compiled once for this session and all processes it
# starts. Before JAX is imported by anything.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="tomat-compiled-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real densities."""
    return TESTS / "data"


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset directory of each case of ``lm/data_sets.py``, written once."""
    from data_sets import CASES

    root = tmp_path_factory.mktemp("datasets")
    return {name: case.write(root / name) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    """The door of an empty bucket, for the tests of a file."""
    from buckets import bucket

    with pytest.MonkeyPatch.context() as patch, bucket(patch) as opened:
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries."""
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.0)
