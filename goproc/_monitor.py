"""monitor(): a message when a goroutine ends, however that is. Erlang's monitors.

The message comes from a goroutine of its own, which waits for the end of the other. It has retries: when its process
dies it runs again elsewhere. To send no second message then, it first asks the core whether the channel has had one.
The core knows that, at whatever instruction the process died.
"""

from __future__ import annotations

from typing import Any

from goproc._call_options import MOST_RETRIES
from goproc._channel import Chan
from goproc._go import go
from goproc._goroutine import Goroutine
from goproc._public import public
from goproc._tracebacks import ends_at_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from goproc._channel import RecvChan

__all__ = ["Down", "monitor"]


@public
class Down:
    """The message of monitor(): a goroutine has ended. ``goroutine, reason = down`` takes it apart.

    Attributes:
        goroutine: its handle.
        reason: None if its function returned, else its exception; WorkerDied if it was lost with its process.
    """

    __slots__ = ("goroutine",)
    __match_args__ = ("goroutine", "reason")

    def __init__(self, goroutine: Goroutine[Any]) -> None:
        self.goroutine = goroutine

    @property
    def reason(self) -> BaseException | None:
        return self.goroutine.exception()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.goroutine, self.reason))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Down) and self.goroutine == other.goroutine

    def __hash__(self) -> int:
        return hash((Down, self.goroutine))

    def __reduce__(self) -> Any:
        return _restore, (self.goroutine, self.goroutine.name)

    def __repr__(self) -> str:
        return f"Down({self.goroutine!r}, {self.reason!r})"


def _restore(g: Goroutine[Any], name: str) -> Down:
    g._name = name
    return Down(g)


@public
@ends_at_user
def monitor(g: Goroutine[Any]) -> RecvChan[Down]:
    """Return a channel that gets exactly one message, a Down, when a goroutine has ended.

    The message comes also if the goroutine has ended already, and if its process dies. It counts as reading the failure
    of the goroutine. Each call returns a channel of its own.

    Args:
        g: a handle, as `go` returns it.

    Raises:
        TypeError: g is no handle.

    Cost: a goroutine that waits.
    """
    if not isinstance(g, Goroutine):
        raise TypeError(f"monitor() takes a goroutine handle, not {type(g).__name__}")
    downs: Chan[Down] = Chan(1)
    downs._send_once()
    go.opts(name=f"goproc.monitor of {g.id}", retries=MOST_RETRIES)(_tell, Down(g), downs)
    return downs.rx


def _tell(down: Down, downs: Chan[Down]) -> None:
    """Wait for `down.goroutine` and send the message. The body of the monitor's goroutine.

    `down` is no handle, so that this goroutine can start again even if both were lost with one process.
    """
    down.goroutine.join()
    down.goroutine.exception()  # this reads the failure, which is then not reported elsewhere
    if not downs._sent:
        downs.send(down)
