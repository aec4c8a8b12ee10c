"""The figures as a table in Markdown, with what each was to reach and whether it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardflow.flavor.measuring.course import ON_S3, RUNS, RUNS_ON_S3, Results, Row
from shardflow.flavor.measuring.ways import PEER, WAYS

GIB = 1 << 30
_SAVE, _LOAD = "save", "load"
_JUDGED = 256 << 20  # smaller states show that it works, and measure how long it takes to begin


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure beside its goal; both are shares of what torch takes."""

    way: str
    what: str
    found: float
    goal: float

    @property
    def met(self) -> bool:
        """As exactly as the table shows it: a manifest of some kilobytes is not a size of more than 1.000."""
        return round(self.found, 3) <= self.goal


def verdicts(results: Results) -> list[Verdict]:
    """Every figure that there is a goal for, where torch was measured in the same run."""
    peer = results.rows.get(PEER)
    made: list[Verdict] = []
    if results.bytes < _JUDGED or results.place == ON_S3:  # torch saves to the disk there, too
        return made
    for name, row in results.rows.items():
        goal = WAYS[name].goal
        wanted = {_SAVE: goal.save, _LOAD: goal.load}
        for what, most in wanted.items():
            found = share(row, peer, what)
            if found is not None and most is not None:
                made.append(Verdict(name, what, found, most))
        if goal.size is not None and row.save:
            made.append(Verdict(name, "size", row.bytes / results.bytes, goal.size))
    return made


def share(row: Row, peer: Row | None, what: str) -> float | None:
    """A median as a share of torch's."""
    own, others = row.median(what), peer.median(what) if peer else None
    return own / others if own is not None and others else None


def markdown(results: Results) -> str:
    """The whole page."""
    lines = [
        f"## Checkpoints of {results.bytes / GIB:.2f} GiB of bfloat16, {results.place}",
        "",
        "| | save | load | "
        + ("load, cold | " if _cold(results) else "")
        + "size | memory: save, load | save and load of torch's | goals |",
        "|---|--:|--:|" + ("--:|" if _cold(results) else "") + "--:|--:|--:|---|",
        *(_line(results, row) for row in results.rows.values()),
        "",
        *_notes(results),
    ]
    return "\n".join(lines) + "\n"


def _line(results: Results, row: Row) -> str:
    peer = results.rows.get(PEER)
    cells = [WAYS[row.way].title, _seconds(row, _SAVE), _seconds(row, _LOAD)]
    if _cold(results):
        cells.append(_seconds(row, "load_cold"))
    cells.append(f"{row.bytes / results.bytes:.3f}" if row.save else "")
    cells.append(f"{_gib(row.save_peak)}, {_gib(row.load_peak)}")
    shares = [share(row, peer, what) for what in (_SAVE, _LOAD)]
    cells.append(", ".join("" if found is None else f"{found:.2f}" for found in shares).strip(", "))
    cells.append(_judged(results, row))
    return f"| {' | '.join(cells)} |"


def _judged(results: Results, row: Row) -> str:
    own = [verdict for verdict in verdicts(results) if verdict.way == row.way]
    return ", ".join(f"{found.what} {found.goal:g}: {'met' if found.met else 'missed'}" for found in own)


def _seconds(row: Row, what: str) -> str:
    values: list[float] = getattr(row, what)
    if not values:
        return ""
    around = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{row.median(what):.2f} s{around}"


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{max(0, count) / GIB:.2f} GiB"


def _cold(results: Results) -> bool:
    return any(row.load_cold for row in results.rows.values())


def _notes(results: Results) -> Iterator[str]:
    about = results.machine
    libraries = ", ".join(f"{name} {about[name]}" for name in ("python", "torch", "tensorstore") if name in about)
    once = " and ".join(WAYS[name].title for name in results.rows if WAYS[name].slow)
    cold = " and from one that was dropped" if _cold(results) else ""
    timed = (RUNS_ON_S3 if results.place == ON_S3 else RUNS) - 1
    yield f"{about['cores']} cores, {about['memory_gib']} GiB, {libraries}. Medians of {results.rounds} rounds, in"
    yield f"turns. Each is a process of its own that does the same {timed + 1} times, of which {timed} count"
    yield f"{f' ({once}: once, after a small state)' if once else ''}; the first says what memory it took. Loads"
    yield f"are from a warm page cache{cold};"
    yield "saves go to a page cache with room. Stores force what they write to the disk; torch.save does not, unless"
    yield "its line says so. All that is loaded is compared bit by bit. Memory is what there was beyond what was there"
    yield f"before: for a load the state is among it. Of the weights, {results.changed:.1%} change from a step to the"
    yield "one 10 steps on."
    rates = {name: results.bytes / GIB / seconds for name, seconds in results.checksums.items()}
    yield (
        f"Checksums alone: BLAKE3 of all bytes {results.checksums['blake3']:.2f} s ({rates['blake3']:.1f} GiB/s), "
        f"torch's CRC-32 {results.checksums['crc32']:.2f} s ({rates['crc32']:.1f} GiB/s)."
    )
