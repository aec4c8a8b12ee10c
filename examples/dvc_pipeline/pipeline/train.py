"""Stage train: trains a model with checkpoints that survive a crash, and logs it to MLflow."""

import json
from pathlib import Path

import mlflow
import numpy as np
import torch

import shardflow.flavor
from pipeline.model import Classifier
from pipeline.places import params, store_url, use_tracking
from pipeline.prepare import PREPARED
from shardflow.dvc import Checkpoints
from shardflow.flavor.checkpointing import Retention, restore, state_of


def main() -> None:
    wanted = params("train")
    use_tracking()
    torch.manual_seed(wanted["seed"])
    values = torch.from_numpy(np.load(PREPARED / "train_values.npy"))
    labels = torch.from_numpy(np.load(PREPARED / "train_labels.npy"))
    shape = {"inputs": values.shape[1], "width": wanted["width"], "classes": int(labels.max()) + 1}
    model = Classifier(**shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=wanted["lr"])

    keep = Retention(last=wanted["keep_last"], best=1, metric="loss")
    # A training that was killed goes on where it was: at its last checkpoint, in the same run of MLflow.
    with (
        Checkpoints("checkpoint.json", url=f"{store_url()}/checkpoints", keep=keep) as checkpoints,
        mlflow.start_run(run_id=checkpoints.interrupted_run()) as run,
    ):
        mlflow.log_params(wanted)
        mlflow.log_input(mlflow.data.from_dvc(PREPARED), context="training")
        done = checkpoints.latest() or 0
        if done:
            restore(checkpoints.load(), module=model, optimizer=optimizer, rng=True)
            print(f"going on after epoch {done}")
        for epoch in range(done + 1, wanted["epochs"] + 1):
            loss = one_epoch(model, optimizer, values, labels, wanted["batch"])
            mlflow.log_metric("loss", loss, step=epoch)
            checkpoints.save(epoch, state_of(module=model, optimizer=optimizer, rng=True), {"loss": loss})
        logged = shardflow.flavor.log_model(
            model, name="classifier", factory="pipeline.model:Classifier", factory_arguments=shape
        )
    named = {"model": f"models:/{logged.model_id}", "run": run.info.run_id}
    Path("model.json").write_text(json.dumps(named, indent=2) + "\n")


def one_epoch(model, optimizer, values, labels, batch: int) -> float:
    """One pass over the data; returns the mean loss."""
    total = 0.0
    for rows in torch.randperm(len(values)).split(batch):
        loss = torch.nn.functional.cross_entropy(model(values[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    return total / len(values)


if __name__ == "__main__":
    main()
