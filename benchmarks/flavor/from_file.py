"""Logs a checkpoint that lies on the disk, in a process of its own, and says what memory that took.

    python benchmarks/flavor/from_file.py PARAMETERS     answers with one line of JSON

A checkpoint of torch is mapped into memory: its pages are the kernel's copy of the file, which it drops when somebody
else needs the room, and they count in what the process has resident. So two peaks are told: all that was resident, and
the memory that is the process's own, read from the kernel every few milliseconds.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import models
from rivals import REQUIREMENTS, measured, status

from shardflow import flavor

EVERY = 0.005  # seconds between two looks


def main() -> None:
    asked = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    mlflow.set_tracking_uri(asked["tracking"])
    mlflow.set_experiment(asked["experiment"])
    flavor.log_model(models.tiny_module(), name="tiny", pip_requirements=REQUIREMENTS)
    print(json.dumps(logged(asked)))


def logged(asked: Mapping[str, Any]) -> dict[str, Any]:
    def work() -> str:
        return str(flavor.log_model(Path(asked["file"]), name="model", pip_requirements=REQUIREMENTS).model_uri)

    own: list[int] = []
    found = watched(lambda: measured(work), own)
    return found | {"own_peak_bytes": max(own) - own[0]}


def watched(work: Callable[[], dict[str, Any]], own: list[int]) -> dict[str, Any]:
    """Do the work; `own` gets what memory was the process's own, from before it began."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            own.append(status("RssAnon"))

    own.append(status("RssAnon"))
    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        return work()
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    main()
