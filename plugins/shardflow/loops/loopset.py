"""Loops by name, each for a width of words: loaded where its machine code is kept, or else compiled and kept."""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from shardflow.loops import keeping
from shardflow.loops.signatures import entered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shardflow.loops.signatures import Loop, Signature

_COMPILER = "shardflow.loops.compiling"
_FOR_NUMBA = ("NUMBA_OPT", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX", "NUMBA_BOUNDSCHECK")


class Forsaken(RuntimeError):
    """This process was forked while a thread of its parent made loops: locks of LLVM or numba may be held for ever."""


class Workshop:
    """Where one loop is made at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forsaken = False
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self) -> None:
        self.forsaken = self.forsaken or self.lock.locked()
        self.lock = threading.Lock()


workshop = Workshop()


class LoopSet:
    """The functions of a module, which is imported to compile them and never for anything else."""

    def __init__(self, module: str, signatures: Mapping[str, Callable[[str], Signature]]) -> None:
        """`signatures` says what each function takes, given the name of an unsigned integer as wide as the words."""
        self._module = module
        self._signatures = signatures
        self._ready: dict[tuple[str, int], Loop] = {}

    def loop(self, name: str, width: int) -> Loop:
        """One loop for words of so many bytes, after a wait if it is asked for the first time."""
        return self._ready.get((name, width)) or self._made_ready(name, width)

    def make_ready(self, wanted: Iterable[tuple[str, int]]) -> None:
        """So that nobody waits for these later."""
        for name, width in wanted:
            self.loop(name, width)

    def _made_ready(self, name: str, width: int) -> Loop:
        with workshop.lock:
            if workshop.forsaken:
                raise Forsaken
            if (name, width) not in self._ready:
                signature = self._signatures[name](f"u{width}")
                key = self._key(name, signature)
                self._ready[name, width] = _kept(key, signature) or self._compiled(name, signature, key)
            return self._ready[name, width]

    def _compiled(self, name: str, signature: Signature, key: bytes | None) -> Loop:
        from shardflow.loops import compiling  # noqa: PLC0415 - numba takes long to import

        made = compiling.compiled(getattr(import_module(self._module), name), signature)
        if key and made.code and key == self._key(name, signature, _digest):  # nothing was upgraded under our feet
            keeping.keep(key, made.code)
        return entered(made.address, signature)

    def _key(self, name: str, signature: Signature, digest: Callable[..., bytes] | None = None) -> bytes | None:
        """Names all that the machine code depends on, and all with which numba is known to work; None if unknown."""
        if any(variable in os.environ for variable in _FOR_NUMBA):
            return None
        digest = digest or _digest_at_first
        try:
            from shardflow.loops import linking  # noqa: PLC0415 - llvmlite takes a moment to import

            sources = [digest(self._module), digest(_COMPILER), digest("numba", "_version.py")]
            basis = (name, signature, sources, linking.host(), np.__version__, sys.version)
        except (ImportError, OSError, RuntimeError):
            return None
        return blake3(repr(basis).encode()).digest()


def _kept(key: bytes | None, signature: Signature) -> Loop | None:
    code = keeping.kept(key) if key else None
    if code is None:
        return None
    from shardflow.loops import linking  # noqa: PLC0415

    try:
        return entered(linking.linked(code), signature)
    except RuntimeError:
        return None


def _digest(module: str, beside: str = "") -> bytes:
    """What names the text of a module, or of a file beside it, without importing it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"there is no {module}")
    path = Path(spec.origin)
    return blake3((path.with_name(beside) if beside else path).read_bytes()).digest()


_digest_at_first = cache(_digest)
