"""Bad input: a clear line on stderr, the right exit code, nothing on stdout, and never a traceback."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
from pathlib import Path

import click
import pytest

from cli.conftest import WEIGHTS_BYTES, Command, the_line, without_root_rights
from shardflow.cli.app import SECTIONS, commands
from shardflow.transport import RetryPolicy

COMMANDS = [name for names in SECTIONS.values() for name in names]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("shardflow:///data", "names no backend"),
        ("shardflow:/data", "names no backend"),
        ("shardflow://ftp/data", "is not a backend"),
        ("git+shardflow://file/data", "has a '+' in it"),
        ("shardflow+s3://bucket/x", "has a '+' in it"),
        ("s3://bucket/x", "write shardflow://s3/bucket/x"),
        ("shardflow://user:secret@s3/bucket", "holds no credentials"),
        ("shardflow://file/data/../etc", "'..'"),
        ("shardflow://s3/", "names no bucket"),
        ("", "empty URL"),
    ],
)
def test_a_wrong_url_is_a_usage_error_that_shows_the_right_form(shardflow: Command, url: str, says: str) -> None:
    outcome = shardflow("ls", url)
    assert outcome.code == 2
    assert says in the_line(outcome)
    assert "secret" not in outcome.err


@pytest.mark.parametrize(
    "line", [("put", "FILE", "URL"), ("get", "URL", "OUT"), ("ls", "URL"), ("stat", "URL"), ("rm", "URL")]
)
def test_a_missing_store_is_told_with_the_command_that_makes_one(
    tmp_path: Path, shardflow: Command, line: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("x")
    names = {"FILE": tmp_path / "file", "URL": tmp_path / "none", "OUT": tmp_path / "out"}
    outcome = shardflow(*(names.get(word, word) for word in line))
    assert outcome.code == 1
    assert "there is no store at" in the_line(outcome)
    assert "shardflow init" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_store_is_not_made_twice(store: Path, shardflow: Command) -> None:
    outcome = shardflow("init", store)
    assert outcome.code == 1
    assert "there is a store at" in the_line(outcome)


@pytest.mark.parametrize("command", ["get", "stat", "ls", "rm"])
def test_a_path_that_is_not_stored_is_named(tmp_path: Path, filled: Path, shardflow: Command, command: str) -> None:
    outcome = shardflow(command, filled / "m/v9", *([tmp_path / "out"] if command == "get" else []))
    assert outcome.code == 1
    assert f"{filled}/m/v9 does not exist" in the_line(outcome)


def test_a_source_that_does_not_exist_is_named(tmp_path: Path, store: Path, shardflow: Command) -> None:
    outcome = shardflow("put", tmp_path / "nothing", store)
    assert outcome.code == 1
    assert "nothing does not exist" in the_line(outcome)


def test_a_source_that_may_not_be_read_is_named(tmp_path: Path, store: Path, process: Command) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"x" * 100_000)
    secret.chmod(0)
    outcome = process("put", secret, store, before=without_root_rights)
    assert outcome.code == 1
    assert "secret.bin cannot be read: Permission denied" in the_line(outcome)


def test_a_store_that_may_not_be_written_is_told(tmp_path: Path, store: Path, model: Path, process: Command) -> None:
    directories = [store, *(path for path in store.rglob("*") if path.is_dir())]
    for directory in directories:
        directory.chmod(0o555)
    outcome = process("put", model, store / "m", before=without_root_rights)
    for directory in directories:
        directory.chmod(0o755)
    assert outcome.code == 1
    assert "make the directory writable" in the_line(outcome)


def test_a_target_that_may_not_be_written_is_told(tmp_path: Path, filled: Path, process: Command) -> None:
    place = tmp_path / "kept"
    place.mkdir(mode=0o555)
    outcome = process("get", filled / "m/v1/config.json", place / "out", before=without_root_rights)
    assert outcome.code == 1
    assert "choose another target" in the_line(outcome)


def small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


def test_no_space_for_a_put_is_told_and_what_was_there_stays(
    filled: Path, model: Path, shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def write_on_a_full_disk(fd: int, data: memoryview) -> int:
        if len(data) > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    (model / "weights.bin").write_bytes(os.urandom(1 << 20))
    monkeypatch.setattr(os, "write", write_on_a_full_disk)
    outcome = shardflow("put", model / "weights.bin", filled / "m/v1")
    monkeypatch.undo()
    assert outcome.code == 1
    assert "no space left" in the_line(outcome)
    assert shardflow("stat", filled / "m/v1/weights.bin", "--json").document["size"] == WEIGHTS_BYTES


def test_a_limit_on_file_sizes_is_told_as_what_it_is(
    tmp_path: Path, store: Path, process: Command, shardflow: Command
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(1 << 20))
    # Compiled loops are cached in files too, which the limit would spoil.
    outcome = process("put", big, store, before=small_files_only, SHARDFLOW_KERNELS="numpy")
    assert outcome.code == 1
    assert "ulimit -f" in the_line(outcome)
    assert shardflow("ls", store).out == ""


def test_a_get_of_more_than_a_limit_allows_is_told_and_leaves_no_file_behind(
    tmp_path: Path, filled: Path, process: Command
) -> None:
    out = tmp_path / "out" / "weights.bin"
    outcome = process("get", filled / "m/v1/weights.bin", out, before=small_files_only, SHARDFLOW_KERNELS="numpy")
    assert outcome.code == 1
    assert "too large a file; the disk or a limit (ulimit -f)" in the_line(outcome)
    assert not out.exists()


def test_a_damaged_pack_is_refused_and_named(tmp_path: Path, filled: Path, shardflow: Command) -> None:
    (pack,) = (path for path in (filled / "packs").rglob("*") if path.is_file())
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    outcome = shardflow("get", filled / "m/v1", tmp_path / "out")
    assert outcome.code == 1
    line = the_line(outcome)
    assert "m/v1/weights.bin" in line
    assert pack.name[:16] in line
    assert not (tmp_path / "out" / "weights.bin").exists()


def test_a_store_of_a_later_format_is_refused(store: Path, shardflow: Command) -> None:
    config = store / "shardflow.json"
    config.write_text(config.read_text().replace('"format": 1', '"format": 99'))
    outcome = shardflow("put", config, store / "x")
    assert outcome.code == 1
    assert "upgrade Shardflow" in the_line(outcome)


def test_a_server_that_refuses_connections_is_told_with_what_to_do(
    shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardflow.transport.transport.RetryPolicy", lambda: RetryPolicy(attempts=2))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = shardflow(
            "ls", "shardflow://s3/bucket/x", "-o", f"endpoint=http://127.0.0.1:{port}",
            "-o", "access_key_id=a", "-o", "secret_access_key=b", "-o", "region=us-east-1",
        )  # fmt: skip
    assert outcome.code == 1
    assert "connection refused (tried 2 times" in the_line(outcome)


def test_a_password_that_another_program_tells_is_not_repeated(
    shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow tells the address it was given, and its user and password with it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    outcome = shardflow("history", "model/1")
    assert outcome.code == 1
    assert "http://127.0.0.1:1/api" in the_line(outcome)
    assert "hunter2" not in outcome.err


def test_debug_shows_no_password_either(shardflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardflow.transport.transport.RetryPolicy", lambda: RetryPolicy(attempts=1))
    keys = ("-o", "access_key_id=a", "-o", "secret_access_key=b", "-o", "region=us-east-1")
    outcome = shardflow("ls", "shardflow://s3/b", "--debug", "-o", "endpoint=http://me:hunter2@127.0.0.1:1", *keys)
    assert "Traceback" in outcome.err
    assert "connection refused" in outcome.err.splitlines()[-1]
    assert "hunter2" not in outcome.err


def test_an_unknown_backend_option_is_named(shardflow: Command) -> None:
    keys = ("-o", "access_key_id=a", "-o", "secret_access_key=b")
    outcome = shardflow("ls", "shardflow://s3/bucket/x", *keys, "-o", "no_such_setting=1")
    assert outcome.code == 1
    assert "no_such_setting" in the_line(outcome)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("put", "only-one"), "missing argument 'URL'; see 'shardflow put --help'"),
        (("ls", "x", "--loud"), "no such option"),
        (("paint",), "no such command"),
        (("init", "x", "--pack-size", "huge"), "'huge' is not a size"),
        (("init", "x", "--pack-size", "1k"), "pack_bytes must lie between"),
        (("ls", "x", "-o", "endpoint"), "not of the form key=value"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(shardflow: Command, line: tuple[str, ...], says: str) -> None:
    outcome = shardflow(*line)
    assert outcome.code == 2
    assert says in the_line(outcome)


@pytest.mark.parametrize("command", ["fsck", "gc", "repack", "rebuild", "stats"])
def test_care_without_a_store_says_how_to_name_one(shardflow: Command, command: str) -> None:
    outcome = shardflow(command)
    assert outcome.code == 2
    assert "give its URL, or set SHARDFLOW_STORE" in the_line(outcome)


def test_debug_shows_where_an_error_came_from(tmp_path: Path, shardflow: Command) -> None:
    outcome = shardflow("ls", tmp_path / "none", "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("shardflow: there is no store")


def test_a_fault_of_the_program_is_one_line_too(shardflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shardflow.store.store", None)
    outcome = shardflow("ls", "x")
    assert outcome.code == 1
    assert "run it again with --debug" in the_line(outcome)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_teaches_with_an_example(shardflow: Command, command: str) -> None:
    outcome = shardflow(command, "--help")
    assert outcome.code == 0
    assert "Example" in outcome.out
    assert f"shardflow {command}" in outcome.out


def test_help_lists_every_command(shardflow: Command) -> None:
    outcome = shardflow("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in outcome.out


def test_no_command_at_all_shows_the_help_and_fails(shardflow: Command) -> None:
    outcome = shardflow()
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: shardflow" in outcome.err


@pytest.mark.parametrize(
    ("command", "lacking"),
    [
        (["history", "llama"], "mlflow"),
        (["promote", "llama/1", "staging"], "mlflow"),
        (["publish", ".", "--name", "llama"], "mlflow"),
        (["sign", "llama/1"], "model_signing"),
    ],
)
def test_a_command_about_registered_models_says_what_to_install(
    tmp_path: Path, process: Command, command: list[str], lacking: str
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / f"{lacking}.py").write_text(f"raise ModuleNotFoundError('none', name='{lacking}')")
    outcome = process(*command, PYTHONPATH=str(tmp_path / "bare"))
    assert outcome.code == 1
    assert the_line(outcome).endswith(f"needs {lacking}, which is not installed; pip install 'shardflow[registry]'")


def test_every_command_takes_the_option_that_an_unexpected_error_names() -> None:
    def lacking(command: click.Command, name: str) -> list[str]:
        if isinstance(command, click.Group):
            return [each for one, found in command.commands.items() for each in lacking(found, f"{name} {one}")]
        return [] if any("--debug" in option.opts for option in command.params) else [name]

    context = click.Context(commands)
    found = [commands.get_command(context, name) for name in COMMANDS]
    assert [each for one, name in zip(found, COMMANDS, strict=True) if one for each in lacking(one, name)] == []
