"""A command whose standard input, output or errors are closed does its work, and ends as it would otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.conftest import Command


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_closed_stream_stops_no_command(
    closed: tuple[int, ...], store: Path, model: Path, shardflow: Command, process: Command
) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    outcome = process("put", model, store / "m", before=close)
    assert (outcome.code, outcome.err) == (0, "")
    assert shardflow("ls", store).out == "m/\n"
    outcome = process("put", model / "none", store / "m", before=close)
    assert outcome.code == 1
    if 2 not in closed:
        assert outcome.err.startswith("shardflow: ")
        assert outcome.err.count("\n") == 1


def test_a_closed_input_is_not_an_empty_one(store: Path, shardflow: Command, process: Command) -> None:
    outcome = process("put", "-", store / "m", before=lambda: os.close(0))
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("shardflow: ")
    assert "Traceback" not in outcome.err
    assert "unexpected" not in outcome.err
    assert shardflow("ls", store).out == ""
