"""What differs between two registered versions: metrics, parameters, size, interface, tensors, and their kinship."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shardflow.registry.evidence import metrics_of
from shardflow.registry.evidence_digests import Files, files_of, local_directory, on_disk
from shardflow.registry.lineage import distance, lineage_of
from shardflow.registry.proposing import difference, interface_of
from shardflow.registry.references import Registered
from shardflow.registry.versions import Change
from shardflow.transport.url import SCHEME

if TYPE_CHECKING:
    from shardflow.patch.comparing import Comparison


@dataclass(frozen=True, slots=True)
class Pair:
    """One thing, as each of the two has it; None where one has it not."""

    name: str
    a: float | str | None
    b: float | str | None

    @property
    def differs(self) -> bool:
        return self.a != self.b


@dataclass(frozen=True, slots=True)
class Compared:
    """Two versions side by side."""

    a: Registered
    b: Registered
    metrics: tuple[Pair, ...]
    parameters: tuple[Pair, ...]
    files: tuple[Pair, ...]
    """Files that are not the same in both, by their sizes."""
    sizes: tuple[int, int]
    change: Change
    reason: str
    distance: int | None
    """Steps between the two over what both come from; None if they have nothing in common."""
    tensors: Comparison | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "a": {"name": self.a.name, "semantic": _semantic(self.a), "status": self.a.status.value},
            "b": {"name": self.b.name, "semantic": _semantic(self.b), "status": self.b.status.value},
            "metrics": [asdict(pair) for pair in self.metrics],
            "parameters": [asdict(pair) for pair in self.parameters],
            "bytes": list(self.sizes),
            "files": [asdict(pair) for pair in self.files],
            "change": self.change.value,
            "reason": self.reason,
            "lineage_distance": self.distance,
            "tensors": self.tensors.as_dict() if self.tensors else None,
        }


def compared(a: Registered, b: Registered, client: Any, *, weights: bool = True) -> Compared:
    """Compare two versions; `weights=False` reads no more than the heads of their files."""
    files = files_of(a.location), files_of(b.location)
    change, reason = difference(interface_of(a.location), interface_of(b.location))
    same_model = {path: file.blake3 for path, file in files[0].items()} == {
        path: file.blake3 for path, file in files[1].items()
    }
    return Compared(
        a,
        b,
        _pairs(metrics_of(a.subject(), client), metrics_of(b.subject(), client)),
        _pairs(_parameters(a, client), _parameters(b, client)),
        _changed(*files),
        (_size(files[0]), _size(files[1])),
        change,
        "nothing changed" if same_model else reason,
        _distance(a, b, client),
        _tensors(a, b) if weights else None,
    )


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Pair, ...]:
    return tuple(Pair(name, a.get(name), b.get(name)) for name in sorted({*a, *b}))


def _changed(a: Files, b: Files) -> tuple[Pair, ...]:
    names = (name for name in sorted({*a, *b}) if name not in a or name not in b or a[name].blake3 != b[name].blake3)
    return tuple(Pair(name, a[name].size if name in a else None, b[name].size if name in b else None) for name in names)


def _parameters(found: Registered, client: Any) -> dict[str, str]:
    """Those of the logged model, or of the run of what was registered without one."""
    if found.model_id:
        return dict(client.get_logged_model(found.model_id).params or {})
    return dict(client.get_run(found.run_id).data.params) if found.run_id else {}


def _distance(a: Registered, b: Registered, client: Any) -> int | None:
    lineage = lineage_of(a, client)
    other = lineage_of(b, client)
    whole = type(lineage)(lineage.of, lineage.versions, (*lineage.links, *other.links))
    return distance(whole, lineage.of, other.of)


def _tensors(a: Registered, b: Registered) -> Comparison:
    from shardflow.patch.comparing import compare  # noqa: PLC0415  # the compiled parts take a moment

    with ExitStack() as stack:
        places = [_readable(found.location, stack) for found in (a, b)]
        return compare(*places)


def _readable(location: str, stack: ExitStack) -> str:
    if location.startswith(f"{SCHEME}:"):
        return location
    return str(local_directory(location) or stack.enter_context(on_disk(location)))


def _size(files: Files) -> int:
    return sum(file.size for file in files.values())


def _semantic(found: Registered) -> str | None:
    return found.semantic.text if found.semantic else None
