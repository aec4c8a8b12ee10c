"""A chart of the figures for a README: bars for save, load and size, as PNG and as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from shardflow.flavor.measuring.course import Results
from shardflow.flavor.measuring.ways import PEER, WAYS

_OWN, _OTHER = "#1f6feb", "#8b949e"
_WIDTH, _LINE = 11.0, 0.42


def draw(results: Results, stem: Path) -> list[Path]:
    """Write the chart beside `stem` in both forms."""
    rows = [row for row in results.rows.values() if row.save]
    titles = [WAYS[row.way].title for row in rows]
    panels = (
        ("save, s", [row.median("save") or 0.0 for row in rows]),
        ("load, s", [row.median("load") or 0.0 for row in rows]),
        ("size of the state's", [row.bytes / results.bytes for row in rows]),
    )
    figure = Figure(figsize=(_WIDTH, 1.2 + _LINE * len(rows)), layout="constrained")
    colours = [_OWN if WAYS[row.way].stored or row.way == "tensorstore-fast" else _OTHER for row in rows]
    for axes, (title, values) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        _bars(axes, title, titles, values, colours)
    figure.suptitle(f"Checkpoints of {results.bytes / 2**30:.2f} GiB bfloat16, {results.machine['cores']} cores")
    files = [stem.with_suffix(ending) for ending in (".png", ".svg")]
    with mpl.rc_context({"svg.hashsalt": "shardflow", "svg.fonttype": "none"}):
        for file in files:
            figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def _bars(axes: Any, title: str, titles: list[str], values: list[float], colours: list[str]) -> None:
    """One panel; what takes many times as long as the rest is cut off, and its value written beside it."""
    peer = values[0] if titles[0] == WAYS[PEER].title else max(values)
    limit = min(max(values), 4 * peer) * 1.25 or 1.0
    places = range(len(values))
    axes.barh(places, [min(value, limit) for value in values], color=colours)
    for place, value in zip(places, values, strict=True):
        if value:
            axes.text(min(value, limit * 0.8), place, f" {value:.2f}", va="center", fontsize=8)
    axes.set(title=title, xlim=(0, limit), yticks=list(places), yticklabels=titles)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
