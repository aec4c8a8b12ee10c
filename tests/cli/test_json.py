"""What programs read: exact figures under names that stay."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Command

TRAFFIC = {"bytes_sent", "bytes_received", "objects_written", "objects_deleted", "reads", "retries"}
WORK = {"files", "files_unchanged", "bytes", "bytes_reused", "bytes_on_bases", "packs_sent", "seconds", "url"} | TRAFFIC


def test_init_tells_the_store_and_its_settings(tmp_path: Path, shardflow: Command) -> None:
    made = shardflow("init", tmp_path / "s", "--json").document
    assert set(made) == {"url", "id", "settings"}
    assert made["url"] == f"shardflow://file{tmp_path}/s"
    assert made["settings"]["pack_bytes"] == 32 << 20


def test_put_tells_files_and_bytes_reused_and_sent(store: Path, model: Path, shardflow: Command) -> None:
    first = shardflow("put", model, store / "v1", "--json").document
    again = shardflow("put", model, store / "v2", "--json").document
    assert set(first) == WORK
    assert (first["files"], first["bytes"], first["packs_sent"]) == (3, 1_560_607, 1)
    assert first["bytes_sent"] > 1 << 20
    assert again["bytes_reused"] == 1_560_576
    assert again["bytes_sent"] < 20_000


def test_get_tells_what_it_wrote_where(tmp_path: Path, filled: Path, shardflow: Command) -> None:
    got = shardflow("get", filled / "m/v1", tmp_path / "back", "--json").document
    assert set(got) == WORK | {"path"}
    assert (got["path"], got["files"], got["bytes"]) == (str(tmp_path / "back"), 3, 1_560_607)


def test_ls_has_one_object_a_line_with_urls_that_work(filled: Path, shardflow: Command) -> None:
    plain = shardflow("ls", filled / "m/v1", "--json").documents
    assert [(one["path"], one["kind"]) for one in plain] == [
        ("m/v1/config.json", "file"),
        ("m/v1/inner", "directory"),
        ("m/v1/weights.bin", "file"),
    ]
    detailed = shardflow("ls", "-lr", filled, "--json").documents
    assert [one["size"] for one in detailed] == [13, 18, 1_560_576]
    for one in detailed:
        stat = shardflow("stat", one["url"], "--json").document
        assert (stat["path"], stat["size"], stat["digest"]) == (one["path"], one["size"], one["digest"])


def test_stat_tells_everything_in_exact_numbers(filled: Path, shardflow: Command) -> None:
    stat = shardflow("stat", filled / "m/v1/weights.bin", "--json").document
    assert set(stat) == {
        "path", "kind", "files", "size", "chunks", "packs", "stored", "codecs", "layout", "digest", "created", "url",
    }  # fmt: skip
    assert stat["size"] == 1_560_576
    assert sum(stat["codecs"].values()) == stat["chunks"]


def test_rm_tells_how_many_files_went(filled: Path, shardflow: Command) -> None:
    removed = shardflow("rm", "-r", filled / "m", "--json").document
    assert removed == {"url": f"shardflow://file{filled}/m", "files": 3}


def test_a_file_on_stdout_leaves_no_room_for_json(filled: Path, shardflow: Command) -> None:
    outcome = shardflow("get", filled / "m/v1/config.json", "-", "--json")
    assert (outcome.code, outcome.out) == (2, "")


def test_errors_are_lines_on_stderr_with_json_too(store: Path, shardflow: Command) -> None:
    outcome = shardflow("stat", store / "nothing", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("shardflow: ")
