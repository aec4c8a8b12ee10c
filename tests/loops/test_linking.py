"""Machine code becomes a function, or an error that can be caught: never the end of the process."""

from __future__ import annotations

import ctypes

import llvmlite.binding as llvm
import pytest

from shardflow.loops.linking import ENTRY, linked, target_machine


def code_of(text: str) -> bytes:
    module = llvm.parse_assembly(text)
    code: bytes = target_machine().emit_object(module)
    return code


SQUARE = f"define i64 @{ENTRY}(i64 %x) {{ %y = mul i64 %x, %x\n ret i64 %y }}"


def test_code_becomes_a_function_however_often() -> None:
    for _ in range(3):
        assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(linked(code_of(SQUARE)))(12) == 144


def test_code_that_needs_what_is_not_there_is_an_error() -> None:
    calling = SQUARE.replace("mul i64 %x, %x", "call i64 @nobody_has_this(i64 %x)")
    with pytest.raises(RuntimeError, match="materialize"):
        linked(code_of(f"declare i64 @nobody_has_this(i64)\n{calling}"))


def test_what_is_no_code_is_an_error() -> None:
    code = code_of(SQUARE)
    for wrong in (b"", b"no code", code[: len(code) // 2], code_of(SQUARE.replace(ENTRY, "other"))):
        with pytest.raises(RuntimeError):
            linked(wrong)
