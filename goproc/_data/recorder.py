"""The way of results from the workers to the engine of a map: straight, or through a checkpoint.

With a checkpoint a thread takes the messages of the workers, also while nobody is in next(). It writes the results, and
hands a message on when what it tells is committed.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import chain
from time import monotonic, sleep
from typing import Any

from goproc._channel import Chan, chan
from goproc._data.checkpoint import Checkpoint, Record, packed_result
from goproc._data.job import BROKEN, DONE, WAKE, Done
from goproc._data.results import parted, told_apart
from goproc._raised import described
from goproc.errors import ChanClosed, PickleError, RuntimeStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.tally import Pace

_AT_ONCE = 256  # messages in one transaction
# Times the seconds of a transaction that pass before the next one: that has more messages, and costs the same.
_REST = 9.0
_LONGEST_REST = 0.005
_SECONDS = 10.0  # that the thread has to write what is left


class Recorder:
    """Writes what workers send to a checkpoint, and puts it into the inbox of the engine.

    Args:
        checkpoint: is open.
        results: where workers send.
        inbox: of the engine.
        pace: of the map: messages wait for the next transaction as long as no lane gets idle by that.

    Attributes:
        door: has a value when something was put into the inbox.
    """

    def __init__(
        self, checkpoint: Checkpoint, results: Chan[Any], inbox: deque[tuple[Any, ...]], pace: Pace
    ) -> None:
        self.checkpoint = checkpoint
        self._pace = pace
        self.door: Chan[None] = chan(1)
        self._results = results
        self._inbox = inbox
        self._failed: deque[Record] = deque()
        self._met: dict[int, threading.Event] = {}  # by number of a marker among the messages
        self._thread = threading.Thread(target=self._run, name="goproc-checkpoint", daemon=True)
        self._thread.start()

    def note_failure(self, record: Record) -> None:
        """Have a failed item written."""
        self._failed.append(record)

    def sync(self) -> None:
        """Wait until all that the workers have sent is in the inbox."""
        event = threading.Event()
        self._met[id(event)] = event
        try:
            self._results.send((WAKE, id(event)))
        except (ChanClosed, RuntimeStopped):
            return
        while self._thread.is_alive() and not event.wait(0.05):
            pass

    def stop(self) -> None:
        """Write the records that are left, and end the thread."""
        try:
            self._results.close()
        except (ChanClosed, RuntimeStopped):
            pass
        if threading.current_thread() is not self._thread:
            self._thread.join(_SECONDS)

    # -- the thread

    def _run(self) -> None:
        try:
            while messages := self._results.recv_many(_AT_ONCE):
                began = monotonic()
                self._handle(messages)
                sleep(min(_REST * (monotonic() - began), self._pace.slack, _LONGEST_REST))
            self._write([])
        except RuntimeStopped:
            pass
        except BaseException as exc:
            self._inbox.append((BROKEN, exc))
            self._ring()
        finally:
            self.checkpoint.close()

    def _handle(self, messages: list[tuple[Any, ...]]) -> None:
        records: list[Record] = []
        handed: list[tuple[Any, ...]] = []
        events: list[threading.Event] = []
        for message in chain.from_iterable(parted(message, named=True) for message in messages):
            if message[0] == DONE:
                handed += _recorded(Done(*message), records)
            elif message[0] == WAKE:
                events.append(self._met.pop(message[1]))
            else:
                handed.append(message)
        self._write(records)
        self._inbox.extend(handed)
        for event in events:
            event.set()
        self._ring()

    def _write(self, records: list[Record]) -> None:
        while self._failed:
            records.append(self._failed.popleft())
        if records:
            self.checkpoint.record(records)

    def _ring(self) -> None:
        try:
            self.door.try_send(None)
        except (ChanClosed, RuntimeStopped):
            pass


def _recorded(done: Done, records: list[Record]) -> list[tuple[Any, ...]]:
    """Append the records of results. Return the messages without the names; UNREAD for a result that has no record."""
    share = done.work / len(done.values)
    errors: list[PickleError | None] = []
    for at, ((name, attempts), value) in enumerate(done.values):
        blob = _packed(value)
        if isinstance(blob, bytes):
            seconds = done.seconds if at == done.slowest else share
            records.append(Record(name, blob, None, attempts, seconds))
        errors.append(None if isinstance(blob, bytes) else blob)
    unnamed = done._replace(values=[value for _, value in done.values])
    return [unnamed] if errors.count(None) == len(errors) else told_apart(unnamed, errors)


def _packed(value: Any) -> bytes | PickleError:
    """Return the pickle of a result for the checkpoint, or the exception if there is none."""
    try:
        return packed_result(value)
    except Exception as cause:
        error = PickleError(
            f"the result cannot be recorded in the checkpoint: {described(cause)}\n"
            "return what it is made from (a path, an address, the arguments)"
        )
        error.__cause__ = cause
        return error
