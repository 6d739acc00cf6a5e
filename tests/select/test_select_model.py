"""Random programs of selects and plain operations, checked by what must hold of any: nothing lost, nothing twice.

Each program is made from a seed: some channels, some goroutines with a list of operations each, in some placement. It
is made so that it ends: receivers go on until they are told to stop, which they are once all that was sent has been
taken; whatever is given up with a time-out is counted as not done. Then: what was sent is what was received and what is
left in the buffers, in the order of each sender on each channel, and no queue has a waiter.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peek import until, waiters

from goproc import Selector, chan, context, default, nil, select, sleep


def actor(cs, stop, plan, me, seed):
    """Do what the plan says, on channels of this program. Returns what was sent and received: [(channel, value)]."""
    import random

    from goproc import Cancelled, Selector, default, nil, select, yield_now

    rng = random.Random(seed)
    sent, received, number = [], [], 0

    def value():
        nonlocal number
        number += 1
        return (me, number, "x" * rng.choice((0, 0, 30, 400)))

    for kind, where, way in plan:
        v = value()
        if kind == "send":  # by itself: a receiver will come
            cs[where[0]].send(v)
            sent.append((where[0], v))
        elif kind == "try_send":
            if cs[where[0]].try_send(v):
                sent.append((where[0], v))
        elif kind == "try_recv":
            got, ok = cs[where[0]].try_recv()
            if ok:
                received.append((where[0], got))
        elif kind == "yield":
            yield_now()
        else:  # a select over these channels, each way given
            cases, what = [], []
            for i, out in zip(where, way, strict=True):
                v = value()
                cases.append((cs[i].send, v) if out else rng.choice((cs[i], cs[i].recv, cs[i].rx.recv_ok)))
                what.append((i, v) if out else (i, None))
            if rng.random() < 0.3:
                at = rng.randrange(len(cases) + 1)
                cases.insert(at, nil)
                what.insert(at, None)
            poll = kind == "poll"
            if poll:
                cases.append(default)
                what.append(None)
            do = (
                Selector(*cases).select
                if rng.random() < 0.3
                else lambda cases=cases, **kw: select(*cases, **kw)
            )
            try:
                got = do(timeout=rng.choice((0, 0.0002, 0.002)) if kind == "timed" else None)
            except (TimeoutError, Cancelled):
                continue
            if what[got.index] is None:
                assert poll
                continue
            i, v = what[got.index]
            assert got.ok
            if v is None:
                received.append((i, got.value))
            else:
                sent.append((i, v))
    return sent, received


def sink(cs, stop):
    """Receive from all until told to stop."""
    from goproc import Selector

    s, received = Selector(*cs, stop), []
    while True:
        got = s.select()
        if got.index == len(cs):
            return received
        assert got.ok
        received.append((got.index, got.value))


def make(rng, channels, length):
    """The plan of one goroutine. What blocks without a time-out has a send in it, which a sink can take."""
    plan = []
    for _ in range(length):
        kind = rng.choice(
            ("send", "send", "try_send", "try_recv", "yield", "select", "select", "timed", "poll")
        )
        where = [rng.randrange(channels) for _ in range(rng.randint(1, 5))]
        way = [rng.random() < 0.5 for _ in where]
        if kind == "select":
            way[rng.randrange(len(way))] = True
        plan.append((kind, where, way))
    return plan


def run_program(place, seed, actors=4, channels=3, length=25, cancels=0):
    rng = random.Random(seed)
    cs, stop = [chan(rng.choice((0, 0, 1, 5))) for _ in range(channels)], chan()
    plans = [make(rng, channels, length) for _ in range(actors)]
    sinks = [place.receiver(sink, cs, stop) for _ in range(rng.randint(1, 2))]
    gs = [place.anyone(actor, cs, stop, plan, me, rng.random()) for me, plan in enumerate(plans)]
    sent, received = [], []
    for g in gs:
        s, r = g.result(60)
        sent += s
        received += r
    stop.close()
    for g in sinks:
        received += g.result(20)
    left = [(i, v) for i, c in enumerate(cs) for v in iter_left(c)]
    assert Counter(received + left) == Counter(sent)
    assert max(Counter(sent).values(), default=1) == 1
    assert {waiters(c) for c in (*cs, stop)} == {(0, 0)}
    return len(sent)


def iter_left(c):
    while (got := select(c, default)).ok:
        yield got.value


@pytest.mark.watchdog(300)
def test_random_programs(place, long):
    n = 0
    for seed in range(400 if long else (40 if place.one_process else 20)):
        try:
            n += run_program(place, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert n > 0


@pytest.mark.watchdog(300)
def test_large_random_programs(place, long):
    for seed in range(20 if long else 2):
        assert run_program(place, ("large", seed).__repr__(), actors=10, channels=6, length=80) > 100


def test_one_receiver_of_each_channel_sees_each_senders_order(place, long):
    """FIFO per sender and channel, when one goroutine alone receives from it, selects or not."""

    def send(cs, me, n, seed):
        import random

        rng, numbers = random.Random(seed), [0] * len(cs)
        for _ in range(n):
            where = rng.sample(range(len(cs)), rng.randint(1, len(cs)))
            at = select(*((cs[i].send, (me, numbers[i])) for i in where)).index
            numbers[where[at]] += 1
        return numbers

    def recv(cs, stop):
        got = defaultdict(list)
        while True:
            at, v, ok = select(*cs, stop)
            if not ok:
                return dict(got)
            got[at, v[0]].append(v[1])

    n = 2000 if long else 150
    cs, stop = [chan(k) for k in (0, 0, 1, 4)], chan()
    r = place.receiver(recv, cs, stop)
    gs = [place.sender(send, cs, me, n, me) for me in range(3)]
    numbers = [g.result(60) for g in gs]
    until(lambda: not any(map(len, cs)))
    stop.close()
    got = r.result(20)
    for me, per_channel in enumerate(numbers):
        for i, count in enumerate(per_channel):
            assert got.get((i, me), []) == list(range(count))


OPERATION = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3), st.integers(0, 9)),
    st.tuples(st.just("recv"), st.integers(0, 3), st.none()),
    st.tuples(st.just("close"), st.integers(0, 3), st.none()),
    st.tuples(
        st.just("select"),
        st.lists(
            st.tuples(st.sampled_from(("send", "recv", "nil")), st.integers(0, 3)), min_size=0, max_size=6
        ),
        st.booleans(),
    ),
)


@settings(
    max_examples=150, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.lists(OPERATION, max_size=40))
def test_select_of_one_goroutine_agrees_with_the_model(runtime0, operations):
    """One goroutine and no other: each select does what one of the ready cases does, and default only if none is."""
    from goproc import ChanClosed

    caps = (0, 1, 2, 5)
    cs, model, shut = [chan(k) for k in caps], [[] for _ in caps], [False] * 4

    def ready(kind, i):
        if kind == "send":
            return shut[i] or len(model[i]) < caps[i]
        return kind == "recv" and bool(model[i] or shut[i])

    def took(i, value, ok):
        assert (value, ok) == ((model[i].pop(0), True) if model[i] else (None, False))

    number = 0
    for kind, what, extra in operations:
        number += 1
        if kind == "send":
            if shut[what]:
                with pytest.raises(ChanClosed):
                    cs[what].try_send(number)
            elif cs[what].try_send(number):
                assert ready("send", what)
                model[what].append(number)
            else:
                assert not ready("send", what)
        elif kind == "recv":
            if ready("recv", what):
                took(what, *cs[what].recv_ok())
            else:
                assert cs[what].try_recv() == (None, False)
        elif kind == "close" and not shut[what]:
            cs[what].close()
            shut[what] = True
        elif kind == "select":
            cases = [
                {"send": (cs[i].send, (number, k)), "recv": cs[i], "nil": nil}[way]
                for k, (way, i) in enumerate(what)
            ]
            can = [k for k, (way, i) in enumerate(what) if ready(way, i)]
            try:
                at, value, ok = (
                    Selector(*cases, default).select if extra else lambda c=cases: select(*c, default)
                )()
            except ChanClosed:
                assert any(what[k][0] == "send" and shut[what[k][1]] for k in can)
                continue
            if at == len(cases):
                assert not can and (value, ok) == (None, False)
                continue
            assert at in can
            way, i = what[at]
            if way == "recv":
                took(i, value, ok)
            else:
                assert (value, ok) == (None, True) and not shut[i]
                model[i].append((number, at))
        assert [len(c) for c in cs] == [len(m) for m in model]
    assert {waiters(c) for c in cs} == {(0, 0)}
    for c in cs:
        list(iter_left(c))


def test_selects_that_come_and_go(place, long):
    """Goroutines block in selects and are cancelled at random while values pass: every value is received once."""

    def come(cs, got, n):
        for _ in range(n):
            v = select(*cs).value
            with context.shield():  # what was received is not lost by a cancel() that comes after it
                got.send(v)

    rng = random.Random(7)
    cs, got = [chan() for _ in range(3)], chan(1000)
    total = 2000 if long else 150
    sent, seen, gs = [], [], [place.receiver(come, cs, got, 10**6) for _ in range(4)]
    for i in range(total):
        if rng.random() < 0.2:
            k = rng.randrange(4)
            gs[k].cancel()
            gs[k] = place.receiver(come, cs, got, 10**6)
        c = rng.choice(cs)
        if rng.random() < 0.5:
            select((c.send, i), *[(other.send, i) for other in cs], timeout=10)
        else:
            c.send(i, timeout=10)
        sent.append(i)
        if rng.random() < 0.1:
            sleep(0.0005)  # a pause, in which all receivers wait
        if len(got) > 900:
            seen.extend(iter_left(got))
    until(lambda: seen.extend(iter_left(got)) or len(seen) == total)
    for g in gs:
        g.cancel()
        g.exception(10)
    assert sorted(seen) == sent
    assert {waiters(c) for c in cs} == {(0, 0)}
