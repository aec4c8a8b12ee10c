"""How often and how long a failing request is tried again.

Exponential backoff with full jitter (each wait is drawn between nothing and its bound), so that clients who failed
together do not come back together. Which failures are worth another attempt is said by the error: `transient`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_before_delay, wait_random_exponential

from shardflow.transport.errors import Interrupted, TransportError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from shardflow.transport.cancel import Cancellation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to give up, and how long to wait before each new attempt."""

    attempts: int = 8
    """In all, the first one included."""
    deadline: float = 600.0
    """Seconds after which no new attempt begins."""
    base_delay: float = 0.2
    """Bound of the first wait; it doubles each time."""
    max_delay: float = 20.0

    def run(
        self, attempt: Callable[[], T], cancel: Cancellation, on_retry: Callable[[TransportError], None] | None = None
    ) -> T:
        """Call `attempt` until it succeeds, fails for good, or the policy gives up; stop at once when cancelled."""
        started = time.monotonic()
        cancel.check()
        try:
            return attempt()  # almost always all there is to do: what follows takes longer than some requests
        except TransportError as error:
            if not error.transient:
                raise
            first: list[TransportError] = [error]

        def next_attempt() -> T:
            if first:
                raise first.pop()
            return attempt()

        def look_before(_: RetryCallState) -> None:
            cancel.check()

        def note(state: RetryCallState) -> None:
            if on_retry:
                on_retry(_failure(state))

        retrying = Retrying(
            stop=stop_after_attempt(self.attempts) | stop_before_delay(self.deadline),
            wait=wait_random_exponential(multiplier=self.base_delay, max=self.max_delay),
            retry=retry_if_exception(is_transient),
            sleep=cancel.sleep,
            before=look_before,
            before_sleep=note,
            retry_error_callback=lambda state: _give_up(state, time.monotonic() - started),
        )
        return retrying(next_attempt)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    return isinstance(error, TransportError) and error.transient


def _failure(state: RetryCallState) -> TransportError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TransportError)
    return error


def _give_up(state: RetryCallState, seconds: float) -> None:
    """Turn the last transient failure into one that says how much was tried."""
    error = _failure(state)
    times = "once" if state.attempt_number == 1 else f"{state.attempt_number} times"
    tried = f"tried {times} in {seconds:.1f} s"
    if isinstance(error, Interrupted):
        raise Unreachable(f"{error.message} ({tried})", remedy=error.remedy or _AGAIN) from error
    error.message = f"{error.message} ({tried})"
    raise error


_AGAIN = "check the network and the endpoint, then run the command again: finished work is kept"
