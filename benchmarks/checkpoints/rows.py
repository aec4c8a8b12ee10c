"""What `shardflow bench checkpoint` measured as figures beside torch's, each with the goal it is held against."""

from __future__ import annotations

from collections.abc import Iterator

from harness.figures import Figure, Goal, Spread, at_least, size
from shardflow.flavor.measuring.course import ON_S3, Results, Row
from shardflow.flavor.measuring.report import share, verdicts
from shardflow.flavor.measuring.ways import PEER, WAYS

TIMED = {"save": "save", "load": "load", "load_cold": "load from a cold page cache"}
FASTER = 1.35  # planes beside raw, where bytes are what takes the time


def figures(results: Results, link: float) -> Iterator[Figure]:
    """All of a table, and then planes beside raw; `link` tells how many GB/s there are to S3."""
    for row in results.rows.values():
        for what in TIMED:
            if row.median(what) is not None:
                yield timed(results, row, what)
        yield sized(results, row)
    yield from fewer_bytes(results, link)


def timed(results: Results, row: Row, what: str) -> Figure:
    own, peer = Spread.of(getattr(row, what)), results.rows.get(PEER)
    text, beside = own.seconds(), ""
    ratio = share(row, peer, what)
    if peer is not None and ratio is not None and row.way != PEER:
        text = f"{text}; {ratio:.2f} times torch's"
        beside = f"torch: {Spread.of(getattr(peer, what)).seconds()}"
    return Figure(named(results, row, TIMED[what]), text, beside, goal(results, row, what), {"seconds": own.as_dict()})


def sized(results: Results, row: Row) -> Figure:
    text = f"{row.bytes / results.bytes:.3f} of the state"
    if row.save_peak is not None and row.load_peak is not None:
        text += f"; memory {size(row.save_peak)} to save, {size(row.load_peak)} to load"
    raw = {"bytes": row.bytes, "save_peak": row.save_peak, "load_peak": row.load_peak}
    return Figure(named(results, row, "size"), text, "", goal(results, row, "size"), raw)


def fewer_bytes(results: Results, link: float) -> Iterator[Figure]:
    """Where reading or sending is what takes the time, fewer bytes must show as less of it."""
    planes, raw = results.rows.get("planes"), results.rows.get("raw")
    if planes is None or raw is None:
        return
    for what in ("save", "load") if results.place == ON_S3 else ("load_cold",):
        ours, others = planes.median(what), raw.median(what)
        if ours and others:
            where = f"S3 over {link:g} GB/s" if results.place == ON_S3 else results.place
            yield Figure(
                f"{TIMED[what]}, planes beside raw, {size(results.bytes)}, {where}",
                f"{others / ours:.2f} times as fast",
                f"raw: {others:.2f} s",
                at_least(others / ours, FASTER, f"{FASTER:g} times"),
                {"speed": others / ours},
            )


def goal(results: Results, row: Row, what: str) -> Goal | None:
    found = (verdict for verdict in verdicts(results) if (verdict.way, verdict.what) == (row.way, what))
    whose = "of the state" if what == "size" else "times torch's"
    return next((Goal(f"at most {verdict.goal:g} {whose}", verdict.met) for verdict in found), None)


def named(results: Results, row: Row, what: str) -> str:
    return f"{WAYS[row.way].title}: {what}, {size(results.bytes)}, {results.place}"
