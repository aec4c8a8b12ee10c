"""Turns machine code that was kept into functions of this process, by LLVM's linker alone."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

ENTRY = "shardflow_loop"
"""The one function of each piece of code that others call."""

_numbers = itertools.count()  # no name may come again, not even after a failure
_linked: list[Any] = []
"""Which frees none of it: threads may run the code until the very end of the process."""


@cache
def host() -> tuple[str, ...]:
    """The processor that code is made for, and who makes it."""
    features = llvm.get_host_cpu_features().flatten()
    version = ".".join(map(str, llvm.llvm_version_info))
    return (llvm.get_process_triple(), llvm.get_host_cpu_name(), features, llvmlite.__version__, version)


def target_machine() -> Any:
    """Makes code for this processor, to lie anywhere."""
    _started()
    triple, name, features, *_ = host()
    return llvm.Target.from_triple(triple).create_target_machine(name, features, opt=3, reloc="pic", codemodel="small")


def linked(code: bytes) -> int:
    """The address of the entry of such code; RuntimeError if it is no such code, or needs what this process lacks."""
    library = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(ENTRY)
    tracker = library.link(_linker(), f"loop {next(_numbers)}")
    _linked.append(tracker)
    address: int = tracker[ENTRY]
    return address


@cache
def _linker() -> Any:
    return llvm.create_lljit_compiler(target_machine(), use_jit_link=True, suppress_errors=True)


@cache
def _started() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
