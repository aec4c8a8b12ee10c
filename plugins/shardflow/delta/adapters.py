"""Adapters as peft saves them: which thin matrices were merged into which tensor, and how strongly."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from shardflow.codec.rounding import FLOATS, widened
from shardflow.delta.patterns import ByPattern, PatternUnusable
from shardflow.dtype import DType
from shardflow.errors import ShardflowError
from shardflow.layout import inspect

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MOST_CONFIG_BYTES = 1 << 20

_SIDE = re.compile(r"(?P<stem>.+)\.lora_(?P<side>[AB])(\.[^.]+)?\.weight")
_WRAPPED = "base_model.model."

Doubles = npt.NDArray[np.float64]


class AdapterUnusable(ShardflowError):
    """What was given as an adapter is none that can be used."""


@dataclass(frozen=True, slots=True)
class Sides:
    """`scale` times `b` (rows, rank) times `a` (rank, columns) is what was added."""

    a: Doubles
    b: Doubles
    scale: float


class _Config(msgspec.Struct):
    """What counts of peft's adapter_config.json."""

    lora_alpha: float
    r: int
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}


class Adapter:
    """The adapter in a directory, read whole: it is small beside the model."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._config = self._read_config()
        self._ranks = self._by_pattern(self._config.rank_pattern)
        self._alphas = self._by_pattern(self._config.alpha_pattern)
        self._sides = self._read_sides()

    def __len__(self) -> int:
        return len(self._sides)

    def sides(self, name: str, shape: tuple[int, ...]) -> Sides | None:
        """What was merged into a tensor of this name and shape, if anything."""
        stem = name.removesuffix(".weight")
        sides = self._sides.get(stem)
        if sides is None or len(shape) != 2:
            return None
        a, b = sides
        if self._config.fan_in_fan_out:
            a, b = b.T, a.T
        return Sides(a, b, self._scale(stem)) if (b.shape[0], a.shape[1]) == shape else None

    def _scale(self, stem: str) -> float:
        config = self._config
        rank, alpha = self._ranks.of(stem, config.r), self._alphas.of(stem, config.lora_alpha)
        return alpha / (math.sqrt(rank) if config.use_rslora else rank)

    def _by_pattern(self, values: Mapping[str, float]) -> ByPattern:
        try:
            return ByPattern(values)
        except PatternUnusable as error:
            raise self._unusable(f"{CONFIG} holds a pattern that cannot be looked for: {error}") from None

    def _read_config(self) -> _Config:
        data = self._read(CONFIG, MOST_CONFIG_BYTES)
        try:
            config = msgspec.json.decode(data, type=_Config)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._unusable(f"{CONFIG} is not one that peft writes: {error}") from None
        if min([config.r, *config.rank_pattern.values()]) < 1:
            raise self._unusable(f"{CONFIG} names a rank below 1")
        if config.use_dora:
            raise self._unusable("it is a DoRA adapter, whose merging is no sum")
        return config

    def _read_sides(self) -> dict[str, tuple[Doubles, Doubles]]:
        data = self._read(WEIGHTS)
        layout = inspect(lambda offset, length: data[offset : offset + length], len(data))
        halves: dict[str, dict[str, Doubles]] = {}
        for segment in layout.segments:
            found = _SIDE.fullmatch(segment.name)
            if found and len(segment.shape) == 2 and segment.dtype in FLOATS:
                values = _values(data[segment.offset : segment.offset + segment.length], segment.dtype)
                stem = found["stem"].removeprefix(_WRAPPED)
                halves.setdefault(stem, {})[found["side"]] = values.reshape(segment.shape)
        whole = {stem: (sides["A"], sides["B"]) for stem, sides in halves.items() if len(sides) == 2}
        if not whole:
            raise self._unusable(f"{WEIGHTS} holds no pairs of lora_A and lora_B")
        return whole

    def _read(self, name: str, most: int | None = None) -> bytes:
        try:
            with (self.directory / name).open("rb") as file:
                return file.read() if most is None else file.read(most)
        except OSError as error:
            raise self._unusable(f"{name} cannot be read: {error.strerror}") from None

    def _unusable(self, what: str) -> AdapterUnusable:
        return AdapterUnusable(
            f"{self.directory} is no adapter that can be used: {what}", remedy="name a directory that peft saved"
        )


def _values(data: bytes, dtype: DType) -> Doubles:
    words = np.frombuffer(data, f"<u{dtype.width}")
    return widened(words, dtype).view("<f4").astype(np.float64)
