"""The commands about policies and evidence, against a real registry in a database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Command, the_line
from registry.logged import Place, own_place
from shardflow.registry.keys import public_pem
from shardflow.registry.policy.finding import load_file

FILES = {"MLmodel": b"flavors: {}", "weights.bin": bytes(100_000)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("SHARDFLOW_KEY", str(tmp_path / "key.pem"))
    with own_place(tmp_path) as made:
        yield made


@pytest.fixture
def registered(here: Place) -> Place:
    here.register("llama", here.log(FILES), {"shardflow.version": "1.0.0"})
    return here


def test_init_writes_a_policy_in_which_this_user_is_trusted(here: Place, tmp_path: Path, shardflow: Command) -> None:
    done = shardflow("policy", "init", tmp_path / "p.yaml")
    assert done.code == 0
    assert f"made a new key for that: {tmp_path / 'key.pem'}" in done.out
    assert len(load_file(tmp_path / "p.yaml").keys) == 1
    again = shardflow("policy", "init", tmp_path / "p.yaml")
    assert again.code == 1
    assert "is there already" in the_line(again)
    other = shardflow("policy", "init", tmp_path / "q.yaml")
    assert "new key" not in other.out


def test_check_tells_what_a_policy_says_or_where_it_is_wrong(tmp_path: Path, shardflow: Command) -> None:
    (tmp_path / "good.yaml").write_text("rules: [{models: 'llama-*', to: production, require: {signature: true}}]")
    done = shardflow("policy", "check", tmp_path / "good.yaml")
    assert done.out == "good.yaml is a policy of 1 rule and 0 keys\n  llama-* to production: 1 condition\n"
    assert shardflow("policy", "check", tmp_path / "good.yaml", "--json").document["rules"] == 1
    (tmp_path / "bad.yaml").write_text("rules:\n  - to: productoin\n    require: {}\n")
    done = shardflow("policy", "check", tmp_path / "bad.yaml")
    assert done.code == 1
    assert the_line(done).startswith("shardflow: bad.yaml:2:9: 'productoin' is not one of")
    assert the_line(done).endswith("did you mean 'production'?")
    assert shardflow("policy", "check", tmp_path / "none.yaml").code == 1


def test_key_prints_what_a_policy_takes(here: Place, tmp_path: Path, shardflow: Command) -> None:
    done = shardflow("policy", "key")
    (tmp_path / "p.yaml").write_text(f"keys:\n{done.out}rules: []\n")
    assert len(load_file(tmp_path / "p.yaml").keys) == 1


def test_explain_says_what_is_missing_and_then_that_nothing_is(
    registered: Place, tmp_path: Path, shardflow: Command
) -> None:
    assert shardflow("policy", "init", tmp_path / "shardflow-policy.yaml").code == 0
    registered.client.set_model_version_tag("llama", "1", "shardflow.status", "staging")
    done = shardflow("policy", "explain", "llama/1", "production")
    assert done.code == 1
    assert "may not go from staging to production yet" in done.out
    assert "evaluation: record an evaluation (llama/1 has none that counts)" in done.out
    from mlflow.models import EvaluationResult, MetricThreshold

    from shardflow.registry import record_verdict

    bound = {"f1": MetricThreshold(0.5, greater_is_better=True)}
    record_verdict("llama/1", thresholds=bound, result=EvaluationResult(metrics={"f1": 0.9}, artifacts={}))
    done = shardflow("policy", "explain", "llama@1.0.0", "production", "--json")
    assert done.code == 0
    assert done.document["allowed"]
    assert done.document["evidence"]["verdicts"][0].startswith("evaluation: passed")
    assert shardflow("policy", "explain", "llama/1", "staging").out == "llama/1 is in staging already\n"
    registered.client.set_model_version_tag("llama", "1", "shardflow.status", "production")


def test_a_registry_without_a_policy_cannot_explain(tmp_path: Path, shardflow: Command) -> None:
    with own_place(tmp_path, gated=False) as here:
        here.register("llama", here.log(FILES))
        done = shardflow("policy", "explain", "llama/1", "production")
    assert done.code == 1
    assert "has no policy" in the_line(done)


def test_a_version_that_is_not_there_is_one_line(here: Place, shardflow: Command) -> None:
    shardflow("policy", "key")
    for line in ("policy explain llama/9 staging", "sign llama/9", "approve llama/9 --for staging"):
        done = shardflow(*line.split())
        assert done.code == 1
        assert "there is no llama/9" in the_line(done)


def test_sign_and_verify_and_the_stock_command_agree(registered: Place, tmp_path: Path, shardflow: Command) -> None:
    (tmp_path / "p.yaml").write_text(f"keys:\n{shardflow('policy', 'key').out}rules: []\n")
    done = shardflow("sign", "llama/1")
    assert done.out == "signed llama/1 (1.0.0): 2 files\n  read 97.7 KiB whose SHA-256 was not noted; it is now\n"
    assert shardflow("sign", "llama@1.0.0", "--json").document["bytes_read"] == 0
    assert shardflow("sign", "llama/1", "--read").out.endswith("  read 97.7 KiB to check the digests of the store\n")
    assert shardflow("verify", "llama/1").out == "llama/1: 2 files, signed by your key\n"
    assert shardflow("verify", "llama/1", "--read").code == 0
    assert shardflow("verify", "llama/1", "--policy", tmp_path / "p.yaml").code == 0
    registered.store.get("artifacts", tmp_path / "copy")
    (directory,) = (path.parent for path in (tmp_path / "copy").rglob("MLmodel"))
    (tmp_path / "key.pub").write_text(public_pem())
    assert shardflow("verify", directory, "--public-key", tmp_path / "key.pub").code == 0
    stock = [sys.executable, "-m", "model_signing", "verify", "key", str(directory), "--signature"]
    stock += [str(directory / "model.sig"), "--public_key", str(tmp_path / "key.pub")]
    assert subprocess.run(stock, check=True, capture_output=True, text=True).stdout == "Verification succeeded\n"
    (directory / "weights.bin").write_bytes(b"other")
    done = shardflow("verify", directory)
    assert done.code == 1
    assert "the files are not those that were signed: weights.bin; do not use it" in the_line(done)
    assert shardflow("verify", directory, "--json").document["signed_by"] == []


def test_what_was_never_signed_does_not_verify(registered: Place, shardflow: Command) -> None:
    shardflow("policy", "key")
    done = shardflow("verify", "llama/1")
    assert done.code == 1
    assert "no signature of llama/1 holds: the model is not signed" in the_line(done)


def test_an_approval_lets_a_move_pass_that_asks_for_one(registered: Place, tmp_path: Path, shardflow: Command) -> None:
    entry = shardflow("policy", "key").out
    (tmp_path / "shardflow-policy.yaml").write_text(
        f"keys:\n{entry}    person: grace\nrules: [{{to: testing, require: {{approvals: {{count: 1}}}}}}]\n"
    )
    assert "nobody whose word counts" in shardflow("policy", "explain", "llama/1", "testing").out
    done = shardflow("approve", "llama/1", "--for", "testing")
    assert done.out == "approved llama/1 (1.0.0) for testing\n"
    assert shardflow("policy", "explain", "llama/1", "testing").code == 0


def test_ways_to_sign_exclude_each_other(shardflow: Command) -> None:
    done = shardflow("sign", "llama/1", "--keyless", "--pkcs11", "pkcs11:x")
    assert done.code == 2
    assert shardflow("verify", "llama/1", "--identity", "me").code == 2


def test_a_server_that_does_not_answer_is_one_line(shardflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        done = shardflow("lineage", "llama/1")
    finally:
        mlflow.set_tracking_uri(before)
    assert done.code == 1
    assert "Max retries exceeded" in the_line(done)


def test_no_command_of_the_registry_takes_a_second_to_show_its_help() -> None:
    program = "import sys; from shardflow.cli.app import commands; commands.get_command(None, sys.argv[1]); "
    program += "print(json.dumps([name for name in ('mlflow', 'torch', 'sqlalchemy') if name in sys.modules]))"
    for name in ("policy", "sign", "verify", "approve", "lineage", "compare", "prune", "publish"):
        done = subprocess.run(
            [sys.executable, "-c", f"import json; {program}", name], check=True, capture_output=True, text=True
        )
        assert json.loads(done.stdout) == []
