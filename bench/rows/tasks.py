"""Many small tasks: a goroutine each, done when a WaitGroup says so. The pools have one worker beside the caller."""

from __future__ import annotations

from bench.model import Peer, Row, times_faster, times_slower

_POOLS = "bench.peers.pools"
_GOPROC = "bench.peers.goproc_tasks"
_IMAP = "Pool.imap"
_EXECUTOR = "ProcessPoolExecutor"

_VARIANTS = (
    Peer("goproc", f"{_GOPROC}:module_function", arguments={"count": 50_000}, requires=("goproc",)),
    Peer(
        "goproc go.on(1)",
        f"{_GOPROC}:module_function",
        arguments={"count": 50_000, "proc": 1},
        requires=("goproc",),
    ),
    Peer(
        "goproc __main__", script="bench.peers.goproc_main", arguments={"count": 50_000}, requires=("goproc",)
    ),
    Peer(
        "goproc __main__ go.on(1)",
        script="bench.peers.goproc_main",
        arguments={"count": 50_000, "proc": 1},
        requires=("goproc",),
    ),
    Peer("goproc closure", f"{_GOPROC}:closure", arguments={"count": 20_000}, requires=("goproc",)),
)

ROWS = (
    Row(
        name="tasks",
        title="spawn a goroutine with one argument, run it, WaitGroup done; 2 processes, per task",
        peers=(
            *_VARIANTS,
            Peer(_IMAP, f"{_POOLS}:pool_imap", arguments={"count": 20_000}),
            Peer(_EXECUTOR, f"{_POOLS}:executor_submit", arguments={"count": 3_000}),
            Peer("joblib", f"{_POOLS}:joblib_parallel", arguments={"count": 1_500}, requires=("joblib",)),
            Peer("mpire imap", f"{_POOLS}:mpire_imap", arguments={"count": 3_000}, requires=("mpire",)),
            Peer("Go", program="tasks.go", arguments={"count": 500_000}),
        ),
        targets=tuple(times_faster(_IMAP, 4, subject=peer.name) for peer in _VARIANTS[:4]),
    ),
    Row(
        name="completed",
        title="spawn a goroutine, run it, take its handle from as_completed(); one worker, per task",
        peers=(
            Peer("goproc", f"{_GOPROC}:completed", arguments={"count": 10_000}, requires=("goproc",)),
            Peer("goproc, a tenth", f"{_GOPROC}:completed", arguments={"count": 1_000}, requires=("goproc",)),
            Peer(_EXECUTOR, f"{_POOLS}:executor_completed", arguments={"count": 10_000}),
        ),
        targets=(times_faster(_EXECUTOR, 5), times_slower("goproc, a tenth", 2)),
    ),
)
