"""Reports: what the page holds, and what a real browser makes of it."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, override

import numpy as np
import pytest

import browser
from predictors import TokenPredictor, TruthPredictor
from runs import LABEL, ROOT, sound, tomat_main
from tomat.evaluate.methods import CodecFloor, Method, PatchMethod, StartMethod
from tomat.evaluate.result import load_result
from tomat.evaluate.run import Evaluation, evaluate
from tomat.evaluate.volumes import _rectangle
from tomat.material import Entry
from tomat.report import figures
from tomat.report.runs import NMAE, load_training_run
from training.studies.sampling_weight.study import sampling_weight

NAMES = ("qe-0211", "qe-0003", "vasp-mp-2300242")


# --- training runs ------------------------------------------------------------------------------------------


def write_run(folder: Path, lines: list[Any], end: str = "") -> Path:
    """A run with these lines; text as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    (folder / "metrics.jsonl").write_text(text + end)
    return folder


def line(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "time": 1.7e9 + step, "train/loss": 8.0 / (1 + step), **more}


def test_a_run_that_was_cut_off_and_went_on(tmp_path: Path) -> None:
    lines: list[Any] = [line(i) for i in range(5)]
    lines += [{"step": 4, "eval/loss": 2.5}, "", '{"step": 5, "train/l', line(3, **{"train/loss": 7.5})]
    lines += [
        "[1, 2]",
        '{"no": "step"}',
        line(5, **{"throughput/total_gflops": 3.0, "throughput/total_tokens": 640}),
    ]
    run = load_training_run(write_run(tmp_path / "run", lines, '{"step": 6, "train/loss": 1.'))
    assert run.series["train/loss"].steps.tolist() == [0, 1, 2, 3, 4, 5]
    # The later line of step 3 counts; numbers of one step in several lines stand together.
    assert run.series["train/loss"].values[3] == 7.5
    assert run.series["eval/loss"].steps.tolist() == [4]
    # A line without a step is no damage: it is about the whole run.
    assert run.unreadable == 3
    assert run.loss == ("eval/loss", 2.5)
    assert run.tokens == 640
    assert run.flops == 3e9
    assert run.parameters is None
    assert run.seconds is not None
    assert run.seconds.last == 5.0
    assert load_training_run(tmp_path / "run" / "metrics.jsonl").name == "run"


def test_numbers_that_are_not_finite_are_gaps_that_are_told(tmp_path: Path) -> None:
    run = load_training_run(
        write_run(
            tmp_path / "run",
            [line(0), '{"step": 1, "train/loss": NaN}', line(2), '{"step": 3, "train/loss": "inf"}'],
        )
    )
    assert run.series["train/loss"].steps.tolist() == [0, 2]
    assert run.not_finite == {"train/loss": [1, 3]}


def test_runs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl"):
        load_training_run(tmp_path)
    with pytest.raises(ValueError, match="no line is a JSON object"):
        load_training_run(write_run(tmp_path / "run", ["nothing"]))


# --- planes ---------------------------------------------------------------------------------


def test_planes_of_skewed_cells_are_drawn_as_they_lie_in_space() -> None:
    lattice = np.array([[4.0, 0, 0], [1.5, 3.0, 0], [0, 0, 5.0]])
    n, m = 40, 30
    u, v = np.meshgrid(np.arange(n) / n, np.arange(m) / m, indexing="ij")
    # A wave along the reciprocal vector of a: cos(2 pi u).
    plane, (width, height) = _rectangle(np.cos(2 * np.pi * u)[None], lattice)
    assert (width, height) == (4.0, 3.0)
    px, py = plane.shape[1:]
    x = (np.arange(px) + 0.5) * width / px
    y = (np.arange(py) + 0.5) * height / py
    expected = np.cos(2 * np.pi * (x[:, None] / 4 - y[None, :] * 1.5 / 12))
    np.testing.assert_allclose(plane[0], expected, atol=0.05)
    assert v.shape == u.shape


# --- the page -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything a report can hold."""
    root = tmp_path_factory.mktemp("report")
    for number in range(2):
        sizes = {
            "throughput/mfu": 30.0,
            "throughput/tokens_per_second": 1e4,
            "parameter_count": 1e6 * (1 + number),
        }
        lines = [
            line(
                i,
                **sizes,
                **{"throughput/total_tokens": 640 * (i + 1), "eval/one_pass/nmae_median": 3.0 - i / 50},
            )
            for i in range(60)
        ]
        write_run(root / f"run-{number}", lines, '{"step"')
    entries = [Entry(name, str(LABEL / f"{name}.zarr")) for name in NAMES]
    floor = CodecFloor(TokenPredictor().tokenizer.density_codec, "chgcar")
    for name, factor in (("good", 1.05), ("</script><b>bad", 1.2)):
        model = TruthPredictor(factor, mode="one_pass", about={"tokens": 1e6 * factor, "parameters": 1e6})
        start = StartMethod(TruthPredictor(1.3, mode="one_pass"))
        methods: list[Method] = [PatchMethod(model), start, floor, PatchMethod(TruthPredictor(1.01))]
        plan = Evaluation(methods, entries, "chgcar", {}, name, pictures=int(factor < 1.1))
        evaluate(plan, root / f"result-{factor}")
    results = [root / "result-1.05", root / "result-1.2"]
    for arguments in (
        ("compare", *results, "-o", root / "comparison.json"),
        ("probe", "promolecule", ROOT, "--limit", 2, "--probe", "inverted", "-o", root / "probes"),
        ("codec", "compare", ROOT, "--bins", 64, "--out", root / "floors", "-q"),
    ):
        done = tomat_main(*arguments)
        assert done.code == 0, done.err
    equal, electrons = ([load_result(path)] for path in results)
    study = sampling_weight(equal, electrons, "one_pass", unmatched=True)
    (root / "study.json").write_text(json.dumps(study))
    small = ("--patch-size", 4, "--pad-to", 256, "--patches-per-material", 3, "--codec", "lmq-16k")
    sound(ROOT, "--split", "test", "--out", root / "rows", *small)
    parts = ("run-0", "run-1", "comparison.json", "study.json", "probes", "rows", "floors.json")
    out = root / "report.html"
    done = tomat_main("report", *results, *(root / part for part in parts), "-o", out, "--title", "A < B")
    assert done.code == 0, done.err
    return out


class Outline(HTMLParser):
    """Tags with their attributes, the text of headings, tables cell by cell."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.below: list[str] = []
        self._below = False
        self.rows: list[list[str]] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "tbody":
            self._below = dict(attrs).get("class") == "below"

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._below = self._below and tag != "tbody"

    @override
    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        if self._below:
            self.below.append(data)


def test_the_page_is_sound_and_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert outline.headings[0] == "A < B"
    for words in ("Errors", "Comparison", "Sampling-weight study", "Training", "Scaling"):
        assert words in outline.headings
    assert any(heading.startswith("Coverage") for heading in outline.headings)
    assert any(heading.startswith("Codec floors") for heading in outline.headings)
    for tag, attributes in outline.tags:
        assert "src" not in attributes, (tag, attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"
        if tag == "a":
            assert str(attributes["href"]).startswith("#")
    targets = {attributes.get("id") for _, attributes in outline.tags}
    assert all(str(a["href"])[1:] in targets for tag, a in outline.tags if tag == "a")
    assert text.count("plotly.js v") == 1
    # Names that are markup stay text.
    assert "<b>bad" not in text


def test_tables_and_figures_can_be_read_aloud(page: Path) -> None:
    outline = Outline()
    outline.feed(page.read_text())
    tags = outline.tags
    tables = sum(tag == "table" for tag, _ in tags)
    assert tables > 10
    assert sum(tag == "caption" for tag, _ in tags) == tables
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")
    regions = [attributes for _, attributes in tags if attributes.get("class") == "scroll"]
    assert len(regions) == tables
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    plots = [attributes for _, attributes in tags if attributes.get("class") == "plot"]
    assert len(plots) > 15
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    assert tags[0][1]["lang"] == "en"


def test_every_table_of_models_has_a_row_of_their_start(page: Path) -> None:
    outline = Outline()
    outline.feed(page.read_text())
    rows = outline.rows
    starts = [row for row in rows if "start (step 0)" in row[0]]
    # The headline (shared by both results), the groups of each, the runs, the comparison.
    assert [row[2].split()[0] for row in starts if row[0] == "start (step 0)" and row[1] == "3"] == ["30.0"]
    for number in range(2):
        (row,) = (row for row in starts if row[0] == f"run-{number}, start (step 0)")
        assert row[1] == "0"
        assert row[6] == "300"
        assert [other[6] for other in rows if other[0] == f"run-{number}"] == ["182"]
    assert [row[1].split()[0] for row in starts if row[0].startswith("good, start")] == ["30.0"]


def test_a_run_without_a_first_evaluation_has_no_start(tmp_path: Path) -> None:
    late = [line(i, **({NMAE: 0.5} if i == 3 else {})) for i in range(5)]
    assert load_training_run(write_run(tmp_path / "late", late)).at_start(NMAE) is None
    early = load_training_run(
        write_run(tmp_path / "early", [line(i, **{NMAE: 0.5 - i / 10}) for i in range(4)])
    )
    assert early.at_start(NMAE) == (0, 0.5)
    # The curve begins with it.
    figure = figures.curves([early], NMAE, "NMAE")
    assert figure is not None
    x, y = (
        np.frombuffer(base64.b64decode(figure.data[0][axis]["bdata"]), figure.data[0][axis]["dtype"])
        for axis in "xy"
    )
    assert (x[0], y[0]) == (0, 0.5)
    # The loss of a training batch is none of held-out data.
    assert early.at_start("train/loss") is None


def test_what_is_under_the_line_is_in_no_figure(page: Path) -> None:
    text = page.read_text()
    outline = Outline()
    outline.feed(text)
    assert any("teacher forced" in words for words in outline.below)
    figures = re.findall(
        r'<script type="application/json" id="figure-\d+-data">(.*?)</script>', text, re.DOTALL
    )
    assert len(figures) > 15
    for figure in figures:
        content = json.loads(figure)
        names = [str(trace.get("name")) for trace in content["data"]] + [
            str(t.get("y")) for t in content["data"]
        ]
        assert not any("teacher" in name for name in names)


def test_its_size_is_bounded(page: Path) -> None:
    from plotly.offline import get_plotlyjs

    # Two materials with pictures: slices and surfaces.
    assert len(page.read_bytes()) - len(get_plotlyjs().encode()) < 4_000_000


def test_inputs_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "some.json").write_text('{"answer": 42}')
    for name, words in (
        ("gone", "no such file"),
        ("empty", "not a source of a report"),
        ("some.json", "not a source of a report"),
    ):
        done = tomat_main("report", tmp_path / name, "-o", tmp_path / "r.html")
        assert done.code == 1
        assert words in done.err
    assert not (tmp_path / "r.html").exists()


@pytest.mark.skipif(browser.executable() is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_in_a_real_browser(page: Path, width: int, dark: bool) -> None:
    expressions = {
        "figures": "document.querySelectorAll('.plot').length",
        "drawn": "[...document.querySelectorAll('.plot')].filter(x => x.querySelector('.main-svg, canvas')).length",
        "overflow": "document.documentElement.scrollWidth - document.documentElement.clientWidth",
        "paper": "getComputedStyle(document.body).backgroundColor",
        "ink": "getComputedStyle(document.body).color",
        "tick": "getComputedStyle(document.querySelector('.xtick text, .ytick text')).fill",
    }
    seen = browser.visit(page, width=width, dark=dark, expressions=expressions, picture=2000)
    assert [x for x in seen.messages if not x.startswith("warning")] == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    facts = seen.facts
    assert facts["figures"] == facts["drawn"] > 15
    # Only tables scroll sideways, each by itself.
    assert facts["overflow"] <= 0
    assert facts["paper"] == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
    assert facts["tick"] == facts["ink"]
    _not_blank(seen.screenshot)


def _not_blank(png: bytes) -> None:
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(png))
    assert len(np.unique((pixels[..., :3] * 255).astype(int).reshape(-1, 3), axis=0)) > 200
