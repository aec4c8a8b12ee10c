"""The benchmarks' measuring code, and that each benchmark runs: never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_rivals_take_turns_at_going_first_and_warm_ups_are_dropped() -> None:
    from harness.running import alternated

    order: list[str] = []

    def rival(name: str, number: int) -> int:
        order.append(name)
        return number

    results = alternated({"a": lambda n: rival("a", n), "b": lambda n: rival("b", n)}, 3, warm_up=1)
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert results == {"a": [1, 2, 3], "b": [1, 2, 3]}


def test_ratios_are_taken_pair_by_pair() -> None:
    from harness.figures import ratios

    assert ratios([10.0, 1.0, 4.0], [5.0, 1.0, 1.0]).median == 2.0


def test_a_goal_is_told_and_fails_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.figures import Figure, Report, at_least

    report = Report("speed", "Speed", {"bytes": 1})
    report.add(Figure("put", "0.9 times", goal=at_least(0.9, 1.0, "the peer's speed"), raw={"ratio": 0.9}))
    report.show()
    report.write(tmp_path / "new" / "speed.json")
    assert "missed" in capsys.readouterr().out
    written = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert written["figures"][0]["goal"] == {"text": "at least the peer's speed", "met": False}
    assert written["figures"][0]["raw"] == {"ratio": 0.9}


def test_tiny_runs_are_held_against_no_goal() -> None:
    from harness.figures import Figure, Report, at_most

    report = Report("speed", "Speed", {}, judged=False)
    report.add(Figure("put", "2 s", goal=at_most(2, 1, "1 s")))
    assert report.figures[0].goal is None


def test_reports_name_no_machine() -> None:
    import platform

    from harness import machine

    about = machine.described()
    assert platform.node() not in machine.line(about).split()
    assert not any(isinstance(value, str) and "/" in value for value in about.values())


def test_a_childs_peak_is_its_own_and_not_its_parents() -> None:
    from harness.child import finished

    held = bytearray(200 << 20)
    held[:: 4 << 10] = b"x" * len(held[:: 4 << 10])
    code = "from harness.tasks import peak_bytes; print(peak_bytes())"
    said = finished([sys.executable, "-c", code], {"PYTHONPATH": str(BENCHMARKS)})
    assert 0 < int(said.output) < 100 << 20


def test_a_process_is_killed_when_its_time_is_up_and_not_when_it_was_quicker() -> None:
    from harness.child import killed_after

    slow = killed_after(0.2, [sys.executable, "-c", "import time; time.sleep(60)"], {})
    quick = killed_after(30.0, [sys.executable, "-c", "print('done')"], {})
    assert (slow.killed, slow.seconds < 30) == (True, True)
    assert (quick.killed, quick.output) == (False, "done\n")


def test_a_failing_child_ends_the_benchmark() -> None:
    from harness.child import ChildFailed, finished

    with pytest.raises(ChildFailed, match="no such thing"):
        finished([sys.executable, "-c", "raise SystemExit('no such thing')"], {})


def test_noise_is_the_same_for_a_seed_and_does_not_compress(tmp_path: Path) -> None:
    import zlib

    from harness import material

    first = material.random_file(tmp_path / "first", 300_001, seed=5).read_bytes()
    assert first == material.random_file(tmp_path / "second", 300_001, seed=5).read_bytes()
    assert first != material.random_file(tmp_path / "third", 300_001, seed=6).read_bytes()
    assert len(first) == 300_001
    assert len(zlib.compress(first)) > 300_000


def test_an_insertion_moves_everything_behind_it(tmp_path: Path) -> None:
    from harness import material

    source = material.random_file(tmp_path / "source", 40 << 20)
    changed = material.with_insertion(source, tmp_path / "changed", 17 << 20, b"inserted").read_bytes()
    data = source.read_bytes()
    assert changed == data[: 17 << 20] + b"inserted" + data[17 << 20 :]


def test_small_files_are_as_many_and_as_large_as_asked(tmp_path: Path) -> None:
    from harness import material

    total = material.small_files(tmp_path / "many", 200, 100, 10_000)
    sizes = [path.stat().st_size for path in (tmp_path / "many").iterdir()]
    assert (len(sizes), sum(sizes)) == (200, total)
    assert min(sizes) >= 100
    assert max(sizes) <= 10_000


def test_the_workspace_is_gone_also_after_a_failure(tmp_path: Path) -> None:
    from harness.material import random_file
    from harness.places import workspace

    with pytest.raises(SystemExit, match="of disk"), workspace(1 << 60, tmp_path):
        pass
    with pytest.raises(FileNotFoundError), workspace(1, tmp_path) as space:
        random_file(space.path("file"), 10).rename(space.path("no/such/place"))
    assert list(tmp_path.iterdir()) == []


def test_kills_are_spread_over_the_whole_run() -> None:
    from resume import moments

    assert [int(fraction * 20) for fraction in moments(20, seed=3)] == list(range(20))
    assert moments(20, seed=3) != moments(20, seed=4)


def test_blocks_of_a_fixed_size_are_stored_once(tmp_path: Path) -> None:
    from versions import FIXED_BLOCK, FixedBlocks

    (tmp_path / "file").write_bytes(bytes(2 * FIXED_BLOCK) + b"x" * 10)
    blocks = FixedBlocks()
    blocks.add(tmp_path / "file")
    blocks.add(tmp_path / "file")
    assert blocks.stored == FIXED_BLOCK + 10


def test_the_table_for_the_readme_holds_every_figure() -> None:
    from dataclasses import asdict

    from harness import markdown
    from harness.figures import Figure, Report, at_most

    report = Report("memory", "Peak memory", {})
    report.figures.append(Figure("put 8 GiB", "400 MiB", "1 GiB: 395 MiB", at_most(1.0, 1.1, "1.1 times")))
    codec = {"case": "bf16", "kernels": "numba", "codec": "PLANES", "fraction": 0.6651, "encode_gb_s": 1.0}
    codecs = {"results": [codec | {"decode_gb_s": 2.5}, codec | {"kernels": "numpy", "decode_gb_s": 0.1}]}
    page = markdown.page({"memory": asdict(report), "codec_speed": codecs})
    assert "| put 8 GiB | 400 MiB | 1 GiB: 395 MiB | at most 1.1 times: met |" in page
    assert page.count("| bf16 |") == 1
    assert "| bf16 | planes | 0.665 | 1.00 | 2.50 |" in page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resume", "link", "s3_transfer", "memory", "versions", "small_files"])
def test_every_benchmark_runs(name: str, tmp_path: Path) -> None:
    results, data = tmp_path / "result.json", tmp_path / "data"
    data.mkdir()
    script = str(BENCHMARKS / f"{name}.py")
    subprocess.run([sys.executable, script, "--small", "--json", str(results), "--directory", str(data)], check=True)
    report = json.loads(results.read_text())
    assert report["name"] == name
    assert report["figures"]
    assert list(data.iterdir()) == []
