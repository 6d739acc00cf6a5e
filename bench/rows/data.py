"""The layer for data processing: maps over many items, on two processes."""

from __future__ import annotations

from typing import Any

from bench.model import Peer, Row, Target, at_least, times_faster, times_slower

_GOPROC = "bench.peers.goproc_maps"
_PEERS = "bench.peers.maps"
_POOLS = (
    ("Pool.imap", "pool"),
    ("ProcessPoolExecutor.map", "executor"),
    ("mpire", "mpire"),
    ("joblib", "joblib"),
)


def _own(name: str, function: str, **arguments: Any) -> Peer:
    return Peer(name, f"{_GOPROC}:{function}", arguments=arguments, requires=("goproc",))


def _items(name: str, seconds: float, count: int) -> Row:
    peers = [
        Peer(
            peer,
            f"{_PEERS}:{function}",
            arguments={"count": count, "seconds": seconds},
            requires=(function,) if function in ("mpire", "joblib") else (),
        )
        for peer, function in _POOLS
    ]
    return Row(
        name=f"map-{name}",
        title=f"a map over items of {name}; 2 processes, per item; the peers with the best of five chunk sizes",
        peers=(_own("goproc", "items", count=count, seconds=seconds), *peers),
        targets=tuple(times_faster(peer.name, 1) for peer in peers),
    )


def _share(name: str, seconds: float, count: int) -> Row:
    return Row(
        name=f"map-ideal-{name}",
        title=f"what part of the ideal time a pmap over items of {name} has; 2 processes",
        peers=(_own("goproc", "share_of_ideal", count=count, seconds=seconds),),
        targets=(at_least(0.9),),
        unit="",
    )


_ITEM = 0.2  # seconds of a slow item

ROWS = (
    _items("1us", 1e-6, 100_000),
    _items("10us", 1e-5, 100_000),
    _items("100us", 1e-4, 20_000),
    _items("1ms", 1e-3, 3_000),
    _share("100us", 1e-4, 20_000),
    _share("1ms", 1e-3, 3_000),
    Row(
        name="map-first",
        title="the first result of a pmap of items of 0.2 s",
        peers=(_own("goproc", "first_result", seconds=_ITEM),),
        targets=(Target("at most 1.2 times one item", "value", 1.2 * _ITEM, False, unit="s"),),
    ),
    Row(
        name="map-memory",
        title="MiB by which the script grows in a pmap over 10 million items of a generator",
        peers=(_own("goproc", "memory", count=10_000_000),),
        targets=(Target("constant: at most 16 MiB", "value", 16.0, False, unit=""),),
        unit="",
    ),
    Row(
        name="map-order",
        title="a pmap over items of 1 to 100 ms; 2 processes, per item",
        peers=(
            _own("goproc", "uneven", count=200, ordered=True),
            _own("goproc unordered", "uneven", count=200, ordered=False),
        ),
        targets=(times_slower("goproc unordered", 1.1),),
    ),
    Row(
        name="map-progress",
        title="a pmap over items of 1 us with a progress bar; 2 processes, per item",
        peers=(
            _own("goproc", "with_progress", count=300_000, seconds=1e-6, progress=True),
            _own("goproc without", "with_progress", count=300_000, seconds=1e-6, progress=False),
        ),
        targets=(times_slower("goproc without", 1.05),),
    ),
    Row(
        name="map-checkpoint",
        title="a pmap over items of 1 ms with a checkpoint; 2 processes, per item",
        peers=(
            _own("goproc", "with_checkpoint", count=3_000, seconds=1e-3, checkpoint=True),
            _own("goproc without", "with_checkpoint", count=3_000, seconds=1e-3, checkpoint=False),
        ),
        targets=(times_slower("goproc without", 1.1),),
    ),
)
