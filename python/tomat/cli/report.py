"""Make one self-contained HTML page from runs and results.

INPUT is the folder of a training run (metrics.jsonl; also one of tomat runs pull), a result of tomat eval or tomat
probe, the JSON of tomat compare, tomat codec compare or a study (training/studies), or a dataset directory (its
coverage). The page works offline and on a phone, and follows the reader's light or dark theme.

\b
Examples:
  tomat report runs/tiny result -o report.html
  tomat report pulled/*/ -o report.html --png slides
  tomat report runs/* result-a result-b comparison.json probes dataset -o report.html --title "Tiny models"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomat.storage.files import write_atomically


def command(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")],
    title: Annotated[str, typer.Option(help="Title of the page.")] = "tomat report",
    png: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write scaling and learning curves as PNG, for slides."),
    ] = None,
) -> None:
    from tomat.report.build import build, scaling_points
    from tomat.report.sources import load_sources

    sources = load_sources(inputs)
    page = build(sources, title)
    write_atomically(out, page.encode())
    print(f"written: {out} ({len(page.encode()) / 1e6:.1f} MB)")
    if png is not None:
        from tomat.report.png import write_pngs

        for path in write_pngs(png, sources.runs, scaling_points(sources)):
            print(f"written: {path}")
