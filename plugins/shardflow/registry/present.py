"""All versions of a registry, followed while others register, change, rename and remove some.

A registry lists its versions page by page, which takes long for many. What never changes of a version, its source and
where its files are, is asked for once; whatever else matters is asked of the few versions for which it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from shardflow.registry.lineage import Name, links_of
from shardflow.registry.references import Registered, described, pages
from shardflow.registry.registering import copied_from

PAGE, NEWEST = 1000, 100
"""So many versions are asked for at once, and when only a few can be new."""
_CLOCKS = 900.0
"""Seconds by which the clocks of a registry's servers may differ."""


@dataclass
class Present:
    """The versions that a registry has. Each question is answered as of now."""

    client: Any
    versions: dict[Name, Registered] = field(init=False, default_factory=dict)
    _bases: dict[Name, set[Name]] = field(init=False, default_factory=dict)
    _locations: dict[tuple[Name, float], str] = field(init=False, default_factory=dict)
    _newest: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._learn_all()

    def now(self, version: Registered) -> Registered | None:
        """A version as it is now; None if there is none of this name, or another one."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes a second

        try:
            found = described(self.client.get_model_version(version.model, str(version.version)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return found if found.created == version.created else None

    def made_from(self, base: Name) -> list[Registered]:
        """Those that are a copy of a version, or were made from it.

        Of what was registered long ago, and told only since the last listing what it was made from, this does not know.
        """
        found = self._there(lambda name, _: base in self._bases[name])
        return [each for each in found if base in bases_of(each)]

    def in_use(self, location: str) -> bool:
        """Whether any version has files there, above or below."""
        return bool(self._there(lambda _, each: self._is_there(each, location)))

    def location(self, version: Registered) -> str:
        """Where a version has its files. A model as its source does not tell: it may be a version that is gone."""
        if not version.source.startswith("models:"):
            return version.source.rstrip("/")
        key = (name_of(version), version.created)
        if key not in self._locations:
            found = self.client.get_model_version_download_uri(version.model, str(version.version))
            self._locations[key] = str(found).rstrip("/")
        return self._locations[key]

    def forget(self, version: Registered) -> None:
        """A version was removed by the caller."""
        self.versions.pop(name_of(version), None)
        self._bases.pop(name_of(version), None)

    def _there(self, wanted: Callable[[Name, Registered], bool]) -> list[Registered]:
        """Those that are wanted, as they are now. One that is gone may have been renamed, so all are listed again."""
        self._learn_newest()
        found = [self.now(each) for name, each in list(self.versions.items()) if wanted(name, each)]
        if None in found:
            self._learn_all()
            found = [self.now(each) for name, each in list(self.versions.items()) if wanted(name, each)]
        return [each for each in found if each]

    def _is_there(self, version: Registered, location: str) -> bool:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415

        if not _may_share(version, location):
            return False
        try:
            other = self.location(version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return True  # gone, or renamed: a closer look will tell
        return f"{other}/".startswith(f"{location}/") or f"{location}/".startswith(f"{other}/")

    def _learn_all(self) -> None:
        self.versions, self._bases = {}, {}
        self._learn(self._listed("creation_timestamp ASC", PAGE))

    def _learn_newest(self) -> None:
        self._learn(self._listed("creation_timestamp DESC", NEWEST, self._newest - _CLOCKS))

    def _listed(self, order: str, size: int, since: float = 0.0) -> Iterable[Registered]:
        """Page by page, as far as a page reaches back to before `since`.

        Again until nothing is new: a version is hidden if another one is removed while a listing goes on to a page.
        """
        listed: dict[Name, Registered] = {}
        while True:
            before, count = len(listed), 0
            for count, page in enumerate(pages(self.client, order=order, size=size), 1):  # noqa: B007  # counts pages
                found = [described(each) for each in page]
                listed |= {name_of(each): each for each in found}
                if not found or found[-1].created < since:
                    break
            if count <= 1 or len(listed) == before:
                return listed.values()

    def _learn(self, versions: Iterable[Registered]) -> None:
        for version in versions:
            self.versions[name_of(version)] = version
            self._bases[name_of(version)] = bases_of(version)
            self._newest = max(self._newest, version.created)


def name_of(version: Registered) -> Name:
    return version.model, version.version


def bases_of(version: Registered) -> set[Name]:
    """What a version was made from: by its tag, and for a copy, which may have no tag, by its source."""
    copied = copied_from(version.source)
    return {link.parent for link in links_of(version)} | ({copied} if copied else set())


def _may_share(version: Registered, location: str) -> bool:
    """A logged model has a directory of its own, named by its id: who was registered from another need not be asked."""
    model = version.model_id
    return model is None or version.source != f"models:/{model}" or model in location
