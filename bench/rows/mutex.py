"""Locks: one that nobody else wants, and one that two processes want all the time."""

from __future__ import annotations

from bench.model import Peer, Row, Target, adds_less, times_faster, times_slower

_GOPROC = "bench.peers.goproc_locks"
_PYTHON = "bench.peers.python_locks"
_CHANNEL = "goproc chan(1)"
_LOCK = "multiprocessing.Lock"
_NO_LOCK = "no lock, one process"  # the floor of any lock that lets in one at a time


def _contended(
    name: str,
    title: str,
    count: int,
    work: int,
    more: tuple[Peer, ...] = (),
    targets: tuple[Target, ...] = (),
) -> Row:
    arguments = {"count": count, "inside": work, "outside": work}
    return Row(
        name=name,
        title=title,
        peers=(
            Peer("goproc", f"{_GOPROC}:contended", arguments=arguments, requires=("goproc",)),
            Peer(_LOCK, f"{_PYTHON}:contended", arguments={**arguments, "pinned": True}),
            Peer(f"{_LOCK}, unpinned", f"{_PYTHON}:contended", arguments={**arguments, "pinned": False}),
            *more,
        ),
        targets=targets,
    )


ROWS = (
    Row(
        name="mutex",
        title="lock and unlock, nobody else wants it",
        peers=(
            Peer("goproc", f"{_GOPROC}:mutex", arguments={"count": 2_000_000}, requires=("goproc",)),
            Peer(
                "goproc with", f"{_GOPROC}:mutex_with", arguments={"count": 2_000_000}, requires=("goproc",)
            ),
            Peer(_CHANNEL, f"{_GOPROC}:channel", arguments={"count": 2_000_000}, requires=("goproc",)),
            Peer(_LOCK, f"{_PYTHON}:process_lock", arguments={"count": 2_000_000}),
            Peer("threading.Lock", f"{_PYTHON}:thread_lock", arguments={"count": 2_000_000}),
            Peer("Go", program="mutex.go", arguments={"sides": 1, "count": 20_000_000}),
        ),
        targets=(times_slower(_CHANNEL, 2),),
    ),
    Row(
        name="mutex-contended-with",
        title="two processes add to one number, as fast as they can, `with lock:`; per turn",
        peers=(
            Peer("goproc", f"{_GOPROC}:contended_with", arguments={"count": 500_000}, requires=("goproc",)),
            Peer(_LOCK, f"{_PYTHON}:contended_with", arguments={"count": 500_000, "pinned": True}),
            Peer(
                f"{_LOCK}, unpinned",
                f"{_PYTHON}:contended_with",
                arguments={"count": 500_000, "pinned": False},
            ),
        ),
        targets=(times_faster(_LOCK, 5),),
    ),
    # Here most of the time is the loop's, which no lock can make shorter: hence what the lock adds to it.
    _contended(
        "mutex-contended",
        "the same by lock() and unlock(), looked up before the loop",
        500_000,
        0,
        (
            Peer(
                _NO_LOCK,
                f"{_PYTHON}:nothing",
                arguments={"count": 500_000, "inside": 0, "outside": 0},
            ),
            Peer("Go", program="mutex.go", arguments={"sides": 2, "count": 5_000_000}),
        ),
        (times_faster(_LOCK, 5), adds_less(_LOCK, 5, _NO_LOCK)),
    ),
    _contended(
        "mutex-contended-work",
        "the same with about 1 us of work inside the lock and 1 us outside: half of it can overlap",
        60_000,
        20,
    ),
)
