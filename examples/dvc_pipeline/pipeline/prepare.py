"""Stage prepare: data/raw.csv (numbers, and a last column `label`) becomes arrays to train and to test with."""

from pathlib import Path

import numpy as np
import yaml

RAW, PREPARED = Path("data/raw.csv"), Path("data/prepared")


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())["prepare"]
    table = np.loadtxt(RAW, delimiter=",", skiprows=1, dtype=np.float32)
    np.random.default_rng(params["seed"]).shuffle(table)
    test = int(len(table) * params["test_share"])
    values, labels = table[:, :-1], table[:, -1].astype(np.int64)
    values = (values - values[test:].mean(0)) / values[test:].std(0)
    PREPARED.mkdir(parents=True, exist_ok=True)
    # Plain arrays: the same numbers are the same bytes, so that DVC sees when nothing has changed.
    for name, part in (("test", slice(None, test)), ("train", slice(test, None))):
        np.save(PREPARED / f"{name}_values.npy", values[part])
        np.save(PREPARED / f"{name}_labels.npy", labels[part])
    print(f"{len(table) - test} rows to train with, {test} to test with")


if __name__ == "__main__":
    main()
