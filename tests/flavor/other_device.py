"""A device that torch takes for one beside the CPU, without hardware: its memory is that of this process, hidden.

Like a GPU's it is reached by copying alone: what takes a tensor of it for one of the CPU fails. Torch knows the device
until the process ends, so tests use it in processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from services.warmed import finish, start

NAME = "elsewhere"
_VIEWS = ("alias", "as_strided", "detach", "select.int", "slice.Tensor", "t", "unsqueeze", "view")

arrived: list[int] = []
"""The bytes of every copy to the device."""
_memory: dict[int, torch.Tensor] = {}  # by the storage that torch sees, which has none


def with_it(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process that has the device."""
    finish(start(_work, work, arguments))


def _work(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    connect()
    work(*arguments)


class _There(torch.Tensor):
    """A tensor of the device."""


def connect() -> None:
    """Make the device known to torch."""
    _setup_privateuseone_for_python_backend(NAME)
    torch.library.impl("aten::empty.memory_format", "privateuseone")(_empty)
    torch.library.impl("aten::empty_strided", "privateuseone")(_empty_strided)
    torch.library.impl("aten::_copy_from", "privateuseone")(_copy_from)
    for name in _VIEWS:
        operator, _, overload = name.partition(".")
        _view_by(name, getattr(getattr(torch.ops.aten, operator), overload or "default"))


def _view_by(name: str, operator: Any) -> None:
    def view(tensor: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        return _there(operator(_here(tensor), *arguments, **options))

    torch.library.impl(f"aten::{name}", "privateuseone")(view)


def _empty(size: list[int], dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
    return _there(torch.empty(size, dtype=dtype))


def _empty_strided(size: list[int], stride: list[int], dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
    return _there(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    if target.device.type == NAME:
        arrived.append(source.nbytes)
    _here(target).copy_(_here(source))
    return target


def _there(memory: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = torch._C._acc.create_empty_tensor(list(memory.shape), memory.dtype)
    made.__class__ = _There
    _memory[made.untyped_storage()._cdata] = memory
    return made


def _here(tensor: torch.Tensor) -> torch.Tensor:
    return _memory[tensor.untyped_storage()._cdata] if tensor.device.type == NAME else tensor
