"""A shard reads as the file that safetensors would have written, without being anywhere in memory or on disk."""

from __future__ import annotations

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from shardflow.flavor.contents import TensorContent
from shardflow.flavor.copying import as_memory, copy_bytes
from shardflow.flavor.errors import CheckpointUnusable, TensorUnusable
from shardflow.flavor.header import LARGEST_HEADER, read_header
from shardflow.flavor.plans import plan
from shardflow.flavor.shards import ShardSource, shard_sources
from shardflow.flavor.torch_types import TORCH_TYPES, shapes_of
from shardflow.store.errors import SourceChanged
from shardflow.store.putting import put_sources
from shardflow.store.store import Store


def shards(tensors: dict[str, torch.Tensor], method: str = "auto", limit: int = 1 << 30) -> list[ShardSource]:
    contents = {name: TensorContent.of(name, tensor) for name, tensor in tensors.items()}
    return list(shard_sources(plan(shapes_of(tensors), method, limit), contents))


def file_of(tensors: dict[str, torch.Tensor]) -> bytes:
    (source,) = shards(tensors)
    return source.read_at(0, source.size)


def laid_out(tensor: torch.Tensor) -> bytes:
    return bytes(as_memory(tensor.contiguous()))


@pytest.mark.parametrize("name", sorted(set(TORCH_TYPES) - {"F8_E8M0"}))  # which safetensors writes, and does not load
def test_every_type_of_element_comes_back(name: str) -> None:
    tensor = torch.randint(0, 2, (3, 16), dtype=torch.uint8).view(TORCH_TYPES[name])
    back = load(file_of({"tensor": tensor}))["tensor"]
    assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
    assert laid_out(back) == laid_out(tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(60.0).view(3, 4, 5).permute(2, 0, 1),
        torch.arange(60.0).view(6, 10)[1::2, ::3],
        torch.arange(6.0)[::2],
        torch.arange(4.0).expand(3, 4),
        torch.arange(60, dtype=torch.int8).view(6, 10)[:, 3:8],
        torch.tensor(2.5),
        torch.empty(0, 4),
        torch.empty(4, 0).t(),
        torch.randn(4, dtype=torch.complex64).conj(),
        torch.nn.Parameter(torch.randn(3, 2)),
    ],
    ids=[
        "permuted",
        "strided",
        "stepped",
        "expanded",
        "narrow",
        "scalar",
        "empty",
        "empty-turned",
        "conj",
        "parameter",
    ],
)
def test_a_tensor_however_it_lies_in_memory_is_stored_row_by_row(tensor: torch.Tensor) -> None:
    assert torch.equal(load(file_of({"tensor": tensor}))["tensor"], tensor.detach())


@given(st.data())
def test_any_run_of_bytes_of_any_view_can_be_read(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    dtype = data.draw(st.sampled_from([torch.int8, torch.float16, torch.float32, torch.float64]))
    tensor = torch.randn(shape).to(dtype).permute(data.draw(st.permutations(range(len(shape)))))
    whole = laid_out(tensor)
    start = data.draw(st.integers(0, len(whole)))
    target = bytearray(data.draw(st.integers(0, len(whole) - start)))
    copy_bytes(tensor, start, memoryview(target))
    assert bytes(target) == whole[start : start + len(target)]


def test_memory_that_is_not_aligned_is_filled_too() -> None:
    tensor = torch.randn(50, 7).t()
    memory = memoryview(bytearray(tensor.nbytes + 1))[1:]
    copy_bytes(tensor, 0, memory)
    assert bytes(memory) == laid_out(tensor)


def test_a_shard_can_be_read_from_anywhere() -> None:
    torch.manual_seed(1)
    (source,) = shards({"a": torch.randn(40, 30), "b": torch.randn(30, 40).t(), "c": torch.ones(3, dtype=torch.bool)})
    whole = source.read_at(0, source.size)
    for _ in range(300):
        start = random.randrange(source.size)
        assert source.read_at(start, 100) == whole[start : start + 100]
    with source.open() as opened:
        assert opened.read() == whole


def test_tied_tensors_are_written_once_and_named_in_the_header() -> None:
    embedding = torch.randn(100, 8)
    data = file_of({"embed": embedding, "head": embedding})
    assert len(data) < 2 * embedding.nbytes
    header = read_header(lambda offset, length: data[offset : offset + length], len(data), "the file")
    assert dict(header.metadata) == {"format": "pt", "head": "embed"}


def test_tensors_begin_at_multiples_of_their_element() -> None:
    data = file_of({"flags": torch.ones(3, dtype=torch.bool), "wide": torch.ones(3, dtype=torch.float64)})
    header = read_header(lambda offset, length: data[offset : offset + length], len(data), "the file")
    assert [entry.offset % 8 for entry in header.entries.values()] == [0, 0]


def test_what_a_store_takes_is_what_the_source_gives(store: Store) -> None:
    tensors = {f"layers.{n}.weight": torch.randn(100, 100) for n in range(8)}
    sources = shards(tensors, "layers", 100_000)
    done = put_sources(store, sources, "")
    assert done.files_done == len(sources) == 4
    found = {name: tensor for source in sources for name, tensor in load(store.open(source.path).read()).items()}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_tensor_that_changes_while_it_is_stored_is_refused(store: Store) -> None:
    tensor = torch.zeros(1000)
    (source,) = shards({"moving": tensor})
    tensor.add_(1)
    with pytest.raises(SourceChanged, match="moving changed while it was being stored"):
        put_sources(store, [source], "")
    assert not list(store.ls())


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.empty(3, device="meta"), "meta device"),
        (torch.zeros(3, dtype=torch.complex128), "complex128"),
        (torch.eye(3).to_sparse(), "sparse"),
    ],
    ids=["meta", "complex128", "sparse"],
)
def test_a_tensor_that_cannot_be_stored_is_named(tensor: torch.Tensor, why: str) -> None:
    with pytest.raises(TensorUnusable, match=f"layer.weight .*{why}"):
        shards({"layer.weight": tensor})


def header_bytes(table: object, tail: bytes = b"") -> bytes:
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + tail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 20,
        (LARGEST_HEADER + 1).to_bytes(8, "little"),
        header_bytes([1, 2]),
        header_bytes({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        header_bytes({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)),
        header_bytes({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
        header_bytes({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        header_bytes({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, bytes(8)),
    ],
    ids=["empty", "noise", "huge", "list", "cut", "negative", "wrong", "unknown", "before"],
)
def test_a_header_that_cannot_be_is_an_error(data: bytes) -> None:
    with pytest.raises(CheckpointUnusable, match="no safetensors file"):
        read_header(lambda offset, length: data[offset : offset + length], len(data), "odd.safetensors")
