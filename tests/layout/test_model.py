"""What a layout promises whatever the format: no gaps, no overlaps, one fingerprint for one list of tensors."""

from __future__ import annotations

import struct

import pytest
from blake3 import blake3

from shardflow.dtype import DType
from shardflow.layout.model import Damaged, Segment, Tensor, dense_length, exactly, lay_out, plain


def byte_run(offset: int, length: int, name: str = "w") -> Segment:
    return Segment(offset, length, DType.U8, name, (length,))


def test_gaps_become_plain_bytes_and_order_is_that_of_the_file() -> None:
    layout = lay_out("kind", 10, [byte_run(6, 2, "b"), byte_run(1, 3, "a")], [])
    assert [(at.offset, at.length, at.name) for at in layout.segments] == [
        (0, 1, ""),
        (1, 3, "a"),
        (4, 2, ""),
        (6, 2, "b"),
        (8, 2, ""),
    ]


@pytest.mark.parametrize(
    "segments",
    [
        [byte_run(0, 4, "a"), byte_run(3, 2, "b")],
        [byte_run(0, 4, "a"), byte_run(0, 4, "b")],
        [byte_run(8, 3)],
        [byte_run(-1, 3)],
        [byte_run(3, -1)],
        [byte_run(0, 2), byte_run(2, 2)],
    ],
)
def test_segments_that_cannot_be_are_refused(segments: list[Segment]) -> None:
    with pytest.raises(Damaged):
        lay_out("kind", 10, segments, [])


def test_an_empty_file_has_no_segments() -> None:
    assert plain(0).segments == ()
    assert plain(3).segments == (Segment(0, 3, DType.BYTES, "", ()),)


def test_the_fingerprint_is_written_down_byte_for_byte() -> None:
    tensors = [Tensor("b", DType.BF16, (2, 3)), Tensor("a.ß", DType.I64, ())]
    canonical = struct.pack("<I", 4) + "a.ß".encode() + struct.pack("<BI", 7, 0)
    canonical += struct.pack("<I", 1) + b"b" + struct.pack("<BIQQ", 4, 2, 2, 3)
    assert lay_out("kind", 0, [], tensors).fingerprint == blake3(canonical).digest()
    assert lay_out("other", 9, [], tensors[::-1]).fingerprint == blake3(canonical).digest()


def test_without_tensors_there_is_no_fingerprint() -> None:
    assert lay_out("kind", 4, [], []).fingerprint is None


@pytest.mark.parametrize("shape", [(1,) * 65, (-1,), (2**63,), (1.5,), ("3",), (None,)])
def test_shapes_that_no_tensor_has_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Damaged):
        dense_length(DType.F32, shape)


def test_bytes_outside_the_file_are_never_asked_for() -> None:
    def never(offset: int, length: int) -> bytes:
        raise AssertionError((offset, length))

    for offset, length in ((0, 11), (10, 1), (-1, 2), (2, -1), (2**64, 1)):
        with pytest.raises(Damaged):
            exactly(never, offset, length, 10)
    assert exactly(never, 10, 0, 10) == b""


def test_a_file_that_shrinks_while_it_is_read_is_noticed() -> None:
    with pytest.raises(Damaged):
        exactly(lambda _offset, _length: b"short", 0, 6, 6)
