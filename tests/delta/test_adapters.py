"""Adapters are read as peft saves them, and what is none is told by name."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from delta.models import adapter, save_adapter
from shardflow.delta.adapters import Adapter, AdapterUnusable

NAME = "layers.0.attention.weight"
SHAPE = (192, 192)


def test_both_sides_and_the_scale_come_from_what_peft_wrote(tmp_path: Path) -> None:
    sides = adapter()
    found = Adapter(save_adapter(tmp_path / "a", sides)).sides(NAME, SHAPE)
    assert found is not None
    assert np.array_equal(found.a, sides[NAME][0])
    assert np.array_equal(found.b, sides[NAME][1])
    assert found.scale == 2.0


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"attention": 20}}, 5.0),
        ({"rank_pattern": {"layers.0.attention": 8}}, 1.0),
        ({"alpha_pattern": {"tention": 20}}, 2.0),
        ({"alpha_pattern": {r"layers\.\d+\.(attention|mlp)": 20, "attention": 40}}, 5.0),
    ],
)
def test_the_scale_follows_the_configuration(tmp_path: Path, config: dict[str, object], scale: float) -> None:
    found = Adapter(save_adapter(tmp_path / "a", adapter(), **config)).sides(NAME, SHAPE)
    assert found is not None
    assert found.scale == scale


def test_weights_that_lie_the_other_way_round_are_turned(tmp_path: Path) -> None:
    sides = adapter()
    found = Adapter(save_adapter(tmp_path / "a", sides, fan_in_fan_out=True)).sides(NAME, SHAPE)
    assert found is not None
    assert np.array_equal(found.a, sides[NAME][1].T)


def test_what_the_adapter_does_not_touch_has_no_sides(tmp_path: Path) -> None:
    found = Adapter(save_adapter(tmp_path / "a", adapter()))
    assert len(found) == 3
    assert found.sides("head.weight", (2000, 128)) is None
    assert found.sides(NAME, (192, 100)) is None


def broken(directory: Path, **files: bytes) -> Path:
    save_adapter(directory, adapter())
    for name, content in files.items():
        (directory / f"adapter_{name}").with_suffix(".json" if name == "config" else ".safetensors").write_bytes(
            content
        )
    return directory


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"config": b"{"}, "adapter_config.json is not one that peft writes"),
        ({"config": b"[" * 100_000}, "adapter_config.json is not one that peft writes"),
        ({"config": json.dumps({"r": 0, "lora_alpha": 1}).encode()}, "names a rank below 1"),
        ({"config": json.dumps({"r": 4, "lora_alpha": 1, "use_dora": True}).encode()}, "DoRA"),
        ({"model": b"nothing of use"}, "holds no pairs of lora_A and lora_B"),
        ({"model": save({"x.lora_A.weight": np.ones((2, 3), "<f4")})}, "holds no pairs"),
    ],
)
def test_what_is_no_adapter_is_refused_by_name(tmp_path: Path, files: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(AdapterUnusable, match=complaint):
        Adapter(broken(tmp_path / "a", **files))


@pytest.mark.parametrize("kind", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("pattern", ["(", "a{2}"])
def test_a_pattern_that_is_none_or_not_looked_for_is_told(tmp_path: Path, kind: str, pattern: str) -> None:
    directory = save_adapter(tmp_path / "a", adapter(), **{kind: {pattern: 3}})
    with pytest.raises(AdapterUnusable, match=rf"holds a pattern that cannot be looked for: '{re.escape(pattern)}'"):
        Adapter(directory)


def test_patterns_that_would_take_for_ever_take_no_time(tmp_path: Path) -> None:
    """An adapter may come from anywhere."""
    name = f"layers.{'a' * 40}.weight"
    sides = {name: adapter()[NAME]}
    using = Adapter(save_adapter(tmp_path / "a", sides, rank_pattern={"(a|a)*!": 8}))
    begun = time.monotonic()
    found = using.sides(name, SHAPE)
    assert time.monotonic() - begun < 10
    assert found is not None
    assert found.scale == 2.0
