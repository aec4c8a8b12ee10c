"""What was found out once is found again by all that it followed from, and by nothing less."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from shardflow.registry.remembered import Remembered


class Work:
    """Counts how often it was done."""

    def __init__(self, result: str = "done") -> None:
        self.times = 0
        self.result = result

    def __call__(self) -> str:
        self.times += 1
        return self.result


def test_the_same_is_worked_out_once() -> None:
    known, work = Remembered[str](10), Work()
    assert [known.of(work, b"a", b"b") for _ in range(3)] == ["done"] * 3
    assert work.times == 1


@pytest.mark.parametrize("other", [(b"a", b"c"), (b"ab",), (b"", b"ab"), (b"ab", b""), (b"a", b"b", b""), (b"b", b"a")])
def test_anything_else_is_worked_out_anew(other: tuple[bytes, ...]) -> None:
    known = Remembered[str](10)
    known.of(Work("old"), b"a", b"b")
    assert known.of(Work("new"), *other) == "new"


def test_a_failure_is_not_kept_and_neither_is_what_is_not_worth_it() -> None:
    known = Remembered[str](10)

    def fails() -> str:
        raise ValueError("now")

    with pytest.raises(ValueError, match="now"):
        known.of(fails, b"a")
    assert known.of(Work("no"), b"a", keep=lambda result: result == "yes") == "no"
    assert known.of(Work("yes"), b"a", keep=lambda result: result == "yes") == "yes"
    assert known.of(Work("other"), b"a") == "yes"


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    known = Remembered[str](2)
    for name in (b"a", b"b", b"a", b"c"):
        known.of(Work(), name)
    kept, gone = Work(), Work()
    known.of(kept, b"a")
    known.of(gone, b"b")
    assert (kept.times, gone.times, len(known)) == (0, 1, 2)


def test_many_may_ask_at_once() -> None:
    known = Remembered[str](5)
    with ThreadPoolExecutor(8) as pool:
        names = [str(number % 20) for number in range(2000)]
        assert list(pool.map(lambda name: known.of(Work(name), name.encode()), names)) == names
    assert len(known) == 5
