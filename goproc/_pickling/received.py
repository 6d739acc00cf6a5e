"""Reading messages that hold references.

An array gets private memory for each message: pages of the copy, mapped copy-on-write. Anything else is read once per
process, and shared by its goroutines. Before the next one gets it, a check says whether one of them wrote to it: then it
is read anew, and a warning says so.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import NamedTuple

from goproc._pickling import functions, large
from goproc._pickling.call_shapes import FUNCTION, WHOLE
from goproc._pickling.carried import MARK, Entry, entries, let_go, users_frame
from goproc._pickling.copies import check_of, kept
from goproc.errors import SharedWrite
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from goproc._pickling.copies import Check, Copy

_KEPT = 64  # copies that a process has read
_RECENT = 8  # messages: a copy that none of them named goes, unless its maker still has it

_serial = 0  # of messages that hold references
# The writes that were warned of, as the module warnings has it.
_warned: dict[str | tuple[str, type[Warning], int], int] = {}


class _User(NamedTuple):
    """The function of a goroutine, and where it is defined."""

    name: str
    file: str
    line: int

    @classmethod
    def of(cls, call: tuple[Any, ...] | None) -> _User:
        """The user of a message; the receiver, if it is no call."""
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
        check: sees whether a goroutine wrote to it; None if that cannot be seen: then it is not shared.
        users: who got it since the last look.
    """

    __slots__ = ("check", "users", "value")

    def __init__(self, copy: Copy) -> None:
        self.value = copy._load(True)
        self.users: list[_User] = []
        self.check: Check | None = check_of(self.value, copy)


class _Resolver(pickle.Unpickler):
    """Reads a message that holds references. What is named twice in it is one object."""

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
        if loaded is None:
            loaded = Loaded(copy)
            if loaded.check is None:
                return loaded.value
            copy._loaded = loaded
            kept[copy] = _serial  # first: to make room for the entry may be to let go of this copy
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


def _drop_old() -> None:
    for copy, serial in list(kept.items()):
        if len(kept) > _KEPT or (serial < _serial - _RECENT and not _may_come(copy)):
            let_go(copy)


def let_go_unused() -> None:
    """Forget what this process has read of copies that no more messages will name."""
    if entries:
        entries.sweep()
    for copy in list(kept):
        if not _may_come(copy):
            let_go(copy)


def _may_come(copy: Copy) -> bool:
    """Return True if the process that made a copy still has it, and may send it again."""
    if copy._maker != _core.proc():
        return copy._kept
    value = copy._loaded.value
    return any(entry.copy is copy and entry.obj is not value for entry in entries.values())


def _warn_of_write(loaded: Loaded, label: str) -> None:
    import warnings

    found = loaded.users or [_User("a goroutine", "<goroutine>", 0)]
    users = " or ".join([user.name for user in found])
    text = f"{users} wrote to {label}, which the goroutines of a process share: it was read anew for the next goroutine"
    place = found[0].file, found[0].line
    try:
        warnings.warn_explicit(text, SharedWrite, *place, registry=_warned)
    except SharedWrite as warning:  # a filter makes it an error: not one of the goroutine that finds it
        print(warnings.formatwarning(warning, SharedWrite, *place), end="", file=sys.stderr)
