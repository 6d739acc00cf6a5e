"""Ping-pong: an integer there and back, over two unbuffered channels. No target, but the latency matters."""

from __future__ import annotations

from bench.model import Peer, Row

_QUEUES = "bench.peers.multiprocessing_queues"
_GOPROC = "bench.peers.goproc_channels:roundtrip"

ROWS = (
    Row(
        name="roundtrip",
        title="there and back over unbuffered channels between two processes, per round trip",
        peers=(
            Peer("goproc", _GOPROC, arguments={"count": 20_000, "procs": 2}, requires=("goproc",)),
            Peer(
                "goproc, two workers",
                "bench.peers.goproc_channels:roundtrip_between_workers",
                arguments={"count": 20_000},
                requires=("goproc",),
            ),
            Peer("SimpleQueue", f"{_QUEUES}:simple_queue_roundtrip", arguments={"count": 5_000}),
            Peer("Pipe", f"{_QUEUES}:pipe_roundtrip", arguments={"count": 5_000}),
            Peer("Go", program="roundtrip.go", arguments={"count": 500_000, "procs": 2}),
        ),
    ),
    Row(
        name="roundtrip-local",
        title="the same between two goroutines of one process, per round trip",
        peers=(
            Peer("goproc", _GOPROC, arguments={"count": 100_000, "procs": 1}, requires=("goproc",)),
            Peer("Go", program="roundtrip.go", arguments={"count": 500_000, "procs": 1}),
        ),
    ),
)
