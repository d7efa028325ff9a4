"""The log of a run: all messages in one file, warnings shown, and only those dropped that are named."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

pytest.importorskip("levanter")
from rich.console import Console

from tomat.lm.logs import LOG, MEANINGLESS, run_log


def test_warnings_are_shown_and_everything_is_in_the_file(tmp_path: Path) -> None:
    out = io.StringIO()
    logger = logging.getLogger("levanter.somewhere")
    logger.setLevel(logging.INFO)
    root = logging.getLogger()
    # One that prints, as Levanter sets up, among others.
    root.handlers.insert(0, stream := logging.StreamHandler(io.StringIO()))
    root.addHandler(last := logging.NullHandler())
    before = list(root.handlers)
    try:
        with run_log(tmp_path, Console(file=out)):
            assert stream not in root.handlers
            logger.warning("a [real] warning")
            logger.info("routine")
        after = list(root.handlers)
        logger.warning("after the run")
    finally:
        root.removeHandler(stream)
        root.removeHandler(last)
    assert "a [real] warning" not in stream.stream.getvalue()
    assert "after the run" in stream.stream.getvalue()
    assert out.getvalue() == "warning: a [real] warning\n"
    log = (tmp_path / LOG).read_text()
    assert "a [real] warning" in log
    assert "after the run" not in log
    assert after == before


@pytest.mark.parametrize("name", MEANINGLESS)
def test_what_means_nothing_is_dropped_and_other_messages_of_the_logger_are_kept(
    name: str, tmp_path: Path
) -> None:
    out = io.StringIO()
    with run_log(tmp_path, Console(file=out)):
        logging.getLogger(name).warning("%s - cpu", MEANINGLESS[name])
        logging.getLogger(name).warning("Unknown device type: NVIDIA X1")
    assert out.getvalue() == "warning: Unknown device type: NVIDIA X1\n"
    assert not logging.getLogger(name).filters


def test_a_log_of_levanter_in_the_folder_comes_first_and_goes(tmp_path: Path) -> None:
    theirs = logging.FileHandler(tmp_path / "demo.log.log")
    theirs.setFormatter(logging.Formatter("%(name)s :: %(message)s"))
    theirs.setLevel(logging.INFO)
    logging.getLogger().addHandler(theirs)
    elsewhere = logging.FileHandler(tmp_path.parent / "other.log", delay=True)
    logging.getLogger().addHandler(elsewhere)
    try:
        logging.getLogger("levanter").warning("first")
        with run_log(tmp_path, None):
            logging.getLogger("levanter").warning("second")
        assert elsewhere in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(elsewhere)
        elsewhere.close()
    assert (tmp_path / LOG).read_text() == "levanter :: first\nlevanter :: second\n"
    assert [path.name for path in tmp_path.iterdir()] == [LOG]


def test_without_a_console_only_errors_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_log(tmp_path, None):
        logging.getLogger("levanter").warning("not shown")
        logging.getLogger("levanter").error("shown")
    assert capsys.readouterr().err == "error: shown\n"
