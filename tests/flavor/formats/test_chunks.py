"""Every chunk of a zarr array is written once, under its own name, whatever the tensor's shape and the limits are."""

from __future__ import annotations

import tempfile
from itertools import product
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flavor.formats.states import differing
from shardflow.flavor import formats
from shardflow.flavor.formats import layouts
from shardflow.flavor.formats.layouts import Layout
from shardflow.flavor.tensors import TensorInfo

LAYOUTS = [layouts.PLAIN, layouts.T5X, layouts.FAST]
_METADATA = {"zarr.json", ".zarray"}
shapes = st.lists(st.integers(0, 9), max_size=4).filter(lambda extents: prod(extents) <= 300).map(tuple)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@settings(max_examples=60, deadline=None)
@given(shape=shapes, chunk_bytes=st.integers(4, 400), piece_bytes=st.integers(4, 800))
def test_a_tensor_of_any_shape_is_in_its_chunks(
    layout: Layout, shape: tuple[int, ...], chunk_bytes: int, piece_bytes: int
) -> None:
    state = {"x": torch.randn(shape)}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as made:
        patch.setattr(layouts, "FAST_BYTES", chunk_bytes)
        patch.setattr(layouts, "T5X_BYTES", chunk_bytes)
        patch.setattr(layouts, "PLAIN_EXTENT", 1 + chunk_bytes // 100)
        for module in ("chunk_files", "zarr", "opening"):
            patch.setattr(f"shardflow.flavor.formats.{module}.PIECE_BYTES", piece_bytes)
        patch.setattr("shardflow.flavor.formats.zarr.is_worth_it", lambda *_: True)  # small ones are not
        formats.save(state, Path(made) / "checkpoint", format=layout.name)
        files = {file.name for file in (Path(made) / "checkpoint" / "x").iterdir()} - _METADATA
        assert files == _names(layout, shape)
        assert differing(state, formats.load(Path(made) / "checkpoint")) == []


def _names(layout: Layout, shape: tuple[int, ...]) -> set[str]:
    chunk = layout.chunk(TensorInfo("x", "F32", shape))
    places = product(*(range(-(-extent // part)) for extent, part in zip(shape, chunk, strict=True)))
    if layout.driver == "zarr3":
        return {".".join(["c", *map(str, place)]) for place in places}
    return {".".join(map(str, place)) or "0" for place in places}


@pytest.mark.parametrize("shape", [(4, 1536, 2048), (3, 6 << 20)])
def test_rows_of_more_than_one_chunk_come_back(shape: tuple[int, ...], tmp_path: Path) -> None:
    """As the stacked experts of a layer have them."""
    state = {"experts": torch.randn(shape).bfloat16()}
    formats.save(state, tmp_path / "checkpoint", format="tensorstore-fast")
    part = (slice(1, 2), slice(0, 1024))
    assert torch.equal(formats.read(tmp_path / "checkpoint", "experts", part), state["experts"][part])
    assert differing(state, formats.load(tmp_path / "checkpoint")) == []
