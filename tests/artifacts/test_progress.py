"""The bar that MLflow's users see: one for a whole directory, in bytes, or none if they want none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tqdm.auto
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

RUN = "1/0123456789abcdef0123456789abcdef/artifacts"


class Bar:
    """What tqdm was told, drawn nowhere."""

    made: list[Bar]

    def __init__(self, *, desc: str, total: int, **_: Any) -> None:
        self.desc, self.total, self.n, self.closed = desc, total, 0, False
        self.made.append(self)

    def refresh(self) -> None:
        assert self.n <= self.total

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    monkeypatch.setattr(Bar, "made", [], raising=False)
    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")
    return Bar.made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        inner = tmp_path / "folder" / f"part-{number % 3}"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"{number}.bin").write_bytes(bytes([number]) * 10_000)
    return tmp_path / "folder"


def test_a_directory_has_one_bar_each_way_that_counts_every_byte(bars: list[Bar], folder: Path, tmp_path: Path) -> None:
    artifacts = get_artifact_repository(f"shardflow://file{tmp_path}/store/{RUN}")
    artifacts.log_artifacts(str(folder))
    (tmp_path / "back").mkdir()
    artifacts.download_artifacts("", str(tmp_path / "back"))
    assert [(bar.desc, bar.n, bar.total, bar.closed) for bar in bars] == [
        ("Storing artifacts", 120_000, 120_000, True),
        ("Fetching artifacts", 120_000, 120_000, True),
    ]


def test_a_bar_is_closed_after_a_failure_too(bars: list[Bar], folder: Path, tmp_path: Path) -> None:
    artifacts = get_artifact_repository(f"shardflow://file{tmp_path}/store/{RUN}")
    artifacts.log_artifacts(str(folder))
    (manifest,) = (tmp_path / "store" / "tree").rglob("7.bin")
    manifest.chmod(0o644)
    manifest.write_bytes(b"damaged")
    (tmp_path / "back").mkdir()
    with pytest.raises(MlflowException, match="is not a manifest") as failed:
        artifacts.download_artifacts("", str(tmp_path / "back"))
    assert failed.value.error_code == "DATA_LOSS"
    assert [bar.closed for bar in bars] == [True, True]


def test_whoever_wants_no_bars_gets_none(
    bars: list[Bar], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    get_artifact_repository(f"shardflow://file{tmp_path}/store/{RUN}").log_artifacts(str(folder))
    assert bars == []
