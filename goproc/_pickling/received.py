"""The reading of messages that hold references.

An array gets private memory for each message: pages of the copy, mapped copy-on-write. Any other object is read once
per process, and its goroutines share it. Before the next goroutine gets the object, a check tells whether an earlier
one wrote to it. If so, it is read anew, and a warning is given.
"""

from __future__ import annotations

import io
import pickle
import sys

from goproc._pickling import functions, large
from goproc._pickling.call_shapes import FUNCTION, WHOLE
from goproc._pickling.carried import MARK, Entry, entries, let_go, users_frame
from goproc._pickling.copies import check_of, kept
from goproc._record import Record
from goproc.errors import SharedWrite
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from goproc._pickling.copies import Check, Copy

_KEPT = 64  # the number of copies that a process keeps as read
_RECENT = 8  # the number of messages after which an unnamed copy goes, unless its maker still has it

_serial = 0  # the number of messages with references
# The writes that a warning was given for, as the module warnings keeps them.
_warned: dict[str | tuple[str, type[Warning], int], int] = {}


class _User(Record):
    """The function of a goroutine, and the place of its definition."""

    name: str
    file: str
    line: int

    @classmethod
    def of(cls, call: tuple[Any, ...] | None) -> _User:
        """Return the user of a message: the receiver if it is no call."""
        if call is None:
            frame = users_frame()
            return cls(frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno)
        function = call[FUNCTION] if len(call) == WHOLE else functions.by_ref[call[0]]
        code = getattr(function, "__code__", None) or getattr(function, "code", None)
        file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("<goroutine>", 0)
        return cls(large.name_of(call), file, line)


class Loaded:
    """A copy as a process has read it, for all its goroutines.

    Attributes:
        check: notices a write of a goroutine; None if that is not possible: then the object is not shared.
        users: the goroutines' functions that got it since the last check.
    """

    __slots__ = ("check", "users", "value")

    def __init__(self, copy: Copy) -> None:
        self.value = copy._load(True)
        self.users: list[_User] = []
        self.check: Check | None = check_of(self.value, copy)


class _Resolver(pickle.Unpickler):
    """Reads a message that holds references. An object that the message names twice is one object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.values: dict[Copy, Any] = {}
        self.shared: list[Loaded] = []

    def persistent_load(self, reference: Any) -> Any:
        copy, private, label, _, index = reference
        if copy not in self.values:
            self.values[copy] = copy._load(True) if private else self._shared(copy, label)
        value = self.values[copy]
        return value if index is None else value[index]

    def _shared(self, copy: Copy, label: str) -> Any:
        loaded = getattr(copy, "_loaded", None)
        if loaded is not None and not loaded.check.unchanged():
            _warn_of_write(loaded, label)
            let_go(copy)
            loaded = None
        if loaded is None and not _may_come(copy):
            return copy._load(True)  # nobody would tell when the last message that names it is read
        if loaded is None:
            loaded = Loaded(copy)
            if loaded.check is None:
                return loaded.value
            copy._loaded = loaded
            kept[copy] = _serial  # first: making room for the entry may drop this copy
            entries.add(Entry(loaded.value, label, "", copy, loaded.check, False))
        else:
            kept[copy] = _serial
        self.shared.append(loaded)
        return loaded.value


def load_message(main: Any, buffers: list[Any]) -> Any:
    """Load a message of `dump_message` that begins with MARK."""
    global _serial
    _serial += 1
    resolver = _Resolver(io.BytesIO(main[len(MARK) :]), buffers=buffers)
    value = resolver.load()
    if resolver.shared:
        user = _User.of(large.opened(value))
        for loaded in resolver.shared:
            if user not in loaded.users:
                loaded.users = [*loaded.users[-3:], user]
        _drop_old()
    return value


def resolver() -> Callable[[Any], Any]:
    """Return a function that returns the object for a reference in one message."""
    resolve: Callable[[Any], Any] = _Resolver(io.BytesIO()).persistent_load
    return resolve


def _drop_old() -> None:
    for copy, serial in list(kept.items()):
        if len(kept) > _KEPT or (serial < _serial - _RECENT and not _may_come(copy)):
            let_go(copy)


def let_go_unused() -> None:
    """Forget the objects read from copies that no further message will name."""
    if entries:
        entries.sweep()
    for copy in list(kept):
        if not _may_come(copy):
            let_go(copy)


def _may_come(copy: Copy) -> bool:
    """Return True if the process that made a copy still has it, and may send it again."""
    if copy._maker != _core.proc():
        return copy._kept
    loaded = getattr(copy, "_loaded", None)
    return any(
        entry.copy is copy and (loaded is None or entry.obj is not loaded.value) for entry in entries.values()
    )


def _warn_of_write(loaded: Loaded, label: str) -> None:
    import warnings

    found = loaded.users or [_User("a goroutine", "<goroutine>", 0)]
    users = " or ".join([user.name for user in found])
    text = f"{users} wrote to {label}, which the goroutines of a process share: it was read anew for the next goroutine"
    place = found[0].file, found[0].line
    try:
        warnings.warn_explicit(text, SharedWrite, *place, registry=_warned)
    except SharedWrite as warning:  # a filter makes it an error, but not one of the goroutine that finds it
        print(warnings.formatwarning(warning, SharedWrite, *place), end="", file=sys.stderr)
