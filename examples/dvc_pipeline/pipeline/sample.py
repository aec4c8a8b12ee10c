"""Writes data to try the pipeline with: `python -m pipeline.sample`, then `dvc add data/raw.csv`."""

import csv
import sys
from pathlib import Path

import numpy as np

FEATURES, CLASSES = 8, 3


def main(rows: int = 2000, seed: int = 1) -> None:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(CLASSES, FEATURES)) * 1.5
    labels = random.integers(CLASSES, size=rows)
    values = centres[labels] + random.normal(size=(rows, FEATURES))
    target = Path("data/raw.csv")
    target.parent.mkdir(exist_ok=True)
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{number}" for number in range(FEATURES)), "label"])
        writer.writerows([*(f"{value:.5f}" for value in row), label] for row, label in zip(values, labels, strict=True))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
