"""Files are cut at tensor borders, rows are kept whole where they fit, and every byte lies in exactly one run."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardflow.dtype import DType
from shardflow.layout import Layout, Segment
from shardflow.store.cutting import GAP, MERGED_TENSORS, SMALL_TENSOR, Run, plan

KIB, MIB = 1 << 10, 1 << 20
TENSORS = tuple(dtype for dtype in DType if dtype is not DType.BYTES)


def layout_of(*parts: tuple[DType, tuple[int, ...]]) -> Layout:
    """Tensors and plain bytes, one after another, by dtype and shape."""
    segments, offset = [], 0
    for number, (dtype, shape) in enumerate(parts):
        length = dtype.width
        for extent in shape:
            length *= extent
        name = "" if dtype is DType.BYTES else f"t{number}"
        segments.append(Segment(offset, length, dtype, name, shape if name else ()))
        offset += length
    return Layout("safetensors", tuple(segments), None)


def planned(layout: Layout, chunk_bytes: int = 4 * MIB, by_content_above: int = 512 * KIB) -> list[Run]:
    return list(plan(layout, chunk_bytes, by_content_above))


shapes = st.one_of(
    st.just(()),
    st.tuples(st.integers(0, 60_000)),
    st.tuples(st.integers(0, 300), st.integers(0, 300)),
    st.tuples(*[st.integers(0, 40)] * 3),
)
parts = st.tuples(st.sampled_from(list(DType)), shapes)
layouts = st.lists(parts, max_size=10).map(lambda found: layout_of(*found))


def borders(lengths: list[int]) -> list[int]:
    return [0, *itertools.accumulate(lengths)]


@given(layouts, st.integers(4 * KIB, 4 * MIB), st.integers(64, 4 * MIB))
def test_runs_cover_any_file_exactly_and_are_never_larger_than_a_chunk_may_be(
    layout: Layout, chunk_bytes: int, by_content_above: int
) -> None:
    runs = planned(layout, chunk_bytes, by_content_above)
    assert sum(run.length for run in runs) == sum(segment.length for segment in layout.segments)
    for run in runs:
        assert run.length > 0
        assert run.by_content or run.length <= max(chunk_bytes, MERGED_TENSORS)
        assert not run.by_content or run.dtype is DType.BYTES


@given(layouts, st.integers(4 * KIB, 4 * MIB))
def test_no_run_crosses_from_one_type_of_element_to_another_or_begins_inside_an_element(
    layout: Layout, chunk_bytes: int
) -> None:
    runs = planned(layout, chunk_bytes)
    start, segments = 0, [segment for segment in layout.segments if segment.length]
    for run in runs:
        covered = [
            segment
            for segment in segments
            if segment.offset < start + run.length and start < segment.offset + segment.length
        ]
        tensors = [segment for segment in covered if segment.name or segment.length >= GAP]
        assert {segment.dtype for segment in tensors} <= {run.dtype}
        assert (start - covered[0].offset) % run.dtype.width == 0
        assert run.length % run.dtype.width == 0
        start += run.length


@given(layouts, st.integers(4 * KIB, 4 * MIB))
def test_a_tensor_that_is_not_small_is_cut_the_same_whatever_lies_around_it(layout: Layout, chunk_bytes: int) -> None:
    runs = planned(layout, chunk_bytes)
    starts = borders([run.length for run in runs])
    for segment in layout.segments:
        if segment.length >= SMALL_TENSOR and segment.dtype is not DType.BYTES:
            alone = planned(Layout("x", (segment,), None), chunk_bytes)
            first = starts.index(segment.offset)
            assert runs[first : first + len(alone)] == alone


@given(st.sampled_from(TENSORS), st.integers(1, 3000), st.integers(1, 3000))
def test_rows_stay_whole_where_they_fit(dtype: DType, rows: int, columns: int) -> None:
    row = columns * dtype.width
    runs = planned(layout_of((dtype, (rows, columns))), 64 * KIB)
    if row <= 64 * KIB and rows * row >= SMALL_TENSOR:
        assert all(run.length % row == 0 for run in runs)
        assert all(run.length + row > 64 * KIB for run in runs[:-1]), "as many rows as fit"


def test_a_row_longer_than_a_chunk_is_cut_between_elements() -> None:
    runs = planned(layout_of((DType.C128, (3, 10_000))), chunk_bytes=5001)
    assert {run.length for run in runs[:-1]} == {4992}


def test_a_tensor_without_rows_is_cut_like_any_other() -> None:
    [run] = planned(Layout("x", (Segment(0, 100_000, DType.F32, "odd", (0, 5)),), None))
    assert run == Run(100_000, DType.F32, by_content=False)


def test_small_neighbours_of_one_dtype_share_a_chunk() -> None:
    runs = planned(layout_of(*[(DType.F32, (768,))] * 10))
    assert runs == [Run(10 * 768 * 4, DType.F32, by_content=False)]


def test_small_tensors_share_a_chunk_only_up_to_its_limit() -> None:
    each = SMALL_TENSOR - 1024
    runs = planned(layout_of(*[(DType.U8, (each,))] * 9))
    assert [run.length // each for run in runs] == [4, 4, 1]


def test_another_dtype_a_large_tensor_or_plain_bytes_end_a_shared_chunk() -> None:
    runs = planned(
        layout_of(
            (DType.F32, (10,)),
            (DType.F16, (10,)),
            (DType.F16, (10,)),
            (DType.F16, (SMALL_TENSOR,)),
            (DType.F16, (10,)),
            (DType.BYTES, (51,)),
            (DType.F16, (10,)),
        )
    )
    assert [(run.length, run.dtype) for run in runs] == [
        (40, DType.F32),
        (40, DType.F16),
        (2 * SMALL_TENSOR, DType.F16),
        (20, DType.F16),
        (51, DType.BYTES),
        (20, DType.F16),
    ]


def test_small_tensors_of_a_zip_archive_share_a_chunk_with_what_lies_between_them() -> None:
    runs = planned(layout_of((DType.F16, (32,)), (DType.BYTES, (126,)), (DType.F16, (32,)), (DType.BYTES, (GAP,))))
    assert [(run.length, run.dtype) for run in runs] == [(64 + 126 + 64, DType.F16), (GAP, DType.BYTES)]


@pytest.mark.parametrize(("length", "by_content"), [(512 * KIB, False), (512 * KIB + 1, True)])
def test_plain_bytes_are_cut_by_content_when_there_are_many(length: int, by_content: bool) -> None:
    assert planned(layout_of((DType.BYTES, (length,)))) == [Run(length, DType.BYTES, by_content=by_content)]


def test_a_file_with_nothing_in_it_has_no_runs() -> None:
    assert planned(layout_of()) == planned(layout_of((DType.BYTES, (0,)), (DType.F32, (0, 7)))) == []
