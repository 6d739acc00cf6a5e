"""A few long tasks: how much of two cores reaches the user's code."""

from __future__ import annotations

from bench.model import Peer, Row, at_least, share_of

_BARE = "2 bare processes"  # the ceiling of any runtime
_WORK = {"tasks": 64, "seconds": 0.05}

ROWS = (
    Row(
        name="cpu",
        title="64 goroutines of 50 ms pure Python on 2 processes: parallel efficiency",
        peers=(
            Peer("goproc", "bench.peers.goproc_tasks:cpu", arguments=_WORK, requires=("goproc",)),
            Peer("Pool(2)", "bench.peers.pools:pool_cpu", arguments=_WORK),
            Peer(_BARE, "bench.peers.pools:bare_cpu", arguments=_WORK),
        ),
        targets=(at_least(0.95), share_of(_BARE, 0.95)),
        unit="",
    ),
)
