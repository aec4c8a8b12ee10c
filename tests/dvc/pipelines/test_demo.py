"""The demonstration of a pipeline, end to end: it checks itself, and MLflow and the registry have what it says."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cli.conftest import Command, shardflow
from registry.live import Live, running
from registry.policies import key_entry
from shardflow.dvc import Pointer
from shardflow.registry.keys import make_key, public_pem

__all__ = ["shardflow"]

DEMO = Path(__file__).parents[3] / "examples" / "dvc_demo.py"
POLICY = "rules: [{to: production, require: {evaluation: {suite: held-out, by: ci}}}]\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demonstration left behind, and what it said."""

    home: Path
    key: Path
    out: str

    @property
    def project(self) -> Path:
        return self.home / ".demo" / "dvc" / "project"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.project}/.shardflow/mlflow.db"

    def runs(self) -> list[Any]:
        """The runs of the first training and of the experiment."""
        client = MlflowClient(self.database)
        (experiment,) = [each for each in client.search_experiments() if each.name == "dvc-pipeline"]
        return list(reversed(client.search_runs([experiment.experiment_id])))

    def git(self, line: str) -> str:
        return subprocess.check_output(["git", *shlex.split(line)], cwd=self.project, text=True).strip()

    def dvc(self, *arguments: str, **settings: str) -> None:
        """A command as the demonstration runs it."""
        home = self.home / ".demo" / "dvc"
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
            **settings,
        }
        subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=self.project, env=environment, check=True)

    def lock(self, branch: str) -> dict[str, dict[str, Any]]:
        """The stages as dvc.lock of a branch has them."""
        stages: dict[str, dict[str, Any]] = yaml.safe_load(self.git(f"show {branch}:dvc.lock"))["stages"]
        return stages


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    home = tmp_path_factory.mktemp("demo").resolve()
    key = make_key(home / "key.pem")
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=home,
        env={**os.environ, "SHARDFLOW_KEY": str(key)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Shown(home, key, done.stdout)


@pytest.fixture
def _asked_there(demo: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in the project, and ask its tracking database."""
    monkeypatch.chdir(demo.project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", demo.database)


def test_the_pipeline_runs_is_repeated_compared_and_brought_back(demo: Shown) -> None:
    assert "prepare at" in demo.out  # the stage behind the data of the registered model
    client = MlflowClient(demo.database)
    first, second = demo.runs()
    differing = {name for name, value in first.data.params.items() if second.data.params[name] != value}
    assert differing == {"lr"}
    assert first.data.metrics.keys() == second.data.metrics.keys() >= {"loss", "test.accuracy"}
    assert all(run.data.tags["shardflow.checkpoint.step"] == "10" for run in (first, second))
    for version in (client.get_model_version("classifier", number) for number in ("1", "2")):
        assert len(version.tags["verdict.sha256"]) == 64
        assert [name for name in version.tags if name.startswith("shardflow.statement.")]


def test_runs_are_tagged_with_the_commit_the_experiment_and_the_hashes_of_the_lock(demo: Shown) -> None:
    first, slower = (run.data.tags for run in demo.runs())
    baseline = demo.git("rev-parse main")
    assert (first["dvc.stage"], slower["dvc.stage"]) == ("train", "train")
    assert first["dvc.rev"] == demo.git("rev-parse main~1")
    assert not {"dvc.experiment", "dvc.baseline"} & set(first)
    assert (slower["dvc.experiment"], slower["dvc.baseline"], slower["dvc.rev"]) == ("slower", baseline, baseline)
    for tags, branch in ((first, "main"), (slower, "slower")):
        locked = {dep["path"]: dep["md5"] for dep in demo.lock(branch)["train"]["deps"]}
        assert json.loads(tags["dvc.hashes"]) == locked


def of_first(demo: Shown) -> dict[str, Any]:
    """The code and the checkpoint that made classifier/1, as git and the files of the project have them."""
    pointer = json.loads(demo.git("show main:model.json"))
    code = {"repo": str(demo.project), "commit": demo.git("rev-parse main~1"), "stage": "train", "experiment": None}
    demo.git("checkout --quiet main")
    demo.dvc("checkout", "--quiet")
    named = Pointer.read(demo.project / "checkpoint.json")
    assert named.mlflow_run == pointer["run"]
    return {
        "model": pointer["model"].removeprefix("models:/"),
        "run_id": pointer["run"],
        "code": code,
        "checkpoint": f"{named.url} step 10 ({named.digest})",
    }


@pytest.mark.usefixtures("_asked_there")
def test_a_version_leads_to_its_commit_its_stage_its_checkpoint_and_its_data(demo: Shown, shardflow: Command) -> None:
    expected, locked = of_first(demo), demo.lock("main")
    (found,) = shardflow("dvc", "lineage", "classifier/1", "--json").document["models"]
    assert {name: found[name] for name in expected} == expected
    used = {(data["path"], data["md5"]) for data in found["data"]}
    assert used == {(dep["path"], dep["md5"]) for dep in locked["train"]["deps"]}
    (prepared,) = found["steps"]
    assert prepared["deps"] == {dep["path"]: dep["md5"] for dep in locked["prepare"]["deps"]}

    lines = [line.split(maxsplit=1) for line in shardflow("dvc", "lineage", "classifier/1").out.splitlines()[1:]]
    assert ["code", f"{demo.project} at {expected['code']['commit'][:12]}, stage train"] in lines
    assert ["checkpoint", expected["checkpoint"]] in lines


@pytest.mark.usefixtures("_asked_there")
def test_data_and_code_lead_to_the_versions_with_the_commit_and_the_checkpoint_of_each(
    demo: Shown, shardflow: Command
) -> None:
    expected = of_first(demo)
    (program,) = [dep["md5"] for dep in demo.lock("main")["train"]["deps"] if dep["path"] == "pipeline/train.py"]
    for asked in ("data/raw.csv@main", program):
        models = shardflow("dvc", "lineage", "--data", asked, "--json").document["models"]
        assert sorted(model["versions"] for model in models) == [["classifier/1"], ["classifier/2"]]
        (first,) = [model for model in models if model["versions"] == ["classifier/1"]]
        assert {name: first[name] for name in expected} == expected
        (second,) = [model for model in models if model["versions"] == ["classifier/2"]]
        assert (second["code"]["commit"], second["code"]["experiment"]) == (demo.git("rev-parse main"), "slower")
        assert second["checkpoint"] != first["checkpoint"]

    said = shardflow("dvc", "lineage", "--data", "data/raw.csv@main").out
    after = said.partition(f"classifier/1 (models:/{expected['model']})  by data/prepared in run")[2].splitlines()
    assert after[1].split(maxsplit=1) == ["code", f"{demo.project} at {expected['code']['commit'][:12]}, stage train"]
    assert after[2].split(maxsplit=1) == ["checkpoint", expected["checkpoint"]]


@pytest.fixture
def live(demo: Shown, tmp_path: Path) -> Iterator[Live]:
    """A server with the registry of the demonstration, whose policy wants an evaluation that passed."""
    policy = f"keys:\n{key_entry('ci', public_pem(demo.key))}{POLICY}"
    with running(tmp_path, demo.database, policy=policy) as live:
        yield live


def test_a_verdict_below_the_bar_keeps_a_version_out_of_production(demo: Shown, live: Live) -> None:
    of_first(demo)
    settings = {"MLFLOW_TRACKING_URI": live.uri, "MLFLOW_REGISTRY_URI": live.uri, "SHARDFLOW_KEY": str(demo.key)}
    demo.dvc("exp", "run", "--quiet", "-S", "evaluate.accuracy.at_least=1.01", **settings)
    assert json.loads((demo.project / "verdict.json").read_text())["missed"] == ["accuracy"]
    assert json.loads((demo.project / "registered.json").read_text())["version"] is None
    live.client.transition_model_version_stage("classifier", "1", "Staging")
    with pytest.raises(MlflowException, match=r"Record a passing evaluation.*the last one of 'held-out' failed"):
        live.client.transition_model_version_stage("classifier", "1", "Production")
    assert live.stages("classifier")[1] == "Staging"
    assert (live.trail()[-1].outcome, live.trail()[-1].version) == ("refused", 1)
