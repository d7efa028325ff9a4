"""Self-contained HTML pages of sections, tables and plotly figures, for any screen size, light or dark."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomat.view.table import Table

_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c1e21, #e3e6ea); --paper: light-dark(#ffffff, #16181c);
  --soft: light-dark(#565b63, #a9b0b9); --line: light-dark(#d5d9df, #3a3f47); --card: light-dark(#f6f7f9, #1e2126);
  --link: light-dark(#0b5394, #8ec2f0); }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem 1rem 4rem;
  background: var(--paper); color: var(--ink); overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p, figcaption, summary { max-width: 46rem; }
.note, figcaption, caption { color: var(--soft); font-size: .9rem; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: .6rem 0 0; }
nav a { display: inline-block; padding: .3rem 0; }
.skip { position: absolute; left: -100vw; } .skip:focus { position: static; }
.scroll { overflow-x: auto; margin: .6rem 0; }
.scroll:focus-visible, a:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .2rem 0; font-weight: 600; color: var(--ink); }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { vertical-align: bottom; white-space: normal; min-width: 4.5rem; font-weight: 600; }
th[scope=row], thead th:first-child { text-align: left; font-weight: 500; min-width: 0; white-space: normal; }
tbody.below { border-top: 3px double var(--ink); } tbody.below * { color: var(--soft); font-style: italic; }
figure { margin: 1rem 0; } .plot { width: 100%; min-width: 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .5rem 1rem; }
.panels > figure { margin: 0; min-width: 0; }
pre { background: var(--card); padding: .8rem; overflow-x: auto; font-size: .8rem; }
.plot-title { font-weight: 600; margin: .2rem 0; }
.tools, .key { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .85rem; margin: .2rem 0; padding: 0; }
.key { list-style: none; } .key i { display: inline-block; width: .8em; height: .8em; border-radius: 50%;
  border: 1px solid var(--soft); margin-right: .3em; vertical-align: -.05em; }
button { font: inherit; color: var(--link); background: none; border: 1px solid var(--line); border-radius: .3rem;
  padding: .15rem .55rem; cursor: pointer; }
button:focus-visible { outline: 2px solid var(--link); }
.warning { border-left: 4px solid #d55e00; padding: .3rem .8rem; background: var(--card); }
@media (max-width: 30rem) { body { padding: .5rem .7rem 3rem; } th, td { padding: .3rem .45rem; } }
@media print { .plot { break-inside: avoid; } nav, .tools { display: none; } }
"""

#: Draws figures in the colours of the reader's theme, and again when the theme changes.
_SCRIPT = """
(() => {
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const plots = [...document.querySelectorAll('.plot')];
  const read = div => JSON.parse(document.getElementById(div.id + '-data').textContent);
  // Browsers hold few three-dimensional figures at once: the ones drawn longest ago give way.
  const solids = [], most = 9;
  function themed(layout) {
    const ink = dark.matches ? '#e3e6ea' : '#1c1e21', grid = dark.matches ? '#3a3f47' : '#d5d9df';
    const paper = dark.matches ? '#16181c' : '#ffffff';
    const out = {...layout, font: {color: ink, size: 13}, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
      hoverlabel: {bgcolor: paper, font: {color: ink}}};
    for (const key of Object.keys(out)) if (/^[xy]axis/.test(key))
      out[key] = {gridcolor: grid, linecolor: grid, zerolinecolor: grid, automargin: true, ...out[key]};
    if (out.updatemenus) out.updatemenus = out.updatemenus.map(menu =>
      ({...menu, bgcolor: paper, bordercolor: grid, font: {color: ink}}));
    return out;
  }
  function recoloured(data) {
    const ink = dark.matches ? '#e3e6ea' : '#1c1e21';
    return data.map(trace => trace.meta !== 'ink' ? trace :
      {...trace, line: {...trace.line, color: ink}, textfont: {...trace.textfont, color: ink}});
  }
  function room(div) {
    if (solids.includes(div)) return;
    solids.push(div);
    if (solids.length <= most) return;
    const old = solids.shift();
    Plotly.purge(old);
    delete old.dataset.drawn;
    near.observe(old);
  }
  // Solid figures side by side turn together.
  function turn(div) {
    const others = [...(div.closest('.panels')?.querySelectorAll('.plot') ?? [])].filter(x => x !== div);
    if (!others.length) return;
    div.on('plotly_relayout', () => {
      const camera = div.layout.scene.camera, same = JSON.stringify(camera);
      for (const other of others) if (other.dataset.drawn && JSON.stringify(other.layout.scene?.camera) !== same)
        Plotly.relayout(other, {'scene.camera': JSON.parse(same)});
    });
  }
  function draw(div) {
    const figure = read(div);
    const first = !div.dataset.drawn;
    if (figure.solid) room(div);
    Plotly.react(div, recoloured(figure.data), themed(figure.layout), {displayModeBar: false, responsive: true});
    if (figure.solid && first) turn(div);
    div.dataset.drawn = 'yes';
  }
  const near = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, {rootMargin: '400px'});
  for (const div of plots) near.observe(div);
  // Flat figures are all drawn, one after the other; solid ones wait until they come near, browsers hold few of them.
  const flat = plots.filter(div => !read(div).solid);
  (function next() {
    const div = flat.shift();
    if (!div) return;
    if (!div.dataset.drawn) { near.unobserve(div); draw(div); }
    setTimeout(next, 20);
  })();
  // Buttons under a figure stand for plotly's icons, which would lie over what it shows.
  document.addEventListener('click', event => {
    const button = event.target.closest('button[data-figure]');
    if (!button) return;
    const div = document.getElementById(button.dataset.figure), figure = read(div);
    if (button.dataset.action === 'save')
      Plotly.downloadImage(div, {format: 'png', scale: 2, filename: button.dataset.figure});
    else if (figure.solid) Plotly.relayout(div, {'scene.camera': figure.layout.scene.camera});
    else Plotly.react(div, recoloured(figure.data), themed(figure.layout));
  });
  const again = () => { for (const div of plots) if (div.dataset.drawn) draw(div); };
  dark.addEventListener('change', again);
  window.addEventListener('beforeprint', () => plots.forEach(draw));
})();
"""

#: Default layout of figures.
_LAYOUT: dict[str, Any] = {
    "margin": {"l": 10, "r": 10, "t": 34, "b": 50},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
}


def packed(values: NDArray[np.floating] | NDArray[np.integer]) -> dict[str, str]:
    """An array as a plotly typed array in base64: float32, or the smaller of uint16 and int32 that holds it."""
    kind = "f4"
    if np.issubdtype(values.dtype, np.integer):
        small = values.size == 0 or (values.min() >= 0 and values.max() < 1 << 16)
        kind = "u2" if small else "i4"
    array = np.ascontiguousarray(values, dtype=f"<{kind}")
    out = {"dtype": kind, "bdata": base64.b64encode(array.tobytes()).decode()}
    if array.ndim > 1:
        out["shape"] = ", ".join(map(str, array.shape))
    return out


@dataclass(frozen=True)
class Figure:
    """A plotly figure.

    Attributes:
        says: its caption and alternative text.
        data: plotly traces.
        layout: plotly layout without colours; margin and legend have defaults.
        height: in CSS pixels.
        solid: whether it is three-dimensional.
        title: above it, where figures stand side by side.
        key: names and colours of what it shows, where plotly's legend is not used.
    """

    says: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 380
    solid: bool = False
    title: str = ""
    key: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Page:
    """An HTML page, filled part by part.

    Attributes:
        title: of the page.
        lead: a paragraph under it.
    """

    title: str
    lead: str = ""
    _sections: list[tuple[str, str]] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=lambda: [0])

    def section(self, title: str) -> None:
        """Start a section."""
        name = f"section-{len(self._sections) + 1}"
        self._sections.append((name, title))
        self._parts.append(f'<h2 id="{name}">{html.escape(title)}</h2>')

    def heading(self, text: str) -> None:
        """Add a heading within a section."""
        self._parts.append(f"<h3>{html.escape(text)}</h3>")

    def text(self, text: str, kind: str = "") -> None:
        """Add a paragraph; ``kind`` is ``note``, ``warning`` or empty."""
        self._parts.append(f"<p{f' class={kind}' if kind else ''}>{html.escape(text)}</p>")

    def table(self, table: Table) -> None:
        """Add a table; the rows below the line form a second body."""

        def named(text: str, url: str) -> str:
            # No other scheme: the address may come from elsewhere.
            if not url.startswith(("https://", "http://")):
                return html.escape(text)
            return f'<a href="{html.escape(url, quote=True)}" rel="noreferrer">{html.escape(text)}</a>'

        def rows(lines: Sequence[Sequence[str]], links: Sequence[str] = ()) -> str:
            return "".join(
                f'<tr><th scope="row">{named(line[0], url)}</th>'
                + "".join(f"<td>{html.escape(cell)}</td>" for cell in line[1:])
                + "</tr>"
                for line, url in zip_longest(lines, links, fillvalue="")
            )

        head = "".join(f'<th scope="col">{html.escape(cell) or _EMPTY}</th>' for cell in table.head)
        below = f'<tbody class="below">{rows(table.below)}</tbody>' if table.below else ""
        label = html.escape(table.title, quote=True)
        self._parts.append(
            f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>'
            f"<caption>{html.escape(table.title)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{rows(table.rows, table.links)}</tbody>{below}</table></div>"
        )
        if table.note:
            self.text(table.note, "note")

    def figures(self, *figures: Figure) -> None:
        """Add figures, side by side if there is room."""
        if not figures:
            return
        made = "".join(self._figure(figure) for figure in figures)
        self._parts.append(f'<div class="panels">{made}</div>' if len(figures) > 1 else made)

    def details(self, summary: str, text: str) -> None:
        """Add preformatted text that is folded at first."""
        self._parts.append(
            f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"
        )

    def _figure(self, figure: Figure) -> str:
        self._numbers[0] += 1
        name = f"figure-{self._numbers[0]}"
        # An unescaped "<" could end the script element.
        content = {"data": figure.data, "layout": _LAYOUT | figure.layout, "solid": figure.solid}
        data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        says = html.escape(figure.says, quote=True)
        title = f'<div class="plot-title">{html.escape(figure.title)}</div>' if figure.title else ""
        key = "".join(
            f'<li><i style="background:{colour}"></i>{html.escape(what)}</li>' for what, colour in figure.key
        )
        return (
            f'<figure>{title}<div class="plot" id="{name}" role="img" aria-label="{says}" '
            f'style="height:{figure.height}px"></div><script type="application/json" id="{name}-data">{data}</script>'
            f"{f'<ul class="key">{key}</ul>' if key else ''}{_tools(name)}<figcaption>{says}</figcaption></figure>"
        )

    def render(self) -> str:
        """The HTML of the page; embeds plotly's script if there are figures.

        Raises:
            ValueError: plotly is not installed.
        """
        links = "".join(
            f'<li><a href="#{name}">{html.escape(title)}</a></li>' for name, title in self._sections
        )
        script = f"<script>{_plotly()}</script><script>{_SCRIPT}</script>" if self._numbers[0] else ""
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                f"<title>{html.escape(self.title)}</title>",
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                # An empty icon keeps browsers from requesting one.
                '<link rel="icon" href="data:,">',
                f"<style>{_STYLE}</style></head><body>",
                '<a class="skip" href="#main">Skip to the content</a>',
                f"<header><h1>{html.escape(self.title)}</h1>",
                f"<p>{html.escape(self.lead)}</p>" if self.lead else "",
                f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main id="main">',
                *self._parts,
                f"</main>{script}</body></html>",
                "",
            ]
        )


def _tools(name: str) -> str:
    """The buttons of a figure."""
    actions = (("save", "Save picture"), ("reset", "Reset view"))
    buttons = "".join(
        f'<button type="button" data-figure="{name}" data-action="{action}">{words}</button>'
        for action, words in actions
    )
    return f'<div class="tools">{buttons}</div>'


_EMPTY = '<span aria-hidden="true"></span>'


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script.replace("</script", "<\\/script")
