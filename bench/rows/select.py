"""select beside the plain receive, and over many cases."""

from __future__ import annotations

import math

from bench.model import Peer, Row, Target, times_slower

_GOPROC = "bench.peers.goproc_select"
_RECV, _SELECTOR = "goproc recv", "goproc Selector"
_CASES = (10, 100, 1000)


def _ready(name: str, form: str) -> Peer:
    return Peer(name, f"{_GOPROC}:ready_{form}", arguments={"count": 2_000_000}, requires=("goproc",))


def _blocking(name: str, form: str, procs: int) -> Peer:
    count = 60_000 if procs == 1 else 20_000
    arguments = {"form": form, "count": count, "procs": procs}
    return Peer(name, f"{_GOPROC}:blocking", arguments=arguments, requires=("goproc",))


def _go_blocking(form: str, procs: int) -> Peer:
    arguments = {"form": form, "block": "true", "count": 500_000, "procs": procs}
    return Peer(f"Go {form}", program="select.go", arguments=arguments)


def _blocking_row(name: str, title: str, procs: int) -> Row:
    return Row(
        name=name,
        title=title,
        peers=(
            _blocking("goproc", "select", procs),
            _blocking(_SELECTOR, "Selector", procs),
            _blocking(_RECV, "recv", procs),
            _go_blocking("select", procs),
            _go_blocking("recv", procs),
        ),
        targets=(times_slower(_RECV, 3), times_slower(_RECV, 3, subject=_SELECTOR)),
    )


def _many_row(name: str, title: str, function: str, counts: tuple[int, ...], block: bool) -> Row:
    """The target: n log n, from the fewest cases to the most."""
    names = ("goproc", *(f"goproc {cases}" for cases in _CASES[1:]))
    few, many = _CASES[0], _CASES[-1]
    limit = many * math.log(many) / (few * math.log(few))
    text = f"{many} cases at most {limit:g} times the time of {few}"
    return Row(
        name=name,
        title=title,
        peers=(
            *(
                Peer(
                    peer,
                    f"{_GOPROC}:{function}",
                    arguments={"cases": cases, "count": count},
                    requires=("goproc",),
                )
                for peer, cases, count in zip(names, _CASES, counts, strict=True)
            ),
            *(
                Peer(
                    f"Go reflect.Select {cases}",
                    program="selectmany.go",
                    arguments={"cases": cases, "count": count, "block": str(block).lower()},
                )
                for cases, count in zip(_CASES, (200_000, 30_000, 3_000), strict=True)
            ),
        ),
        targets=(Target(text, "inverse", limit, False, "goproc", names[-1]),),
    )


ROWS = (
    Row(
        name="select",
        title="select over two channels that both have values, and a plain receive",
        peers=(
            _ready("goproc", "select"),
            _ready(_SELECTOR, "selector"),
            _ready(_RECV, "recv"),
            Peer("Go select", program="select.go", arguments={"form": "select", "count": 10_000_000}),
            Peer("Go recv", program="select.go", arguments={"form": "recv", "count": 10_000_000}),
        ),
        targets=(times_slower(_RECV, 5), times_slower(_RECV, 5, subject=_SELECTOR)),
    ),
    _blocking_row(
        "select-block",
        "there and back between goroutines of one process: both block in a select over two, or in a receive",
        1,
    ),
    _blocking_row("select-block-across", "the same between two processes", 2),
    _many_row(
        "select-many",
        f"Selector over {_CASES[0]} and more channels of which one is ready, and the send to it",
        "many_ready",
        (200_000, 50_000, 10_000),
        False,
    ),
    _many_row(
        "select-many-block",
        "the same, but it blocks and another goroutine of the process sends",
        "many_blocking",
        (50_000, 20_000, 4_000),
        True,
    ),
)
