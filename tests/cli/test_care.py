"""fsck, gc, repack, rebuild, stats and doctor, as a user types them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.conftest import Command, files_of


def packs(store: Path) -> list[Path]:
    return [path for path in (store / "packs").rglob("*") if path.is_file()]


def damage(pack: Path) -> None:
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)


@pytest.fixture
def unused(filled: Path, shardflow: Command) -> Path:
    """A store with one pack that nothing needs."""
    assert shardflow("rm", "-r", filled / "m").code == 0
    return filled


def test_fsck_of_a_sound_store_says_so(filled: Path, shardflow: Command) -> None:
    outcome = shardflow("fsck", filled)
    assert outcome.code == 0
    assert outcome.out.startswith("sound: 3 files, 1 pack (1.")
    assert "1 pack never verified by reading: use --read-data" in outcome.out


def test_fsck_that_reads_data_remembers_what_it_verified(filled: Path, shardflow: Command) -> None:
    read = shardflow("fsck", filled, "--read-data", "--max-time", "1m")
    assert read.code == 0
    assert "1 pack (1.5 MiB) read and verified" in read.out
    assert "last verified" in shardflow("fsck", filled).out


def test_fsck_names_what_is_damaged_and_fails(filled: Path, shardflow: Command) -> None:
    (pack,) = packs(filled)
    damage(pack)
    assert shardflow("fsck", filled).code == 0  # the structure is whole: only reading shows it
    outcome = shardflow("fsck", filled, "--sample", "100%")
    assert outcome.code == 1
    assert f"pack {pack.name[:16]} " in outcome.out
    assert "m/v1/weights.bin lacks" in outcome.out
    assert "NOT SOUND" in outcome.out


def test_quiet_fsck_tells_problems_only(filled: Path, shardflow: Command) -> None:
    assert shardflow("fsck", filled, "-q").out == ""
    packs(filled)[0].unlink()
    outcome = shardflow("fsck", filled, "-q")
    assert outcome.code == 1
    assert [line.split(" ")[0] for line in outcome.out.splitlines()] == ["pack", "m/v1/weights.bin"]


def test_repair_and_a_new_put_make_a_damaged_store_sound(
    tmp_path: Path, filled: Path, model: Path, shardflow: Command
) -> None:
    damage(packs(filled)[0])
    repaired = shardflow("fsck", filled, "--read-data", "--repair")
    assert repaired.code == 1
    assert "m/v1/weights.bin lacks" in repaired.out
    assert "put the file again" in repaired.out
    assert "moved to care/damaged" in repaired.out
    assert shardflow("put", model, filled / "m/v1").code == 0
    assert shardflow("fsck", filled, "--read-data").code == 0
    assert shardflow("get", filled / "m/v1", tmp_path / "back").code == 0
    assert files_of(tmp_path / "back") == files_of(model)


def test_fsck_as_json_is_one_document(filled: Path, shardflow: Command) -> None:
    sound = shardflow("fsck", filled, "--read-data", "--json").document
    assert (sound["ok"], sound["packs_read"], sound["problems"]) == (True, 1, [])
    packs(filled)[0].unlink()
    outcome = shardflow("fsck", filled, "--json")
    assert outcome.code == 1
    assert outcome.document["ok"] is False
    assert {problem["kind"] for problem in outcome.document["problems"]} == {"pack-missing", "chunks-lost"}


def test_a_time_limit_without_reading_data_makes_no_sense(filled: Path, shardflow: Command) -> None:
    outcome = shardflow("fsck", filled, "--max-time", "30m")
    assert outcome.code == 2
    assert "--read-data" in outcome.err


def test_gc_sets_aside_first_and_deletes_after_the_grace_period(unused: Path, shardflow: Command) -> None:
    usual = shardflow("gc", unused)
    assert usual.code == 0
    assert "unused but too new to judge" in usual.out
    assert "run it again after" in usual.out
    tried = shardflow("gc", unused, "--grace", "0", "--dry-run")
    assert "would be set aside" in tried.out
    assert "set aside, to be deleted" in shardflow("gc", unused, "--grace", "0").out
    assert len(packs(unused)) == 1
    assert "1 pack (1.5 MiB) deleted" in shardflow("gc", unused, "--grace", "0").out
    assert packs(unused) == []


def test_gc_as_json_has_exact_amounts(unused: Path, shardflow: Command) -> None:
    (pack,) = packs(unused)
    report = shardflow("gc", unused, "--dry-run", "--json").document
    assert report["dry_run"] is True
    assert report["fresh"] == {"packs": 1, "bytes": pack.stat().st_size}


def test_gc_deletes_nothing_while_a_manifest_cannot_be_read(filled: Path, shardflow: Command) -> None:
    (filled / "tree/m/v1/weights.bin").write_bytes(b"garbage")
    outcome = shardflow("gc", filled, "--grace", "0")
    assert outcome.code == 1
    assert outcome.err.startswith("shardflow: nothing was deleted, because ")
    assert len(packs(filled)) == 1


def test_repack_gathers_what_is_left_of_mostly_unneeded_packs(tmp_path: Path, store: Path, shardflow: Command) -> None:
    for name, size in (("big", 1 << 20), ("small", 100_000)):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(os.urandom(size))
    shardflow("put", tmp_path / "in", store / "d")
    shardflow("rm", store / "d/big")
    assert "1 of 1 pack would be rewritten" in shardflow("repack", store, "--dry-run").out
    done = shardflow("repack", store, "--threshold", "50%", "--json").document
    assert (done["sparse_packs"], done["packs_written"], done["manifests_rewritten"]) == (1, 1, 1)
    assert shardflow("get", store / "d/small", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "in/small").read_bytes()
    assert "nothing to do" in shardflow("repack", store).out


def test_rebuild_writes_lost_hints_again(filled: Path, shardflow: Command) -> None:
    hints = {path.relative_to(filled): path.read_bytes() for path in (filled / "hints").rglob("*") if path.is_file()}
    assert hints
    for path in hints:
        (filled / path).unlink()
    outcome = shardflow("rebuild", filled)
    assert (outcome.code, outcome.out) == (0, f"{len(hints)} hints written for 3 files\n".replace("1 hints", "1 hint"))
    assert all((filled / path).read_bytes() == data for path, data in hints.items())


def test_rebuild_fails_while_files_lack_something(filled: Path, shardflow: Command) -> None:
    packs(filled)[0].unlink()
    outcome = shardflow("rebuild", filled)
    assert outcome.code == 1
    assert "m/v1/weights.bin lacks" in outcome.out


def test_stats_count_what_is_shared_once(filled: Path, model: Path, shardflow: Command) -> None:
    shardflow("put", model, filled / "m/v2")
    out = shardflow("stats", filled).out
    assert "they hold" in out
    assert "saved by storing what is equal once" in out
    assert "by encoding" in out
    figures = shardflow("stats", filled, "--json").document
    assert figures["logical"] == 2 * 1_560_607
    assert figures["saved_by_dedup"] >= 1_560_576
    assert figures["whole"]["packs"] == 1


def test_stats_of_a_path_are_of_that_path(filled: Path, model: Path, shardflow: Command) -> None:
    shardflow("put", model, filled / "m/v2")
    figures = shardflow("stats", filled / "m/v2", "--json").document
    assert (figures["path"], figures["files"], figures["whole"]) == ("m/v2", 3, None)


def test_stats_that_are_incomplete_fail(filled: Path, shardflow: Command) -> None:
    (filled / "tree/m/v1/weights.bin").write_bytes(b"garbage")
    outcome = shardflow("stats", filled)
    assert outcome.code == 1
    assert "1 manifest could not be read" in outcome.err


@pytest.mark.parametrize("command", ["fsck", "gc", "repack", "rebuild"])
def test_care_of_a_path_in_a_store_is_refused(filled: Path, shardflow: Command, command: str) -> None:
    outcome = shardflow(command, filled / "m")
    assert outcome.code == 2
    assert f"name shardflow://file{filled}" in outcome.err


@pytest.mark.parametrize("command", ["fsck", "gc", "repack", "rebuild", "stats"])
def test_the_store_of_the_environment_is_the_default(
    filled: Path, shardflow: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("SHARDFLOW_STORE", str(filled))
    outcome = shardflow(command, "--json")
    assert outcome.code == 0
    assert outcome.document["url"] == f"shardflow://file{filled}"


def test_doctor_examines_this_machine(shardflow: Command) -> None:
    outcome = shardflow("doctor")
    assert outcome.code == 0
    assert " python " in outcome.out
    assert " cache " in outcome.out
    assert "BAD" not in outcome.out


def test_doctor_examines_a_store_too(filled: Path, shardflow: Command) -> None:
    report = shardflow("doctor", filled, "--json").document
    assert report["ok"] is True
    assert report["url"] == f"shardflow://file{filled}"
    assert {"reachable", "store", "round trip", "conditional create"} <= {one["name"] for one in report["findings"]}


def test_doctor_says_what_is_bad_and_fails(tmp_path: Path, shardflow: Command) -> None:
    outcome = shardflow("doctor", tmp_path / "none")
    assert outcome.code == 1
    assert "there is no store" in outcome.out
    quiet = shardflow("doctor", tmp_path / "none", "--quiet")
    assert quiet.code == 1
    assert [line.split()[0] for line in quiet.out.splitlines()] == ["BAD"]


def test_doctor_of_a_wrong_url_is_a_usage_error(shardflow: Command) -> None:
    assert shardflow("doctor", "shardflow:///x").code == 2
