"""A process that promotes a version and is killed in the midst of it: `python -m registry.dying URI`.

For each number that it reads it makes a copy of itself, which dies by SIGKILL right before its so-manieth statement,
the commit counted as one. It answers "killed", or "done" where there were fewer.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from mlflow.entities.model_registry import ModelVersionTag
from sqlalchemy import Engine, event

from registry.opened import Registry, opened

DONE = 0


def at_statement(engine: Engine, number: int, act: Callable[[Any], None]) -> None:
    """Do something with the connection right before one statement, or before the commit."""
    count = 0

    def before(connection: Any, *_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            act(connection)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "commit", before)


def main(uri: str) -> None:
    with opened(uri) as registry:
        registry.register("rehearsal")  # each copy would have to compile the same statements otherwise
        registry.promote("rehearsal", 1, "staging", "production")
        print("ready", flush=True)
        for line in sys.stdin:
            registry.store.engine.dispose()  # no copy has a connection of another
            child = os.fork()
            if child == 0:
                promote(registry, int(line))
                os._exit(DONE)
            _, status = os.waitpid(child, 0)
            print("done" if status == DONE else "killed", flush=True)


def promote(registry: Registry, statement: int) -> None:
    at_statement(registry.store.engine, statement, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    registry.store.set_model_version_tag("llama", 2, ModelVersionTag("shardflow.status", "production"))


if __name__ == "__main__":
    main(sys.argv[1])
