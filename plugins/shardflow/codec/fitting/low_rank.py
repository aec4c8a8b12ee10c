"""The matrix of low rank that was added before numbers were rounded, as two real factors.

Numbers near zero are rounded much more finely than others, so a few of each row say nearly all there is to know of it.
The factors are fitted to these in turn, rows and columns, each number weighted by what it says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shardflow.codec.fitting.bounds import Changes
from shardflow.codec.fitting.spectrum import edge

_MARGIN = 8  # singular values that are computed beyond those that are looked for
_TELLING = 6  # numbers of a row that are fitted to, for each of the rank
_WORK = 8000  # multiplications for each number of the matrix, at most
_AT_ONCE = 1 << 23  # numbers that are gathered at a time

_Reals = npt.NDArray[Any]


def leading(changes: Changes, rank_max: int, noise: float) -> _Reals | None:
    """The right factor of what stands out (rank, columns), or None if that is nothing, or not low.

    What it stands out from is `noise` times what rounding leaves.
    """
    least, wanted = float(np.sqrt(noise)) * _edge(changes), min(16, rank_max)
    while True:
        sizes, right = _singular(changes.middle, min(wanted + _MARGIN, *changes.middle.shape))
        rank = int(np.count_nonzero(sizes > least))
        if rank <= wanted:
            return np.sqrt(sizes[:rank, None]) * right[:rank] if rank else None
        if wanted == rank_max:
            return None
        wanted = min(2 * wanted, rank_max)


def _edge(changes: Changes) -> float:
    """The largest singular value to be expected of rounding alone, which is spread evenly between its bounds."""
    known = changes.reach[np.isfinite(changes.reach)]
    return edge(float(np.square(known, dtype=np.float64).mean()) / 3 if known.size else np.inf, *changes.reach.shape)


def _singular(matrix: _Reals, count: int) -> tuple[_Reals, _Reals]:
    """The largest singular values and their right vectors, by subspace iteration."""
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], count)).astype(matrix.dtype)
    for _ in range(3):
        tall, _ = np.linalg.qr(matrix @ start)
        start, _ = np.linalg.qr(matrix.T @ tall)
    _, sizes, right = np.linalg.svd(matrix @ start, full_matrices=False)
    return sizes, right @ start.T


class _Task(NamedTuple):
    """For each row the columns that say most, how they changed, and what each of them counts."""

    columns: npt.NDArray[np.int64]
    middle: _Reals
    weights: _Reals


def solved(changes: Changes, right: _Reals, rounds: int) -> _Reals:
    """The right factor, fitted to what says most, rows and columns in turn; fewer `rounds` if the rank is high."""
    rank = right.shape[0]
    by_row, by_column = _task(changes, rank), _task(Changes(changes.middle.T, changes.reach.T), rank)
    work = (by_row.columns.size + by_column.columns.size) * rank * (rank + 1)
    before, since = right, 0
    for _ in range(min(rounds, _WORK * changes.middle.size // work)):
        # Begin a step further in the direction of the last one (Nesterov), unless that was the wrong one.
        ahead = right + right.dtype.type(since / (since + 3)) * (right - before)
        fitted = _fitted(by_column, _fitted(by_row, ahead.T)).T
        turned_back = float(((ahead - fitted) * (fitted - right)).sum()) > 0
        before, right, since = right, fitted, 0 if turned_back else since + 1
    return right


def solved_rows(changes: Changes, right: _Reals) -> _Reals:
    """The left factor (rows, rank) that goes with a right one."""
    return _fitted(_task(changes, right.shape[0]), right.T)


def _task(changes: Changes, rank: int) -> _Task:
    rows, columns = changes.reach.shape
    count = min(columns, _TELLING * max(rank, 4))
    # What is finer than nearly all is not believed: it may be there for another reason than rounding.
    finest = max(np.quantile(changes.reach[:: 1 + rows // 256], 0.0005, method="lower"), 1e-30)
    parts = [_telling(Changes(*(each[part] for each in changes)), count, finest) for part in _parts(rows, columns)]
    return _Task(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _telling(changes: Changes, count: int, finest: float) -> _Task:
    columns = np.argpartition(changes.reach, count - 1, axis=1)[:, :count]
    reach = np.maximum(np.take_along_axis(changes.reach, columns, axis=1), finest)
    smallest = reach.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        weights = np.where(np.isfinite(reach), smallest / reach, 0) ** 2
    return _Task(columns, np.take_along_axis(changes.middle, columns, axis=1), weights)


def _parts(count: int, each: int) -> list[slice]:
    """Slices of `count` rows, each with a bounded number of numbers."""
    step = max(_AT_ONCE // each, 1)
    return [slice(first, first + step) for first in range(0, count, step)]


def _fitted(task: _Task, others: _Reals) -> _Reals:
    """For each row the factor that, times those of its columns, comes nearest to how they changed."""
    rank = others.shape[1]
    fitted = np.empty((len(task.columns), rank), others.dtype)
    diagonal, ridge = np.arange(rank), 8 * np.finfo(others.dtype).eps
    for part in _parts(len(task.columns), task.columns.shape[1] * rank):
        factors = others[task.columns[part]]
        weighted = (factors * task.weights[part, :, None]).transpose(0, 2, 1)
        squares = weighted @ factors
        scale = squares[:, diagonal, diagonal].mean(axis=1, keepdims=True)
        squares[:, diagonal, diagonal] += np.where(scale > 0, ridge * scale, 1)
        fitted[part] = np.linalg.solve(squares, weighted @ task.middle[part, :, None])[..., 0]
    if not np.isfinite(fitted).all():
        raise np.linalg.LinAlgError("a factor overflows")
    return fitted
