"""The thread of a lane that sends results while a long call runs."""

from __future__ import annotations

import threading
from time import sleep

from goproc.errors import Cancelled, RuntimeStopped
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._data.lane import Lane

# How often a thread looks for results that wait for a call to end: they are sent within 5 ms.
_LOOK_SECONDS = 0.0023


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
            before = lane.sent if lane.out else -1
            sleep(_LOOK_SECONDS)
            if not _core.attached():
                continue
            try:
                if lane.out and lane.sent == before:
                    lane.flush()
                if lane.parts is not None:
                    lane.parts.look()
            except (Cancelled, RuntimeStopped):  # nobody wants results any more
                return
