"""The page of a prediction: what it holds, how large it is, and what a browser makes of it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import browser
import tomat
from runs import LABEL, tomat_main
from tomat.prediction.page import write_page
from tomat.prediction.picture import Sight

#: Hexagonal, and with an angle of 60 degrees between all edges.
NAMES = ("qe-0211", "vasp-pmg-Fe3O4")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages with a truth, and one without."""
    out = tmp_path_factory.mktemp("pages")
    for name in NAMES:
        file = LABEL / f"{name}.zarr"
        arguments = ("--truth", file, "--format", "html", "--max-guess-error", 100, "-o", out)
        done = tomat_main("predict", "promolecule", file, *arguments)
        assert done.code == 0, done.err
    return out


def figures_of(page: Path) -> list[dict[str, Any]]:
    pattern = r'<script type="application/json" id="figure-\d+-data">(.*?)</script>'
    return [json.loads(text) for text in re.findall(pattern, page.read_text(), re.DOTALL)]


def test_with_a_truth_three_surfaces_and_nine_slices(pages: Path) -> None:
    for name in NAMES:
        page = pages / f"{name}.html"
        text = page.read_text()
        figures = figures_of(page)
        assert [figure["solid"] for figure in figures] == [True] * 3 + [False] * 9
        assert (
            re.findall(r'class="plot-title">([^<]*)<', text)
            == ["predicted", "true", "predicted minus true"] * 4
        )
        assert "encloses half of the absolute difference" in text
        assert "NMAE against the truth" in text
        kinds = [trace["type"] for trace in figures[2]["data"]]
        assert kinds.count("scatter3d") == 2
        assert kinds[0] == "mesh3d"
        assert json.loads((pages / f"{name}.json").read_text())["files"] == [f"{name}.html"]


def _material(n: int) -> tomat.Material:
    lattice = np.array([[8.0, 0.0, 0.0], [-4.0, 6.93, 0.0], [1.0, 0.5, 7.0]])
    x, y, z = np.meshgrid(*[2 * np.pi * np.arange(n) / n] * 3, indexing="ij")
    values = 0.4 + 0.1 * (np.cos(3 * x + y) + np.cos(3 * y) + np.sin(3 * z - x))
    sites = np.random.default_rng(0).uniform(size=(30, 3))
    return tomat.Material.of("large", values, "e_per_A3", lattice, [1] * 10 + [14] * 20, sites)


def test_a_million_voxels_are_less_than_ten_megabytes_and_say_how(tmp_path: Path) -> None:
    material = _material(100)
    noise = np.random.default_rng(1).normal(scale=0.01, size=material.grid_shape)
    truth = tomat.Material.on(material.crystal, material.density + noise, "e_per_A3")
    write_page(Sight(material, truth), tmp_path / "large.html")
    assert (tmp_path / "large.html").stat().st_size < 10e6
    assert (
        "interpolated by Fourier from the 100 x 100 x 100 of the density"
        in (tmp_path / "large.html").read_text()
    )


def test_without_a_truth_promolecule_and_spread(tmp_path: Path) -> None:
    material = _material(24)
    spread = np.abs(material.density - 0.4)

    def start(crystal: tomat.Crystal, shape: tuple[int, int, int], unit: str) -> Any:
        assert (crystal, unit) == (material.crystal, "e_per_A3")
        return np.full(shape, 0.4)

    def refused(*_: Any) -> Any:
        raise ValueError("no function for H")

    in_cell = material.in_unit("chgcar")
    write_page(Sight(in_cell, None, spread * np.float32(material.volume), start), tmp_path / "a.html")
    titles = re.findall(r'class="plot-title">([^<]*)<', (tmp_path / "a.html").read_text())
    assert titles == ["predicted", "predicted minus promolecule", "spread"] * 4
    write_page(Sight(material, None, None, refused), tmp_path / "b.html")
    assert re.findall(r'class="plot-title">([^<]*)<', (tmp_path / "b.html").read_text()) == ["predicted"] * 4


def test_a_truth_on_another_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"large: the true density has the grid \(10, 10, 10\)"):
        write_page(Sight(_material(12), _material(10)), tmp_path / "x.html")
    assert not list(tmp_path.iterdir())


#: Figures with buttons over them, plotly's icons, what is beyond the window, columns, and what turns with one.
_FACTS = {
    "over": """[...document.querySelectorAll('figure')].filter(f =>
      f.querySelector('.tools').getBoundingClientRect().top <
      f.querySelector('.plot').getBoundingClientRect().bottom - 1).length""",
    "icons": "document.querySelectorAll('.modebar-btn').length",
    "beyond": """[...document.querySelectorAll('.plot, .key, .tools, table')].filter(x =>
      x.getBoundingClientRect().right > document.documentElement.clientWidth + 1).length""",
    "overflow": "document.documentElement.scrollWidth - document.documentElement.clientWidth",
    "columns": """new Set([...document.querySelectorAll('.plot')].slice(0, 3).map(x =>
      Math.round(x.getBoundingClientRect().left))).size""",
    "turned": """(async () => { const plots = [...document.querySelectorAll('.plot')].slice(0, 3);
      for (const p of plots) p.scrollIntoView();
      await Plotly.relayout(plots[0], {'scene.camera.eye': {x: 1, y: 1, z: 0}});
      await new Promise(done => setTimeout(done, 300));
      return plots.map(p => Math.round(100 * p.layout.scene.camera.eye.x)); })()""",
}


@pytest.mark.skipif(browser.executable() is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_in_a_real_browser(pages: Path, width: int, dark: bool) -> None:
    from matplotlib.image import imread

    seen = browser.visit(pages / "qe-0211.html", width=width, dark=dark, expressions=_FACTS, picture=1500)
    assert [x for x in seen.messages if not x.startswith("warning")] == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    facts = seen.facts
    assert (facts["over"], facts["icons"], facts["beyond"]) == (0, 0, 0)
    assert facts["overflow"] <= 0
    assert facts["columns"] == (3 if width > 1000 else 1)
    assert facts["turned"] == [100, 100, 100]
    pixels = (imread(io.BytesIO(seen.screenshot))[..., :3] * 255).astype(int).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 200
