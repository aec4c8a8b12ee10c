"""Make real versions of a model, to measure deltas on: `python benchmarks/codec/train.py MODEL OUT`.

Needs torch, transformers and peft, which Shardflow itself does not. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import ast
import copy
import itertools
import random
import re
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 16
SHORTEST = 25  # characters of a sentence


def docstrings() -> Iterator[str]:
    """Of all that Python's own library defines."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
        try:
            tree = ast.parse(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                yield ast.get_docstring(node) or ""


def sentence_pairs() -> list[tuple[str, str]]:
    """Sentences that follow each other, in a random order that is always the same."""
    pairs = []
    for text in docstrings():
        sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n\n", text) if len(part.strip()) > SHORTEST]
        pairs += list(itertools.pairwise(sentences))
    random.Random(0).shuffle(pairs)
    return pairs


class Trainer:
    """Brings sentences that follow each other together, and others apart."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.pairs = sentence_pairs()

    def step(self, model: Any, optimizer: Any, number: int) -> float:
        batch = [self.pairs[(number * BATCH + at) % len(self.pairs)] for at in range(BATCH)]
        sides = [self.embedded(model, [pair[side] for pair in batch]) for side in (0, 1)]
        loss = torch.nn.functional.cross_entropy(sides[0] @ sides[1].T * 20, torch.arange(BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    def embedded(self, model: Any, texts: list[str]) -> Any:
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).float()
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def save(tensors: dict[str, Any], path: Path) -> None:
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)
    print(f"wrote {path}", flush=True)


def fine_tune(trainer: Trainer, model: Any, out: Path) -> None:
    """All weights; kept before the first step and at steps 190 and 200, with Adam's state."""
    save(model.state_dict(), out / "base.safetensors")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.01)
    for number in range(200):
        loss = trainer.step(model, optimizer, number)
        if number + 1 in {190, 200}:
            print(f"step {number + 1}, loss {loss:.3f}", flush=True)
            save(model.state_dict(), out / f"step{number + 1}.safetensors")
            save(adam_state(model, optimizer), out / f"adam{number + 1}.safetensors")


def adam_state(model: Any, optimizer: Any) -> dict[str, Any]:
    return {
        f"{name}.{key}": optimizer.state[parameter][key]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for key in ("exp_avg", "exp_avg_sq")
    }


def adapt(trainer: Trainer, model: Any, out: Path) -> None:
    """An adapter of rank 16 on all linear layers, merged in three ways."""
    config = LoraConfig(r=16, lora_alpha=32, target_modules=["query", "key", "value", "dense"], lora_dropout=0.0)
    adapted = get_peft_model(model, config)
    optimizer = torch.optim.AdamW([each for each in adapted.parameters() if each.requires_grad], lr=2e-4)
    for number in range(200):
        trainer.step(adapted, optimizer, number)
    adapter = {name: tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    save(adapter, out / "adapter.safetensors")
    save(copy.deepcopy(adapted).merge_and_unload().state_dict(), out / "merged_float32.safetensors")
    rounded = copy.deepcopy(adapted).to(torch.bfloat16)
    save(rounded.merge_and_unload().state_dict(), out / "merged_bfloat16.safetensors")
    mixed = copy.deepcopy(adapted)
    for name, parameter in mixed.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    save(mixed.merge_and_unload().state_dict(), out / "merged_mixed.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="directory of a sentence model as transformers reads it")
    parser.add_argument("out", type=Path, help="directory to write the versions to")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    arguments.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments.model)
    fine_tune(trainer, AutoModel.from_pretrained(arguments.model).float(), arguments.out)
    adapt(trainer, AutoModel.from_pretrained(arguments.model).float(), arguments.out)


if __name__ == "__main__":
    main()
