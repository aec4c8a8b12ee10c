"""Chunks are encoded by themselves or against others, and nothing is kept that does not lead back."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from shardflow import codec
from shardflow.codec import CodecId
from shardflow.delta.bases import Attempt, Piece
from shardflow.dtype import DType
from shardflow.errors import Cancelled
from shardflow.store import coding
from shardflow.store.coding import Against, BlockEncoder, Made
from shardflow.store.errors import PackMissing, SourceChanged
from store.samples import named, noise

BEFORE = (np.random.default_rng(1).standard_normal(4_000)).astype("<f4")
AFTER = memoryview((BEFORE * np.float32(1.000001)).tobytes())
BASE = memoryview(BEFORE.tobytes())


class Predicting:
    """Offers the same attempts for every chunk; or fails."""

    def __init__(self, *attempts: Attempt, error: Exception | None = None) -> None:
        self.attempts_made = list(attempts)
        self.error = error
        self.asked = 0

    def attempts(self, start: int, end: int, data: memoryview) -> list[Attempt]:
        self.asked += 1
        if self.error:
            raise self.error
        return self.attempts_made


def against(predicting: Predicting, *, required: bool = False) -> Against:
    return Against(lambda: predicting, required=required)  # type: ignore[arg-type, return-value]


def same_as_base(key: int | None = 7) -> Attempt:
    return Attempt(codec.unchanged(BASE, DType.F32), (Piece(key, BASE),))


def encoded(encoder: BlockEncoder, data: memoryview = AFTER, dtype: DType = DType.F32) -> coding.Coded:
    return encoder.encode(data, dtype, 0)


def test_a_chunk_near_its_base_rests_on_it() -> None:
    coded = encoded(BlockEncoder(against(Predicting(same_as_base()))))
    assert (coded.encoded.codec, coded.bases) == (CodecId.DELTA, (7,))


def test_a_chunk_unlike_its_base_stands_by_itself() -> None:
    other = memoryview(noise(len(AFTER)))
    coded = encoded(BlockEncoder(against(Predicting(same_as_base()))), other)
    assert coded.bases == ()


def test_bytes_without_elements_are_tried_against_nothing() -> None:
    predicting = Predicting(same_as_base())
    encoded(BlockEncoder(against(predicting)), dtype=DType.BYTES)
    assert predicting.asked == 0


def test_what_is_made_for_an_encoding_is_a_chunk_of_its_own() -> None:
    coded = encoded(BlockEncoder(against(Predicting(same_as_base(key=None)))))
    [made] = coded.bases
    assert isinstance(made, Made)
    assert (made.chunk, made.size) == (named(bytes(BASE)), len(BASE))


def test_what_is_made_for_an_encoding_must_have_room_beside_what_its_base_rests_on() -> None:
    room = coding.MOST_BASE_BYTES - len(BASE)
    for below, rests_on_it in ((room, True), (room + 1, False)):
        attempt = Attempt(codec.unchanged(BASE, DType.F32), (Piece(None, BASE, below),))
        assert bool(encoded(BlockEncoder(against(Predicting(attempt)))).bases) == rests_on_it


def test_an_encoding_that_does_not_lead_back_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = codec.encode_against

    def wrong(data: memoryview, dtype: DType, predictions: list[codec.Prediction], worth: float) -> codec.Chosen:
        return right(memoryview(bytes(data[:-1]) + b"?"), dtype, predictions, worth)

    monkeypatch.setattr(coding.codec, "encode_against", wrong)
    with caplog.at_level(logging.WARNING):
        coded = encoded(BlockEncoder(against(Predicting(same_as_base()))))
    assert coded.bases == ()
    assert "does not lead back" in caplog.text


def test_bases_that_cannot_be_read_are_given_up_once(caplog: pytest.LogCaptureFixture) -> None:
    predicting = Predicting(error=PackMissing("pack 00 of m is not in the store"))
    encoder = BlockEncoder(against(predicting))
    with caplog.at_level(logging.WARNING):
        assert [encoded(encoder).bases for _ in range(3)] == [(), (), ()]
    assert predicting.asked == 1
    assert "pack 00 of m is not in the store" in caplog.text


def test_the_base_that_was_asked_for_must_be_readable() -> None:
    predicting = Predicting(error=PackMissing("pack 00 of m is not in the store"))
    with pytest.raises(PackMissing):
        encoded(BlockEncoder(against(predicting, required=True)))


@pytest.mark.parametrize("error", [Cancelled("interrupted"), SourceChanged("it became shorter")])
def test_a_put_that_comes_to_its_end_is_not_a_base_that_cannot_be_read(error: Exception) -> None:
    with pytest.raises(type(error)):
        encoded(BlockEncoder(against(Predicting(error=error))))


def test_where_nothing_becomes_smaller_fewer_chunks_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    plain = codec.encode
    monkeypatch.setattr(codec, "encode", lambda data, dtype: tried.append(1) or plain(data, dtype))
    encoder = BlockEncoder()

    def kind_of(data: bytes) -> int:
        return encoder.encode(memoryview(data), DType.BYTES, 0).encoded.codec

    assert {kind_of(noise(5000, seed)) for seed in range(64)} == {CodecId.RAW}
    assert len(tried) == 16
    assert kind_of(bytes(5000)) == CodecId.ZSTD
    assert kind_of(noise(5000)) == CodecId.RAW
    assert len(tried) == 18
