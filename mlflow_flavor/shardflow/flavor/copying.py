"""Any run of a tensor's bytes, in the order in which they are stored, without a copy of the tensor."""

from __future__ import annotations

import warnings
from math import prod
from typing import Any

import numpy as np
import torch

PIECE_BYTES = 8 << 20


def copy_bytes(tensor: torch.Tensor, offset: int, target: memoryview) -> None:
    """Fill `target` with the bytes from `offset` of a tensor laid out row by row, whatever its strides and device."""
    if not len(target):
        return
    if tensor.is_contiguous() and tensor.device.type == "cpu":
        # By numpy: torch would wake threads of its own, which keep the cores from those that encode.
        source = np.frombuffer(as_memory(tensor), np.uint8)
        np.copyto(np.frombuffer(target, np.uint8), source[offset : offset + len(target)])
        return
    width = tensor.element_size()
    end = offset + len(target)
    first, last = -(-offset // width), end // width
    if first > last or offset % width or end % width:
        _copy_ragged(tensor, offset, target)
        return
    out = as_tensor(target)
    if out.data_ptr() % width == 0:
        _copy_elements(tensor, first, last, out.view(tensor.dtype))
        return
    for start in range(first, last, max(1, PIECE_BYTES // width)):
        piece = torch.empty(min(last - start, max(1, PIECE_BYTES // width)), dtype=tensor.dtype)
        _copy_elements(tensor, start, start + len(piece), piece)
        begin = (start - first) * width
        out[begin : begin + piece.nbytes].copy_(piece.view(torch.uint8))


def as_tensor(memory: memoryview) -> torch.Tensor:
    """Bytes as torch sees them, in place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # memory that may only be read is only read
        return torch.frombuffer(memory, dtype=torch.uint8)


def as_memory(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor of the CPU, in place."""
    array: Any = as_bytes(tensor).numpy()
    return memoryview(array)


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a contiguous tensor as torch sees them, in place."""
    flat = tensor.detach().reshape(-1)
    if flat.numel() == 1:  # contiguous with any stride, and seen as bytes with none but 1
        flat = flat.as_strided((1,), (1,))
    return flat.view(torch.uint8)


def _copy_ragged(tensor: torch.Tensor, offset: int, target: memoryview) -> None:
    """A run that begins or ends inside an element."""
    width = tensor.element_size()
    first, last = offset // width, -(-(offset + len(target)) // width)
    for start in range(first, last, PIECE_BYTES // width):
        stop = min(last, start + PIECE_BYTES // width)
        piece = torch.empty(stop - start, dtype=tensor.dtype)
        _copy_elements(tensor, start, stop, piece)
        begin, end = max(offset, start * width), min(offset + len(target), stop * width)
        target[begin - offset : end - offset] = as_memory(piece)[begin - start * width : end - start * width]


def _copy_elements(tensor: torch.Tensor, first: int, last: int, out: torch.Tensor) -> None:
    """Elements `first` to `last` of the flattened tensor: whole rows at once, what is left of others by recursion."""
    if first == last:
        return
    if tensor.dim() == 0 or tensor.is_contiguous():
        out.copy_(tensor.reshape(-1)[first:last])
        return
    row = prod(tensor.shape[1:])
    begin, end = -(-first // row), last // row
    if begin > end:  # within one row
        _copy_elements(tensor[end], first - end * row, last - end * row, out)
        return
    head, tail = begin * row - first, last - end * row
    if head:
        _copy_elements(tensor[begin - 1], row - head, row, out[:head])
    if begin < end:
        out[head : len(out) - tail].view(end - begin, *tensor.shape[1:]).copy_(tensor[begin:end])
    if tail:
        _copy_elements(tensor[end], 0, tail, out[len(out) - tail :])
