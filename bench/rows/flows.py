"""Pipelines of four stages, and the price of a progress bar; two processes."""

from __future__ import annotations

from typing import Any

from bench.model import Peer, Row, times_faster, times_slower

_GOPROC = "bench.peers.goproc_flows"
_PYPELN = "pypeln processes"


def _own(name: str, function: str, **arguments: Any) -> Peer:
    return Peer(name, f"{_GOPROC}:{function}", arguments=arguments, requires=("goproc",))


def _pipeline(name: str, buffer: int | None, count: int) -> Row:
    how = "default arguments" if buffer is None else f"a buffer of {buffer}"
    return Row(
        name=f"flow-{name}",
        title=f"a flow of 4 stages, one worker each, {how}; 2 processes, per item",
        peers=(
            _own("goproc", "flow_of_stages", count=count, buffer=buffer),
            _own("by hand", "stages_by_hand", count=count, buffer=buffer or 2),
            Peer(
                _PYPELN,
                "bench.peers.pypeln_stages:processes",
                arguments={"count": 5_000, "buffer": buffer or 0},
                requires=("pypeln",),
            ),
        ),
        targets=(times_faster(_PYPELN, 10), times_slower("by hand", 2)),
    )


ROWS = (
    _pipeline("default", None, 100_000),
    _pipeline("narrow", 2, 20_000),
    _pipeline("buffered", 512, 100_000),
    Row(
        name="progress",
        title="a pmap of items of 1 us with a progress bar; 2 processes, per item",
        peers=(
            _own("goproc", "map_with_progress", count=500_000, progress=True),
            _own("no bar", "map_with_progress", count=500_000, progress=False),
        ),
        targets=(times_slower("no bar", 1.05),),
    ),
)
