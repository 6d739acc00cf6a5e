"""Many cases: the journal's limit of locks that it can name, thousands, and the most there can be."""

from __future__ import annotations

from collections import Counter

import programs
import pytest
from peek import until, until_waiting, waiters

from goproc import ChanClosed, Selector, chan, default, nil, select

LIMIT = 64  # GP_JOURNAL_LOCKS: with as many cases their locks are listed in a block


def some_ready(cs, ready):
    for c in ready:
        cs[c].send(c)


@pytest.mark.parametrize("n", range(LIMIT - 2, LIMIT + 4))
def test_around_the_journals_limit(place, n):
    """Ready at once, by default, after a block, with sends, by time-out; with a selector again and again."""

    def all_forms(cs, full, n):
        s = Selector(*cs)
        sends = Selector(*[(c.send, ("v", i)) for i, c in enumerate(full)])
        for make in (s.select, lambda **kw: select(*cs, **kw)):
            cs[n - 1].send("last")
            assert make() == (n - 1, "last", True)
            cs[0].send("first")
            assert make() == (0, "first", True)
            try:
                make(timeout=0.001)
            except TimeoutError:
                pass
            else:
                raise AssertionError
        assert select(*cs, default).index == n
        assert select(*[(c.send, "x" * 100) for c in full], default).index == n
        assert full[n // 2].recv() == "full"
        assert sends.select() == (n // 2, None, True)
        assert full[n // 2].recv() == ("v", n // 2)
        full[n // 2].send("full")
        return True

    cs, full = [chan(1) for _ in range(n)], [chan(1) for _ in range(n)]
    for c in full:
        c.send("full")
    assert place.receiver(all_forms, cs, full, n).result(20)
    for at in (0, n // 2, n - 1):
        g = place.receiver(lambda cs: select(*cs), cs)
        until_waiting(cs[-1], receivers=1)
        place.sender(lambda c: c.send("came"), cs[at]).result(10)
        assert g.result(10) == (at, "came", True)
        g = place.sender(lambda full: select(*[(c.send, "y" * 200) for c in full]), full)
        until_waiting(full[-1], senders=1)
        assert full[at].recv() == "full"
        assert g.result(10) == (at, None, True)
        assert full[at].recv() == "y" * 200
        full[at].send("full")
    assert {waiters(c) for c in cs + full} == {(0, 0)}
    assert [len(c) for c in cs + full] == [0] * n + [1] * n


@pytest.mark.parametrize("n", [LIMIT - 1, LIMIT, LIMIT + 1])
def test_limit_counts_cases_with_nil_and_repeats(runtime0, n):
    c = chan(1)
    c.send(1)
    assert select(*[nil] * (n - 1), c) == (n - 1, 1, True)
    c.send(2)
    assert select(*[c] * n).value == 2
    with pytest.raises(TimeoutError):
        select(*[c, nil] * n, timeout=0.001)
    assert waiters(c) == (0, 0)
    c.close()
    with pytest.raises(ChanClosed):
        select(*[(c.send, "x" * 100)] * n)


@pytest.mark.parametrize("n", [LIMIT - 1, LIMIT, 100])
@pytest.mark.watchdog(120)
def test_both_ends_over_many(place, long, n):
    """Selects over the same channels, listed in different orders: no deadlock, and every value once."""
    count = 500 if long else 60

    def send(cs, count, me):
        for i in range(count):
            select(*[(c.send, (me, i)) for c in cs])

    def recv(cs, stop):
        s, got = Selector(*cs, stop), []
        while True:
            v = s.select()
            if not v.ok:
                return got
            got.append(v.value)

    cs, stop = [chan(i % 2) for i in range(n)], chan()
    receivers = [place.receiver(recv, cs[i:] + cs[:i], stop) for i in (0, 30)]
    senders = [place.sender(send, cs[::-1] if me else cs, count, me) for me in range(3)]
    for g in senders:
        g.result(60)
    until(lambda: not any(map(len, cs)))
    stop.close()
    assert Counter(v for g in receivers for v in g.result(20)) == Counter(
        (me, i) for me in range(3) for i in range(count)
    )
    assert {waiters(c) for c in cs} == {(0, 0)}


@pytest.mark.parametrize("kind", ["one channel", "send", "mixed"])
def test_same_channel_in_many_cases(place, kind):
    c = chan()
    cases = {
        "one channel": [c] * 1000,
        "send": [(c.send, i) for i in range(1000)],
        "mixed": [x for i in range(500) for x in (c, (c.send, i))],
    }[kind]

    def blocked(kind, c):
        cases = {
            "one channel": [c] * 1000,
            "send": [(c.send, i) for i in range(1000)],
            "mixed": [x for i in range(500) for x in (c, (c.send, i))],
        }[kind]
        return select(*cases)

    assert select(*cases, default).index == 1000
    for _ in range(3):
        g = place.receiver(blocked, kind, c)
        recvs, sends = {"one channel": (1000, 0), "send": (0, 1000), "mixed": (500, 500)}[kind]
        until_waiting(c, receivers=recvs, senders=sends)
        if kind == "send":
            v = c.recv()
            assert g.result(10) == (v, None, True)
        else:
            place.sender(lambda c: c.send("v"), c).result(10)
            at, value, ok = g.result(10)
            assert (value, ok) == ("v", True) and (kind != "mixed" or at % 2 == 0)
        assert waiters(c) == (0, 0)
    with pytest.raises(TimeoutError):
        select(*cases, timeout=0.001)
    assert waiters(c) == (0, 0)


@pytest.mark.parametrize("distinct", [1, 500])
def test_most_there_can_be(place, long, distinct):
    """65 536 cases: one ready; none, then one is sent to from elsewhere; time-out; no waiter is left."""
    n = 65_536 if long or place.kind == "across" else 8192

    def over(cs, n, **kw):
        at, value, ok = select(*(cs * n)[:n], **kw)
        return at % len(cs), value, ok

    cs = [chan(1) for _ in range(distinct)]
    ready = distinct // 2
    cs[ready].send("there")
    assert place.receiver(over, cs, n).result(30) == (ready, "there", True)
    g = place.receiver(over, cs, n)
    until(lambda: waiters(cs[ready])[0] >= n // distinct)
    place.sender(lambda c: c.send("came"), cs[ready]).result(10)
    assert g.result(30) == (ready, "came", True)
    with pytest.raises(TimeoutError):
        over(cs, n, timeout=0.001)
    assert {waiters(c) for c in cs} == {(0, 0)}


def test_many_distinct(place, long):
    n = 65_536 if long else 2000
    cs = [chan() for _ in range(n)]
    assert select(*cs[: n - 1], default).index == n - 1
    g = place.receiver(lambda cs: select(*cs), cs)
    until_waiting(cs[0], receivers=1)
    until_waiting(cs[-1], receivers=1)
    place.sender(lambda c: c.send("came"), cs[n - 3]).result(20)
    assert g.result(30) == (n - 3, "came", True)
    assert all(c.try_send(0) is False for c in cs)


def test_many_goroutines_over_many(place, long):
    """Each of some goroutines blocks in all of some channels; each channel wakes one."""
    n = 200 if long else 70
    cs = [chan() for _ in range(n)]
    gs = [place.receiver(lambda cs: select(*cs), cs) for _ in range(10)]
    until(lambda: waiters(cs[-1]) == (10, 0))
    for i in range(10):
        cs[i * 7].send(i)
    got = [g.result(10) for g in gs]
    assert sorted(s.value for s in got) == list(range(10))
    assert all(s.index == 7 * s.value for s in got)
    assert {waiters(c) for c in cs} == {(0, 0)}


@pytest.mark.parametrize("n", [2, 63, 64, 300])
@pytest.mark.parametrize("doing", ["blocked", "busy"])
def test_process_dies_in_a_select(tmp_path, n, doing):
    """Also in the middle of one, with its locks taken: the program is told and ends, nobody waits for a dead one's lock."""
    text = f"""
        import os, signal
        from goproc import Atomic, chan, go, select, sleep, Selector
        n, doing = {n}, {doing!r}
        cs, begun = [chan(1) for _ in range(n)], Atomic(0)
        def work(cs, doing):
            begun.add(1)
            s = Selector(*[(c.send, "x" * 100) for c in cs], *cs) if doing == "busy" else Selector(*cs)
            while True:
                s.select()
        def pid(): return os.getpid()
        victim = go.on(1)(pid).result()
        gs = [go.on(p)(work, cs, doing) for p in (1, 1, 2)]
        mine = go.local(work, cs, "busy") if doing == "busy" else None
        while begun.load() < 3 + (doing == "busy"):
            sleep(0.001)
        sleep(0.03)  # nothing to wait on: they are in the middle of it by then
        os.kill(victim, signal.SIGKILL)
        while True:
            for c in cs[:50]:
                c.try_send(0)
                c.try_recv()
            sleep(0.001)
    """
    done = programs.run(tmp_path, text, procs=3, env={"GOPROC_ON_DEATH": "exit"})
    assert done.status == 2, done.err
    assert "was killed by signal 9" in done.err and done.err.count("work") == 2, done.err
