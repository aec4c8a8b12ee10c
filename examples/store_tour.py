"""A tour of the commands in half a minute: store two versions of a model, interrupt a put, damage a store and mend it.

    python examples/store_tour.py

Everything happens in a new directory, `.demo/tour` below the current one, which stays there to be looked around in. The
commands are the ones you would type; lines that start with `$` show them.
"""

from __future__ import annotations

import filecmp
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

DEMO = Path(".demo", "tour").absolute()
SHARDFLOW = (sys.executable, "-m", "shardflow.cli")
LAYERS, WIDTH, INNER, VOCABULARY = 5, 1024, 2816, 8192
# Journal and cache of the demo stay in its directory too.
ENVIRONMENT = {**os.environ, "SHARDFLOW_STATE": str(DEMO / "state"), "SHARDFLOW_CACHE": str(DEMO / "cache")}

Weights = dict[str, np.ndarray]


def main() -> None:
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(parents=True)
    store_two_versions()
    get_one_back()
    kill_a_put_and_resume()
    damage_and_mend()
    say("Done. The store is in .demo/tour/store: try 'shardflow ls -lr .demo/tour/store', or delete .demo.")


def store_two_versions() -> None:
    say("1. A model is stored, then a new version in which one of its layers was trained further.")
    weights = new_weights(seed=1)
    save_model(weights, "model-v1")
    save_model(trained_further(weights), "model-v2")
    run("init store --pack-size 16MiB")
    run("put model-v1 store/bert/v1")
    run("put model-v2 store/bert/v2")
    run("ls -lr store/bert")
    run("stats store")


def get_one_back() -> None:
    say("2. The second version comes back, verified, and is the same to the last bit.")
    run("get store/bert/v2 restored")
    compare("model-v2", "restored")


def kill_a_put_and_resume() -> None:
    say("3. A put of another model is killed halfway, as a crash would end it, and run again.")
    save_model(new_weights(seed=2), "other")
    arrived = kill_halfway("put other store/other")
    run("put other store/other")
    check_unchanged(arrived)
    run("get store/other restored-other")
    compare("other", "restored-other")


def damage_and_mend() -> None:
    say("4. One bit in the store goes bad. No command hands out what it spoilt, and fsck names the files.")
    flip_one_bit(newest_pack())
    run("get store/other damaged", expect=1)
    run("fsck store --read-data", expect=1)
    say("   Storing the file again mends it.")
    run("fsck store --read-data --repair", expect=1)
    run("put other store/other")
    run("fsck store --read-data")


def run(command: str, *, expect: int = 0) -> None:
    """Run a shardflow command in the demo's directory, its output below it; anything but `expect` ends the demo."""
    print(f"$ shardflow {command}", flush=True)
    arguments = [*SHARDFLOW, *shlex.split(command)]
    code = subprocess.run(arguments, cwd=DEMO, env=ENVIRONMENT, check=False).returncode  # noqa: S603
    if code != expect:
        sys.exit(f"the demo failed: that command ended with exit code {code}, not {expect}")
    if code:
        print(f"(exit code {code})", flush=True)


def kill_halfway(command: str) -> dict[Path, os.stat_result]:
    """Start a put and kill it, by the signal that no program can catch, once it has sent a few packs: returns these."""
    print(f"$ shardflow {command}", flush=True)
    before = packs()
    arguments = [*SHARDFLOW, *shlex.split(command)]
    process = subprocess.Popen(arguments, cwd=DEMO, env=ENVIRONMENT)  # noqa: S603
    while process.poll() is None and len(packs()) < len(before) + 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    arrived = {pack: pack.stat() for pack in packs() if pack not in before}
    print(f"(killed when {len(arrived)} packs had been sent, {megabytes(arrived.values())} MiB)", flush=True)
    return arrived


def check_unchanged(arrived: dict[Path, os.stat_result]) -> None:
    for pack, status in arrived.items():
        now = pack.stat()
        if (now.st_ino, now.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):
            sys.exit(f"the demo failed: {pack} was sent again")
    print(f"(none of the {megabytes(arrived.values())} MiB that had been sent was sent again)", flush=True)


def megabytes(files: Iterable[os.stat_result]) -> str:
    return f"{sum(file.st_size for file in files) / 2**20:.1f}"


def compare(one: str, other: str) -> None:
    names = sorted(path.name for path in (DEMO / one).iterdir())
    same, different, failed = filecmp.cmpfiles(DEMO / one, DEMO / other, names, shallow=False)
    if different or failed:
        sys.exit(f"the demo failed: {one} and {other} differ in {different + failed}")
    print(f"({one} and {other}: {len(same)} files, all equal)", flush=True)


def packs() -> list[Path]:
    return [path for path in (DEMO / "store" / "packs").rglob("*") if path.is_file()]


def newest_pack() -> Path:
    return max(packs(), key=lambda path: (path.stat().st_size > 1 << 20, path.stat().st_mtime))


def flip_one_bit(file: Path) -> None:
    middle = file.stat().st_size // 2
    with file.open("r+b") as opened:
        opened.seek(middle)
        byte = opened.read(1)[0]
        opened.seek(middle)
        opened.write(bytes([byte ^ 1]))
    print(f"(flipped bit 0 of byte {middle:,} of {file.relative_to(DEMO)})", flush=True)


def new_weights(seed: int) -> Weights:
    """The tensors of a small transformer with random weights, as bfloat16 bit patterns: about 140 MB."""
    random = np.random.default_rng(seed)

    def tensor(*shape: int) -> np.ndarray:
        return bfloat16(random.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5))

    weights = {"embeddings.weight": tensor(VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        for name in ("query", "key", "value", "output"):
            weights[f"layers.{layer}.attention.{name}.weight"] = tensor(WIDTH, WIDTH)
        weights[f"layers.{layer}.up.weight"] = tensor(INNER, WIDTH)
        weights[f"layers.{layer}.gate.weight"] = tensor(INNER, WIDTH)
        weights[f"layers.{layer}.down.weight"] = tensor(WIDTH, INNER)
    return weights


def trained_further(weights: Weights) -> Weights:
    """The same weights, but for two matrices of the last layer."""
    random, changed = np.random.default_rng(7), dict(weights)
    for name in ("query", "value"):
        key = f"layers.{LAYERS - 1}.attention.{name}.weight"
        before = (weights[key].astype(np.uint32) << 16).view(np.float32)
        step = random.standard_normal(before.shape, np.float32) * np.float32(1e-3)
        changed[key] = bfloat16(before + step)
    return changed


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32 values."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def save_model(weights: Weights, name: str) -> None:
    """A model directory as hubs have it: weights in two safetensors files, and a configuration."""
    directory = DEMO / name
    directory.mkdir()
    names = list(weights)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    for number, half in enumerate(halves, 1):
        save_safetensors({key: weights[key] for key in half}, directory / f"model-{number:05}-of-00002.safetensors")
    configuration = {"layers": LAYERS, "hidden_size": WIDTH, "intermediate_size": INNER, "vocab_size": VOCABULARY}
    (directory / "config.json").write_text(json.dumps(configuration, indent=2))


def save_safetensors(weights: Mapping[str, np.ndarray], file: Path) -> None:
    """Write tensors of bfloat16 bit patterns: a length, a JSON header, then the tensors one after another."""
    header, end = {}, 0
    for name, values in weights.items():
        header[name] = {"dtype": "BF16", "shape": values.shape, "data_offsets": (end, end + values.nbytes)}
        end += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        for values in weights.values():
            opened.write(values.data)


def say(text: str) -> None:
    print(f"\n{text}\n", flush=True)


if __name__ == "__main__":
    main()
