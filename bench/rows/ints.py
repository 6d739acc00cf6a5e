"""Small integers over a buffered channel, from the main process to another."""

from __future__ import annotations

from bench.model import Peer, Row, Target, times_faster, times_slower

_QUEUES = "bench.peers.multiprocessing_queues"
_FIFO = "bench.peers.faster_fifo_queues"
_GOPROC = "bench.peers.goproc_channels"


def _row(cap: int, targets: tuple[Target, ...]) -> Row:
    def arguments(count: int, **more: object) -> dict[str, object]:
        return {"kind": "ints", "count": count, **more}

    return Row(
        name=f"ints-{cap}",
        title=f"small ints to another process, buffer of {cap}, per message",
        peers=(
            Peer("goproc", f"{_GOPROC}:send", arguments=arguments(2_000_000, cap=cap), requires=("goproc",)),
            Peer(
                "goproc, two workers",
                f"{_GOPROC}:send_between_workers",
                arguments=arguments(2_000_000, cap=cap),
                requires=("goproc",),
            ),
            Peer(
                "goproc send_many",
                f"{_GOPROC}:send_many",
                arguments=arguments(2_000_000, cap=cap),
                requires=("goproc",),
            ),
            Peer("SimpleQueue", f"{_QUEUES}:simple_queue", arguments=arguments(80_000)),
            Peer("Queue", f"{_QUEUES}:queue", arguments=arguments(50_000, cap=cap)),
            Peer("Pipe", f"{_QUEUES}:pipe", arguments=arguments(100_000)),
            Peer("faster-fifo", f"{_FIFO}:transfer", arguments=arguments(80_000), requires=("faster_fifo",)),
            Peer(
                "faster-fifo put_many",
                f"{_FIFO}:transfer",
                arguments=arguments(400_000, batch=128),
                requires=("faster_fifo",),
            ),
            Peer("Go", program="channel.go", arguments={"cap": cap, "count": 5_000_000}),
        ),
        targets=targets,
    )


ROWS = (
    _row(128, (times_faster("SimpleQueue", 20), times_slower("Go", 4))),
    _row(1024, (times_faster("SimpleQueue", 20), times_slower("Go", 4))),
)
