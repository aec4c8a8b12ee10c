"""Modules while they answer as they will in use, and afterwards in the modes they were in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def in_evaluation(module: torch.nn.Module) -> Iterator[None]:
    """Without dropout and moving statistics; layers that are frozen in a training are frozen after it as well."""
    modes = [(each, each.training) for each in module.modules()]
    try:
        module.eval()
        yield
    finally:
        for each, training in modes:
            if each.training != training:
                each.train(training)  # not the attribute alone: a module may do more when its mode changes
        for each, training in modes:
            each.training = training  # of one that two others have, the second took its own mode to it
