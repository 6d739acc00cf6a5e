"""The functions of a map, or of a stage of a flow, on their way to a worker, which may be unable to read them."""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc._channel import Chan
from goproc._data.results import unreadable
from goproc._life import open_call
from goproc._pickling.calls import pack_call
from goproc._pickling.salvage import path_of
from goproc._spawn import letter
from goproc.errors import OutOfSharedMemory, PickleError, RuntimeStopped
from goproc.shm import _core


class Around:
    """A function around one of the user's. Errors show that of the user's in its place.

    Attributes:
        f: that of the user's.
    """

    __slots__ = ("f",)

    f: Any


class Word(NamedTuple):
    """The words for a function, to the user.

    Attributes:
        text: as in "the function square".
        around: it is an Around.
    """

    text: str
    around: bool = False


Functions = tuple[Any, ...]
Sent = Chan[Any]  # holds a call of _given() with the functions: so they arrive as those of a goroutine do


class Unread(Exception):
    """Raised by read_functions().

    Attributes:
        number: of the function to blame.
        error: the exception for the user.
    """

    def __init__(self, number: int, error: PickleError) -> None:
        super().__init__(number)
        self.number = number
        self.error = error


def _given(*functions: Any) -> Functions:
    return functions


def send_functions(functions: Functions) -> Sent:
    """Return a letter that holds functions for a worker.

    Args:
        functions: some may be None.

    Raises:
        PickleError: one of them cannot be sent.
        OutOfSharedMemory: there is no room for them.
    """
    try:
        return letter(pack_call(_given, functions, {}))  # type: ignore[no-any-return]
    except OutOfSharedMemory as error:
        from goproc._pickling.diagnose import explain_memory

        raise explain_memory(error, _given, functions, {}) from None


def read_functions(sent: Sent, words: tuple[Word, ...]) -> Functions:
    """Return the functions in a channel.

    Args:
        sent: from send_functions().
        words: for each function.

    Raises:
        Unread: one of them cannot be read in this process.
    """
    try:
        _, functions, _ = open_call(sent.recv())
    except RuntimeStopped:
        raise
    except Exception as exc:  # the methods of objects that the functions take along may raise anything
        raise _about(exc, words) from None
    return functions


def _about(exc: Exception, words: tuple[Word, ...]) -> Unread:
    reader = f"worker {_core.proc()}"
    _, *path = path_of(exc) or (None,)  # the first label is that of the arguments of the call
    number = int(path.pop(0)[1:-1]) if path else 0
    if words[number].around:
        del path[:1]
    return Unread(number, unreadable(words[number].text, exc, reader, tuple(path)))
