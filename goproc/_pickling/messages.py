"""Messages: pickles of protocol 5, with large buffers out of band.

Functions and classes of `__main__`, and nested ones, travel by value, everything else as pickle and cloudpickle have
it."""

from __future__ import annotations

import pickle

from goproc._pickling import carried, classes, functions, pickler, received
from goproc._pickling import remade as remade
from goproc._pickling import weak as weak
from goproc._pickling.entries import read
from goproc._pickling.wire import OUT_OF_BAND as OUT_OF_BAND
from goproc._pickling.wire import Pickled, Whole
from goproc._pickling.wire import dump as dump
from goproc._raised import OF_OBJECTS, described
from goproc._tracebacks import cut
from goproc.errors import PickleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from goproc._pickling.wire import Buffer

    Resolve = Callable[[Any], Any]
    OnUnreadable = Callable[[BaseException, bytes | memoryview, list[Any], Resolve | None], None]


_MARK = carried.MARK[0]


def dumps(obj: Any) -> tuple[bytes, list[Buffer]]:
    """Pickle a message.

    Args:
        obj: anything. A Pickled is taken as it is, a Whole without references to copies.

    Returns:
        The pickle, and the contiguous buffers of 16 KiB and more, which are not in it. These are views of the object's
        own memory: copy them before the object changes. A buffer that shared memory holds already is a Reference.

    Raises:
        PickleError: names the path to the object that cannot be pickled; its `__cause__` is the original error.
        OutOfSharedMemory: there is no room for the definition of a class or function that is in it.
        MemoryError: this process has no memory for the copy.

    Cost: about 2 us more than `pickle.dumps`.
    """
    if type(obj) is Pickled:
        return obj
    dump_message = carried.dump_message
    if type(obj) is Whole:
        obj, dump_message = obj.value, dump
    try:
        return dump_message(obj)
    except MemoryError:  # OutOfSharedMemory, or this process has no memory for the copy
        raise
    except OF_OBJECTS as error:  # pickling may raise anything
        failure = error
    # Two steps wait until a pickle fails: the import of cloudpickle, which knows many types that pickle refuses, and a
    # second look at functions that were importable before.
    if not isinstance(failure, RecursionError):
        pickler.try_cloudpickle()
        functions.known_importable.clear()
        classes.forget_importable()
        try:
            return dump_message(obj)
        except MemoryError:
            raise
        except OF_OBJECTS as error:  # pickling may raise anything: the error is explained below
            failure = error
    from goproc._pickling.diagnose import explain

    try:
        raise explain(obj, failure, "message") from failure
    except PickleError as error:
        cut(error)
        raise


def dump_in_band(obj: Any) -> bytes:
    return pickler.dump(pickler.Pickler, obj)


def loads(main: bytes | memoryview, buffers: list[Any]) -> Any:
    """Load a message made by `dumps`; the buffers become the memory of the objects, with no copy.

    Raises:
        Exception: a part of it cannot be read, and is not one of Parts.
    """
    if read:
        read.clear()
    try:
        if main[0] == _MARK:
            return received.load_message(main, buffers)
        return pickle.loads(main, buffers=buffers)
    except OF_OBJECTS as exc:
        parts, note = _PARTS in bytes(main), on_unreadable
        error = _of_reading(exc)
        if not parts and note is None:
            if error is exc:
                raise
            raise error from exc
        marked = main[0] == _MARK
        body = main[len(carried.MARK) :] if marked else main
        resolve = received.resolver() if marked else None
        if not parts and note is not None:
            note(error, body, buffers, resolve)
            if error is exc:
                raise
            raise error from exc
    from goproc._pickling import salvage

    try:
        return salvage.load(body, buffers, resolve)
    except (SystemExit, GeneratorExit) as exc:
        raise _of_reading(exc) from exc


def _of_reading(exc: BaseException) -> Exception:
    """Return what loads() raises for an exception of an object's methods: not one that would end the program."""
    if isinstance(exc, Exception):
        return exc
    return RuntimeError(f"the reading of an object raised {described(exc)}")


_PARTS = b"goproc._pickling.salvage"  # the module of Parts, which their pickle names
# Called with the exception of a message that cannot be read, the pickle, its buffers, and the function that resolves
# persistent ids or None. Maps and flows set this to salvage.note_path: others need no path, and no second reading.
on_unreadable: OnUnreadable | None = None
