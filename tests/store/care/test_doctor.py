"""doctor never fails: whatever is wrong is a finding with its remedy."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from shardflow.store.care import machine, probing
from shardflow.store.care.doctor import Finding, diagnose
from shardflow.store.care.finding import looked_at, size_text, time_text
from shardflow.store.care.gc import collect
from shardflow.store.config import CONFIG_KEY, encode_config
from shardflow.store.store import Store
from shardflow.transport import AccessDenied, ReadOnlyTarget, Transport
from store.care.world import content

STORE = {
    "reachable",
    "store",
    "read",
    "write",
    "delete",
    "set aside",
    "round trip",
    "conditional create",
    "conditional update",
    "conditional delete",
    "clock",
    "unfinished",
    "space",
}


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    assert len({finding.name for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.what
        assert finding.ok is not False or finding.remedy, finding
    return {finding.name: finding for finding in findings}


def test_a_sound_machine_and_store_have_nothing_wrong(store: Store) -> None:
    found = by_name(diagnose(str(store.url)))
    assert [name for name, finding in found.items() if finding.ok is False] == []
    assert found.keys() >= {"python", "shardflow", "libraries", "kernels", "state", "cache", "memory"} | STORE
    assert list(store.transport.list("care/")) == []
    assert found["clock"].as_dict()["ok"] is True


def test_without_a_url_only_the_machine_is_examined() -> None:
    assert not by_name(diagnose()).keys() & STORE


@pytest.mark.parametrize("url", ["shardflow://nowhere/x", "shardflow:///x", "s3+shardflow://a/b", "shardflow://s3/"])
def test_a_url_that_is_wrong_is_a_finding(url: str) -> None:
    found = by_name(diagnose(url))
    assert found["reachable"].ok is False


def test_a_place_without_a_store_is_a_finding(tmp_path: Path) -> None:
    found = by_name(diagnose(f"shardflow://file{tmp_path.resolve()}/nowhere"))
    assert found["store"].ok is False
    assert "shardflow init" in found["store"].remedy


def test_refused_credentials_are_a_finding_of_their_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AccessDenied("403 Forbidden", remedy="set the keys")

    monkeypatch.setattr(Transport, "list_names", refuse)
    found = by_name(diagnose(str(store.url)))
    assert found["credentials"] == Finding("credentials", False, "403 Forbidden", "set the keys")
    assert not found.keys() & (STORE - {"reachable"})


def test_a_store_that_needs_what_this_version_lacks_is_a_finding(store: Store) -> None:
    config = msgspec.structs.replace(store.config, requires={"write": ["magic"]})
    store.transport.write(CONFIG_KEY, encode_config(config))
    found = by_name(diagnose(str(store.url)))
    assert found["write"].ok is False
    assert "magic" in found["write"].what
    assert found["read"].ok


def test_a_store_that_takes_no_writes_is_a_finding_for_each_thing_that_needs_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ReadOnlyTarget("cannot write", remedy="make it writable")

    monkeypatch.setattr(Transport, "write", refuse)
    found = by_name(diagnose(str(store.url)))
    wrong = {name for name, finding in found.items() if finding.ok is False}
    assert wrong >= {"round trip", "conditional create", "conditional update", "clock"}


def test_a_provider_that_pays_no_heed_to_conditions_is_found_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Transport.write

    def careless(self: Transport, key: str, data: bytes, **_: object) -> object:
        return write(self, key, data)

    monkeypatch.setattr(Transport, "write", careless)
    monkeypatch.setattr(Transport, "conditional_deletes", False)
    found = by_name(diagnose(str(store.url)))
    assert found["conditional create"].ok is False
    assert found["conditional update"].ok is False
    assert found["conditional delete"].ok is None


def test_clocks_that_differ_are_a_finding(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transport, "clock", lambda _: 1_000.0)
    clock = by_name(diagnose(str(store.url)))["clock"]
    assert clock.ok is False
    assert "behind this machine's" in clock.what


def test_packs_that_wait_too_long_are_a_finding(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(io.BytesIO(content(1)), "went")
    store.rm("went")
    collect(store, grace=0)
    assert by_name(diagnose(str(store.url)))["set aside"].ok
    honest = Transport.clock
    monkeypatch.setattr(Transport, "clock", lambda self: honest(self) + 30 * 86_400)
    overdue = by_name(diagnose(str(store.url)))["set aside"]
    assert overdue.ok is None
    assert overdue.remedy == "run 'shardflow gc'"


def test_on_s3_what_cannot_be_seen_is_told(store: Store) -> None:
    remote = SimpleNamespace(url=SimpleNamespace(backend="s3"), stale_temporaries=lambda _: [], list=lambda _: iter(()))
    assert "lifecycle" in probing._unfinished(remote).remedy  # type: ignore[arg-type]
    assert probing._space(remote).ok is None  # type: ignore[arg-type]


def test_a_directory_that_cannot_be_written_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SHARDFLOW_STATE", str(tmp_path / "file/state"))
    state = by_name(diagnose())["state"]
    assert state.ok is False
    assert "SHARDFLOW_STATE" in state.remedy


def test_little_room_is_a_finding(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FREE_ENOUGH", 1 << 60)
    monkeypatch.setattr(probing, "FREE_ENOUGH", 1 << 60)
    found = by_name(diagnose(str(store.url)))
    assert found["cache"].ok is None
    assert "free some space" in found["cache"].remedy
    assert found["space"].ok is None


def test_missing_and_mismatched_libraries_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"obstore": None, "shardflow": "0.0.0"}
    monkeypatch.setattr(machine, "_installed", lambda name: versions.get(name, "1.0"))
    found = by_name(diagnose())
    assert found["libraries"].ok is False
    assert found["libraries"].remedy == "install obstore"
    assert found["shardflow"].ok is False


def test_plain_numpy_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_KERNELS", "numpy")
    assert by_name(diagnose())["kernels"].ok is None


def test_compiled_loops_that_cannot_be_kept_are_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "loops").mkdir()
    (tmp_path / "loops").chmod(0o777)
    monkeypatch.setenv("SHARDFLOW_LOOPS", str(tmp_path / "loops"))
    found = by_name(diagnose())["kernels"]
    assert found.ok is None
    assert found.remedy == "make it a directory of yours alone, or set SHARDFLOW_LOOPS to one"


def test_plugins_are_loaded_and_one_that_does_not_load_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    entries = [
        EntryPoint("good", "json:loads", "mlflow.artifact_repository"),
        EntryPoint("bad", "no_such_module:x", "mlflow.artifact_repository"),
        EntryPoint("shardflow", "shardflow.cli:main", "console_scripts"),
    ]
    monkeypatch.setattr(machine, "DISTRIBUTIONS", ("shardflow", "no-such-distribution"))
    honest = machine.metadata.distribution
    monkeypatch.setattr(
        machine.metadata,
        "distribution",
        lambda name: SimpleNamespace(entry_points=entries) if name == "shardflow" else honest(name),
    )
    found = by_name(diagnose())
    assert found["mlflow.artifact_repository good"].ok
    assert found["mlflow.artifact_repository bad"].ok is False


def test_whatever_a_look_fails_with_is_a_finding() -> None:
    def look() -> Finding:
        raise RuntimeError("out of luck")

    assert looked_at("it", look).what == "RuntimeError: out of luck"


def test_sizes_and_times_are_told_for_people() -> None:
    assert [size_text(count) for count in (0, 1023, 2048, 5 << 30, 3 << 40)] == [
        "0 bytes",
        "1023 bytes",
        "2.0 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]
    assert [time_text(span) for span in (5, 600, 7200, 864_000)] == ["5 seconds", "10 minutes", "2 hours", "10 days"]


@pytest.mark.parametrize(("variable", "value"), [("SHARDFLOW_FSYNC", "maybe"), ("SHARDFLOW_PARALLEL", "0")])
def test_a_setting_of_transfers_that_says_nothing_is_a_finding(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert next(finding for finding in diagnose() if finding.name == "transfers").ok
    monkeypatch.setenv(variable, value)
    found = next(finding for finding in diagnose() if finding.name == "transfers")
    assert (found.ok, found.what) == (False, f"{variable} is {value!r}")
    assert found.remedy.startswith("set it to ")
