"""A DVC pipeline from an empty directory to a registered model, with an experiment and another branch beside it.

    python examples/dvc_demo.py

Everything is in a new directory, `.demo/dvc` below the current one, and stays there. The pipeline is that of
examples/dvc_pipeline, as `shardflow dvc init` writes it into any project. Lines that begin with `$` are commands that
you could type.
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from shardflow.dvc import load_checkpoint

HOME = Path(".demo", "dvc").absolute()
PROJECT = HOME / "project"
PROGRAMS = Path(sys.executable).parent  # where the dvc and the python of this environment are
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "MLFLOW_"))},
    "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    "DVC_NO_ANALYTICS": "1",
    "DVC_SITE_CACHE_DIR": str(HOME / "site"),
    "GIT_CONFIG_GLOBAL": str(HOME / "gitconfig"),
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "OMP_NUM_THREADS": "1",  # the model is so small that threads would only wait for each other
    "PYTHONWARNINGS": "ignore",
    "SHARDFLOW_STATE": str(HOME / "state"),
    "SHARDFLOW_CACHE": str(HOME / "cache"),
}
GIT_CONFIG = "[user]\n\tname = demo\n\temail = demo@example.org\n[init]\n\tdefaultBranch = main\n"
RESULTS = ("data/raw.csv", "data/prepared", "checkpoint.json", "model.json", "metrics.json")


def main() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
    PROJECT.mkdir(parents=True)
    (HOME / "gitconfig").write_text(GIT_CONFIG)
    os.environ.update(ENVIRONMENT)
    begin_a_project()
    first = run_the_pipeline()
    second = try_something_else()
    go_back_and_forth(first, second)
    say("5. Which data and which code made the model that is registered?")
    run("env MLFLOW_TRACKING_URI=sqlite:///.shardflow/mlflow.db shardflow dvc lineage classifier/1")
    say("Done. The project is in .demo/dvc/project: 'dvc exp show' there has more to tell.")


def begin_a_project() -> None:
    say("1. A pipeline is written into a new project, and DVC takes care of the data.")
    run("git init --quiet")
    run("dvc init --quiet")
    run("dvc config core.autostage true")
    run(f"dvc remote add --default store shardflow://file{HOME}/remote")
    run("shardflow dvc init --quiet")
    run("python -m pipeline.sample")
    run("dvc add --quiet data/raw.csv")
    commit("The pipeline and its data")


def run_the_pipeline() -> dict[str, str]:
    """What it made, by path."""
    say("2. It runs: prepare, train, evaluate, register. A second time there is nothing to do.")
    run("dvc repro")
    commit("The first model")
    run("dvc push --quiet")
    again = run("dvc repro")
    if "up to date" not in again or "Running stage" in again:
        fail("the second 'dvc repro' did something")
    return results()


def try_something_else() -> dict[str, str]:
    """What an experiment made, which becomes a branch that later has other data as well."""
    say("3. An experiment with another learning rate, kept as a branch; then other data on that branch.")
    run("dvc exp run --name slower -S train.lr=0.0005")
    run("dvc metrics diff")
    run("git checkout --quiet -b slower")
    commit("A slower training")
    run("python -m pipeline.sample 2400")
    run("dvc add --quiet data/raw.csv")
    run("dvc repro --quiet prepare")
    commit("More data")
    return results()


def go_back_and_forth(first: dict[str, str], second: dict[str, str]) -> None:
    say("4. Each branch brings its own data and its own checkpoint back, to the last bit.")
    changed = {path.partition("/")[0] for path in first if first[path] != second.get(path)}
    if not changed >= {"data", "checkpoint.json", "weights"}:
        fail(f"the branches differ only in {', '.join(sorted(changed))}")
    for branch, expected in (("main", first), ("slower", second)):
        run(f"git checkout --quiet {branch}")
        run("dvc checkout --quiet")
        if results() != expected:
            fail(f"{branch} is not what it was")
        print(f"{branch}: all of {len(expected)} digests are as they were")


def results() -> dict[str, str]:
    """Digests of data, results, and the weights and moments in the checkpoint that is named, by path."""
    files = [file for name in RESULTS for file in sorted(below(PROJECT / name))]
    found = {str(file.relative_to(PROJECT)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {**found, "weights": digest_of_checkpoint()}


def below(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def digest_of_checkpoint() -> str:
    """Over all weights, moments and values of the checkpoint that the project names now."""
    file = io.BytesIO()
    torch.save(load_checkpoint(PROJECT / "checkpoint.json"), file)
    return hashlib.sha256(file.getvalue()).hexdigest()


def commit(message: str) -> None:
    run("git add --all")
    run(f"git commit --quiet --message {shlex.quote(message)}")


def run(line: str) -> str:
    """A command in the project, shown with what it says while it says it; a failure ends the demo."""
    print(f"$ {line}", flush=True)
    said = []
    with subprocess.Popen(  # noqa: S603
        shlex.split(line), cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as command:
        for text in command.stdout or ():
            print(text, end="", flush=True)
            said.append(text)
    if command.returncode:
        fail(f"that ended with exit code {command.returncode}")
    return "".join(said)


def say(text: str) -> None:
    print(f"\n{text}\n", flush=True)


def fail(why: str) -> None:
    sys.exit(f"the demo failed: {why}")


if __name__ == "__main__":
    main()
