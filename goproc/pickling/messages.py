"""Messages: protocol 5, large buffers out of band, functions and classes of `__main__` and nested ones by value,
everything else as pickle and cloudpickle have it."""

from __future__ import annotations

import pickle

from goproc.pickling import classes, functions, pickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OUT_OF_BAND = 16 * 1024


def dumps(obj: Any) -> tuple[bytes, list[memoryview]]:
    """Pickle a message.

    Args:
        obj: anything.

    Returns:
        The pickle, and the contiguous buffers of 16 KiB and more, which are not in it.  They are views of the
        object's own memory: copy them before the object changes.

    Raises:
        PickleError: names the path to the object that cannot be pickled; its `__cause__` is the original error.

    Cost: about 2 us more than `pickle.dumps`.
    """
    try:
        return dump(obj)
    except Exception as error:
        failure = error
    # Two things are put off until a pickle fails: the import of cloudpickle, which knows many a type that pickle
    # refuses, and a second look at what was importable once.
    if not isinstance(failure, RecursionError):
        pickler.learn_cloudpickle()
        functions.known_importable.clear()
        classes.forget_importable()
        try:
            return dump(obj)
        except Exception as error:
            failure = error
    from goproc.pickling.diagnose import explain

    raise explain(obj, failure, "message") from failure


def dump(obj: Any, kind: type[pickler.Pickler] = pickler.Pickler) -> tuple[bytes, list[memoryview]]:
    """`dumps` without explanations: raises whatever pickle raises."""
    sink = pickler.Sink()
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    kind(sink, 5, buffer_callback=keep).dump(obj)
    return b"".join(sink), buffers


def dump_in_band(obj: Any) -> bytes:
    return pickler.dump(pickler.Pickler, obj)


def loads(main: bytes | memoryview, buffers: list[Any]) -> Any:
    """Load a message made by `dumps`; the buffers become the memory of the objects, with no copy."""
    return pickle.loads(main, buffers=buffers)
