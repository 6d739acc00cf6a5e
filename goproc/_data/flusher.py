"""The thread of a lane that sends results while a long call runs."""

from __future__ import annotations

import threading
from time import monotonic, sleep

from goproc.errors import Cancelled, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.lane import Lane

# Results are due so long after the begin of the first call of a chunk, or after the first result that waits.
FLUSH_SECONDS = 0.0048
_LATE_SECONDS = 0.0002  # that a lane has to send results itself when they are due
_LOOK_SECONDS = 0.0023  # between two looks for values of an item of flat_map()


class Flusher:
    """A thread that sends results which wait for a long call to end."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._busy = threading.Event()
        self._over = False
        threading.Thread(target=self._run, name="goproc-results", daemon=True).start()

    def begin(self) -> None:
        self._busy.set()

    def pause(self) -> None:
        self._busy.clear()

    def end(self) -> None:
        self._over = True
        self._busy.set()

    def _run(self) -> None:
        lane = self._lane
        while self._busy.wait() and not self._over:
            sleep(self._until_next_look())
            if not _core.attached():
                continue
            try:
                if lane.out and monotonic() >= lane.due:
                    lane.flush()
                if lane.parts is not None:
                    lane.parts.look()
            except (Cancelled, RuntimeStopped):  # nobody wants results any more
                return

    def _until_next_look(self) -> float:
        """Return the seconds until the next look. Results that a call adds after they were due are sent by the lane."""
        if self._lane.parts is not None:
            return _LOOK_SECONDS
        left = self._lane.due - monotonic()
        return _LATE_SECONDS + (left if left > 0 else FLUSH_SECONDS)
