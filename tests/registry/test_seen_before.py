"""Evidence that was seen to hold is looked at again with every move, and stops counting when anything has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from registry.forging import forge
from registry.logged import SMALL, write
from registry.opened import Registry
from registry.policies import key_entry
from shardflow.registry import evidence_digests, evidence_statements, signing
from shardflow.registry.evidence import Subject, facts_of
from shardflow.registry.evidence_digests import PAGE_FILE, SIGNATURE_FILE, files_of
from shardflow.registry.evidence_statements import stated
from shardflow.registry.facts import facts_row
from shardflow.registry.gathering import gate_for, subject_of
from shardflow.registry.keys import make_key, public_pem, signer
from shardflow.registry.policy import Policy, TrustedKey
from shardflow.registry.signing import checked, signed, store_beside, stored_signature, with_key
from shardflow.registry.statements import Statement, add_statement
from shardflow.registry.terms import Actor, Facts, Move, Status
from shardflow.store.noted import noting_sha256
from shardflow.store.paths import key_of
from shardflow.store.store import Store

WANTED = ("verdicts", "approvals", "signed_by")
Change = Callable[[Subject, Path], Subject]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "ada.pem")


@pytest.fixture
def subject(tmp_path: Path, key: Path) -> Subject:
    """A model with a signature and a verdict."""
    files = tmp_path / "model"
    files.mkdir()
    for number in range(3):
        (files / f"weights-{number}").write_bytes(bytes([number]) * 50_000)
    store = Store.init(str(tmp_path / "store"), SMALL)
    with noting_sha256():
        store.put(files, "llama")
    location = f"{store.url}/llama"
    found = files_of(location)
    store_beside(location, SIGNATURE_FILE, signed("llama", found, with_key(key)))
    text = stated("verdict", "llama", found, {"suite": "s", "result": "PASSED"}, signer(key))
    return Subject("llama", location, statements=(text,))


def facts(subject: Subject, *keys: TrustedKey) -> Facts:
    class Untouched:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    return facts_of(WANTED, subject, {key.name: key for key in keys}, Untouched())  # type: ignore[arg-type]


def holds(found: Facts) -> tuple[bool, bool]:
    """Whether the verdict counts, and the signature."""
    return bool(found.verdicts), bool(found.signed_by)


def other_file(subject: Subject, _: Path) -> Subject:
    write(subject.location, "weights-1", bytes(50_000))
    return subject


def one_more_file(subject: Subject, _: Path) -> Subject:
    write(subject.location, "evil.py", b"evil()")
    return subject


def one_file_less(subject: Subject, _: Path) -> Subject:
    store, path = Store.find(subject.location)
    store.rm(f"{path}/weights-1")
    return subject


def other_data_below_the_same_digest(subject: Subject, _: Path) -> Subject:
    forge(subject.location, "weights-1")
    return subject


def written_in_place_with_the_old_time(subject: Subject, directory: Path) -> Subject:
    """What nobody sees who only compares times and sizes."""
    (manifest,) = (directory / "store" / "tree").rglob("weights-1")
    before = manifest.stat()
    with manifest.open("r+b") as file:
        file.write((manifest.parent / "weights-2").read_bytes()[: before.st_size])
    os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (manifest.stat().st_size, manifest.stat().st_ino) == (before.st_size, before.st_ino)
    return subject


@pytest.mark.parametrize(
    "change",
    [
        other_file,
        one_more_file,
        one_file_less,
        other_data_below_the_same_digest,
        written_in_place_with_the_old_time,
    ],
)
def test_nothing_counts_any_more_once_a_file_has_changed(
    subject: Subject, key: Path, tmp_path: Path, change: Change
) -> None:
    ada = TrustedKey("ada", "ada", public_pem(key))
    assert [holds(facts(subject, ada)) for _ in range(2)] == [(True, True)] * 2
    assert holds(facts(change(subject, tmp_path), ada)) == (False, False)


def test_nothing_counts_any_more_once_the_policy_has_other_keys(subject: Subject, key: Path, tmp_path: Path) -> None:
    ada = TrustedKey("ada", "ada", public_pem(key))
    eve = public_pem(make_key(tmp_path / "eve.pem"))
    assert holds(facts(subject, ada)) == (True, True)
    assert holds(facts(subject)) == (False, False)
    assert holds(facts(subject, TrustedKey("ada", "ada", eve))) == (False, False)
    again = facts(subject, TrustedKey("eve", "eve", eve), TrustedKey("grace", "grace", public_pem(key)))
    assert (again.verdicts[0].by, again.signed_by) == ("grace", ("grace",))


def test_a_statement_and_a_signature_that_were_altered_after_they_held_do_not_count(
    subject: Subject, key: Path
) -> None:
    ada = TrustedKey("ada", "ada", public_pem(key))
    assert holds(facts(subject, ada)) == (True, True)
    (said,) = subject.statements
    altered = replace(subject, statements=(said.replace('"sig":"', '"sig":"A', 1),))
    assert holds(facts(altered, ada)) == (False, True)
    signature = stored_signature(subject.location)
    assert signature is not None
    bundle = json.loads(signature)
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = json.loads(said)["signatures"][0]["sig"]
    store_beside(subject.location, SIGNATURE_FILE, json.dumps(bundle).encode())
    assert holds(facts(subject, ada)) == (True, False)


def test_what_is_the_same_is_checked_once(subject: Subject, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = TrustedKey("ada", "ada", public_pem(key))
    first = facts(subject, ada)
    for module, name in (
        (evidence_digests, "_held"),
        (evidence_digests, "came_later"),
        (evidence_statements, "_checked"),
        (signing, "problem_with"),
    ):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("it was checked again"))
    assert facts(subject, ada) == first


def test_what_came_later_is_looked_into_again_once_it_is_another_file_below_the_same_digest(subject: Subject) -> None:
    write(subject.location, PAGE_FILE, b"<p>where it comes from</p>\n" * 100)
    assert [PAGE_FILE in files_of(subject.location) for _ in range(2)] == [False, False]
    forge(subject.location, PAGE_FILE)
    assert [PAGE_FILE in files_of(subject.location) for _ in range(2)] == [True, True], "it is no text any more"


def test_a_text_that_is_in_the_place_of_a_file_only_while_that_is_looked_into_tells_nothing_of_it(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever may write to a store could have a file of weights taken for a page, for good."""
    write(subject.location, PAGE_FILE, bytes(range(256)) * 10)
    store, path = Store.find(subject.location)
    listed = store.transport.read(key_of(f"{path}/{PAGE_FILE}"))
    look = evidence_digests.came_later

    def somebody_swaps_it(*given: Any) -> frozenset[str]:
        write(subject.location, PAGE_FILE, b"<p>a page</p>\n" * 200)
        later = look(*given)
        store.transport.write(key_of(f"{path}/{PAGE_FILE}"), listed)
        return later

    monkeypatch.setattr(evidence_digests, "came_later", somebody_swaps_it)
    assert PAGE_FILE in files_of(subject.location)
    monkeypatch.undo()
    assert PAGE_FILE in files_of(subject.location)


def test_what_does_not_hold_and_what_an_identity_signed_is_checked_every_time(
    subject: Subject, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(signing, "problem_with", lambda _said, _files, key: asked.append(key.name) or "no")
    eve = TrustedKey("eve", "eve", public_pem(make_key(tmp_path / "eve.pem")))
    ci = TrustedKey("ci", "ci", identity="ci@example.org", issuer="https://example.org")
    files, signature = files_of(subject.location), stored_signature(subject.location)
    for _ in range(2):
        assert checked(signature, files, [eve, ci]).by == ()
    monkeypatch.setattr(signing, "problem_with", lambda _said, _files, key: asked.append(key.name))
    for _ in range(2):
        assert checked(signature, files, [ci]).by == ("ci",)
    assert asked == ["eve", "ci", "eve", "ci", "ci", "ci"]


def test_a_move_that_was_allowed_is_refused_when_the_evidence_no_longer_holds(
    any_registry: Registry, subject: Subject, key: Path, tmp_path: Path
) -> None:
    """All of it together: the registry's database, the policy's file, the store."""
    any_registry.register("llama")
    with any_registry.store.engine.begin() as db:
        add_statement(db, Statement("llama", 1, "verdict", subject.statements[0].encode(), 1.0))
        db.execute(text("UPDATE model_versions SET source = :s, storage_location = :s"), {"s": subject.location})
    rules = "rules: [{to: production, require: {evaluation: {by: ada}, signature: {by: ada}}}]\n"
    policy = Policy.load("keys:\n" + key_entry("ada", public_pem(key)) + rules, "policy.yaml")
    gate = gate_for("sqlite://", None)
    move = Move("llama", 1, Status.STAGING, Status.PRODUCTION, Actor("ada"), 2.0)

    def refusals() -> list[str]:
        with any_registry.store.engine.connect() as db:
            known = facts_row(db, "llama", 1)
            assert known is not None
            seen = subject_of(db, known, policy.needs(move))
        found = policy.judge(move, gate.gather(policy, move, policy.needs(move), seen))
        return sorted(one.rule for one in found)

    assert [refusals() for _ in range(2)] == [[], []]
    other_file(subject, tmp_path)
    assert refusals() == ["evaluation", "signature"]


def test_a_move_that_rests_on_statements_asks_the_database_twice_before_its_turn(
    any_registry: Registry, subject: Subject, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_registry.register("llama")
    any_registry.promote("llama", 1, "staging")
    file = tmp_path / "policy.yaml"
    file.write_text(
        "keys:\n" + key_entry("ada", public_pem(key)) + "rules: [{to: production, require: {evaluation: true}}]\n"
    )
    monkeypatch.setenv("SHARDFLOW_POLICY", str(file))
    with any_registry.store.engine.begin() as db:
        add_statement(db, Statement("llama", 1, "verdict", subject.statements[0].encode(), 1.0))
        db.execute(text("UPDATE model_versions SET source = :s, storage_location = :s"), {"s": subject.location})
    monkeypatch.setattr(any_registry.store, "_gate", gate_for(any_registry.uri, None))
    asked: list[str] = []
    event.listen(any_registry.store.engine, "before_cursor_execute", lambda *told: asked.append(told[2].split()[0]))
    any_registry.promote("llama", 1, "production")
    without_pragmas = [word for word in asked if word != "PRAGMA"]
    turn = without_pragmas.index("UPDATE")
    assert without_pragmas[:turn].count("SELECT") == 2  # where it stands, what is said of it
    assert any_registry.statuses() == {1: "production"}
