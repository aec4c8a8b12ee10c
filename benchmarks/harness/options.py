"""The options that all benchmarks take."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
SMALL = "--small"


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """A parser with what every benchmark understands."""
    made = argparse.ArgumentParser(description=about.splitlines()[0])
    made.add_argument(SMALL, action="store_true", help="tiny sizes: shows that it works, measures nothing")
    made.add_argument(
        "--json", type=Path, default=RESULTS / f"{name}.json", help="write the figures here (default: %(default)s)"
    )
    made.add_argument(
        "--directory", type=Path, help="where to put data (default: the system's place for temporary files)"
    )
    return made


def is_measured() -> bool:
    """Whether this process was started to measure, and not only to show that it works."""
    return SMALL not in sys.argv


def add_server(made: argparse.ArgumentParser) -> None:
    """For benchmarks that need an S3 server."""
    made.add_argument(
        "--server",
        choices=("auto", "ceph", "moto"),
        default="auto",
        help="Ceph's gateway is a real object store; moto only shows that it works (default: Ceph where installed)",
    )
