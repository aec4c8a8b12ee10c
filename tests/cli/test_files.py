"""init, put, get, ls, stat and rm, as a user types them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.conftest import Command, files_of
from shardflow.store.store import Store


def test_init_makes_a_store_with_the_settings_it_was_given(tmp_path: Path, shardflow: Command) -> None:
    place = tmp_path / "s"
    outcome = shardflow(
        "init", place, "--pack-size", "16MiB", "--grace", "2h", "--inline-size", "1k", "--chunk-size", "1M"
    )
    assert (outcome.code, outcome.out) == (0, f"made a store at shardflow://file{place}\n")
    settings = Store.find(str(place))[0].config.settings
    assert (settings.pack_bytes, settings.chunk_bytes, settings.inline_bytes) == (16 << 20, 1 << 20, 1024)
    assert settings.gc_grace_seconds == 7200


def test_a_directory_that_was_put_comes_back_as_it_was(
    tmp_path: Path, store: Path, model: Path, shardflow: Command
) -> None:
    put = shardflow("put", model, store / "m/v1")
    assert put.code == 0
    assert put.out.startswith(f"stored 3 files, 1.5 MiB, at shardflow://file{store}/m/v1 in ")
    got = shardflow("get", store / "m/v1", tmp_path / "back")
    assert got.code == 0
    assert got.out.startswith(f"wrote 3 files, 1.5 MiB, to {tmp_path}/back in ")
    assert files_of(tmp_path / "back") == files_of(model)


def test_what_is_stored_already_is_not_sent_again(filled: Path, model: Path, shardflow: Command) -> None:
    outcome = shardflow("put", model, filled / "m/v2")
    assert outcome.code == 0
    assert "1.5 MiB were there already" in outcome.out
    assert "% saved" in outcome.out


def test_a_url_that_ends_with_a_slash_takes_a_file_under_its_own_name(
    store: Path, model: Path, shardflow: Command
) -> None:
    assert shardflow("put", model / "config.json", f"{store}/new/place/").code == 0
    assert shardflow("ls", store / "new/place").out == "config.json\n"


def test_a_stream_is_stored_under_the_path_of_the_url(store: Path, shardflow: Command) -> None:
    data = os.urandom(200_000)
    assert shardflow("put", "-", store / "piped.bin", input=data).code == 0
    assert shardflow("stat", store / "piped.bin", "--json").document["size"] == 200_000


def test_a_stream_without_a_name_is_refused(store: Path, shardflow: Command) -> None:
    outcome = shardflow("put", "-", store, input=b"data")
    assert outcome.code == 1
    assert "a stream needs a name" in outcome.err


def test_a_file_can_be_written_to_standard_output(filled: Path, model: Path, shardflow: Command) -> None:
    outcome = shardflow("get", filled / "m/v1/config.json", "-")
    assert (outcome.code, outcome.out) == (0, (model / "config.json").read_text())


def test_no_replace_takes_the_same_content_and_refuses_another(tmp_path: Path, store: Path, shardflow: Command) -> None:
    file = tmp_path / "a.txt"
    file.write_text("first")
    assert shardflow("put", file, store, "--no-replace").code == 0
    assert shardflow("put", file, store, "--no-replace").code == 0
    file.write_text("second")
    refused = shardflow("put", file, store, "--no-replace")
    assert refused.code == 1
    assert "with other content" in refused.err
    assert shardflow("get", store / "a.txt", "-").out == "first"
    assert shardflow("put", file, store).code == 0
    assert shardflow("get", store / "a.txt", "-").out == "second"


def test_ls_shows_names_as_seen_from_the_directory_listed(filled: Path, shardflow: Command) -> None:
    assert shardflow("ls", filled).out == "m/\n"
    assert shardflow("ls", filled / "m/v1").out == "config.json\ninner/\nweights.bin\n"
    assert shardflow("ls", "-r", filled / "m").out == "v1/config.json\nv1/inner/notes.txt\nv1/weights.bin\n"
    assert shardflow("ls", filled / "m/v1/config.json").out == "config.json\n"


def test_ls_long_has_sizes_in_a_column(filled: Path, shardflow: Command) -> None:
    lines = shardflow("ls", "-l", filled / "m/v1").out.splitlines()
    assert lines[0].split() == ["size", "stored", "name"]
    assert lines[1].split()[:2] == ["13", "B"]
    assert lines[2].split() == ["inner/"]
    assert lines[3].endswith("weights.bin")
    assert len({line.index(name) for line, name in zip(lines[1:], ("config", "inner", "weights"), strict=True)}) == 1


def test_stat_tells_size_storage_and_digest(filled: Path, shardflow: Command) -> None:
    out = shardflow("stat", filled / "m/v1/weights.bin").out
    assert "size       1.5 MiB (1,560,576 bytes)" in out
    assert "digest     blake3 " in out
    assert "in 1 pack (" in out
    assert "none: the content is in the manifest" in shardflow("stat", filled / "m/v1/config.json").out


def test_stat_of_a_directory_is_the_sum_of_what_is_below(filled: Path, shardflow: Command) -> None:
    assert "directory, 3 files below it" in shardflow("stat", filled / "m").out


def test_rm_takes_a_file_at_once_and_a_directory_only_when_told(filled: Path, shardflow: Command) -> None:
    assert shardflow("rm", filled / "m/v1/config.json").out.startswith("removed 1 file;")
    refused = shardflow("rm", filled / "m")
    assert refused.code == 1
    assert "--recursive" in refused.err
    assert shardflow("rm", "-r", filled / "m").out.startswith("removed 2 files;")
    assert shardflow("ls", filled).out == ""


def test_quiet_says_nothing(tmp_path: Path, model: Path, shardflow: Command) -> None:
    place = tmp_path / "s"
    for line in (
        ("init", place),
        ("put", model, place / "m"),
        ("get", place / "m", tmp_path / "b"),
        ("rm", "-r", place / "m"),
    ):
        outcome = shardflow(*line, "--quiet")
        assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_verbose_adds_the_traffic_on_stderr(filled: Path, model: Path, shardflow: Command) -> None:
    outcome = shardflow("put", model, filled / "again", "--verbose")
    assert outcome.code == 0
    assert "0 retries" in outcome.err
    assert " reads (" in outcome.err


@pytest.mark.parametrize("name", ["a b.txt", "50%.txt", "é.txt", "-dash", "a=b"])
def test_any_file_name_makes_the_round_trip(tmp_path: Path, store: Path, shardflow: Command, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text("x")
    assert shardflow("put", tmp_path / "in", store / "d").code == 0
    assert shardflow("ls", store / "d").out == f"{name}\n"
    assert shardflow("get", store / "d", tmp_path / "out").code == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == [name]


def test_a_name_with_a_line_break_is_listed_in_one_line(tmp_path: Path, store: Path, shardflow: Command) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "two\nlines").write_text("x")
    shardflow("put", tmp_path / "in", store / "d")
    assert shardflow("ls", store / "d").out == "two\\nlines\n"
    assert shardflow("ls", store / "d", "--json").document["path"] == "d/two\nlines"
