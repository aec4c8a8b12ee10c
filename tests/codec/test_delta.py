"""What a delta costs against its base, what it makes use of, and the exact bytes it reads and writes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from codec.cases import EVERY_DTYPE, KERNELS, as_bf16, joined, noise, using, weights
from codec.pairs import TRAINED, assert_delta, disturbed, fraction_of, neighbours, restored_from, trained
from shardflow.codec import (
    CodecId,
    classes,
    decode,
    encode,
    encode_against,
    estimate,
    frames,
    predicted,
    residual,
    unchanged,
)
from shardflow.dtype import DType

if TYPE_CHECKING:
    from shardflow.codec.kernels.contract import Words

COUNT = 1 << 18


@pytest.mark.parametrize(
    ("dtype", "rate", "most"),
    [
        (DType.BF16, 1e-4, 0.145),
        (DType.BF16, 1e-5, 0.041),
        (DType.BF16, 1e-7, 0.0023),
        (DType.F16, 1e-5, 0.14),
        (DType.F32, 1e-5, 0.48),
        (DType.F64, 1e-5, 0.72),
    ],
)
def test_a_trained_model_costs_what_its_weights_moved(dtype: DType, rate: float, most: float) -> None:
    reached = fraction_of(*trained(dtype, COUNT, rate), dtype)
    assert most * 0.85 <= reached <= most


def test_a_delta_is_much_smaller_than_xor_of_the_same_words() -> None:
    base, data = trained(DType.BF16, COUNT, 1e-5)
    words = np.frombuffer(base, "<u2") ^ np.frombuffer(data, "<u2")
    xored = sum(len(frames.by_matches(memoryview(plane.tobytes()))) for plane in (words >> 7 & 255, words & 127))
    assert fraction_of(base, data, DType.BF16) < 0.5 * xored / len(data)


def test_the_entropy_given_the_exponent_of_the_base_is_nearly_reached() -> None:
    base, data = (np.frombuffer(each, "<u2") for each in trained(DType.BF16, COUNT, 3e-5))
    entropy = 0.0
    for exponent in np.unique(base >> 7 & 255):
        here = (base >> 7 & 255) == exponent
        _, counts = np.unique(data[here].astype(int) - base[here], return_counts=True)
        entropy += float(-(counts * np.log2(counts / counts.sum())).sum() / 8)
    assert fraction_of(base.tobytes(), data.tobytes(), DType.BF16) * data.nbytes < 1.07 * entropy


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
def test_the_same_chunk_again_costs_next_to_nothing(dtype: DType) -> None:
    base = weights(dtype, COUNT // dtype.width)
    assert assert_delta(base, base, dtype).encoded.size <= 16


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
def test_a_few_changes_cost_a_few_bytes_each(dtype: DType) -> None:
    base = noise(COUNT)
    data = disturbed(base, 0.0005)
    assert assert_delta(base, data, dtype).encoded.size < 5 * 0.0005 * COUNT + 120


def test_rows_that_were_not_trained_cost_nothing() -> None:
    base, data = trained(DType.BF16, COUNT, 1e-4)
    rows = np.frombuffer(base, "<u2").reshape(-1, 512).copy()
    rows[::8] = np.frombuffer(data, "<u2").reshape(-1, 512)[::8]
    assert fraction_of(base, rows.tobytes(), DType.BF16) < 1.1 / 8 * fraction_of(base, data, DType.BF16)


@pytest.mark.parametrize("narrow", [DType.BF16, DType.F16])
def test_float32_that_holds_narrow_values_costs_what_those_cost(narrow: DType) -> None:
    pair = trained(narrow, COUNT, 1e-5)
    if narrow is DType.BF16:
        wide = [(np.frombuffer(each, "<u2").astype("<u4") << 16).tobytes() for each in pair]
    else:
        wide = [np.frombuffer(each, "<f2").astype("<f4").tobytes() for each in pair]
    assert assert_delta(*wide, DType.F32).encoded.size < 1.02 * assert_delta(*pair, narrow).encoded.size


def test_integers_are_subtracted() -> None:
    base = np.random.default_rng(0).integers(-(2**40), 2**40, COUNT // 8)
    data = base + np.random.default_rng(1).integers(-3, 4, base.size)
    assert fraction_of(base.astype("<i8").tobytes(), data.astype("<i8").tobytes(), DType.I64) < 3 / 64


def test_an_unrelated_base_is_left_alone() -> None:
    for count in (3000, COUNT, 1 << 20):
        base, data = weights(DType.BF16, count, 1), weights(DType.BF16, count, 2)
        chosen = encode_against(data, DType.BF16, [unchanged(base, DType.BF16)])
        assert chosen.prediction is None
        assert joined(chosen.encoded) == joined(encode(data, DType.BF16))


def test_the_best_of_several_bases_is_taken() -> None:
    for count in (3000, 1 << 20):
        base, data = trained(DType.BF16, count)
        others = [weights(DType.BF16, count, seed) for seed in (1, 2)]
        predictions = [unchanged(each, DType.BF16) for each in (others[0], base, others[1])]
        assert encode_against(data, DType.BF16, predictions).prediction is predictions[1]


def test_without_predictions_a_chunk_is_encoded_by_itself() -> None:
    for count in (3000, 1 << 20):
        data = weights(DType.BF16, count)
        assert joined(encode_against(data, DType.BF16, []).encoded) == joined(encode(data, DType.BF16))


def test_a_prediction_of_something_else_is_an_error() -> None:
    data = weights(DType.BF16, 1000)
    for wrong in (unchanged(data[:-1], DType.BF16), unchanged(data, DType.F16), unchanged(data, DType.F32)):
        with pytest.raises(ValueError, match="is not one of 2000 bytes of BF16"):
            encode_against(data, DType.BF16, [wrong])


@pytest.mark.parametrize("count", [1000, 1 << 20])
def test_an_estimate_is_near_the_truth(count: int) -> None:
    base, data = trained(DType.BF16, count, 1e-4)
    prediction = unchanged(base, DType.BF16)
    alone, against = estimate(data, DType.BF16), estimate(data, DType.BF16, prediction)
    assert alone == pytest.approx(encode(data, DType.BF16).size, rel=0.05)
    assert against == pytest.approx(encode_against(data, DType.BF16, [prediction]).encoded.size, rel=0.15)


def test_a_sample_that_promised_too_much_never_makes_a_chunk_larger() -> None:
    base, data = trained(DType.BF16, 1 << 21, 1e-7)
    words = np.frombuffer(noise(len(base), 1), "<u2").copy()
    length = (16 << 10) // 8
    for first in range(0, words.size - length + 1, (words.size - length) // 7):
        words[first : first + length] = np.frombuffer(data, "<u2")[first : first + length]
    assert_delta(base, words.tobytes(), DType.BF16)


def test_a_large_chunk_is_stored_by_what_its_sample_says(monkeypatch: pytest.MonkeyPatch) -> None:
    choose, looked_at = classes.choose, []

    def counting(words: Words, *others: Any) -> classes.Classes:
        looked_at.append(words.size)
        return choose(words, *others)

    for module in (classes, residual):
        monkeypatch.setattr(module, "choose", counting)
    base, data = trained(DType.F32, 1 << 20, 1e-5)
    chosen = encode_against(data, DType.F32, [unchanged(base, DType.F32)])
    assert restored_from(chosen.encoded, len(data), [base]) == data
    assert looked_at == [predicted.SAMPLE]


@pytest.mark.parametrize("sampled", [0xFFFF0000, 0])
def test_words_unlike_those_of_the_sample_come_back_too(sampled: int) -> None:
    """In the sample low bits are all zeros, or nothing changed; elsewhere neither is so."""
    base, data = (np.frombuffer(each, "<u4").copy() for each in trained(DType.F32, 1 << 20, 1e-5))
    length = predicted.SAMPLE // 32
    for first in range(0, base.size - length + 1, (base.size - length) // 31):
        part = slice(first, first + length)
        base[part] &= 0xFFFF0000
        data[part] = data[part] & sampled if sampled else base[part]
    assert_delta(base.tobytes(), data.tobytes(), DType.F32)


def runs(*parts: bytes | int) -> bytes:
    return b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)


CONSTANT, RAW, FRAME, SPARSE = 0, 64, 128, 192  # coding of a run, added to its tag
ONE, TWO, FOUR, EIGHT, LOW = range(5)  # tags of the stages
AB = frames.by_matches(memoryview(b"\x00\x02" * 30))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("stored", "base", "plain"),
    [
        # bfloat16, one class, three words and a byte behind them: one step up, none, one step down
        (runs(2, 7, 0, 1, RAW + TWO, 0b01_00_10, b"T"), "803f 0000 80bf 58", "813f 0000 81bf 54"),
        # the step of 2 lies in the low stage that follows two bits; 3 + 2 is a step of -3
        (runs(2, 7, 0, 1, RAW + TWO, 0b11_00_11, RAW + LOW, 1, 2, CONSTANT + LOW, 0), "8000" * 3, "8200 8000 7d00"),
        # two classes: exponents below 127 and from 127 on; each class has its own stages
        (runs(2, 7, 0, 2, 127, 0, RAW + ONE, 1, RAW + LOW, 1, RAW + LOW, 0, RAW + FOUR, 4), "803f 003f", "823f 013f"),
        # int8, five words: nothing but one constant stage
        (runs(1, 0, 0, 1, CONSTANT + LOW, 2), "0102037fff", "0203048000"),
        # float32 of which 16 bits do not count
        (runs(4, 23, 16, 1, RAW + TWO, 0b10_01), "0000803f 0000803f", "00007f3f 0000813f"),
        # 64 words of int8 in two blocks, of which the second changed; a frame
        (runs(1, 0, 0, RAW, 2, 1, FRAME + LOW, struct.pack("<I", len(AB)), AB), "05" * 92, "05" * 32 + "0506" * 30),
        # the words behind the last whole block always have steps; 40 bits of which one is set, sparse in sparse
        (
            runs(1, 0, 0, CONSTANT, 255, 1, SPARSE + ONE, RAW, 0b10000, RAW, 0b10000000, CONSTANT + ONE, 0),
            "00" * 40,
            "00" * 39 + "ff",
        ),
        (runs(1, 0, 0, CONSTANT, 0, 1), "07" * 32, "07" * 32),
        (runs(8, 52, 0, 1, b"7 bytes"), "11" * 7, b"7 bytes".hex()),
    ],
)
def test_streams_written_by_hand_read_as_the_format_says(stored: bytes, base: str, plain: str, kernels: str) -> None:
    expected = bytes.fromhex(plain)
    out = bytearray(len(expected))
    with using(kernels):
        decode(CodecId.DELTA, stored, memoryview(out), [bytes.fromhex(base)])
    assert out.hex() == expected.hex()


@pytest.mark.parametrize("dtype", TRAINED)
def test_both_kernel_sets_write_the_same_bytes(dtype: DType) -> None:
    for count in (64, 1001, 70_007):
        base, data = neighbours(dtype, count, seed=count)
        with using("numpy"):
            by_numpy = assert_delta(base, data, dtype).encoded
        with using("numba"):
            by_numba = assert_delta(base, data, dtype).encoded
            assert restored_from(by_numpy, len(data), [base]) == data
        assert by_numpy.codec is by_numba.codec is CodecId.DELTA
        assert joined(by_numpy) == joined(by_numba)


def test_bfloat16_weights_are_kept_in_classes_by_exponent() -> None:
    stored = joined(assert_delta(*trained(DType.BF16, COUNT), DType.BF16).encoded)
    assert stored[:3] == bytes([2, 7, 0])
    changed_blocks_end = 3 + 2  # all of them: a constant run
    classes = stored[changed_blocks_end]
    starts = struct.unpack_from(f"<{classes - 1}H", stored, changed_blocks_end + 1)
    assert 6 <= classes <= 32
    assert list(starts) == sorted(starts)
    assert as_bf16(np.array([0.04], "<f4"))[0] >> 7 in starts
