"""Tuples with a string and a dictionary, which have to be pickled."""

from __future__ import annotations

from bench.model import Peer, Row, times_faster

_QUEUES = "bench.peers.multiprocessing_queues"
_FIFO = "bench.peers.faster_fifo_queues"


def _arguments(count: int, **more: object) -> dict[str, object]:
    return {"kind": "tuples", "count": count, **more}


ROWS = (
    Row(
        name="tuples",
        title="(i, 'key', {'a': i}) to another process, buffer of 128, per message",
        peers=(
            Peer(
                "goproc",
                "bench.peers.goproc_channels:send",
                arguments=_arguments(200_000, cap=128),
                requires=("goproc",),
            ),
            Peer("SimpleQueue", f"{_QUEUES}:simple_queue", arguments=_arguments(60_000)),
            Peer("Queue", f"{_QUEUES}:queue", arguments=_arguments(40_000, cap=128)),
            Peer("Pipe", f"{_QUEUES}:pipe", arguments=_arguments(80_000)),
            Peer("faster-fifo", f"{_FIFO}:transfer", arguments=_arguments(60_000), requires=("faster_fifo",)),
            Peer(
                "faster-fifo put_many",
                f"{_FIFO}:transfer",
                arguments=_arguments(100_000, batch=128),
                requires=("faster_fifo",),
            ),
        ),
        targets=(times_faster("SimpleQueue", 4),),
    ),
)
