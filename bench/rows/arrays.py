"""NumPy arrays of 1 MB: the receiver reads a number of every page."""

from __future__ import annotations

from bench.model import Peer, Row, times_faster
from bench.payload import ARRAY_BYTES

_QUEUES = "bench.peers.multiprocessing_queues"
_CAP = 16


def _arguments(count: int, **more: object) -> dict[str, object]:
    return {"kind": "arrays", "count": count, **more}


ROWS = (
    Row(
        name="arrays",
        title=f"NumPy arrays of 1 MB to another process, buffer of {_CAP}, per array",
        peers=(
            Peer(
                "goproc",
                "bench.peers.goproc_channels:send",
                arguments=_arguments(2_000, cap=_CAP),
                requires=("goproc", "numpy"),
            ),
            Peer("SimpleQueue", f"{_QUEUES}:simple_queue", arguments=_arguments(200), requires=("numpy",)),
            Peer("Queue", f"{_QUEUES}:queue", arguments=_arguments(200, cap=_CAP), requires=("numpy",)),
            Peer("Pipe", f"{_QUEUES}:pipe", arguments=_arguments(200), requires=("numpy",)),
            Peer(
                "faster-fifo",
                "bench.peers.faster_fifo_queues:transfer",
                arguments=_arguments(300, size=_CAP * (ARRAY_BYTES + 4096)),
                requires=("faster_fifo", "numpy"),
            ),
        ),
        targets=(times_faster("SimpleQueue", 10),),
    ),
)
