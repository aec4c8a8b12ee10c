"""The files of a model with their digests, and one digest for all of them: what evidence is about.

In a store the digests are there, and nothing is read. The digest of all is the SHA-256 of lines such as `b3sum` prints,
one a file, in the order of their names; so anybody who has the files can compute it.

That digest of a file is what its writer said, and no reader checks it. What every reader checks are the names of the
chunks that a file consists of. So evidence about files in a store is about those as well: whoever may write there
cannot put other data below a digest that was signed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from urllib.request import url2pathname

from blake3 import blake3

from shardflow.errors import ShardflowError
from shardflow.registry.beside import MLMODEL, came_later
from shardflow.registry.remembered import Remembered
from shardflow.store import known
from shardflow.store.care.noting import digests, note_sha256
from shardflow.store.errors import ManifestDamaged, StoreMissing
from shardflow.store.manifest import decode_contents, decode_manifest
from shardflow.store.paths import key_of
from shardflow.store.reader import Reader
from shardflow.store.store import Store, reading_budget
from shardflow.transport import ObjectMissing
from shardflow.transport.url import SCHEME, StoreURL

SIGNATURE_FILE = "model.sig"
PAGE_FILE = "lineage.html"
BESIDE = frozenset({SIGNATURE_FILE, PAGE_FILE, "registered_model_meta"})
"""What files are called that come to a model after it was logged, and then are no part of what evidence is about."""
_LOOKED_INTO = BESIDE | {MLMODEL}
MOST_UNDERSTOOD = 20_000  # manifests, each by a digest of its bytes: some MB
_MOST_LOOKED_INTO = 5_000  # models


class FilesMissing(ShardflowError):
    """A place where the files of a model should be, and are not."""


class FileChanged(ShardflowError):
    """A file that is not the same any more as when its digests were computed."""


class DigestWrong(ShardflowError):
    """A digest that a writer noted, and that is not the one of the file."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model."""

    size: int
    blake3: str
    sha256: str | None = None  # if it is known without reading the file
    chunks: str | None = None
    """The BLAKE3 of the names of its chunks, in their order; None for what was read here to compute its digests."""


Files = Mapping[str, ModelFile]
Reading = Callable[[int], None]
"""Told how many bytes were read, again and again."""


def files_of(location: str) -> dict[str, ModelFile]:
    """The files of a model by their paths."""
    location = behind_server(location)
    if location.startswith(f"{SCHEME}:"):
        found = _in_store(location)
    else:
        with on_disk(location) as directory:
            below = dict(_below(directory))
            found = _without_what_came_later(below, lambda name: _read_as_hashed(directory / name, below[name]))
    if not found:
        raise FilesMissing(f"there are no files at {location}", remedy="name a model that was logged to the end")
    return {path: found[path] for path in sorted(found)}


def digest_of(files: Files) -> str:
    """One digest for all files of a model."""
    listing = "".join(f"{files[path].blake3}  {path}\n" for path in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def held_digest(files: Files) -> str:
    """One digest for what a store holds for these files; without a store, the same as `digest_of`."""
    listing = "".join(f"{files[path].chunks or files[path].blake3}  {path}\n" for path in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def with_sha256(location: str, files: Files, reading: Reading = lambda _: None) -> Files:
    """The files, each with its SHA-256; what nobody noted when it was stored is read now, and noted."""
    if all(file.sha256 for file in files.values()):
        return files
    store, root = store_of(location)
    found = dict(files)
    for path, file in files.items():
        if file.sha256 is None:
            found[path] = replace(file, sha256=note_sha256(store, joined(root, path), reading).hex())
    return found


def read_through(location: str, files: Files, reading: Reading = lambda _: None) -> Files:
    """The files with the digests of their data, all of which is read; DigestWrong if a store says otherwise."""
    if not any(file.chunks for file in files.values()):
        return files  # they were read to be told
    store, root = store_of(location)
    return {path: _read_through(store, joined(root, path), file, reading) for path, file in files.items()}


def _read_through(store: Store, path: str, file: ModelFile, reading: Reading) -> ModelFile:
    if file.chunks is None:
        return file
    with store.open(path) as opened:
        fast, sha256 = digests(opened, reading)
    if fast.hex() != file.blake3 or (file.sha256 and sha256.hex() != file.sha256):
        raise DigestWrong(f"{path} is not what its digest in the store says", remedy="find out who stored it")
    return replace(file, sha256=sha256.hex())


def store_of(location: str) -> tuple[Store, str]:
    """The store that a location lies in, and its path there."""
    return known.found(StoreURL.parse(behind_server(location)))


def joined(root: str, name: str) -> str:
    return f"{root}/{name}" if root else name


@contextmanager
def on_disk(location: str) -> Iterator[Path]:
    """The directory that a location names, or a copy that MLflow fetches for as long as it is needed."""
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415  # loaded with MLflow as a plugin
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    directory = local_directory(location)
    if directory is not None:
        yield directory
        return
    with TemporaryDirectory(prefix="shardflow-") as copy:
        try:
            fetched = download_artifacts(artifact_uri=location, dst_path=copy)
        except (MlflowException, OSError) as error:
            raise FilesMissing(f"{location} cannot be fetched: {error}", remedy="check that it is there") from None
        yield Path(fetched)


def local_directory(location: str) -> Path | None:
    """The directory that a path or a file URI names."""
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(url2pathname(parts.path))
    return Path(location) if not parts.scheme else None


def behind_server(location: str) -> str:
    """Inside of a server that hands artifacts on: where they really are."""
    destination = os.environ.get("_MLFLOW_SERVER_ARTIFACT_DESTINATION")
    if destination and location.startswith("mlflow-artifacts:"):
        return f"{destination.rstrip('/')}/{urlsplit(location).path.lstrip('/')}"
    return location


_understood = Remembered["ModelFile | None"](MOST_UNDERSTOOD)
_later = Remembered[frozenset[str]](_MOST_LOOKED_INTO)


def _in_store(location: str) -> dict[str, ModelFile]:
    try:
        store, root = store_of(location)
    except StoreMissing:
        return {}
    skipped = len(root) + 1 if root else 0
    found, looked_into = dict[str, ModelFile](), dict[str, memoryview]()
    for path, data in store.manifests_unread(root):
        try:
            file = _understood.of(partial(_held, data, path), data)
        except ManifestDamaged as damaged:  # it may have been altered on its way here
            try:
                data = store.transport.read(key_of(path))  # noqa: PLW2901
            except ObjectMissing:  # an empty directory, which has another key
                raise damaged from None
            file = _understood.of(partial(_held, data, path), data)
        if file is not None:
            found[path[skipped:]] = file
            if path[skipped:] in _LOOKED_INTO:
                looked_into[path[skipped:]] = data

    def content(name: str) -> bytes:
        # By the manifest that was listed: at its path there may be another file by now.
        store.config.check("read", str(store.url))
        path = joined(root, name)
        with Reader(path, store.transport, decode_manifest(looked_into[name], path), reading_budget()) as opened:
            return opened.read()

    return _without_what_came_later(found, content)


def _without_what_came_later(found: dict[str, ModelFile], content: Callable[[str], bytes]) -> dict[str, ModelFile]:
    """The files that a model consists of.

    What came later follows from the digests of what is looked into, as long as `content` gives what has these digests
    and nothing else: of a file in a store, the chunks of these names, for its writer may have lied about the rest.
    """
    held = {name: found[name] for name in sorted(_LOOKED_INTO) if name in found}
    sizes = {name: file.size for name, file in held.items()}
    later = _later.of(lambda: came_later(BESIDE, sizes, content), repr(held).encode())
    return {path: file for path, file in found.items() if path not in later}


def _held(data: memoryview, path: str) -> ModelFile | None:
    """A file in a store, by its manifest; of a small one the content is here. None for an empty directory."""
    contents = decode_contents(data, path)
    if contents.kind != "file":
        return None
    if contents.inline is not None:
        sha256 = hashlib.sha256(contents.inline).hexdigest()
        return ModelFile(len(contents.inline), blake3(contents.inline).hexdigest(), sha256)
    noted = contents.sha256.hex() if contents.sha256 else None
    return ModelFile(contents.size, contents.digest.hex(), noted, blake3(contents.names).hexdigest())


def _below(directory: Path) -> Iterator[tuple[str, ModelFile]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.relative_to(directory).as_posix(), _hashed(path)


def _read_as_hashed(path: Path, file: ModelFile) -> bytes:
    data = path.read_bytes()
    if blake3(data).hexdigest() != file.blake3:
        raise FileChanged(f"{path} changed while it was being read", remedy="try again once nothing writes to it")
    return data


def _hashed(path: Path) -> ModelFile:
    fast = blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
    with path.open("rb") as file:
        return ModelFile(path.stat().st_size, fast, hashlib.file_digest(file, "sha256").hexdigest())
