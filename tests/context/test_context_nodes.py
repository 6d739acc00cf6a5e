"""Nodes of contexts go with their handles: no collection is needed, in whichever order Python lets go of their fields."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from goproc import context
from goproc.shm import _core


def cancel_of(parent: Any) -> Any:
    return context.with_cancel(parent)[1]


MAKERS: dict[str, Callable[[Any], Any]] = {
    "cancel": lambda parent: context.with_cancel(parent)[0],
    "deadline": lambda parent: context.with_timeout(parent, 60)[0],
    "cancel function": cancel_of,
}


def chain(depth: int, last: Callable[[Any], Any]) -> Any:
    ctx: Any = context.background()
    for _ in range(depth):
        ctx, _ = context.with_cancel(context.with_value(ctx, "key", "value"))
    return last(ctx)


@pytest.mark.parametrize("last", MAKERS.values(), ids=MAKERS)
def test_a_chain_goes_at_once_with_its_last_handle(last: Callable[[Any], Any], runtime1: Any) -> None:
    chain(1, last)
    gc.collect()
    _core.collect()
    before = _core.census()["objects"]
    gc.disable()
    try:
        kept = chain(5, last)
        assert _core.census()["objects"] == before + 6
        del kept
        assert _core.census()["objects"] == before
    finally:
        gc.enable()
