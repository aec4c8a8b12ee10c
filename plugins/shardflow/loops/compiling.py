"""How a loop is compiled, by numba: into a function that takes one block of words, which any process can call."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import numba
import numba.core.cgutils
import numba.extending
import numpy as np

from shardflow.loops import linking
from shardflow.loops.signatures import Array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shardflow.loops.signatures import Number, Signature

types: Any = numba.types  # typed in parts only
_intrinsic: Any = numba.extending.intrinsic
_llvm_values: Any = numba.core.cgutils


@dataclass(frozen=True, slots=True)
class Compiled:
    """A loop in this process, and its machine code for others; None if only this process can run it."""

    address: int
    code: bytes | None


def compiled(loop: Callable[..., Any], signature: Signature) -> Compiled:
    """The loop for one signature; it returns a number and raises nothing."""
    inner = numba.njit(forceinline=True)(loop)
    unpacked = _unpacking(tuple(_type(kind) for kind in signature))

    def called(block: Any) -> Any:
        return inner(*unpacked(block))

    entry: Any = numba.cfunc(types.int64(types.CPointer(types.uint64)))(called)
    with suppress(RuntimeError):
        code = _code(entry)
        if code:
            return Compiled(linking.linked(code), code)
    _not_to_be_freed.append(entry)
    return Compiled(entry.address, None)


_not_to_be_freed: list[Any] = []


def _code(entry: Any) -> bytes | None:
    """The machine code of what numba compiled, unless it calls anything that another process may not have."""
    module = llvm.parse_assembly(entry.inspect_llvm())
    called = [function.name for function in module.functions if function.is_declaration]
    if not all(name.startswith("llvm.") for name in called):
        return None
    module.get_function(entry.native_name).name = linking.ENTRY
    code: bytes = linking.target_machine().emit_object(module)
    return code


def _type(kind: Array | Number) -> Any:
    element = numba.from_dtype(np.dtype(kind.element))
    if isinstance(kind, Array):
        return types.Array(element, 1, "C", readonly=not kind.written, aligned=False)
    return element


def _unpacking(kinds: tuple[Any, ...]) -> Any:
    """A function from a block to the arrays and numbers in it."""

    def unpacked(_: Any, block: Any) -> Any:
        made = types.Tuple(kinds)

        def emit(context: Any, builder: Any, _: Any, given: Any) -> Any:
            words = _words(context, builder, given[0])
            return context.make_tuple(builder, made, [_value(context, builder, kind, words) for kind in kinds])

        return made(block), emit

    return _intrinsic(unpacked)


def _words(context: Any, builder: Any, block: Any) -> Iterator[Any]:
    at = 0
    while True:
        yield builder.load(builder.gep(block, [context.get_constant(types.intp, at)]))
        at += 1


def _value(context: Any, builder: Any, kind: Any, words: Iterator[Any]) -> Any:
    if not isinstance(kind, types.Array):
        word, wanted = next(words), context.get_value_type(kind)
        return word if word.type == wanted else builder.trunc(word, wanted)
    array = context.make_array(kind)(context, builder)
    width = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    array.data = builder.inttoptr(next(words), array.data.type)
    array.nitems = next(words)
    array.itemsize = width
    array.shape = _llvm_values.pack_array(builder, [array.nitems])
    array.strides = _llvm_values.pack_array(builder, [width])
    array.meminfo = _llvm_values.get_null_value(array.meminfo.type)  # whose memory it is does not matter
    array.parent = _llvm_values.get_null_value(array.parent.type)
    return array._getvalue()  # noqa: SLF001 - which is how it is done


def _to_one_instruction(emit: Callable[[Any, Any, Any], Any]) -> Any:
    """A function of a number of 64 bits, for use in loops, which the compiler turns into what `emit` says."""

    def typed(_: Any, __: Any) -> Any:
        return types.uint64(types.uint64), lambda context, builder, _, given: emit(context, builder, given[0])

    return _intrinsic(typed)


counted_ones = _to_one_instruction(lambda _, builder, number: builder.ctpop(number))
"""How many bits are set."""

trailing_zeros = _to_one_instruction(
    lambda context, builder, number: builder.cttz(number, context.get_constant(types.boolean, False))
)
"""How many bits lie below the lowest that is set; 64 where none is."""
