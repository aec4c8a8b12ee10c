"""One URL form for every place a store can live: `shardflow://<backend>/<path>`.

Nothing in it is decoded: `%20`, `?` and `#` are the characters they are, so that a URL and a path never disagree.
Credentials, endpoint and region come from the environment, never from the URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shardflow.errors import ShardflowError

SCHEME = "shardflow"
BACKENDS = ("file", "s3", "gs", "az", "memory")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_USER = re.compile(r"[^/:@]*(?:@|:.*@)", re.DOTALL)  # and a password, which may have slashes in it
_CREDENTIALS = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*:///*{_USER.pattern}|{SCHEME}:(?!//).*@", re.DOTALL)
_HAS_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_FOREIGN = {"file": "file", "s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "azure": "az", "abfs": "az"}
_FIRST_SEGMENT = {"s3": "bucket", "gs": "bucket", "az": "container", "memory": "name"}


class WrongURL(ShardflowError):
    """A text that names no place a store could be."""


@dataclass(frozen=True, slots=True)
class StoreURL:
    """Where a store, or something inside one, is. `path` starts with `/` for `file`, with the bucket for the others."""

    backend: str
    path: str

    @classmethod
    def parse(cls, text: str) -> StoreURL:
        """Read a `shardflow://` URL, or a plain local path, which is resolved and stands for its `file` URL."""
        if _CREDENTIALS.match(text):
            raise _credentials()
        if _CONTROL.search(text):
            raise WrongURL(f"{text!r} has control characters in it", remedy="write the URL without them")
        if not text.strip():
            raise WrongURL("an empty URL names no store", remedy="write shardflow://<backend>/<path> or a local path")
        if match := _HAS_SCHEME.fullmatch(text):
            return _parse_url(match[1], match[2])
        if text.startswith(f"{SCHEME}:"):
            raise _no_authority(text.removeprefix(f"{SCHEME}:"))
        return cls("file", _resolved(text))

    def __str__(self) -> str:
        return f"{SCHEME}://{self.backend}/{self.path.removeprefix('/')}"

    @property
    def is_far(self) -> bool:
        """Whether every request takes a while, however little it asks for."""
        return self.backend not in {"file", "memory"}

    @property
    def bucket(self) -> str:
        """The bucket, container or in-memory store that everything lies in; empty for `file`."""
        return "" if self.backend == "file" else self.path.split("/", 1)[0]

    @property
    def prefix(self) -> str:
        """What is below the bucket, without slashes around it; for `file` the whole path, with its slash."""
        return self.path if self.backend == "file" else self.path.partition("/")[2]

    @property
    def name(self) -> str:
        """The last segment."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> StoreURL | None:
        """One level up, or None at the top: the file system's root, or a bucket."""
        head, slash, tail = self.path.rpartition("/")
        if not slash or not tail:
            return None
        return StoreURL(self.backend, head or "/")

    def joined(self, relative: str) -> StoreURL:
        """The URL of a path below this one."""
        segments = _segments(relative, str(self))
        return StoreURL(self.backend, "/".join([self.path.rstrip("/"), *segments])) if segments else self

    def relative_to(self, ancestor: StoreURL) -> str:
        """The path from `ancestor` down to here; empty if they are one and the same."""
        if self == ancestor:
            return ""
        above = ancestor.path.rstrip("/") + "/"
        if self.backend != ancestor.backend or not self.path.startswith(above):
            raise WrongURL(f"{self} does not lie in {ancestor}", remedy="name a path inside the store")
        return self.path.removeprefix(above)


def _resolved(path: str) -> str:
    try:
        return str(Path(path).resolve())
    except (OSError, RuntimeError) as error:
        raise WrongURL(f"{path} leads nowhere ({error})", remedy="name a directory") from None


def _parse_url(scheme: str, rest: str) -> StoreURL:
    authority, _, path = rest.partition("/")
    if "+" in scheme:
        backend = _FOREIGN.get(scheme.rpartition("+")[2].lower(), "<backend>")
        raise WrongURL(f"scheme {scheme!r} has a '+' in it", remedy=f"write shardflow://{backend}/{rest.lstrip('/')}")
    if scheme != SCHEME:
        raise _other_scheme(scheme, rest)
    if not authority:
        raise _no_authority(rest)
    if authority not in BACKENDS:
        raise WrongURL(f"{authority!r} is not a backend of shardflow://", remedy=f"use one of {', '.join(BACKENDS)}")
    segments = _segments(path, f"{SCHEME}://{authority}/{path}")
    if authority == "file":
        return StoreURL("file", "/" + "/".join(segments))
    return StoreURL(authority, "/".join(_with_first_segment(authority, segments)))


def _with_first_segment(backend: str, segments: list[str]) -> list[str]:
    what = _FIRST_SEGMENT[backend]
    if not segments:
        raise WrongURL(f"shardflow://{backend}/ names no {what}", remedy=f"write shardflow://{backend}/<{what}>/<path>")
    if _USER.match("/".join(segments)):
        raise _credentials()
    return segments


def _segments(path: str, whole: str) -> list[str]:
    """Empty and '.' segments say nothing and go; '..' would let a name leave its store, so it is refused."""
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    if ".." in segments:
        raise WrongURL(f"{whole} has a '..' in it", remedy="write the path it leads to")
    return segments


def _other_scheme(scheme: str, rest: str) -> WrongURL:
    if scheme.lower() == SCHEME:
        return WrongURL(f"scheme {scheme!r} must be in small letters", remedy=f"write shardflow://{rest}")
    backend = _FOREIGN.get(scheme.lower())
    example = f"{backend}/{rest.lstrip('/')}" if backend else "<backend>/<path>"
    return WrongURL(f"{scheme}:// is not a store's scheme", remedy=f"write shardflow://{example}")


def _no_authority(path: str) -> WrongURL:
    return WrongURL(
        f"shardflow:{'//' if not path.startswith('//') else ''}{path} names no backend",
        remedy=f"write shardflow://file/{path.lstrip('/')} for a local directory, or s3, gs, az in place of file",
    )


def _credentials() -> WrongURL:
    # The text is not repeated: what stands before the '@' may be a secret.
    return WrongURL("a store's URL holds no credentials (there is an '@' in it)", remedy="set them in the environment")
