"""The figures of all benchmarks as Markdown, ready to be pasted into the README."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness import machine


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A table for each benchmark, and what they were measured on."""
    parts = []
    about: dict[str, Any] = {}
    for report in reports.values():
        if "figures" in report:
            parts.append(f"**{report['title']}**\n\n{_figures(report['figures'])}")
            about |= report["about"]
        elif "results" in report:
            parts.append(f"**Codecs, one core, chunks of 4 MiB**\n\n{_codecs(report['results'])}")
    if about:
        parts.append(f"Measured on {machine.line(about)}.")
    return "\n\n".join(parts) + "\n"


def _figures(figures: Iterable[Mapping[str, Any]]) -> str:
    rows = [[figure["what"], figure["ours"], figure["peer"], _verdict(figure["goal"])] for figure in figures]
    return _table(["", "Shardflow", "beside it", "goal"], rows)


def _codecs(results: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [
            result["case"],
            result["codec"].lower(),
            f"{result['fraction']:.3f}",
            f"{result['encode_gb_s']:.2f}",
            f"{result['decode_gb_s']:.2f}",
        ]
        for result in results
        if result["kernels"] == "numba"
    ]
    return _table(["data", "codec", "stored / plain", "encode GB/s", "decode GB/s"], rows)


def _verdict(goal: Mapping[str, Any] | None) -> str:
    return f"{goal['text']}: {'met' if goal['met'] else 'missed'}" if goal else ""


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
