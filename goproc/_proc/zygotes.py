"""The host's side of a zygote's life: the host has the workers forked, and ends the zygote with its keeper."""

from __future__ import annotations

import os
import select
import signal
from contextlib import contextmanager

from goproc._proc import early, fatal, launch, owner
from goproc._proc.letters import INTERRUPTED, LIMIT, QUIT
from goproc.shm import _core, _keeper

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from goproc._proc import plans

_QUIT_SECONDS = LIMIT + 1.0
# Seconds after which a zygote that was told to end has mostly ended, and a killed one is certainly gone.
_LOOK_SECONDS = 0.05
_KILLED_SECONDS = 0.2
# The errors of an order to a zygote that has been killed
_KILLED = (BrokenPipeError, ConnectionResetError, ProcessLookupError)
BIRTHS = 5  # zygotes that are killed at their start before the program is given up


def begin(config: plans.Config, memfd: int) -> early.Zygote:
    """Have the workers forked, by the early zygote or by a new one. Return as launch.launch_and_order() does."""
    found = early.claim()
    if found is not None:
        try:
            with _lifelines() as lifelines:
                launch.order(found, config, memfd, lifelines)
            return found
        except OSError:  # the early zygote has just ended
            early.give_up(found)
    try:
        return launch_again(config, memfd, 1 if config["ends_with_keeper"] else BIRTHS)
    except _KILLED as error:
        _end_unborn(error)


def launch_again(config: plans.Config, memfd: int, births: int) -> early.Zygote:
    """Start a zygote with its order. Repeat this if the zygote or its keeper is killed before the zygote has its order."""
    with _lifelines() as lifelines:
        for _ in range(births - 1):
            try:
                return launch.launch_and_order(config, memfd, lifelines)
            except _KILLED:
                pass
        return launch.launch_and_order(config, memfd, lifelines)


@contextmanager
def _lifelines() -> Iterator[tuple[int, ...]]:
    """Open the pipes by which a zygote ends with this process, also if others are stopped (shm/proc/lifeline.c)."""
    found = _core.lifelines()
    try:
        yield found
    finally:
        for fd in found:
            os.close(fd)


def _end_unborn(error: OSError) -> NoReturn:
    """End the program, as the coroner does, because the zygote was killed before it was told to fork the workers."""
    text = "goproc's zygote process died (killed?) before the workers"
    if owner.is_another():
        raise RuntimeError(text) from error
    fatal.report(f"fatal error: {text}\n")
    os._exit(2)


def quit(zygote: early.Zygote, interrupted: bool) -> None:
    _keeper.hold_sigchld()
    with _Ending(zygote) as ending:
        if not _core.tell_zygote(INTERRUPTED if interrupted else QUIT):
            _send(zygote.pid, signal.SIGTERM)  # SIGTERM means QUIT where the program has closed the socket
        ended = ending.wait(_LOOK_SECONDS)
        if not ended and not _send(zygote.pid, 0):
            # The zygote has died, and the keeper is there for the workers.
            for pid in filter(None, _core.pids()[1:]):
                _send(pid, signal.SIGTERM)
        if not ended and not ending.wait(_QUIT_SECONDS):
            _send_keeper(zygote)
            _send(zygote.pid, signal.SIGKILL)
            ending.wait(_QUIT_SECONDS)
    _keeper.release_sigchld()


class _Ending:
    """The end of a zygote and of its keeper. A keeper that was killed ends before its zygote."""

    def __init__(self, zygote: early.Zygote) -> None:
        self._zygote = zygote
        self._pidfd = -1

    def __enter__(self) -> _Ending:
        try:
            self._pidfd = os.pidfd_open(self._zygote.pid)
        except OSError:
            pass  # the zygote has ended, or there is no descriptor: then the end of the keeper counts
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def wait(self, seconds: float) -> bool:
        """Return False if one of the two lives on after some time."""
        return launch.wait_for_end(self._zygote, seconds) and self._zygote_ends(seconds)

    def _zygote_ends(self, seconds: float) -> bool:
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def end_keeper(dead: early.Zygote) -> None:
    """Wait for the keeper of a zygote that has died. Its workers have ended, or are killed now."""
    _keeper.hold_sigchld()
    if not launch.wait_for_end(dead, _KILLED_SECONDS):
        _send_keeper(dead)
        launch.wait_for_end(dead, _QUIT_SECONDS)
    _keeper.release_sigchld()


def _send_keeper(zygote: early.Zygote) -> None:
    """Have the keeper kill the workers, once there is no zygote."""
    if zygote.keeper != zygote.pid:
        _send(zygote.keeper, signal.SIGUSR1)


def _send(pid: int, number: int) -> bool:
    """Send a signal; return False if the process has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
