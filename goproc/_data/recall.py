"""The items of a map whose results a checkpoint holds: they are not given to lanes."""

from __future__ import annotations

from typing import Any

from goproc._data.checkpoint import Checkpoint, unpacked_result
from goproc._data.chunks import Chunk, Lost
from goproc._data.failing import fail
from goproc._data.results import unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.engine import Engine


def recall(engine: Engine, checkpoint: Checkpoint, chunk: Chunk) -> list[int] | None:
    """Take the results that are recorded. Return the positions of the other items in their chunk; None: none is recorded."""
    assert chunk.names is not None
    found = checkpoint.find(chunk.names)
    if not found:
        return None
    rest = []
    for position, name in enumerate(chunk.names):
        if name in found:
            index, item = chunk.indices[position], chunk.items[position]
            _put_recorded(engine, checkpoint, index, item, name, found[name])
        else:
            rest.append(position)
    engine.show()
    return rest


def _put_recorded(
    engine: Engine, checkpoint: Checkpoint, index: int, item: Any, name: str, blob: bytes
) -> None:
    try:
        result = unpacked_result(blob)
    except Exception as cause:
        error = unreadable(f"the result in checkpoint {checkpoint.path!r}", cause, "this program")
        fail(engine, Lost(index, item, 0, -1, error, name))
        return
    engine.order.put(range(index, index + 1), [result])
    engine.tally.done += 1
