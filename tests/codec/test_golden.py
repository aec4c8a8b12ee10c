"""Encodings written by earlier releases still decode to the same bytes; golden/README.md tells what the files are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codec.cases import KERNELS, assert_round_trip, using
from codec.pairs import assert_delta
from shardflow.codec import CodecId, decode
from shardflow.dtype import DType

GOLDEN = Path(__file__).parent / "golden"
ENTRIES = json.loads((GOLDEN / "index.json").read_text())
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])


def read(entry: dict[str, str], kind: str) -> bytes:
    return (GOLDEN / f"{entry['name']}.{kind}").read_bytes()


def bases(entry: dict[str, str]) -> list[bytes]:
    return [read(entry, kind) for kind in entry.get("bases", "").split()]


@pytest.mark.parametrize("kernels", KERNELS)
@every_entry
def test_old_encodings_are_still_read(entry: dict[str, str], kernels: str) -> None:
    plain = read(entry, "plain")
    out = bytearray(len(plain))
    with using(kernels):
        decode(int(entry["codec"]), read(entry, "stored"), memoryview(out), bases(entry))
    assert out == plain


@every_entry
def test_today_s_encodings_of_the_same_data_are_read_too(entry: dict[str, str]) -> None:
    dtype = DType[entry["dtype"]]
    assert_round_trip(read(entry, "plain"), dtype)
    if int(entry["codec"]) in {CodecId.DELTA, CodecId.SPARSE}:
        assert_delta(bases(entry)[0], read(entry, "plain"), dtype)


def test_every_codec_and_every_file_is_in_the_index() -> None:
    assert {int(entry["codec"]) for entry in ENTRIES} == set(CodecId)
    indexed = {f"{entry['name']}.{kind}" for entry in ENTRIES for kind in ("plain", "stored")}
    indexed |= {f"{entry['name']}.{kind}" for entry in ENTRIES for kind in entry.get("bases", "").split()}
    assert {path.name for path in GOLDEN.iterdir()} == indexed | {"README.md", "index.json"}
