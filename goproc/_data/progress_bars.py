"""The bars of tqdm that show progress on a terminal and in a notebook."""

from __future__ import annotations

import sys
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def terminal_bar(total: int | None, description: str) -> Any:
    """Return a bar on the terminal that standard error leads to."""
    return _bar_class()(
        total=total,
        desc=description or None,
        file=_Whole.of(sys.stderr),
        dynamic_ncols=True,
        mininterval=0,
        miniters=0,
    )


_made: list[Any] = []


def _bar_class() -> Any:
    """Return tqdm's class, changed where several bars are on the screen, and with no thread that watches it.

    A bar is drawn with one write. It clears the rest of its line. One that is closed goes above those that are not.
    """
    if _made:
        return _made[0]
    from threading import RLock

    from tqdm.std import tqdm as base

    class Bar(base):  # type: ignore[misc]
        monitor_interval = 0
        _lock = RLock()  # tqdm's own is made of a semaphore for child processes, which draw nothing here

        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            return lambda text: file.write(f"\r\x1b[K{text}")

        def display(self, msg: str | None = None, pos: int | None = None) -> Any:
            with _whole_of(self.fp):
                return super().display(msg, pos)

        def close(self) -> None:
            if self.disable:  # type: ignore[has-type]
                return
            self.disable = True
            with self._lock, _whole_of(self.fp):
                self._instances.discard(self)
                others = [bar for bar in self._instances if type(bar) is type(self)]
                for bar in others:
                    bar.pos -= bar.pos > self.pos
                self._ema_dt = lambda: None  # the rate is that of the whole time
                self.sp(f"{self}\n")
                for bar in others:
                    bar.display()

    _made.append(Bar)
    return Bar


class _Whole:
    """A stream that holds back the text written in a `with` block over it, so that others write before or after.

    Blocks may be nested: the outermost writes.
    """

    last: _Whole | None = None

    def __init__(self, file: Any) -> None:
        self._file = file
        self._held: list[str] = []
        self._depth = 0

    @classmethod
    def of(cls, file: Any) -> _Whole:
        """Return the one for a stream: all its bars share it."""
        if cls.last is None or cls.last._file is not file:
            cls.last = cls(file)
        return cls.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __eq__(self, other: object) -> bool:
        """Return True for the stream itself, too: tqdm.write() clears the bars of the streams it knows."""
        return bool(self._file == (other._file if type(other) is _Whole else other))

    def __hash__(self) -> int:
        return hash(self._file)

    def write(self, text: str) -> int:
        if not self._depth:
            return self._file.write(text)  # type: ignore[no-any-return]
        self._held.append(text)
        return len(text)

    def flush(self) -> None:
        if not self._depth:
            self._file.flush()

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        if not self._depth and self._held:
            text = "".join(self._held)
            self._held.clear()
            self._file.write(text)
            self._file.flush()


def _whole_of(stream: Any) -> _Whole:
    """Return the _Whole within the wrappers that tqdm puts around a stream."""
    while type(stream) is not _Whole:
        stream = object.__getattribute__(stream, "_wrapped")
    return stream


# -- notebooks -----------------------------------------------------------------------------------------------


def in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")


def notebook_bar(total: int | None, description: str) -> Any:
    """Return tqdm's widget, or a line of text under the cell where ipywidgets is not installed."""
    options: dict[str, Any] = {"total": total, "desc": description or None, "mininterval": 0, "miniters": 0}
    try:
        import ipywidgets  # noqa: F401
        from tqdm.notebook import tqdm_notebook
    except ImportError:
        return _cell_class()(**options)

    class Widget(tqdm_notebook):  # type: ignore[misc]
        monitor_interval = 0

        def update(self, n: float = 1) -> Any:
            _, slider, _ = self.container.children
            if self.total is not None and slider.max != self.total:
                slider.max = self.total
                slider.bar_style = ""
                slider.layout.width = None  # tqdm makes the bar of an unknown total a small square
            return super().update(n)

    return Widget(**options)


def _cell_class() -> Any:
    """Return a class of bars that are text under the cell. Each is an output of its own, so they need no cursor."""
    from io import StringIO

    from IPython.display import display

    class Cell(_bar_class()):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            self._handle: Any = None
            super().__init__(file=_Whole(StringIO()), ncols=100, ascii=False, **options)

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            shown = {"text/plain": str(self) if msg is None else msg}
            if self._handle is None:
                self._handle = display(shown, raw=True, display_id=True)
            else:
                self._handle.update(shown, raw=True)
            return True

    return Cell
