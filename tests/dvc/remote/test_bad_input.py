"""What can go wrong with a remote: DVC fails, says what and where in one line, and nothing lands in a wrong place."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import DVC, Project, project, remote_options
from dvc_support.places import Place
from services.fixtures import fresh_url
from services.service import Service

pytestmark = pytest.mark.slow

Noise = Callable[[int], bytes]


@pytest.fixture
def pushed(here: Project, noise: Noise) -> Project:
    """A project with one file of 1 MB, pushed."""
    (here.root / "weights.bin").write_bytes(noise(1_000_000))
    here.must("add", "weights.bin")
    here.must("push")
    here.commit()
    return here


def test_an_altered_chunk_fails_the_pull_which_names_it(pushed: Project, disk: Place, tmp_path: Path) -> None:
    (info,) = disk.store.transport.list("packs/")
    pack = tmp_path / "store" / info.key
    data = bytearray(pack.read_bytes())
    data[300_000] ^= 1
    pack.chmod(0o644)
    pack.write_bytes(data)
    there = pushed.clone(tmp_path / "there")
    done = there.dvc("pull")
    assert done.code != 0
    assert "is damaged" in done.all
    assert Path(info.key).name[:16] in done.all
    assert not (there.root / "weights.bin").exists()
    assert not list((there.root / ".dvc" / "cache" / "files").rglob("[0-9a-f]" * 30))


def test_one_damaged_file_of_many_is_named_and_the_others_arrive(here: Project, disk: Place, tmp_path: Path) -> None:
    (here.root / "data").mkdir()
    for number in range(20):
        (here.root / "data" / f"{number}.txt").write_text(f"text {number}\n" * 50)
    here.must("add", "data")
    here.must("push")
    here.commit()
    damaged = hashlib.md5(b"text 7\n" * 50).hexdigest()
    manifest = tmp_path / "store" / "tree" / "files" / "md5" / damaged[:2] / damaged[2:]
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"?")

    there = here.clone(tmp_path / "there")
    done = there.dvc("fetch")
    assert done.code == 1
    assert done.err.count("failed to transfer") == 1
    assert f"files/md5/{damaged[:2]}/{damaged[2:]} fails its digest" in done.err
    assert "unexpected error" not in done.all
    cached = {
        file.parent.name + file.name for file in (there.root / ".dvc" / "cache" / "files" / "md5").rglob("?" * 30)
    }
    assert len(cached) == 19
    assert damaged not in cached


def test_a_store_that_is_gone_is_told_and_the_pull_fails(pushed: Project, tmp_path: Path) -> None:
    (tmp_path / "store").rename(tmp_path / "moved")
    done = pushed.clone(tmp_path / "there").dvc("pull")
    assert done.code != 0
    assert f"there is no store at shardflow://file{tmp_path}/store" in done.all


def test_a_store_of_a_later_format_is_neither_read_nor_written(pushed: Project, tmp_path: Path) -> None:
    config = tmp_path / "store" / "shardflow.json"
    config.chmod(0o644)
    config.write_text(json.dumps(json.loads(config.read_text()) | {"format": 99}))
    (pushed.root / "more.txt").write_text("more")
    pushed.must("add", "more.txt")
    for command in ("push", "fetch", "status"):
        done = pushed.dvc(command, *(["-c"] if command == "status" else []))
        assert done.code != 0
        assert "has format 99" in done.all
        assert "unexpected error" not in done.all


@pytest.mark.parametrize(
    "cloud",
    [
        pytest.param("ceph", marks=pytest.mark.service("ceph")),
        pytest.param("azure", marks=pytest.mark.service("azure")),
    ],
)
def test_wrong_credentials_fail_every_command_which_tells_how_to_set_them(
    cloud: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    service: Service = request.getfixturevalue(cloud)
    url, right, wrong, remedy = fresh_url(service), *keys(service)
    here = project(tmp_path / "here", url, right)
    (here.root / "pushed.txt").write_text("pushed")
    here.must("add", "pushed.txt")
    here.must("push")
    here.commit()

    there = project(tmp_path / "there", url, wrong)
    (there.root / "pushed.txt.dvc").write_bytes((here.root / "pushed.txt.dvc").read_bytes())
    (there.root / "new.txt").write_text("new")
    there.must("add", "new.txt")
    for command in (["push"], ["pull"], ["fetch"], ["status", "-c"], ["gc", "-w", "-c", "-f"]):
        done = there.dvc(*command)
        assert done.code != 0, command
        assert done.err.count(remedy) == 1, done.all
        assert "403 Forbidden" in done.err
        assert "Debug source" not in done.err
    assert not (there.root / "pushed.txt").exists()
    assert "in sync" in here.must("status", "-c")


def keys(service: Service) -> tuple[dict[str, str], dict[str, str], str]:
    """A remote's options with the right key of a service and with a wrong one, and how a user sets them."""
    if service.backend == "az":
        right = service.env["AZURE_STORAGE_CONNECTION_STRING"]
        wrong = right.replace(service.options["account_key"], base64.b64encode(b"wrong" * 8).decode())
        return {"connection_string": right}, {"connection_string": wrong}, "set AZURE_STORAGE_CONNECTION_STRING"
    options = remote_options(service.options)
    return options, {**options, "secret_access_key": "wrong"}, "set AWS_ACCESS_KEY_ID"


def test_a_full_disk_fails_the_push_and_the_next_one_finishes(here: Project, disk: Place, noise: Noise) -> None:
    (here.root / "weights.bin").write_bytes(content := noise(3_000_000))
    here.must("add", "weights.bin")

    done = here.dvc("push", largest_file=1_000_000)
    assert done.code != 0
    assert "allows no file as large as this" in done.all
    assert [path for path in disk.files if path.startswith("files/")] == []
    here.must("push")
    md5 = hashlib.md5(content).hexdigest()
    assert disk.store.open(f"files/md5/{md5[:2]}/{md5[2:]}").read() == content


def test_a_limit_on_file_sizes_fails_the_pull_and_the_next_one_finishes(pushed: Project, tmp_path: Path) -> None:
    there = pushed.clone(tmp_path / "there")
    done = there.dvc("pull", largest_file=500_000)
    assert done.code != 0
    assert "too large a file" in done.all
    assert not (there.root / "weights.bin").exists()
    there.must("pull")
    assert (there.root / "weights.bin").read_bytes() == (pushed.root / "weights.bin").read_bytes()


def test_two_first_pushes_at_once_make_one_store_with_the_files_of_both(
    disk: Place, tmp_path: Path, noise: Noise
) -> None:
    shared = noise(2_000_000)
    projects = [disk.project(tmp_path / name) for name in ("one", "two")]
    for number, each in enumerate(projects):
        (each.root / "shared.bin").write_bytes(shared)
        (each.root / "own.txt").write_text(str(number))
        each.must("add", "shared.bin", "own.txt")
        each.commit()
    pushes = [subprocess.Popen([*DVC, "push", "-q"], cwd=each.root) for each in projects]
    assert [push.wait(60) for push in pushes] == [0, 0]
    for number, each in enumerate(projects):
        clone = each.clone(tmp_path / f"clone-{number}")
        clone.must("pull")
        assert (clone.root / "shared.bin").read_bytes() == shared
        assert (clone.root / "own.txt").read_text() == str(number)


def test_gc_leaves_files_alone_that_dvc_did_not_push(pushed: Project, disk: Place, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("weights")
    disk.store.put(tmp_path / "model.bin", "v1/model.bin")
    (pushed.root / "weights.bin.dvc").unlink()
    done = pushed.must("gc", "-w", "-c", "-f")
    assert "left alone" in done
    assert disk.files == ["v1/model.bin"]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("version_aware", "stores do not have the option version_aware: a store keeps versions by itself"),
        ("bogus", "extra keys not allowed"),
    ],
)
def test_an_option_that_stores_do_not_have_is_refused_as_dvc_does(here: Project, option: str, says: str) -> None:
    done = here.dvc("remote", "modify", "store", option, "true")
    assert done.code == 251
    assert says in done.all
    assert f"@ data['remote']['store']['{option}']" in done.all


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("shardflow:///tmp/x", "names no backend"),
        ("shardflow://ftp/x", "'ftp' is not a backend"),
        ("shardflow://s3", "names no bucket"),
        ("shardflow://user:secret@s3/bucket", "credentials"),
        ("shardflow-s3://bucket/x", "write shardflow://<backend>/<path>"),
        ("shardflow:/file/tmp/y", "write shardflow://<backend>/<path>"),
        ("shardflow:s3/bucket", "write shardflow://<backend>/<path>"),
        ("Shardflow+s3://bucket", "write shardflow://<backend>/<path>"),
    ],
)
def test_a_wrong_url_is_refused_when_the_remote_is_added(here: Project, url: str, says: str) -> None:
    done = here.dvc("remote", "add", "other", url)
    assert done.code == 251
    assert says in done.all


def test_without_the_plugin_every_command_says_so_and_nothing_is_written_anywhere(
    pushed: Project,
) -> None:
    (pushed.root / "more.txt").write_text("more")
    before = sorted(path for path in pushed.root.rglob("*") if ".dvc/tmp" not in str(path))
    paths = [path for path in sys.path if path]
    program = f"import sys; sys.path[:] = {paths!r}; from dvc.cli import main; sys.exit(main())"
    for command in (["push"], ["status"], ["pull"], ["add", "more.txt"]):
        done = pushed.run(sys.executable, "-S", "-c", program, *command)
        assert done.code == 251, done.all
        assert "Unsupported URL type shardflow://" in done.all
    assert sorted(path for path in pushed.root.rglob("*") if ".dvc/tmp" not in str(path)) == before
