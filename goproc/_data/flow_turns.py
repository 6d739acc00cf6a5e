"""The order of the results of a stage with several workers.

A worker takes an item and its ticket together. It puts the results into the slot of the ticket. The worker that has
`emitting` sends what is in the slots, in the order of the tickets. A worker whose turn it is sends its own results.

An item is taken with a credit, which comes back when its results are sent, so a slot is free when its ticket is drawn.
The results of a flat_map() come in parts, of which a slot holds one: a worker waits when it has too many of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc._data.unread import unread
from goproc._pickling.pickler import refusal
from goproc.errors import ChanClosed, PickleError, RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from goproc._channel import Chan
    from goproc.sync import Atomic, Mutex, Semaphore

    Part = tuple[tuple[Any, ...], bool]  # results of an item; True if they are the last ones

_PART = 64  # results of one item that a worker keeps until it is their turn; as many may be in their slot


class Turns(NamedTuple):
    """The objects that the workers of a stage share.

    Attributes:
        taking: held while an item is received and its ticket drawn.
        tickets: drawn so far.
        credit: how many more items may be taken.
        emitting: held by the worker that sends.
        turn: the ticket whose results are sent next.
        slots: one channel for each ticket that can be out.
    """

    taking: Mutex
    tickets: Atomic
    credit: Semaphore
    emitting: Mutex
    turn: Atomic
    slots: tuple[Chan[Part], ...]


class Line:
    """Sends the results of one worker, item after item, when it is their turn.

    Args:
        send: sends a result.
        unsendable: returns the exception for a result that cannot be sent.

    Attributes:
        ticket: of the item.
    """

    def __init__(
        self,
        turns: Turns,
        send: Callable[[Any], object],
        unsendable: Callable[[Any, PickleError], BaseException],
    ) -> None:
        self.ticket = -1
        self._turns = turns
        self._send = send
        self._unsendable = unsendable
        self._parted = False  # an earlier part of the item may be in its slot
        self._results: list[Any] = []
        self.put = self._results.append

    def pass_on(self, last: bool = False) -> None:
        """Send the results that were put, or put them into the slot of the item. Send the values in the slots, in turn.

        The worker that sends looks into the next slot once more after it has given up `emitting`. So results that are put
        there while it looks are sent by it, or by the worker that has put them there.

        A worker sends its own results under `emitting`, too. Otherwise another worker, about to look into the slot of this
        turn, could find the results of the ticket that has the slot next.

        Args:
            last: the item has no further results. Else results may be kept for the next call.
        """
        turns, results = self._turns, self._results
        slots = turns.slots
        mine = turns.turn.load() == self.ticket
        if not last and not mine and len(results) < _PART:
            return
        part = tuple(results), last
        results.clear()
        if mine and turns.emitting.try_lock():
            try:
                if self._parted:
                    self._send_slots()
                self._send_part(part)
                self._send_slots()
            finally:
                turns.emitting.unlock()
        else:
            self._keep(part)
            self._parted = True
        if last:
            self._parted = False
        while len(slots[turns.turn.load() % len(slots)]) and turns.emitting.try_lock():
            try:
                self._send_slots()
            finally:
                turns.emitting.unlock()

    def _keep(self, part: Part) -> None:
        """Put results into the slot of the item, where they wait for its turn."""
        slots = self._turns.slots
        try:
            slots[self.ticket % len(slots)].send(part)
        except PickleError as exc:
            results, _ = part
            value = next((value for value in results if refusal(value) is not None), results[0])
            raise self._unsendable(value, exc) from None

    def _send_slots(self) -> None:
        """Send the values in the slots, in turn. The worker has `emitting`."""
        turns = self._turns
        while True:
            try:
                part, there = turns.slots[turns.turn.load() % len(turns.slots)].try_recv()
            except ChanClosed:  # the item has failed
                return
            except Exception as exc:
                refused = unread(exc, "the worker", "the result", inside=2)  # a Part
                if refused is None:
                    raise
                raise refused.error from refused.error.__cause__
            if not there or part is None:
                return
            self._send_part(part)

    def _send_part(self, part: Part) -> None:
        results, last = part
        for value in results:
            self._send(value)
        if last:
            self._turns.turn.add(1)
            self._turns.credit.release()

    def break_off(self) -> None:
        """The item has failed: the turns after it do not come. No worker waits for them."""
        turns = self._turns
        turn = turns.turn.load()
        for ticket in range(max(turn, self.ticket), turn + len(turns.slots)):
            try:
                turns.slots[ticket % len(turns.slots)].close()
            except (ChanClosed, RuntimeStopped):
                pass
