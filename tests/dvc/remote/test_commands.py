"""Real `dvc` commands with a store as their remote: what DVC promises of a remote, and what a store adds."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvc_support.commands import Project, project
from dvc_support.places import Place, tensors
from services.fixtures import fresh_url
from services.service import Service
from shardflow.store.store import Store

pytestmark = pytest.mark.slow

Noise = Callable[[int], bytes]
STAGES = """\
stages:
  fetch:
    cmd: {shardflow} get -q {url}/corpus words.txt
    deps:
      - {url}/corpus
    outs:
      - words.txt
  count:
    cmd: wc -c < words.txt > count.txt
    deps:
      - words.txt
    outs:
      - count.txt
  keep:
    cmd: {shardflow} put -q words.txt {url}/kept.txt
    deps:
      - words.txt
    outs:
      - {url}/kept.txt:
          cache: false
"""


def test_what_was_pushed_comes_back_in_a_fresh_clone_and_goes_with_gc(
    place: Place, tmp_path: Path, noise: Noise
) -> None:
    here = place.project(tmp_path / "here")
    (here.root / "weights.bin").write_bytes(content := noise(2_000_000))
    (here.root / "data" / "inner").mkdir(parents=True)
    for number in range(5):
        (here.root / "data" / "inner" / f"{number}.txt").write_text(str(number))
    here.must("add", "weights.bin", "data")
    assert f"made a new store at {place.url}" in here.must("push")
    here.commit()
    assert "in sync" in here.must("status", "-c")

    there = here.clone(tmp_path / "there")
    there.must("pull")
    assert (there.root / "weights.bin").read_bytes() == content
    assert (there.root / "data" / "inner" / "4.txt").read_text() == "4"

    here.must("remove", "weights.bin.dvc")
    here.must("gc", "-w", "-c", "-f")
    assert len(place.files) == 6
    assert place.packed > len(content)
    assert "weights.bin" in there.must("status", "-c")


def test_fetch_fills_the_cache_and_status_and_data_status_tell_what_is_where(
    place: Place, tmp_path: Path, noise: Noise
) -> None:
    here = place.project(tmp_path / "here")
    (here.root / "weights.bin").write_bytes(content := noise(200_000))
    (here.root / "notes.txt").write_text("notes")
    here.must("add", "weights.bin", "notes.txt")
    here.commit()
    assert not_in_remote(here) == {"weights.bin", "notes.txt"}
    assert status(here) == {"weights.bin": "new", "notes.txt": "new"}
    here.must("push", "weights.bin")
    assert not_in_remote(here) == {"notes.txt"}
    assert status(here) == {"notes.txt": "new"}
    here.must("push")
    assert not_in_remote(here) == set()
    assert status(here) == {}

    there = here.clone(tmp_path / "there")
    assert status(there) == {"weights.bin": "deleted", "notes.txt": "deleted"}
    there.must("fetch", "notes.txt")
    assert status(there) == {"weights.bin": "deleted"}
    there.must("fetch")
    assert status(there) == {}
    assert not (there.root / "weights.bin").exists()
    there.must("checkout")
    assert (there.root / "weights.bin").read_bytes() == content

    (there.root / "notes.txt").unlink()
    (there.root / "notes.txt").write_text("others")
    assert document(there, "data", "status", "--json")["uncommitted"]["modified"] == ["notes.txt"]


def status(project: Project) -> dict[str, str]:
    """What `dvc status -c` says of each file that is not both in the cache and in the remote."""
    return dict(document(project, "status", "-c", "--json"))


def not_in_remote(project: Project) -> set[str]:
    return set(document(project, "data", "status", "--not-in-remote", "--json").get("not_in_remote", []))


def document(project: Project, *command: str) -> dict[str, Any]:
    done = project.dvc(*command)
    assert done.code == 0, done.all
    told: dict[str, Any] = json.loads(done.out)
    return told


@pytest.mark.parametrize("cloud", ["gcs", pytest.param("azure", marks=pytest.mark.service("azure"))])
def test_remotes_of_google_and_azure_take_the_options_that_dvc_has_for_them(
    cloud: str, request: pytest.FixtureRequest, tmp_path: Path, noise: Noise
) -> None:
    service: Service = request.getfixturevalue(cloud)
    if cloud == "azure":
        options = {"connection_string": service.env["AZURE_STORAGE_CONNECTION_STRING"]}
    else:
        options = {"endpointurl": service.endpoint, "allow_anonymous_login": "true"}
    here = project(tmp_path / "here", fresh_url(service), options)
    (here.root / "weights.bin").write_bytes(content := noise(300_000))
    here.must("add", "weights.bin")
    here.must("push")
    here.commit()
    there = here.clone(tmp_path / "there")
    there.must("pull")
    assert (there.root / "weights.bin").read_bytes() == content


def test_versions_share_what_they_have_in_common_though_they_are_named_by_md5(
    here: Project, disk: Place, noise: Noise
) -> None:
    def push(model: bytes, corpus: bytes) -> None:
        for name, content in (("model.safetensors", model), ("corpus.bin", corpus)):
            (here.root / name).unlink(missing_ok=True)
            (here.root / name).write_bytes(content)
        here.must("add", "model.safetensors", "corpus.bin")
        here.must("push")

    first, plain = tensors(1), noise(8 << 20)
    push(first, plain)
    whole = disk.packed
    second, edited = tensors(1, changed=2000), plain[:3_000_000] + b"one line" + plain[3_000_000:]
    push(second, edited)

    assert disk.packed - whole < 600_000
    for content in (first, second, plain, edited):
        md5 = hashlib.md5(content).hexdigest()
        assert disk.store.open(f"files/md5/{md5[:2]}/{md5[2:]}").read() == content


def test_files_of_a_store_are_imported_fetched_and_listed_by_their_url(
    disk: Place, here: Project, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "a.txt").write_text("a")
    (source / "inner" / "b.txt").write_text("b")
    Store.init(disk.url).put(source, "shared")

    here.must("import-url", f"{disk.url}/shared", "imported")
    assert (here.root / "imported" / "inner" / "b.txt").read_text() == "b"
    here.must("import-url", "--to-remote", f"{disk.url}/shared/a.txt", "sent.txt")
    md5 = hashlib.md5(b"a").hexdigest()
    assert disk.store.open(f"files/md5/{md5[:2]}/{md5[2:]}").read() == b"a"
    here.must("get-url", f"{disk.url}/shared/inner/b.txt", "got.txt")
    assert (here.root / "got.txt").read_text() == "b"
    assert here.must("ls-url", "-R", f"{disk.url}/shared").split() == ["a.txt", "inner/b.txt"]

    (source / "a.txt").write_text("another")
    disk.store.put(source, "shared")
    here.must("update", "imported.dvc")
    assert (here.root / "imported" / "a.txt").read_text() == "another"


def test_a_directory_comes_with_every_name_as_it_is_also_where_no_url_could_have_it(
    disk: Place, here: Project, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = {"new\nline", "newline", "tab\t", "what?", "what", "x?y=1", "h#", "[x]", "100%", "c:d"}
    for name in names:
        (source / name).write_text(name)
    Store.init(disk.url).put(source, "shared")
    here.must("import-url", f"{disk.url}/shared", "imported")
    assert {file.name: file.read_text() for file in (here.root / "imported").iterdir()} == {
        name: name for name in names
    }


def test_a_file_that_cannot_be_looked_at_is_named_before_a_directory_is_taken_for_less(
    disk: Place, here: Project, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a.csv", "b.csv"):
        (source / name).write_text(name)
    store = Store.init(disk.url)
    store.put(source, "shared")
    store.transport.write("tree/shared/b.csv", b"no manifest")
    for command in (["ls-url"], ["import-url"]):
        done = here.dvc(*command, f"{disk.url}/shared")
        assert done.code != 0
        assert "the manifest of shared/b.csv" in done.all


def test_other_projects_import_and_get_by_repository(here: Project, tmp_path: Path) -> None:
    (here.root / "table.csv").write_text("1,2,3")
    here.must("add", "table.csv")
    here.must("push")
    here.commit()
    there = Place(f"shardflow://file{tmp_path}/elsewhere").project(tmp_path / "there")
    there.must("get", str(here.root), "table.csv", "-o", "got.csv")
    there.must("import", str(here.root), "table.csv")
    assert (there.root / "got.csv").read_text() == (there.root / "table.csv").read_text() == "1,2,3"


def test_stages_depend_on_files_of_a_store_and_write_some_and_share_their_runs(
    here: Project, disk: Place, tmp_path: Path
) -> None:
    store = Store.init(disk.url)
    (tmp_path / "corpus").write_text("words")
    store.put(tmp_path / "corpus", "corpus")
    (here.root / "dvc.yaml").write_text(STAGES.format(url=disk.url, shardflow=f"{sys.executable} -m shardflow.cli"))
    here.must("repro")
    assert "up to date" in here.must("repro")
    here.must("push", "--run-cache")
    assert any(path.startswith("runs/") for path in disk.files)
    here.commit()
    there = here.clone(tmp_path / "there")
    there.must("pull", "--run-cache")
    for name in ("dvc.lock", "count.txt"):
        (there.root / name).unlink()
    assert "is cached" in there.must("repro", "-s", "count")

    (tmp_path / "corpus").write_text("other words")
    store.put(tmp_path / "corpus", "corpus")
    assert "changed deps" in here.must("status")


def test_experiments_are_pushed_and_pulled_with_their_files(here: Project, tmp_path: Path) -> None:
    (here.root / "params.yaml").write_text("size: 1\n")
    (here.root / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: cp params.yaml out.txt\n    deps: [params.yaml]\n    outs: [out.txt]\n"
    )
    here.must("repro")
    here.commit()
    here.run("git", "init", "-q", "--bare", str(tmp_path / "origin.git"))
    here.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    branch = here.git("branch", "--show-current").strip()
    here.git("push", "-q", "origin", branch)
    here.must("exp", "run", "-n", "larger", "-S", "size=7")
    here.must("exp", "push", "origin", "larger")

    there = here.clone(tmp_path / "there")
    there.git("remote", "set-url", "origin", str(tmp_path / "origin.git"))
    there.must("exp", "pull", "origin", "larger")
    there.must("exp", "apply", "larger")
    assert (there.root / "out.txt").read_text() == "size: 7\n"
