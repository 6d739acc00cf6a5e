"""The values of an item of flat_map(), which a lane sends as they come: an item may have more of them than memory holds.

They go to the host in parts, before the message that tells of the end of the item. For each part the lane needs a credit,
which the host gives back when the values have been handed on. So a lane is at most CREDITS parts ahead of those who take
its values. The time in which it waits for a credit is not the call's, and the process is lent to others meanwhile.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, NamedTuple

from goproc import _logs
from goproc._data import turns
from goproc._data.job import PART
from goproc._pickling.salvage import Parts
from goproc.errors import Cancelled, ChanClosed
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from goproc._channel import Chan
    from goproc._data.lane import Lane

CREDITS = 4  # parts of a lane that are on their way
_PART = 64  # values of a part
_FULL_SECONDS = 0.002  # the age of the first value at which a part is sent
_EAGER = 16  # the first values of a lane are sent one by one


class Grant(NamedTuple):
    """Stands behind the values of a part: when it is reached, they have been handed on."""

    credit: Chan[None]

    def give(self) -> None:
        """Give the credit back."""
        try:
            self.credit.try_send(None)
        except ChanClosed:  # the stage ends
            pass


class PartSender:
    """Sends the values of the items of one lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._values: list[Any] = []
        self._oldest = 0.0  # when the first of them came
        self._sent = 0
        self._stuck = False  # the flusher could not send them: the call is to find out why

    def hand_on(self, values: Iterable[Any]) -> None:
        """Send the values of an iterable. In the goroutine or the thread of the call.

        Raises:
            BaseException: raised by the iterable, or because a value cannot be sent.
        """
        self._stuck = False
        self._values.clear()
        try:
            for value in values:
                self._put(value)
        except BaseException:
            self._send_rest()  # what came before the failure is handed on
            raise
        self._send_rest()

    def _put(self, value: Any) -> None:
        with self._lane.sending:
            if not self._values:
                self._oldest = monotonic()
            self._values.append(value)
        early = self._sent < _EAGER or self._stuck
        if early or len(self._values) >= _PART or monotonic() - self._oldest >= _FULL_SECONDS:
            self._send_rest()

    def _send_rest(self) -> None:
        """Send the values that are there, once there is a credit.

        Raises:
            BaseException: why one of them cannot be sent. Those before it were sent.
        """
        if not self._values:
            return
        self._lane.await_credit()
        with self._lane.sending:
            if self._send_all():
                return
            values = self._values[:]
            self._values.clear()
        self._send_each(values)

    def _send_each(self, values: list[Any]) -> None:
        """Send values one by one, each with a credit. The caller has the first credit.

        Without credits the messages could fill the channel. The thread that then waits there with `sending` would stop
        this process, and with it a later stage, for which the host may wait before it reads on.

        Raises:
            BaseException: why one of them cannot be sent. Those before it were sent.
        """
        for at, value in enumerate(values):
            if at > 0:
                self._lane.await_credit()
            with self._lane.sending:
                error = self._try_to_send([value])
            if error is not None:
                from goproc._data.blame import about_result

                self._give_back()
                raise about_result(value, error)

    def look(self) -> None:
        """Send the values that are there if there is a credit. From the flusher."""
        credit = self._lane.way.credit
        if not self._values or self._stuck or credit is None:
            return
        try:
            there = credit.try_recv()[1]
        except ChanClosed:
            raise Cancelled from None
        if there:
            with self._lane.sending:
                self._stuck = not self._send_all()
            if self._stuck:
                self._give_back()

    def _send_all(self) -> bool:
        """Send the values that are there, after the results of earlier items. Return False if that is not possible.

        The caller has a credit, and `sending`.
        """
        self._lane.flush_now()
        if not self._values:  # the flusher has sent them
            self._give_back()
            return True
        _logs.flush()
        if self._try_to_send(self._values) is not None:
            return False
        self._sent += len(self._values)
        self._values.clear()
        return True

    def _give_back(self) -> None:
        assert self._lane.way.credit is not None
        Grant(self._lane.way.credit).give()

    def _try_to_send(self, values: list[Any]) -> BaseException | None:
        """Send values. Return the exception if one of them cannot be sent. The caller has a credit."""
        lane = self._lane
        return lane.try_to_send(
            (PART, lane.way.number, values if _core.all_readable(values) else Parts(values))
        )


def await_credit(lane: Lane) -> None:
    """Wait until a lane may send a part. The process is lent to others meanwhile.

    Raises:
        Cancelled: the stage ends.
    """
    credit = lane.way.credit
    assert credit is not None and lane.turn is not None
    try:
        if credit.try_recv()[1]:
            return
        in_thread = not _core.on_scheduler_thread()
        if in_thread:
            turns.lend()
        else:
            turns.end(lane.turn)
        there = credit.recv_ok()[1]
    except ChanClosed:
        there = False
    if not there:
        raise Cancelled
    if not in_thread:
        lane.turn = turns.begin(lane.station)
