"""The lineage of a version as one HTML page, which MLflow's pages show among the artifacts of the model.

It holds no script and loads nothing: names in it come from whoever registered a model, and are shown as text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from html import escape

from shardflow.registry.evidence_digests import PAGE_FILE
from shardflow.registry.legible import legible
from shardflow.registry.lineage import Lineage, title, tree, written
from shardflow.registry.signing import store_beside

DEEPEST = 60

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:60em;color:#1c2730}"
    "h1{font-size:1.4em}h2{font-size:1.1em;margin-top:1.6em}"
    "table{border-collapse:collapse}td,th{padding:.25em 1em .25em 0;text-align:left;vertical-align:top}"
    "td{overflow-wrap:anywhere}.line{padding:.1em 0}.relation,.note{color:#66747f}"
    ".of{background:#eaf3fb;border-radius:.3em;padding:.1em .4em}"
)


def page(lineage: Lineage) -> str:
    """The whole page."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f"<title>Lineage of {escape(written(lineage.of))}</title><style>{_STYLE}</style></head><body>",
            f"<h1>Lineage of {escape(title(lineage, lineage.of))}</h1>",
            *_origin(lineage),
            *_tree(lineage, "parents", "Made from"),
            *_tree(lineage, "children", "What was made from it"),
            f'<p class="note">As of {time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}.</p>',
            "</body></html>",
            "",
        ]
    )


def log_page(lineage: Lineage, location: str) -> None:
    """Put the page beside the files of the model; what is no text would count as one of them."""
    store_beside(location, PAGE_FILE, legible(page(lineage)).encode())


def _origin(lineage: Lineage) -> Iterator[str]:
    origin = lineage.origin
    facts = [
        ("Run", f"{origin.run_name or ''} {origin.run_id or 'not known'}".strip()),
        ("By", origin.user),
        ("Code", origin.code),
        ("Commit", origin.commit),
    ]
    yield "<h2>Origin</h2><table>"
    yield from (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts if value)
    yield "</table>"
    if origin.datasets:
        yield "<h2>Data</h2><table><tr><th>Name</th><th>Digest</th><th>Source</th><th>Used for</th></tr>"
        for data in origin.datasets:
            cells = (data.name, data.digest, data.source, data.context or "")
            yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        yield "</table>"


def _tree(lineage: Lineage, towards: str, heading: str) -> Iterator[str]:
    yield f"<h2>{heading}</h2>"
    lines = list(tree(lineage, towards=towards, deepest=DEEPEST))
    for line in lines:
        note = " (shown above)" if line.again else f" ({line.more:,} more)" if line.more else ""
        yield (
            f'<div class="line" style="margin-left:{2 * (line.depth - 1)}em">{escape(title(lineage, line.name))} '
            f'<span class="relation">{escape(line.relation)}{note}</span></div>'
        )
    if not lines:
        yield '<p class="note">Nothing that this registry knows of.</p>'
