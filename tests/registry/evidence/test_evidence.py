"""Statements about models: made, handed in, checked against the files that are there, and refused when they lie."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import MetricThreshold

from registry.evidence.samples import FILES
from registry.forging import forge
from registry.logged import Place, write
from shardflow.registry import evidence_statements as statements
from shardflow.registry.evidence import facts_of, lineage_gaps
from shardflow.registry.evidence_digests import ModelFile, digest_of, files_of
from shardflow.registry.evidence_recording import approve, record_verdict
from shardflow.registry.evidence_statements import StatementRefused, checked, kind_of, stated
from shardflow.registry.keys import make_key, public_key, public_pem, signer
from shardflow.registry.policy import TrustedKey
from shardflow.registry.references import Registered, VersionMissing, find, statements_among
from shardflow.registry.terms import Facts, Status

_numbers = itertools.count()
ONE_FILE = {"MLmodel": ModelFile(1, "ab" * 32)}


def trusted(path: Path | None = None, name: str = "ada", person: str = "ada") -> dict[str, TrustedKey]:
    return {name: TrustedKey(name, person, public_pem(path))}


def facts(version: Registered, here: Place, keys: dict[str, TrustedKey] | None = None) -> Facts:
    subject = replace(find(version.name).subject(), statements=statements_among(find(version.name).tags))
    return facts_of(["verdicts", "approvals"], subject, trusted() if keys is None else keys, here.client)


def altered(text: str, **predicate: Any) -> str:
    """The envelope with another predicate in it, and the old signature."""
    envelope = json.loads(text)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["predicate"].update(predicate)
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps(envelope)


def test_an_approval_is_handed_in_and_counts_for_the_person_whose_key_it_is(version: Registered, here: Place) -> None:
    approve(version.name, Status.PRODUCTION)
    (found,) = facts(version, here, trusted(person="ada@example.org")).approvals
    assert (found.person, found.after, found.by) == ("ada@example.org", Status.PRODUCTION, "ada")


def test_a_statement_by_a_key_that_the_policy_does_not_name_is_dismissed(
    version: Registered, here: Place, tmp_path: Path
) -> None:
    approve(version.name, Status.PRODUCTION, key=make_key(tmp_path / "eve.pem"))
    found = facts(version, here)
    assert found.approvals == ()
    assert found.dismissed == ("a statement is signed by a key that the policy does not name",)


def test_an_altered_statement_is_dismissed(version: Registered, here: Place) -> None:
    approve(version.name, Status.STAGING)
    (text,) = statements_among(find(version.name).tags)
    here.client.set_model_version_tag(
        version.model, str(version.version), "shardflow.statement.forged", altered(text, **{"for": "production"})
    )
    found = facts(version, here)
    assert [approval.after for approval in found.approvals] == [Status.STAGING]
    assert found.dismissed == ("a statement was altered after it was signed",)


def test_a_statement_for_another_model_is_dismissed(version: Registered, here: Place) -> None:
    here.register("other-bytes", here.log({**FILES, "MLmodel": b"flavors: {x: 1}"}))
    approve("other-bytes/1", Status.PRODUCTION)
    (text,) = statements_among(find("other-bytes/1").tags)
    here.client.set_model_version_tag(version.model, "1", "shardflow.statement.other", text)
    found = facts(version, here)
    assert found.approvals == ()
    assert found.dismissed == ("the approval by ada is about another model",)


def test_an_approval_of_the_same_files_under_another_name_is_dismissed(version: Registered, here: Place) -> None:
    here.register("same-bytes", here.log(FILES))
    approve("same-bytes/1", Status.PRODUCTION)
    (text,) = statements_among(find("same-bytes/1").tags)
    here.client.set_model_version_tag(version.model, "1", "shardflow.statement.other", text)
    assert facts(version, here).dismissed == ("an approval is for same-bytes",)


def test_evidence_stops_counting_when_a_file_of_the_model_changes(version: Registered, here: Place) -> None:
    approve(version.name, Status.PRODUCTION)
    write(version.location, "weights/a.bin", bytes(100_001))
    found = facts(version, here)
    assert found.approvals == ()
    assert found.dismissed == ("the approval by ada is about another model",)


def test_evidence_stops_counting_when_other_data_is_put_below_the_digest_it_is_about(
    version: Registered, here: Place
) -> None:
    approve(version.name, Status.PRODUCTION)
    before = digest_of(files_of(version.location))
    forge(version.location, "weights/a.bin")
    assert digest_of(files_of(version.location)) == before
    assert facts(version, here).dismissed == ("the approval by ada is about another model",)


def test_a_statement_made_from_a_copy_on_disk_counts_for_the_same_files_in_a_store(
    version: Registered, here: Place, tmp_path: Path
) -> None:
    """As with a server that hands artifacts on: who approves has fetched them, and the server sees the store."""
    for name, content in FILES.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    text = stated("approval", version.model, files_of(str(tmp_path / "copy")), {"for": "staging"}, signer())
    here.client.set_model_version_tag(version.model, str(version.version), "shardflow.statement.copy", text)
    assert [each.after for each in facts(version, here).approvals] == [Status.STAGING]


def test_evidence_about_a_model_whose_files_are_gone_does_not_count(version: Registered, here: Place) -> None:
    approve(version.name, Status.PRODUCTION)
    store, path = here.store, version.location.removeprefix(f"{here.store.url}/")
    store.rm(path, recursive=True)
    assert facts(version, here).dismissed == (f"there are no files at {version.location}",)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"payload": 1}', '{"payload": "", "payloadType": "text/plain", "signatures": []}', "[" * 100_000],
)
def test_what_is_no_statement_is_refused(text: str) -> None:
    with pytest.raises(StatementRefused, match="none that this release can read"):
        kind_of(text)


def test_a_payload_of_another_kind_is_refused_although_it_is_signed(tmp_path: Path) -> None:
    key = signer(make_key(tmp_path / "k.pem"))
    from securesystemslib.dsse import Envelope

    for payload in (b"{}", b"[]", b'{"_type": "x", "subject": [], "predicateType": "y", "predicate": {}}'):
        envelope = Envelope(payload, statements.PAYLOAD_TYPE, {})
        envelope.sign(key)
        with pytest.raises(StatementRefused):
            kind_of(json.dumps(envelope.to_dict()))


def test_a_statement_too_large_for_a_tag_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    metrics = {f"metric-{number}": 0.5 for number in range(10_000)}
    with pytest.raises(StatementRefused, match="record fewer metrics"):
        stated("verdict", "llama", ONE_FILE, {"metrics": metrics}, signer(make_key(tmp_path / "k.pem")))


def test_what_a_statement_says_comes_back_as_it_was_said(tmp_path: Path) -> None:
    path = make_key(tmp_path / "k.pem")
    text = stated("approval", "llämä", ONE_FILE, {"for": "production", "at": 1.5}, signer(path))
    said = checked(text, {"k": public_key(public_pem(path))})
    assert (said.kind, said.by, said.model, said.digest) == ("approval", "k", "llämä", digest_of(ONE_FILE))
    assert said.predicate == {"for": "production", "at": 1.5}


class Doubling(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame) -> Any:
        return 2 * model_input["x"]


@pytest.fixture
def evaluated(here: Place) -> Registered:
    mlflow.set_experiment(experiment_id=here.experiment)
    name = f"doubling-{next(_numbers)}"
    mlflow.pyfunc.log_model(name="doubling", python_model=Doubling(), registered_model_name=name, pip_requirements=[])
    return find(f"{name}/1")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # whatever MLflow's evaluators make of a newer pandas
def test_an_evaluation_is_recorded_with_its_verdict_whether_it_passed_or_not(
    evaluated: Registered, here: Place
) -> None:
    data = pd.DataFrame({"x": np.arange(8.0), "y": 2 * np.arange(8.0)})
    asked = {"data": data, "targets": "y", "model_type": "regressor"}
    good = {"mean_absolute_error": MetricThreshold(threshold=0.5, greater_is_better=False)}
    passed = record_verdict(evaluated.name, thresholds=good, suite="regression", **asked)
    assert passed.passed
    assert passed.metrics == {"mean_absolute_error": 0.0}
    hopeless = {"mean_absolute_error": MetricThreshold(threshold=1.0, greater_is_better=True)}
    failed = record_verdict(evaluated.name, thresholds=hopeless, suite="hard", **asked)
    assert not failed.passed
    assert "mean_absolute_error" in str(failed.problem)
    found = facts(evaluated, here).verdicts
    assert {(verdict.suite, verdict.passed) for verdict in found} == {("regression", True), ("hard", False)}


def test_a_result_from_elsewhere_is_recorded_as_well(version: Registered, here: Place) -> None:
    from mlflow.models import EvaluationResult

    result = EvaluationResult(metrics={"f1": 0.9, "latency": 3.0}, artifacts={})
    record_verdict(version.name, thresholds={"f1": MetricThreshold(0.8, greater_is_better=True)}, result=result)
    (verdict,) = facts(version, here).verdicts
    assert verdict.passed
    assert verdict.suite == "evaluation"


def test_the_last_value_of_a_metric_counts(here: Place) -> None:
    run = here.run()
    model = here.log(FILES, metrics={"f1": 0.5}, run_id=run)
    here.client.log_metric(run, "f1", 0.7, timestamp=4_000_000_000_000, step=2, model_id=model.model_id)
    here.client.log_metric(run, "f1", 0.9, timestamp=3_000_000_000_000, step=1, model_id=model.model_id)
    here.register("metrics", model)
    found = find("metrics/1").subject()
    assert facts_of(["metrics"], found, {}, here.client).metrics == {"f1": 0.7}
    both = replace(found, production=found)
    assert facts_of(["production"], both, {}, here.client).production == {"f1": 0.7}


def test_what_was_registered_without_a_logged_model_has_the_metrics_of_its_run(here: Place) -> None:
    run = here.run()
    here.client.log_metric(run, "f1", 0.5)
    subject = replace(find_made(here), source="somewhere", location="somewhere", run_id=run)
    assert facts_of(["metrics"], subject, {}, here.client).metrics == {"f1": 0.5}
    assert facts_of(["metrics"], replace(subject, run_id=None), {}, here.client).metrics == {}


def find_made(here: Place) -> Any:
    name = f"made-{next(_numbers)}"
    here.register(name, here.log(FILES))
    return find(f"{name}/1").subject()


def test_the_gaps_of_a_lineage_are_what_mlflow_does_not_know(here: Place) -> None:
    assert lineage_gaps(find_made(here), here.client) == ("run", "code", "dataset")
    mlflow.set_experiment(experiment_id=here.experiment)
    with mlflow.start_run(tags={"mlflow.source.git.commit": "abc"}) as run:
        mlflow.log_input(mlflow.data.from_numpy(np.zeros(3), name="zeros"))
    model = here.log(FILES, run_id=run.info.run_id)
    here.register("traced", model)
    assert lineage_gaps(find("traced/1").subject(), here.client) == ()


def test_a_parent_that_is_gone_is_a_gap_and_one_that_is_there_is_none(here: Place) -> None:
    parent = here.log(FILES)
    here.register("with-parent", here.log(FILES, tags={"shardflow.parent": parent.model_id}))
    here.register("with-lost", here.log(FILES, tags={"shardflow.parent": "m-" + "0" * 32}))
    here.register("with-name", here.log(FILES, params={"shardflow.base_model": "models:/gone/1"}))
    gaps = {
        name: lineage_gaps(find(f"{name}/1").subject(), here.client)
        for name in ("with-parent", "with-lost", "with-name")
    }
    assert [name for name, found in gaps.items() if "parent" in found] == ["with-lost", "with-name"]


def test_the_author_is_whoever_registered_it_or_else_ran_it(here: Place) -> None:
    run = here.run({"mlflow.user": "grace"})
    here.register("by-grace", here.log(FILES, run_id=run))
    subject = find("by-grace/1").subject()
    assert facts_of(["author"], subject, {}, here.client).author == "grace"
    assert facts_of(["author"], replace(subject, author="ada"), {}, here.client).author == "ada"


def test_nothing_is_looked_up_that_nobody_asked_for(version: Registered) -> None:
    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    subject = replace(version.subject(), location="shardflow://file/nowhere/at/all", entered_at=5.0)
    assert facts_of(["entered_at"], subject, {}, Untouched()).entered_at == 5.0


@pytest.mark.parametrize("reference", ["{}/1", "models:/{}/1", "{}@first", "models:/{}@first", "{}/1.4.0", "{}@1.4.0"])
def test_a_version_is_found_by_every_name_it_has(version: Registered, here: Place, reference: str) -> None:
    here.client.set_registered_model_alias(version.model, "first", "1")
    here.client.set_registered_model_alias(version.model, "v1-4-0", "1")
    assert find(reference.format(version.model)).name == version.name


@pytest.mark.parametrize("reference", ["llama", "/1", "@x", "nothing/1", "nothing@1.2.3", "nothing@1.2", "no@x y"])
def test_a_version_that_is_not_there_is_told(here: Place, reference: str) -> None:
    with pytest.raises(VersionMissing):
        find(reference)
