"""Executor beside ProcessPoolExecutor, and scikit-learn under joblib with goproc's backend and with loky."""

from __future__ import annotations

from bench.model import Peer, Row, seconds_at_most, times_faster, times_slower

_MODULE = "bench.peers.executors"
_POOL = "ProcessPoolExecutor"
_LOKY = "loky"


def _executors(way: str, ours: int, theirs: int) -> tuple[Peer, ...]:
    return (
        Peer("goproc", f"{_MODULE}:goproc_{way}", arguments={"count": ours}, requires=("goproc",)),
        Peer(_POOL, f"{_MODULE}:pool_{way}", arguments={"count": theirs}),
    )


def _learn(work: str) -> tuple[Peer, ...]:
    ours, theirs = "bench.peers.goproc_learning", "bench.peers.learning"
    needs = ("goproc", "sklearn", "joblib")
    return (
        Peer("goproc", script=ours, arguments={"backend": "goproc", "work": work}, requires=needs),
        Peer(_LOKY, script=theirs, arguments={"backend": _LOKY, "work": work}, requires=needs[1:]),
        Peer(
            "goproc first call",
            script=ours,
            arguments={"backend": "goproc", "work": work, "first": True},
            requires=needs,
        ),
    )


ROWS = (
    Row(
        name="Executor",
        title="Executor.submit() of a small function, then the results, one worker; per call",
        peers=_executors("submit", 20_000, 3_000),
        targets=(times_faster(_POOL, 20),),
    ),
    Row(
        name="Executor there and back",
        title="Executor.submit().result(), one call after the other, one worker; per call",
        peers=_executors("round_trip", 5_000, 1_000),
    ),
    Row(
        name="Executor.map",
        title="Executor.map() of a small function with the default chunksize of 1, two workers; per call",
        peers=_executors("map", 20_000, 3_000),
    ),
    Row(
        name="grid search",
        title="scikit-learn: GridSearchCV of 20 logistic regressions, n_jobs=2, the second call; and what the first takes more",
        peers=_learn("grid"),
        targets=(times_slower(_LOKY, 1), seconds_at_most(0.3, "goproc first call")),
    ),
    Row(
        name="forests",
        title="scikit-learn: 8 random forests of 8 trees under joblib, n_jobs=2, the second call; and what the first takes more",
        peers=_learn("forests"),
        targets=(times_slower(_LOKY, 1), seconds_at_most(0.3, "goproc first call")),
    ),
)
