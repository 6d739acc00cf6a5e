"""Generated programs.

Alone, a goroutine's operations have one possible outcome each, which a model with a deque predicts. Of several that
run at once the outcomes differ from run to run, but some things always hold: what was sent and only that is received,
once; values of one sender stay in order; nobody is left waiting. `--long` tries many more programs.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from typing import Any

import numpy
import pytest
from generated import LONG, examples
from hypothesis import given
from hypothesis import strategies as st
from peek import waiters

from goproc import WaitGroup, chan, go

PAYLOADS = ("int", "tuple", "str", "long", "dict", "set", "array")


def payload(kind: str, key: tuple[int, int]) -> Any:
    """A value of some codec that tells which key it was made from."""
    g, i = key
    if kind == "int":
        return g << 32 | i
    if kind == "tuple":
        return key
    if kind == "str":
        return f"{g}/{i}"
    if kind == "long":
        return f"{g}/{i}/" + "x" * 3000
    if kind == "dict":
        return {"key": [g, i], "pad": [None] * 5}
    if kind == "set":
        return {("key", g, i)}
    a = numpy.zeros(3000, dtype=numpy.int64)
    a[0], a[-1] = g, i
    return a


def key_of(v: Any) -> tuple[int, int]:
    if isinstance(v, int):
        return v >> 32, v & 0xFFFFFFFF
    if isinstance(v, tuple):
        return v
    if isinstance(v, str):
        assert len(v) < 100 or v.endswith("x" * 3000)
        g, i = v.split("/")[:2]
        return int(g), int(i)
    if isinstance(v, dict):
        return tuple(v["key"])
    if isinstance(v, set):
        return next(iter(v))[1:]
    assert v.shape == (3000,) and not v[1:-1].any()
    return int(v[0]), int(v[-1])


# -- one goroutine against the model ----------------------------------------------------------------------------------

SEQUENTIAL = (
    "try_send",
    "send",
    "try_recv",
    "recv",
    "recv_ok",
    "recv_many",
    "send_many",
    "close",
    "look",
    "next",
)
sequential_ops = st.lists(
    st.tuples(st.sampled_from(SEQUENTIAL), st.integers(0, 3), st.integers(1, 5), st.sampled_from(PAYLOADS)),
    max_size=60,
)


def model(caps: list[int | None], ops: list[Any]) -> list[Any]:
    """Return the results of the operations where nobody else uses the channels. A capacity of None is the nil channel."""
    full = [deque() for _ in caps]  # type: ignore[var-annotated]
    closed = [False] * len(caps)
    out: list[Any] = []
    for step, (op, which, n, _) in enumerate(ops):
        k = which % len(caps)
        q, cap = full[k], caps[k]
        room = 0 if cap is None else cap - len(q)
        if op in ("try_send", "send"):
            if closed[k]:
                out.append("closed")
            elif room:
                q.append((k, step))
                out.append(True)
            else:
                out.append(False if op == "try_send" else "timeout")
        elif op == "send_many":
            if closed[k]:
                out.append("closed")
            else:
                q.extend((k, step * 10 + j) for j in range(min(n, room)))
                out.append(n if n <= room else "timeout")
        elif op in ("try_recv", "recv", "recv_ok", "next"):
            if q:
                out.append(q.popleft())
            elif closed[k]:
                out.append({"recv_ok": None, "next": "end"}.get(op, "closed"))
            else:
                out.append("empty" if op in ("try_recv", "next") else "timeout")
        elif op == "recv_many":
            if q or closed[k]:
                out.append([q.popleft() for _ in range(min(n, len(q)))])
            else:
                out.append("timeout")
        elif op == "close":
            out.append("nil" if cap is None else "closed" if closed[k] else None)
            closed[k] = cap is not None
        else:
            out.append((len(q), cap or 0, closed[k]))
    return out


def _interpreters() -> tuple[Any, Any]:
    # Made inside of a function, so that they travel by value: a worker need not import hypothesis.
    made, key = payload, key_of

    def alone(chans, ops):
        from goproc import ChanClosed

        out = []
        for step, (op, which, n, kind) in enumerate(ops):
            k = which % len(chans)
            c = chans[k]
            try:
                if op == "try_send":
                    out.append(c.try_send(made(kind, (k, step))))
                elif op == "send":
                    c.send(made(kind, (k, step)), timeout=0)
                    out.append(True)
                elif op == "send_many":
                    out.append(c.send_many([made(kind, (k, step * 10 + j)) for j in range(n)], timeout=0))
                elif op == "try_recv":
                    v, ok = c.try_recv()
                    out.append(key(v) if ok else "empty")
                elif op == "recv":
                    out.append(key(c.recv(timeout=0)))
                elif op == "recv_ok":
                    v, ok = c.recv_ok(timeout=0)
                    out.append(key(v) if ok else v)
                elif op == "next":
                    out.append(key(next(c)) if len(c) or c.closed else "empty")
                elif op == "recv_many":
                    out.append([key(v) for v in c.recv_many(n, timeout=0)])
                elif op == "close":
                    out.append(c.close())
                else:
                    out.append((len(c), c.cap, c.closed))
            except TimeoutError:
                out.append("timeout")
            except StopIteration:
                out.append("end")
            except ChanClosed as error:
                assert str(error) in {
                    "send on closed channel",
                    "close of closed channel",
                    "close of nil channel",
                    "receive from closed channel",
                }
                out.append("nil" if "nil" in str(error) else "closed")
        return out

    def together(me, chans, ops, wg):
        """Run operations that may meet others; return what happened to each, and what was received."""
        from goproc import ChanClosed, yield_now

        sent, received, closed, refused = [], [], [], []
        count = 0

        def fresh(kind):
            nonlocal count
            count += 1
            return made(kind, (me, count))

        for op, which, other, kind, timeout in ops:
            c = k = None
            k, c = which % len(chans), chans[which % len(chans)]
            try:
                if op == "send":
                    v = fresh(kind)
                    c.send(v, timeout=timeout)
                    sent.append((k, (me, count)))
                elif op == "try_send":
                    if c.try_send(fresh(kind)):
                        sent.append((k, (me, count)))
                elif op == "send_many":

                    def several(k=k, kind=kind):
                        for _ in range(4):
                            v = fresh(kind)
                            yield v
                            sent.append((k, key(v)))  # asked for the next: this one is sent

                    c.send_many(several(), timeout=timeout)
                elif op == "recv":
                    received.append((k, key(c.recv(timeout=timeout))))
                elif op == "try_recv":
                    v, ok = c.try_recv()
                    if ok:
                        received.append((k, key(v)))
                elif op == "recv_ok":
                    v, ok = c.recv_ok(timeout=timeout)
                    if ok:
                        received.append((k, key(v)))
                    else:
                        refused.append(k)
                elif op == "recv_many":
                    received += [(k, key(v)) for v in c.recv_many(3, timeout=timeout)]
                elif op == "forward":
                    v = c.recv(timeout=timeout)
                    received.append((k, key(v)))
                    to = other % len(chans)
                    count += 1
                    chans[to].send(made(kind, (me, count)), timeout=timeout)
                    sent.append((to, (me, count)))
                elif op == "close":
                    c.close()
                    closed.append(k)
                elif op == "yield":
                    yield_now()
            except TimeoutError:
                pass
            except ChanClosed:
                refused.append(k if op != "forward" else (k, other % len(chans)))
        wg.done()
        return sent, received, closed, refused

    return alone, together


alone, together = _interpreters()


@pytest.mark.watchdog(60 if not LONG else 3600)
@pytest.mark.parametrize("proc", [0, 1])
@examples(60)
@given(caps=st.lists(st.sampled_from([None, 0, 1, 2, 3, 7]), min_size=1, max_size=3), ops=sequential_ops)
def test_one_goroutine_agrees_with_the_model(runtime2, proc, caps, ops):
    from goproc import nil

    chans = [nil if cap is None else chan(cap) for cap in caps]
    got = go.on(proc)(alone, chans, ops).result(30)
    assert got == model(caps, ops)


# -- several at once --------------------------------------------------------------------------------------------------

TOGETHER = (
    "send",
    "send",
    "try_send",
    "send_many",
    "recv",
    "recv",
    "try_recv",
    "recv_ok",
    "recv_many",
    "forward",
    "yield",
)
together_ops = st.lists(
    st.tuples(
        st.sampled_from((*TOGETHER, "close")),
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from(PAYLOADS),
        st.sampled_from([0, 0.0005, 0.002, 0.005]),
    ),
    min_size=1,
    max_size=25,
)
goroutines = st.lists(
    st.tuples(st.sampled_from(["local", "any", 0, 1, 2, 3, "thread"]), together_ops), min_size=1, max_size=7
)


def check_together(caps, programs):
    import threading

    chans = [chan(cap) for cap in caps]
    wg = WaitGroup()
    wg.add(len(programs))
    handles, threads, results = [], [], {}
    for me, (where, ops) in enumerate(programs):
        if where == "thread":

            def run(me=me, ops=ops):
                results[me] = together(me, chans, ops, wg)

            threads.append(threading.Thread(target=run))
            threads[-1].start()
        else:
            start = {"local": go.local, "any": go}.get(where) or go.on(where)
            handles.append((me, start(together, me, chans, ops, wg)))
    wg.wait(timeout=40)
    for me, g in handles:
        results[me] = g.result(20)
    for thread in threads:
        thread.join(20)

    sent, received = defaultdict(list), defaultdict(list)  # by channel
    for me in sorted(results):
        for k, key in results[me][0]:
            sent[k].append(key)
        for k, key in results[me][1]:
            received[k].append((me, key))
    for k, c in enumerate(chans):
        assert waiters(c) == (0, 0)
        assert 0 <= len(c) <= caps[k]
        closes = sum(result[2].count(k) for result in results.values())
        assert closes == (1 if c.closed else 0)
        if not c.closed:
            assert not any(
                k == r for result in results.values() for r in result[3] if not isinstance(r, tuple)
            )
        rest = []
        while len(c):
            rest.append(("rest", key_of(c.recv(timeout=0))))
        got = received[k] + rest
        assert Counter(key for _, key in got) == Counter(sent[k]), f"channel {k}: lost or doubled"
        # in order: for each receiver and sender, and what is left in the buffer comes after all that was received
        for receiver in {who for who, _ in got}:
            last: dict[int, int] = {}
            for who, (g, i) in got:
                if who == receiver:
                    assert last.get(g, 0) < i, f"channel {k}: out of order"
                    last[g] = i
        for _, (g, i) in rest:
            assert all(j < i or (g, j) in [key for _, key in rest] for _, (h, j) in received[k] if h == g)


@pytest.mark.watchdog(60 if not LONG else 3600)
@examples(120)
@given(caps=st.lists(st.sampled_from([0, 0, 1, 2, 5, 64]), min_size=1, max_size=3), programs=goroutines)
def test_several_lose_and_double_nothing(runtime4, caps, programs):
    check_together(caps, programs)


@pytest.mark.watchdog(60 if not LONG else 3600)
@examples(60)
@given(caps=st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=2), programs=goroutines)
def test_several_in_one_process(runtime0, caps, programs):
    check_together(caps, [(0 if isinstance(where, int) else where, ops) for where, ops in programs])


# -- networks that must run to their end ------------------------------------------------------------------------------


def _nodes() -> tuple[Any, Any, Any]:
    made, key = payload, key_of

    def source(me, out, n, kind, wg, batch):
        values = (made(kind, (me, i)) for i in range(n))
        if batch:
            out.send_many(values)
        else:
            for v in values:
                out.send(v)
        wg.done()

    def stage(into, out, wg, batch):
        if batch:
            while values := into.recv_many(5):
                out.send_many(values)
        else:
            for v in into:
                out.send(v)
        wg.done()

    def sink(into, wg):
        got = [key(v) for v in into]
        wg.done()
        return got

    return source, stage, sink


source, stage, sink = _nodes()
place = st.sampled_from(["local", "any", 0, 1, 2, 3])


@pytest.mark.watchdog(60 if not LONG else 3600)
@examples(60)
@given(
    caps=st.lists(st.sampled_from([0, 1, 3, 64]), min_size=1, max_size=4),
    sources=st.lists(
        st.tuples(place, st.integers(0, 60), st.sampled_from(PAYLOADS), st.booleans()), min_size=1, max_size=4
    ),
    stages=st.lists(
        st.lists(st.tuples(place, st.booleans()), min_size=1, max_size=3), min_size=3, max_size=3
    ),
    sinks=st.lists(place, min_size=1, max_size=3),
)
def test_networks_pass_everything_on(runtime4, caps, sources, stages, sinks):
    """Sources, layers of stages, sinks; each layer closes its channel when all of it are done. No timeouts."""

    def start(where):
        return {"local": go.local, "any": go}.get(where) or go.on(where)

    def close_after(wg, c):
        wg.wait()
        c.close()

    chans = [chan(cap) for cap in caps]
    groups = [WaitGroup() for _ in chans]
    end = WaitGroup()
    handles = []
    groups[0].add(len(sources))
    for i, group in enumerate(groups[1:]):
        group.add(len(stages[i]))
    end.add(len(sinks))
    outs = [start(where)(sink, chans[-1], end) for where in sinks]
    for i in range(len(chans) - 1):
        handles += [
            start(where)(stage, chans[i], chans[i + 1], groups[i + 1], batch) for where, batch in stages[i]
        ]
    for me, (where, n, kind, batch) in enumerate(sources):
        handles.append(start(where)(source, me, chans[0], n, kind, groups[0], batch))
    handles += [go(close_after, group, c) for group, c in zip(groups, chans, strict=True)]
    end.wait(timeout=40)
    for g in handles:
        g.result(20)
    got = [g.result(20) for g in outs]
    expected = [(me, i) for me, (_, n, _, _) in enumerate(sources) for i in range(n)]
    assert sorted(key for one in got for key in one) == expected
    if all(len(stages[i]) == 1 for i in range(len(chans) - 1)):
        for one in got:  # no two ways through the network: senders' order is kept
            for me in range(len(sources)):
                mine = [i for g, i in one if g == me]
                assert mine == sorted(mine)
    for c in chans:
        assert c.closed and len(c) == 0 and waiters(c) == (0, 0)
