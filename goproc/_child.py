"""The children of a Supervisor: goroutines over all their restarts."""

from __future__ import annotations

from typing import Any

from goproc._channel import Chan
from goproc._go import go
from goproc._goroutine import Goroutine, current
from goproc._life import Goexit, open_call
from goproc._proc import fatal
from goproc._select import select
from goproc.errors import Cancelled
from goproc.shm import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

QUIETLY = (Cancelled, Goexit)  # ends that are no failure


class Child:
    """A goroutine under a Supervisor, over all its restarts.

    Attributes:
        name: its name in reports.
        restart: "permanent", "transient" or "temporary".
        goroutine: the handle of the goroutine that runs now, or ran last.
        restarts: how often it was started again.
    """

    __slots__ = (
        "_alive",
        "_call",
        "_labels",
        "_proc",
        "_shutdown",
        "goroutine",
        "name",
        "restart",
        "restarts",
    )

    goroutine: Goroutine[Any]

    def __init__(
        self,
        name: str,
        restart: str,
        shutdown: float | None,
        proc: int,
        labels: dict[str, str],
        call: Goroutine[Any],
    ) -> None:
        self.name = name
        self.restart = restart
        self.restarts = 0
        self._shutdown = shutdown
        self._proc = proc
        self._labels = labels
        self._call = call
        self._alive = False  # it runs, or is to run again

    def __repr__(self) -> str:
        return f"<Child {self.name} {self.restart} {self.goroutine.state} restarts={self.restarts}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a child of a Supervisor cannot be sent to another process: send its goroutine")

    def _start(self, supervisor: Goroutine[Any] | None) -> None:
        start = go.opts(name=self.name, labels=self._labels)
        if self._proc >= 0:
            start = start.on(self._proc)
        self.goroutine = start(_run_child, self._call, supervisor)
        self._alive = True

    def _runs(self) -> bool:
        return self._alive and self.goroutine._state < _core.G_OK

    def _wants_restart(self, reason: BaseException | None) -> bool:
        if self.restart == "permanent":
            return True
        return self.restart == "transient" and reason is not None and not isinstance(reason, QUIETLY)


def describe_end(child: Child, reason: BaseException | None) -> str:
    """Return which child has ended, and how."""
    id_ = child.goroutine.id
    if reason is None:
        return f"{child.name} (goroutine {id_}) has returned"
    return f"{child.name} (goroutine {id_}) failed: {type(reason).__name__}: {fatal.first_line(reason)}"


def end_or_kill(g: Goroutine[Any], seconds: float | None) -> None:
    """Wait for the end of a cancelled goroutine; end its worker if that takes too long.

    A goroutine that still waits for a worker is left alone: when its turn comes it ends at once.
    """
    try:
        g.join(seconds)
        return
    except TimeoutError:
        pass
    proc = g._proc
    if g.state == "running" and proc > 0:
        from goproc._deaths import kill

        kill(proc)
        g.join()


def _run_child(call: Goroutine[Any], supervisor: Goroutine[Any] | None) -> Any:
    """Run the call of a child. The body of its goroutine."""
    if supervisor is not None:
        ended: Chan[None] = Chan()
        link = go.opts(name="goproc.Supervisor.link").local(_follow, current(), supervisor, ended)
        try:
            with ended:
                return _call(call)
        finally:
            # Its handle is kept until then: without one, its loss with a process would be a panic.
            link.join()
    return _call(call)


def _call(call: Goroutine[Any]) -> Any:
    f, args, kwargs = open_call(call)
    return f(*args, **kwargs)


def _follow(child: Goroutine[Any], supervisor: Goroutine[Any], ended: Chan[None]) -> None:
    """Cancel a child if its supervisor has ended first."""
    if select(supervisor, ended).index == 0:
        # This reads the failure: the supervisor was lost with its process, and the line about that death reports it.
        supervisor.exception()
        child.cancel()
