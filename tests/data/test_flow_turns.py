"""The order of the results of a stage with several workers, where these meet in the middle of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from goproc import chan
from goproc._data.flow_turns import Line, Turns
from goproc.sync import Atomic, Mutex, Semaphore


class Turn:
    """An Atomic. Once a turn is read, something happens before the reader goes on."""

    def __init__(self, turn: int, happens: Callable[[], None]) -> None:
        self.value = 0
        self.turn = turn
        self.happens: Callable[[], None] | None = happens

    def load(self) -> int:
        seen = self.value
        if seen == self.turn and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return seen

    def add(self, n: int) -> None:
        self.value += n


def test_a_slot_that_is_looked_into_late_does_not_give_a_later_ticket(runtime0: Any) -> None:
    """While a worker is about to look into the slot of ticket 2, others send that ticket, and fill the slot with ticket 4."""
    sent: list[int] = []

    def pass_on(ticket: int) -> None:
        line = Line(turns, sent.append, lambda value, error: error)
        line.ticket = ticket
        line.put(ticket)
        line.pass_on(last=True)

    def others() -> None:
        for _ in range(2):
            assert turns.credit.try_acquire()  # for tickets 2 and 3
        pass_on(2)
        if turns.credit.try_acquire():
            passed.append(4)
            pass_on(4)

    passed: list[int] = []
    turns: Any = Turns(Mutex(), Atomic(0), Semaphore(2), Mutex(), Turn(2, others), (chan(1), chan(1)))  # type: ignore[arg-type]
    for _ in range(2):
        assert turns.credit.try_acquire()
    pass_on(1)
    pass_on(0)
    pass_on(3)
    if not passed:
        assert turns.credit.try_acquire()
        pass_on(4)
    assert sent == [0, 1, 2, 3, 4]
