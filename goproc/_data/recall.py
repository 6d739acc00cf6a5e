"""The items of a map whose results a checkpoint holds: they are not given to lanes."""

from __future__ import annotations

from typing import Any

from goproc._data.checkpoint import Checkpoint, unpacked_result
from goproc._data.chunks import Lost
from goproc._data.failing import fail
from goproc._data.results import unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from goproc._data.engine import Engine


def recall(
    engine: Engine, checkpoint: Checkpoint, indices: Sequence[int], items: list[Any]
) -> tuple[Sequence[int], list[Any], list[str]]:
    """Take the results that are recorded. Return the rest of the items, with their numbers and names."""
    names = checkpoint.names(items, engine.plan.job.starred)
    found = checkpoint.find(names)
    if not found:
        return indices, items, names
    rest = []
    for index, item, name in zip(indices, items, names, strict=True):
        if name in found:
            _put_recorded(engine, checkpoint, index, item, name, found[name])
        else:
            rest.append((index, item, name))
    engine.show()
    return [r[0] for r in rest], [r[1] for r in rest], [r[2] for r in rest]


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
