"""Every size, count and time of the transport, each with its reason."""

from __future__ import annotations

import os

from shardflow.errors import ShardflowError

MIB = 1 << 20

# Objects and ranges above this are moved in parts, side by side: one connection seldom fills a link.
SPLIT_ABOVE = 16 * MIB
PART_BYTES = 8 * MIB
LARGEST_IN_ONE = 256 * MIB  # above it a request that fails at its end has cost too much
PARALLEL_PARTS = 8

CONNECT_SECONDS = 10
REQUEST_SECONDS = 300  # a whole request: 16 MiB in one piece still passes at 56 KiB/s
SILENCE_SECONDS = 60  # a connection on which nothing came for so long is dead

LIST_PAGE = 1000  # what S3 returns at a time; also how many entries cross into Python at once


def parallel_parts() -> int:
    """How many parts of one object move at a time; SHARDFLOW_PARALLEL changes it."""
    text = os.environ.get("SHARDFLOW_PARALLEL", "")
    if not text:
        return PARALLEL_PARTS
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ShardflowError(f"SHARDFLOW_PARALLEL is {text!r}", remedy="set it to a number from 1 to 256")
    return int(text)
