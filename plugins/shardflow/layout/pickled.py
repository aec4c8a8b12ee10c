"""Read a pickle as data: what it would build, with every class and function left as a mere name.

Nothing is imported, called or constructed. Each opcode only moves values on a stack; a call becomes a `Call` that
remembers its function's name and arguments. What is not needed to find tensors is carried along unseen.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from shardflow.layout.model import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_STEPS = 2_000_000  # a tensor takes about 45; at the very worst some seconds and 300 MB

_STOP = b"."


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function, by where it would be imported from."""

    module: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Call:
    """What calling or instantiating `function` would have given, and the state set on it afterwards."""

    function: Any
    args: tuple[Any, ...]
    items: list[tuple[Any, Any]] = field(default_factory=list)  # of dict subclasses
    state: Any = None


@dataclass(eq=False, slots=True)
class Table:
    """A dict; its keys need not be hashable, since nothing is looked up."""

    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class External:
    """A value kept outside the pickle, by its persistent id."""

    identity: Any


def read(data: bytes) -> Any:
    """The object that the pickle describes, in terms of the classes above, lists, tuples and scalars."""
    machine = _Machine()
    source = io.BytesIO(data)
    for _ in range(MOST_STEPS):
        code = source.read(1)
        if code == _STOP:
            return machine.pop()
        step = _STEPS.get(code)
        if step is None:
            raise Damaged(f"no torch file holds a pickle with opcode {code!r}")
        read_argument, act = step
        act(machine, read_argument(source) if read_argument else None)
    raise Damaged(f"a pickle of more than {MOST_STEPS} steps")


class _Machine:
    """The unpickler's stack, its marks and its memo."""

    __slots__ = ("marks", "memo", "stack")

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise Damaged("a pickle that takes more than it put")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def forget(self, _: object) -> None:
        """POP takes the mark itself if nothing lies above it."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def forget_marked(self, _: object) -> None:
        self.since_mark()

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.push(self.memo[index])

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Table | Call):
            target.items.extend(zip(values[::2], values[1::2], strict=True))

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push(Name(module, name))

    def stack_name(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise Damaged("a name that is not text")
        self.push(Name(module, name))

    def call(self, _: object) -> None:
        args, function = self.pop(), self.pop()
        self.push(Call(function, args if isinstance(args, tuple) else ()))

    def call_with_keywords(self, _: object) -> None:
        self.pop()
        self.call(None)

    def instance(self, argument: str) -> None:
        values = self.since_mark()
        self.name(argument)
        self.push(Call(self.pop(), tuple(values)))

    def instance_from_stack(self, _: object) -> None:
        function, *args = self.since_mark()
        self.push(Call(function, tuple(args)))

    def build(self, _: object) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Call):
            target.state = state

    def external(self, identity: Any) -> None:
        self.push(External(identity))


def _pairs(values: list[Any]) -> Table:
    return Table(list(zip(values[::2], values[1::2], strict=True)))


_LITERALS = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
)
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(_LITERALS.split(), _Machine.push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda _machine, _: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push(Table()),
    "MARK": _Machine.mark,
    "POP": _Machine.forget,
    "POP_MARK": _Machine.forget_marked,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "FROZENSET": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": lambda machine, _: machine.push(_pairs(machine.since_mark())),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.instance_from_stack,
    "BUILD": _Machine.build,
    "PERSID": _Machine.external,
    "BINPERSID": lambda machine, _: machine.external(machine.pop()),
}


def _line(source: IO[bytes]) -> str:
    """As pickle reads names; pickletools would undo escapes in them, and warn about bad ones."""
    return source.readline().removesuffix(b"\n").decode()


def _two_lines(source: IO[bytes]) -> str:
    return f"{_line(source)} {_line(source)}"


_READERS = {
    **{opcode.name: opcode.arg.reader for opcode in pickletools.opcodes if opcode.arg},
    "GLOBAL": _two_lines,
    "INST": _two_lines,
    "PERSID": _line,
}
# Opcode -> how to read its argument, what to do. Anything else (extensions, Python 2's quoted text) ends the reading.
_STEPS = {
    opcode.code.encode("latin-1"): (_READERS.get(opcode.name), _ACTIONS[opcode.name])
    for opcode in pickletools.opcodes
    if opcode.name in _ACTIONS
}
