"""`shardflow.json` says what a store is and needs; nothing else, damaged or from the future, passes for it."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardflow.errors import ShardflowError
from shardflow.store import config as config_module
from shardflow.store.config import (
    FORMAT,
    KIB,
    MIB,
    Cutting,
    Settings,
    StoreConfig,
    decode_config,
    encode_config,
    new_config,
)
from shardflow.store.errors import FormatUnknown, ManifestDamaged
from store.samples import flipped

cuttings = st.lists(st.integers(64, 4 * MIB), min_size=3, max_size=3, unique=True).map(
    lambda sizes: Cutting(**dict(zip(("minimum", "mean", "maximum"), sorted(sizes), strict=True)))
)
any_settings = st.builds(
    Settings,
    chunk_bytes=st.integers(4 * KIB, 4 * MIB),
    pack_bytes=st.integers(4 * MIB, 1024 * MIB),
    inline_bytes=st.integers(0, MIB),
    gc_grace_seconds=st.floats(0, 1e9),
    cutting=cuttings,
)


@given(any_settings)
def test_a_configuration_round_trips(settings: Settings) -> None:
    config = new_config(settings)
    assert decode_config(encode_config(config), "here") == config


def test_each_store_gets_an_id_of_its_own() -> None:
    assert new_config(Settings()).id != new_config(Settings()).id


@pytest.mark.parametrize("name", ["0d3bd7a4-7b55-44a4-a3b3-5b6df3c0a0a1", "x", "Models_2024", "a" * 64])
def test_an_id_is_letters_digits_dashes_and_underscores(name: str) -> None:
    config = StoreConfig(format=1, id=name, created=0.0)
    assert decode_config(encode_config(config), "here").id == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/data/repo/.git", "a/b", "a\\b", "a\n", "a b", "a.b", "\0", "é", "a" * 65]
)
def test_an_id_that_could_lead_elsewhere_on_a_writers_machine_is_refused(name: str) -> None:
    """Whoever can write to the store can write its id."""
    data = encode_config(StoreConfig(format=1, id=name, created=0.0))
    with pytest.raises(ManifestDamaged, match=r"store at here is not valid: .*id.*restore it"):
        decode_config(data, "here")


def test_a_person_can_read_it() -> None:
    text = encode_config(new_config(Settings())).decode()
    assert text.endswith("}\n")
    assert '\n  "format": 1,\n' in text
    assert json.loads(text)["settings"]["cutting"] == {"minimum": 32768, "mean": 131072, "maximum": 524288}


def test_what_is_left_out_is_as_it_was_when_the_format_began() -> None:
    """Settings that were never written mean these values for ever."""
    config = decode_config(b'{"format": 1, "id": "x", "created": 0}', "here")
    assert config.settings == Settings(
        pack_bytes=32 * MIB,
        chunk_bytes=4 * MIB,
        inline_bytes=64 * KIB,
        gc_grace_seconds=86400.0,
        cutting=Cutting(minimum=32 * KIB, mean=128 * KIB, maximum=512 * KIB),
    )


def test_additions_of_later_versions_are_passed_over() -> None:
    config = decode_config(b'{"format": 1, "id": "x", "created": 0, "colour": "red", "settings": {"shade": 3}}', "here")
    assert config.settings == Settings()


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk_bytes": 4 * KIB - 1},
        {"chunk_bytes": 4 * MIB + 1},
        {"pack_bytes": 4 * MIB - 1},
        {"pack_bytes": 1024 * MIB + 1},
        {"inline_bytes": -1},
        {"inline_bytes": MIB + 1},
        {"gc_grace_seconds": -1.0},
        {"gc_grace_seconds": math.nan},
        {"gc_grace_seconds": math.inf},
    ],
)
def test_settings_that_no_store_could_keep_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [(63, 100, 200), (100, 100, 200), (64, 300, 200), (64, 128, 4 * MIB + 1)])
def test_cutting_sizes_that_contradict_each_other_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="cutting needs"):
        Cutting(minimum=sizes[0], mean=sizes[1], maximum=sizes[2])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\x00" * 100,
        b'{"format": "1"}',
        b'{"format": true, "id": "x", "created": 0}',
        b'{"format": 1}',
        b'{"format": 1, "id": 7, "created": 0}',
        b'{"format": 1, "id": "\xff", "created": 0}',
        b'{"format": 1, "id": "x", "created": 0, "settings": {"pack_bytes": 0}}',
        b'{"format": 1, "id": "x", "created": 0, "settings": {"cutting": {"minimum": 0}}}',
        b'{"format": 1, "id": "x", "created": 0, "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_damaged_configuration_is_named(data: bytes) -> None:
    with pytest.raises(ManifestDamaged, match=r"shardflow.json of the store at here is not valid: .*restore it"):
        decode_config(data, "here")


def test_a_flipped_bit_is_an_error_of_ours_or_still_a_configuration() -> None:
    data = encode_config(new_config(Settings()))
    for bit in range(8 * len(data)):
        try:
            decode_config(flipped(data, bit), "here")
        except ShardflowError:
            continue


@pytest.mark.parametrize("operation", ["read", "write", "delete"])
def test_a_format_from_the_future_is_refused_for_everything(operation: config_module.Operation) -> None:
    """Nothing but the number is sure to be there."""
    config = decode_config(b'{"format": 2, "id": {"new": "shape"}}', "here")
    with pytest.raises(FormatUnknown, match=f"store at here has format 2, and this Shardflow knows up to {FORMAT}"):
        config.check(operation, "here")


def test_an_unknown_feature_stops_only_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = StoreConfig(format=1, id="x", created=0.0, requires={"write": ["glyphs", "ink"], "delete": ["ink"]})
    config.check("read", "here")
    with pytest.raises(FormatUnknown, match="to write the store at here needs glyphs, ink, unknown to this version"):
        config.check("write", "here")
    monkeypatch.setitem(config_module.KNOWN_FEATURES, "delete", frozenset({"ink"}))
    config.check("delete", "here")


def test_requirements_survive_a_rewrite() -> None:
    config = StoreConfig(format=1, id="x", created=0.0, requires={"write": ["ink"]})
    assert decode_config(encode_config(config), "here").requires == {"write": ["ink"]}


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        new_config(Settings()).settings.pack_bytes = 1  # type: ignore[misc]
    assert msgspec.structs.replace(Settings(), pack_bytes=8 * MIB).pack_bytes == 8 * MIB
