"""Progress of a map or of a stage: a bar on a terminal, a widget in a notebook, plain lines elsewhere.

tqdm draws the bars; it is imported when the first one is opened. All bars of a program are drawn by the host: a map on a
worker sends its counts there, so that bars of several processes stand in lines of their own and no write tears another.

The counts are absolute. A map tells them after each item at the price of a look at the clock, and they are drawn at most
ten times a second.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from time import monotonic
from typing import Any, NamedTuple

from goproc._data import progress_bars
from goproc._proc import last_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from goproc._channel import Chan, RecvChan
    from goproc._goroutine import Goroutine

_DRAW_SECONDS = 0.1
_LINE_SECONDS = 10.0
_LOOK_SECONDS = 5.0  # how often the host looks whether a worker that sends counts is still there
_CLOSE_SECONDS = 5.0  # how long a map on a worker waits for the host to draw the last counts


class Counts(NamedTuple):
    """The counts of a map."""

    done: int
    failed: int
    retried: int
    total: int | None

    def postfix(self) -> dict[str, int]:
        """Return the failures and the retries, where there are any."""
        both = {"failed": self.failed, "retried": self.retried}
        return {name: count for name, count in both.items() if count}


class Progress:
    """Shows the counts of one map. open_progress() makes it.

    Calls come from one goroutine or thread at a time.

    Attributes:
        total: how many items there will be, None where that is not known. It may be set at any time.
    """

    __slots__ = ("_closed", "_counts", "_due", "_shown", "_view", "total")

    def __init__(self, view: _View, total: int | None) -> None:
        self.total = total
        self._view: _View | None = view
        view.waits = True
        self._closed = False
        self._counts = (0, 0, 0)
        self._shown: Counts | None = None
        self._due = monotonic() + view.seconds

    def update(self, done: int, failed: int = 0, retried: int = 0) -> None:
        """Tell the counts. They are absolute: `done` items are finished, of which `failed` have failed.

        Cost: about 0.1 us, and 0.1 ms at most ten times a second for drawing.
        """
        self._counts = done, failed, retried
        if monotonic() >= self._due and not self._closed:
            self._draw(last=False)

    def close(self) -> None:
        """Draw the last counts, and leave them there. Further calls do nothing."""
        if not self._closed:
            self._closed = True
            self._draw(last=True)
            self._view = None

    def drop(self) -> None:
        """As close(), without waiting: nobody refers to the map any more."""
        if not self._closed and self._view is not None:
            self._view.waits = False
            self.close()

    def _draw(self, last: bool) -> None:
        view = self._view
        if view is None:
            return
        self._due = monotonic() + view.seconds
        counts = Counts(*self._counts, self.total)
        try:
            if not last or counts != self._shown:
                view.show(counts)
            self._shown = counts
            if last:
                view.end(counts)
        except (OSError, ValueError):  # the stream was closed, or nobody reads it: that does not end a map
            self._view = None


def open_progress(progress: Any, total: int | None, description: str = "") -> Progress | None:
    """Open the bar, or the other display, of the progress of a map.

    Args:
        progress: the argument of the user: None or False for none, True, a description, or a tqdm class. A class is used
            even without a terminal.
        total: how many items there will be, None where that is not known.
        description: the one for True and for a class.

    Raises:
        TypeError: `progress` is something else.
        ImportError: tqdm cannot be imported.
    """
    if progress is None or progress is False:
        return None
    make: Callable[..., Any] | None = None
    if isinstance(progress, str):
        description = progress
    elif progress is not True:
        make = _checked_class(progress)
    from goproc._runtime import proc

    if proc() != 0:
        return Progress(_Sent(make, total, description), total)
    return Progress(_open_view(make, total, description), total)


def check_progress(progress: Any) -> None:
    """Raise what open_progress() would raise for the same value."""
    if progress is None or progress is False:
        return
    if progress is True or isinstance(progress, str):
        _tqdm()
    else:
        _checked_class(progress)


def _checked_class(progress: Any) -> Callable[..., Any]:
    """Return a tqdm class, or a functools.partial of one."""
    made = progress
    while hasattr(made, "func") and hasattr(made, "keywords"):
        made = made.func
    if not isinstance(made, type) or not issubclass(made, _tqdm()):
        given = f"the class {made.__qualname__}" if isinstance(made, type) else type(progress).__name__
        raise TypeError(f"progress= is True, a description, or a tqdm class, not {given}")
    return progress  # type: ignore[no-any-return]


def _tqdm() -> Any:
    try:
        from tqdm.std import tqdm
    except ImportError as error:
        raise ImportError(
            f"progress= needs tqdm, which cannot be imported ({error}): pip install tqdm"
        ) from error
    return tqdm


# -- views ---------------------------------------------------------------------------------------------------


class _View(ABC):
    """A place that shows counts.

    Attributes:
        seconds: the time between two calls of show().
        waits: end() may wait until the counts are seen.
    """

    __slots__ = ("waits",)
    seconds = _DRAW_SECONDS
    waits: bool

    @abstractmethod
    def show(self, counts: Counts) -> None:
        """Show the counts."""

    def end(self, counts: Counts) -> None:  # noqa: B027 - a view without a bar has nothing to end
        """Show no more. The counts were shown just now."""


def _open_view(make: Callable[..., Any] | None, total: int | None, description: str) -> _View:
    """Return the view for this process, which is the host."""
    if make is not None:
        options = {"total": total, "desc": description or None}
        for name in getattr(make, "keywords", ()):  # what a functools.partial sets is kept
            options.pop(name, None)
        return _Bar(make(**options))
    if progress_bars.in_notebook():
        return _Bar(progress_bars.notebook_bar(total, description))
    if sys.stderr is None:
        return _Text(None, description)
    if _on_terminal(sys.stderr) and os.environ.get("TERM") != "dumb":
        return _Bar(progress_bars.terminal_bar(total, description))
    _tqdm()  # a missing one is reported on every kind of output
    return _Text(sys.stderr, description)


def _on_terminal(file: TextIO) -> bool:
    """Return True if a file is a terminal. A script may have closed the file, or have put another object there."""
    try:
        return file.isatty()
    except (AttributeError, OSError, ValueError):
        return False


class _Bar(_View):
    """A bar of tqdm."""

    __slots__ = ("_bar", "_shown")

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._shown = 0

    def show(self, counts: Counts) -> None:
        bar = self._bar
        if bar.total != counts.total:
            bar.total = counts.total
        if postfix := counts.postfix():
            bar.set_postfix(postfix, refresh=False)
        more = counts.done - self._shown
        self._shown = counts.done
        bar.update(more)

    def end(self, counts: Counts) -> None:
        self._bar.close()


class _Text(_View):
    """Lines for a file or a pipe."""

    __slots__ = ("_description", "_file", "_said")
    seconds = _LINE_SECONDS

    def __init__(self, file: TextIO | None, description: str) -> None:
        self._file = file
        self._description = description

    def show(self, counts: Counts) -> None:
        if self._file is None:
            return
        total = "?" if counts.total is None else counts.total
        parts = [self._description] if self._description else []
        parts.append(f"{counts.done}/{total}")
        parts += [f"{name}={count}" for name, count in counts.postfix().items()]
        try:
            last_words.write(self._file, ", ".join(parts) + "\n")
        except (OSError, ValueError):
            self._file = None  # nobody reads it any more: the map goes on


# -- counts of a map that runs on a worker -------------------------------------------------------------------


class _Sent(_View):
    """Sends the counts of a map on a worker to the host, which shows them."""

    __slots__ = ("_counts", "_drawer")

    def __init__(self, make: Callable[..., Any] | None, total: int | None, description: str) -> None:
        from goproc._channel import chan
        from goproc._go import go

        self._counts: Chan[tuple[Any, ...]] = chan(1)
        opened = go.on(0).opts(name="progress bar")
        self._drawer: Goroutine[None] = opened(
            _show_sent, self._counts.rx, os.getpid(), make, total, description
        )

    def show(self, counts: Counts) -> None:
        self._counts.try_send(tuple(counts))  # where the host is behind, later counts will do

    def end(self, counts: Counts) -> None:
        if not self.waits:
            self._counts.try_send(tuple(counts))
            self._counts.close()
            return
        from goproc._sched import scheduler

        scheduler.shield(1)  # a map that is cancelled closes its bar as well
        try:
            self._counts.send(tuple(counts), timeout=_CLOSE_SECONDS)
            self._counts.close()
            self._drawer.join(timeout=_CLOSE_SECONDS)
        except TimeoutError:  # the host computes without a pause: the bar stays as it is
            if not self._counts.closed:
                self._counts.close()
        finally:
            scheduler.shield(-1)


def _show_sent(
    received: RecvChan[tuple[Any, ...]],
    sender: int,
    make: Callable[..., Any] | None,
    total: int | None,
    description: str,
) -> None:
    """Show the counts that a worker sends, until the channel is closed or the worker is gone."""
    shown = Progress(_open_view(make, total, description), total)
    try:
        while True:
            try:
                counts, ok = received.recv_ok(timeout=_LOOK_SECONDS)
            except TimeoutError:
                if os.path.exists(f"/proc/{sender}"):
                    continue
                return
            if not ok or counts is None:
                return
            *figures, shown.total = counts
            shown.update(*figures)
    finally:
        shown.close()
