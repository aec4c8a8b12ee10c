"""The cases: models and their new versions, as small as our codecs make them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

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
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from shardflow.codec import Encoded, Factors

CHUNK = 4 << 20
IN_PLACE = (1e-5, 10)  # rate and steps

RAW = "raw"


@dataclass(slots=True)
class Case:
    """Tensors that are stored, those they are stored against, and what that took; sizes in bytes."""

    name: str
    limits: Mapping[str, float] = field(default_factory=dict)  # of what, by the name of a peer or RAW, at most how much
    raw: int = 0
    ours: int = 0
    codecs: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    new: list[Tensor] = field(default_factory=list)
    old: list[Tensor] = field(default_factory=list)


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
    case.new.append(new)
    case.old.append(source or base)
    start = time.process_time()
    for first, end in pieces(new):
        part, old = data[first:end], before[first:end]
        if part == old and not source:
            continue  # the same chunk
        chosen, bases = against(part, old, new, first, source, factors)
        count(case, checked(chosen, part, bases), chosen.encoded)
    case.seconds += time.process_time() - start


def count(case: Case, size: int, encoded: Encoded) -> None:
    case.ours += size
    name = encoded.codec.name.lower()
    case.codecs[name] = case.codecs.get(name, 0) + 1


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


def compared(name: str, new: Model, base: Model, limits: Mapping[str, float]) -> Case:
    """All tensors that both versions have."""
    case = Case(name, limits)
    for key, tensor in new.items():
        if key in base and tensor.words.shape == base[key].words.shape:
            add(case, tensor, base[key])
    return case


def alone(name: str, model: Model, limits: Mapping[str, float]) -> Case:
    """Without an earlier version."""
    case = Case(name, limits)
    for tensor in model.values():
        data = tensor.words.tobytes()
        case.raw += len(data)
        case.new.append(tensor)
        start = time.process_time()
        for first, end in pieces(tensor):
            encoded = encode(data[first:end], tensor.dtype)
            count(case, checked(Chosen(encoded, None), data[first:end], []), encoded)
        case.seconds += time.process_time() - start
    return case


def casts(base: Model) -> Iterator[Case]:
    for source, target in ((DType.F32, DType.BF16), (DType.BF16, DType.F32), (DType.F32, DType.F16)):
        limits = {RAW: 0.003} if DType.F16 is not target else {}
        case = Case(f"{source.name} stored again as {target.name}", limits)
        first = versions.in_kind(base, source)
        for tensor in first.values():
            add(case, tensor.of_kind(target), tensor.of_kind(target), source=tensor)
        yield case
    for target in (DType.F8_E4M3, DType.F8_E5M2):
        case = Case(f"F32 quantised to {target.name}, one scale a tensor")
        for tensor in base.values():
            largest = np.float32(448 if target is DType.F8_E4M3 else 57344)
            scaled = tensor.values * (largest / max(np.abs(tensor.values).max(), np.float32(1e-30)))
            quantised = Tensor(DType.F32, scaled.astype("<f4").view("<u4")).of_kind(target)
            add(case, quantised, quantised, source=tensor)
        yield case


def merges(
    name: str, new: Model, base: Model, adapter: Model, limits: Mapping[str, float], of_residual: Mapping[str, float]
) -> Iterator[Case]:
    """The matrices that an adapter was merged into: without the adapter, and with it."""
    found, given = Case(name, limits), Case(f"{name}, adapter given: residual and factors")
    residual = Case(f"{name}, adapter given: residual alone", of_residual)
    for key, tensor in versions.matrices(new):
        if (tensor.words == base[key].words).all():
            continue
        start = time.process_time()
        factors = fit_factors(tensor.words.tobytes(), *_before(base[key]))
        found.seconds += time.process_time() - start
        add_merged(found, tensor, base[key], factors)
        if sides := _adapter_of(adapter, key):
            chunks = add_merged(given, tensor, base[key], factors_from_adapter(*sides, 2.0, *_before(base[key])[:2]))
            residual.ours -= sum(len(chunk) for chunk in chunks)
    yield found
    residual.raw, residual.ours, residual.codecs = given.raw, residual.ours + given.ours, given.codecs
    residual.seconds = given.seconds
    given.new, given.old = [], []  # others need not be asked again about the same matrices
    yield given
    yield residual


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


def add_merged(case: Case, new: Tensor, base: Tensor, factors: Factors | None) -> list[bytes]:
    """The chunks of factors that were stored along with it."""
    chunks = factor_chunks(factors) if factors else []
    add(case, new, base, factors=chunks)
    case.ours += sum(len(chunk) for chunk in chunks)
    return chunks


def simulated_merge(side: int, rank: int, dtype: DType) -> tuple[Model, Model, Model]:
    rng = np.random.default_rng(side)
    base = Tensor(DType.F32, (rng.standard_normal((side, side)) * 0.02).astype("<f4").view("<u4")).of_kind(dtype)
    a = (rng.standard_normal((rank, side)) * 0.02).astype("<f4")
    b = (rng.standard_normal((side, rank)) * 0.01).astype("<f4")
    new = Tensor(DType.F32, (base.values + 2 * (b @ a)).astype("<f4").view("<u4")).of_kind(dtype)
    adapter = {f"m.{name}": Tensor(DType.F32, side.view("<u4")) for name, side in (("a", a), ("b", b))}
    return {"m": new}, {"m": base}, adapter


def cases(directory: Path | None, *, small: bool) -> Iterator[Case]:
    """All of them, on the versions in a directory; where there is none, on made up ones."""
    if directory:
        base, before, after = (
            versions.read(directory / f"{name}.safetensors") for name in ("base", "step190", "step200")
        )
    else:
        base = versions.made_up()
        before, after = versions.trained(base, 1e-4), versions.trained(versions.trained(base, 1e-4), 2e-5, 2e-6)
    narrow = [versions.in_kind(model, DType.BF16) for model in (base, before, after)]
    yield alone("bf16, no base", narrow[0], {RAW: 0.666, "ZipNN": 1.006})
    yield alone("fp32 that is bf16", versions.in_kind(narrow[0], DType.F32), {RAW: 0.345})
    yield compared("bf16, 200 steps of AdamW", narrow[2], narrow[0], {"BitX": 0.72})
    yield compared("bf16, 10 steps", narrow[2], narrow[1], {"BitX": 0.56})
    yield compared("bf16 trained in place, 10 steps", versions.stepped(narrow[2], *IN_PLACE), narrow[2], {RAW: 0.05})
    yield compared("fp32, 10 steps", after, before, {"BitX": 0.85})
    if directory:
        states = [versions.read(directory / f"adam{step}.safetensors") for step in (190, 200)]
        yield compared("fp32, 10 steps, with Adam's state", after | states[1], before | states[0], {"BitX": 0.85})
    yield from casts(base)
    if directory:
        yield from merged_versions(directory, base, narrow[0])
    for side in (2048, 4096) if not small else (512,):
        name = f"LoRA r16 merged, simulated, d={side}"
        yield from merges(name, *simulated_merge(side, 16, DType.BF16), {RAW: 0.03}, {RAW: 0.005})


def merged_versions(directory: Path, base: Model, narrow: Model) -> Iterator[Case]:
    """A trained adapter in the model it was trained on, merged in each way that peft has."""
    adapter = versions.read(directory / "adapter.safetensors")
    for kind, reference in (("mixed", narrow), ("bfloat16", narrow), ("float32", base)):
        new = versions.read(directory / f"merged_{kind}.safetensors")
        exact = versions.in_kind(adapter, DType.BF16) if kind == "bfloat16" else adapter
        yield from merges(f"LoRA r16 merged ({kind}), d=384", new, reference, exact, {"BitX": 0.45}, {})
