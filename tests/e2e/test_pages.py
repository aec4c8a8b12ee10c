"""MLflow's pages in a browser: what a user sees of models and runs whose artifacts are in a store.

Screenshots of the pages stay in build/screenshots, or where SHARDFLOW_SCREENSHOTS says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
import torch

import shardflow
from flavor.models import NET, net
from shardflow import flavor

if TYPE_CHECKING:
    from e2e.conftest import Live
    from services.chromium import Browser

pytestmark = pytest.mark.slow
SHARDS = {"sharding": "layers", "max_shard_bytes": 1_000_000}
DOWNLOAD = '//button[contains(@data-component-id, "artifactview")]'


def test_a_models_files_are_listed_its_card_is_shown_and_a_shard_comes_down_as_it_is(
    browser: Browser, live: Live
) -> None:
    shard = "weights/model-00002-of-00008.safetensors"
    first, second = two_versions()
    browser.open(f"{live.server.uri}/#/experiments/0/models/{second.model_id}/artifacts")
    for name in ("weights", "MLmodel", "MODEL_CARD.md", "conda.yaml", "python_env.yaml", "requirements.txt"):
        assert file(browser, name).is_displayed()
    file(browser, "MODEL_CARD.md").click()
    browser.find('//h1[text()="Model card"]')
    assert "4,149,248 bytes" in table_cell(browser, "Size")
    assert first.model_id in table_cell(browser, "Parent")
    browser.screenshot(f"model-card-{live.mode}")
    file(browser, "weights").click()
    file(browser, shard.removeprefix("weights/")).click()
    browser.find(f'//*[@title="{shard}"]')
    saved = browser.download(browser.find(DOWNLOAD).click)
    browser.screenshot(f"model-files-{live.mode}")
    assert saved.read_bytes() == stored(live, second, shard)


def test_a_run_shows_what_it_logged(browser: Browser, direct: Live) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("all is well", "notes.txt")
        mlflow.log_dict({"layers": 3}, "settings/net.json")
        mlflow.log_figure(figure(), "curves/loss.png")
        flavor.log_model(net(), name="net", factory=NET)
    browser.open(f"{direct.server.uri}/#/experiments/0/runs/{run.info.run_id}/artifacts")
    file(browser, "notes.txt").click()
    assert browser.find('//*[contains(text(), "all is well")]').is_displayed()
    file(browser, "curves").click()
    file(browser, "loss.png").click()
    browser.find('//img[contains(@src, "blob:") or contains(@src, "artifact")]')
    browser.screenshot("run-figure")
    file(browser, "settings").click()
    file(browser, "net.json").click()
    browser.find('//*[@title="settings/net.json"]')
    saved = browser.download(browser.find(DOWNLOAD).click)
    assert json.loads(saved.read_text()) == {"layers": 3}


def test_a_run_without_artifacts_of_its_own_shows_those_of_its_model(browser: Browser, direct: Live) -> None:
    with mlflow.start_run() as run:
        flavor.log_model(net(), name="net", factory=NET)
    browser.open(f"{direct.server.uri}/#/experiments/0/runs/{run.info.run_id}/artifacts")
    file(browser, "MODEL_CARD.md").click()
    browser.find('//h1[text()="Model card"]')
    browser.screenshot("run-model-card")


def two_versions() -> tuple[Any, Any]:
    """A model, and one made from it by training one matrix further."""
    arguments = {"factory": NET, "factory_arguments": {"width": 256}, **SHARDS}
    model = net(width=256)
    first = flavor.log_model(model, name="net", **arguments)
    with torch.no_grad():
        model.layers[1].mlp.weight.add_(0.001)
    return first, flavor.log_model(model, name="net", base_model=first.model_uri, **arguments)


def stored(live: Live, info: Any, name: str) -> bytes:
    with shardflow.open(f"{live.store}/0/models/{info.model_id}/artifacts/{name}") as opened:
        return bytes(opened.read())


def figure() -> Any:
    import matplotlib.figure

    made = matplotlib.figure.Figure()
    made.subplots().plot([3.0, 1.5, 1.0, 0.8])
    return made


def file(browser: Browser, name: str) -> Any:
    """A file or directory in the tree of artifacts."""
    return browser.find(f'//*[@data-testid="artifact-tree-node"][@artifact-name="{name}"]')


def table_cell(browser: Browser, title: str) -> str:
    """The text of a row of a table on the page."""
    return browser.find(f'//*[@role="row"][.//*[text()="{title}"]]').text
