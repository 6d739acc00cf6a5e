"""Something large of the script that does not change: a table, an array, a model; used by many goroutines or messages."""

from __future__ import annotations

from bench.model import Peer, Row, times_slower

_SCRIPT = "bench.peers.goproc_carried"
_PEERS = "bench.peers.carried"
_EXECUTOR = "Executor"
_MEMCMP = "memcmp"
_ENTRIES = 200_000
# Kinds of functions: the name of a peer, and that of the function.
_KINDS = {
    "goproc": "none",
    "annotations": "annotated",
    "int": "number",
    "int and list": "number_and_list",
    "class": "a_class",
    "class with attributes": "class_with_state",
}
_WAYS = ("argument", "closure", "default", "method", "channel")


def _table(name: str, way: str) -> Peer:
    arguments = {"what": "table", "count": 1_000, "way": way}
    return Peer(name, script=_SCRIPT, arguments=arguments, requires=("goproc",))


def _array(megabytes: int, count: int) -> Row:
    return Row(
        name=f"array of {megabytes} MB",
        title=f"a NumPy array of {megabytes} MB in a global, {count} goroutines that read an element, per goroutine",
        peers=(
            Peer(
                "goproc",
                script=_SCRIPT,
                arguments={"what": "arrays", "count": count, "megabytes": megabytes},
                requires=("goproc", "numpy"),
            ),
            Peer(
                _MEMCMP,
                f"{_PEERS}:memcmp",
                arguments={"megabytes": megabytes, "repeats": 20},
                requires=("numpy",),
            ),
        ),
        targets=(times_slower(_MEMCMP, 1.5),),
    )


ROWS = (
    Row(
        name="table",
        title=f"a dict of {_ENTRIES} str -> int, 1000 goroutines that read an entry, 2 workers, per goroutine",
        peers=(
            _table("goproc", "global"),
            *[_table(f"goproc {way}", way) for way in _WAYS],
            Peer(_EXECUTOR, f"{_PEERS}:executor", arguments={"count": 1_000, "entries": _ENTRIES}),
        ),
        targets=(
            times_slower(_EXECUTOR, 3),
            *[times_slower(_EXECUTOR, 6, subject=f"goproc {way}") for way in _WAYS],
        ),
    ),
    _array(48, 1_000),
    _array(500, 200),
    # No target: the promise is to cost no more than an earlier version did, and no peer of this row is one.
    Row(
        name="small globals",
        title="CPU time of a goroutine of a script's function, by the globals that the function uses",
        peers=tuple(
            [
                Peer(
                    name,
                    script="bench.peers.goproc_globals",
                    arguments={"kind": kind, "count": 10_000},
                    requires=("goproc",),
                )
                for name, kind in _KINDS.items()
            ]
        ),
    ),
    Row(
        name="forest",
        title="a random forest of 100 trees in a global, 200 goroutines that ask it, per goroutine",
        peers=(
            Peer(
                "goproc",
                script=_SCRIPT,
                arguments={"what": "model", "count": 200},
                requires=("goproc", "sklearn"),
            ),
        ),
    ),
)
