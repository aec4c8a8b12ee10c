"""All versions of a registry, followed while others register, change, rename and remove some.

A registry lists its versions page by page, which takes long for many. What never changes of a version, its source and
where its files are, is asked for once; whatever else matters is asked of the few versions for which it does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from shardflow.registry.bases import bases_of, children_shown, has_more_children, may_be, name_of
from shardflow.registry.evidence import MODEL_ID
from shardflow.registry.lineage import Name, links_of, relatives
from shardflow.registry.references import Registered, described, pages, search_of

PAGE, NEWEST = 1000, 100
"""So many versions are asked for at once, and when only a few can be new."""
_CLOCKS = 900.0
"""Seconds by which the clocks of a registry's servers may differ."""
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})")


@dataclass
class Present:
    """The versions that a registry has. Each question is answered as of now."""

    client: Any
    versions: dict[Name, Registered] = field(init=False, default_factory=dict)
    _bases: dict[Name, set[Name]] = field(init=False, default_factory=dict)
    _models: Counter[str] = field(init=False, default_factory=Counter)
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

    def made_from(self, base: Registered) -> list[Registered]:
        """Those that are a copy of a version, as it is now, or were made from it.

        In MLflow's own registry, of what was registered long ago, and told only since the last listing what it was made
        from, this does not know.
        """
        told = children_shown(base) | (self._further_children(base) if has_more_children(base) else set())
        found = self._there(lambda name, each: name in told or self._descends(each, self._bases[name], base))
        return [each for each in found if name_of(each) in told or self._descends(each, bases_of(each), base)]

    def is_among_last(self, version: Registered, last: int) -> bool:
        """Whether a version is one of so many of the newest of its model."""
        if not last:
            return False
        newer: set[int] = set()
        for page in pages(self.client, search_of(version.model), "version_number DESC", min(last, PAGE)):
            numbers = [int(each.version) for each in page if each.name == version.model]
            newer.update(number for number in numbers if number > version.version)
            if len(newer) >= last or version.version in numbers:
                break
        return len(newer) < last

    def in_use(self, location: str) -> bool:
        """Whether any version has files there, above or below."""
        of_a_model = MODEL_ID.search(location) is not None
        return bool(
            self._there(lambda _, each: _may_share(each, location, of_a_model) and self._is_there(each, location))
        )

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
        if self.versions.pop(name_of(version), None):
            del self._bases[name_of(version)]
            self._models[version.model] -= 1

    def _descends(self, child: Registered, bases: Iterable[Name], base: Registered) -> bool:
        called = name_of(base)
        return any(each == called or (may_be(base, each, child) and not self._models[each[0]]) for each in bases)

    def _further_children(self, base: Registered) -> set[Name]:
        found = (link for each in relatives(base, self.client) for link in links_of(each))
        return {link.child for link in found if link.parent == name_of(base)}

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

        try:
            other = self.location(version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return True  # gone, or renamed: a closer look will tell
        return f"{other}/".startswith(f"{location}/") or f"{location}/".startswith(f"{other}/")

    def _learn_all(self) -> None:
        self.versions, self._bases, self._models = {}, {}, Counter()
        self._learn(self._listed("creation_timestamp ASC", PAGE))

    def _learn_newest(self) -> None:
        self._learn(self._listed("creation_timestamp DESC", NEWEST, self._newest - _CLOCKS))

    def _listed(self, order: str, size: int, since: float = 0.0) -> list[Registered]:
        """Page by page, as far as a page reaches back to before `since`.

        Again until nothing is new: a version is hidden if another one is removed while a listing goes on to a page.
        What the last time did not show may have another name by now, or be gone.
        """
        listed: dict[Name, Registered] = {}
        while True:
            before, count, shown = len(listed), 0, dict[Name, Registered]()
            for count, page in enumerate(pages(self.client, order=order, size=size), 1):  # noqa: B007  # counts pages
                found = [described(each) for each in page]
                shown |= {name_of(each): each for each in found}
                if not found or found[-1].created < since:
                    break
            listed |= shown
            if count <= 1 or len(listed) == before:
                return [each for name, each in listed.items() if name in shown or self.now(each)]

    def _learn(self, versions: Iterable[Registered]) -> None:
        for version in versions:
            self._models[version.model] += name_of(version) not in self.versions
            self.versions[name_of(version)] = version
            self._bases[name_of(version)] = bases_of(version)
            self._newest = max(self._newest, version.created)


def _may_share(version: Registered, location: str, of_a_model: bool) -> bool:
    """A logged model has a directory of its own, named by its id: who was registered from another need not be asked.

    A location in no such directory may be above all of them.
    """
    own = _LOGGED.fullmatch(version.source)
    return own is None or not of_a_model or own[1] in location
