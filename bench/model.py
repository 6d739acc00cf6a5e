"""The parts of a benchmark: rows, the peers measured in each, and the targets goproc has to reach in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.golang import find_go

#: The name under which a row holds goproc's own measurement; ratios are taken against it.
SUBJECT = "goproc"


@dataclass(frozen=True)
class Peer:
    """One contender in a row. Exactly one of `function`, `script` and `program` is set.

    Attributes:
        name: how the table calls it.
        function: ``module:name`` of a Python function that returns the measurement.
        script: a module to run as ``__main__``, for what behaves differently there.
        program: a Go source file in ``bench/programs``.
        arguments: what the function, script or program is given.
        requires: modules that must be importable.
    """

    name: str
    function: str | None = None
    script: str | None = None
    program: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Return the name of a module that the peer needs and that is not installed, or "go"; None if all is there."""
        for module in self.requires:
            if importlib.util.find_spec(module) is None:
                return module
        return "go" if self.program and find_go() is None else None

    def scaled(self, scale: float) -> dict[str, Any]:
        """The arguments with the number of operations, ``count``, multiplied by `scale`."""
        arguments = dict(self.arguments)
        if "count" in arguments:
            arguments["count"] = max(10, int(arguments["count"] * scale))
        return arguments


_LEAST = 1e-9  # seconds: no difference of two measurements is better than that


@dataclass(frozen=True)
class Target:
    """A figure that is computed from each round, and the limit its median has to keep.

    Attributes:
        text: the target in words.
        kind: ``ratio`` = peer / subject, ``inverse`` = subject / peer, ``more`` = subject - peer, ``value`` = subject.
        limit: where the line is.
        at_least: whether the median must be at least the limit, or at most.
        peer: the other side of a ratio or difference.
        subject: the measurement of goproc that is held to it.
        unit: the unit of the figure, as `Row.unit`.
        base: the peer that does the same work without what is measured; its time is taken off both sides.
    """

    text: str
    kind: str
    limit: float
    at_least: bool
    peer: str = ""
    subject: str = SUBJECT
    unit: str = "x"
    base: str = ""

    def figure(self, values: Mapping[str, float]) -> float | None:
        """The figure in one round, or None if a measurement it needs is not there."""
        if not {self.subject, self.peer or self.subject, self.base or self.subject} <= values.keys():
            return None
        subject = values[self.subject]
        if self.kind == "value":
            return subject
        other = values[self.peer]
        if self.base:  # what is left may be less than the noise
            subject, other = max(subject - values[self.base], _LEAST), other - values[self.base]
        return {"ratio": other / subject, "inverse": subject / other, "more": subject - other}[self.kind]

    def met(self, median: float) -> bool:
        return median >= self.limit if self.at_least else median <= self.limit


def times_faster(peer: str, limit: float, subject: str = SUBJECT) -> Target:
    """goproc must take at most a `limit`-th of the peer's time."""
    return Target(f"at least {limit:g} times faster than {peer}", "ratio", limit, True, peer, subject)


def adds_less(peer: str, limit: float, base: str, subject: str = SUBJECT) -> Target:
    """Return the target that goproc adds to the time of `base` at most a `limit`-th of the peer's addition."""
    text = f"adds at least {limit:g} times less to {base} than {peer}"
    return Target(text, "ratio", limit, True, peer, subject, base=base)


def times_slower(peer: str, limit: float, subject: str = SUBJECT) -> Target:
    """goproc may take at most `limit` times the peer's time."""
    return Target(f"at most {limit:g} times the time of {peer}", "inverse", limit, False, peer, subject)


def seconds_more(peer: str, limit: float, subject: str = SUBJECT) -> Target:
    """goproc may take at most `limit` seconds more than the peer."""
    return Target(f"at most {limit * 1e3:g} ms more than {peer}", "more", limit, False, peer, subject, "s")


def seconds_at_most(limit: float, subject: str = SUBJECT) -> Target:
    """goproc may take at most `limit` seconds."""
    return Target(f"at most {limit * 1e3:g} ms", "value", limit, False, "", subject, "s")


def at_least(limit: float, subject: str = SUBJECT) -> Target:
    """goproc's own figure must be at least `limit`."""
    return Target(f"at least {limit:g}", "value", limit, True, "", subject, "")


def share_of(peer: str, limit: float, subject: str = SUBJECT) -> Target:
    """goproc's figure, of which more is better, must be at least `limit` of the peer's."""
    return Target(f"at least {limit:g} of what {peer} reach", "inverse", limit, True, peer, subject)


@dataclass(frozen=True)
class Row:
    """A piece of work, measured with every peer in turn.

    Attributes:
        name: short and unique.
        title: what is measured, in a line.
        peers: in the order they are measured in every round; goproc first.
        targets: what goproc must reach.
        unit: ``s`` if a measurement is seconds per operation, empty if it is a plain number.
    """

    name: str
    title: str
    peers: tuple[Peer, ...]
    targets: tuple[Target, ...] = ()
    unit: str = "s"
