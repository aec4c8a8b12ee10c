"""What only a real process shows: progress bars, pipes that close, and how long help takes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from cli.conftest import COMMAND, Command


def on_a_terminal(*args: str | Path) -> tuple[int, str, str]:
    """Run a command whose stderr is a terminal; returns its exit code, stdout and what the terminal got."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, args)], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # how a terminal says that nobody is on the other side any more
    os.close(ours)
    out = process.stdout.read().decode() if process.stdout else ""
    process.communicate()
    return process.returncode, out, shown.decode()


def test_a_terminal_gets_a_progress_bar_and_stdout_only_the_result(store: Path, model: Path) -> None:
    code, out, shown = on_a_terminal("put", model, store / "m")
    assert code == 0
    assert out.startswith("stored 3 files")
    assert "1.5 MiB of 1.5 MiB 100 %" in shown
    assert "\x1b[?25h" in shown  # the cursor is there again


def test_quiet_keeps_a_terminal_quiet(store: Path, model: Path) -> None:
    assert on_a_terminal("put", model, store / "m", "--quiet") == (0, "", "")


def test_without_a_terminal_there_is_no_bar(store: Path, model: Path, process: Command) -> None:
    outcome = process("put", model, store / "m")
    assert (outcome.code, outcome.err) == (0, "")


def test_a_reader_that_goes_away_ends_the_command_without_a_word(filled: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "ls", "-r", str(filled)], stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_file_piped_into_a_reader_that_goes_away_ends_the_same(filled: Path) -> None:
    line = f"{' '.join(COMMAND)} get {filled}/m/v1/weights.bin - | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_help_needs_no_part_of_the_store() -> None:
    program = (
        "import sys; from shardflow.cli.app import commands, Interruption; commands.run(['--help'], Interruption()); "
        "print(sorted({'numpy', 'numba', 'obstore', 'rich', 'msgspec'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"


def test_shells_can_complete_commands(process: Command) -> None:
    script = process(_SHARDFLOW_COMPLETE="bash_source")
    assert script.code == 0
    assert "_SHARDFLOW_COMPLETE=bash_complete" in script.out
    words = process(_SHARDFLOW_COMPLETE="bash_complete", COMP_WORDS="shardflow re", COMP_CWORD="1")
    assert words.out.split() == ["plain,reshard", "plain,repack", "plain,rebuild"]
