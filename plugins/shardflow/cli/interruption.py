"""Ctrl-C and SIGTERM: stop within two seconds, whatever the threads of the process are waiting for.

Python runs its signal handlers in the main thread, between two of its steps; a main thread that waits inside a network
library never gets there. So a second thread is woken by the signal itself, and ends the process if the first has not
unwound in time. What was finished stays finished: packs and notes of them are written at once and whole.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from threading import Thread
from types import FrameType
from typing import NoReturn

UNWIND_SECONDS = 1.2
_SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; raised in the main thread so that what it does unwinds."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interruption:
    """The signals of one process, from `install` on."""

    def __init__(self) -> None:
        self.remedy = ""  # what a command says about running it again
        self._stopping = False

    def install(self) -> None:
        """Take over SIGINT and SIGTERM, except where whoever started us had them ignored."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in _WORDS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._unwind)
        Thread(target=self._watch, args=(reading,), name="shardflow-signals", daemon=True).start()

    def message(self, number: int) -> str:
        word = _WORDS.get(signal.Signals(number), "stopped")
        return f"shardflow: {word}; {self.remedy}" if self.remedy else f"shardflow: {word}"

    def _unwind(self, number: int, _: FrameType | None) -> None:
        # Once is enough: another exception would cut the unwinding short. The watching thread counts the others.
        if not self._stopping:
            self._stopping = True
            raise Stopped(number)

    def _watch(self, reading: int) -> None:
        number = os.read(reading, 1)[0]
        while number not in _WORDS:
            number = os.read(reading, 1)[0]
        # A second signal means "now".
        select.select([reading], [], [], UNWIND_SECONDS)
        leave(128 + number, self.message(number), flush=False)


def leave(code: int, message: str = "", *, flush: bool = True) -> NoReturn:
    """End the process without waiting for its threads: they may sit in network calls whose outcome no longer counts."""
    if flush:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    if message:
        with contextlib.suppress(OSError):
            # A progress bar may have hidden the cursor, and stands in the line.
            os.write(2, f"{_SHOW_CURSOR if os.isatty(2) else ''}{message}\n".encode(errors="backslashreplace"))
    os._exit(code)
