"""Every format brings back every tensor bit by bit, whole or in part, from a directory or a store."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch

from flavor.formats.states import awkward, bits, differing, every_type, weights
from services.warmed import finish, program
from shardflow.errors import ShardflowError
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable, TensorUnusable, TrustRequired
from shardflow.flavor.formats.errors import CheckpointExists, FormatUnavailable
from shardflow.flavor.formats.interface import Format
from shardflow.flavor.plans import plan
from shardflow.store.errors import PathMissing, TargetUnusable
from shardflow.store.store import Store

EVERY = formats.names()
KEEPS_TIES = [name for name in EVERY if name != "dcp"]  # which has no word for it


@pytest.mark.parametrize("name", EVERY)
def test_every_type_of_every_shape_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    state = every_type()
    formats.save(state, tmp_path / "checkpoint", format=name)
    assert differing(state, formats.load(tmp_path / "checkpoint")) == []


@pytest.mark.parametrize("name", EVERY)
def test_strided_tied_and_oddly_named_tensors_come_back(name: str, tmp_path: Path) -> None:
    state = awkward()
    formats.save(state, tmp_path / "checkpoint", format=name)
    back = formats.load(tmp_path / "checkpoint", format=name)
    assert differing(state, back) == []
    tied = back["embed.weight"].data_ptr() == back["lm_head.weight"].data_ptr()
    assert tied == (name in KEEPS_TIES)


@pytest.mark.parametrize("name", EVERY)
def test_single_elements_of_larger_tensors_come_back(name: str, tmp_path: Path) -> None:
    state = {
        "spread": torch.tensor(5.0).expand(1),
        "tenth": torch.arange(10.0)[::10],
        "in": torch.randn(4, 6).T[:1, :1],
    }
    formats.save(state, tmp_path / "checkpoint", format=name, verify=True)
    back = formats.load(tmp_path / "checkpoint")
    assert all(torch.equal(back[each], tensor) for each, tensor in state.items())


@pytest.mark.parametrize("name", [name for name in EVERY if name != "tensorstore"])
def test_tensors_of_many_chunks_come_back_and_are_recognised(name: str, tmp_path: Path) -> None:
    state = weights()
    formats.save(state, tmp_path / "checkpoint", format=name)
    assert differing(state, formats.load(tmp_path / "checkpoint")) == []


@pytest.mark.parametrize("name", EVERY)
def test_a_part_is_read_alone(name: str, tmp_path: Path) -> None:
    state = weights(rows=200, columns=301)
    formats.save(state, tmp_path / "checkpoint", format=name)
    rows = formats.read(tmp_path / "checkpoint", "brain", slice(100, 120))
    assert torch.equal(rows, state["brain"][100:120])
    box = formats.read(tmp_path / "checkpoint", "single", (slice(5, 9), slice(-3, None)))
    assert torch.equal(box, state["single"][5:9, -3:])
    assert torch.equal(formats.read(tmp_path / "checkpoint", "zeros"), state["zeros"])


@pytest.mark.parametrize("name", EVERY)
def test_some_tensors_are_loaded_by_pattern_and_others_are_named(name: str, tmp_path: Path) -> None:
    formats.save(awkward(), tmp_path / "checkpoint", format=name)
    assert formats.load(tmp_path / "checkpoint", tensors="*.weight").keys() == {"embed.weight", "lm_head.weight"}
    with pytest.raises(CheckpointUnusable, match=r"no tensor of .* is called nothing"):
        formats.load(tmp_path / "checkpoint", tensors="nothing")
    with pytest.raises(CheckpointUnusable, match="has no tensor called nothing"):
        formats.read(tmp_path / "checkpoint", "nothing")


@pytest.mark.parametrize("name", EVERY)
def test_a_store_takes_and_gives_every_format(name: str, store: Store) -> None:
    state, url = awkward(), f"{store.url}/checkpoint"
    formats.save(state, url, format=name)
    assert differing(state, formats.load(url)) == []
    with pytest.raises(CheckpointExists, match="exists"):
        formats.save(state, url, format=name)
    formats.save({"other": torch.ones(2)}, url, format=name, replace=True)
    assert formats.load(url).keys() == {"other"}


@pytest.mark.parametrize("name", EVERY)
def test_memory_that_holds_a_few_rows_is_enough(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint goes from one format into another in pieces."""
    state = weights(rows=160, columns=301)
    formats.save(state, tmp_path / "first", format=name)
    for module in ("zarr", "chunk_files", "torch_files", "safetensors_files"):
        monkeypatch.setattr(f"shardflow.flavor.formats.{module}.PIECE_BYTES", 16 << 10)
    for other in EVERY:
        with formats.opened(tmp_path / "first") as checkpoint:
            formats.save(checkpoint, tmp_path / f"as-{other}", format=other)
        assert differing(state, formats.load(tmp_path / f"as-{other}")) == [], other


def test_a_torch_file_written_in_pieces_is_a_sound_archive(tmp_path: Path) -> None:
    formats.save(awkward() | every_type(), tmp_path / "first")
    with formats.opened(tmp_path / "first") as checkpoint:
        formats.save(checkpoint, tmp_path / "second", format="torch")
    with zipfile.ZipFile(tmp_path / "second" / "model.pt") as archive:
        assert archive.testzip() is None
    plain = torch.load(tmp_path / "second" / "model.pt", weights_only=True)
    assert torch.equal(bits(plain["strided"]), bits(awkward()["strided"]))


def test_a_torch_file_holds_a_part_of_a_large_tensor_without_the_rest(tmp_path: Path) -> None:
    formats.save({"part": torch.randn(1000, 1000)[:10]}, tmp_path / "checkpoint", format="torch")
    assert (tmp_path / "checkpoint" / "model.pt").stat().st_size < 100_000


def test_a_directory_that_holds_something_is_refused_or_replaced(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    formats.save({"a": torch.ones(3)}, target)
    with pytest.raises(CheckpointExists, match="checkpoint exists"):
        formats.save({"b": torch.ones(3)}, target)
    formats.save({"b": torch.ones(3)}, target, format="torch", replace=True)
    assert formats.load(target).keys() == {"b"}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("points_to", ["step-1", "nothing"])
def test_a_link_is_refused_or_replaced_and_what_it_points_to_stays(points_to: str, tmp_path: Path) -> None:
    formats.save({"a": torch.ones(3)}, tmp_path / "step-1")
    link = tmp_path / "latest"
    link.symlink_to(points_to)
    with pytest.raises(CheckpointExists, match="latest exists"):
        formats.save({"b": torch.ones(3)}, link)
    formats.save({"b": torch.ones(3)}, link, replace=True)
    assert not link.is_symlink()
    assert formats.load(link).keys() == {"b"}
    assert formats.load(tmp_path / "step-1").keys() == {"a"}
    assert {path.name for path in tmp_path.iterdir()} == {"latest", "step-1"}


class Failing:
    """A state whose tensors cannot be read to their end: the disk is full, or its process is about to be killed."""

    tensors = formats.MemoryState.of(weights(rows=30)).tensors
    aliases: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, state: dict[str, torch.Tensor] | None = None) -> None:
        self._state = state or {}

    def read(self, name: str, box: object = None, /) -> torch.Tensor:
        if name in self._state:
            return self._state[name]
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", EVERY)
def test_a_save_that_fails_leaves_the_previous_checkpoint_and_nothing_else(name: str, tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    formats.save({"a": torch.ones(3)}, target, format=name)
    with pytest.raises(TargetUnusable, match="No space left on device"):
        formats.save(Failing(), target, format=name, replace=True)  # type: ignore[arg-type]
    assert formats.load(target).keys() == {"a"}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", EVERY)
def test_a_save_into_a_store_that_fails_leaves_the_previous_checkpoint(
    name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many files as there are tensors: new ones that are there already must not be seen among the old."""
    monkeypatch.setattr("shardflow.flavor.formats.safetensors_files.plan", partial(plan, max_shard_bytes=1000))
    state, url = weights(rows=30), f"{store.url}/checkpoint"
    formats.save(state, url, format=name)
    known = {key: tensor + 1 for key, tensor in list(state.items())[:-1]}
    with pytest.raises((OSError, ShardflowError)):
        formats.save(Failing(known), url, format=name, replace=True)  # type: ignore[arg-type]
    assert differing(state, formats.load(url)) == []


def test_a_target_in_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TargetUnusable, match="cannot be written"):
        formats.save({"a": torch.ones(3)}, tmp_path / "file" / "checkpoint")


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match="no tensors"):
        formats.save({}, tmp_path / "a")
    with pytest.raises(CheckpointUnusable, match="is a int, not a tensor"):
        formats.save({"step": 3}, tmp_path / "a")  # type: ignore[dict-item]
    with pytest.raises(TensorUnusable, match="meta device"):
        formats.save({"w": torch.empty(3, device="meta")}, tmp_path / "a")
    with pytest.raises(TensorUnusable, match="complex128"):
        formats.save({"w": torch.zeros(3, dtype=torch.complex128)}, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tensor", ["tensors.json", ".layout", "model.pt", "x.safetensors", ".zarray", "zarr.json"])
@pytest.mark.parametrize("name", EVERY)
def test_a_tensor_with_the_name_of_a_file_comes_back(name: str, tensor: str, tmp_path: Path) -> None:
    state = {tensor: torch.ones(3), "other": torch.zeros(2)}
    formats.save(state, tmp_path / "checkpoint", format=name)
    assert differing(state, formats.load(tmp_path / "checkpoint")) == []


def test_a_name_that_a_format_cannot_keep_is_told(tmp_path: Path, store: Store) -> None:
    with pytest.raises(TensorUnusable, match=r"called __metadata__, .*safetensors.*; give it another name"):
        formats.save({"a": torch.zeros(2), "__metadata__": torch.ones(3)}, tmp_path / "a")
    for name in [each for each in EVERY if each == "safetensors" or each.startswith("tensorstore")]:
        for state in ({"w\ud800": torch.ones(3)}, dict.fromkeys(["w", "w\ud800"], torch.ones(3))):
            with pytest.raises(TensorUnusable, match=r"'w\\ud800' has a name that is no text; give it another name"):
                formats.save(state, tmp_path / "a", format=name)
            with pytest.raises(TensorUnusable, match="a name that is no text"):
                formats.save(state, f"{store.url}/a", format=name)
    assert list(tmp_path.iterdir()) == [tmp_path / "store"]
    assert not list(store.ls())


def test_a_source_that_is_no_checkpoint_is_told(tmp_path: Path, store: Store) -> None:
    with pytest.raises(CheckpointUnusable, match="does not exist"):
        formats.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointUnusable, match="no checkpoint format that is known here; name it: safetensors"):
        formats.load(tmp_path / "empty")
    with pytest.raises((PathMissing, CheckpointUnusable), match="does not exist"):
        formats.load(f"{store.url}/nothing", format="torch")


def test_a_torch_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(TrustRequired, match="would run code"):
        formats.load(tmp_path / "module.pt")


def test_a_format_of_another_package_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from shardflow.flavor.formats import registry

    made = EntryPoint("mine", "shardflow.flavor.formats.torch_files:FORMAT", registry.GROUP)
    broken = EntryPoint("broken", "math:pi", registry.GROUP)
    monkeypatch.setattr(registry, "_entry_points", lambda: {"mine": made, "broken": broken})
    registry.format_named.cache_clear()
    try:
        assert {"mine", "broken"} < set(registry.names())
        assert isinstance(registry.format_named("mine"), Format)
        with pytest.raises(FormatUnavailable, match="no save and open"):
            registry.format_named("broken")
        with pytest.raises(FormatUnavailable, match="no checkpoint format 'unknown'"):
            registry.format_named("unknown")
    finally:
        registry.format_named.cache_clear()


IN_ANOTHER_PACKAGE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from shardflow.flavor import formats

assert "mine" in formats.names()
formats.save({"w": torch.ones(3)}, sys.argv[2], format="mine")
assert formats.format_named("mine").name == "mine"
assert torch.equal(formats.load(sys.argv[2], format="mine")["w"], torch.ones(3))
"""


def test_a_format_of_an_installed_package_saves_and_loads(tmp_path: Path) -> None:
    """As an installer leaves it: a module, and beside it the metadata that names the entry point."""
    made = tmp_path / "site" / "mine-1.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text("[shardflow.checkpoint_format]\nmine = mine_formats:FORMAT\n")
    module = "from shardflow.flavor.formats.torch_files import TorchFormat\nFORMAT = TorchFormat(name='mine')\n"
    (tmp_path / "site" / "mine_formats.py").write_text(module)
    finish(program(IN_ANOTHER_PACKAGE, str(tmp_path / "site"), str(tmp_path / "c")))
    assert (tmp_path / "c" / "model.pt").is_file()


def test_a_format_whose_library_is_missing_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from shardflow.flavor.formats import registry

    monkeypatch.setitem(sys.modules, "tensorstore", None)
    for module in ("zarr", "opening", "trees"):
        monkeypatch.delitem(sys.modules, f"shardflow.flavor.formats.{module}", raising=False)
    registry.format_named.cache_clear()
    try:
        with pytest.raises(FormatUnavailable, match="needs tensorstore, which is not installed"):
            registry.format_named("tensorstore-fast")
    finally:
        registry.format_named.cache_clear()
