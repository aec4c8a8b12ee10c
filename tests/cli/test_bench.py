"""`bench checkpoint` measures every way on a tiny state, and says what it found as table, JSON and chart."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Outcome, the_line
from services.fixtures import fresh_url
from services.service import Service
from shardflow.flavor.measuring import course, one, report, shapes
from shardflow.flavor.measuring.ways import WAYS
from shardflow.transport import StoreURL, connect

Command = Callable[..., Outcome]

WHOLE, PACKED = (1.0, 1.2), (0.5, 0.8)
SHARES = dict.fromkeys(WAYS, PACKED) | dict.fromkeys(("torch", "torch-forced", "raw"), WHOLE)
SHARES |= {"tensorstore": (0.5, 1.2), "tensorstore-t5x": (0.5, 1.0), "incremental": (0.01, 0.1)}
"""What each way may leave on the disk, of the bytes of the state."""


@pytest.mark.parametrize("name", ["torch", "planes", "asynchronous"])
def test_a_way_goes_there_and_back_several_times(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; the processes of a measurement are shown by the next test, all ways by the one after it."""
    monkeypatch.setattr("os.sync", lambda: None)  # it would wait for all that this machine writes
    states, place = tmp_path / "states", str(tmp_path.resolve() / "place")
    states.mkdir()
    shapes.prepare(states, shapes.of_bytes(1 << 20))
    way = WAYS[name]
    place = f"shardflow://file{place}" if way.stored else place
    saved = one.saving(way, place, states, {"runs": 3})
    assert len(saved["seconds"]) == 2, "the first is a warm-up"
    assert min(saved["seconds"]) > 0
    assert saved["bytes"] > 0
    if way.loads:
        (seconds,) = one.loading(way, place, states, {"runs": 1, "cold": True})["seconds"]
        assert seconds > 0
    assert not list(tmp_path.glob("place-*"))


@pytest.mark.slow
def test_what_was_measured_is_shown(tmp_path: Path, shardflow: Command) -> None:
    out = tmp_path / "out"
    words = ("bench", "checkpoint", "--gib", "0.01", "--rounds", "1", "--directory", tmp_path, "--out", out)
    done = shardflow(*words, "--way", "planes")
    assert done.code == 0, done.err
    assert "| store, planes | " in done.out
    assert "missed" not in done.out  # nothing is held against a state this small
    assert {file.name for file in out.iterdir()} == {f"checkpoint.{ending}" for ending in ("md", "json", "png", "svg")}
    assert (out / "checkpoint.md").read_text() == done.out
    found = json.loads((out / "checkpoint.json").read_text())
    assert list(found["rows"]) == ["torch", "planes"]
    require_plausible(found)
    assert found["rows"]["torch"]["load_peak"] > 0.9 * found["bytes"], "the state itself is in it"
    assert (out / "checkpoint.png").read_bytes().startswith(b"\x89PNG")
    assert "store, planes" in (out / "checkpoint.svg").read_text()
    assert list(tmp_path.glob("shardflow-bench-*")) == []


@pytest.mark.slow
def test_every_way_is_a_row_and_stores_go_to_the_object_store_that_is_named(
    tmp_path: Path, shardflow: Command, moto: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, of a model of a given size that is much smaller here."""
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(course, "_child", lambda space, asked: one.answer({"states": str(space), **asked}))
    monkeypatch.setattr(one, "warm_up", lambda *_: None)  # nobody looks at how long it takes
    monkeypatch.setattr("os.sync", lambda: None)
    monkeypatch.setitem(shapes.NAMED, "3b", shapes.Llama(128, 352, 2, 500))
    monkeypatch.setattr(course, "RUNS", 1)
    monkeypatch.setattr(course, "RUNS_ON_S3", 1)
    url, out = fresh_url(moto), tmp_path / "out"
    words = (
        "bench",
        "checkpoint",
        "--params",
        "3b",
        "--s3",
        url,
        "--rounds",
        "1",
        "--directory",
        tmp_path,
        "--out",
        out,
    )
    done = shardflow(*words)
    assert done.code == 0, done.err
    lines = [line.split(" | ")[0].removeprefix("| ") for line in done.out.splitlines() if line.startswith("| ")]
    assert lines[1:] == [way.title for way in WAYS.values()]
    found = json.loads((out / "checkpoint.json").read_text())
    assert found["place"] == "S3"
    assert found["bytes"] == shapes.size_of(shapes.NAMED["3b"])
    assert list(found["rows"]) == list(WAYS)
    require_plausible(found)
    drawn = (out / "checkpoint.svg").read_text()
    assert all(way.title in drawn for way in WAYS.values())
    assert list(connect(StoreURL.parse(url), moto.options).list()) == [], "nothing stays there"


def require_plausible(found: dict[str, Any]) -> None:
    """That figures are in the ranges in which they can be, on a machine of any speed."""
    rows, size = found["rows"], found["bytes"]
    for name, row in rows.items():
        assert row["way"] == name
        assert all(0 < seconds < 600 for what in ("save", "load") for seconds in row[what])
        assert bool(row["load"]) == WAYS[name].loads
        low, high = SHARES[name]
        assert low * size < row["bytes"] < high * size, name
        assert 0 <= row["save_peak"] < 2 << 30
        assert not row["load"] or 0 <= row["load_peak"] < 2 << 30
    assert 0.01 < found["changed"] < 0.2
    assert found["checksums"].keys() == {"blake3", "crc32"}
    assert all(0 < seconds < 10 for seconds in found["checksums"].values())
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory_gib"] > 0


def test_what_cannot_be_measured_is_told(tmp_path: Path, shardflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "give one" in shardflow("bench", "checkpoint", "--gib", "1", "--params", "3b").err
    assert "there is no 'pickle'" in shardflow("bench", "checkpoint", "--way", "pickle").err
    assert "GB of disk" in the_line(shardflow("bench", "checkpoint", "--gib", "10000", "--directory", tmp_path))
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    failed = shardflow("bench", "checkpoint", "--gib", "0.002", "--way", "planes", "--directory", tmp_path)
    assert "torch could not be measured: it said nothing" in the_line(failed)
    assert list(tmp_path.glob("shardflow-bench-*")) == []


def rows(**seconds: tuple[float, float, int]) -> dict[str, course.Row]:
    return {
        name: course.Row(name, [save], [load], [], size, 1 << 20, 1 << 30)
        for name, (save, load, size) in seconds.items()
    }


def test_figures_are_held_against_torch_in_the_same_run() -> None:
    gib = 1 << 30
    found = course.Results(
        gib, 1, "local disk", 0.09, {"blake3": 0.2, "crc32": 0.5}, {"cores": 2, "memory_gib": 8},
        rows(torch=(1.0, 1.0, gib), planes=(0.9, 0.95, int(0.66 * gib)), incremental=(0.6, 1.0, int(0.03 * gib))),
    )  # fmt: skip
    verdicts = {(verdict.way, verdict.what): verdict.met for verdict in report.verdicts(found)}
    assert verdicts == {
        ("planes", "save"): True,
        ("planes", "load"): False,
        ("planes", "size"): True,
        ("incremental", "save"): False,
        ("incremental", "load"): True,
        ("incremental", "size"): True,
    }
    page = report.markdown(found)
    assert "| store, planes | 0.90 s | 0.95 s | 0.660 |" in page
    assert "save 1: met, load 0.9: missed, size 0.67: met" in page
    over_a_link = report.markdown(dataclasses.replace(found, place=course.ON_S3))
    assert "missed" not in over_a_link  # torch does not go that way


def test_the_shapes_are_those_of_the_models_they_are_named_after() -> None:
    assert shapes.size_of(shapes.NAMED["3b"]) / 2 == pytest.approx(3.43e9, rel=0.01)
    assert shapes.size_of(shapes.NAMED["7b"]) / 2 == pytest.approx(6.74e9, rel=0.01)
    assert shapes.size_of(shapes.of_bytes(4 << 30)) == pytest.approx(4 << 30, rel=0.03)
