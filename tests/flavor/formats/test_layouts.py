"""How tensors are cut into chunks, and how many bytes of them are on their way at once."""

from __future__ import annotations

import json
import weakref
from math import prod
from pathlib import Path

import pytest
import torch

from flavor.formats.states import differing
from shardflow.flavor import formats
from shardflow.flavor.formats import zarr
from shardflow.flavor.formats.flight import InFlight
from shardflow.flavor.formats.interface import Limits
from shardflow.flavor.formats.layouts import FAST_BYTES, T5X_BYTES, fast_chunk, plain_chunk, t5x_chunk
from shardflow.flavor.formats.state import MemoryState
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import BYTES_OF, TensorInfo

SHAPES = [(), (0,), (7,), (3, 0, 5), (4096, 11008), (32000, 4096), (50257, 4096), (131, 131, 131, 67), (1 << 27,)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["BF16", "F32", "F64"])
def test_chunks_of_t5x_divide_every_dimension_and_have_at_most_64_mib(shape: tuple[int, ...], dtype: str) -> None:
    chunk = t5x_chunk(TensorInfo("x", dtype, shape))
    assert all(extent % part == 0 for extent, part in zip(shape, chunk, strict=True))
    assert prod(chunk) * BYTES_OF[dtype] <= T5X_BYTES
    if prod(shape) * BYTES_OF[dtype] <= T5X_BYTES:
        assert chunk == tuple(extent or 1 for extent in shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_chunks_have_64_elements_along_a_dimension_and_fast_ones_about_4_mib(shape: tuple[int, ...]) -> None:
    info = TensorInfo("x", "BF16", shape)
    assert plain_chunk(info) == tuple(min(extent, 64) or 1 for extent in shape)
    assert prod(fast_chunk(info)) * 2 < 2 * FAST_BYTES  # they are made even in size


def test_what_t5x_would_write_is_written(tmp_path: Path) -> None:
    state = {"large": torch.zeros(40_000, 900), "small": torch.ones(3, 5).bfloat16()}
    formats.save(state, tmp_path / "t5x", format="tensorstore-t5x")
    large = json.loads((tmp_path / "t5x" / "large" / ".zarray").read_bytes())
    assert (large["zarr_format"], large["dtype"], large["chunks"]) == (2, "<f4", [10_000, 900])
    assert large["compressor"]["id"] == "gzip"
    small = json.loads((tmp_path / "t5x" / "small" / ".zarray").read_bytes())
    assert (small["dtype"], small["chunks"]) == ("bfloat16", [3, 5])


def test_what_coding_makes_smaller_is_coded_with_zstd_and_noise_is_left_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = {
        "weights": (torch.randn(300, 200) * 0.02).bfloat16(),
        "noise": torch.randint(-(1 << 62), 1 << 62, (90, 90)),
    }
    formats.save(state, tmp_path / "fast", format="tensorstore-fast")
    codecs = {name: json.loads((tmp_path / "fast" / name / "zarr.json").read_bytes())["codecs"][1:] for name in state}
    [weights], [noise] = codecs["weights"], codecs["noise"]
    assert (weights["name"], weights["configuration"]["cname"]) == ("blosc", "zstd")
    assert noise["name"] == "crc32c"


@pytest.mark.parametrize(("name", "most"), [("tensorstore", 1), ("tensorstore-t5x", 128), ("tensorstore-fast", 150)])
def test_as_many_tensors_as_the_layout_says_are_on_their_way(
    name: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T5X has 128 at once, and waits for the first of them before there is another."""
    counts: list[int] = []

    class Counted(InFlight):
        def next_tensor(self, name: str) -> None:
            super().next_tensor(name)
            counts.append(len(self._ahead))

    monkeypatch.setattr(zarr, "InFlight", Counted)
    noise = torch.randint(-(1 << 62), 1 << 62, (150, 64))
    formats.save({f"t{number}": row for number, row in enumerate(noise)}, tmp_path / "c", format=name)
    assert (len(counts), max(counts)) == (150, most)


class Weighed:
    """A state that notes how many bytes of what it gave are in use."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self.tensors, self.aliases = state.tensors, state.aliases
        self.now = self.most = 0

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        values = self._state.read(name, box).clone()
        self.now += values.nbytes
        self.most = max(self.most, self.now)
        weakref.finalize(values.untyped_storage(), self._given_back, values.nbytes)
        return values

    def _given_back(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize("name", formats.names())
def test_no_more_than_the_agreed_bytes_are_on_their_way(name: str, tmp_path: Path) -> None:
    values = {f"t{number}": torch.randn(256, 256).bfloat16() for number in range(200)}
    state = Weighed(MemoryState.of(values))
    (tmp_path / "c").mkdir()
    formats.format_named(name).save(state, tmp_path / "c", Limits(memory=2 << 20))
    assert 128 << 10 <= state.most <= 3 << 20
    assert differing(formats.load(tmp_path / "c", format=name), values) == []
