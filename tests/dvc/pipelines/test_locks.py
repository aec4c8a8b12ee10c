"""What the history of dvc.lock remembers of data, over branches, merges and experiments."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from shardflow.dvc.locks import HistoryUnreadable, Step, downstream, remembered, upstream
from shardflow.dvc.projects import Project

RAW, READY, WEIGHTS, MORE, MORE_READY = (letter * 32 for letter in "abcde")


class Repository:
    """A Git repository whose only files are locks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        return subprocess.run(
            ["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout

    def lock(self, path: str = "dvc.lock", **stages: tuple[Mapping[str, str], Mapping[str, str]]) -> None:
        def entries(hashes: Mapping[str, str]) -> list[dict[str, str]]:
            return [{"path": name, "md5": md5} for name, md5 in hashes.items()]

        made = {
            name: {"cmd": "x", "deps": entries(deps), "outs": entries(outs)} for name, (deps, outs) in stages.items()
        }
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(yaml.safe_dump({"schema": "2.0", "stages": made}))

    def commit(self, message: str = "x") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def steps(repository: Repository, below: str = "") -> list[Step]:
    return remembered(Project(repository.root / below))


PREPARE = ({"raw.csv": RAW}, {"ready": READY})
TRAIN = ({"ready": READY}, {"weights": WEIGHTS})


def test_a_step_that_later_versions_of_the_file_do_not_have_is_remembered(repository: Repository) -> None:
    repository.lock(prepare=PREPARE, train=TRAIN)
    first = repository.commit()
    repository.lock(prepare=({"raw.csv": MORE}, {"ready": MORE_READY}))
    second = repository.commit()
    assert {(step.stage, step.commit) for step in steps(repository)} == {
        ("prepare", second),
        ("prepare", first),
        ("train", first),
    }


def test_what_is_not_committed_counts_too(repository: Repository) -> None:
    repository.lock(prepare=PREPARE)
    repository.commit()
    repository.lock(prepare=PREPARE, train=TRAIN)
    found = {step.stage: step for step in steps(repository)}
    assert found["prepare"].commit is not None
    assert found["train"].commit is None
    assert found["train"].text == f"train (not committed), from ready ({READY[:8]})"


def test_commits_on_other_branches_and_of_experiments_count_too(repository: Repository) -> None:
    repository.lock(prepare=PREPARE)
    repository.commit()
    repository.git("checkout", "--quiet", "--detach")
    repository.lock(prepare=({"raw.csv": MORE}, {"ready": MORE_READY}))
    repository.git("update-ref", "refs/exps/00/1234/slower", repository.commit())
    repository.git("checkout", "--quiet", "main")
    assert {step.deps["raw.csv"] for step in steps(repository)} == {RAW, MORE}


def test_what_only_a_merge_brought_counts_too(repository: Repository) -> None:
    repository.lock(prepare=PREPARE)
    repository.commit()
    repository.git("checkout", "--quiet", "-b", "other")
    repository.lock(prepare=({"raw.csv": MORE}, {"ready": MORE_READY}))
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    (repository.root / "notes").write_text("x")
    repository.commit()
    repository.git("merge", "--quiet", "--no-commit", "other")
    repository.lock(merged=({"raw.csv": "f" * 32}, {"ready": READY}))
    merged = repository.commit()
    repository.lock()
    repository.commit()
    assert [step.commit for step in steps(repository) if step.stage == "merged"] == [merged]


def test_paths_are_those_of_the_project_wherever_it_lies_in_the_repository(repository: Repository) -> None:
    repository.lock("team/größe/dvc.lock", prepare=({"../raw.csv": RAW}, {"ready": READY}))
    repository.lock("elsewhere/dvc.lock", train=TRAIN)
    repository.commit()
    repository.lock("team/größe/dvc.lock")
    repository.commit()
    (step,) = steps(repository, "team")
    assert (dict(step.deps), dict(step.outs)) == ({"raw.csv": RAW}, {"größe/ready": READY})


def test_a_file_that_cannot_be_read_says_nothing(repository: Repository) -> None:
    for number, text in enumerate(("<<<<<<< HEAD", "[1, 2]", "stages: 7", "stages: {train: {deps: [{md5: x}]}}", "\0")):
        (repository.root / "dvc.lock").write_text(text)
        repository.commit(str(number))
    repository.lock(prepare=PREPARE)
    assert [step.stage for step in steps(repository)] == ["prepare"]


def test_a_directory_without_git_is_told(tmp_path: Path) -> None:
    with pytest.raises(HistoryUnreadable, match="run this in a clone"):
        remembered(Project(tmp_path))


def test_data_is_followed_over_all_stages_between_in_both_directions(repository: Repository) -> None:
    repository.lock(prepare=PREPARE, train=TRAIN)
    repository.commit()
    repository.lock(prepare=({"raw.csv": MORE}, {"ready": MORE_READY}))
    repository.commit()
    found = steps(repository)
    assert [step.stage for step in upstream(found, [WEIGHTS])] == ["train", "prepare"]
    assert [step.stage for step in downstream(found, [RAW])] == ["prepare", "train"]
    assert [step.stage for step in downstream(found, [MORE])] == ["prepare"]
    assert upstream(found, ["0" * 32]) == []


def test_a_stage_that_takes_one_file_of_a_directory_came_from_what_made_the_directory(repository: Repository) -> None:
    part = "1" * 32
    repository.lock(prepare=PREPARE, train=({"ready/part.npy": part}, {"weights": WEIGHTS}))
    assert [step.stage for step in upstream(steps(repository), [WEIGHTS])] == ["train", "prepare"]


def test_stages_that_make_each_other_do_not_go_on_forever() -> None:
    circle = [Step("a", None, {"x": RAW}, {"y": READY}), Step("b", None, {"y": READY}, {"x": RAW})]
    assert [step.stage for step in upstream(circle, [RAW])] == ["b", "a"]
