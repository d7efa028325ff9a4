"""Settings and paths shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The oracle is slow by design and its time varies with the drawn sizes: nothing here is timed.
settings.register_profile(
    "tomat",
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("thorough", settings.get_profile("tomat"), max_examples=2000)
settings.load_profile("tomat")

TESTS = Path(__file__).parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real densities."""
    return TESTS / "data"
