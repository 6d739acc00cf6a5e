"""Go's concurrent prime sieve, and benchmarks that Go's runtime has for itself, with Go's definition of an operation.

Where it means something both are measured in one process (one processor) and across two.
"""

from __future__ import annotations

from typing import Any

from bench.model import Peer, Row

_GOPROC = "bench.peers.goproc_classics"
_ACROSS = "across"


def _goproc(name: str, function: str, **arguments: Any) -> Peer:
    return Peer(name, f"{_GOPROC}:{function}", arguments=arguments, requires=("goproc",))


def _prod_cons(cap: int, local: int, across: int) -> Row:
    return Row(
        name=f"ChanProdCons{cap}",
        title=f"two producers, two consumers, a channel with room for {cap}, per message",
        peers=(
            _goproc("goproc", "chan_prod_cons", count=local, procs=1, cap=cap),
            _goproc(f"goproc {_ACROSS}", "chan_prod_cons", count=across, procs=2, cap=cap),
            Peer("Go", program="prodcons.go", arguments={"count": 1_000_000, "procs": 1, "cap": cap}),
            Peer(
                f"Go {_ACROSS}", program="prodcons.go", arguments={"count": 1_000_000, "procs": 2, "cap": cap}
            ),
        ),
    )


def _select_prod_cons(procs: int) -> Peer:
    arguments = {"count": 1_000_000, "procs": procs, "cap": 128, "select": "true"}
    return Peer("Go" if procs == 1 else f"Go {_ACROSS}", program="prodcons.go", arguments=arguments)


ROWS = (
    Row(
        name="sieve",
        title="the concurrent prime sieve, a go.local and an unbuffered channel for each prime: the first 500",
        peers=(
            _goproc("goproc", "sieve", primes=500),
            Peer("Go", program="sieve.go", arguments={"primes": 500}),
        ),
    ),
    Row(
        name="ChanSync",
        title="two goroutines swap the roles of sender and receiver over an unbuffered channel, per value",
        peers=(
            _goproc("goproc", "chan_sync", count=100_000, procs=1),
            _goproc(f"goproc {_ACROSS}", "chan_sync", count=30_000, procs=2),
            Peer("Go", program="chansync.go", arguments={"count": 1_000_000, "procs": 1}),
            Peer(f"Go {_ACROSS}", program="chansync.go", arguments={"count": 1_000_000, "procs": 2}),
        ),
    ),
    _prod_cons(0, 100_000, 50_000),
    _prod_cons(10, 500_000, 200_000),
    _prod_cons(100, 1_000_000, 1_000_000),
    Row(
        name="SelectUncontended",
        title="a select over two channels and a send to the other, nobody else uses them; per select",
        peers=(
            _goproc("goproc", "select_uncontended", count=500_000, procs=1),
            _goproc("goproc Selector", "select_uncontended", count=500_000, procs=1, reused=True),
            _goproc("goproc on 2", "select_uncontended", count=500_000, procs=2),
            Peer("Go", program="selectuncontended.go", arguments={"count": 2_000_000, "procs": 1}),
            Peer("Go on 2", program="selectuncontended.go", arguments={"count": 2_000_000, "procs": 2}),
        ),
    ),
    Row(
        name="SelectProdCons",
        title="ChanProdCons with room for 128, each operation a select with a timer and another channel",
        peers=(
            _goproc("goproc", "select_prod_cons", count=300_000, procs=1),
            _goproc("goproc Selector", "selector_prod_cons", count=300_000, procs=1),
            _goproc(f"goproc {_ACROSS}", "select_prod_cons", count=300_000, procs=2),
            _goproc(f"goproc Selector {_ACROSS}", "selector_prod_cons", count=300_000, procs=2),
            _select_prod_cons(1),
            _select_prod_cons(2),
        ),
    ),
    Row(
        name="CreateGoroutines",
        title="a goroutine starts the next and ends, in one process; per goroutine",
        peers=(
            _goproc("goproc", "create_goroutines", count=50_000),
            _goproc("goproc go.local", "create_goroutines", count=50_000, local=True),
            Peer("Go", program="create.go", arguments={"count": 1_000_000}),
        ),
    ),
    Row(
        name="PingPong",
        title="there and back over unbuffered channels, beside a goroutine that never blocks (PingPongHog)",
        peers=(
            _goproc("goproc", "ping_pong", count=50_000, procs=1, hog=True),
            _goproc("goproc, no hog", "ping_pong", count=100_000, procs=1, hog=False),
            _goproc(f"goproc {_ACROSS}, no hog", "ping_pong", count=20_000, procs=2, hog=False),
            Peer("Go", program="pingpong.go", arguments={"count": 500_000, "procs": 1, "hog": "true"}),
            Peer("Go, no hog", program="pingpong.go", arguments={"count": 500_000, "procs": 1}),
            Peer(f"Go {_ACROSS}, no hog", program="pingpong.go", arguments={"count": 500_000, "procs": 2}),
        ),
    ),
)
