"""The placements of a test's goroutines, and the capacities of its channels: one case list, every placement.

What a channel means does not depend on which process its ends are in, so no case mentions a process: it asks the
placement to start a sender, a receiver, or just anyone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from goproc import go


class Place:
    """A runtime, and where in it goroutines go.

    local: go.local, all in the host.  on0: go.on(0), serialised, all in the host.  across: senders on worker 1, receivers
    on worker 2, with one worker in the host; back: the other way round.  spread: round robin over all, the host included.
    """

    def __init__(self, procs: int, kind: str) -> None:
        self.procs = procs
        self.kind = kind
        self._turn = itertools.count()

    @property
    def one_process(self) -> bool:
        return self.procs == 0 or self.kind in ("local", "on0")

    @property
    def _far(self) -> int:
        """The process opposite of worker 1."""
        return 2 if self.procs > 1 else 0

    def _start(self, proc: int, f: Any, args: Any) -> Any:
        return go.local(f, *args) if self.kind == "local" else go.on(proc % (self.procs + 1))(f, *args)

    def sender(self, f: Any, *args: Any) -> Any:
        """Start a goroutine on the sending side."""
        home = {"across": 1, "back": self._far, "spread": next(self._turn)}.get(self.kind, 0)
        return self._start(home, f, args)

    def receiver(self, f: Any, *args: Any) -> Any:
        """Start a goroutine on the receiving side."""
        home = {"across": self._far, "back": 1, "spread": next(self._turn)}
        return self._start(home.get(self.kind, 0), f, args)

    def anyone(self, f: Any, *args: Any) -> Any:
        """Start a goroutine on either side, in turn."""
        return self._start(0 if self.one_process else next(self._turn), f, args)


#: One process, the host and a worker, two workers, and five processes.
FOUR_PLACES = ((0, "local"), (1, "across"), (2, "across"), (4, "spread"))


def place_fixture(places: Sequence[tuple[int, str]]) -> Any:
    """The fixture `place` of a conftest or a file: tests run in each of these placements, (procs, kind)."""

    @pytest.fixture(scope="module", params=places, ids=lambda p: f"{p[1]}-{p[0]}", name="place")
    def fixture(request: pytest.FixtureRequest, runtimes: Any) -> Iterator[Place]:
        procs, kind = request.param
        runtimes.get(procs)
        yield Place(procs, kind)

    return fixture


def cap_fixture(name: str, *capacities: int) -> Any:
    """The fixture of a conftest that gives a capacity: its tests run with each of them."""

    @pytest.fixture(params=capacities, ids=lambda cap: f"cap{cap}", name=name)
    def fixture(request: pytest.FixtureRequest) -> int:
        return int(request.param)

    return fixture
