"""Which part of each tensor one rank of a tensor-parallel model loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from shardflow.flavor.errors import TensorUnusable

Box = tuple[slice, ...]
Shape = tuple[int, ...]
SliceRule = Callable[[Shape], Box]
Slices = Mapping[str, "SliceRule | slice | Box"] | Callable[[str, Shape], "Box | slice | None"]
"""By pattern of names, the first that matches, or asked for every tensor; the rest is loaded whole."""


@dataclass(frozen=True, slots=True)
class Rank:
    """One of `of` equal parts along a dimension: `{"*.q_proj.weight": Rank(0, of=4, dim=0)}`."""

    rank: int
    of: int
    dim: int = 0

    def __call__(self, shape: Shape) -> Box:
        if not 0 <= self.rank < self.of or not -len(shape) <= self.dim < len(shape):
            raise TensorUnusable(f"there is no part {self.rank} of {self.of} along dimension {self.dim} of {shape}")
        extent = shape[self.dim]
        if extent % self.of:
            raise TensorUnusable(
                f"{extent} along dimension {self.dim} cannot be divided by {self.of} ranks", remedy="use other slices"
            )
        part = extent // self.of
        box = [slice(None)] * len(shape)
        box[self.dim] = slice(self.rank * part, (self.rank + 1) * part)
        return tuple(box)


def box_of(slices: Slices | None, name: str, shape: Shape) -> Box:
    """The part of a tensor that is wanted, with a start and a stop for every dimension."""
    wanted = _wanted(slices, name, shape)
    box = wanted if isinstance(wanted, tuple) else (wanted,)
    if not all(isinstance(each, slice) and _in_whole_numbers(each) for each in box):
        raise TensorUnusable(f"{name} cannot be sliced by {wanted!r}", remedy="pass a slice, or a tuple with several")
    if len(box) > len(shape):
        raise TensorUnusable(f"{name} has {len(shape)} dimensions, {len(box)} are sliced", remedy="slice fewer of them")
    box = box + (slice(None),) * (len(shape) - len(box))
    made = tuple(slice(*each.indices(extent)) for each, extent in zip(box, shape, strict=True))
    if any(each.step != 1 for each in made):
        raise TensorUnusable(f"{name} is sliced with a step", remedy="load it whole and slice it then")
    return tuple(slice(each.start, max(each.start, each.stop)) for each in made)


def _in_whole_numbers(wanted: slice) -> bool:
    return all(each is None or hasattr(each, "__index__") for each in (wanted.start, wanted.stop, wanted.step))


def _wanted(slices: Slices | None, name: str, shape: Shape) -> Box | slice:
    if slices is None:
        return ()
    if callable(slices):
        asked = slices(name, shape)
        return () if asked is None else asked
    for pattern, rule in slices.items():
        if fnmatchcase(name, pattern):
            return rule(shape) if callable(rule) else rule
    return ()
