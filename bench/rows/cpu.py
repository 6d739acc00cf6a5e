"""Long tasks: how much of two cores reaches the user's code."""

from __future__ import annotations

from bench.model import Peer, Row, at_least, share_of

_POOL = "Pool(2)"
_BARE = "2 bare processes"  # the ceiling of any runtime


def _peers(seconds: list[float]) -> tuple[Peer, ...]:
    arguments = {"seconds": seconds}
    return (
        Peer("goproc", "bench.peers.goproc_tasks:cpu", arguments=arguments, requires=("goproc",)),
        Peer(_POOL, "bench.peers.pools:pool_cpu", arguments=arguments),
        Peer(_BARE, "bench.peers.pools:bare_cpu", arguments=arguments),
    )


ROWS = (
    Row(
        name="cpu",
        title="64 goroutines of 50 ms pure Python on 2 processes: parallel efficiency",
        peers=_peers([0.05] * 64),
        targets=(at_least(0.95), share_of(_BARE, 0.95)),
        unit="",
    ),
    Row(
        name="cpu-uneven",
        title="the same with 48 of 50 to 800 ms: whoever is done must find what others have not begun",
        peers=_peers([0.05 * (1, 1, 8, 2, 1, 4, 16, 2, 1, 1, 4, 8)[i % 12] for i in range(48)]),
        targets=(share_of(_POOL, 0.95),),
        unit="",
    ),
)
