"""How small and how fast new versions of a model are stored: `python benchmarks/codec/deltas.py`.

README.md beside this file tells what is measured, on what, and beside what.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import peers

import versions
from shardflow.codec import (
    Chosen,
    decode,
    encode,
    encode_against,
    factor_chunks,
    factors_from_adapter,
    fit_factors,
    fitted_cast,
    merged,
    unchanged,
)
from shardflow.dtype import DType
from versions import Model, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shardflow.codec import Factors

CHUNK = 4 << 20


@dataclass(slots=True)
class Case:
    """One line of the table, in bytes until it is printed."""

    name: str
    goal: str = ""
    raw: int = 0
    ours: int = 0
    bitx: int = 0
    zstd: int = 0
    codecs: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def line(self) -> str:
        kinds = ", ".join(f"{count} {codec}" for codec, count in sorted(self.codecs.items()))
        raw = max(self.raw, 1)
        beside = f"{self.ours / self.bitx:6.3f}" if self.bitx else "      "
        sizes = f"{self.ours / raw:8.5f} {self.bitx / raw:7.4f} {self.zstd / raw:7.4f}"
        return f"{self.name:42} {sizes} {beside}  {self.goal:22} {self.seconds:6.1f} s  {kinds}"


HEADINGS = f"{'case':42} {'ours':>8} {'BitX':>7} {'zstd-3':>7} {'/ BitX':>6}  {'goal':22} {'time':>8}  chunks"


def pieces(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Where the chunks of a tensor begin and end, in bytes: whole rows, as the store cuts them."""
    row = tensor.words.shape[1] * tensor.dtype.width
    step = max(CHUNK // row * row, min(row, CHUNK))
    size = tensor.words.nbytes
    return ((first, min(first + step, size)) for first in range(0, size, step))


def checked(chosen: Chosen, data: bytes, bases: Sequence[bytes]) -> int:
    out = bytearray(len(data))
    decode(chosen.encoded.codec, b"".join(chosen.encoded.parts), memoryview(out), bases if chosen.prediction else [])
    if out != data:
        raise SystemExit("decoded bytes differ")
    return chosen.encoded.size


def add(case: Case, new: Tensor, base: Tensor, source: Tensor | None = None, factors: Sequence[bytes] = ()) -> None:
    """Encode a tensor against what it was before; or against `source`, in another dtype."""
    data, before = new.words.tobytes(), base.words.tobytes()
    case.raw += len(data)
    case.zstd += peers.zstd(new.words)
    case.bitx += 0 if source else peers.bitx(new.words.ravel(), base.words.ravel())
    start = time.process_time()
    for first, end in pieces(new):
        part, old = data[first:end], before[first:end]
        if part == old and not source:
            continue  # the same chunk
        chosen, bases = against(part, old, new, first, source, factors)
        case.ours += checked(chosen, part, bases)
        name = chosen.encoded.codec.name.lower()
        case.codecs[name] = case.codecs.get(name, 0) + 1
    case.seconds += time.process_time() - start


def against(
    part: bytes, old: bytes, new: Tensor, first: int, source: Tensor | None, factors: Sequence[bytes]
) -> tuple[Chosen, list[bytes]]:
    if source:
        scale = source.dtype.width / new.dtype.width
        bases = [source.words.tobytes()[int(first * scale) : int((first + len(part)) * scale)]]
        return encode_against(part, new.dtype, [fitted_cast(part, bases, source.dtype, new.dtype)]), bases
    predictions = [unchanged(old, new.dtype)]
    if factors:
        predictions += merged(old, new.dtype, factors, first // new.dtype.width)
    elif new.dtype is DType.F32:
        predictions.append(fitted_cast(part, [old], new.dtype, new.dtype))
    chosen = encode_against(part, new.dtype, predictions)
    is_merged = chosen.prediction in predictions[1:] and bool(factors)
    return chosen, [old, *factors] if is_merged else [old]


def compare(name: str, new: Model, base: Model, goal: str = "", case: Case | None = None) -> Case:
    """All tensors that both versions have."""
    case = case or Case(name, goal)
    for key, tensor in new.items():
        if key in base and tensor.words.shape == base[key].words.shape:
            add(case, tensor, base[key])
    return case


def casts(base: Model) -> Iterator[Case]:
    for source, target in ((DType.F32, DType.BF16), (DType.BF16, DType.F32), (DType.F32, DType.F16)):
        case = Case(f"{source.name} stored again as {target.name}", "0.003 of raw" if DType.F16 is not target else "")
        first = versions.in_kind(base, source)
        for tensor in first.values():
            add(case, tensor.of_kind(target), tensor.of_kind(target), source=tensor)
        yield case
    for target in (DType.F8_E4M3, DType.F8_E5M2):
        case = Case(f"F32 quantised to {target.name}, one scale a tensor")
        for tensor in base.values():
            scaled = tensor.values * (
                np.float32(448 if target is DType.F8_E4M3 else 57344) / np.abs(tensor.values).max()
            )
            quantised = Tensor(DType.F32, scaled.astype("<f4").view("<u4")).of_kind(target)
            add(case, quantised, quantised, source=tensor)
        yield case


def merges(name: str, new: Model, base: Model, adapter: Model | None, goal: str) -> Iterator[Case]:
    """The matrices that an adapter was merged into: without the adapter, and with it."""
    found, given, alone = (
        Case(name, goal),
        Case(f"{name}, adapter given"),
        Case("  of that, the residual", "0.005 of raw"),
    )
    for key, tensor in versions.matrices(new):
        if (tensor.words == base[key].words).all():
            continue
        start = time.process_time()
        add_merged(found, tensor, base[key], fit_factors(tensor.words.tobytes(), *_before(base[key])))
        found.seconds = found.seconds + time.process_time() - start
        if adapter and (sides := _adapter_of(adapter, key)):
            add_merged(given, tensor, base[key], factors_from_adapter(*sides, 2.0, *_before(base[key])[:2]), alone)
    yield found
    if given.raw:
        yield given
        yield alone


def _before(base: Tensor) -> tuple[bytes, DType, int]:
    return base.words.tobytes(), base.dtype, len(base.words)


def _adapter_of(adapter: Model, key: str) -> tuple[np.ndarray, np.ndarray] | None:
    """As peft names them, or by the name of the matrix."""
    stem = key.removesuffix(".weight")
    for names in (
        (f"base_model.model.{stem}.lora_A.default.weight", f"base_model.model.{stem}.lora_B.default.weight"),
        (f"{key}.a", f"{key}.b"),
    ):
        if names[0] in adapter:
            return adapter[names[0]].values, adapter[names[1]].values
    return None


def add_merged(case: Case, new: Tensor, base: Tensor, factors: Factors | None, alone: Case | None = None) -> None:
    chunks = factor_chunks(factors) if factors else []
    before = case.ours
    add(case, new, base, factors=chunks)
    if alone:
        alone.raw += new.words.nbytes
        alone.ours += case.ours - before
    case.ours += sum(len(chunk) for chunk in chunks)


def simulated_merge(side: int, rank: int, dtype: DType) -> tuple[Model, Model, Model]:
    rng = np.random.default_rng(side)
    base = Tensor(DType.F32, (rng.standard_normal((side, side)) * 0.02).astype("<f4").view("<u4")).of_kind(dtype)
    a = (rng.standard_normal((rank, side)) * 0.02).astype("<f4")
    b = (rng.standard_normal((side, rank)) * 0.01).astype("<f4")
    new = Tensor(DType.F32, (base.values + 2 * (b @ a)).astype("<f4").view("<u4")).of_kind(dtype)
    adapter = {f"m.{name}": Tensor(DType.F32, side.view("<u4")) for name, side in (("a", a), ("b", b))}
    return {"m": new}, {"m": base}, adapter


def sizes(arguments: argparse.Namespace) -> Iterator[Case]:
    if arguments.versions:
        base, before, after = (
            versions.read(arguments.versions / f"{name}.safetensors") for name in ("base", "step190", "step200")
        )
    else:
        base = versions.read(arguments.model) if arguments.model else versions.made_up()
        before, after = versions.trained(base, 1e-4), versions.trained(versions.trained(base, 1e-4), 2e-5, 2e-6)
    narrow = [versions.in_kind(model, DType.BF16) for model in (base, before, after)]
    yield compare("bf16, 200 steps of AdamW", narrow[2], narrow[0], "0.72 x BitX")
    yield compare("bf16, 10 steps", narrow[2], narrow[1], "0.56 x BitX")
    steps = compare("fp32, 10 steps", after, before, "0.85 x BitX")
    yield steps
    if arguments.versions:
        states = [versions.read(arguments.versions / f"adam{step}.safetensors") for step in (190, 200)]
        whole = Case("fp32, 10 steps, with Adam's state", "0.85 x BitX", steps.raw, steps.ours, steps.bitx, steps.zstd)
        yield compare("", states[1], states[0], case=whole)
    yield from casts(base)
    if arguments.versions:
        adapter = versions.read(arguments.versions / "adapter.safetensors")
        for kind, reference in (("mixed", narrow[0]), ("bfloat16", narrow[0]), ("float32", base)):
            new = versions.read(arguments.versions / f"merged_{kind}.safetensors")
            exact = versions.in_kind(adapter, DType.BF16) if kind == "bfloat16" else adapter
            yield from merges(f"LoRA r16 merged ({kind})", new, reference, exact, "0.45 x BitX")
    for side in (1024, 2048) if not arguments.small else (512,):
        new, old, adapter = simulated_merge(side, 16, DType.BF16)
        yield from merges(f"LoRA r16 merged, simulated, d={side}", new, old, adapter, "0.03 of raw")


def quickest(work: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats + 2):
        start = time.thread_time()
        work()
        taken.append(time.thread_time() - start)
    return min(taken[2:])


def speeds(repeats: int) -> Iterator[str]:
    """Of one whole chunk of weights, in and out, with the choice of an encoding."""
    count = CHUNK // 2
    model = {
        "w": Tensor(DType.F32, (np.random.default_rng(0).standard_normal((1, count)) * 0.04).astype("<f4").view("<u4"))
    }
    for dtype in (DType.BF16, DType.F32):
        for rate in (1e-4, 1e-5, 1e-7):
            part = slice(0, CHUNK // dtype.width)
            pair = (model, versions.trained(model, rate))
            base, data = (versions.in_kind(each, dtype)["w"].words[0, part].tobytes() for each in pair)
            predictions = [unchanged(base, dtype)]
            chosen = encode_against(data, dtype, predictions)
            stored, out = b"".join(chosen.encoded.parts), memoryview(bytearray(len(data)))
            bases = [base] if chosen.prediction else []
            into = quickest(lambda: encode_against(data, dtype, predictions), repeats)  # noqa: B023 - used at once
            back = quickest(lambda: decode(chosen.encoded.codec, stored, out, bases), repeats)  # noqa: B023
            alone = quickest(lambda: encode(data, dtype), repeats)  # noqa: B023
            fraction = chosen.encoded.size / len(data)
            yield (
                f"{dtype.name}, moved by {rate:g}: {fraction:.4f} of raw, {len(data) / into / 1e9:.2f} GB/s in,"
                f" {len(data) / back / 1e9:.2f} GB/s out (by itself {len(data) / alone / 1e9:.2f} GB/s in)"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--versions", type=Path, help="directory that train.py wrote")
    parser.add_argument("--model", type=Path, help="safetensors file to simulate versions of")
    parser.add_argument("--small", action="store_true", help="leave out the largest matrices")
    parser.add_argument("--repeat", type=int, default=15, help="runs for each speed (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    print(HEADINGS)
    cases = []
    for case in sizes(arguments):
        cases.append(case)
        print(case.line(), flush=True)
    lines = []
    for line in speeds(arguments.repeat):
        lines.append(line)
        print(line, flush=True)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"sizes": [asdict(case) for case in cases], "speeds": lines}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
