"""The shapes of the message that starts a goroutine.

The core carries exact tuples without a pickle, and making a named tuple takes a tenth of the time of `go`. So each
shape is a plain tuple, and this file names its items.

A call:

    (ref, args, kwargs)                                       over globals that all calls of the function share
    (ref, args, kwargs, globals, cells, extra)                a function of its own: over these globals and cells,
                                                              with these attributes and defaults
    (ref, args, kwargs, globals, cells, extra, loops)         and the cells of these numbers hold the function itself
    (0, function, args, kwargs)                               the function is pickled together with its arguments

`ref` is that of the function's template; None stands for an empty item. These shapes hold a call:

    (WITH, call, labels, values, levels, limits)              the other attributes of the goroutine
    (kind, tracker, call)                                     `kind` names the body in _life.py that runs the call and
                                                              tells the tracker of its end; the call may be in a promise
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = tuple[Any, ...]

ARGS, KWARGS, GLOBALS, CELLS, EXTRA, LOOPS = range(1, 7)  # the items of a call with a ref
FUNCTION = 1  # the item of a call without a ref
LENGTHS = SHARED, WHOLE, OWN, WITH_LOOPS = 3, 4, 6, 7  # the lengths by which calls are told apart
WITH = "with"
_CALL_IN = {WITH: 1, "wg": 2, "group": 2}


def inner_call(message: Any) -> Any:
    """Return the call that `message` holds; None if `message` is a call itself, or something else."""
    if type(message) is not tuple or len(message) < 3 or type(message[0]) is not str:
        return None
    place = _CALL_IN.get(message[0])
    return None if place is None else message[place]
