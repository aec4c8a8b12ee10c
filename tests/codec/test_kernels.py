"""The two kernel sets agree on every word, check what they are given, and one of them always serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shardflow
from codec.cases import using
from shardflow.codec.kernels import best_kernels, kernels_for
from shardflow.codec.kernels.arrays import ArrayKernels
from shardflow.codec.kernels.fused import FusedKernels
from shardflow.codec.words import Fold, Form
from shardflow.errors import ShardflowError

ARRAYS, FUSED = ArrayKernels(), FusedKernels()
EVERY_FORM = [Form(width, dropped, fold) for width in (2, 4, 8) for dropped in range(width) for fold in Fold]


def words_of(data: bytes, form: Form) -> np.ndarray:
    words = np.frombuffer(data, form.dtype, len(data) // form.width)
    return (words >> form.low) << form.low


def by_definition(word: int, form: Form) -> int:
    """The fold of one word in plain arithmetic, as the format describes it."""
    bits = 8 * form.planes
    kept = word >> form.low
    if form.fold is Fold.ROTATE:
        return (kept << 1) % (1 << bits) + (kept >> (bits - 1))
    if form.fold is Fold.ZIGZAG:
        signed = kept - (1 << bits) if kept >> (bits - 1) else kept
        return 2 * signed if signed >= 0 else -2 * signed - 1
    return kept


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), form=st.sampled_from(EVERY_FORM))
def test_both_sets_split_as_defined_and_join_what_they_split(data: bytes, form: Form) -> None:
    words = words_of(data, form)
    expected = [by_definition(int(word), form) for word in words]
    for kernels in (ARRAYS, FUSED):
        split = kernels.splitter(words, form)
        planes = [np.empty(words.size, np.uint8) for _ in range(form.planes)]
        for number, plane in enumerate(planes):
            split(number, plane)
        folded = [sum(int(plane[i]) << 8 * n for n, plane in enumerate(planes)) for i in range(words.size)]
        assert folded == expected
        joined = np.empty_like(words)
        kernels.join(planes, form, joined)
        assert (joined == words).all()


@pytest.mark.parametrize("form", EVERY_FORM, ids=str)
@pytest.mark.parametrize("kernels", [ARRAYS, FUSED], ids=["numpy", "numba"])
def test_arrays_that_do_not_fit_are_refused_before_any_loop(form: Form, kernels: ArrayKernels | FusedKernels) -> None:
    words = np.zeros(9, form.dtype)
    split = kernels.splitter(words, form)
    for plane, size in ((0, 8), (0, 10), (-1, 9), (form.planes, 9)):
        with pytest.raises(ValueError, match="does not fit"):
            split(plane, np.empty(size, np.uint8))
    plane = np.zeros(9, np.uint8)
    for planes in ([plane] * (form.planes + 1), [plane] * (form.planes - 1), [plane[1:]] * form.planes):
        with pytest.raises(ValueError, match="do not fit"):
            kernels.join(planes, form, words)


def test_the_environment_settles_which_set_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    with using("numpy"):
        assert isinstance(kernels_for(1 << 30), ArrayKernels)
    with using("numba"):
        assert isinstance(kernels_for(1), FusedKernels)
    monkeypatch.delenv("SHARDFLOW_KERNELS", raising=False)
    assert isinstance(best_kernels(), FusedKernels)
    assert isinstance(kernels_for(1), FusedKernels)


def test_an_unknown_kernel_set_is_an_error_with_a_remedy() -> None:
    with using("cuda"), pytest.raises(ShardflowError, match="'cuda'; set it to numpy or numba, or unset it"):
        kernels_for(1)


PROGRAM = """
import sys
import numpy as np
from shardflow.codec import decode, encode
from shardflow.dtype import DType
data = (np.random.default_rng(5).standard_normal(1 << 19) * 0.02).astype("<f2").tobytes()
encoded = encode(data, DType.F16)
out = bytearray(len(data))
decode(encoded.codec, encoded.parts[0], memoryview(out))
assert out == data
from shardflow.codec import kernels
print(type(kernels.best_kernels()).__name__, hash(bytes(encoded.parts[0])))
"""


def start(program: str, **environment: str) -> subprocess.Popen[str]:
    fixed = {"PYTHONHASHSEED": "0", "PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(Path(shardflow.__file__).parents[1])} | fixed | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return output


def test_a_user_without_a_home_has_compiled_loops_of_the_moment(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")
    home = str(tmp_path / "home")
    assert finish(start(PROGRAM, HOME=home, XDG_CACHE_HOME=home)).startswith("FusedKernels")


def test_two_processes_may_compile_the_same_loops_at_once(tmp_path: Path) -> None:
    place = str(tmp_path / "loops")
    first, second = start(PROGRAM, SHARDFLOW_LOOPS=place), start(PROGRAM, SHARDFLOW_LOOPS=place)
    outputs = {finish(first), finish(second), finish(start(PROGRAM, SHARDFLOW_LOOPS=place))}
    assert len(outputs) == 1
    assert len(list(Path(place).iterdir())) == 4


def test_without_numba_numpy_serves_and_a_demand_for_numba_is_refused() -> None:
    without = "import sys; sys.modules['numba'] = None\n"
    assert finish(start(without + PROGRAM)).startswith("ArrayKernels")
    demand = start(without + PROGRAM, SHARDFLOW_KERNELS="numba")
    _, errors = demand.communicate(timeout=60)
    assert "does not work here; unset it" in errors


def test_importing_the_codec_does_not_import_numba() -> None:
    program = "import shardflow.codec, sys; print('numba' in sys.modules)"
    assert finish(start(program)) == "False\n"
