"""What is inside a file: its tensors with their types and shapes, found from the content alone, never by running it."""

from shardflow.layout.formats import inspect
from shardflow.layout.model import Layout, ReadAt, Segment

__all__ = ["Layout", "ReadAt", "Segment", "inspect"]
