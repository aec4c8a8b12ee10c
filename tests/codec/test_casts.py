"""A chunk predicted from numbers in another dtype: what it costs, which scales are found, and the exact bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import EVERY_DTYPE, KERNELS, as_bf16, joined, noise, odd_floats, using, weights
from codec.pairs import FLOATS, assert_comes_back, disturbed, forced, restored_from, trained
from shardflow.codec import CodecId, Prediction, Scale, cast, decode, encode_against, fitted_cast, unchanged
from shardflow.codec.rounding import multiplied, narrowed, widened
from shardflow.dtype import DType
from shardflow.errors import CorruptData

COUNT = 1 << 17
F32, BF16, F16, E4M3, E5M2 = DType.F32, DType.BF16, DType.F16, DType.F8_E4M3, DType.F8_E5M2


@pytest.fixture(scope="module")
def values() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.frombuffer(weights(F32, COUNT), "<f4")


def cost(data: bytes, dtype: DType, prediction: Prediction, bases: list[bytes]) -> float:
    return assert_comes_back(data, dtype, prediction, bases).encoded.size / len(data)


def rounded(numbers: np.ndarray, dtype: DType) -> bytes:
    return narrowed(np.ascontiguousarray(numbers.astype("<f4")).view("<u4").ravel(), dtype).tobytes()


@pytest.mark.parametrize(("source", "target"), [(F32, BF16), (F32, F16), (F32, E4M3), (F32, E5M2), (BF16, E4M3)])
def test_a_model_stored_in_a_narrower_dtype_costs_next_to_nothing(
    values: np.ndarray, source: DType, target: DType
) -> None:
    base = rounded(values, source)
    data = narrowed(widened(np.frombuffer(base, f"<u{source.width}"), source), target).tobytes()
    assert cost(data, target, cast([base], source, target, len(data)), [base]) <= 0.0003


@pytest.mark.parametrize(("source", "target"), [(BF16, F32), (F16, F32), (F32, DType.F64), (E4M3, BF16), (E5M2, F16)])
def test_a_model_stored_in_a_wider_dtype_costs_next_to_nothing(
    values: np.ndarray, source: DType, target: DType
) -> None:
    base = rounded(values, source)
    data = narrowed(widened(np.frombuffer(base, f"<u{source.width}"), source), target).tobytes()
    assert cost(data, target, cast([base], source, target, len(data)), [base]) <= 0.0003


def test_training_goes_on_from_a_cast() -> None:
    before, after = (np.frombuffer(each, "<f4") for each in trained(F32, COUNT, 1e-5))
    base, data = before.tobytes(), as_bf16(after).tobytes()
    against_bf16 = encode_against(data, BF16, [unchanged(as_bf16(before).tobytes(), BF16)]).encoded.size
    assert cost(data, BF16, cast([base], F32, BF16, len(data)), [base]) * len(data) < 1.02 * against_bf16


def test_several_bases_lie_behind_each_other_and_may_begin_earlier(values: np.ndarray) -> None:
    data = as_bf16(values[1000:101_000]).tobytes()
    bases = [values[:40_000].tobytes() + b"+", values[40_000:70_000].tobytes(), values[70_000:].tobytes()]
    assert cost(data, BF16, cast(bases, F32, BF16, len(data), left_out=1000), bases) <= 0.0003


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
def test_a_tensor_that_grew_costs_what_was_added(dtype: DType) -> None:
    data = noise(60_000)
    base = data[:48_000]
    prediction = cast([base], dtype, dtype, len(data))
    assert len(data) // 5 <= forced(data, prediction).size < len(data) // 5 * 1.1 + 200
    assert restored_from(forced(data, prediction), len(data), [base]) == data


def scale_of(prediction: Prediction) -> Scale:
    scale = prediction.scale  # type: ignore[attr-defined]
    assert isinstance(scale, Scale)
    return scale


@pytest.mark.parametrize("target", [E4M3, E5M2])
@pytest.mark.parametrize("divided", [False, True])
def test_the_scale_of_a_quantised_tensor_is_found(values: np.ndarray, target: DType, divided: bool) -> None:
    most = np.float32(448 if target is E4M3 else 57344) / np.abs(values).max()
    data = rounded(values / np.float32(1 / most) if divided else values * most, target)
    base = values.tobytes()
    prediction = fitted_cast(data, [base], F32, target)
    assert scale_of(prediction).multipliers == pytest.approx(most, rel=1e-3)
    assert cost(data, target, prediction, [base]) <= 0.002


@pytest.mark.parametrize("before", [0, 300])
def test_a_scale_for_each_row_is_found(values: np.ndarray, before: int) -> None:
    rows = values.reshape(-1, 512)
    data = rounded(rows * (448 / np.abs(rows).max(axis=1, keepdims=True)), E4M3)[before:-77]
    base = values[before:-77].tobytes()
    prediction = fitted_cast(data, [base], F32, E4M3, row=512, before=before)
    assert scale_of(prediction).run == 512
    assert cost(data, E4M3, prediction, [base]) <= 4 / 512 + 0.003


@pytest.mark.parametrize("before", [0, 300])
def test_a_scale_for_each_square_block_is_found(values: np.ndarray, before: int) -> None:
    blocks = values.reshape(-1, 128, 4, 128)
    data = rounded(blocks * (448 / np.abs(blocks).max(axis=(1, 3), keepdims=True)), E4M3)[before:-77]
    base = values[before:-77].tobytes()
    prediction = fitted_cast(data, [base], F32, E4M3, row=512, before=before)
    assert scale_of(prediction).run == 128
    assert cost(data, E4M3, prediction, [base]) <= 0.007


def test_a_quantised_tensor_gives_back_what_it_is_multiplied_to(values: np.ndarray) -> None:
    base = rounded(values * 1000, E4M3)
    wide = widened(np.frombuffer(base, "u1"), E4M3).view("<f4") * np.float32(1 / 1000)
    data = as_bf16(wide).tobytes()
    assert cost(data, BF16, fitted_cast(data, [base], E4M3, BF16), [base]) <= 0.002


@pytest.mark.parametrize("steps", [1, 10, 200])
def test_weight_decay_of_what_was_not_trained_is_found(values: np.ndarray, steps: int) -> None:
    after = multiplied(values.view("<u4"), np.array([1 - 2e-7], "<f4"), steps)
    data, base = after.tobytes(), values.tobytes()
    prediction = fitted_cast(data, [base], F32, F32)
    assert scale_of(prediction).times == steps
    assert cost(data, F32, prediction, [base]) <= 0.001


def test_where_no_scale_helps_there_is_none(values: np.ndarray) -> None:
    base, data = trained(F32, COUNT, 1e-5)
    for source, target, numbers in ((F32, F32, data), (F32, BF16, rounded(np.frombuffer(data, "<f4"), BF16))):
        prediction = fitted_cast(numbers, [base], source, target, row=512)
        assert prediction.scale is None  # type: ignore[attr-defined]
    assert fitted_cast(noise(4000), [noise(4000, 1)], DType.I64, DType.I64).scale is None  # type: ignore[attr-defined]
    fitted_cast(bytes(4000), [bytes(8000)], F32, BF16, row=100)
    fitted_cast(noise(4000), [bytes(8000)], F32, BF16, row=100)
    fitted_cast(noise(4000), [bytes(4000)], F32, F32)


@pytest.mark.parametrize("kernels", KERNELS)
@settings(max_examples=80)
@given(data=st.data())
def test_any_bytes_come_back_from_any_bases(kernels: str, data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from(FLOATS)), data.draw(st.sampled_from(FLOATS))
    bases = data.draw(st.lists(st.binary(max_size=300), min_size=1, max_size=3))
    plain = data.draw(st.binary(max_size=300))
    count = len(plain) // target.width
    run, before = data.draw(st.sampled_from([(0, 0), (1, 0), (7, 3), (100, 99)]))
    needed = (before + max(count, 1) - 1) // run + 1 if run else 1
    some = st.floats(2.0**-100, 2.0**100, width=32)
    multipliers = np.array(data.draw(st.lists(some, min_size=needed, max_size=needed)), "<f4")
    scale = data.draw(st.sampled_from([None, Scale(multipliers, run, before, data.draw(st.integers(1, 255)))]))
    prediction = cast(bases, source, target, len(plain), data.draw(st.integers(0, 100)), scale)
    with using(kernels):
        assert_comes_back(plain, target, prediction, bases)


@pytest.mark.parametrize("target", FLOATS, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("source", FLOATS, ids=lambda dtype: dtype.name)
def test_odd_values_come_back_from_odd_values(source: DType, target: DType) -> None:
    base = np.array(odd_floats(source) * 30, f"<u{source.width}").tobytes()
    data = np.array(odd_floats(target) * 30, f"<u{target.width}").tobytes()
    for scale in (None, Scale(np.array([3.0], "<f4"), times=3)):
        assert_comes_back(data, target, cast([base], source, target, len(data), 0, scale), [base])


def test_both_kernel_sets_write_the_same_bytes(values: np.ndarray) -> None:
    data = disturbed(as_bf16(values).tobytes(), 0.01)
    stored = set()
    for kernels in KERNELS:
        with using(kernels):
            stored.add(joined(forced(data, cast([values.tobytes()], F32, BF16, len(data)))))
    assert len(stored) == 1


@pytest.mark.parametrize(
    ("bases", "source", "target", "left_out", "scale"),
    [
        ([], F32, BF16, 0, None),
        ([b""] * 65, F32, BF16, 0, None),
        ([bytes(8)], DType.I32, BF16, 0, None),
        ([bytes(8)], F32, DType.I32, 0, None),
        ([bytes(8)], DType.I32, DType.I32, 0, Scale(np.ones(1, "<f4"))),
        ([bytes(8)], F32, BF16, -1, None),
        ([bytes(8)], F32, BF16, 1 << 30, None),
        ([bytes(8)], F32, BF16, 0, Scale(np.ones(2, "<f4"))),
        ([bytes(8)], F32, BF16, 0, Scale(np.ones(2, "<f4"), run=4)),
        ([bytes(8)], F32, BF16, 0, Scale(np.ones(1, "<f4"), run=4, before=4)),
        ([bytes(8)], F32, BF16, 0, Scale(np.ones(1, "<f4"), times=0)),
        ([bytes(8)], F32, BF16, 0, Scale(np.ones(1, "<f4"), times=256)),
        ([bytes(8)], F32, BF16, 0, Scale(np.zeros(1, "<f4"))),
        ([bytes(8)], F32, BF16, 0, Scale(np.array([np.inf], "<f4"))),
        ([bytes(8)], F32, BF16, 0, Scale(np.array([np.nan], "<f4"))),
        ([bytes(8)], F32, BF16, 0, Scale(np.array([1e-39], "<f4"))),
    ],
)
def test_a_cast_that_cannot_be_is_an_error(
    bases: list[bytes], source: DType, target: DType, left_out: int, scale: Scale | None
) -> None:
    with pytest.raises(ValueError, match=r"needs 1 to 64|no cast from|more than there can be|do not fit|a multiplier"):
        cast(bases, source, target, 4, left_out, scale)


ONE_ZERO_STEP = bytes([0, 1, 0, 0])  # low, classes, a constant run of one bit


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("header", "bases", "plain"),
    [
        (struct.pack("<BBIB", 2, 4, 0, 0), ["0000803f 0080803f"], "803f 803f"),  # 1.00390625 is a tie: to even
        (struct.pack("<BBIB", 4, 2, 1, 0), ["0000 803f", "0040 ff"], "0000803f 00000040"),  # two bases, one left out
        (struct.pack("<BBIB", 2, 2, 1, 0), ["00000000 0000803f"], "0000803f 00000000"),  # zeros where the base ends
        (struct.pack("<BBIBIIBf", 2, 4, 0, 1, 0, 0, 64, 3.0), ["0000803f 00000040"], "4040 c040"),  # 1 * 3, 2 * 3
        (struct.pack("<BBIBIIBf", 2, 2, 0, 2, 0, 0, 64, 0.5), ["0000803f"], "0000803e"),  # 1 * 0.5 * 0.5
        (struct.pack("<BBIBIIBff", 2, 5, 0, 1, 2, 1, 64, 1.0, 2.0), ["0000803f" * 3], "38 40 40"),  # 1, then 2, 2
        (struct.pack("<BBIB", 8, 8, 0, 0), ["01000000"], "01000000"),  # integers, as they are
    ],
)
def test_streams_written_by_hand_read_as_the_format_says(
    header: bytes, bases: list[str], plain: str, kernels: str
) -> None:
    expected = bytes.fromhex(plain)
    out = bytearray(len(expected))
    with using(kernels):
        decode(CodecId.CAST, header + ONE_ZERO_STEP, memoryview(out), [bytes.fromhex(base) for base in bases])
    assert out.hex() == expected.hex()


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<BBIB", 99, 4, 0, 0),
        struct.pack("<BBIB", 2, 99, 0, 0),
        struct.pack("<BBIB", 8, 4, 0, 0),
        struct.pack("<BBIB", 2, 8, 0, 0),
        struct.pack("<BBIB", 2, 4, 1 << 31, 0),
        struct.pack("<BBIBIIBf", 2, 4, 0, 1, 0, 1, 64, 1.0),
        struct.pack("<BBIBIIBf", 2, 4, 0, 1, 3, 3, 64, 1.0),
        struct.pack("<BBIBIIBf", 2, 4, 0, 1, 0, 0, 64, float("inf")),
        struct.pack("<BBIBIIBf", 2, 4, 0, 1, 0, 0, 64, 0.0),
        struct.pack("<BBIBIIBf", 8, 8, 0, 1, 0, 0, 64, 1.0),
        struct.pack("<BBIBIIBf", 2, 4, 0, 1, 0, 0, 65, 1.0),
        struct.pack("<BBIBII", 2, 4, 0, 1, 0, 0),
        struct.pack("<BBIBI", 2, 4, 0, 1, 0),
        b"\x02\x04",
        b"",
    ],
)
def test_headers_that_were_never_written_are_refused(header: bytes) -> None:
    with pytest.raises(CorruptData):
        decode(CodecId.CAST, header + ONE_ZERO_STEP, memoryview(bytearray(4)), [bytes(8)])


@pytest.mark.parametrize("bases", [[], [b""] * 65])
def test_no_bases_or_far_too_many_are_refused(bases: list[bytes]) -> None:
    with pytest.raises(CorruptData, match="needs 1 to 64 bases"):
        decode(CodecId.CAST, struct.pack("<BBIB", 2, 4, 0, 0) + ONE_ZERO_STEP, memoryview(bytearray(4)), bases)


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_cast_is_refused_or_decodes_to_the_right_size(data: st.DataObject) -> None:
    base = weights(F32, 600)
    scale = data.draw(st.sampled_from([None, Scale(np.linspace(0.5, 2, 7).astype("<f4"), run=100, before=60)]))
    plain = disturbed(as_bf16(np.frombuffer(base, "<f4")).tobytes(), 0.02)
    stored = bytearray(joined(forced(plain, cast([base], F32, BF16, len(plain), 0, scale))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(60, len(stored) - 1)))
        if data.draw(st.booleans()):
            stored[at] = data.draw(st.integers(0, 255))
        else:
            del stored[at : at + data.draw(st.integers(1, 9))]
    results = []
    for kernels in KERNELS:
        with using(kernels):
            out = bytearray(len(plain))
            try:
                decode(CodecId.CAST, bytes(stored), memoryview(out), [base])
                results.append(bytes(out))
            except CorruptData:
                results.append(b"")
    assert results[0] == results[1]
