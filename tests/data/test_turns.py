"""The turns of maps in one process: none is lost where a goroutine that has got it ends instead."""

from __future__ import annotations

from typing import Any

import pytest
from peek import until

from goproc import Cancelled, chan, go
from goproc._data import turns


def test_a_turn_is_passed_on_by_a_goroutine_that_is_cancelled(runtime0: Any) -> None:
    got = chan(2)

    def wait(name: str) -> None:
        turn = turns.begin(name)
        got.send(name)
        turns.end(turn)

    turn = turns.begin("first")
    second, third = go.local(wait, "second"), go.local(wait, "third")
    until(lambda: len(turns._waiting) == 2)
    turns.end(turn)  # it is the turn of the second, which has not run since
    second.cancel()
    assert got.recv(timeout=20) == "third"
    third.result()
    with pytest.raises(Cancelled):
        second.result()
    assert not turns._waiting
