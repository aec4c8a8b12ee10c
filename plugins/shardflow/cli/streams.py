"""Standard input, output and errors where whoever started the process had closed them."""

from __future__ import annotations

import os
import sys


def open_missing_streams() -> None:
    """What is written to a closed stream goes nowhere; reading from one fails, since no input is not an empty one."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # gets the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, errors="backslashreplace", closefd=False))  # noqa: SIM115
