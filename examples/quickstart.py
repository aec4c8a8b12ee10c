"""The main job in a minute: train a model, log two versions of it to MLflow through a store, and load one back.

    python examples/quickstart.py [--keep] [--port N]

An MLflow server is started whose artifacts go to a Shardflow store. Everything is in a new directory, `.demo/mlflow`
below the current one, and stays there. The server is stopped at the end, unless `--keep` is given: then it goes on, for
you to look at its pages, until you press Ctrl-C. `examples/store_tour.py` shows the commands of a store.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

HOME = Path(".demo", "mlflow").absolute()
# Read when MLflow and torch are imported, or by the store: its journal and cache stay in the demo's directory too.
os.environ |= {
    "SHARDFLOW_STATE": str(HOME / "state"),
    "SHARDFLOW_CACHE": str(HOME / "cache"),
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "OMP_WAIT_POLICY": "PASSIVE",  # or torch's idle threads keep a processor busy that others could use
}

import mlflow  # noqa: E402
import torch  # noqa: E402
from language_model import CharacterModel, loss_of, train  # noqa: E402
from local_server import mlflow_server  # noqa: E402
from mlflow.entities import LoggedModel  # noqa: E402

import shardflow  # noqa: E402
from shardflow import flavor  # noqa: E402

NAME = "writer"


def main() -> None:
    options = arguments()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    store = shardflow.init(str(HOME / "store"))
    say("1. An MLflow server is started; its artifacts go to a store.")
    with mlflow_server(HOME, str(store.url), options.port) as address:
        mlflow.set_tracking_uri(address)
        first, second, model = train_and_log_twice()
        load_and_compare(model)
        show_what_was_saved(store, first, second)
        show_the_pages(address, second, keep=options.keep)


def train_and_log_twice() -> tuple[LoggedModel, LoggedModel, CharacterModel]:
    say("2. A language model is trained for some seconds, and logged as version 1.")
    torch.manual_seed(1)
    model = CharacterModel()
    train(model, steps=30, rate=2e-3)
    first = log(model, base=None)
    say("3. Its last block is trained further, and the model logged as version 2, which was made from version 1.")
    train(model, steps=15, rate=1e-4, part=model.blocks.layers[-1])
    second = log(model, base=f"models:/{NAME}/1")
    return first, second, model


def log(model: CharacterModel, base: str | None) -> LoggedModel:
    """What anyone does who logs a model: the server's address, set above, is all that leads to the store."""
    loss = loss_of(model)
    with mlflow.start_run():
        mlflow.log_metric("loss", loss)
        info = flavor.log_model(
            model,
            name=NAME,
            factory="language_model:CharacterModel",
            base_model=base,
            registered_model_name=NAME,
        )
    logged = mlflow.get_logged_model(info.model_id)
    print(f"version {info.registered_model_version}: loss {loss:.2f}, {int(logged.params['shardflow.bytes']):,} bytes")
    return logged


def load_and_compare(model: CharacterModel) -> None:
    say("4. Version 2 is loaded from the registry, and compared with the model in memory.")
    loaded = flavor.load_model(f"models:/{NAME}/2").state_dict()
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor.view(torch.uint8), loaded[name].view(torch.uint8)):
            raise SystemExit(f"the demo failed: {name} is not what was logged")
    print(f"all {len(loaded)} tensors are the same to the last bit")


def show_what_was_saved(store: shardflow.Store, first: LoggedModel, second: LoggedModel) -> None:
    say("5. What the versions took in the store. MLflow alone keeps a copy of each.")
    sizes = [int(model.params["shardflow.bytes"]) for model in (first, second)]
    sent = [int(model.tags["shardflow.bytes_sent"]) for model in (first, second)]
    for number in (0, 1):
        print(
            f"version {number + 1}: {sent[number]:>11,} of {sizes[number]:,} bytes, {sent[number] / sizes[number]:.0%}"
        )
    held = sum(info.size for info in store.transport.list("packs/"))
    print(f"together:  {held:>11,} of {sum(sizes):,} bytes: {1 - held / sum(sizes):.0%} saved")
    changed, kind = second.tags["shardflow.tensors_changed"], second.tags["shardflow.delta"]
    print(f"version 2 changed {changed} of {second.params['shardflow.tensors']} tensors, stored as: {kind}")


def show_the_pages(address: str, model: LoggedModel, *, keep: bool) -> None:
    say("6. The pages of MLflow show all of it.")
    experiment = f"{address}/#/experiments/{model.experiment_id}"
    print(f"versions      {address}/#/models/{NAME}")
    print(f"model card    {experiment}/models/{model.model_id}/artifacts (choose MODEL_CARD.md)")
    if not keep:
        say("The server is stopped now; 'python examples/quickstart.py --keep' leaves it running to be looked at.")
        return
    say("The server goes on until you press Ctrl-C.")
    with suppress(KeyboardInterrupt):
        signal.pause()


def say(text: str) -> None:
    print(f"\n{text}\n", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Log two versions of a model to MLflow through a store.")
    parser.add_argument("--keep", action="store_true", help="leave the server running until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="of the server; any free one if it is not given")
    return parser.parse_args()


if __name__ == "__main__":
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped, too
    main()
