"""Publishing: one call from a checkpoint on disk to a numbered version with its lineage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest

from registry.logged import Place, own_place, safetensors
from shardflow.registry import publish, publishing
from shardflow.registry.evidence_digests import files_of
from shardflow.registry.lineage import Lineage, lineage_of
from shardflow.registry.lineage_page import log_page
from shardflow.registry.proposing import Interface, Proposal
from shardflow.registry.publishing import Published, SavedAlready, VersionTaken
from shardflow.registry.references import find, versions_of
from shardflow.registry.versions import VersionInvalid


@pytest.fixture(params=[True, False], ids=["gated", "stock"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path, gated=request.param) as made:
        mlflow.set_experiment(experiment_id=made.experiment)
        yield made


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        mlflow.set_experiment(experiment_id=made.experiment)
        yield made


def checkpoint(directory: Path, step: float = 0.0, rows: int = 256) -> Path:
    values = np.random.default_rng(1).normal(size=(rows, 256)).astype(np.float32)
    path = directory / f"checkpoint-{step}-{rows}.safetensors"
    path.write_bytes(safetensors({"a": values, "b": values + np.float32(step)}))
    return path


def test_a_checkpoint_becomes_a_numbered_version_and_the_next_one_its_descendant(here: Place, tmp_path: Path) -> None:
    first = publish(checkpoint(tmp_path), name="llama", version="1.3.2")
    second = publish(checkpoint(tmp_path, 0.5), name="llama", version="1.4.0", base="llama@1.3.2", tags={"team": "nlp"})
    assert (first.version.name, second.version.name) == ("llama/1", "llama/2")
    found = find("llama@1.4.0")
    assert found.name == "llama/2"
    assert found.tags["team"] == "nlp"
    lineage = lineage_of(found, here.client)
    assert [(link.parent, link.relation) for link in lineage.links] == [(("llama", 1), "base")]
    assert lineage.origin.run_id == second.version.run_id
    assert second.reused
    assert second.sent
    assert second.reused > second.sent


def test_what_is_published_can_be_signed_without_reading_it(gated: Place, tmp_path: Path) -> None:
    done = publish(checkpoint(tmp_path), name="llama")
    assert all(file.sha256 for file in files_of(done.version.location).values())


def test_the_number_is_proposed_from_what_changed(gated: Place, tmp_path: Path) -> None:
    numbers = [
        publish(checkpoint(tmp_path), name="llama"),
        publish(checkpoint(tmp_path, 0.5), name="llama"),
        publish(checkpoint(tmp_path, 0.5, rows=300), name="llama"),
    ]
    assert [done.semantic.text for done in numbers] == ["1.0.0", "1.0.1", "2.0.0"]
    assert numbers[2].reason == "the tensor a has another shape"


def test_a_number_that_is_taken_is_refused_before_anything_is_sent(here: Place, tmp_path: Path) -> None:
    publish(checkpoint(tmp_path), name="llama", version="1.0.0")
    before = here.store.stat().files
    with pytest.raises(VersionTaken, match=r"llama/1 is llama 1\.0\.0 already"):
        publish(checkpoint(tmp_path, 0.5), name="llama", version="1.0.0")
    with pytest.raises(VersionInvalid):
        publish(checkpoint(tmp_path), name="llama", version="next")
    assert here.store.stat().files == before
    assert len(versions_of("llama", here.client)) == 1


def test_a_proposed_number_that_somebody_else_took_meanwhile_is_proposed_anew(
    gated: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, quicker = publishing.proposed, [gated.log({"MLmodel": b"flavors: {}"})]

    def slow(name: str, new: Interface, client: object) -> Proposal:
        found = honest(name, new, client)
        if quicker:
            gated.register(name, quicker.pop(), {"shardflow.version": found.version.text})
        return found

    monkeypatch.setattr(publishing, "proposed", slow)
    done = publish(checkpoint(tmp_path), name="llama")
    assert (done.version.name, done.semantic.text) == ("llama/2", "1.0.1")
    assert find("llama@1.0.0").name == "llama/1"


def test_a_run_that_is_active_is_the_one_that_made_it(gated: Place, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        done = publish(checkpoint(tmp_path), name="llama")
    assert done.version.run_id == run.info.run_id


def test_a_directory_that_a_flavor_saved_is_published_as_it_is(here: Place, tmp_path: Path) -> None:
    (tmp_path / "line" / "data").mkdir(parents=True)
    (tmp_path / "line" / "MLmodel").write_text("flavors: {python_function: {}}")
    (tmp_path / "line" / "data" / "model.bin").write_bytes(bytes(10_000))
    publish(tmp_path / "line", name="sums of two")
    done = publish(tmp_path / "line", name="sums of two", base="sums of two/1")
    assert done.semantic.text == "1.0.1"
    assert sorted(files_of(done.version.location)) == ["MLmodel", "data/model.bin"]
    assert here.client.get_logged_model(str(done.version.model_id)).tags["shardflow.parent"]
    assert here.client.get_run(str(done.version.run_id)).outputs.model_outputs


def test_what_was_saved_already_cannot_be_cut_otherwise(gated: Place, tmp_path: Path) -> None:
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / "MLmodel").write_text("flavors: {python_function: {}}")
    with pytest.raises(SavedAlready, match="max_shard_bytes, sharding cannot be chosen any more"):
        publish(tmp_path / "line", name="line", sharding="balanced", max_shard_bytes=1000)
    assert versions_of("line", gated.client) == []


def test_the_lineage_is_on_a_page_beside_the_model(gated: Place, tmp_path: Path) -> None:
    publish(checkpoint(tmp_path), name="llama")
    done = publish(checkpoint(tmp_path, 0.5), name="llama", base="llama/1", relation="adapter")
    page = page_of(gated, done)
    assert "llama/1 (1.0.0), draft" in page
    assert "adapter" in page


def page_of(place: Place, published: Published) -> str:
    path = published.version.location.removeprefix(f"{place.store.url}/")
    with place.store.open(f"{path}/lineage.html") as file:
        return file.read().decode()


def test_the_page_of_what_a_version_was_made_from_names_it_from_then_on(gated: Place, tmp_path: Path) -> None:
    base = publish(checkpoint(tmp_path), name="llama")
    assert "Nothing that this registry knows of." in page_of(gated, base)
    publish(checkpoint(tmp_path, 0.5), name="llama", base="llama/1")
    assert "llama/2 (1.0.1), draft" in page_of(gated, base)


def test_a_version_whose_base_cannot_be_written_to_is_published_all_the_same(
    gated: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(checkpoint(tmp_path), name="llama")

    def refuse(lineage: Lineage, location: str) -> None:
        if lineage.of == ("llama", 1):
            raise PermissionError(location)
        log_page(lineage, location)

    monkeypatch.setattr(publishing, "log_page", refuse)
    assert publish(checkpoint(tmp_path, 0.5), name="llama", base="llama/1").version.name == "llama/2"


def test_published_again_after_a_crash_nothing_finished_is_sent_twice(gated: Place, tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    publish(path, name="llama")  # the registration is all that the crash would have left out
    again = publish(path, name="llama")
    assert again.sent is not None
    assert again.sent < path.stat().st_size / 10
